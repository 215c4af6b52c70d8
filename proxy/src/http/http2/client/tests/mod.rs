mod hostile;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::io::DuplexStream;
use tokio::time::Instant;

use hostile::{ok, response};

use super::{ClientEvent, H2Client, H2Exchange, connect};
use crate::http::http2::Http2Stats;
use crate::http::http2::frames::{flag, kind};
use crate::http::http2::settings::{ClientSettings, Keepalive};
use crate::http::http2::testing::{
    Frames, Raw, RawFrame, block, client_settings, collect, drain_body, frame, pipe, run,
};
use crate::http::{
    Body, BodySource, ByteStr, ExchangeError, Frame, Protocol, RequestHead, ResetReason, ResponseHead, Scheme,
};

const SECOND: Duration = Duration::from_secs(1);

fn head(method: Method, path: &str) -> RequestHead {
    RequestHead {
        method,
        scheme: Scheme::Http,
        authority: ByteStr::from_static("up.test"),
        path: ByteStr::from(path),
        upgrade: None,
        headers: HeaderMap::new(),
        protocol: Protocol::Http11,
        case: None,
        wire_size: 0,
    }
}

async fn client(settings: ClientSettings) -> (H2Client, DuplexStream, Rc<ClientSettings>) {
    let (io, peer) = pipe(1 << 20);
    let settings = Rc::new(settings);
    let (client, driver) = connect(io, Rc::clone(&settings)).await.unwrap();
    drop(tokio::task::spawn_local(driver));
    (client, peer, settings)
}

async fn answer(exchange: &mut H2Exchange) -> Result<ResponseHead, ExchangeError> {
    poll_fn(|cx| exchange.poll_head(cx)).await
}

async fn body(exchange: H2Exchange) -> (Vec<u8>, Option<HeaderMap>) {
    collect(&mut Body::Stream(Box::new(exchange))).await.unwrap()
}

/// A good server that answers each request with its method and path, and echoes the body and trailers.
fn echo(io: DuplexStream, builder: h2::server::Builder) {
    drop(tokio::task::spawn_local(async move {
        let mut connection = builder.handshake::<_, Bytes>(io).await.unwrap();
        while let Some(Ok((mut request, mut respond))) = connection.accept().await {
            drop(tokio::task::spawn_local(async move {
                let hint = http::Response::builder().status(103).body(()).unwrap();
                respond.send_informational(hint).unwrap();
                let line = format!("{} {} ", request.method(), request.uri());
                let response = http::Response::builder().status(200).body(()).unwrap();
                let mut send = respond.send_response(response, false).unwrap();
                let (data, trailers) = drain_body(request.body_mut()).await.unwrap();
                send.send_data(Bytes::from([line.as_bytes(), &data].concat()), trailers.is_none()).unwrap();
                if let Some(trailers) = trailers {
                    send.send_trailers(trailers).unwrap();
                }
            }));
        }
    }));
}

#[test]
fn requests_and_answers_pass_with_bodies_trailers_and_interim_responses() {
    run(async {
        let (client, io, settings) = client(client_settings()).await;
        echo(io, h2::server::Builder::new());
        let mut exchange = client.start(&head(Method::GET, "/a?b=c"), Body::Empty).unwrap();
        assert_eq!(client.active(), 1);
        assert_eq!(answer(&mut exchange).await.unwrap().status, StatusCode::EARLY_HINTS);
        let got = answer(&mut exchange).await.unwrap();
        assert_eq!((got.status, got.protocol), (StatusCode::OK, Protocol::Http2));
        assert_eq!(body(exchange).await, (b"GET http://up.test/a?b=c ".to_vec(), None));
        assert_eq!(client.active(), 0);

        let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("t"))]);
        let long = Bytes::from(vec![b'z'; 700_000]);
        let frames = [Frame::Data(long.clone()), Frame::Data(long), Frame::Trailers(trailers.clone())];
        let mut exchange = client.start(&head(Method::POST, "/"), Frames::body(frames)).unwrap();
        answer(&mut exchange).await.unwrap();
        answer(&mut exchange).await.unwrap();
        let (data, got) = body(exchange).await;
        assert_eq!((data.len(), got), (1_400_000 + b"POST http://up.test/ ".len(), Some(trailers)));
        assert_eq!(settings.stats.read_gauge(Http2Stats::STREAMS_ACTIVE), 0);
    });
}

