use tests::config::{bootstrap, cluster, http_protocol_options, http2};
use tests::http2::Request;
use tests::upstream::{Answer, Seen};

use super::http_listener;
use crate::group::{Case, Group, Kind, Reply, get, http2 as h2, plain, plain_http2, raw, request};

fn upstream(request: &Seen) -> Answer {
    let path = request.target().rsplit('/').next().unwrap_or_default();
    let up = |mut answer: Answer| {
        answer.headers.push(("x-up".to_owned(), "1".to_owned()));
        answer
    };
    match path {
        "trailers" => up(Answer { trailers: vec![("x-trailer".to_owned(), "1".to_owned())], ..Answer::ok("body") }),
        "204" => up(Answer { status: 204, ..Answer::default() }),
        "304" => up(Answer { status: 304, ..Answer::default() }),
        "empty" => up(Answer { status: 200, ..Answer::default() }),
        "big" => up(Answer { body: vec![b'B'; 300_000], ..Answer::ok("") }),
        "reset-internal" => Answer { reset: Some(2), ..Answer::default() },
        "reset-refused" => Answer { reset: Some(7), ..Answer::default() },
        "reset-no-error" => Answer { reset: Some(0), ..Answer::default() },
        "reset-http11" => Answer { reset: Some(13), ..Answer::default() },
        "reset-in-body" => up(Answer { reset_after_body: Some(2), ..Answer::ok("half") }),
        "silent" => Answer { silent: true, ..Answer::default() },
        "length" => {
            let mut answer = up(Answer::ok("12345"));
            answer.headers.push(("content-length".to_owned(), "5".to_owned()));
            answer
        }
        _ => plain_http2(request),
    }
}

fn http1_upstream(request: &Seen) -> Reply {
    match request.target().rsplit('/').next().unwrap_or_default() {
        "trailers" => Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nx-up: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\nx-trailer: 1\r\n\r\n".to_vec(),
        ),
        "204" => Reply::Bytes(b"HTTP/1.1 204 No Content\r\nx-up: 1\r\n\r\n".to_vec()),
        "304" => Reply::Bytes(b"HTTP/1.1 304 Not Modified\r\nx-up: 1\r\n\r\n".to_vec()),
        "empty" => Reply::Bytes(b"HTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 0\r\n\r\n".to_vec()),
        "hop" => Reply::Bytes(
            b"HTTP/1.1 200 OK\r\nx-up: 1\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=5\r\nx-hop: 1\r\nupgrade: h2c\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ),
        "reset-in-body" => {
            Reply::ThenReset(b"HTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 10\r\n\r\nhalf".to_vec())
        }
        "reset-internal" | "reset-refused" | "reset-no-error" | "reset-http11" => Reply::Reset,
        "silent" => Reply::Silent,
        _ => plain(request),
    }
}

const PATHS: &[&str] = &["plain", "trailers", "204", "304", "empty", "length", "hop"];

fn from_http2() -> Vec<Case> {
    let at = |path: &str| format!("http://test.local{path}");
    let mut cases = Vec::new();
    for to in ["h1", "h2"] {
        for path in PATHS {
            cases.push(h2(format!("h2 to {to} {path}"), vec![Request::get(&at(&format!("/{to}/{path}")))]));
        }
        for path in ["reset-internal", "reset-refused", "reset-no-error", "reset-http11", "reset-in-body"] {
            cases.push(
                h2(format!("h2 to {to} {path}"), vec![Request::get(&at(&format!("/{to}/{path}")))])
                    .requests(1)
                    .ignore("0.body"),
            );
        }
        let post = Request::post(&at(&format!("/{to}/plain")), b"hello");
        cases.push(h2(format!("h2 to {to} post"), vec![post.clone()]));
        cases.push(h2(format!("h2 to {to} post with length"), vec![post.clone().header("content-length", "5")]));
        cases.push(h2(
            format!("h2 to {to} post with trailers"),
            vec![Request { trailers: vec![("x-trailer".to_owned(), "1".to_owned())], ..post.clone() }],
        ));
        cases.push(h2(format!("h2 to {to} post expecting"), vec![post.clone().header("expect", "100-continue")]));
        cases.push(h2(
            format!("h2 to {to} big post"),
            vec![Request::post(&at(&format!("/{to}/plain")), &vec![b'x'; 300_000])],
        ));
        cases.push(h2(
            format!("h2 to {to} head"),
            vec![Request { method: "HEAD".to_owned(), ..Request::get(&at(&format!("/{to}/length"))) }],
        ));
        cases.push(h2(
            format!("h2 to {to} three requests"),
            vec![Request::get(&at(&format!("/{to}/a"))), post.clone(), Request::get(&at(&format!("/{to}/b")))],
        ));
        cases.push(h2(format!("h2 to {to} timeout"), vec![Request::get(&at(&format!("/{to}/silent")))]).requests(1));
        let cookies = Request::get(&at(&format!("/{to}/plain")))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers");
        cases.push(h2(format!("h2 to {to} cookies and te"), vec![cookies]));
        cases.push(h2(
            format!("h2 to {to} host too"),
            vec![Request::get(&at(&format!("/{to}/plain"))).header("host", "other.test")],
        ));
    }
    cases.push(h2("big answer", vec![Request::get(&at("/h2/big"))]));
    cases.push(h2("no route", vec![Request::get("http://nobody.test/nothing")]));
    cases.push(h2("refused", vec![Request::get(&at("/refused"))]));
    cases.push(h2("no cluster", vec![Request::get(&at("/no-cluster"))]));
    cases.push(h2("redirect", vec![Request::get(&at("/redirect"))]));
    cases.push(h2("direct", vec![Request::get(&at("/direct"))]));
    cases.push(h2(
        "connect",
        vec![Request { method: "CONNECT".to_owned(), uri: "a.test:80".to_owned(), ..Request::default() }],
    ));
    cases
        .push(h2("options asterisk", vec![Request { method: "OPTIONS".to_owned(), ..Request::get(&at("/h1/plain")) }]));
    cases.push(h2("https scheme", vec![Request::get("https://test.local/h1/plain")]));
    cases.push(h2("method unknown", vec![Request { method: "FOOBAR".to_owned(), ..Request::get(&at("/h1/plain")) }]));
    cases.push(
        h2("header of 70k", vec![Request::get(&at("/h1/plain")).header("x-long", &"a".repeat(70_000))]).ignore("0.end"),
    );
    let mut many = Request::get(&at("/h1/plain"));
    for n in 0..120 {
        many = many.header(&format!("x-{n}"), "1");
    }
    cases.push(h2("120 headers", vec![many]));
    cases.push(h2("underscore", vec![Request::get(&at("/h1/plain")).header("x_a", "1")]));
    cases.push(h2("dots in path", vec![Request::get(&at("/x/../h1/plain"))]));
    cases
        .push(h2("codec http1", vec![Request::get(&at("/h1/plain"))]).on("http1").ignore("connection").ignore("0.end"));
    cases
}

