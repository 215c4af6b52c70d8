//! Requests and responses on a connection that stays open.

use super::*;

#[test]
fn one_after_the_other_on_one_connection() {
    run(async {
        let mut peer = connect(echo);
        assert_eq!(peer.ask(GET).await, "HTTP/1.1 200 OK|content-length: 5||GET /");
        assert_eq!(
            peer.ask("\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n").await,
            "HTTP/1.1 200 OK|content-length: 6||GET /b"
        );
        drop(peer.io);
        let end = peer.end.await.unwrap();
        assert_eq!((end.cause, end.active_request), (EndCause::Peer, false));
        assert_eq!(peer.service.info.bytes_received.get(), 27 + 30);
        assert_eq!(peer.service.info.bytes_sent.get(), 43 + 44);
    });
}

#[test]
fn a_head_in_pieces() {
    run(async {
        let mut peer = connect(echo);
        for piece in ["GET /slow HT", "TP/1.1\r\nHo", "st: a\r\n\r"] {
            assert_eq!(peer.ask(piece).await, "");
        }
        assert_eq!(peer.ask("\n").await, "HTTP/1.1 200 OK|content-length: 9||GET /slow");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_one_at_a_time() {
    run(async {
        let busy = Rc::new(Cell::new(false));
        let peer = connect(move |request: Request| {
            let busy = Rc::clone(&busy);
            async move {
                assert!(!busy.replace(true), "two requests in work");
                let time = if request.head.path == "/p1" { 50 } else { 1 };
                tokio::time::sleep(Duration::from_millis(time)).await;
                busy.set(false);
                echo(request).await
            }
        });
        let mut peer = peer;
        peer.send("GET /p1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /p2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            .await;
        peer.send("GET /p3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /p4").await;
        let (text, end, _) = peer.closed().await;
        let paths: Vec<_> = text.split("||").skip(1).map(|t| t.split("HTTP").next().unwrap()).collect();
        assert_eq!(paths, ["GET /p1", "POST /p2 [abc]", "GET /p3"]);
        assert!(text.contains("|connection: close|"));
        assert_eq!(end.cause, EndCause::Message);
    });
}

#[test]
fn pipelined_bytes_are_bounded() {
    run(async {
        let mut peer = connect(|_| std::future::pending());
        let flood = GET.repeat(10_000);
        let sent = tokio::time::timeout(Duration::from_secs(1), peer.io.write_all(flood.as_bytes())).await;
        assert!(sent.is_err(), "reading stops");
        assert!(peer.service.info.bytes_received.get() < 40_000);
    });
}

#[test]
fn good_then_bad() {
    run(async {
        let mut peer = connect(echo);
        peer.send(format!("{GET}G ET / HTTP/1.1\r\n\r\n")).await;
        let bad = |peer: &Peer| peer.bad();
        let text = peer.read().await;
        assert_eq!(bad(&peer), [(400, "http1.codec_error".to_owned())]);
        let expected = "HTTP/1.1 200 OK|content-length: 5||GET /HTTP/1.1 400 Bad Request|content-length: 11|connection: close||Bad Request";
        assert_eq!(text, expected);
        let (_, end, at) = peer.closed().await;
        assert_eq!((end.cause, end.delayed_close_timeout), (EndCause::ProtocolError, true));
        assert!(at >= Duration::from_secs(1) && at < Duration::from_millis(1100), "{at:?}");
    });
}

#[test]
fn refused_heads() {
    run(async {
        for (input, status, details) in [
            ("\x16\x03\x01\x02", 400, "http1.codec_error"),
            ("GET / HTTP/1.0\r\n\r\n", 426, "low_version"),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "http1.unsupported_version"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "http.invalid_authority"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "http1.invalid_transfer_encoding"),
        ] {
            let mut peer = connect(|_| async { panic!("called") });
            let text = peer.ask(input).await;
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains("connection: close"), "{text}");
            assert_eq!(peer.bad(), [(status, details.to_owned())]);
            assert!(peer.service.bad.borrow()[0].head.is_none());
        }
    });
}

#[test]
fn a_missing_host_is_the_services_to_refuse() {
    run(async {
        let mut peer = connect(|request: Request| async move {
            assert!(request.head.authority.is_empty());
            Reply { close_connection: true, ..reply(400, "") }
        });
        let text = peer.ask("GET /x HTTP/1.1\r\n\r\n").await;
        assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("connection: close"), "{text}");
        assert_eq!(peer.bad(), []);
    });
}

#[test]
fn the_first_limit_of_a_stream_ends_half_a_head() {
    let limit = |secs| Some(Duration::from_secs(secs));
    let idle = |secs| ServerSettings { stream_idle_timeout: limit(secs), ..ServerSettings::default() };
    let cases = [
        (idle(7), BadRequestKind::StreamIdleTimeout, 7),
        (ServerSettings { request_timeout: limit(5), ..idle(7) }, BadRequestKind::RequestTimeout, 5),
        (ServerSettings { max_stream_duration: limit(3), ..idle(7) }, BadRequestKind::MaxDuration, 3),
        (ServerSettings { request_headers_timeout: limit(2), ..idle(7) }, BadRequestKind::HeadTimeout, 2),
        (idle(300), BadRequestKind::HeadTimeout, 15),
    ];
    for (settings, kind, seconds) in cases {
        run(async {
            let mut peer = connect_with(settings, echo);
            peer.send("GET /x HTTP/1.1\r\n").await;
            let service = Rc::clone(&peer.service);
            tokio::time::sleep(Duration::from_millis(seconds * 1000 - 1)).await;
            assert!(service.bad.borrow().is_empty(), "{kind:?} is early");
            let (text, end, _) = peer.closed().await;
            assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("connection: close"), "{text}");
            assert_eq!(end.cause, EndCause::HeadTimeout);
            let bad = service.bad.borrow();
            assert_eq!((bad[0].kind, bad[0].wire_received), (kind, 17));
        });
    }
}

