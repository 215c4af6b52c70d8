use tests::config::{TO_UP, access_log, before_router, bootstrap, chain, cluster, hcm_with, listener_with, tcp_proxy};

use crate::group::EndCheck::{Skip, Wait};
use crate::group::{Case, Group, Kind, Piece, get, plain, raw, request, send, steps};

const TYPE: &str = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";

/// So few tokens an hour that time is no part of the outcome.
fn bucket(tokens: u32) -> String {
    format!("token_bucket: {{ max_tokens: {tokens}, tokens_per_fill: 1, fill_interval: 3600s }}")
}

const ENABLED: &str = "filter_enabled: { default_value: { numerator: 100 } }";
const ENFORCED: &str = "filter_enforced: { default_value: { numerator: 100 } }";

fn route(prefix: &str, fields: &str) -> String {
    format!(
        "- match: {{ prefix: {prefix} }}\n  route: {{ cluster: up }}\n  typed_per_filter_config: {{ limit: {{ \"@type\": {TYPE}, {fields} }} }}\n"
    )
}

fn routes() -> String {
    [
        route("/two", &format!("stat_prefix: two, {}, {ENABLED}, {ENFORCED}", bucket(2))),
        route(
            "/told",
            &format!(
                "stat_prefix: told, {}, {ENABLED}, {ENFORCED}, status: {{ code: 503 }}, enable_x_ratelimit_headers: DRAFT_VERSION_03, response_headers_to_add: [ {{ header: {{ key: x-limited, value: \"%REQ(x-who)% %RESPONSE_CODE%\" }} }} ]",
                bucket(2)
            ),
        ),
        route("/low-status", &format!("stat_prefix: low, {}, {ENABLED}, {ENFORCED}, status: {{ code: 200 }}", bucket(1))),
        route("/shadow", &format!(
            "stat_prefix: shadow, {}, {ENABLED}, request_headers_to_add_when_not_enforced: [ {{ header: {{ key: x-limited, value: \"%REQ(x-who)%\" }} }} ]",
            bucket(1)
        )),
        route("/not-enabled", &format!("stat_prefix: not_enabled, {}, {ENFORCED}", bucket(1))),
        route(
            "/grpc",
            &format!("stat_prefix: grpc, {}, {ENABLED}, {ENFORCED}, rate_limited_as_resource_exhausted: true", bucket(1)),
        ),
        route("/grpc2", &format!("stat_prefix: grpc2, {}, {ENABLED}, {ENFORCED}", bucket(1))),
        route(
            "/each",
            &format!(
                "stat_prefix: each, {}, {ENABLED}, {ENFORCED}, local_rate_limit_per_downstream_connection: true",
                bucket(2)
            ),
        ),
        TO_UP.to_owned(),
    ]
    .concat()
    .replace("prefix: /grpc }", "path: /grpc }")
}

fn cases() -> Vec<Case> {
    let two = |id: &str, target: &str| {
        raw(id, [request("GET", target, &[], ""), request("GET", target, &[], "")].concat()).responses(2)
    };
    vec![
        get("first of two", "/two", &[]).status(200),
        get("second of two", "/two", &[]).status(200),
        get("third of two", "/two", &[]).status(429),
        raw("with a body", request("POST", "/two", &[], "hello")).status(429),
        raw("without one", request("HEAD", "/two", &[], "")).status(429),
        get("told first", "/told", &["x-who: me"]).status(200),
        get("told second", "/told", &["x-who: me"]).status(200),
        get("told third", "/told", &["x-who: me"]).status(503),
        get("low status first", "/low-status", &[]).status(200),
        get("low status", "/low-status", &[]).status(429),
        get("shadow first", "/shadow", &["x-who: me"]).status(200),
        get("shadow", "/shadow", &["x-who: me"]).status(200),
        get("not enabled", "/not-enabled", &[]).status(200),
        get("not enabled again", "/not-enabled", &[]).status(200),
        get("grpc first", "/grpc", &["content-type: application/grpc"]).status(200),
        get("grpc", "/grpc", &["content-type: application/grpc"]).status(200),
        get("grpc2 first", "/grpc2", &["content-type: application/grpc"]).status(200),
        get("grpc2", "/grpc2", &["content-type: application/grpc"]).status(200),
        get("each first", "/each", &[]).status(200),
        get("each second", "/each", &[]).status(200),
        get("each third", "/each", &[]).status(200),
        raw(
            "each on one connection",
            [request("GET", "/each", &[], ""), request("GET", "/each", &[], ""), request("GET", "/each", &[], "")]
                .concat(),
        )
        .responses(3),
        two("the filter's own has no bucket", "/other"),
        steps("connection", vec![send("hello"), Piece::Read(5), Piece::Finish, Piece::ReadToEnd]).on("tcp").end(Skip),
        steps("connection too many", vec![]).on("tcp").end(Wait),
    ]
}

pub fn group() -> Group {
    let log = access_log(
        "access.log",
        "log_format: { text_format_source: { inline_string: \"%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\\n\" } }",
    );
    let hosts = format!("- name: all\n  domains: [ \"*\" ]\n  routes:\n{}", tests::config::indent(&routes(), 2));
    let filter =
        format!("- name: limit\n  typed_config: {{ \"@type\": {TYPE}, stat_prefix: own, {ENABLED}, {ENFORCED} }}\n");
    let http = before_router(&filter, &hcm_with(&hosts, "", &log));
    let tcp = format!(
        "- name: limit\n  typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit, stat_prefix: net, {} }}\n{}",
        bucket(1),
        tcp_proxy("cluster: echo")
    );
    let listeners = [listener_with("main", &chain(&http, ""), ""), listener_with("tcp", &chain(&tcp, ""), "")].concat();
    Group {
        name: "local_ratelimit",
        config: bootstrap(&listeners, &[cluster("up", "{up:up}", ""), cluster("echo", "{up:echo}", "")].concat()),
        upstreams: vec![("up", Kind::Http1(plain)), ("echo", Kind::TcpEcho)],
        cases: cases(),
        fields: &[],
        stats: &["local_rate_limit", "^http\\.ingress\\.downstream_rq_([1-5]xx|total|completed)$"],
        logs: &["access.log"],
    }
}
