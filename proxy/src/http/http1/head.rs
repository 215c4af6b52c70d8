//! Heads of messages: from the bytes of a read buffer to a canonical head that shares them.
//!
//! `httparse` is not used: it begins again at byte zero with every read, which a peer that sends one byte at a time turns into
//! quadratic work, it takes bare line feeds, and it hides which rule was broken. Lines are found here with `memchr`; a
//! name costs a table look-up ([`super::names`]), a value a slice.
//!
//! The usual head comes in one piece and is good. What is incomplete or refused goes through [`scan`], which reads byte by
//! byte, remembers where it stopped, and alone decides on the verdict: the first offending byte does, so it is the same
//! however the input was cut.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use memchr::memchr;
use smallvec::SmallVec;

use super::names::header_name;
use crate::http::check::{Violation, details};
use crate::http::{ByteStr, HeaderCase};

mod request;
mod response;
pub mod scan;
#[cfg(test)]
mod tests;

pub use request::{ParsedRequest, parse_request};
pub use response::{Asked, ParsedResponse, parse_response};
pub use scan::Scan;

/// What a parser made of the bytes so far.
#[derive(Debug)]
pub enum Parse<T> {
    Partial,
    Done(T),
    Refused(Violation),
}

/// Where a field line lies in its head.
struct Line {
    start: usize,
    colon: usize,
    /// The end without the line ending.
    end: usize,
    /// Continues the line before it (`obs-fold`).
    folded: bool,
}

type Lines = SmallVec<[Line; 32]>;

/// Splits a complete head: the end of the start line, the field lines, the length with the empty line. `None` if it is
/// incomplete or anything is odd: [`Scan`] says which.
fn split(head: &[u8], has_start_line: bool, lenient: bool, max_headers: usize) -> Option<(usize, Lines, usize)> {
    let mut lines = Lines::new();
    let mut start_line_end = 0;
    let mut start = 0;
    let mut first = has_start_line;
    let mut names = 0;
    loop {
        let line_feed = start + memchr(b'\n', head.get(start..)?)?;
        let end = match head.get(start..line_feed)? {
            [.., b'\r'] => line_feed - 1,
            _ if lenient => line_feed,
            _ => return None,
        };
        if first {
            start_line_end = end;
            first = false;
        } else if end == start {
            return Some((start_line_end, lines, line_feed + 1));
        } else if matches!(head.get(start)?, b' ' | b'\t') {
            if !lenient || lines.is_empty() {
                return None;
            }
            lines.push(Line { start, colon: start, end, folded: true });
        } else {
            let colon = start + memchr(b':', head.get(start..end)?)?;
            if names >= max_headers {
                return None;
            }
            names += 1;
            lines.push(Line { start, colon, end, folded: false });
        }
        start = line_feed + 1;
    }
}

/// Fields with a meaning for the connection or the framing, as a set of what a head has: absent ones need no look-up.
#[derive(Clone, Copy, Default)]
struct Seen(u16);

impl Seen {
    const CONTENT_LENGTH: u16 = 1;
    const TRANSFER_ENCODING: u16 = 2;
    const CONNECTION: u16 = 4;
    const UPGRADE: u16 = 8;
    const TE: u16 = 16;
    const UNDERSCORE: u16 = 32;
    /// A name that only old clients send, beside `Connection`.
    const OTHER_HOP: u16 = 64;
    /// `content-length` with a zero in front.
    const PADDED_LENGTH: u16 = 128;

    fn note(&mut self, name: &str) {
        self.0 |= match name {
            "content-length" => Self::CONTENT_LENGTH,
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "connection" => Self::CONNECTION,
            "upgrade" => Self::UPGRADE,
            "te" => Self::TE,
            "keep-alive" | "proxy-connection" => Self::OTHER_HOP,
            _ => 0,
        };
    }

    fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}

/// The fields of a head as a map.
struct Fields {
    headers: HeaderMap,
    seen: Seen,
    /// The values of `Host`, which does not go into the map.
    host: SmallVec<[Bytes; 1]>,
    case: Option<Box<HeaderCase>>,
    /// As in [`crate::http::RequestHead::wire_size`].
    wire_size: usize,
}

/// So many fields a proxy adds to most messages.
const ADDED: usize = 4;

struct FieldOptions {
    /// `Host` is taken out.
    request: bool,
    preserve_case: bool,
    look_for_underscores: bool,
}

fn fields(head: &Bytes, lines: &Lines, options: &FieldOptions) -> Result<Fields, Violation> {
    // With room for what is added on the way, for the usual few: growing means to hash all of it again.
    let mut headers = HeaderMap::with_capacity(lines.len() + ADDED);
    let mut seen = Seen::default();
    let mut host = SmallVec::new();
    let mut case = options.preserve_case.then(Box::<HeaderCase>::default);
    let mut wire_size = 0;
    let mut lines = lines.iter().peekable();
    while let Some(line) = lines.next() {
        let spelling = head.get(line.start..line.colon).unwrap_or_default();
        let name = header_name(spelling).ok_or(Violation::bad_request(details::CODEC_ERROR))?;
        let mut value = trim(head, line.colon + 1, line.end);
        if lines.peek().is_some_and(|next| next.folded) {
            let mut joined = BytesMut::from(&value[..]);
            while let Some(folded) = lines.next_if(|next| next.folded) {
                joined.extend_from_slice(b" ");
                joined.extend_from_slice(&trim(head, folded.start, folded.end));
            }
            value = joined.freeze();
        }
        wire_size += spelling.len() + value.len() + 3;
        if let Some(case) = &mut case
            && !case.0.iter().any(|known| known.eq_ignore_ascii_case(name.as_str()))
            && let Ok(spelling) = ByteStr::from_utf8(head.slice(line.start..line.colon))
        {
            case.0.push(spelling);
        }
        if options.request && name == http::header::HOST {
            host.push(value);
            continue;
        }
        seen.note(name.as_str());
        if options.look_for_underscores && spelling.contains(&b'_') {
            seen.0 |= Seen::UNDERSCORE;
        }
        if name == CONTENT_LENGTH && value.len() > 1 && value.starts_with(b"0") {
            seen.0 |= Seen::PADDED_LENGTH;
        }
        let value =
            HeaderValue::from_maybe_shared(value).map_err(|_| Violation::bad_request(details::INVALID_CHARACTERS))?;
        headers.append(name, value);
    }
    Ok(Fields { headers, seen, host, case, wire_size: wire_size.max(3) })
}

/// A value without the blanks around it, as a slice of the head.
fn trim(head: &Bytes, start: usize, end: usize) -> Bytes {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let value = head.get(start..end).unwrap_or_default();
    let leading = value.iter().take_while(|b| blank(b)).count();
    let trailing = value.iter().skip(leading).rev().take_while(|b| blank(b)).count();
    if leading == value.len() { Bytes::new() } else { head.slice(start + leading..end - trailing) }
}

/// Writes a length the one way there is, as `005` and `5` are one number and two texts.
fn canonical_length(headers: &mut HeaderMap, seen: Seen, length: u64) {
    if seen.has(Seen::PADDED_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The fields of a complete trailer section, for the chunked decoder, which has scanned it.
pub(super) fn trailer_fields(section: &Bytes, lenient: bool, max_headers: usize) -> Result<HeaderMap, Violation> {
    let (_, lines, _) =
        split(section, false, lenient, max_headers).ok_or(Violation::bad_request(details::CODEC_ERROR))?;
    let options = FieldOptions { request: false, preserve_case: false, look_for_underscores: false };
    fields(section, &lines, &options).map(|fields| fields.headers)
}
