//! The life of a connection on its worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;

use super::{Active, Incoming, Open, WorkerListeners};
use crate::access_log::{AccessLogType, LogContext};
use crate::filter_chain::FilterChain;
use crate::listener::Listener;
use crate::listener::connections::ConnectionPlace;
use crate::net::{Io, RawIo};
use crate::network::{Connection, NetworkStep};
use crate::server::drain::DrainState;
use crate::stats::names::{ListenerStats, WorkerListenerStats};
use crate::stats::{GaugeGuard, StatBlock};
use crate::stream_info::{ConnectionInfo, ResponseFlags, StreamInfo};
use crate::transport_socket::Downstream;

/// The bound on handshakes where `transport_socket_connect_timeout` sets none. Envoy has none; a silent client would hold
/// a descriptor and a TLS session for ever.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

impl WorkerListeners {
    /// From accept to the terminal filter, which serves the connection to its end; none if it ended before. `hand_off`: whether the connection may still go to the listener of its original destination.
    pub(super) async fn serve(
        self: Rc<Self>,
        active: Rc<Active>,
        mut incoming: Incoming,
        mut hand_off: bool,
    ) -> Option<LocalBoxFuture<'static, ()>> {
        let mut active = active;
        loop {
            let listener = incoming.open.listener.clone();
            let waiting = GaugeGuard::<ListenerStats, &StatBlock<ListenerStats>>::new(
                &listener.stats,
                ListenerStats::DOWNSTREAM_PRE_CX_ACTIVE,
            );
            if !incoming.run_listener_filters(&listener).await {
                log_without_chain(&listener, incoming.info, None);
                return None;
            }
            drop(waiting);
            let restored = incoming.info.local_address_restored.get();
            if !(hand_off && restored && listener.hand_off_restored_destination_connections) {
                break;
            }
            let owner = self.find(&incoming.info.local_address.borrow()).filter(|owner| owner.id != active.id);
            let Some(owner) = owner else { break };
            hand_off = false;
            incoming = incoming.rehome(owner.listener(), self.index);
            if incoming.open.worker != self.index {
                self.dispatch(&owner, incoming, false);
                return None;
            }
            active = owner;
        }
        drop(active);
        serve_chain(incoming, self.index).await
    }
}

impl Incoming {
    /// The same connection as one of another listener.
    fn rehome(mut self, listener: Arc<Listener>, worker: usize) -> Self {
        self.info.listener_name = listener.name.clone();
        self.info.direction = listener.direction;
        let of_process = self.open.of_process.take();
        if let Some(of_listener) = listener.open.acquire(false) {
            self.open = Open::new(listener, worker, of_listener, of_process);
        }
        self
    }
}

async fn serve_chain(incoming: Incoming, worker: usize) -> Option<LocalBoxFuture<'static, ()>> {
    let Incoming { raw, info, open } = incoming;
    let listener = open.listener.clone();
    if info.transport_protocol.get().is_empty() {
        info.transport_protocol.set("raw_buffer");
    }
    let Some(chain) = listener.chains.find(&info).cloned() else {
        let remote = info.remote_address.borrow();
        tracing::debug!("listener {}: closing connection from {remote}: no matching filter chain found", listener.name);
        listener.stats.inc(ListenerStats::NO_FILTER_CHAIN_MATCH);
        drop(remote);
        log_without_chain(&listener, info, Some((ResponseFlags::NO_ROUTE_FOUND, "filter_chain_not_found")));
        return None;
    };
    *info.filter_chain_name.borrow_mut() = Some(chain.name.clone());
    let info = Rc::new(info);
    let guard = ConnectionGuard::new(open, &chain, worker, &info);
    let io = handshake(&chain, raw, &info, &listener).await?;
    for filter in &chain.filters {
        let NetworkStep::Close(close) = filter.on_new_connection(&info) else { continue };
        *info.termination_details.borrow_mut() = close.termination_details;
        *info.local_close_reason.borrow_mut() = close.local_close_reason;
        if let Some(info) = &guard.stream_info {
            info.borrow_mut().set_flag(close.flags);
        }
        if let Some(delay) = close.delay {
            let mut drain = chain.drain.subscribe();
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = drain.reached(DrainState::Closing) => {}
            }
        }
        return None;
    }
    let connection = Connection {
        io,
        info,
        drain: chain.drain.subscribe(),
        buffer_limit: listener.per_connection_buffer_limit_bytes,
        stream_info: guard.stream_info.clone(),
        guard: Box::new(guard),
    };
    Some(chain.terminal.clone().serve(connection))
}

