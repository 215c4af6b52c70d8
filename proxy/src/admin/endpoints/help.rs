//! `/help`: the table of endpoints as text.

use std::fmt::Write;

use http::StatusCode;

use super::ENDPOINTS;
use crate::admin::{Endpoint, ParamKind, Reply, Request};

pub const ENDPOINT: Endpoint = Endpoint { path: "/help", mutates: false, help: "this list", params: &[], respond };

fn respond(_: &Request<'_>) -> Reply {
    Reply::text(StatusCode::OK, listing())
}

pub fn listing() -> String {
    let mut out = String::from("admin commands are:\n");
    for endpoint in ENDPOINTS {
        let method = if endpoint.mutates { " (POST)" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {}{method}: {}", endpoint.path, endpoint.help);
        for param in endpoint.params {
            let _ = match param.kind {
                ParamKind::OneOf(values) => {
                    writeln!(out, "      {}: {}; One of ({})", param.id, param.help, values.join(", "))
                }
                ParamKind::Flag | ParamKind::Text => writeln!(out, "      {}: {}", param.id, param.help),
            };
        }
    }
    out
}
