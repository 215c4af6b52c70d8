use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::LocalBoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::listener_manager::AddError;
use super::testing::{Running, eventually, on_control, options, proto};
use super::worker::Event;
use super::*;
use crate::config::{BuildCx, Path};
use crate::listener::Listener;
use crate::network::{Connection, TerminalFilter};
use crate::stats::names::{ListenerManagerStats, ListenerStats, ProcessStats, WorkerListenerStats};

const ECHO: &str =
    "{ name: echo, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo } }";

fn say(text: &str) -> String {
    let config = "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config";
    format!("{{ name: say, typed_config: {{ \"@type\": {config}, response: {{ inline_string: \"{text}\" }} }} }}")
}

fn on(name: &str, address: &str, port: u16, filter: &str, extra: &str) -> String {
    format!(
        "name: {name}\naddress: {{ socket_address: {{ address: \"{address}\", port_value: {port} }} }}\nfilter_chains: [ {{ filters: [ {filter} ] }} ]\n{extra}"
    )
}

async fn ask(address: SocketAddr, text: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(text).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[test]
fn a_connection_is_accepted_served_and_counted() {
    on_control(async {
        let running = Running::start(options(2), &[&on("e", "127.0.0.1", 0, ECHO, "stat_prefix: e")]);
        assert_eq!(ask(running.address("e"), b"hello").await.unwrap(), "hello");
        let stats = running.server.cx.stats.block::<ListenerStats>("listener.e");
        eventually("the connection ends", || stats.read(ListenerStats::DOWNSTREAM_CX_DESTROY) == 1).await;
        assert_eq!(stats.read(ListenerStats::DOWNSTREAM_CX_TOTAL), 1);
        assert_eq!(stats.read_gauge(ListenerStats::DOWNSTREAM_CX_ACTIVE), 0);
        assert_eq!(stats.read_gauge(ListenerStats::DOWNSTREAM_PRE_CX_ACTIVE), 0);
        assert_eq!(stats.read_histogram(ListenerStats::DOWNSTREAM_CX_LENGTH_MS).count(), 1);
        let manager = running.server.cx.stats.block::<ListenerManagerStats>("listener_manager");
        assert_eq!(manager.read(ListenerManagerStats::LISTENER_ADDED), 1);
        assert_eq!(manager.read(ListenerManagerStats::LISTENER_CREATE_SUCCESS), 2);
        assert_eq!(manager.read_gauge(ListenerManagerStats::TOTAL_LISTENERS_ACTIVE), 1);
        assert_eq!(running.server.cx.connections.open(), 0);
    });
}

#[test]
fn every_address_is_served() {
    on_control(async {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        std::os::unix::net::UnixListener::bind(&pipe).unwrap();
        let additional = format!(
            "additional_addresses: [ {{ address: {{ socket_address: {{ address: \"::1\", port_value: 0 }} }} }}, {{ address: {{ pipe: {{ path: \"{}\", mode: 416 }} }} }} ]",
            pipe.display()
        );
        let running = Running::start(options(2), &[&on("e", "127.0.0.1", 0, ECHO, &additional)]);
        let addresses = running.addresses("e");
        for address in &addresses[..2] {
            assert_eq!(ask(address.socket().unwrap(), b"ip").await.unwrap(), "ip");
        }
        let mut stream = UnixStream::connect(&pipe).await.unwrap();
        stream.write_all(b"pipe").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "pipe");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&pipe).unwrap().permissions().mode() & 0o777, 0o640);
    });
}

#[test]
fn a_dual_stack_address_takes_both_families() {
    on_control(async {
        let compat = "name: d\naddress: { socket_address: { address: \"::\", port_value: 0, ipv4_compat: true } }\nfilter_chains: [ { filters: [ FILTER ] } ]";
        let running = Running::start(options(1), &[&compat.replace("FILTER", ECHO), &on("six", "::", 0, ECHO, "")]);
        let port = running.address("d").port();
        assert_eq!(ask(SocketAddr::from(([127, 0, 0, 1], port)), b"4").await.unwrap(), "4");
        assert_eq!(ask(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port)), b"6").await.unwrap(), "6");
        let port = running.address("six").port();
        assert!(ask(SocketAddr::from(([127, 0, 0, 1], port)), b"4").await.is_err());
    });
}

const PROXY_PROTOCOL: &str = "listener_filters: [ { name: p, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol } } ]";

