//! Making one upstream connection: the TCP (or pipe) connection, then the transport handshake, within the cluster's
//! `connect_timeout`. Called by the HTTP pools and by the TCP proxy.
//!
//! A host with `additional_addresses` is tried address by address, a new one every 300 ms or as soon as one fails, and the
//! first to connect wins (RFC 8305; Envoy's happy eyeballs). Counting is done here: an attempt is a connection of the
//! cluster and of the host from its start to the drop of its [`UpstreamCx`], as in Envoy, whether it succeeds or not.
//!
//! Deliberately missing: sockets are not bound to the network interface of the downstream, no local address selectors.

use std::borrow::Cow;
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpSocket, UnixStream};

use crate::cluster::Cluster;
use crate::endpoint::{Addresses, Host};
use crate::net::{Address, Io, RawIo, Socket, SocketOptions, SocketState};
use crate::stats::names::ClusterStats;
use crate::stream_info::TlsInfo;
use crate::sys;
use crate::transport_socket::{ConnectOptions, TransportError, UpstreamSource};

mod sockets;
#[cfg(test)]
mod tests;

pub use sockets::UpstreamSockets;

/// Between attempts at further addresses of a host, as Envoy.
const HAPPY_EYEBALLS_DELAY: Duration = Duration::from_millis(300);

/// An established upstream connection.
pub struct Connected {
    pub io: Io,
    pub local_address: Address,
    pub remote_address: Address,
    pub tls: Option<TlsInfo>,
    pub connect_start: Instant,
    /// When TCP was connected.
    pub connect_end: Instant,
    /// When the transport handshake was done; equal to `connect_end` without one.
    pub handshake_end: Instant,
    /// Keep it as long as the connection.
    pub cx: UpstreamCx,
}

