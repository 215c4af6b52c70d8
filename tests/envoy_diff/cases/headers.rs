use tests::config::{bootstrap, cluster, hcm_with, listener, virtual_host};

use super::{STATS, log};
use crate::group::{Case, Group, Kind, get, plain, raw, request};

const ID: &str = "x-request-id: 00000000-1111-4111-8111-111111111111";

/// Listeners, and fields of their connection managers.
const LISTENERS: &[(&str, &str)] = &[
    ("main", ""),
    ("remote", "use_remote_address: true"),
    ("remote-skip", "use_remote_address: true\nskip_xff_append: true"),
    ("remote-hops-1", "use_remote_address: true\nxff_num_trusted_hops: 1"),
    ("hops-1", "xff_num_trusted_hops: 1"),
    ("hops-2", "xff_num_trusted_hops: 2"),
    (
        "internal",
        "use_remote_address: true\ninternal_address_config: { cidr_ranges: [ { address_prefix: 127.0.0.0, prefix_len: 8 } ] }",
    ),
    ("via", "via: outrigger"),
    ("server-overwrite", "server_name: mine"),
    ("server-if-absent", "server_name: mine\nserver_header_transformation: APPEND_IF_ABSENT"),
    ("server-pass", "server_name: mine\nserver_header_transformation: PASS_THROUGH"),
    ("no-id", "generate_request_id: false"),
    ("keep-id", "use_remote_address: true\npreserve_external_request_id: true"),
    ("always-id", "always_set_request_id_in_response: true"),
    ("strip-port", "strip_any_host_port: true"),
    ("strip-matching-port", "strip_matching_host_port: true"),
    ("strip-dot", "strip_trailing_host_dot: true"),
    ("scheme", "scheme_header_transformation: { scheme_to_overwrite: https }"),
    ("port-header", "append_x_forwarded_port: true\nuse_remote_address: true"),
    ("proper-case", "http_protocol_options: { header_key_format: { proper_case_words: {} } }"),
];

fn upstream(request: &tests::upstream::Seen) -> crate::group::Reply {
    if request.target().ends_with("/own-server") {
        return crate::group::Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nserver: theirs\r\nvia: 1.1 them\r\nx-up: 1\r\nx-drop: 1\r\nx-add: old\r\nx-set: old\r\nx-keep: old\r\ncontent-length: 0\r\n\r\n".to_vec(),
        );
    }
    plain(request)
}

fn forwarded() -> Vec<Case> {
    let xffs = [
        "",
        "x-forwarded-for: 10.1.2.3",
        "x-forwarded-for: 203.0.113.7",
        "x-forwarded-for: 203.0.113.7, 10.1.2.3",
        "x-forwarded-for: 203.0.113.7,10.1.2.3 , 198.51.100.1",
        "x-forwarded-for: nonsense",
        "x-forwarded-for: 2001:db8::1",
        "x-forwarded-for: ",
    ];
    let mut cases = Vec::new();
    for listener in ["main", "remote", "remote-skip", "remote-hops-1", "hops-1", "hops-2", "internal"] {
        for xff in xffs {
            let lines: &[&str] = if xff.is_empty() { &[] } else { &[xff] };
            cases.push(get(format!("{listener} {xff}"), "/up", lines).on(listener));
        }
        cases.push(
            get(format!("{listener} two lines"), "/up", &["x-forwarded-for: 1.1.1.1", "x-forwarded-for: 2.2.2.2"])
                .on(listener),
        );
        cases.push(
            get(
                format!("{listener} proto"),
                "/up",
                &["x-forwarded-proto: https", "x-forwarded-host: other", "x-forwarded-port: 99"],
            )
            .on(listener),
        );
        cases.push(get(format!("{listener} proto-odd"), "/up", &["x-forwarded-proto: ftp"]).on(listener));
        let spoofed = [
            "x-envoy-internal: true",
            "x-envoy-external-address: 9.9.9.9",
            "x-envoy-original-path: /other",
            "x-envoy-decorator-operation: op",
            "x-envoy-upstream-rq-timeout-ms: 4321",
            "x-envoy-upstream-rq-per-try-timeout-ms: 321",
            "x-envoy-expected-rq-timeout-ms: 1",
            "x-envoy-max-retries: 9",
            "x-envoy-retry-on: 5xx",
            "x-envoy-retry-grpc-on: cancelled",
            "x-envoy-downstream-service-cluster: c",
            "x-envoy-downstream-service-node: n",
            "x-envoy-attempt-count: 7",
            "x-envoy-hedge-on-per-try-timeout: true",
            "x-envoy-force-trace: 1",
            "x-envoy-ip-tags: t",
            "x-envoy-upstream-alt-stat-name: other",
            "x-envoy-original-dst-host: 1.2.3.4:5",
            "x-envoy-is-timeout-retry: 1",
            "x-envoy-not-ours: 1",
            "x-forwarded-client-cert: By=me",
        ];
        cases.push(get(format!("{listener} spoofed"), "/up", &spoofed).on(listener));
        let external: Vec<&str> = std::iter::once("x-forwarded-for: 203.0.113.7").chain(spoofed).collect();
        cases.push(get(format!("{listener} spoofed from outside"), "/up", &external).on(listener));
        cases.push(get(format!("{listener} timeout"), "/up", &["x-envoy-upstream-rq-timeout-ms: 4321"]).on(listener));
        for id in [ID, "x-request-id: not-a-uuid", "x-request-id: 00000000-1111-9111-8111-111111111111"] {
            cases.push(get(format!("{listener} {id}"), "/up", &[id]).on(listener));
        }
    }
    cases
}

