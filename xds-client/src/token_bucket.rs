//! A token bucket on an injected clock: `rate_limit_settings`.

use std::time::{Duration, Instant};

use crate::RateLimit;

pub(crate) struct TokenBucket {
    limit: RateLimit,
    tokens: f64,
    filled: Option<Instant>,
}

impl TokenBucket {
    pub fn new(limit: RateLimit) -> Self {
        Self { limit, tokens: f64::from(limit.max_tokens), filled: None }
    }

    /// Takes a token, or says when there will be one.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let passed = now.saturating_duration_since(*self.filled.get_or_insert(now));
        self.filled = Some(now);
        let most = f64::from(self.limit.max_tokens).max(1.0);
        self.tokens = (self.tokens + passed.as_secs_f64() * self.limit.fill_rate).min(most);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        // A clock that ticks in nanoseconds may come a hair too early.
        let wait = Duration::try_from_secs_f64((1.0 - self.tokens) / self.limit.fill_rate);
        Err(now + wait.unwrap_or(Duration::from_secs(3600)).max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(RateLimit { max_tokens: 3, fill_rate: 10.0 });
        assert_eq!((0..3).map(|_| bucket.take(start)).collect::<Vec<_>>(), [Ok(()); 3]);
        let next = bucket.take(start).unwrap_err();
        assert_eq!(next.duration_since(start), Duration::from_millis(100));
        assert_eq!(bucket.take(next), Ok(()));
        assert!(bucket.take(next).is_err());
        let late = next + Duration::from_secs(60);
        assert_eq!((0..4).filter(|_| bucket.take(late).is_ok()).count(), 3, "never more than max_tokens");
    }
}
