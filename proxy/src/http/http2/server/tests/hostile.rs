//! One connection for each case: a good request first, then the case, then another good request on the same connection.

use std::rc::Rc;

use crate::http::http2::frames::{flag, kind};
use crate::http::http2::testing::{GET, Raw, Service, block, frame, run, serve, server_settings};

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Owed {
    /// RST_STREAM with this code; the connection lives on.
    Reset(u32),
    Status(u16),
    /// GOAWAY with this code, then the end.
    GoAway(u32),
}

type Field<'a> = (&'a [u8], &'a [u8]);

/// What came for stream 3, and whether the connection still answers on stream 5.
async fn ask(bytes: &[u8]) -> (Owed, bool, Rc<Service>) {
    let (served, io) = serve(Service::ok(), server_settings());
    let mut raw = Raw::client(io).await;
    raw.headers(1, &GET, true).await;
    assert_eq!(raw.next_of(&[kind::HEADERS]).await.unwrap().status(), 200);
    raw.send(bytes).await;
    let answer = loop {
        let frame = raw.next_of(&[kind::HEADERS, kind::RST_STREAM, kind::GOAWAY]).await.expect("an answer");
        match frame.head.kind {
            kind::GOAWAY => break Owed::GoAway(frame.code()),
            _ if frame.head.stream_id != 3 => {}
            kind::RST_STREAM => break Owed::Reset(frame.code()),
            _ => break Owed::Status(frame.status()),
        }
    };
    raw.headers(5, &GET, true).await;
    let lives = loop {
        match raw.next_of(&[kind::HEADERS]).await {
            Some(frame) if frame.head.stream_id == 5 => break frame.status() == 200,
            Some(_) => {}
            None => break false,
        }
    };
    (answer, lives, served.service)
}

/// GET with one field replaced, or with fields added.
fn with<'a>(fields: &[Field<'a>]) -> Vec<Field<'a>> {
    let mut all: Vec<Field<'a>> = GET.to_vec();
    for field in fields {
        match all.iter_mut().find(|(name, _)| *name == field.0 && name.starts_with(b":")) {
            Some(old) => *old = *field,
            None => all.push(*field),
        }
    }
    all
}

fn without<'a>(names: &[&[u8]]) -> Vec<Field<'a>> {
    GET.into_iter().filter(|(name, _)| !names.contains(name)).collect()
}

