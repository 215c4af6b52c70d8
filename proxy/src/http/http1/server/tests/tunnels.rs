//! `Upgrade` and CONNECT.

use super::*;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn switching() -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::SWITCHING_PROTOCOLS);
    head.upgrade = Some("websocket".into());
    head
}

/// Answers an upgrade after a while with a tunnel that gives back what comes.
fn echo_tunnel() -> Peer {
    connect(|request: Request| async move {
        assert_eq!(request.head.upgrade.as_deref(), Some("websocket"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        Reply { head: switching(), body: request.body, close_connection: false, stream: Rc::new(()) }
    })
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols|connection: Upgrade|upgrade: websocket||";

#[test]
fn bytes_behind_an_upgrade_wait_for_the_answer() {
    run(async {
        let mut peer = echo_tunnel();
        assert_eq!(peer.ask(format!("{UPGRADE}early")).await, "");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(peer.read().await, format!("{SWITCHED}early"));
        assert_eq!(peer.ask("more\0\r\n\r\n").await, "more\0||");
        peer.send("last").await;
        peer.io.shutdown().await.unwrap();
        let (text, end, _) = peer.closed().await;
        assert_eq!((text.as_str(), end.cause), ("last", EndCause::Peer));
    });
}

#[test]
fn a_tunnel_is_half_closed() {
    run(async {
        let tap = Tap::default();
        let from = tap.clone();
        let got = Rc::new(RefCell::new(Vec::new()));
        let into = Rc::clone(&got);
        let mut peer = connect(move |mut request: Request| {
            let (from, into) = (from.clone(), Rc::clone(&into));
            async move {
                spawn_local(async move {
                    while let Some(Ok(Frame::Data(data))) = std::future::poll_fn(|cx| request.body.poll_frame(cx)).await
                    {
                        into.borrow_mut().extend_from_slice(&data);
                    }
                    into.borrow_mut().extend_from_slice(b"<end>");
                });
                Reply { head: switching(), body: from.body(), close_connection: false, stream: Rc::new(()) }
            }
        });
        assert_eq!(peer.ask(UPGRADE).await, SWITCHED);
        peer.send("question").await;
        peer.io.shutdown().await.unwrap();
        assert_eq!(peer.read().await, "");
        assert_eq!(*got.borrow(), b"question<end>");
        tap.push("answer");
        assert_eq!(peer.read().await, "answer");
        tap.end();
        let (_, end, _) = peer.closed().await;
        assert_eq!((end.cause, end.delayed_close_timeout), (EndCause::Peer, false));
    });
}

#[test]
fn the_other_side_may_end_a_tunnel_first() {
    run(async {
        let mut peer = connect(|_| async {
            let tap = Tap::default();
            tap.push("bye");
            tap.end();
            Reply { head: switching(), body: tap.body(), close_connection: false, stream: Rc::new(()) }
        });
        peer.send(UPGRADE).await;
        let mut all = Vec::new();
        peer.io.read_to_end(&mut all).await.unwrap();
        assert!(all.ends_with(b"\r\n\r\nbye"));
        assert!(peer.start.elapsed() < Duration::from_millis(10), "the end is passed on at once");
        let end = peer.end.await.unwrap();
        assert!(end.delayed_close_timeout && peer.start.elapsed() >= Duration::from_secs(1));
    });
}

#[test]
fn an_upgrade_that_is_not_made_closes() {
    run(async {
        let mut peer = connect(|_| async { reply(403, "no") });
        peer.send(format!("{UPGRADE}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let (text, _, _) = peer.closed().await;
        assert_eq!(text, "HTTP/1.1 403 Forbidden|content-length: 2|connection: close||no");
    });
}

#[test]
fn connect_method() {
    run(async {
        let handler = |request: Request| async move {
            assert_eq!((request.head.authority.as_str(), request.head.path.as_str()), ("b:443", ""));
            let status =
                StatusCode::from_u16(if request.head.headers.contains_key("x-no") { 405 } else { 200 }).unwrap();
            let body = if status == StatusCode::OK { request.body } else { Body::Empty };
            Reply { head: ResponseHead::new(status), body, close_connection: false, stream: Rc::new(()) }
        };
        let mut peer = connect(handler);
        assert_eq!(
            peer.ask("CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03\x01").await,
            "HTTP/1.1 200 OK||\x16\x03\x01"
        );
        assert_eq!(peer.ask("\0\r\n").await, "\0|");
        let mut peer = connect(handler);
        let text = peer.ask("CONNECT b:443 HTTP/1.1\r\nHost: a\r\nx-no: 1\r\n\r\nxyz").await;
        assert_eq!(text, "HTTP/1.1 405 Method Not Allowed|content-length: 0|connection: close||");
    });
}
