use tests::config::cluster;

use super::{STATS, http};
use crate::group::EndCheck::{Skip, Wait};
use crate::group::{Group, Kind, Piece, Reply, get, plain, raw, request, send, steps};
use tests::upstream::Seen;

fn upstream(request: &Seen) -> Reply {
    let bytes = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
    match request.target() {
        "/chunked" => bytes(
            "HTTP/1.1 200 OK\r\nx-up: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n5;ext=1\r\ntwo 2\r\n0\r\n\r\n",
        ),
        "/trailers" => bytes(
            "HTTP/1.1 200 OK\r\nx-up: 1\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\nx-trailer: 1\r\n\r\n",
        ),
        "/until-close" => Reply::Last(b"HTTP/1.1 200 OK\r\nx-up: 1\r\n\r\nuntil the end".to_vec()),
        "/close" => {
            Reply::Last(b"HTTP/1.1 200 OK\r\nx-up: 1\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".to_vec())
        }
        "/204" => bytes("HTTP/1.1 204 No Content\r\nx-up: 1\r\n\r\n"),
        "/205" => bytes("HTTP/1.1 205 Reset Content\r\nx-up: 1\r\ncontent-length: 0\r\n\r\n"),
        "/304" => bytes("HTTP/1.1 304 Not Modified\r\nx-up: 1\r\netag: \"x\"\r\n\r\n"),
        "/304-length" => bytes("HTTP/1.1 304 Not Modified\r\nx-up: 1\r\ncontent-length: 10\r\n\r\n"),
        "/empty" => bytes("HTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 0\r\n\r\n"),
        "/no-reason" => bytes("HTTP/1.1 299 \r\nx-up: 1\r\ncontent-length: 2\r\n\r\nok"),
        "/odd-reason" => bytes("HTTP/1.1 200 Fine By Me\r\nX-UP: 1\r\nContent-Length: 2\r\n\r\nok"),
        "/http10" => Reply::Last(b"HTTP/1.0 200 OK\r\nx-up: 1\r\ncontent-length: 2\r\n\r\nok".to_vec()),
        "/silent" => Reply::Silent,
        "/999" => bytes("HTTP/1.1 999 Odd\r\nx-up: 1\r\ncontent-length: 0\r\n\r\n"),
        "/103" => bytes(
            "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 2\r\n\r\nok",
        ),
        "/100-unasked" => {
            bytes("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 2\r\n\r\nok")
        }
        "/hop" => bytes(
            "HTTP/1.1 200 OK\r\nx-up: 1\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nx-hop: 1\r\ncontent-length: 2\r\n\r\nok",
        ),
        "/big" => {
            let mut answer = b"HTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 300000\r\n\r\n".to_vec();
            answer.resize(answer.len() + 300_000, b'B');
            Reply::Bytes(answer)
        }
        "/date" => bytes(
            "HTTP/1.1 200 OK\r\nx-up: 1\r\ndate: Mon, 01 Jan 2024 00:00:00 GMT\r\nserver: mine\r\ncontent-length: 0\r\n\r\n",
        ),
        _ if request.line.starts_with("HEAD") => bytes("HTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 7\r\n\r\n"),
        _ => plain(request),
    }
}

const ROUTES: &str = "
- { match: { path: /direct }, direct_response: { status: 200, body: { inline_string: direct } } }
- { match: { prefix: / }, route: { cluster: up } }
";

