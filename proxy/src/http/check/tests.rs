use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::*;
use crate::http::{ByteStr, Protocol, Scheme};

fn headers(lines: &[(&str, &[u8])]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    map
}

#[test]
fn methods_are_known_tokens() {
    for known in
        ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PURGE", "MSEARCH", "ACL"]
    {
        assert_eq!(method(known.as_bytes(), false).unwrap().as_str(), known);
    }
    let long = "A".repeat(1024);
    for custom in ["get", "FOOBAR", "M-SEARCH", "BREW", "PRI", &long] {
        let refused = method(custom.as_bytes(), false).unwrap_err();
        assert_eq!(refused, Violation::bad_request("http1.codec_error"), "{custom}");
        assert_eq!(method(custom.as_bytes(), true).unwrap().as_str(), custom);
    }
    for bad in [&b""[..], b"G(T", b"G@T", b"GE\x01T", b"GET ", b"G\xe9T", b"\x16\x03\x01"] {
        assert!(method(bad, false).is_err() && method(bad, true).is_err(), "{bad:?}");
    }
    assert!(KNOWN_METHODS.is_sorted());
}

#[test]
fn targets_by_form_and_method() {
    let get = |t: &'static [u8]| target(&Method::GET, t, true);
    assert_eq!(get(b"/a?b=<>\"{}|\\^`"), Ok(Target::Origin(b"/a?b=<>\"{}|\\^`")));
    assert_eq!(get(b"//host/path"), Ok(Target::Origin(b"//host/path")));
    assert_eq!(get(b"/%zz"), Ok(Target::Origin(b"/%zz")));
    let absolute = |https, authority, path| Ok(Target::Absolute { https, authority, path });
    assert_eq!(get(b"http://b.test:81/x?q"), absolute(false, &b"b.test:81"[..], &b"/x?q"[..]));
    assert_eq!(get(b"HTTPS://b.test"), absolute(true, b"b.test", b""));
    assert_eq!(get(b"http://[::1]:80/"), absolute(false, b"[::1]:80", b"/"));
    assert_eq!(get(b"http://b?q"), absolute(false, b"b", b"?q"));
    assert_eq!(target(&Method::OPTIONS, b"*", true), Ok(Target::Asterisk));
    assert_eq!(target(&Method::CONNECT, b"a.test:80", true), Ok(Target::Authority(b"a.test:80")));
    assert_eq!(target(&Method::GET, b"http://x/y", false), Ok(Target::Origin(b"http://x/y")));

    let refused: [(&[u8], &str); 14] = [
        (b"", "http1.codec_error"),
        (b"*", "http1.invalid_url"),
        (b"a.test:80", "http1.codec_error"),
        (b"nopath", "http1.codec_error"),
        (b"/\x01", "http1.codec_error"),
        (b"/\0", "http1.codec_error"),
        (b"/\x7f", "http1.codec_error"),
        (b"/\xc0\xaf", "http1.codec_error"),
        (b"/a b", "http1.codec_error"),
        (b"/a\tb", "http1.codec_error"),
        (b"http://u:p@a.test/", "http1.invalid_url"),
        (b"http://", "http1.invalid_url"),
        (b"http://a:99999/", "http1.invalid_url"),
        (b"ftp://a/", "http1.invalid_scheme"),
    ];
    for (bytes, details) in refused {
        assert_eq!(target(&Method::GET, bytes, true), Err(Violation::bad_request(details)), "{bytes:?}");
    }
    for bytes in [&b"/x"[..], b"a", b"a:", b"a:0", b"a:65536", b"a:8x", b"http://a/", b"u@a:80", b"*"] {
        let verdict = target(&Method::CONNECT, bytes, true);
        assert_eq!(verdict, Err(Violation::bad_request("http1.invalid_url")), "{bytes:?}");
    }
}

#[test]
fn authorities() {
    for good in [
        "a",
        "a.test",
        "A.b",
        "a:80",
        "a:",
        "[::1]",
        "[::1]:80",
        "[fe80::1%25eth0]:80",
        "a_b",
        "a%41",
        "a!b",
        "1.2.3.4:5",
        "-",
    ] {
        assert!(authority(good.as_bytes()), "{good}");
    }
    for bad in [
        &b""[..],
        b":80",
        b"a,b",
        b"u@a",
        b"a/x",
        b"a b",
        b"a:80x",
        b"a:-1",
        b"a:1:2",
        b"\xe9",
        b"a\x01",
        b"a\0",
        b"[::1",
        b"::1]",
        b"[]",
        b"[::1]x",
        b"[:/:]",
        b"a\\b",
        b"a?b",
        b"a#b",
        b"a\"b",
        b"\ta",
    ] {
        assert!(!authority(bad), "{bad:?}");
    }
}

