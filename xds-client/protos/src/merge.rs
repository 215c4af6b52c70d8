//! Merges one message over another, as protobuf's `MergeFrom` does: what Envoy makes of `--config-yaml` over `-c`.
//!
//! Scalars that are set replace, messages merge, lists append, maps take the overlay's value for a key, of a oneof the
//! overlay's member remains. Nothing can be set back to a default, not even in a wrapper: `false` over `true` stays `true`, and `0.5s` over `5s`
//! is 5.5 s, in Envoy too.
//!
//! Protobuf says that the bytes of two messages in a row are the merged message; this writes what a decoder would
//! make of them, each field once and in order, so that nobody else has to.

use std::collections::HashMap;
use std::ops::Range;

use crate::problem::Problem;
use crate::rules;
use crate::schema::{Field, Message};
use crate::wire::{Entry, MAX_DEPTH, Malformed, Stack, write_nested};

/// The message `overlay` over `base`, both of the message with this full name. Fields that the schema does not have are
/// left out.
pub fn merge(message: &str, base: &[u8], overlay: &[u8]) -> Result<Vec<u8>, Box<Problem>> {
    let Some(message) = Message::find(message) else {
        return Err(Box::new(Problem::new("", "a message of the API", format!("\"{message}\""))));
    };
    let (both, mut out) = ([base, overlay].concat(), Vec::with_capacity(base.len() + overlay.len()));
    match settle(&mut Stack::default(), message, &both, 0, &mut out) {
        Ok(()) => Ok(out),
        Err(Malformed) => {
            Err(Box::new(Problem::new("", format!("a well-formed {}", message.full_name()), "other bytes")))
        }
    }
}

fn settle<'a>(
    stack: &mut Stack<'a>,
    message: Message,
    bytes: &'a [u8],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let range = stack.open(message, bytes, &mut |_| {})?;
    let mut next = range.start;
    while let Some(entry) = stack.get(next).filter(|_| next < range.end) {
        let end = stack.group_end(&range, next);
        field(stack, entry.field, next..end, depth, out)?;
        next = end;
    }
    stack.close(&range);
    Ok(())
}

fn field<'a>(
    stack: &mut Stack<'a>,
    field: Field,
    group: Range<usize>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    if let Some((key, _)) = field.map_entry() {
        return map(stack, key, group, out);
    }
    if field.is_packed() {
        let entries: Vec<Entry<'a>> = group.filter_map(|at| stack.get(at)).collect();
        return write_nested(field.number(), out, |out| {
            entries.iter().for_each(|entry| entry.write_payload(out));
            Ok(())
        });
    }
    if field.is_repeated() {
        group.filter_map(|at| stack.get(at)).for_each(|entry| entry.write(out));
        return Ok(());
    }
    match (field.message(), stack.singular(group)) {
        (None, Some((last, _))) => last.write(out),
        (Some(message), Some((_, bytes))) => {
            write_nested(field.number(), out, |out| settle(&mut Stack::default(), message, &bytes, depth + 1, out))?;
        }
        (_, None) => {}
    }
    Ok(())
}

