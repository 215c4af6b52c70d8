//! The life of a connection: timers, draining, GOAWAY; and of a stream: resets, panics, interim responses, CONNECT.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::http::http2::Http2Stats;
use crate::http::http2::frames::{flag, kind};
use crate::http::http2::settings::Keepalive;
use crate::http::http2::testing::{
    Frames, GET, Raw, Service, collect, drain_body, get, good_client, post, reply, run, serve, serve_through,
    server_settings,
};
use crate::http::{Body, BodyError, Frame, ResetReason, ResponseHead, StreamCtl};
use crate::server::drain::DrainState;

const SECOND: Duration = Duration::from_secs(1);

/// The GOAWAYs of a connection until it ends: seconds since the start, last stream id, code; and when it ended.
async fn goaways(raw: &mut Raw, start: Instant) -> (Vec<(u64, u32, u32)>, u64) {
    let mut seen = Vec::new();
    let limit = start + 100 * SECOND;
    while let Ok(Some(frame)) = tokio::time::timeout_at(limit, raw.next()).await {
        if frame.head.kind == kind::GOAWAY {
            let last = u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
            seen.push((start.elapsed().as_secs(), last, frame.code()));
        }
    }
    (seen, start.elapsed().as_secs())
}

#[test]
fn an_idle_connection_says_goodbye() {
    run(async {
        let mut settings = server_settings();
        settings.idle_timeout = Some(2 * SECOND);
        let (served, io) = serve(Service::ok(), settings);
        let start = Instant::now();
        let mut raw = Raw::client(io).await;
        tokio::time::sleep(SECOND).await;
        raw.headers(1, &GET, true).await;
        let (seen, end) = goaways(&mut raw, start).await;
        let most = 0x7fff_ffff;
        assert_eq!(seen, [(3, most, 0), (8, most, 0), (8, 1, 0)], "two seconds after the last stream");
        assert_eq!(end, 8);
        drop(raw);
        served.task.await.unwrap();
    });
}

#[test]
fn a_connection_that_answers_no_ping_still_ends_after_the_drain_timeout() {
    run(async {
        let mut settings = server_settings();
        settings.max_connection_duration = Some(3 * SECOND);
        let (_served, io) = serve(Service::ok(), settings);
        let start = Instant::now();
        let mut raw = Raw::client(io).await;
        raw.polite = false;
        let (seen, end) = goaways(&mut raw, start).await;
        assert_eq!(seen, [(3, 0x7fff_ffff, 0), (8, 0x7fff_ffff, 0), (13, 0, 0)]);
        assert_eq!(end, 13);
    });
}

#[test]
fn draining_lets_streams_finish_and_refuses_none_in_flight() {
    run(async {
        let service = Service::new(|_| async {
            tokio::time::sleep(4 * SECOND).await;
            reply(200, Body::Full(Bytes::from_static(b"late")))
        });
        let (served, io) = serve(service, server_settings());
        let start = Instant::now();
        let mut client = good_client(io, &h2::client::Builder::new()).await;
        let (one, _) = client.send_request(get("/1"), true).unwrap();
        tokio::time::sleep(SECOND).await;
        served.drain(DrainState::Draining);
        // Sent before the client has seen GOAWAY.
        let (two, _) = client.send_request(get("/2"), true).unwrap();
        let mut one = one.await.unwrap();
        assert_eq!(drain_body(one.body_mut()).await.unwrap().0, b"late");
        let mut two = two.await.unwrap();
        assert_eq!(drain_body(two.body_mut()).await.unwrap().0, b"late");
        served.task.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 5);
        assert!(client.send_request(get("/3"), true).is_err());
    });
}