#[test]
fn a_peer_that_leaves_in_a_head_is_told_of() {
    run(async {
        let mut peer = connect(|_| async { panic!("called") });
        peer.send("GET /x HT").await;
        peer.io.shutdown().await.unwrap();
        let service = Rc::clone(&peer.service);
        assert!(peer.end.await.unwrap().active_request);
        assert_eq!(service.abandoned.take(), [9]);
    });
}

#[test]
fn interim_responses_come_first() {
    run(async {
        let mut peer = connect(|request: Request| async move {
            request.ctl.informational.borrow_mut().push_back(ResponseHead::new(StatusCode::CONTINUE));
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut hints = ResponseHead::new(StatusCode::EARLY_HINTS);
            hints.headers.insert("link", "x".parse().unwrap());
            request.ctl.informational.borrow_mut().push_back(hints);
            request.ctl.wake();
            tokio::time::sleep(Duration::from_millis(50)).await;
            request.ctl.informational.borrow_mut().push_back(ResponseHead::new(StatusCode::PROCESSING));
            echo(request).await
        });
        assert_eq!(
            peer.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").await,
            "HTTP/1.1 100 Continue||"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(peer.read().await, "HTTP/1.1 103 Early Hints|link: x||");
        assert_eq!(peer.ask("ab").await, "");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(peer.read().await, "HTTP/1.1 102 Processing||HTTP/1.1 200 OK|content-length: 11||POST / [ab]");
    });
}

#[test]
fn http_10() {
    run(async {
        let settings = ServerSettings { accept_http_10: true, ..ServerSettings::default() };
        let old = |fields: &str| format!("GET / HTTP/1.0\r\nHost: a\r\n{fields}\r\n");
        let mut peer = connect_with(settings.clone(), echo);
        let kept = peer.ask(old("Connection: keep-alive\r\n")).await;
        assert_eq!(kept, "HTTP/1.0 200 OK|content-length: 5|connection: keep-alive||GET /");
        peer.send(old("")).await;
        let (text, end, at) = peer.closed().await;
        assert_eq!(text, "HTTP/1.0 200 OK|content-length: 5|connection: close||GET /");
        assert!(end.cause == EndCause::Message && at < Duration::from_millis(100), "{end:?} {at:?}");

        let streaming = |request: Request| async move {
            request.ctl.informational.borrow_mut().push_back(ResponseHead::new(StatusCode::CONTINUE));
            let tap = Tap::default();
            tap.push("one");
            tap.push("two");
            tap.end();
            reply_with(200, &[], tap.body())
        };
        let mut peer = connect_with(settings, streaming);
        peer.send(old("Connection: keep-alive\r\n")).await;
        let (text, _, at) = peer.closed().await;
        assert_eq!(text, "HTTP/1.0 200 OK|connection: close||onetwo", "its end is the end of the connection");
        assert!(at < Duration::from_millis(100), "{at:?}");
    });
}

#[test]
fn head_requests_have_no_body() {
    run(async {
        let mut peer = connect(|_| async { reply(200, "hello") });
        let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(peer.ask(head).await, "HTTP/1.1 200 OK|transfer-encoding: chunked||");
        assert_eq!(peer.ask(GET).await, "HTTP/1.1 200 OK|content-length: 5||hello");
    });
}

#[test]
fn a_small_response_is_one_write() {
    run(async {
        let (mut io, theirs) = tokio::io::duplex(1024);
        let theirs = Io::Raw(RawIo::new(Socket::Memory(theirs)));
        let peer = connect(|_| async { reply(200, "") });
        let service = Rc::new(Fake {
            info: Rc::clone(&peer.service.info),
            handler: Box::new(|_| {
                Box::pin(async {
                    let tap = Tap::default();
                    tap.push("hello");
                    tap.end();
                    reply_with(200, &[("x", "y")], tap.body())
                })
            }),
            bad: RefCell::default(),
            abandoned: RefCell::default(),
        });
        spawn_local(serve(theirs, service, Arc::default(), peer.drain.subscribe(), 1024));
        io.write_all(GET.as_bytes()).await.unwrap();
        let mut buf = [0; 1024];
        let n = io.read(&mut buf).await.unwrap();
        let text = String::from_utf8_lossy(&buf[..n]).replace("\r\n", "|");
        assert_eq!(text, "HTTP/1.1 200 OK|x: y|transfer-encoding: chunked||5|hello|0||");
    });
}

#[test]
fn counters_of_a_stream() {
    run(async {
        let ctl = Rc::new(RefCell::new(None));
        let seen = Rc::clone(&ctl);
        let mut peer = connect(move |request: Request| {
            *seen.borrow_mut() = Some(Rc::clone(&request.ctl));
            echo(request)
        });
        let text = peer.ask("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET").await;
        assert_eq!(text, "HTTP/1.1 200 OK|content-length: 13||POST /p [abc]");
        let ctl = ctl.borrow().clone().unwrap();
        assert_eq!((ctl.wire_received.get(), ctl.body_received.get()), (51, 3));
        // As Envoy counts: the field lines without status line and empty line.
        assert_eq!((ctl.wire_sent.get(), ctl.header_bytes_sent.get(), ctl.body_sent.get()), (52, 20, 13));
        assert!(ctl.request_complete.get().is_some() && ctl.first_tx.get().is_some());
        assert!(ctl.reset.get().is_none());
    });
}
