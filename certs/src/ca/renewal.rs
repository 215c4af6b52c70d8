//! When to ask for a certificate: a state machine without clock, timer or random numbers of its own.
//!
//! As Istio's agent does it: anew when half of the life is over, give or take a hundredth, so that workloads that started together do not
//! ask together; after a failure again with growing pauses. Times are durations since 1970.

use std::time::Duration;

/// How eagerly to ask. The defaults are Istio's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RenewalOptions {
    /// `SECRET_GRACE_PERIOD_RATIO`: how much of the life is left when a new certificate is asked for.
    pub grace_ratio: f64,
    /// `SECRET_GRACE_PERIOD_RATIO_JITTER`: how much the ratio varies to both sides.
    pub grace_jitter: f64,
    /// The pause after the first failure; it doubles with each further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
    /// The pause after a failure that asking again soon does not mend.
    pub refused_pause: Duration,
    /// How much of a pause varies to both sides.
    pub pause_jitter: f64,
}

impl Default for RenewalOptions {
    fn default() -> Self {
        Self {
            grace_ratio: 0.5,
            grace_jitter: 0.01,
            first_pause: Duration::from_millis(100),
            max_pause: Duration::from_secs(10),
            refused_pause: Duration::from_secs(1),
            pause_jitter: 0.1,
        }
    }
}

/// No certificate is asked for more often than this while all goes well, however short the lives are.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// The state: see the module.
#[derive(Debug, Clone)]
pub struct Renewal {
    options: RenewalOptions,
    due: Duration,
    failures: u32,
}

impl Renewal {
    /// Due at once.
    pub fn new(options: RenewalOptions) -> Self {
        Self { options, due: Duration::ZERO, failures: 0 }
    }

    /// How long to wait from `now` until the next request; zero when it is due.
    pub fn wait(&self, now: Duration) -> Duration {
        self.due.saturating_sub(now)
    }

    /// How many requests in a row have failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A certificate with this validity came. `random` gives numbers from 0 to 1.
    pub fn issued(
        &mut self,
        now: Duration,
        (not_before, not_after): (Duration, Duration),
        mut random: impl FnMut() -> f64,
    ) {
        let ratio = self.options.grace_ratio + self.options.grace_jitter * spread(random());
        let grace = not_after.saturating_sub(not_before).mul_f64(ratio.clamp(0.0, 1.0));
        let mut due = not_after.saturating_sub(grace);
        if due <= now {
            // It came late in its life, or the clocks disagree: halfway to its end.
            due = now + not_after.saturating_sub(now) / 2;
        }
        self.due = due.max(now + SHORTEST_WAIT);
        self.failures = 0;
    }

    /// There was none. `random` gives numbers from 0 to 1.
    pub fn failed(&mut self, now: Duration, retriable: bool, mut random: impl FnMut() -> f64) {
        let doubled = self.options.first_pause.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        let pause = if retriable { doubled } else { doubled.max(self.options.refused_pause) };
        let factor = 1.0 + self.options.pause_jitter * spread(random());
        self.due = now + pause.min(self.options.max_pause).mul_f64(factor.max(0.0));
        self.failures = self.failures.saturating_add(1);
    }
}

/// From 0..1 to -1..1.
fn spread(random: f64) -> f64 {
    random.clamp(0.0, 1.0).mul_add(2.0, -1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Duration = Duration::from_secs(1_800_000_000);

    fn middle() -> f64 {
        0.5
    }

    #[test]
    fn a_certificate_is_renewed_at_half_its_life_give_or_take_a_hundredth() {
        for (random, wait) in [(0.5, DAY / 2), (0.0, DAY.mul_f64(0.51)), (1.0, DAY.mul_f64(0.49))] {
            let mut renewal = Renewal::new(RenewalOptions::default());
            assert_eq!(renewal.wait(NOW), Duration::ZERO, "the first is due at once");
            renewal.issued(NOW, (NOW, NOW + DAY), || random);
            let off = renewal.wait(NOW).abs_diff(wait);
            assert!(off < Duration::from_millis(1), "{off:?}");
            assert_eq!(renewal.wait(NOW + DAY), Duration::ZERO);
        }
    }

    #[test]
    fn a_certificate_that_comes_late_in_its_life_is_no_reason_to_rush() {
        let mut renewal = Renewal::new(RenewalOptions::default());
        renewal.issued(NOW, (NOW - DAY, NOW + Duration::from_secs(60)), middle);
        assert_eq!(renewal.wait(NOW), Duration::from_secs(30));
        for end in [NOW, NOW - DAY, NOW + Duration::from_millis(10)] {
            renewal.issued(NOW, (NOW - DAY, end), middle);
            assert_eq!(renewal.wait(NOW), SHORTEST_WAIT);
        }
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_after_success() {
        let mut renewal = Renewal::new(RenewalOptions::default());
        let mut pauses = Vec::new();
        for _ in 0..40 {
            renewal.failed(NOW, true, middle);
            pauses.push(renewal.wait(NOW).as_millis());
        }
        assert_eq!(pauses[..9], [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert!(pauses[9..].iter().all(|pause| *pause == 10_000) && renewal.failures() == 40);
        renewal.issued(NOW, (NOW, NOW + DAY), middle);
        renewal.failed(NOW, true, middle);
        assert_eq!((renewal.wait(NOW).as_millis(), renewal.failures()), (100, 1));
        renewal.failed(NOW, true, || 1.0);
        assert_eq!(renewal.wait(NOW).as_millis(), 220);
    }

    #[test]
    fn a_refusal_is_not_argued_with() {
        let mut renewal = Renewal::new(RenewalOptions::default());
        renewal.failed(NOW, false, || 0.0);
        assert_eq!(renewal.wait(NOW).as_millis(), 900);
    }
}
