//! Runs the programs into which the build script compiles `validate.rules`. `build/rules.rs` documents their form.

mod op;
mod pattern;

use std::fmt;

use crate::schema::{Kind, pooled_text};
use crate::text::Shortened;
use crate::wire::Scalar;

/// The rules of a field, of the items of a list, or of the keys of a map.
#[derive(Clone, Copy)]
pub(crate) struct Program(&'static [u8]);

/// One rule.
pub(crate) enum Rule {
    /// The field must be set.
    Required,
    /// The message is not looked into.
    Skip,
    /// An empty or zero value is right, whatever the other rules say.
    IgnoreEmpty,
    Compare(Order, u64),
    Duration(Order, (i64, i32)),
    Numbers {
        within: bool,
        list: &'static [u8],
    },
    DefinedOnly,
    /// Of characters, or of bytes.
    Length {
        order: Order,
        bytes: bool,
        limit: u64,
    },
    Text(TextRule, &'static str),
    Header {
        name: bool,
        strict: bool,
    },
    Texts {
        within: bool,
        list: &'static [u8],
    },
    /// The number of items.
    Items {
        order: Order,
        limit: u64,
    },
    Unique,
    ForItems(Program),
    ForKeys(Program),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Equal,
    Less,
    AtMost,
    More,
    AtLeast,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextRule {
    Pattern,
    Prefix,
    Suffix,
    Contains,
    NotContains,
}

impl Order {
    fn of(code: u8) -> Order {
        match code {
            op::LT | op::DURATION_LT => Order::Less,
            op::LTE | op::DURATION_LTE | op::MAX_LEN | op::MAX_BYTES | op::MAX_ITEMS => Order::AtMost,
            op::GT | op::DURATION_GT => Order::More,
            op::GTE | op::DURATION_GTE | op::MIN_LEN | op::MIN_BYTES | op::MIN_ITEMS => Order::AtLeast,
            _ => Order::Equal,
        }
    }

    /// Not-a-number is not ordered: it breaks no bound, as in C++.
    pub(crate) fn holds<T: PartialOrd>(self, value: T, limit: T) -> bool {
        match self {
            Order::Equal => value == limit,
            Order::Less => !matches!(value.partial_cmp(&limit), Some(o) if o.is_ge()),
            Order::AtMost => !matches!(value.partial_cmp(&limit), Some(o) if o.is_gt()),
            Order::More => !matches!(value.partial_cmp(&limit), Some(o) if o.is_le()),
            Order::AtLeast => !matches!(value.partial_cmp(&limit), Some(o) if o.is_lt()),
        }
    }
}

/// "at least", …
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Order::Equal => "exactly",
            Order::Less => "less than",
            Order::AtMost => "at most",
            Order::More => "more than",
            Order::AtLeast => "at least",
        })
    }
}

impl Program {
    pub(crate) fn new(bytes: &'static [u8]) -> Program {
        Program(bytes)
    }
}

impl Iterator for Program {
    type Item = Rule;

    fn next(&mut self) -> Option<Rule> {
        let code = self.take(1).first().copied().unwrap_or(op::END);
        Some(match code {
            op::REQUIRED => Rule::Required,
            op::SKIP => Rule::Skip,
            op::IGNORE_EMPTY => Rule::IgnoreEmpty,
            op::CONST..=op::GTE => Rule::Compare(Order::of(code), self.u64()),
            op::DURATION_CONST..=op::DURATION_GTE => {
                Rule::Duration(Order::of(code), (self.u64() as i64, self.u32() as i32))
            }
            op::IN | op::NOT_IN => {
                let count = self.u16();
                Rule::Numbers { within: code == op::IN, list: self.take(count * 8) }
            }
            op::DEFINED_ONLY => Rule::DefinedOnly,
            op::LEN..=op::MAX_BYTES => {
                Rule::Length { order: Order::of(code), bytes: code >= op::LEN_BYTES, limit: self.u64() }
            }
            op::PATTERN => Rule::Text(TextRule::Pattern, self.text()),
            op::PREFIX => Rule::Text(TextRule::Prefix, self.text()),
            op::SUFFIX => Rule::Text(TextRule::Suffix, self.text()),
            op::CONTAINS => Rule::Text(TextRule::Contains, self.text()),
            op::NOT_CONTAINS => Rule::Text(TextRule::NotContains, self.text()),
            op::HEADER_NAME | op::HEADER_VALUE => {
                Rule::Header { name: code == op::HEADER_NAME, strict: self.take(1) == [1] }
            }
            op::IN_TEXT | op::NOT_IN_TEXT => {
                let count = self.u16();
                Rule::Texts { within: code == op::IN_TEXT, list: self.take(count * 6) }
            }
            op::MIN_ITEMS | op::MAX_ITEMS => Rule::Items { order: Order::of(code), limit: self.u64() },
            op::UNIQUE => Rule::Unique,
            op::ITEMS | op::KEYS => {
                let len = self.u16();
                let program = Program(self.take(len));
                if code == op::ITEMS { Rule::ForItems(program) } else { Rule::ForKeys(program) }
            }
            _ => {
                self.0 = &[];
                return None;
            }
        })
    }
}

