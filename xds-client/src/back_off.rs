//! Pauses between attempts: [`BackOff`].

use std::time::Duration;

use crate::BackOffOptions;

/// Envoy's `JitteredExponentialBackOffStrategy`: each pause is drawn evenly from zero to a bound that starts at `base`
/// and doubles up to `max`, so that clients of a server that restarts do not come back together.
///
/// ```
/// use xds_client::{BackOff, BackOffOptions};
/// let mut back_off = BackOff::new(BackOffOptions::default());
/// let mut rng = fastrand::Rng::with_seed(1);
/// assert!(back_off.next(&mut rng).as_millis() < 500);
/// assert!(back_off.next(&mut rng).as_millis() < 1000);
/// back_off.reset();
/// assert!(back_off.next(&mut rng).as_millis() < 500);
/// ```
#[derive(Debug)]
pub struct BackOff {
    options: BackOffOptions,
    bound: Duration,
}

impl BackOff {
    /// Starts at `base`.
    pub fn new(options: BackOffOptions) -> Self {
        Self { options, bound: options.base }
    }

    /// The next pause.
    pub fn next(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let pause = self.bound.mul_f64(rng.f64());
        self.bound = (self.bound * 2).min(self.options.max);
        pause
    }

    /// To be called when the server answered.
    pub fn reset(&mut self) {
        self.bound = self.options.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_to_the_maximum_and_pauses_fill_them() {
        let options = BackOffOptions { base: Duration::from_millis(500), max: Duration::from_secs(30) };
        let mut rng = fastrand::Rng::with_seed(3);
        let bounds = [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].map(Duration::from_millis);
        let mut longest = [Duration::ZERO; 8];
        let mut shortest = [Duration::MAX; 8];
        let mut back_off = BackOff::new(options);
        for _ in 0..1000 {
            for (n, bound) in bounds.iter().enumerate() {
                let pause = back_off.next(&mut rng);
                assert!(pause < *bound);
                (longest[n], shortest[n]) = (longest[n].max(pause), shortest[n].min(pause));
            }
            back_off.reset();
        }
        for (n, bound) in bounds.iter().enumerate() {
            assert!(longest[n] > *bound * 9 / 10 && shortest[n] < *bound / 10, "full jitter");
        }
    }
}