/// The PROXY header restores the destination as a REDIRECT rule would.
#[test]
fn connections_go_to_the_listener_of_their_destination() {
    on_control(async {
        let front = on("front", "127.0.0.1", 0, &say("front"), &format!("use_original_dst: true\n{PROXY_PROTOCOL}"));
        let unbound = "bind_to_port: false";
        let running = Running::start(
            options(2),
            &[
                &front,
                &on("exact", "127.77.0.1", 8080, &say("exact"), unbound),
                &on("any", "0.0.0.0", 8080, &say("any"), unbound),
                &on("any6", "::", 8080, &say("any6"), unbound),
            ],
        );
        let front = running.address("front");
        let to = async |family: &str, destination: &str| {
            let source = if family == "TCP4" { "1.2.3.4" } else { "fd00::9" };
            ask(front, format!("PROXY {family} {source} {destination}\r\n").as_bytes()).await.unwrap()
        };
        assert_eq!(to("TCP4", "127.77.0.1 1 8080").await, "exact");
        assert_eq!(to("TCP4", "127.77.0.2 1 8080").await, "any");
        assert_eq!(to("TCP4", "127.77.0.2 1 8081").await, "front");
        assert_eq!(to("TCP6", "fd00::1 1 8080").await, "any6");
        assert_eq!(ask(front, b"PROXY UNKNOWN\r\n").await.unwrap(), "front");
        let direct = format!("PROXY TCP4 1.2.3.4 127.0.0.1 1 {}\r\n", front.port());
        assert_eq!(ask(front, direct.as_bytes()).await.unwrap(), "front");
        // A connection counts for the listener that serves it.
        let stats = |scope: &str| running.server.cx.stats.block::<ListenerStats>(&format!("listener.{scope}"));
        assert_eq!(stats("127.77.0.1_8080").read(ListenerStats::DOWNSTREAM_CX_TOTAL), 1);
        assert_eq!(stats("0.0.0.0_8080").read(ListenerStats::DOWNSTREAM_CX_TOTAL), 1);
        assert_eq!(
            stats(&front.to_string().replace(&front.port().to_string(), "0")).read(ListenerStats::DOWNSTREAM_CX_TOTAL),
            3
        );
        // Nobody listens where the table has an entry only.
        assert!(TcpStream::connect("127.77.0.1:8080").await.is_err());
    });
}

#[test]
fn exact_balance_gives_each_worker_the_same() {
    on_control(async {
        let balanced =
            on("b", "127.0.0.1", 0, ECHO, "stat_prefix: b\nconnection_balance_config: { exact_balance: {} }");
        let running = Running::start(options(2), &[&balanced]);
        let mut open = Vec::new();
        for _ in 0..10 {
            let mut stream = TcpStream::connect(running.address("b")).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            stream.read_u8().await.unwrap();
            open.push(stream);
        }
        for worker in 0..2 {
            let stats = running.server.cx.stats.block::<WorkerListenerStats>(&format!("listener.b.worker_{worker}"));
            assert_eq!(stats.read_gauge(WorkerListenerStats::DOWNSTREAM_CX_ACTIVE), 5);
        }
    });
}

#[test]
fn limits_close_what_is_too_much() {
    on_control(async {
        let mut cx = BuildCx::new(options(1));
        cx.connections =
            std::sync::Arc::new(crate::listener::connections::Connections::new(crate::runtime::Live::fixed(3)));
        let limit = crate::runtime::Value::Number(2.0);
        let key = "envoy.resource_limits.listener.l.connection_limit".to_owned();
        cx.runtime = std::sync::Arc::new(crate::runtime::Runtime::new([(key, limit)].into()));
        let running = Running::start_with(
            cx,
            &[
                &on("l", "127.0.0.1", 0, ECHO, "stat_prefix: l"),
                &on("g", "127.0.0.1", 0, ECHO, "stat_prefix: g"),
                &on("free", "127.0.0.1", 0, ECHO, "ignore_global_conn_limit: true"),
            ],
        );
        let open = async |name: &str| {
            let mut stream = TcpStream::connect(running.address(name)).await.unwrap();
            stream.write_all(b"x").await.unwrap();
            (stream.read_u8().await.is_ok(), stream)
        };
        let stats = |name: &str| running.server.cx.stats.block::<ListenerStats>(&format!("listener.{name}"));
        let (first, second) = (open("l").await, open("l").await);
        assert!(first.0 && second.0);
        assert!(!open("l").await.0);
        assert_eq!(stats("l").read(ListenerStats::DOWNSTREAM_CX_OVERFLOW), 1);
        let third = open("g").await;
        assert!(third.0);
        assert!(!open("g").await.0);
        assert_eq!(stats("g").read(ListenerStats::DOWNSTREAM_GLOBAL_CX_OVERFLOW), 1);
        assert!(open("free").await.0);
        drop((first, third));
        eventually("the places are free again", || running.server.cx.connections.open() == 1).await;
        assert!(open("l").await.0);
    });
}

