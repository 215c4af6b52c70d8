//! Request heads.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{Method, StatusCode};

use super::scan::Scanned;
use super::{FieldOptions, Fields, Lines, Parse, Scan, Seen, fields, split};
use crate::http::check::{self, Framing, Target, UnderscoreAction, Violation, details};
use crate::http::http1::ServerSettings;
use crate::http::{ByteStr, Protocol, RequestHead, Scheme};

/// Empty lines that a client may put before a request; some send one after a body.
const MAX_BLANK_LINES: u8 = 4;

/// A request head and what it says about its connection.
#[derive(Debug)]
pub struct ParsedRequest {
    pub head: RequestHead,
    pub framing: Framing,
    pub keep_alive: bool,
}

/// Takes a request head from the front of `buf` once it is complete. `scan` and `blank_lines` belong to the head and
/// begin anew with the next; `https` is the scheme of the connection.
pub fn parse_request(
    buf: &mut BytesMut,
    scan: &mut Scan,
    blank_lines: &mut u8,
    settings: &ServerSettings,
    https: bool,
) -> Parse<ParsedRequest> {
    if !scan.has_begun() {
        match skip_blank_lines(buf, blank_lines) {
            Ok(true) => {}
            Ok(false) => return Parse::Partial,
            Err(violation) => return Parse::Refused(violation),
        }
        let first_look = split(buf, true, false, settings.limits.max_headers);
        if let Some((line_end, lines, end)) = first_look
            && end <= settings.limits.max_bytes
        {
            return build(buf.split_to(end).freeze(), line_end, &lines, settings, https);
        }
    }
    let judge = |line: &[u8]| start_line(line, settings).map(|_| ());
    match scan.advance(buf, settings.limits, judge) {
        Scanned::Partial => Parse::Partial,
        Scanned::Refused(violation) => Parse::Refused(violation),
        Scanned::Complete(end) => match split(buf, true, false, settings.limits.max_headers) {
            Some((line_end, lines, _)) => build(buf.split_to(end).freeze(), line_end, &lines, settings, https),
            None => Parse::Refused(Violation::bad_request(details::CODEC_ERROR)),
        },
    }
}

/// Whether there is something else than an empty line.
fn skip_blank_lines(buf: &mut BytesMut, count: &mut u8) -> Result<bool, Violation> {
    loop {
        match buf.as_ref() {
            [b'\r', b'\n', ..] => {
                buf.advance(2);
                *count += 1;
                if *count > MAX_BLANK_LINES {
                    return Err(Violation::bad_request(details::CODEC_ERROR));
                }
            }
            [] | [b'\r'] => return Ok(false),
            [b'\r' | b'\n', ..] => return Err(Violation::bad_request(details::CODEC_ERROR)),
            _ => return Ok(true),
        }
    }
}

struct StartLine<'a> {
    method: Method,
    target: Target<'a>,
    protocol: Protocol,
}

fn start_line<'a>(line: &'a [u8], settings: &ServerSettings) -> Result<StartLine<'a>, Violation> {
    let bad = Violation::bad_request(details::CODEC_ERROR);
    let first = memchr::memchr(b' ', line).ok_or(bad)?;
    let last = memchr::memrchr(b' ', line).ok_or(bad)?;
    let method = check::method(line.get(..first).unwrap_or_default(), settings.allow_custom_methods)?;
    let target = line.get(first + 1..last).ok_or(bad)?;
    let target = check::target(&method, target, settings.allow_absolute_url)?;
    let protocol = match line.get(last + 1..).unwrap_or_default() {
        b"HTTP/1.1" => Protocol::Http11,
        b"HTTP/1.0" => Protocol::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            let status = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
            return Err(Violation { status, details: details::UNSUPPORTED_VERSION });
        }
        _ => return Err(bad),
    };
    Ok(StartLine { method, target, protocol })
}

fn build(head: Bytes, line_end: usize, lines: &Lines, settings: &ServerSettings, https: bool) -> Parse<ParsedRequest> {
    match assemble(&head, line_end, lines, settings, https) {
        Ok(parsed) => Parse::Done(parsed),
        Err(violation) => {
            // Several things may be wrong with it. The first one counts, whichever was noticed here.
            let judge = |line: &[u8]| start_line(line, settings).map(|_| ());
            match Scan::request().advance(&head, settings.limits, judge) {
                Scanned::Refused(first) => Parse::Refused(first),
                _ => Parse::Refused(violation),
            }
        }
    }
}

fn assemble(
    head: &Bytes,
    line_end: usize,
    lines: &Lines,
    settings: &ServerSettings,
    https: bool,
) -> Result<ParsedRequest, Violation> {
    let line = start_line(head.get(..line_end).unwrap_or_default(), settings)?;
    let options = FieldOptions {
        request: true,
        preserve_case: settings.header_key_format.preserves(),
        look_for_underscores: settings.headers_with_underscores_action != UnderscoreAction::Allow,
    };
    let mut fields = fields(head, lines, &options)?;
    let Fields { headers, seen, .. } = &mut fields;
    if line.protocol == Protocol::Http10 {
        // It would end where the chunks end for us, and where the connection ends for a server of that version.
        if seen.has(Seen::TRANSFER_ENCODING) {
            return Err(Violation::bad_request(details::INVALID_TRANSFER_ENCODING));
        }
        if !settings.accept_http_10 {
            return Err(Violation { status: StatusCode::UPGRADE_REQUIRED, details: details::LOW_VERSION });
        }
    }
    if seen.has(Seen::UNDERSCORE) {
        underscores(headers, settings)?;
    }
    let connection = match seen.has(Seen::CONNECTION | Seen::OTHER_HOP) {
        true => check::connection(headers, check::Side::Request)?,
        false => check::Connection::default(),
    };
    let framing = framing(&line, headers, *seen, settings)?;
    if seen.has(Seen::TE) {
        check::sanitize_te(headers);
    }
    let upgrade = if seen.has(Seen::UPGRADE) { upgrade(&line, headers, connection, framing) } else { None };
    let (scheme, authority, path) = place(head, &line, &fields, https)?;
    let keep_alive = match line.protocol {
        Protocol::Http10 => connection.keep_alive && !connection.close,
        _ => !connection.close,
    };
    let head = RequestHead {
        method: line.method,
        scheme,
        authority: authority.or_else(|| default_host(settings)).unwrap_or_default(),
        path,
        upgrade,
        headers: fields.headers,
        protocol: line.protocol,
        case: fields.case,
        wire_size: fields.wire_size,
    };
    Ok(ParsedRequest { head, framing, keep_alive })
}

