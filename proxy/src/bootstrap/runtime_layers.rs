//! `layered_runtime`: static layers, merged; a later layer wins.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{Struct, Value as Proto};
use xds_protos::envoy::config::bootstrap::v3 as pb;
use xds_protos::envoy::config::bootstrap::v3::runtime_layer::LayerSpecifier;

use crate::config::{Path, Reject};
use crate::runtime::{Runtime, Value};

/// The runtime and the names of its layers.
///
/// # Errors
/// For layers that are not static, duplicate names, and values that are lists.
pub fn build(runtime: Option<&pb::LayeredRuntime>, path: &Path<'_>) -> Result<(Runtime, Vec<String>), Reject> {
    let mut values = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    let path = path.field("layers");
    for (i, layer) in runtime.iter().flat_map(|runtime| &runtime.layers).enumerate() {
        let at = path.index(i);
        if names.contains(&layer.name) {
            return Err(at
                .field("name")
                .reject(format_args!("expected a name of its own, got {:?} again", layer.name)));
        }
        names.push(layer.name.clone());
        match &layer.layer_specifier {
            Some(LayerSpecifier::StaticLayer(layer)) => {
                flatten(layer, "", &at.field("static_layer"), &mut values)?;
            }
            // Nothing can be set there, so it changes nothing: `/runtime_modify` says so.
            Some(LayerSpecifier::AdminLayer(_)) => {}
            Some(LayerSpecifier::DiskLayer(_)) => {
                return Err(at
                    .field("disk_layer")
                    .reject("expected a static_layer; disk layers are not supported yet"));
            }
            Some(LayerSpecifier::RtdsLayer(_)) => {
                return Err(at.field("rtds_layer").reject("expected a static_layer; RTDS is not supported yet"));
            }
            None => {
                return Err(at.reject("expected one of static_layer, disk_layer, admin_layer, rtds_layer; got none"));
            }
        }
    }
    Ok((Runtime::new(values), names))
}

fn flatten(layer: &Struct, prefix: &str, path: &Path<'_>, out: &mut BTreeMap<String, Value>) -> Result<(), Reject> {
    for (key, value) in &layer.fields {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let at = path.key(key);
        let value = match &value.kind {
            Some(Kind::NumberValue(n)) => Value::Number(*n),
            Some(Kind::BoolValue(b)) => Value::Bool(*b),
            Some(Kind::StringValue(s)) => text(s),
            Some(Kind::StructValue(inner)) => match fraction(inner) {
                Some(fraction) => fraction,
                None => {
                    flatten(inner, &name, &at, out)?;
                    continue;
                }
            },
            Some(Kind::NullValue(_)) | None => return Err(at.reject("expected a value, got null")),
            Some(Kind::ListValue(_)) => {
                return Err(at.reject("expected a number, boolean, string, fraction or nested keys; got a list"));
            }
        };
        out.insert(name, value);
    }
    Ok(())
}

/// Strings that read as another value are that value, as in files of a disk layer.
fn text(s: &str) -> Value {
    match s.trim() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        trimmed => trimmed.parse().map_or_else(|_| Value::Text(s.to_owned()), Value::Number),
    }
}

fn fraction(value: &Struct) -> Option<Value> {
    let numerator = number(value.fields.get("numerator")?)?;
    let denominator = match value.fields.get("denominator") {
        None => 100,
        Some(Proto { kind: Some(Kind::StringValue(name)) }) => match name.as_str() {
            "HUNDRED" => 100,
            "TEN_THOUSAND" => 10_000,
            "MILLION" => 1_000_000,
            _ => return None,
        },
        Some(other) => match number(other)? {
            0 => 100,
            1 => 10_000,
            2 => 1_000_000,
            _ => return None,
        },
    };
    let known = value.fields.keys().all(|key| key == "numerator" || key == "denominator");
    known.then_some(Value::Fraction { numerator, denominator })
}

fn number(value: &Proto) -> Option<u32> {
    match value.kind {
        Some(Kind::NumberValue(n)) if n >= 0.0 && n <= f64::from(u32::MAX) => Some(n as u32),
        _ => None,
    }
}
