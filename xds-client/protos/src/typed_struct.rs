//! `udpa.type.v1.TypedStruct` and `xds.type.v3.TypedStruct`: a message written as a Struct.
//!
//! Control planes send extensions so when they do not have the type themselves (Istio's EnvoyFilter, its peer metadata
//! filters). The Struct is the protobuf-JSON form of the message, so that it is read as configuration text is: enums by
//! name, durations as strings, Anys with `@type` inside. Its numbers are doubles.

use std::borrow::Cow;

use prost_types::Any;

use crate::encode::{self, Options};
use crate::problem::Problem;
use crate::schema::{Message, WellKnown};
use crate::text::{Builder, Tree};
use crate::wire::{self, Malformed, Raw, Reader};

/// TypedStructs in TypedStructs.
const MAX_LAYERS: usize = 4;
/// Structs and lists within each other in a Struct.
const MAX_DEPTH: usize = 64;

/// The Any of the message that a TypedStruct describes; any other Any as it is.
///
/// Problems have no place in a text; their path begins at the described message. A type that the API does not have is a
/// problem.
pub fn unwrap_typed_struct(any: &Any) -> Result<Cow<'_, Any>, Vec<Problem>> {
    if !is_typed_struct(&any.type_url) {
        return Ok(Cow::Borrowed(any));
    }
    let (type_url, value) = unwrap(&any.value)?;
    Ok(Cow::Owned(Any { type_url, value }))
}

pub(crate) fn is_typed_struct(type_url: &str) -> bool {
    Message::find_url(type_url).and_then(Message::well_known) == Some(WellKnown::TypedStruct)
}

/// Type URL and wire bytes of the message in the bytes of a TypedStruct.
pub(crate) fn unwrap(bytes: &[u8]) -> Result<(String, Vec<u8>), Vec<Problem>> {
    let mut bytes = Cow::Borrowed(bytes);
    for _ in 0..MAX_LAYERS {
        let (type_url, wire) = unwrap_once(&bytes)?;
        if !is_typed_struct(&type_url) {
            return Ok((type_url, wire));
        }
        bytes = Cow::Owned(wire);
    }
    Err(vec![Problem::new("", format!("at most {MAX_LAYERS} TypedStructs within each other"), "one more")])
}

fn unwrap_once(bytes: &[u8]) -> Result<(String, Vec<u8>), Vec<Problem>> {
    let malformed = |_| vec![Problem::new("", "a TypedStruct", "malformed bytes")];
    // Both kinds have the fields of an Any, with a Struct as value.
    let (type_url, value) = wire::any_parts(bytes).map_err(malformed)?;
    let Some(message) = Message::find_url(type_url) else {
        return Err(vec![Problem::new("type_url", "a known message type", format!("\"{type_url}\""))]);
    };
    let tree = to_tree(value, message.has_special_json()).map_err(malformed)?;
    let (wire, _) = encode::to_wire(tree.root(), message.full_name(), &Options::default())?;
    Ok((type_url.to_owned(), wire))
}

/// The tree of a Struct; of its field `value` when the message has a JSON form of its own.
fn to_tree(bytes: &[u8], special: bool) -> Result<Tree<'static>, Malformed> {
    let mut out = Builder::new("");
    structure(bytes, &mut out, 0)?;
    let tree = out.finish();
    if !special {
        return Ok(tree);
    }
    let mut value = &[][..];
    wire::for_each(bytes, |_, raw| {
        if let Raw::Bytes(entry) = raw
            && let Ok((b"value", inner)) = entry_parts(entry)
        {
            value = inner;
        }
    })?;
    let mut out = Builder::new("");
    self::value(value, &mut out, 0)?;
    Ok(out.finish())
}

/// Key and value bytes of a map entry.
fn entry_parts(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    wire::for_each(bytes, |number, raw| match (number, raw) {
        (1, Raw::Bytes(v)) => key = v,
        (2, Raw::Bytes(v)) => value = v,
        _ => {}
    })?;
    Ok((key, value))
}