fn default_host(settings: &ServerSettings) -> Option<ByteStr> {
    let host = settings.default_host_for_http_10.as_str();
    (!host.is_empty()).then(|| ByteStr::from(host))
}

fn underscores(headers: &mut http::HeaderMap, settings: &ServerSettings) -> Result<(), Violation> {
    use crate::stats::names::Http1Stats;
    let verdict = check::underscores(headers, settings.headers_with_underscores_action);
    if let Some(stats) = &settings.stats {
        match verdict {
            Ok(dropped) => stats.add(Http1Stats::DROPPED_HEADERS_WITH_UNDERSCORES, dropped as u64),
            Err(_) => stats.inc(Http1Stats::REQUESTS_REJECTED_WITH_UNDERSCORES_IN_HEADERS),
        }
    }
    verdict.map(|_| ())
}

/// The framing; `transfer-encoding` goes, and `content-length` becomes canonical.
fn framing(
    line: &StartLine<'_>,
    headers: &mut http::HeaderMap,
    seen: Seen,
    settings: &ServerSettings,
) -> Result<Framing, Violation> {
    let chunked = seen.has(Seen::TRANSFER_ENCODING) && check::transfer_encoding(headers)?;
    let length = if seen.has(Seen::CONTENT_LENGTH) { check::content_length(headers)? } else { None };
    if seen.has(Seen::TRANSFER_ENCODING) {
        headers.remove(TRANSFER_ENCODING);
    }
    if line.method == Method::CONNECT {
        if chunked {
            let status = StatusCode::NOT_IMPLEMENTED;
            return Err(Violation { status, details: details::INVALID_TRANSFER_ENCODING });
        }
        headers.remove(CONTENT_LENGTH);
        return match length {
            None | Some(0) => Ok(Framing::None),
            Some(_) => Err(Violation::bad_request(details::BODY_DISALLOWED)),
        };
    }
    match (chunked, length) {
        (true, Some(_)) if !settings.allow_chunked_length => {
            Err(Violation::bad_request(details::CONTENT_LENGTH_AND_CHUNKED))
        }
        (true, _) => {
            headers.remove(CONTENT_LENGTH);
            Ok(Framing::Chunked)
        }
        (false, None) => Ok(Framing::None),
        (false, Some(length)) => {
            super::canonical_length(headers, seen, length);
            Ok(if length == 0 { Framing::None } else { Framing::Length(length) })
        }
    }
}

/// The `Upgrade` token that means something here, as it came. It does not with an HTTP/1.0 request, nor with a body, whose
/// end two readers of an upgrade would see in different places; HTTP/2 over an HTTP/1 upgrade is not offered.
fn upgrade(
    line: &StartLine<'_>,
    headers: &mut http::HeaderMap,
    connection: check::Connection,
    framing: Framing,
) -> Option<ByteStr> {
    let values: Vec<HeaderValue> = headers.get_all(UPGRADE).iter().cloned().collect();
    headers.remove(UPGRADE);
    if !connection.upgrade || line.protocol == Protocol::Http10 || framing != Framing::None {
        return None;
    }
    let texts: Vec<&str> = values.iter().filter_map(|value| value.to_str().ok()).collect();
    let token = texts.join(",");
    (!token.eq_ignore_ascii_case("h2c")).then(|| ByteStr::from(token))
}

/// Scheme, authority (if there is one) and path.
fn place(
    head: &Bytes,
    line: &StartLine<'_>,
    fields: &Fields,
    https: bool,
) -> Result<(Scheme, Option<ByteStr>, ByteStr), Violation> {
    let bad_authority = Violation::bad_request(details::INVALID_AUTHORITY);
    if fields.host.len() > 1 || fields.host.iter().any(|host| !check::authority(host)) {
        return Err(bad_authority);
    }
    let text = |bytes: &[u8]| ByteStr::from_utf8(head.slice_ref(bytes)).map_err(|_| bad_authority);
    let host =
        fields.host.first().map(|host| ByteStr::from_utf8(host.clone()).map_err(|_| bad_authority)).transpose()?;
    let of_connection = if https { Scheme::Https } else { Scheme::Http };
    Ok(match line.target {
        Target::Origin(path) => (of_connection, host, text(path)?),
        Target::Asterisk => (of_connection, host, ByteStr::from_static("*")),
        Target::Authority(authority) => (of_connection, Some(text(authority)?), ByteStr::default()),
        Target::Absolute { https, authority, path } => {
            let scheme = if https { Scheme::Https } else { Scheme::Http };
            let path = match path {
                [] => ByteStr::from_static("/"),
                [b'/', ..] => text(path)?,
                // `http://host?query`
                _ => ByteStr::from(format!("/{}", text(path)?)),
            };
            (scheme, Some(text(authority)?), path)
        }
    })
}
