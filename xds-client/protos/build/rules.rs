//! Compiles `validate.FieldRules` into the little program that `src/rules.rs` interprets.
//!
//! A program is a list of operations, each one byte and its operands, up to `END`. Numbers are 8 bytes little-endian in
//! the field's own kind (i64, u64 or the bits of an f64), durations are 8 bytes of seconds and 4 of nanoseconds, strings are
//! an offset (4 bytes) and a length (2) in the text pool, lists begin with their length (2). A rule that the interpreter
//! does not know ends the build: a constraint must not get lost.

use crate::schema::Strings;
use crate::wire::{Value, fields};

#[path = "../src/rules/op.rs"]
mod op;

/// The program of the serialized `FieldRules` in `buf`.
pub fn compile(buf: &[u8], strings: &mut Strings) -> Vec<u8> {
    let mut program = Vec::new();
    let out = &mut program;
    for (number, value, _) in fields(buf) {
        let rules = value.bytes();
        match number {
            1..=12 => numeric(number, rules, out),
            13 => boolean(rules, out),
            14 => string(rules, strings, out),
            15 => bytes(rules, out),
            16 => enumeration(rules, out),
            17 => message(rules, out),
            18 => repeated(rules, strings, out),
            19 => map(rules, strings, out),
            20 => any(rules, strings, out),
            21 => duration(rules, out),
            other => panic!("validate.FieldRules field {other} is not supported"),
        }
    }
    out.push(op::END);
    program
}

/// FloatRules … SFixed64Rules have the same field numbers.
fn numeric(kind: u32, rules: &[u8], out: &mut Vec<u8>) {
    assert_range(kind, rules);
    let (mut within, mut without) = (Vec::new(), Vec::new());
    for (number, value, _) in fields(rules) {
        let code = match number {
            1 => op::CONST,
            2 => op::LT,
            3 => op::LTE,
            4 => op::GT,
            5 => op::GTE,
            6 => {
                within.extend(numbers(kind, value));
                continue;
            }
            7 => {
                without.extend(numbers(kind, value));
                continue;
            }
            8 => {
                ignore_empty(value, out);
                continue;
            }
            other => panic!("numeric rule {other} is not supported"),
        };
        out.push(code);
        out.extend_from_slice(&bits(kind, value).to_le_bytes());
    }
    number_list(op::IN, &within, out);
    number_list(op::NOT_IN, &without, out);
}

/// A lower bound above the upper one would mean "outside of".
fn assert_range(kind: u32, rules: &[u8]) {
    let bound = |numbers: [u32; 2]| fields(rules).into_iter().find(|f| numbers.contains(&f.0)).map(|f| bits(kind, f.1));
    if let (Some(high), Some(low)) = (bound([2, 3]), bound([4, 5])) {
        let inside = if kind <= 2 { f64::from_bits(low) <= f64::from_bits(high) } else { low as i64 <= high as i64 };
        assert!(inside, "exclusive ranges are not supported");
    }
}

fn bits(kind: u32, value: Value<'_>) -> u64 {
    let zigzag = |v: u64| ((v >> 1) as i64 ^ -((v & 1) as i64)) as u64;
    match (kind, value) {
        (1, Value::Fixed32(v)) => f64::from(f32::from_bits(v)).to_bits(),
        (2 | 10 | 12, Value::Fixed64(v)) => v,
        (3..=6, Value::Varint(v)) => v,
        (7 | 8, Value::Varint(v)) => zigzag(v),
        (9, Value::Fixed32(v)) => u64::from(v),
        (11, Value::Fixed32(v)) => i64::from(v as i32) as u64,
        _ => panic!("operand of numeric rules {kind} has another wire type"),
    }
}

/// Proto2 lists are not packed, but both forms are legal.
fn numbers(kind: u32, value: Value<'_>) -> Vec<u64> {
    match value {
        Value::Bytes(_) => panic!("packed lists in validate.rules are not supported"),
        single => vec![bits(kind, single)],
    }
}

