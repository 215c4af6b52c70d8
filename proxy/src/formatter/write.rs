//! How values get into a line: written at its end, then made safe for where they stand.

use std::fmt::Write;
use std::net::IpAddr;

use prost_types::Value;
use prost_types::value::Kind;

use crate::net::Address;

/// What an operator left at the end of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing: there is no value. Text prints `-`, JSON `null`.
    Missing,
    Text,
    /// Digits; a number in JSON.
    Number,
    /// JSON of a struct, list or boolean.
    Json,
}

pub(super) fn text(out: &mut Vec<u8>, value: impl AsRef<[u8]>) -> Written {
    out.extend_from_slice(value.as_ref());
    Written::Text
}

pub(super) fn optional(out: &mut Vec<u8>, value: Option<impl AsRef<[u8]>>) -> Written {
    value.map_or(Written::Missing, |value| text(out, value))
}

pub(super) fn number(out: &mut Vec<u8>, value: impl itoa::Integer) -> Written {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    Written::Number
}

/// The items with commas between; nothing for none.
pub(super) fn joined(out: &mut Vec<u8>, items: impl Iterator<Item = impl AsRef<[u8]>>) -> Written {
    let start = out.len();
    for item in items {
        if out.len() > start {
            out.push(b',');
        }
        out.extend_from_slice(item.as_ref());
    }
    if out.len() > start { Written::Text } else { Written::Missing }
}

pub(super) fn address(out: &mut Vec<u8>, address: &Address) -> Written {
    match address {
        Address::Ip(socket) => {
            let v6 = socket.is_ipv6();
            out.extend_from_slice(if v6 { b"[" } else { b"" });
            ip(out, socket.ip());
            out.extend_from_slice(if v6 { b"]:" } else { b":" });
            number(out, socket.port());
        }
        Address::Pipe(path) => out.extend_from_slice(path.as_bytes()),
    }
    Written::Text
}

pub(super) fn ip(out: &mut Vec<u8>, ip: IpAddr) -> Written {
    match ip {
        IpAddr::V4(v4) => {
            for (i, part) in v4.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                number(out, part);
            }
        }
        IpAddr::V6(v6) => {
            let _ = std::io::Write::write_fmt(out, format_args!("{v6}"));
        }
    }
    Written::Text
}

/// Cuts what was written since `start` to so many bytes.
pub(super) fn truncate(out: &mut Vec<u8>, start: usize, max_length: Option<usize>) {
    if let Some(max) = max_length {
        out.truncate(start.saturating_add(max));
    }
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// Takes the power to forge lines and to drive terminals from what was written since `start`: control bytes but tabs become
/// `\x0a`. Envoy writes them as they are, and a request can bring them in through `%QUERY_PARAM%`.
pub(super) fn neutralise(out: &mut Vec<u8>, start: usize) {
    let written = out.get(start..).unwrap_or_default();
    if !written.iter().any(|byte| is_control(*byte)) {
        return;
    }
    let mut safe = Vec::with_capacity(written.len() + 16);
    for byte in written {
        if is_control(*byte) {
            safe.extend_from_slice(b"\\x");
            push_hex(&mut safe, *byte);
        } else {
            safe.push(*byte);
        }
    }
    out.truncate(start);
    out.extend_from_slice(&safe);
}

/// Makes a JSON string's inside of what was written since `start`. Text that is not UTF-8 is taken as Latin-1, as in Envoy.
pub(super) fn escape_json(out: &mut Vec<u8>, start: usize) {
    let written = out.get(start..).unwrap_or_default();
    let plain = |byte: &u8| (0x20..0x80).contains(byte) && *byte != b'"' && *byte != b'\\';
    if written.iter().all(plain) {
        return;
    }
    let mut safe = Vec::with_capacity(written.len() + 16);
    push_json(&mut safe, written);
    out.truncate(start);
    out.extend_from_slice(&safe);
}

/// Appends the inside of a JSON string.
pub(super) fn push_json(out: &mut Vec<u8>, value: &[u8]) {
    let utf8 = std::str::from_utf8(value).is_ok();
    for byte in value {
        match *byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            byte if byte < 0x20 || byte == 0x7f || (byte >= 0x80 && !utf8) => {
                out.extend_from_slice(b"\\u00");
                push_hex(out, byte);
            }
            byte => out.push(byte),
        }
    }
}

pub(super) fn push_hex(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend([byte >> 4, byte & 15].iter().filter_map(|digit| DIGITS.get(usize::from(*digit)).copied()));
}

/// A metadata value: strings as text, others as JSON.
pub(super) fn metadata_value(out: &mut Vec<u8>, value: &Value) -> Written {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Written::Missing,
        Some(Kind::StringValue(string)) => text(out, string),
        Some(Kind::NumberValue(_)) => {
            push_value(out, value);
            Written::Number
        }
        Some(_) => {
            push_value(out, value);
            Written::Json
        }
    }
}

/// Appends a value as JSON.
pub(super) fn push_value(out: &mut Vec<u8>, value: &Value) {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => out.extend_from_slice(b"null"),
        Some(Kind::BoolValue(true)) => out.extend_from_slice(b"true"),
        Some(Kind::BoolValue(false)) => out.extend_from_slice(b"false"),
        Some(Kind::NumberValue(number)) => push_double(out, *number),
        Some(Kind::StringValue(string)) => {
            out.push(b'"');
            push_json(out, string.as_bytes());
            out.push(b'"');
        }
        Some(Kind::ListValue(list)) => {
            out.push(b'[');
            for (i, item) in list.values.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                push_value(out, item);
            }
            out.push(b']');
        }
        Some(Kind::StructValue(inner)) => push_struct(out, inner),
    }
}

pub(super) fn push_struct(out: &mut Vec<u8>, value: &prost_types::Struct) {
    out.push(b'{');
    for (i, (key, value)) in value.fields.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",\"" } else { b"\"" });
        push_json(out, key.as_bytes());
        out.extend_from_slice(b"\":");
        push_value(out, value);
    }
    out.push(b'}');
}

/// Whole numbers without a fraction; infinities and NaN, which JSON has not, as null.
pub(super) fn push_double(out: &mut Vec<u8>, number: f64) {
    if !number.is_finite() {
        out.extend_from_slice(b"null");
    } else if number.fract() == 0.0 && number.abs() < 9e15 {
        out.extend_from_slice(itoa::Buffer::new().format(number as i64).as_bytes());
    } else {
        let mut text = String::new();
        let _ = write!(text, "{number:?}");
        out.extend_from_slice(text.as_bytes());
    }
}
