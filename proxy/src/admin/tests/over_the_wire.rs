//! The server on a loopback socket.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::super::fake::Fake;
use super::super::*;
use crate::net::Address;
use crate::stats::names::{ClusterStats, HttpStats, ListenerStats};

struct Running {
    address: SocketAddr,
    cx: Rc<AdminContext>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

async fn start(fake: Fake) -> Running {
    let (cx, _) = fake.context();
    let cx = Rc::new(cx);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        let _ = stopped.await;
    };
    let server = tokio::task::spawn_local(serve(AdminListener::Tcp(listener), Rc::clone(&cx), shutdown));
    Running { address, cx, stop, server }
}

/// Sends and reads until the peer closes.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn close(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

#[tokio::test(flavor = "local")]
async fn answers_have_envoys_headers() {
    let running = start(Fake::default()).await;
    let answer = exchange(running.address, &close("//ready")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some("HTTP/1.1 200 OK"));
    let mut headers: Vec<&str> = lines.filter(|line| !line.starts_with("date: ")).collect();
    headers.sort_unstable();
    let expected = [
        "cache-control: no-cache, max-age=0",
        "connection: close",
        "content-type: text/plain; charset=UTF-8",
        "server: envoy",
        "transfer-encoding: chunked",
        "x-content-type-options: nosniff",
    ];
    assert_eq!(headers, expected);
    assert_eq!(body, "5\r\nLIVE\n\r\n0\r\n\r\n");
}

/// Tools send regular expressions without escaping them.
#[tokio::test(flavor = "local")]
async fn queries_need_no_escaping() {
    let running = start(Fake::default()).await;
    let _server = running.cx.stats.block::<crate::stats::names::ServerStats>("server");
    for filter in [r"^(server\.live|server\.state)$", r"server\.[ls]\w+e$|x{1,2}", "server.(live|`|~|'|,;@!)"] {
        let answer = exchange(running.address, &close(&format!("/stats?usedonly=&filter={filter}"))).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{filter}: {answer}");
    }
    let answer = exchange(running.address, &close(r"/stats?filter=^(server\.live|cluster)$")).await;
    assert!(answer.contains("server.live: 0\n"), "{answer}");
}

