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

pub use connection::{Connection, Facts, Lease, LeaseH1, LeaseH2};
pub use host_pool::LeaseError;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::cluster::{Cluster, Priority, WantedProtocol};
use crate::endpoint::Host;
use crate::transport_socket::ConnectOptions;

use host_pool::HostPool;
use key::Key;

thread_local! {
    static POOLS: RefCell<HashMap<Key, Rc<HostPool>>> = RefCell::new(HashMap::new());
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
    let pool = POOLS.with_borrow_mut(|pools| {
        pools
            .entry(key)
            .or_insert_with(|| HostPool::new(cluster.clone(), host.clone(), options, wanted, priority))
            .clone()
    });
    pool.lease().await
}

/// Drops pools without connections or waiters, e.g. of hosts that are gone. Returns how many are left.
pub fn sweep() -> usize {
    POOLS.with_borrow_mut(|pools| {
        pools.retain(|_, pool| !pool.is_unused());
        pools.len()
    })
}

/// Closes idle connections and marks the others not to be used again. For hosts or clusters that were removed, and for
/// the end of the process.
pub fn close_all(of: impl Fn(&Cluster, &Host) -> bool) {
    POOLS.with_borrow(|pools| {
        for pool in pools.values().filter(|pool| of(pool.cluster(), pool.host())) {
            pool.close_idle();
        }
    });
}
