use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use prost::Message;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_local};
use xds_protos::envoy::extensions::filters::network::tcp_proxy::v3 as proto;

use super::*;
use crate::cluster::Cluster;
use crate::config::{BuildCx, Path, Reject};
use crate::endpoint::Host;
use crate::net::{Address, Io, RawIo, Socket};
use crate::network::{BuiltFilter, Connection, ListenerCx};
use crate::server::drain::{DrainSource, DrainState};
use crate::server::testing::{self, on_control, options};
use crate::stats::names::ClusterStats;
use crate::stream_info::{ConnectionInfo, DetectedClose, StreamInfo, TrafficDirection};

/// A proxy between a client socket and an upstream that the test plays, on the test's own thread.
struct Rig {
    cx: BuildCx,
    upstream: TcpListener,
    drain: DrainSource,
    tcp: crate::stats::StatBlock<TcpProxyStats>,
}

/// A session under way: its client side, and what it found out when it is over.
struct Running {
    client: TcpStream,
    info: Rc<RefCell<StreamInfo>>,
    task: JoinHandle<()>,
}

fn build(cx: &BuildCx, yaml: &str) -> Result<Arc<dyn TerminalFilter>, Reject> {
    let proto: proto::TcpProxy = testing::proto(yaml);
    let any = prost_types::Any { type_url: String::new(), value: proto.encode_to_vec() };
    let name: Arc<str> = "l".into();
    let direction = TrafficDirection::Unspecified;
    let listener = ListenerCx { build: cx, listener_name: &name, stat_scope: "listener.l", direction };
    match super::build(&any, &Path::root("f"), &listener)? {
        BuiltFilter::Terminal(terminal) => Ok(terminal),
        BuiltFilter::Network(_) => panic!("the TCP proxy is terminal"),
    }
}

impl Rig {
    async fn new() -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cx = BuildCx::new(options(1));
        // A handle of its own: the stats of a filter go with the filter.
        let tcp = cx.stats.block("tcp.t");
        let rig = Rig { cx, upstream, drain: DrainSource::default(), tcp };
        rig.cluster("up", rig.upstream.local_addr().unwrap());
        rig
    }

    fn cluster(&self, name: &str, host: SocketAddr) -> Arc<Cluster> {
        let cluster = Arc::new(Cluster::new(name, &self.cx.stats));
        cluster.publish(vec![vec![Arc::new(Host::new(Address::Ip(host), "".into(), 1))]]);
        self.cx.clusters.slot(name).store(Some(cluster.clone()));
        cluster
    }

    async fn connect(&self, yaml: &str) -> Running {
        self.connect_after(yaml, b"").await
    }

    /// With bytes that listener filters have read already.
    async fn connect_after(&self, yaml: &str, prefix: &[u8]) -> Running {
        let filter = build(&self.cx, yaml).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let (local, remote) = (Address::from(listener.local_addr().unwrap()), Address::from(peer));
        let info = Rc::new(ConnectionInfo::new("l".into(), local, remote, TrafficDirection::Unspecified));
        let stream_info = Rc::new(RefCell::new(StreamInfo::new(info.clone(), None)));
        let connection = Connection {
            io: Io::Raw(RawIo { prefix: prefix.into(), socket: Socket::Tcp(accepted) }),
            info,
            drain: self.drain.subscribe(),
            buffer_limit: 1 << 20,
            stream_info: Some(stream_info.clone()),
            guard: Box::new(()),
        };
        Running { client, info: stream_info, task: spawn_local(filter.serve(connection)) }
    }

    async fn accept(&self) -> TcpStream {
        self.upstream.accept().await.unwrap().0
    }

    fn cluster_stat(&self, counter: crate::stats::Counter<ClusterStats>) -> u64 {
        self.cx.stats.block::<ClusterStats>("cluster.up").read(counter)
    }

    fn stat(&self, counter: crate::stats::Counter<TcpProxyStats>) -> u64 {
        self.tcp.read(counter)
    }
}

impl Running {
    async fn end(self) -> (String, Rc<RefCell<StreamInfo>>) {
        tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("the session ends").unwrap();
        let flags = self.info.borrow().flags.to_string();
        (flags, self.info)
    }
}

