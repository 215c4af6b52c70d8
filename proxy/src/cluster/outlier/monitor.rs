use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Ejection, Origin, OutlierConfig};

/// How a request or connection to a host went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The head of a response came, with this status.
    Response(u16),
    /// There is a connection, over which a request will go.
    Connected,
    /// There is a connection, and with it all that can be said of the host.
    ConnectedFinally,
    /// There is no connection, or the answer broke off.
    Failed,
    /// Nothing came in time.
    TimedOut,
}

/// What is known of one host. Workers write the counters; the rest is the control thread's.
#[derive(Default)]
pub struct Monitor {
    consecutive_5xx: AtomicU32,
    consecutive_gateway_failure: AtomicU32,
    consecutive_local_origin_failure: AtomicU32,
    external: Rate,
    local: Rate,
    pub(super) ejections: Mutex<Ejections>,
}

/// Requests since the last sweep, and the rate that it found.
struct Rate {
    total: AtomicU64,
    success: AtomicU64,
    shown: AtomicU64,
}

impl Default for Rate {
    fn default() -> Self {
        Rate { total: AtomicU64::new(0), success: AtomicU64::new(0), shown: AtomicU64::new((-1_f64).to_bits()) }
    }
}

/// When and how often the host was ejected.
#[derive(Debug, Default)]
pub(super) struct Ejections {
    pub number: u32,
    pub last: Option<Instant>,
    pub last_return: Option<Instant>,
    /// How often of late: the multiple of the base time.
    pub backoff: u32,
    pub jitter: Duration,
}

impl Monitor {
    /// Says when a limit of failures in a row is reached: exactly then, not after it.
    pub(super) fn note(&self, outcome: Outcome, config: &OutlierConfig) -> [Option<Ejection>; 2] {
        use Outcome::{Connected, ConnectedFinally, Failed, Response, TimedOut};
        match (outcome, config.split_external_local_origin_errors) {
            (Response(status), _) => self.status(status, config),
            (Connected, false) => [None, None],
            (ConnectedFinally, false) => self.status(200, config),
            (Failed, false) => self.status(503, config),
            (TimedOut, false) => self.status(504, config),
            (Connected | ConnectedFinally, true) => {
                self.local.count(true);
                self.consecutive_local_origin_failure.store(0, Relaxed);
                [None, None]
            }
            (Failed | TimedOut, true) => {
                self.local.count(false);
                let reached = reached(&self.consecutive_local_origin_failure, config.consecutive_local_origin_failure);
                [reached.then_some(Ejection::ConsecutiveLocalOriginFailure), None]
            }
        }
    }

    fn status(&self, status: u16, config: &OutlierConfig) -> [Option<Ejection>; 2] {
        let failed = (500..600).contains(&status);
        self.external.count(!failed);
        if !failed {
            // Read first: while all is well no worker takes the line from another for these.
            for counter in [&self.consecutive_5xx, &self.consecutive_gateway_failure] {
                if counter.load(Relaxed) != 0 {
                    counter.store(0, Relaxed);
                }
            }
            return [None, None];
        }
        let gateway = if (502..=504).contains(&status) {
            reached(&self.consecutive_gateway_failure, config.consecutive_gateway_failure)
        } else {
            self.consecutive_gateway_failure.store(0, Relaxed);
            false
        };
        let any = reached(&self.consecutive_5xx, config.consecutive_5xx);
        [gateway.then_some(Ejection::ConsecutiveGatewayFailure), any.then_some(Ejection::Consecutive5xx)]
    }

    pub(super) fn restart(&self, counter: Ejection) {
        match counter {
            Ejection::Consecutive5xx => self.consecutive_5xx.store(0, Relaxed),
            Ejection::ConsecutiveGatewayFailure => self.consecutive_gateway_failure.store(0, Relaxed),
            Ejection::ConsecutiveLocalOriginFailure => self.consecutive_local_origin_failure.store(0, Relaxed),
            Ejection::SuccessRate(_) | Ejection::FailurePercentage(_) => {}
        }
    }

    /// Requests since the last call, and the share of them that succeeded, in percent.
    pub(super) fn take(&self, origin: Origin) -> (u64, f64) {
        let rate = self.rate(origin);
        let (success, total) = (rate.success.swap(0, Relaxed), rate.total.swap(0, Relaxed));
        (total, if total == 0 { 0.0 } else { success as f64 * 100.0 / total as f64 })
    }

    pub(super) fn show(&self, origin: Origin, rate: f64) {
        self.rate(origin).shown.store(rate.to_bits(), Relaxed);
    }

    /// In percent, as the last sweep found it; -1 if there were too few requests to tell.
    pub fn success_rate(&self, origin: Origin) -> f64 {
        f64::from_bits(self.rate(origin).shown.load(Relaxed))
    }

    fn rate(&self, origin: Origin) -> &Rate {
        match origin {
            Origin::External => &self.external,
            Origin::Local => &self.local,
        }
    }
}

impl Rate {
    fn count(&self, success: bool) {
        self.total.fetch_add(1, Relaxed);
        if success {
            self.success.fetch_add(1, Relaxed);
        }
    }
}

fn reached(counter: &AtomicU32, limit: u32) -> bool {
    counter.fetch_add(1, Relaxed).wrapping_add(1) == limit
}
