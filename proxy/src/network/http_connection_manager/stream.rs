//! One request on its way through the connection manager: checks and header work, filters, router, and back.
//!
//! The codec calls [`Connection::call`]; the future it gets holds the whole request, and dropping it is how a request
//! is cancelled. [`Stream`] is what outlives that future: the reply's body and the codec keep it until the last byte is
//! written, and its `Drop` ([`end`]) is the one exit, where gauges fall and the access log is written.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Method, StatusCode};

use super::config::{FilterChain, HcmConfig, NamedFilter, StripPort, Upgrade};
use super::connection::HcmConnection;
use super::deadlines::{Deadlines, Due, Expired, LazyTimer};
use super::{is_grpc, local_reply, request_headers, response_headers};
use crate::access_log::AccessLogType;
use crate::http::path::{self, PathVerdict};
use crate::http::{Body, Protocol, Reply, Request, RequestHead, ResponseHead, StreamCtl};
use crate::http_filters::router::{self, Outcome, RouterStream, Timeouts};
use crate::http_filters::{LocalReply, Step, StreamCx};
use crate::route::{Action, RouteMatch};
use crate::stats::names::HttpStats;
use crate::stream_info::{ResponseFlags, StreamInfo};

mod end;

use end::WatchedBody;

const GRPC_DEADLINE_EXCEEDED: u16 = 4;

/// A request's state from its head to its access log.
pub struct Stream {
    pub connection: Rc<HcmConnection>,
    pub ctl: Rc<StreamCtl>,
    pub head: RefCell<RequestHead>,
    pub cx: RefCell<StreamCx>,
    pub deadlines: Deadlines,
    timer: RefCell<LazyTimer>,
    /// The response as it was sent, kept only when an access log may ask for it.
    response: RefCell<Option<ResponseHead>>,
    trailers: RefCell<Option<HeaderMap>>,
    responded: Cell<bool>,
    /// Refused before Envoy looks at the end of the request, which therefore never ends for it.
    refused: Cell<bool>,
    /// Refused by the connection manager with 400: the messages that follow are not to be trusted either.
    malformed: Cell<bool>,
    /// Broken off by this side after the response's head.
    cut: Cell<bool>,
    /// The response began before the request was complete.
    early: Cell<bool>,
    request_ended: Cell<bool>,
    /// The response is to name the route's operation.
    decorated: Cell<bool>,
    /// It passes the filters of an upgrade, whatever comes of it.
    upgrading: Cell<bool>,
    /// Which of `upgrades` has the filters that it passes.
    upgrade: Cell<Option<usize>>,
    /// Which filters it does not pass, as its first route says; `None` when it passes all.
    skipped: OnceCell<Option<Box<[bool]>>>,
}

impl Stream {
    pub fn new(connection: Rc<HcmConnection>, ctl: Rc<StreamCtl>, head: RequestHead) -> Rc<Self> {
        let info = StreamInfo::new(connection.info.clone(), Some(head.protocol));
        let stats = &connection.config.stats;
        stats.inc(HttpStats::DOWNSTREAM_RQ_TOTAL);
        stats.gauge_inc(HttpStats::DOWNSTREAM_RQ_ACTIVE);
        stats.inc(match head.protocol {
            Protocol::Http2 => HttpStats::DOWNSTREAM_RQ_HTTP2_TOTAL,
            Protocol::Http10 | Protocol::Http11 => HttpStats::DOWNSTREAM_RQ_HTTP1_TOTAL,
        });
        connection.stream_started();
        let deadlines = Deadlines::new(info.start);
        let timer = RefCell::new(connection.take_timer());
        Rc::new(Stream {
            ctl,
            head: RefCell::new(head),
            cx: RefCell::new(StreamCx { info, route: None, random: fastrand::u64(..), state: Vec::new() }),
            deadlines,
            timer,
            response: RefCell::default(),
            trailers: RefCell::default(),
            responded: Cell::new(false),
            refused: Cell::new(false),
            malformed: Cell::new(false),
            cut: Cell::new(false),
            early: Cell::new(false),
            request_ended: Cell::new(false),
            decorated: Cell::new(false),
            upgrading: Cell::new(false),
            upgrade: Cell::new(None),
            skipped: OnceCell::new(),
            connection,
        })
    }

