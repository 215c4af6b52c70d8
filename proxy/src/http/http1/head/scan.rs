//! Reads a head, or a trailer section, byte by byte, and can go on where it stopped.

use http::StatusCode;

use crate::http::check::{Violation, details, is_field_byte, is_tchar};
use crate::http::http1::HeadLimits;

/// What the bytes so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scanned {
    Partial,
    /// Complete, and of so many bytes.
    Complete(usize),
    Refused(Violation),
}

/// How far the scan has come, and what rules apply.
#[derive(Debug, Clone, Copy)]
pub struct Scan {
    at: u32,
    lines: u16,
    place: Place,
    /// Upstream answers may end lines with LF alone and fold them, as in Envoy.
    lenient: bool,
    request: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    StartLine,
    StartLineCr,
    LineStart,
    Name,
    Value,
    ValueCr,
    /// The CR of the empty line.
    LastCr,
}

impl Scan {
    pub fn request() -> Self {
        Scan { at: 0, lines: 0, place: Place::StartLine, lenient: false, request: true }
    }

    pub fn response() -> Self {
        Scan { at: 0, lines: 0, place: Place::StartLine, lenient: true, request: false }
    }

    pub fn trailers(lenient: bool) -> Self {
        Scan { at: 0, lines: 0, place: Place::LineStart, lenient, request: !lenient }
    }

    pub fn has_begun(&self) -> bool {
        self.at != 0
    }

    /// Goes on over `head`, which begins where it began before. `start_line` judges the start line once it is complete.
    pub fn advance(
        &mut self,
        head: &[u8],
        limits: HeadLimits,
        start_line: impl Fn(&[u8]) -> Result<(), Violation>,
    ) -> Scanned {
        let window = head.get(..limits.max_bytes).unwrap_or(head);
        for b in window.get(self.at as usize..).unwrap_or_default() {
            match self.step(*b, limits.max_headers) {
                Ok(Step::Next) => {}
                Ok(Step::StartLineEnds(cr)) => {
                    let line = window.get(..self.at as usize - cr).unwrap_or_default();
                    if let Err(violation) = start_line(line) {
                        return Scanned::Refused(violation);
                    }
                }
                Ok(Step::Complete) => return Scanned::Complete(self.at as usize + 1),
                Err(violation) => return Scanned::Refused(violation),
            }
            self.at += 1;
        }
        if window.len() == limits.max_bytes {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Scanned::Refused(Violation { status, details: details::HEADERS_TOO_LARGE });
        }
        Scanned::Partial
    }

    fn step(&mut self, b: u8, max_headers: usize) -> Result<Step, Violation> {
        let bad = Err(Violation::bad_request(details::CODEC_ERROR));
        self.place = match (self.place, b) {
            (Place::StartLine, b'\r') => Place::StartLineCr,
            (Place::StartLineCr, b'\n') => {
                self.place = Place::LineStart;
                return Ok(Step::StartLineEnds(1));
            }
            (Place::StartLine, b'\n') if self.lenient => {
                self.place = Place::LineStart;
                return Ok(Step::StartLineEnds(0));
            }
            (Place::StartLine, b' ') if self.at == 0 => return bad,
            // A reason phrase may have more than a request line.
            (Place::StartLine, b) if matches!(b, b' '..=b'~') || (!self.request && is_field_byte(b)) => {
                Place::StartLine
            }
            (Place::LineStart, b'\r') => Place::LastCr,
            (Place::LineStart, b'\n') if self.lenient => return Ok(Step::Complete),
            (Place::LineStart, b' ' | b'\t') if self.lenient && self.lines > 0 => Place::Value,
            (Place::LineStart, b) if is_tchar(b) => {
                if usize::from(self.lines) >= max_headers {
                    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                    return Err(Violation { status, details: details::TOO_MANY_HEADERS });
                }
                self.lines = self.lines.saturating_add(1);
                Place::Name
            }
            (Place::LastCr, b'\n') => return Ok(Step::Complete),
            (Place::Name, b':') => Place::Value,
            (Place::Name, b) if is_tchar(b) => Place::Name,
            (Place::Value, b'\r') => Place::ValueCr,
            (Place::Value, b'\n') if self.lenient => Place::LineStart,
            (Place::Value, b) if is_field_byte(b) => Place::Value,
            (Place::Value, b) if b != b'\n' => return Err(Violation::bad_request(details::INVALID_CHARACTERS)),
            (Place::ValueCr, b'\n') => Place::LineStart,
            _ => return bad,
        };
        Ok(Step::Next)
    }
}

enum Step {
    Next,
    /// With how many bytes of CR before the LF.
    StartLineEnds(usize),
    Complete,
}
