//! Response heads, as an upstream sends them.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, StatusCode};

use super::scan::Scanned;
use super::{FieldOptions, Lines, Parse, Scan, Seen, fields, split};
use crate::http::check::{self, Framing, Violation, details};
use crate::http::http1::ClientSettings;
use crate::http::{ByteStr, Protocol, ResponseHead};

/// What was asked, as far as the reading of the answer depends on it.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub head_request: bool,
    pub connect: bool,
    /// The `Upgrade` token of the request.
    pub upgrade: Option<ByteStr>,
}

impl Asked {
    /// Behind the request's head is no body but, if the answer agrees, a tunnel.
    pub fn tunnel(&self) -> bool {
        self.connect || self.upgrade.is_some()
    }
}

/// A response head and what it says about its connection.
#[derive(Debug)]
pub struct ParsedResponse {
    pub head: ResponseHead,
    pub framing: Framing,
    pub keep_alive: bool,
    /// From here on the connection is a tunnel (101, or 2xx to CONNECT).
    pub tunnel: bool,
}

/// Takes a response head from the front of `buf` once it is complete.
pub fn parse_response(
    buf: &mut BytesMut,
    scan: &mut Scan,
    asked: &Asked,
    settings: &ClientSettings,
) -> Parse<ParsedResponse> {
    let limits = settings.limits;
    if !scan.has_begun()
        && let Some((line_end, lines, end)) = split(buf, true, true, limits.max_headers)
        && end <= limits.max_bytes
    {
        return build(buf.split_to(end).freeze(), line_end, &lines, asked, settings);
    }
    match scan.advance(buf, limits, |line| start_line(line).map(|_| ())) {
        Scanned::Partial => Parse::Partial,
        Scanned::Refused(violation) => Parse::Refused(violation),
        Scanned::Complete(end) => match split(buf, true, true, limits.max_headers) {
            Some((line_end, lines, _)) => build(buf.split_to(end).freeze(), line_end, &lines, asked, settings),
            None => Parse::Refused(Violation::bad_request(details::CODEC_ERROR)),
        },
    }
}

/// `HTTP/1.1 200 OK`. The reason may be missing or anything; blanks may be doubled; later minor versions are read as 1.1.
fn start_line(line: &[u8]) -> Result<(Protocol, StatusCode), Violation> {
    let bad = Violation::bad_request(details::CODEC_ERROR);
    let (version, rest) = line.split_at_checked(8).ok_or(bad)?;
    let protocol = match version {
        b"HTTP/1.0" => Protocol::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Protocol::Http11,
        _ => return Err(bad),
    };
    // Blanks alone: what else counts as white space is no part of a line.
    let blanks = rest.iter().take_while(|b| **b == b' ').count();
    let rest = rest.get(blanks..).filter(|_| blanks > 0).ok_or(bad)?;
    let (code, reason) = rest.split_at_checked(3).ok_or(bad)?;
    let reason_ok = matches!(reason, [] | [b' ', ..]) && reason.iter().all(|b| check::is_field_byte(*b));
    if !reason_ok || !code.iter().all(u8::is_ascii_digit) {
        return Err(bad);
    }
    Ok((protocol, StatusCode::from_bytes(code).map_err(|_| bad)?))
}

fn build(
    head: Bytes,
    line_end: usize,
    lines: &Lines,
    asked: &Asked,
    settings: &ClientSettings,
) -> Parse<ParsedResponse> {
    match assemble(&head, line_end, lines, asked, settings) {
        Ok(parsed) => Parse::Done(parsed),
        // Whatever is wrong, the answer to the client is the same.
        Err(violation) => Parse::Refused(violation),
    }
}

