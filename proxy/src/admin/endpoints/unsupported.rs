//! `/unsupported`: what of the received configuration is accepted but has no effect here. Envoy has no such page.

use http::StatusCode;

use crate::admin::{Endpoint, Param, ParamKind, Reply, Request};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/unsupported",
    mutates: false,
    help: "fields of the configuration that have no effect here",
    params: &[Param { id: "format", kind: ParamKind::OneOf(&["text", "json"]), help: "format" }],
    respond,
};

fn respond(request: &Request<'_>) -> Reply {
    let mut ignored = request.cx.config.ignored();
    ignored.sort_by(|a, b| (&a.message, &a.field).cmp(&(&b.message, &b.field)));
    if request.query.get("format") == Some("json") {
        let each = ignored.iter().map(
            |i| serde_json::json!({ "message": i.message, "field": i.field, "count": i.count, "reason": i.reason }),
        );
        let all = serde_json::json!({ "ignored": each.collect::<Vec<_>>() });
        return Reply::json_text(format!("{all:#}\n"));
    }
    let lines = ignored.iter().map(|i| format!("{}.{}: {} ({})\n", i.message, i.field, i.count, i.reason));
    Reply::text(StatusCode::OK, lines.collect::<String>())
}
