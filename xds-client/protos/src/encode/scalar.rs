//! Numbers, booleans, strings, bytes and enums from JSON.

use std::borrow::Cow;

use crate::problem::did_you_mean;
use crate::schema::{Enum, Kind};
use crate::text::{Node, Value};

/// A scalar as it stands on the wire, without its tag.
#[derive(Debug)]
pub(super) enum Scalar<'t> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    Bytes(Cow<'t, [u8]>),
}

impl Scalar<'_> {
    pub(super) fn wire_type(&self) -> u8 {
        match self {
            Scalar::Varint(_) => 0,
            Scalar::Fixed64(_) => 1,
            Scalar::Bytes(_) => 2,
            Scalar::Fixed32(_) => 5,
        }
    }

    /// Minus zero is not the default of a double.
    pub(super) fn is_default(&self) -> bool {
        match self {
            Scalar::Varint(value) | Scalar::Fixed64(value) => *value == 0,
            Scalar::Fixed32(value) => *value == 0,
            Scalar::Bytes(value) => value.is_empty(),
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Scalar::Varint(value) => prost::encoding::encode_varint(*value, out),
            Scalar::Fixed32(value) => out.extend_from_slice(&value.to_le_bytes()),
            Scalar::Fixed64(value) => out.extend_from_slice(&value.to_le_bytes()),
            Scalar::Bytes(value) => {
                prost::encoding::encode_varint(value.len() as u64, out);
                out.extend_from_slice(value);
            }
        }
    }
}

pub(super) struct Mistake {
    pub(super) expected: String,
    pub(super) hint: Option<String>,
}

impl<T: Into<String>> From<T> for Mistake {
    fn from(expected: T) -> Mistake {
        Mistake { expected: expected.into(), hint: None }
    }
}

pub(super) fn read<'t>(kind: Kind, node: Node<'t>) -> Result<Scalar<'t>, Mistake> {
    let zigzag = |v: i64| Scalar::Varint(((v << 1) ^ (v >> 63)) as u64);
    Ok(match kind {
        Kind::Bool => Scalar::Varint(u64::from(boolean(node)?)),
        Kind::String => Scalar::Bytes(Cow::Borrowed(string(node)?.as_bytes())),
        Kind::Bytes => Scalar::Bytes(Cow::Owned(bytes(node)?)),
        Kind::Enum(kind) => Scalar::Varint(i64::from(enumeration(kind, node)?) as u64),
        Kind::Int32 => Scalar::Varint(signed(node, 32)? as u64),
        Kind::Int64 => Scalar::Varint(signed(node, 64)? as u64),
        Kind::Sint32 => zigzag(signed(node, 32)?),
        Kind::Sint64 => zigzag(signed(node, 64)?),
        Kind::Sfixed32 => Scalar::Fixed32(signed(node, 32)? as u32),
        Kind::Sfixed64 => Scalar::Fixed64(signed(node, 64)? as u64),
        Kind::Uint32 => Scalar::Varint(unsigned(node, 32)?),
        Kind::Uint64 => Scalar::Varint(unsigned(node, 64)?),
        Kind::Fixed32 => Scalar::Fixed32(unsigned(node, 32)? as u32),
        Kind::Fixed64 => Scalar::Fixed64(unsigned(node, 64)?),
        Kind::Double => Scalar::Fixed64(double(node)?.to_bits()),
        Kind::Float => Scalar::Fixed32(float(node)?.to_bits()),
        Kind::Message(message) => return Err(format!("an object ({})", message.full_name()).into()),
    })
}

fn boolean(node: Node<'_>) -> Result<bool, Mistake> {
    match node.value() {
        Value::Bool(value) => Ok(value),
        Value::String("true") => Ok(true),
        Value::String("false") => Ok(false),
        _ => Err("true or false".into()),
    }
}

fn string(node: Node<'_>) -> Result<&str, Mistake> {
    match node.value() {
        Value::String(text) => Ok(text),
        Value::Number(_) => Err(Mistake { expected: "a string".into(), hint: Some("put it in quotes".into()) }),
        Value::Bool(_) => {
            let written = node.word();
            let hint = match written {
                "true" | "false" | "" => "put it in quotes".into(),
                _ => format!("put it in quotes: a plain {written} is a boolean in YAML"),
            };
            Err(Mistake { expected: "a string".into(), hint: Some(hint) })
        }
        _ => Err("a string".into()),
    }
}

