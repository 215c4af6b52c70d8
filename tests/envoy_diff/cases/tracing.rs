use tests::config::{bootstrap, chain, cluster, hcm, indent, listener_with};

use super::log;
use crate::group::{EndCheck, Group, Kind, Reply, get};
use tests::upstream::Seen;

const ROUTES: &str = "
- { match: { prefix: /named }, route: { cluster: up }, decorator: { operation: op } }
- { match: { prefix: /secret }, route: { cluster: up }, decorator: { operation: op, propagate: false } }
- { match: { prefix: /direct }, direct_response: { status: 200 }, decorator: { operation: op } }
- { match: { prefix: / }, route: { cluster: up } }
";

const TRACEABLE: &str = "access_log:\n- name: envoy.access_loggers.file\n  filter: { traceable_filter: {} }\n  typed_config:\n    \"@type\": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog\n    path: \"{tmp}/access.log\"\n    log_format: { text_format_source: { inline_string: \"traced %REQ(X-CASE)% %STREAM_ID% %TRACE_ID% %REQ(X-REQUEST-ID)%\\n\" } }\n";

const UUID: &str = "request_id_extension: { typed_config: { \"@type\": type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig, ";

fn upstream(request: &Seen) -> Reply {
    match request.target() {
        "/echo" => Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nx-up: 1\r\nx-envoy-decorator-operation: theirs\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ),
        _ => crate::group::plain(request),
    }
}

pub fn group() -> Group {
    let mut cases = Vec::new();
    let listeners = [
        ("main", "UNSPECIFIED", "tracing: {}"),
        ("inbound", "INBOUND", "tracing: {}"),
        ("outbound", "OUTBOUND", "tracing: {}"),
        ("without", "OUTBOUND", ""),
        ("never", "INBOUND", "tracing: { random_sampling: { value: 0 } }"),
        ("half", "INBOUND", "tracing: { random_sampling: { value: 50 } }"),
        ("overall", "INBOUND", "tracing: { overall_sampling: { value: 0 } }"),
        ("client", "INBOUND", "tracing: { client_sampling: { value: 0 }, random_sampling: { value: 0 } }"),
        ("edge", "OUTBOUND", "use_remote_address: true\ntracing: { random_sampling: { value: 0 } }"),
        ("keeping", "OUTBOUND", "use_remote_address: true\npreserve_external_request_id: true\ntracing: { random_sampling: { value: 0 } }"),
        ("unpacked", "INBOUND", &*Box::leak(format!("tracing: {{}}\n{UUID} pack_trace_reason: false }} }}").into_boxed_str())),
        ("by-itself", "INBOUND", &*Box::leak(format!("tracing: {{ random_sampling: {{ value: 0 }} }}\n{UUID} use_request_id_for_trace_sampling: false }} }}").into_boxed_str())),
        ("no-id", "INBOUND", "generate_request_id: false\ntracing: {}"),
    ];
    for (listener, ..) in listeners {
        for (name, path, headers) in [
            ("plain", "/x", &[][..]),
            ("named", "/named", &[]),
            ("secret", "/secret", &[]),
            ("direct", "/direct", &[]),
            ("answered", "/echo", &[]),
            ("overridden", "/named", &["x-envoy-decorator-operation: mine"]),
            ("overridden with nothing", "/named", &["x-envoy-decorator-operation:"]),
            ("forced", "/x", &["x-envoy-force-trace: 1"]),
            ("by the client", "/x", &["x-client-trace-id: 1"]),
            ("by both", "/x", &["x-client-trace-id: 1", "x-envoy-force-trace: 1"]),
            ("low id", "/x", &["x-request-id: 00000001-0000-4000-8000-000000000000"]),
            ("high id", "/x", &["x-request-id: 0000270f-0000-4000-8000-000000000000"]),
            ("sampled id", "/x", &["x-request-id: 0000270f-0000-9000-8000-000000000000"]),
            ("forced id", "/x", &["x-request-id: 0000270f-0000-a000-8000-000000000000"]),
            ("client's id", "/x", &["x-request-id: 0000270f-0000-b000-8000-000000000000"]),
            ("own id", "/x", &["x-request-id: mine"]),
            ("short id", "/x", &["x-request-id: 12345678-mine"]),
        ] {
            // An id of its own falls on either side.
            let by_chance = listener == "half" && !name.ends_with(" id") && !name.starts_with("by ");
            if by_chance {
                continue;
            }
            let id = format!("{listener} {name}");
            let mut headers = headers.to_vec();
            let case = format!("x-case: {id}");
            headers.push(&case);
            let case = get(id, path, &headers).on(listener);
            cases.push(if listener == "half" { case.end(EndCheck::Skip) } else { case });
        }
    }
    let config: String = listeners
        .iter()
        .map(|(name, direction, fields)| {
            let log = format!("{}{}", log(), TRACEABLE.trim_start_matches("access_log:\n"));
            listener_with(
                name,
                &chain(&hcm(ROUTES, &format!("{log}{fields}\n")), ""),
                &indent(&format!("traffic_direction: {direction}"), 0),
            )
        })
        .collect();
    Group {
        name: "tracing",
        config: bootstrap(&config, &cluster("up", "{up:up}", "")),
        upstreams: vec![("up", Kind::Http1(upstream))],
        cases,
        fields: &[],
        stats: &["^http\\.ingress\\.tracing\\."],
        logs: &["access.log"],
    }
}
