//! One attempt at a host, and what is done with its answer.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderName, HeaderValue, Method};

use super::accounting::{self, Accounting};
use super::exchange::Exchange;
use super::retry::RetryState;
use super::tries::{Tries, TryTimer};
use super::{Outcome, RouterConfig, RouterStream, Timeouts, replies, timeouts};
use crate::cluster::outlier;
use crate::cluster::{Cluster, WantedProtocol};
use crate::endpoint::Host;
use crate::http::{Body, RequestHead, ResetReason, ResponseHead};
use crate::http_filters::LocalReply;
use crate::pool::{self, Lease, LeaseError};
use crate::route::{HostRewrite, RouteAction, RouteMatch, update_authority};
use crate::stats::names::ClusterStats;
use crate::transport_socket::ConnectOptions;

const X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const X_ENVOY_ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// What the attempts of a request have in common.
pub struct Call<'a, S> {
    pub config: &'a Arc<RouterConfig>,
    pub stream: &'a S,
    pub route: &'a RouteMatch,
    pub action: &'a RouteAction,
    pub cluster: &'a Arc<Cluster>,
    pub timeouts: Timeouts,
    /// To be set with a response of the upstream.
    pub cookies: &'a [String],
}

/// A response's head, and the rest behind it.
pub struct Answer {
    pub head: ResponseHead,
    pub exchange: Exchange,
    timer: Option<Box<TryTimer>>,
}

/// An attempt without a response.
pub struct Failed {
    /// What the client gets if it was the last.
    pub reply: LocalReply,
    pub reason: ResetReason,
    /// Something of the request was sent.
    pub started: bool,
    /// The request's body, if nothing was.
    pub untouched: Option<Body>,
}

impl Failed {
    fn new(reply: LocalReply, reason: ResetReason) -> Box<Self> {
        Box::new(Failed { reply, reason, started: false, untouched: None })
    }
}