#[test]
fn an_idle_connection_closes_when_draining_begins_and_every_one_at_its_end() {
    run(async {
        let (served, io) = serve(Service::ok(), server_settings());
        let mut raw = Raw::client(io).await;
        raw.next_of(&[kind::SETTINGS]).await.unwrap();
        served.drain(DrainState::Draining);
        let (seen, end) = goaways(&mut raw, Instant::now()).await;
        assert_eq!((seen.len(), end), (3, 5));

        let resets = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&resets);
        let service = Service::new(move |request| {
            let watch = ResetWatch(Rc::clone(&request.ctl), Rc::clone(&noted));
            async move {
                let _watch = watch;
                std::future::pending().await
            }
        });
        let (served, io) = serve(service, server_settings());
        let mut raw = Raw::client(io).await;
        raw.headers(1, &GET, true).await;
        tokio::time::sleep(SECOND).await;
        served.drain(DrainState::Closing);
        let (seen, end) = goaways(&mut raw, Instant::now()).await;
        assert_eq!((seen, end), (vec![(0, 1, 0)], 0));
        drop(raw);
        served.task.await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(*resets.borrow(), [Some(ResetReason::ConnectionTermination)]);
    });
}

#[test]
fn enough_requests_or_a_reply_end_the_connection() {
    run(async {
        let mut settings = server_settings();
        settings.max_requests_per_connection = Some(3);
        let (served, io) = serve(Service::ok(), settings);
        let mut client = good_client(io, &h2::client::Builder::new()).await;
        for n in 0..3 {
            let (response, _) = client.send_request(get(&format!("/{n}")), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
        }
        served.task.await.unwrap();
        assert_eq!(served.service.called.get(), 3);

        let service = Service::new(|_| async {
            let mut reply = reply(200, Body::Empty);
            reply.close_connection = true;
            reply
        });
        let (served, io) = serve(service, server_settings());
        let mut client = good_client(io, &h2::client::Builder::new()).await;
        let (response, _) = client.send_request(get("/"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        served.task.await.unwrap();
    });
}

fn keepalive() -> Keepalive {
    Keepalive { interval: Some(10 * SECOND), timeout: 3 * SECOND, interval_jitter: 0.0, connection_idle_interval: None }
}

#[test]
fn a_peer_that_answers_no_keepalive_is_given_up() {
    run(async {
        let mut settings = server_settings();
        settings.options.connection_keepalive = Some(keepalive());
        let (served, io) = serve(Service::ok(), settings);
        let start = Instant::now();
        let mut raw = Raw::client(io).await;
        while start.elapsed() < 35 * SECOND {
            let Ok(Some(_)) = tokio::time::timeout(SECOND, raw.next()).await else { continue };
        }
        assert!(!served.task.is_finished(), "pings at 10, 20 and 30 seconds were answered");
        raw.polite = false;
        let (frames, closed) = raw.rest().await;
        assert!(closed && frames.iter().any(|f| f.head.kind == kind::PING));
        assert_eq!(start.elapsed().as_secs(), 43);
        assert_eq!(served.stat(Http2Stats::KEEPALIVE_TIMEOUT), 1);
        assert_eq!(served.service.connection_closed_for().as_deref(), Some("http2_ping_timeout"));
    });
}

/// Notes what `ctl` says when the request is dropped.
struct ResetWatch(Rc<StreamCtl>, Resets);

type Resets = Rc<RefCell<Vec<Option<ResetReason>>>>;

impl Drop for ResetWatch {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0.reset.get());
    }
}

/// A service that never answers, and what it was told at the end of each request.
fn stuck() -> (Rc<Service>, Resets) {
    let resets = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&resets);
    let service = Service::new(move |request| {
        let watch = ResetWatch(Rc::clone(&request.ctl), Rc::clone(&noted));
        async move {
            let (_watch, _body) = (watch, request.body);
            std::future::pending().await
        }
    });
    (service, resets)
}

