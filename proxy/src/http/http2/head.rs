//! Message heads between `h2` and the canonical form.
//!
//! `h2` has already refused, with a reset of the stream or the end of the connection, what breaks RFC 9113 in ways that
//! would confuse its own state: pseudo-headers missing, doubled, unknown or late, connection-specific fields, `te` other
//! than `trailers`, names and values with forbidden bytes, a `content-length` that its DATA contradicts. Here stands the
//! rest of the canonical check on what came, and the translation of what is sent.
//!
//! Lost in `h2` before anybody here sees it: what follows `#` in `:path` (cut off, never forwarded), pseudo-headers in
//! trailers (dropped; [`super::flood`] finds those of requests), and requests whose `:path` has a byte that no URI may hold (reset).

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, HOST, TE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, request, response, uri};

use super::settings::ServerSettings;
use super::stats::Http2Stats;
use crate::http::check;
use crate::http::{BadRequest, BadRequestKind, ByteStr, Protocol, RequestHead, ResponseHead, Scheme};

/// How a head that is no request is answered.
#[derive(Debug)]
pub enum Refusal {
    /// RST_STREAM PROTOCOL_ERROR.
    Reset(&'static str),
    Answer(BadRequest),
}

/// Why, before it is known what of the head can be told.
enum Why {
    Reset(&'static str),
    Answer(StatusCode, &'static str),
}

/// Detail strings: Envoy's where it has one.
pub mod details {
    pub const INVALID_HEADER: &str = "http2.invalid.header.field";
    pub const MESSAGING: &str = "http2.violation.of.messaging.rule";
    pub const TOO_MANY_HEADERS: &str = "http2.too_many_headers";
    pub const LIST_TOO_LARGE: &str = "http2.header_list_size_too_large";
    pub const UNEXPECTED_UNDERSCORE: &str = "http2.unexpected_underscore";
    pub const MISSING_HOST: &str = "missing_host_header";
    pub const INVALID_PATH: &str = "http2.invalid_path";
}

/// Bounds on a list of fields, head or trailers.
#[derive(Debug, Clone, Copy)]
pub struct ListLimits {
    pub max_count: u32,
    /// Octets, counted as SETTINGS_MAX_HEADER_LIST_SIZE does.
    pub max_size: u32,
}

impl ListLimits {
    pub fn new(max_count: u32, max_kb: u32) -> Self {
        ListLimits { max_count, max_size: max_kb.saturating_mul(1024) }
    }

    /// # Errors
    /// The list is longer or larger. `pseudo` pseudo-headers of `pseudo_size` octets count too, as in Envoy.
    pub fn check(&self, headers: &HeaderMap, pseudo: usize, pseudo_size: usize) -> Result<(), &'static str> {
        let count = headers.len() + pseudo;
        if decoded_size(headers) + pseudo_size + 32 * count > self.max_size as usize {
            Err(details::LIST_TOO_LARGE)
        } else if count > self.max_count as usize {
            Err(details::TOO_MANY_HEADERS)
        } else {
            Ok(())
        }
    }

    /// The limit to give `h2`. Beyond it `h2` drops fields, of trailers silently: with this much more than our own limit, and
    /// [`FloodLimits::max_header_block`](super::flood::FloodLimits::max_header_block) bounding the largest field, a list
    /// that lost some is still over ours.
    pub fn for_h2(&self, max_header_block: u32) -> u32 {
        self.max_size.saturating_add(max_header_block.saturating_mul(2))
    }
}

/// Makes the canonical head of a request. `wire_size` is that of its frames; `is_tls` stands in for a `:scheme` that is
/// neither http nor https, which must not decide what is secure.
pub fn request(
    parts: request::Parts,
    wire_size: Option<u64>,
    is_tls: bool,
    settings: &ServerSettings,
) -> Result<RequestHead, Refusal> {
    let request::Parts { method, uri, mut headers, mut extensions, .. } = parts;
    let upgrade = extensions.remove::<h2::ext::Protocol>().map(|p| ByteStr::from(p.as_str()));
    let checked = check_request(&method, &uri, &mut headers, upgrade.is_some(), settings);
    let (authority, path) = match &checked {
        Ok((authority, path)) => (authority.clone(), path.clone()),
        Err(Why::Reset(details)) => return Err(Refusal::Reset(details)),
        // For the access log.
        Err(Why::Answer(..)) => (
            ByteStr::from(uri.authority().map_or("", Authority::as_str)),
            ByteStr::from(uri.path_and_query().map_or("", PathAndQuery::as_str)),
        ),
    };
    let scheme = match uri.scheme_str() {
        Some(s) if s.eq_ignore_ascii_case("https") => Scheme::Https,
        Some(s) if s.eq_ignore_ascii_case("http") => Scheme::Http,
        _ if is_tls => Scheme::Https,
        _ => Scheme::Http,
    };
    let wire_size = wire_size.map_or_else(|| decoded_size(&headers), |size| size as usize);
    let protocol = Protocol::Http2;
    let head = RequestHead { method, scheme, authority, path, upgrade, headers, protocol, case: None, wire_size };
    match checked {
        Err(Why::Answer(status, details)) => {
            let head = Some(Box::new(head));
            let (kind, details) = (BadRequestKind::Protocol, Cow::Borrowed(details));
            Err(Refusal::Answer(BadRequest { kind, status, details, protocol, head, wire_received: wire_size as u64 }))
        }
        _ => Ok(head),
    }
}

fn check_request(
    method: &Method,
    uri: &Uri,
    headers: &mut HeaderMap,
    is_extended: bool,
    settings: &ServerSettings,
) -> Result<(ByteStr, ByteStr), Why> {
    let authority_size = uri.authority().map_or(0, |authority| authority.as_str().len());
    let path_size = uri.path_and_query().map_or(0, |path| path.as_str().len());
    // Names of the four pseudo-headers and, roughly, the values of method and scheme.
    let pseudo_size = authority_size + path_size + 42;
    settings.list_limits().check(headers, 4, pseudo_size).map_err(|details| {
        settings.stats.inc(match details {
            details::TOO_MANY_HEADERS => Http2Stats::HEADER_OVERFLOW,
            _ => Http2Stats::HEADER_LIST_SIZE_TOO_LARGE,
        });
        Why::Answer(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, details)
    })?;
    if headers.values().any(|value| !is_clean(value, settings.options.disallow_obs_text)) {
        return Err(Why::Reset(details::INVALID_HEADER));
    }
    underscores(headers, settings)?;
    check::content_length(headers).map_err(|_| Why::Reset(details::MESSAGING))?;
    check::sanitize_te(headers);
    let authority = authority(uri, method, headers)?;
    let path = path(uri, method, is_extended)?;
    join_cookies(headers);
    Ok((authority, path))
}

/// No blank at either end (RFC 9113 §8.2.1), and no byte above 0x7f if those are not wanted.
fn is_clean(value: &HeaderValue, disallow_obs_text: bool) -> bool {
    let bytes = value.as_bytes();
    let is_blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    let has_blanks = is_blank(bytes.first()) || is_blank(bytes.last());
    !has_blanks && (!disallow_obs_text || bytes.is_ascii())
}

fn underscores(headers: &mut HeaderMap, settings: &ServerSettings) -> Result<(), Why> {
    let stats = &settings.stats;
    match check::underscores(headers, settings.headers_with_underscores_action) {
        Ok(0) => Ok(()),
        Ok(dropped) => {
            stats.add(Http2Stats::DROPPED_HEADERS_WITH_UNDERSCORES, dropped as u64);
            Ok(())
        }
        Err(_) => {
            stats.inc(Http2Stats::REQUESTS_REJECTED_WITH_UNDERSCORES_IN_HEADERS);
            Err(Why::Reset(details::UNEXPECTED_UNDERSCORE))
        }
    }
}

/// `:authority` wins over `host`, which is gone afterwards.
fn authority(uri: &Uri, method: &Method, headers: &mut HeaderMap) -> Result<ByteStr, Why> {
    let host = if headers.contains_key(HOST) {
        if headers.get_all(HOST).iter().nth(1).is_some() {
            return Err(Why::Reset(details::MESSAGING));
        }
        headers.remove(HOST)
    } else {
        None
    };
    let bytes = match (uri.authority(), &host) {
        (Some(authority), _) => authority.as_str().as_bytes(),
        (None, Some(host)) if *method != Method::CONNECT => host.as_bytes(),
        (None, _) if *method == Method::CONNECT => return Err(Why::Reset(details::MESSAGING)),
        (None, _) => return Err(Why::Answer(StatusCode::BAD_REQUEST, details::MISSING_HOST)),
    };
    match std::str::from_utf8(bytes) {
        Ok(authority) if check::authority(bytes) => Ok(ByteStr::from(authority)),
        _ if bytes.is_empty() => Err(Why::Answer(StatusCode::BAD_REQUEST, details::MISSING_HOST)),
        _ => Err(Why::Reset(details::INVALID_HEADER)),
    }
}

fn path(uri: &Uri, method: &Method, is_extended: bool) -> Result<ByteStr, Why> {
    if *method == Method::CONNECT && !is_extended {
        return Ok(ByteStr::default());
    }
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    if check::path(path.as_bytes()) || (path == "*" && *method == Method::OPTIONS) {
        Ok(ByteStr::from(path))
    } else if path.starts_with(['/', '*']) {
        Err(Why::Answer(StatusCode::BAD_REQUEST, details::INVALID_PATH))
    } else {
        Err(Why::Reset(details::MESSAGING))
    }
}

/// Cookie crumbs (RFC 9113 §8.2.3) become one line, as every HTTP/1 peer expects it.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    // Values joined by a legal separator are a legal value.
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, value);
    }
}

