//! The script, and what a proxy must do at each step of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tests::certificates::Authority;
use tests::client::{Client, Response, get};
use tests::proxy::{Options, Proxy};
use tests::tls::{Offer, Tls};
use tests::upstream::{Upstream, ok};
use tests::{PATIENCE, wait_for};

use crate::resources::{self, UNKNOWN_FILTER};
use crate::server::{Server, free_port, short};

const ALL: &[&str] = &["Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration", "Secret"];

/// What one management server after the other saw.
#[derive(Default)]
pub struct Story(Vec<Vec<Value>>);

impl Story {
    /// The requests of each type in order, without what legitimately varies: texts of refusals, and how often one was
    /// repeated to a server that repeats what was refused.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (process, events) in self.0.iter().enumerate() {
            let requests = || events.iter().filter(|event| event["event"] == "request");
            let mut first: Vec<&str> = Vec::new();
            for request in requests() {
                if !first.contains(&short(request)) {
                    first.push(short(request));
                }
            }
            // Routes and secrets are wanted by listeners, which the server sends in any order.
            if let Some(last) = first.get_mut(3..) {
                last.sort_unstable();
            }
            let _ = writeln!(text, "server {process}: first asked for {}", first.join(", "));
            let mut by_type = BTreeMap::<&str, Vec<String>>::new();
            for request in requests() {
                let of = by_type.entry(short(request)).or_default();
                let line = line(request, events);
                if of.last() != Some(&line) {
                    of.push(line);
                }
            }
            for (kind, lines) in by_type {
                let _ = writeln!(text, "{kind}\n  {}", lines.join("\n  "));
            }
        }
        text
    }
}

