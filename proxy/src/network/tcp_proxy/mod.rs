//! `envoy.filters.network.tcp_proxy`: connects each downstream connection to a host of a cluster and copies both ways.
//!
//! [`session`] chooses the cluster, connects, and decides how the two connections end; [`relay`] moves the bytes, through
//! [`splice`](https://man7.org/linux/man-pages/man2/splice.2.html) for what is bulk between two plain sockets.
//!
//! Invariants: a half-closed side is passed on as a half-close and the other direction goes on; a reset is passed on as a
//! reset, but never overtakes bytes that still wait to be written; nothing is read from a side whose bytes cannot be
//! written on, beyond one buffer.
//!
//! Different from Envoy: the upstream is connected after the downstream's TLS handshake, not beside it.
//!
//! Deliberately missing, and refused: tunneling over HTTP, on-demand clusters, hash policies, metadata matches, early data.

mod config;
mod relay;
mod session;
mod splice;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use super::{Connection, TerminalFilter};
use crate::access_log::AccessLog;
use crate::cluster::ClusterSlot;
use crate::stats::StatBlock;
use crate::stats::names::TcpProxyStats;

pub use config::build;

/// The filter as built.
pub struct TcpProxy {
    clusters: Clusters,
    /// `None`: never.
    idle_timeout: Option<Duration>,
    max_connect_attempts: u32,
    /// Between attempts; `None` is at once.
    backoff: Option<Backoff>,
    max_downstream_connection_duration: Option<Duration>,
    /// A share of the duration that is added at random.
    max_downstream_connection_duration_jitter: f64,
    access_log: Vec<AccessLog>,
    access_log_options: AccessLogOptions,
    stats: StatBlock<TcpProxyStats>,
}

/// Where connections go.
enum Clusters {
    One(Arc<ClusterSlot>),
    /// Each with the sum of the weights up to and including its own.
    Weighted(Vec<(u64, Arc<ClusterSlot>)>),
}

impl Clusters {
    /// `random` is any number.
    fn pick(&self, random: u64) -> Option<&Arc<ClusterSlot>> {
        match self {
            Clusters::One(slot) => Some(slot),
            Clusters::Weighted(slots) => {
                let total = slots.last()?.0.max(1);
                let at = random % total;
                slots.iter().find(|(until, _)| at < *until).map(|(_, slot)| slot)
            }
        }
    }
}

/// `BackoffStrategy`: exponential, with full jitter.
#[derive(Debug, Clone, Copy)]
struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    /// Before the attempt after `failed` failed ones; `random` is from 0 to 1.
    fn delay(&self, failed: u32, random: f64) -> Duration {
        let exponent = failed.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << exponent).min(self.max).mul_f64(random)
    }
}

/// `TcpAccessLogOptions`.
#[derive(Debug, Clone, Copy, Default)]
struct AccessLogOptions {
    flush_interval: Option<Duration>,
    flush_on_connected: bool,
    flush_on_start: bool,
}

impl TerminalFilter for TcpProxy {
    fn serve(self: Arc<Self>, connection: Connection) -> LocalBoxFuture<'static, ()> {
        Box::pin(session::run(self, connection))
    }
}
