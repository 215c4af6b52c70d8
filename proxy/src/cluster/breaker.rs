//! `envoy.config.cluster.v3.CircuitBreakers`: how much of a cluster may be in use at once, over all workers.
//!
//! Each priority has five counted resources. A [`Permit`] stands for one unit and gives it back when dropped, on whichever
//! thread. Limits are exact: workers share one counter per resource, and the unit over the limit is never given out.
//!
//! The gauges show the same numbers: `…_open` is 1 while a limit is reached, `remaining_…` exist with `track_remaining`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use crate::route::RoutingPriority as Priority;
use crate::stats::names::{CircuitBreakerRemainingStats as Remaining, ClusterStats};
use crate::stats::{Gauge, StatBlock};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Connections,
    /// Requests that wait for a connection.
    PendingRequests,
    Requests,
    Retries,
    ConnectionPools,
}

/// The limits of one priority (`CircuitBreakers.Thresholds`); defaults are Envoy's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    pub max_connections: u32,
    pub max_pending_requests: u32,
    pub max_requests: u32,
    pub max_retries: u32,
    /// `None`: no limit.
    pub max_connection_pools: Option<u32>,
    pub retry_budget: Option<RetryBudget>,
    pub track_remaining: bool,
}

/// `retry_budget`: instead of `max_retries`, a share of the requests under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    pub budget_percent: f64,
    pub min_retry_concurrency: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            max_retries: 3,
            max_connection_pools: None,
            retry_budget: None,
            track_remaining: false,
        }
    }
}

/// The circuit breakers of a cluster.
pub struct CircuitBreakers {
    stats: StatBlock<ClusterStats>,
    default: PerPriority,
    high: PerPriority,
}

struct PerPriority {
    thresholds: Thresholds,
    /// In the order of [`Resource`].
    used: [AtomicU32; 5],
    remaining: Option<StatBlock<Remaining>>,
}

impl CircuitBreakers {
    /// `remaining` makes the block of `cluster.<name>.circuit_breakers.<priority>`, for priorities with `track_remaining`.
    pub fn new(
        stats: StatBlock<ClusterStats>,
        default: Thresholds,
        high: Thresholds,
        remaining: impl Fn(&str) -> StatBlock<Remaining>,
    ) -> Arc<Self> {
        let per_priority = |thresholds: Thresholds, name: &str| {
            let remaining = thresholds.track_remaining.then(|| {
                let block = remaining(name);
                for (resource, gauge) in REMAINING {
                    block.set(gauge, thresholds.limit(resource).map_or(u64::MAX, u64::from));
                }
                block
            });
            PerPriority { thresholds, used: Default::default(), remaining }
        };
        let (default, high) = (per_priority(default, "default"), per_priority(high, "high"));
        Arc::new(CircuitBreakers { stats, default, high })
    }

    pub fn thresholds(&self, priority: Priority) -> &Thresholds {
        &self.of(priority).thresholds
    }

    /// The limits as they are now, as `/clusters` shows them: with a retry budget, `max_retries` is what it allows.
    pub fn current(&self, priority: Priority) -> Thresholds {
        let state = self.of(priority);
        let max_retries = state.limit(Resource::Retries).unwrap_or(state.thresholds.max_retries);
        Thresholds { max_retries, ..state.thresholds }
    }

    fn of(&self, priority: Priority) -> &PerPriority {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }

    /// The breaker of one priority.
    pub fn breaker(self: &Arc<Self>, priority: Priority) -> Breaker<'_> {
        Breaker { breakers: self, priority }
    }

    fn release(&self, priority: Priority, resource: Resource) {
        let state = self.of(priority);
        let before = state.used(resource).fetch_sub(1, Relaxed);
        let Some(limit) = state.thresholds.limit(resource) else { return };
        if before == limit {
            self.stats.gauge_dec(open_gauge(priority, resource));
        }
        if let Some(remaining) = state.remaining.as_ref().filter(|_| before <= limit) {
            remaining.gauge_inc(remaining_gauge(resource));
        }
    }
}

/// One priority of a cluster's circuit breakers.
#[derive(Clone, Copy)]
pub struct Breaker<'a> {
    breakers: &'a Arc<CircuitBreakers>,
    priority: Priority,
}