fn number_list(code: u8, list: &[u64], out: &mut Vec<u8>) {
    if !list.is_empty() {
        out.push(code);
        out.extend_from_slice(&(list.len() as u16).to_le_bytes());
        list.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
    }
}

fn ignore_empty(value: Value<'_>, out: &mut Vec<u8>) {
    if value.varint() == 1 {
        // First, so that the interpreter can leave before the other rules.
        out.insert(0, op::IGNORE_EMPTY);
    }
}

fn boolean(rules: &[u8], out: &mut Vec<u8>) {
    for (number, value, _) in fields(rules) {
        assert_eq!(number, 1, "BoolRules has one rule");
        out.push(op::CONST);
        out.extend_from_slice(&value.varint().to_le_bytes());
    }
}

fn string(rules: &[u8], strings: &mut Strings, out: &mut Vec<u8>) {
    let (mut within, mut without) = (Vec::new(), Vec::new());
    let strict = !fields(rules).iter().any(|f| f.0 == 25 && f.1.varint() == 0);
    let mut program = Vec::new();
    for (number, value, _) in fields(rules) {
        let code = match number {
            19 => op::LEN,
            2 => op::MIN_LEN,
            3 => op::MAX_LEN,
            20 => op::LEN_BYTES,
            4 => op::MIN_BYTES,
            5 => op::MAX_BYTES,
            6 => {
                assert_pattern(value.text());
                op::PATTERN
            }
            7 => op::PREFIX,
            8 => op::SUFFIX,
            9 => op::CONTAINS,
            23 => op::NOT_CONTAINS,
            10 => {
                within.push(value.text());
                continue;
            }
            11 => {
                without.push(value.text());
                continue;
            }
            24 => {
                program.push(match value.varint() {
                    1 => op::HEADER_NAME,
                    2 => op::HEADER_VALUE,
                    other => panic!("well_known_regex {other} is not supported"),
                });
                program.push(u8::from(strict));
                continue;
            }
            25 => continue,
            26 => {
                ignore_empty(value, &mut program);
                continue;
            }
            other => panic!("StringRules field {other} is not supported"),
        };
        program.push(code);
        match value {
            Value::Varint(v) => program.extend_from_slice(&v.to_le_bytes()),
            text => strings.put(text.text(), &mut program),
        }
    }
    out.extend_from_slice(&program);
    string_list(op::IN_TEXT, &within, strings, out);
    string_list(op::NOT_IN_TEXT, &without, strings, out);
}

fn string_list(code: u8, list: &[&str], strings: &mut Strings, out: &mut Vec<u8>) {
    if !list.is_empty() {
        out.push(code);
        out.extend_from_slice(&(list.len() as u16).to_le_bytes());
        list.iter().for_each(|text| strings.put(text, out));
    }
}

/// The interpreter knows `^…$` over character classes; see `src/rules/pattern.rs`.
fn assert_pattern(pattern: &str) {
    let body = pattern.strip_prefix('^').and_then(|p| p.strip_suffix('$')).expect("patterns are anchored");
    let mut rest = body;
    while !rest.is_empty() {
        let end = rest.strip_prefix('[').and_then(|r| r.find(']')).expect("patterns are character classes");
        rest = rest[end + 2..].trim_start_matches(['+', '*']);
    }
}

fn bytes(rules: &[u8], out: &mut Vec<u8>) {
    for (number, value, _) in fields(rules) {
        out.push(match number {
            2 => op::MIN_BYTES,
            3 => op::MAX_BYTES,
            13 => op::LEN_BYTES,
            other => panic!("BytesRules field {other} is not supported"),
        });
        out.extend_from_slice(&value.varint().to_le_bytes());
    }
}

