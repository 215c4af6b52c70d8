use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::http::{BodyError, BodySource, ByteStr, Frame, Scheme};

/// A body of unknown length.
struct Unknown;

impl BodySource for Unknown {
    fn poll_frame(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        std::task::Poll::Pending
    }
}

fn stream() -> Body {
    Body::Stream(Box::new(Unknown))
}

const PLAIN: ResponseOptions = ResponseOptions {
    head_request: false,
    connect: false,
    http_10: false,
    close: false,
    enable_trailers: false,
    format: HeaderKeyFormat::LowerCase,
};

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
}

/// The head as text, without the start line's version and the last line end, and the framing.
fn write_with(
    status: u16,
    lines: &[(&'static str, &'static str)],
    body: &Body,
    options: ResponseOptions,
) -> (String, BodyEncoder, bool) {
    let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
    head.headers = headers(lines);
    let mut out = BytesMut::new();
    let written = response(&mut out, &head, body, &options);
    let text = String::from_utf8(out.to_vec()).unwrap();
    let text = text.strip_suffix("\r\n\r\n").unwrap();
    let (start, fields) = text.split_once("\r\n").unwrap_or((text, ""));
    assert_eq!(written.header_bytes, if fields.is_empty() { 0 } else { fields.len() + 2 });
    assert_eq!(start.starts_with("HTTP/1.0 "), options.http_10);
    (fields.replace("\r\n", "|"), written.body, written.close)
}

fn write(status: u16, lines: &[(&'static str, &'static str)], body: &Body) -> (String, BodyEncoder) {
    let (text, body, close) = write_with(status, lines, body, PLAIN);
    assert!(!close);
    (text, body)
}

#[test]
fn response_framing_is_envoys() {
    let chunked = BodyEncoder::Chunked { trailers: false };
    assert_eq!(write(200, &[("content-length", "5")], &stream()), ("content-length: 5".into(), BodyEncoder::Length(5)));
    assert_eq!(write(200, &[], &stream()), ("transfer-encoding: chunked".into(), chunked));
    assert_eq!(write(200, &[], &Body::Empty), ("content-length: 0".into(), BodyEncoder::Length(0)));
    assert_eq!(write(200, &[], &Body::Full("abc".into())), ("content-length: 3".into(), BodyEncoder::Length(3)));
    assert_eq!(write(204, &[("content-length", "0"), ("x", "1")], &Body::Empty), ("x: 1".into(), BodyEncoder::None));
    assert_eq!(write(204, &[], &stream()), (String::new(), BodyEncoder::None));
    assert_eq!(write(304, &[("content-length", "10")], &Body::Empty), ("content-length: 10".into(), BodyEncoder::None));
    assert_eq!(write(304, &[], &Body::Empty), (String::new(), BodyEncoder::None));
    assert_eq!(write(100, &[("content-length", "1")], &Body::Empty), (String::new(), BodyEncoder::None));
    assert_eq!(write(205, &[("content-length", "0")], &Body::Empty).0, "content-length: 0");

    let head = ResponseOptions { head_request: true, ..PLAIN };
    assert_eq!(write_with(200, &[], &Body::Empty, head).0, "transfer-encoding: chunked");
    assert_eq!(
        write_with(200, &[("content-length", "7")], &Body::Empty, head),
        ("content-length: 7".into(), BodyEncoder::None, false)
    );
    assert_eq!(write_with(200, &[("content-length", "6")], &Body::Full("direct".into()), head).1, BodyEncoder::None);
    assert_eq!(write_with(204, &[], &Body::Empty, head).0, "");
}

#[test]
fn connection_fields() {
    let close = ResponseOptions { close: true, ..PLAIN };
    assert_eq!(
        write_with(200, &[], &Body::Empty, close),
        ("content-length: 0|connection: close".into(), BodyEncoder::Length(0), true)
    );
    let old = ResponseOptions { http_10: true, ..PLAIN };
    assert_eq!(
        write_with(200, &[("content-length", "5")], &stream(), old).0,
        "content-length: 5|connection: keep-alive"
    );
    assert_eq!(write_with(200, &[], &stream(), old), ("connection: close".into(), BodyEncoder::Raw, true));
    let old_head = ResponseOptions { head_request: true, ..old };
    assert_eq!(write_with(200, &[], &Body::Empty, old_head).0, "connection: keep-alive");
    assert_eq!(write_with(100, &[], &Body::Empty, ResponseOptions { close: true, ..old }).0, "");
    let hop = [
        ("connection", "x"),
        ("keep-alive", "1"),
        ("upgrade", "y"),
        ("transfer-encoding", "gzip"),
        ("proxy-connection", "z"),
        ("host", "h"),
    ];
    assert_eq!(write(200, &hop, &Body::Empty).0, "content-length: 0", "left over from a filter");
    assert_eq!(write(200, &[("content-length", "x")], &Body::Empty).0, "content-length: 0");
}

