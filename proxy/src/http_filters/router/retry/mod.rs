//! Whether a request is sent again, and when: `envoy.config.route.v3.RetryPolicy` and the `x-envoy-retry-*` request headers
//! (Envoy's `RetryStateImpl`), as a state machine without I/O: time and chance are arguments.
//!
//! The router asks after each attempt, [`RetryState::after_response`] or [`RetryState::after_reset`], then
//! [`RetryState::admit`], and between attempts [`RetryState::delay`]. Circuit breaker, body and hosts are its own business.
//!
//! Deliberately missing: hedging, retry priorities (refused in route tables), HTTP/3's conditions.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::config::metadata;
use crate::endpoint::Host;
use crate::http::{RequestHead, ResetReason, ResponseHead};
use crate::route::{ResetHeaderFormat, RetryHostPredicate, RetryOn, RetryPolicy};

const X_ENVOY_RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
const X_ENVOY_RETRY_GRPC_ON: HeaderName = HeaderName::from_static("x-envoy-retry-grpc-on");
const X_ENVOY_MAX_RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const X_ENVOY_RETRIABLE_STATUS_CODES: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
const X_ENVOY_RETRIABLE_HEADER_NAMES: HeaderName = HeaderName::from_static("x-envoy-retriable-header-names");
const X_ENVOY_RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// `upstream.base_retry_backoff_ms` unless a policy says otherwise.
const BASE_INTERVAL: Duration = Duration::from_millis(25);

/// What is left to one request.
pub struct RetryState {
    policy: Option<Arc<RetryPolicy>>,
    on: RetryOn,
    remaining: u32,
    /// Beside the policy's.
    status_codes: Vec<u16>,
    header_names: Vec<HeaderName>,
    back_off: BackOff,
    /// What the last response asked for.
    rate_limit: Option<Duration>,
    retried: bool,
}

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is the last one. `after_retry`: there was one before it, which makes it a success of retrying.
    Final { after_retry: bool },
    /// It would be made again, but has been often enough.
    LimitExceeded,
    /// It may be made again.
    Allowed,
}

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    Exponential(Duration),
    /// The response said when.
    RateLimited(Duration),
}

