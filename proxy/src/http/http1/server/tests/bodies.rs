//! Bodies in both directions.

use super::*;

fn post(framing: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n")
}

const CHUNKED: &str = "Transfer-Encoding: chunked";

#[test]
fn every_framing() {
    run(async {
        let mut peer = connect(echo);
        let ends = async |peer: &mut Peer, bytes: String, end: &str| {
            let text = peer.ask(&bytes).await;
            assert!(text.starts_with("HTTP/1.1 200 OK|") && text.ends_with(end), "{text}");
        };
        ends(&mut peer, post("Content-Length: 5") + "hello", "POST / [hello]").await;
        ends(&mut peer, post(CHUNKED) + "2;x=y\r\nhe\r\n3\r\nllo\r\n0\r\nx-t: 1\r\n\r\n", "POST / [he] [llo]").await;
        ends(&mut peer, post("Content-Length: 0"), "POST /").await;
        ends(&mut peer, post("x: y"), "POST /").await;
        ends(&mut peer, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab".to_owned(), "GET / [ab]").await;

        let trailers = ServerSettings { enable_trailers: true, ..ServerSettings::default() };
        let mut peer = connect_with(trailers, echo);
        ends(&mut peer, post(CHUNKED) + "1\r\na\r\n0\r\nX-T: 1\r\nHost: b\r\n\r\n", "POST / [a] x-t=1").await;
    });
}

#[test]
fn a_body_is_read_as_it_is_wanted() {
    run(async {
        let mut peer = connect(|mut request: Request| async move {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let mut total = 0;
            while let Some(Ok(Frame::Data(data))) = std::future::poll_fn(|cx| request.body.poll_frame(cx)).await {
                total += data.len();
            }
            reply_with(200, &[], Body::Full(total.to_string().into()))
        });
        peer.send(post("Content-Length: 1000000")).await;
        let service = Rc::clone(&peer.service);
        let (mut read, mut write) = tokio::io::split(peer.io);
        let sender = spawn_local(async move { write.write_all(&vec![b'x'; 1_000_000]).await.map(|()| write) });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(service.info.bytes_received.get() < 40_000, "only a little is read ahead");
        let write = sender.await.unwrap().unwrap();
        let mut all = [0; 100];
        let n = read.read(&mut all).await.unwrap();
        assert!(all[..n].ends_with(b"\r\n\r\n1000000"));
        drop(write);
    });
}

#[test]
fn a_body_may_be_read_by_another_task() {
    run(async {
        let mut peer = connect(|mut request: Request| async move {
            let reader = spawn_local(async move {
                let mut all = Vec::new();
                while let Some(Ok(Frame::Data(data))) = std::future::poll_fn(|cx| request.body.poll_frame(cx)).await {
                    all.extend_from_slice(&data);
                }
                all
            });
            reply_with(200, &[], Body::Full(reader.await.unwrap().into()))
        });
        peer.send(post("Content-Length: 6")).await;
        for piece in ["ab", "cd"] {
            assert_eq!(peer.ask(piece).await, "");
        }
        assert_eq!(peer.ask("ef").await, "HTTP/1.1 200 OK|content-length: 6||abcdef");
    });
}

#[test]
fn streams_in_both_directions() {
    run(async {
        let mut peer = connect(|request: Request| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            reply_with(200, &[], request.body)
        });
        assert_eq!(
            peer.ask(post("Content-Length: 6")).await,
            "HTTP/1.1 200 OK|content-length: 6|connection: close||"
                .replace("content-length: 6", "transfer-encoding: chunked")
        );
        assert_eq!(peer.ask("abc").await, "3|abc|");
        peer.send("def").await;
        let (text, end, at) = peer.closed().await;
        assert_eq!(text, "3|def|0||");
        assert_eq!((end.cause, end.delayed_close_timeout), (EndCause::Message, true));
        assert!(at >= Duration::from_secs(1), "{at:?}");
    });
}

#[test]
fn a_broken_body_is_answered_by_the_codec() {
    run(async {
        for (body, status, details) in [
            ("zz\r\n", 400, "http1.codec_error"),
            ("3\r\nabc\r\n0\r\nbad trailer\r\n\r\n", 400, "http1.codec_error"),
            ("3\r\nabcX", 400, "http1.codec_error"),
            ("3\r\nabc\r\n0\r\nx: \x07\r\n\r\n", 400, "http1.invalid_characters"),
            (&format!("0\r\nx: {}\r\n\r\n", "v".repeat(70_000)), 431, "http1.headers_too_large"),
        ] {
            let ctl = Rc::new(RefCell::new(None));
            let seen = Rc::clone(&ctl);
            let mut peer = connect(move |request: Request| {
                *seen.borrow_mut() = Some(Rc::clone(&request.ctl));
                echo(request)
            });
            peer.send(post(CHUNKED)).await;
            let (mut read, mut write) = tokio::io::split(peer.io);
            let body = body.to_owned();
            spawn_local(async move {
                let _ = write.write_all(body.as_bytes()).await;
                std::future::pending::<()>().await;
            });
            let mut all = Vec::new();
            read.read_to_end(&mut all).await.unwrap();
            let text = String::from_utf8_lossy(&all);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains("connection: close"), "{text}");
            let bad: Vec<_> = peer.service.bad.borrow().iter().map(|bad| bad.details.to_string()).collect();
            assert_eq!(bad, [details]);
            let ctl = ctl.borrow().clone().unwrap();
            assert_eq!(ctl.reset.get(), Some(ResetReason::ProtocolError));
            assert_eq!(ctl.reset_status.get().unwrap().as_u16(), status);
            assert_eq!(ctl.reset_details.borrow().as_deref(), Some(details));
            assert_eq!(peer.end.await.unwrap().cause, EndCause::ProtocolError);
        }
    });
}

