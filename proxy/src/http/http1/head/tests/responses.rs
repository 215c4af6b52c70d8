use bytes::BytesMut;

use super::*;
use crate::http::http1::ClientSettings;

fn response_cut(input: &[u8], cuts: &[usize], asked: &Asked) -> Parse<ParsedResponse> {
    let settings = ClientSettings::default();
    let mut scan = Scan::response();
    let mut buf = BytesMut::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([input.len()]) {
        buf.extend_from_slice(&input[from..to]);
        from = to;
        match parse_response(&mut buf, &mut scan, asked, &settings) {
            Parse::Partial => {}
            verdict => return verdict,
        }
    }
    Parse::Partial
}

fn response_to(asked: &Asked, input: &[u8]) -> Option<ParsedResponse> {
    let name = |parse: &Parse<ParsedResponse>| match parse {
        Parse::Partial => "partial".to_owned(),
        Parse::Refused(_) => "refused".to_owned(),
        Parse::Done(parsed) => format!("{parsed:?}"),
    };
    let whole = response_cut(input, &[], asked);
    let bytewise: Vec<usize> = (1..input.len()).collect();
    assert_eq!(name(&whole), name(&response_cut(input, &bytewise, asked)), "{}", input.escape_ascii());
    match whole {
        Parse::Done(parsed) => Some(parsed),
        Parse::Refused(_) => None,
        Parse::Partial => panic!("partial: {}", input.escape_ascii()),
    }
}

pub fn response(input: &[u8]) -> Option<ParsedResponse> {
    response_to(&Asked::default(), input)
}

#[test]
fn status_lines() {
    for (start, status) in [
        (&b"HTTP/1.1 200 OK"[..], 200),
        (b"HTTP/1.1 200", 200),
        (b"HTTP/1.1 200 ", 200),
        (b"HTTP/1.1  200 OK", 200),
        (b"HTTP/1.0 404 Not Found", 404),
        (b"HTTP/1.2 200 OK", 200),
        (b"HTTP/1.1 999 Odd", 999),
        (b"HTTP/1.1 200 Fine\tBy \xe9 Me", 200),
    ] {
        let parsed = response(&[start, b"\r\n\r\n"].concat()).unwrap();
        assert_eq!(parsed.head.status.as_u16(), status, "{}", start.escape_ascii());
    }
    for start in [
        &b"this is not http"[..],
        b"HTTP/1.1 abc OK",
        b"HTTP/1.1 99 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 1000 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/2 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.1200 OK",
        b"HTTP/1.1 200OK",
        b"HTTP/1.1",
        b"",
        b"HTTP/1.1 200 O\x07K",
        b"ICY 200 OK",
        b"HTTP/1.1\t200 OK",
        b"HTTP/0.9 200 OK",
    ] {
        assert!(response(&[start, b"\r\n\r\n"].concat()).is_none(), "{}", start.escape_ascii());
    }
}

#[test]
fn response_fields() {
    let with = |fields: &[u8]| response(&[b"HTTP/1.1 200 OK\r\n", fields, b"\r\n"].concat());
    for bad in [
        &b"x y: 1\r\n"[..],
        b"x : 1\r\n",
        b"nocolon\r\n",
        b": 1\r\n",
        b"x: a\0b\r\n",
        b"x: a\rb\r\n",
        b"x: a\x07\r\n",
        b" folded\r\n",
        b"content-length: 5, 5\r\n",
        b"content-length: 5\r\ncontent-length: 5\r\n",
        b"content-length: -2\r\n",
        b"content-length: 18446744073709551616\r\n",
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: gzip\r\n",
        b"transfer-encoding: chunked, chunked\r\n",
        b"transfer-encoding: identity\r\n",
    ] {
        assert!(with(bad).is_none(), "{}", bad.escape_ascii());
    }
    let many: Vec<u8> = (0..101).flat_map(|i| format!("x-{i}: 1\r\n").into_bytes()).collect();
    assert!(with(&many).is_none());
    assert!(with(&[b"x: ", &b"v".repeat(100_000)[..], b"\r\n"].concat()).is_none());
    assert!(with(&[b"x: ", &b"v".repeat(70_000)[..], b"\r\n"].concat()).is_some(), "80 KiB, unlike requests");

    let folded = with(b"x: 1\r\n  2\r\n\t3\r\ny: 4\r\n").unwrap();
    assert_eq!(
        (&folded.head.headers["x"], &folded.head.headers["y"]),
        (&HeaderValue::from_static("1 2 3"), &HeaderValue::from_static("4"))
    );
    assert_eq!(response(b"HTTP/1.1 200 OK\ncontent-length: 2\n\n").unwrap().framing, Framing::Length(2));

    let hop = with(b"Connection: X-Secret, close\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nTrailer: foo\r\nContent-Length: 1\r\n").unwrap();
    let left: Vec<_> = hop.head.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!((left, hop.keep_alive), (vec!["trailer", "content-length"], false));
    assert!(!response(b"HTTP/1.0 200 OK\r\n\r\n").unwrap().keep_alive);
    assert!(response(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\n").unwrap().keep_alive);
}

#[test]
fn response_framing() {
    let framing = |asked: &Asked, input: &[u8]| response_to(asked, input).map(|r| (r.framing, r.keep_alive, r.tunnel));
    let get = Asked::default();
    let head = Asked { head_request: true, ..Asked::default() };
    let none = Some((Framing::None, true, false));
    assert_eq!(framing(&get, b"HTTP/1.1 200 OK\r\n\r\n"), Some((Framing::UntilClose, true, false)));
    assert_eq!(framing(&get, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), none);
    assert_eq!(
        framing(&get, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        Some((Framing::Chunked, true, false))
    );
    assert_eq!(framing(&head, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"), none);
    assert_eq!(framing(&head, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), none);
    assert_eq!(framing(&get, b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n"), none);
    assert_eq!(framing(&get, b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n"), none);
    let kept = response(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n").unwrap();
    assert_eq!(kept.head.headers["content-length"], "10");

    assert_eq!(framing(&get, b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"), none);
    assert_eq!(framing(&get, b"HTTP/1.1 204 No Content\r\ncontent-length: 8\r\n\r\n"), None);
    assert_eq!(framing(&get, b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n"), None);

    assert_eq!(framing(&get, b"HTTP/1.1 100 Continue\r\n\r\n"), none);
    assert_eq!(framing(&get, b"HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\n"), None);
    assert_eq!(framing(&get, b"HTTP/1.1 103 Early Hints\r\ntransfer-encoding: chunked\r\n\r\n"), None);
}

#[test]
fn tunnels_only_when_asked_for() {
    let asked = Asked { upgrade: Some("websocket".into()), ..Asked::default() };
    let yes = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
    let parsed = response_to(&asked, yes).unwrap();
    assert!(parsed.tunnel && parsed.head.headers.is_empty());
    assert_eq!((parsed.framing, parsed.head.upgrade.unwrap().as_str()), (Framing::UntilClose, "WebSocket"));
    let other = b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n";
    assert!(response_to(&asked, other).unwrap().tunnel, "whether it is the right one is for the client to judge");
    assert!(response(yes).is_none(), "not asked for");
    for bad in [
        &b"HTTP/1.1 101 S\r\n\r\n"[..],
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        assert!(response_to(&asked, bad).is_none(), "{}", bad.escape_ascii());
    }
    let connect = Asked { connect: true, ..Asked::default() };
    let parsed = response_to(&connect, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap();
    assert!(parsed.tunnel && parsed.head.headers.is_empty());
    assert!(!response_to(&connect, b"HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n").unwrap().tunnel);
}
