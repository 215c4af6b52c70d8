use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Cluster;
use crate::endpoint::Host;
use crate::stats::StatBlock;
use crate::stats::names::ClusterManagerStats;

/// What workers are told, so that their pools let go of connections.
#[derive(Clone)]
pub enum ClusterEvent {
    /// These hosts are no longer picked. Idle connections to them are to be closed, others when their requests end.
    HostsRemoved { cluster: Arc<Cluster>, hosts: Arc<[Arc<Host>]> },
    /// The cluster was removed, or replaced by one with another configuration.
    ClusterRemoved(Arc<Cluster>),
}

/// Who is told.
#[derive(Default)]
pub(super) struct Events {
    subscribers: Mutex<Vec<UnboundedSender<ClusterEvent>>>,
    /// Of the cluster manager.
    pub stats: OnceLock<StatBlock<ClusterManagerStats>>,
}

impl Events {
    pub fn subscribe(&self) -> UnboundedReceiver<ClusterEvent> {
        let (sender, receiver) = unbounded_channel();
        self.subscribers.lock().push(sender);
        receiver
    }

    pub fn hosts_removed(&self, cluster: &Arc<Cluster>, hosts: Vec<Arc<Host>>) {
        if !hosts.is_empty() {
            self.send(ClusterEvent::HostsRemoved { cluster: cluster.clone(), hosts: hosts.into() });
        }
    }

    pub fn cluster_removed(&self, cluster: Arc<Cluster>) {
        self.send(ClusterEvent::ClusterRemoved(cluster));
    }

    /// The hosts of a cluster that had some before are others now.
    pub fn cluster_updated(&self) {
        if let Some(stats) = self.stats.get() {
            stats.inc(ClusterManagerStats::CLUSTER_UPDATED);
        }
    }

    fn send(&self, event: ClusterEvent) {
        self.subscribers.lock().retain(|subscriber| subscriber.send(event.clone()).is_ok());
    }
}
