use tests::config::{bootstrap, cluster, http2};
use tests::http2::Request;
use tests::upstream::{Answer, Seen};

use super::http_listener;
use crate::group::EndCheck::{Skip, Wait};
use crate::group::{Case, Group, Kind, Piece, Reply, http2 as h2, plain, raw, send, steps};

fn upstream(request: &Seen) -> Reply {
    match request.target() {
        "/refuses" => Reply::Bytes(b"HTTP/1.1 403 Forbidden\r\nx-up: 1\r\ncontent-length: 2\r\n\r\nno".to_vec()),
        "/ignores" => plain(request),
        "/other-protocol" => Reply::Tunnel(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n".to_vec()),
        "/closes" => Reply::Close,
        "/201" => Reply::Bytes(b"HTTP/1.1 201 Created\r\nx-up: 1\r\ncontent-length: 2\r\n\r\nok".to_vec()),
        "/302" => Reply::Bytes(b"HTTP/1.1 302 Found\r\nx-up: 1\r\nlocation: /x\r\ncontent-length: 2\r\n\r\nok".to_vec()),
        "/chunked" => {
            Reply::Bytes(b"HTTP/1.1 200 OK\r\nx-up: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec())
        }
        "/ends" => Reply::Last(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nbye".to_vec()),
        "/resets" => {
            Reply::ThenReset(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nbye".to_vec())
        }
        _ if request.header("upgrade").is_some() => Reply::Tunnel(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: abc\r\n\r\n".to_vec(),
        ),
        _ => plain(request),
    }
}

fn upstream2(request: &Seen) -> Answer {
    match request.target() {
        "/two/refuses" => Answer { status: 403, early: true, ..Answer::ok("no") },
        _ => Answer { echo: true, status: 200, ..Answer::default() },
    }
}

fn websocket(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: test.local\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// Upgrades, says something, hears it back, and ends.
fn tunnel(id: &str, head: &str) -> Case {
    steps(
        id,
        vec![
            send(head),
            Piece::Response,
            send("hello"),
            Piece::Read(5),
            send("again"),
            Piece::Read(5),
            Piece::Finish,
            Piece::ReadToEnd,
        ],
    )
    .requests(1)
    .settle("http.ingress.downstream_cx_upgrades_active", 0)
    .end(Skip)
}

/// Waits until no tunnel is open, so that the order of the log is no chance.
fn over(case: Case) -> Case {
    case.settle("http.ingress.downstream_cx_upgrades_active", 0)
}

fn extended(path: &str) -> Request {
    Request {
        method: "CONNECT".to_owned(),
        uri: format!("http://test.local{path}"),
        protocol: Some("websocket".to_owned()),
        body: vec![b"hello".to_vec()],
        until: Some(5),
        ..Request::default()
    }
    .header("sec-websocket-version", "13")
}

pub fn group() -> Group {
    let cases = vec![
        tunnel("websocket", &websocket("/ws")),
        steps(
            "websocket with data at once",
            vec![
                send(websocket("/ws") + "early"),
                Piece::Response,
                Piece::Read(5),
                send("later"),
                Piece::Read(5),
                Piece::Finish,
                Piece::ReadToEnd,
            ],
        )
        .requests(1)
        .end(Skip),
        raw("websocket refused by upstream", websocket("/refuses")),
        raw("websocket ignored by upstream", websocket("/ignores")),
        over(raw("websocket with another answer", websocket("/other-protocol")).requests(1).end(Skip)),
        raw("websocket closed by upstream", websocket("/closes")).requests(1),
        raw("websocket answered with 201", websocket("/201")),
        raw("websocket redirected", websocket("/302")),
        raw("websocket ignored in chunks", websocket("/chunked")),
        raw("another upgrade ignored", websocket("/chunked").replace(": websocket", ": foo/1")).on("any"),
        steps("websocket ended by upstream", vec![send(websocket("/ends")), Piece::Response, Piece::ReadToEnd])
            .requests(1)
            .end(Skip),
        steps("websocket reset by upstream", vec![send(websocket("/resets")), Piece::Response, Piece::ReadToEnd])
            .requests(1)
            .ignore("raw.0")
            .end(Skip),
        raw("websocket not enabled on route", websocket("/disabled")),
        raw("websocket without connection header", websocket("/ws").replace("Connection: Upgrade\r\n", "")),
        over(
            raw("websocket in capitals", websocket("/ws").replace(": websocket", ": WebSocket")).requests(1).end(Skip),
        ),
        over(raw("websocket by post", websocket("/ws").replace("GET ", "POST ")).requests(1).end(Skip)),
        raw("websocket over http10", websocket("/ws").replace("HTTP/1.1", "HTTP/1.0")),
        raw("another protocol", websocket("/ws").replace(": websocket", ": foo/9")),
        raw("two protocols", websocket("/ws").replace(": websocket", ": foo, websocket")),
        raw("websocket to nobody", websocket("/refused")),
        raw("websocket without route", websocket("/direct")),
        tunnel("websocket to http2", &websocket("/two/ws")),
        raw("websocket refused by http2", websocket("/two/refuses")).requests(1),
        h2("extended connect", vec![extended("/ws")]).requests(1).ignore("*.transfer-encoding"),
        h2("extended connect refused", vec![Request { body: Vec::new(), ..extended("/refuses") }]),
        h2("extended connect to http2", vec![extended("/two/ws")]).requests(1),
        h2("extended connect not enabled", vec![Request { body: Vec::new(), ..extended("/disabled") }]),
        h2(
            "extended connect of another protocol",
            vec![Request { protocol: Some("foo".to_owned()), body: Vec::new(), ..extended("/ws") }],
        ),
        tunnel("connect", "CONNECT tunnel.test:80 HTTP/1.1\r\nHost: tunnel.test:80\r\n\r\n").requests(0).on("connect"),
        raw("connect to one who ends", "CONNECT says.test:80 HTTP/1.1\r\nHost: says.test:80\r\n\r\n")
            .requests(0)
            .on("connect")
            .end(Wait),
        raw("post to a tunnel", "POST /t HTTP/1.1\r\nHost: post.test\r\nContent-Length: 5\r\n\r\nhello")
            .requests(0)
            .on("connect")
            // What depends on whether the request is complete before the response begins, which here is chance.
            .ignore("0.header.x-envoy-upstream-service-time")
            .ignore("0.header.connection")
            .end(Skip),
        raw(
            "post to a tunnel that takes none",
            "POST /t HTTP/1.1\r\nHost: tunnel.test\r\nContent-Length: 5\r\n\r\nhello",
        )
        .requests(0)
        .on("connect"),
        raw("connect without route", "CONNECT other.test:80 HTTP/1.1\r\nHost: other.test:80\r\n\r\n").on("connect"),
        raw("connect to nobody", "CONNECT refused.test:80 HTTP/1.1\r\nHost: refused.test:80\r\n\r\n").on("connect"),
        raw(
            "connect with a length",
            "CONNECT tunnel.test:80 HTTP/1.1\r\nHost: tunnel.test:80\r\nContent-Length: 3\r\n\r\nabc",
        )
        .on("connect")
        .end(Skip),
        h2(
            "connect over http2",
            vec![Request {
                method: "CONNECT".to_owned(),
                uri: "tunnel.test:80".to_owned(),
                body: vec![b"hello".to_vec()],
                ..Request::default()
            }],
        )
        .on("connect")
        // Told when the request is complete before the response begins, which here is chance.
        .ignore("0.header.x-envoy-upstream-service-time"),
        tunnel("connect forwarded", "CONNECT forward.test:80 HTTP/1.1\r\nHost: forward.test:80\r\n\r\n").on("connect"),
        tunnel("connect forwarded to http1", "CONNECT forward1.test:80 HTTP/1.1\r\nHost: forward1.test:80\r\n\r\n")
            .on("connect"),
    ];
    let routes = "
- { match: { prefix: /disabled }, route: { cluster: up, upgrade_configs: [ { upgrade_type: websocket, enabled: false } ] } }
- { match: { prefix: /two/ }, route: { cluster: up2 } }
- { match: { prefix: /refused }, route: { cluster: refusing } }
- { match: { prefix: /direct }, direct_response: { status: 200, body: { inline_string: direct } } }
- { match: { prefix: / }, route: { cluster: up } }
";
    let connect = "
- { match: { connect_matcher: {}, headers: [ { name: \":authority\", string_match: { prefix: tunnel } } ] }, route: { cluster: tcp, upgrade_configs: [ { upgrade_type: CONNECT, connect_config: {} } ] } }
- { match: { connect_matcher: {}, headers: [ { name: \":authority\", string_match: { prefix: refused } } ] }, route: { cluster: refusing, upgrade_configs: [ { upgrade_type: CONNECT, connect_config: {} } ] } }
- { match: { connect_matcher: {}, headers: [ { name: \":authority\", string_match: { prefix: forward.test } } ] }, route: { cluster: up2 } }
- { match: { connect_matcher: {}, headers: [ { name: \":authority\", string_match: { prefix: forward1.test } } ] }, route: { cluster: up } }
- { match: { connect_matcher: {}, headers: [ { name: \":authority\", string_match: { prefix: says } } ] }, route: { cluster: says, upgrade_configs: [ { upgrade_type: CONNECT, connect_config: {} } ] } }
- { match: { prefix: /, headers: [ { name: \":authority\", string_match: { prefix: post } } ] }, route: { cluster: tcp, upgrade_configs: [ { upgrade_type: CONNECT, connect_config: { allow_post: true } } ] } }
- { match: { prefix: / }, direct_response: { status: 200 } }
";
    let connect_extended = "http2_protocol_options: { allow_connect: true }\n";
    let listeners = [
        http_listener(
            "main",
            routes,
            &format!("{connect_extended}upgrade_configs: [ {{ upgrade_type: websocket }} ]\n"),
        ),
        http_listener("any", routes, "upgrade_configs: [ { upgrade_type: foo/1 } ]\n"),
        http_listener(
            "connect",
            connect,
            &format!("{connect_extended}upgrade_configs: [ {{ upgrade_type: CONNECT }} ]\n"),
        ),
    ]
    .concat();
    let two = http2().replace("http2_protocol_options: {}", "http2_protocol_options: { allow_connect: true }");
    let clusters = [
        cluster("up", "{up:up}", ""),
        cluster("up2", "{up:up2}", &two),
        cluster("tcp", "{up:tcp}", ""),
        cluster("says", "{up:says}", ""),
        cluster("refusing", "{up:refusing}", ""),
    ]
    .concat();
    Group {
        name: "upgrades",
        config: bootstrap(&listeners, &clusters),
        upstreams: vec![
            ("up", Kind::Http1(upstream)),
            ("up2", Kind::Http2(upstream2)),
            ("tcp", Kind::TcpEcho),
            ("says", Kind::TcpSays("hello and bye")),
            ("refusing", Kind::Refusing),
        ],
        cases,
        fields: &[],
        stats: &[
            "^http\\.ingress\\.downstream_(cx_upgrades|rq_[1-5]xx|rq_ws|rq_total)",
            "^cluster\\..*\\.upstream_rq_([1-5]xx|total|timeout)$",
        ],
        logs: &["access.log"],
    }
}