fn mutations() -> Vec<Case> {
    vec![
        get("at-every-level", "/mutated/own-server", &["x-remove-me: 1", "x-there: old", "x-level: client"]),
        get("order-of-levels", "/mutated/x", &["x-level: client"]),
        get("append-actions", "/actions/own-server", &["x-add: old", "x-set: old", "x-keep: old"]),
        get("append-actions-absent", "/actions/x", &[]),
        get("formatters", "/formatters?q=1", &["x-in: value", "x-forwarded-for: 203.0.113.7", ID]).ignore("*.x-start"),
        get("keep-empty-value", "/empty-value/own-server", &[]),
        get("direct-response-headers", "/direct", &[]),
    ]
}

pub fn group() -> Group {
    let mut cases = forwarded();
    cases.extend(mutations());
    for listener in ["via", "server-overwrite", "server-if-absent", "server-pass"] {
        cases.push(get(format!("{listener} theirs"), "/own-server", &[]).on(listener));
        cases.push(get(format!("{listener} none"), "/up", &["via: 1.0 fred"]).on(listener));
        cases.push(get(format!("{listener} local reply"), "/direct", &[]).on(listener));
    }
    for listener in ["no-id", "keep-id", "always-id"] {
        cases.push(get(format!("{listener} none"), "/up", &[]).on(listener));
        cases.push(get(format!("{listener} some"), "/up", &[ID]).on(listener));
        cases.push(
            get(format!("{listener} some from outside"), "/up", &[ID, "x-forwarded-for: 203.0.113.7"]).on(listener),
        );
        cases.push(get(format!("{listener} local reply"), "/direct", &[ID]).on(listener));
    }
    for listener in ["strip-port", "strip-matching-port", "strip-dot"] {
        for host in
            ["a.test", "a.test:80", "a.test:8080", "a.test:", "a.test.", "a.test.:80", "[::1]:80", "[::1]", "A.Test:99"]
        {
            cases.push(get(format!("{listener} {host}"), "/up", &[&format!("Host: {host}")]).on(listener));
        }
    }
    cases.push(get("scheme-overwritten", "/up", &[]).on("scheme"));
    cases.push(get("port-header", "/up", &["x-forwarded-port: 99"]).on("port-header"));
    cases.push(get("port-header-none", "/up", &[]).on("port-header"));
    cases.push(get("proper-case", "/up", &["x-LOWER-case: 1"]).on("proper-case"));
    cases.push(raw("cookies", request("GET", "/up", &["cookie: a=1; b=2", "cookie: c=3"], "")));
    cases.push(get("suppressed", "/suppressed/own-server", &[]).on("main"));
    let listeners: String = LISTENERS
        .iter()
        .map(|(name, fields)| {
            let filters = hcm_with(&virtual_host(ROUTES), ROUTE_CONFIG, &format!("{}{fields}", log()));
            listener(name, &filters)
        })
        .collect();
    Group {
        name: "headers",
        config: bootstrap(&listeners, &cluster("up", "{up:up}", "")),
        upstreams: vec![("up", Kind::Http1(upstream))],
        cases,
        fields: &[],
        stats: STATS,
        logs: &["access.log"],
    }
}