#[test]
fn a_broken_body_may_be_answered_by_the_service() {
    run(async {
        let mut peer = connect(|mut request: Request| async move {
            loop {
                match std::future::poll_fn(|cx| request.body.poll_frame(cx)).await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        return reply_with(400, &[("x", "own")], Body::Full(error.details.to_string().into()));
                    }
                    None => panic!("a clean end"),
                }
            }
        });
        let text = peer.ask(post(CHUNKED) + "zz\r\n").await;
        assert_eq!(text, "HTTP/1.1 400 Bad Request|x: own|content-length: 17|connection: close||http1.codec_error");
        assert!(peer.bad().is_empty());
    });
}

#[test]
fn an_early_response_closes() {
    run(async {
        // Even with the whole body in the same packet, as in Envoy: the reply was there before it was read.
        let mut peer = connect(|_| async { reply(200, "direct") });
        peer.send(post("Content-Length: 3") + "abc").await;
        let (text, end, at) = peer.closed().await;
        assert_eq!(text, "HTTP/1.1 200 OK|content-length: 6|connection: close||direct");
        assert!(end.delayed_close_timeout && at >= Duration::from_secs(1));

        let slow = |_| async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            reply(403, "")
        };
        let mut peer = connect(slow);
        let text = peer.ask(post("Content-Length: 3") + "abc" + GET).await;
        assert_eq!(
            text, "HTTP/1.1 403 Forbidden|content-length: 0||HTTP/1.1 403 Forbidden|content-length: 0||",
            "it had all come"
        );
        let mut peer = connect(slow);
        let text = peer.ask(post("Content-Length: 3") + "ab").await;
        assert_eq!(text, "HTTP/1.1 403 Forbidden|content-length: 0|connection: close||");
        peer.send("c").await;
        drop(peer.io);
        assert!(!peer.end.await.unwrap().delayed_close_timeout, "the peer closed first");
    });
}

#[test]
fn responses_are_streamed_and_bounded() {
    run(async {
        let tap = Tap::default();
        let body = tap.clone();
        let mut peer = connect(move |_| {
            let body = body.clone();
            async move { reply_with(200, &[], body.body()) }
        });
        assert_eq!(peer.ask(GET).await, "HTTP/1.1 200 OK|transfer-encoding: chunked||");
        tap.push("one");
        assert_eq!(peer.read().await, "3|one|");
        let piece = Bytes::from(vec![b'x'; 10_000]);
        for _ in 0..100 {
            tap.frame(Some(Ok(Frame::Data(piece.clone()))));
        }
        tap.end();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let polled = tap.0.borrow().polled;
        assert!((8..=22).contains(&polled), "high-water mark and the pipe: {polled}");
        let mut rest = peer.read().await.len();
        while rest < 1_000_000 {
            rest += peer.read().await.len();
        }
        assert!(tap.dropped());
        assert!(peer.ask(GET).await.starts_with("HTTP/1.1 200 OK|"));
    });
}

#[test]
fn a_response_that_fails_is_not_ended() {
    run(async {
        let serve_tap = |fields: &'static [(&'static str, &'static str)]| {
            let tap = Tap::default();
            let body = tap.clone();
            let peer = connect(move |_| {
                let body = body.clone();
                async move { reply_with(200, fields, body.body()) }
            });
            (peer, tap)
        };
        let (mut peer, tap) = serve_tap(&[]);
        tap.push("one");
        tap.fail();
        peer.send(GET).await;
        let (text, end, _) = peer.closed().await;
        assert_eq!(text, "HTTP/1.1 200 OK|transfer-encoding: chunked||3|one|");
        assert_eq!((end.cause, end.active_request), (EndCause::CutResponse, false));
        assert!(tap.dropped());

        for body in [&["ab"][..], &["ab", "cdef"]] {
            let (mut peer, tap) = serve_tap(&[("content-length", "5")]);
            body.iter().for_each(|piece| tap.push(piece));
            tap.end();
            peer.send(GET).await;
            let (text, end, _) = peer.closed().await;
            assert_eq!(text, "HTTP/1.1 200 OK|content-length: 5||ab");
            assert_eq!(end.cause, EndCause::CutResponse);
        }
    });
}

#[test]
fn response_trailers_by_setting() {
    run(async {
        for (enable_trailers, end) in [(false, "0||"), (true, "0|grpc-status: 0||")] {
            let settings = ServerSettings { enable_trailers, ..ServerSettings::default() };
            let mut peer = connect_with(settings, |_| async {
                let tap = Tap::default();
                let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
                tap.frame(Some(Ok(Frame::Trailers(trailers))));
                reply_with(200, &[], tap.body())
            });
            assert_eq!(peer.ask(GET).await, format!("HTTP/1.1 200 OK|transfer-encoding: chunked||{end}"));
        }
    });
}
