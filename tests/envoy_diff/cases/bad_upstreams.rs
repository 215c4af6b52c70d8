use tests::config::{bootstrap, cluster, hcm_with, listener, virtual_host};
use tests::upstream::Seen;

use super::{STATS, log};
use crate::group::EndCheck::Wait;
use crate::group::{Group, Kind, Reply, get, plain, raw};

/// What the upstream says, by the path that asks for it.
const ANSWERS: &[(&str, &str)] = &[
    ("garbage", "\x01\x02\x03 this is not HTTP\r\n\r\n"),
    ("http09", "<html>old</html>\r\n\r\n"),
    ("status-text", "HTTP/1.1 abc OK\r\ncontent-length: 0\r\n\r\n"),
    ("two-lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokk"),
    ("two-equal-lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok"),
    ("negative-length", "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok"),
    ("huge-length", "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\nok"),
    (
        "length-and-chunked",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    ("gzip-encoding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok"),
    ("chunked-twice", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("nul-in-value", "HTTP/1.1 200 OK\r\nx-a: a\0b\r\ncontent-length: 0\r\n\r\n"),
    ("cr-in-value", "HTTP/1.1 200 OK\r\nx-a: a\rb\r\ncontent-length: 0\r\n\r\n"),
    ("blank-before-colon", "HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n"),
    ("no-colon", "HTTP/1.1 200 OK\r\nnonsense\r\ncontent-length: 0\r\n\r\n"),
    ("blank-in-name", "HTTP/1.1 200 OK\r\nx a: 1\r\ncontent-length: 0\r\n\r\n"),
    ("lf-only", "HTTP/1.1 200 OK\ncontent-length: 2\n\nok"),
    ("folded", "HTTP/1.1 200 OK\r\nx-a: a\r\n b\r\ncontent-length: 2\r\n\r\nok"),
    (
        "more-than-the-length",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison",
    ),
    ("no-content-with-body", "HTTP/1.1 204 No Content\r\ncontent-length: 8\r\n\r\npoisoned"),
    ("bad-chunk-after-head", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n"),
];

fn upstream(request: &Seen) -> Reply {
    let path = request.target().trim_start_matches('/');
    if let Some((_, answer)) = ANSWERS.iter().find(|(name, _)| *name == path) {
        return Reply::Bytes(answer.as_bytes().to_vec());
    }
    match path {
        "close" => Reply::Close,
        "reset" => Reply::Reset,
        "close-in-head" => Reply::Last(b"HTTP/1.1 200 OK\r\nx-a: ".to_vec()),
        "close-in-body" => Reply::Last(b"HTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 10\r\n\r\nhalf".to_vec()),
        "close-in-chunk" => {
            Reply::Last(b"HTTP/1.1 200 OK\r\nx-up: 1\r\ntransfer-encoding: chunked\r\n\r\na\r\nhalf".to_vec())
        }
        "reset-in-body" => Reply::ThenReset(b"HTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 10\r\n\r\nhalf".to_vec()),
        "silent" => Reply::Silent,
        "head-of-100k" => Reply::Last(format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n\r\n", "a".repeat(100_000)).into_bytes()),
        "500-headers" => {
            let lines: String = (0..500).map(|n| format!("x-{n}: 1\r\n")).collect();
            Reply::Last(format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n").into_bytes())
        }
        _ => plain(request),
    }
}

pub fn group() -> Group {
    let mut cases = Vec::new();
    for (name, _) in ANSWERS {
        let case = get(*name, &format!("/{name}"), &[]).requests(1);
        cases.push(match *name {
            // What of the answer got out before the mistake was seen is chance.
            "bad-chunk-after-head" => case.ignore("0.instead").end(Wait),
            _ => case,
        });
    }
    for name in ["close", "reset", "close-in-head", "head-of-100k", "500-headers"] {
        cases.push(get(name, &format!("/{name}"), &[]).requests(1));
    }
    for name in ["close-in-body", "close-in-chunk", "reset-in-body"] {
        cases.push(get(name, &format!("/{name}"), &[]).requests(1).ignore("0.instead").end(Wait));
    }
    cases.push(get("silent", "/silent", &["x-envoy-upstream-rq-timeout-ms: 200"]).requests(1));
    cases.push(get("silent-with-route-timeout", "/timeout/x", &[]).requests(1).expect("0.status", "504"));
    cases.push(raw("head-of-length-and-close", "HEAD /close-in-body HTTP/1.1\r\nHost: a\r\n\r\n").requests(1));
    cases.push(get("refused", "/refused", &[]).status(503));
    cases.push(get("refused-twice", "/refused", &[]).status(503));
    cases.push(get("no-host", "/no-host", &[]).status(503));
    cases.push(get("no-cluster", "/no-cluster", &[]).status(503));
    cases.push(get("no-cluster-404", "/no-cluster-404", &[]).status(404));
    cases.push(get("cluster-header-absent", "/by-header", &[]));
    cases.push(get("cluster-header-unknown", "/by-header", &["x-cluster: nobody"]));
    cases.push(get("cluster-header", "/by-header", &["x-cluster: up"]).status(200));
    cases.push(get("after-all-of-this", "/fine", &[]).status(200));
    let routes = "
- match: { prefix: /timeout/ }
  name: timed
  route: { cluster: up, timeout: 0.2s, regex_rewrite: { pattern: { regex: '.*' }, substitution: /silent } }
- match: { path: /silent }
  route: { cluster: up, timeout: 0.3s }
- match: { prefix: /refused }
  route: { cluster: refusing }
- match: { prefix: /no-host }
  route: { cluster: nobody }
- match: { path: /no-cluster }
  route: { cluster: absent }
- match: { path: /no-cluster-404 }
  route: { cluster: absent, cluster_not_found_response_code: NOT_FOUND }
- match: { prefix: /by-header }
  route: { cluster_header: x-cluster }
- match: { prefix: / }
  route: { cluster: up }
";
    let clusters = [
        cluster("up", "{up:up}", ""),
        cluster("refusing", "{up:refusing}", ""),
        "- name: nobody\n  type: STATIC\n  connect_timeout: 1s\n".to_owned(),
    ]
    .concat();
    let filters = hcm_with(&virtual_host(routes), "validate_clusters: false", &log());
    let listener = listener("main", &filters);
    Group {
        name: "bad_upstreams",
        config: bootstrap(&listener, &clusters),
        upstreams: vec![("up", Kind::Http1(upstream)), ("refusing", Kind::Refusing)],
        cases,
        fields: &[],
        stats: STATS,
        logs: &["access.log"],
    }
}
