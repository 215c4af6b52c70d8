use tests::config::{bootstrap, cluster, http2};
use tests::http2::Request;
use tests::upstream::{Answer, Seen};

use super::http_listener;
use crate::group::{Case, Group, Kind, http2 as h2, raw, request};

const STATUSES: &[u16] = &[200, 201, 400, 401, 403, 404, 408, 409, 413, 429, 431, 499, 500, 501, 502, 503, 504];

fn upstream(request: &Seen) -> Answer {
    let up = |mut answer: Answer| {
        answer.headers.push(("x-up".to_owned(), "1".to_owned()));
        answer
    };
    match request.target() {
        "/service/Fails" => up(Answer {
            trailers: vec![
                ("grpc-status".to_owned(), "5".to_owned()),
                ("grpc-message".to_owned(), "not%20there".to_owned()),
            ],
            ..Answer::grpc(b"", "5")
        }),
        "/service/TrailersOnly" => {
            let headers = ["content-type: application/grpc", "grpc-status: 7", "grpc-message: no", "x-up: 1"];
            let headers = headers
                .iter()
                .map(|line| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned())).expect("a header"));
            Answer { status: 200, headers: headers.collect(), ..Answer::default() }
        }
        "/service/Unavailable" => up(Answer { status: 503, ..Answer::default() }),
        "/service/Resets" => Answer { reset: Some(2), ..Answer::default() },
        "/service/ResetsLate" => up(Answer { reset_after_body: Some(8), ..Answer::grpc(b"half", "0") }),
        "/service/Silent" => Answer { silent: true, ..Answer::default() },
        "/service/Echo" => up(Answer { echo: true, ..Answer::grpc(b"", "0") }),
        _ => up(Answer::grpc(&request.body, "0")),
    }
}

fn call(path: &str) -> Request {
    Request::post(&format!("http://test.local{path}"), b"\0\0\0\0\x02hi")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

/// A call without a message, where the answer may come before one would.
fn empty(path: &str) -> Request {
    Request { body: Vec::new(), ..call(path) }
}

fn calls() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in ["Unary", "Fails", "TrailersOnly", "Unavailable", "Echo"] {
        // The time is told when the request is complete before the response begins, which is chance with Echo.
        cases.push(
            h2(format!("call {name}"), vec![call(&format!("/service/{name}"))])
                .ignore("0.header.x-envoy-upstream-service-time"),
        );
    }
    for name in ["Resets", "ResetsLate"] {
        cases.push(h2(format!("call {name}"), vec![call(&format!("/service/{name}"))]).requests(1).ignore("0.body"));
    }
    let mut messages = call("/service/Echo");
    messages.body = (0..5).map(|n| vec![0, 0, 0, 0, 1, n]).collect();
    cases.push(h2("bidirectional", vec![messages]).ignore("0.header.x-envoy-upstream-service-time"));
    cases.push(h2("grpc-timeout", vec![call("/timed/Silent").header("grpc-timeout", "200m")]).requests(1));
    cases.push(h2("grpc-timeout-over-maximum", vec![call("/timed/Silent").header("grpc-timeout", "10S")]).requests(1));
    for value in ["nonsense", "99999999999H", "1", "5X", "12345678n"] {
        let request = call("/shown/Unary").header("grpc-timeout", value);
        cases.push(h2(format!("grpc-timeout {value}"), vec![request]));
    }
    cases.push(h2("route timeout", vec![call("/short/Silent")]).requests(1));
    cases.push(h2("no route", vec![empty("/unknown/x")]));
    cases.push(h2("refused", vec![empty("/refused/x")]));
    cases.push(h2("no cluster", vec![empty("/absent/x")]));
    cases.push(h2("no host", vec![empty("/nobody/x")]));
    cases.push(h2("over http1 upstream", vec![call("/plain/x")]));
    cases.push(h2(
        "grpc-web",
        vec![Request {
            headers: vec![("content-type".to_owned(), "application/grpc-web".to_owned())],
            ..empty("/refused/x")
        }],
    ));
    cases.push(h2(
        "grpc+json",
        vec![Request {
            headers: vec![("content-type".to_owned(), "application/grpc+json".to_owned())],
            ..empty("/refused/x")
        }],
    ));
    cases
}

pub fn group() -> Group {
    let mut cases = calls();
    let mut routes = "
- { match: { prefix: /service/ }, route: { cluster: up, timeout: 5s } }
- { match: { prefix: /timed/ }, route: { cluster: up, timeout: 5s, max_stream_duration: { grpc_timeout_header_max: 0.3s }, prefix_rewrite: /service/ } }
- { match: { prefix: /shown/ }, route: { cluster: up, timeout: 5s, max_stream_duration: { grpc_timeout_header_max: 0s }, prefix_rewrite: /service/ } }
- { match: { prefix: /short/ }, route: { cluster: up, timeout: 0.2s, prefix_rewrite: /service/ } }
- { match: { prefix: /refused/ }, route: { cluster: refusing } }
- { match: { prefix: /nobody/ }, route: { cluster: nobody } }
- { match: { prefix: /plain/ }, route: { cluster: plain } }
- { match: { prefix: /still-there }, direct_response: { status: 200 } }
"
    .to_owned();
    for status in STATUSES {
        routes.push_str(&format!("- {{ match: {{ prefix: /status/{status} }}, direct_response: {{ status: {status}, body: {{ inline_string: \"said {status}\" }} }} }}\n"));
        cases.push(h2(format!("status {status}"), vec![empty(&format!("/status/{status}"))]));
        cases.push(raw(
            format!("status {status} over http1"),
            request("POST", &format!("/status/{status}"), &["content-type: application/grpc"], "x"),
        ));
    }
    let clusters = [
        cluster("up", "{up:up}", &http2()),
        cluster("refusing", "{up:refusing}", &http2()),
        cluster("plain", "{up:plain}", ""),
        "- name: nobody\n  type: STATIC\n  connect_timeout: 1s\n".to_owned(),
    ]
    .concat();
    Group {
        name: "grpc",
        config: bootstrap(&http_listener("main", &routes, ""), &clusters),
        upstreams: vec![
            ("up", Kind::Http2(upstream)),
            ("plain", Kind::Http1(crate::group::plain)),
            ("refusing", Kind::Refusing),
        ],
        cases,
        fields: &[],
        stats: &["^cluster\\..*\\.grpc\\.", "^cluster\\..*\\.upstream_rq_([1-5]xx|total|rx_reset|timeout)$"],
        logs: &["access.log"],
    }
}
