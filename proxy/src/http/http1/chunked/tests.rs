use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const OPTIONS: ChunkedOptions = ChunkedOptions {
    limits: HeadLimits { max_bytes: 60 * 1024, max_headers: 100 },
    enable_trailers: true,
    underscores: UnderscoreAction::Allow,
    lenient: false,
};

/// What a body came to: its data and trailers, the violation, or nothing yet; and what was left behind it.
#[derive(Debug, PartialEq)]
enum Outcome {
    Partial,
    Refused(u16, &'static str),
    Done(Vec<u8>, Option<HeaderMap>, Vec<u8>),
}

fn run(input: &[u8], step: usize, options: ChunkedOptions) -> Outcome {
    let mut decoder = ChunkedDecoder::new(options);
    let mut buf = BytesMut::new();
    let mut data = Vec::new();
    let mut pieces = input.chunks(step);
    loop {
        match decoder.decode(&mut buf) {
            Ok(Some(Chunk::Data(piece))) => data.extend_from_slice(&piece),
            Ok(Some(Chunk::End(trailers))) => {
                assert!(decoder.is_done());
                pieces.for_each(|piece| buf.extend_from_slice(piece));
                return Outcome::Done(data, trailers, buf.to_vec());
            }
            Ok(None) => match pieces.next() {
                Some(piece) => buf.extend_from_slice(piece),
                None => return Outcome::Partial,
            },
            Err(violation) => return Outcome::Refused(violation.status.as_u16(), violation.details),
        }
    }
}

fn decode_with(input: &[u8], options: ChunkedOptions) -> Outcome {
    let whole = run(input, input.len().max(1), options);
    for step in [1, 2, 3, 7] {
        assert_eq!(whole, run(input, step, options), "{step} bytes at a time: {}", input.escape_ascii());
    }
    whole
}

fn decode(input: &[u8]) -> Outcome {
    decode_with(input, OPTIONS)
}

fn hello(rest: &[u8]) -> Outcome {
    Outcome::Done(b"hello".to_vec(), None, rest.to_vec())
}

const BAD: Outcome = Outcome::Refused(400, "http1.codec_error");

#[test]
fn sizes() {
    assert_eq!(decode(b"5\r\nhello\r\n0\r\n\r\nGET"), hello(b"GET"));
    assert_eq!(decode(b"05\r\nhello\r\n000\r\n\r\n"), hello(b""));
    assert_eq!(decode(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), hello(b""));
    assert_eq!(decode(b"A\r\n0123456789\r\n0\r\n\r\n"), Outcome::Done(b"0123456789".to_vec(), None, vec![]));
    for size in [
        "+5",
        "-5",
        "0x5",
        "1_0",
        " 5",
        "",
        "5 ",
        "5\t",
        "g",
        "5 ;a",
        "fffffffffffffffff",
        "FFFFFFFFFFFFFFFF",
        "8000000000000000",
    ] {
        assert_eq!(decode(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes()), BAD, "{size}");
    }
    assert_eq!(decode(&[&b"0".repeat(4096)[..], b"5\r\nhello\r\n0\r\n\r\n"].concat()), BAD);
    assert_eq!(decode(b"7fffffffffffffff\r\nhello"), Outcome::Partial);
    assert_eq!(decode(b"5\r\nhel"), Outcome::Partial);
}

#[test]
fn line_endings() {
    for body in [
        &b"5\nhello\r\n0\r\n\r\n"[..],
        b"5\r\nhello\n0\r\n\r\n",
        b"5\rhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\r\nhelloXX\r\n0\r\n\r\n",
        b"5\r\nhello\r\r\n0\r\n\r\n",
    ] {
        assert_eq!(decode(body), BAD, "{}", body.escape_ascii());
    }
}

#[test]
fn extensions() {
    for extension in [&b";a=b"[..], b";a", b";a=\"quoted; \\\" \xff\"", b";a=b;c=d", b";a = b"] {
        assert_eq!(
            decode(&[b"5", extension, b"\r\nhello\r\n0\r\n\r\n"].concat()),
            hello(b""),
            "{}",
            extension.escape_ascii()
        );
    }
    for extension in [&b";"[..], b";a;", b"; a", b";a=\"b\nc\"", b";a\nb", b";a=\rb", b";a=\0", b";=b", b";a=\"open"] {
        assert_eq!(decode(&[b"5", extension, b"\r\nhello\r\n0\r\n\r\n"].concat()), BAD, "{}", extension.escape_ascii());
    }
    assert_eq!(decode(&[b"5;", &b"a".repeat(4095)[..], b"\r\nhello\r\n0\r\n\r\n"].concat()), hello(b""));
    assert_eq!(decode(&[b"5;", &b"a".repeat(4097)[..], b"\r\nhello\r\n0\r\n\r\n"].concat()), BAD);
    let many = b"1;aaaaaaaaaaaaaaa\r\nx\r\n".repeat(300);
    assert_eq!(decode(&[&many[..], b"0\r\n\r\n"].concat()), BAD, "the limit is on all extensions together");
}

#[test]
fn trailers() {
    let with = |section: &[u8]| [b"5\r\nhello\r\n0\r\n", section, b"\r\n"].concat();
    let kept = |name: &'static str, value: &'static str| {
        let trailers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
        Outcome::Done(b"hello".to_vec(), Some(trailers), vec![])
    };
    assert_eq!(decode(&with(b"X-A: 1\r\n")), kept("x-a", "1"));
    assert_eq!(decode(&with(b"Host: b\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nx-a: 1\r\n")), kept("x-a", "1"));
    assert_eq!(decode(&with(b"Host: b\r\n")), hello(b""));
    for bad in [&b"bad trailer\r\n"[..], b"x : 1\r\n", b"x: 1\n", b" x: 1\r\n", b"x: 1\r\n 2\r\n"] {
        assert_eq!(decode(&with(bad)), BAD, "{}", bad.escape_ascii());
    }
    assert_eq!(decode(&with(b"x: a\x07\r\n")), Outcome::Refused(400, "http1.invalid_characters"));
    assert_eq!(
        decode(&with(&[b"x: ", &b"v".repeat(1_000_000)[..], b"\r\n"].concat())),
        Outcome::Refused(431, "http1.headers_too_large")
    );
    let many: Vec<u8> = (0..120).flat_map(|i| format!("x-{i}: v\r\n").into_bytes()).collect();
    assert_eq!(decode(&with(&many)), Outcome::Refused(431, "http1.too_many_headers"));

    let off = ChunkedOptions { enable_trailers: false, ..OPTIONS };
    assert_eq!(decode_with(&with(b"x-a: 1\r\n"), off), hello(b""));
    assert_eq!(decode_with(&with(&many), off), hello(b""), "what is dropped is not counted");
    assert_eq!(decode_with(&with(b"bad trailer\r\n"), off), BAD);

    let reject = ChunkedOptions { underscores: UnderscoreAction::RejectRequest, ..OPTIONS };
    assert_eq!(decode_with(&with(b"x_a: 1\r\n"), reject), Outcome::Refused(400, "http1.unexpected_underscore"));
    let drop = ChunkedOptions { underscores: UnderscoreAction::DropHeader, ..OPTIONS };
    assert_eq!(decode_with(&with(b"x_a: 1\r\n"), drop), hello(b""));
}

#[test]
fn upstreams_may_be_sloppy_where_it_cannot_hurt() {
    let lenient = ChunkedOptions { lenient: true, ..OPTIONS };
    assert_eq!(decode_with(b"5 \t\r\nhello\r\n0 \r\n\r\n", lenient), hello(b""));
    assert_eq!(decode_with(b"5\nhello\r\n0\r\n\r\n", lenient), BAD);
    assert_eq!(decode_with(b" 5\r\nhello\r\n0\r\n\r\n", lenient), BAD);
    assert_eq!(decode_with(b"5\r\nhello\r\n0\r\nbad\r\n\r\n", lenient), BAD);
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..6)) {
        let mut out = BytesMut::new();
        for piece in &pieces {
            write_size(&mut out, piece.len());
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
        prop_assert_eq!(decode(&out), Outcome::Done(pieces.concat(), None, vec![]));
    }

    #[test]
    fn anything_gives_the_same_verdict_in_any_pieces(input in proptest::collection::vec(
        prop_oneof![Just(b'0'), Just(b'1'), Just(b'5'), Just(b'\r'), Just(b'\n'), Just(b';'), Just(b'"'), Just(b'a'), Just(b':'), any::<u8>()], 0..60))
    {
        decode(&input);
        decode_with(&input, ChunkedOptions { lenient: true, enable_trailers: false, ..OPTIONS });
    }
}