#[tokio::test(flavor = "local")]
async fn a_connection_is_kept_and_counted() {
    let running = start(Fake::default()).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = b"HEAD /ready HTTP/1.1\r\nhost: x\r\n\r\n";
    for _ in 0..3 {
        stream.write_all(request).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    let http = running.cx.stats.block::<HttpStats>("http.admin");
    assert_eq!(http.read(HttpStats::DOWNSTREAM_RQ_TOTAL), 3);
    assert_eq!(http.read(HttpStats::DOWNSTREAM_RQ_2XX), 3);
    assert_eq!(http.read_gauge(HttpStats::DOWNSTREAM_CX_ACTIVE), 1);
    assert_eq!(http.read(HttpStats::DOWNSTREAM_CX_RX_BYTES_TOTAL), 3 * request.len() as u64);
    let listener = running.cx.stats.block::<ListenerStats>("listener.admin");
    running.stop.send(()).unwrap();
    running.server.await.unwrap();
    assert_eq!(http.read_gauge(HttpStats::DOWNSTREAM_CX_ACTIVE), 0);
    assert_eq!(listener.read(ListenerStats::DOWNSTREAM_CX_TOTAL), 1);
    assert_eq!(listener.read(ListenerStats::DOWNSTREAM_CX_DESTROY), 1);
}

#[tokio::test(flavor = "local")]
async fn forms_are_read_and_large_bodies_refused() {
    let running = start(Fake { has_admin_layer: true, ..Fake::default() }).await;
    let form = "POST /runtime_modify HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-type: application/x-www-form-urlencoded\r\ncontent-length: 3\r\n\r\na=b";
    assert!(exchange(running.address, form).await.contains("OK\n"));
    let large = "POST /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100000000\r\n\r\n";
    let answer = exchange(running.address, large).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

/// The process must not end before the tool that ended it has its answer.
#[tokio::test(flavor = "local")]
async fn quitting_still_answers() {
    let (on_quit, mut quit) = mpsc::unbounded_channel();
    let (cx, fake) = Fake { on_quit: Some(on_quit), ..Fake::default() }.context();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = async move {
        quit.recv().await;
    };
    let server = tokio::task::spawn_local(serve(AdminListener::Tcp(listener), Rc::new(cx), shutdown));
    // No `connection: close`: it is the server that ends the connection.
    let answer = exchange(address, "POST /quitquitquit HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.contains("\r\n\r\n3\r\nOK\n\r\n0\r\n\r\n"), "{answer}");
    server.await.unwrap();
    assert_eq!(*fake.calls.lock(), ["quit"]);
    assert!(TcpStream::connect(address).await.is_err());
}

/// A reader that stops reading holds one piece, and nobody else waits for it.
#[tokio::test(flavor = "local")]
async fn a_slow_reader_holds_up_nobody() {
    let running = start(Fake::default()).await;
    let clusters: Vec<_> =
        (0..2000).map(|i| running.cx.stats.block::<ClusterStats>(&format!("cluster.c{i}"))).collect();
    let mut slow = TcpStream::connect(running.address).await.unwrap();
    slow.write_all(close("/stats").as_bytes()).await.unwrap();
    let mut some = [0; 1000];
    slow.read_exact(&mut some).await.unwrap();
    for _ in 0..3 {
        assert!(exchange(running.address, &close("/ready")).await.contains("LIVE\n"));
    }
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"\r\n0\r\n\r\n") && rest.len() > clusters.len() * 1000);
}

/// However many connections hang, a new one is served.
#[tokio::test(flavor = "local")]
async fn new_connections_displace_idle_ones() {
    let running = start(Fake::default()).await;
    let mut hanging = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(b"GET /rea").await.unwrap();
        hanging.push(stream);
    }
    let answer = tokio::time::timeout(Duration::from_secs(5), exchange(running.address, &close("/ready"))).await;
    assert!(answer.unwrap().contains("LIVE\n"));
    let http = running.cx.stats.block::<HttpStats>("http.admin");
    assert!(http.read_gauge(HttpStats::DOWNSTREAM_CX_ACTIVE) <= 128);
}

#[tokio::test(flavor = "local")]
async fn http2_with_prior_knowledge() {
    let running = start(Fake::default()).await;
    let stream = TcpStream::connect(running.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://x/ready").body(()).unwrap();
    let response = client.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(response.status(), 200);
    let piece = response.into_body().data().await.unwrap().unwrap();
    assert_eq!(&piece[..], b"LIVE\n");
}

#[tokio::test(flavor = "local")]
async fn pipes_and_stale_pipes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("admin.sock").display().to_string();
    for name in [file.clone(), file, format!("@outrigger-admin-test-{}", std::process::id())] {
        let address = Address::Pipe(name.as_str().into());
        let listener = AdminListener::bind(&address).await.unwrap();
        assert_eq!(listener.address(), name);
        // The second time around the file of the first is still there.
        assert!(AdminListener::bind(&address).await.is_err(), "somebody listens on {name}");
        let (cx, _) = Fake::default().context();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::task::spawn_local(serve(listener, Rc::new(cx), async {
            let _ = stopped.await;
        }));
        let mut stream = tokio::net::UnixStream::connect(name.replacen('@', "\0", 1)).await.unwrap();
        stream.write_all(close("/ready").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("LIVE\n"), "{answer}");
        stop.send(()).unwrap();
        server.await.unwrap();
    }
}

#[tokio::test(flavor = "local")]
async fn a_port_of_zero_is_chosen() {
    let listener = AdminListener::bind(&Address::Ip("127.0.0.1:0".parse().unwrap())).await.unwrap();
    assert!(!listener.address().ends_with(":0"));
}
