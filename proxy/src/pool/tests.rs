use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

use super::{Lease, follow, lease};
use crate::cluster::{Cluster, ClusterEvent, Priority, WantedProtocol};
use crate::endpoint::Host;
use crate::stats::Stats;
use crate::stats::names::ClusterStats;
use crate::transport_socket::ConnectOptions;

/// A cluster with a host that accepts, and a worker's pools that follow what happens to it.
struct Upstream {
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    listener: TcpListener,
    events: UnboundedSender<ClusterEvent>,
}

impl Upstream {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Arc::new(Host::new(listener.local_addr().unwrap().into(), "".into(), 1));
        let cluster = Arc::new(Cluster::new("c", &Stats::new(0)));
        let (events, received) = unbounded_channel();
        spawn_local(follow(received));
        Upstream { cluster, host, listener, events }
    }

    async fn lease(&self) -> Lease {
        let options = ConnectOptions::default();
        lease(&self.cluster, &self.host, options, WantedProtocol::Http1, Priority::Default).await.ok().unwrap()
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    fn remove_host(&self) {
        let hosts = Arc::new([self.host.clone()]);
        self.events.send(ClusterEvent::HostsRemoved { cluster: self.cluster.clone(), hosts }).ok().unwrap();
    }

    fn connections(&self) -> u64 {
        self.cluster.stats.read(ClusterStats::UPSTREAM_CX_TOTAL)
    }
}

#[tokio::test]
async fn idle_connections_to_a_removed_host_close() {
    LocalSet::new()
        .run_until(async {
            let upstream = Upstream::new().await;
            drop(upstream.lease().await);
            drop(upstream.lease().await);
            assert_eq!(upstream.connections(), 1, "the second lease is of the same connection");
            let mut peer = upstream.accept().await;
            upstream.remove_host();
            assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
        })
        .await;
}

#[tokio::test]
async fn a_connection_in_use_closes_when_it_is_given_back() {
    LocalSet::new()
        .run_until(async {
            let upstream = Upstream::new().await;
            let in_use = upstream.lease().await;
            drop(upstream.lease().await);
            let (mut in_use_peer, mut idle_peer) = (upstream.accept().await, upstream.accept().await);
            upstream.events.send(ClusterEvent::ClusterRemoved(upstream.cluster.clone())).ok().unwrap();
            assert_eq!(idle_peer.read(&mut [0]).await.unwrap(), 0);
            let open = in_use_peer.try_read(&mut [0]).unwrap_err();
            assert_eq!(open.kind(), std::io::ErrorKind::WouldBlock);
            drop(in_use);
            assert_eq!(in_use_peer.read(&mut [0]).await.unwrap(), 0);
        })
        .await;
}

#[tokio::test]
async fn other_clusters_and_hosts_keep_their_connections() {
    LocalSet::new()
        .run_until(async {
            let (kept, removed) = (Upstream::new().await, Upstream::new().await);
            drop(kept.lease().await);
            drop(removed.lease().await);
            removed.remove_host();
            let mut peer = removed.accept().await;
            assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
            drop(kept.lease().await);
            assert_eq!(kept.connections(), 1);
        })
        .await;
}