fn structure(bytes: &[u8], out: &mut Builder<'_>, depth: usize) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let open = out.open_object(None);
    let (mut reader, mut len) = (Reader(bytes), 0);
    while let Some((number, raw)) = reader.next()? {
        let (1, Raw::Bytes(entry)) = (number, raw) else { continue };
        let (key, inner) = entry_parts(entry)?;
        out.owned_string(None, text(key)?);
        value(inner, out, depth)?;
        len += 1;
    }
    out.close_object(open, len);
    Ok(())
}

fn value(bytes: &[u8], out: &mut Builder<'_>, depth: usize) -> Result<(), Malformed> {
    let (mut reader, mut kind) = (Reader(bytes), None);
    while let Some(field) = reader.next()? {
        kind = Some(field);
    }
    match kind {
        None | Some((1, _)) => out.null(None),
        Some((2, Raw::Fixed64(bits))) => number(f64::from_bits(bits), out),
        Some((3, Raw::Bytes(bytes))) => out.owned_string(None, text(bytes)?),
        Some((4, Raw::Varint(value))) => out.bool(None, value != 0),
        Some((5, Raw::Bytes(bytes))) => structure(bytes, out, depth + 1)?,
        Some((6, Raw::Bytes(bytes))) => list(bytes, out, depth + 1)?,
        Some(_) => return Err(Malformed),
    }
    Ok(())
}

fn list(bytes: &[u8], out: &mut Builder<'_>, depth: usize) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let open = out.open_array(None);
    let (mut reader, mut len) = (Reader(bytes), 0);
    while let Some((number, raw)) = reader.next()? {
        let (1, Raw::Bytes(item)) = (number, raw) else { continue };
        value(item, out, depth)?;
        len += 1;
    }
    out.close_array(open, len);
    Ok(())
}

