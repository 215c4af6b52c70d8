//! Peers that are slow, silent or greedy: what they may cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tests::client::{Client, End};
use tests::config::{self, TO_UP};
use tests::proxy::Proxy;
use tests::upstream::Upstream;
use tests::{PATIENCE, wait_for};

/// Resident memory in KiB once it has settled.
fn settled(proxy: &Proxy) -> u64 {
    let mut last = 0;
    wait_for(PATIENCE, || {
        std::thread::park_timeout(Duration::from_millis(100));
        let now = proxy.resident();
        (std::mem::replace(&mut last, now) == now).then_some(now)
    })
    .unwrap_or(last)
}

fn proxy(upstream: &Upstream, fields: &str) -> Proxy {
    let proxy = crate::start(&config::http(TO_UP, fields, upstream.port));
    // What is allocated once is none of a connection's.
    for _ in 0..20 {
        assert_eq!(Client::connect(proxy.port("main")).get("/warm").status, 200);
    }
    proxy
}

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn idle_connections_cost_little() {
    let upstream = Upstream::echo_line();
    let proxy = proxy(&upstream, "");
    let before = settled(&proxy);
    let clients: Vec<Client> = (0..400)
        .map(|_| {
            let mut client = Client::connect(proxy.port("main"));
            assert_eq!(client.get("/x").status, 200);
            client
        })
        .collect();
    let each = (settled(&proxy) - before) as f64 / clients.len() as f64;
    assert!(each <= 10.0, "{each} KiB for an idle connection");
}

#[test]
fn half_a_head_costs_at_most_its_limit() {
    let upstream = Upstream::echo_line();
    let proxy = proxy(&upstream, "");
    let before = settled(&proxy);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "v".repeat(50_000));
    let clients: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::connect(proxy.port("main"));
            client.send(&head);
            client
        })
        .collect();
    let each = (settled(&proxy) - before) as f64 / clients.len() as f64;
    assert!((20.0..=80.0).contains(&each), "{each} KiB for 50 KB of a head");
}

#[test]
fn a_client_that_does_not_read_stops_its_upstream() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let upstream = Upstream::scripted(move |conversation| {
        while let Some(request) = conversation.request() {
            let size = if request.target() == "/warm" { 10 } else { 20_000_000 };
            let piece = vec![b'x'; 10_000];
            let _ = conversation.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").as_bytes());
            for at in (0..size).step_by(piece.len()) {
                if conversation.send(&piece[..piece.len().min(size - at)]).is_err() {
                    return;
                }
                count.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
        }
    });
    let proxy = proxy(&upstream, "");
    let before = settled(&proxy);
    let clients: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::connect(proxy.port("main"));
            client.send(GET);
            client
        })
        .collect();
    let mut last = 0;
    wait_for(PATIENCE, || {
        std::thread::park_timeout(Duration::from_millis(200));
        let now = sent.load(Ordering::Relaxed);
        (now > 1_000_000 && std::mem::replace(&mut last, now) == now).then_some(())
    });
    let each = (settled(&proxy) - before) as f64 / clients.len() as f64;
    assert!(each <= 256.0, "{each} KiB for a client that does not read");
}

#[test]
fn pipelined_requests_are_not_hoarded() {
    let upstream = Upstream::echo_line();
    let proxy = proxy(&upstream, "");
    let before = settled(&proxy);
    let mut client = Client::connect(proxy.port("main"));
    client.send(GET.repeat(2000));
    let after = settled(&proxy);
    assert!(after - before <= 4 * 1024, "{} KiB for 2000 requests", after - before);
    for _ in 0..2000 {
        assert_eq!(client.response("GET").expect("a response").status, 200);
    }
}

#[test]
fn a_slow_head_has_a_deadline() {
    let upstream = Upstream::echo_line();
    let proxy = proxy(&upstream, "request_headers_timeout: 0.3s\ndelayed_close_timeout: 0.1s\n");
    let mut client = Client::connect(proxy.port("main"));
    for piece in ["G", "E", "T", " "] {
        client.send(piece);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert_eq!(client.response("GET").expect("an answer").status, 408);
    assert_ne!(client.end(PATIENCE), End::Open);
}
