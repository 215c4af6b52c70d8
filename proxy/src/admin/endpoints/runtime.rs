//! `/runtime`: runtime values by layer.

use std::collections::BTreeSet;

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint =
    Endpoint { path: "/runtime", mutates: false, help: "runtime values by layer", params: &[], respond };

fn respond(request: &Request<'_>) -> Reply {
    let layers = request.cx.runtime.layers();
    let keys: BTreeSet<&str> = layers.iter().flat_map(|(_, entries)| entries.keys()).map(|key| &**key).collect();
    let value = |key: &str| {
        let values: Vec<&str> = layers.iter().map(|(_, entries)| entries.get(key).map_or("", |e| &e.raw)).collect();
        // The last layer that has the key decides, even with an empty value.
        let last = layers.iter().rev().find_map(|(_, entries)| entries.get(key)).map_or("", |e| &e.raw);
        format!(
            "  {}: {{\n   \"layer_values\": {},\n   \"final_value\": {}\n  }}",
            string(key),
            strings(&values, "   "),
            string(last)
        )
    };
    let entries: Vec<String> = keys.into_iter().map(value).collect();
    let entries = if entries.is_empty() { "{}".to_owned() } else { format!("{{\n{}\n }}", entries.join(",\n")) };
    let names: Vec<&str> = layers.iter().map(|(name, _)| &**name).collect();
    Reply::json_text(format!("{{\n \"entries\": {entries},\n \"layers\": {}\n}}\n", strings(&names, " ")))
}

fn strings(values: &[&str], indent: &str) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{indent} {}", string(value))).collect();
    if values.is_empty() { "[]".to_owned() } else { format!("[\n{}\n{indent}]", values.join(",\n")) }
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
