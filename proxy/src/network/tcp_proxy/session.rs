//! One proxied connection: cluster, host, connect, copy, close.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socket2::SockRef;
use tokio::time::{Instant, sleep, sleep_until};

use super::TcpProxy;
use super::relay::{Ended, Progress, Side, relay};
use crate::access_log::{AccessLogType, LogContext};
use crate::cluster::outlier::Outcome;
use crate::cluster::{Cluster, LbContext, Permit, Priority};
use crate::endpoint::Host;
use crate::net::{Io, Socket};
use crate::network::Connection;
use crate::pool::connect::{self, ClosedBy, ConnectError, Connected, UpstreamCx};
use crate::server::drain::{Drain, DrainState};
use crate::stats::names::{ClusterStats, TcpProxyStats};
use crate::stats::{GaugeGuard, StatBlock};
use crate::stream_info::{ConnectionInfo, DetectedClose, ResponseFlags, StreamInfo};
use crate::transport_socket::ConnectOptions;

/// Why there is no upstream connection. The numbers are Envoy's, and its spelling: it is in `%DOWNSTREAM_LOCAL_CLOSE_REASON%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InitFailure {
    ConnectFailed = 0,
    NoHealthyUpstream = 1,
    ResourceLimitExceeded = 2,
    NoRoute = 3,
}

impl InitFailure {
    fn local_close_reason(self) -> Cow<'static, str> {
        format!("tcp_initializion_failure:{}", self as u8).into()
    }
}

/// What ends a session from outside.
enum Cut {
    Idle,
    Duration,
    Drained,
}

pub(super) async fn run(proxy: Arc<TcpProxy>, connection: Connection) {
    let Connection { mut io, info, mut drain, buffer_limit, stream_info, guard: _guard } = connection;
    proxy.stats.inc(TcpProxyStats::DOWNSTREAM_CX_TOTAL);
    let stream_info = stream_info.unwrap_or_else(|| Rc::new(RefCell::new(StreamInfo::new(info.clone(), None))));
    let session = Session { proxy, info, stream_info, active: Cell::new(Instant::now()), buffer_limit };
    if session.proxy.access_log_options.flush_on_start {
        session.log(AccessLogType::TcpConnectionStart);
    }
    tokio::select! {
        () = session.serve(&mut io) => {}
        cut = session.cut(&mut drain) => session.cut_short(&cut),
    }
    session.end();
}

struct Session {
    proxy: Arc<TcpProxy>,
    info: Rc<ConnectionInfo>,
    stream_info: Rc<RefCell<StreamInfo>>,
    /// When something last moved.
    active: Cell<Instant>,
    buffer_limit: usize,
}

/// The counts of a stream on an upstream connection.
struct UpstreamStream {
    host: Arc<Host>,
    _active: GaugeGuard<ClusterStats>,
    _permit: Permit,
}

impl UpstreamStream {
    fn new(cluster: &Cluster, host: Arc<Host>, permit: Permit) -> Self {
        cluster.stats.inc(ClusterStats::UPSTREAM_RQ_TOTAL);
        host.stats.rq_total.fetch_add(1, Relaxed);
        host.stats.rq_active.fetch_add(1, Relaxed);
        let active = cluster.stats.gauge_guard(ClusterStats::UPSTREAM_RQ_ACTIVE);
        UpstreamStream { host, _active: active, _permit: permit }
    }
}

impl Drop for UpstreamStream {
    fn drop(&mut self) {
        self.host.stats.rq_active.fetch_sub(1, Relaxed);
    }
}

impl Session {
    async fn serve(&self, downstream: &mut Io) {
        let connected = match self.establish().await {
            Ok(connected) => connected,
            Err(failure) => {
                *self.info.local_close_reason.borrow_mut() = Some(failure.local_close_reason());
                return;
            }
        };
        let (Connected { io: mut upstream, cx, .. }, stream) = connected;
        if self.proxy.access_log_options.flush_on_connected {
            self.log(AccessLogType::TcpUpstreamConnected);
        }
        // An end that nobody tells (timeouts, a panic) is ours.
        cx.active_requests(true);
        let progress = Count { session: self, cluster: cx.cluster().clone() };
        let ended = relay(downstream, &mut upstream, self.buffer_limit, &progress).await;
        self.close(&ended, downstream, &upstream, &cx);
        drop((upstream, stream, cx));
    }