#[test]
fn tunnels() {
    let mut head = ResponseHead::new(StatusCode::SWITCHING_PROTOCOLS);
    head.upgrade = Some("websocket".into());
    head.headers = headers(&[("content-length", "0")]);
    let mut out = BytesMut::new();
    let options = ResponseOptions { close: true, ..PLAIN };
    let written = response(&mut out, &head, &stream(), &options);
    assert_eq!(out, "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n");
    assert_eq!((written.body, written.close), (BodyEncoder::Raw, false));
    let connect = ResponseOptions { connect: true, ..PLAIN };
    assert_eq!(
        write_with(200, &[("content-length", "153")], &stream(), connect),
        (String::new(), BodyEncoder::Raw, false)
    );
    assert_eq!(write_with(403, &[], &Body::Empty, connect).0, "content-length: 0");
}

fn ask(method: Method, lines: &[(&'static str, &'static str)], body: &Body) -> (String, BodyEncoder) {
    let head = RequestHead { headers: headers(lines), ..request_head(method) };
    let mut out = BytesMut::new();
    let (encoder, _) =
        request(&mut out, &head, body, &RequestOptions { enable_trailers: false, format: HeaderKeyFormat::LowerCase });
    let text = String::from_utf8(out.to_vec()).unwrap();
    (text.strip_suffix("\r\n\r\n").unwrap().replace("\r\n", "|"), encoder)
}

fn request_head(method: Method) -> RequestHead {
    RequestHead {
        method,
        scheme: Scheme::Http,
        authority: "a:80".into(),
        path: "/x?y".into(),
        upgrade: None,
        headers: HeaderMap::new(),
        protocol: Protocol::Http11,
        case: None,
        wire_size: 0,
    }
}

#[test]
fn request_framing_is_envoys() {
    for method in [Method::GET, Method::HEAD, Method::DELETE, Method::TRACE] {
        let line = format!("{method} /x?y HTTP/1.1|host: a:80");
        assert_eq!(ask(method, &[], &Body::Empty), (line, BodyEncoder::Length(0)));
    }
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::OPTIONS] {
        let line = format!("{method} /x?y HTTP/1.1|host: a:80|content-length: 0");
        assert_eq!(ask(method, &[], &Body::Empty), (line, BodyEncoder::Length(0)));
    }
    assert_eq!(
        ask(Method::GET, &[("content-length", "0")], &Body::Empty).0,
        "GET /x?y HTTP/1.1|host: a:80|content-length: 0"
    );
    assert_eq!(ask(Method::GET, &[("content-length", "9")], &stream()).1, BodyEncoder::Length(9));
    let chunked = "POST /x?y HTTP/1.1|host: a:80|transfer-encoding: chunked";
    assert_eq!(ask(Method::POST, &[], &stream()), (chunked.into(), BodyEncoder::Chunked { trailers: false }));
    assert_eq!(ask(Method::POST, &[], &Body::Full("ab".into())).1, BodyEncoder::Length(2));
    assert_eq!(
        ask(Method::CONNECT, &[("content-length", "9")], &stream()),
        ("CONNECT a:80 HTTP/1.1|host: a:80".into(), BodyEncoder::Raw)
    );
    for (protocol, connection) in [(Protocol::Http11, "Upgrade"), (Protocol::Http2, "upgrade")] {
        let head = RequestHead { upgrade: Some("websocket".into()), protocol, ..request_head(Method::GET) };
        let mut out = BytesMut::new();
        let options = RequestOptions { enable_trailers: false, format: HeaderKeyFormat::LowerCase };
        assert_eq!(request(&mut out, &head, &stream(), &options).0, BodyEncoder::Raw);
        let expected =
            format!("GET /x?y HTTP/1.1\r\nhost: a:80\r\nconnection: {connection}\r\nupgrade: websocket\r\n\r\n");
        assert_eq!(out, expected);
    }
}

#[test]
fn names_by_format() {
    let mut head = request_head(Method::GET);
    head.headers = headers(&[("x-y_z9a", "1"), ("x-new", "2")]);
    head.case = Some(Box::new(HeaderCase(vec!["HOST".into(), "X-y_Z9A".into()])));
    let text = |format| {
        let mut out = BytesMut::new();
        request(&mut out, &head, &Body::Empty, &RequestOptions { enable_trailers: false, format });
        String::from_utf8(out.to_vec()).unwrap()
    };
    let start = "GET /x?y HTTP/1.1\r\n";
    assert_eq!(text(HeaderKeyFormat::LowerCase), format!("{start}host: a:80\r\nx-y_z9a: 1\r\nx-new: 2\r\n\r\n"));
    assert_eq!(text(HeaderKeyFormat::ProperCase), format!("{start}Host: a:80\r\nX-Y_Z9a: 1\r\nX-New: 2\r\n\r\n"));
    let preserve = HeaderKeyFormat::PreserveCase;
    assert_eq!(text(preserve(OwnHeaders::LowerCase)), format!("{start}HOST: a:80\r\nX-y_Z9A: 1\r\nx-new: 2\r\n\r\n"));
    assert_eq!(text(preserve(OwnHeaders::ProperCase)), format!("{start}HOST: a:80\r\nX-y_Z9A: 1\r\nX-New: 2\r\n\r\n"));
}

