use proptest::prelude::*;

use super::Detected::{self, *};
use super::{HTTP2_PREFACE, MAX_INSPECT_SIZE, build, detect};
use crate::config::{BuildCx, Path};
use crate::listener::filters::Inspection;
use crate::server::ServerOptions;

/// Each verdict was observed with Envoy 1.40.
#[test]
fn verdicts_are_envoys() {
    let cases: &[(&[u8], Detected)] = &[
        (b"GET / HTTP/1.1\r\n", Http11),
        (b"GET / HTTP/1.1\n", Http11),
        (b"GET / HTTP/1.1", Need),
        (b"G", Need),
        (b"hello", Need),
        (b"hello\n", NotHttp),
        (b"hello world\n", NotHttp),
        (b"hello world x\n", NotHttp),
        (b"GET / HTTP/1.0\r\n", Http10),
        (b"GET / HTTP/0.9\r\n", Http10),
        (b"GET / HTTP/1.2\r\n", Http10),
        (b"GET / HTTP/2.0\r\n", Http10),
        (b"GET /\r\n", Http10),
        (b"GET / HTTP/11.1\r\n", NotHttp),
        (b"GET / http/1.1\r\n", NotHttp),
        (b"GET / HTTP/1.1 \r\n", Http11),
        (b"GET / HTTP/1.1\0\r\n", Http11),
        (b"GET /  HTTP/1.1\r\n", Http11),
        (b"GET  / HTTP/1.1\r\n", Http11),
        (b"GET\t/\tHTTP/1.1\r\n", Http11),
        (b"GET /\x01 HTTP/1.1\r\n", Http11),
        (b"GET /\x80 HTTP/1.1\r\n", NotHttp),
        (b"GET /\x80", Need),
        (b" GET / HTTP/1.1\r\n", NotHttp),
        (b" ", NotHttp),
        (b"\r\nGET / HTTP/1.1\r\n", NotHttp),
        (b"\n", NotHttp),
        (b"\x01\x02raw", NotHttp),
        (b"\0", NotHttp),
        (b"\x16\x03\x01\0\x05", NotHttp),
        (b"G\x80", NotHttp),
        (b"FOO / HTTP/1.1\r\n", Http11),
        (b"foo / HTTP/1.1\r\n", Http11),
        (b"F(O / HTTP/1.1\r\n", NotHttp),
        (b": / HTTP/1.1\r\n", NotHttp),
        (b"GE\0T / HTTP/1.1\r\n", NotHttp),
        (b"GET x HTTP/1.1\r\n", NotHttp),
        (b"GET ?x HTTP/1.1\r\n", NotHttp),
        (b"GET * HTTP/1.1\r\n", Http11),
        (b"GET http://a/ HTTP/1.1\r\n", Http11),
        (b"GET http:// HTTP/1.1\r\n", Http11),
        (b"GET http://a?x HTTP/1.1\r\n", Http11),
        (b"GET h+t://a/ HTTP/1.1\r\n", Http11),
        (b"GET 1http://a/ HTTP/1.1\r\n", NotHttp),
        (b"GET http://a@b@c/ HTTP/1.1\r\n", Http11),
        (b"GET http://a@@c/ HTTP/1.1\r\n", NotHttp),
        (b"GET /a@b HTTP/1.1\r\n", Http11),
        (b"CONNECT a:1 HTTP/1.1\r\n", Http11),
        (b"CONNECT http://a:1 HTTP/1.1\r\n", Http11),
        (b"GET / a HTTP/1.1\r\n", NotHttp),
        (b"GET / HTTP/1.1x\r\n", NotHttp),
        (b"GET / XHTTP/1.1\r\n", NotHttp),
        (b"GET / HTTP/1.1\rx\n", NotHttp),
        (HTTP2_PREFACE, Http2),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", Need),
        (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Http10),
        (b"PRI * HTTP/2.0\r\nx", Http10),
        (b"PRI", Need),
        (b"PRI /", Need),
        (b"PRI / HTTP/1.1\r\n", Http11),
    ];
    for (bytes, expected) in cases {
        assert_eq!(detect(bytes), *expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_request_line_may_be_64_kib_long() {
    let cx = BuildCx::new(ServerOptions::default());
    let config = prost_types::Any::default();
    let filter = build(&config, &Path::root(""), &cx).unwrap();
    let line = |len: usize| [b"GET /", "a".repeat(len - 16).as_bytes(), b" HTTP/1.1\r\n"].concat();
    assert!(matches!(filter.inspect(&line(MAX_INSPECT_SIZE)), Inspection::Done(_)));
    assert!(matches!(filter.inspect(&line(MAX_INSPECT_SIZE + 1)), Inspection::Reject(_)));
    assert_eq!(filter.inspect(&[b'a'; MAX_INSPECT_SIZE - 1]), Inspection::Need);
    assert!(matches!(filter.inspect(&[b'a'; MAX_INSPECT_SIZE]), Inspection::Reject(_)));
}

fn assert_stable(bytes: &[u8]) {
    let whole = detect(bytes);
    for n in 0..bytes.len() {
        let so_far = detect(&bytes[..n]);
        assert!(so_far == Need || so_far == whole, "{so_far:?} after {n} bytes of {}", bytes.escape_ascii());
    }
}

proptest! {
    #[test]
    fn splits_do_not_matter(
        method in "[A-Z (]{1,5}",
        target in "(/|\\*|http://|x)[a-z@/?\u{1}\u{80}]{0,6}",
        version in "(HTTP/[0-9]\\.[0-9])?[ x]?",
        end in "\r?\n?(more\n)?",
    ) {
        assert_stable(format!("{method} {target} {version}{end}").as_bytes());
    }

    #[test]
    fn noise_does_no_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..60), preface in 0usize..25) {
        bytes.splice(0..0, HTTP2_PREFACE[..preface].iter().copied());
        assert_stable(&bytes);
    }
}
