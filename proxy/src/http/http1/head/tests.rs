use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::http::check::{Framing, UnderscoreAction};
use crate::http::http1::{HeadLimits, HeaderKeyFormat, OwnHeaders, ServerSettings};
use crate::http::{Protocol, Scheme};

mod responses;

use responses::response;

/// Gives the parser `input` in pieces that end at `cuts`, as a connection would.
fn parse_cut(input: &[u8], cuts: &[usize], settings: &ServerSettings) -> (Parse<ParsedRequest>, BytesMut) {
    let (mut scan, mut blank) = (Scan::request(), 0);
    let mut buf = BytesMut::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([input.len()]) {
        buf.extend_from_slice(&input[from..to]);
        from = to;
        match parse_request(&mut buf, &mut scan, &mut blank, settings, false) {
            Parse::Partial => {}
            verdict => {
                buf.extend_from_slice(&input[from..]);
                return (verdict, buf);
            }
        }
    }
    (Parse::Partial, buf)
}

/// The verdict, after checking that it does not depend on how the input is cut: `200`, a status, or 0 for more bytes wanted.
fn verdict_with(input: &[u8], settings: &ServerSettings) -> (u16, &'static str) {
    let summary = |(parse, rest): (Parse<ParsedRequest>, BytesMut)| match parse {
        Parse::Partial => (0, "", String::new()),
        Parse::Refused(violation) => (violation.status.as_u16(), violation.details, String::new()),
        Parse::Done(parsed) => (200, "", format!("{parsed:?} {rest:?}")),
    };
    let whole = summary(parse_cut(input, &[], settings));
    let bytewise: Vec<usize> = (1..input.len()).collect();
    assert_eq!(
        whole,
        summary(parse_cut(input, &bytewise, settings)),
        "byte by byte: {:?}",
        input.escape_ascii().to_string()
    );
    if input.len() < 300 {
        for cut in 1..input.len() {
            assert_eq!(whole, summary(parse_cut(input, &[cut], settings)), "cut at {cut}: {}", input.escape_ascii());
        }
    }
    (whole.0, whole.1)
}

fn verdict(input: &[u8]) -> (u16, &'static str) {
    verdict_with(input, &ServerSettings::default())
}

fn parsed_with(input: &[u8], settings: &ServerSettings) -> ParsedRequest {
    match parse_cut(input, &[], settings).0 {
        Parse::Done(parsed) => parsed,
        other => panic!("{:?} of {}", other, input.escape_ascii()),
    }
}

fn parsed(input: &[u8]) -> ParsedRequest {
    parsed_with(input, &ServerSettings::default())
}

fn line(start: &[u8]) -> Vec<u8> {
    [start, b"\r\nHost: a\r\n\r\n"].concat()
}

fn field(fields: &[u8]) -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n"].concat()
}

fn post(fields: &[u8]) -> Vec<u8> {
    [b"POST / HTTP/1.1\r\nHost: a\r\n", fields, b"\r\n"].concat()
}

const CODEC: (u16, &str) = (400, "http1.codec_error");
const OK: (u16, &str) = (200, "");

#[test]
fn a_plain_request() {
    let request = parsed(b"GET /x?y HTTP/1.1\r\nHOST: a.test:80\r\nX-A:  1\t \r\nx-empty:\r\nX-a: \xff\xfe\r\n\r\n");
    assert_eq!((request.head.method.as_str(), request.head.path.as_str()), ("GET", "/x?y"));
    assert_eq!(request.head.authority, "a.test:80");
    assert_eq!((request.head.scheme, request.head.protocol), (Scheme::Http, Protocol::Http11));
    assert_eq!((request.framing, request.keep_alive), (Framing::None, true));
    let values: Vec<_> = request.head.headers.get_all("x-a").iter().map(|v| v.as_bytes()).collect();
    assert_eq!(values, [&b"1"[..], b"\xff\xfe"]);
    assert_eq!(request.head.headers["x-empty"], "");
    assert!(!request.head.headers.contains_key("host"));
    assert!(request.head.case.is_none() && request.head.upgrade.is_none());
}

