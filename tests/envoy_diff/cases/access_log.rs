use tests::config::{access_log, bootstrap, chain, cluster, hcm, indent, listener, listener_with};
use tests::http2::Request;

use crate::group::{Group, Kind, Piece, get, http2 as h2, plain, raw, request, send, steps};

const OPERATORS: &[&str] = &[
    "PROTOCOL",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG",
    "BYTES_RECEIVED",
    "BYTES_SENT",
    "REQUEST_HEADERS_BYTES",
    "RESPONSE_HEADERS_BYTES",
    "RESPONSE_TRAILERS_BYTES",
    "DOWNSTREAM_WIRE_BYTES_RECEIVED",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_CLUSTER_RAW",
    "UPSTREAM_HOST",
    "UPSTREAM_HOST_NAME",
    "UPSTREAM_PROTOCOL",
    "UPSTREAM_REMOTE_ADDRESS",
    "UPSTREAM_REMOTE_PORT",
    "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
    "REQUESTED_SERVER_NAME",
    "ROUTE_NAME",
    "VIRTUAL_CLUSTER_NAME",
    "CONNECTION_TERMINATION_DETAILS",
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON",
    "DOWNSTREAM_TLS_VERSION",
    "DOWNSTREAM_PEER_URI_SAN",
    "FILTER_CHAIN_NAME",
    "HOSTNAME():0",
    "REQ(X-A)",
    "REQ(X-A):2",
    "REQ(X-NONE?X-A)",
    "REQ(:METHOD)",
    "REQ(X-ENVOY-ORIGINAL-PATH?:PATH)",
    "REQ(:AUTHORITY)",
    "REQ(:SCHEME)",
    "RESP(CONTENT-TYPE)",
    "RESP(X-NONE?X-UP)",
    "RESP(:STATUS)",
    "TRAILER(X-T)",
    "GRPC_STATUS",
    "GRPC_STATUS(SNAKE_STRING)",
    "GRPC_STATUS_NUMBER",
    "GRPC_STATUS(CAMEL_STRING)",
    "STREAM_ID",
    "LOCAL_REPLY_BODY",
    "PATH",
    "PATH(NQ)",
    "PATH(WQ)",
    "PATH(NQ:ORIG)",
    "PATH(WQ:PATH)",
    "QUERY_PARAM(q)",
    "QUERY_PARAMS",
    "DYNAMIC_METADATA(a:b)",
    "METADATA(ROUTE:com.test:key)",
    "METADATA(CLUSTER:com.test:key)",
    "METADATA(CLUSTER:com.test)",
    "ACCESS_LOG_TYPE",
    "UNIQUE_ID",
    "TRACE_ID",
    "FILTER_STATE(none)",
    "COALESCE",
    "%",
];

fn text_log(file: &str, format: &str) -> String {
    access_log(file, &format!("log_format: {{ text_format_source: {{ inline_string: \"{format}\\n\" }} }}"))
}

