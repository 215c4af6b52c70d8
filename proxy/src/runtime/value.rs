//! What a key has: the text as it was written, and what that text means.

use xds_protos::text::{self, Format, Node, Tree};

use crate::config::percent::{Denominator, FractionalPercent};

/// A value of one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// As it was written; what `/runtime` shows.
    pub raw: Box<str>,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(f64),
    Bool(bool),
    Text(String),
    /// A `FractionalPercent` written as a struct: numerator over denominator.
    Fraction {
        numerator: u32,
        denominator: u32,
    },
}

impl From<Value> for Entry {
    fn from(value: Value) -> Self {
        let raw = match &value {
            Value::Number(number) => number.to_string(),
            Value::Bool(value) => value.to_string(),
            Value::Text(text) => text.clone(),
            Value::Fraction { numerator, denominator } => {
                let denominator = match denominator {
                    1_000_000 => "MILLION",
                    10_000 => "TEN_THOUSAND",
                    _ => "HUNDRED",
                };
                format!("numerator: {numerator}\ndenominator: {denominator}")
            }
        };
        Entry { raw: raw.into(), value }
    }
}

impl Entry {
    /// Of a file of a disk layer or of `/runtime_modify`: YAML, so that a fraction can be written there too.
    pub fn parse(raw: &str) -> Self {
        let fraction = text::parse(raw, Format::Yaml).ok().and_then(|tree| written_fraction(&tree));
        Entry { raw: raw.into(), value: fraction.unwrap_or_else(|| Value::of_text(raw)) }
    }
}

/// A mapping with a numerator, a denominator or both.
fn written_fraction(tree: &Tree<'_>) -> Option<Value> {
    let text::Value::Object(fields) = tree.root().value() else { return None };
    let number = |node: Node<'_>| match node.value() {
        text::Value::Number(number) => number.parse::<u32>().ok(),
        _ => None,
    };
    let mut found = (0, 100);
    for (key, value) in fields.iter() {
        match key.as_str()? {
            "numerator" => found.0 = number(value)?,
            "denominator" => {
                found.1 = match value.as_str() {
                    Some(name) => denominator_named(name)?,
                    None => denominator_numbered(number(value)?)?,
                };
            }
            _ => return None,
        }
    }
    (!fields.is_empty()).then_some(Value::Fraction { numerator: found.0, denominator: found.1 })
}

/// By the name that `FractionalPercent.DenominatorType` gives it.
pub fn denominator_named(name: &str) -> Option<u32> {
    match name {
        "HUNDRED" => Some(100),
        "TEN_THOUSAND" => Some(10_000),
        "MILLION" => Some(1_000_000),
        _ => None,
    }
}

/// By the number that `FractionalPercent.DenominatorType` gives it.
pub fn denominator_numbered(number: u32) -> Option<u32> {
    [100, 10_000, 1_000_000].get(number as usize).copied()
}

impl Value {
    /// Text that spells a number or a boolean is one, because Istio writes all its runtime values as strings.
    pub fn of_text(text: &str) -> Self {
        let trimmed = text.trim();
        if trimmed.eq_ignore_ascii_case("true") {
            return Value::Bool(true);
        }
        if trimmed.eq_ignore_ascii_case("false") {
            return Value::Bool(false);
        }
        trimmed.parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Number)
    }

    pub fn double(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Bool(_) | Value::Fraction { .. } => None,
        }
    }

    pub fn integer(&self) -> Option<u64> {
        let number = self.double()?;
        // 2^64 and more and negative numbers are no integers; of others Envoy takes the whole part.
        (0.0..18_446_744_073_709_551_616.0).contains(&number).then_some(number as u64)
    }

    pub fn boolean(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            Value::Text(text) if text.trim().eq_ignore_ascii_case("true") => Some(true),
            Value::Text(text) if text.trim().eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }

    /// A fraction, or an integer that is a percentage; above a hundred it is always.
    pub fn fraction(&self) -> Option<FractionalPercent> {
        if let Value::Fraction { numerator, denominator } = self {
            let denominator = match denominator {
                1_000_000 => Denominator::Million,
                10_000 => Denominator::TenThousand,
                _ => Denominator::Hundred,
            };
            return Some(FractionalPercent { numerator: *numerator, denominator });
        }
        let percent = self.integer()?;
        Some(FractionalPercent { numerator: percent.min(100) as u32, denominator: Denominator::Hundred })
    }
}
