//! Upstream connections of one worker: idle HTTP/1 connections, HTTP/2 connections with room, and who waits for them.
//!
//! The router asks [`lease`] for a connection to a host. A pool belongs to one (cluster, host, handshake options) and one
//! worker; connections never cross threads. An idle connection is watched: when the peer closes it, or sends what nobody
//! asked for, it is dropped at once, so that a request does not find out.
//!
//! Invariants: a lease is given back only when both directions ended cleanly; a waiter that goes away gives back what it
//! was handed; circuit breakers are counted over all workers.

pub mod connect;
mod connection;
mod host_pool;
mod key;
mod tcp;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Facts, Lease, LeaseH1, LeaseH2};
pub use host_pool::LeaseError;
pub use tcp::{LeaseTcp, lease_tcp};

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::cluster::{Cluster, ClusterEvent, Priority, WantedProtocol};
use crate::endpoint::Host;
use crate::transport_socket::ConnectOptions;

use host_pool::HostPool;
use key::Key;

thread_local! {
    static POOLS: RefCell<Pools> = RefCell::default();
}

#[derive(Default)]
struct Pools {
    by_key: HashMap<Key, Rc<HostPool>>,
    /// Pools that nobody uses are dropped when there are so many: with `auto_sni` requests decide how many keys there are.
    sweep_at: usize,
}

/// So many unused pools are no reason to look for them.
const FEW: usize = 64;

impl Pools {
    fn of(&mut self, key: Key, make: impl FnOnce() -> Rc<HostPool>) -> Rc<HostPool> {
        if let Some(pool) = self.by_key.get(&key) {
            return pool.clone();
        }
        if self.by_key.len() >= self.sweep_at.max(FEW) {
            self.by_key.retain(|_, pool| !pool.is_unused());
            self.sweep_at = 2 * self.by_key.len();
        }
        let pool = make();
        self.by_key.insert(key, pool.clone());
        pool
    }
}

/// A connection to `host` for one request: at once if there is one, else when one is free or made.
///
/// # Errors
/// When a circuit breaker is full, or the connection cannot be made in time.
///
/// Cancel safe: dropping the future gives up the place in the queue; a connection that was being made stays for others.
pub async fn lease(
    cluster: &Arc<Cluster>,
    host: &Arc<Host>,
    options: ConnectOptions,
    wanted: WantedProtocol,
    priority: Priority,
) -> Result<Lease, LeaseError> {
    let key = Key::new(cluster, host, &options, wanted, priority);
    let make = || HostPool::new(cluster.clone(), host.clone(), options, wanted, priority);
    let pool = POOLS.with_borrow_mut(|pools| pools.of(key, make));
    pool.lease().await
}

/// Lets go of connections to hosts and clusters as they are removed: idle ones at once, others when their requests end.
/// One such task runs on every worker; it ends with the cluster manager.
pub async fn follow(mut events: UnboundedReceiver<ClusterEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            ClusterEvent::HostsRemoved { cluster, hosts } => {
                retire(|of, host| std::ptr::eq(of, &*cluster) && hosts.iter().any(|removed| **removed == *host));
            }
            ClusterEvent::ClusterRemoved(cluster) => retire(|of, _| std::ptr::eq(of, &*cluster)),
        }
    }
}

fn retire(of: impl Fn(&Cluster, &Host) -> bool) {
    let retired: Vec<Rc<HostPool>> = POOLS.with_borrow_mut(|pools| {
        pools.by_key.extract_if(|_, pool| of(pool.cluster(), pool.host())).map(|(_, pool)| pool).collect()
    });
    retired.iter().for_each(|pool| pool.retire());
}
