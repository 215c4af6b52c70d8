//! The statistics of a subscription (`cluster_manager.cds.`, `http.<prefix>.rds.<name>.`, …), as Envoy counts them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use twox_hash::XxHash64;

use crate::stats::names::SubscriptionStats;
use crate::stats::{Counter, StatBlock, Stats};

/// Without a block nothing is asked for, and nothing counted.
pub(super) struct Subscription(Option<StatBlock<SubscriptionStats>>);

impl Subscription {
    pub fn new(stats: &Stats, scope: &str) -> Self {
        Self::when(true, stats, scope)
    }

    pub fn when(is_asked: bool, stats: &Stats, scope: &str) -> Self {
        Subscription(is_asked.then(|| stats.block(scope)))
    }

    fn count(&self, what: Counter<SubscriptionStats>) {
        if let Some(block) = &self.0 {
            block.inc(SubscriptionStats::UPDATE_ATTEMPT);
            block.inc(what);
        }
    }

    /// The first request leaves.
    pub fn started(&self) {
        if let Some(block) = &self.0 {
            block.inc(SubscriptionStats::UPDATE_ATTEMPT);
        }
    }

    /// An update that came as `version` was applied since `start`, without or with refusals.
    pub fn updated(&self, version: &str, start: Instant, refused: bool) {
        if refused {
            return self.refused();
        }
        self.count(SubscriptionStats::UPDATE_SUCCESS);
        let Some(block) = &self.0 else { return };
        block.set(SubscriptionStats::UPDATE_TIME, now_millis());
        block.set(SubscriptionStats::VERSION, hash(version));
        block.set_text(SubscriptionStats::VERSION_TEXT, version);
        let took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        block.record(SubscriptionStats::UPDATE_DURATION, took);
    }

    /// A whole response was refused.
    pub fn refused(&self) {
        self.count(SubscriptionStats::UPDATE_REJECTED);
    }

    /// The stream ended, or there was none.
    pub fn failed(&self) {
        self.count(SubscriptionStats::UPDATE_FAILURE);
    }

    pub fn timed_out(&self) {
        self.count(SubscriptionStats::INIT_FETCH_TIMEOUT);
    }
}

/// What Envoy shows of a version where only numbers go.
pub(super) fn hash(version: &str) -> u64 {
    XxHash64::oneshot(0, version.as_bytes())
}

pub(super) fn now_millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
