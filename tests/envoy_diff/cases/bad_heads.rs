use tests::config::{bootstrap, cluster};

use super::{STATS, http_listener};
use crate::group::EndCheck::Wait;
use crate::group::{Case, Group, Kind, plain, raw, send, steps};

/// Heads and bodies that are wrong, or look so. The expectations of our own are in `tests/hostile`; here Envoy's answer is
/// compared.
const INPUTS: &[(&str, &str)] = &[
    ("http09", "GET /up\r\n\r\n"),
    ("version-lower-case", "GET /up http/1.1\r\nHost: a\r\n\r\n"),
    ("version-1.", "GET /up HTTP/1.\r\nHost: a\r\n\r\n"),
    ("version-01.1", "GET /up HTTP/01.1\r\nHost: a\r\n\r\n"),
    ("version-1.2", "GET /up HTTP/1.2\r\nHost: a\r\n\r\n"),
    ("version-2.0", "GET /up HTTP/2.0\r\nHost: a\r\n\r\n"),
    ("two-spaces", "GET  /up HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("tab-for-space", "GET\t/up HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("space-in-target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("space-after-version", "GET /up HTTP/1.1 \r\nHost: a\r\n\r\n"),
    ("space-before-method", " GET /up HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("nul-in-target", "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("bell-in-target", "GET /a\x07b HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("fragment", "GET /a#frag HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("asterisk-get", "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("authority-form-get", "GET a.test:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("userinfo", "GET http://u:p@a.test/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("connect-path", "CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("connect", "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n"),
    ("method-lower-case", "get /up HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("method-unknown", "FOOBAR /up HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("method-control", "GE\x01T /up HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("lf-only", "GET /up HTTP/1.1\nHost: a\n\n"),
    ("tls-hello", "\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03"),
    ("host-missing", "GET /up HTTP/1.1\r\nX-A: 1\r\n\r\n"),
    ("host-twice-different", "GET /up HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("host-twice-same", "GET /up HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("host-empty", "GET /up HTTP/1.1\r\nHost:\r\n\r\n"),
    ("host-list", "GET /up HTTP/1.1\r\nHost: a,b\r\n\r\n"),
    ("host-userinfo", "GET /up HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    ("host-path", "GET /up HTTP/1.1\r\nHost: a/x\r\n\r\n"),
    ("host-blank", "GET /up HTTP/1.1\r\nHost: a b\r\n\r\n"),
    ("host-port-letters", "GET /up HTTP/1.1\r\nHost: a:80x\r\n\r\n"),
    ("host-ipv6", "GET /up HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"),
    ("blank-before-colon", "GET /up HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n"),
    ("folded", "GET /up HTTP/1.1\r\nHost: a\r\nX-A: a\r\n b\r\n\r\n"),
    ("fold-first", "GET /up HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("no-colon", "GET /up HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n"),
    ("empty-name", "GET /up HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    ("bracket-in-name", "GET /up HTTP/1.1\r\nHost: a\r\nX[A: b\r\n\r\n"),
    ("nul-in-value", "GET /up HTTP/1.1\r\nHost: a\r\nX-A: a\0b\r\n\r\n"),
    ("cr-in-value", "GET /up HTTP/1.1\r\nHost: a\r\nX-A: a\rb\r\n\r\n"),
    ("lf-in-value", "GET /up HTTP/1.1\r\nHost: a\r\nX-A: a\nX-B: b\r\n\r\n"),
    ("bell-in-value", "GET /up HTTP/1.1\r\nHost: a\r\nX-A: a\x07b\r\n\r\n"),
    ("underscore-in-name", "GET /up HTTP/1.1\r\nHost: a\r\nContent_Length: 3\r\n\r\n"),
    ("connection-close-host", "GET /up HTTP/1.1\r\nHost: a\r\nConnection: close, Host\r\n\r\n"),
    (
        "connection-content-length",
        "POST /up HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 3\r\n\r\nabc",
    ),
    ("length-plus", "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde"),
    ("length-minus", "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nabcde"),
    ("length-hex", "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nabcde"),
    ("length-empty", "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabcde"),
    ("length-two-numbers", "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nabcde"),
    ("length-zeros", "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nabcde"),
    ("length-overflow", "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabcde"),
    ("length-twice-different", "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde"),
    ("length-twice-same", "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"),
    ("length-list", "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nabcde"),
    (
        "length-and-chunked",
        "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked-and-length",
        "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    ("encoding-identity", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    ("encoding-gzip", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
    ("encoding-gzip-chunked", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("encoding-chunked-twice", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        "encoding-two-lines",
        "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("encoding-xchunked", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("encoding-comma", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"),
    ("encoding-blank-before-colon", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("chunk-size-plus", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nabcde\r\n0\r\n\r\n"),
    ("chunk-size-0x", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n"),
    ("chunk-size-empty", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabcde\r\n0\r\n\r\n"),
    (
        "chunk-size-blank-after",
        "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nabcde\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-overflow",
        "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\nabcde\r\n0\r\n\r\n",
    ),
    ("chunk-lf-after-size", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nabcde\r\n0\r\n\r\n"),
    ("chunk-lf-after-data", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\n0\r\n\r\n"),
    (
        "chunk-nothing-after-data",
        "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde0\r\n\r\n",
    ),
    (
        "chunk-too-much-data",
        "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdeXX\r\n0\r\n\r\n",
    ),
    (
        "chunk-extension-nul",
        "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\0\r\nabcde\r\n0\r\n\r\n",
    ),
    (
        "chunk-bare-semicolon",
        "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;\r\nabcde\r\n0\r\n\r\n",
    ),
    (
        "trailer-framing",
        "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\nHost: b\r\n\r\n",
    ),
    ("trailer-wrong", "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nnonsense\r\n\r\n"),
];

/// What Envoy takes or answers otherwise and we refuse on purpose: the group [`strict`](super::strict), whose log and
/// statistics differ for it, so that those of the others can be compared.
pub const STRICT: &[&str] = &[
    "http09",
    "version-1.2",
    "version-2.0",
    "default-delayed-close",
    "two-spaces",
    "tab-for-space",
    "space-after-version",
    "lf-only",
    "userinfo",
    "host-twice-different",
    "host-twice-same",
    "host-empty",
    "host-list",
    "host-userinfo",
    "host-port-letters",
    "folded",
    "cr-in-value",
    "lf-in-value",
    "connection-content-length",
    "connection-close-host",
    "length-zeros",
    "encoding-identity",
    "encoding-chunked-twice",
    "encoding-two-lines",
    "encoding-comma",
    "chunk-size-blank-after",
    "chunk-lf-after-data",
    "chunk-too-much-data",
    "chunk-extension-nul",
    "chunk-bare-semicolon",
];

pub fn group() -> Group {
    let mut group = all("bad_heads");
    group.cases.retain(|case| !STRICT.contains(&case.id.as_str()));
    group
}

/// All of them, for `name` to choose from.
pub fn all(name: &'static str) -> Group {
    let mut cases: Vec<Case> = INPUTS.iter().map(|(id, bytes)| raw(*id, bytes)).collect();
    cases.push(raw("default-delayed-close", "GET / HTTP/1.2\r\n\r\n").on("http10").end(Wait));
    cases.push(raw("byte-255-in-path", b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n"));
    cases.push(raw("byte-255-in-name", b"GET / HTTP/1.1\r\nHost: a\r\nX\xe9: 1\r\n\r\n"));
    cases.push(raw("100-headers", many_headers(98)).status(200));
    cases.push(raw("101-headers", many_headers(100)).status(431));
    cases.push(raw("head-under-60k", long_head(59_000)).status(200));
    cases.push(raw("head-over-60k", long_head(62_000)).status(431));
    cases.push(raw("target-of-100k", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100_000))));
    cases.push(raw("small-limits-headers", many_headers(10)).on("small").status(431));
    cases.push(raw("small-limits-head", long_head(1100)).on("small").status(431));
    cases.push(raw("http10-taken", "GET /up HTTP/1.0\r\nHost: a\r\n\r\n").on("http10").status(200));
    cases.push(
        raw("http10-taken-keep-alive", "GET /up HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").on("http10"),
    );
    cases.push(raw("http10-taken-without-host", "GET /up HTTP/1.0\r\n\r\n").on("http10").status(200));
    cases.push(raw("head-too-slow", "GET /up HTTP/1.1\r\nHo").on("timed").end(Wait).status(408));
    cases.push(
        steps("body-too-slow", vec![send("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")])
            .responses(1)
            .on("timed")
            .end(Wait)
            .status(408),
    );
    cases.push(steps("nothing-said", vec![]).responses(0).on("timed").end(Wait));
    cases.push(
        raw("two-requests-a-connection", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
            .responses(2)
            .on("timed"),
    );
    cases.push(raw("underscores-refused", "GET /up HTTP/1.1\r\nHost: a\r\nX_A: 1\r\n\r\n").on("underscores-refused"));
    cases.push(
        raw("underscores-dropped", "GET /up HTTP/1.1\r\nHost: a\r\nX_A: 1\r\nX-B: 1\r\n\r\n").on("underscores-dropped"),
    );
    let routes = "- match: { prefix: /rewritten }\n  route: { cluster: up, host_rewrite_path_regex: { pattern: { regex: \".*\" }, substitution: \"\\\\0\" } }\n- match: { prefix: / }\n  route: { cluster: up }\n";
    let listeners = [
        http_listener("main", routes, QUICK),
        http_listener(
            "small",
            routes,
            "delayed_close_timeout: 0.05s\nmax_request_headers_kb: 1\ncommon_http_protocol_options: { max_headers_count: 5 }\n",
        ),
        http_listener("http10", routes, "http_protocol_options: { accept_http_10: true, default_host_for_http_10: default.test }\n"),
        http_listener(
            "timed",
            routes,
            "request_headers_timeout: 0.2s\nrequest_timeout: 0.4s\ncommon_http_protocol_options: { idle_timeout: 0.3s, max_requests_per_connection: 2 }\n",
        ),
        http_listener("underscores-refused", routes, "common_http_protocol_options: { headers_with_underscores_action: REJECT_REQUEST }\n"),
        http_listener("underscores-dropped", routes, "common_http_protocol_options: { headers_with_underscores_action: DROP_HEADER }\n"),
    ]
    .concat();
    Group {
        name,
        config: bootstrap(&listeners, &cluster("up", "{up:up}", "")),
        upstreams: vec![("up", Kind::Http1(plain))],
        cases,
        fields: &[],
        stats: STATS,
        logs: &["access.log"],
    }
}

/// Envoy leaves a client that was refused one second to take the answer.
const QUICK: &str = "delayed_close_timeout: 0.05s\n";

/// A request with a Host and so many more headers.
fn many_headers(count: usize) -> String {
    let lines: String = (0..count).map(|n| format!("x-{n}: 1\r\n")).collect();
    format!("GET /up HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

/// A request with one long header.
fn long_head(length: usize) -> String {
    format!("GET /up HTTP/1.1\r\nHost: a\r\nx-long: {}\r\n\r\n", "a".repeat(length))
}
