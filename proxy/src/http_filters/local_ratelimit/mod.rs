//! `envoy.filters.http.local_ratelimit`: at most so many requests, counted in this process, over all workers or for each
//! connection.
//!
//! A route may have a configuration of its own, with its own bucket and stats. Without a bucket nothing is limited, and only
//! the counters move.
//!
//! Deliberately missing, and refused: descriptors with the rate limit actions that choose them, shares of a limit among the
//! members of a cluster, `retry-after`.

use std::borrow::Borrow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use prost_types::Any;
use xds_protos::envoy::extensions::common::ratelimit::v3::XRateLimitHeadersRfcVersion;
use xds_protos::envoy::extensions::filters::http::local_ratelimit::v3 as pb;

use super::{FilterCx, FilterPlace, HttpFilter, LocalReply, Step, StreamCx};
use crate::config::{BuildCx, FractionalPercent, Path, Reject, values};
use crate::formatter::HeaderMutations;
use crate::http::{Body, RequestHead, ResponseHead};
use crate::network::local_ratelimit::{BucketSpec, TokenBucket};
use crate::route::FilterConfig;
use crate::runtime::Live;
use crate::stat_block;
use crate::stats::StatBlock;
use crate::stream_info::ResponseFlags;

const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

const GRPC_RESOURCE_EXHAUSTED: u16 = 8;

stat_block! {
    /// Scope `<stat_prefix>.http_local_rate_limit`.
    pub struct HttpLocalRateLimitStats {
        counter ENABLED,
        counter ENFORCED,
        counter OK,
        counter RATE_LIMITED,
    }
}

struct LocalRateLimit {
    place: FilterPlace,
    config: Arc<Config>,
}

struct Config {
    stats: StatBlock<HttpLocalRateLimitStats>,
    bucket: Option<TokenBucket>,
    /// A bucket for each connection, like this one.
    per_connection: bool,
    enabled: Live<FractionalPercent>,
    enforced: Live<FractionalPercent>,
    status: StatusCode,
    grpc_status: Option<u16>,
    response_headers: HeaderMutations,
    request_headers_when_not_enforced: HeaderMutations,
    x_ratelimit_headers: bool,
}

/// The numbers that the response tells, as they were when it was decided.
struct Told {
    limit: u32,
    remaining: u64,
    reset: u64,
}

/// # Errors
/// See [`Config::build`].
pub fn build(config: &Any, path: &Path<'_>, cx: &FilterCx<'_>) -> Result<Arc<dyn HttpFilter>, Reject> {
    let config = Config::build(&values::decode(config, path)?, path, cx.build)?;
    Ok(Arc::new(LocalRateLimit { place: cx.place.clone(), config: Arc::new(config) }))
}

/// The same message for a route, where a bucket is required.
///
/// # Errors
/// See [`Config::build`].
pub fn build_route(config: &Any, path: &Path<'_>, cx: &BuildCx) -> Result<FilterConfig, Reject> {
    let config = Config::build(&values::decode(config, path)?, path, cx)?;
    match config.bucket {
        Some(_) => Ok(Arc::new(config)),
        None => Err(path.field("token_bucket").reject("expected a token bucket, got none")),
    }
}