impl<S: RouterStream> Call<'_, S> {
    /// The request's head as the upstream is to get it, and what it needs to be sent again: only where that is wanted.
    pub fn prepare(&self, host: &Arc<Host>, body: &mut Body) -> Option<Box<Tries>> {
        let Call { config, stream, route, action, cluster, .. } = self;
        let state = stream.with(|head, info| {
            info.upstream.host = Some(host.clone());
            info.upstream.hosts_attempted.push(host.clone());
            route.finalize_request_headers(head, info, !config.suppress_envoy_headers);
            auto_host_rewrite(action, head, host, action.append_x_forwarded_host, !config.suppress_envoy_headers);
            self.timeouts.write_headers(head, config, Duration::ZERO);
            let asked = timeouts::has_router_headers(&head.headers);
            let policy = action.retry_policy.as_ref();
            let state = if asked || policy.is_some() { RetryState::new(policy, head) } else { None };
            if asked {
                timeouts::remove_router_headers(&mut head.headers);
            }
            if route.virtual_host().include_request_attempt_count {
                head.headers.insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from_static("1"));
            }
            self.match_scheme(head, host);
            state
        })?;
        let limit = route.entry().request_body_buffer_limit.unwrap_or_else(|| stream.buffer_limit());
        Some(Box::new(Tries::new(state, std::mem::take(body), limit, cluster)))
    }

    /// The same head for another attempt.
    pub fn prepare_again(&self, host: &Arc<Host>, number: u32) {
        self.stream.with(|head, info| {
            info.upstream.host = Some(host.clone());
            info.upstream.hosts_attempted.push(host.clone());
            auto_host_rewrite(self.action, head, host, false, false);
            let passed = self.stream.ctl().request_complete.get().map(|at| at.elapsed()).unwrap_or_default();
            self.timeouts.write_headers(head, self.config, passed);
            if self.route.virtual_host().include_request_attempt_count {
                head.headers.insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(number));
            }
            self.match_scheme(head, host);
        });
    }

    fn match_scheme(&self, head: &mut RequestHead, host: &Host) {
        if self.stream.scheme_match_upstream() {
            let tls = self.cluster.is_tls(host);
            head.scheme = if tls { crate::http::Scheme::Https } else { crate::http::Scheme::Http };
        }
    }

    pub fn no_host(&self) -> Outcome {
        self.cluster.stats.inc(ClusterStats::UPSTREAM_CX_NONE_HEALTHY);
        self.failed(replies::no_healthy_upstream())
    }

    /// The reply after the last attempt.
    pub fn failed(&self, mut reply: LocalReply) -> Outcome {
        tell_attempts(self.route, self.stream.with(|_, info| info.upstream.attempts), &mut reply);
        accounting::local_failure(self.cluster, self.stream, reply)
    }

    /// Sends the request to the host and waits for the head of its response.
    pub async fn attempt(
        &self,
        host: &Arc<Host>,
        body: Body,
        number: u32,
        tries: Option<&mut Tries>,
    ) -> Result<Answer, Box<Failed>> {
        let Call { stream, cluster, .. } = self;
        let priority = self.action.priority;
        let started = Instant::now();
        stream.with(|_, info| info.upstream.attempts = number);
        let lease = self.lease(host, number > 1).await?;
        let Some(permit) = cluster.breaker(priority).try_request() else {
            return Err(Failed::new(replies::overflow(number > 1), ResetReason::Overflow));
        };
        let http2 = matches!(lease, Lease::H2(_));
        let counted = stream.with(|_, info| info.upstream.counted.clone());
        let accounting = Accounting::start((*cluster).clone(), host.clone(), counted, permit, started, http2);
        note_connection(*stream, &lease, started);
        let exchange = stream.with(|head, _| Exchange::start(lease, head, body, accounting, stream.ctl().clone()));
        let mut exchange = exchange.map_err(|reply| Failed::new(*reply, ResetReason::ConnectionTermination))?;
        // Hedging is to ask again and take whichever answer comes first. With nothing to ask again with, the attempt goes on.
        let goes_on = self.timeouts.hedge && tries.is_none();
        let mut timer = TryTimer::new(&self.timeouts.for_attempt(goes_on), started.max(Instant::now()));
        let told = Cell::new(false);
        let head = poll_fn(|cx| {
            let mut interim = |head: ResponseHead| {
                stream.with(|request, info| {
                    let internal = accounting::is_internal(request);
                    accounting::count_code(cluster, &info.upstream.counted, head.status.as_u16(), internal, false);
                });
                told.set(stream.interim(head) || told.get());
            };
            if let Poll::Ready(head) = exchange.poll_head(cx, &mut interim) {
                return Poll::Ready(Ok(head));
            }
            let Some(timer) = &mut timer else { return Poll::Pending };
            timer.poll(cx, stream.ctl().request_complete.get(), exchange.bytes()).map(Err)
        })
        .await;
        if let Some(tries) = tries.filter(|_| told.get()) {
            tries.told();
        }
        match head {
            Ok(Ok(head)) => {
                let status = stream.with(|request, _| accounting::outlier_status(request, &head));
                cluster.report(host, outlier::Outcome::Response(status));
                Ok(Answer { head, exchange, timer: timer.and_then(TryTimer::answered) })
            }
            Ok(Err(error)) => {
                let untouched = exchange.untouched_body();
                if untouched.is_none() {
                    cluster.report(host, outlier::Outcome::Failed);
                }
                exchange.failed(&error);
                let reply = replies::reset_before_response(&error, number > 1);
                Err(Box::new(Failed { reply, reason: error.reason, started: error.request_written, untouched }))
            }
            Err(which) => {
                cluster.stats.inc(match which {
                    super::tries::TryExpired::Total => ClusterStats::UPSTREAM_RQ_PER_TRY_TIMEOUT,
                    super::tries::TryExpired::Idle => ClusterStats::UPSTREAM_RQ_PER_TRY_IDLE_TIMEOUT,
                });
                cluster.report(host, outlier::Outcome::TimedOut);
                exchange.idled();
                let reply = replies::try_timeout(which);
                Err(Box::new(Failed { reply, reason: ResetReason::LocalReset, started: true, untouched: None }))
            }
        }
    }

    async fn lease(&self, host: &Arc<Host>, retried: bool) -> Result<Lease, Box<Failed>> {
        let Call { stream, cluster, action, .. } = self;
        let (options, wanted, tcp) = stream.with(|head, info| {
            let wanted = cluster.http.protocol_for(info.protocol);
            (connect_options(cluster, head, wanted), wanted, ends_here(action, head))
        });
        let waiting = accounting::PendingGuard::new(cluster);
        let lease = if tcp {
            pool::lease_tcp(cluster, host, &options, action.priority).await
        } else {
            pool::lease(cluster, host, options, wanted, action.priority).await
        };
        waiting.over();
        if lease.is_ok() {
            cluster.report(host, outlier::Outcome::Connected);
        }
        lease.map_err(|error| {
            let reason = match &error {
                LeaseError::Overflow => ResetReason::Overflow,
                LeaseError::Connect { reason, transport_failure } => {
                    cluster.report(host, outlier::Outcome::Failed);
                    stream.with(|_, info| info.upstream.transport_failure_reason.clone_from(transport_failure));
                    *reason
                }
            };
            Failed::new(replies::lease_failed(&error, retried), reason)
        })
    }

    /// The client's answer.
    pub fn respond(&self, answer: Answer) -> Outcome {
        let Answer { mut head, mut exchange, timer } = answer;
        let Call { config, stream, route, .. } = self;
        let now = Instant::now();
        if stream.with(|request, _| is_failed_handshake(request, &head)) {
            exchange.abandon();
            return failed_handshake(*stream, route, head);
        }
        stream.with(|request, info| {
            info.upstream.timing.first_rx = Some(now);
            info.response_code_details.get_or_insert("via_upstream".into());
            let complete = stream.ctl().request_complete.get();
            exchange.response_head(&head, request, complete);
            if let Some(at) = complete.filter(|_| !config.suppress_envoy_headers) {
                let service_time = now.saturating_duration_since(at).as_millis() as u64;
                head.headers.insert(X_ENVOY_UPSTREAM_SERVICE_TIME, crate::http::lookup::decimal(service_time));
            }
            if route.virtual_host().include_attempt_count_in_response {
                head.headers.insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(info.upstream.attempts));
            }
            for cookie in self.cookies {
                if let Ok(value) = HeaderValue::from_str(cookie) {
                    head.headers.append(SET_COOKIE, value);
                }
            }
            // What formats in added headers may print.
            info.response_code = head.status.as_u16();
            info.bytes_received = stream.ctl().body_received.get();
            route.finalize_response_headers(&mut head, request, info);
        });
        Outcome::Response(head, exchange.into_body(timer))
    }
}

