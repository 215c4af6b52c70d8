//! Single updates, one after the other.

use tests::client::{Client, get};
use tests::control_plane::ControlPlane;
use tests::upstream::Upstream;
use tests::{PATIENCE, wait_for};
use xds_client::TypeUrl;

use crate::resources::{cluster, endpoints, free_port, listener, routes};
use crate::{VARIANTS, start};

fn upstream(name: &'static str) -> Upstream {
    Upstream::http(move |_| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len()).into_bytes())
}

/// A mesh of one listener, one route table and one cluster.
fn set(server: &ControlPlane, port: u16, upstream: u16) {
    server.set(&[
        (TypeUrl::CLUSTER, &cluster("a", "")),
        (TypeUrl::ENDPOINT, &endpoints("a", &[upstream])),
        (TypeUrl::LISTENER, &listener("in", port, "r", "")),
        (TypeUrl::ROUTE, &routes("r", "a", "one")),
    ]);
}

fn ask(port: u16) -> String {
    get(port, "/").text()
}

/// Waits until the port answers like this.
fn answers(port: u16, wanted: &str) {
    let answered = wait_for(PATIENCE, || {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        Client::over(stream).request("GET / HTTP/1.1\r\nhost: a\r\n\r\n").text().contains(wanted).then_some(())
    });
    assert!(answered.is_some(), "{port} never said {wanted:?}");
}

#[test]
fn a_mesh_comes_in_envoys_order_and_serves() {
    for delta in VARIANTS {
        let (server, up, port) = (ControlPlane::start(), upstream("up"), free_port());
        set(&server, port, up.port);
        let proxy = start(&server, delta);
        assert_eq!(ask(port), "up");
        let log = server.wait("all are acknowledged", |log| log.iter().filter(|entry| entry.is_ack()).count() >= 4);
        let mut first: Vec<&str> = Vec::new();
        for entry in &log {
            assert_eq!(entry.stream, 1);
            assert_eq!(entry.request.nack(), None);
            let kind = entry.request.type_url().rsplit('.').next().unwrap_or_default();
            if !first.contains(&kind) {
                first.push(kind);
            }
        }
        assert_eq!(first, ["Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration"]);
        let dump = proxy.admin("/config_dump").text();
        for list in ["dynamic_active_clusters", "dynamic_listeners", "dynamic_route_configs"] {
            assert!(dump.contains(list), "no {list} in {dump}");
        }
        assert_eq!(proxy.stat("control_plane.connected_state"), 1);
        assert_eq!(proxy.stat("cluster_manager.cds.update_success"), 1);
        assert_eq!(proxy.stat("listener_manager.lds.update_success"), 1);
    }
}

#[test]
fn a_control_plane_may_be_absent_at_first_and_go_away_later() {
    for delta in VARIANTS {
        let (server, up, port) = (ControlPlane::absent(), upstream("up"), free_port());
        set(&server, port, up.port);
        let dead = std::net::TcpListener::bind(("127.0.0.1", server.port)).expect("the port is free");
        let proxy = std::thread::scope(|scope| {
            let absent = &server;
            let starting = scope.spawn(move || start(absent, delta));
            // The first attempt meets somebody who hangs up.
            drop(dead.accept().expect("the proxy tries"));
            drop(dead);
            server.serve();
            starting.join().expect("started")
        });
        assert_eq!(ask(port), "up");
        let mut kept = Client::connect(port);
        assert_eq!(kept.get("/").text(), "up");
        server.stop();
        proxy.wait_stat("control_plane.connected_state", |state| state == 0);
        assert_eq!(kept.get("/").text(), "up");
        assert_eq!(ask(port), "up");
        // The same state again has no effect.
        let streams = server.store.log().iter().map(|entry| entry.stream).max().unwrap_or(0);
        server.serve();
        proxy.wait_stat("control_plane.connected_state", |state| state == 1);
        server.wait("all four types are asked for again", |log| {
            let again = log.iter().filter(|entry| entry.stream > streams);
            let types: std::collections::HashSet<&str> = again.map(|entry| entry.request.type_url()).collect();
            types.len() == 4
        });
        // And what is new is taken.
        server.set(&[(TypeUrl::ENDPOINT, &endpoints("b", &[up.port]))]);
        assert_eq!(server.push(TypeUrl::CLUSTER, &cluster("b", "")), None);
        assert_eq!(kept.get("/").text(), "up");
        assert_eq!(proxy.stat("listener_manager.listener_modified"), 0);
        assert_eq!(proxy.stat("cluster_manager.cluster_modified"), 0);
        assert_eq!(proxy.stat("cluster.a.upstream_cx_total"), proxy.stat("cluster.a.upstream_cx_active"));
    }
}

