//! Abuse: each flood ends the connection in time, and what a peer leaves unread or unsaid costs bounded memory.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::http::http2::Http2Stats;
use crate::http::http2::frames::{flag, kind};
use crate::http::http2::testing::{
    GET, Raw, Service, block, drain_body, frame, get, good_client, post, reply, run, serve, serve_through,
    server_settings,
};
use crate::http::{Body, BodyError, BodySource, Frame};
use crate::stats::Counter;

/// Sends `each` up to 20,000 times and expects GOAWAY ENHANCE_YOUR_CALM and the end within two seconds.
fn flood(first: &[u8], each: impl Fn(u32) -> Vec<u8>, counter: Counter<Http2Stats>) {
    run(async {
        let service = Service::new(|_| std::future::pending());
        let (served, io) = serve(service, server_settings());
        let mut raw = Raw::client(io).await;
        raw.send(first).await;
        let (started, (mut reader, mut writer)) = (Instant::now(), tokio::io::split(raw.io));
        let writing = async {
            for n in 0..20_000 {
                if tokio::io::AsyncWriteExt::write_all(&mut writer, &each(n)).await.is_err() {
                    break;
                }
            }
        };
        let mut got = Vec::new();
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut got);
        let both = async {
            tokio::select! {
                _ = reading => {}
                () = async { writing.await; std::future::pending().await } => {}
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), both).await.is_ok(), "the connection must end");
        assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
        let goaway = got.windows(17).any(|w| w[..4] == [0, 0, 8, kind::GOAWAY] && w[13..] == [0, 0, 0, 11]);
        assert!(goaway, "GOAWAY ENHANCE_YOUR_CALM");
        assert_eq!(served.stat(counter), 1, "{counter:?}");
        assert!(served.service.connection_closed_for().is_some());
    });
}

#[test]
fn floods_of_control_frames_end_the_connection() {
    flood(b"", |_| frame(kind::PING, 0, 0, &[7; 8]), Http2Stats::OUTBOUND_CONTROL_FLOOD);
    flood(b"", |_| frame(kind::SETTINGS, 0, 0, &[]), Http2Stats::OUTBOUND_CONTROL_FLOOD);
    flood(b"", |_| frame(0xfe, 0, 0, b"whatever"), Http2Stats::OUTBOUND_CONTROL_FLOOD);
    flood(b"", |_| frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 1]), Http2Stats::INBOUND_PRIORITY_FRAMES_FLOOD);
    flood(b"", |_| frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), Http2Stats::INBOUND_WINDOW_UPDATE_FRAMES_FLOOD);
}

#[test]
fn floods_on_streams_end_the_connection() {
    let post = frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&GET));
    flood(&post, |_| frame(kind::DATA, 0, 1, b""), Http2Stats::INBOUND_EMPTY_FRAMES_FLOOD);
    flood(&post, |_| frame(kind::DATA, flag::PADDED, 1, &[3, 0, 0, 0]), Http2Stats::INBOUND_EMPTY_FRAMES_FLOOD);
    let begun = frame(kind::HEADERS, 0, 1, &block(&GET));
    flood(&begun, |_| frame(kind::CONTINUATION, 0, 1, b""), Http2Stats::INBOUND_EMPTY_FRAMES_FLOOD);
    let piece = block(&[(b"a", b"b")]);
    flood(&begun, |_| frame(kind::CONTINUATION, 0, 1, &piece), Http2Stats::INBOUND_CONTINUATION_FLOOD);
    let rapid = |n: u32| {
        let id = 2 * n + 1;
        [
            frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, id, &block(&GET)),
            frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 8]),
        ]
        .concat()
    };
    flood(b"", rapid, Http2Stats::INBOUND_RESET_FLOOD);
    flood(&post, |_| frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 0]), Http2Stats::INBOUND_RESET_FLOOD);
    // Streams that we must reset, each for a window overflow.
    let overflow = |n: u32| {
        let id = 2 * n + 1;
        [
            frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, id, &block(&GET)),
            frame(kind::WINDOW_UPDATE, 0, id, &[0x7f, 0xff, 0xff, 0xff]),
        ]
        .concat()
    };
    flood(b"", overflow, Http2Stats::INBOUND_RESET_FLOOD);
    let malformed = |n: u32| {
        let fields = [&GET[..], &[(&b"te"[..], &b"gzip"[..])]].concat();
        frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 2 * n + 1, &block(&fields))
    };
    flood(b"", malformed, Http2Stats::INBOUND_RESET_FLOOD);
    // More streams than SETTINGS_MAX_CONCURRENT_STREAMS, none of which ends.
    let open = |n: u32| frame(kind::HEADERS, flag::END_HEADERS, 2 * n + 1, &block(&GET));
    flood(b"", open, Http2Stats::INBOUND_RESET_FLOOD);
}