#[test]
fn uploads_go_on_while_nobody_reads_the_answer() {
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let received = Rc::new(Cell::new(0));
        let count = Rc::clone(&received);
        drop(tokio::task::spawn_local(async move {
            let mut connection = h2::server::handshake(io).await.unwrap();
            let (mut request, mut respond) = connection.accept().await.unwrap().unwrap();
            drop(tokio::task::spawn_local(async move { while connection.accept().await.is_some() {} }));
            let mut send = respond.send_response(http::Response::new(()), false).unwrap();
            // More than the window: it stays unread.
            send.send_data(Bytes::from(vec![0; 1 << 20]), false).unwrap();
            while let Some(data) = request.body_mut().data().await {
                let data = data.unwrap();
                count.set(count.get() + data.len());
                request.body_mut().flow_control().release_capacity(data.len()).unwrap();
            }
            send.send_data(Bytes::new(), true).unwrap();
        }));
        let frames = (0..100).map(|_| Frame::Data(Bytes::from(vec![1; 30_000])));
        let mut exchange = client.start(&head(Method::POST, "/"), Frames::body(frames)).unwrap();
        answer(&mut exchange).await.unwrap();
        tokio::time::sleep(SECOND).await;
        assert_eq!(received.get(), 3_000_000);
        assert_eq!(body(exchange).await.0.len(), 1 << 20);
    });
}

/// A raw server, its first request's HEADERS read; what it was told after that depends on the test.
async fn raw_server(io: DuplexStream, settings: &[u8]) -> Raw {
    Raw::server(io, settings).await
}

#[test]
fn at_most_eight_interim_responses_are_handed_on() {
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let mut raw = raw_server(io, &[]).await;
        let mut exchange = client.start(&head(Method::GET, "/"), Body::Empty).unwrap();
        raw.next_of(&[kind::HEADERS]).await.unwrap();
        for _ in 0..5000 {
            raw.send(&response(&[(b":status", b"103")], 0)).await;
        }
        raw.send(&ok(flag::END_STREAM)).await;
        let mut interim = 0;
        while answer(&mut exchange).await.unwrap().status == StatusCode::EARLY_HINTS {
            interim += 1;
        }
        assert_eq!(interim, 8);
        assert!(exchange.is_end_stream());
    });
}

fn settings_frame(id: u8, value: u32) -> Vec<u8> {
    [&[0, id][..], &value.to_be_bytes()].concat()
}

#[test]
fn both_limits_of_concurrency_hold() {
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let events = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&events);
        client.observe(Rc::new(move |event| noted.borrow_mut().push(event)));
        let mut raw = raw_server(io, &settings_frame(3, 2)).await;
        tokio::time::sleep(SECOND).await;
        assert_eq!(*events.borrow(), [ClientEvent::Capacity]);
        let start = || client.start(&head(Method::GET, "/"), Body::Empty).unwrap();
        let one = start();
        assert!(client.can_open());
        let two = start();
        assert!(!client.can_open());
        drop(one);
        assert!(client.can_open());
        assert_eq!(events.borrow().len(), 2);
        let three = start();
        let ids: Vec<u32> = {
            let mut ids = Vec::new();
            for _ in 0..3 {
                ids.push(raw.next_of(&[kind::HEADERS]).await.unwrap().head.stream_id);
            }
            ids
        };
        assert_eq!(ids, [1, 3, 5]);
        raw.frame(kind::SETTINGS, 0, 0, &settings_frame(3, 0)).await;
        tokio::time::sleep(SECOND).await;
        drop((two, three));
        assert!(!client.can_open(), "CVE-2021-32780: a limit of zero is waited out");
        raw.frame(kind::SETTINGS, 0, 0, &settings_frame(3, 5)).await;
        tokio::time::sleep(SECOND).await;
        assert!(client.can_open());
    });
    run(async {
        let mut settings = client_settings();
        settings.options.max_concurrent_streams = 1;
        let (client, _io, _) = client(settings).await;
        let one = client.start(&head(Method::GET, "/"), Body::Empty).unwrap();
        assert!(!client.can_open());
        drop(one);
        assert!(client.can_open());
    });
}

