use std::sync::Arc;

use super::Dependencies;
use crate::cluster::ClusterManager;
use crate::listener::connections::Connections;
use crate::route::RouteSlots;
use crate::runtime::Runtime;
use crate::server::ServerOptions;
use crate::stats::Stats;
use crate::transport_socket::SecretManager;

/// What builders may refer to: things that exist once in a process.
///
/// Names of other resources are resolved to slots here, once; the data path never looks a name up, except for
/// `cluster_header`.
#[derive(Clone)]
pub struct BuildCx {
    pub options: Arc<ServerOptions>,
    pub clusters: Arc<ClusterManager>,
    pub runtime: Arc<Runtime>,
    pub stats: Stats,
    /// Static secrets are in it before listeners and clusters are built.
    pub secrets: Arc<SecretManager>,
    /// Downstream connections of the whole process, and their limit.
    pub connections: Arc<Connections>,
    /// Route tables that are discovered.
    pub routes: Arc<RouteSlots>,
    /// What the resource that is being built will wait for.
    pub dependencies: Dependencies,
}

impl BuildCx {
    /// A process that knows no clusters and has no runtime values.
    pub fn new(options: ServerOptions) -> Self {
        BuildCx {
            stats: Stats::new(options.concurrency),
            options: Arc::new(options),
            clusters: Arc::default(),
            runtime: Arc::default(),
            secrets: Arc::default(),
            connections: Arc::default(),
            routes: Arc::default(),
            dependencies: Dependencies::default(),
        }
    }

    /// The same for one resource of its own: what it waits for is in `dependencies` of the result once it is built.
    pub fn for_resource(&self) -> Self {
        BuildCx { dependencies: Dependencies::default(), ..self.clone() }
    }
}
