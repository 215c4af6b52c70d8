use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::config::HcmConfig;
use super::deadlines::LazyTimer;
use super::{local_reply, response_headers, stream};
use crate::access_log::{AccessLogType, LogContext};
use crate::cluster::ClusterManager;
use crate::http::check::details;
use crate::http::{
    BadRequest, BadRequestKind, CodecService, Protocol, Reply, Request, RequestHead, ResetReason, ResponseHead,
    StreamCtl,
};
use crate::http_filters::LocalReply;
use crate::server::drain::{Drain, DrainState};
use crate::stats::StatBlock;
use crate::stats::names::{HttpStats, ListenerHttpStats};
use crate::stream_info::{ConnectionInfo, ResponseFlags, StreamInfo};

/// One downstream HTTP connection: what its streams share.
pub struct HcmConnection {
    pub config: Arc<HcmConfig>,
    pub info: Rc<ConnectionInfo>,
    pub clusters: Arc<ClusterManager>,
    pub drain: Drain,
    listener_stats: Option<StatBlock<ListenerHttpStats>>,
    /// Of the listener: how much of a request is kept to send it again.
    pub buffer_limit: usize,
    timer: RefCell<Option<LazyTimer>>,
    active: Cell<u32>,
    tunnels: Cell<u32>,
    protocol: Protocol,
    /// Last, because what it reads of `info` must be final.
    _counted: Counted,
}

/// A connection in the statistics, from when it is accepted and before its protocol is known, until it is dropped.
pub struct Counted {
    config: Arc<HcmConfig>,
    info: Rc<ConnectionInfo>,
    over_tls: bool,
}

impl Counted {
    pub fn new(config: Arc<HcmConfig>, info: Rc<ConnectionInfo>) -> Self {
        let over_tls = info.tls.get().is_some();
        let stats = &config.stats;
        stats.inc(HttpStats::DOWNSTREAM_CX_TOTAL);
        stats.gauge_inc(HttpStats::DOWNSTREAM_CX_ACTIVE);
        if over_tls {
            stats.inc(HttpStats::DOWNSTREAM_CX_SSL_TOTAL);
            stats.gauge_inc(HttpStats::DOWNSTREAM_CX_SSL_ACTIVE);
        }
        Counted { config, info, over_tls }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let stats = &self.config.stats;
        stats.gauge_dec(HttpStats::DOWNSTREAM_CX_ACTIVE);
        if self.over_tls {
            stats.gauge_dec(HttpStats::DOWNSTREAM_CX_SSL_ACTIVE);
        }
        stats.inc(HttpStats::DOWNSTREAM_CX_DESTROY);
        let length = Instant::now().saturating_duration_since(self.info.start);
        stats.record(HttpStats::DOWNSTREAM_CX_LENGTH_MS, length.as_millis() as u64);
        stats.add(HttpStats::DOWNSTREAM_CX_RX_BYTES_TOTAL, self.info.bytes_received.get());
        stats.add(HttpStats::DOWNSTREAM_CX_TX_BYTES_TOTAL, self.info.bytes_sent.get());
    }
}

impl HcmConnection {
    pub fn new(
        counted: Counted,
        clusters: Arc<ClusterManager>,
        drain: Drain,
        protocol: Protocol,
        listener_stats: Option<StatBlock<ListenerHttpStats>>,
        buffer_limit: usize,
    ) -> Rc<Self> {
        let (config, info) = (counted.config.clone(), counted.info.clone());
        let stats = &config.stats;
        let (total, active) = per_protocol(protocol);
        stats.inc(total);
        stats.gauge_inc(active);
        Rc::new(HcmConnection {
            config,
            info,
            clusters,
            drain,
            listener_stats,
            buffer_limit,
            timer: RefCell::default(),
            active: Cell::new(0),
            tunnels: Cell::new(0),
            protocol,
            _counted: counted,
        })
    }

    /// The timer of the last stream, which is likely still armed for a time before the next one's limits.
    pub fn take_timer(&self) -> LazyTimer {
        self.timer.take().unwrap_or_default()
    }

