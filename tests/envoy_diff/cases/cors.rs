use tests::config::{TO_UP, access_log, before_router, bootstrap, cluster, hcm_with, indent, listener};

use crate::group::{Group, Kind, get, plain, raw, request};

const POLICY: &str = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy";

fn route(prefix: &str, action: &str, fields: &str) -> String {
    format!(
        "- match: {{ prefix: {prefix} }}\n  {action}\n  typed_per_filter_config: {{ cors: {{ \"@type\": {POLICY}, {fields} }} }}\n"
    )
}

pub fn group() -> Group {
    let up = "route: { cluster: up }";
    let never = "{ default_value: { numerator: 0 } }";
    let always = "{ default_value: { numerator: 100 } }";
    let routes = [
        route("/all", up, "allow_origin_string_match: [ { exact: \"*\" } ], allow_methods: \"*\", allow_headers: \"*\", allow_credentials: true, expose_headers: \"x-one,x-two\", max_age: \"600\", allow_private_network_access: true"),
        route("/strict", up, "forward_not_matching_preflights: false, allow_headers: x-a"),
        route("/off", up, &format!("filter_enabled: {never}")),
        route("/shadow", up, &format!("filter_enabled: {never}, shadow_enabled: {always}")),
        route("/direct", "direct_response: { status: 200 }", "allow_credentials: true"),
        TO_UP.to_owned(),
    ]
    .concat();
    let hosts = format!(
        "- name: all\n  domains: [ \"*\" ]\n  typed_per_filter_config: {{ cors: {{ \"@type\": {POLICY}, allow_origin_string_match: [ {{ exact: \"https://a.test\" }}, {{ suffix: .b.test }} ], allow_methods: \"GET,PUT\", max_age: \"5\" }} }}\n  routes:\n{}- name: none\n  domains: [ none.test ]\n  routes:\n{}",
        indent(&routes, 2),
        indent(TO_UP, 2)
    );
    let log = access_log(
        "access.log",
        "log_format: { text_format_source: { inline_string: \"%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\\n\" } }",
    );
    let filter =
        "- name: cors\n  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors }\n";
    let mut cases = Vec::new();
    let (good, bad) = ("origin: https://a.test", "origin: https://evil.test");
    for target in ["/", "/all", "/strict", "/off", "/shadow", "/direct"] {
        for (name, origin) in
            [("good", good), ("bad", bad), ("suffix", "origin: http://x.b.test"), ("empty", "origin: ")]
        {
            cases.push(get(format!("{target} {name}"), target, &[origin]));
            let preflight = [
                origin,
                "access-control-request-method: PUT",
                "access-control-request-headers: x-q",
                "access-control-request-private-network: true",
            ];
            cases.push(raw(format!("{target} {name} preflight"), request("OPTIONS", target, &preflight, "")));
        }
    }
    cases.push(get("no origin", "/", &[]).status(200));
    cases.push(raw("no preflight", request("OPTIONS", "/", &[good], "")).status(200));
    cases.push(
        raw("nothing asked", request("OPTIONS", "/all", &[good, "access-control-request-method: PUT"], "")).status(200),
    );
    cases.push(get("no policy", "/", &["Host: none.test", good]).status(200));
    cases.push(get("no route", "/", &["Host: none.test", "x-forwarded-proto: http", bad]).status(200));
    Group {
        name: "cors",
        config: bootstrap(
            &listener("main", &before_router(filter, &hcm_with(&hosts, "", &log))),
            &cluster("up", "{up:up}", ""),
        ),
        upstreams: vec![("up", Kind::Http1(plain))],
        cases,
        fields: &[],
        stats: &["\\.cors\\.", "^http\\.ingress\\.downstream_rq_([1-5]xx|total|completed)$"],
        logs: &["access.log"],
    }
}