    /// An upstream connection, after as many attempts as are allowed.
    async fn establish(&self) -> Result<(Connected, UpstreamStream), InitFailure> {
        let proxy = &self.proxy;
        let slot = proxy.clusters.pick(fastrand::u64(..));
        let mut attempts = 0;
        loop {
            // Looked up again for each attempt: the cluster may have been replaced meanwhile.
            let Some(cluster) = slot.and_then(|slot| slot.load()) else {
                proxy.stats.inc(TcpProxyStats::DOWNSTREAM_CX_NO_ROUTE);
                return Err(self.fail(ResponseFlags::NO_CLUSTER_FOUND, InitFailure::NoRoute));
            };
            self.stream_info.borrow_mut().cluster = Some(cluster.clone());
            let breaker = cluster.breaker(Priority::Default);
            let Some(permit) = breaker.try_connection() else {
                cluster.stats.inc(ClusterStats::UPSTREAM_CX_OVERFLOW);
                return Err(self.fail(ResponseFlags::UPSTREAM_OVERFLOW, InitFailure::ResourceLimitExceeded));
            };
            let Some(host) = self.choose_host(&cluster) else {
                cluster.stats.inc(ClusterStats::UPSTREAM_CX_NONE_HEALTHY);
                return Err(self.fail(ResponseFlags::NO_HEALTHY_UPSTREAM, InitFailure::NoHealthyUpstream));
            };
            attempts += 1;
            self.attempt(&host, attempts);
            match self.connect(&cluster, &host).await {
                Ok(connected) => return Ok((connected, UpstreamStream::new(&cluster, host, permit))),
                Err(failed) => self.attempt_failed(failed),
            }
            drop(permit);
            if attempts >= proxy.max_connect_attempts {
                cluster.stats.inc(ClusterStats::UPSTREAM_CX_CONNECT_ATTEMPTS_EXCEEDED);
                return Err(self.fail(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED, InitFailure::ConnectFailed));
            }
            if let Some(backoff) = proxy.backoff {
                sleep(backoff.delay(attempts, fastrand::f64())).await;
            }
        }
    }

    fn choose_host(&self, cluster: &Cluster) -> Option<Arc<Host>> {
        let restored = self.info.local_address_restored.get();
        let original_dst = self.info.local_address.borrow().socket().filter(|_| restored);
        cluster.choose_host(&LbContext { original_dst, ..LbContext::default() }).ok()
    }

    /// One attempt. `None` says that too many connections are waited for already.
    async fn connect(&self, cluster: &Arc<Cluster>, host: &Arc<Host>) -> Result<Connected, Option<ConnectError>> {
        let stats = &cluster.stats;
        let Some(_pending) = cluster.breaker(Priority::Default).try_pending() else {
            stats.inc(ClusterStats::UPSTREAM_RQ_PENDING_OVERFLOW);
            return Err(None);
        };
        stats.inc(ClusterStats::UPSTREAM_RQ_PENDING_TOTAL);
        let _waiting =
            GaugeGuard::<ClusterStats, &StatBlock<ClusterStats>>::new(stats, ClusterStats::UPSTREAM_RQ_PENDING_ACTIVE);
        let options = ConnectOptions { source: self.info.upstream_source.get(), ..ConnectOptions::default() };
        match connect::connect(cluster, host, &options).await {
            Ok(mut connected) => {
                cluster.report(host, Outcome::ConnectedFinally);
                self.connected(&mut connected);
                Ok(connected)
            }
            Err(error) => {
                stats.inc(ClusterStats::UPSTREAM_RQ_PENDING_FAILURE_EJECT);
                match &error {
                    ConnectError::Timeout => cluster.report(host, Outcome::TimedOut),
                    ConnectError::Remote(_) | ConnectError::Transport(_) => cluster.report(host, Outcome::Failed),
                    ConnectError::Local(_) => {}
                }
                Err(Some(error))
            }
        }
    }

    fn attempt(&self, host: &Arc<Host>, attempts: u32) {
        let mut info = self.stream_info.borrow_mut();
        info.upstream.attempts = attempts;
        info.upstream.host = Some(host.clone());
        info.upstream.hosts_attempted.push(host.clone());
    }