#[test]
fn one_content_length_of_digits() {
    let length = |lines: &[&[u8]]| {
        let lines: Vec<_> = lines.iter().map(|v| ("content-length", *v)).collect();
        content_length(&headers(&lines))
    };
    assert_eq!(length(&[]), Ok(None));
    assert_eq!(length(&[b"0"]), Ok(Some(0)));
    assert_eq!(length(&[b"005"]), Ok(Some(5)));
    assert_eq!(length(&[b"9223372036854775807"]), Ok(Some(i64::MAX as u64)));
    let refused = Err(Violation::bad_request("http1.codec_error"));
    for bad in [
        &b""[..],
        b"+5",
        b"-5",
        b"-0",
        b"0x5",
        b"5.0",
        b"1_0",
        b"abc",
        b"1 0",
        b"5, 5",
        b"5, 6",
        b"5,",
        b"5x",
        b"9223372036854775808",
        b"18446744073709551616",
        b"99999999999999999999",
    ] {
        assert_eq!(length(&[bad]), refused, "{bad:?}");
    }
    assert_eq!(length(&["9".repeat(400).as_bytes()]), refused);
    assert_eq!(length(&[b"5", b"5"]), refused);
    assert_eq!(length(&[b"5", b"6"]), refused);
}

#[test]
fn chunked_once_and_nothing_else() {
    let coding = |lines: &[&[u8]]| {
        let lines: Vec<_> = lines.iter().map(|v| ("transfer-encoding", *v)).collect();
        transfer_encoding(&headers(&lines)).map_err(|violation| {
            assert_eq!(violation.details, "http1.invalid_transfer_encoding");
            violation.status.as_u16()
        })
    };
    assert_eq!(coding(&[]), Ok(false));
    assert_eq!(coding(&[b"chunked"]), Ok(true));
    assert_eq!(coding(&[b"CHUNKED"]), Ok(true));
    for bad in [
        &b"identity"[..],
        b"chunked, chunked",
        b"chunked,",
        b",chunked",
        b"",
        b"identity, chunked",
        b"chunked, identity",
    ] {
        assert_eq!(coding(&[bad]), Err(400), "{bad:?}");
    }
    for bad in [&b"gzip"[..], b"gzip, chunked", b"chunked, gzip", b"xchunked", b"\"chunked\"", b"chunked;q=1"] {
        assert_eq!(coding(&[bad]), Err(501), "{bad:?}");
    }
    assert_eq!(coding(&[b"chunked", b"chunked"]), Err(400));
    assert_eq!(coding(&[b"identity", b"chunked"]), Err(400));
}

#[test]
fn connection_names_what_goes() {
    let mut map = headers(&[
        ("connection", b"X-Secret, te, Keep-Alive,, upgrade, (("),
        ("x-secret", b"1"),
        ("te", b"trailers"),
        ("keep-alive", b"5"),
        ("proxy-connection", b"keep-alive"),
        ("x-other", b"1"),
    ]);
    let said = connection(&mut map, Side::Request).unwrap();
    assert_eq!(said, Connection { close: false, keep_alive: true, upgrade: true });
    let left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
    assert_eq!(left, ["te", "x-other"]);

    assert!(
        connection(&mut headers(&[("connection", b"keep-alive"), ("connection", b"Close")]), Side::Request)
            .unwrap()
            .close
    );
    assert!(connection(&mut headers(&[("proxy-connection", b"close")]), Side::Request).unwrap().close);
    let mut chunked = headers(&[("connection", b"transfer-encoding"), ("transfer-encoding", b"chunked")]);
    connection(&mut chunked, Side::Request).unwrap();
    assert!(chunked.contains_key(TRANSFER_ENCODING), "what frames the message stays");
}

#[test]
fn connection_may_not_name_what_counts() {
    let refused = Err(Violation::bad_request("http1.connection_header_rejected"));
    for name in ["host", "Content-Length", "x-forwarded-for", "x-forwarded-host", "X-Forwarded-Proto"] {
        let value = format!("close, {name}");
        assert_eq!(connection(&mut headers(&[("connection", value.as_bytes())]), Side::Request), refused, "{name}");
    }
    assert!(connection(&mut headers(&[("connection", b"a,b,c,d,e,f,g,h,i")]), Side::Request).is_ok());
    assert_eq!(connection(&mut headers(&[("connection", b"a,b,c,d,e,f,g,h,i,j")]), Side::Request), refused);
    assert_eq!(
        connection(&mut headers(&[("connection", b"a,b,c,d,e"), ("connection", b"f,g,h,i,j")]), Side::Request),
        refused
    );
}