/// Octets of names and values.
pub fn decoded_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

/// What `h2` sends for an answer. `is_extended_connect`: the request was one, so that a 101 means success, which HTTP/2
/// says with 200.
pub fn response_to_send(head: ResponseHead, is_extended_connect: bool) -> http::Response<()> {
    let ResponseHead { status, mut headers, .. } = head;
    strip_hop_by_hop(&mut headers);
    let status = match status {
        StatusCode::SWITCHING_PROTOCOLS if is_extended_connect => StatusCode::OK,
        status => status,
    };
    if status == StatusCode::NO_CONTENT || (is_extended_connect && status.is_success()) {
        headers.remove(CONTENT_LENGTH);
    }
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = headers;
    response
}

/// Canonical heads hold none of these; a route that adds `connection` must not make the whole connection invalid.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let is_foreign = |name: &HeaderName| *name == TE || check::is_connection_specific(name);
    while let Some(name) = headers.keys().find(|name| is_foreign(name)).cloned() {
        headers.remove(name);
    }
}

/// What `h2` sends for a request.
///
/// # Errors
/// The head breaks the canonical check; nothing of it may be sent.
pub fn request_to_send(head: &RequestHead) -> Result<http::Request<()>, &'static str> {
    check::request(head).map_err(|violation| violation.details)?;
    let mut parts = uri::Parts::default();
    let is_connect = head.method == Method::CONNECT && head.upgrade.is_none();
    let has_authority = !head.authority.is_empty();
    if has_authority {
        let authority = Authority::from_maybe_shared(head.authority.as_bytes().clone());
        parts.authority = Some(authority.map_err(|_| details::INVALID_HEADER)?);
    }
    if !is_connect {
        parts.path_and_query = Some(path_to_send(&head.path)?);
        // `Uri` has no scheme without authority; `h2` then sends http.
        if has_authority {
            parts.scheme = Some(scheme(&head.scheme)?);
        }
    }
    let mut request = http::Request::new(());
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| details::MESSAGING)?;
    *request.version_mut() = if has_authority { Version::HTTP_2 } else { Version::HTTP_11 };
    *request.headers_mut() = head.headers.clone();
    *request.method_mut() = match &head.upgrade {
        Some(token) => {
            request.extensions_mut().insert(h2::ext::Protocol::from(token.as_str()));
            Method::CONNECT
        }
        None => head.method.clone(),
    };
    Ok(request)
}