#[test]
fn header_bytes_are_counted_as_envoy_counts_them() {
    // Figures taken from Envoy's %DOWNSTREAM_HEADER_BYTES_RECEIVED%.
    assert_eq!(parsed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").head.wire_size, 8);
    assert_eq!(parsed(b"GET / HTTP/1.1\r\nHost: a\r\nte: gzip\r\n\r\n").head.wire_size, 17);
    assert_eq!(parsed(b"GET / HTTP/1.1\r\n\r\n").head.wire_size, 3);
}

#[test]
fn request_lines() {
    let version = (505, "http1.unsupported_version");
    for (start, expected) in [
        (&b"GET / HTTP/1.1"[..], OK),
        (b"GET /", CODEC),
        (b"GET", CODEC),
        (b"GET / http/1.1", CODEC),
        (b"GET / HTTP/1.", CODEC),
        (b"GET / HTTP/01.1", CODEC),
        (b"GET / HTTP/1.01", CODEC),
        (b"GET / HTTP/1.11", CODEC),
        (b"GET / HTTP/2.0", version),
        (b"GET / HTTP/1.2", version),
        (b"GET / HTTP/0.9", version),
        (b"GET / HTTP/1.0", (426, "low_version")),
        (b"GET  / HTTP/1.1", CODEC),
        (b"GET /  HTTP/1.1", CODEC),
        (b"GET\t/\tHTTP/1.1", CODEC),
        (b"GET /\tHTTP/1.1", CODEC),
        (b"GET /a b HTTP/1.1", CODEC),
        (b"GET / HTTP/1.1 ", CODEC),
        (b" GET / HTTP/1.1", CODEC),
        (b"GET /\0 HTTP/1.1", CODEC),
        (b"GET /\x07 HTTP/1.1", CODEC),
        (b"GET /\xff\xfe HTTP/1.1", CODEC),
        (b"GET /\xc0\xaf HTTP/1.1", CODEC),
        (b"GET /a#frag HTTP/1.1", OK),
        (b"GET /a\\..\\b HTTP/1.1", OK),
        (b"GET /%zz HTTP/1.1", OK),
        (b"GET * HTTP/1.1", (400, "http1.invalid_url")),
        (b"OPTIONS * HTTP/1.1", OK),
        (b"GET http://u:p@a.test/ HTTP/1.1", (400, "http1.invalid_url")),
        (b"GET a.test:80 HTTP/1.1", CODEC),
        (b"CONNECT /x HTTP/1.1", (400, "http1.invalid_url")),
        (b"CONNECT a.test:80 HTTP/1.1", OK),
        (b"G\x01T / HTTP/1.1", CODEC),
        (b"G(T / HTTP/1.1", CODEC),
        (b"get / HTTP/1.1", CODEC),
        (b"FOOBAR / HTTP/1.1", CODEC),
        (b"PRI * HTTP/2.0", CODEC),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", CODEC),
        (b"SSH-2.0-OpenSSH_9", CODEC),
    ] {
        assert_eq!(verdict(&line(start)), expected, "{}", start.escape_ascii());
    }
    assert_eq!(verdict(&line(&[&b"A".repeat(1024)[..], b" / HTTP/1.1"].concat())), CODEC);
}

#[test]
fn line_endings() {
    assert_eq!(verdict(b"GET / HTTP/1.1\rHost: a\r\r"), CODEC, "CR alone");
    assert_eq!(verdict(b"GET / HTTP/1.1\nHost: a\n\n"), CODEC, "LF alone");
    assert_eq!(verdict(b"GET / HTTP/1.1\r\nHost: a\n\r\n"), CODEC);
    assert_eq!(verdict(b"GET / HTTP/1.1\r\nHost: a\r\n\n"), CODEC);
    assert_eq!(verdict(b"GET / HTTP/1.1\r\nHost: a\r\n\r"), (0, ""));
    assert_eq!(verdict(b"\x16"), CODEC, "judged before the line is complete");
    for blank in 1..=4 {
        assert_eq!(verdict(&[&b"\r\n".repeat(blank)[..], &line(b"GET / HTTP/1.1")].concat()), OK);
    }
    assert_eq!(verdict(&[&b"\r\n".repeat(5)[..], &line(b"GET / HTTP/1.1")].concat()), CODEC);
    assert_eq!(verdict(b"\n"), CODEC);
    assert_eq!(verdict(b"\r\n"), (0, ""));
    assert_eq!(verdict(b"\r\nHost: a\r\n\r\n"), CODEC);
}

#[test]
fn hosts() {
    let host = |lines: &[u8]| verdict(&[b"GET / HTTP/1.1\r\n", lines, b"\r\n"].concat());
    let bad = (400, "http.invalid_authority");
    assert_eq!(host(b"Host: a\r\n"), OK);
    assert_eq!(host(b"Host: a\r\nHost: b\r\n"), bad);
    assert_eq!(host(b"Host: a\r\nhost: a\r\n"), bad);
    for value in [&b""[..], b"a,b", b"u@a", b"a/x", b"a b", b"a:80x", b"\xe9"] {
        assert_eq!(host(&[b"Host: ", value, b"\r\n"].concat()), bad, "{}", value.escape_ascii());
    }
    assert_eq!(host(b"Host: a\x01\r\n"), (400, "http1.invalid_characters"));
    let missing = parsed(b"GET / HTTP/1.1\r\n\r\n");
    assert!(missing.head.authority.is_empty());
    assert_eq!(parsed(b"CONNECT a:80 HTTP/1.1\r\n\r\n").head.authority, "a:80");

    let absolute = parsed(b"GET https://b.test/x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!((absolute.head.authority.as_str(), absolute.head.path.as_str()), ("b.test", "/x"));
    assert_eq!(absolute.head.scheme, Scheme::Https);
    assert_eq!(parsed(b"GET http://b.test HTTP/1.1\r\nHost: a\r\n\r\n").head.path, "/");
    assert_eq!(parsed(b"GET http://b.test?q HTTP/1.1\r\nHost: a\r\n\r\n").head.path, "/?q");
    let whole = ServerSettings { allow_absolute_url: false, ..ServerSettings::default() };
    assert_eq!(parsed_with(b"GET http://b.test HTTP/1.1\r\nHost: a\r\n\r\n", &whole).head.path, "http://b.test");
}

#[test]
fn field_syntax() {
    let characters = (400, "http1.invalid_characters");
    for (fields, expected) in [
        (&b"X-A : b\r\n"[..], CODEC),
        (b"X-A\t: b\r\n", CODEC),
        (b"X-A: b\r\n c\r\n", CODEC),
        (b"nocolon\r\n", CODEC),
        (b": b\r\n", CODEC),
        (b"x[: b\r\n", CODEC),
        (b"x\xe9: b\r\n", CODEC),
        (b"x\0: b\r\n", CODEC),
        (b"x\r: b\r\n", CODEC),
        (b"x: a\0b\r\n", characters),
        (b"x: a\rb\r\n", CODEC),
        (b"x: a\nb\r\n", CODEC),
        (b"x: a\x07b\r\n", characters),
        (b"x: a\x7fb\r\n", characters),
        (b"x: a\tb\xff\xfe\r\n", OK),
        (b"Content_Length: 3\r\n", OK),
    ] {
        assert_eq!(verdict(&field(fields)), expected, "{}", fields.escape_ascii());
    }
    assert_eq!(verdict(b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"), CODEC);
}

#[test]
fn the_first_offence_decides() {
    assert_eq!(verdict(b"FOO / HTTP/1.1\r\nx: \0\r\n\r\n"), CODEC);
    assert_eq!(verdict(b"GET / HTTP/2.0\r\nx y: 1\r\n\r\n"), (505, "http1.unsupported_version"));
    assert_eq!(verdict(b"GET / HTTP/1.1\r\nx: \0\r\ny z: 1\r\n\r\n").1, "http1.invalid_characters");
    let many = b"y: 1\r\n".repeat(200);
    assert_eq!(
        verdict(&field(&[b"x y: 1\r\n", &many[..]].concat())),
        CODEC,
        "the name comes before the count is exceeded"
    );
    assert_eq!(verdict(&field(&[&many[..], b"x y: 1\r\n"].concat())).0, 431);
}

#[test]
fn limits() {
    let many = |n: usize| field(&(0..n).flat_map(|i| format!("x-{i}: 1\r\n").into_bytes()).collect::<Vec<_>>());
    assert_eq!(verdict(&many(99)), OK);
    assert_eq!(verdict(&many(100)), (431, "http1.too_many_headers"));
    let large = (431, "http1.headers_too_large");
    let limit = 60 * 1024;
    let sized = |total: usize| {
        let fixed = field(b"x: \r\n").len();
        field(&[b"x: ", &b"v".repeat(total - fixed)[..], b"\r\n"].concat())
    };
    assert_eq!(sized(limit).len(), limit);
    assert_eq!(verdict(&sized(limit)), OK);
    assert_eq!(verdict(&sized(limit + 1)), large);
    assert_eq!(verdict(&line(&[b"GET /", &b"p".repeat(100_000)[..], b" HTTP/1.1"].concat())), large);
    let small = ServerSettings { limits: HeadLimits { max_bytes: 100, max_headers: 2 }, ..ServerSettings::default() };
    assert_eq!(verdict_with(&field(b"a: 1\r\nb: 1\r\n"), &small).0, 431);
    assert_eq!(verdict_with(&field(&[b"a: ", &b"v".repeat(100)[..], b"\r\n"].concat()), &small), large);
}

#[test]
fn connection_fields() {
    let rejected = (400, "http1.connection_header_rejected");
    assert_eq!(verdict(&field(b"Connection: close, Host\r\n")), rejected);
    assert_eq!(verdict(&post(b"Connection: Content-Length\r\nContent-Length: 0\r\n")), rejected);
    let stripped = parsed(&field(
        b"Connection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTE: trailers, gzip\r\n",
    ));
    assert_eq!(stripped.head.headers.len(), 1);
    assert_eq!(stripped.head.headers["te"], "trailers");
    assert!(!parsed(&field(b"Connection: close\r\n")).keep_alive);
    assert!(!parsed(&field(b"Proxy-Connection: close\r\n")).keep_alive);
}

#[test]
fn content_lengths() {
    for value in ["+5", "-5", "-0", "0x5", "5.0", "1_0", "abc", "", "1 0", "99999999999999999999", "5, 5", "5, 6", "5,"]
    {
        assert_eq!(verdict(&post(format!("Content-Length: {value}\r\n").as_bytes())), CODEC, "{value}");
    }
    assert_eq!(verdict(&post(b"Content-Length: 5\r\nContent-Length: 5\r\n")), CODEC);
    assert_eq!(verdict(&post(b"Content-Length: 5\r\nContent-Length: 6\r\n")), CODEC);
    let zeros = parsed(&post(b"Content-Length: 005\r\n"));
    assert_eq!(
        (zeros.framing, &zeros.head.headers["content-length"]),
        (Framing::Length(5), &HeaderValue::from_static("5"))
    );
    assert_eq!(parsed(&post(b"Content-Length: 000\r\n")).head.headers["content-length"], "0");
    assert_eq!(parsed(&field(b"Content-Length: 5\r\n")).framing, Framing::Length(5));
    assert_eq!(parsed(&field(b"Content-Length: 0\r\n")).framing, Framing::None);
    assert_eq!(
        verdict(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"),
        (400, "http1.body_disallowed")
    );
}

#[test]
fn transfer_encodings() {
    let coding = |status| (status, "http1.invalid_transfer_encoding");
    for (fields, expected) in [
        (&b"Transfer-Encoding: identity\r\n"[..], coding(400)),
        (b"Transfer-Encoding: gzip\r\n", coding(501)),
        (b"Transfer-Encoding: chunked, gzip\r\n", coding(501)),
        (b"Transfer-Encoding: gzip, chunked\r\n", coding(501)),
        (b"Transfer-Encoding: chunked, chunked\r\n", coding(400)),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", coding(400)),
        (b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", coding(400)),
        (b"Transfer-Encoding: xchunked\r\n", coding(501)),
        (b"Transfer-Encoding:\x0bchunked\r\n", (400, "http1.invalid_characters")),
        (b"Transfer-Encoding: chunked,\r\n", coding(400)),
        (b"Transfer-Encoding : chunked\r\n", CODEC),
        (b"Transfer-Encoding:\r\n chunked\r\n", CODEC),
        (b"Transfer-Encoding:\tCHUNKED\r\n", OK),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", (400, "http1.content_length_and_chunked_not_allowed")),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", (400, "http1.content_length_and_chunked_not_allowed")),
    ] {
        assert_eq!(verdict(&post(fields)), expected, "{}", fields.escape_ascii());
    }
    let lenient = ServerSettings { allow_chunked_length: true, ..ServerSettings::default() };
    let both = parsed_with(&post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), &lenient);
    assert_eq!((both.framing, both.head.headers.len()), (Framing::Chunked, 0));
    assert_eq!(verdict(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), coding(501));
    assert_eq!(verdict(b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), coding(400));
}

#[test]
fn http_10() {
    let accept = ServerSettings { accept_http_10: true, ..ServerSettings::default() };
    let with_default = ServerSettings { default_host_for_http_10: "ten.example".into(), ..accept.clone() };
    let plain = b"GET / HTTP/1.0\r\n\r\n";
    assert_eq!(verdict(plain), (426, "low_version"));
    assert!(parsed_with(plain, &accept).head.authority.is_empty());
    let request = parsed_with(plain, &with_default);
    assert_eq!((request.head.authority.as_str(), request.keep_alive), ("ten.example", false));
    assert_eq!(parsed_with(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", &with_default).head.authority, "a");
    assert!(parsed_with(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", &accept).keep_alive);
    let chunked = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(verdict_with(chunked, &accept), (400, "http1.invalid_transfer_encoding"));
    let upgrade = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(parsed_with(upgrade, &accept).head.upgrade.is_none());
}

#[test]
fn upgrades() {
    let upgrade = |fields: &[u8]| parsed(&field(fields)).head;
    let head = upgrade(b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n");
    assert_eq!(head.upgrade.unwrap(), "WebSocket");
    assert_eq!(head.headers.len(), 1);
    assert!(upgrade(b"Upgrade: websocket\r\n").upgrade.is_none(), "not named by Connection");
    assert!(upgrade(b"Connection: upgrade\r\n").upgrade.is_none());
    assert_eq!(upgrade(b"Connection: upgrade\r\nUpgrade: Foo/9\r\n").upgrade.unwrap(), "Foo/9");
    assert_eq!(upgrade(b"Connection: upgrade\r\nUpgrade:\r\n").upgrade.unwrap(), "");
    assert_eq!(upgrade(b"Connection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n").upgrade.unwrap(), "a,b");
    let h2c = upgrade(b"Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n");
    assert!(h2c.upgrade.is_none() && h2c.headers.is_empty());
    let websocket = b"Connection: upgrade\r\nUpgrade: websocket\r\n";
    assert!(parsed(&post(websocket)).head.upgrade.is_some(), "the upstream may judge the method");
    assert!(parsed(&field(&[&websocket[..], b"Content-Length: 3\r\n"].concat())).head.upgrade.is_none());
    assert!(parsed(&field(&[&websocket[..], b"Transfer-Encoding: chunked\r\n"].concat())).head.upgrade.is_none());
}

#[test]
fn underscores_and_spelling() {
    let settings = |action| ServerSettings { headers_with_underscores_action: action, ..ServerSettings::default() };
    let request = field(b"Content_Length: 3\r\n");
    assert_eq!(parsed(&request).framing, Framing::None);
    assert!(parsed_with(&request, &settings(UnderscoreAction::DropHeader)).head.headers.is_empty());
    let refused = verdict_with(&request, &settings(UnderscoreAction::RejectRequest));
    assert_eq!(refused, (400, "http1.unexpected_underscore"));

    let preserve = HeaderKeyFormat::PreserveCase(OwnHeaders::LowerCase);
    let preserve = ServerSettings { header_key_format: preserve, ..ServerSettings::default() };
    let head = parsed_with(b"GET / HTTP/1.1\r\nHOST: a\r\nX-yY: 1\r\nx-Yy: 2\r\n\r\n", &preserve).head;
    assert_eq!(head.case.unwrap().0, ["HOST", "X-yY"]);
}

#[test]
fn what_follows_the_head_stays() {
    let (parse, rest) = parse_cut(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2", &[], &ServerSettings::default());
    assert!(matches!(parse, Parse::Done(_)));
    assert_eq!(rest, "GET /2");
}

/// Bytes that are often nearly HTTP.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"GET ",
        b"POST ",
        b"/",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b"HTTP/1.1 200 OK",
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b"Host: a",
        b"host:b",
        b"Content-Length: 5",
        b"content-length: 05",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding: gzip",
        b"Connection: close",
        b"connection: upgrade",
        b"upgrade: websocket",
        b"x_y: 1",
        b"x: \xff",
        b": ",
        b" ",
        b"\t",
        b"\0",
        b"http://a/b",
        b"*",
        b"x",
        b"CONNECT a:1",
        b"te: trailers",
        b"\x7f",
        b"OPTIONS ",
    ];
    let piece = prop_oneof![8 => proptest::sample::select(pieces).prop_map(<[u8]>::to_vec), 1 => proptest::collection::vec(any::<u8>(), 0..6)];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn every_cut_gives_the_same_verdict(input in fragments(), prefix in any::<bool>()) {
        let input = if prefix { [b"GET / HTTP/1.1\r\nHost: a\r\n", &input[..]].concat() } else { input };
        let settings = ServerSettings {
            accept_http_10: true,
            limits: HeadLimits { max_bytes: 120, max_headers: 6 },
            header_key_format: HeaderKeyFormat::PreserveCase(OwnHeaders::LowerCase),
            ..ServerSettings::default()
        };
        verdict_with(&input, &settings);
        verdict(&input);
    }

    #[test]
    fn a_head_that_passed_is_canonical(input in fragments()) {
        let input = [b"GET / HTTP/1.1\r\nHost: a\r\n", &input[..], b"\r\n\r\n"].concat();
        if let Parse::Done(parsed) = parse_cut(&input, &[], &ServerSettings::default()).0 {
            prop_assert_eq!(crate::http::check::request(&parsed.head), Ok(()));
        }
    }

    #[test]
    fn responses_are_the_same_for_every_cut(input in fragments()) {
        let input = [b"HTTP/1.1 200 OK\r\n", &input[..], b"\r\n\r\n"].concat();
        response(&input);
    }
}
