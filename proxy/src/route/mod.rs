//! `envoy.config.route.v3`: which virtual host and route answer a request, and what is to be done with it.
//!
//! The connection manager asks a [`RouteTable`] for the [`RouteMatch`] of a request before the filters run, and again when
//! one of them has cleared it; the router does what the match's [`Action`] says. Everything that can be decided when the
//! table is built is decided then: clusters are slots, overrides of filters are built, weights have their runtime values.
//!
//! Invariants: a table does not change once built; [`RouteTable::find`] allocates nothing; the code that finds a route also
//! explains the choice ([`Recorder`]).

mod action;
mod build;
mod counted;
mod domains;
mod explain;
mod finalize;
mod hash_policy;
mod header_matcher;
mod matcher;
mod per_filter;
mod query;
mod redirect;
mod retry;
mod rewrite;
mod slot;
mod table;
#[cfg(test)]
pub(crate) mod tests;
pub mod unsupported;
mod uri_template;
mod virtual_cluster;

pub use action::{
    Action, ClusterSpecifier, ClusterTarget, ConnectConfig, DirectResponse, MaxStreamDuration, RouteAction,
    RoutingPriority, Timeouts, UpgradeConfig, WeightedCluster, WeightedClusters,
};
pub use build::BuildFilterConfig;
pub use counted::Counted;
pub use domains::{DomainMatch, Domains, Duplicate};
pub use explain::Explanation;
pub use finalize::OwnReply;
pub use hash_policy::{HashCookie, HashPolicy, HashSource, RequestHash};
pub use header_matcher::HeaderMatcher;
pub use matcher::{Mismatch, is_grpc};
pub use per_filter::{FilterConfig, PerFilterConfig, PerFilterConfigs};
pub use query::{cookie, query_parameter};
pub use redirect::{PathRedirect, RedirectAction};
pub use retry::{RateLimitedBackOff, ResetHeaderFormat, RetryHostPredicate, RetryOn, RetryPolicy};
pub use rewrite::{HostRewrite, PathRewrite, path_only, update_authority};
pub use slot::{RouteSlot, RouteSlots, Routes};
pub(crate) use table::port_start;
pub use table::{Decorator, Recorder, RouteEntry, RouteMatch, RouteTable, TlsRequirement, VirtualHost};
pub(crate) use uri_template::UriTemplate;
pub use virtual_cluster::{VirtualCluster, VirtualClusters};
