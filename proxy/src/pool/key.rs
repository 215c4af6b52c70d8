use std::sync::Arc;

use crate::cluster::{Cluster, Priority, WantedProtocol};
use crate::endpoint::Host;
use crate::transport_socket::ConnectOptions;

/// What two requests must share to share connections.
#[derive(PartialEq, Eq, Hash)]
pub struct Key {
    /// Address of the cluster object: a replaced cluster gets new pools, because its options may differ.
    cluster: usize,
    host: u64,
    wanted: WantedProtocol,
    priority: Priority,
    options: ConnectOptions,
}

impl Key {
    pub fn new(
        cluster: &Arc<Cluster>,
        host: &Arc<Host>,
        options: &ConnectOptions,
        wanted: WantedProtocol,
        priority: Priority,
    ) -> Self {
        // The pool holds the Arc, so the address is not reused while the key lives.
        Key { cluster: Arc::as_ptr(cluster) as usize, host: host.id, wanted, priority, options: options.clone() }
    }
}
