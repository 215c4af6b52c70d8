//! What the connection manager does to a response's headers before the codec writes them.

use std::cell::RefCell;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use http::header::{self, HeaderValue};

use super::config::{HcmConfig, ServerHeader};
use super::request_headers::{X_ENVOY_FORCE_TRACE, X_REQUEST_ID, append_via};
use crate::http::{RequestHead, ResponseHead, lookup};

/// Sets `server`, `date`, `via` and, where asked for, `x-request-id`.
pub fn mutate(head: &mut ResponseHead, request: Option<&RequestHead>, config: &HcmConfig, now: Instant) {
    let headers = &mut head.headers;
    headers.entry(header::DATE).or_insert_with(|| date(now));
    match config.server_header {
        ServerHeader::Overwrite => drop(headers.insert(header::SERVER, config.server_name.clone())),
        ServerHeader::AppendIfAbsent => {
            headers.entry(header::SERVER).or_insert_with(|| config.server_name.clone());
        }
        ServerHeader::PassThrough => {}
    }
    if let Some(request) = request
        && (config.always_set_request_id_in_response || lookup::has(&request.headers, &X_ENVOY_FORCE_TRACE))
        && let Some(id) = request.headers.get(X_REQUEST_ID)
    {
        headers.insert(X_REQUEST_ID, id.clone());
    }
    if let Some(via) = &config.via {
        append_via(headers, via);
    }
}

/// Whether this is a gRPC message: `application/grpc`, alone or with a `+` or `;` suffix.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return false };
    match value.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"),
        None => false,
    }
}

/// The current date as a header, formatted at most twice a second on each thread.
fn date(now: Instant) -> HeaderValue {
    thread_local! {
        static CACHED: RefCell<Option<(Instant, HeaderValue)>> = const { RefCell::new(None) };
    }
    CACHED.with_borrow_mut(|cached| match cached {
        Some((at, value)) if now.saturating_duration_since(*at) < Duration::from_millis(500) => value.clone(),
        _ => {
            let text = httpdate::fmt_http_date(SystemTime::now());
            let value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
            *cached = Some((now, value.clone()));
            value
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_content_type() {
        let is = |text: &'static str| {
            is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(text))]))
        };
        assert!(is("application/grpc") && is("application/grpc+proto") && is("application/grpc;v=1"));
        assert!(!is("application/grpc-web") && !is("application/json"));
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