impl RetryState {
    /// `None` when neither the route nor the request wants retries.
    pub fn new(policy: Option<&Arc<RetryPolicy>>, request: &RequestHead) -> Option<Self> {
        let headers = &request.headers;
        let list = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let mut on = policy.map(|policy| policy.retry_on).unwrap_or_default();
        if let Some(list) = list(&X_ENVOY_RETRY_ON) {
            on = on.with(RetryOn::parse(list).except(RetryOn::GRPC));
        }
        if let Some(list) = list(&X_ENVOY_RETRY_GRPC_ON) {
            on = on.with(RetryOn::parse(list).only(RetryOn::GRPC));
        }
        if let Some(policy) = policy
            && !policy.retriable_request_headers.is_empty()
            && !policy.retriable_request_headers.iter().any(|matcher| matcher.matches_request(request))
        {
            on = RetryOn::default();
        }
        if on.is_empty() {
            return None;
        }
        let asked = list(&X_ENVOY_MAX_RETRIES).and_then(|n| n.parse().ok());
        let codes = list(&X_ENVOY_RETRIABLE_STATUS_CODES).unwrap_or_default().split(',');
        let names = list(&X_ENVOY_RETRIABLE_HEADER_NAMES).unwrap_or_default().split(',');
        Some(RetryState {
            on,
            remaining: asked.or(policy.map(|policy| policy.num_retries)).unwrap_or(1),
            status_codes: codes.filter_map(|code| code.trim().parse().ok()).collect(),
            header_names: names.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok()).collect(),
            back_off: BackOff::new(policy.and_then(|policy| policy.back_off)),
            policy: policy.cloned(),
            rate_limit: None,
            retried: false,
        })
    }

    /// Whether a response with this head is to be thrown away for another one.
    pub fn after_response(&mut self, head: &ResponseHead, now: SystemTime) -> bool {
        self.rate_limit = None;
        let would = self.is_retriable(head);
        if let Some(limits) = self.policy.as_ref().and_then(|policy| policy.rate_limited_back_off.as_ref())
            && would
        {
            let reset = limits.reset_headers.iter().filter_map(|(name, format)| {
                let wait = reset_interval(head.headers.get(name)?, *format, now)?;
                (wait <= limits.max_interval).then_some(wait)
            });
            self.rate_limit = { reset }.next().filter(|wait| *wait > Duration::from_millis(1));
        }
        would
    }

    fn is_retriable(&self, head: &ResponseHead) -> bool {
        let (code, on) = (head.status.as_u16(), |condition| self.on.contains(condition));
        if head.headers.contains_key(X_ENVOY_RATE_LIMITED) {
            return on(RetryOn::ENVOY_RATE_LIMITED);
        }
        let by_policy = |policy: &Arc<RetryPolicy>| policy.retriable_status_codes.contains(&code);
        let has_header = || {
            self.header_names.iter().any(|name| head.headers.contains_key(name))
                || self.policy.iter().any(|p| p.retriable_headers.iter().any(|matcher| matcher.matches_response(head)))
        };
        (on(RetryOn::HTTP_5XX) && head.status.is_server_error())
            || (on(RetryOn::GATEWAY_ERROR) && matches!(code, 502..=504))
            || (on(RetryOn::RETRIABLE_4XX) && head.status == StatusCode::CONFLICT)
            || (on(RetryOn::RETRIABLE_STATUS_CODES)
                && (self.status_codes.contains(&code) || self.policy.iter().any(by_policy)))
            || (on(RetryOn::RETRIABLE_HEADERS) && has_header())
            || grpc_condition(&head.headers).is_some_and(on)
    }

    /// Whether an attempt that got no response is to be made again. `started`: something of the request was sent.
    pub fn after_reset(&self, reason: ResetReason, started: bool) -> bool {
        let on = |condition| self.on.contains(condition);
        if reason == ResetReason::Overflow {
            return false;
        }
        on(RetryOn::RESET)
            || on(RetryOn::HTTP_5XX)
            || on(RetryOn::GATEWAY_ERROR)
            || (on(RetryOn::RESET_BEFORE_REQUEST) && !started)
            || (on(RetryOn::REFUSED_STREAM) && reason == ResetReason::RemoteRefusedStreamReset)
            || (on(RetryOn::CONNECT_FAILURE)
                && matches!(
                    reason,
                    ResetReason::LocalConnectionFailure
                        | ResetReason::RemoteConnectionFailure
                        | ResetReason::ConnectionTimeout
                ))
    }

    /// Takes note of the answer to one of these questions.
    pub fn admit(&mut self, would: bool) -> Admission {
        let after_retry = std::mem::take(&mut self.retried);
        if !would {
            return Admission::Final { after_retry };
        }
        match self.remaining.checked_sub(1) {
            None => Admission::LimitExceeded,
            Some(left) => {
                self.remaining = left;
                Admission::Allowed
            }
        }
    }

    /// The retry is made after this time.
    pub fn delay(&mut self, random: u64) -> Delay {
        self.retried = true;
        match self.rate_limit.take() {
            Some(least) => Delay::RateLimited(least + below(random, least / 2)),
            None => Delay::Exponential(self.back_off.next(random)),
        }
    }

    /// How often another host may be picked when this attempt may not use it.
    pub fn host_picks(&self) -> u32 {
        let policy = self.policy.as_ref().filter(|policy| !policy.retry_host_predicates.is_empty());
        policy.map_or(0, |policy| policy.host_selection_retry_max_attempts)
    }

    /// The policy's `retry_host_predicate` turns the host down. `tried` are those of earlier attempts.
    pub fn rejects_host(&self, host: &Arc<Host>, tried: &[Arc<Host>]) -> bool {
        self.policy.iter().flat_map(|policy| &policy.retry_host_predicates).any(|predicate| match predicate {
            RetryHostPredicate::PreviousHosts => tried.iter().any(|before| before.id == host.id),
            RetryHostPredicate::OmitCanaryHosts => host.canary,
            RetryHostPredicate::OmitHostMetadata(unwanted) => {
                let labels = unwanted.filter_metadata.get("envoy.lb");
                let of_host = host.metadata.as_ref().map(|metadata| metadata.get());
                labels.is_some_and(|labels| metadata::has_labels(labels, of_host, "envoy.lb", false))
            }
        })
    }
}

/// The condition of a gRPC status in the headers, which a response without messages has.
fn grpc_condition(headers: &HeaderMap) -> Option<RetryOn> {
    match headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()? {
        1_u32 => Some(RetryOn::GRPC_CANCELLED),
        4 => Some(RetryOn::GRPC_DEADLINE_EXCEEDED),
        8 => Some(RetryOn::GRPC_RESOURCE_EXHAUSTED),
        13 => Some(RetryOn::GRPC_INTERNAL),
        14 => Some(RetryOn::GRPC_UNAVAILABLE),
        _ => None,
    }
}

/// How long a response asks to wait.
fn reset_interval(value: &HeaderValue, format: ResetHeaderFormat, now: SystemTime) -> Option<Duration> {
    let seconds = Duration::from_secs(value.to_str().ok()?.parse().ok()?);
    match format {
        ResetHeaderFormat::Seconds => Some(seconds),
        ResetHeaderFormat::UnixTimestamp => (SystemTime::UNIX_EPOCH.checked_add(seconds)?).duration_since(now).ok(),
    }
}

/// Exponential, with full jitter.
struct BackOff {
    next: Duration,
    max: Duration,
}

impl BackOff {
    fn new(configured: Option<(Duration, Option<Duration>)>) -> Self {
        let (base, max) = configured.unwrap_or((BASE_INTERVAL, None));
        BackOff { next: base, max: max.unwrap_or(base.saturating_mul(10)) }
    }

    fn next(&mut self, random: u64) -> Duration {
        let interval = self.next;
        self.next = interval.saturating_mul(2).min(self.max);
        below(random, interval)
    }
}

/// In whole milliseconds, as Envoy counts.
fn below(random: u64, limit: Duration) -> Duration {
    let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random.checked_rem(limit).unwrap_or(0))
}
