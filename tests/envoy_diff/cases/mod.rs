//! The groups, one file each.

pub mod access_log;
pub mod admin;
pub mod bad_heads;
pub mod bad_upstreams;
pub mod cors;
pub mod grpc;
pub mod headers;
pub mod http1;
pub mod http2;
pub mod local_ratelimit;
pub mod local_replies;
pub mod log_types;
pub mod origins;
pub mod paths;
pub mod rbac;
pub mod retries;
pub mod rewrites;
pub mod routing;
pub mod strict;
pub mod tcp;
pub mod timeouts;
pub mod tls;
pub mod tracing;
pub mod upgrades;

use tests::config::{access_log, bootstrap, chain, hcm, listener_with};

/// An access log that says what the proxy made of a request.
pub fn log() -> String {
    access_log(
        "access.log",
        "log_format: { text_format_source: { inline_string: \"%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %ROUTE_NAME% %UPSTREAM_CLUSTER% %UPSTREAM_HOST%\\n\" } }",
    )
}

/// A listener with a connection manager that logs.
pub fn http_listener(name: &str, routes: &str, fields: &str) -> String {
    listener_with(name, &chain(&hcm(routes, &format!("{}{fields}", log())), ""), "")
}

/// One such listener `main`, and clusters.
pub fn http(routes: &str, fields: &str, clusters: &str) -> String {
    bootstrap(&http_listener("main", routes, fields), clusters)
}

/// Stats that most groups compare.
pub const STATS: &[&str] = &[
    "^http\\.ingress\\.downstream_(rq|cx)_(total|completed|1xx|2xx|3xx|4xx|5xx|active|rx_reset|tx_reset|non_relative_path|too_large|timeout|idle_timeout|header_timeout|failed_path_normalization|rejected_via_ip_detection|http1_total|http2_total|destroy_remote_active_rq|destroy_local_active_rq|protocol_error|drain_close|upgrades_total|upgrades_active|max_duration_reached|overload_close|response_before_rq_complete|ws_on_non_ws_route)$",
    "^http\\.ingress\\.(no_route|no_cluster|rq_direct_response|rq_redirect|rq_total|rq_reset_after_downstream_response_started|passthrough_internal_redirect_.*)$",
    "^http1\\.|^http2\\.",
    "^cluster\\..*\\.(upstream_rq|upstream_cx)_(total|completed|[1-5]xx|[1-5][0-9][0-9]|timeout|connect_fail|none_healthy|active|cancelled|rx_reset|tx_reset|protocol_error|pending_total|pending_active|maintenance_mode|http1_total|http2_total|pending_failure_eject|close_notify|overflow)$",
    "^cluster\\..*\\.(external|internal)\\.",
];