#[test]
fn in_a_response_what_counts_stays() {
    let mut map = headers(&[("connection", b"content-length, x-secret"), ("content-length", b"5"), ("x-secret", b"1")]);
    connection(&mut map, Side::Response).unwrap();
    assert_eq!(map, headers(&[("content-length", b"5")]));
}

#[test]
fn te_is_trailers_or_nothing() {
    let te = |lines: &[&[u8]]| {
        let lines: Vec<_> = lines.iter().map(|v| ("te", *v)).collect();
        let mut map = headers(&lines);
        sanitize_te(&mut map);
        map.get_all(TE).iter().map(|v| v.as_bytes().to_vec()).collect::<Vec<_>>()
    };
    for kept in [&[&b"trailers"[..]][..], &[b"trailers, deflate"], &[b"deflate,trailers"], &[b"trailers", b"gzip"]] {
        assert_eq!(te(kept), [b"trailers".to_vec()], "{kept:?}");
    }
    for gone in [&[&b"gzip"[..]][..], &[b"Trailers"], &[b"trailers;q=1"], &[b""], &[]] {
        assert!(te(gone).is_empty(), "{gone:?}");
    }
}

#[test]
fn underscores_by_action() {
    let fresh = || headers(&[("content_length", b"3"), ("content_length", b"4"), ("x-a", b"1")]);
    let mut map = fresh();
    assert_eq!(underscores(&mut map, UnderscoreAction::Allow), Ok(0));
    assert_eq!(map, fresh());
    assert_eq!(underscores(&mut map, UnderscoreAction::DropHeader), Ok(2));
    assert_eq!(map, headers(&[("x-a", b"1")]));
    let refused = underscores(&mut fresh(), UnderscoreAction::RejectRequest);
    assert_eq!(refused, Err(Violation::bad_request("http1.unexpected_underscore")));
}

#[test]
fn trailers_lose_what_would_reframe_the_message() {
    let mut map = headers(&[
        ("content-length", b"5"),
        ("transfer-encoding", b"chunked"),
        ("host", b"b"),
        ("authorization", b"x"),
        ("grpc-status", b"0"),
    ]);
    trailers(&mut map);
    assert_eq!(map, headers(&[("grpc-status", b"0")]));
}

fn head(method: Method, authority: &str, path: &str) -> RequestHead {
    RequestHead {
        method,
        scheme: Scheme::Http,
        authority: authority.into(),
        path: path.into(),
        upgrade: None,
        headers: HeaderMap::new(),
        protocol: Protocol::Http11,
        case: None,
        wire_size: 0,
    }
}

#[test]
fn what_is_sent_is_canonical() {
    assert_eq!(request(&head(Method::GET, "a", "/x")), Ok(()));
    assert_eq!(request(&head(Method::OPTIONS, "a", "*")), Ok(()));
    assert_eq!(request(&head(Method::CONNECT, "a:80", "")), Ok(()));
    let websocket = RequestHead { upgrade: Some(ByteStr::from("websocket")), ..head(Method::CONNECT, "a", "/chat") };
    assert_eq!(request(&websocket), Ok(()));

    let url = Err(Violation::bad_request("http1.invalid_url"));
    for (method, path) in [
        (Method::GET, "*"),
        (Method::GET, ""),
        (Method::GET, "x"),
        (Method::GET, "/a b"),
        (Method::GET, "/a\r\nb"),
        (Method::GET, "/é"),
        (Method::CONNECT, "/x"),
        (Method::GET, "http://b/x"),
    ] {
        assert_eq!(request(&head(method, "a:80", path)), url, "{path}");
    }
    for authority in ["", "a,b", "u@a", "a\r\nb"] {
        assert_eq!(request(&head(Method::GET, authority, "/")), Err(Violation::bad_request("http.invalid_authority")));
    }
    for (name, value) in [
        ("host", "b"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "x"),
        ("keep-alive", "1"),
        ("proxy-connection", "x"),
    ] {
        let mut head = head(Method::GET, "a", "/");
        head.headers = headers(&[(name, value.as_bytes())]);
        assert!(request(&head).is_err(), "{name}");
    }
    let mut two = head(Method::GET, "a", "/");
    two.headers = headers(&[("content-length", b"1"), ("content-length", b"1")]);
    assert_eq!(request(&two).unwrap_err().status, StatusCode::BAD_REQUEST);
    assert!(two.headers.remove(CONTENT_LENGTH).is_some() && !two.headers.contains_key(CONNECTION));
}