/// The text of a number, quoted or not.
fn number(node: Node<'_>) -> Option<&str> {
    match node.value() {
        Value::Number(text) => Some(text),
        // Only what could stand there without quotes: no spaces, no plus sign, no `inf`.
        Value::String(text)
            if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E')) =>
        {
            Some(text).filter(|text| !text.starts_with('+') && !text.is_empty())
        }
        _ => None,
    }
}

fn signed(node: Node<'_>, bits: u32) -> Result<i64, Mistake> {
    let (min, max) = (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits));
    let value = number(node).and_then(|text| integer(text, text.parse()));
    value
        .and_then(|v| i64::try_from(v).ok())
        .filter(|v| (min..=max).contains(v))
        .ok_or_else(|| format!("an integer of {min} to {max}").into())
}

fn unsigned(node: Node<'_>, bits: u32) -> Result<u64, Mistake> {
    let max = u64::MAX >> (64 - bits);
    let value = number(node).and_then(|text| integer(text, text.parse()));
    value
        .and_then(|v| u64::try_from(v).ok())
        .filter(|v| *v <= max)
        .ok_or_else(|| format!("an integer of 0 to {max}").into())
}

/// `1e3` and `5.0` are integers too.
fn integer(text: &str, direct: Result<i128, std::num::ParseIntError>) -> Option<i128> {
    direct.ok().or_else(|| {
        let value: f64 = text.parse().ok()?;
        (value.fract() == 0.0 && value.abs() < 1e30).then_some(value as i128)
    })
}

fn double(node: Node<'_>) -> Result<f64, Mistake> {
    let special = match node.value() {
        Value::String("NaN") => Some(f64::NAN),
        Value::String("Infinity") => Some(f64::INFINITY),
        Value::String("-Infinity") => Some(f64::NEG_INFINITY),
        _ => None,
    };
    let written = || number(node).and_then(|text| text.parse::<f64>().ok()).filter(|v| v.is_finite());
    special.or_else(written).ok_or_else(|| "a number".into())
}

fn float(node: Node<'_>) -> Result<f32, Mistake> {
    let value = double(node)?;
    let narrow = value as f32;
    if value.is_finite() && !narrow.is_finite() {
        return Err("a number of at most 3.4e38".into());
    }
    Ok(narrow)
}

/// Envoy parses names without regard to case; unknown numbers are kept, as proto3 wants it.
fn enumeration(kind: Enum, node: Node<'_>) -> Result<i32, Mistake> {
    match node.value() {
        Value::Null if kind.is_null_value() => return Ok(0),
        Value::Number(_) => return Ok(signed(node, 32)? as i32),
        Value::String(name) => {
            let upper = || kind.by_name(&name.to_ascii_uppercase().replace('-', "_"));
            if let Some(value) = kind.by_name(name).or_else(upper) {
                return Ok(value.number);
            }
            if let Ok(number) = signed(node, 32) {
                return Ok(number as i32);
            }
        }
        _ => {}
    }
    let names: Vec<_> = kind.values().map(|v| v.name).collect();
    let wrong = node.as_str().unwrap_or_default().to_ascii_uppercase();
    let hint = match did_you_mean(&wrong, names.iter().copied()) {
        Some(meant) => Some(format!("did you mean {meant}?")),
        None if names.len() <= 12 => Some(format!("it is one of {}", names.join(", "))),
        None => None,
    };
    Err(Mistake { expected: format!("a value of {}", kind.full_name()), hint })
}

/// Base64 in the standard or the URL alphabet, padded or not.
fn bytes(node: Node<'_>) -> Result<Vec<u8>, Mistake> {
    node.as_str().and_then(base64).ok_or_else(|| "a string of base64".into())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let (mut out, mut bits, mut held) = (Vec::with_capacity(digits.len() * 3 / 4), 0u32, 0);
    for byte in digits.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}
