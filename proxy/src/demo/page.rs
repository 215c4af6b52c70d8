//! The page that shows the path a request took, made of what the applications saw in its headers.

use http::HeaderMap;
use serde_json::{Value, json};

const SHOWN: [&str; 9] = [
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-client-cert",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-attempt-count",
    "user-agent",
];

/// What order-service says about the request it got.
pub fn facts(headers: &HeaderMap, version: &str) -> String {
    let mut out = serde_json::Map::new();
    for name in SHOWN {
        if let Some(value) = headers.get(name) {
            out.insert(name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into());
        }
    }
    let facts = json!({ "service": "order-service", "version": version, "orders": 3, "headers": out });
    format!("{facts}\n")
}

/// The caller's identity in an `x-forwarded-client-cert`: the last element's URI.
fn caller(xfcc: &str) -> &str {
    xfcc.rsplit(',').next().unwrap_or_default().split(';').find_map(|field| field.strip_prefix("URI=")).unwrap_or("-")
}

/// A header as order-service saw it.
fn seen_by<'v>(facts: &'v Value, header: &str) -> Option<&'v str> {
    facts.get("headers")?.get(header)?.as_str()
}

pub fn render(headers: &HeaderMap, second: &str) -> String {
    let text = |name: &str| {
        headers.get(name).map_or_else(|| "-".to_owned(), |v| String::from_utf8_lossy(v.as_bytes()).into_owned())
    };
    let second: Value = serde_json::from_str(second).unwrap_or_default();
    let second_xfcc = seen_by(&second, "x-forwarded-client-cert").unwrap_or_default();
    let rows = [
        ("you", format!("address {}", text("x-forwarded-for")), "plain HTTP"),
        ("gateway", "made the request id, took off what only the mesh may say".to_owned(), "mTLS"),
        (
            "sidecar of store-front",
            format!("the caller proved to be {}", caller(&text("x-forwarded-client-cert"))),
            "loopback",
        ),
        ("store-front", "asks order-service by name".to_owned(), "loopback"),
        ("sidecar of store-front", "found the route, shows its own certificate".to_owned(), "mTLS"),
        ("sidecar of order-service", format!("the caller proved to be {}", caller(second_xfcc)), "loopback"),
        ("order-service", format!("{} orders", second.get("orders").unwrap_or(&Value::Null)), ""),
    ];
    let mut list = String::new();
    for (who, what, how) in rows {
        let arrow = if how.is_empty() { String::new() } else { format!("<div class=arrow>&darr; {how}</div>") };
        list.push_str(&format!("<div class=hop><b>{}</b><span>{}</span></div>{arrow}", escape(who), escape(&what)));
    }
    let id = text("x-request-id");
    let id_second = seen_by(&second, "x-request-id").unwrap_or("-");
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>The way of a request</title><style>\
         body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#1c2733}}\
         .hop{{border:1px solid #b9c6d3;border-radius:.5rem;padding:.6rem 1rem;display:flex;gap:1rem}}\
         .hop b{{flex:0 0 13rem}}.arrow{{color:#5b7083;padding:.15rem 0 .15rem 1.2rem;font-size:.85rem}}\
         code{{background:#eef2f6;padding:.1rem .3rem;border-radius:.2rem}}</style>\
         <h1>The way of this request</h1>{list}\
         <p>One request id all the way: <code>{}</code> at store-front, <code>{}</code> at order-service.</p></html>\n",
        escape(&id),
        escape(id_second),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