impl Program {
    fn take(&mut self, len: usize) -> &'static [u8] {
        let (head, tail) = self.0.split_at_checked(len).unwrap_or((self.0, &[]));
        self.0 = tail;
        head
    }

    fn u16(&mut self) -> usize {
        self.take(2).try_into().map_or(0, |b| usize::from(u16::from_le_bytes(b)))
    }

    fn u32(&mut self) -> u32 {
        self.take(4).try_into().map_or(0, u32::from_le_bytes)
    }

    fn u64(&mut self) -> u64 {
        self.take(8).try_into().map_or(0, u64::from_le_bytes)
    }

    fn text(&mut self) -> &'static str {
        let at = self.u32();
        pooled_text(at, self.u16() as u16)
    }
}

/// What was expected instead, if the value breaks the rule. Rules of other kinds of values hold.
pub(crate) fn check_scalar(rule: &Rule, kind: Kind, value: Scalar<'_>) -> Result<(), String> {
    match (rule, value) {
        (Rule::Compare(order, limit), _) => compare(*order, *limit, value),
        (Rule::Numbers { within, list }, _) => {
            let bits = match value {
                Scalar::Enum(v) => i64::from(v) as u64,
                Scalar::Int(v) => v as u64,
                Scalar::Uint(v) => v,
                Scalar::Double(v) => v.to_bits(),
                Scalar::Float(v) => f64::from(v).to_bits(),
                _ => return Ok(()),
            };
            let mut numbers = list.chunks_exact(8).map(|c| c.try_into().map_or(0, u64::from_le_bytes));
            let fits = numbers.clone().any(|n| n == bits) == *within;
            fits_or(fits, || {
                let names = numbers.by_ref().map(|n| number_name(kind, value, n)).collect::<Vec<_>>().join(", ");
                format!("{} of {names}", if *within { "one" } else { "none" })
            })
        }
        (Rule::DefinedOnly, Scalar::Enum(number)) => {
            let Kind::Enum(kind) = kind else { return Ok(()) };
            fits_or(kind.by_number(number).is_some(), || format!("a value of {}", kind.full_name()))
        }
        (Rule::Length { order, bytes, limit }, Scalar::Text(text)) => {
            let len = if *bytes { text.len() } else { text.chars().count() };
            let unit = if *bytes { "byte" } else { "character" };
            fits_or(order.holds(len as u64, *limit), || format!("{order} {}", counted(*limit, unit)))
        }
        (Rule::Length { order, limit, .. }, Scalar::Bytes(bytes)) => {
            fits_or(order.holds(bytes.len() as u64, *limit), || format!("{order} {}", counted(*limit, "byte")))
        }
        (Rule::Text(kind, operand), Scalar::Text(text)) => check_text(*kind, operand, text),
        (Rule::Header { name, strict }, Scalar::Text(text)) => check_header(*name, *strict, text),
        (Rule::Texts { within, list }, Scalar::Text(text)) => check_texts(*within, list, text),
        _ => Ok(()),
    }
}

fn fits_or(fits: bool, expected: impl FnOnce() -> String) -> Result<(), String> {
    if fits { Ok(()) } else { Err(expected()) }
}