async fn read_all(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.map(|_| all)
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

const TO_UP: &str = "{ stat_prefix: t, cluster: up }";

#[test]
fn bytes_go_both_ways_and_are_counted() {
    on_control(async {
        let rig = Rig::new().await;
        let mut session = rig.connect_after(TO_UP, b"read ahead, ").await;
        let mut upstream = rig.accept().await;
        session.client.write_all(b"request").await.unwrap();
        session.client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut upstream).await.unwrap(), b"read ahead, request");
        upstream.write_all(b"answer after the client's end").await.unwrap();
        drop(upstream);
        assert_eq!(read_all(&mut session.client).await.unwrap(), b"answer after the client's end");
        let (flags, info) = session.end().await;
        assert_eq!(flags, "-");
        let info = info.borrow();
        assert_eq!((info.bytes_received, info.bytes_sent), (19, 29));
        assert_eq!((info.upstream.wire_bytes_sent, info.upstream.wire_bytes_received), (19, 29));
        assert!(info.end.is_some() && info.upstream.host.is_some());
        assert_eq!(rig.stat(TcpProxyStats::DOWNSTREAM_CX_TOTAL), 1);
        assert_eq!(rig.stat(TcpProxyStats::DOWNSTREAM_CX_RX_BYTES_TOTAL), 19);
        assert_eq!(rig.stat(TcpProxyStats::DOWNSTREAM_CX_TX_BYTES_TOTAL), 29);
        for (counter, value) in [
            (ClusterStats::UPSTREAM_CX_TOTAL, 1),
            (ClusterStats::UPSTREAM_CX_RX_BYTES_TOTAL, 29),
            (ClusterStats::UPSTREAM_CX_TX_BYTES_TOTAL, 19),
            (ClusterStats::UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ, 1),
            (ClusterStats::UPSTREAM_RQ_TOTAL, 1),
            (ClusterStats::UPSTREAM_RQ_PENDING_TOTAL, 1),
        ] {
            assert_eq!(rig.cluster_stat(counter), value, "{counter:?}");
        }
        let stats = rig.cx.stats.block::<ClusterStats>("cluster.up");
        for gauge in [
            ClusterStats::UPSTREAM_CX_ACTIVE,
            ClusterStats::UPSTREAM_RQ_ACTIVE,
            ClusterStats::UPSTREAM_RQ_PENDING_ACTIVE,
        ] {
            assert_eq!(stats.read_gauge(gauge), 0, "{gauge:?}");
        }
    });
}

#[test]
fn the_upstream_may_speak_first_and_end_first() {
    on_control(async {
        let rig = Rig::new().await;
        let mut session = rig.connect(TO_UP).await;
        let mut upstream = rig.accept().await;
        upstream.write_all(b"banner").await.unwrap();
        upstream.shutdown().await.unwrap();
        assert_eq!(read_all(&mut session.client).await.unwrap(), b"banner");
        session.client.write_all(b"late").await.unwrap();
        session.client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut upstream).await.unwrap(), b"late");
        assert_eq!(session.end().await.0, "-");
        assert_eq!(rig.cluster_stat(ClusterStats::UPSTREAM_CX_DESTROY_LOCAL), 1);
    });
}