    fn config(&self) -> &HcmConfig {
        &self.connection.config
    }

    /// Answers the request, or whichever time limit runs out first.
    pub async fn answer(self: &Rc<Self>, body: Body) -> Reply {
        let config = self.config();
        let start = self.cx.borrow().info.start;
        self.deadlines.set_idle(config.stream_idle_timeout);
        self.deadlines.set_request(config.request_timeout.and_then(|limit| start.checked_add(limit)));
        self.deadlines.set_log(self.next_log(start));
        self.deadlines.set_max_duration(config.max_stream_duration.and_then(|limit| start.checked_add(limit)));
        if body.is_end_stream() && self.ctl.request_complete.get().is_none() {
            self.ctl.request_complete.set(Some(start));
        }
        let outcome = {
            let mut work = pin!(self.process(body));
            poll_fn(|cx| {
                let outcome = work.as_mut().poll(cx);
                if let Some(reply) = self.broken_request() {
                    return Poll::Ready(reply.into());
                }
                match outcome {
                    Poll::Ready(outcome) => Poll::Ready(outcome),
                    Poll::Pending => self.poll_deadline(cx).map(|which| self.expired(which)),
                }
            })
            .await
        };
        match outcome {
            Outcome::Reply(reply) => self.local(*reply),
            Outcome::Response(head, body) => self.respond(head, body),
        }
    }

