//! Connections that carry bytes instead of requests: for a CONNECT that ends here (`connect_config`). Envoy's TCP
//! connection pool without preconnecting, so that a connection is made for its stream and never serves another.

use std::rc::Rc;
use std::sync::Arc;

use super::connect;
use super::connection::{Connection, Lease};
use super::host_pool::LeaseError;
use crate::cluster::{Cluster, Priority};
use crate::endpoint::Host;
use crate::net::Io;
use crate::stats::names::ClusterStats;
use crate::transport_socket::ConnectOptions;

/// A connection of bytes, exclusively its stream's. Dropping it closes it.
pub struct LeaseTcp {
    pub io: Io,
    pub connection: Rc<Connection>,
}

/// A new connection to `host`.
///
/// # Errors
/// When a circuit breaker is full, or the connection cannot be made in time.
///
/// Cancel safe: dropping the future gives the attempt up.
pub async fn lease_tcp(
    cluster: &Arc<Cluster>,
    host: &Arc<Host>,
    options: &ConnectOptions,
    priority: Priority,
) -> Result<Lease, LeaseError> {
    let (breaker, stats) = (cluster.breaker(priority), &cluster.stats);
    let Some(_pending) = breaker.try_pending() else {
        stats.inc(ClusterStats::UPSTREAM_RQ_PENDING_OVERFLOW);
        return Err(LeaseError::Overflow);
    };
    stats.inc(ClusterStats::UPSTREAM_RQ_PENDING_TOTAL);
    let Some(permit) = breaker.try_connection() else {
        stats.inc(ClusterStats::UPSTREAM_CX_OVERFLOW);
        return Err(LeaseError::Overflow);
    };
    match connect::connect(cluster, host, options).await {
        Ok(connected) => {
            let (io, connection) = Connection::new(connected, permit, cluster, options.sni.clone());
            connection.count_request();
            Ok(Lease::Tcp(LeaseTcp { io, connection }))
        }
        Err(error) => {
            stats.inc(ClusterStats::UPSTREAM_RQ_PENDING_FAILURE_EJECT);
            Err(LeaseError::from(&error))
        }
    }
}
