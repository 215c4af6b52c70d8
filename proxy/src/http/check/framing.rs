//! How long a body is: `Content-Length` and `Transfer-Encoding`, each at most once and never both.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};

use super::{Violation, details};

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    Length(u64),
    Chunked,
    /// Everything until the peer closes: responses only.
    UntilClose,
}

/// The value of the one `content-length` field, `None` without one.
///
/// # Errors
/// More than one line (equal or not), a list, a sign, anything but digits, or more than 2^63-1.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Violation> {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lines.next() else { return Ok(None) };
    let length = if lines.next().is_none() { parse_content_length(first.as_bytes()) } else { None };
    length.map(Some).ok_or(Violation::bad_request(details::CODEC_ERROR))
}

/// Digits only, and small enough that no signed counter behind us overflows.
pub fn parse_content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut length: u64 = 0;
    for b in value {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        length = length.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (length <= i64::MAX as u64).then_some(length)
}

/// Whether the message is chunked, by its `Transfer-Encoding`.
///
/// # Errors
/// 501 for a coding that we do not know; 400 for one line too many, an empty element, `identity`, or `chunked` not exactly
/// once: a peer that reads such a thing differently would see another message.
pub fn transfer_encoding(headers: &HeaderMap) -> Result<bool, Violation> {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(first) = lines.next() else { return Ok(false) };
    let refused = |status| Violation { status, details: details::INVALID_TRANSFER_ENCODING };
    if lines.next().is_some() {
        return Err(refused(StatusCode::BAD_REQUEST));
    }
    let value = first.as_bytes();
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(true);
    }
    let mut unknown = false;
    for coding in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
        if coding.is_empty() || coding.eq_ignore_ascii_case(b"identity") {
            return Err(refused(StatusCode::BAD_REQUEST));
        }
        unknown |= !coding.eq_ignore_ascii_case(b"chunked");
    }
    Err(refused(if unknown { StatusCode::NOT_IMPLEMENTED } else { StatusCode::BAD_REQUEST }))
}