    pub fn stream_started(&self) {
        self.active.set(self.active.get() + 1);
    }

    pub fn stream_ended(&self, timer: LazyTimer) {
        self.active.set(self.active.get().saturating_sub(1));
        *self.timer.borrow_mut() = Some(timer);
    }

    pub fn tunnel_started(&self) {
        self.tunnels.set(self.tunnels.get() + 1);
    }

    /// The listener drains: this is the last response of an HTTP/1 connection. (HTTP/2 says so by GOAWAY, in its codec.)
    pub fn should_close_after_response(&self) -> bool {
        let closes = self.protocol != Protocol::Http2 && self.drain.state() >= DrainState::Draining;
        if closes {
            self.config.stats.inc(HttpStats::DOWNSTREAM_CX_DRAIN_CLOSE);
        }
        closes
    }

    pub fn count_code(&self, code: u16) {
        if let Some(stats) = &self.listener_stats {
            stats.inc(ListenerHttpStats::DOWNSTREAM_RQ_COMPLETED);
            if let Some(class) = ListenerHttpStats::downstream_rq_class(code) {
                stats.inc(class);
            }
        }
    }
}

fn per_protocol(protocol: Protocol) -> (crate::stats::Counter<HttpStats>, crate::stats::Gauge<HttpStats>) {
    match protocol {
        Protocol::Http2 => (HttpStats::DOWNSTREAM_CX_HTTP2_TOTAL, HttpStats::DOWNSTREAM_CX_HTTP2_ACTIVE),
        Protocol::Http10 | Protocol::Http11 => {
            (HttpStats::DOWNSTREAM_CX_HTTP1_TOTAL, HttpStats::DOWNSTREAM_CX_HTTP1_ACTIVE)
        }
    }
}

impl Drop for HcmConnection {
    fn drop(&mut self) {
        self.config.stats.gauge_dec(per_protocol(self.protocol).1);
    }
}

impl CodecService for HcmConnection {
    fn call(self: Rc<Self>, request: Request) -> impl Future<Output = Reply> {
        stream::call(self, request)
    }

    fn bad_request(self: Rc<Self>, bad: BadRequest) -> Reply {
        let config = &self.config;
        let stats = &config.stats;
        let mut info = self.started(bad.protocol, bad.wire_received);
        let reply = self.refusal(&bad);
        info.response_code_details = Some(reply.details.clone());
        let flags = reply.flags;
        let (mut head, body) =
            local_reply::render(reply, bad.head.as_deref(), &mut info, &config.local_reply, |_, _| {});
        // Envoy notes the flag after it has made the reply, which therefore cannot print it.
        info.flags = flags;
        response_headers::mutate(&mut head, bad.head.as_deref(), config, info.start);
        info.response_code = head.status.as_u16();
        info.bytes_sent = body.exact_len().unwrap_or(0);
        if bad.kind != BadRequestKind::Protocol {
            stats.inc(HttpStats::DOWNSTREAM_RQ_RESPONSE_BEFORE_RQ_COMPLETE);
            stats.inc(HttpStats::DOWNSTREAM_RQ_RX_RESET);
        }
        stats.inc(HttpStats::DOWNSTREAM_RQ_COMPLETED);
        if let Some(class) = HttpStats::downstream_rq_class(info.response_code) {
            stats.inc(class);
        }
        self.count_code(info.response_code);
        if !config.access_logs.is_empty() {
            let mut logged = head.clone();
            logged.headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
            self.log_refused(bad.head.as_deref(), Some(&logged), &mut info);
        }
        Reply { head, body, close_connection: true, stream: Rc::new(()) }
    }

