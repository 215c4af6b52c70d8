//! `local_reply_config`, and the form that every reply of the proxy's own has: gRPC trailers-only for gRPC requests, a text
//! body for the others. Redirects and direct responses of routes are local replies too, as in Envoy.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use xds_protos::envoy::extensions::filters::network::http_connection_manager::v3 as proto;

use super::response_headers::is_grpc;
use crate::access_log::{AccessLogType, Filter, LogContext};
use crate::config::data_source::DataSource;
use crate::config::{BuildCx, Path, Reject};
use crate::formatter::{HeaderMutations, LineFormat};
use crate::http::{Body, RequestHead, ResponseHead};
use crate::http_filters::LocalReply;
use crate::stream_info::StreamInfo;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// `LocalReplyConfig` as built.
#[derive(Default)]
pub struct LocalReplyConfig {
    mappers: Vec<Mapper>,
    body_format: Option<LineFormat>,
}

/// `ResponseMapper`: what it changes of the replies that its filter chooses.
struct Mapper {
    filter: Filter,
    status: Option<StatusCode>,
    body: Option<Bytes>,
    format: Option<LineFormat>,
    headers: HeaderMutations,
}

impl LocalReplyConfig {
    /// # Errors
    /// For a mapper without a filter, a status outside 200 to 599, and bad filters, formats and headers.
    pub fn build(p: Option<&proto::LocalReplyConfig>, path: &Path<'_>, cx: &BuildCx) -> Result<Self, Reject> {
        let Some(proto::LocalReplyConfig { mappers, body_format }) = p else { return Ok(Self::default()) };
        let mappers_path = path.field("mappers");
        let mappers = mappers.iter().enumerate().map(|(i, mapper)| Mapper::build(mapper, &mappers_path.index(i), cx));
        let mappers = mappers.collect::<Result<_, _>>()?;
        let body_format = body_format.as_ref().map(|f| LineFormat::build(f, &path.field("body_format"))).transpose()?;
        Ok(LocalReplyConfig { mappers, body_format })
    }
}

impl Mapper {
    fn build(p: &proto::ResponseMapper, path: &Path<'_>, cx: &BuildCx) -> Result<Self, Reject> {
        let proto::ResponseMapper { filter, status_code, body, body_format_override, headers_to_add } = p;
        let filter_path = path.field("filter");
        let filter = filter.as_ref().ok_or_else(|| filter_path.reject("expected a filter, got none"))?;
        let status = status_code.map(|code| {
            let status = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
            status.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(|| {
                path.field("status_code").reject(format_args!("expected a status from 200 to 599, got {code}"))
            })
        });
        Ok(Mapper {
            filter: Filter::build(filter, &filter_path, cx)?,
            status: status.transpose()?,
            body: body.as_ref().map(|body| DataSource::load(body, &path.field("body"))).transpose()?,
            format: body_format_override
                .as_ref()
                .map(|format| LineFormat::build(format, &path.field("body_format_override")))
                .transpose()?,
            headers: HeaderMutations::build(
                (headers_to_add, &path.field("headers_to_add")),
                (&[], &path.field("headers_to_remove")),
            )?,
        })
    }
}

/// Gives a reply its head and body, and notes its status and body in `info`. `modify` adds what the route adds; it comes
/// before the mappers, which see its headers.
///
/// The order is Envoy's, and so are its consequences: a mapper's headers print the status that the mapper is about to
/// change, and the filters of later mappers are not asked.
pub fn render(
    reply: LocalReply,
    request: Option<&RequestHead>,
    info: &mut StreamInfo,
    config: &LocalReplyConfig,
    modify: impl FnOnce(&mut ResponseHead, &StreamInfo),
) -> (ResponseHead, Body) {
    let mut head = ResponseHead::new(reply.status);
    head.headers = reply.headers;
    modify(&mut head, info);
    let own_type = head.headers.get(CONTENT_TYPE).cloned();
    info.response_code = reply.status.as_u16();
    let mut body = reply.body.clone();
    let content_type = rewrite(&mut head, &mut body, request, info, config);
    let changed_type = own_type.as_ref() != head.headers.get(CONTENT_TYPE);
    let head_request = request.is_some_and(|request| request.method == Method::HEAD);
    if request.is_some_and(|request| is_grpc(&request.headers)) {
        grpc(&mut head, reply.grpc_status, &body, head_request);
        return (head, Body::Empty);
    }
    if body.is_empty() {
        head.headers.remove(CONTENT_LENGTH);
        head.headers.remove(CONTENT_TYPE);
        return (head, Body::Empty);
    }
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if !head.headers.contains_key(CONTENT_TYPE) || (body != reply.body && !changed_type) {
        head.headers.insert(CONTENT_TYPE, content_type);
    }
    if head_request {
        return (head, Body::Empty);
    }
    (head, Body::Full(body))
}

/// Applies the first mapper that matches, then the body's format. Returns the content type of what came out.
fn rewrite(
    head: &mut ResponseHead,
    body: &mut Bytes,
    request: Option<&RequestHead>,
    info: &mut StreamInfo,
    config: &LocalReplyConfig,
) -> HeaderValue {
    let mapper = config.mappers.iter().find(|mapper| mapper.filter.matches(&context(request, head, info)));
    if let Some(mapper) = mapper {
        if let Some(own) = &mapper.body {
            body.clone_from(own);
        }
        // There is no `%LOCAL_REPLY_BODY%` in headers.
        mapper.headers.apply_to_local_reply(head, request, info);
        if let Some(status) = mapper.status {
            head.status = status;
            info.response_code = status.as_u16();
        }
    }
    match mapper.and_then(|mapper| mapper.format.as_ref()).or(config.body_format.as_ref()) {
        None => HeaderValue::from_static("text/plain"),
        Some(format) => {
            let mut out = Vec::with_capacity(256);
            info.local_reply_body = Some(body.clone()).filter(|body| !body.is_empty());
            format.write(&context(request, head, info), &mut out);
            // Logs, which come later, do not have it, as in Envoy.
            info.local_reply_body = None;
            *body = out.into();
            format.content_type.clone()
        }
    }
}

fn context<'a>(request: Option<&'a RequestHead>, response: &'a ResponseHead, info: &'a StreamInfo) -> LogContext<'a> {
    LogContext { request, response: Some(response), trailers: None, info, kind: AccessLogType::NotSet }
}

/// A gRPC client reads the status from headers alone ("Trailers-Only").
fn grpc(head: &mut ResponseHead, status: Option<u16>, body: &[u8], head_request: bool) {
    let status = status.unwrap_or_else(|| grpc_status(head.status));
    head.status = StatusCode::OK;
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    // A mapper may have said it.
    head.headers.entry(GRPC_STATUS).or_insert(HeaderValue::from(status));
    // JSON ends with a line break, which is no part of a message.
    let body = body.strip_suffix(b"\n").unwrap_or(body);
    if !body.is_empty()
        && !head_request
        && let Ok(message) = HeaderValue::try_from(percent_encode(body))
    {
        head.headers.insert(GRPC_MESSAGE, message);
    }
}

/// The gRPC status for an HTTP status (gRPC's "HTTP to gRPC Status Code Mapping").
fn grpc_status(http: StatusCode) -> u16 {
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
        let map = |code: u16| grpc_status(StatusCode::from_u16(code).expect("valid"));
        assert_eq!([400, 401, 403, 404, 429, 500, 503, 200].map(map), [13, 16, 7, 12, 14, 2, 14, 2]);
    }
}
