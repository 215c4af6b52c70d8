use tests::config::{bootstrap, chain, cluster, hcm_with, listener_with};

use super::{STATS, log};
use crate::group::{Case, Group, Kind, get, plain, raw, request};

pub fn group() -> Group {
    let mut cases = domains();
    cases.extend(paths());
    cases.extend(headers());
    cases.extend(queries());
    cases.extend(others());
    let filters = hcm_with(&format!("{}{MATCHERS}", virtual_hosts()), "", &log());
    let plain_vhosts = hcm_with(&virtual_hosts().replace("[ \"*\" ]", "[ fallback.test ]"), "", &log());
    let ignoring = hcm_with(&virtual_hosts(), "ignore_port_in_host_matching: true", &log());
    let listeners = [
        listener_with(
            "main",
            &chain(&filters.replace("[ \"*\" ]", "[ fallback.test ]").replace("[ matchers ]", "[ \"*\" ]"), ""),
            "",
        ),
        listener_with("no-fallback", &chain(&plain_vhosts, ""), ""),
        listener_with("ports-ignored", &chain(&ignoring, ""), ""),
    ]
    .concat();
    let clusters = cluster("up", "{up:up}", "") + &cluster("other", "{up:other}", "");
    Group {
        name: "routing",
        config: bootstrap(&listeners, &clusters),
        upstreams: vec![("up", Kind::Http1(plain)), ("other", Kind::Http1(plain))],
        cases,
        fields: &[],
        stats: STATS,
        logs: &["access.log"],
    }
}

/// Virtual hosts of every kind of domain, each answering with its name.
fn virtual_hosts() -> String {
    let domains = [
        ("exact", "a.test"),
        ("exact-port", "\"a.test:81\""),
        ("suffix", "\"*.b.test\""),
        ("longer-suffix", "\"*.long.b.test\""),
        ("hyphen-suffix", "\"*-c.test\""),
        ("prefix", "\"d.*\""),
        ("longer-prefix", "\"d.long.*\""),
        ("capitals", "UP.test"),
        ("ipv6", "\"[::1]\""),
        ("any", "\"*\""),
    ];
    domains
        .iter()
        .map(|(name, domain)| {
            format!("- name: {name}\n  domains: [ {domain} ]\n  routes:\n  - match: {{ prefix: / }}\n    direct_response: {{ status: 200, body: {{ inline_string: {name} }} }}\n")
        })
        .collect()
}

fn domains() -> Vec<Case> {
    let hosts = [
        "a.test",
        "A.TEST",
        "a.test:81",
        "a.test:82",
        "x.a.test",
        "b.test",
        "x.b.test",
        "x.y.b.test",
        "long.b.test",
        "x.long.b.test",
        ".b.test",
        "x-c.test",
        "-c.test",
        "c.test",
        "d.x",
        "d.",
        "d.long.x",
        "d.x.y:80",
        "up.test",
        "Up.Test",
        "[::1]",
        "[::1]:80",
        "nobody.test",
        "x.b.test:80",
        "a.test.",
    ];
    let mut cases = Vec::new();
    for listener in ["no-fallback", "ports-ignored"] {
        for host in hosts {
            cases.push(get(format!("{listener} {host}"), "/", &[&format!("Host: {host}")]).on(listener));
        }
    }
    cases
}

fn paths() -> Vec<Case> {
    let targets = [
        "/exact",
        "/exact?x=1",
        "/exact/",
        "/exact/x",
        "/EXACT",
        "/Case",
        "/case",
        "/CASE?x",
        "/prefix",
        "/prefixed",
        "/prefix/x",
        "/separated",
        "/separated/",
        "/separated/x",
        "/separatedx",
        "/separated?x",
        "/regex/123",
        "/regex/123/",
        "/regex/12a",
        "/regex/123?x=1",
        "/template/a/b",
        "/template/a",
        "/unknown",
        "/",
    ];
    targets.iter().map(|target| get(format!("path {target}"), target, &[])).collect()
}

fn headers() -> Vec<Case> {
    let lines: &[(&str, &[&str])] = &[
        ("exact", &["x-exact: value"]),
        ("exact-other", &["x-exact: values"]),
        ("exact-two-values", &["x-exact: value", "x-exact: value"]),
        ("exact-list", &["x-joined: a,b"]),
        ("exact-list-of-lines", &["x-joined: a", "x-joined: b"]),
        ("ignoring-case", &["x-nocase: VaLuE"]),
        ("prefix", &["x-prefix: value"]),
        ("suffix", &["x-suffix: a-value"]),
        ("contains", &["x-contains: a-value-b"]),
        ("regex", &["x-regex: aab"]),
        ("regex-not-whole", &["x-regex: aabc"]),
        ("range", &["x-range: 5"]),
        ("range-end", &["x-range: 10"]),
        ("range-negative", &["x-range: -3"]),
        ("range-not-a-number", &["x-range: 5x"]),
        ("present", &["x-present: "]),
        ("absent", &["x-absent: 1", "x-want-absent: 1"]),
        ("absent-and-is", &["x-want-absent: 1"]),
        ("inverted", &["x-inverted: no"]),
        ("inverted-hit", &["x-inverted: yes"]),
        ("missing-as-empty", &["x-want-empty: 1"]),
        ("two-of-two", &["x-one: 1", "x-two: 2"]),
        ("one-of-two", &["x-one: 1"]),
    ];
    lines.iter().map(|(id, lines)| get(format!("header {id}"), "/headers", lines)).collect()
}