    /// The reply to a request whose body turned out to be no HTTP, whatever became of it upstream.
    fn broken_request(&self) -> Option<LocalReply> {
        let status = self.ctl.reset_status.get()?;
        let details = self.ctl.reset_details.borrow().clone().unwrap_or_default();
        self.config().stats.inc(HttpStats::DOWNSTREAM_CX_PROTOCOL_ERROR);
        let body = status.canonical_reason().unwrap_or_default();
        Some(LocalReply::new(status, body, details).flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR))
    }

    fn poll_deadline(&self, cx: &mut Context<'_>) -> Poll<Expired> {
        loop {
            self.note_request_end();
            let which = std::task::ready!(self.timer.borrow_mut().poll(cx, &self.deadlines));
            if let Due::Limit(which) = which {
                return Poll::Ready(which);
            }
            self.log(AccessLogType::DownstreamPeriodic);
            self.deadlines.set_log(self.next_log(Instant::now()));
        }
    }

    fn note_request_end(&self) {
        if !self.request_ended.get()
            && let Some(at) = self.ctl.request_complete.get()
        {
            self.request_ended.set(true);
            self.deadlines.request_complete(at);
        }
    }

    /// The reply for a limit that ran out before there was a response.
    fn expired(&self, which: Expired) -> Outcome {
        let stats = &self.config().stats;
        let waiting_for_response = self.ctl.request_complete.get().is_some();
        let status = if waiting_for_response { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::REQUEST_TIMEOUT };
        match which {
            Expired::Idle => {
                stats.inc(HttpStats::DOWNSTREAM_RQ_IDLE_TIMEOUT);
                LocalReply::new(status, "stream timeout", "stream_idle_timeout")
                    .flag(ResponseFlags::STREAM_IDLE_TIMEOUT)
                    .into()
            }
            Expired::Request => {
                stats.inc(HttpStats::DOWNSTREAM_RQ_TIMEOUT);
                LocalReply::new(status, "request timeout", "request_overall_timeout").into()
            }
            Expired::MaxDuration => {
                stats.inc(HttpStats::DOWNSTREAM_RQ_MAX_DURATION_REACHED);
                let mut reply = LocalReply::new(status, "downstream duration timeout", "max_duration_timeout");
                reply.grpc_status = Some(GRPC_DEADLINE_EXCEEDED);
                reply.into()
            }
            Expired::Route => {
                let cx = self.cx.borrow();
                router::timed_out(cx.route.as_ref(), &cx.info, &self.head.borrow(), self.responded.get()).into()
            }
            Expired::RouteMaxDuration => router::max_stream_duration().into(),
        }
    }

    /// From a checked head to an outcome.
    async fn process(self: &Rc<Self>, mut body: Body) -> Outcome {
        if let Some(reply) = self.prepare() {
            self.malformed.set(reply.status == StatusCode::BAD_REQUEST);
            return reply.into();
        }
        if self.config().flush_access_log_on_new_request {
            self.note_cluster();
            self.log(AccessLogType::DownstreamStart);
        }
        let connection = self.connection.clone();
        let chain = match self.chain(&connection.config) {
            Ok(chain) => chain,
            Err(reply) => return Outcome::Reply(reply),
        };
        let skipped = self.skipped(chain, self.cx.borrow().route.as_ref());
        for filter in passed(chain, skipped) {
            let mut step = filter.filter.request(&mut self.head.borrow_mut(), &mut body, &mut self.cx.borrow_mut());
            loop {
                match step {
                    Step::Continue => break,
                    Step::Reply(reply) => return Outcome::Reply(reply),
                    Step::Wait(wait) => {
                        let (kept, next) = wait.await;
                        if let Some(kept) = kept {
                            body = kept;
                        }
                        step = next;
                    }
                }
            }
        }
        let route = self.cx.borrow().route.clone();
        router::route(&chain.router, &**self, route, body).await
    }

    /// Everything before the filters: what the head must be, who sent it, where it goes.
    fn prepare(&self) -> Option<LocalReply> {
        let config = self.config();
        let connection = &self.connection;
        let head = &mut *self.head.borrow_mut();
        let cx = &mut *self.cx.borrow_mut();
        if head.headers.get(http::header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"))
            && !config.proxy_100_continue
        {
            head.headers.remove(http::header::EXPECT);
            count_code(config, connection, StatusCode::CONTINUE.as_u16());
            self.ctl.informational.borrow_mut().push_back(ResponseHead::new(StatusCode::CONTINUE));
            self.ctl.wake();
        }
        if head.method == Method::CONNECT && head.upgrade.is_some() {
            // Extended CONNECT (RFC 8441) is from here on what HTTP/1 calls an upgrade, as in Envoy.
            head.method = Method::GET;
        }
        if head.authority.is_empty() {
            self.refused.set(true);
            return Some(LocalReply::new(StatusCode::BAD_REQUEST, "", "missing_host_header"));
        }
        if let Some(reply) = check_head(head) {
            config.stats.inc(HttpStats::DOWNSTREAM_RQ_NON_RELATIVE_PATH);
            return Some(reply);
        }
        if head.method != Method::CONNECT || !head.path.is_empty() {
            match path::normalize(&head.path, &config.path) {
                PathVerdict::Unchanged => {}
                PathVerdict::Changed(path) => head.path = path,
                PathVerdict::Reject(path) => {
                    head.path = path;
                    config.stats.inc(HttpStats::DOWNSTREAM_RQ_FAILED_PATH_NORMALIZATION);
                    return Some(LocalReply::new(StatusCode::BAD_REQUEST, "", "path_normalization_failed"));
                }
                // A gRPC client follows no redirects.
                PathVerdict::Redirect(path) if is_grpc(&head.headers) => {
                    head.path = path;
                    config.stats.inc(HttpStats::DOWNSTREAM_RQ_FAILED_PATH_NORMALIZATION);
                    return Some(LocalReply::new(StatusCode::BAD_REQUEST, "", "path_normalization_failed"));
                }
                PathVerdict::Redirect(path) => {
                    head.path.clone_from(&path);
                    config.stats.inc(HttpStats::DOWNSTREAM_RQ_REDIRECTED_WITH_NORMALIZED_PATH);
                    return Some(path_redirect(&path));
                }
            }
        }
        self.normalize_host(head);
        for mutation in &config.early_header_mutations {
            mutation.apply(head, &cx.info);
        }
        match request_headers::mutate(head, &connection.info, config, config.local_ip) {
            Ok(origin) => cx.info.remote_address = Some(origin.remote),
            Err(status) => {
                config.stats.inc(HttpStats::DOWNSTREAM_RQ_REJECTED_VIA_IP_DETECTION);
                return Some(LocalReply::new(status, "", "rejecting_because_detection_failed"));
            }
        }
        cx.route = config.routes.find(head, &cx.info, cx.random);
        self.note_route(head, cx);
        if let Some(tracing) = &config.tracing {
            cx.info.trace_reason = tracing.decide(&mut head.headers, config.request_id, fastrand::u64(..));
            self.decorated.set(tracing.decorate_request(&mut head.headers, cx.route.as_ref()));
        }
        cx.info.request_id = head
            .headers
            .get(request_headers::X_REQUEST_ID)
            .filter(|_| !config.access_logs.is_empty())
            .and_then(|id| id.to_str().ok())
            .map(Into::into);
        None
    }

    fn normalize_host(&self, head: &mut RequestHead) {
        let config = self.config();
        if config.strip_trailing_host_dot
            && let Some(host) = request_headers::strip_trailing_dot(&head.authority)
        {
            head.authority = host;
        }
        let only = match config.strip_port {
            StripPort::Keep => return,
            StripPort::Any => None,
            StripPort::Matching if head.method == Method::CONNECT => return,
            StripPort::Matching => match self.connection.info.local_address.borrow().port() {
                Some(port) => Some(port),
                None => return,
            },
        };
        if let Some(host) = request_headers::strip_port(&head.authority, only) {
            head.authority = host;
        }
    }

    /// What the route says about time and names.
    fn note_route(&self, head: &mut RequestHead, cx: &mut StreamCx) {
        cx.info.route.clone_from(&cx.route);
        let Some(route) = &cx.route else { return };
        cx.info.route_name = Some(route.entry().name.clone()).filter(|name| !name.is_empty());
        cx.info.virtual_host_name = Some(route.virtual_host().name.clone());
        if let Action::Route(action) = route.action() {
            if let Some(idle) = action.timeouts.idle_timeout {
                self.deadlines.set_idle((!idle.is_zero()).then_some(idle));
            }
            if let Some(limit) = router::stream_duration(action, head, self.config().max_stream_duration) {
                let at = limit.and_then(|limit| cx.info.start.checked_add(limit));
                self.deadlines.set_max_duration(at);
            }
        }
    }

    /// The filters that this request passes: an upgrade may have its own, or be forbidden.
    fn chain<'c>(&self, config: &'c HcmConfig) -> Result<&'c FilterChain, Box<LocalReply>> {
        let head = self.head.borrow();
        let kind = match (&head.upgrade, &head.method) {
            (Some(kind), _) => kind.as_str(),
            (None, &Method::CONNECT) => "connect",
            _ => return Ok(&config.chain),
        };
        let cx = self.cx.borrow();
        let by_route = cx.route.as_ref().and_then(|route| match route.action() {
            Action::Route(action) => {
                action.upgrade_configs.iter().find(|u| u.upgrade_type.eq_ignore_ascii_case(kind)).map(|u| u.enabled)
            }
            _ => None,
        });
        let by_manager = config.upgrades.iter().find(|upgrade: &&Upgrade| upgrade.kind.eq_ignore_ascii_case(kind));
        let allowed = by_route.unwrap_or_else(|| by_manager.is_some_and(|upgrade| upgrade.enabled));
        if !allowed {
            // No route at all is told as such, before the upgrade is.
            if cx.route.is_none() && kind == "connect" {
                return Ok(&config.chain);
            }
            config.stats.inc(HttpStats::DOWNSTREAM_RQ_WS_ON_NON_WS_ROUTE);
            return Err(Box::new(LocalReply::new(StatusCode::FORBIDDEN, "", "upgrade_failed")));
        }
        self.upgrading.set(true);
        config.stats.inc(HttpStats::DOWNSTREAM_CX_UPGRADES_TOTAL);
        config.stats.gauge_inc(HttpStats::DOWNSTREAM_CX_UPGRADES_ACTIVE);
        self.upgrade.set(config.upgrades.iter().position(|upgrade| upgrade.kind.eq_ignore_ascii_case(kind)));
        Ok(self.chosen_chain(config))
    }

    /// The filters that [`chain`](Self::chain) chose, or the connection manager's own.
    fn chosen_chain<'c>(&self, config: &'c HcmConfig) -> &'c FilterChain {
        let upgrade = self.upgrade.get().and_then(|index| config.upgrades.get(index));
        upgrade.and_then(|upgrade| upgrade.filters.as_ref()).unwrap_or(&config.chain)
    }

    fn skipped(&self, chain: &FilterChain, route: Option<&RouteMatch>) -> Option<&[bool]> {
        let skipped = self.skipped.get_or_init(|| {
            let disabled = |filter: &NamedFilter| {
                let route_says = route.and_then(|route| route.filter_disabled(&filter.name));
                route_says.unwrap_or(filter.disabled)
            };
            chain.filters.iter().any(disabled).then(|| chain.filters.iter().map(disabled).collect())
        });
        skipped.as_deref()
    }

    /// Where the router has not been asked, or not yet, the route knows where it would go.
    fn note_cluster(&self) {
        let StreamCx { info, route, .. } = &mut *self.cx.borrow_mut();
        if info.cluster.is_none() {
            let head = self.head.borrow();
            let slot = route.as_ref().and_then(|route| route.cluster(&head, &self.connection.clusters));
            info.cluster = slot.and_then(|slot| slot.load());
        }
    }

    /// Gives a reply of our own its final form.
    fn local(self: &Rc<Self>, reply: LocalReply) -> Reply {
        self.note_cluster();
        let (head, body) = {
            let request = self.head.borrow();
            let StreamCx { info, route, .. } = &mut *self.cx.borrow_mut();
            info.flags = info.flags.with(reply.flags);
            info.response_code_details = Some(reply.details.clone());
            let route = route.as_ref().filter(|_| reply.on_route);
            local_reply::render(reply, Some(&request), info, &self.config().local_reply, |head, info| {
                if let Some(route) = route {
                    route.finalize_response_headers(head, &request, info);
                }
            })
        };
        self.respond(head, body)
    }

    /// The last steps of every response: response filters, headers, accounting.
    fn respond(self: &Rc<Self>, mut head: ResponseHead, mut body: Body) -> Reply {
        let config = self.config();
        let now = Instant::now();
        let mut close_connection = false;
        let tunnel;
        {
            let request = self.head.borrow();
            let cx = &mut *self.cx.borrow_mut();
            let chain = self.chosen_chain(config);
            let skipped = self.skipped(chain, cx.route.as_ref());
            for filter in passed(chain, skipped).rev() {
                filter.filter.response(&mut head, &mut body, &request, cx);
            }
            response_headers::mutate(&mut head, Some(&request), config, now);
            if let Some(tracing) = &config.tracing {
                tracing.decorate_response(&mut head.headers, cx.route.as_ref(), self.decorated.get());
            }
            cx.info.response_code = head.status.as_u16();
            tunnel = head.upgrade.is_some() || (request.method == Method::CONNECT && head.status.is_success());
            if (self.ctl.request_complete.get().is_none() || self.refused.get()) && !tunnel {
                config.stats.inc(HttpStats::DOWNSTREAM_RQ_RESPONSE_BEFORE_RQ_COMPLETE);
                close_connection = request.protocol != Protocol::Http2;
                self.early.set(true);
            }
            if self.malformed.get() && !config.http1.stream_error_on_invalid_http_message {
                close_connection |= request.protocol != Protocol::Http2;
            }
            if tunnel {
                cx.info.request_complete = None;
                // A tunnel has no end of the request to wait for; only idleness ends it.
                self.deadlines.set_route_timeout(None);
            }
            count_code(config, &self.connection, head.status.as_u16());
            self.responded.set(true);
            self.deadlines.touch(now);
            if self.connection.should_close_after_response() && !tunnel {
                close_connection = true;
            }
            if !config.access_logs.is_empty() {
                let mut logged = head.clone();
                if close_connection && request.protocol != Protocol::Http2 {
                    logged.headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
                }
                *self.response.borrow_mut() = Some(logged);
            }
            if tunnel {
                self.connection.tunnel_started();
            }
        }
        if tunnel && config.flush_access_log_on_tunnel {
            self.log(AccessLogType::DownstreamTunnelSuccessfullyEstablished);
        }
        let body = match body {
            Body::Stream(source) => Body::Stream(Box::new(WatchedBody { stream: self.clone(), source })),
            other => other,
        };
        Reply { head, body, close_connection, stream: self.clone() }
    }
}

