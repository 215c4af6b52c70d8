use http::{HeaderName, StatusCode};
use xds_protos::envoy::extensions::filters::http::router::v3 as proto;

use super::Outcome;
use crate::config::{BuildCx, Path, Reject};
use crate::http::RequestHead;
use crate::http_filters::LocalReply;
use crate::stats::StatBlock;
use crate::stats::names::RouterStats;
use crate::stream_info::ResponseFlags;

/// `envoy.extensions.filters.http.router.v3.Router` as built.
pub struct RouterConfig {
    pub stats: StatBlock<RouterStats>,
    /// Leave out the `x-envoy-*` headers that the router would add.
    pub suppress_envoy_headers: bool,
    pub respect_expected_rq_timeout: bool,
    strict_check_headers: Vec<HeaderName>,
}

impl RouterConfig {
    /// # Errors
    /// When the message asks for what the router does not do.
    pub fn build(p: &proto::Router, path: &Path<'_>, scope: &str, cx: &BuildCx) -> Result<Self, Reject> {
        let unsupported = [
            ("dynamic_stats", p.dynamic_stats == Some(false)),
            ("start_child_span", p.start_child_span),
            ("upstream_log", !p.upstream_log.is_empty()),
            ("upstream_log_options", p.upstream_log_options.is_some()),
            ("upstream_http_filters", !p.upstream_http_filters.is_empty()),
            ("reject_connect_request_early_data", p.reject_connect_request_early_data == Some(true)),
            ("suppress_grpc_request_failure_code_stats", p.suppress_grpc_request_failure_code_stats),
        ];
        if let Some((field, _)) = unsupported.iter().find(|(_, set)| *set) {
            return Err(path.field(field).reject("this field is not supported yet; remove it"));
        }
        let list = path.field("strict_check_headers");
        let strict_check_headers = p
            .strict_check_headers
            .iter()
            .enumerate()
            .map(|(i, name)| match name.to_ascii_lowercase().as_str() {
                "x-envoy-upstream-rq-timeout-ms"
                | "x-envoy-upstream-rq-per-try-timeout-ms"
                | "x-envoy-max-retries"
                | "x-envoy-retry-grpc-on"
                | "x-envoy-retry-on" => HeaderName::try_from(name.as_str()).map_err(|e| list.index(i).reject(e)),
                _ => Err(list.index(i).reject(format_args!(
                    "expected one of x-envoy-upstream-rq-timeout-ms, x-envoy-upstream-rq-per-try-timeout-ms, \
                     x-envoy-max-retries, x-envoy-retry-grpc-on, x-envoy-retry-on; got {name:?}"
                ))),
            })
            .collect::<Result<_, _>>()?;
        Ok(RouterConfig {
            stats: cx.stats.block(scope),
            suppress_envoy_headers: p.suppress_envoy_headers,
            respect_expected_rq_timeout: p.respect_expected_rq_timeout,
            strict_check_headers,
        })
    }

    /// A 400 for a request whose `x-envoy-*` headers say what they may not.
    pub fn strict_check(&self, head: &RequestHead) -> Option<Outcome> {
        let bad = self
            .strict_check_headers
            .iter()
            .find(|name| head.headers.get(*name).is_some_and(|value| !is_valid(name, value.to_str().unwrap_or("?"))))?;
        let mut reply = LocalReply::new(
            StatusCode::BAD_REQUEST,
            format!("invalid header '{bad}' with value '{}'", head.headers.get(bad)?.to_str().unwrap_or_default()),
            "request_headers_failed_strict_check",
        )
        .flag(ResponseFlags::INVALID_ENVOY_REQUEST_HEADERS);
        reply.details = "request_headers_failed_strict_check".into();
        Some(reply.into())
    }
}

fn is_valid(name: &HeaderName, value: &str) -> bool {
    const RETRY_ON: [&str; 14] = [
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "envoy-ratelimited",
        "retriable-4xx",
        "refused-stream",
        "retriable-status-codes",
        "retriable-headers",
        "http3-post-connect-failure",
        "connect-failure-after",
        "unavailable",
        "cancelled",
    ];
    const RETRY_GRPC_ON: [&str; 5] =
        ["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"];
    match name.as_str() {
        "x-envoy-retry-on" => value.split(',').all(|word| RETRY_ON.contains(&word.trim())),
        "x-envoy-retry-grpc-on" => value.split(',').all(|word| RETRY_GRPC_ON.contains(&word.trim())),
        _ => value.parse::<u64>().is_ok(),
    }
}
