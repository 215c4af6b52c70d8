//! How a stream behaves: [`Options`], after `envoy.config.core.v3.ApiConfigSource` and `GrpcService`.

use std::time::Duration;

use http::HeaderMap;
use xds_protos::envoy::config::core::v3::Node;

use crate::TypeUrl;

/// Envoy's default for `initial_fetch_timeout`. [`Duration::ZERO`] waits for ever.
pub const DEFAULT_INITIAL_FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// The two dialects of xDS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// `DeltaDiscoveryRequest`: changes only (`api_type: DELTA_GRPC`).
    Delta,
    /// `DiscoveryRequest`: state of the world (`api_type: GRPC`).
    Sotw,
}

/// Which gRPC method to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// All types on one stream of `envoy.service.discovery.v3.AggregatedDiscoveryService`.
    Aggregated,
    /// One type on a service of its own, such as `StreamClusters`; see [`TypeUrl::method`].
    Single(TypeUrl),
}

/// Everything about a stream but its transport. `Options::new` has Envoy's defaults.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Who we are; sent with the first message of each stream.
    pub node: Node,
    /// Delta or state of the world.
    pub variant: Variant,
    /// Aggregated or for one type.
    pub service: Service,
    /// `set_node_on_first_message_only`: if false, the node goes with every message. `new` sets true; note that the
    /// API's default is false.
    pub set_node_on_first_message_only: bool,
    /// The pauses between attempts to connect (`grpc_service.envoy_grpc.retry_policy.retry_back_off`).
    pub back_off: BackOffOptions,
    /// `rate_limit_settings`; `None` sends as fast as there is something to say.
    pub rate_limit: Option<RateLimit>,
    /// How long a name may stay unanswered on a connected stream until [`crate::Missing::TimedOut`]. `None`, the
    /// default, never: Envoy has `initial_fetch_timeout` alone. gRPC clients use 15 s.
    pub does_not_exist_timeout: Option<Duration>,
    /// `:scheme` and `:authority` of the call, as a URI without a path: `http://xds-grpc`.
    pub origin: http::Uri,
    /// `grpc_service.initial_metadata`: headers of each call. [`crate::Transport::metadata`] adds those that change.
    pub initial_metadata: HeaderMap,
}

impl Options {
    /// Envoy's defaults, for a node.
    pub fn new(node: Node, variant: Variant) -> Self {
        Self {
            node,
            variant,
            service: Service::Aggregated,
            set_node_on_first_message_only: true,
            back_off: BackOffOptions::default(),
            rate_limit: None,
            does_not_exist_timeout: None,
            origin: http::Uri::from_static("http://xds"),
            initial_metadata: HeaderMap::new(),
        }
    }

    /// The path of the gRPC method, or `None` if [`Service::Single`] names a type that has none.
    pub fn method(&self) -> Option<String> {
        match (&self.service, self.variant) {
            (Service::Single(type_url), variant) => type_url.method(variant),
            (Service::Aggregated, Variant::Delta) => Some(format!("/{AGGREGATED}/DeltaAggregatedResources")),
            (Service::Aggregated, Variant::Sotw) => Some(format!("/{AGGREGATED}/StreamAggregatedResources")),
        }
    }
}

/// The aggregated discovery service.
pub(crate) const AGGREGATED: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// Pauses that double from `base` to `max`, each drawn evenly from zero to the current bound (full jitter).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOffOptions {
    /// `base_interval`. At least 1 ms.
    pub base: Duration,
    /// `max_interval`. At least `base`.
    pub max: Duration,
}

impl Default for BackOffOptions {
    /// 500 ms to 30 s.
    fn default() -> Self {
        Self { base: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

/// `envoy.config.core.v3.RateLimitSettings`: a token bucket that requests are taken from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// How many requests may leave at once.
    pub max_tokens: u32,
    /// How many more each second. Above zero.
    pub fill_rate: f64,
}

impl Default for RateLimit {
    /// What an empty `rate_limit_settings` means: 100, and 10 a second.
    fn default() -> Self {
        Self { max_tokens: 100, fill_rate: 10.0 }
    }
}