/// Why a connection was not established.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// `connect_timeout` passed.
    #[error("connection timeout")]
    Timeout,
    /// Our side could not even try: out of descriptors or ports, a source address or an option that the system refuses.
    #[error("{0}")]
    Local(Cow<'static, str>),
    /// The peer, or the network on its behalf, refused.
    #[error("{0}")]
    Remote(Cow<'static, str>),
    /// The transport handshake failed.
    #[error(transparent)]
    Transport(TransportError),
}

impl ConnectError {
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`; none for a timeout.
    pub fn transport_failure_reason(&self) -> Option<Cow<'static, str>> {
        match self {
            ConnectError::Timeout => None,
            ConnectError::Local(reason) | ConnectError::Remote(reason) => Some(reason.clone()),
            ConnectError::Transport(error) => Some(error.reason.clone()).filter(|reason| !reason.is_empty()),
        }
    }
}

/// Who ended an upstream connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBy {
    Local,
    Remote,
}

/// The statistics of one upstream connection, from the attempt to its end. Dropping it is the end.
pub struct UpstreamCx {
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    start: Instant,
    closed_by: Cell<ClosedBy>,
    active_requests: Cell<bool>,
}

impl UpstreamCx {
    fn new(cluster: Arc<Cluster>, host: Arc<Host>) -> Self {
        cluster.stats.inc(ClusterStats::UPSTREAM_CX_TOTAL);
        cluster.stats.gauge_inc(ClusterStats::UPSTREAM_CX_ACTIVE);
        host.stats.cx_total.fetch_add(1, Relaxed);
        host.stats.cx_active.fetch_add(1, Relaxed);
        UpstreamCx {
            cluster,
            host,
            start: Instant::now(),
            closed_by: Cell::new(ClosedBy::Local),
            active_requests: Cell::new(false),
        }
    }

    /// To be called before the drop when the peer closed or reset the connection; else the end counts as our own.
    pub fn closed_by(&self, by: ClosedBy) {
        self.closed_by.set(by);
    }

    /// Whether requests would be cut if the connection ended now (`upstream_cx_destroy_with_active_rq`).
    pub fn active_requests(&self, any: bool) {
        self.active_requests.set(any);
    }

    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    fn failed(&self, error: &ConnectError) {
        let stats = &self.cluster.stats;
        stats.inc(ClusterStats::UPSTREAM_CX_CONNECT_FAIL);
        self.host.stats.cx_connect_fail.fetch_add(1, Relaxed);
        match error {
            ConnectError::Timeout => stats.inc(ClusterStats::UPSTREAM_CX_CONNECT_TIMEOUT),
            ConnectError::Local(_) => {}
            ConnectError::Remote(_) | ConnectError::Transport(_) => self.closed_by(ClosedBy::Remote),
        }
    }
}

impl Drop for UpstreamCx {
    fn drop(&mut self) {
        let stats = &self.cluster.stats;
        stats.gauge_dec(ClusterStats::UPSTREAM_CX_ACTIVE);
        self.host.stats.cx_active.fetch_sub(1, Relaxed);
        stats.inc(ClusterStats::UPSTREAM_CX_DESTROY);
        let active = self.active_requests.get();
        if active {
            stats.inc(ClusterStats::UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ);
        }
        let (destroy, with_active) = match self.closed_by.get() {
            ClosedBy::Local => {
                (ClusterStats::UPSTREAM_CX_DESTROY_LOCAL, ClusterStats::UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ)
            }
            ClosedBy::Remote => {
                (ClusterStats::UPSTREAM_CX_DESTROY_REMOTE, ClusterStats::UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ)
            }
        };
        stats.inc(destroy);
        if active {
            stats.inc(with_active);
        }
        let length = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        stats.record(ClusterStats::UPSTREAM_CX_LENGTH_MS, length);
    }
}

/// Connects to `host`, which belongs to `cluster`, and completes the transport handshake.
///
/// Dropping the future gives the attempt up; it then counts as closed by us.
///
/// # Errors
/// See [`ConnectError`]. The failure has been counted for cluster and host.
pub async fn connect(
    cluster: &Arc<Cluster>,
    host: &Arc<Host>,
    options: &ConnectOptions,
) -> Result<Connected, ConnectError> {
    let cx = UpstreamCx::new(Arc::clone(cluster), Arc::clone(host));
    let established = establish(cluster, host, options);
    let result = match tokio::time::timeout(cluster.connect_timeout, established).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Timeout),
    };
    let start = cx.start;
    match result {
        Ok(Established { io, tls, remote_address, connect_end, handshake_end }) => {
            let took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            cluster.stats.record(ClusterStats::UPSTREAM_CX_CONNECT_MS, took);
            let local_address = local_address(&io.raw().socket, &remote_address);
            Ok(Connected {
                io,
                local_address,
                remote_address,
                tls,
                connect_start: start,
                connect_end,
                handshake_end,
                cx,
            })
        }
        Err(error) => {
            cx.failed(&error);
            Err(error)
        }
    }
}

struct Established {
    io: Io,
    tls: Option<TlsInfo>,
    remote_address: Address,
    connect_end: Instant,
    handshake_end: Instant,
}

async fn establish(cluster: &Cluster, host: &Host, options: &ConnectOptions) -> Result<Established, ConnectError> {
    let (socket, remote_address) = connect_any(cluster, host, options.source).await?;
    let connect_end = Instant::now();
    let transport = cluster.transport_socket(host);
    let (io, tls) =
        transport.connect(RawIo::new(socket), options, &host.hostname).await.map_err(ConnectError::Transport)?;
    let handshake_end = if tls.is_some() { Instant::now() } else { connect_end };
    Ok(Established { io, tls, remote_address, connect_end, handshake_end })
}

/// The first of the host's addresses that connects.
async fn connect_any(
    cluster: &Cluster,
    host: &Host,
    source: Option<UpstreamSource>,
) -> Result<(Socket, Address), ConnectError> {
    let Addresses { first, others } = host.addresses();
    if others.is_empty() {
        let socket = connect_one(cluster, &first, source).await?;
        return Ok((socket, first));
    }
    let order = cluster.sockets.happy_eyeballs.order(&first, &others);
    let mut waiting = order.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut failure = ConnectError::Local("no address".into());
    let mut next = pin!(tokio::time::sleep(Duration::ZERO));
    loop {
        tokio::select! {
            biased;
            Some((result, address)) = attempts.next() => match result {
                Ok(socket) => return Ok((socket, Address::clone(address))),
                Err(error) => {
                    failure = error;
                    next.as_mut().reset(tokio::time::Instant::now());
                }
            },
            () = next.as_mut(), if waiting.len() > 0 => {
                if let Some(address) = waiting.next() {
                    attempts.push(async move { (connect_one(cluster, address, source).await, address) });
                }
                next.as_mut().reset(tokio::time::Instant::now() + HAPPY_EYEBALLS_DELAY);
            }
            else => return Err(failure),
        }
    }
}

async fn connect_one(
    cluster: &Cluster,
    address: &Address,
    source: Option<UpstreamSource>,
) -> Result<Socket, ConnectError> {
    match address {
        Address::Ip(address) => {
            let socket = prepare(&cluster.sockets, *address, source).map_err(|error| {
                cluster.stats.inc(ClusterStats::BIND_ERRORS);
                ConnectError::Local(format!("cannot prepare a socket to {address}: {error}").into())
            })?;
            let tcp = socket.connect(*address).await.map_err(classify)?;
            Ok(Socket::Tcp(tcp))
        }
        Address::Pipe(path) => {
            let unix = match path.strip_prefix('@') {
                Some(name) => UnixStream::connect(format!("\0{name}")).await,
                None => UnixStream::connect(&**path).await,
            };
            unix.map(Socket::Unix).map_err(classify)
        }
    }
}

/// A socket that is bound and has its options, ready to connect to `to`.
fn prepare(sockets: &UpstreamSockets, to: SocketAddr, spoofed: Option<UpstreamSource>) -> io::Result<TcpSocket> {
    let domain = socket2::Domain::for_address(to);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM.nonblocking(), Some(socket2::Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    let configured = sockets.source(to.ip());
    let options = configured.map_or(&sockets.unbound, |source| &source.options);
    options.apply(&socket, to.ip(), SocketState::Prebind)?;
    // The downstream's address stands in for a configured one. Of the other family, bind(2) fails and so do we: an upstream
    // that expects the client's address must not see ours.
    let source = match spoofed {
        Some(UpstreamSource { address, mark }) => {
            spoof(&socket, address, mark)?;
            Some(SocketAddr::new(address, 0))
        }
        None => configured.map(|source| source.address),
    };
    if let Some(source) = source {
        if source.port() == 0 {
            // The port is then chosen at connect(2), where it only has to be unique together with the destination.
            let _ = sys::set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1i32.to_ne_bytes());
        }
        socket.bind(&source.into()).map_err(|e| io::Error::new(e.kind(), format!("cannot bind to {source}: {e}")))?;
    }
    options.apply(&socket, to.ip(), SocketState::Bound)?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

/// Lets the socket carry an address that is not ours.
fn spoof(socket: &socket2::Socket, address: IpAddr, mark: u32) -> io::Result<()> {
    let mut transparent = SocketOptions::default();
    transparent.transparent = Some(true);
    transparent.apply(socket, address, SocketState::Prebind)?;
    if mark != 0 {
        socket.set_mark(mark).map_err(|e| io::Error::new(e.kind(), format!("cannot set SO_MARK {mark}: {e}")))?;
    }
    Ok(())
}

/// What went wrong in connect(2), in Envoy's words.
fn classify(error: io::Error) -> ConnectError {
    let text = match error.raw_os_error() {
        // Without the number that `io::Error` prints after the text.
        Some(_) => error.to_string().split(" (os error").next().unwrap_or_default().to_owned(),
        None => error.to_string(),
    };
    match error.kind() {
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => {
            ConnectError::Local(format!("immediate connect error: {text}").into())
        }
        io::ErrorKind::NetworkUnreachable => ConnectError::Remote(format!("immediate connect error: {text}").into()),
        _ => ConnectError::Remote(format!("delayed connect error: {text}").into()),
    }
}

fn local_address(socket: &Socket, remote: &Address) -> Address {
    match socket {
        Socket::Tcp(tcp) => tcp.local_addr().map_or_else(|_| remote.clone(), Address::from),
        // A pipe's client end has no name; Envoy shows the server's.
        Socket::Unix(_) | Socket::Memory(_) => remote.clone(),
    }
}