fn queries() -> Vec<Case> {
    let queries = [
        "",
        "?q",
        "?q=",
        "?q=exact",
        "?q=exacts",
        "?other=1&q=exact",
        "?q=other&q=exact",
        "?q=exact&q=other",
        "?Q=exact",
        "?q=%65xact",
        "?r=aab",
        "?r=aabc",
        "?p=prefixed",
        "?s=1",
        "?s",
        "?q=exact#f",
        "?a=b&&q=exact",
        "?q=a+b",
        "?q=a%20b",
        "?q=exact;x=1",
    ];
    queries.iter().map(|query| get(format!("query {query}"), &format!("/query{query}"), &[])).collect()
}

fn others() -> Vec<Case> {
    vec![
        raw("method-post", request("POST", "/method", &[], "x")),
        raw("method-get", request("GET", "/method", &[], "")),
        raw("method-head", request("HEAD", "/method", &[], "")),
        get("runtime-always", "/runtime-100", &[]),
        get("runtime-never", "/runtime-0", &[]),
        raw("grpc", request("POST", "/grpc", &["content-type: application/grpc"], "x")),
        raw("grpc-proto", request("POST", "/grpc", &["content-type: application/grpc+proto"], "x")),
        raw("grpc-web", request("POST", "/grpc", &["content-type: application/grpc-web"], "x")),
        raw("not-grpc", request("POST", "/grpc", &["content-type: text/plain"], "x")),
        get("authority", "/authority", &["Host: special.test"]),
        get("authority-other", "/authority", &["Host: plain.test"]),
        get("scheme", "/scheme", &["x-forwarded-proto: https"]),
        get("scheme-http", "/scheme", &[]),
        get("weighted-all-to-one", "/weighted", &[]),
        get("weighted-header-mutation", "/weighted-own", &[]),
        get("tls-matcher", "/tls", &[]),
        get("cookies", "/cookie", &["cookie: a=1; session=abc"]),
        get("cookies-other", "/cookie", &["cookie: a=1; session=abd"]),
        get("require-tls", "/", &["Host: tls.test"]),
        get("require-tls-over-https", "/", &["Host: tls.test", "x-forwarded-proto: https"]),
        get("require-tls-external", "/", &["Host: tls-external.test", "x-forwarded-for: 203.0.113.9"]),
        get("require-tls-internal", "/", &["Host: tls-external.test", "x-forwarded-for: 10.0.0.9"]),
    ]
}

/// A virtual host whose routes each have another matcher; a direct response names what matched.
const MATCHERS: &str = r#"
- name: tls
  domains: [ tls.test ]
  require_tls: ALL
  routes: [ { match: { prefix: / }, direct_response: { status: 200, body: { inline_string: tls } } } ]
- name: tls-external
  domains: [ tls-external.test ]
  require_tls: EXTERNAL_ONLY
  routes: [ { match: { prefix: / }, direct_response: { status: 200, body: { inline_string: tls-external } } } ]
