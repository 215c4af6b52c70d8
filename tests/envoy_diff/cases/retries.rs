use tests::config::{access_log, bootstrap, chain, cluster, hcm_with, http2, listener_with};
use tests::http2::Request;
use tests::upstream::{Answer, Seen};

use crate::group::{Case, Group, Kind, Reply, get, http2 as h2, plain, raw, request};

/// `/<attempts that fail>/<how>`: fails so often, by the count in the request, then answers.
fn script(request: &Seen) -> Option<&str> {
    let (failing, how) = request.target().trim_start_matches('/').split_once('/')?;
    let attempt: u32 = request.header("x-envoy-attempt-count")?.parse().ok()?;
    (attempt <= failing.parse().ok()?).then_some(how)
}

fn upstream(request: &Seen) -> Reply {
    let Some(how) = script(request) else { return plain(request) };
    match how {
        "reset" => Reply::Reset,
        "close" => Reply::Close,
        "silent" => Reply::Silent,
        "garbage" => Reply::Bytes(b"nonsense\r\n\r\n".to_vec()),
        "half" => Reply::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec()),
        "limited" => {
            Reply::Bytes(b"HTTP/1.1 503 No\r\nx-envoy-ratelimited: true\r\ncontent-length: 0\r\n\r\n".to_vec())
        }
        "again" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nx-again: 1\r\ncontent-length: 0\r\n\r\n".to_vec()),
        "later" => Reply::Bytes(b"HTTP/1.1 503 No\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n".to_vec()),
        code => Reply::Bytes(format!("HTTP/1.1 {code} No\r\ncontent-length: 4\r\n\r\nfail").into_bytes()),
    }
}

fn upstream2(request: &Seen) -> Answer {
    match script(request) {
        Some("grpc-14") => Answer {
            headers: vec![
                ("content-type".to_owned(), "application/grpc".to_owned()),
                ("grpc-status".to_owned(), "14".to_owned()),
            ],
            status: 200,
            ..Answer::default()
        },
        Some("refused") => Answer { reset: Some(7), ..Answer::default() },
        Some("reset") => Answer { reset: Some(2), ..Answer::default() },
        Some(_) => Answer { status: 503, ..Answer::default() },
        None => Answer::ok(&format!("{} {}", request.line, request.body.len())),
    }
}

fn post(id: &str, target: &str, body: &str) -> Case {
    raw(id, request("POST", target, &[], body))
}

/// Makes a request one from inside, whose headers may say what is retried.
const INSIDE: &str = "x-forwarded-for: 10.0.0.1";

/// With a policy from headers alone.
fn asked(id: &str, target: &str, headers: &[&str]) -> Case {
    get(id, target, &[&["Host: none.test", INSIDE], headers].concat())
}

fn over_http2(id: &str, target: &str, headers: &[(&str, &str)]) -> Case {
    let mut request =
        Request { method: "GET".to_owned(), uri: format!("http://two.test{target}"), ..Request::default() };
    request = request.header("x-forwarded-for", "10.0.0.1");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    h2(id, vec![request])
}

