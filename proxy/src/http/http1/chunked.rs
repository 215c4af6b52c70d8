//! The chunked transfer coding (RFC 9112 section 7.1).
//!
//! The decoder takes what the grammar allows and no more, as another reader's idea of where a chunk ends is how requests are
//! smuggled: CRLF at each place, at most 16 digits, extensions of at most 4 KiB in a message. Answers of upstreams may
//! end lines with LF in trailers and put blanks after a size, as Envoy allows.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;

use super::HeadLimits;
use super::head::scan::Scanned;
use super::head::{Scan, trailer_fields};
use crate::http::check::{self, UnderscoreAction, Violation, details};

const MAX_SIZE_DIGITS: u8 = 16;
/// Of all extensions of one message together. Nobody uses them; reading on for ever would be free work for the sender.
const MAX_EXTENSION_BYTES: u16 = 4096;

/// How a chunked body is read.
#[derive(Debug, Clone, Copy)]
pub struct ChunkedOptions {
    pub limits: HeadLimits,
    /// `enable_trailers`: without it trailers are checked and dropped.
    pub enable_trailers: bool,
    pub underscores: UnderscoreAction,
    /// For answers of upstreams.
    pub lenient: bool,
}

#[derive(Debug)]
pub enum Chunk {
    Data(Bytes),
    /// Trailers, when there are any to hand on.
    End(Option<HeaderMap>),
}

/// A decoder of one body.
#[derive(Debug)]
pub struct ChunkedDecoder {
    options: ChunkedOptions,
    place: Place,
    size: u64,
    digits: u8,
    extension_bytes: u16,
    /// Inside the quotes of an extension's value, and after a backslash in there.
    quoted: bool,
    escaped: bool,
    trailers: Scan,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Size,
    /// After blanks behind the size.
    Blank,
    /// Right after `;`.
    ExtensionName,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

impl ChunkedDecoder {
    pub fn new(options: ChunkedOptions) -> Self {
        ChunkedDecoder {
            options,
            place: Place::Size,
            size: 0,
            digits: 0,
            extension_bytes: 0,
            quoted: false,
            escaped: false,
            trailers: Scan::trailers(options.lenient),
        }
    }

    pub fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// Takes the next piece from the front of `buf`; `None` if more bytes are wanted.
    ///
    /// # Errors
    /// The body breaks the grammar or a limit. The decoder is of no use afterwards.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<Chunk>, Violation> {
        loop {
            match self.place {
                Place::Data => {
                    if buf.is_empty() {
                        return Ok(None);
                    }
                    let n = usize::try_from(self.size).unwrap_or(usize::MAX).min(buf.len());
                    self.size -= n as u64;
                    if self.size == 0 {
                        self.place = Place::DataCr;
                    }
                    return Ok(Some(Chunk::Data(buf.split_to(n).freeze())));
                }
                Place::Trailers => return self.trailer_section(buf),
                Place::Done => return Ok(None),
                _ => {
                    let Some(b) = buf.first().copied() else { return Ok(None) };
                    buf.advance(1);
                    self.place = self.step(b)?;
                }
            }
        }
    }

    fn step(&mut self, b: u8) -> Result<Place, Violation> {
        let bad = Err(Violation::bad_request(details::CODEC_ERROR));
        match (self.place, b) {
            (Place::Size, b) if b.is_ascii_hexdigit() => {
                if self.digits == MAX_SIZE_DIGITS {
                    return bad;
                }
                self.digits += 1;
                let digit = char::from(b).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                Ok(Place::Size)
            }
            (Place::Size, b' ' | b'\t') if self.options.lenient && self.digits > 0 => Ok(Place::Blank),
            (Place::Blank, b' ' | b'\t') => Ok(Place::Blank),
            (Place::Size | Place::Blank, b';') if self.digits > 0 => Ok(Place::ExtensionName),
            (Place::Size | Place::Blank, b'\r') if self.digits > 0 => Ok(Place::SizeLf),
            (Place::ExtensionName | Place::Extension, b) => self.extension(b),
            (Place::SizeLf, b'\n') => self.size_complete(),
            (Place::DataCr, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => {
                self.digits = 0;
                Ok(Place::Size)
            }
            _ => bad,
        }
    }

    fn extension(&mut self, b: u8) -> Result<Place, Violation> {
        let bad = Err(Violation::bad_request(details::CODEC_ERROR));
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES {
            return bad;
        }
        if self.place == Place::ExtensionName {
            return if check::is_tchar(b) { Ok(Place::Extension) } else { bad };
        }
        match b {
            b'\r' if !self.quoted => return Ok(Place::SizeLf),
            b if !check::is_field_byte(b) => return bad,
            _ if self.escaped => self.escaped = false,
            b'\\' if self.quoted => self.escaped = true,
            b'"' => self.quoted = !self.quoted,
            b';' if !self.quoted => return Ok(Place::ExtensionName),
            _ => {}
        }
        Ok(Place::Extension)
    }

    fn size_complete(&mut self) -> Result<Place, Violation> {
        if self.size > i64::MAX as u64 {
            return Err(Violation::bad_request(details::CODEC_ERROR));
        }
        Ok(if self.size == 0 { Place::Trailers } else { Place::Data })
    }

    fn trailer_section(&mut self, buf: &mut BytesMut) -> Result<Option<Chunk>, Violation> {
        let ChunkedOptions { mut limits, enable_trailers, underscores, lenient } = self.options;
        if !enable_trailers {
            limits.max_headers = usize::MAX;
        }
        match self.trailers.advance(buf, limits, |_| Ok(())) {
            Scanned::Partial => Ok(None),
            Scanned::Refused(violation) => Err(violation),
            Scanned::Complete(end) => {
                self.place = Place::Done;
                let section = buf.split_to(end).freeze();
                if !enable_trailers || end <= 2 {
                    return Ok(Some(Chunk::End(None)));
                }
                let mut trailers = trailer_fields(&section, lenient, limits.max_headers)?;
                check::trailers(&mut trailers);
                check::underscores(&mut trailers, underscores)?;
                Ok(Some(Chunk::End((!trailers.is_empty()).then_some(trailers))))
            }
        }
    }
}

/// The line before a chunk's data.
pub fn write_size(out: &mut BytesMut, size: usize) {
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut rest = size;
    loop {
        at -= 1;
        if let (Some(digit), Some(hex)) = (digits.get_mut(at), b"0123456789abcdef".get(rest & 15)) {
            *digit = *hex;
        }
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(digits.get(at..).unwrap_or_default());
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