- name: matchers
  domains: [ matchers ]
  routes:
  - { match: { path: /exact }, direct_response: { status: 200, body: { inline_string: exact } } }
  - { match: { path: /case, case_sensitive: false }, direct_response: { status: 200, body: { inline_string: case } } }
  - { match: { path_separated_prefix: /separated }, direct_response: { status: 200, body: { inline_string: separated } } }
  - { match: { safe_regex: { regex: "/regex/[0-9]+" } }, direct_response: { status: 200, body: { inline_string: regex } } }
  - { match: { prefix: /prefix }, direct_response: { status: 200, body: { inline_string: prefix } } }
  - match: { path_match_policy: { name: envoy.path.match.uri_template.uri_template_matcher, typed_config: { "@type": type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: "/template/{a}/{b}" } } }
    direct_response: { status: 200, body: { inline_string: template } }
  - { match: { prefix: /headers, headers: [ { name: x-exact, string_match: { exact: value } } ] }, direct_response: { status: 200, body: { inline_string: exact } } }
  - { match: { prefix: /headers, headers: [ { name: x-joined, string_match: { exact: "a,b" } } ] }, direct_response: { status: 200, body: { inline_string: joined } } }
  - { match: { prefix: /headers, headers: [ { name: x-nocase, string_match: { exact: value, ignore_case: true } } ] }, direct_response: { status: 200, body: { inline_string: nocase } } }
  - { match: { prefix: /headers, headers: [ { name: x-prefix, string_match: { prefix: val } } ] }, direct_response: { status: 200, body: { inline_string: prefix } } }
  - { match: { prefix: /headers, headers: [ { name: x-suffix, string_match: { suffix: value } } ] }, direct_response: { status: 200, body: { inline_string: suffix } } }
  - { match: { prefix: /headers, headers: [ { name: x-contains, string_match: { contains: value } } ] }, direct_response: { status: 200, body: { inline_string: contains } } }
  - { match: { prefix: /headers, headers: [ { name: x-regex, string_match: { safe_regex: { regex: "a+b" } } } ] }, direct_response: { status: 200, body: { inline_string: regex } } }
  - { match: { prefix: /headers, headers: [ { name: x-range, range_match: { start: -5, end: 10 } } ] }, direct_response: { status: 200, body: { inline_string: range } } }
  - { match: { prefix: /headers, headers: [ { name: x-present, present_match: true } ] }, direct_response: { status: 200, body: { inline_string: present } } }
  - { match: { prefix: /headers, headers: [ { name: x-want-absent, present_match: true }, { name: x-absent, present_match: false } ] }, direct_response: { status: 200, body: { inline_string: absent } } }
  - { match: { prefix: /headers, headers: [ { name: x-inverted, string_match: { exact: "yes" }, invert_match: true }, { name: x-inverted, present_match: true } ] }, direct_response: { status: 200, body: { inline_string: inverted } } }
  - { match: { prefix: /headers, headers: [ { name: x-want-empty, present_match: true }, { name: x-nothing, string_match: { exact: "x" }, invert_match: true, treat_missing_header_as_empty: true } ] }, direct_response: { status: 200, body: { inline_string: empty } } }
  - { match: { prefix: /headers, headers: [ { name: x-one, string_match: { exact: "1" } }, { name: x-two, string_match: { exact: "2" } } ] }, direct_response: { status: 200, body: { inline_string: two } } }
  - { match: { prefix: /query, query_parameters: [ { name: q, string_match: { exact: exact } } ] }, direct_response: { status: 200, body: { inline_string: exact } } }
  - { match: { prefix: /query, query_parameters: [ { name: r, string_match: { safe_regex: { regex: "a+b" } } } ] }, direct_response: { status: 200, body: { inline_string: regex } } }
  - { match: { prefix: /query, query_parameters: [ { name: p, string_match: { prefix: pre } } ] }, direct_response: { status: 200, body: { inline_string: prefix } } }
  - { match: { prefix: /query, query_parameters: [ { name: s, present_match: true } ] }, direct_response: { status: 200, body: { inline_string: present } } }
  - { match: { prefix: /query, query_parameters: [ { name: q, string_match: { exact: "a b" } } ] }, direct_response: { status: 200, body: { inline_string: blank } } }
  - { match: { prefix: /method, headers: [ { name: ":method", string_match: { exact: POST } } ] }, direct_response: { status: 200, body: { inline_string: post } } }
  - { match: { prefix: /runtime-100, runtime_fraction: { default_value: { numerator: 100 } } }, direct_response: { status: 200, body: { inline_string: always } } }
  - { match: { prefix: /runtime-0, runtime_fraction: { default_value: { numerator: 0 } } }, direct_response: { status: 200, body: { inline_string: never } } }
  - { match: { prefix: /grpc, grpc: {} }, direct_response: { status: 200, body: { inline_string: grpc } } }
  - { match: { prefix: /authority, headers: [ { name: ":authority", string_match: { suffix: special.test } } ] }, direct_response: { status: 200, body: { inline_string: authority } } }
  - { match: { prefix: /scheme, headers: [ { name: ":scheme", string_match: { exact: https } } ] }, direct_response: { status: 200, body: { inline_string: https } } }
  - { match: { prefix: /weighted-own }, name: own, route: { weighted_clusters: { clusters: [ { name: other, weight: 100, request_headers_to_add: [ { header: { key: x-weighted, value: "1" } } ], response_headers_to_add: [ { header: { key: x-weighted, value: "2" } } ] } ] } } }
  - { match: { prefix: /weighted }, route: { weighted_clusters: { clusters: [ { name: up, weight: 0 }, { name: other, weight: 10 } ] } } }
  - { match: { prefix: /tls, tls_context: { presented: true } }, direct_response: { status: 200, body: { inline_string: presented } } }
  - { match: { prefix: /cookie, headers: [ { name: cookie, string_match: { safe_regex: { regex: ".*session=abc.*" } } } ] }, direct_response: { status: 200, body: { inline_string: cookie } } }
  - { match: { path: / }, route: { cluster: up } }
"#;
