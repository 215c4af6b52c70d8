use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::connect::{ClosedBy, Connected, UpstreamCx};
use super::host_pool::HostPool;
use super::tcp::LeaseTcp;
use crate::cluster::{Cluster, Permit};
use crate::http::http1::H1Client;
use crate::http::http2::client::H2Client;
use crate::net::{Address, Io};
use crate::stats::names::ClusterStats;
use crate::stream_info::TlsInfo;

/// What is known of an upstream connection.
pub struct Facts {
    /// Unique among the upstream connections of the process.
    pub id: u64,
    pub local_address: Address,
    pub remote_address: Address,
    pub tls: Option<Rc<TlsInfo>>,
    pub sni: Option<Arc<str>>,
    pub connect_start: Instant,
    pub connect_end: Instant,
    pub handshake_end: Instant,
}

/// An upstream connection apart from its codec: what is known of it, what it counts, when it is used up.
pub struct Connection {
    pub facts: Facts,
    cluster: Arc<Cluster>,
    requests: Cell<u64>,
    /// Sent and received, as far as the statistics know.
    bytes: Cell<(u64, u64)>,
    expires: Option<Instant>,
    cx: UpstreamCx,
    _permit: Permit,
}

impl Connection {
    pub fn new(connected: Connected, permit: Permit, cluster: &Arc<Cluster>, sni: Option<Arc<str>>) -> (Io, Rc<Self>) {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let expires = cluster.http.max_connection_duration.and_then(|limit| Instant::now().checked_add(limit));
        let facts = Facts {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            local_address: connected.local_address,
            remote_address: connected.remote_address,
            tls: connected.tls.map(Rc::new),
            sni,
            connect_start: connected.connect_start,
            connect_end: connected.connect_end,
            handshake_end: connected.handshake_end,
        };
        let connection = Connection {
            facts,
            cluster: cluster.clone(),
            requests: Cell::new(0),
            bytes: Cell::default(),
            expires,
            cx: connected.cx,
            _permit: permit,
        };
        (connected.io, Rc::new(connection))
    }

    pub fn expires(&self) -> Option<Instant> {
        self.expires
    }

    pub fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// `max_requests_per_connection` is reached, or the connection is too old.
    pub fn is_used_up(&self) -> bool {
        let limit = self.cluster.http.max_requests_per_connection;
        limit.is_some_and(|limit| self.requests.get() >= u64::from(limit))
            || self.expires.is_some_and(|at| at <= Instant::now())
    }

    /// Octets of one exchange, sent and received.
    pub fn count_bytes(&self, (sent, received): (u64, u64)) {
        self.cluster.stats.add(ClusterStats::UPSTREAM_CX_TX_BYTES_TOTAL, sent);
        self.cluster.stats.add(ClusterStats::UPSTREAM_CX_RX_BYTES_TOTAL, received);
    }

    /// The same for all of the connection so far.
    pub fn note_bytes(&self, (sent, received): (u64, u64)) {
        let (sent_before, received_before) = self.bytes.replace((sent, received));
        self.count_bytes((sent.saturating_sub(sent_before), received.saturating_sub(received_before)));
    }

    pub fn count_request(&self) {
        self.requests.set(self.requests.get() + 1);
    }

    /// Says how the connection ends; the end itself is counted when the last holder drops it.
    pub fn closed_by_peer(&self, with_active_request: bool) {
        self.cx.closed_by(ClosedBy::Remote);
        self.cx.active_requests(with_active_request);
    }

    pub fn closed_by_us(&self, with_active_request: bool) {
        self.cx.closed_by(ClosedBy::Local);
        self.cx.active_requests(with_active_request);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.cluster.stats.record(ClusterStats::UPSTREAM_RQ_PER_CX, self.requests.get());
    }
}

/// A connection for one request.
pub enum Lease {
    H1(LeaseH1),
    H2(LeaseH2),
    Tcp(LeaseTcp),
}

impl Lease {
    pub fn connection(&self) -> &Rc<Connection> {
        match self {
            Lease::H1(lease) => &lease.connection,
            Lease::H2(lease) => &lease.shared.connection,
            Lease::Tcp(lease) => &lease.connection,
        }
    }
}

/// An HTTP/1 connection; exclusively the request's. Dropped unused, it goes back to its pool.
pub struct LeaseH1 {
    client: Option<H1Client>,
    pub connection: Rc<Connection>,
    pool: Rc<HostPool>,
    returned: bool,
}

impl LeaseH1 {
    pub fn new(client: H1Client, connection: Rc<Connection>, pool: Rc<HostPool>) -> Self {
        LeaseH1 { client: Some(client), connection, pool, returned: false }
    }

    /// The codec, to start the exchange with. Until [`give_back`](Self::give_back) the connection counts as lost.
    pub fn take(&mut self) -> Option<H1Client> {
        self.connection.count_request();
        self.client.take()
    }

    /// The exchange ended cleanly: the connection can serve another.
    pub fn give_back(mut self, client: H1Client) {
        self.returned = true;
        self.pool.release(client, self.connection.clone());
    }
}

impl Drop for LeaseH1 {
    fn drop(&mut self) {
        if self.returned {
            return;
        }
        match self.client.take() {
            Some(client) => self.pool.release(client, self.connection.clone()),
            None => self.pool.lost(),
        }
    }
}

/// A request's hold on an HTTP/2 connection.
pub struct LeaseH2 {
    pub shared: Rc<SharedH2>,
}

/// An HTTP/2 connection, shared by the streams on it.
pub struct SharedH2 {
    pub client: H2Client,
    pub connection: Rc<Connection>,
}

impl SharedH2 {
    pub fn new(client: H2Client, connection: Rc<Connection>) -> Self {
        SharedH2 { client, connection }
    }

    /// Not closed, not told to go away, not used up.
    pub fn is_usable(&self) -> bool {
        !self.client.is_closing() && !self.connection.is_used_up()
    }
}

impl LeaseH2 {
    pub fn new(shared: Rc<SharedH2>) -> Self {
        shared.connection.count_request();
        LeaseH2 { shared }
    }
}
