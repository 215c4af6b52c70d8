//! Responses that are refused whole, and clusters that warm: what waits for them.

use tests::client::get;
use tests::control_plane::ControlPlane;
use tests::upstream::Upstream;
use tests::{PATIENCE, wait_for};
use xds_client::TypeUrl;

use crate::resources::{cluster, endpoints, free_port, listener, routes};
use crate::{VARIANTS, start};

const WRONG: Option<&str> = Some("type.googleapis.com/envoy.config.core.v3.Node");

#[test]
fn cds_is_acknowledged_once_its_clusters_are_warm() {
    // State of the world: the server says nothing of endpoints that it does not have.
    let (server, up, port) = (ControlPlane::start(), Upstream::echo_line(), free_port());
    server.set(&[
        (TypeUrl::CLUSTER, &cluster("a", "")),
        (TypeUrl::ENDPOINT, &endpoints("a", &[up.port])),
        (TypeUrl::LISTENER, &listener("in", port, "r", "")),
        (TypeUrl::ROUTE, &routes("r", "a", "one")),
    ]);
    let proxy = start(&server, false);
    let acks = |log: &[xds_client::server::Entry]| {
        log.iter().filter(|entry| entry.request.type_url() == TypeUrl::CLUSTER.as_str() && entry.is_ack()).count()
    };
    assert_eq!(acks(&server.wait("the first ACK", |log| acks(log) == 1)), 1);
    server.set(&[(TypeUrl::CLUSTER, &cluster("b", ""))]);
    proxy.wait_stat("cluster_manager.warming_clusters", |warming| warming == 1);
    // Other types go on, and are answered after CDS would have been.
    assert_eq!(server.push(TypeUrl::ROUTE, &routes("r", "a", "two")), None);
    assert_eq!(acks(&server.store.log()), 1);
    // A version anew that still has nothing: its endpoints are asked for again.
    let asked = |log: &[xds_client::server::Entry]| {
        log.iter().filter(|entry| entry.request.type_url() == TypeUrl::ENDPOINT.as_str()).count()
    };
    let before = asked(&server.store.log());
    server.set(&[(TypeUrl::ENDPOINT, &endpoints("b", &[up.port]))]);
    server.wait("CDS is acknowledged", |log| acks(log) == 2 && asked(log) > before);
    assert_eq!(proxy.stat("cluster_manager.warming_clusters"), 0);
}

#[test]
fn a_first_response_that_is_refused_does_not_hold_up_the_start() {
    for delta in VARIANTS {
        for broken in [TypeUrl::CLUSTER, TypeUrl::LISTENER] {
            let (server, up, port) = (ControlPlane::start(), Upstream::echo_line(), free_port());
            server.set(&[
                (TypeUrl::CLUSTER, &cluster("a", "")),
                (TypeUrl::ENDPOINT, &endpoints("a", &[up.port])),
                (TypeUrl::LISTENER, &listener("in", port, "r", "")),
                (TypeUrl::ROUTE, &routes("r", "a", "one")),
            ]);
            server.set_bytes(broken.clone(), "x", WRONG, vec![10, 1, b'x']);
            // It becomes live.
            let proxy = start(&server, delta);
            let manager = if broken == TypeUrl::CLUSTER { "cluster_manager.cds" } else { "listener_manager.lds" };
            assert_eq!(proxy.stat(&format!("{manager}.update_rejected")), 1);
            assert_eq!(proxy.stat(&format!("{manager}.update_success")), 0);
            // And what is good afterwards is taken.
            server.remove(broken.clone(), "x");
            let again = match broken == TypeUrl::CLUSTER {
                true => cluster("a", ""),
                false => listener("in", port, "r", ""),
            };
            server.set(&[(broken, &again)]);
            let answered = wait_for(PATIENCE, || {
                std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
                (get(port, "/").status == 200).then_some(())
            });
            assert!(answered.is_some(), "{}", proxy.log());
        }
    }
}

#[test]
fn endpoints_and_routes_that_are_refused_first_are_not_waited_for() {
    for delta in VARIANTS {
        let (server, up, port) = (ControlPlane::start(), Upstream::echo_line(), free_port());
        server.set(&[(TypeUrl::CLUSTER, &cluster("a", "")), (TypeUrl::LISTENER, &listener("in", port, "r", ""))]);
        server.set_bytes(TypeUrl::ENDPOINT, "a", WRONG, vec![10, 1, b'a']);
        server.set_bytes(TypeUrl::ROUTE, "r", WRONG, vec![10, 1, b'r']);
        let proxy = start(&server, delta);
        assert_eq!(get(port, "/").status, 404);
        assert_eq!(proxy.stat("cluster.a.update_rejected"), 1);
        assert_eq!(proxy.stat("http.in.rds.r.update_rejected"), 1);
        assert_eq!(server.push(TypeUrl::ENDPOINT, &endpoints("a", &[up.port])), None);
        assert_eq!(server.push(TypeUrl::ROUTE, &routes("r", "a", "one")), None);
        assert_eq!(get(port, "/").status, 200);
    }
}
