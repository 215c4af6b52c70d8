//! How connections end: by the peer, by a deadline, by draining.

use super::*;
use crate::server::drain::DrainState;

/// Notes how the request ended when it is dropped.
#[expect(clippy::type_complexity, reason = "reason and details of a reset, once it came")]
struct Watch(Rc<StreamCtl>, Rc<RefCell<Option<(Option<ResetReason>, String)>>>);

impl Drop for Watch {
    fn drop(&mut self) {
        let details = self.0.reset_details.borrow().clone().unwrap_or_default().into_owned();
        *self.1.borrow_mut() = Some((self.0.reset.get(), details));
    }
}

type Seen = Rc<RefCell<Option<(Option<ResetReason>, String)>>>;

fn watched<F: Future<Output = Reply> + 'static>(reply: impl Fn() -> F + 'static) -> (Peer, Seen) {
    let seen = Seen::default();
    let note = Rc::clone(&seen);
    let peer = connect(move |request: Request| {
        let watch = Watch(Rc::clone(&request.ctl), Rc::clone(&note));
        let reply = reply();
        async move {
            let _request = request;
            let mut reply = reply.await;
            reply.stream = Rc::new(watch);
            reply
        }
    });
    (peer, seen)
}

fn disconnected() -> Option<(Option<ResetReason>, String)> {
    Some((Some(ResetReason::ConnectionTermination), "downstream_remote_disconnect".to_owned()))
}

#[test]
fn a_peer_that_goes_away_cancels_the_call() {
    run(async {
        for body in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab"] {
            let (mut peer, seen) = watched(std::future::pending);
            assert_eq!(peer.ask(body).await, "");
            assert!(seen.borrow().is_none());
            // Closing the sending side is enough, as in Envoy.
            peer.io.shutdown().await.unwrap();
            let (text, end, _) = peer.closed().await;
            assert_eq!(text, "");
            assert_eq!((end.cause, end.active_request), (EndCause::Peer, true));
            assert_eq!(*seen.borrow(), disconnected());
        }
    });
}

#[test]
fn a_peer_that_goes_away_cancels_the_response() {
    run(async {
        let tap = Tap::default();
        let body = tap.clone();
        let (mut peer, seen) = watched(move || {
            let body = body.clone();
            async move { reply_with(200, &[], body.body()) }
        });
        tap.push("one");
        assert!(peer.ask(GET).await.ends_with("3|one|"));
        drop(peer.io);
        assert!(peer.end.await.unwrap().active_request);
        assert!(tap.dropped());
        assert_eq!(*seen.borrow(), disconnected());
    });
}

#[test]
fn a_complete_response_is_delivered_to_a_peer_that_sends_no_more() {
    run(async {
        let (mut peer, seen) = watched(|| async { reply(200, "direct") });
        peer.send(GET).await;
        peer.io.shutdown().await.unwrap();
        let (text, end, _) = peer.closed().await;
        assert_eq!(text, "HTTP/1.1 200 OK|content-length: 6||direct");
        assert!(!end.active_request);
        assert_eq!(*seen.borrow(), Some((None, String::new())));
    });
}

#[test]
fn dropping_the_connection_resets_the_stream() {
    run(async {
        let (mut peer, seen) = watched(std::future::pending);
        assert_eq!(peer.ask(GET).await, "");
        peer.end.abort();
        assert!(peer.end.await.unwrap_err().is_cancelled());
        assert_eq!(seen.borrow().as_ref().unwrap().1, "downstream_local_disconnect");
    });
}