#[test]
fn goaway_lets_the_streams_it_names_finish() {
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let events = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&events);
        client.observe(Rc::new(move |event| noted.borrow_mut().push(event)));
        let mut raw = raw_server(io, &[]).await;
        let mut one = client.start(&head(Method::GET, "/1"), Body::Empty).unwrap();
        let mut two = client.start(&head(Method::GET, "/2"), Body::Empty).unwrap();
        raw.next_of(&[kind::HEADERS]).await.unwrap();
        raw.next_of(&[kind::HEADERS]).await.unwrap();
        raw.frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
        let error = answer(&mut two).await.unwrap_err();
        assert_eq!((error.reason, error.refused), (ResetReason::RemoteRefusedStreamReset, true));
        assert!(client.is_closing() && !client.is_closed());
        assert!(client.start(&head(Method::GET, "/3"), Body::Empty).err().unwrap().refused);
        raw.send(&[ok(0), frame(kind::DATA, flag::END_STREAM, 1, b"done")].concat()).await;
        answer(&mut one).await.unwrap();
        assert_eq!(body(one).await.0, b"done");
        let (frames, ended) = raw.rest().await;
        assert!(ended, "{frames:?}");
        assert!(client.is_closed());
        assert!(events.borrow().contains(&ClientEvent::GoAway));
        assert_eq!(events.borrow().last(), Some(&ClientEvent::Closed), "{:?}", events.borrow());
    });
}

async fn frames_of(raw: &mut Raw, stream_id: u32) -> Vec<RawFrame> {
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = tokio::time::timeout(SECOND, raw.next()).await {
        if frame.head.stream_id == stream_id {
            frames.push(frame);
        }
    }
    frames
}

#[test]
fn dropping_an_exchange_resets_its_stream() {
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let mut raw = raw_server(io, &[]).await;
        let before = client.start(&head(Method::GET, "/"), Body::Empty).unwrap();
        let mut after = client.start(&head(Method::GET, "/"), Body::Empty).unwrap();
        tokio::time::sleep(SECOND).await;
        drop(before);
        let last = frames_of(&mut raw, 1).await.pop().unwrap();
        assert_eq!((last.head.kind, last.code()), (kind::RST_STREAM, 2));
        raw.frame(kind::HEADERS, flag::END_HEADERS, 3, &[0x88]).await;
        answer(&mut after).await.unwrap();
        drop(after);
        let last = frames_of(&mut raw, 3).await.pop().unwrap();
        assert_eq!((last.head.kind, last.code()), (kind::RST_STREAM, 2));
        // Also one whose request goes on by itself, and one whose answer was complete before its request.
        for (id, end) in [(5, false), (7, true)] {
            let endless = Body::Stream(Box::new(Endless));
            let mut exchange = client.start(&head(Method::POST, "/"), endless).unwrap();
            assert!(poll_fn(|cx| std::task::Poll::Ready(exchange.poll_head(cx))).await.is_pending());
            assert_eq!(raw.next_of(&[kind::HEADERS]).await.unwrap().head.stream_id, id);
            let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
            raw.frame(kind::HEADERS, flags, id, &[0x88]).await;
            answer(&mut exchange).await.unwrap();
            tokio::time::sleep(SECOND).await;
            drop(exchange);
            let last = frames_of(&mut raw, id).await.pop().unwrap();
            assert_eq!((last.head.kind, last.code()), (kind::RST_STREAM, 2), "{id}");
        }
        assert_eq!(client.active(), 0);
    });
}

/// A body of which nothing comes.
struct Endless;

impl BodySource for Endless {
    fn poll_frame(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame, crate::http::BodyError>>> {
        std::task::Poll::Pending
    }
}

#[test]
fn a_request_body_that_fails_resets_the_stream() {
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let mut raw = raw_server(io, &[]).await;
        let failed = crate::http::BodyError { reason: ResetReason::RemoteReset, details: "gone".into() };
        let source =
            Frames { frames: [Ok(Frame::Data(Bytes::from_static(b"x"))), Err(failed)].into(), pulled: Rc::default() };
        let mut exchange = client.start(&head(Method::POST, "/"), Body::Stream(Box::new(source))).unwrap();
        let error = answer(&mut exchange).await.unwrap_err();
        assert_eq!((error.reason, &*error.details), (ResetReason::RemoteReset, "gone"));
        let last = frames_of(&mut raw, 1).await.pop().unwrap();
        assert_eq!((last.head.kind, last.code()), (kind::RST_STREAM, 2));
    });
}

#[test]
fn an_early_answer_counts_although_the_peer_then_resets() {
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let mut raw = raw_server(io, &[]).await;
        let endless = Frames::body((0..1000).map(|_| Frame::Data(Bytes::from(vec![0; 16_384]))));
        let mut exchange = client.start(&head(Method::POST, "/"), endless).unwrap();
        raw.next_of(&[kind::HEADERS]).await.unwrap();
        let reset = frame(kind::RST_STREAM, 0, 1, &[0; 4]);
        let answered = [ok(0), frame(kind::DATA, flag::END_STREAM, 1, b"no"), reset].concat();
        raw.send(&answered).await;
        assert_eq!(answer(&mut exchange).await.unwrap().status, 200);
        assert_eq!(body(exchange).await.0, b"no");
        assert_eq!(client.active(), 0);
    });
}

