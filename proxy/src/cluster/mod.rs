//! `envoy.config.cluster.v3.Cluster`: a named group of hosts with everything that is needed to send to one of them.
//!
//! Routes and TCP proxies hold an `Arc<ClusterSlot>`, resolved by name when they are built; the slot is filled, replaced
//! or emptied later without touching them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderMap;
use parking_lot::RwLock;

use crate::endpoint::Host;
use crate::pool::connect::UpstreamSockets;
use crate::stats::StatBlock;
use crate::stats::names::ClusterStats;
use crate::transport_socket::Upstream;

/// The place of a cluster by name. Empty: routes to it answer with `cluster_not_found_response_code`.
pub struct ClusterSlot {
    pub name: Arc<str>,
    current: ArcSwapOption<Cluster>,
}

impl ClusterSlot {
    pub fn load(&self) -> Option<Arc<Cluster>> {
        self.current.load_full()
    }

    pub fn store(&self, cluster: Option<Arc<Cluster>>) {
        self.current.store(cluster);
    }
}

/// All clusters of the process.
#[derive(Default)]
pub struct ClusterManager {
    slots: RwLock<HashMap<Arc<str>, Arc<ClusterSlot>>>,
}

impl ClusterManager {
    /// The slot of this name, made on first use. For builders.
    pub fn slot(&self, name: &str) -> Arc<ClusterSlot> {
        if let Some(slot) = self.find(name) {
            return slot;
        }
        let name: Arc<str> = name.into();
        let slot = ClusterSlot { name: name.clone(), current: ArcSwapOption::empty() };
        self.slots.write().entry(name).or_insert_with(|| Arc::new(slot)).clone()
    }

    /// The slot of this name if some builder or cluster knows it. For `cluster_header`, where a request names the cluster
    /// and must not be able to create slots.
    pub fn find(&self, name: &str) -> Option<Arc<ClusterSlot>> {
        self.slots.read().get(name).cloned()
    }
}

/// A cluster as built.
pub struct Cluster {
    pub name: Arc<str>,
    /// Scope `cluster.<alt_stat_name or name>`.
    pub stats: StatBlock<ClusterStats>,
    /// Over TCP connect and transport handshake.
    pub connect_timeout: Duration,
    pub sockets: UpstreamSockets,
    pub transport: Upstream,
    /// `transport_socket_matches`, to which [`Host::transport_socket_match`] points.
    pub transport_matches: Vec<Upstream>,
}

impl Cluster {
    /// The transport socket for a host of this cluster.
    pub fn transport_socket(&self, host: &Host) -> &Upstream {
        host.transport_socket_match.and_then(|index| self.transport_matches.get(index)).unwrap_or(&self.transport)
    }
}

/// What a load balancer may look at when it picks a host.
#[derive(Default)]
pub struct LbContext<'a> {
    /// From the route's hash policies.
    pub hash: Option<u64>,
    /// The downstream connection's restored original destination, for ORIGINAL_DST clusters.
    pub original_dst: Option<SocketAddr>,
    /// Request headers, for `use_http_header` of ORIGINAL_DST.
    pub headers: Option<&'a HeaderMap>,
    /// Hosts that were already tried for this request.
    pub tried: &'a [Arc<Host>],
}
