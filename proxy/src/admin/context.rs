//! What the admin interface asks of the rest of the process: one trait for each neighbour, so that an endpoint can be tested
//! with a stand-in and nothing here knows how listeners or clusters work inside.
//!
//! All calls come from the control thread and must not block.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use xds_protos::envoy::admin::v3 as pb;
use xds_protos::envoy::config::core::v3::Node;

use crate::cluster::Thresholds;
use crate::config::matcher::StringMatcher;
use crate::endpoint::Host;
use crate::net::Address;
use crate::runtime::{Entries, NoAdminLayer};
use crate::stats::Stats;

/// The handles.
pub struct AdminContext {
    pub stats: Stats,
    pub server: Rc<dyn Server>,
    pub clusters: Rc<dyn Clusters>,
    pub listeners: Rc<dyn Listeners>,
    pub certificates: Rc<dyn Certificates>,
    pub runtime: Rc<dyn Runtime>,
    pub config: Rc<dyn Config>,
    pub log: Rc<dyn Log>,
    /// `admin.allow_paths`: paths, with their query, that may be asked for. Empty: all.
    pub allow_paths: Vec<StringMatcher>,
}

/// `/ready`, `/server_info`, `/healthcheck`, `/quitquitquit` and what else concerns the process as a whole.
pub trait Server {
    fn state(&self) -> pb::server_info::State;

    /// Since the process started.
    fn uptime(&self) -> Duration;

    /// `sha/version/state/build/ssl`, as in `/server_info`.
    fn version(&self) -> String;

    fn command_line_options(&self) -> pb::CommandLineOptions;

    /// With user agent and extensions.
    fn node(&self) -> Node;

    /// Answer health checks with failure from now on, or no longer.
    fn fail_health_check(&self, fail: bool);

    fn drain_listeners(&self, how: DrainListeners);

    /// Leave, as on SIGTERM.
    fn quit(&self);

    fn reopen_logs(&self);

    /// Brings gauges that nobody counts up to date, such as `server.uptime`; called before stats are shown.
    fn refresh_stats(&self);

    /// What initialisation still waits for: by component the names of its targets.
    fn unready_targets(&self) -> Vec<(String, Vec<String>)>;
}

/// `/drain_listeners`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainListeners {
    /// Only listeners with `traffic_direction: INBOUND`.
    pub inbound_only: bool,
    /// Stop listening only when the drain time is over.
    pub graceful: bool,
    /// Drain connections but never stop listening.
    pub skip_exit: bool,
}

/// `/clusters`, and the endpoints of `/config_dump?include_eds`.
pub trait Clusters {
    /// Active clusters, in any order.
    fn clusters(&self) -> Vec<Cluster>;
}

/// A cluster as `/clusters` shows it.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: String,
    pub observability_name: String,
    pub added_via_api: bool,
    /// Empty unless the cluster is of type EDS and has one.
    pub eds_service_name: String,
    pub default_priority: Thresholds,
    pub high_priority: Thresholds,
    /// For clusters with `outlier_detection`.
    pub outlier: Option<Outlier>,
    /// `load_assignment.policy.overprovisioning_factor`
    pub overprovisioning_factor: u32,
    pub hosts: Vec<HostStatus>,
}

/// Success rates in percent; below 0 when there were not enough requests to tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    pub success_rate_average: f64,
    pub success_rate_ejection_threshold: f64,
    pub local_origin_success_rate_average: f64,
    pub local_origin_success_rate_ejection_threshold: f64,
}

#[derive(Clone, Debug)]
pub struct HostStatus {
    pub host: Arc<Host>,
    /// In percent, below 0 when unknown.
    pub success_rate: f64,
    pub local_origin_success_rate: f64,
}

/// `/listeners`
pub trait Listeners {
    /// In the order of configuration; listeners that drain in place are still there.
    fn listeners(&self) -> Vec<Listener>;
}

#[derive(Clone, Debug)]
pub struct Listener {
    pub name: String,
    /// Bound addresses, the main one first.
    pub addresses: Vec<Address>,
}

/// `/certs`
pub trait Certificates {
    /// One entry for each TLS context in use.
    fn certificates(&self) -> Vec<pb::Certificate>;
}

/// `/runtime`
pub trait Runtime {
    /// Names and values of the layers, the weakest first.
    fn layers(&self) -> Vec<(String, Entries)>;

    /// Sets values in the admin layer; an empty one takes back what was set there before.
    ///
    /// # Errors
    /// [`NoAdminLayer`] when no layer is an `admin_layer`.
    fn modify(&self, values: &[(String, String)]) -> Result<(), NoAdminLayer>;
}

/// `/config_dump` and `/unsupported`
pub trait Config {
    /// `envoy.config.bootstrap.v3.Bootstrap` as loaded.
    fn bootstrap(&self) -> Resource;

    fn resources(&self, kind: ResourceKind) -> Resources;

    /// What of the received configuration is accepted but has no effect here.
    fn ignored(&self) -> Vec<Ignored>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    Cluster,
    Listener,
    Route,
    ScopedRoute,
    Secret,
    /// `TypedExtensionConfig`
    ExtensionConfig,
}

/// All resources of a kind.
#[derive(Clone, Default)]
pub struct Resources {
    /// Of the last accepted update; empty if there was none.
    pub version_info: String,
    pub statics: Vec<Resource>,
    pub active: Vec<Resource>,
    pub warming: Vec<Resource>,
    /// Listeners only.
    pub draining: Vec<Resource>,
}

/// A resource with the bytes that were received.
#[derive(Clone)]
pub struct Resource {
    pub name: Arc<str>,
    /// None if no version of it was ever accepted.
    pub received: Option<Received>,
    pub version_info: String,
    pub last_updated: SystemTime,
    /// The last update, if it was refused.
    pub error: Option<UpdateFailure>,
    pub client_status: pb::ClientResourceStatus,
}

/// A `google.protobuf.Any` whose bytes are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub type_url: Arc<str>,
    pub value: Bytes,
}

#[derive(Clone, Debug)]
pub struct UpdateFailure {
    pub failed_configuration: Option<Received>,
    pub last_update_attempt: SystemTime,
    pub details: String,
    pub version_info: String,
}

/// A field that has no effect, and how often it was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Full name of the message.
    pub message: String,
    pub field: String,
    pub count: u64,
    pub reason: String,
}

/// `/logging`
pub trait Log {
    /// Names and levels, in the order in which they are listed.
    fn loggers(&self) -> Vec<(String, String)>;

    /// The names of all levels, from the most to the least talkative.
    fn levels(&self) -> Vec<&'static str>;

    /// Sets every logger. `level` is one of [`levels`](Self::levels).
    fn set_all(&self, level: &str);

    /// Sets one logger of [`loggers`](Self::loggers).
    fn set(&self, logger: &str, level: &str);
}
