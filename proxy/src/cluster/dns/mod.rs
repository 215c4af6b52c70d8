//! STRICT_DNS and LOGICAL_DNS: hosts whose addresses a resolver knows.
//!
//! What to do with an answer, and when to ask again, is a state machine without I/O ([`Discovery`], [`Refresh`]); [`run`]
//! feeds it with what a [`Resolve`] answers. Everything runs on the control thread, and nothing is made before the first
//! name has to be resolved: endpoints given as IP addresses need no resolver.
//!
//! An answer without addresses empties a STRICT_DNS cluster, as in Envoy: a name that does not exist is an answer. A
//! failure (no server, time-out, SERVFAIL) changes nothing, whatever it was before.
//!
//! Deliberately missing: a cache over several clusters, and stats of the resolver (`dns.cares.*`).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::spec::EndpointSpec;

mod discovery;
mod refresh;
mod system;
mod task;
#[cfg(test)]
mod tests;

pub use refresh::{Backoff, Refresh, RefreshOptions};
pub use system::SystemResolver;

pub(super) use task::run;

/// `dns_lookup_family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LookupFamily {
    /// IPv6 addresses; IPv4 ones when there are none.
    Auto,
    V4Only,
    V6Only,
    /// IPv4 addresses; IPv6 ones when there are none.
    V4Preferred,
    /// Both.
    All,
}

/// Which servers are asked, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResolverOptions {
    /// None: those of the system.
    pub servers: Vec<SocketAddr>,
    pub use_tcp: bool,
    /// Names are complete: the system's search domains are not tried.
    pub no_default_search_domain: bool,
    /// Of one try.
    pub timeout: Duration,
    pub tries: u32,
    /// Ask the servers in turn, instead of the first as long as it answers.
    pub rotate: bool,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        ResolverOptions {
            servers: Vec::new(),
            use_tcp: false,
            no_default_search_domain: false,
            timeout: Duration::from_secs(5),
            tries: 4,
            rotate: false,
        }
    }
}

/// What a resolver answered; without addresses when the name has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub addresses: Vec<IpAddr>,
    /// How long it may be kept; none when that is not known, for example of a hosts file.
    pub ttl: Option<Duration>,
}

/// No answer: no server, a time-out, a server that refuses or fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// Resolves names. Implemented by [`SystemResolver`], and in tests.
pub trait Resolve: Send + Sync {
    fn lookup<'a>(
        &'a self,
        name: &'a str,
        family: LookupFamily,
        options: &'a ResolverOptions,
    ) -> BoxFuture<'a, Result<Answer, Failure>>;
}

/// What is to be resolved for a cluster.
pub struct DnsSpec {
    pub endpoints: Vec<EndpointSpec>,
    /// LOGICAL_DNS: all addresses of the only endpoint are one host.
    pub logical: bool,
    pub refresh: RefreshOptions,
    pub family: LookupFamily,
    pub resolver: ResolverOptions,
}