fn request(fields: &[Field<'_>], flags: u8) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | flags, 3, &block(fields))
}

#[test]
fn malformed_heads_cost_their_stream_or_get_an_answer() {
    use Owed::{GoAway, Reset, Status};
    let long = vec![b'v'; 2000];
    let cases: Vec<(&str, Vec<Field<'_>>, Owed)> = vec![
        ("ps-no-method", without(&[b":method"]), Reset(1)),
        ("ps-no-path", without(&[b":path"]), Reset(1)),
        ("ps-no-scheme", without(&[b":scheme"]), Reset(1)),
        ("ps-no-authority-no-host", without(&[b":authority"]), Status(400)),
        ("ps-authority-host-mismatch", with(&[(b"host", b"b.test")]), Status(200)),
        ("ps-two-host", with(&[(b"host", b"a"), (b"host", b"b")]), Reset(1)),
        ("ps-dup-path", [with(&[]), vec![(&b":path"[..], &b"/x"[..])]].concat(), Reset(1)),
        ("ps-after-regular", [vec![(&b"a"[..], &b"b"[..])], with(&[])].concat(), Reset(1)),
        ("ps-unknown", with(&[(b":foo", b"x")]), GoAway(1)),
        ("ps-status", with(&[(b":status", b"200")]), Reset(1)),
        ("ps-empty-path", with(&[(b":path", b"")]), Reset(1)),
        ("ps-path-no-slash", with(&[(b":path", b"foo")]), Reset(1)),
        ("ps-path-star-get", with(&[(b":path", b"*")]), Status(400)),
        ("ps-path-star-options", with(&[(b":method", b"OPTIONS"), (b":path", b"*")]), Status(200)),
        ("ps-path-abs", with(&[(b":path", b"http://evil/x")]), Reset(1)),
        ("ps-path-space", with(&[(b":path", b"/a b")]), Reset(1)),
        ("ps-path-crlf", with(&[(b":path", b"/a\r\nx: y")]), Reset(1)),
        ("ps-path-nonascii", with(&[(b":path", "/\u{e9}".as_bytes())]), Status(400)),
        ("ps-method-sp", with(&[(b":method", b"GE T")]), GoAway(1)),
        ("ps-scheme-url", with(&[(b":scheme", b"http://evil/?")]), Reset(1)),
        ("ps-scheme-mixed", with(&[(b":scheme", b"HtTp")]), Status(200)),
        ("ps-scheme-ftp", with(&[(b":scheme", b"ftp")]), Status(200)),
        ("ps-auth-crlf", with(&[(b":authority", b"a\r\nb")]), Reset(1)),
        ("ps-auth-sp", with(&[(b":authority", b"a b")]), Reset(1)),
        ("ps-auth-userinfo", with(&[(b":authority", b"u@a")]), Reset(1)),
        ("ps-auth-list", with(&[(b":authority", b"a,b")]), Reset(1)),
        ("hd-upper", with(&[(b"Upper", b"x")]), GoAway(1)),
        ("hd-empty-name", with(&[(b"", b"x")]), GoAway(1)),
        ("hd-name-crlf", with(&[(b"a\r\nb", b"x")]), GoAway(1)),
        ("hd-val-crlf", with(&[(b"a", b"x\r\ny: z")]), GoAway(1)),
        ("hd-val-nul", with(&[(b"a", b"x\0")]), GoAway(1)),
        ("hd-val-lead-sp", with(&[(b"a", b" x")]), Reset(1)),
        ("hd-val-trail-tab", with(&[(b"a", b"x\t")]), Reset(1)),
        ("hd-connection", with(&[(b"connection", b"close")]), Reset(1)),
        ("hd-keep-alive", with(&[(b"keep-alive", b"1")]), Reset(1)),
        ("hd-proxy-connection", with(&[(b"proxy-connection", b"x")]), Reset(1)),
        ("hd-upgrade", with(&[(b"upgrade", b"h2c")]), Reset(1)),
        ("hd-te-chunked", with(&[(b"transfer-encoding", b"chunked")]), Reset(1)),
        ("hd-te-gzip", with(&[(b"te", b"gzip")]), Reset(1)),
        ("hd-te-trailers", with(&[(b"te", b"trailers")]), Status(200)),
        ("cl-nobody", with(&[(b"content-length", b"5")]), Reset(1)),
        ("cl-dup", with(&[(b"content-length", b"0"), (b"content-length", b"1")]), Reset(1)),
        ("cl-dup-same", with(&[(b"content-length", b"0"), (b"content-length", b"0")]), Reset(1)),
        ("cl-list", with(&[(b"content-length", b"0, 0")]), Reset(1)),
        ("cl-plus", with(&[(b"content-length", b"+0")]), Reset(1)),
        ("cl-huge", with(&[(b"content-length", b"99999999999999999999")]), Reset(1)),
        ("cn-path", with(&[(b":method", b"CONNECT")]), Reset(1)),
        ("cn-no-auth", vec![(b":method", b"CONNECT")], Reset(1)),
        ("cn-plain", vec![(b":method", b"CONNECT"), (b":authority", b"a:1")], Status(200)),
        ("cn-ext-unneg", with(&[(b":method", b"CONNECT"), (b":protocol", b"foo")]), Reset(1)),
        ("cn-ext-get", with(&[(b":protocol", b"foo")]), Reset(1)),
        ("lim-200h", [with(&[]), vec![(&b"a"[..], &b"b"[..]); 200]].concat(), Status(431)),
        ("lim-60k", [with(&[]), vec![(&b"a"[..], &long[..]); 8]].concat(), Status(200)),
    ];
    for (id, fields, owed) in cases {
        let (answer, lives, service) = run(ask(&request(&fields, flag::END_STREAM)));
        assert_eq!(answer, owed, "{id}");
        assert_eq!(lives, !matches!(owed, GoAway(_)), "{id}");
        let called = match owed {
            Status(200) => 2 + usize::from(lives) - 1,
            _ => usize::from(lives),
        };
        assert_eq!(service.called.get(), 1 + called, "{id}: requests that reached the service");
    }
}

#[test]
fn head_lists_beyond_the_limit_get_431_or_end_the_connection() {
    let value = vec![b'v'; 8000];
    let list = |n| [with(&[]), vec![(&b"a"[..], &value[..]); n]].concat();
    let blocks = |fields: Vec<Field<'_>>| {
        let block = block(&fields);
        let mut pieces = block.chunks(16_384).peekable();
        let mut bytes = frame(kind::HEADERS, flag::END_STREAM, 3, pieces.next().unwrap());
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
            bytes.extend(frame(kind::CONTINUATION, last, 3, piece));
        }
        bytes
    };
    assert_eq!(run(ask(&blocks(list(7)))).0, Owed::Status(200));
    assert_eq!(run(ask(&blocks(list(8)))).0, Owed::Status(431), "over 60 KiB");
    assert_eq!(run(ask(&blocks(list(40)))).0, Owed::GoAway(11), "over 64 KiB encoded");
    let crumbs = [with(&[]), vec![(&b"cookie"[..], &b"c"[..]); 3000]].concat();
    let (answer, lives, service) = run(ask(&blocks(crumbs)));
    assert_eq!((answer, lives), (Owed::Status(431), true), "crumbs count one by one");
    assert_eq!(service.called.get(), 2);
}