#[test]
fn heads_have_a_deadline() {
    run(async {
        for (configured, seconds) in [(None, 15), (Some(Duration::from_secs(2)), 2)] {
            let settings = ServerSettings { request_headers_timeout: configured, ..ServerSettings::default() };
            let mut peer = connect_with(settings, echo);
            assert!(peer.ask(GET).await.ends_with("GET /"));
            tokio::time::sleep(Duration::from_secs(100)).await;
            let start = Instant::now();
            for piece in ["G", "E", "T "] {
                peer.send(piece).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let service = Rc::clone(&peer.service);
            let (text, end, _) = peer.closed().await;
            let at = start.elapsed();
            assert!(text.starts_with("HTTP/1.1 408 Request Timeout|") && text.contains("connection: close"), "{text}");
            assert_eq!(service.bad.borrow()[0].details, "request_header_timeout");
            assert_eq!(end.cause, EndCause::HeadTimeout);
            // And a second for the peer to close first.
            assert!(
                at >= Duration::from_secs(seconds + 1) && at < Duration::from_millis(seconds * 1000 + 1100),
                "{at:?}"
            );
        }
    });
}

#[test]
fn idle_connections_end() {
    run(async {
        let settings = ServerSettings { idle_timeout: Some(Duration::from_secs(10)), ..ServerSettings::default() };
        let peer = connect_with(settings.clone(), echo);
        let (text, end, at) = peer.closed().await;
        assert_eq!((text.as_str(), end.cause, at.as_secs()), ("", EndCause::IdleTimeout, 10));

        let slow = |request| async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            echo(request).await
        };
        let mut peer = connect_with(settings, slow);
        tokio::time::sleep(Duration::from_secs(9)).await;
        peer.send(GET).await;
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert!(peer.read().await.ends_with("GET /"), "a request in work is not idle");
        let (_, end, at) = peer.closed().await;
        assert_eq!((end.cause, at.as_secs()), (EndCause::IdleTimeout, 49));

        let never = ServerSettings { idle_timeout: None, ..ServerSettings::default() };
        let mut peer = connect_with(never, echo);
        tokio::time::sleep(Duration::from_secs(1_000_000)).await;
        assert!(peer.ask(GET).await.ends_with("GET /"));
    });
}

#[test]
fn old_connections_end() {
    run(async {
        let settings =
            ServerSettings { max_connection_duration: Some(Duration::from_secs(10)), ..ServerSettings::default() };
        let peer = connect_with(settings.clone(), echo);
        let (_, end, at) = peer.closed().await;
        assert_eq!((end.cause, at.as_secs()), (EndCause::MaxDuration, 10), "at once without a request");

        let mut peer = connect_with(settings.clone(), echo);
        assert!(!peer.ask(GET).await.contains("close"));
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert!(peer.ask(GET).await.contains("connection: close"), "the peer is told");
        assert_eq!(peer.closed().await.1.cause, EndCause::MaxDuration);

        let mut peer = connect_with(settings, echo);
        peer.ask(GET).await;
        let (_, end, at) = peer.closed().await;
        assert_eq!((end.cause, at.as_secs()), (EndCause::MaxDuration, 15), "after drain_timeout without one");
    });
}

#[test]
fn max_requests() {
    run(async {
        let settings = ServerSettings { max_requests_per_connection: 2, ..ServerSettings::default() };
        let mut peer = connect_with(settings, echo);
        assert!(!peer.ask(GET).await.contains("close"));
        peer.send(GET.repeat(2)).await;
        let (text, end, _) = peer.closed().await;
        assert_eq!(text, "HTTP/1.1 200 OK|content-length: 5|connection: close||GET /");
        assert_eq!(end.cause, EndCause::MaxRequests);
    });
}

#[test]
fn draining() {
    run(async {
        let mut peer = connect(echo);
        peer.ask(GET).await;
        peer.drain.set(DrainState::Draining);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(peer.ask(GET).await.contains("connection: close"), "an idle connection is told with its next response");
        assert_eq!(peer.closed().await.1.cause, EndCause::Drain);

        let mut peer = connect(echo);
        peer.ask(GET).await;
        peer.drain.set(DrainState::Draining);
        tokio::time::sleep(Duration::from_secs(1)).await;
        peer.drain.set(DrainState::Running);
        assert!(!peer.ask(GET).await.contains("close"), "taken back");
        peer.drain.set(DrainState::Draining);
        tokio::time::sleep(Duration::from_secs(1)).await;
        peer.drain.set(DrainState::Stopping);
        let start = Instant::now();
        assert_eq!(peer.closed().await.1.cause, EndCause::Drain);
        assert!(start.elapsed() < Duration::from_millis(100), "an idle connection ends when the process stops");

        let (mut peer, seen) = watched(std::future::pending);
        peer.ask(GET).await;
        peer.drain.set(DrainState::Stopping);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert!(seen.borrow().is_none(), "a request in work is not cut");
        peer.drain.set(DrainState::Closing);
        let (_, end, _) = peer.closed().await;
        assert_eq!((end.cause, end.active_request), (EndCause::Drain, true));
        assert_eq!(seen.borrow().as_ref().unwrap().1, "downstream_local_disconnect");
    });
}