pub fn group() -> Group {
    let id = "x-request-id: 00000000-1111-4111-8111-111111111111";
    let mut cases = Vec::new();
    for listener in ["main", "default", "json", "filters"] {
        let on = |case: crate::group::Case| case.on(listener);
        cases.push(on(get(format!("{listener} get"), "/up?q=1&r=2", &["x-a: value", id])));
        cases.push(on(raw(
            format!("{listener} post"),
            request("POST", "/up", &[id, "x-a: \"quoted\\\" \u{e9}"], "body"),
        )));
        cases.push(on(get(format!("{listener} rewritten"), "/rewritten/x", &[id])));
        cases.push(on(get(format!("{listener} direct"), "/direct", &[id])));
        cases.push(on(get(format!("{listener} none"), "/none", &[id])));
        cases.push(on(get(format!("{listener} refused"), "/refused", &[id])));
        cases.push(on(raw(
            format!("{listener} grpc"),
            request("POST", "/refused", &[id, "content-type: application/grpc"], "x"),
        )));
        cases.push(on(raw(format!("{listener} bad"), "GET / HTTP/1.1\r\nbad\r\n\r\n")));
        cases.push(on(h2(
            format!("{listener} http2"),
            vec![Request::get("http://test.local/up").header("x-a", "two").header("x-request-id", &id[14..])],
        )));
        let gone = vec![
            send(request("POST", "/up", &[id, "transfer-encoding: chunked"], "")),
            Piece::Finish,
            Piece::ReadToEnd,
        ];
        cases.push(on(steps(format!("{listener} gone"), gone).end(crate::group::EndCheck::Skip)));
    }
    let main: String = OPERATORS
        .iter()
        .filter(|operator| **operator != "COALESCE" && **operator != "HOSTNAME():0")
        .map(|operator| format!("{}=%{operator}% ", operator.replace('%', "percent").replace(':', ".")))
        .collect();
    let main = main.replace("%%%", "%%");
    let filters = [
        (
            "status-ge-400",
            "status_code_filter: { comparison: { op: GE, value: { default_value: 400, runtime_key: x } } }",
        ),
        (
            "status-eq-200",
            "status_code_filter: { comparison: { op: EQ, value: { default_value: 200, runtime_key: x } } }",
        ),
        ("duration", "duration_filter: { comparison: { op: GE, value: { default_value: 100000, runtime_key: x } } }"),
        ("not-health", "not_health_check_filter: {}"),
        ("flags", "response_flag_filter: { flags: [ UF, NR ] }"),
        ("any-flag", "response_flag_filter: {}"),
        ("header", "header_filter: { header: { name: x-a, present_match: true } }"),
        (
            "both",
            "and_filter: { filters: [ { header_filter: { header: { name: x-a, present_match: true } } }, { status_code_filter: { comparison: { op: LE, value: { default_value: 200, runtime_key: x } } } } ] }",
        ),
        (
            "either",
            "or_filter: { filters: [ { header_filter: { header: { name: x-a, present_match: true } } }, { response_flag_filter: {} } ] }",
        ),
        ("runtime-all", "runtime_filter: { runtime_key: x, percent_sampled: { numerator: 100 } }"),
        ("runtime-none", "runtime_filter: { runtime_key: none, percent_sampled: { numerator: 0 } }"),
        ("grpc", "grpc_status_filter: { statuses: [ UNAVAILABLE ] }"),
    ];
    let filtered: String = filters
        .iter()
        .map(|(name, filter)| {
            let log = text_log("filtered.log", &format!("{name} %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS%"));
            log.replace("access_log:\n", "").replacen(
                "  typed_config:",
                &format!("  filter: {{ {filter} }}\n  typed_config:"),
                1,
            )
        })
        .collect();
    let json = "log_format:\n  json_format: { status: \"%RESPONSE_CODE%\", path: \"%REQ(:PATH)%\", none: \"%REQ(X-NONE)%\", mixed: \"a %PROTOCOL% b\", bytes: \"%BYTES_SENT%\", flags: \"%RESPONSE_FLAGS%\", a: \"%REQ(X-A)%\", list: [ \"%PROTOCOL%\", \"%BYTES_RECEIVED%\" ], deep: { er: \"%ROUTE_NAME%\" }, number: 5, flag: true }\n";
    let json_no_nulls = format!("{json}  omit_empty_values: true\n");
    let listeners = [
        listener("main", &hcm(ROUTES, &text_log("main.log", &main))),
        listener("default", &hcm(ROUTES, &access_log("default.log", ""))),
        listener(
            "json",
            &hcm(
                ROUTES,
                &format!(
                    "{}{}",
                    access_log("json.log", json),
                    access_log("json-omit.log", &json_no_nulls).replace("access_log:\n", "")
                ),
            ),
        ),
        listener_with("filters", &chain(&hcm(ROUTES, &format!("access_log:\n{}", indent(&filtered, 0))), ""), ""),
    ]
    .concat();
    let clusters = cluster("up", "{up:up}", "metadata: { filter_metadata: { com.test: { key: value, n: 5 } } }")
        + &cluster("refusing", "{up:refusing}", "");
    Group {
        name: "access_log",
        config: bootstrap(&listeners, &clusters),
        upstreams: vec![("up", Kind::Http1(plain)), ("refusing", Kind::Refusing)],
        cases,
        fields: &["0.status"],
        stats: &[],
        logs: &["main.log", "default.log", "json.log", "json-omit.log", "filtered.log"],
    }
}

const ROUTES: &str = r#"
- { match: { prefix: /rewritten/ }, route: { cluster: up, prefix_rewrite: /up/ }, name: rewriting, metadata: { filter_metadata: { com.test: { key: route } } } }
- { match: { prefix: /direct }, direct_response: { status: 403, body: { inline_string: "no" } } }
- { match: { prefix: /refused }, route: { cluster: refusing } }
- { match: { path: /none }, route: { cluster_header: x-none } }
- { match: { prefix: / }, route: { cluster: up }, name: rest }
"#;