#[test]
fn a_reset_or_a_lost_connection_cancels_the_request() {
    run(async {
        let (service, resets) = stuck();
        let (served, io) = serve(service, server_settings());
        let mut raw = Raw::client(io).await;
        for (id, code) in [(1, 8), (3, 7), (5, 1)] {
            raw.headers(id, &GET, id == 1).await;
            raw.frame(kind::RST_STREAM, 0, id, &[0, 0, 0, code]).await;
        }
        tokio::time::sleep(SECOND).await;
        let three =
            [ResetReason::RemoteReset, ResetReason::RemoteRefusedStreamReset, ResetReason::ProtocolError].map(Some);
        assert_eq!(*resets.borrow(), three);
        assert_eq!(served.settings.stats.read_gauge(Http2Stats::STREAMS_ACTIVE), 0);
        raw.headers(7, &GET, true).await;
        raw.headers(9, &GET, false).await;
        tokio::time::sleep(SECOND).await;
        assert_eq!(served.settings.stats.read_gauge(Http2Stats::STREAMS_ACTIVE), 2);
        drop(raw);
        served.task.await.unwrap();
        tokio::time::sleep(SECOND).await;
        assert_eq!(resets.borrow()[3..], [Some(ResetReason::ConnectionTermination); 2]);
        // Those that came in one piece with their reset were over before anybody saw them.
        assert!((2..=5).contains(&served.service.called.get()));
    });
}

#[test]
fn dropping_the_connection_future_ends_its_streams() {
    run(async {
        let (service, resets) = stuck();
        let (served, io) = serve(service, server_settings());
        let mut raw = Raw::client(io).await;
        raw.headers(1, &GET, true).await;
        tokio::time::sleep(SECOND).await;
        served.task.abort();
        tokio::time::sleep(SECOND).await;
        assert_eq!(*resets.borrow(), [Some(ResetReason::ConnectionTermination)]);
    });
}

#[test]
fn a_panic_ends_its_stream_only() {
    run(async {
        let service = Service::new(|request| async move {
            assert_ne!(request.head.path, "/panic", "as the test wants it");
            tokio::time::sleep(SECOND).await;
            reply(200, Body::Empty)
        });
        let (served, io) = serve(service, server_settings());
        let mut client = good_client(io, &h2::client::Builder::new()).await;
        let (good, _) = client.send_request(get("/"), true).unwrap();
        let (bad, _) = client.send_request(get("/panic"), true).unwrap();
        assert_eq!(bad.await.unwrap_err().reason(), Some(h2::Reason::INTERNAL_ERROR));
        assert_eq!(good.await.unwrap().status(), 200);
        let (after, _) = client.send_request(get("/"), true).unwrap();
        assert_eq!(after.await.unwrap().status(), 200);
        assert_eq!(served.stat(Http2Stats::STREAM_PANICS), 1);
        assert_eq!(served.settings.stats.read_gauge(Http2Stats::STREAMS_ACTIVE), 0);
    });
}

#[test]
fn a_body_that_fails_resets_the_stream() {
    run(async {
        let service = Service::new(|_| async {
            let failed = BodyError { reason: ResetReason::RemoteReset, details: "x".into() };
            let frames = [Ok(Frame::Data(Bytes::from_static(b"some"))), Err(failed)].into();
            reply(200, Body::Stream(Box::new(Frames { frames, pulled: Rc::default() })))
        });
        let (_served, io) = serve(service, server_settings());
        let mut raw = Raw::client(io).await;
        raw.headers(1, &GET, true).await;
        let reset = raw.next_of(&[kind::RST_STREAM]).await.unwrap();
        assert_eq!(reset.code(), 2);
    });
}

#[test]
fn an_answer_before_the_end_of_the_request_stops_the_upload_without_error() {
    run(async {
        let (_served, io) = serve(Service::ok(), server_settings());
        let mut raw = Raw::client(io).await;
        raw.headers(1, &GET, false).await;
        let head = raw.next_of(&[kind::HEADERS]).await.unwrap();
        assert!(head.head.has(flag::END_STREAM));
        assert_eq!(raw.next_of(&[kind::RST_STREAM]).await.unwrap().code(), 0);
        // What was under way is ignored, not answered.
        raw.frame(kind::DATA, 0, 1, b"late").await;
        raw.headers(3, &GET, true).await;
        let next = raw.next_of(&[kind::HEADERS, kind::RST_STREAM, kind::GOAWAY]).await.unwrap();
        assert_eq!((next.head.kind, next.head.stream_id), (kind::HEADERS, 3));
    });
}

