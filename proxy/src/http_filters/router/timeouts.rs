//! Which time limits a request gets: the route's, or what `x-envoy-upstream-rq-timeout-ms` and `grpc-timeout` ask for.

use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::RouterConfig;
use crate::http::RequestHead;
use crate::network::http_connection_manager::is_grpc;
use crate::route::RouteAction;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
const X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS: HeaderName =
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms");
const X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-hedge-on-per-try-timeout");
const X_ENVOY_EXPECTED_RQ_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// The limits of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of the request to the end of the response. `None`: no limit.
    pub global: Option<Duration>,
    /// Of one attempt, from its connection and the end of the request to the response's head.
    pub per_try: Option<Duration>,
    /// How long nothing may move in one attempt.
    pub per_try_idle: Option<Duration>,
    /// `x-envoy-hedge-on-per-try-timeout`: an attempt that runs out of its time is not given up for it, so the upstream
    /// is told the whole time.
    pub hedge: bool,
    /// Write the limit into `grpc-timeout`, because the route's `max_grpc_timeout` decides it.
    overwrite_grpc: bool,
}

impl Timeouts {
    /// Takes the headers that only speak to this proxy off the request.
    pub fn of(action: &RouteAction, head: &mut RequestHead, config: &RouterConfig) -> Self {
        let timeouts = &action.timeouts;
        let old_style = timeouts.max_stream_duration.is_none();
        let grpc = is_grpc(&head.headers);
        let mut global = Duration::ZERO;
        let mut overwrite_grpc = false;
        if old_style {
            match timeouts.max_grpc_timeout {
                Some(max) if grpc => {
                    global = capped_grpc(&head.headers, max, timeouts.grpc_timeout_offset);
                    overwrite_grpc = true;
                }
                _ => global = timeouts.timeout,
            }
        }
        let policy = action.retry_policy.as_ref();
        let mut per_try = policy.and_then(|policy| policy.per_try_timeout);
        if asks_for_time(&head.headers) {
            let expected = config
                .respect_expected_rq_timeout
                .then(|| milliseconds(&head.headers, &X_ENVOY_EXPECTED_RQ_TIMEOUT_MS))
                .flatten();
            if let Some(expected) = expected {
                global = expected;
            } else if let Some(asked) = milliseconds(&head.headers, &X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS) {
                global = asked;
            }
            if expected.is_none() {
                head.headers.remove(X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS);
            }
            if let Some(asked) = head.headers.remove(X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS) {
                per_try = asked.to_str().ok().and_then(|n| n.parse().ok()).map(Duration::from_millis).or(per_try);
            }
        }
        let positive = |limit: &Duration| !limit.is_zero();
        let global = Some(global).filter(positive);
        Timeouts {
            // One that is no shorter than all attempts together says nothing.
            per_try: per_try.filter(positive).filter(|limit| global.is_none_or(|global| *limit < global)),
            per_try_idle: policy.and_then(|policy| policy.per_try_idle_timeout).filter(positive),
            global,
            hedge: head.headers.get(X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT).is_some_and(|value| value == "true"),
            overwrite_grpc,
        }
    }

    /// Those of one attempt, which `goes_on` beyond the time it has for itself.
    pub fn for_attempt(mut self, goes_on: bool) -> Self {
        self.per_try = self.per_try.filter(|_| !goes_on);
        self
    }

    /// Tells the upstream how long it has, when so much time has `passed` since the request was complete.
    pub fn write_headers(&self, head: &mut RequestHead, config: &RouterConfig, passed: Duration) {
        let left = self.global.map(|global| global.saturating_sub(passed).max(Duration::from_millis(1)));
        let per_try = self.per_try.filter(|_| !self.hedge);
        let Some(limit) = [per_try, left].into_iter().flatten().min() else { return };
        let ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        if !config.suppress_envoy_headers {
            head.headers.insert(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, decimal(ms));
        }
        if self.overwrite_grpc {
            head.headers.insert(GRPC_TIMEOUT, grpc_value(limit));
        }
    }
}

/// The headers that speak to the router alone, beside those of [`Timeouts`].
const ROUTER_HEADERS: [HeaderName; 8] = [
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
];

