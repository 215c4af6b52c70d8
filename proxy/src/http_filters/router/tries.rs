//! The attempts of a request that may be sent again: the decision, what it counts, and the time between attempts.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::Sleep;

use super::replay::Replay;
use super::retry::{Admission, Delay, RetryState};
use super::{Failed, RouterStream, Timeouts};
use crate::cluster::{Cluster, Permit, Priority};
use crate::endpoint::Host;
use crate::http::{Body, ResponseHead};
use crate::stats::names::ClusterStats;
use crate::stream_info::ResponseFlags;

/// Present only for requests that want retries.
pub struct Tries {
    state: RetryState,
    replay: Replay,
    /// Of the retry under way: `max_retries`, or the retry budget.
    permit: Option<Permit>,
    /// The client has had a part of an answer.
    told: bool,
}

impl Tries {
    pub fn new(state: RetryState, body: Body, limit: u64, cluster: &Arc<Cluster>) -> Self {
        Tries { state, replay: Replay::new(body, limit, cluster.clone()), permit: None, told: false }
    }

    /// The request's body, from its start.
    pub fn body(&self) -> Body {
        self.replay.attempt()
    }

    /// An interim response went to the client.
    pub fn told(&mut self) {
        self.told = true;
    }

    /// The answer of this attempt is the client's.
    pub fn over(&self) {
        self.replay.release();
    }

    /// How long to wait before the response is asked for again, if it is.
    pub fn after_response<S: RouterStream>(
        &mut self,
        head: &ResponseHead,
        cluster: &Cluster,
        priority: Priority,
        stream: &S,
    ) -> Option<Duration> {
        if self.told || self.replay.overflowed() {
            return None;
        }
        let would = self.state.after_response(head, SystemTime::now());
        self.decide(would, cluster, priority, stream)
    }

    /// The same after an attempt without a response.
    pub fn after_failure<S: RouterStream>(
        &mut self,
        failed: &Failed,
        cluster: &Cluster,
        priority: Priority,
        stream: &S,
    ) -> Option<Duration> {
        if self.told || self.replay.overflowed() {
            return None;
        }
        let would = self.state.after_reset(failed.reason, failed.started);
        self.decide(would, cluster, priority, stream)
    }

    fn decide<S: RouterStream>(
        &mut self,
        would: bool,
        cluster: &Cluster,
        priority: Priority,
        stream: &S,
    ) -> Option<Duration> {
        let stats = &cluster.stats;
        self.permit = None;
        match self.state.admit(would) {
            Admission::Final { after_retry } => {
                if after_retry {
                    stats.inc(ClusterStats::UPSTREAM_RQ_RETRY_SUCCESS);
                    stream.with(|_, info| info.upstream.counted.retry_succeeded());
                }
                return None;
            }
            Admission::LimitExceeded => {
                stats.inc(ClusterStats::UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED);
                stream.with(|_, info| {
                    info.upstream.counted.retries_exceeded();
                    info.set_flag(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
                });
                return None;
            }
            Admission::Allowed => {}
        }
        self.permit = cluster.breaker(priority).try_retry();
        if self.permit.is_none() {
            stats.inc(ClusterStats::UPSTREAM_RQ_RETRY_OVERFLOW);
            stream.with(|_, info| {
                info.upstream.counted.retry_overflowed();
                info.set_flag(ResponseFlags::UPSTREAM_OVERFLOW);
            });
            return None;
        }
        stats.inc(ClusterStats::UPSTREAM_RQ_RETRY);
        stream.with(|_, info| info.upstream.counted.retried());
        Some(match self.state.delay(fastrand::u64(..)) {
            Delay::Exponential(delay) => {
                stats.inc(ClusterStats::UPSTREAM_RQ_RETRY_BACKOFF_EXPONENTIAL);
                delay
            }
            Delay::RateLimited(delay) => {
                stats.inc(ClusterStats::UPSTREAM_RQ_RETRY_BACKOFF_RATELIMITED);
                delay
            }
        })
    }

    /// A host for the next attempt: of several picks the first that the policy does not turn down, else the last.
    pub fn choose_host(
        &self,
        tried: &[Arc<Host>],
        mut pick: impl FnMut(u32) -> Option<Arc<Host>>,
    ) -> Option<Arc<Host>> {
        let mut host = pick(0)?;
        for turned_down in 1..=self.state.host_picks() {
            if !self.state.rejects_host(&host, tried) {
                break;
            }
            host = pick(turned_down)?;
        }
        Some(host)
    }
}

/// `per_try_timeout` and `per_try_idle_timeout` of one attempt.
pub struct TryTimer {
    total: Option<Duration>,
    idle: Option<Duration>,
    ready: Instant,
    /// When something last moved, and how much had by then.
    moved: (Instant, (u64, u64)),
    sleep: Pin<Box<Sleep>>,
}

/// Which of them ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryExpired {
    Total,
    Idle,
}

impl TryTimer {
    /// `None` when the request has no such limits. `now`: the attempt has its connection.
    pub fn new(timeouts: &Timeouts, now: Instant) -> Option<Box<Self>> {
        let (total, idle) = (timeouts.per_try, timeouts.per_try_idle);
        let shortest = [total, idle].into_iter().flatten().min()?;
        let sleep = Box::pin(tokio::time::sleep(shortest));
        Some(Box::new(TryTimer { total, idle, ready: now, moved: (now, (0, 0)), sleep }))
    }

    /// The answer has begun: from here on only idleness counts.
    pub fn answered(mut self: Box<Self>) -> Option<Box<Self>> {
        self.total = None;
        self.idle.is_some().then_some(self)
    }

    /// Ready when a limit ran out. The whole of an attempt is measured once the request is `complete`.
    pub fn poll(&mut self, cx: &mut Context<'_>, complete: Option<Instant>, bytes: (u64, u64)) -> Poll<TryExpired> {
        let now = Instant::now();
        if bytes != self.moved.1 {
            self.moved = (now, bytes);
        }
        loop {
            let whole = self.total.zip(complete).and_then(|(total, at)| at.max(self.ready).checked_add(total));
            let idle = self.idle.and_then(|idle| self.moved.0.checked_add(idle));
            let next = [(whole, TryExpired::Total), (idle, TryExpired::Idle)];
            let next = next.into_iter().filter_map(|(at, which)| Some((at?, which))).min_by_key(|(at, _)| *at);
            let Some((at, which)) = next else { return Poll::Pending };
            if at <= now {
                return Poll::Ready(which);
            }
            let at = tokio::time::Instant::from_std(at);
            if self.sleep.is_elapsed() || self.sleep.deadline() != at {
                self.sleep.as_mut().reset(at);
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // Woken at the deadline, or it passed meanwhile.
            if Instant::now() >= at.into_std() {
                return Poll::Ready(which);
            }
        }
    }
}