fn compare(order: Order, limit: u64, value: Scalar<'_>) -> Result<(), String> {
    let bound = |limit: &dyn fmt::Display| match order {
        Order::Equal => limit.to_string(),
        _ => format!("{order} {limit}"),
    };
    let signed = limit as i64;
    match value {
        Scalar::Uint(v) => fits_or(order.holds(v, limit), || bound(&limit)),
        Scalar::Int(v) => fits_or(order.holds(v, signed), || bound(&signed)),
        Scalar::Enum(v) => fits_or(order.holds(i64::from(v), signed), || bound(&signed)),
        Scalar::Bool(v) => fits_or(v == (limit != 0), || (limit != 0).to_string()),
        Scalar::Double(v) => fits_or(order.holds(v, f64::from_bits(limit)), || bound(&f64::from_bits(limit))),
        Scalar::Float(v) => fits_or(order.holds(f64::from(v), f64::from_bits(limit)), || bound(&f64::from_bits(limit))),
        Scalar::Text(_) | Scalar::Bytes(_) => Ok(()),
    }
}

fn number_name(kind: Kind, value: Scalar<'_>, bits: u64) -> String {
    match (kind, value) {
        (Kind::Enum(kind), _) => match i32::try_from(bits as i64).ok().and_then(|n| kind.by_number(n)) {
            Some(value) => value.name.to_owned(),
            None => (bits as i64).to_string(),
        },
        (_, Scalar::Int(_)) => (bits as i64).to_string(),
        (_, Scalar::Double(_) | Scalar::Float(_)) => f64::from_bits(bits).to_string(),
        _ => bits.to_string(),
    }
}

fn check_text(kind: TextRule, operand: &str, text: &str) -> Result<(), String> {
    let (fits, what) = match kind {
        TextRule::Pattern => (pattern::matches(operand, text), "text that matches"),
        TextRule::Prefix => (text.starts_with(operand), "text that begins with"),
        TextRule::Suffix => (text.ends_with(operand), "text that ends with"),
        TextRule::Contains => (text.contains(operand), "text that contains"),
        TextRule::NotContains => (!text.contains(operand), "text that does not contain"),
    };
    fits_or(fits, || format!("{what} {operand}"))
}

/// The two regular expressions of protoc-gen-validate for header names and values; what is not strict only keeps lines
/// together.
fn check_header(name: bool, strict: bool, text: &str) -> Result<(), String> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+,-.^_|~`".contains(c);
    match (name, strict) {
        (_, false) => fits_or(!text.contains(['\0', '\n', '\r']), || "text without NUL, CR and LF".into()),
        (true, true) => {
            let body = text.strip_prefix(':').unwrap_or(text);
            fits_or(!body.is_empty() && body.chars().all(is_name_char), || "a header name".into())
        }
        (false, true) => {
            let control = |c: char| matches!(c, '\0'..='\u{8}' | '\n'..='\u{1f}' | '\u{7f}');
            fits_or(!text.contains(control), || "text without control characters".into())
        }
    }
}

pub(crate) fn check_texts(within: bool, list: &[u8], text: &str) -> Result<(), String> {
    let entry = |c: &[u8]| match *c {
        [a, b, c, d, low, high] => pooled_text(u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([low, high])),
        _ => "",
    };
    let fits = list.chunks_exact(6).any(|c| entry(c) == text) == within;
    fits_or(fits, || {
        let names: Vec<_> = list.chunks_exact(6).map(|c| format!("\"{}\"", entry(c))).collect();
        format!("{} of {}", if within { "one" } else { "none" }, names.join(", "))
    })
}

/// `1 character`, `2 characters`.
pub(crate) fn counted(count: u64, unit: &str) -> String {
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// The key of a map.
pub(crate) fn key(value: Scalar<'_>) -> String {
    match value {
        Scalar::Text(text) => text.to_owned(),
        other => shown(Kind::String, other),
    }
}

/// The value in the words of a message.
pub(crate) fn shown(kind: Kind, value: Scalar<'_>) -> String {
    match (kind, value) {
        (_, Scalar::Text(text)) => format!("\"{}\"", Shortened(text)),
        (_, Scalar::Bytes(bytes)) => counted(bytes.len() as u64, "byte"),
        (Kind::Enum(kind), Scalar::Enum(number)) => {
            kind.by_number(number).map_or_else(|| number.to_string(), |v| v.name.to_owned())
        }
        (_, Scalar::Enum(number)) => number.to_string(),
        (_, Scalar::Bool(value)) => value.to_string(),
        (_, Scalar::Int(value)) => value.to_string(),
        (_, Scalar::Uint(value)) => value.to_string(),
        (_, Scalar::Float(value)) => value.to_string(),
        (_, Scalar::Double(value)) => value.to_string(),
    }
}