    fn attempt_failed(&self, error: Option<ConnectError>) {
        let mut info = self.stream_info.borrow_mut();
        let Some(error) = error else { return };
        // What we could not even try is no failure of the upstream.
        if !matches!(error, ConnectError::Local(_)) {
            info.set_flag(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
        }
        info.upstream.transport_failure_reason = error.transport_failure_reason();
    }

    fn connected(&self, connected: &mut Connected) {
        let mut info = self.stream_info.borrow_mut();
        let upstream = &mut info.upstream;
        upstream.local_address = Some(connected.local_address.clone());
        upstream.remote_address = Some(connected.remote_address.clone());
        upstream.tls = connected.tls.take().map(Rc::new);
        upstream.timing.connect_start = Some(connected.connect_start);
        upstream.timing.connect_end = Some(connected.connect_end);
        upstream.timing.handshake_end = Some(connected.handshake_end);
        upstream.timing.pool_ready = Some(std::time::Instant::now());
        self.active.set(Instant::now());
    }

    fn fail(&self, flag: ResponseFlags, failure: InitFailure) -> InitFailure {
        self.stream_info.borrow_mut().set_flag(flag);
        failure
    }

    /// Passes a reset on, and notes who ended what.
    fn close(&self, ended: &Ended, downstream: &Io, upstream: &Io, cx: &UpstreamCx) {
        let mut info = self.stream_info.borrow_mut();
        match ended {
            Ended::Closed { last: Side::Upstream } => cx.closed_by(ClosedBy::Remote),
            Ended::Closed { last: Side::Downstream } => {}
            Ended::Reset(Side::Upstream) => {
                cx.closed_by(ClosedBy::Remote);
                info.set_flag(ResponseFlags::UPSTREAM_REMOTE_RESET);
                info.upstream.detected_close = DetectedClose::RemoteReset;
                self.info.detected_close.set(DetectedClose::LocalReset);
                reset(downstream);
            }
            Ended::Reset(Side::Downstream) => {
                self.info.detected_close.set(DetectedClose::RemoteReset);
                reset(upstream);
            }
            // Timed out, or a host became unreachable: the other side only sees an end.
            Ended::Failed(Side::Upstream) => cx.closed_by(ClosedBy::Remote),
            Ended::Failed(Side::Downstream) => {}
        }
    }

    /// Resolves when the session is to be ended whatever it does.
    async fn cut(&self, drain: &mut Drain) -> Cut {
        let proxy = &self.proxy;
        let idle = async {
            let Some(timeout) = proxy.idle_timeout else { return pending().await };
            loop {
                let deadline = self.active.get() + timeout;
                sleep_until(deadline).await;
                if self.active.get() + timeout <= deadline {
                    return;
                }
            }
        };
        let duration = async {
            let Some(limit) = proxy.max_downstream_connection_duration else { return pending().await };
            let jitter = proxy.max_downstream_connection_duration_jitter * fastrand::f64();
            sleep(limit + limit.mul_f64(jitter)).await;
        };
        tokio::select! {
            () = idle => Cut::Idle,
            () = duration => Cut::Duration,
            () = drain.reached(DrainState::Closing) => Cut::Drained,
            () = self.log_periodically(proxy.access_log_options.flush_interval) => Cut::Drained,
        }
    }

    fn cut_short(&self, cut: &Cut) {
        let reason = match cut {
            Cut::Idle => {
                self.proxy.stats.inc(TcpProxyStats::IDLE_TIMEOUT);
                "tcp_session_idle_timeout"
            }
            Cut::Duration => {
                self.proxy.stats.inc(TcpProxyStats::MAX_DOWNSTREAM_CONNECTION_DURATION);
                self.stream_info.borrow_mut().set_flag(ResponseFlags::DURATION_TIMEOUT);
                "max_connection_duration_reached"
            }
            Cut::Drained => {
                self.proxy.stats.inc(TcpProxyStats::DOWNSTREAM_CX_DRAIN_CLOSE);
                "tcp_proxy_drain_close"
            }
        };
        *self.info.local_close_reason.borrow_mut() = Some(reason.into());
        let mut info = self.stream_info.borrow_mut();
        if info.upstream.local_address.is_some() {
            info.upstream.local_close_reason = Some(reason.into());
        }
    }

    /// Never resolves.
    async fn log_periodically(&self, interval: Option<Duration>) {
        let Some(interval) = interval else { return pending().await };
        loop {
            sleep(interval).await;
            self.log(AccessLogType::TcpPeriodic);
        }
    }

    fn log(&self, kind: AccessLogType) {
        let info = self.stream_info.borrow();
        let context = LogContext { request: None, response: None, trailers: None, info: &info, kind };
        self.proxy.access_log.iter().for_each(|log| log.log(&context));
    }

    fn end(&self) {
        self.stream_info.borrow_mut().end = Some(std::time::Instant::now());
        self.log(AccessLogType::TcpConnectionEnd);
    }
}

/// Counts bytes as they move.
struct Count<'a> {
    session: &'a Session,
    cluster: Arc<Cluster>,
}

impl Progress for Count<'_> {
    fn moved(&self, from: Side, n: usize) {
        let (proxy, cluster) = (&self.session.proxy.stats, &self.cluster.stats);
        let n = n as u64;
        let mut info = self.session.stream_info.borrow_mut();
        match from {
            Side::Downstream => {
                proxy.add(TcpProxyStats::DOWNSTREAM_CX_RX_BYTES_TOTAL, n);
                cluster.add(ClusterStats::UPSTREAM_CX_TX_BYTES_TOTAL, n);
                info.bytes_received += n;
                info.downstream_wire_bytes_received += n;
                info.upstream.wire_bytes_sent += n;
            }
            Side::Upstream => {
                proxy.add(TcpProxyStats::DOWNSTREAM_CX_TX_BYTES_TOTAL, n);
                cluster.add(ClusterStats::UPSTREAM_CX_RX_BYTES_TOTAL, n);
                info.bytes_sent += n;
                info.downstream_wire_bytes_sent += n;
                info.upstream.wire_bytes_received += n;
            }
        }
        drop(info);
        self.session.active.set(Instant::now());
    }
}

/// Lets the close of this connection be a reset: its peer must not take what it got for everything.
fn reset(io: &Io) {
    if let Socket::Tcp(tcp) = &io.raw().socket {
        let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}
