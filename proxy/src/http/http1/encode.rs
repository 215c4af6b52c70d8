//! Heads and bodies as they are written. What there is to decide (length, chunks or the end of the connection) is decided
//! as Envoy does, so that a peer sees the same framing.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, Method, StatusCode};

use super::chunked::write_size;
use super::out::OutBuf;
use super::{HeaderKeyFormat, OwnHeaders};
use crate::http::check::{is_connection_specific, parse_content_length};
use crate::http::{Body, HeaderCase, Protocol, RequestHead, ResponseHead};

/// How a body is framed, and how much of it is still to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEncoder {
    /// There is none; data is dropped (an answer to HEAD, 204, 304).
    None,
    Length(u64),
    Chunked {
        trailers: bool,
    },
    /// As it is, ended by the end of the connection.
    Raw,
}

/// A body that does not have the length its head gave it. The message cannot be ended any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongLength;

impl BodyEncoder {
    /// # Errors
    /// More data than the head said.
    pub fn data(&mut self, data: Bytes, out: &mut OutBuf) -> Result<(), WrongLength> {
        match self {
            _ if data.is_empty() => {}
            BodyEncoder::None => {}
            BodyEncoder::Raw => out.push(data),
            BodyEncoder::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                out.push(data);
            }
            BodyEncoder::Chunked { .. } => {
                write_size(out.tail(), data.len());
                out.push(data);
                out.tail().put_slice(b"\r\n");
            }
        }
        Ok(())
    }

    /// # Errors
    /// Less data came than the head said.
    pub fn end(
        &mut self,
        trailers: Option<&HeaderMap>,
        format: HeaderKeyFormat,
        out: &mut OutBuf,
    ) -> Result<(), WrongLength> {
        match *self {
            BodyEncoder::Length(left) if left > 0 => return Err(WrongLength),
            BodyEncoder::Chunked { trailers: enabled } => {
                let out = out.tail();
                out.put_slice(b"0\r\n");
                if let Some(trailers) = trailers
                    && enabled
                {
                    let mut trailers = trailers.clone();
                    crate::http::check::trailers(&mut trailers);
                    let spelling = Spelling { format, case: None };
                    for (name, value) in &trailers {
                        field(out, spelling, name, value.as_bytes());
                    }
                }
                out.put_slice(b"\r\n");
            }
            _ => {}
        }
        *self = BodyEncoder::None;
        Ok(())
    }
}

/// What the encoding of a response depends on besides the response.
#[derive(Debug, Clone, Copy)]
pub struct ResponseOptions {
    pub head_request: bool,
    pub connect: bool,
    /// The request was HTTP/1.0, so the answer is.
    pub http_10: bool,
    /// The connection closes after this response.
    pub close: bool,
    pub enable_trailers: bool,
    pub format: HeaderKeyFormat,
}

/// What has been written of a response.
#[derive(Debug, Clone, Copy)]
pub struct WrittenHead {
    pub body: BodyEncoder,
    /// The connection must close after the body: [`ResponseOptions::close`], or its end is the body's end.
    pub close: bool,
    /// Size of the field lines.
    pub header_bytes: usize,
}

