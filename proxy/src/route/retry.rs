//! `envoy.config.route.v3.RetryPolicy`, as data: read and checked in full with the route, for the router's
//! [`retry`](crate::http_filters::router) to act on. Retry priorities are refused.

use std::time::Duration;

use prost_types::Any;
use xds_protos::envoy::config::core::v3::Metadata;
use xds_protos::envoy::config::route::v3 as pb;
use xds_protos::envoy::config::route::v3::retry_policy::retry_host_predicate;
use xds_protos::envoy::extensions::retry::host::omit_host_metadata::v3::OmitHostMetadataConfig;

use super::header_matcher::HeaderMatcher;
use super::unsupported;
use crate::config::values::{decode, duration, optional_duration};
use crate::config::{Path, Reject};

#[derive(Clone)]
pub struct RetryPolicy {
    pub retry_on: RetryOn,
    pub num_retries: u32,
    /// Zero or absent: the route's timeout.
    pub per_try_timeout: Option<Duration>,
    pub per_try_idle_timeout: Option<Duration>,
    pub retry_host_predicates: Box<[RetryHostPredicate]>,
    /// How often a host may be picked anew when a predicate turns it down.
    pub host_selection_retry_max_attempts: u32,
    pub retriable_status_codes: Box<[u16]>,
    /// Base and maximum of the exponential back-off; absent: the runtime's base of 25 ms, ten times that at most.
    pub back_off: Option<(Duration, Option<Duration>)>,
    pub rate_limited_back_off: Option<RateLimitedBackOff>,
    pub retriable_headers: Box<[HeaderMatcher]>,
    pub retriable_request_headers: Box<[HeaderMatcher]>,
}

#[derive(Clone)]
pub enum RetryHostPredicate {
    PreviousHosts,
    OmitCanaryHosts,
    /// Hosts whose metadata has all of these values.
    OmitHostMetadata(Box<Metadata>),
}

/// `rate_limited_retry_back_off`: how long a response tells us to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimitedBackOff {
    pub reset_headers: Box<[(http::HeaderName, ResetHeaderFormat)]>,
    pub max_interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetHeaderFormat {
    Seconds,
    UnixTimestamp,
}

/// Conditions of `retry_on` and `x-envoy-retry-on`, `x-envoy-retry-grpc-on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryOn(u32);

macro_rules! retry_on {
    ($($name:ident = $bit:literal, $text:literal;)*) => {
        impl RetryOn {
            $(pub const $name: RetryOn = RetryOn(1 << $bit);)*
            const ALL: &[(RetryOn, &str)] = &[$((RetryOn::$name, $text),)*];
        }
    };
}

retry_on! {
    HTTP_5XX = 0, "5xx";
    GATEWAY_ERROR = 1, "gateway-error";
    RESET = 2, "reset";
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    CONNECT_FAILURE = 4, "connect-failure";
    ENVOY_RATE_LIMITED = 5, "envoy-ratelimited";
    RETRIABLE_4XX = 6, "retriable-4xx";
    REFUSED_STREAM = 7, "refused-stream";
    RETRIABLE_STATUS_CODES = 8, "retriable-status-codes";
    RETRIABLE_HEADERS = 9, "retriable-headers";
    HTTP3_POST_CONNECT_FAILURE = 10, "http3-post-connect-failure";
    GRPC_CANCELLED = 11, "cancelled";
    GRPC_DEADLINE_EXCEEDED = 12, "deadline-exceeded";
    GRPC_INTERNAL = 13, "internal";
    GRPC_RESOURCE_EXHAUSTED = 14, "resource-exhausted";
    GRPC_UNAVAILABLE = 15, "unavailable";
}

impl RetryOn {
    /// The conditions that look at a gRPC status.
    pub const GRPC: RetryOn = RetryOn::GRPC_CANCELLED
        .with(RetryOn::GRPC_DEADLINE_EXCEEDED)
        .with(RetryOn::GRPC_INTERNAL)
        .with(RetryOn::GRPC_RESOURCE_EXHAUSTED)
        .with(RetryOn::GRPC_UNAVAILABLE);

    /// Reads a list separated by commas. Words that are none of the conditions are passed over, as Envoy does: clients and
    /// older control planes send some.
    pub fn parse(list: &str) -> Self {
        let known = list.split(',').filter_map(|word| Self::ALL.iter().find(|(_, text)| *text == word.trim_ascii()));
        RetryOn(known.fold(0, |set, (condition, _)| set | condition.0))
    }

    pub const fn contains(self, other: RetryOn) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn with(self, other: RetryOn) -> Self {
        RetryOn(self.0 | other.0)
    }

    /// What of this is also in `other`.
    #[must_use]
    pub const fn only(self, other: RetryOn) -> Self {
        RetryOn(self.0 & other.0)
    }

