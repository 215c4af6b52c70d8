//! `layered_runtime`: named values that configuration refers to by `runtime_key`, and fractions drawn from them.
//!
//! Static layers only; a later layer wins. RTDS, disk and admin layers are refused by the bootstrap. As no value changes
//! while the process runs, builders ask once: what they keep is a plain number or fraction.
//!
//! A value is what Envoy makes of it: text that spells a number or a boolean is one, because Istio writes all its runtime
//! values as strings.

use std::collections::BTreeMap;

use xds_protos::envoy::config::core::v3 as core;

use crate::config::percent::{Denominator, FractionalPercent};
use crate::config::{Path, Reject};

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

    pub fn double(&self, key: &str, default: f64) -> f64 {
        self.get(key).and_then(Value::double).unwrap_or(default)
    }

    pub fn integer(&self, key: &str, default: u64) -> u64 {
        self.get(key).and_then(Value::integer).unwrap_or(default)
    }

    pub fn boolean(&self, key: &str, default: bool) -> bool {
        self.get(key).and_then(Value::boolean).unwrap_or(default)
    }

    /// A fraction, or an integer that is a percentage; above a hundred it is always.
    pub fn fraction(&self, key: &str, default: FractionalPercent) -> FractionalPercent {
        let Some(value) = self.get(key) else { return default };
        if let Value::Fraction { numerator, denominator } = value {
            let denominator = match denominator {
                1_000_000 => Denominator::Million,
                10_000 => Denominator::TenThousand,
                _ => Denominator::Hundred,
            };
            return FractionalPercent { numerator: *numerator, denominator };
        }
        match value.integer() {
            Some(percent) => {
                FractionalPercent { numerator: percent.min(100) as u32, denominator: Denominator::Hundred }
            }
            None => default,
        }
    }

    /// `envoy.config.core.v3.RuntimeFractionalPercent`.
    ///
    /// # Errors
    /// Without a default, or when that is none.
    pub fn fractional_percent(
        &self,
        proto: &core::RuntimeFractionalPercent,
        path: &Path<'_>,
    ) -> Result<FractionalPercent, Reject> {
        let core::RuntimeFractionalPercent { default_value, runtime_key } = proto;
        let path = path.field("default_value");
        let default = default_value.as_ref().ok_or_else(|| path.reject("expected a FractionalPercent, got none"))?;
        let default = FractionalPercent::build(default, &path)?;
        Ok(self.fraction(runtime_key, default))
    }

    /// `envoy.config.core.v3.RuntimeFeatureFlag`.
    ///
    /// # Errors
    /// Without a default.
    pub fn feature_flag(&self, proto: &core::RuntimeFeatureFlag, path: &Path<'_>) -> Result<bool, Reject> {
        let core::RuntimeFeatureFlag { default_value, runtime_key } = proto;
        let default =
            default_value.ok_or_else(|| path.field("default_value").reject("expected true or false, got nothing"))?;
        Ok(self.boolean(runtime_key, default))
    }

    /// `envoy.config.core.v3.RuntimeUInt32`. A value that does not fit leaves the default.
    pub fn uint32(&self, proto: &core::RuntimeUInt32) -> u32 {
        let core::RuntimeUInt32 { default_value, runtime_key } = proto;
        u32::try_from(self.integer(runtime_key, u64::from(*default_value))).unwrap_or(*default_value)
    }

    /// `envoy.config.core.v3.RuntimeDouble`.
    pub fn runtime_double(&self, proto: &core::RuntimeDouble) -> f64 {
        let core::RuntimeDouble { default_value, runtime_key } = proto;
        self.double(runtime_key, *default_value)
    }
}

impl Value {
    fn double(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Bool(_) | Value::Fraction { .. } => None,
        }
    }

    fn integer(&self) -> Option<u64> {
        let number = self.double()?;
        // 2^64 and more and negative numbers are no integers; of others Envoy takes the whole part.
        (0.0..18_446_744_073_709_551_616.0).contains(&number).then_some(number as u64)
    }

    fn boolean(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            Value::Text(text) if text.trim().eq_ignore_ascii_case("true") => Some(true),
            Value::Text(text) if text.trim().eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use xds_protos::envoy::r#type::v3 as type_v3;

    use super::*;

    fn runtime() -> Runtime {
        let text = |text: &str| Value::Text(text.into());
        let values = [
            ("half", Value::Number(50.0)),
            ("half_text", text("50")),
            ("big", Value::Number(4_294_967_296.0)),
            ("part", Value::Number(0.5)),
            ("negative", Value::Number(-1.0)),
            ("yes", Value::Bool(true)),
            ("no_text", text("False")),
            ("word", text("word")),
            ("tiny", Value::Fraction { numerator: 5, denominator: 1_000_000 }),
        ];
        Runtime::new(values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    fn fraction(key: &str) -> FractionalPercent {
        let default_value = Some(type_v3::FractionalPercent { numerator: 7, denominator: 1 });
        let proto = core::RuntimeFractionalPercent { default_value, runtime_key: key.into() };
        runtime().fractional_percent(&proto, &Path::root("f")).unwrap()
    }

    #[test]
    fn a_fraction_is_an_integer_percentage_or_a_struct() {
        let of_hundred = |numerator| FractionalPercent { numerator, denominator: Denominator::Hundred };
        let default = FractionalPercent { numerator: 7, denominator: Denominator::TenThousand };
        assert_eq!(fraction("half"), of_hundred(50));
        assert_eq!(fraction("half_text"), of_hundred(50));
        assert!(fraction("big").is_always());
        assert_eq!(fraction("tiny"), FractionalPercent { numerator: 5, denominator: Denominator::Million });
        assert_eq!(fraction("part"), of_hundred(0), "only the whole part counts");
        for key in ["", "absent", "negative", "word", "yes"] {
            assert_eq!(fraction(key), default, "{key:?}");
        }
    }

    #[test]
    fn a_key_of_another_kind_leaves_the_default() {
        let runtime = runtime();
        let uint32 = |key: &str| runtime.uint32(&core::RuntimeUInt32 { default_value: 9, runtime_key: key.into() });
        assert_eq!([uint32("half"), uint32("big"), uint32("yes"), uint32("absent")], [50, 9, 9, 9]);
        let flag = |key: &str| {
            let proto = core::RuntimeFeatureFlag { default_value: Some(true), runtime_key: key.into() };
            runtime.feature_flag(&proto, &Path::root("f")).unwrap()
        };
        assert_eq!([flag("no_text"), flag("yes"), flag("half"), flag("absent")], [false, true, true, true]);
        let double = core::RuntimeDouble { default_value: 1.0, runtime_key: "part".into() };
        assert_eq!(runtime.runtime_double(&double), 0.5);
    }

    #[test]
    fn a_default_is_required() {
        let path = Path::root("f");
        let fraction = core::RuntimeFractionalPercent { default_value: None, runtime_key: "half".into() };
        assert_eq!(runtime().fractional_percent(&fraction, &path).unwrap_err().path, "f.default_value");
        let flag = core::RuntimeFeatureFlag { default_value: None, runtime_key: "yes".into() };
        assert_eq!(runtime().feature_flag(&flag, &path).unwrap_err().path, "f.default_value");
    }
}