fn passed<'c>(chain: &'c FilterChain, skipped: Option<&'c [bool]>) -> impl DoubleEndedIterator<Item = &'c NamedFilter> {
    let skips = move |at: usize| skipped.is_some_and(|skipped| skipped.get(at) == Some(&true));
    chain.filters.iter().enumerate().filter(move |(at, _)| !skips(*at)).map(|(_, filter)| filter)
}

/// What every request must have, whatever the codec let through.
fn check_head(head: &RequestHead) -> Option<LocalReply> {
    let needs_path = head.method != Method::CONNECT || head.upgrade.is_some();
    if needs_path && head.path.is_empty() {
        return Some(LocalReply::new(StatusCode::NOT_FOUND, "", "missing_path_rejected"));
    }
    if !head.path.is_empty() && !head.path.starts_with('/') {
        return Some(LocalReply::new(StatusCode::NOT_FOUND, "", "absolute_path_rejected"));
    }
    None
}

fn path_redirect(path: &str) -> LocalReply {
    let mut reply = LocalReply::new(StatusCode::TEMPORARY_REDIRECT, "", "path_normalization_failed");
    if let Ok(location) = http::HeaderValue::from_str(path) {
        reply.headers.insert(http::header::LOCATION, location);
    }
    reply
}

fn count_code(config: &HcmConfig, connection: &HcmConnection, code: u16) {
    config.stats.inc(HttpStats::DOWNSTREAM_RQ_COMPLETED);
    if let Some(class) = HttpStats::downstream_rq_class(code) {
        config.stats.inc(class);
    }
    connection.count_code(code);
}