impl Config {
    /// # Errors
    /// Without a `stat_prefix`, for an impossible bucket or header, and for what is not supported.
    fn build(proto: &pb::LocalRateLimit, path: &Path<'_>, cx: &BuildCx) -> Result<Self, Reject> {
        let pb::LocalRateLimit {
            stat_prefix,
            status,
            token_bucket,
            filter_enabled,
            filter_enforced,
            request_headers_to_add_when_not_enforced,
            response_headers_to_add,
            descriptors,
            local_rate_limit_per_downstream_connection,
            local_cluster_rate_limit,
            enable_x_ratelimit_headers,
            rate_limited_as_resource_exhausted,
            rate_limits,
            enable_retry_after_header,
            // These four say how descriptors are found and counted.
            stage: _,
            vh_rate_limits: _,
            always_consume_default_token_bucket: _,
            max_dynamic_descriptors: _,
        } = proto;
        if stat_prefix.is_empty() {
            return Err(path.field("stat_prefix").reject("expected at least one character"));
        }
        for (field, set) in [
            ("descriptors", !descriptors.is_empty()),
            ("rate_limits", !rate_limits.is_empty()),
            ("local_cluster_rate_limit", local_cluster_rate_limit.is_some()),
            ("enable_retry_after_header", *enable_retry_after_header),
        ] {
            if set {
                return Err(path.field(field).reject("not supported yet"));
            }
        }
        let bucket_path = path.field("token_bucket");
        let bucket = token_bucket.as_ref().map(|bucket| BucketSpec::build(bucket, &bucket_path)).transpose()?;
        let fraction = |proto: &Option<_>, field: &str| match proto {
            Some(proto) => cx.runtime.fractional_percent(proto, &path.field(field)),
            None => Ok(Live::fixed(FractionalPercent::NEVER)),
        };
        let headers = |add: &[_], field: &str| HeaderMutations::build((add, &path.field(field)), (&[], path));
        let code = status.as_ref().and_then(|status| u16::try_from(status.code).ok());
        // Envoy takes anything else for the default.
        let status = code.filter(|code| (400..600).contains(code)).and_then(|code| StatusCode::from_u16(code).ok());
        let draft_03 = XRateLimitHeadersRfcVersion::DraftVersion03 as i32;
        Ok(Config {
            stats: cx.stats.block_verbatim(&format!("{stat_prefix}.http_local_rate_limit")),
            bucket: bucket.map(|spec| TokenBucket::new(spec, Instant::now())),
            per_connection: *local_rate_limit_per_downstream_connection,
            enabled: fraction(filter_enabled, "filter_enabled")?,
            enforced: fraction(filter_enforced, "filter_enforced")?,
            status: status.unwrap_or(StatusCode::TOO_MANY_REQUESTS),
            grpc_status: rate_limited_as_resource_exhausted.then_some(GRPC_RESOURCE_EXHAUSTED),
            response_headers: headers(response_headers_to_add, "response_headers_to_add")?,
            request_headers_when_not_enforced: headers(
                request_headers_to_add_when_not_enforced,
                "request_headers_to_add_when_not_enforced",
            )?,
            x_ratelimit_headers: *enable_x_ratelimit_headers == draft_03,
        })
    }
}

impl HttpFilter for LocalRateLimit {
    fn request(&self, head: &mut RequestHead, _: &mut Body, cx: &mut StreamCx) -> Step {
        let route = cx.route.clone();
        let config = self.place.route_config::<Config>(route.as_ref()).unwrap_or(self.config.borrow());
        if !config.enabled.get().hit(fastrand::u64(..)) {
            return Step::Continue;
        }
        let stats = &config.stats;
        stats.inc(HttpLocalRateLimitStats::ENABLED);
        let connection = cx.info.connection.clone();
        let bucket = config.bucket.as_ref().map(|bucket| match config.per_connection {
            // The first that asks decides what the connection's bucket is like, as in Envoy.
            true => connection.rate_limit.get_or_init(|| TokenBucket::new(bucket.spec, Instant::now())),
            false => bucket,
        });
        let now = Instant::now();
        let allowed = bucket.is_none_or(|bucket| bucket.take(now));
        if let Some(bucket) = bucket.filter(|_| config.x_ratelimit_headers) {
            let reset = bucket.next_token(now).as_secs_f64().ceil() as u64;
            let told = Told { limit: bucket.spec.max_tokens, remaining: bucket.remaining(now), reset };
            self.place.keep(cx, Rc::new(told));
        }
        if allowed {
            stats.inc(HttpLocalRateLimitStats::OK);
            return Step::Continue;
        }
        stats.inc(HttpLocalRateLimitStats::RATE_LIMITED);
        if !config.enforced.get().hit(fastrand::u64(..)) {
            config.request_headers_when_not_enforced.apply_to_request(head, &cx.info);
            return Step::Continue;
        }
        stats.inc(HttpLocalRateLimitStats::ENFORCED);
        let mut reply = LocalReply::new(config.status, "local_rate_limited", "local_rate_limited");
        let mut response = ResponseHead::new(config.status);
        config.response_headers.apply_to_local_reply(&mut response, Some(head), &cx.info);
        reply.headers = response.headers;
        reply.grpc_status = config.grpc_status;
        Step::Reply(Box::new(reply.flag(ResponseFlags::RATE_LIMITED)))
    }

    fn response(&self, head: &mut ResponseHead, _: &mut Body, _: &RequestHead, cx: &mut StreamCx) {
        if let Some(told) = self.place.kept::<Told>(cx) {
            head.headers.append(X_RATELIMIT_LIMIT, HeaderValue::from(told.limit));
            head.headers.append(X_RATELIMIT_REMAINING, HeaderValue::from(told.remaining));
            head.headers.append(X_RATELIMIT_RESET, HeaderValue::from(told.reset));
        }
    }
}