async fn handshake(chain: &FilterChain, raw: RawIo, info: &ConnectionInfo, listener: &Listener) -> Option<Io> {
    if let Downstream::Raw = chain.transport {
        return Some(Io::Raw(raw));
    }
    let limit = chain.transport_connect_timeout.unwrap_or(HANDSHAKE_TIMEOUT);
    match tokio::time::timeout(limit, chain.transport.accept(raw, info)).await {
        Ok(Ok(io)) => {
            info.handshake_done.set(Some(Instant::now()));
            Some(io)
        }
        Ok(Err(error)) => {
            let remote = info.remote_address.borrow();
            tracing::debug!("listener {}: handshake with {remote} failed: {error}", listener.name);
            *info.transport_failure_reason.borrow_mut() = Some(error.reason);
            None
        }
        Err(_) => {
            listener.stats.inc(ListenerStats::DOWNSTREAM_CX_TRANSPORT_SOCKET_CONNECT_TIMEOUT);
            *info.transport_failure_reason.borrow_mut() = Some("connect timeout".into());
            None
        }
    }
}

/// What a connection that has a filter chain adds to the statistics, and takes away again.
struct ConnectionGuard {
    open: Open,
    _of_chain: Option<ConnectionPlace>,
    worker: usize,
    start: Instant,
    /// For the listener's access log, if it has one.
    stream_info: Option<Rc<RefCell<StreamInfo>>>,
}

impl ConnectionGuard {
    fn new(open: Open, chain: &FilterChain, worker: usize, info: &Rc<ConnectionInfo>) -> Self {
        let stats = &open.listener.stats;
        stats.inc(ListenerStats::DOWNSTREAM_CX_TOTAL);
        stats.gauge_inc(ListenerStats::DOWNSTREAM_CX_ACTIVE);
        if let Some(own) = open.listener.worker_stats.get(worker) {
            own.inc(WorkerListenerStats::DOWNSTREAM_CX_TOTAL);
            own.gauge_inc(WorkerListenerStats::DOWNSTREAM_CX_ACTIVE);
        }
        let logs = !open.listener.access_log.is_empty();
        let stream_info = logs.then(|| Rc::new(RefCell::new(StreamInfo::new(info.clone(), None))));
        ConnectionGuard { open, _of_chain: chain.open.acquire(false), worker, start: Instant::now(), stream_info }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let stats = &self.open.listener.stats;
        stats.gauge_dec(ListenerStats::DOWNSTREAM_CX_ACTIVE);
        stats.inc(ListenerStats::DOWNSTREAM_CX_DESTROY);
        let length = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        stats.record(ListenerStats::DOWNSTREAM_CX_LENGTH_MS, length);
        if let Some(own) = self.open.listener.worker_stats.get(self.worker) {
            own.gauge_dec(WorkerListenerStats::DOWNSTREAM_CX_ACTIVE);
        }
        if let Some(info) = &self.stream_info {
            let mut info = info.borrow_mut();
            info.end.get_or_insert_with(Instant::now);
            log(&self.open.listener, &info);
        }
    }
}

/// A connection that no chain served; one that matched none is logged like a request without a route.
fn log_without_chain(listener: &Listener, info: ConnectionInfo, why: Option<(ResponseFlags, &'static str)>) {
    if listener.access_log.is_empty() {
        return;
    }
    let mut info = StreamInfo::new(Rc::new(info), None);
    if let Some((flag, details)) = why {
        info.set_flag(flag);
        info.response_code_details = Some(details.into());
    }
    info.end = Some(Instant::now());
    log(listener, &info);
}

fn log(listener: &Listener, info: &StreamInfo) {
    let context = LogContext { request: None, response: None, trailers: None, info, kind: AccessLogType::NotSet };
    listener.access_log.iter().for_each(|log| log.log(&context));
}
