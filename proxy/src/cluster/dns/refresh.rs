use std::time::Duration;

use crate::lb::Random;

/// When a name is resolved again.
#[derive(Debug, Clone, PartialEq)]
pub struct RefreshOptions {
    /// `dns_refresh_rate`.
    pub rate: Duration,
    /// `dns_failure_refresh_rate`; without it failures are no reason to wait longer.
    pub failure: Option<Backoff>,
    /// `respect_dns_ttl`: instead of `rate`, the answer's time to live.
    pub respect_ttl: bool,
    /// `dns_min_refresh_rate`: but at least this.
    pub min_rate: Option<Duration>,
    /// `dns_jitter`: at most this is added after an answer.
    pub jitter: Duration,
}

/// Waits that double from `base` to `max`; each is a random part of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

/// The shortest wait, so that an answer with a tiny time to live or a random number near zero does not make a loop.
const SHORTEST: Duration = Duration::from_millis(1);

/// When one name is resolved next.
#[derive(Debug)]
pub struct Refresh {
    /// The bound of the next wait after a failure.
    next_failure: Option<Duration>,
}

impl Refresh {
    pub fn new(options: &RefreshOptions) -> Self {
        Refresh { next_failure: options.failure.map(|backoff| backoff.base) }
    }

    /// The wait after an answer. `ttl` is none for an answer without addresses.
    pub fn after_answer(&mut self, options: &RefreshOptions, ttl: Option<Duration>, random: Random<'_>) -> Duration {
        self.next_failure = options.failure.map(|backoff| backoff.base);
        let ttl = ttl.filter(|ttl| options.respect_ttl && !ttl.is_zero());
        let wait = match ttl {
            Some(ttl) => ttl.max(options.min_rate.unwrap_or_default()),
            None => options.rate,
        };
        wait.saturating_add(part(options.jitter, random)).max(SHORTEST)
    }

    pub fn after_failure(&mut self, options: &RefreshOptions, random: Random<'_>) -> Duration {
        let (Some(backoff), Some(bound)) = (options.failure, self.next_failure) else { return options.rate };
        self.next_failure = Some(bound.saturating_mul(2).min(backoff.max));
        part(bound, random).max(SHORTEST)
    }
}

/// From nothing to just below `whole`, in milliseconds.
fn part(whole: Duration, random: Random<'_>) -> Duration {
    let millis = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
    match millis {
        0 => Duration::ZERO,
        millis => Duration::from_millis(random() % millis),
    }
}