#[test]
fn bodies() {
    let encode = |mut encoder: BodyEncoder, pieces: &[&'static str], trailers: Option<&HeaderMap>| {
        let mut out = OutBuf::default();
        for piece in pieces {
            encoder.data(Bytes::from_static(piece.as_bytes()), &mut out)?;
        }
        encoder.end(trailers, HeaderKeyFormat::LowerCase, &mut out)?;
        Ok(String::from_utf8(out.tail().to_vec()).unwrap())
    };
    let off = BodyEncoder::Chunked { trailers: false };
    let on = BodyEncoder::Chunked { trailers: true };
    let trailers = headers(&[("grpc-status", "0"), ("content-length", "5")]);
    assert_eq!(
        encode(off, &["abc", "", "0123456789abcdefg"], Some(&trailers)).unwrap(),
        "3\r\nabc\r\n11\r\n0123456789abcdefg\r\n0\r\n\r\n"
    );
    assert_eq!(encode(on, &["a"], Some(&trailers)).unwrap(), "1\r\na\r\n0\r\ngrpc-status: 0\r\n\r\n");
    assert_eq!(encode(BodyEncoder::Length(3), &["ab", "c"], None).unwrap(), "abc");
    assert_eq!(encode(BodyEncoder::Length(3), &["ab", "cd"], None), Err(WrongLength));
    assert_eq!(encode(BodyEncoder::Length(3), &["ab"], None), Err(WrongLength));
    assert_eq!(encode(BodyEncoder::None, &["ab"], None).unwrap(), "");
    assert_eq!(encode(BodyEncoder::Raw, &["ab", "c"], Some(&trailers)).unwrap(), "abc");
}

#[test]
fn reasons_are_envoys() {
    let known: Vec<u16> = (200..600).filter(|s| reason(StatusCode::from_u16(*s).unwrap()) != "Unknown").collect();
    let expected: Vec<u16> = [
        &[200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 307, 308][..],
        &[
            400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423,
            424, 425, 426,
        ],
        &[428, 429, 431, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511, 599],
    ]
    .concat();
    assert_eq!(known, expected);
    let phrases: Vec<&str> = expected.iter().map(|s| reason(StatusCode::from_u16(*s).unwrap())).collect();
    let envoys = "OK|Created|Accepted|Non-Authoritative Information|No Content|Reset Content|Partial Content|Multi-Status|\
        Already Reported|IM Used|Multiple Choices|Moved Permanently|Found|See Other|Not Modified|Use Proxy|Temporary Redirect|\
        Permanent Redirect|Bad Request|Unauthorized|Payment Required|Forbidden|Not Found|Method Not Allowed|Not Acceptable|\
        Proxy Authentication Required|Request Timeout|Conflict|Gone|Length Required|Precondition Failed|Payload Too Large|\
        URI Too Long|Unsupported Media Type|Range Not Satisfiable|Expectation Failed|Misdirected Request|\
        Unprocessable Entity|Locked|Failed Dependency|Too Early|Upgrade Required|Precondition Required|Too Many Requests|\
        Request Header Fields Too Large|Internal Server Error|Not Implemented|Bad Gateway|Service Unavailable|\
        Gateway Timeout|HTTP Version Not Supported|Variant Also Negotiates|Insufficient Storage|Loop Detected|Not Extended|\
        Network Authentication Required|Last Unassigned Server Error Code";
    assert_eq!(phrases.join("|"), envoys);
    assert_eq!(reason(StatusCode::from_u16(999).unwrap()), "Unknown");
    assert_eq!(reason(StatusCode::SWITCHING_PROTOCOLS), "Switching Protocols");
}

fn header_lists() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let value = proptest::collection::vec(prop_oneof![0x21..=0x7eu8, 0x80..=0xffu8], 0..20);
    proptest::collection::vec(("x-[a-z0-9_-]{1,12}", value), 0..12)
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(list in header_lists(), path in "/[!-~]{0,30}", length in proptest::option::of(0..1000u64)) {
        use crate::http::check::Framing;
        use crate::http::http1::ServerSettings;
        use crate::http::http1::head::{Parse, Scan, parse_request};
        let mut head = RequestHead { path: ByteStr::from(path), ..request_head(Method::POST) };
        for (name, value) in &list {
            head.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        if let Some(length) = length {
            head.headers.insert(CONTENT_LENGTH, length.into());
        }
        let mut out = BytesMut::new();
        let options = RequestOptions { enable_trailers: false, format: HeaderKeyFormat::ProperCase };
        request(&mut out, &head, &stream(), &options);
        let parsed = parse_request(&mut out, &mut Scan::request(), &mut 0, &ServerSettings::default(), false);
        let Parse::Done(parsed) = parsed else { panic!("{parsed:?}") };
        prop_assert_eq!(parsed.head.headers, head.headers);
        prop_assert_eq!((parsed.head.path, parsed.head.authority), (head.path, head.authority));
        let framing = match length { None => Framing::Chunked, Some(0) => Framing::None, Some(n) => Framing::Length(n) };
        prop_assert_eq!(parsed.framing, framing);
        prop_assert!(out.is_empty());
    }
}
