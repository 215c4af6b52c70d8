//! The canonical message check: what an HTTP message must be before a router, a filter or a peer may see it.
//!
//! Stands for what Envoy's codecs, its `HeaderUtility` and its universal header validator refuse, and for the rows where we
//! are stricter because no real client sends such a thing and somebody behind us might read it differently: two `Host`
//! lines, list-valued `Host`, framing fields nominated by `Connection`, doubled transfer codings. Both codecs call it on what
//! they receive; [`request`] and [`trailers`] guard what we send, so that what a filter or a route made of a message
//! obeys the same rules.
//!
//! Invariants of a message that passed:
//! - the method is a token, and a known one unless custom methods are allowed;
//! - exactly one authority, without userinfo, blanks, control bytes or commas;
//! - exactly one framing; a `content-length` is one decimal number without leading zeros;
//! - no hop-by-hop field is left in the map, nor one that `Connection` named;
//! - no control byte anywhere (`http::HeaderValue` guarantees it for values).
//!
//! Everything here is a pure function. Deliberately missing: `#` in a path, path normalisation, `host` rewriting: the
//! connection manager's.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::RequestHead;

mod connection;
mod framing;
mod target;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Side, connection};
pub use framing::{Framing, content_length, parse_content_length, transfer_encoding};
pub use target::{Target, authority, authority_form, path, target};

/// Why a message is refused: the status of the answer and Envoy's detail string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    pub status: StatusCode,
    pub details: &'static str,
}

impl Violation {
    pub const fn bad_request(details: &'static str) -> Self {
        Violation { status: StatusCode::BAD_REQUEST, details }
    }
}

/// Envoy's detail strings for refused messages. Those marked "ours" name what Envoy lets pass.
pub mod details {
    pub const CODEC_ERROR: &str = "http1.codec_error";
    pub const INVALID_CHARACTERS: &str = "http1.invalid_characters";
    pub const INVALID_URL: &str = "http1.invalid_url";
    pub const INVALID_SCHEME: &str = "http1.invalid_scheme";
    pub const INVALID_AUTHORITY: &str = "http.invalid_authority";
    pub const CONNECTION_HEADER_REJECTED: &str = "http1.connection_header_rejected";
    pub const INVALID_TRANSFER_ENCODING: &str = "http1.invalid_transfer_encoding";
    pub const CONTENT_LENGTH_AND_CHUNKED: &str = "http1.content_length_and_chunked_not_allowed";
    pub const BODY_DISALLOWED: &str = "http1.body_disallowed";
    pub const TOO_MANY_HEADERS: &str = "http1.too_many_headers";
    pub const HEADERS_TOO_LARGE: &str = "http1.headers_too_large";
    pub const UNEXPECTED_UNDERSCORE: &str = "http1.unexpected_underscore";
    pub const LOW_VERSION: &str = "low_version";
    /// Ours: Envoy answers HTTP/1.2 and HTTP/2.0 in an HTTP/1 head as it answers HTTP/1.0.
    pub const UNSUPPORTED_VERSION: &str = "http1.unsupported_version";
    pub const MISSING_HOST: &str = "missing_host_header";
    pub const REQUEST_HEADER_TIMEOUT: &str = "request_header_timeout";
    pub const STREAM_IDLE_TIMEOUT: &str = "stream_idle_timeout";
    pub const REQUEST_OVERALL_TIMEOUT: &str = "request_overall_timeout";
    pub const MAX_DURATION_TIMEOUT: &str = "max_duration_timeout";
    pub const DOWNSTREAM_REMOTE_DISCONNECT: &str = "downstream_remote_disconnect";
    pub const CONNECTION_TERMINATION: &str = "connection_termination";
    pub const DOWNSTREAM_LOCAL_DISCONNECT: &str = "downstream_local_disconnect";
}

/// `common_http_protocol_options.headers_with_underscores_action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnderscoreAction {
    #[default]
    Allow,
    RejectRequest,
    DropHeader,
}

/// Whether every byte is RFC 9110's `tchar` and there is at least one.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|b| is_tchar(*b))
}

