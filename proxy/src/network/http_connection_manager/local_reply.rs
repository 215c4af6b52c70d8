//! `local_reply_config`, and the form that every reply of the proxy's own has: gRPC trailers-only for gRPC requests, a text
//! body for the others.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use xds_protos::envoy::extensions::filters::network::http_connection_manager::v3 as proto;

use super::response_headers::is_grpc;
use crate::config::{BuildCx, Path, Reject};
use crate::http::{Body, RequestHead, ResponseHead};
use crate::http_filters::LocalReply;
use crate::stream_info::{ResponseFlags, StreamInfo};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// `LocalReplyConfig` as built.
#[derive(Default)]
pub struct LocalReplyConfig {}

impl LocalReplyConfig {
    /// # Errors
    /// Mappers and formats are not supported yet.
    pub fn build(p: Option<&proto::LocalReplyConfig>, path: &Path<'_>, _cx: &BuildCx) -> Result<Self, Reject> {
        match p {
            Some(p) if !p.mappers.is_empty() => Err(path.field("mappers").reject("not supported yet; remove it")),
            Some(p) if p.body_format.is_some() => Err(path.field("body_format").reject("not supported yet; remove it")),
            _ => Ok(LocalReplyConfig {}),
        }
    }
}

/// Gives a reply its head and body, and notes its status and body in `info`.
pub fn render(
    reply: LocalReply,
    request: Option<&RequestHead>,
    info: &mut StreamInfo,
    _config: &LocalReplyConfig,
) -> (ResponseHead, Body) {
    info.response_code = reply.status.as_u16();
    info.local_reply_body = Some(reply.body.clone()).filter(|body| !body.is_empty());
    let mut head = ResponseHead::new(reply.status);
    head.headers = reply.headers;
    if request.is_some_and(|request| is_grpc(&request.headers)) {
        grpc(&mut head, reply.grpc_status, reply.status, &reply.body, info.flags);
        return (head, Body::Empty);
    }
    if reply.body.is_empty() {
        return (head, Body::Empty);
    }
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
    head.headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain"));
    if request.is_some_and(|request| request.method == Method::HEAD) {
        return (head, Body::Empty);
    }
    (head, Body::Full(reply.body))
}

/// A gRPC client reads the status from headers alone ("Trailers-Only").
fn grpc(head: &mut ResponseHead, status: Option<u16>, http: StatusCode, body: &[u8], flags: ResponseFlags) {
    head.status = StatusCode::OK;
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let status = status.unwrap_or_else(|| grpc_status(http, flags));
    head.headers.insert(GRPC_STATUS, HeaderValue::from(status));
    if !body.is_empty()
        && let Ok(message) = HeaderValue::try_from(percent_encode(body))
    {
        head.headers.insert(GRPC_MESSAGE, message);
    }
}

/// The gRPC status for an HTTP status (gRPC's "HTTP to gRPC Status Code Mapping").
fn grpc_status(http: StatusCode, _flags: ResponseFlags) -> u16 {
    match http.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// `grpc-message` as the gRPC protocol wants it: printable ASCII but `%`, the rest as `%XX`.
fn percent_encode(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for &b in text {
        if (0x20..0x7f).contains(&b) && b != b'%' {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_messages_are_percent_encoded() {
        assert_eq!(percent_encode(b"a b%\n\xff~"), "a b%25%0A%FF~");
    }

    #[test]
    fn http_statuses_map_as_grpc_says() {
        let map = |code: u16| grpc_status(StatusCode::from_u16(code).expect("valid"), ResponseFlags::empty());
        assert_eq!([400, 401, 403, 404, 429, 500, 503, 200].map(map), [13, 16, 7, 12, 14, 2, 14, 2]);
    }
}