pub fn group() -> Group {
    let cases = vec![
        get("no failure", "/0/503", &[]).requests(1),
        get("5xx once", "/1/503", &[]).status(200).requests(2),
        get("5xx twice", "/2/500", &[]).status(200).requests(3),
        get("5xx too often", "/9/503", &[]).status(503).requests(3),
        get("4xx is none", "/9/404", &[]).status(404).requests(1),
        post("a body is sent again", "/2/503", "hello").status(200).requests(3),
        raw(
            "chunks and trailers are sent again",
            "POST /2/503 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n",
        )
        .status(200)
        .requests(3),
        post("a body beyond the limit is not kept", "/1/503", &"x".repeat(9000)).status(503).requests(1),
        get("reset", "/1/reset", &[]).status(200).requests(2),
        get("close", "/2/close", &[]).status(200).requests(3),
        get("close too often", "/9/close", &[]).status(503).requests(3),
        get("garbage", "/1/garbage", &[]).status(200).requests(2),
        get("rate limited", "/9/limited", &[]).status(503).requests(1),
        get("nobody there", "/refused", &[]).status(503),
        asked("counted", "/counted/0/503", &[]).status(200).requests(1),
        asked("counted with a retry", "/counted/1/503", &[]).status(200).requests(2),
        asked("counted with too many", "/counted/19/503", &[]).status(503).requests(2),
        asked("counted until the time is up", "/counted/2/silent", &[]).status(504).requests(1),
        asked("counted to nobody", "/counted/1/close", &[]).status(200).requests(2),
        get("silent", "/tried/1/silent", &[]).status(200).requests(2),
        get("silent too often", "/tried/9/silent", &[]).status(504).requests(2),
        get(
            "silent with a limit from the request",
            "/slow/1/silent",
            &[INSIDE, "x-envoy-upstream-rq-per-try-timeout-ms: 100"],
        )
        .status(200)
        .requests(2),
        get("no retry of what began", "/only-reset/1/half", &[]).requests(1).end(crate::group::EndCheck::Wait),
        asked("no policy", "/9/503", &[]).status(503).requests(1),
        asked("asked for", "/1/503", &["x-envoy-retry-on: 5xx"]).status(200).requests(2),
        asked("asked for more", "/3/503", &["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 3"]).status(200).requests(4),
        asked("asked for none", "/1/503", &["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 0"]).status(503).requests(1),
        asked("gateway error is not 500", "/1/500", &["x-envoy-retry-on: gateway-error"]).status(500).requests(1),
        asked("gateway error", "/1/502", &["x-envoy-retry-on: gateway-error"]).status(200).requests(2),
        asked("conflict", "/1/409", &["x-envoy-retry-on: retriable-4xx"]).status(200).requests(2),
        asked(
            "codes of the request",
            "/1/404",
            &["x-envoy-retry-on: retriable-status-codes", "x-envoy-retriable-status-codes: 403,404"],
        )
        .status(200)
        .requests(2),
        asked(
            "headers of the request",
            "/1/again",
            &["x-envoy-retry-on: retriable-headers", "x-envoy-retriable-header-names: X-Again"],
        )
        .status(200)
        .requests(2),
        asked("rate limit asked for", "/1/limited", &["x-envoy-retry-on: envoy-ratelimited"]).status(200).requests(2),
        asked("connect failure is no close", "/1/close", &["x-envoy-retry-on: connect-failure"])
            .status(503)
            .requests(1),
        asked("reset before request", "/1/close", &["x-envoy-retry-on: reset-before-request"]).status(503).requests(1),
        get("request headers decide", "/some/1/503", &["x-retry: yes"]).status(200).requests(2),
        get("request headers decide against it", "/some/1/503", &[]).status(503).requests(1),
        get("later", "/limited/1/later", &[]).status(200).requests(2),
        get("budget of none", "/no-budget/1/503", &[]).status(503).requests(1),
        over_http2("grpc status", "/1/grpc-14", &[("x-envoy-retry-grpc-on", "unavailable")]),
        over_http2("grpc status of another kind", "/1/grpc-14", &[("x-envoy-retry-grpc-on", "internal")]),
        over_http2("refused stream", "/1/refused", &[("x-envoy-retry-on", "refused-stream")]),
        over_http2("reset is not refused", "/1/reset", &[("x-envoy-retry-on", "refused-stream")]),
        over_http2("reset stream", "/1/reset", &[("x-envoy-retry-on", "reset")]),
        over_http2("refused without a policy", "/1/refused", &[]),
    ];
    // What is left of the time for all attempts is chance.
    let cases = cases.into_iter().map(|case: Case| case.ignore("*.header.x-envoy-expected-rq-timeout-ms")).collect();
    let back_off = "retry_back_off: { base_interval: 0.001s, max_interval: 0.002s }";
    let routes = |policy: &str| {
        format!(
            "
- match: {{ prefix: /refused }}
  route: {{ cluster: refusing, retry_policy: {{ retry_on: connect-failure, num_retries: 2, {back_off} }} }}
- match: {{ prefix: /tried/ }}
  route: {{ cluster: up, prefix_rewrite: /, retry_policy: {{ retry_on: 5xx, num_retries: 1, per_try_timeout: 0.2s, {back_off} }} }}
- match: {{ prefix: /slow/ }}
  route: {{ cluster: up, prefix_rewrite: /, retry_policy: {{ retry_on: reset, {back_off} }} }}
- match: {{ prefix: /only-reset/ }}
  route: {{ cluster: up, prefix_rewrite: /, retry_policy: {{ retry_on: reset, {back_off} }} }}
- match: {{ prefix: /some/ }}
  route: {{ cluster: up, prefix_rewrite: /, retry_policy: {{ retry_on: 5xx, retriable_request_headers: [ {{ name: x-retry, string_match: {{ exact: \"yes\" }} }} ], {back_off} }} }}
- match: {{ prefix: /limited/ }}
  route: {{ cluster: up, prefix_rewrite: /, retry_policy: {{ retry_on: 5xx, rate_limited_retry_back_off: {{ reset_headers: [ {{ name: retry-after, format: SECONDS }} ] }}, {back_off} }} }}
- match: {{ prefix: /no-budget/ }}
  route: {{ cluster: none, prefix_rewrite: /, retry_policy: {{ retry_on: 5xx, {back_off} }} }}
- match: {{ prefix: /counted/ }}
  stat_prefix: counted
  route: {{ cluster: up, timeout: 0.6s, prefix_rewrite: /, retry_policy: {{ retry_on: 5xx, num_retries: 1, {back_off} }} }}
- match: {{ prefix: / }}
  route: {{ cluster: up{policy} }}
"
        )
    };
    let counted = "  include_request_attempt_count: true\n  include_attempt_count_in_response: true\n";
    let host = |name: &str, domain: &str, routes: &str| {
        format!("- name: {name}\n  domains: [ \"{domain}\" ]\n{counted}  routes:\n{}", tests::config::indent(routes, 2))
    };
    let hosts = [
        host("all", "*", &routes("")).replace(
            counted,
            &format!(
                "{counted}  per_request_buffer_limit_bytes: 8192\n  retry_policy: {{ retry_on: 5xx, num_retries: 2, {back_off} }}\n"
            ),
        ),
        host("none", "none.test", &routes("")).replace(
            counted,
            &format!("{counted}  virtual_clusters: [ {{ name: vc, headers: [ {{ name: ':path', string_match: {{ prefix: /counted/1 }} }} ] }} ]\n"),
        ),
        host("two", "two.test", "- match: { prefix: / }\n  route: { cluster: two }\n"),
    ]
    .concat();
    let log = access_log(
        "access.log",
        "log_format: { text_format_source: { inline_string: \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_CLUSTER%\\n\" } }",
    );
    let filters = hcm_with(
        &hosts,
        "",
        &format!(
            "{log}http_protocol_options: {{ enable_trailers: true }}\ninternal_address_config: {{ cidr_ranges: [ {{ address_prefix: 10.0.0.0, prefix_len: 8 }} ] }}\n"
        ),
    );
    let trailers = "typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n    explicit_http_config: { http_protocol_options: { enable_trailers: true } }\n";
    let clusters = [
        cluster("up", "{up:up}", trailers),
        cluster("two", "{up:two}", &http2()),
        cluster("none", "{up:up}", "circuit_breakers: { thresholds: [ { max_retries: 0 } ] }\n"),
        cluster("refusing", "{up:refusing}", ""),
    ]
    .concat();
    Group {
        name: "retries",
        config: bootstrap(&listener_with("main", &chain(&filters, ""), ""), &clusters),
        upstreams: vec![("up", Kind::Http1(upstream)), ("two", Kind::Http2(upstream2)), ("refusing", Kind::Refusing)],
        cases,
        fields: &[],
        stats: &[
            "^cluster\\..*\\.(upstream_rq_retry.*|retry_or_shadow_abandoned|upstream_rq_per_try_.*|upstream_rq_timeout)$",
            "^cluster\\..*\\.upstream_rq_(total|completed|[1-5]xx|[1-5][0-9][0-9]|rx_reset|tx_reset|cancelled)$",
            "^cluster\\..*\\.(external|internal)\\.",
            "^http\\.ingress\\.downstream_rq_([1-5]xx|total|completed)$",
            "^vhost\\.",
        ],
        logs: &["access.log"],
    }
}
