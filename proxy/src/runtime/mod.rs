//! `layered_runtime`: named values that configuration refers to by `runtime_key`, and fractions drawn from them.
//!
//! Static layers only; a later layer wins. RTDS, disk and admin layers are refused by the bootstrap.

use std::collections::BTreeMap;

/// The merged value of each key.
#[derive(Debug, Default, Clone)]
pub struct Runtime {
    values: BTreeMap<String, Value>,
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

impl Runtime {
    pub fn new(values: BTreeMap<String, Value>) -> Self {
        Runtime { values }
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(k, v)| (k.as_str(), v))
    }
}