#[test]
fn an_address_belongs_to_one_listener() {
    on_control(async {
        let running = Running::start(options(1), &[&on("a", "127.0.0.1", 0, ECHO, "")]);
        let port = running.address("a").port();
        let error = running.add(&on("b", "127.0.0.1", port, ECHO, "")).unwrap_err();
        assert!(matches!(error, AddError::DuplicateAddress { .. }), "{error}");
        // Another process, or here another socket, has the port for itself.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = running.add(&on("c", "127.0.0.1", taken.local_addr().unwrap().port(), ECHO, "")).unwrap_err();
        assert!(error.to_string().contains("cannot bind 127.0.0.1:"), "{error}");
        assert_eq!(running.server.listeners.statuses().len(), 1);
    });
}

#[test]
fn an_update_keeps_the_socket_and_old_connections() {
    on_control(async {
        let running = Running::start(options(2), &[&on("a", "127.0.0.1", 0, ECHO, "")]);
        let address = running.address("a");
        let mut old = TcpStream::connect(address).await.unwrap();
        old.write_all(b"1").await.unwrap();
        assert_eq!(old.read_u8().await.unwrap(), b'1');
        running.add(&on("a", "127.0.0.1", 0, &say("new"), "")).unwrap();
        assert_eq!(running.address("a"), address);
        eventually("new connections see the update", || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let mut first = [0; 1];
            stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            std::io::Read::read(&mut stream, &mut first).is_ok_and(|n| n == 1)
        })
        .await;
        old.write_all(b"2").await.unwrap();
        assert_eq!(old.read_u8().await.unwrap(), b'2');
        let stats = running.server.cx.stats.block::<ListenerManagerStats>("listener_manager");
        assert_eq!(stats.read(ListenerManagerStats::LISTENER_MODIFIED), 1);
        assert_eq!(stats.read_gauge(ListenerManagerStats::TOTAL_LISTENERS_DRAINING), 1);
    });
}

/// Chains are chosen by source address, so that one test can have connections on two of them.
#[test]
fn an_update_of_one_filter_chain_leaves_connections_of_the_others_alone() {
    on_control(async {
        let options = ServerOptions { drain_time: Duration::from_millis(200), ..options(2) };
        let chains = |second: &str| {
            let chain = |source: &str, filter: &str| {
                format!(
                    "{{ filter_chain_match: {{ source_prefix_ranges: [ {{ address_prefix: {source}, prefix_len: 32 }} ] }}, filters: [ {filter} ] }}"
                )
            };
            format!(
                "name: a\naddress: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}\nfilter_chains: [ {}, {} ]",
                chain("127.0.0.1", ECHO),
                chain("127.0.0.2", second)
            )
        };
        let (before, after) = (chains(ECHO), chains(&say("new")));
        let running = Running::start(options, &[&before]);
        let address = running.address("a");
        let connect = async |from: [u8; 4]| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from((from, 0))).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            stream.write_all(b"1").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'1');
            stream
        };
        let (mut kept, mut changed) = (connect([127, 0, 0, 1]).await, connect([127, 0, 0, 2]).await);
        let server = &running.server;
        let old = server.listeners.listener("a").unwrap();
        let new = Listener::update(&proto(&after), &old, &proto(&before), &Path::root(""), &server.cx).unwrap();
        server.listeners.add(new).unwrap();
        assert_eq!(changed.read(&mut [0]).await.unwrap(), 0, "cut after the drain time");
        kept.write_all(b"2").await.unwrap();
        assert_eq!(kept.read_u8().await.unwrap(), b'2');
        let stats = server.cx.stats.block::<ListenerManagerStats>("listener_manager");
        assert_eq!(stats.read(ListenerManagerStats::LISTENER_IN_PLACE_UPDATED), 1);
        assert_eq!(stats.read_gauge(ListenerManagerStats::TOTAL_LISTENERS_DRAINING), 0);
        eventually("draining ends", || stats.read_gauge(ListenerManagerStats::TOTAL_FILTER_CHAINS_DRAINING) == 0).await;
    });
}

