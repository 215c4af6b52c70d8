//! `layered_runtime`: the layers as configured. RTDS is refused.

use prost_types::value::Kind;
use prost_types::{Struct, Value as Proto};
use xds_protos::envoy::config::bootstrap::v3 as pb;
use xds_protos::envoy::config::bootstrap::v3::runtime_layer::LayerSpecifier;

use crate::config::{Path, Reject};
use crate::runtime::{DiskLayer, Entries, Entry, Layer, Source, Value, denominator_named, denominator_numbered};

/// # Errors
/// For RTDS, more than one admin layer, names that are missing or come twice, and values that are lists.
pub fn build(runtime: Option<&pb::LayeredRuntime>, path: &Path<'_>) -> Result<Vec<Layer>, Reject> {
    let path = path.field("layers");
    let mut layers: Vec<Layer> = Vec::new();
    let configured = runtime.iter().flat_map(|runtime| &runtime.layers);
    for (i, pb::RuntimeLayer { name, layer_specifier }) in configured.enumerate() {
        let at = path.index(i);
        if layers.iter().any(|layer| layer.name == *name) {
            let why = format_args!("expected a name of its own, got {name:?} again");
            return Err(at.field("name").reject(why));
        }
        let source = source(layer_specifier.as_ref(), &at)?;
        if source == Source::Admin && layers.iter().any(|layer| layer.source == Source::Admin) {
            return Err(at
                .field("admin_layer")
                .reject("Too many admin layers specified in LayeredRuntime, at most one may be specified"));
        }
        layers.push(Layer { name: name.clone(), source });
    }
    Ok(layers)
}

fn source(specifier: Option<&LayerSpecifier>, path: &Path<'_>) -> Result<Source, Reject> {
    match specifier {
        Some(LayerSpecifier::StaticLayer(layer)) => {
            let mut entries = Entries::new();
            flatten(layer, "", &path.field("static_layer"), &mut entries)?;
            Ok(Source::Static(entries))
        }
        Some(LayerSpecifier::AdminLayer(pb::runtime_layer::AdminLayer {})) => Ok(Source::Admin),
        Some(LayerSpecifier::DiskLayer(layer)) => {
            let pb::runtime_layer::DiskLayer { symlink_root, subdirectory, append_service_cluster } = layer;
            if symlink_root.is_empty() {
                let at = path.field("disk_layer");
                return Err(at.field("symlink_root").reject("expected a path, got an empty string"));
            }
            Ok(Source::Disk(DiskLayer {
                symlink_root: symlink_root.into(),
                subdirectory: subdirectory.into(),
                append_service_cluster: *append_service_cluster,
            }))
        }
        Some(LayerSpecifier::RtdsLayer(_)) => {
            let why = "expected a static_layer, disk_layer or admin_layer; RTDS is not supported yet";
            Err(path.field("rtds_layer").reject(why))
        }
        None => Err(path.reject("expected one of static_layer, disk_layer, admin_layer, rtds_layer; got none")),
    }
}

fn flatten(layer: &Struct, prefix: &str, path: &Path<'_>, out: &mut Entries) -> Result<(), Reject> {
    for (key, value) in &layer.fields {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let at = path.key(key);
        let entry = match &value.kind {
            Some(Kind::NumberValue(n)) => Value::Number(*n).into(),
            Some(Kind::BoolValue(b)) => Value::Bool(*b).into(),
            Some(Kind::StringValue(s)) => Entry { raw: s.as_str().into(), value: Value::of_text(s) },
            Some(Kind::StructValue(inner)) => match fraction(inner) {
                Some(fraction) => fraction.into(),
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
        out.insert(name, entry);
    }
    Ok(())
}

fn fraction(value: &Struct) -> Option<Value> {
    let numerator = number(value.fields.get("numerator")?)?;
    let denominator = match value.fields.get("denominator") {
        None => 100,
        Some(Proto { kind: Some(Kind::StringValue(name)) }) => denominator_named(name)?,
        Some(other) => denominator_numbered(number(other)?)?,
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
