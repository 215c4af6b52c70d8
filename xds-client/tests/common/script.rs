//! The script of `tests/recorded/steps.txt`, and requests as the lines of the recordings.

use std::error::Error;

use xds_client::TypeUrl;
use xds_client::server::{Batch, Entry, Store};
use xds_client::session::Request;
use xds_protos::{encode, text};

/// Applies the lines of one step together: `set TYPE NAME JSON` or `del TYPE NAME`.
pub fn apply(store: &Store, step: &str) -> Result<(), Box<dyn Error>> {
    let mut result = Ok(());
    store.batch(|batch| result = step.lines().filter(|line| !line.is_empty()).try_for_each(|line| one(batch, line)));
    result
}

fn one(batch: &mut Batch<'_>, line: &str) -> Result<(), Box<dyn Error>> {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (verb, kind, name, json) = (word(), word(), word(), word());
    let type_url = match kind {
        "c" => TypeUrl::CLUSTER,
        "e" => TypeUrl::ENDPOINT,
        "l" => TypeUrl::LISTENER,
        "r" => TypeUrl::ROUTE,
        _ => return Err(format!("unknown type {kind}").into()),
    };
    if verb == "del" {
        batch.remove_resource(type_url, name);
        return Ok(());
    }
    let tree = text::parse(json, text::Format::Auto)?;
    let encoded = encode::to_wire(tree.root(), type_url.message_name(), &encode::Options::default());
    let (wire, _) = encoded.map_err(|mut problems| problems.remove(0))?;
    batch.set_resource(type_url, name, wire);
    Ok(())
}

/// A request without what differs between nodes and runs. Names are sorted: Envoy's order is that of a hash table.
pub fn line(entry: &Entry) -> String {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    let kind = entry.request.type_url().rsplit('.').next().unwrap_or_default();
    let error = entry.request.nack();
    let rest = match &entry.request {
        Request::Delta(it) => format!(
            "+{:?} -{:?} init={:?} nonce={:?} node={}",
            sorted(&it.resource_names_subscribe),
            sorted(&it.resource_names_unsubscribe),
            it.initial_resource_versions,
            it.response_nonce,
            it.node.is_some()
        ),
        Request::Sotw(it) => format!(
            "{:?} v={:?} nonce={:?} node={}",
            sorted(&it.resource_names),
            it.version_info,
            it.response_nonce,
            it.node.is_some()
        ),
    };
    format!("{} {kind} {rest} err={error:?}", entry.stream)
}