#[test]
fn broken_bodies_cost_their_stream() {
    let post = |length: &'static [u8]| request(&with(&[(b":method", b"POST"), (b"content-length", length)]), 0);
    let data = |end: bool, bytes: &[u8]| frame(kind::DATA, if end { flag::END_STREAM } else { 0 }, 3, bytes);
    let trailers = |fields: &[Field<'_>], flags| frame(kind::HEADERS, flag::END_HEADERS | flags, 3, &block(fields));
    let long = vec![b'v'; 62_000];
    let large = {
        let block = block(&[(b"a", &long)]);
        let mut pieces = block.chunks(16_384).enumerate();
        let piece = |(n, piece): (usize, &[u8])| {
            let last = if (n + 1) * 16_384 >= block.len() { flag::END_HEADERS } else { 0 };
            frame(if n == 0 { kind::HEADERS } else { kind::CONTINUATION }, last | u8::from(n == 0), 3, piece)
        };
        pieces.by_ref().flat_map(piece).collect::<Vec<u8>>()
    };
    let cases = [
        (
            "tr-200",
            [post(b"5"), data(false, b"hello"), trailers(&[(&b"a"[..], &b"b"[..]); 200], 1)].concat(),
            Owed::Status(431),
        ),
        ("tr-60k", [post(b"5"), data(false, b"hello"), large].concat(), Owed::Status(431)),
        ("cl-short", [post(b"3"), data(true, b"hello")].concat(), Owed::Reset(1)),
        ("cl-long", [post(b"50"), data(true, b"hello")].concat(), Owed::Reset(1)),
        ("cl-zero-body", [post(b"0"), data(true, b"hello")].concat(), Owed::Reset(1)),
        ("tr-no-es", [post(b"5"), data(false, b"hello"), trailers(&[(b"a", b"b")], 0)].concat(), Owed::Reset(1)),
        ("tr-upper", [post(b"5"), data(false, b"hello"), trailers(&[(b"A", b"b")], 1)].concat(), Owed::GoAway(1)),
        ("tr-crlf", [post(b"5"), data(false, b"hello"), trailers(&[(b"a", b"b\r\n")], 1)].concat(), Owed::GoAway(1)),
        // :path, as encoders write it; h2 itself does not tell.
        (
            "tr-pseudo",
            [post(b"5"), data(false, b"hello"), frame(kind::HEADERS, 5, 3, &[0x84])].concat(),
            Owed::GoAway(1),
        ),
        (
            "tr-pseudo-lit",
            [post(b"5"), data(false, b"hello"), frame(kind::HEADERS, 5, 3, b"\x04\x02/x")].concat(),
            Owed::GoAway(1),
        ),
        (
            "tr-pseudo-padded",
            [post(b"5"), data(false, b"hello"), frame(kind::HEADERS, 0x2d, 3, b"\x02\0\0\0\0\x01\x84\0\0")].concat(),
            Owed::GoAway(1),
        ),
        ("tr-early", [post(b"9"), data(false, b"hello"), trailers(&[(b"a", b"b")], 1)].concat(), Owed::Reset(1)),
    ];
    for (id, bytes, owed) in cases {
        let answer = run(async {
            let service = Service::new(|mut request| async move {
                // Reads to the end before it answers.
                match crate::http::http2::testing::collect(&mut request.body).await {
                    Ok(_) => crate::http::http2::testing::reply(200, crate::http::Body::Empty),
                    Err(_) => std::future::pending().await,
                }
            });
            let (served, io) = serve(service, server_settings());
            let mut raw = Raw::client(io).await;
            raw.send(&bytes).await;
            let frame = raw.next_of(&[kind::HEADERS, kind::RST_STREAM, kind::GOAWAY]).await.unwrap();
            drop(served);
            match frame.head.kind {
                kind::HEADERS => Owed::Status(frame.status()),
                kind::RST_STREAM => Owed::Reset(frame.code()),
                _ => Owed::GoAway(frame.code()),
            }
        });
        assert_eq!(answer, owed, "{id}");
    }
}

#[test]
fn broken_frames_end_the_connection() {
    let get = request(&GET, flag::END_STREAM);
    let on = |kind, flags, id, payload: &[u8]| frame(kind, flags, id, payload);
    let cases = [
        ("f-data-sid0", on(kind::DATA, 0, 0, b"x"), 1),
        ("f-headers-sid0", on(kind::HEADERS, 5, 0, &block(&GET)), 1),
        ("f-even-sid", on(kind::HEADERS, 5, 2, &block(&GET)), 1),
        ("f-sid-reuse", on(kind::HEADERS, 5, 1, &block(&GET)), 1),
        ("f-settings-len5", on(kind::SETTINGS, 0, 0, b"12345"), 6),
        ("f-settings-ack-payload", on(kind::SETTINGS, flag::ACK, 0, b"123456"), 6),
        ("f-settings-sid", on(kind::SETTINGS, 0, 3, b""), 1),
        ("f-ping-sid", on(kind::PING, 0, 3, b"12345678"), 1),
        ("f-goaway-sid", on(kind::GOAWAY, 0, 3, &[0; 8]), 1),
        ("f-initwin-big", on(kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]), 3),
        ("f-maxframe-small", on(kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 100]), 1),
        ("f-push-2", on(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]), 1),
        ("f-ping-len", on(kind::PING, 0, 0, b"1234567"), 6),
        ("f-wu-zero-conn", on(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), 1),
        ("f-wu-overflow", on(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), 3),
        ("f-wu-idle", on(kind::WINDOW_UPDATE, 0, 9, &[0, 0, 0, 1]), 1),
        ("f-rst-idle", on(kind::RST_STREAM, 0, 9, &[0, 0, 0, 1]), 1),
        ("f-data-idle", on(kind::DATA, 0, 9, b"x"), 1),
        ("f-cont-alone", on(kind::CONTINUATION, 4, 3, b""), 1),
        ("f-cont-interleaved", [on(kind::HEADERS, 1, 3, &block(&GET)), get.clone()].concat(), 1),
        ("f-push-promise", on(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x82]), 1),
        ("f-pad-too-long", on(kind::HEADERS, 5 | flag::PADDED, 3, &[200, 0x82]), 1),
        ("f-frame-oversize", on(kind::DATA, 0, 1, &[0; 1 << 20]), 6),
        // h2 has no code of its own for a broken header block.
        ("f-hpack-bad-index", on(kind::HEADERS, 5, 3, &[0xff, 0x80, 0x80, 0x80, 0x01]), 1),
    ];
    for (id, bytes, code) in cases {
        let (answer, lives, service) = run(ask(&bytes));
        assert_eq!(answer, Owed::GoAway(code), "{id}");
        assert!(!lives, "{id}");
        assert_eq!(service.called.get(), 1, "{id}");
    }
}

#[test]
fn a_connection_that_does_not_begin_with_the_preface_is_closed() {
    run(async {
        let (served, io) = serve(Service::ok(), server_settings());
        let mut raw = Raw { io, polite: false };
        raw.send(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
        assert!(raw.rest().await.1, "closed");
        served.task.await.unwrap();
        assert_eq!(served.service.called.get(), 0);
        // Nor is one held open that says nothing.
        let (served, _io) = serve(Service::ok(), server_settings());
        served.task.await.unwrap();
    });
}