/// Integers print as such, so that integer fields take them.
fn number(value: f64, out: &mut Builder<'_>) {
    match value {
        v if v.is_nan() => out.owned_string(None, "NaN"),
        f64::INFINITY => out.owned_string(None, "Infinity"),
        f64::NEG_INFINITY => out.owned_string(None, "-Infinity"),
        v => out.owned_number(None, &v.to_string()),
    }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::config::cluster::v3::Cluster;
    use crate::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
    use crate::text::{Format, parse};
    use prost::Message as _;

    fn any(json: &str) -> Any {
        let tree = parse(json, Format::Json).unwrap();
        let (wire, _) = encode::to_wire(tree.root(), "google.protobuf.Any", &Options::default()).unwrap();
        Any::decode(&*wire).unwrap()
    }

    fn typed(package: &str, type_url: &str, value: &str) -> Any {
        any(&format!(
            r#"{{"@type": "type.googleapis.com/{package}.TypedStruct", "type_url": "{type_url}", "value": {value}}}"#
        ))
    }

    const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

    #[test]
    fn gives_the_message_inside() {
        for package in ["udpa.type.v1", "xds.type.v3"] {
            let value = r#"{"name": "x", "connectTimeout": "1.5s", "lb_policy": "MAGLEV", "per_connection_buffer_limit_bytes": 32768,
                "track_timeout_budgets": true, "circuit_breakers": {"thresholds": [{"retry_budget": {"budget_percent": {"value": 12.5}}}]}}"#;
            let any = typed(package, CLUSTER, value);
            let inner = unwrap_typed_struct(&any).unwrap();
            assert_eq!(inner.type_url, CLUSTER);
            let cluster = Cluster::decode(&*inner.value).unwrap();
            assert_eq!((&*cluster.name, cluster.lb_policy), ("x", 5));
            assert_eq!(cluster.per_connection_buffer_limit_bytes, Some(32768));
            assert_eq!(cluster.connect_timeout.unwrap().nanos, 500_000_000);
            let percent = &cluster.circuit_breakers.unwrap().thresholds[0].retry_budget.unwrap().budget_percent;
            assert_eq!(percent.as_ref().unwrap().value, 12.5);
        }
    }

    #[test]
    fn keeps_what_is_no_typed_struct() {
        let node = any(r#"{"@type": "t/envoy.config.core.v3.Node", "id": "x"}"#);
        assert!(matches!(unwrap_typed_struct(&node), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn anys_and_typed_structs_inside() {
        let value = r#"{"stat_prefix": "p", "http_filters": [
            {"name": "a", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
            {"name": "b", "typed_config": {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "t/x.Y", "value": {}}}]}"#;
        let url =
            "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        let outer = typed("udpa.type.v1", url, value);
        let inner = unwrap_typed_struct(&outer).unwrap();
        assert_eq!(HttpConnectionManager::decode(&*inner.value).unwrap().http_filters.len(), 2);

        let twice = format!(r#"{{"type_url": "{CLUSTER}", "value": {{"name": "deep"}}}}"#);
        let outer = typed("xds.type.v3", "t/udpa.type.v1.TypedStruct", &twice);
        let inner = unwrap_typed_struct(&outer).unwrap();
        assert_eq!(Cluster::decode(&*inner.value).unwrap().name, "deep");

        let special = typed("xds.type.v3", "t/google.protobuf.Duration", r#"{"value": "1.5s"}"#);
        assert_eq!(unwrap_typed_struct(&special).unwrap().value, b"\x08\x01\x10\x80\xca\xb5\xee\x01");
    }

    #[test]
    fn mistakes_have_a_path() {
        let problem = |any: &Any| match unwrap_typed_struct(any) {
            Ok(_) => panic!("accepted"),
            Err(problems) => problems[0].to_string(),
        };
        assert_eq!(
            problem(&typed("xds.type.v3", CLUSTER, r#"{"circuit_breakers": {"thresholds": [{"max_conections": 1}]}}"#)),
            "circuit_breakers.thresholds[0].max_conections: expected a field of envoy.config.cluster.v3.CircuitBreakers.Thresholds, \
             got the unknown field \"max_conections\"; did you mean \"max_connections\"?"
        );
        assert_eq!(
            problem(&typed("xds.type.v3", CLUSTER, r#"{"per_connection_buffer_limit_bytes": 1.5}"#)),
            "per_connection_buffer_limit_bytes: expected an integer of 0 to 4294967295, got the number 1.5"
        );
        assert_eq!(
            problem(&typed("udpa.type.v1", "t/no.Such", "{}")),
            "type_url: expected a known message type, got \"t/no.Such\""
        );
        let broken = Any { type_url: "t/xds.type.v3.TypedStruct".into(), value: vec![0x0a, 5, 1] };
        assert_eq!(problem(&broken), "expected a TypedStruct, got malformed bytes");
    }

    #[test]
    fn layers_and_depth_are_limited() {
        let mut value = format!(r#"{{"type_url": "{CLUSTER}", "value": {{"name": "deep"}}}}"#);
        for _ in 0..8 {
            value = format!(r#"{{"type_url": "t/udpa.type.v1.TypedStruct", "value": {value}}}"#);
        }
        let outer = typed("xds.type.v3", "t/udpa.type.v1.TypedStruct", &value);
        assert!(unwrap_typed_struct(&outer).is_err());

        // list_value in list_value in …
        let mut bytes = Vec::new();
        for _ in 0..2_000 {
            let mut list = vec![0x0a];
            prost::encoding::encode_varint(bytes.len() as u64, &mut list);
            list.extend(&bytes);
            bytes = vec![0x32];
            prost::encoding::encode_varint(list.len() as u64, &mut bytes);
            bytes.extend(list);
        }
        assert_eq!(value_of(&bytes), Err(Malformed));
    }

    fn value_of(bytes: &[u8]) -> Result<(), Malformed> {
        value(bytes, &mut Builder::new(""), 0)
    }

    #[test]
    fn numbers_are_written_so_that_integers_stay_integers() {
        for (value, text) in
            [(5.0, "5"), (-3.0, "-3"), (0.1, "0.1"), (1e21, "1000000000000000000000"), (2147483648.0, "2147483648")]
        {
            let mut out = Builder::new("");
            number(value, &mut out);
            assert_eq!(out.finish().root().to_string(), format!("the number {text}"));
        }
    }
}