#[test]
fn the_service_may_close() {
    run(async {
        let mut peer = connect(|_| async {
            let mut reply = reply(200, "x");
            reply.close_connection = true;
            reply
        });
        peer.send(GET.repeat(3)).await;
        let (text, _, at) = peer.closed().await;
        assert_eq!(text, "HTTP/1.1 200 OK|content-length: 1|connection: close||x");
        assert!(at < Duration::from_millis(100), "the request was complete: {at:?}");
    });
}

#[test]
fn delayed_close_reads_on() {
    run(async {
        let settings = ServerSettings { delayed_close_timeout: Duration::from_secs(3), ..ServerSettings::default() };
        let mut peer = connect_with(settings, echo);
        peer.send("bad\r\n\r\n").await;
        let more = tokio::time::timeout(Duration::from_secs(1), peer.io.write_all(&vec![0; 10_000_000])).await;
        assert!(more.unwrap().is_ok(), "what comes is taken and forgotten");
        let (_, end, at) = peer.closed().await;
        assert!(end.delayed_close_timeout && at >= Duration::from_secs(3));

        let at_once = ServerSettings { delayed_close_timeout: Duration::ZERO, ..ServerSettings::default() };
        let mut peer = connect_with(at_once, echo);
        peer.send("bad\r\n\r\n").await;
        let (text, end, at) = peer.closed().await;
        assert!(text.starts_with("HTTP/1.1 400") && !end.delayed_close_timeout && at < Duration::from_millis(10));
    });
}

#[test]
fn a_peer_that_does_not_read_is_given_up() {
    run(async {
        let tap = Tap::default();
        let body = tap.clone();
        let (mut peer, seen) = watched(move || {
            let body = body.clone();
            async move { reply_with(200, &[], body.body()) }
        });
        for _ in 0..100 {
            tap.frame(Some(Ok(Frame::Data(vec![b'x'; 10_000].into()))));
        }
        peer.send(GET).await;
        tokio::time::sleep(Duration::from_secs(200)).await;
        let mut some = [0; 1000];
        peer.io.read_exact(&mut some).await.unwrap();
        tokio::time::sleep(Duration::from_secs(299)).await;
        assert!(!peer.end.is_finished(), "it made progress");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let end = peer.end.await.unwrap();
        assert_eq!((end.cause, end.active_request), (EndCause::WriteStall, true));
        assert!(tap.dropped());
        assert_eq!(seen.borrow().as_ref().unwrap().1, "downstream_local_disconnect");
    });
}

#[test]
fn an_idle_connection_is_small() {
    run(async {
        let peer = connect(echo);
        let io = Io::Raw(RawIo::new(Socket::Memory(tokio::io::duplex(1).0)));
        let future = serve(io, Rc::clone(&peer.service), Arc::default(), peer.drain.subscribe(), 1 << 20);
        let future = std::mem::size_of_val(&future);
        let wire = std::mem::size_of::<RefCell<Wire>>();
        let sleep = std::mem::size_of::<tokio::time::Sleep>();
        println!("serve {future}, wire {wire}, sleep {sleep}");
        assert!(future + wire + sleep <= 1536, "{future} + {wire} + {sleep}");
    });
}

#[test]
fn an_idle_connection_owns_no_buffer() {
    run(async {
        let peer = connect(echo);
        let (mut io, theirs) = tokio::io::duplex(1 << 20);
        let theirs = Io::Raw(RawIo::new(Socket::Memory(theirs)));
        let mut connection =
            Connection::new(theirs, Rc::clone(&peer.service), Arc::default(), peer.drain.subscribe(), 1 << 20);
        let body = "x".repeat(100_000);
        io.write_all(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{body}").as_bytes())
            .await
            .unwrap();
        std::future::poll_fn(|cx| {
            assert!(connection.poll(cx).is_pending());
            let idle = matches!(&connection.state, State::Head(head) if !head.begun);
            if idle && connection.requests == 1 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(connection.wire.borrow().buf.capacity(), 0);
        assert_eq!(connection.out.tail().capacity(), 0);
    });
}
