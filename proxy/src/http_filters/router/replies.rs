//! The answers that the router makes itself, with Envoy's status codes, bodies, flags and detail strings.

use std::borrow::Cow;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};

use super::Outcome;
use super::tries::TryExpired;
use crate::http::{ExchangeError, RequestHead, ResetReason};
use crate::http_filters::LocalReply;
use crate::pool::LeaseError;
use crate::route::RouteMatch;
use crate::stream_info::{ResponseFlags, StreamInfo};

const X_ENVOY_OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

pub fn no_route() -> Outcome {
    LocalReply::new(StatusCode::NOT_FOUND, "", "route_not_found").flag(ResponseFlags::NO_ROUTE_FOUND).into()
}

pub fn no_cluster(status: StatusCode) -> Outcome {
    LocalReply::new(status, "", "cluster_not_found").flag(ResponseFlags::NO_CLUSTER_FOUND).into()
}

pub fn no_healthy_upstream() -> LocalReply {
    LocalReply::new(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream", "no_healthy_upstream")
        .flag(ResponseFlags::NO_HEALTHY_UPSTREAM)
}

/// The route's own answer: a redirect or a direct response.
pub fn own(route: &RouteMatch, head: &mut RequestHead, info: &mut StreamInfo, keep_originals: bool) -> Outcome {
    let Some(own) = route.own_reply(head, info, keep_originals) else { return no_route() };
    let mut reply = LocalReply::new(own.status, own.body, "direct_response").on_route();
    if let Some(content_type) = own.content_type {
        reply.headers.insert(CONTENT_TYPE, content_type);
    }
    if let Some(location) = own.location {
        match HeaderValue::try_from(location) {
            Ok(location) => drop(reply.headers.insert(LOCATION, location)),
            // The request's own bytes made a location that no header can carry.
            Err(_) => return LocalReply::new(StatusCode::BAD_REQUEST, "", "direct_response").into(),
        }
    }
    reply.into()
}

pub fn overflow(retried: bool) -> LocalReply {
    reset(ResetReason::Overflow, None, retried)
}

/// `retried`: it was not the first attempt.
pub fn lease_failed(error: &LeaseError, retried: bool) -> LocalReply {
    match error {
        LeaseError::Overflow => overflow(retried),
        LeaseError::Connect { reason, transport_failure } => reset(*reason, transport_failure.as_deref(), retried),
    }
}

pub fn reset_before_response(error: &ExchangeError, retried: bool) -> LocalReply {
    let mut reply = reset(error.reason, None, retried);
    // Envoy tells what broke HTTP/2, and of HTTP/1 only that something did.
    if error.reason == ResetReason::ProtocolError && error.details.starts_with("http2.") {
        reply.details = format!("upstream_reset_before_response_started{{protocol error|{}}}", error.details).into();
    }
    reply
}

fn reset(reason: ResetReason, transport_failure: Option<&str>, retried: bool) -> LocalReply {
    let words = words(reason);
    let status = match reason {
        ResetReason::ProtocolError => StatusCode::BAD_GATEWAY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    // The reason is for the log; the client is not told how our TLS or network failed.
    let again = if retried { "retried and the latest " } else { "" };
    let body = format!("{PREFIX} {again}reset reason: {words}");
    let details = match transport_failure.filter(|failure| !failure.is_empty()) {
        Some(failure) => format!("upstream_reset_before_response_started{{{words}|{failure}}}"),
        None => format!("upstream_reset_before_response_started{{{words}}}"),
    };
    let mut reply = LocalReply::new(status, body, details).flag(flag(reason));
    if reason == ResetReason::Overflow {
        reply.headers.insert(X_ENVOY_OVERLOADED, HeaderValue::from_static("true"));
    }
    reply
}

const PREFIX: &str = "upstream connect error or disconnect/reset before headers.";

pub fn request_timeout() -> LocalReply {
    LocalReply::new(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout", "response_timeout")
        .flag(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT)
}

pub const TRY_TIMED_OUT: &str = "upstream_per_try_timeout";
pub const TRY_IDLED: &str = "upstream_per_try_idle_timeout";

/// A limit of one attempt ran out.
pub fn try_timeout(which: TryExpired) -> LocalReply {
    let details = match which {
        TryExpired::Total => TRY_TIMED_OUT,
        TryExpired::Idle => TRY_IDLED,
    };
    LocalReply::new(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout", details)
        .flag(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT)
}

pub fn max_stream_duration() -> LocalReply {
    LocalReply::new(
        StatusCode::GATEWAY_TIMEOUT,
        "upstream max stream duration reached",
        "upstream_max_stream_duration_reached",
    )
    .flag(ResponseFlags::UPSTREAM_MAX_STREAM_DURATION_REACHED)
}

/// Envoy's words for a reset, as bodies and detail strings have them.
pub fn words(reason: ResetReason) -> &'static str {
    match reason {
        ResetReason::LocalConnectionFailure => "local connection failure",
        ResetReason::RemoteConnectionFailure => "remote connection failure",
        ResetReason::ConnectionTimeout => "connection timeout",
        ResetReason::ConnectionTermination => "connection termination",
        ResetReason::LocalReset => "local reset",
        ResetReason::RemoteReset => "remote reset",
        ResetReason::LocalRefusedStreamReset => "local refused stream reset",
        ResetReason::RemoteRefusedStreamReset => "remote refused stream reset",
        ResetReason::Overflow => "overflow",
        ResetReason::ProtocolError => "protocol error",
        ResetReason::ConnectError => "remote error with CONNECT request",
        ResetReason::OverloadManager => "overload manager reset",
    }
}

pub fn flag(reason: ResetReason) -> ResponseFlags {
    match reason {
        ResetReason::LocalConnectionFailure | ResetReason::RemoteConnectionFailure | ResetReason::ConnectionTimeout => {
            ResponseFlags::UPSTREAM_CONNECTION_FAILURE
        }
        ResetReason::ConnectionTermination => ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
        ResetReason::LocalReset | ResetReason::LocalRefusedStreamReset => ResponseFlags::LOCAL_RESET,
        ResetReason::RemoteReset | ResetReason::RemoteRefusedStreamReset | ResetReason::ConnectError => {
            ResponseFlags::UPSTREAM_REMOTE_RESET
        }
        ResetReason::Overflow => ResponseFlags::UPSTREAM_OVERFLOW,
        ResetReason::ProtocolError => ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
        ResetReason::OverloadManager => ResponseFlags::OVERLOAD_MANAGER,
    }
}

/// The detail string for an upstream that broke off after its response's head.
pub fn after_response_started(reason: ResetReason) -> Cow<'static, str> {
    format!("upstream_reset_after_response_started{{{}}}", words(reason)).into()
}