pub fn group() -> Group {
    let chunked = "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut cases = vec![
        get("a-get", "/up?a=b", &[]).status(200),
        raw("head", "HEAD /up HTTP/1.1\r\nHost: a\r\n\r\n").status(200),
        raw("head-of-chunked", "HEAD /chunked HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("post-with-length", request("POST", "/up", &["content-type: text/plain"], "hello")).status(200),
        raw("post-of-nothing", "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status(200),
        raw("post-without-framing", "POST /up HTTP/1.1\r\nHost: a\r\n\r\n").status(200),
        raw("get-with-body", request("GET", "/up", &[], "a body")).status(200),
        raw("delete-with-body", request("DELETE", "/up", &[], "a body")).status(200),
        raw("options", request("OPTIONS", "/up", &[], "")).status(200),
        raw("trace", request("TRACE", "/up", &[], "")),
        raw("patch", request("PATCH", "/up", &[], "x")),
        raw("propfind", request("PROPFIND", "/up", &[], "")),
        raw("post-chunked", format!("{chunked}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).status(200),
        raw("post-chunked-with-extension", format!("{chunked}3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n")).status(200),
        raw("post-chunked-with-trailers", format!("{chunked}3\r\nabc\r\n0\r\nx-trailer: 1\r\n\r\n")).status(200),
        raw("post-chunked-of-nothing", format!("{chunked}0\r\n\r\n")).status(200),
        raw(
            "transfer-encoding-in-capitals",
            "POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \tCHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ),
        raw("big-post", request("POST", "/up", &[], &"x".repeat(300_000))).status(200),
        steps("a-head-in-pieces", ["GET /u", "p HTTP/1.1\r\nHo", "st: a\r\n\r", "\n"].map(send).to_vec()).responses(1),
        steps(
            "a-chunk-in-pieces",
            ["POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chu", "nked\r\n\r\n1", "0\r\n0123456789", "abcdef\r", "\n0\r\n\r", "\n"]
                .map(send)
                .to_vec(),
        )
        .responses(1),
        raw("empty-lines-before", "\r\n\r\nGET /up HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("close-asked-for", "GET /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").status(200),
        raw("close-in-a-list", "GET /up HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n"),
        raw("connection-names-a-header", "GET /up HTTP/1.1\r\nHost: a\r\nConnection: x-secret\r\nX-Secret: 1\r\nX-Kept: 1\r\n\r\n"),
        raw("hop-by-hop-headers", "GET /up HTTP/1.1\r\nHost: a\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\r\n"),
        raw("te-other-than-trailers", "GET /up HTTP/1.1\r\nHost: a\r\nTE: gzip, trailers\r\nConnection: te\r\n\r\n"),
        raw(
            "pipelined",
            "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        )
        .responses(3)
        .expect("2.status", "200"),
        raw("pipelined-then-wrong", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET / nonsense\r\n\r\n").responses(2),
        raw("close-then-more", "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"),
        steps("half-closed-after-the-answer", vec![send("GET /direct HTTP/1.1\r\nHost: a\r\n\r\n"), Piece::Response, Piece::Finish])
            .end(Wait),
        steps("finished-without-a-request", vec![Piece::Finish, Piece::ReadToEnd]).end(Skip),
        steps("finished-in-a-head", vec![send("GET /up HT"), Piece::Finish, Piece::ReadToEnd]).end(Skip),
        steps("half-closed-while-the-upstream-thinks", vec![send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n"), Piece::Arrive, Piece::Finish, Piece::ReadToEnd])
            .end(Skip),
        raw("absolute-form", "GET http://b.test:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("absolute-form-without-path", "GET http://b.test HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("absolute-form-https", "GET https://b.test/x HTTP/1.1\r\nHost: a\r\n\r\n"),
        raw("options-asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        steps(
            "expect-continue",
            vec![
                send("POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"),
                Piece::Read(25),
                send("abc"),
                Piece::Response,
            ],
        ),
        raw("expect-continue-and-body-at-once", "POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"),
        raw("expect-continue-of-http10", "POST /up HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc"),
        raw("expect-something-else", "POST /up HTTP/1.1\r\nHost: a\r\nExpect: gold\r\nContent-Length: 3\r\n\r\nabc"),
        raw("http10", "GET /up HTTP/1.0\r\nHost: a\r\n\r\n"),
        raw("upgrade-not-configured", "GET /up HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n"),
        raw("upgrade-h2c", "GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"),
        raw("many-values", "GET /up HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\nX-B:\r\nX-C:  spaces \t \r\nCookie: a=1\r\nCookie: b=2\r\n\r\n"),
        raw("bytes-above-127", b"GET /up HTTP/1.1\r\nHost: a\r\nX-A: \xc3\xa9\xff\r\n\r\n"),
    ];
    for target in [
        "/chunked",
        "/trailers",
        "/until-close",
        "/close",
        "/204",
        "/205",
        "/304",
        "/304-length",
        "/empty",
        "/no-reason",
        "/odd-reason",
        "/http10",
        "/999",
        "/103",
        "/100-unasked",
        "/hop",
        "/big",
        "/date",
    ] {
        cases.push(get(format!("answer-{}", &target[1..]), target, &[]));
    }
    Group {
        name: "http1",
        config: http(ROUTES, "", &cluster("up", "{up:up}", "")),
        upstreams: vec![("up", Kind::Http1(upstream))],
        cases,
        fields: &[],
        stats: STATS,
        logs: &["access.log"],
    }
}