    fn abandoned(self: Rc<Self>, wire_received: u64) {
        let mut info = self.started(self.protocol, wire_received);
        info.set_flag(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
        info.response_code_details = Some(details::DOWNSTREAM_REMOTE_DISCONNECT.into());
        self.config.stats.inc(HttpStats::DOWNSTREAM_RQ_RX_RESET);
        self.log_refused(None, None, &mut info);
    }

    fn connection(&self) -> &Rc<ConnectionInfo> {
        &self.info
    }
}

impl HcmConnection {
    /// The facts of a stream that never became a request. As in Envoy it is one from its first byte, and is counted so.
    fn started(&self, protocol: Protocol, wire_received: u64) -> StreamInfo {
        let stats = &self.config.stats;
        stats.inc(HttpStats::DOWNSTREAM_RQ_TOTAL);
        stats.inc(match protocol {
            Protocol::Http2 => HttpStats::DOWNSTREAM_RQ_HTTP2_TOTAL,
            Protocol::Http10 | Protocol::Http11 => HttpStats::DOWNSTREAM_RQ_HTTP1_TOTAL,
        });
        let mut info = StreamInfo::new(self.info.clone(), Some(protocol));
        info.downstream_wire_bytes_received = wire_received;
        info
    }

    fn refusal(&self, bad: &BadRequest) -> LocalReply {
        let stats = &self.config.stats;
        let details = bad.details.clone();
        match bad.kind {
            BadRequestKind::Protocol => {
                stats.inc(HttpStats::DOWNSTREAM_CX_PROTOCOL_ERROR);
                let body = bad.status.canonical_reason().unwrap_or_default();
                LocalReply::new(bad.status, body, details).flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR)
            }
            BadRequestKind::HeadTimeout => {
                stats.inc(HttpStats::DOWNSTREAM_RQ_HEADER_TIMEOUT);
                LocalReply::new(bad.status, "request header timeout", details)
            }
            BadRequestKind::StreamIdleTimeout => {
                stats.inc(HttpStats::DOWNSTREAM_RQ_IDLE_TIMEOUT);
                LocalReply::new(bad.status, "stream timeout", details).flag(ResponseFlags::STREAM_IDLE_TIMEOUT)
            }
            BadRequestKind::RequestTimeout => {
                stats.inc(HttpStats::DOWNSTREAM_RQ_TIMEOUT);
                LocalReply::new(bad.status, "request timeout", details)
            }
            BadRequestKind::MaxDuration => {
                stats.inc(HttpStats::DOWNSTREAM_RQ_MAX_DURATION_REACHED);
                LocalReply::new(bad.status, "downstream duration timeout", details)
            }
        }
    }

    fn log_refused(&self, request: Option<&RequestHead>, response: Option<&ResponseHead>, info: &mut StreamInfo) {
        info.end = Some(Instant::now());
        let kind = AccessLogType::DownstreamEnd;
        let context = LogContext { request, response, trailers: None, info, kind };
        self.config.access_logs.iter().for_each(|log| log.log(&context));
    }
}

/// A stream that the client broke off: flags, details and counters as Envoy's.
pub fn note_downstream_reset(
    info: &mut StreamInfo,
    reason: ResetReason,
    ctl: &StreamCtl,
    stats: &StatBlock<HttpStats>,
) {
    // However it ended: Envoy's own resets come back to it too.
    stats.inc(HttpStats::DOWNSTREAM_RQ_RX_RESET);
    let own_details = ctl.reset_details.borrow().clone();
    match reason {
        ResetReason::RemoteReset | ResetReason::RemoteRefusedStreamReset => {
            info.set_flag(ResponseFlags::DOWNSTREAM_REMOTE_RESET);
            info.response_code_details = Some(own_details.unwrap_or_else(|| "http2.remote_reset".into()));
        }
        ResetReason::ProtocolError => {
            info.set_flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR);
            if let Some(details) = own_details {
                info.response_code_details = Some(details);
            }
        }
        ResetReason::LocalReset => {
            stats.inc(HttpStats::DOWNSTREAM_RQ_TX_RESET);
            if let Some(details) = own_details {
                info.response_code_details = Some(details);
            }
        }
        _ => {
            info.set_flag(ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION);
            info.response_code_details = Some(own_details.unwrap_or_else(|| "downstream_remote_disconnect".into()));
        }
    }
}
