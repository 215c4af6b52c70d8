//! What a server may do wrong, one connection for each case.

use super::*;

/// The error, or the error of the body, when the peer does this after the request.
async fn against(bytes: &[u8]) -> (Result<ResponseHead, ExchangeError>, Option<crate::http::BodyError>, u64) {
    let (client, io, settings) = client(client_settings()).await;
    let mut raw = raw_server(io, &[]).await;
    let mut exchange = client.start(&head(Method::GET, "/"), Body::Empty).unwrap();
    raw.next_of(&[kind::HEADERS]).await.unwrap();
    raw.send(bytes).await;
    let raw = tokio::task::spawn_local(async move { raw.rest().await });
    let answer = answer(&mut exchange).await;
    let failed = match &answer {
        Ok(_) => collect(&mut Body::Stream(Box::new(exchange))).await.err(),
        Err(_) => {
            drop(exchange);
            None
        }
    };
    raw.abort();
    (answer, failed, settings.stats.read(Http2Stats::RX_MESSAGING_ERROR))
}

pub fn response(fields: &[(&[u8], &[u8])], flags: u8) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | flags, 1, &block(fields))
}

pub fn ok(flags: u8) -> Vec<u8> {
    response(&[(b":status", b"200")], flags)
}

#[test]
fn failures_before_the_head_are_told_apart() {
    use ResetReason::{ConnectionTermination, ProtocolError, RemoteRefusedStreamReset, RemoteReset};
    let rst = |code: u8| frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, code]);
    let end = flag::END_STREAM;
    let status = |status: &[u8]| response(&[(b":status", status)], end);
    let pings: Vec<u8> = (0..3000).flat_map(|_| frame(kind::PING, 0, 0, &[0; 8])).collect();
    let push = [0, 0, 0, 2, 0x82];
    let cases: Vec<(&str, Vec<u8>, ResetReason, bool)> = vec![
        ("rst 0", rst(0), RemoteReset, false),
        ("rst 1", rst(1), ProtocolError, false),
        ("rst 2", rst(2), RemoteReset, false),
        ("rst 7", rst(7), RemoteRefusedStreamReset, true),
        ("rst 8", rst(8), RemoteReset, false),
        ("rst 10", rst(10), ResetReason::ConnectError, false),
        ("rst 11", rst(11), RemoteReset, false),
        ("goaway 0", frame(kind::GOAWAY, 0, 0, &[0; 8]), RemoteRefusedStreamReset, true),
        ("data first", frame(kind::DATA, 0, 1, b"x"), ProtocolError, false),
        ("no status", response(&[(b"a", b"b")], end), ProtocolError, false),
        ("status abc", status(b"abc"), ProtocolError, false),
        ("status 101", response(&[(b":status", b"101")], 0), ProtocolError, false),
        ("value crlf", response(&[(b":status", b"200"), (b"a", b"b\r\nc: d")], end), ProtocolError, false),
        ("connection", response(&[(b":status", b"200"), (b"connection", b"close")], end), ProtocolError, false),
        ("te", response(&[(b":status", b"200"), (b"transfer-encoding", b"chunked")], end), ProtocolError, false),
        ("upper", response(&[(b":status", b"200"), (b"A", b"b")], end), ProtocolError, false),
        (
            "two lengths",
            [response(&[(b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"1")], 0)].concat(),
            ProtocolError,
            false,
        ),
        ("push", frame(kind::PUSH_PROMISE, 4, 1, &push), ProtocolError, false),
        ("hpack", frame(kind::HEADERS, 5, 1, &[0xff, 0x80, 0x80, 0x80, 1]), ProtocolError, false),
        ("oversize", frame(kind::DATA, 0, 1, &[0; 20_000]), ProtocolError, false),
        ("pings", pings, ProtocolError, false),
        (
            "500 fields",
            response(&[[(&b":status"[..], &b"200"[..])].as_slice(), &[(&b"a"[..], &b"b"[..]); 500]].concat(), end),
            ProtocolError,
            false,
        ),
    ];
    for (id, bytes, reason, refused) in cases {
        let (answer, _, _) = run(against(&bytes));
        let error = answer.expect_err(id);
        assert_eq!((error.reason, error.refused), (reason, refused), "{id}: {error}");
        assert!(error.request_written, "{id}");
    }
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let mut raw = raw_server(io, &[]).await;
        let mut exchange = client.start(&head(Method::GET, "/"), Body::Empty).unwrap();
        raw.next_of(&[kind::HEADERS]).await.unwrap();
        drop(raw);
        let error = answer(&mut exchange).await.unwrap_err();
        assert_eq!((error.reason, error.refused, error.request_written), (ConnectionTermination, false, true));
        assert!(client.is_closed() && !client.can_open());
        let error = client.start(&head(Method::GET, "/"), Body::Empty).err().unwrap();
        assert!(error.refused && !error.request_written, "{error}");
    });
}

#[test]
fn failures_after_the_head_never_look_like_an_end() {
    let end = flag::END_STREAM;
    let data = |flags, bytes: &[u8]| frame(kind::DATA, flags, 1, bytes);
    let rst = |code| frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, code]);
    let length = response(&[(b":status", b"200"), (b"content-length", b"5")], 0);
    let trailers = |flags| frame(kind::HEADERS, flag::END_HEADERS | flags, 1, &block(&[(b"a", b"b")]));
    let cases = [
        ("rst 2", [ok(0), data(0, b"ab"), rst(2)].concat(), ResetReason::RemoteReset),
        ("rst 0", [ok(0), data(0, b"ab"), rst(0)].concat(), ResetReason::RemoteReset),
        ("trailers without end", [ok(0), trailers(0)].concat(), ResetReason::ProtocolError),
        (
            "200 trailers",
            [ok(0), frame(kind::HEADERS, flag::END_HEADERS | end, 1, &block(&[(&b"a"[..], &b"b"[..]); 200]))].concat(),
            ResetReason::ProtocolError,
        ),
        ("two heads", [ok(0), ok(0)].concat(), ResetReason::ProtocolError),
        ("too short", [length.clone(), data(end, b"ab")].concat(), ResetReason::ProtocolError),
        ("too long", [length, data(0, b"abcdef")].concat(), ResetReason::ProtocolError),
    ];
    for (id, bytes, reason) in cases {
        let (answer, failed, _) = run(against(&bytes));
        assert_eq!(answer.expect(id).status, 200, "{id}");
        assert_eq!(failed.expect(id).reason, reason, "{id}");
    }
    let (_, failed, _) = run(against(&[ok(0), data(0, b"ab"), trailers(end)].concat()));
    assert!(failed.is_none());
    let (_, failed, _) = run(against(&[ok(0), data(end, b"ab"), rst(0)].concat()));
    assert!(failed.is_none(), "a reset after the end takes nothing back");
}

#[test]
fn an_answer_with_blanks_around_a_value_is_trimmed() {
    let (answer, failed, _) = run(against(&response(&[(b":status", b"200"), (b"a", b" b\t")], flag::END_STREAM)));
    assert_eq!(answer.unwrap().headers["a"], "b");
    assert!(failed.is_none());
}