#[test]
fn the_connection_ends_with_its_last_handle() {
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let mut raw = raw_server(io, &[]).await;
        let mut exchange = client.start(&head(Method::GET, "/"), Body::Empty).unwrap();
        raw.next_of(&[kind::HEADERS]).await.unwrap();
        drop(client);
        raw.send(&ok(flag::END_STREAM)).await;
        assert_eq!(answer(&mut exchange).await.unwrap().status, 200);
        drop(exchange);
        let (frames, ended) = raw.rest().await;
        assert!(ended);
        assert_eq!(frames.last().unwrap().head.kind, kind::GOAWAY);
    });
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let mut raw = raw_server(io, &[]).await;
        client.close();
        assert!(!client.can_open());
        assert!(raw.rest().await.1);
        assert!(client.is_closed());
    });
}

#[test]
fn keepalive_finds_a_dead_peer_and_idle_connections_are_probed_before_use() {
    let config = |interval, idle| Keepalive {
        interval,
        timeout: 3 * SECOND,
        interval_jitter: 0.0,
        connection_idle_interval: idle,
    };
    run(async {
        let mut settings = client_settings();
        settings.options.connection_keepalive = Some(config(Some(10 * SECOND), None));
        let (client, io, settings) = client(settings).await;
        let start = Instant::now();
        let mut raw = raw_server(io, &[]).await;
        raw.polite = false;
        let mut exchange = client.start(&head(Method::GET, "/"), Body::Empty).unwrap();
        let error = answer(&mut exchange).await.unwrap_err();
        assert_eq!(start.elapsed().as_secs(), 13);
        assert_eq!(error.reason, ResetReason::ConnectionTermination);
        assert_eq!(settings.stats.read(Http2Stats::KEEPALIVE_TIMEOUT), 1);
    });
    run(async {
        let mut settings = client_settings();
        settings.options.connection_keepalive = Some(config(None, Some(5 * SECOND)));
        let (client, io, _) = client(settings).await;
        let mut raw = raw_server(io, &[]).await;
        let pinged = async |raw: &mut Raw| {
            let exchange = client.start(&head(Method::GET, "/"), Body::Empty).unwrap();
            let mut pinged = false;
            while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_millis(100), raw.next()).await {
                pinged |= frame.head.kind == kind::PING;
            }
            drop(exchange);
            pinged
        };
        assert!(!pinged(&mut raw).await);
        tokio::time::sleep(2 * SECOND).await;
        assert!(!pinged(&mut raw).await);
        tokio::time::sleep(6 * SECOND).await;
        assert!(pinged(&mut raw).await);
        tokio::time::sleep(10 * SECOND).await;
        assert!(!client.is_closed(), "the answer came");
    });
}

#[test]
fn upgrades_need_a_peer_that_knows_extended_connect() {
    let upgrade = || RequestHead { upgrade: Some(ByteStr::from_static("websocket")), ..head(Method::GET, "/chat") };
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let mut exchange = client.start(&upgrade(), Frames::body([Frame::Data(Bytes::from_static(b"hi"))])).unwrap();
        drop(tokio::task::spawn_local(async move {
            let mut builder = h2::server::Builder::new();
            let mut connection = builder.enable_connect_protocol().handshake::<_, Bytes>(io).await.unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            drop(tokio::task::spawn_local(async move { while connection.accept().await.is_some() {} }));
            assert_eq!(request.method(), Method::CONNECT);
            assert_eq!(request.uri(), "http://up.test/chat");
            assert_eq!(request.extensions().get::<h2::ext::Protocol>().unwrap().as_str(), "websocket");
            let mut send = respond.send_response(http::Response::new(()), false).unwrap();
            let mut body = request.into_body();
            send.send_data(Bytes::from(drain_body(&mut body).await.unwrap().0), true).unwrap();
        }));
        let got = answer(&mut exchange).await.unwrap();
        assert_eq!(got.status, StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(got.upgrade, Some(ByteStr::from_static("websocket")));
        assert_eq!(body(exchange).await.0, b"hi");
    });
    run(async {
        let (client, io, _) = client(client_settings()).await;
        echo(io, h2::server::Builder::new());
        let mut exchange = client.start(&upgrade(), Body::Empty).unwrap();
        let error = answer(&mut exchange).await.unwrap_err();
        assert_eq!(&*error.details, "http2.extended_connect_not_supported");
        let error = client.start(&upgrade(), Body::Empty).err().unwrap();
        assert_eq!((&*error.details, error.request_written), ("http2.extended_connect_not_supported", false));
        assert_eq!(client.active(), 0);
    });
    // `allow_connect` answers for the peer: this one is asked, and refuses.
    run(async {
        let mut settings = client_settings();
        settings.options.allow_connect = true;
        let (client, io, _) = client(settings).await;
        echo(io, h2::server::Builder::new());
        let error = answer(&mut client.start(&upgrade(), Body::Empty).unwrap()).await.unwrap_err();
        assert_eq!((error.reason, error.request_written), (ResetReason::ProtocolError, true));
    });
}