/// Larger than all buffers on the way, in both directions at once, so that both sides block and splicing sets in.
#[test]
fn bulk_arrives_whole() {
    on_control(async {
        let rig = Rig::new().await;
        let session = rig.connect(TO_UP).await;
        let upstream = rig.accept().await;
        let pattern =
            |seed: u8| -> Vec<u8> { (0..24_000_000u32).map(|i| (i ^ i >> 8 ^ i >> 16) as u8 ^ seed).collect() };
        let Running { client, info, task } = session;
        let through = async |stream: TcpStream, seed: u8, other: u8| {
            let (mut read, mut write) = stream.into_split();
            let sent = pattern(seed);
            let sending = async move {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (_, n) = tokio::join!(sending, read.read_to_end(&mut got));
            n.unwrap();
            assert!(got == pattern(other), "{} bytes, not as they were sent", got.len());
        };
        tokio::join!(through(client, 1, 2), through(upstream, 2, 1));
        task.await.unwrap();
        assert_eq!(info.borrow().bytes_received, 24_000_000);
        assert_eq!(info.borrow().bytes_sent, 24_000_000);
    });
}

#[test]
fn who_does_not_read_is_not_read_from() {
    on_control(async {
        let rig = Rig::new().await;
        let mut session = rig.connect(TO_UP).await;
        let upstream = rig.accept().await;
        let chunk = vec![7; 1 << 20];
        let mut sent = 0;
        // The upstream never reads: after the buffers of four sockets and ours, writing blocks.
        while let Ok(n) = tokio::time::timeout(Duration::from_millis(300), session.client.write(&chunk)).await {
            sent += n.unwrap();
            assert!(sent < 64 << 20, "all of it is buffered somewhere");
        }
        drop((upstream, session.client));
    });
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    on_control(async {
        let rig = Rig::new().await;
        let mut session = rig.connect(TO_UP).await;
        let mut upstream = rig.accept().await;
        upstream.write_all(b"x").await.unwrap();
        session.client.read_u8().await.unwrap();
        reset(upstream);
        let error = read_all(&mut session.client).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let (flags, info) = session.end().await;
        assert_eq!(flags, "UR");
        assert_eq!(info.borrow().upstream.detected_close, DetectedClose::RemoteReset);
        assert_eq!(info.borrow().connection.detected_close.get(), DetectedClose::LocalReset);
        assert_eq!(rig.cluster_stat(ClusterStats::UPSTREAM_CX_DESTROY_REMOTE), 1);

        let mut session = rig.connect(TO_UP).await;
        let mut upstream = rig.accept().await;
        upstream.write_all(b"x").await.unwrap();
        session.client.read_u8().await.unwrap();
        let Running { client, info, task } = session;
        reset(client);
        let error = read_all(&mut upstream).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        task.await.unwrap();
        assert_eq!(info.borrow().flags.to_string(), "-");
        assert_eq!(info.borrow().connection.detected_close.get(), DetectedClose::RemoteReset);
        assert_eq!(rig.cluster_stat(ClusterStats::UPSTREAM_CX_DESTROY_LOCAL), 1);
    });
}

/// An upstream that answers and closes without reading all: its reset must not take the answer away.
#[test]
fn an_answer_before_a_reset_arrives() {
    on_control(async {
        let rig = Rig::new().await;
        let mut session = rig.connect(TO_UP).await;
        let mut upstream = rig.accept().await;
        session.client.write_all(&[7; 1000]).await.unwrap();
        upstream.readable().await.unwrap();
        upstream.write_all(b"no, thanks").await.unwrap();
        upstream.shutdown().await.unwrap();
        // Unread bytes make this close a reset.
        drop(upstream);
        let mut answer = [0; 10];
        session.client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"no, thanks");
    });
}

#[test]
fn a_refused_upstream_is_tried_as_often_as_allowed() {
    on_control(async {
        let rig = Rig::new().await;
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        rig.cluster("up", socket.local_addr().unwrap().as_socket().unwrap());
        let mut session = rig.connect("{ stat_prefix: t, cluster: up, max_connect_attempts: 3 }").await;
        assert_eq!(read_all(&mut session.client).await.unwrap(), b"");
        let (flags, info) = session.end().await;
        assert_eq!(flags, "UF,URX");
        let info = info.borrow();
        assert_eq!(info.upstream.attempts, 3);
        assert_eq!(
            info.upstream.transport_failure_reason.as_deref(),
            Some("delayed connect error: Connection refused")
        );
        assert_eq!(info.connection.local_close_reason.borrow().as_deref(), Some("tcp_initializion_failure:0"));
        assert_eq!(rig.cluster_stat(ClusterStats::UPSTREAM_CX_TOTAL), 3);
        assert_eq!(rig.cluster_stat(ClusterStats::UPSTREAM_CX_CONNECT_ATTEMPTS_EXCEEDED), 1);
        assert_eq!(rig.cluster_stat(ClusterStats::UPSTREAM_RQ_PENDING_FAILURE_EJECT), 3);
        assert_eq!(rig.cluster_stat(ClusterStats::UPSTREAM_RQ_TOTAL), 0);
    });
}

