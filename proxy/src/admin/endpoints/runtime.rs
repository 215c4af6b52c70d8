//! `/runtime`: runtime values by layer.

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint =
    Endpoint { path: "/runtime", mutates: false, help: "runtime values by layer", params: &[], respond };

fn respond(request: &Request<'_>) -> Reply {
    let runtime = &request.cx.runtime;
    let strings = |values: &[String], indent: &str| -> String {
        let values: Vec<String> = values.iter().map(|v| format!("{indent} {}", string(v))).collect();
        if values.is_empty() { "[]".to_owned() } else { format!("[\n{}\n{indent}]", values.join(",\n")) }
    };
    let mut entries = runtime.entries();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let entries: Vec<String> = entries
        .iter()
        .map(|entry| {
            let values = strings(&entry.layer_values, "   ");
            let (key, last) = (string(&entry.key), string(&entry.final_value));
            format!("  {key}: {{\n   \"layer_values\": {values},\n   \"final_value\": {last}\n  }}")
        })
        .collect();
    let entries = if entries.is_empty() { "{}".to_owned() } else { format!("{{\n{}\n }}", entries.join(",\n")) };
    let layers = strings(&runtime.layers(), " ");
    Reply::json_text(format!("{{\n \"entries\": {entries},\n \"layers\": {layers}\n}}\n"))
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