/// Ten megabytes in pieces of 16 KiB; knows how many were taken.
struct Big {
    left: usize,
    taken: Rc<Cell<usize>>,
}

impl BodySource for Big {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let piece = self.left.min(16 * 1024);
        self.left -= piece;
        self.taken.set(self.taken.get() + piece);
        Poll::Ready((piece > 0).then(|| Ok(Frame::Data(Bytes::from(vec![b'x'; piece])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}

fn big_service() -> (Rc<Service>, Rc<Cell<usize>>) {
    let taken = Rc::new(Cell::new(0));
    let of_all = Rc::clone(&taken);
    let service = Service::new(move |_| {
        let taken = Rc::clone(&of_all);
        async move { reply(200, Body::Stream(Box::new(Big { left: 10 << 20, taken }))) }
    });
    (service, taken)
}

#[test]
fn a_zero_window_holds_back_the_bodies() {
    run(async {
        let (service, taken) = big_service();
        let (served, io) = serve(service, server_settings());
        let mut raw = Raw::client(io).await;
        raw.frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]).await;
        for n in 0..100 {
            raw.headers(2 * n + 1, &GET, true).await;
        }
        for _ in 0..100 {
            assert_eq!(raw.next_of(&[kind::HEADERS]).await.unwrap().status(), 200);
        }
        assert!(taken.get() <= 1 << 20, "{} bytes taken for no window", taken.get());
        // One octet for each stream makes none of them take much more.
        raw.frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 255, 255]).await;
        for n in 0..100 {
            raw.frame(kind::WINDOW_UPDATE, 0, 2 * n + 1, &[0, 0, 0, 1]).await;
        }
        for _ in 0..100 {
            assert_eq!(raw.next_of(&[kind::DATA]).await.unwrap().head.length, 1);
        }
        assert!(taken.get() <= 2 << 20, "{} bytes taken for 100 octets of window", taken.get());
        assert_eq!(served.settings.stats.read_gauge(Http2Stats::PENDING_SEND_BYTES), 0);
        // A stream with window flows although the others wait.
        raw.headers(201, &GET, true).await;
        raw.frame(kind::WINDOW_UPDATE, 0, 201, &[0, 1, 0, 0]).await;
        let mut got = 0;
        while got < 0x1_0000 {
            let data = raw.next_of(&[kind::DATA]).await.unwrap();
            assert_eq!(data.head.stream_id, 201);
            got += data.head.length;
        }
        drop(served);
    });
}

#[test]
fn an_unread_socket_holds_back_the_bodies() {
    run(async {
        let (service, taken) = big_service();
        let (served, io) = serve_through(service, server_settings(), 64 * 1024);
        let mut raw = Raw::client(io).await;
        raw.frame(kind::SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]).await;
        raw.frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xfe, 0, 0]).await;
        for n in 0..100 {
            raw.headers(2 * n + 1, &GET, true).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(taken.get() <= 4 << 20, "{} bytes taken, none read", taken.get());
        let pending = served.settings.stats.read_gauge(Http2Stats::PENDING_SEND_BYTES);
        assert!((1 << 19..=1 << 21).contains(&pending), "{pending}");
        // Reading on gets everything.
        let mut got = 0;
        while got < 100 * (10 << 20) {
            got += raw.next_of(&[kind::DATA]).await.unwrap().head.length as usize;
        }
        assert_eq!(taken.get(), 100 * (10 << 20));
    });
}

