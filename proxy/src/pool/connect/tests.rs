use super::*;
use crate::stats::Stats;
use tokio::net::TcpListener;
use xds_protos::envoy::config::core::v3 as core;

fn cluster(sockets: UpstreamSockets) -> Arc<Cluster> {
    let mut cluster = Cluster::new("c", &Stats::new(0));
    cluster.sockets = sockets.into();
    Arc::new(cluster)
}

fn host(addresses: &[SocketAddr]) -> Arc<Host> {
    let mut host = Host::new(Address::Ip(addresses[0]), "".into(), 1);
    host.additional_addresses = addresses[1..].iter().copied().map(Address::Ip).collect();
    Arc::new(host)
}

async fn listener(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A port at which nobody listens: it is bound, so nobody else takes it meanwhile.
fn closed() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn bind(json: core::BindConfig) -> UpstreamSockets {
    UpstreamSockets::build(Some(&json), None, None, &Path::root("")).unwrap()
}

use crate::config::Path;

fn socket_address(address: &str, port: u32) -> core::SocketAddress {
    core::SocketAddress {
        address: address.into(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_connection_is_counted_from_start_to_drop() {
    let (listener, address) = listener("127.0.0.1:0").await;
    let (cluster, host) = (cluster(UpstreamSockets::default()), host(&[address]));
    let connected = connect(&cluster, &host, &ConnectOptions::default()).await.unwrap();
    let (_accepted, peer) = listener.accept().await.unwrap();
    assert_eq!(connected.remote_address, Address::Ip(address));
    assert_eq!(connected.local_address, Address::Ip(peer));
    assert_eq!(cluster.stats.read_gauge(ClusterStats::UPSTREAM_CX_ACTIVE), 1);
    assert_eq!(host.stats.cx_active.load(Relaxed), 1);
    connected.cx.closed_by(ClosedBy::Remote);
    connected.cx.active_requests(true);
    drop(connected);
    assert_eq!(cluster.stats.read_gauge(ClusterStats::UPSTREAM_CX_ACTIVE), 0);
    assert_eq!(host.stats.cx_active.load(Relaxed), 0);
    assert_eq!(host.stats.cx_total.load(Relaxed), 1);
    for (counter, value) in [
        (ClusterStats::UPSTREAM_CX_TOTAL, 1),
        (ClusterStats::UPSTREAM_CX_CONNECT_FAIL, 0),
        (ClusterStats::UPSTREAM_CX_DESTROY, 1),
        (ClusterStats::UPSTREAM_CX_DESTROY_REMOTE, 1),
        (ClusterStats::UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ, 1),
        (ClusterStats::UPSTREAM_CX_DESTROY_LOCAL, 0),
    ] {
        assert_eq!(cluster.stats.read(counter), value, "{counter:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_remote_and_says_why() {
    let (_keep, address) = closed();
    let (cluster, host) = (cluster(UpstreamSockets::default()), host(&[address]));
    let error = connect(&cluster, &host, &ConnectOptions::default()).await.err().unwrap();
    assert!(matches!(error, ConnectError::Remote(_)));
    assert_eq!(error.transport_failure_reason().unwrap(), "delayed connect error: Connection refused");
    assert_eq!(cluster.stats.read(ClusterStats::UPSTREAM_CX_CONNECT_FAIL), 1);
    assert_eq!(cluster.stats.read(ClusterStats::UPSTREAM_CX_DESTROY_REMOTE), 1);
    assert_eq!(cluster.stats.read_gauge(ClusterStats::UPSTREAM_CX_ACTIVE), 0);
    assert_eq!(host.stats.cx_connect_fail.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn connect_timeout_ends_an_attempt_that_nobody_answers() {
    // A listener whose queue is full drops what comes.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _fill = std::net::TcpStream::connect(address).unwrap();
    let (cluster, host) = (cluster(UpstreamSockets::default()), host(&[address]));
    let error = connect(&cluster, &host, &ConnectOptions::default()).await.err().unwrap();
    assert!(matches!(error, ConnectError::Timeout), "{error}");
    assert_eq!(cluster.stats.read(ClusterStats::UPSTREAM_CX_CONNECT_TIMEOUT), 1);
    assert_eq!(cluster.stats.read(ClusterStats::UPSTREAM_CX_CONNECT_FAIL), 1);
    assert_eq!(cluster.stats.read(ClusterStats::UPSTREAM_CX_DESTROY_LOCAL), 1);
}

#[tokio::test]
async fn further_addresses_are_tried_when_the_first_fails() {
    let (_keep, dead) = closed();
    let (listener, alive) = listener("127.0.0.1:0").await;
    let (cluster, host) = (cluster(UpstreamSockets::default()), host(&[dead, alive]));
    let connected = connect(&cluster, &host, &ConnectOptions::default()).await.unwrap();
    assert_eq!(connected.remote_address, Address::Ip(alive));
    // One connection of the cluster, however many addresses it took.
    assert_eq!(cluster.stats.read(ClusterStats::UPSTREAM_CX_TOTAL), 1);
    drop(listener);
}

#[tokio::test]
async fn all_addresses_refused_is_a_failure() {
    let ((_a, first), (_b, second)) = (closed(), closed());
    let (cluster, host) = (cluster(UpstreamSockets::default()), host(&[first, second]));
    assert!(matches!(connect(&cluster, &host, &ConnectOptions::default()).await, Err(ConnectError::Remote(_))));
}

#[test]
fn addresses_alternate_between_families() {
    let of = |text: &str| Address::Ip(text.parse().unwrap());
    let (a, b, c) = (of("10.0.0.1:1"), of("10.0.0.2:1"), of("10.0.0.3:1"));
    let (x, y) = (of("[::1]:1"), of("[::2]:1"));
    let others = [b.clone(), c.clone(), x.clone(), y.clone()];
    let order = HappyEyeballs::default().order(&a, &others);
    assert_eq!(order, [&a, &x, &b, &y, &c]);
    let v6_first = HappyEyeballs { first_is_v4: Some(false), first_count: 2 };
    assert_eq!(v6_first.order(&a, &others), [&x, &y, &a, &b, &c]);
    // A family that is not there cannot come first.
    assert_eq!(v6_first.order(&a, std::slice::from_ref(&b)), [&a, &b]);
}

use super::sockets::HappyEyeballs;

#[tokio::test]
async fn connections_come_from_the_source_of_their_family() {
    let sockets = bind(core::BindConfig {
        source_address: Some(socket_address("127.0.0.7", 0)),
        extra_source_addresses: vec![core::ExtraSourceAddress {
            address: Some(socket_address("::1", 0)),
            socket_options: None,
        }],
        ..Default::default()
    });
    let cluster = cluster(sockets);
    let (listener, address) = listener("127.0.0.1:0").await;
    let connected = connect(&cluster, &host(&[address]), &ConnectOptions::default()).await.unwrap();
    assert_eq!(connected.local_address.ip().unwrap().to_string(), "127.0.0.7");
    assert_eq!(listener.accept().await.unwrap().1.ip().to_string(), "127.0.0.7");
    let source = cluster.sockets.source("::2".parse().unwrap()).unwrap();
    assert_eq!(source.address.ip().to_string(), "::1");
}

#[tokio::test]
async fn a_source_that_is_not_ours_is_a_local_failure() {
    let sockets = bind(core::BindConfig { source_address: Some(socket_address("192.0.2.1", 0)), ..Default::default() });
    let cluster = cluster(sockets);
    let (_listener, address) = listener("127.0.0.1:0").await;
    let error = connect(&cluster, &host(&[address]), &ConnectOptions::default()).await.err().unwrap();
    assert!(matches!(error, ConnectError::Local(_)), "{error}");
    assert_eq!(cluster.stats.read(ClusterStats::BIND_ERRORS), 1);
}

#[tokio::test]
async fn pipes_connect_by_path_and_by_abstract_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _listener = tokio::net::UnixListener::bind(&path).unwrap();
    let name = format!("@outrigger-test-{}", std::process::id());
    let _named = tokio::net::UnixListener::bind(format!("\0{}", &name[1..])).unwrap();
    for path in [path.to_str().unwrap(), &name] {
        let host = Arc::new(Host::new(Address::Pipe(path.into()), "".into(), 1));
        let connected = connect(&cluster(UpstreamSockets::default()), &host, &ConnectOptions::default()).await;
        assert_eq!(connected.unwrap().remote_address.to_string(), path);
    }
}

#[test]
fn the_cluster_overrides_the_manager() {
    let of =
        |address: &str| core::BindConfig { source_address: Some(socket_address(address, 0)), ..Default::default() };
    let manager = core::BindConfig { freebind: Some(true), ..of("10.0.0.1") };
    let build = |cluster| UpstreamSockets::build(cluster, None, Some(&manager), &Path::root("")).unwrap();
    let to = "10.0.0.9".parse().unwrap();
    let own = of("10.0.0.2");
    assert_eq!(build(Some(&own)).source(to).unwrap().address.ip().to_string(), "10.0.0.2");
    assert!(build(Some(&own)).source(to).unwrap().options.freebind);
    assert_eq!(build(None).source(to).unwrap().address.ip().to_string(), "10.0.0.1");
}

#[test]
fn what_cannot_be_done_is_refused() {
    let refused = |bind: core::BindConfig| {
        UpstreamSockets::build(Some(&bind), None, None, &Path::root("c")).map(|_| ()).unwrap_err().path
    };
    let two = core::BindConfig {
        source_address: Some(socket_address("10.0.0.1", 0)),
        extra_source_addresses: vec![core::ExtraSourceAddress {
            address: Some(socket_address("10.0.0.2", 0)),
            socket_options: None,
        }],
        ..Default::default()
    };
    assert_eq!(refused(two), "c.upstream_bind_config.extra_source_addresses[0].address");
    let selector = core::BindConfig { local_address_selector: Some(Default::default()), ..Default::default() };
    assert_eq!(refused(selector), "c.upstream_bind_config.local_address_selector");
}