/// The attempts that a reply of ours stands in for.
pub fn tell_attempts(route: &RouteMatch, attempts: u32, reply: &mut LocalReply) {
    if route.virtual_host().include_attempt_count_in_response {
        reply.headers.insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(attempts.max(1)));
    }
}

/// A WebSocket was asked for, and the upstream answered as if it had not been: what it sends is no answer to a handshake. A
/// refusal (4xx, 5xx) is one.
fn is_failed_handshake(request: &RequestHead, response: &ResponseHead) -> bool {
    let websocket = request.upgrade.as_ref().is_some_and(|token| token.eq_ignore_ascii_case("websocket"));
    websocket && (response.status.is_success() || response.status.is_redirection())
}

/// The head alone of such an answer, as Envoy gives it.
fn failed_handshake<S: RouterStream>(stream: &S, route: &RouteMatch, mut head: ResponseHead) -> Outcome {
    head.headers.remove(CONTENT_TYPE);
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    stream.with(|request, info| {
        info.response_code_details = Some("websocket_handshake_unsuccessful".into());
        info.response_code = head.status.as_u16();
        route.finalize_response_headers(&mut head, request, info);
    });
    Outcome::Response(head, Body::Empty)
}

/// The request's payload goes to the upstream as TCP: the route has a `connect_config`.
fn ends_here(action: &RouteAction, head: &RequestHead) -> bool {
    let config = action.upgrade_configs.iter().find_map(|upgrade| upgrade.connect);
    config.is_some_and(|config| {
        let connect = head.method == Method::CONNECT && head.upgrade.is_none();
        connect || (head.method == Method::POST && config.allow_post)
    })
}

/// `auto_host_rewrite`: the authority becomes the picked host's own name, where it has one.
fn auto_host_rewrite(action: &RouteAction, head: &mut RequestHead, host: &Host, append: bool, keep_original: bool) {
    if matches!(action.host_rewrite, Some(HostRewrite::Auto)) && !host.hostname.is_empty() {
        update_authority(head, (&*host.hostname).into(), append, keep_original);
    }
}

/// What the request changes in the upstream handshake.
fn connect_options(cluster: &Cluster, head: &RequestHead, wanted: WantedProtocol) -> ConnectOptions {
    // A list in the TLS context wins, also over automatic protocol choice, as in Envoy.
    let alpn_fallback: &[&str] = match wanted {
        WantedProtocol::Http1 => &["http/1.1"],
        WantedProtocol::Http2 => &["h2"],
        WantedProtocol::Alpn => &["h2", "http/1.1"],
    };
    let mut options = ConnectOptions { alpn_fallback, ..ConnectOptions::default() };
    if let Some(auto) = &cluster.http.auto_sni {
        let name = match &auto.header {
            Some(header) => head.headers.get(header).and_then(|v| v.to_str().ok()).unwrap_or_default(),
            None => &head.authority,
        };
        let name = host_without_port(name);
        if !name.is_empty() {
            options.sni = auto.sni.then(|| name.into());
            options.san = auto.validate_san.then(|| name.into());
        }
    }
    options
}

fn host_without_port(authority: &str) -> &str {
    if authority.starts_with('[') {
        return authority.split(']').next().unwrap_or_default().trim_start_matches('[');
    }
    authority.split(':').next().unwrap_or_default()
}

fn note_connection<S: RouterStream>(stream: &S, lease: &Lease, started: Instant) {
    let connection = lease.connection();
    let facts = &connection.facts;
    stream.with(|_, info| {
        let upstream = &mut info.upstream;
        upstream.connection_id = Some(facts.id);
        upstream.local_address = Some(facts.local_address.clone());
        upstream.remote_address = Some(facts.remote_address.clone());
        upstream.tls.clone_from(&facts.tls);
        upstream.sni.clone_from(&facts.sni);
        upstream.protocol = Some(match lease {
            Lease::H1(_) => crate::http::Protocol::Http11,
            Lease::H2(_) => crate::http::Protocol::Http2,
            Lease::Tcp(_) => crate::http::Protocol::Http11,
        });
        upstream.timing.started = Some(started);
        upstream.timing.pool_ready = Some(Instant::now());
        if facts.connect_start >= started {
            upstream.timing.connect_start = Some(facts.connect_start);
            upstream.timing.connect_end = Some(facts.connect_end);
            upstream.timing.handshake_end = facts.tls.is_some().then_some(facts.handshake_end);
        }
    });
}