#[test]
fn a_peer_that_never_opens_its_window_is_reset_in_time() {
    run(async {
        let (service, taken) = big_service();
        let mut settings = server_settings();
        settings.stream_flush_timeout = Duration::from_secs(7);
        let (served, io) = serve(service, settings);
        let mut raw = Raw::client(io).await;
        let started = Instant::now();
        raw.headers(1, &GET, true).await;
        let reset = raw.next_of(&[kind::RST_STREAM]).await.unwrap();
        assert_eq!((reset.head.stream_id, reset.code()), (1, 8));
        assert_eq!(started.elapsed().as_secs(), 7);
        assert_eq!(served.stat(Http2Stats::TX_FLUSH_TIMEOUT), 1);
        assert!(taken.get() < 1 << 20);
    });
}

#[test]
fn uploads_wait_in_the_peer_until_somebody_reads() {
    run(async {
        let service = Service::new(|request| async move {
            // Keeps the body and never reads it.
            let _body = request.body;
            std::future::pending().await
        });
        let (_served, io) = serve(service, server_settings());
        let mut client = good_client(io, &h2::client::Builder::new()).await;
        let mut streams = Vec::new();
        let mut granted = 0;
        for _ in 0..20 {
            let (response, mut send) = client.send_request(post("/"), false).unwrap();
            send.reserve_capacity(1 << 20);
            streams.push((response, send));
        }
        // What the windows allow is sent; the rest is never asked for.
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            for (_, send) in &mut streams {
                let room = send.capacity();
                if room > 0 {
                    granted += room;
                    send.send_data(Bytes::from(vec![0; room]), false).unwrap();
                    send.reserve_capacity(1 << 20);
                }
            }
        }
        assert!(granted >= 512 * 1024, "{granted}");
        assert!(granted <= 1 << 20, "{granted}");
    });
}

#[test]
fn a_reader_of_uploads_gets_all_of_them() {
    run(async {
        let service = Service::new(|mut request| async move {
            let (data, _) = crate::http::http2::testing::collect(&mut request.body).await.unwrap();
            reply(200, Body::Full(Bytes::from(data.len().to_string())))
        });
        let (_served, io) = serve(service, server_settings());
        let mut client = good_client(io, &h2::client::Builder::new()).await;
        let mut responses = Vec::new();
        for _ in 0..20 {
            let (response, mut send) = client.send_request(post("/"), false).unwrap();
            send.send_data(Bytes::from(vec![1; 3 << 20]), true).unwrap();
            responses.push(response);
        }
        for response in responses {
            let mut response = response.await.unwrap();
            assert_eq!(drain_body(response.body_mut()).await.unwrap().0, (3 << 20).to_string().into_bytes());
        }
        let (response, _) = client.send_request(get("/"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever frames come, in whatever pieces: no panic, and the connection ends once the peer is gone.
    #[test]
    fn arbitrary_frames_are_survived(
        frames in proptest::collection::vec(
            (0u8..12, proptest::prelude::any::<u8>(), 0u32..8, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)),
            0..60,
        ),
        good_every in 1usize..6,
        piece in 1usize..200,
    ) {
        let mut bytes = Vec::new();
        for (n, (frame_kind, flags, id, payload)) in frames.into_iter().enumerate() {
            if n % good_every == 0 {
                bytes.extend(frame(kind::HEADERS, flag::END_HEADERS | (flags & 1), 2 * n as u32 + 1, &block(&GET)));
            }
            bytes.extend(frame(frame_kind, flags, id, &payload));
        }
        run(async {
            let service = Service::new(|mut request| async move {
                let _ = crate::http::http2::testing::collect(&mut request.body).await;
                reply(200, Body::Full(Bytes::from_static(b"hello")))
            });
            let (served, io) = serve(service, server_settings());
            let mut raw = Raw::client(io).await;
            for piece in bytes.chunks(piece) {
                raw.send(piece).await;
                tokio::task::yield_now().await;
            }
            raw.rest().await;
            drop(raw);
            served.task.await.unwrap();
            tokio::task::yield_now().await;
            assert_eq!(served.settings.stats.read(Http2Stats::STREAM_PANICS), 0);
        });
    }
}
