//! What a request to an upstream counts: cluster and host statistics, and the guards that give them back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::HeaderName;

use super::{Outcome, RouterStream};
use crate::cluster::outlier;
use crate::cluster::{Cluster, Permit};
use crate::endpoint::Host;
use crate::http::lookup::find;
use crate::http::{RequestHead, ResetReason, ResponseHead};
use crate::http_filters::LocalReply;
use crate::network::http_connection_manager::is_grpc;
use crate::route::Counted;
use crate::stats::names::ClusterStats;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const X_ENVOY_UPSTREAM_CANARY: HeaderName = HeaderName::from_static("x-envoy-upstream-canary");

/// One request to a host, from the moment it has a connection.
pub struct Accounting {
    pub cluster: Arc<Cluster>,
    pub host: Arc<Host>,
    counted: Counted,
    _permit: Permit,
    request_complete: Option<Instant>,
    started: Instant,
    internal: bool,
    canary: bool,
    /// It shares its connection.
    http2: bool,
    /// The response (or the failure) has been counted.
    answered: bool,
    ended: bool,
}

impl Accounting {
    pub fn start(
        cluster: Arc<Cluster>,
        host: Arc<Host>,
        counted: Counted,
        permit: Permit,
        started: Instant,
        http2: bool,
    ) -> Self {
        counted.sent();
        cluster.stats.inc(ClusterStats::UPSTREAM_RQ_TOTAL);
        cluster.stats.gauge_inc(ClusterStats::UPSTREAM_RQ_ACTIVE);
        host.stats.rq_total.fetch_add(1, Ordering::Relaxed);
        host.stats.rq_active.fetch_add(1, Ordering::Relaxed);
        Accounting {
            cluster,
            host,
            counted,
            _permit: permit,
            request_complete: None,
            started,
            internal: false,
            canary: false,
            http2,
            answered: false,
            ended: false,
        }
    }

    /// The head of the response came.
    pub fn response(&mut self, head: &ResponseHead, request: &RequestHead, request_complete: Option<Instant>) {
        self.answered = true;
        self.request_complete = request_complete;
        self.internal = is_internal(request);
        self.canary = self.host.canary || find(&head.headers, &X_ENVOY_UPSTREAM_CANARY).is_some_and(|v| v == "true");
        let code = head.status.as_u16();
        count_code(&self.cluster, &self.counted, code, self.internal, self.canary);
        let counter = if code >= 500 { &self.host.stats.rq_error } else { &self.host.stats.rq_success };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The response ended cleanly.
    pub fn complete(&mut self, now: Instant) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let since = self.request_complete.unwrap_or(self.started);
        let ms = now.saturating_duration_since(since).as_millis() as u64;
        let stats = &self.cluster.stats;
        stats.record(ClusterStats::UPSTREAM_RQ_TIME, ms);
        self.counted.time(ms);
        stats.record(
            if self.internal {
                ClusterStats::INTERNAL_UPSTREAM_RQ_TIME
            } else {
                ClusterStats::EXTERNAL_UPSTREAM_RQ_TIME
            },
            ms,
        );
        if self.canary {
            stats.record(ClusterStats::CANARY_UPSTREAM_RQ_TIME, ms);
        }
    }

    /// There was a response, and the request is sent again. Only its code is counted.
    pub fn retried(&mut self, head: &ResponseHead) {
        self.answered = true;
        self.host.stats.rq_error.fetch_add(1, Ordering::Relaxed);
        self.cluster.stats.code(ClusterStats::RETRY_UPSTREAM_RQ, head.status.as_u16());
    }

    /// A limit of this attempt ran out.
    pub fn timed_out(&self) {
        self.host.stats.rq_timeout.fetch_add(1, Ordering::Relaxed);
    }

    /// There was a response, which is not counted.
    pub fn abandon(&mut self) {
        (self.answered, self.ended) = (true, true);
    }

    /// The upstream broke off.
    pub fn reset(&mut self, reason: ResetReason) {
        self.ended = true;
        let stats = &self.cluster.stats;
        match (reason, self.http2) {
            (ResetReason::RemoteReset, true) => stats.inc(ClusterStats::UPSTREAM_RQ_RX_RESET),
            (ResetReason::ProtocolError, true) => stats.inc(ClusterStats::UPSTREAM_RQ_TX_RESET),
            (ResetReason::ConnectionTermination, true) => stats.inc(ClusterStats::UPSTREAM_RQ_PENDING_FAILURE_EJECT),
            (ResetReason::ProtocolError, false) => stats.inc(ClusterStats::UPSTREAM_CX_PROTOCOL_ERROR),
            _ => {}
        }
        if self.answered {
            self.cluster.report(&self.host, outlier::Outcome::Failed);
        } else {
            self.answered = true;
            self.host.stats.rq_error.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        if !self.ended {
            // We gave up: a time limit, or the client is gone. A reset is something that only HTTP/2 has.
            if self.http2 {
                self.cluster.stats.inc(ClusterStats::UPSTREAM_RQ_TX_RESET);
            }
        }
        self.cluster.stats.gauge_dec(ClusterStats::UPSTREAM_RQ_ACTIVE);
        self.host.stats.rq_active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that waits for a connection. Dropped before it is [`over`](Self::over) it was cancelled.
pub struct PendingGuard<'a> {
    cluster: &'a Arc<Cluster>,
    over: bool,
}

impl<'a> PendingGuard<'a> {
    pub fn new(cluster: &'a Arc<Cluster>) -> Self {
        cluster.stats.gauge_inc(ClusterStats::UPSTREAM_RQ_PENDING_ACTIVE);
        PendingGuard { cluster, over: false }
    }

    pub fn over(mut self) {
        self.over = true;
    }
}

impl Drop for PendingGuard<'_> {
    fn drop(&mut self) {
        self.cluster.stats.gauge_dec(ClusterStats::UPSTREAM_RQ_PENDING_ACTIVE);
        if !self.over {
            self.cluster.stats.inc(ClusterStats::UPSTREAM_RQ_CANCELLED);
        }
    }
}

/// A reply that stands in for the cluster's is counted as one of its responses, as Envoy does.
pub fn local_failure<S: RouterStream>(cluster: &Arc<Cluster>, stream: &S, reply: LocalReply) -> Outcome {
    stream.with(|head, info| {
        count_code(cluster, &info.upstream.counted, reply.status.as_u16(), is_internal(head), false);
    });
    reply.into()
}

/// What outlier detection takes a response for: a gRPC status in the head counts as the HTTP status that is like it.
pub fn outlier_status(request: &RequestHead, head: &ResponseHead) -> u16 {
    match head.headers.get(GRPC_STATUS).filter(|_| is_grpc(&request.headers)) {
        Some(status) => match status.to_str().ok().and_then(|status| status.parse().ok()).unwrap_or(2_u32) {
            0 => 200,
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        },
        None => head.status.as_u16(),
    }
}

/// The request comes from inside (`x-envoy-internal`).
pub fn is_internal(request: &RequestHead) -> bool {
    find(&request.headers, &X_ENVOY_INTERNAL).is_some_and(|value| value == "true")
}

pub fn count_code(cluster: &Cluster, counted: &Counted, code: u16, internal: bool, canary: bool) {
    counted.code(code);
    let stats = &cluster.stats;
    stats.code(ClusterStats::UPSTREAM_RQ, code);
    stats.code(if internal { ClusterStats::INTERNAL_UPSTREAM_RQ } else { ClusterStats::EXTERNAL_UPSTREAM_RQ }, code);
    if canary {
        stats.code(ClusterStats::CANARY_UPSTREAM_RQ, code);
    }
}