fn enumeration(rules: &[u8], out: &mut Vec<u8>) {
    let (mut within, mut without) = (Vec::new(), Vec::new());
    for (number, value, _) in fields(rules) {
        match number {
            1 => {
                out.push(op::CONST);
                out.extend_from_slice(&value.varint().to_le_bytes());
            }
            2 if value.varint() == 1 => out.push(op::DEFINED_ONLY),
            2 => {}
            3 => within.extend(numbers(3, value)),
            4 => without.extend(numbers(3, value)),
            other => panic!("EnumRules field {other} is not supported"),
        }
    }
    number_list(op::IN, &within, out);
    number_list(op::NOT_IN, &without, out);
}

fn message(rules: &[u8], out: &mut Vec<u8>) {
    for (number, value, _) in fields(rules) {
        match (number, value.varint()) {
            (1, 1) => out.push(op::SKIP),
            (2, 1) => out.push(op::REQUIRED),
            (1 | 2, _) => {}
            (other, _) => panic!("MessageRules field {other} is not supported"),
        }
    }
}

fn repeated(rules: &[u8], strings: &mut Strings, out: &mut Vec<u8>) {
    for (number, value, _) in fields(rules) {
        match number {
            1 | 2 => {
                out.push(if number == 1 { op::MIN_ITEMS } else { op::MAX_ITEMS });
                out.extend_from_slice(&value.varint().to_le_bytes());
            }
            3 if value.varint() == 1 => out.push(op::UNIQUE),
            3 => {}
            4 => nested(op::ITEMS, value.bytes(), strings, out),
            5 => ignore_empty(value, out),
            other => panic!("RepeatedRules field {other} is not supported"),
        }
    }
}

fn map(rules: &[u8], strings: &mut Strings, out: &mut Vec<u8>) {
    for (number, value, _) in fields(rules) {
        match number {
            1 | 2 => {
                out.push(if number == 1 { op::MIN_ITEMS } else { op::MAX_ITEMS });
                out.extend_from_slice(&value.varint().to_le_bytes());
            }
            4 => nested(op::KEYS, value.bytes(), strings, out),
            5 => nested(op::ITEMS, value.bytes(), strings, out),
            6 => ignore_empty(value, out),
            other => panic!("MapRules field {other} is not supported"),
        }
    }
}

/// The length of a nested program comes first, so that it can be stepped over.
fn nested(code: u8, rules: &[u8], strings: &mut Strings, out: &mut Vec<u8>) {
    let program = compile(rules, strings);
    out.push(code);
    out.extend_from_slice(&(program.len() as u16).to_le_bytes());
    out.extend_from_slice(&program);
}

fn any(rules: &[u8], strings: &mut Strings, out: &mut Vec<u8>) {
    let (mut within, mut without) = (Vec::new(), Vec::new());
    for (number, value, _) in fields(rules) {
        match number {
            1 if value.varint() == 1 => out.push(op::REQUIRED),
            1 => {}
            2 => within.push(value.text()),
            3 => without.push(value.text()),
            other => panic!("AnyRules field {other} is not supported"),
        }
    }
    string_list(op::IN_TEXT, &within, strings, out);
    string_list(op::NOT_IN_TEXT, &without, strings, out);
}

fn duration(rules: &[u8], out: &mut Vec<u8>) {
    for (number, value, _) in fields(rules) {
        let code = match number {
            1 => {
                if value.varint() == 1 {
                    out.push(op::REQUIRED);
                }
                continue;
            }
            2 => op::DURATION_CONST,
            3 => op::DURATION_LT,
            4 => op::DURATION_LTE,
            5 => op::DURATION_GT,
            6 => op::DURATION_GTE,
            other => panic!("DurationRules field {other} is not supported"),
        };
        let part = |n| fields(value.bytes()).iter().find(|f| f.0 == n).map_or(0, |f| f.1.varint());
        out.push(code);
        out.extend_from_slice(&part(1).to_le_bytes());
        out.extend_from_slice(&(part(2) as i32).to_le_bytes());
    }
}