#[test]
fn an_open_connection_survives_every_update_that_does_not_concern_it() {
    for delta in VARIANTS {
        let (server, up, other, port) = (ControlPlane::start(), upstream("up"), upstream("other"), free_port());
        set(&server, port, up.port);
        let proxy = start(&server, delta);
        let mut client = Client::connect(port);
        assert_eq!(client.get("/").header("x-routes"), Some("one"));
        assert_eq!(server.push(TypeUrl::ROUTE, &routes("r", "a", "two")), None);
        assert_eq!(client.get("/").header("x-routes"), Some("two"));
        server.set(&[(TypeUrl::ENDPOINT, &endpoints("b", &[up.port]))]);
        assert_eq!(server.push(TypeUrl::CLUSTER, &cluster("b", "")), None);
        assert_eq!(server.push(TypeUrl::ENDPOINT, &endpoints("a", &[up.port, other.port])), None);
        let texts: Vec<String> = (0..4).map(|_| client.get("/").text()).collect();
        assert!(texts.contains(&"up".into()) && texts.contains(&"other".into()), "{texts:?}");
        assert_eq!(server.push(TypeUrl::ENDPOINT, &endpoints("a", &[up.port])), None);
        assert_eq!(client.get("/").text(), "up");
        // The first connection to the endpoint that stayed is still the one.
        assert_eq!(proxy.stat("cluster.a.upstream_cx_total"), 2);
        assert_eq!(proxy.stat("http.in.downstream_cx_total"), 1);
    }
}

#[test]
fn what_is_refused_leaves_what_is_good() {
    for delta in VARIANTS {
        let (server, up, port) = (ControlPlane::start(), upstream("up"), free_port());
        set(&server, port, up.port);
        let proxy = start(&server, delta);
        assert_eq!(ask(port), "up");
        let bad = listener(
            "in",
            port,
            "r",
            ", transport_socket: { name: x, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext } }",
        );
        let reason = server.push(TypeUrl::LISTENER, &bad).expect("refused");
        assert!(reason.contains("in") && reason.contains("filter_chains[0].transport_socket.typed_config"), "{reason}");
        assert_eq!(ask(port), "up");
        assert_eq!(proxy.stat("listener_manager.lds.update_rejected"), 1);
        let dump = proxy.admin("/config_dump?resource=dynamic_listeners").text();
        assert!(dump.contains("error_state") && dump.contains("transport_socket.typed_config"), "{dump}");
        let reason = server.push(
            TypeUrl::ROUTE,
            "{ name: r, virtual_hosts: [ { name: a, domains: [ a ] }, { name: b, domains: [ a ] } ] }",
        );
        assert!(reason.is_some());
        assert_eq!(ask(port), "up");
        let reason = server.push(TypeUrl::CLUSTER, "{ name: a, type: EDS }").expect("refused");
        assert!(reason.contains("eds_cluster_config"), "{reason}");
        assert_eq!(ask(port), "up");
        assert_eq!(server.push(TypeUrl::LISTENER, &listener("in", port, "r", ", name: again")), None);
        assert_eq!(ask(port), "up");
    }
}

#[test]
fn listeners_come_and_go() {
    for delta in VARIANTS {
        let (server, up, port, second) = (ControlPlane::start(), upstream("up"), free_port(), free_port());
        set(&server, port, up.port);
        let proxy = start(&server, delta);
        assert_eq!(ask(port), "up");
        // The routes come with the listener's own request for them.
        assert_eq!(server.push(TypeUrl::LISTENER, &listener("more", second, "s", "")), None);
        proxy.wait_stat("listener_manager.total_listeners_warming", |warming| warming == 1);
        server.set(&[(TypeUrl::ROUTE, &routes("s", "a", "one"))]);
        answers(second, "up");
        server.remove(TypeUrl::LISTENER, "in");
        let refused = wait_for(PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).err());
        assert!(refused.is_some(), "still listens");
        assert_eq!(ask(second), "up");
        proxy.wait_stat("listener_manager.total_listeners_active", |active| active == 1);
    }
}
