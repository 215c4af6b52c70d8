//! `envoy.type.v3.TokenBucket` without a timer: tokens come continuously, and how many there are follows from the time.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use xds_protos::envoy::r#type::v3 as pb;

use crate::config::{Path, Reject, values};

/// As Envoy's.
const SHORTEST_FILL_INTERVAL: Duration = Duration::from_millis(50);

/// How a bucket fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSpec {
    pub max_tokens: u32,
    /// Nanoseconds in which one token comes.
    per_token: u64,
    /// Nanoseconds in which an empty bucket fills.
    span: u64,
}

/// A bucket for all threads. It starts full; of N tokens the N+1st taker at the same moment gets none, whichever threads they
/// are on.
#[derive(Debug)]
pub struct TokenBucket {
    pub spec: BucketSpec,
    start: Instant,
    /// When the bucket was empty, as if no token had been lost at its brim: nanoseconds on a clock that shows `span` at
    /// `start`. Only a successful exchange takes a token, so that no order of threads takes one twice; nothing else is
    /// published by it, and relaxed order is enough.
    empty_at: AtomicU64,
}

impl BucketSpec {
    /// # Errors
    /// For no tokens, no or too short an interval, and a bucket that would take centuries to fill.
    pub fn build(proto: &pb::TokenBucket, path: &Path<'_>) -> Result<Self, Reject> {
        let pb::TokenBucket { max_tokens, tokens_per_fill, fill_interval } = proto;
        let tokens_per_fill = tokens_per_fill.unwrap_or(1);
        for (field, value) in [("max_tokens", *max_tokens), ("tokens_per_fill", tokens_per_fill)] {
            if value == 0 {
                return Err(path.field(field).reject("expected at least 1, got 0"));
            }
        }
        let at = path.field("fill_interval");
        let interval = fill_interval.as_ref().ok_or_else(|| at.reject("expected a duration, got none"))?;
        let interval = values::duration(interval, &at)?;
        if interval < SHORTEST_FILL_INTERVAL {
            return Err(at.reject(format_args!("expected at least 50ms, got {interval:?}")));
        }
        let per_token = u64::try_from(interval.as_nanos() / u128::from(tokens_per_fill)).ok();
        let span = per_token.and_then(|per_token| per_token.max(1).checked_mul(u64::from(*max_tokens)));
        match (per_token, span.filter(|span| *span < u64::MAX / 2)) {
            (Some(per_token), Some(span)) => {
                Ok(BucketSpec { max_tokens: *max_tokens, per_token: per_token.max(1), span })
            }
            _ => Err(path.reject("expected a bucket that fills within a century")),
        }
    }
}

impl TokenBucket {
    pub fn new(spec: BucketSpec, now: Instant) -> Self {
        TokenBucket { spec, start: now, empty_at: AtomicU64::new(0) }
    }

    /// Takes a token, if there is one.
    pub fn take(&self, now: Instant) -> bool {
        let clock = self.clock(now);
        let full_since = clock.saturating_sub(self.spec.span);
        let taken = |empty_at: u64| {
            let next = empty_at.max(full_since).saturating_add(self.spec.per_token);
            (next <= clock).then_some(next)
        };
        self.empty_at.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }

    /// Whole tokens that are left.
    pub fn remaining(&self, now: Instant) -> u64 {
        let clock = self.clock(now);
        let empty_at = self.empty_at.load(Relaxed).max(clock.saturating_sub(self.spec.span));
        clock.saturating_sub(empty_at) / self.spec.per_token
    }

    /// Until there is a token again.
    pub fn next_token(&self, now: Instant) -> Duration {
        let clock = self.clock(now);
        let empty_at = self.empty_at.load(Relaxed).max(clock.saturating_sub(self.spec.span));
        Duration::from_nanos(empty_at.saturating_add(self.spec.per_token).saturating_sub(clock))
    }

    fn clock(&self, now: Instant) -> u64 {
        let since = u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        since.saturating_add(self.spec.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(max_tokens: u32, tokens_per_fill: Option<u32>, millis: i64) -> Result<BucketSpec, String> {
        let interval = prost_types::Duration { seconds: millis / 1000, nanos: (millis % 1000) as i32 * 1_000_000 };
        let proto = pb::TokenBucket { max_tokens, tokens_per_fill, fill_interval: Some(interval) };
        BucketSpec::build(&proto, &Path::root("b")).map_err(|reject| reject.to_string())
    }

    #[test]
    fn tokens_come_with_time_and_not_beyond_the_brim() {
        let start = Instant::now();
        let bucket = TokenBucket::new(spec(3, Some(2), 1000).unwrap(), start);
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!([0, 0, 0, 0].map(|millis| bucket.take(at(millis))), [true, true, true, false]);
        assert_eq!(bucket.next_token(at(200)), Duration::from_millis(300));
        assert_eq!([499, 500, 999].map(|millis| bucket.take(at(millis))), [false, true, false]);
        assert_eq!((bucket.remaining(at(999)), bucket.remaining(at(1000)), bucket.remaining(at(1_000_000))), (0, 1, 3));
        assert_eq!([0; 4].map(|_| bucket.take(at(1_000_000))), [true, true, true, false]);
    }

    /// The trap of limits that are copied for each worker.
    #[test]
    fn exactly_the_tokens_there_are_go_to_all_threads_together() {
        let now = Instant::now();
        let bucket = TokenBucket::new(spec(1000, None, 3_600_000).unwrap(), now);
        let taken: usize = std::thread::scope(|scope| {
            let takers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..500).filter(|_| bucket.take(now)).count())).collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(taken, 1000);
        assert!(!bucket.take(now));
    }

    #[test]
    fn impossible_buckets_are_refused() {
        for (built, expected) in [
            (spec(0, None, 1000), "b.max_tokens: expected at least 1, got 0"),
            (spec(1, Some(0), 1000), "b.tokens_per_fill: expected at least 1, got 0"),
            (spec(1, None, 49), "b.fill_interval: expected at least 50ms, got 49ms"),
            (spec(u32::MAX, None, 86_400_000), "b: expected a bucket that fills within a century"),
        ] {
            assert_eq!(built.err().as_deref(), Some(expected));
        }
    }
}
