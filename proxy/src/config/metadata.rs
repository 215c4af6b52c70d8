//! `envoy.config.core.v3.Metadata`: structs under the names of those who read them.

use std::sync::OnceLock;

use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use xds_protos::envoy::config::core::v3::Metadata;

/// Metadata that is kept as bytes until somebody asks: in a mesh nearly every cluster and host has some, a kilobyte each
/// once decoded, and of most of them nobody ever asks.
#[derive(Default)]
pub struct LazyMetadata {
    bytes: Box<[u8]>,
    decoded: OnceLock<Box<Metadata>>,
}

impl LazyMetadata {
    pub fn new(metadata: &Metadata) -> Self {
        LazyMetadata { bytes: metadata.encode_to_vec().into(), decoded: OnceLock::new() }
    }

    pub fn get(&self) -> &Metadata {
        // The bytes were encoded above, so decoding cannot fail.
        self.decoded.get_or_init(|| Box::new(Metadata::decode(&*self.bytes).unwrap_or_default()))
    }

    /// The protobuf encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The value at `path` in the struct called `filter`.
pub fn lookup<'m, S: AsRef<str>>(metadata: &'m Metadata, filter: &str, path: &[S]) -> Option<&'m Value> {
    let mut fields = metadata.filter_metadata.get(filter)?;
    let (last, parents) = path.split_last()?;
    for key in parents {
        match &fields.fields.get(key.as_ref())?.kind {
            Some(Kind::StructValue(inner)) => fields = inner,
            _ => return None,
        }
    }
    fields.fields.get(last.as_ref())
}

/// The string at `path` in the struct called `filter`.
pub fn text<'m, S: AsRef<str>>(metadata: &'m Metadata, filter: &str, path: &[S]) -> Option<&'m str> {
    match &lookup(metadata, filter, path)?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

/// The boolean at `path` in the struct called `filter`.
pub fn boolean<S: AsRef<str>>(metadata: &Metadata, filter: &str, path: &[S]) -> Option<bool> {
    match lookup(metadata, filter, path)?.kind {
        Some(Kind::BoolValue(value)) => Some(value),
        _ => None,
    }
}

/// Every field of `labels` is in the struct called `filter` with an equal value; with `list_as_any` a list there matches
/// by any element. Without labels everything matches. How Envoy matches subsets and transport sockets.
pub fn has_labels(labels: &Struct, metadata: Option<&Metadata>, filter: &str, list_as_any: bool) -> bool {
    let found = metadata.and_then(|metadata| metadata.filter_metadata.get(filter));
    labels.fields.iter().all(|(key, wanted)| {
        let value = found.and_then(|found| found.fields.get(key));
        value.is_some_and(|value| match &value.kind {
            Some(Kind::ListValue(list)) if list_as_any => list.values.contains(wanted),
            _ => value == wanted,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: Kind) -> Value {
        Value { kind: Some(kind) }
    }

    fn fields<const N: usize>(fields: [(&str, Value); N]) -> Struct {
        Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
    }

    fn string(text: &str) -> Value {
        value(Kind::StringValue(text.into()))
    }

    fn metadata(of: Struct) -> Metadata {
        Metadata { filter_metadata: [("f".to_owned(), of)].into(), typed_filter_metadata: Default::default() }
    }

    #[test]
    fn values_are_found_by_path() {
        let inner = fields([("b", string("x")), ("c", value(Kind::BoolValue(true)))]);
        let metadata = metadata(fields([("a", value(Kind::StructValue(inner)))]));
        assert_eq!(text(&metadata, "f", &["a", "b"]), Some("x"));
        assert_eq!(boolean(&metadata, "f", &["a", "c"]), Some(true));
        assert_eq!(text(&metadata, "f", &["a", "c"]), None);
        assert_eq!(text(&metadata, "f", &["a", "b", "c"]), None);
        assert_eq!(text(&metadata, "g", &["a", "b"]), None);
        assert!(lookup::<&str>(&metadata, "f", &[]).is_none());
    }

    #[test]
    fn labels_must_all_be_there() {
        let list = prost_types::ListValue { values: vec![string("1"), string("2")] };
        let metadata = metadata(fields([("a", string("x")), ("l", value(Kind::ListValue(list)))]));
        let has = |labels: &Struct| has_labels(labels, Some(&metadata), "f", true);
        assert!(has(&fields([])));
        assert!(has(&fields([("a", string("x"))])));
        assert!(has(&fields([("a", string("x")), ("l", string("2"))])));
        assert!(!has(&fields([("a", string("y"))])));
        assert!(!has(&fields([("a", string("x")), ("b", string("x"))])));
        assert!(!has(&fields([("l", string("3"))])));
        assert!(!has_labels(&fields([("l", string("2"))]), Some(&metadata), "f", false));
        assert!(has_labels(&fields([]), None, "f", false));
        assert!(!has_labels(&fields([("a", string("x"))]), None, "f", false));
    }
}