/// `http::Uri`, which `h2` wants, refuses a few visible bytes that no URI may hold but that HTTP/1 clients do send: they are
/// percent-encoded.
fn path_to_send(path: &ByteStr) -> Result<PathAndQuery, &'static str> {
    let made = PathAndQuery::from_maybe_shared(path.as_bytes().clone()).or_else(|_| {
        let mut encoded = String::with_capacity(path.len() + 8);
        for c in path.chars() {
            match c {
                '<' => encoded.push_str("%3C"),
                '>' => encoded.push_str("%3E"),
                '"' => encoded.push_str("%22"),
                '`' => encoded.push_str("%60"),
                c => encoded.push(c),
            }
        }
        PathAndQuery::from_maybe_shared(Bytes::from(encoded))
    });
    match made {
        // It cuts off what follows `#`, which is nobody's to decide here.
        Ok(made) if made.as_str().len() >= path.len() => Ok(made),
        _ => Err(details::INVALID_PATH),
    }
}

fn scheme(scheme: &Scheme) -> Result<uri::Scheme, &'static str> {
    match scheme {
        Scheme::Http => Ok(uri::Scheme::HTTP),
        Scheme::Https => Ok(uri::Scheme::HTTPS),
        Scheme::Other(other) => uri::Scheme::try_from(other.as_str()).map_err(|_| details::INVALID_HEADER),
    }
}

/// Makes the canonical head of an answer. `upgrade` is what the request asked to upgrade to: success means that the peer
/// agreed, which the canonical form, like HTTP/1, calls 101.
///
/// # Errors
/// The answer breaks the canonical check.
pub fn response(
    parts: response::Parts,
    upgrade: Option<&ByteStr>,
    limits: ListLimits,
) -> Result<ResponseHead, &'static str> {
    let response::Parts { mut status, mut headers, .. } = parts;
    limits.check(&headers, 1, ":status".len() + 3)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(details::MESSAGING);
    }
    check::content_length(&headers).map_err(|_| details::MESSAGING)?;
    trim(&mut headers);
    strip_hop_by_hop(&mut headers);
    let upgrade = upgrade.filter(|_| status.is_success()).cloned();
    if upgrade.is_some() {
        status = StatusCode::SWITCHING_PROTOCOLS;
        headers.remove(CONTENT_LENGTH);
    }
    let wire_size = decoded_size(&headers);
    Ok(ResponseHead { status, headers, protocol: Protocol::Http2, upgrade, case: None, wire_size })
}

/// Blanks around a value are harmless, and some servers send them.
fn trim(headers: &mut HeaderMap) {
    for value in headers.values_mut().filter(|value| !is_clean(value, false)) {
        if let Ok(trimmed) = HeaderValue::from_bytes(value.as_bytes().trim_ascii()) {
            *value = trimmed;
        }
    }
}
