//! `envoy.filters.http.router`: sends the request to a host of the route's cluster and brings back the answer.
//!
//! Always the last filter. One request is one [`forward`]: choose the cluster and host, make an attempt (lease a connection,
//! start the exchange, wait for the response's head), and another one where the retry policy says so. What follows the head
//! travels in [`ResponseBody`], which keeps the exchange, its accounting and the connection until the end.
//!
//! A pooled connection that turns out to be closed before anything was written to it is no failure: the request goes out
//! on another one, once, whatever the policy.
//!
//! Deliberately missing until the rest of traffic management lands: hedging, mirroring, internal redirects. Route tables
//! that ask for them are refused.

mod accounting;
mod attempt;
mod config;
mod exchange;
mod replay;
mod replies;
mod retry;
mod tcp;
mod timeouts;
mod tries;

pub use config::RouterConfig;
pub use exchange::ResponseBody;
pub use replies::{after_response_started, flag, max_stream_duration};
pub use timeouts::{Timeouts, stream_duration};

use std::rc::Rc;
use std::sync::Arc;

use crate::cluster::{Cluster, LbContext};
use crate::endpoint::Host;
use crate::http::{Body, RequestHead, ResponseHead, StreamCtl};
use crate::http_filters::LocalReply;
use crate::route::{Action, Counted, RequestHash, RouteAction, RouteMatch};
use crate::stats::names::{ClusterStats, RouterStats};
use crate::stream_info::StreamInfo;

use attempt::{Call, Failed};

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
    /// An interim response of the upstream, for the client if it may have any. Whether it may.
    fn interim(&self, head: ResponseHead) -> bool;
    /// `per_connection_buffer_limit_bytes` of the listener.
    fn buffer_limit(&self) -> u64;
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
    mut body: Body,
) -> Outcome {
    let slot = stream.with(|head, _| route.cluster(head, stream.clusters()));
    let Some(cluster) = slot.and_then(|slot| slot.load()) else {
        config.stats.inc(RouterStats::NO_CLUSTER);
        return replies::no_cluster(action.cluster_not_found_response_code);
    };
    stream.with(|head, info| {
        info.cluster = Some(cluster.clone());
        info.upstream.counted = Counted::of(route, head);
    });
    if let Some(refused) = stream.with(|head, _| config.strict_check(head)) {
        return refused;
    }
    let timeouts = stream.with(|head, _| Timeouts::of(action, head, config));
    stream.set_timeouts(&timeouts);
    stream.set_upstream_duration(cluster.http.max_stream_duration);

    let hash = stream.with(|head, info| request_hash(action, head, info));
    let call = Call { config, stream, route, action, cluster: &cluster, timeouts, cookies: &hash.cookies };
    let Some(mut host) = stream.with(|head, info| choose_host(&cluster, head, info, hash.hash, 0)) else {
        return call.no_host();
    };
    let mut tries = call.prepare(&host, &mut body);
    let (mut number, mut again_for_stale) = (1, true);
    loop {
        let this_body = match &tries {
            Some(tries) => tries.body(),
            None => std::mem::take(&mut body),
        };
        let wait = match call.attempt(&host, this_body, number, tries.as_deref_mut()).await {
            Ok(answer) => {
                let wait =
                    tries.as_mut().and_then(|t| t.after_response(&answer.head, &cluster, action.priority, stream));
                match wait {
                    None => {
                        if let Some(tries) = &tries {
                            tries.over();
                        }
                        return call.respond(answer);
                    }
                    Some(wait) => {
                        let complete = stream.ctl().request_complete.get().is_some();
                        answer.exchange.retire(&answer.head, complete);
                        wait
                    }
                }
            }
            Err(mut failed) => {
                // The connection was gone before anything of the request had left: nobody can have seen it.
                if let Some(untouched) = failed.untouched.take().filter(|_| std::mem::take(&mut again_for_stale)) {
                    body = untouched;
                    continue;
                }
                let wait = tries.as_mut().and_then(|t| t.after_failure(&failed, &cluster, action.priority, stream));
                match wait {
                    None => return call.failed(failed.reply),
                    Some(wait) => wait,
                }
            }
        };
        Box::pin(tokio::time::sleep(wait)).await;
        let next = tries.as_ref().and_then(|tries| {
            stream.with(|head, info| {
                tries.choose_host(&info.upstream.hosts_attempted, |turned_down| {
                    choose_host(&cluster, head, info, hash.hash, turned_down)
                })
            })
        });
        match next {
            Some(next) => host = next,
            None => return call.no_host(),
        }
        number += 1;
        call.prepare_again(&host, number);
    }
}

/// The reply when the route's time is up; counts it where a host had the request. A response that has `begun` has had its
/// status counted, and is only cut.
pub fn timed_out(
    route: Option<&RouteMatch>,
    info: &crate::stream_info::StreamInfo,
    request: &RequestHead,
    begun: bool,
) -> LocalReply {
    if let Some(cluster) = &info.cluster {
        cluster.stats.inc(ClusterStats::UPSTREAM_RQ_TIMEOUT);
        info.upstream.counted.timed_out();
        if !begun {
            let internal = accounting::is_internal(request);
            accounting::count_code(cluster, &info.upstream.counted, 504, internal, false);
        }
    }
    if let Some(host) = &info.upstream.host {
        if let Some(cluster) = &info.cluster {
            cluster.report(host, crate::cluster::outlier::Outcome::TimedOut);
        }
        host.stats.rq_timeout.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
    let mut reply = replies::request_timeout();
    if let Some(route) = route {
        attempt::tell_attempts(route, info.upstream.attempts, &mut reply);
    }
    reply
}

fn request_hash(action: &RouteAction, head: &RequestHead, info: &StreamInfo) -> RequestHash {
    if action.hash_policy.is_empty() {
        return RequestHash::default();
    }
    let remote = info.remote_address();
    let connection =
        || format!("{}{}", info.connection.remote_address.borrow(), info.connection.local_address.borrow());
    RequestHash::of(&action.hash_policy, head, remote.socket().map(|socket| socket.ip()), connection)
}

fn choose_host(
    cluster: &Arc<Cluster>,
    head: &RequestHead,
    info: &StreamInfo,
    hash: Option<u64>,
    turned_down: u32,
) -> Option<Arc<Host>> {
    let connection = &info.connection;
    let original_dst =
        connection.local_address_restored.get().then(|| connection.local_address.borrow().socket()).flatten();
    let headers = Some(&head.headers);
    cluster.choose_host(&LbContext { hash, turned_down, original_dst, headers, ..LbContext::default() }).ok()
}

impl From<LocalReply> for Outcome {
    fn from(reply: LocalReply) -> Self {
        Outcome::Reply(Box::new(reply))
    }
}