/// Writes the head of a response, interim or final.
pub fn response(out: &mut BytesMut, head: &ResponseHead, body: &Body, options: &ResponseOptions) -> WrittenHead {
    let spelling = Spelling { format: options.format, case: head.case.as_deref() };
    let status = head.status;
    out.reserve(64 + head.headers.len() * 48);
    out.put_slice(if options.http_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.put_slice(status.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(reason(status).as_bytes());
    out.put_slice(b"\r\n");
    let fields_from = out.len();

    let tunnel = status == StatusCode::SWITCHING_PROTOCOLS || (options.connect && status.is_success());
    let lengthless = tunnel || status.is_informational() || status == StatusCode::NO_CONTENT;
    let length = write_fields(out, &head.headers, spelling, !lengthless);
    let interim = status.is_informational() && !tunnel;
    let mut close = options.close && !tunnel && !interim;
    let encoder = if tunnel {
        BodyEncoder::Raw
    } else if lengthless || status == StatusCode::NOT_MODIFIED {
        BodyEncoder::None
    } else if options.head_request {
        // What a GET would be answered with, as far as that is known.
        if length.is_none() && !options.http_10 {
            field(out, spelling, &http::header::TRANSFER_ENCODING, b"chunked");
        }
        BodyEncoder::None
    } else {
        let known = length.or_else(|| body.is_end_stream().then_some(0)).or(match body {
            Body::Full(bytes) => Some(bytes.len() as u64),
            _ => None,
        });
        match known {
            Some(known) => {
                if length.is_none() {
                    length_field(out, spelling, known);
                }
                BodyEncoder::Length(known)
            }
            None if options.http_10 => {
                close = true;
                BodyEncoder::Raw
            }
            None => {
                field(out, spelling, &http::header::TRANSFER_ENCODING, b"chunked");
                BodyEncoder::Chunked { trailers: options.enable_trailers }
            }
        }
    };
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(token)) = (status, &head.upgrade) {
        upgrade_fields(out, spelling, token, head.protocol);
    } else if close {
        field(out, spelling, &http::header::CONNECTION, b"close");
    } else if options.http_10 && !interim {
        field(out, spelling, &http::header::CONNECTION, b"keep-alive");
    }
    let header_bytes = out.len() - fields_from;
    out.put_slice(b"\r\n");
    WrittenHead { body: encoder, close, header_bytes }
}

/// What the encoding of a request depends on besides the request.
#[derive(Debug, Clone, Copy)]
pub struct RequestOptions {
    pub enable_trailers: bool,
    pub format: HeaderKeyFormat,
}

/// Writes the head of a request. The second value is the size of the field lines.
pub fn request(out: &mut BytesMut, head: &RequestHead, body: &Body, options: &RequestOptions) -> (BodyEncoder, usize) {
    let spelling = Spelling { format: options.format, case: head.case.as_deref() };
    let connect = head.method == Method::CONNECT;
    out.reserve(64 + head.path.as_bytes().len() + head.headers.len() * 48);
    out.put_slice(head.method.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(if connect { head.authority.as_bytes() } else { head.path.as_bytes() });
    out.put_slice(b" HTTP/1.1\r\n");
    let fields_from = out.len();
    field(out, spelling, &http::header::HOST, head.authority.as_bytes());

    let tunnel = connect || head.upgrade.is_some();
    let length = write_fields(out, &head.headers, spelling, !connect);
    let encoder = if tunnel {
        BodyEncoder::Raw
    } else if let Some(length) = length {
        BodyEncoder::Length(length)
    } else if body.is_end_stream() {
        if !matches!(head.method, Method::GET | Method::HEAD | Method::DELETE | Method::TRACE) {
            length_field(out, spelling, 0);
        }
        BodyEncoder::Length(0)
    } else if let Body::Full(bytes) = body {
        length_field(out, spelling, bytes.len() as u64);
        BodyEncoder::Length(bytes.len() as u64)
    } else {
        field(out, spelling, &http::header::TRANSFER_ENCODING, b"chunked");
        BodyEncoder::Chunked { trailers: options.enable_trailers }
    };
    if let Some(token) = &head.upgrade
        && !connect
    {
        upgrade_fields(out, spelling, token, head.protocol);
    }
    let header_bytes = out.len() - fields_from;
    out.put_slice(b"\r\n");
    (encoder, header_bytes)
}

/// Writes the fields that are not this connection's own business, and returns the length among them.
fn write_fields(out: &mut BytesMut, headers: &HeaderMap, spelling: Spelling<'_>, with_length: bool) -> Option<u64> {
    let mut length = None;
    for (name, value) in headers {
        if *name == CONTENT_LENGTH {
            // A second one, or one that is no number, would be two messages to somebody.
            if length.is_some() || !with_length {
                continue;
            }
            length = parse_content_length(value.as_bytes());
            if length.is_none() {
                continue;
            }
        } else if is_connection_specific(name) {
            continue;
        }
        field(out, spelling, name, value.as_bytes());
    }
    length
}

fn upgrade_fields(out: &mut BytesMut, spelling: Spelling<'_>, token: &str, from: Protocol) {
    // As most clients and servers spell it; what was an extended CONNECT is lower case in Envoy.
    let connection: &[u8] = if from == Protocol::Http2 { b"upgrade" } else { b"Upgrade" };
    field(out, spelling, &http::header::CONNECTION, connection);
    field(out, spelling, &http::header::UPGRADE, token.as_bytes());
}

fn length_field(out: &mut BytesMut, spelling: Spelling<'_>, length: u64) {
    field(out, spelling, &CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes());
}

/// How names are written.
#[derive(Clone, Copy)]
struct Spelling<'a> {
    format: HeaderKeyFormat,
    case: Option<&'a HeaderCase>,
}

#[inline]
fn field(out: &mut BytesMut, spelling: Spelling<'_>, name: &HeaderName, value: &[u8]) {
    match spelling.format {
        HeaderKeyFormat::LowerCase => out.put_slice(name.as_str().as_bytes()),
        HeaderKeyFormat::ProperCase => proper_case(out, name.as_str()),
        HeaderKeyFormat::PreserveCase(own) => {
            let known =
                spelling.case.and_then(|case| case.0.iter().find(|known| known.eq_ignore_ascii_case(name.as_str())));
            match (known, own) {
                (Some(known), _) => out.put_slice(known.as_bytes()),
                (None, OwnHeaders::LowerCase) => out.put_slice(name.as_str().as_bytes()),
                (None, OwnHeaders::ProperCase) => proper_case(out, name.as_str()),
            }
        }
    }
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn proper_case(out: &mut BytesMut, name: &str) {
    let mut capital = true;
    for b in name.bytes() {
        out.put_u8(if capital { b.to_ascii_uppercase() } else { b });
        capital = !b.is_ascii_alphanumeric();
    }
}

/// Envoy's reason phrases; an upstream's own is not passed on.
pub fn reason(status: StatusCode) -> &'static str {
    match status.as_u16() {
        599 => "Last Unassigned Server Error Code",
        203 => "Non-Authoritative Information",
        418 | 451 => "Unknown",
        _ => status.canonical_reason().unwrap_or("Unknown"),
    }
}

#[cfg(test)]
mod tests;