const ROUTE_CONFIG: &str = "request_headers_to_add:
- { header: { key: x-level, value: config }, append_action: APPEND_IF_EXISTS_OR_ADD }
request_headers_to_remove: [ x-remove-me ]
response_headers_to_add:
- { header: { key: x-out, value: config } }
response_headers_to_remove: [ x-drop ]
";

const ROUTES: &str = r#"
- match: { prefix: /mutated/ }
  name: mutated
  request_headers_to_add:
  - { header: { key: x-level, value: route } }
  - { header: { key: x-there, value: new }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }
  - { header: { key: x-remove-me, value: again } }
  response_headers_to_add:
  - { header: { key: x-out, value: route } }
  route: { cluster: up }
- match: { prefix: /actions/ }
  request_headers_to_add: &actions
  - { header: { key: x-add, value: new }, append_action: APPEND_IF_EXISTS_OR_ADD }
  - { header: { key: x-set, value: new }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }
  - { header: { key: x-keep, value: new }, append_action: ADD_IF_ABSENT }
  - { header: { key: x-over, value: new }, append_action: OVERWRITE_IF_EXISTS }
  response_headers_to_add: *actions
  route: { cluster: up }
- match: { prefix: /formatters }
  request_headers_to_add:
  - { header: { key: x-address, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%" } }
  - { header: { key: x-direct, value: "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%" } }
  - { header: { key: x-local, value: "%DOWNSTREAM_LOCAL_ADDRESS%" } }
  - { header: { key: x-local-port, value: "%DOWNSTREAM_LOCAL_PORT%" } }
  - { header: { key: x-protocol, value: "%PROTOCOL%" } }
  - { header: { key: x-req, value: "%REQ(X-IN)% %REQ(X-NONE?X-IN)% %REQ(X-IN):3%" } }
  - { header: { key: x-none, value: "%REQ(X-NONE)%" } }
  - { header: { key: x-path, value: "%REQ(:PATH)% %REQ(:METHOD)% %REQ(:AUTHORITY)%" } }
  - { header: { key: x-route, value: "%ROUTE_NAME%" } }
  - { header: { key: x-percent, value: "100%%" } }
  - { header: { key: x-stream-id, value: "%STREAM_ID%" } }
  - { header: { key: x-start, value: "%START_TIME(%s)%" } }
  response_headers_to_add:
  - { header: { key: x-code, value: "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS%" } }
  - { header: { key: x-host, value: "%UPSTREAM_HOST%" } }
  - { header: { key: x-cluster, value: "%UPSTREAM_CLUSTER%" } }
  - { header: { key: x-resp, value: "%RESP(content-type)%" } }
  route: { cluster: up }
  name: formatted
- match: { prefix: /empty-value/ }
  response_headers_to_add:
  - { header: { key: x-kept, value: "%REQ(X-NONE)%" }, keep_empty_value: true }
  - { header: { key: x-dropped, value: "" } }
  route: { cluster: up }
- match: { prefix: /direct }
  response_headers_to_add:
  - { header: { key: x-code, value: "%RESPONSE_CODE% %ROUTE_NAME%" } }
  direct_response: { status: 200, body: { inline_string: "direct\n" } }
  name: direct
- match: { prefix: / }
  route: { cluster: up }
"#;