#[test]
fn without_an_upstream_the_connection_closes_and_says_why() {
    on_control(async {
        let rig = Rig::new().await;
        let empty = Arc::new(Cluster::new("empty", &rig.cx.stats));
        rig.cx.clusters.slot("empty").store(Some(empty));
        for (cluster, flag, reason) in [("nowhere", "NC", 3), ("empty", "UH", 1)] {
            let mut session = rig.connect(&format!("{{ stat_prefix: t, cluster: {cluster} }}")).await;
            assert_eq!(read_all(&mut session.client).await.unwrap(), b"");
            let (flags, info) = session.end().await;
            assert_eq!(flags, flag);
            let reason = format!("tcp_initializion_failure:{reason}");
            assert_eq!(info.borrow().connection.local_close_reason.borrow().as_deref(), Some(&*reason));
        }
        assert_eq!(rig.stat(TcpProxyStats::DOWNSTREAM_CX_NO_ROUTE), 1);
        let stats = rig.cx.stats.block::<ClusterStats>("cluster.empty");
        assert_eq!(stats.read(ClusterStats::UPSTREAM_CX_NONE_HEALTHY), 1);
    });
}

#[test]
fn max_connections_are_not_exceeded() {
    on_control(async {
        let rig = Rig::new().await;
        let cluster = rig.cx.clusters.slot("up").load().unwrap();
        let max = cluster.thresholds(crate::cluster::Priority::Default).max_connections;
        let others: Vec<_> =
            (1..max).map(|_| cluster.breaker(crate::cluster::Priority::Default).try_connection().unwrap()).collect();
        let first = rig.connect(TO_UP).await;
        let upstream = rig.accept().await;
        let mut second = rig.connect(TO_UP).await;
        assert_eq!(read_all(&mut second.client).await.unwrap(), b"");
        assert_eq!(second.end().await.0, "UO");
        assert_eq!(rig.cluster_stat(ClusterStats::UPSTREAM_CX_OVERFLOW), 1);
        drop(upstream);
        drop(first.client);
        first.task.await.unwrap();
        let _third = rig.connect(TO_UP).await;
        rig.accept().await;
        drop(others);
    });
}

#[test]
fn silence_and_age_end_a_session() {
    on_control(async {
        let rig = Rig::new().await;
        let mut session = rig.connect("{ stat_prefix: t, cluster: up, idle_timeout: 0.3s }").await;
        let mut upstream = rig.accept().await;
        let start = Instant::now();
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            upstream.write_all(b"x").await.unwrap();
            session.client.read_u8().await.unwrap();
        }
        assert_eq!(read_all(&mut session.client).await.unwrap(), b"");
        assert!((880..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        let (flags, info) = session.end().await;
        assert_eq!(flags, "-");
        assert_eq!(info.borrow().connection.local_close_reason.borrow().as_deref(), Some("tcp_session_idle_timeout"));
        assert_eq!(info.borrow().upstream.local_close_reason.as_deref(), Some("tcp_session_idle_timeout"));
        assert_eq!(rig.stat(TcpProxyStats::IDLE_TIMEOUT), 1);

        let yaml = "{ stat_prefix: t, cluster: up, max_downstream_connection_duration: 0.2s }";
        let mut session = rig.connect(yaml).await;
        let _upstream = rig.accept().await;
        assert_eq!(read_all(&mut session.client).await.unwrap(), b"");
        let (flags, info) = session.end().await;
        assert_eq!(flags, "DT");
        assert_eq!(
            info.borrow().connection.local_close_reason.borrow().as_deref(),
            Some("max_connection_duration_reached")
        );
        assert_eq!(rig.stat(TcpProxyStats::MAX_DOWNSTREAM_CONNECTION_DURATION), 1);
    });
}

#[test]
fn draining_lets_a_session_be_until_the_end() {
    on_control(async {
        let rig = Rig::new().await;
        let mut session = rig.connect(TO_UP).await;
        let mut upstream = rig.accept().await;
        rig.drain.set(DrainState::Stopping);
        upstream.write_all(b"x").await.unwrap();
        assert_eq!(session.client.read_u8().await.unwrap(), b'x');
        rig.drain.set(DrainState::Closing);
        assert_eq!(read_all(&mut session.client).await.unwrap(), b"");
        session.end().await;
    });
}

#[test]
fn clusters_are_picked_by_weight() {
    let cx = BuildCx::new(options(1));
    let slots = [("a", 1), ("b", 4), ("c", 9)].map(|(name, until)| (until, cx.clusters.slot(name)));
    let clusters = Clusters::Weighted(slots.to_vec());
    let picked: String = (0..18).map(|random| clusters.pick(random).unwrap().name.to_string()).collect();
    assert_eq!(picked, "abbbcccccabbbccccc");
}

#[test]
fn backing_off_doubles_up_to_its_limit() {
    let backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_millis(500) };
    let delays: Vec<u128> = (1..5).map(|failed| backoff.delay(failed, 1.0).as_millis()).collect();
    assert_eq!(delays, [100, 200, 400, 500]);
    assert_eq!(backoff.delay(u32::MAX, 0.5).as_millis(), 250);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let cx = BuildCx::new(options(1));
    let refused = |fields: &str| match build(&cx, &format!("{{ stat_prefix: t, {fields} }}")) {
        Err(reject) => reject.path,
        Ok(_) => panic!("was not refused: {fields}"),
    };
    for (fields, path) in [
        ("cluster: a, tunneling_config: { hostname: x }", "f.tunneling_config"),
        ("cluster: a, hash_policy: [ { source_ip: {} } ]", "f.hash_policy"),
        ("cluster: a, on_demand: {}", "f.on_demand"),
        ("cluster: a, max_connect_attempts: 0", "f.max_connect_attempts"),
        ("cluster: a, idle_timeout: -1s", "f.idle_timeout"),
        ("cluster: a, upstream_connect_mode: ON_DOWNSTREAM_DATA", "f.upstream_connect_mode"),
        ("cluster: a, backoff_options: { base_interval: 2s, max_interval: 1s }", "f.backoff_options.max_interval"),
        ("weighted_clusters: { clusters: [] }", "f.weighted_clusters.clusters"),
        ("weighted_clusters: { clusters: [ { name: a, weight: 0 } ] }", "f.weighted_clusters.clusters[0].weight"),
        ("idle_timeout: 1s", "f"),
    ] {
        assert_eq!(refused(fields), path, "{fields}");
    }
    assert!(build(&cx, "{ stat_prefix: '', cluster: a }").is_err());
    assert!(build(&cx, "{ stat_prefix: t, cluster: a, upstream_connect_mode: ON_DOWNSTREAM_TLS_HANDSHAKE }").is_ok());
}

