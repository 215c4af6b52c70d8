//! `envoy.filters.http.router`: sends the request to a host of the route's cluster and brings back the answer.
//!
//! Always the last filter. One request is one [`forward`]: choose the cluster and host, lease a connection, start the
//! exchange, wait for the response's head. What follows the head travels in [`ResponseBody`], which keeps the exchange,
//! its accounting and the connection until the end.
//!
//! Deliberately missing until traffic management lands: retries, hedging, mirroring, internal redirects. Route tables that
//! ask for the last three are refused; a retry policy is validated and not yet acted on.

mod accounting;
mod config;
mod exchange;
mod replies;
mod tcp;
mod timeouts;

pub use config::RouterConfig;
pub use exchange::ResponseBody;
pub use replies::{after_response_started, flag, max_stream_duration};
pub use timeouts::{Timeouts, stream_duration};

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};

use crate::cluster::{Cluster, LbContext, WantedProtocol};
use crate::endpoint::Host;
use crate::http::{Body, RequestHead, ResponseHead, StreamCtl};
use crate::http_filters::LocalReply;
use crate::pool::{self, Lease, LeaseError};
use crate::route::{Action, HostRewrite, RouteAction, RouteMatch, update_authority};
use crate::stats::names::{ClusterStats, RouterStats};
use crate::transport_socket::ConnectOptions;

use accounting::Accounting;
use exchange::Exchange;

const X_ENVOY_UPSTREAM_SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
const X_ENVOY_ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");

/// What the router needs of the stream it works for.
pub trait RouterStream {
    /// Runs `f` on the request's head and the stream's facts. Not re-entrant.
    fn with<R>(&self, f: impl FnOnce(&mut RequestHead, &mut crate::stream_info::StreamInfo) -> R) -> R;
    fn ctl(&self) -> &Rc<StreamCtl>;
    fn set_timeouts(&self, timeouts: &Timeouts);
    /// `max_stream_duration` of the cluster, from now.
    fn set_upstream_duration(&self, limit: Option<std::time::Duration>);
    /// The downstream connection's protocol decides for `use_downstream_protocol_config`.
    fn clusters(&self) -> &crate::cluster::ClusterManager;
    fn proxy_100_continue(&self) -> bool;
    fn scheme_match_upstream(&self) -> bool;
}

/// What became of a request.
pub enum Outcome {
    Reply(Box<LocalReply>),
    Response(ResponseHead, Body),
}

