use std::time::Duration;

use tests::client::{self, Client, End};
use tests::upstream::{Refusing, Upstream, ok};

use crate::{TO_UP, start};

#[test]
fn a_request_goes_through_with_envoys_headers_and_the_connections_are_kept() {
    let upstream = Upstream::echo_line();
    let proxy = start(TO_UP, upstream.port);
    let mut client = Client::connect(proxy.port("in"));
    let response = client.get("/a?b=c");
    assert_eq!((response.status, response.text().as_str()), (200, "GET /a?b=c HTTP/1.1"));
    assert_eq!(response.header("server"), Some("envoy"));
    assert!(response.header("date").is_some());
    assert!(response.header("x-envoy-upstream-service-time").is_some());
    let seen = upstream.next();
    assert_eq!(seen.header("host"), Some("test.local"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-envoy-expected-rq-timeout-ms"), Some("15000"));
    assert_eq!(seen.header("x-request-id").map(str::len), Some(36));
    assert_eq!(client.get("/b").status, 200);
    assert_eq!(upstream.next().connection, seen.connection, "the upstream connection is used again");
    assert_eq!(proxy.stat("cluster.up.upstream_cx_total"), 1);
    assert_eq!(proxy.stat("http.ingress.downstream_rq_2xx"), 2);
}

#[test]
fn bodies_of_every_framing_arrive_whole() {
    let upstream = Upstream::http(|request| ok(&format!("{} bytes", request.body.len())));
    let proxy = start(TO_UP, upstream.port);
    let mut client = Client::connect(proxy.port("in"));
    let body = "x".repeat(300_000);
    let with_length = format!("POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(client.request(with_length).text(), "300000 bytes");
    assert_eq!(upstream.next().body.len(), 300_000);
    let chunked = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(client.request(chunked).text(), "5 bytes");
    let seen = upstream.next();
    assert_eq!((seen.header("transfer-encoding"), seen.body.as_slice()), (Some("chunked"), &b"abcde"[..]));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::echo_line();
    let proxy = start(TO_UP, upstream.port);
    let mut client = Client::connect(proxy.port("in"));
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    for n in 1..=3 {
        assert_eq!(client.response("GET").expect("answered").text(), format!("GET /{n} HTTP/1.1"));
    }
    assert_eq!(client.end(Duration::from_secs(5)), End::Closed);
}

#[test]
fn local_replies_are_envoys() {
    let refusing = Refusing::new();
    let proxy = start(
        "- match: { prefix: /up }\n  route: { cluster: up }\n- match: { prefix: /nc }\n  route: { cluster: absent }\n- match: { prefix: /direct }\n  direct_response: { status: 418, body: { inline_string: short and stout } }\n",
        refusing.port,
    );
    let refused = client::get(proxy.port("in"), "/up");
    assert_eq!(refused.status, 503);
    assert!(
        refused.text().starts_with(
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
        ),
        "{}",
        refused.text()
    );
    assert_eq!(client::get(proxy.port("in"), "/nc").status, 503);
    let direct = client::get(proxy.port("in"), "/direct");
    assert_eq!((direct.status, direct.text().as_str()), (418, "short and stout"));
    let missing = client::get(proxy.port("in"), "/none");
    assert_eq!((missing.status, missing.body.len()), (404, 0));
}

#[test]
fn a_route_timeout_answers_504_and_closes_the_upstream_connection() {
    let (told, ended) = std::sync::mpsc::channel();
    let upstream = Upstream::scripted(move |conversation| {
        conversation.request();
        let _ = told.send(conversation.ended());
    });
    let routes = "- match: { prefix: / }\n  route: { cluster: up, timeout: 0.2s }\n";
    let proxy = start(routes, upstream.port);
    let response = client::get(proxy.port("in"), "/");
    assert_eq!((response.status, response.text().as_str()), (504, "upstream request timeout"));
    assert!(ended.recv_timeout(Duration::from_secs(5)).expect("the upstream connection is closed"));
    assert_eq!(proxy.stat("cluster.up.upstream_rq_timeout"), 1);
}

#[test]
fn a_draining_proxy_finishes_what_it_has_and_exits() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = tests::upstream::shared(wait);
    let upstream = Upstream::scripted(move |conversation| {
        conversation.request();
        let _ = wait.lock().expect("unpoisoned").recv_timeout(tests::PATIENCE);
        let _ = conversation.send(&ok("late"));
    });
    let mut proxy = start(TO_UP, upstream.port);
    let mut client = Client::connect(proxy.port("in"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    upstream.next();
    proxy.terminate();
    let deadline = std::time::Instant::now() + tests::PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", proxy.port("in"))).is_ok() {
        assert!(std::time::Instant::now() < deadline, "still accepting");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    go.send(()).expect("sent");
    let response = client.response("GET").expect("the request in flight is answered");
    assert_eq!((response.status, response.text().as_str()), (200, "late"));
    assert_eq!(response.header("connection"), Some("close"));
    assert!(proxy.wait_exit().success());
}