/// A request in a line; versions by what they name: the snapshot, not the digest.
fn line(request: &Value, events: &[Value]) -> String {
    let text = |key: &str| request[key].as_str().unwrap_or_default();
    let list =
        |key: &str| -> Vec<&str> { request[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
    let answered = events.iter().find(|event| {
        event["event"] == "response" && event["type"] == request["type"] && event["nonce"] == request["nonce"]
    });
    let verdict = match (answered, text("error").is_empty()) {
        (None, _) => "asks".to_owned(),
        (Some(_), true) => "ACK".to_owned(),
        (Some(_), false) => "NACK".to_owned(),
    };
    let snapshot = text("version").split('-').next().unwrap_or_default();
    let node = if text("node").is_empty() { "" } else { " with node" };
    let initial: Vec<&String> = request["initial"].as_object().into_iter().flatten().map(|(name, _)| name).collect();
    format!(
        "{verdict}{node} version {snapshot:?} names {:?} not {:?} has {initial:?}",
        list("names"),
        list("unsubscribe")
    )
}

/// The proxy, its upstreams, and what it is to be told.
struct Mesh {
    proxy: Proxy,
    delta: bool,
    upstreams: [Upstream; 2],
    certificates: tempfile::TempDir,
    main: u16,
    secure: u16,
    extra: u16,
}

/// The state that a step wants.
#[derive(Clone, Copy)]
struct State {
    upstream: usize,
    route: &'static str,
    identity: &'static str,
    main_is_broken: bool,
    extra: bool,
}

impl Mesh {
    fn resources(&self, state: State) -> Vec<String> {
        let broken = if state.main_is_broken { UNKNOWN_FILTER } else { "" };
        let mut all = vec![
            resources::cluster(),
            resources::endpoints(self.upstreams[state.upstream].port),
            resources::route(state.route),
            resources::listener("main", self.main, "", broken),
            resources::listener("secure", self.secure, &resources::tls(), ""),
            resources::secret(self.certificates.path(), state.identity),
        ];
        if state.extra {
            all.push(resources::listener("extra", self.extra, "", ""));
        }
        all
    }

    /// The certificate that the TLS listener shows.
    fn identity(&self) -> Option<String> {
        let offer = Offer::default();
        let (_, session) = Tls::connect(self.secure, self.certificates.path(), &offer).ok()?;
        session.peer
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let held = wait_for(PATIENCE, || holds().then_some(()));
        assert!(held.is_some(), "{what}: not so in time\n{}", self.proxy.log());
    }
}

/// Requests on one connection, one after the other, until it ends.
struct Flow {
    stop: Arc<AtomicBool>,
    requests: JoinHandle<Vec<Response>>,
}

impl Flow {
    fn start(port: u16) -> Flow {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let requests = std::thread::spawn(move || {
            let mut client = Client::connect(port);
            let mut responses = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                responses.push(client.get("/"));
                std::thread::park_timeout(Duration::from_millis(2));
            }
            responses
        });
        Flow { stop, requests }
    }

    /// Ends it: every request was answered with 200. What the last one said.
    fn end(self) -> Response {
        self.stop.store(true, Ordering::Relaxed);
        let responses = self.requests.join().expect("every request was answered on its connection");
        assert!(responses.iter().all(|response| response.status == 200), "{responses:?}");
        responses.into_iter().next_back().expect("at least one request")
    }
}

pub fn run(binary: &Path, server_binary: &Path, delta: bool) -> Story {
    let server_port = free_port();
    let certificates = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(certificates.path(), "authority");
    for name in ["one", "two"] {
        authority.leaf(certificates.path(), name, &["localhost"]);
    }
    let options = Options { not_ready: true, ..Options::default() };
    let mesh = Mesh {
        proxy: Proxy::start_with(binary, &resources::bootstrap(server_port, delta), &options),
        delta,
        upstreams: [Upstream::http(|_| ok("first")), Upstream::http(|_| ok("second"))],
        certificates,
        main: free_port(),
        secure: free_port(),
        extra: free_port(),
    };
    waits_for_its_management_server(&mesh);
    let mut state = State { upstream: 0, route: "one", identity: "one", main_is_broken: false, extra: false };
    let mut server = Server::start(server_binary, delta, server_port, "1", &mesh.resources(state));
    becomes_ready(&mesh, &server);

    let flow = Flow::start(mesh.main);
    state.route = "two";
    server.serve("1", &mesh.resources(state));
    mesh.until("the new route", || get(mesh.main, "/").header("route") == Some("two"));
    state.upstream = 1;
    server.serve("1", &mesh.resources(state));
    mesh.until("the new endpoint", || get(mesh.main, "/").text() == "second");
    state.identity = "two";
    server.serve("1", &mesh.resources(state));
    mesh.until("the new certificate", || mesh.identity().as_deref() == Some("two"));
    server.wait_answered(ALL);
    assert_eq!(mesh.proxy.stat("listener_manager.listener_modified"), 0);
    assert_eq!(mesh.proxy.stat("cluster_manager.cluster_modified"), 0);

    state.main_is_broken = true;
    state.extra = true;
    server.serve("1", &mesh.resources(state));
    refuses_one_of_two(&mesh, &server);
    state.main_is_broken = false;
    server.serve("1", &mesh.resources(state));
    // What was refused is sent again and again until this is taken.
    mesh.until("the repaired listener is taken", || {
        let events = server.events();
        let last = events.iter().rfind(|event| event["event"] == "request" && short(event) == "Listener");
        last.is_some_and(|request| request.get("error").is_none())
    });
    state.extra = false;
    server.serve("1", &mesh.resources(state));
    mesh.until("the listener is gone", || std::net::TcpStream::connect(("127.0.0.1", mesh.extra)).is_err());
    server.wait_answered(ALL);
    let last = flow.end();
    assert_eq!((last.header("route"), last.text().as_str()), (Some("two"), "second"));

    let mut story = Story(Vec::new());
    // Served again as it was, as a push of equal bytes, and then changed.
    for version in ["1", "2"] {
        let (next, seen) = survives_a_restart(&mesh, server, server_binary, version, state);
        story.0.push(seen);
        server = next;
    }
    state.route = "three";
    server.serve("2", &mesh.resources(state));
    mesh.until("the last route", || get(mesh.main, "/").header("route") == Some("three"));
    server.wait_settled();
    story.0.push(server.stop());
    story
}

fn waits_for_its_management_server(mesh: &Mesh) {
    assert_eq!(mesh.proxy.admin("/ready").status, 503);
    mesh.proxy.wait_stat("cluster.xds.upstream_cx_connect_fail", |failures| failures > 0);
    // While it tries, Envoy counts itself connected.
    mesh.proxy.wait_stat("control_plane.connected_state", |connected| connected == 0);
}

fn becomes_ready(mesh: &Mesh, server: &Server) {
    mesh.until("ready", || mesh.proxy.admin("/ready").status == 200);
    server.wait_answered(ALL);
    let response = get(mesh.main, "/");
    assert_eq!((response.status, response.header("route"), response.text().as_str()), (200, Some("one"), "first"));
    assert_eq!(mesh.identity().as_deref(), Some("one"));
    assert_eq!(mesh.proxy.stat("control_plane.connected_state"), 1);
    let events = server.events();
    let nodes: Vec<&Value> = events.iter().filter(|event| event.get("node").is_some()).collect();
    assert_eq!(nodes[0]["node"], "the-node");
    // For state of the world the library fills in the node that it knows.
    assert!(nodes.len() == 1 || !mesh.delta, "the node is in the first request and no other: {nodes:?}");
}

/// Of a push with a listener that cannot be built and one that can, the second is opened and the first stays as it was.
fn refuses_one_of_two(mesh: &Mesh, server: &Server) {
    let nack = server.wait("the NACK", |event| event["event"] == "request" && event.get("error").is_some());
    let error = nack["error"].as_str().unwrap_or_default();
    assert!(error.contains("main") && error.contains("UnheardOf"), "the NACK says what and why: {error}");
    mesh.until("the good listener is open", || {
        std::net::TcpStream::connect(("127.0.0.1", mesh.extra)).is_ok() && get(mesh.extra, "/").status == 200
    });
    assert_eq!(get(mesh.main, "/").status, 200, "the last good version is in force");
    assert!(mesh.proxy.stat("listener_manager.lds.update_rejected") > 0);
    let dump = mesh.proxy.admin("/config_dump?resource=dynamic_listeners").text();
    assert!(dump.contains("error_state"), "{dump}");
    let audit = crate::istio::audit(&mesh.proxy.admin("/config_dump").text());
    assert!(audit.contains("refused    rejected listener \"main\": ") && audit.contains("UnheardOf"), "{audit}");
}

/// Another process of the server on the same port, serving the same: connections up and down stay, and so does the rest.
fn survives_a_restart(mesh: &Mesh, old: Server, binary: &Path, version: &str, state: State) -> (Server, Vec<Value>) {
    let flow = Flow::start(mesh.main);
    mesh.until("the flow flows", || mesh.proxy.stat("http.main.downstream_cx_active") > 0);
    let stats = "^(cluster_manager.cluster_(added|modified|removed)|listener_manager.listener_(create_success|modified|removed))$";
    let before = mesh.proxy.stats(stats);
    let port = old.port;
    let seen = old.stop();
    mesh.proxy.wait_stat("control_plane.connected_state", |connected| connected == 0);
    assert_eq!(get(mesh.main, "/").status, 200, "without a management server");
    let connections = mesh.proxy.stat("cluster.up.upstream_cx_destroy");
    let server = Server::start(binary, mesh.delta, port, version, &mesh.resources(state));
    mesh.proxy.wait_stat("control_plane.connected_state", |connected| connected == 1);
    for kind in ALL {
        server.wait(kind, |event| event["event"] == "request" && short(event) == *kind);
    }
    server.wait_settled();
    assert_eq!(mesh.proxy.stats(stats), before, "nothing was built anew");
    assert_eq!(mesh.proxy.stat("cluster.up.upstream_cx_destroy"), connections, "no connection was closed");
    assert_eq!(mesh.identity().as_deref(), Some(state.identity));
    let last = flow.end();
    assert_eq!(last.header("route"), Some(state.route));
    (server, seen)
}
