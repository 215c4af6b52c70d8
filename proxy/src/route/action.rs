//! What is to be done with a request that a route matched: `envoy.config.route.v3.Route.action`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, StatusCode};

use super::hash_policy::HashPolicy;
use super::per_filter::PerFilterConfigs;
use super::redirect::RedirectAction;
use super::retry::RetryPolicy;
use super::rewrite::{HostRewrite, PathRewrite};
use super::table::HeaderOps;
use crate::cluster::ClusterSlot;
use crate::formatter::LineFormat;
use crate::http::ByteStr;
use crate::runtime::Live;

pub enum Action {
    Route(Box<RouteAction>),
    Redirect(Box<RedirectAction>),
    DirectResponse(Box<DirectResponse>),
    /// `non_forwarding_action`: matches, but no filter of ours answers it.
    NonForwarding,
}

/// `envoy.config.route.v3.RouteAction`: forward to a cluster.
pub struct RouteAction {
    pub cluster: ClusterSpecifier,
    pub cluster_not_found_response_code: StatusCode,
    pub path_rewrite: Option<PathRewrite>,
    pub host_rewrite: Option<HostRewrite>,
    pub append_x_forwarded_host: bool,
    pub timeouts: Timeouts,
    pub priority: RoutingPriority,
    pub upgrade_configs: Box<[UpgradeConfig]>,
    pub retry_policy: Option<Arc<RetryPolicy>>,
    pub hash_policy: Box<[HashPolicy]>,
}

/// Where a route sends its requests.
pub enum ClusterSpecifier {
    Target(ClusterTarget),
    Weighted(Box<WeightedClusters>),
}

/// A cluster by name, or by the value that a request header has.
pub enum ClusterTarget {
    Cluster(Arc<ClusterSlot>),
    Header(HeaderName),
}

/// `envoy.config.route.v3.WeightedCluster`. Weights follow the runtime where there is a `runtime_key_prefix`.
pub struct WeightedClusters {
    pub clusters: Box<[WeightedCluster]>,
    /// A request header whose decimal value is used instead of the stream's random value.
    pub header_name: Option<HeaderName>,
}

pub struct WeightedCluster {
    pub target: ClusterTarget,
    pub weight: Live<u32>,
    pub(super) headers: HeaderOps,
    pub host_rewrite_literal: Option<ByteStr>,
    pub per_filter: PerFilterConfigs,
}

impl WeightedClusters {
    /// The sum of the weights. It fits 32 bits as configured; the runtime may make it anything.
    pub fn total(&self) -> u64 {
        self.clusters.iter().map(|cluster| u64::from(cluster.weight.get())).sum()
    }

    /// The position of the cluster in whose share of `0..total` the value modulo `total` falls; the first when the runtime
    /// has taken all weights away.
    pub fn pick(&self, value: u64) -> usize {
        let mut left = value % self.total().max(1);
        for (i, cluster) in self.clusters.iter().enumerate() {
            match left.checked_sub(u64::from(cluster.weight.get())) {
                Some(rest) => left = rest,
                None => return i,
            }
        }
        0
    }
}

/// `envoy.config.core.v3.RoutingPriority`: which of a cluster's circuit breakers and pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum RoutingPriority {
    #[default]
    Default,
    High,
}

/// Deadlines of a route as configured; the router combines them with what the request's headers ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// `timeout`: from the end of the request to the end of the response; 15 s unless set. Zero: none.
    pub timeout: Duration,
    /// `idle_timeout`: instead of the connection manager's `stream_idle_timeout`. Zero: none.
    pub idle_timeout: Option<Duration>,
    /// `flush_timeout`: instead of the connection manager's `stream_flush_timeout`. Zero: none.
    pub flush_timeout: Option<Duration>,
    /// Present as soon as `max_stream_duration` is, even when empty: then `max_grpc_timeout` does not count.
    pub max_stream_duration: Option<MaxStreamDuration>,
    /// Deprecated: a `grpc-timeout` header replaces `timeout`, at most this (zero: any).
    pub max_grpc_timeout: Option<Duration>,
    /// Deprecated: taken off a `grpc-timeout` header.
    pub grpc_timeout_offset: Option<Duration>,
}

/// `envoy.config.route.v3.RouteAction.MaxStreamDuration`. Zero means none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MaxStreamDuration {
    pub max_stream_duration: Option<Duration>,
    pub grpc_timeout_header_max: Option<Duration>,
    pub grpc_timeout_header_offset: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            timeout: Duration::from_secs(15),
            idle_timeout: None,
            flush_timeout: None,
            max_stream_duration: None,
            max_grpc_timeout: None,
            grpc_timeout_offset: None,
        }
    }
}

/// `envoy.config.route.v3.RouteAction.UpgradeConfig`: allows or forbids what the connection manager decided otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeConfig {
    /// Lower-case.
    pub upgrade_type: Box<str>,
    pub enabled: bool,
    /// `connect_config` is there: a CONNECT ends here and its payload goes to the cluster as TCP.
    pub connect: Option<ConnectConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectConfig {
    pub allow_post: bool,
}

/// `envoy.config.route.v3.DirectResponseAction`.
pub struct DirectResponse {
    pub status: StatusCode,
    pub body: Bytes,
    /// Makes the body that is sent, from the request and `body`.
    pub body_format: Option<Box<LineFormat>>,
}