fn assemble(
    head: &Bytes,
    line_end: usize,
    lines: &Lines,
    asked: &Asked,
    settings: &ClientSettings,
) -> Result<ParsedResponse, Violation> {
    let bad = Violation::bad_request(details::CODEC_ERROR);
    let (protocol, status) = start_line(head.get(..line_end).unwrap_or_default())?;
    let options = FieldOptions {
        request: false,
        preserve_case: settings.header_key_format.preserves(),
        look_for_underscores: false,
    };
    let mut fields = fields(head, lines, &options)?;
    let (headers, seen) = (&mut fields.headers, fields.seen);
    let connection = match seen.has(Seen::CONNECTION | Seen::OTHER_HOP) {
        true => check::connection(headers, check::Side::Response)?,
        false => check::Connection::default(),
    };
    let upgrade = match seen.has(Seen::UPGRADE) {
        true => headers.remove(UPGRADE).filter(|_| connection.upgrade),
        false => None,
    };
    let mut upgraded = None;
    let mut tunnel = asked.connect && status.is_success();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        upgraded = Some(accepted(upgrade.as_ref(), asked).ok_or(bad)?);
        tunnel = true;
    }
    let framing = if tunnel {
        no_framing(headers, status)?;
        Framing::UntilClose
    } else {
        framing(headers, seen, status, asked, settings)?
    };
    let keep_alive = match protocol {
        Protocol::Http10 => connection.keep_alive && !connection.close,
        _ => !connection.close,
    };
    if status == StatusCode::NO_CONTENT && headers.remove(CONTENT_LENGTH).is_some_and(|v| v != "0") {
        return Err(bad);
    }
    let head = ResponseHead {
        status,
        headers: fields.headers,
        protocol,
        upgrade: upgraded,
        case: fields.case,
        wire_size: fields.wire_size,
    };
    Ok(ParsedResponse { head, framing, keep_alive, tunnel })
}

/// The protocol that a 101 switches to. It need not be the one that was asked for, which is for the client to judge, as in
/// Envoy; but something must have been asked for.
fn accepted(upgrade: Option<&http::HeaderValue>, asked: &Asked) -> Option<ByteStr> {
    asked.upgrade.as_ref()?;
    Some(ByteStr::from(upgrade?.to_str().ok()?))
}

/// The head that opens a tunnel has no body; a length of it would be read as one by whoever comes next.
fn no_framing(headers: &mut HeaderMap, status: StatusCode) -> Result<(), Violation> {
    let framed = headers.remove(TRANSFER_ENCODING).is_some() | headers.remove(CONTENT_LENGTH).is_some_and(|v| v != "0");
    if framed && status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Violation::bad_request(details::CODEC_ERROR));
    }
    Ok(())
}

fn framing(
    headers: &mut HeaderMap,
    seen: Seen,
    status: StatusCode,
    asked: &Asked,
    settings: &ClientSettings,
) -> Result<Framing, Violation> {
    let chunked = seen.has(Seen::TRANSFER_ENCODING) && check::transfer_encoding(headers)?;
    let length = if seen.has(Seen::CONTENT_LENGTH) { check::content_length(headers)? } else { None };
    if chunked {
        headers.remove(TRANSFER_ENCODING);
        if length.is_some() {
            if !settings.allow_chunked_length {
                return Err(Violation::bad_request(details::CONTENT_LENGTH_AND_CHUNKED));
            }
            headers.remove(CONTENT_LENGTH);
        }
    } else if let Some(length) = length {
        super::canonical_length(headers, seen, length);
    }
    if status.is_informational() && (chunked || length.is_some_and(|length| length > 0)) {
        return Err(Violation::bad_request(details::CODEC_ERROR));
    }
    if status == StatusCode::NO_CONTENT && chunked {
        return Err(Violation::bad_request(details::CODEC_ERROR));
    }
    if status.is_informational() {
        headers.remove(CONTENT_LENGTH);
    }
    let bodiless = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || asked.head_request;
    Ok(match (chunked, length) {
        _ if bodiless => Framing::None,
        (true, _) => Framing::Chunked,
        (false, Some(0)) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    })
}