#[test]
fn nothing_that_is_not_canonical_leaves() {
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let mut raw = raw_server(io, &[]).await;
        let bad = [
            RequestHead { path: ByteStr::from_static("/a b"), ..head(Method::GET, "/") },
            RequestHead { authority: ByteStr::from_static("a,b"), ..head(Method::GET, "/") },
            RequestHead {
                headers: [(http::header::HOST, http::HeaderValue::from_static("x"))].into_iter().collect(),
                ..head(Method::GET, "/")
            },
        ];
        for head in bad {
            let error = client.start(&head, Body::Empty).err().unwrap();
            assert_eq!(
                (error.reason, error.request_written, error.refused),
                (ResetReason::ProtocolError, false, false)
            );
        }
        let star = RequestHead { path: ByteStr::from_static("*"), ..head(Method::OPTIONS, "/") };
        let star = client.start(&star, Body::Empty).unwrap();
        let connect = RequestHead {
            path: ByteStr::default(),
            authority: ByteStr::from_static("a:1"),
            ..head(Method::CONNECT, "/")
        };
        let mut connect = client.start(&connect, Frames::body([])).unwrap();
        assert!(poll_fn(|cx| std::task::Poll::Ready(connect.poll_head(cx))).await.is_pending());
        let headers = frames_of(&mut raw, 3).await;
        assert_eq!(headers.len(), 2, "HEADERS and the empty end of the CONNECT body");
        drop((star, connect));
    });
}

#[test]
fn paths_that_are_no_uri_are_encoded() {
    run(async {
        let (client, io, _) = client(client_settings()).await;
        echo(io, h2::server::Builder::new());
        for (path, sent) in
            [("/<>`|^{}\"\\?<>`|^{}\"", "/%3C%3E%60|^{}%22\\?%3C%3E%60|^{}%22"), ("/|^{}\"\\", "/|^{}\"\\")]
        {
            let mut exchange = client.start(&head(Method::GET, path), Body::Empty).unwrap();
            while answer(&mut exchange).await.unwrap().status != 200 {}
            assert_eq!(body(exchange).await.0, format!("GET http://up.test{sent} ").into_bytes());
        }
        let error = client.start(&head(Method::GET, "/a#b"), Body::Empty).err().unwrap();
        assert_eq!(error.details, "http2.invalid_path");
    });
}

#[test]
fn responses_nobody_reads_stay_with_the_peer() {
    run(async {
        let (client, io, _) = client(client_settings()).await;
        let sent = Rc::new(Cell::new(0));
        let count = Rc::clone(&sent);
        drop(tokio::task::spawn_local(async move {
            let mut connection = h2::server::handshake(io).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let count = Rc::clone(&count);
                drop(tokio::task::spawn_local(async move {
                    let mut send = respond.send_response(http::Response::new(()), false).unwrap();
                    loop {
                        send.reserve_capacity(65_536);
                        let Some(Ok(room)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
                        count.set(count.get() + room);
                        send.send_data(Bytes::from(vec![0; room]), false).unwrap();
                    }
                }));
            }
        }));
        let mut exchanges = Vec::new();
        for _ in 0..50 {
            let mut exchange = client.start(&head(Method::GET, "/"), Body::Empty).unwrap();
            answer(&mut exchange).await.unwrap();
            exchanges.push(exchange);
        }
        tokio::time::sleep(SECOND).await;
        assert!(sent.get() <= 2 << 20, "{}", sent.get());
        // One that is read goes on, once the others are gone.
        exchanges.truncate(1);
        let mut read = 0;
        let mut exchange = exchanges.pop().unwrap();
        while read < 3 << 20 {
            match poll_fn(|cx| exchange.poll_frame(cx)).await {
                Some(Ok(Frame::Data(data))) => read += data.len(),
                other => panic!("{other:?}"),
            }
        }
    });
}