#[test]
fn interim_responses_go_out_before_the_reply() {
    run(async {
        let service = Service::new(|request| async move {
            let hint = |status| ResponseHead::new(StatusCode::from_u16(status).unwrap());
            request.ctl.informational.borrow_mut().push_back(hint(103));
            request.ctl.wake();
            tokio::time::sleep(SECOND).await;
            // Not for HTTP/2.
            request.ctl.informational.borrow_mut().push_back(hint(101));
            request.ctl.informational.borrow_mut().push_back(hint(100));
            reply(200, Body::Empty)
        });
        let (_served, io) = serve(service, server_settings());
        let start = Instant::now();
        let mut client = good_client(io, &h2::client::Builder::new()).await;
        let (mut response, _) = client.send_request(get("/"), true).unwrap();
        let mut seen = Vec::new();
        while let Some(interim) = std::future::poll_fn(|cx| response.poll_informational(cx)).await {
            seen.push((interim.unwrap().status().as_u16(), start.elapsed().as_secs()));
        }
        assert_eq!(seen, [(103, 0), (100, 1)]);
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn answers_without_body_have_none() {
    run(async {
        let service = Service::new(|request| async move {
            let status = request.head.path.trim_start_matches('/').parse().unwrap();
            let mut reply = reply(status, Frames::body([Frame::Data(Bytes::from_static(b"never"))]));
            let headers = &mut reply.head.headers;
            headers.insert("content-length", http::HeaderValue::from_static("5"));
            headers.insert("connection", http::HeaderValue::from_static("close"));
            headers.insert("keep-alive", http::HeaderValue::from_static("1"));
            reply
        });
        let (_served, io) = serve(service, server_settings());
        let mut client = good_client(io, &h2::client::Builder::new()).await;
        for (method, status, length) in [("HEAD", 200, true), ("GET", 204, false), ("GET", 304, true)] {
            let mut request = get(&format!("/{status}"));
            *request.method_mut() = method.parse().unwrap();
            let (response, _) = client.send_request(request, true).unwrap();
            let mut response = response.await.unwrap();
            assert_eq!(response.status(), status);
            assert!(response.body().is_end_stream());
            assert_eq!(response.headers().contains_key("content-length"), length, "{status}");
            assert_eq!(response.headers().len(), usize::from(length), "{:?}", response.headers());
            assert_eq!(drain_body(response.body_mut()).await.unwrap().0, b"");
        }
    });
}

#[test]
fn tunnels_carry_bytes_both_ways() {
    run(async {
        let service = Service::new(|_| async {
            let mut reply = reply(200, Body::Full(Bytes::from_static(b"no tunnel")));
            reply.head.headers.insert("content-length", http::HeaderValue::from_static("9"));
            reply
        });
        let mut settings = server_settings();
        settings.options.allow_connect = true;
        let (_served, io) = serve(service, settings);
        let mut raw = Raw::client(io).await;
        let connect = [&GET[1..], &[(b":method", b"CONNECT"), (b":protocol", b"websocket")]].concat();
        raw.headers(1, &connect, false).await;
        let head = raw.next_of(&[kind::HEADERS]).await.unwrap();
        assert_eq!((head.payload, head.head.has(flag::END_STREAM)), (vec![0x88], true), "200, and closed at once");
    });
    let tunnel = |settings: crate::http::http2::ServerSettings, request: http::Request<()>| {
        run(async {
            let service = Service::new(|mut request| async move {
                assert_eq!(request.head.method, http::Method::CONNECT);
                let upgrade = request.head.upgrade.clone();
                let path = request.head.path.as_str();
                assert_eq!(path, if upgrade.is_some() { "/chat" } else { "" });
                let (data, _) = collect(&mut request.body).await.unwrap();
                let mut reply = reply(if upgrade.is_some() { 101 } else { 200 }, Body::Full(data.into()));
                reply.head.upgrade = upgrade;
                reply
            });
            let (_served, io) = serve(service, settings);
            let mut client = good_client(io, &h2::client::Builder::new()).await;
            // SETTINGS must have come.
            tokio::time::sleep(SECOND).await;
            let (response, mut send) = client.send_request(request, false).unwrap();
            send.send_data(Bytes::from_static(b"through"), true).unwrap();
            let mut response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(drain_body(response.body_mut()).await.unwrap().0, b"through");
        });
    };
    let mut plain = post("/");
    *plain.method_mut() = http::Method::CONNECT;
    *plain.uri_mut() = "a.test:443".parse().unwrap();
    tunnel(server_settings(), plain);
    let mut settings = server_settings();
    settings.options.allow_connect = true;
    let mut extended = get("/chat");
    *extended.method_mut() = http::Method::CONNECT;
    extended.extensions_mut().insert(h2::ext::Protocol::from_static("WebSocket"));
    tunnel(settings, extended);
}

#[test]
fn cookie_crumbs_become_one_line_and_sizes_are_those_of_the_wire() {
    run(async {
        let service = Service::new(|request| async move {
            let cookies: Vec<_> = request.head.headers.get_all("cookie").iter().collect();
            assert_eq!(cookies, ["a=1; b=2; c=3"]);
            assert_eq!(request.head.wire_size as u64, request.ctl.wire_received.get());
            reply(200, Body::Full(Bytes::from(request.head.wire_size.to_string())))
        });
        let (_served, io) = serve(service, server_settings());
        let mut raw = Raw::client(io).await;
        let fields = [&GET[..], &[(b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"cookie", b"c=3")]].concat();
        raw.headers(1, &fields, true).await;
        let size = 9 + crate::http::http2::testing::block(&fields).len();
        let data = raw.next_of(&[kind::DATA]).await.unwrap();
        assert_eq!(String::from_utf8(data.payload).unwrap(), size.to_string());
        assert!(data.head.has(flag::END_STREAM), "the end needs no frame of its own");
    });
}

#[test]
fn the_announcement_of_the_end_never_cuts_a_frame() {
    for size in [33, 1000, 20_000] {
        run(async {
            let body = Bytes::from(vec![b'x'; 500_000]);
            let service = Service::new(move |_| {
                let body = body.clone();
                async move { reply(200, Body::Full(body)) }
            });
            let (served, io) = serve_through(service, server_settings(), size);
            let mut client = good_client(io, h2::client::Builder::new().initial_window_size(1 << 20)).await;
            let (response, _) = client.send_request(get("/"), true).unwrap();
            let mut response = response.await.unwrap();
            let first = response.body_mut().data().await.unwrap().unwrap();
            served.drain(DrainState::Draining);
            response.body_mut().flow_control().release_capacity(first.len()).unwrap();
            let (rest, _) = drain_body(response.body_mut()).await.unwrap();
            assert_eq!(first.len() + rest.len(), 500_000);
            served.task.await.unwrap();
        });
    }
}

#[test]
fn durations_without_end_are_no_trouble() {
    run(async {
        let mut settings = server_settings();
        settings.idle_timeout = Some(Duration::MAX);
        settings.max_connection_duration = Some(Duration::MAX);
        settings.max_connection_duration_jitter = 50.0;
        settings.drain_timeout = Duration::MAX;
        settings.drain_timeout_jitter = 50.0;
        settings.stream_flush_timeout = Duration::MAX;
        settings.options.connection_keepalive =
            Some(Keepalive { interval: Some(Duration::MAX), timeout: Duration::MAX, ..keepalive() });
        let (served, io) = serve(Service::ok(), settings);
        let mut raw = Raw::client(io).await;
        raw.headers(1, &GET, true).await;
        assert_eq!(raw.next_of(&[kind::HEADERS]).await.unwrap().status(), 200);
        served.drain(DrainState::Draining);
        tokio::time::sleep(3600 * SECOND).await;
        assert!(!served.task.is_finished());
        served.drain(DrainState::Closing);
        assert!(raw.rest().await.1);
    });
}