/// Whether there are any. Hashing eight names costs more than looking at the names there are.
pub fn has_router_headers(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("x-envoy-") && ROUTER_HEADERS.contains(name))
}

/// Removes them, whether or not they were obeyed.
pub fn remove_router_headers(headers: &mut HeaderMap) {
    ROUTER_HEADERS.iter().for_each(|name| drop(headers.remove(name)));
}

/// How long the whole stream may take, from its start: the route's `max_stream_duration` or a `grpc-timeout` it caps, else
/// `otherwise`. Writes what is left into `grpc-timeout`. The outer `None` leaves the limit as it is.
pub fn stream_duration(
    action: &RouteAction,
    head: &mut RequestHead,
    otherwise: Option<Duration>,
) -> Option<Option<Duration>> {
    let limits = action.timeouts.max_stream_duration.as_ref()?;
    let nonzero = |limit: Duration| (!limit.is_zero()).then_some(limit);
    let (Some(asked), Some(max)) = (grpc_timeout(&head.headers), limits.grpc_timeout_header_max) else {
        return Some(match limits.max_stream_duration {
            Some(limit) => nonzero(limit),
            None => otherwise,
        });
    };
    let mut limit = if !max.is_zero() && asked > max { max } else { asked };
    if let Some(offset) = limits.grpc_timeout_header_offset {
        limit = limit.saturating_sub(offset);
    }
    head.headers.insert(GRPC_TIMEOUT, grpc_value(limit));
    Some(Some(limit))
}

fn decimal(n: u64) -> HeaderValue {
    // The usual limit of a route is its default: no formatting for it.
    if n == 15_000 { HeaderValue::from_static("15000") } else { crate::http::lookup::decimal(n) }
}

/// Whether a header says something about limits, which few requests have.
fn asks_for_time(headers: &HeaderMap) -> bool {
    const OF_TIME: [HeaderName; 3] =
        [X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, X_ENVOY_EXPECTED_RQ_TIMEOUT_MS];
    headers.keys().any(|name| name.as_str().starts_with("x-envoy-") && OF_TIME.contains(name))
}

fn capped_grpc(headers: &HeaderMap, max: Duration, offset: Option<Duration>) -> Duration {
    let mut timeout = grpc_timeout(headers).unwrap_or(Duration::ZERO);
    if let Some(offset) = offset
        && offset < timeout
    {
        timeout -= offset;
    }
    if !max.is_zero() && (timeout.is_zero() || timeout > max) { max } else { timeout }
}

fn milliseconds(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    headers.get(name)?.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

/// The `grpc-timeout` header (gRPC over HTTP/2: at most 8 digits and a unit). Saturates; rounds up to milliseconds.
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    let ms = match unit {
        "H" => n.saturating_mul(3_600_000),
        "M" => n.saturating_mul(60_000),
        "S" => n.saturating_mul(1000),
        "m" => n,
        "u" => n.div_ceil(1000),
        "n" => n.div_ceil(1_000_000),
        _ => return None,
    };
    Some(Duration::from_millis(ms))
}

/// A `grpc-timeout` value in the finest unit that fits into 8 digits, from milliseconds up.
pub fn grpc_value(timeout: Duration) -> HeaderValue {
    let mut n = timeout.as_millis();
    let mut unit = "m";
    for (factor, larger) in [(1000, "S"), (60, "M"), (60, "H")] {
        if n <= 99_999_999 {
            break;
        }
        n /= factor;
        unit = larger;
    }
    let text = format!("{}{unit}", n.min(99_999_999));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("99999999H"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Option<Duration> {
        grpc_timeout(&HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static(text))]))
    }

    #[test]
    fn grpc_timeouts_are_read_in_every_unit_and_never_overflow() {
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse("4m"), Some(Duration::from_millis(4)));
        assert_eq!(parse("1u"), Some(Duration::from_millis(1)));
        assert_eq!(parse("1n"), Some(Duration::from_millis(1)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "S", "1", "1x", "-1S", "+1S", "123456789S", "1.5S"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn grpc_timeouts_are_written_in_eight_digits() {
        assert_eq!(grpc_value(Duration::from_millis(250)), "250m");
        assert_eq!(grpc_value(Duration::from_secs(1_000_000)), "1000000S");
    }
}