#[test]
fn a_removed_listener_lets_its_connections_finish() {
    on_control(async {
        let options = ServerOptions { drain_time: Duration::from_millis(300), ..options(2) };
        let running = Running::start(options, &[&on("a", "127.0.0.1", 0, ECHO, "")]);
        let address = running.address("a");
        let mut old = TcpStream::connect(address).await.unwrap();
        old.write_all(b"1").await.unwrap();
        assert_eq!(old.read_u8().await.unwrap(), b'1');
        let removed = Instant::now();
        assert!(running.server.listeners.remove("a"));
        running.server.listeners.stopped().await;
        assert!(TcpStream::connect(address).await.is_err());
        old.write_all(b"2").await.unwrap();
        assert_eq!(old.read_u8().await.unwrap(), b'2');
        assert_eq!(old.read(&mut [0]).await.unwrap(), 0, "cut after the drain time");
        assert!(removed.elapsed() >= Duration::from_millis(300));
        assert!(!running.server.listeners.remove("a"));
    });
}

#[test]
fn drain_listeners_stops_those_it_means() {
    on_control(async {
        let running = Running::start(
            options(2),
            &[&on("in", "127.0.0.1", 0, ECHO, "traffic_direction: INBOUND"), &on("out", "127.0.0.1", 0, ECHO, "")],
        );
        let (inbound, outbound) = (running.address("in"), running.address("out"));
        let mut old = TcpStream::connect(inbound).await.unwrap();
        running.server.drain_listeners(DrainListeners { inbound_only: true, ..Default::default() });
        running.server.listeners.stopped().await;
        assert!(TcpStream::connect(inbound).await.is_err());
        assert_eq!(ask(outbound, b"x").await.unwrap(), "x");
        old.write_all(b"1").await.unwrap();
        assert_eq!(old.read_u8().await.unwrap(), b'1', "old connections go on");
        running.server.drain_listeners(DrainListeners { skip_exit: true, ..Default::default() });
        running.server.listeners.stopped().await;
        assert_eq!(ask(outbound, b"x").await.unwrap(), "x");
        let stats = running.server.cx.stats.block::<ListenerManagerStats>("listener_manager");
        assert_eq!(stats.read(ListenerManagerStats::LISTENER_STOPPED), 2);
        assert_eq!(running.server.listeners.statuses().len(), 2, "they stay listed");
    });
}

#[test]
fn the_process_waits_for_connections_before_it_exits() {
    on_control(async {
        let server = Server::new(BuildCx::new(options(1)));
        assert_eq!(server.state().to_string(), "PRE_INITIALIZING");
        let yaml = on("a", "127.0.0.1", 0, ECHO, "");
        server.listeners.add(testing::listener(&server.cx, &yaml).unwrap()).unwrap();
        let target = server.init.target("Cluster c");
        let address = server.listeners.statuses()[0].addresses[0].socket().unwrap();
        let run = tokio::task::spawn_local({
            let server = server.clone();
            async move { server.run().await }
        });
        tokio::task::yield_now().await;
        assert_eq!(server.state().to_string(), "INITIALIZING");
        assert!(TcpStream::connect(address).await.is_err(), "nothing is accepted before the process is ready");
        drop(target);
        eventually("the process is live", || server.state() == ServerState::Live).await;
        let mut open = TcpStream::connect(address).await.unwrap();
        open.write_all(b"1").await.unwrap();
        assert_eq!(open.read_u8().await.unwrap(), b'1');
        server.health_check(true);
        assert_eq!(server.state(), ServerState::Draining);
        server.health_check(false);
        assert_eq!(server.state(), ServerState::Live);
        // A signal to the test process reaches only the server under test, as no other handler is installed.
        let this = std::process::id().to_string();
        std::process::Command::new("sh").args(["-c", "kill -TERM $0", &this]).status().unwrap();
        eventually("the process drains", || server.state() == ServerState::Draining).await;
        eventually("it stops to accept", || std::net::TcpStream::connect(address).is_err()).await;
        open.write_all(b"2").await.unwrap();
        assert_eq!(open.read_u8().await.unwrap(), b'2', "what is open goes on");
        assert!(!run.is_finished());
        drop(open);
        let done = tokio::time::timeout(Duration::from_secs(5), run).await;
        assert_eq!(done.expect("it ends with its last connection").unwrap(), Ok(()));
    });
}

