//! Peers that are slow, silent or greedy: what they may cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tests::client::{Client, End};
use tests::config::{self, TO_UP};
use tests::frames::{self, Frames};
use tests::proxy::{Options, Proxy};
use tests::upstream::Upstream;
use tests::{PATIENCE, wait_for};

/// Resident memory in KiB once it has settled.
pub fn settled(proxy: &Proxy) -> u64 {
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

/// 100 streams of 10 MB on one connection: its windows are shut.
#[test]
fn streams_at_zero_window_hold_little() {
    let grown = hundred_streams(&[0, 4, 0, 0, 0, 0], None);
    assert!(grown <= 4 * 1024, "{grown} KiB for 100 streams at zero window");
}

/// The same with windows wide open, on a connection that is not read: besides what the streams hold there is what waits for the
/// socket.
#[test]
fn streams_of_a_connection_that_is_not_read_hold_little() {
    let grown = hundred_streams(&[0, 4, 0x7f, 0xff, 0xff, 0xff], Some(0x7fff_0000));
    assert!(grown <= 6 * 1024, "{grown} KiB for 100 streams on a connection that is not read");
}

/// By how many KiB the proxy grows.
fn hundred_streams(settings: &[u8], connection_window: Option<u32>) -> u64 {
    const STREAMS: u32 = 100;
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let upstream = Upstream::scripted(move |conversation| {
        while let Some(request) = conversation.request() {
            if request.target() == "/warm" {
                let _ = conversation.send(&tests::upstream::ok("warm"));
                continue;
            }
            count.fetch_add(1, Ordering::Relaxed);
            let _ = conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n");
            let piece = vec![b'x'; 10_000];
            for _ in 0..1000 {
                if conversation.send(&piece).is_err() {
                    return;
                }
            }
        }
    });
    let proxy = proxy(&upstream, "");
    let before = settled(&proxy);
    let mut peer = Frames::connect_with(proxy.port("main"), settings);
    if let Some(by) = connection_window {
        peer.send(&frames::frame(frames::WINDOW_UPDATE, 0, 0, &by.to_be_bytes()));
    }
    for n in 0..STREAMS {
        peer.get(2 * n + 1, "/big");
    }
    wait_for(PATIENCE, || (asked.load(Ordering::Relaxed) == u64::from(STREAMS)).then_some(()));
    assert_eq!(asked.load(Ordering::Relaxed), u64::from(STREAMS), "all of them reached the upstream");
    let grown = settled(&proxy).saturating_sub(before);
    drop(peer);
    eprintln!("{grown} KiB for {STREAMS} streams");
    grown
}

#[test]
fn without_descriptors_the_proxy_waits_and_recovers() {
    let upstream = Upstream::echo_line();
    let options = Options { open_files: Some(64), ..Options::default() };
    let mut proxy = crate::start_with(&config::http(TO_UP, "", upstream.port), &options);
    let port = proxy.port("main");
    let mut early = Client::connect(port);
    assert_eq!(early.get("/early").status, 200);
    let crowd: Vec<Client> = (0..100).map(|_| Client::connect(port)).collect();
    // All that can be accepted is.
    let mut last = 0;
    wait_for(PATIENCE, || {
        std::thread::park_timeout(Duration::from_millis(100));
        let now = proxy.open_files();
        (now > 40 && std::mem::replace(&mut last, now) == now).then_some(())
    });
    let (cpu, started) = (proxy.cpu(), Instant::now());
    // What is measured is what the time costs: it has to pass.
    std::thread::park_timeout(Duration::from_secs(2));
    let share = (proxy.cpu() - cpu).as_secs_f64() / started.elapsed().as_secs_f64();
    assert!(share <= 0.05, "{:.1} % of a core while out of descriptors", share * 100.0);
    assert!(proxy.is_running(), "the proxy died:\n{}", proxy.log());
    assert_eq!(early.get("/still").status, 200, "who is connected is served on");
    assert_eq!(proxy.admin("/ready").status, 200, "the admin port answers");
    drop(crowd);
    let freed = Instant::now();
    assert_eq!(Client::connect(port).get("/again").status, 200);
    assert!(freed.elapsed() <= Duration::from_secs(1), "{:?} until the next request was served", freed.elapsed());
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