/// Of entries with the same key the last one, where the first one stood.
fn map<'a>(stack: &mut Stack<'a>, key: Field, group: Range<usize>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    let (mut order, mut places) = (Vec::new(), HashMap::new());
    for at in group {
        let Some(entry) = stack.get(at) else { break };
        let range = stack.open(key.parent(), entry.bytes(), &mut |_| {})?;
        let part = range.clone().filter_map(|at| stack.get(at)).rfind(|part| part.field == key);
        let name = part.map(|part| part.scalar().map(rules::key)).transpose()?;
        stack.close(&range);
        let place = *places.entry(name.unwrap_or_default()).or_insert(order.len());
        match order.get_mut(place) {
            Some(earlier) => *earlier = entry,
            None => order.push(entry),
        }
    }
    order.iter().for_each(|entry| entry.write(out));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{Options, to_wire};
    use crate::print::{self, to_json};
    use crate::text::{Format, parse};

    fn wire(message: &str, text: &str) -> Vec<u8> {
        to_wire(parse(text, Format::Auto).unwrap().root(), message, &Options::default()).unwrap().0
    }

    fn merged(message: &str, base: &str, overlay: &str) -> String {
        let bytes = merge(message, &wire(message, base), &wire(message, overlay)).unwrap();
        to_json(message, &bytes, &print::Options::default()).unwrap()
    }

    /// Given to Envoy 1.40 as `-c` and `--config-yaml`, with the same outcome in `/config_dump`.
    #[test]
    fn a_bootstrap_merges_as_in_envoy() {
        let base = "
node: {id: a, cluster: c, metadata: {k: 1, m: {x: 1}, l: [1]}, locality: {zone: z}}
static_resources:
  clusters: [{name: one, connect_timeout: 1s}]
layered_runtime: {layers: [{name: l, static_layer: {a: 1}}]}
stats_flush_interval: 5s
stats_config: {use_all_default_tags: true, stats_tags: [{tag_name: t, regex: (a)}]}
";
        let overlay = "
node: {id: b, cluster: '', metadata: {k: 2, m: {y: 2}, l: [2], n: ~}, locality: {region: r}}
static_resources:
  clusters: [{name: two}]
layered_runtime: {layers: [{name: m, admin_layer: {}}]}
stats_flush_interval: 0.5s
stats_config: {use_all_default_tags: false, stats_tags: [{tag_name: u, regex: (b)}]}
";
        assert_eq!(
            merged("envoy.config.bootstrap.v3.Bootstrap", base, overlay),
            concat!(
                r#"{"node":{"id":"b","cluster":"c","metadata":{"k":2,"m":{"y":2},"l":[2],"n":null},"locality":{"region":"r","zone":"z"}},"#,
                r#""static_resources":{"clusters":[{"name":"one","connect_timeout":"1s"},{"name":"two"}]},"#,
                r#""stats_flush_interval":"5.500s","stats_config":{"stats_tags":[{"tag_name":"t","regex":"(a)"},{"tag_name":"u","regex":"(b)"}],"use_all_default_tags":true},"#,
                r#""layered_runtime":{"layers":[{"name":"l","static_layer":{"a":1}},{"name":"m","admin_layer":{}}]}}"#
            )
        );
    }

    #[test]
    fn oneofs_packed_lists_and_anys() {
        let cluster = "envoy.config.cluster.v3.Cluster";
        assert_eq!(merged(cluster, "type: EDS", "cluster_type: {name: x}"), r#"{"cluster_type":{"name":"x"}}"#);
        let retry = "envoy.config.route.v3.RetryPolicy";
        assert_eq!(
            merged(retry, "retriable_status_codes: [1, 2]", "retriable_status_codes: [2]"),
            r#"{"retriable_status_codes":[1,2,2]}"#
        );
        let socket = "envoy.config.core.v3.TransportSocket";
        let any = |id: &str| format!("typed_config: {{'@type': t/envoy.config.core.v3.Node, id: {id}}}");
        assert_eq!(
            merged(socket, &any("a"), &any("b")),
            r#"{"typed_config":{"@type":"t/envoy.config.core.v3.Node","id":"b"}}"#
        );
    }

    #[test]
    fn long_keys_stay_apart() {
        let entry = |last: &str| format!("filter_metadata: {{'{}{last}': {{}}}}", "x".repeat(100));
        let both = merged("envoy.config.core.v3.Metadata", &entry("a"), &entry("b"));
        assert_eq!(both.matches("xxx{}").count() + both.matches("\":{}").count(), 2, "{both}");
    }

    #[test]
    fn an_empty_overlay_changes_nothing() {
        let name = "envoy.config.core.v3.Node";
        let base = wire(name, "{id: a, metadata: {k: [1, {}]}, locality: {zone: z}}");
        assert_eq!(merge(name, &base, &[]), Ok(base.clone()));
        assert_eq!(merge(name, &[], &base), Ok(base));
        assert!(merge(name, &[0x0a], &[]).is_err());
        assert!(merge("no.Such", &[], &[]).is_err());
    }
}