#[test]
fn a_worker_that_cannot_go_on_ends_the_process() {
    on_control(async {
        let mut running = Running::start(options(2), &[&on("a", "127.0.0.1", 0, ECHO, "")]);
        // What a broken socket does: accept(2) on a socket that does not listen is EINVAL.
        let not_listening =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM.nonblocking(), None).unwrap();
        running.server.listeners.accept_on("a", not_listening.into());
        let event = tokio::time::timeout(Duration::from_secs(5), running.events.recv()).await.unwrap();
        let Some(Event::Fatal(why)) = event else { panic!("{event:?}") };
        assert!(why.contains("cannot accept on"), "{why}");
    });
}

/// The mean part of a core that a process used between two looks.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after = stat.rsplit(") ").next().unwrap();
    let fields: Vec<&str> = after.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

const CHILD: &str = "OUTRIGGER_TEST_FILE_LIMIT_CHILD";

/// Runs itself again under `ulimit -n 64`.
#[test]
fn out_of_descriptors_is_survived_cheaply() {
    if std::env::var_os(CHILD).is_some() {
        return serve_until_stdin_ends();
    }
    let this = std::env::current_exe().unwrap();
    let mut child = std::process::Command::new("sh")
        .args([
            "-c",
            "ulimit -n 64; exec \"$0\" --exact server::tests::out_of_descriptors_is_survived_cheaply --nocapture",
        ])
        .arg(this)
        .env(CHILD, "1")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::{BufRead, Read, Write};
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let address: SocketAddr =
        lines.by_ref().find_map(|l| l.unwrap().strip_prefix("at ").map(|a| a.parse().unwrap())).unwrap();
    let mut open: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let answers = |stream: &mut std::net::TcpStream, wait: u64| {
        stream.set_read_timeout(Some(Duration::from_millis(wait))).unwrap();
        stream.write_all(b"x").is_ok() && stream.read(&mut [0]).is_ok_and(|n| n == 1)
    };
    let served = open.iter_mut().filter_map(|stream| answers(stream, 200).then_some(())).count();
    assert!((10..60).contains(&served), "{served} of 100 are served");
    let (before, at) = (cpu_ticks(child.id()), Instant::now());
    std::thread::park_timeout(Duration::from_secs(2));
    let used = (cpu_ticks(child.id()) - before) as f64 / 100.0 / at.elapsed().as_secs_f64();
    assert!(used <= 0.05, "{used} of a core while out of descriptors");
    open.clear();
    let freed = Instant::now();
    let mut again = std::net::TcpStream::connect(address).unwrap();
    assert!(answers(&mut again, 2000));
    assert!(freed.elapsed() < Duration::from_secs(1), "back after {:?}", freed.elapsed());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

fn serve_until_stdin_ends() {
    on_control(async {
        let running = Running::start(options(1), &[&on("a", "127.0.0.1", 0, ECHO, "")]);
        println!("at {}", running.address("a"));
        tokio::task::spawn_blocking(|| std::io::Read::read(&mut std::io::stdin(), &mut [0])).await.unwrap().unwrap();
    });
}

/// Panics over the first byte.
struct Nervous;

impl TerminalFilter for Nervous {
    fn serve(self: Arc<Self>, mut connection: Connection) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            let byte = connection.io.read_u8().await;
            panic!("this is a test: {byte:?}");
        })
    }
}

#[test]
fn a_panic_ends_one_connection() {
    on_control(async {
        let running = Running::start(options(1), &[&on("e", "127.0.0.1", 0, ECHO, "")]);
        let nervous =
            testing::listener(&running.server.cx, &on("nervous", "127.0.0.1", 0, ECHO, "stat_prefix: nervous"))
                .unwrap();
        running.server.listeners.add(nervous.with_terminal(Arc::new(Nervous))).unwrap();
        let mut calm = TcpStream::connect(running.address("e")).await.unwrap();
        let stats = running.server.cx.stats.block::<ListenerStats>("listener.nervous");
        for n in 1..=2 {
            assert_eq!(ask(running.address("nervous"), b"boo").await.unwrap_or_default(), "");
            let process = running.server.cx.stats.block::<ProcessStats>("server");
            eventually("it is counted", || process.read(ProcessStats::PANICS) == n).await;
            assert_eq!(stats.read(ListenerStats::DOWNSTREAM_CX_DESTROY), n);
            assert_eq!(stats.read_gauge(ListenerStats::DOWNSTREAM_CX_ACTIVE), 0);
        }
        calm.write_all(b"1").await.unwrap();
        assert_eq!(calm.read_u8().await.unwrap(), b'1', "other connections do not notice");
        assert_eq!(running.server.cx.connections.open(), 1);
    });
}