/// Answers a request: by redirect, directly, or from an upstream.
///
/// Dropping the future cancels what is under way; the upstream stream is reset.
pub async fn route<S: RouterStream>(
    config: &Arc<RouterConfig>,
    stream: &S,
    route: Option<RouteMatch>,
    body: Body,
) -> Outcome {
    config.stats.inc(RouterStats::RQ_TOTAL);
    let Some(route) = route else {
        config.stats.inc(RouterStats::NO_ROUTE);
        return replies::no_route();
    };
    match route.action() {
        Action::Route(action) => forward(config, stream, &route, action, body).await,
        Action::Redirect(_) => {
            config.stats.inc(RouterStats::RQ_DIRECT_RESPONSE);
            stream.with(|head, info| replies::own(&route, head, info, !config.suppress_envoy_headers))
        }
        Action::DirectResponse(_) => {
            config.stats.inc(RouterStats::RQ_DIRECT_RESPONSE);
            stream.with(|head, info| replies::own(&route, head, info, !config.suppress_envoy_headers))
        }
        // As in Envoy, where such a route has a cluster without a name.
        Action::NonForwarding => replies::no_cluster(http::StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn forward<S: RouterStream>(
    config: &Arc<RouterConfig>,
    stream: &S,
    route: &RouteMatch,
    action: &RouteAction,
    body: Body,
) -> Outcome {
    let slot = stream.with(|head, _| route.cluster(head, stream.clusters()));
    let Some(cluster) = slot.and_then(|slot| slot.load()) else {
        config.stats.inc(RouterStats::NO_CLUSTER);
        return replies::no_cluster(action.cluster_not_found_response_code);
    };
    stream.with(|_, info| info.cluster = Some(cluster.clone()));
    if let Some(refused) = stream.with(|head, _| config.strict_check(head)) {
        return refused;
    }
    let timeouts = stream.with(|head, _| Timeouts::of(action, head, config));
    stream.set_timeouts(&timeouts);
    stream.set_upstream_duration(cluster.http.max_stream_duration);

    let host = match stream.with(|head, info| choose_host(&cluster, route, head, info)) {
        Some(host) => host,
        None => {
            cluster.stats.inc(ClusterStats::UPSTREAM_CX_NONE_HEALTHY);
            let reply = replies::no_healthy_upstream();
            return accounting::local_failure(&cluster, stream, reply);
        }
    };
    stream.with(|head, info| {
        info.upstream.host = Some(host.clone());
        info.upstream.hosts_attempted.push(host.clone());
        route.finalize_request_headers(head, info, !config.suppress_envoy_headers);
        auto_host_rewrite(action, head, &host, !config.suppress_envoy_headers);
        timeouts.write_headers(head, config);
        timeouts::take_router_headers(&mut head.headers);
        if route.virtual_host().include_request_attempt_count {
            head.headers.insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from_static("1"));
        }
        if stream.scheme_match_upstream() {
            head.scheme = if cluster.is_tls(&host) { crate::http::Scheme::Https } else { crate::http::Scheme::Http };
        }
    });
    attempt(config, stream, route, &cluster, host, body, action).await
}

/// The reply when the route's time is up; counts it where a host had the request.
pub fn timed_out(info: &crate::stream_info::StreamInfo) -> LocalReply {
    if let Some(cluster) = &info.cluster {
        cluster.stats.inc(ClusterStats::UPSTREAM_RQ_TIMEOUT);
        accounting::count_code(cluster, 504, false, false);
    }
    if let Some(host) = &info.upstream.host {
        host.stats.rq_timeout.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    replies::request_timeout()
}

fn choose_host(
    cluster: &Arc<Cluster>,
    route: &RouteMatch,
    head: &RequestHead,
    info: &crate::stream_info::StreamInfo,
) -> Option<Arc<Host>> {
    let connection = &info.connection;
    let original_dst =
        connection.local_address_restored.get().then(|| connection.local_address.borrow().socket()).flatten();
    let _ = route;
    cluster.choose_host(&LbContext { original_dst, headers: Some(&head.headers), ..LbContext::default() }).ok()
}

async fn attempt<S: RouterStream>(
    config: &Arc<RouterConfig>,
    stream: &S,
    route: &RouteMatch,
    cluster: &Arc<Cluster>,
    host: Arc<Host>,
    body: Body,
    action: &RouteAction,
) -> Outcome {
    let priority = action.priority;
    let (options, wanted) = stream.with(|head, info| {
        let wanted = cluster.http.protocol_for(info.protocol);
        (connect_options(cluster, head, wanted), wanted)
    });
    let started = Instant::now();
    let pool_wait = accounting::PendingGuard::new(cluster);
    let lease = if stream.with(|head, _| ends_here(action, head)) {
        pool::lease_tcp(cluster, &host, &options, priority).await
    } else {
        pool::lease(cluster, &host, options, wanted, priority).await
    };
    drop(pool_wait);
    let lease = match lease {
        Ok(lease) => lease,
        Err(error) => {
            stream.with(|_, info| {
                info.upstream.attempts = 1;
                if let LeaseError::Connect { transport_failure, .. } = &error {
                    info.upstream.transport_failure_reason.clone_from(transport_failure);
                }
            });
            let reply = replies::lease_failed(&error);
            return accounting::local_failure(cluster, stream, reply);
        }
    };
    let Some(permit) = cluster.breaker(priority).try_request() else {
        cluster.stats.inc(ClusterStats::UPSTREAM_RQ_PENDING_OVERFLOW);
        return accounting::local_failure(cluster, stream, replies::overflow());
    };
    let accounting = Accounting::start(cluster.clone(), host, permit, started);
    note_connection(stream, &lease, started);
    let mut exchange = match stream.with(|head, _| Exchange::start(lease, head, body, accounting, stream.ctl().clone()))
    {
        Ok(exchange) => exchange,
        Err(reply) => return accounting::local_failure(cluster, stream, *reply),
    };
    let head = poll_fn(|cx| exchange.poll_head(cx, stream.ctl(), stream.proxy_100_continue())).await;
    let mut head = match head {
        Ok(head) => head,
        Err(error) => {
            let reply = replies::reset_before_response(&error);
            exchange.failed(&error);
            return accounting::local_failure(cluster, stream, reply);
        }
    };
    let now = Instant::now();
    if stream.with(|request, _| is_failed_handshake(request, &head)) {
        exchange.abandon();
        return failed_handshake(stream, route, head);
    }
    stream.with(|request, info| {
        info.upstream.timing.first_rx = Some(now);
        info.response_code_details.get_or_insert("via_upstream".into());
        let complete = stream.ctl().request_complete.get();
        exchange.response_head(&head, request, complete);
        if let Some(at) = complete.filter(|_| !config.suppress_envoy_headers) {
            let service_time = now.saturating_duration_since(at).as_millis() as u64;
            head.headers.insert(X_ENVOY_UPSTREAM_SERVICE_TIME, HeaderValue::from(service_time));
        }
        if route.virtual_host().include_attempt_count_in_response {
            head.headers.insert(X_ENVOY_ATTEMPT_COUNT, HeaderValue::from(info.upstream.attempts));
        }
        // What formats in added headers may print.
        info.response_code = head.status.as_u16();
        info.bytes_received = stream.ctl().body_received.get();
        route.finalize_response_headers(&mut head, request, info);
    });
    Outcome::Response(head, exchange.into_body())
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
fn auto_host_rewrite(action: &RouteAction, head: &mut RequestHead, host: &Host, keep_original: bool) {
    if matches!(action.host_rewrite, Some(HostRewrite::Auto)) && !host.hostname.is_empty() {
        update_authority(head, (&*host.hostname).into(), action.append_x_forwarded_host, keep_original);
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
        upstream.attempts = 1;
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

impl From<LocalReply> for Outcome {
    fn from(reply: LocalReply) -> Self {
        Outcome::Reply(Box::new(reply))
    }
}
