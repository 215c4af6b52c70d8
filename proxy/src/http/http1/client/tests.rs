//! Exchanges with a scripted upstream, in memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Waker;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::http::{Protocol, Scheme};
use crate::net::{RawIo, Socket};

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test);
}

fn connect_with(settings: ClientSettings) -> (H1Client, DuplexStream) {
    let (theirs, ours) = tokio::io::duplex(64 * 1024);
    (H1Client::new(Io::Raw(RawIo::new(Socket::Memory(ours))), Arc::new(settings)), theirs)
}

fn connect() -> (H1Client, DuplexStream) {
    connect_with(ClientSettings::default())
}

fn request(method: Method) -> RequestHead {
    RequestHead {
        method,
        scheme: Scheme::Http,
        authority: "a".into(),
        path: "/x".into(),
        upgrade: None,
        headers: HeaderMap::new(),
        protocol: Protocol::Http11,
        case: None,
        wire_size: 0,
    }
}

async fn head(exchange: &mut H1Exchange) -> Result<u16, ExchangeError> {
    poll_fn(|cx| exchange.poll_head(cx)).await.map(|head| head.status.as_u16())
}

/// The rest of the body: its data, then how it ended.
async fn body(exchange: &mut H1Exchange) -> (String, Result<Option<HeaderMap>, ResetReason>) {
    let mut all = Vec::new();
    loop {
        match poll_fn(|cx| exchange.poll_frame(cx)).await {
            Some(Ok(Frame::Data(data))) => all.extend_from_slice(&data),
            Some(Ok(Frame::Trailers(trailers))) => return (String::from_utf8(all).unwrap(), Ok(Some(trailers))),
            Some(Err(error)) => return (String::from_utf8(all).unwrap(), Err(error.reason)),
            None => return (String::from_utf8(all).unwrap(), Ok(None)),
        }
    }
}