impl RouterStream for Stream {
    fn with<R>(&self, f: impl FnOnce(&mut RequestHead, &mut StreamInfo) -> R) -> R {
        f(&mut self.head.borrow_mut(), &mut self.cx.borrow_mut().info)
    }

    fn ctl(&self) -> &Rc<StreamCtl> {
        &self.ctl
    }

    fn set_timeouts(&self, timeouts: &Timeouts) {
        self.deadlines.set_route_timeout(timeouts.global);
        self.request_ended.set(false);
        self.note_request_end();
    }

    fn set_upstream_duration(&self, limit: Option<std::time::Duration>) {
        self.deadlines.set_route_max_duration(limit.and_then(|limit| Instant::now().checked_add(limit)));
    }

    fn clusters(&self) -> &crate::cluster::ClusterManager {
        &self.connection.clusters
    }

    fn interim(&self, head: ResponseHead) -> bool {
        let config = self.config();
        if config.proxy_100_continue {
            count_code(config, &self.connection, head.status.as_u16());
            self.ctl.informational.borrow_mut().push_back(head);
            self.ctl.wake();
        }
        config.proxy_100_continue
    }

    fn buffer_limit(&self) -> u64 {
        self.connection.buffer_limit as u64
    }

    fn scheme_match_upstream(&self) -> bool {
        self.config().scheme_transformation == super::config::SchemeTransformation::MatchUpstream
    }
}

/// Entry of the codec.
pub async fn call(connection: Rc<HcmConnection>, request: Request) -> Reply {
    let Request { head, body, ctl } = request;
    let stream = Stream::new(connection, ctl, head);
    stream.answer(body).await
}