impl Breaker<'_> {
    pub fn try_connection(self) -> Option<Permit> {
        self.try_acquire(Resource::Connections)
    }

    /// Counts a connection beyond the limit: Envoy lets every pool have its first one.
    pub fn force_connection(self) -> Permit {
        self.acquired(Resource::Connections, self.state().used(Resource::Connections).fetch_add(1, Relaxed))
    }

    pub fn try_pending(self) -> Option<Permit> {
        self.try_acquire(Resource::PendingRequests)
    }

    pub fn try_request(self) -> Option<Permit> {
        self.try_acquire(Resource::Requests)
    }

    pub fn try_retry(self) -> Option<Permit> {
        self.try_acquire(Resource::Retries)
    }

    pub fn try_pool(self) -> Option<Permit> {
        self.try_acquire(Resource::ConnectionPools)
    }

    /// Units in use now.
    pub fn used(self, resource: Resource) -> u32 {
        self.state().used(resource).load(Relaxed)
    }

    fn state(&self) -> &PerPriority {
        self.breakers.of(self.priority)
    }

    fn try_acquire(self, resource: Resource) -> Option<Permit> {
        let state = self.state();
        let limit = state.limit(resource);
        let within = |used: u32| limit.is_none_or(|limit| used < limit).then(|| used.saturating_add(1));
        let before = state.used(resource).fetch_update(Relaxed, Relaxed, within).ok()?;
        Some(self.acquired(resource, before))
    }

    fn acquired(self, resource: Resource, before: u32) -> Permit {
        let state = self.state();
        if let Some(limit) = state.thresholds.limit(resource) {
            if before.checked_add(1) == Some(limit) {
                self.breakers.stats.gauge_inc(open_gauge(self.priority, resource));
            }
            if let Some(remaining) = state.remaining.as_ref().filter(|_| before < limit) {
                remaining.gauge_dec(remaining_gauge(resource));
            }
        }
        Permit { breakers: self.breakers.clone(), priority: self.priority, resource }
    }
}

impl PerPriority {
    fn used(&self, resource: Resource) -> &AtomicU32 {
        let [connections, pending, requests, retries, pools] = &self.used;
        match resource {
            Resource::Connections => connections,
            Resource::PendingRequests => pending,
            Resource::Requests => requests,
            Resource::Retries => retries,
            Resource::ConnectionPools => pools,
        }
    }

    /// The limit now: a retry budget moves with the requests under way.
    fn limit(&self, resource: Resource) -> Option<u32> {
        match (resource, &self.thresholds.retry_budget) {
            (Resource::Retries, Some(budget)) => {
                let of = |resource| f64::from(self.used(resource).load(Relaxed));
                let active = of(Resource::Requests) + of(Resource::PendingRequests);
                let share = (budget.budget_percent / 100.0 * active) as u32;
                Some(share.max(budget.min_retry_concurrency))
            }
            _ => self.thresholds.limit(resource),
        }
    }
}

impl Thresholds {
    /// The configured limit.
    pub fn limit(&self, resource: Resource) -> Option<u32> {
        match resource {
            Resource::Connections => Some(self.max_connections),
            Resource::PendingRequests => Some(self.max_pending_requests),
            Resource::Requests => Some(self.max_requests),
            Resource::Retries => Some(self.max_retries),
            Resource::ConnectionPools => self.max_connection_pools,
        }
    }
}

const REMAINING: [(Resource, Gauge<Remaining>); 5] = [
    (Resource::Connections, Remaining::REMAINING_CX),
    (Resource::PendingRequests, Remaining::REMAINING_PENDING),
    (Resource::Requests, Remaining::REMAINING_RQ),
    (Resource::Retries, Remaining::REMAINING_RETRIES),
    (Resource::ConnectionPools, Remaining::REMAINING_CX_POOLS),
];

fn remaining_gauge(resource: Resource) -> Gauge<Remaining> {
    match resource {
        Resource::Connections => Remaining::REMAINING_CX,
        Resource::PendingRequests => Remaining::REMAINING_PENDING,
        Resource::Requests => Remaining::REMAINING_RQ,
        Resource::Retries => Remaining::REMAINING_RETRIES,
        Resource::ConnectionPools => Remaining::REMAINING_CX_POOLS,
    }
}

fn open_gauge(priority: Priority, resource: Resource) -> Gauge<ClusterStats> {
    let gauges = match priority {
        Priority::Default => ClusterStats::CIRCUIT_BREAKERS_DEFAULT,
        Priority::High => ClusterStats::CIRCUIT_BREAKERS_HIGH,
    };
    match resource {
        Resource::Connections => gauges.cx_open,
        Resource::PendingRequests => gauges.rq_pending_open,
        Resource::Requests => gauges.rq_open,
        Resource::Retries => gauges.rq_retry_open,
        Resource::ConnectionPools => gauges.cx_pool_open,
    }
}

/// One unit of a resource, given back when dropped.
#[must_use = "dropping the permit gives the unit back"]
pub struct Permit {
    breakers: Arc<CircuitBreakers>,
    priority: Priority,
    resource: Resource,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.breakers.release(self.priority, self.resource);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({:?}, {:?})", self.priority, self.resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Stats;

    fn breakers(stats: &Stats, default: Thresholds, high: Thresholds) -> Arc<CircuitBreakers> {
        CircuitBreakers::new(stats.block("cluster.c"), default, high, |name| {
            stats.block(&format!("cluster.c.circuit_breakers.{name}"))
        })
    }