/// Polls until it would wait.
async fn settle(exchange: &mut H1Exchange) {
    poll_fn(|cx| {
        assert!(exchange.poll_head(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

async fn received(upstream: &mut DuplexStream) -> String {
    let mut buf = vec![0; 100_000];
    let n = tokio::time::timeout(std::time::Duration::from_millis(1), upstream.read(&mut buf))
        .await
        .map_or(0, Result::unwrap);
    String::from_utf8_lossy(&buf[..n]).replace("\r\n", "|")
}

/// Sends a GET and lets the upstream answer with `answer`, then close.
async fn answered(answer: &[u8]) -> (Result<u16, ExchangeError>, H1Exchange) {
    let (client, mut upstream) = connect();
    let mut exchange = client.start(&request(Method::GET), Body::Empty).unwrap();
    settle(&mut exchange).await;
    let answer = answer.to_vec();
    let (result, ()) = tokio::join!(head(&mut exchange), async {
        let _ = upstream.write_all(&answer).await;
        drop(upstream);
    });
    (result, exchange)
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    run(async {
        let (mut client, mut upstream) = connect();
        for _ in 0..3 {
            let mut exchange = client.start(&request(Method::GET), Body::Empty).unwrap();
            settle(&mut exchange).await;
            assert_eq!(received(&mut upstream).await, "GET /x HTTP/1.1|host: a||");
            upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nok").await.unwrap();
            let response = poll_fn(|cx| exchange.poll_head(cx)).await.unwrap();
            assert_eq!((response.status, &response.headers["x"]), (StatusCode::OK, &HeaderValue::from_static("y")));
            assert_eq!(exchange.exact_len(), Some(2));
            assert!(!exchange.is_reusable());
            assert_eq!(body(&mut exchange).await, ("ok".to_owned(), Ok(None)));
            assert_eq!((exchange.bytes(), exchange.header_bytes_sent()), ((28, 46), 9));
            client = exchange.into_client().unwrap();
            let idle = poll_fn(|cx| Poll::Ready(client.poll_idle_closed(cx))).await;
            assert!(idle.is_pending());
            assert_eq!(
                (client.buf.capacity(), client.out.tail().capacity()),
                (0, 0),
                "an idle connection owns no buffer"
            );
        }
        drop(upstream);
        assert_eq!(poll_fn(|cx| client.poll_idle_closed(cx)).await, IdleEnd::Closed);
    });
}

#[test]
fn a_connection_that_was_closed_meanwhile_gives_the_request_back() {
    run(async {
        let (client, upstream) = connect();
        drop(upstream);
        let mut exchange = client.start(&request(Method::POST), Body::Full("hello".into())).unwrap();
        let error = head(&mut exchange).await.unwrap_err();
        assert!(error.refused && !error.request_written);
        assert!(matches!(exchange.untouched_body(), Some(Body::Full(bytes)) if bytes == "hello"));

        let (client, upstream) = connect();
        let mut exchange = client.start(&request(Method::POST), Body::Full("hello".into())).unwrap();
        settle(&mut exchange).await;
        drop(upstream);
        let error = head(&mut exchange).await.unwrap_err();
        assert!(!error.refused && error.request_written, "the peer may have read it");
        assert!(exchange.untouched_body().is_none());
    });
}

#[test]
fn what_comes_unasked_spoils_the_connection() {
    run(async {
        let (mut client, mut upstream) = connect();
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nPOISONED").await.unwrap();
        let mut exchange = client.start(&request(Method::GET), Body::Empty).unwrap();
        let error = head(&mut exchange).await.unwrap_err();
        assert_eq!(
            (error.reason, error.request_written, error.refused),
            (ResetReason::ConnectionTermination, false, true)
        );
        assert!(!exchange.is_reusable());
        assert_eq!(received(&mut upstream).await, "", "nothing was sent");

        (client, upstream) = connect();
        upstream.write_all(b"x").await.unwrap();
        assert_eq!(poll_fn(|cx| client.poll_idle_closed(cx)).await, IdleEnd::Unasked);

        let (client, mut upstream) = connect();
        let mut exchange = client.start(&request(Method::GET), Body::Empty).unwrap();
        settle(&mut exchange).await;
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert_eq!(head(&mut exchange).await.unwrap(), 200);
        assert_eq!(body(&mut exchange).await.0, "ok");
        assert!(!exchange.is_reusable() && exchange.into_client().is_none(), "bytes behind the answer");
    });
}

#[test]
fn bad_heads_are_protocol_errors() {
    run(async {
        for answer in [
            &b"this is not http\r\n\r\n"[..],
            b"HTTP/0.9 200 OK\r\n\r\n",
            b"HTTP/1.1 abc OK\r\n\r\n",
            b"HTTP/1.1 99 OK\r\n\r\n",
            b"HTTP/1.1 1000 OK\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx-a: 1\r\n",
            b"HTTP/1.1 2",
            &[b"HTTP/1.1 200 OK\r\nx: ", &b"v".repeat(100_000)[..], b"\r\n\r\n"].concat(),
            &[&b"HTTP/1.1 200 OK\r\n"[..], &b"x: 1\r\n".repeat(500), b"\r\n"].concat(),
        ] {
            let (result, exchange) = answered(answer).await;
            let error = result.unwrap_err();
            assert_eq!(error.reason, ResetReason::ProtocolError, "{}", answer.escape_ascii());
            assert!(error.request_written && error.response_started && !error.refused);
            assert!(!exchange.is_reusable());
        }
        let (result, _) = answered(b"").await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.reason, error.request_written, error.response_started),
            (ResetReason::ConnectionTermination, true, false)
        );
    });
}

#[test]
fn cut_and_bad_bodies_are_errors() {
    run(async {
        let length = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
        let chunked = |rest: &[u8]| [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", rest].concat();
        for (answer, data) in [
            (length.to_vec(), "abc"),
            (chunked(b"5\r\nhel"), "hel"),
            (chunked(b"5\r\nhello\r\n"), "hello"),
            (chunked(b"5\r\nhello\r\n0\r\n"), "hello"),
            (chunked(b"zz\r\nabc\r\n"), ""),
            (chunked(b"3\r\nabcX"), "abc"),
            (chunked(b"3\r\nabc\r\n0\r\nbad\r\n\r\n"), "abc"),
        ] {
            let (result, mut exchange) = answered(&answer).await;
            assert_eq!(result.unwrap(), 200);
            assert_eq!(
                body(&mut exchange).await,
                (data.to_owned(), Err(ResetReason::ProtocolError)),
                "{}",
                answer.escape_ascii()
            );
            assert!(!exchange.is_reusable());
        }
        let (_, mut exchange) = answered(b"HTTP/1.1 200 OK\r\n\r\nall of it").await;
        assert_eq!(body(&mut exchange).await, ("all of it".to_owned(), Ok(None)));
        assert!(!exchange.is_reusable(), "its end was the connection's");
    });
}

#[test]
fn answers_without_a_body() {
    run(async {
        for (method, answer, reusable) in [
            (Method::HEAD, &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"[..], true),
            (Method::HEAD, b"HTTP/1.1 200 OK\r\n\r\n", true),
            (Method::HEAD, b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", false),
            (Method::GET, b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", true),
            (Method::GET, b"HTTP/1.1 204 No Content\r\n\r\n", true),
            (Method::GET, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", false),
            (Method::GET, b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", false),
            (Method::GET, b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n", true),
        ] {
            let (client, mut upstream) = connect();
            let mut exchange = client.start(&request(method), Body::Empty).unwrap();
            settle(&mut exchange).await;
            upstream.write_all(answer).await.unwrap();
            head(&mut exchange).await.unwrap();
            assert!(exchange.is_end_stream());
            assert_eq!(body(&mut exchange).await, (String::new(), Ok(None)));
            assert_eq!(exchange.is_reusable(), reusable, "{}", answer.escape_ascii());
        }
    });
}

#[test]
fn interim_answers_are_bounded() {
    run(async {
        for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"] {
            let answer = interim.repeat(5000) + "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            let (client, mut upstream) = connect();
            let mut exchange = client.start(&request(Method::GET), Body::Empty).unwrap();
            settle(&mut exchange).await;
            let writer = async {
                upstream.write_all(answer.as_bytes()).await.unwrap();
                std::future::pending::<()>().await;
            };
            let reader = async {
                let mut forwarded = 0;
                loop {
                    match head(&mut exchange).await.unwrap() {
                        200 => return forwarded,
                        _ => forwarded += 1,
                    }
                }
            };
            let forwarded = tokio::select! { forwarded = reader => forwarded, () = writer => unreachable!() };
            assert_eq!(forwarded, 8);
            assert_eq!(body(&mut exchange).await.0, "ok");
            assert!(exchange.is_reusable());
        }
        let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_001);
        let (client, mut upstream) = connect();
        let mut exchange = client.start(&request(Method::GET), Body::Empty).unwrap();
        settle(&mut exchange).await;
        let (error, _) = tokio::join!(
            async {
                loop {
                    if let Err(error) = head(&mut exchange).await {
                        return error;
                    }
                }
            },
            upstream.write_all(endless.as_bytes())
        );
        assert_eq!(error.reason, ResetReason::ProtocolError);
    });
}

/// A request body that yields what is put into it.
#[derive(Clone, Default)]
#[expect(clippy::type_complexity, reason = "frames that wait, and who waits for them")]
struct Tap(Rc<RefCell<(VecDeque<Option<Result<Frame, BodyError>>>, Option<Waker>)>>);

impl Tap {
    fn put(&self, frame: Option<Result<Frame, BodyError>>) {
        self.0.borrow_mut().0.push_back(frame);
        if let Some(waker) = self.0.borrow_mut().1.take() {
            waker.wake();
        }
    }

    fn push(&self, data: &'static str) {
        self.put(Some(Ok(Frame::Data(data.into()))));
    }
}

impl BodySource for Tap {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut state = self.0.borrow_mut();
        match state.0.pop_front() {
            Some(frame) => Poll::Ready(frame),
            None => {
                state.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn post(tap: &Tap) -> Body {
    Body::Stream(Box::new(tap.clone()))
}

#[test]
fn the_body_is_sent_while_the_answer_is_awaited() {
    run(async {
        let (client, mut upstream) = connect();
        let tap = Tap::default();
        tap.push("one");
        let mut exchange = client.start(&request(Method::POST), post(&tap)).unwrap();
        settle(&mut exchange).await;
        assert_eq!(
            received(&mut upstream).await,
            "POST /x HTTP/1.1|host: a|transfer-encoding: chunked||3|one|",
            "head and body in one write"
        );
        tap.push("two");
        settle(&mut exchange).await;
        assert_eq!(received(&mut upstream).await, "3|two|");
        upstream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nea").await.unwrap();
        assert_eq!(head(&mut exchange).await.unwrap(), 200);
        tap.push("three");
        let data = poll_fn(|cx| exchange.poll_frame(cx)).await;
        assert!(matches!(data, Some(Ok(Frame::Data(data))) if data == "ea"));
        assert_eq!(received(&mut upstream).await, "5|three|");
        upstream.write_all(b"rl").await.unwrap();
        assert_eq!(body(&mut exchange).await, ("rl".to_owned(), Ok(None)));
        assert!(!exchange.is_reusable() && !exchange.request_complete(), "the request is not over");
    });
}

#[test]
fn a_finished_request_makes_the_connection_reusable() {
    run(async {
        let (client, mut upstream) = connect();
        let tap = Tap::default();
        tap.push("one");
        tap.put(None);
        let mut exchange = client.start(&request(Method::POST), post(&tap)).unwrap();
        settle(&mut exchange).await;
        assert!(exchange.request_complete());
        assert!(received(&mut upstream).await.ends_with("3|one|0||"));
        upstream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-t: 1\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(head(&mut exchange).await.unwrap(), 200);
        assert_eq!(body(&mut exchange).await, ("ok".to_owned(), Ok(None)), "trailers are off");
        assert!(exchange.is_reusable());
    });
}

#[test]
fn trailers_by_setting() {
    run(async {
        let settings = ClientSettings { enable_trailers: true, ..ClientSettings::default() };
        let (client, mut upstream) = connect_with(settings);
        let tap = Tap::default();
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-t"), HeaderValue::from_static("1"))]);
        tap.put(Some(Ok(Frame::Trailers(trailers.clone()))));
        let mut exchange = client.start(&request(Method::POST), post(&tap)).unwrap();
        settle(&mut exchange).await;
        assert!(received(&mut upstream).await.ends_with("||0|x-t: 1||"));
        upstream
            .write_all(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\nHost: b\r\n\r\n",
            )
            .await
            .unwrap();
        head(&mut exchange).await.unwrap();
        assert_eq!(body(&mut exchange).await, ("ok".to_owned(), Ok(Some(trailers))));
        assert!(exchange.is_reusable());
    });
}

#[test]
fn a_body_that_fails_fails_the_exchange() {
    run(async {
        let broken =
            || Some(Err(BodyError { reason: ResetReason::ProtocolError, details: "http1.codec_error".into() }));
        let (client, _upstream) = connect();
        let tap = Tap::default();
        tap.put(broken());
        let mut exchange = client.start(&request(Method::POST), post(&tap)).unwrap();
        let error = head(&mut exchange).await.unwrap_err();
        assert_eq!((error.reason, &*error.details), (ResetReason::LocalReset, "http1.codec_error"));
        assert!(!exchange.is_reusable());

        // What was good of it went out, as it would have if the failure had come a moment later.
        let (client, mut upstream) = connect();
        let tap = Tap::default();
        tap.push("abc");
        tap.put(broken());
        let mut exchange = client.start(&request(Method::POST), post(&tap)).unwrap();
        assert_eq!(head(&mut exchange).await.unwrap_err().reason, ResetReason::LocalReset);
        assert!(received(&mut upstream).await.ends_with("chunked||3|abc|"));

        let (client, mut upstream) = connect();
        let tap = Tap::default();
        let mut exchange = client.start(&request(Method::POST), post(&tap)).unwrap();
        settle(&mut exchange).await;
        upstream.write_all(b"HTTP/1.1 200 OK\r\n\r\nabc").await.unwrap();
        head(&mut exchange).await.unwrap();
        tap.put(broken());
        assert_eq!(body(&mut exchange).await.1, Err(ResetReason::LocalReset));
        // A body that is not as long as its head says must not be sent as if it were.
        for data in ["ab", "abcdef"] {
            let (client, mut upstream) = connect();
            let tap = Tap::default();
            tap.push(data);
            tap.put(None);
            let mut head_with_length = request(Method::POST);
            head_with_length.headers.insert("content-length", HeaderValue::from_static("5"));
            let mut exchange = client.start(&head_with_length, post(&tap)).unwrap();
            assert_eq!(head(&mut exchange).await.unwrap_err().reason, ResetReason::LocalReset);
            drop(exchange);
            assert!(!received(&mut upstream).await.contains("abcdef"));
        }
    });
}

#[test]
fn an_answer_before_the_end_of_the_request_is_read_though_writing_fails() {
    run(async {
        let (client, mut upstream) = connect();
        let tap = Tap::default();
        let mut exchange = client.start(&request(Method::POST), post(&tap)).unwrap();
        settle(&mut exchange).await;
        upstream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        drop(upstream);
        tap.put(Some(Ok(Frame::Data(vec![b'x'; 100_000].into()))));
        assert_eq!(head(&mut exchange).await.unwrap(), 413);
        assert_eq!(body(&mut exchange).await, ("no".to_owned(), Ok(None)));
        assert!(!exchange.is_reusable());
    });
}

#[test]
fn a_slow_upstream_bounds_what_is_held() {
    run(async {
        let (client, mut upstream) = connect();
        let tap = Tap::default();
        for _ in 0..100 {
            tap.put(Some(Ok(Frame::Data(vec![b'x'; 10_000].into()))));
        }
        let mut exchange = client.start(&request(Method::POST), post(&tap)).unwrap();
        settle(&mut exchange).await;
        let left = tap.0.borrow().0.len();
        assert!((78..=90).contains(&left), "{left}");
        let mut sink = vec![0; 40_000];
        upstream.read_exact(&mut sink).await.unwrap();
        settle(&mut exchange).await;
        assert!(tap.0.borrow().0.len() < left);
    });
}

#[test]
fn an_uncanonical_head_is_not_sent() {
    run(async {
        for bad in [
            RequestHead { path: "/a b\r\nx: y".into(), ..request(Method::GET) },
            RequestHead { authority: "a,b".into(), ..request(Method::GET) },
        ] {
            let (client, mut upstream) = connect();
            let Err(error) = client.start(&bad, Body::Empty) else { panic!("sent") };
            assert_eq!((error.reason, error.request_written), (ResetReason::ProtocolError, false));
            assert_eq!(received(&mut upstream).await, "");
        }
    });
}

#[test]
fn tunnels() {
    run(async {
        let (client, mut upstream) = connect();
        let tap = Tap::default();
        let upgrade = RequestHead { upgrade: Some("websocket".into()), ..request(Method::GET) };
        let mut exchange = client.start(&upgrade, post(&tap)).unwrap();
        settle(&mut exchange).await;
        assert_eq!(received(&mut upstream).await, "GET /x HTTP/1.1|host: a|connection: Upgrade|upgrade: websocket||");
        tap.push("early");
        settle(&mut exchange).await;
        assert_eq!(received(&mut upstream).await, "", "an upstream that does not switch would take it for a request");
        upstream.write_all(b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst").await.unwrap();
        let response = poll_fn(|cx| exchange.poll_head(cx)).await.unwrap();
        assert_eq!((response.status.as_u16(), response.upgrade.unwrap().as_str()), (101, "websocket"));
        tap.push("raw\0\r\n");
        let first = poll_fn(|cx| exchange.poll_frame(cx)).await;
        assert!(matches!(first, Some(Ok(Frame::Data(data))) if data == "first"));
        assert_eq!(received(&mut upstream).await, "earlyraw\0|");
        // Half-close: our end of sending is theirs of reading, and they may still answer.
        tap.put(None);
        let (rest, ()) = tokio::join!(body(&mut exchange), async {
            let mut rest = Vec::new();
            upstream.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty());
            upstream.write_all(b"answer").await.unwrap();
            upstream.shutdown().await.unwrap();
        });
        assert_eq!(rest, ("answer".to_owned(), Ok(None)));
        assert!(!exchange.is_reusable());
    });
}

#[test]
fn a_refused_tunnel_is_a_plain_answer() {
    run(async {
        let (client, mut upstream) = connect();
        let connect = RequestHead { authority: "b:443".into(), path: "".into(), ..request(Method::CONNECT) };
        let mut exchange = client.start(&connect, post(&Tap::default())).unwrap();
        settle(&mut exchange).await;
        assert_eq!(received(&mut upstream).await, "CONNECT b:443 HTTP/1.1|host: b:443||");
        upstream.write_all(b"HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno").await.unwrap();
        assert_eq!(head(&mut exchange).await.unwrap(), 403);
        assert_eq!(body(&mut exchange).await, ("no".to_owned(), Ok(None)));
        assert!(!exchange.is_reusable());
    });
}