pub fn group() -> Group {
    let mut cases = from_http2();
    for path in PATHS.iter().chain(&["reset-internal", "reset-refused", "reset-no-error"]) {
        let case = get(format!("h1 to h2 {path}"), &format!("/h2/{path}"), &[]);
        cases.push(if path.starts_with("reset") { case.requests(1) } else { case });
    }
    cases.push(raw("h1 to h2 post", request("POST", "/h2/plain", &[], "hello")));
    cases.push(raw(
        "h1 to h2 chunked",
        "POST /h2/plain HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-trailer: 1\r\n\r\n",
    ));
    cases.push(raw("h1 to h2 trailers enabled", "POST /h2/plain HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-trailer: 1\r\n\r\n").on("trailers"));
    cases.push(get("h1 to h2 answered trailers enabled", "/h2/trailers", &[]).on("trailers"));
    cases.push(get("h1 to h1 answered trailers enabled", "/h1/trailers", &[]).on("trailers"));
    cases.push(raw(
        "h1 to h2 hop by hop",
        "GET /h2/plain HTTP/1.1\r\nHost: a\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nTE: trailers\r\n\r\n",
    ));
    cases.push(raw("h1 to h2 head", request("HEAD", "/h2/length", &[], "")));
    cases.push(
        raw("http2 preface to http1 codec", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .on("http1")
            .ignore("end")
            .ignore("0.instead"),
    );
    cases
        .push(raw("http1 to http2 codec", "GET /h1/plain HTTP/1.1\r\nHost: a\r\n\r\n").on("http2").ignore("0.instead"));
    for case in &mut cases {
        // Which of its connections carries a request is the upstream pool's own business.
        case.ignore.push("*.connection");
    }
    let routes = "
- { match: { path: /h1/silent }, route: { cluster: up, timeout: 0.2s } }
- { match: { path: /h2/silent }, route: { cluster: up2, timeout: 0.2s } }
- { match: { prefix: /h1/ }, route: { cluster: up } }
- { match: { prefix: /h2/ }, route: { cluster: up2 } }
- { match: { prefix: /refused }, route: { cluster: refusing } }
- { match: { prefix: /redirect }, redirect: { path_redirect: /new } }
- { match: { prefix: /direct }, direct_response: { status: 200, body: { inline_string: direct } } }
- { match: { prefix: /still-there }, direct_response: { status: 200 } }
- { match: { prefix: /x/ }, direct_response: { status: 200, body: { inline_string: unnormalised } } }
";
    let listeners = [
        http_listener("main", routes, ""),
        http_listener("http1", routes, "codec_type: HTTP1\ndelayed_close_timeout: 0.05s\n"),
        http_listener("http2", routes, "codec_type: HTTP2\ndelayed_close_timeout: 0.05s\n"),
        http_listener("trailers", routes, "http_protocol_options: { enable_trailers: true }\n"),
    ]
    .concat();
    let trailers = http_protocol_options("explicit_http_config: { http_protocol_options: { enable_trailers: true } }");
    let clusters = [
        cluster("up", "{up:up}", &trailers),
        cluster("up2", "{up:up2}", &http2()),
        cluster("refusing", "{up:refusing}", ""),
    ]
    .concat();
    Group {
        name: "http2",
        config: bootstrap(&listeners, &clusters),
        upstreams: vec![
            ("up", Kind::Http1(http1_upstream)),
            ("up2", Kind::Http2(upstream)),
            ("refusing", Kind::Refusing),
        ],
        cases,
        fields: &[],
        stats: &[
            "^http\\.ingress\\.downstream_(rq|cx)_(total|completed|2xx|3xx|4xx|5xx|rx_reset|tx_reset|http1_total|http2_total)$",
            "^cluster\\..*\\.upstream_rq_([1-5]xx|total|rx_reset|tx_reset|timeout)$",
        ],
        logs: &["access.log"],
    }
}
