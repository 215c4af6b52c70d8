//! One request through the codec, the connection manager and the router; the downstream side is a pipe in memory. What is
//! proxied goes to an upstream in the same thread over a Unix socket, so a few system calls are in it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use benches::fixtures::{message, process, serve, terminal};
use benches::load::client::http1::read_answer;
use benches::load::config;
use benches::load::upstream::BODY;
use bytes::{Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use outrigger::config::{BuildCx, Path};
use outrigger::http::http1::ServerSettings;
use outrigger::http::http1::head::{Parse, Scan, parse_request};
use outrigger::network::TerminalFilter;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;
use xds_protos::envoy::config::cluster::v3::Cluster;

const REQUEST: &[u8] =
    b"GET /catalogue?page=2 HTTP/1.1\r\nhost: shop.test\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
    accept: text/html,application/xml;q=0.9,*/*;q=0.8\r\naccept-language: en-GB,en;q=0.5\r\n\
    accept-encoding: gzip, deflate, br\r\ncookie: session=0123456789abcdef\r\n\r\n";

fn head_parse(c: &mut Criterion) {
    let settings = ServerSettings::default();
    let parse = |bytes: &mut BytesMut| parse_request(bytes, &mut Scan::request(), &mut 0, &settings, false);
    match parse(&mut BytesMut::from(REQUEST)) {
        Parse::Done(request) => {
            assert_eq!((&*request.head.authority, request.head.headers.len()), ("shop.test", 5));
        }
        _ => panic!("not parsed"),
    }
    c.bench_function("HTTP/1 head, parsed and checked", |b| {
        b.iter_batched_ref(
            || BytesMut::from(REQUEST),
            |bytes| matches!(parse(bytes), Parse::Done(_)),
            criterion::BatchSize::SmallInput,
        );
    });
}

/// A worker of its own: runtime, tasks, and a connection manager that proxies to an upstream in the same thread.
struct Worker {
    runtime: Runtime,
    tasks: LocalSet,
    proxying: Arc<dyn TerminalFilter>,
    replying: Arc<dyn TerminalFilter>,
    _cx: BuildCx,
    _folder: tempfile::TempDir,
}

impl Worker {
    fn new() -> Worker {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("upstream");
        let runtime = benches::load::client::runtime();
        let tasks = LocalSet::new();
        let listener = tasks.block_on(&runtime, async { UnixListener::bind(&socket).expect("a socket") });
        tasks.spawn_local(upstream(listener));
        let cx = process();
        let mut cluster = config::cluster("upstream", &[]);
        cluster["load_assignment"]["endpoints"] =
            json!([{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}]);
        let cluster: Cluster = message(&cluster);
        cx.clusters.load_static(None, &[cluster], &Path::root(""), &cx).expect("a cluster");
        let proxy = config::bootstrap(config::http(false), None, Vec::new());
        let mut reply = proxy.clone();
        let routes = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0";
        *reply.pointer_mut(routes).expect("a route") = json!({
            "match": {"prefix": "/"},
            "direct_response": {"status": 200, "body": {"inline_string": str::from_utf8(BODY).expect("text")}},
        });
        let build = |config: &serde_json::Value| terminal(&cx, &config["static_resources"]["listeners"][0]);
        let (proxying, replying) = (build(&proxy), build(&reply));
        Worker { runtime, tasks, proxying, replying, _cx: cx, _folder: folder }
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        self.tasks.block_on(&self.runtime, future)
    }
}

async fn upstream(listener: UnixListener) {
    let answer = [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", BODY.len()).as_bytes(), BODY].concat();
    while let Ok((mut stream, _)) = listener.accept().await {
        let answer = answer.clone();
        tokio::task::spawn_local(async move {
            let mut buffer = [0; 4096];
            // A request without a body is one write of the proxy's.
            while let Ok(1..) = stream.read(&mut buffer).await {
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn http1_exchange(client: &mut DuplexStream, buffer: &mut Vec<u8>) {
    client.write_all(REQUEST).await.expect("written");
    read_answer(client, buffer).await.expect("an answer");
}

fn http1(c: &mut Criterion) {
    let worker = Worker::new();
    let mut group = c.benchmark_group("HTTP/1 request");
    for (name, terminal) in [("direct response", &worker.replying), ("proxied", &worker.proxying)] {
        let mut client = worker.run(async { serve(terminal) });
        let mut buffer = Vec::with_capacity(4096);
        worker.run(http1_exchange(&mut client, &mut buffer));
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                let started = std::time::Instant::now();
                worker.run(async {
                    for _ in 0..times {
                        http1_exchange(&mut client, &mut buffer).await;
                    }
                });
                started.elapsed()
            });
        });
    }
    group.finish();
}

async fn http2_exchange(client: &mut h2::client::SendRequest<Bytes>) {
    let request = http::Request::get("http://shop.test/catalogue?page=2").header("user-agent", "bench").body(());
    std::future::poll_fn(|cx| client.poll_ready(cx)).await.expect("room");
    let (response, _) = client.send_request(request.expect("a request"), true).expect("sent");
    let (head, mut body) = response.await.expect("an answer").into_parts();
    assert_eq!(head.status, 200);
    let mut received = 0;
    while let Some(data) = body.data().await {
        let data = data.expect("data");
        received += data.len();
        body.flow_control().release_capacity(data.len()).expect("received");
    }
    assert_eq!(received, BODY.len());
}

fn http2(c: &mut Criterion) {
    let worker = Worker::new();
    let mut group = c.benchmark_group("HTTP/2 request");
    for (name, terminal) in [("direct response", &worker.replying), ("proxied to HTTP/1", &worker.proxying)] {
        let client = worker.run(async {
            let (client, connection) = h2::client::handshake(serve(terminal)).await.expect("a connection");
            tokio::task::spawn_local(connection);
            client
        });
        let client = Rc::new(std::cell::RefCell::new(client));
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                let started = std::time::Instant::now();
                let client = Rc::clone(&client);
                worker.run(async {
                    let mut client = client.borrow_mut().clone();
                    for _ in 0..times {
                        http2_exchange(&mut client).await;
                    }
                });
                started.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = requests;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(3));
    targets = head_parse, http1, http2
}
criterion_main!(requests);