/// What one side does in a random conversation.
#[derive(Debug, Clone)]
enum Act {
    Send(usize),
    Wait,
    Shut,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]
    /// Whatever both sides send, in whatever pieces, arrives in order and whole, and the ends arrive too.
    #[test]
    fn conversations_arrive(
        client in proptest::collection::vec(prop_oneof![(1usize..200_000).prop_map(Act::Send), Just(Act::Wait)], 0..8),
        upstream in proptest::collection::vec(prop_oneof![(1usize..200_000).prop_map(Act::Send), Just(Act::Wait)], 0..8),
    ) {
        on_control(async {
            let rig = Rig::new().await;
            let session = rig.connect(TO_UP).await;
            let peer = rig.accept().await;
            let play = async |stream: TcpStream, acts: Vec<Act>, expected: usize| {
                let (mut read, mut write) = stream.into_split();
                let sending = async {
                    let mut next = 0u8;
                    for act in acts.iter().chain([&Act::Shut]) {
                        match act {
                            Act::Send(n) => {
                                let bytes: Vec<u8> = (0..*n).map(|i| next.wrapping_add(i as u8)).collect();
                                next = next.wrapping_add(*n as u8);
                                write.write_all(&bytes).await.unwrap();
                            }
                            Act::Wait => tokio::task::yield_now().await,
                            Act::Shut => write.shutdown().await.unwrap(),
                        }
                    }
                };
                let mut got = Vec::new();
                let (_, read) = tokio::join!(sending, read.read_to_end(&mut got));
                read.unwrap();
                assert_eq!(got.len(), expected);
                assert!(got.iter().enumerate().all(|(i, byte)| *byte == i as u8));
            };
            let sum = |acts: &[Act]| acts.iter().map(|act| if let Act::Send(n) = act { *n } else { 0 }).sum();
            let (to_client, to_upstream) = (sum(&upstream), sum(&client));
            tokio::join!(play(session.client, client, to_client), play(peer, upstream, to_upstream));
            session.task.await.unwrap();
        });
    }
}
