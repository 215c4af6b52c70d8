//! `envoy.config.route.v3`: which virtual host and route answer a request, and what is to be done with it.
//!
//! The connection manager asks a [`RouteTable`] for the [`RouteMatch`] of a request before the filters run, and again when
//! one of them has cleared it; the router does what the match's [`Action`] says. Everything that can be decided when the
//! table is built is decided then: clusters are slots, overrides of filters are built, weights have their runtime values.
//!
//! Invariants: a table does not change once built; [`RouteTable::find`] allocates nothing; the code that finds a route also
//! explains the choice ([`Recorder`]).

mod action;
mod domains;
mod finalize;
mod matcher;
mod per_filter;
mod redirect;
mod rewrite;
mod table;

pub use action::{
    Action, ClusterSpecifier, ClusterTarget, ConnectConfig, DirectResponse, MaxStreamDuration, RouteAction,
    RoutingPriority, Timeouts, UpgradeConfig, WeightedCluster, WeightedClusters,
};
pub use domains::{DomainMatch, Domains, Duplicate};
pub use matcher::Mismatch;
pub use per_filter::{FilterConfig, PerFilterConfig, PerFilterConfigs};
pub use redirect::{PathRedirect, RedirectAction};
pub use rewrite::{HostRewrite, PathRewrite, path_only, update_authority};
pub(crate) use table::port_start;
pub use table::{Recorder, RouteEntry, RouteMatch, RouteTable, TlsRequirement, VirtualHost};