pub const fn is_tchar(b: u8) -> bool {
    matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-'
        | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// What may stand in a field value: visible bytes, SP, HTAB, and 0x80 and up, which pass as they are.
pub const fn is_field_byte(b: u8) -> bool {
    b == b'\t' || (b >= 0x20 && b != 0x7f)
}

/// Methods that Envoy passes while `allow_custom_methods` is off, besides those `http::Method` has names for. Sorted.
const KNOWN_METHODS: [&str; 25] = [
    "ACL",
    "BIND",
    "CHECKOUT",
    "COPY",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MOVE",
    "MSEARCH",
    "NOTIFY",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "REBIND",
    "REPORT",
    "SEARCH",
    "SOURCE",
    "SUBSCRIBE",
    "UNBIND",
    "UNLINK",
    "UNLOCK",
    "UNSUBSCRIBE",
];

/// A request method. Names are case-sensitive: `get` is a custom method.
///
/// # Errors
/// Not a token, or unknown while `allow_custom` is off.
pub fn method(bytes: &[u8], allow_custom: bool) -> Result<Method, Violation> {
    let refused = Violation::bad_request(details::CODEC_ERROR);
    let method = Method::from_bytes(bytes).map_err(|_| refused)?;
    let standard = matches!(
        method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::CONNECT
            | Method::OPTIONS
            | Method::TRACE
            | Method::PATCH
    );
    if standard || KNOWN_METHODS.binary_search(&method.as_str()).is_ok() || (allow_custom && is_token(bytes)) {
        Ok(method)
    } else {
        Err(refused)
    }
}

/// Fields that belong to one hop of HTTP/1 and never stand in a [`RequestHead`] or [`super::ResponseHead`]. `Host` is among
/// them because the authority is a field of its own.
pub fn is_connection_specific(name: &HeaderName) -> bool {
    *name == HOST
        || *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Reduces `te` to what may be passed on: `trailers` if the list has exactly that element, nothing otherwise.
pub fn sanitize_te(headers: &mut HeaderMap) {
    if !headers.contains_key(TE) {
        return;
    }
    let trailers = headers
        .get_all(TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .any(|element| element.trim_ascii() == b"trailers");
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

/// Applies `headers_with_underscores_action`. Returns how many lines were dropped.
///
/// # Errors
/// A name has `_` and the action is to reject.
pub fn underscores(headers: &mut HeaderMap, action: UnderscoreAction) -> Result<usize, Violation> {
    if action == UnderscoreAction::Allow || !headers.keys().any(|name| name.as_str().contains('_')) {
        return Ok(0);
    }
    if action == UnderscoreAction::RejectRequest {
        return Err(Violation::bad_request(details::UNEXPECTED_UNDERSCORE));
    }
    let before = headers.len();
    let with: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().contains('_')).cloned().collect();
    for name in with {
        headers.remove(name);
    }
    Ok(before - headers.len())
}

/// Removes what a trailer section may not carry (RFC 9110 section 6.5.1): framing, routing, hop-by-hop and credentials.
/// Such fields are dropped, not refused, as senders that merge trailers into the head would act on them.
pub fn trailers(headers: &mut HeaderMap) {
    const FORBIDDEN: [HeaderName; 11] = [
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        HOST,
        CONNECTION,
        UPGRADE,
        TE,
        TRAILER,
        http::header::AUTHORIZATION,
        http::header::PROXY_AUTHORIZATION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    for name in &FORBIDDEN {
        headers.remove(name);
    }
}

/// The check on a request head that is about to be sent, and on one that an HTTP/2 codec has put together.
///
/// # Errors
/// The first rule that the head breaks. A sender answers it locally; it must not repair the head.
pub fn request(head: &RequestHead) -> Result<(), Violation> {
    if !authority(head.authority.as_bytes()) {
        return Err(Violation::bad_request(details::INVALID_AUTHORITY));
    }
    let connect = head.method == Method::CONNECT;
    let path = head.path.as_bytes();
    let path_ok = match path.as_ref() {
        b"" => connect && head.upgrade.is_none(),
        b"*" => head.method == Method::OPTIONS,
        path => self::path(path) && !(connect && head.upgrade.is_none()),
    };
    if !path_ok {
        return Err(Violation::bad_request(details::INVALID_URL));
    }
    if head.headers.keys().any(is_connection_specific) {
        return Err(Violation::bad_request(details::CONNECTION_HEADER_REJECTED));
    }
    content_length(&head.headers)?;
    Ok(())
}