    #[must_use]
    pub const fn except(self, other: RetryOn) -> Self {
        RetryOn(self.0 & !other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl RetryPolicy {
    /// # Errors
    /// Unknown extensions, back-offs that contradict themselves, bad header matchers.
    pub fn build(proto: &pb::RetryPolicy, path: &Path) -> Result<Self, Reject> {
        let pb::RetryPolicy {
            retry_on,
            num_retries,
            per_try_timeout,
            per_try_idle_timeout,
            retry_priority,
            retry_host_predicate,
            retry_options_predicates,
            host_selection_retry_max_attempts,
            retriable_status_codes,
            retry_back_off,
            rate_limited_retry_back_off,
            retriable_headers,
            retriable_request_headers,
            refresh_cluster_on_retry,
        } = proto;
        unsupported::refuse(
            path,
            &[
                ("retry_options_predicates", !retry_options_predicates.is_empty()),
                ("refresh_cluster_on_retry", *refresh_cluster_on_retry),
                ("retry_priority", retry_priority.is_some()),
            ],
        )?;
        let predicates = retry_host_predicate.iter().enumerate();
        let predicates = predicates.map(|(i, p)| build_predicate(p, &path.field("retry_host_predicate").index(i)));
        let attempts_path = path.field("host_selection_retry_max_attempts");
        let host_selection_retry_max_attempts = match host_selection_retry_max_attempts {
            0 => 1,
            n => u32::try_from(*n)
                .map_err(|_| attempts_path.reject(format_args!("expected a number of attempts, got {n}")))?,
        };
        let codes = retriable_status_codes.iter().enumerate().map(|(i, code)| {
            let code_path = path.field("retriable_status_codes");
            u16::try_from(*code)
                .map_err(|_| code_path.index(i).reject(format_args!("expected a status code, got {code}")))
        });
        let back_off = retry_back_off.as_ref().map(|b| build_back_off(b, &path.field("retry_back_off"))).transpose()?;
        let rate_limited = rate_limited_retry_back_off.as_ref();
        let rate_limited =
            rate_limited.map(|b| build_rate_limited(b, &path.field("rate_limited_retry_back_off"))).transpose()?;
        Ok(RetryPolicy {
            retry_on: RetryOn::parse(retry_on),
            num_retries: num_retries.unwrap_or(1),
            per_try_timeout: optional_duration(per_try_timeout.as_ref(), &path.field("per_try_timeout"))?,
            per_try_idle_timeout: optional_duration(
                per_try_idle_timeout.as_ref(),
                &path.field("per_try_idle_timeout"),
            )?,
            retry_host_predicates: predicates.collect::<Result<_, _>>()?,
            host_selection_retry_max_attempts,
            retriable_status_codes: codes.collect::<Result<_, _>>()?,
            back_off,
            rate_limited_back_off: rate_limited,
            retriable_headers: HeaderMatcher::build_all(retriable_headers, &path.field("retriable_headers"))?,
            retriable_request_headers: HeaderMatcher::build_all(
                retriable_request_headers,
                &path.field("retriable_request_headers"),
            )?,
        })
    }
}

/// The message's name at the end of a type URL.
fn message_name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

fn build_predicate(proto: &pb::retry_policy::RetryHostPredicate, path: &Path) -> Result<RetryHostPredicate, Reject> {
    let pb::retry_policy::RetryHostPredicate { name, config_type } = proto;
    let unknown = |type_url: &str| {
        let why = format_args!("retry host predicate {name:?} with type URL {type_url:?} is not known");
        path.reject(why)
    };
    let Some(retry_host_predicate::ConfigType::TypedConfig(any)) = config_type else { return Err(unknown("")) };
    match message_name(any) {
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" => Ok(RetryHostPredicate::PreviousHosts),
        "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate" => {
            Ok(RetryHostPredicate::OmitCanaryHosts)
        }
        "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig" => {
            let config: OmitHostMetadataConfig = decode(any, &path.field("typed_config"))?;
            Ok(RetryHostPredicate::OmitHostMetadata(Box::new(config.metadata_match.unwrap_or_default())))
        }
        _ => Err(unknown(&any.type_url)),
    }
}

fn build_back_off(proto: &pb::retry_policy::RetryBackOff, path: &Path) -> Result<(Duration, Option<Duration>), Reject> {
    let pb::retry_policy::RetryBackOff { base_interval, max_interval } = proto;
    let base_path = path.field("base_interval");
    let base = base_interval.as_ref().ok_or_else(|| base_path.reject("expected a duration, got none"))?;
    let base = positive(duration(base, &base_path)?, &base_path)?;
    let max_path = path.field("max_interval");
    let max = optional_duration(max_interval.as_ref(), &max_path)?;
    let max = max.map(|max| positive(max, &max_path)).transpose()?;
    if max.is_some_and(|max| max < base) {
        return Err(max_path.reject(format_args!("expected at least base_interval ({base:?}), got {max:?}")));
    }
    Ok((base, max))
}

fn build_rate_limited(
    proto: &pb::retry_policy::RateLimitedRetryBackOff,
    path: &Path,
) -> Result<RateLimitedBackOff, Reject> {
    use pb::retry_policy::ResetHeaderFormat as Format;
    let pb::retry_policy::RateLimitedRetryBackOff { reset_headers, max_interval } = proto;
    let headers_path = path.field("reset_headers");
    if reset_headers.is_empty() {
        return Err(headers_path.reject("expected at least one header"));
    }
    let headers = reset_headers.iter().enumerate().map(|(i, header)| {
        let path = headers_path.index(i);
        let name = http::HeaderName::from_bytes(header.name.as_bytes())
            .map_err(|_| path.field("name").reject(format_args!("expected a header name, got {:?}", header.name)))?;
        let format = match Format::try_from(header.format) {
            Ok(Format::Seconds) => ResetHeaderFormat::Seconds,
            Ok(Format::UnixTimestamp) => ResetHeaderFormat::UnixTimestamp,
            Err(_) => return Err(path.field("format").reject(format_args!("{} is not known", header.format))),
        };
        Ok((name, format))
    });
    let max_path = path.field("max_interval");
    let max = optional_duration(max_interval.as_ref(), &max_path)?;
    Ok(RateLimitedBackOff {
        reset_headers: headers.collect::<Result<_, _>>()?,
        max_interval: max.map_or(Ok(Duration::from_secs(300)), |max| positive(max, &max_path))?,
    })
}

/// Less than a millisecond counts as one.
fn positive(interval: Duration, path: &Path) -> Result<Duration, Reject> {
    if interval.is_zero() {
        return Err(path.reject("expected more than zero"));
    }
    Ok(interval.max(Duration::from_millis(1)))
}