    #[test]
    fn a_limit_is_exact_and_comes_back() {
        let stats = Stats::new(0);
        let block = stats.block::<ClusterStats>("cluster.c");
        let limits = Thresholds { max_requests: 2, ..Thresholds::default() };
        let breakers = breakers(&stats, limits, Thresholds { max_requests: 1, ..limits });
        let breaker = breakers.breaker(Priority::Default);
        let open = || block.read_gauge(ClusterStats::CIRCUIT_BREAKERS_DEFAULT_RQ_OPEN);

        let first = breaker.try_request().unwrap();
        assert_eq!(open(), 0);
        let second = breaker.try_request().unwrap();
        assert_eq!((open(), breaker.used(Resource::Requests)), (1, 2));
        assert!(breaker.try_request().is_none());
        assert!(breaker.try_connection().is_some(), "another resource");
        let high = breakers.breaker(Priority::High).try_request();
        assert!(high.is_some(), "another priority");
        assert_eq!(block.read_gauge(ClusterStats::CIRCUIT_BREAKERS_HIGH_RQ_OPEN), 1);

        drop(first);
        assert_eq!(open(), 0);
        let third = breaker.try_request().unwrap();
        assert_eq!(open(), 1);
        drop((second, third));
        assert_eq!((open(), breaker.used(Resource::Requests)), (0, 0));
    }

    #[test]
    fn threads_together_get_exactly_the_limit() {
        let stats = Stats::new(0);
        let limits = Thresholds { max_connections: 100, ..Thresholds::default() };
        let breakers = breakers(&stats, limits, limits);
        let permits: Vec<Permit> = std::thread::scope(|scope| {
            let take =
                || (0..90).filter_map(|_| breakers.breaker(Priority::Default).try_connection()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(permits.len(), 100);
        let block = stats.block::<ClusterStats>("cluster.c");
        assert_eq!(block.read_gauge(ClusterStats::CIRCUIT_BREAKERS_DEFAULT_CX_OPEN), 1);
        drop(permits);
        assert_eq!(breakers.breaker(Priority::Default).used(Resource::Connections), 0);
        assert_eq!(block.read_gauge(ClusterStats::CIRCUIT_BREAKERS_DEFAULT_CX_OPEN), 0);
    }

    #[test]
    fn what_remains_is_tracked_on_demand() {
        let stats = Stats::new(0);
        let limits = Thresholds { max_connections: 2, track_remaining: true, ..Thresholds::default() };
        let breakers = breakers(&stats, limits, Thresholds::default());
        let remaining = stats.block::<Remaining>("cluster.c.circuit_breakers.default");
        let cx = || remaining.read_gauge(Remaining::REMAINING_CX);
        assert_eq!((cx(), remaining.read_gauge(Remaining::REMAINING_CX_POOLS)), (2, u64::MAX));
        let breaker = breakers.breaker(Priority::Default);
        let permits = [breaker.force_connection(), breaker.force_connection(), breaker.force_connection()];
        assert_eq!((cx(), breaker.used(Resource::Connections)), (0, 3), "the third is beyond the limit");
        assert!(breaker.try_connection().is_none());
        let [first, second, _third] = permits;
        drop(first);
        assert_eq!(cx(), 0);
        drop(second);
        assert_eq!(cx(), 1);
        let pool = breaker.try_pool();
        assert_eq!(remaining.read_gauge(Remaining::REMAINING_CX_POOLS), u64::MAX, "no limit to count down");
        drop(pool);
    }

    #[test]
    fn a_retry_budget_moves_with_the_requests_under_way() {
        let budget = RetryBudget { budget_percent: 50.0, min_retry_concurrency: 1 };
        let limits = Thresholds { retry_budget: Some(budget), max_retries: 0, ..Thresholds::default() };
        let breakers = breakers(&Stats::new(0), limits, limits);
        let breaker = breakers.breaker(Priority::Default);
        let first = breaker.try_retry().unwrap();
        assert!(breaker.try_retry().is_none());
        assert_eq!(breakers.current(Priority::Default).max_retries, 1);
        let requests: Vec<_> = (0..3).filter_map(|_| breaker.try_request()).collect();
        assert!(breaker.try_retry().is_none(), "half of three is one");
        let pending = breaker.try_pending();
        assert!(breaker.try_retry().is_some(), "half of four is two");
        drop((first, requests, pending));
    }

    #[test]
    fn nothing_passes_a_limit_of_zero() {
        let limits = Thresholds { max_pending_requests: 0, ..Thresholds::default() };
        let breakers = breakers(&Stats::new(0), limits, limits);
        assert!(breakers.breaker(Priority::Default).try_pending().is_none());
    }
}
