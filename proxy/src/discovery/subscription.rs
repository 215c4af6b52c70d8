//! The statistics of a subscription (`cluster_manager.cds.`, `http.<prefix>.rds.<name>.`, …), as Envoy counts them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use twox_hash::XxHash64;

use crate::stats::names::SubscriptionStats;
use crate::stats::{StatBlock, Stats};

pub(super) struct Subscription(StatBlock<SubscriptionStats>);

impl Subscription {
    pub fn new(stats: &Stats, scope: &str) -> Self {
        Subscription(stats.block(scope))
    }

    /// The first request leaves.
    pub fn started(&self) {
        self.0.inc(SubscriptionStats::UPDATE_ATTEMPT);
    }

    /// An update that came as `version` was applied since `start`, without or with refusals.
    pub fn updated(&self, version: &str, start: Instant, refused: bool) {
        self.0.inc(SubscriptionStats::UPDATE_ATTEMPT);
        if refused {
            self.0.inc(SubscriptionStats::UPDATE_REJECTED);
            return;
        }
        self.0.inc(SubscriptionStats::UPDATE_SUCCESS);
        self.0.set(SubscriptionStats::UPDATE_TIME, now_millis());
        self.0.set(SubscriptionStats::VERSION, hash(version));
        self.0.set_text(SubscriptionStats::VERSION_TEXT, version);
        let took = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.record(SubscriptionStats::UPDATE_DURATION, took);
    }

    /// The stream ended, or there was none.
    pub fn failed(&self) {
        self.0.inc(SubscriptionStats::UPDATE_FAILURE);
        self.0.inc(SubscriptionStats::UPDATE_ATTEMPT);
    }

    pub fn timed_out(&self) {
        self.0.inc(SubscriptionStats::INIT_FETCH_TIMEOUT);
        self.0.inc(SubscriptionStats::UPDATE_ATTEMPT);
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
