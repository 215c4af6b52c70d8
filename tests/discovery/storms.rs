//! Many updates while requests flow.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tests::client::{Client, get};
use tests::control_plane::{ControlPlane, named};
use tests::upstream::Upstream;
use xds_client::TypeUrl;

use crate::resources::{cluster, endpoints, free_port, listener, routes};
use crate::start;

/// How often each kind is updated; the acknowledgement of one is waited for before the next.
const ROUNDS: usize = 150;

#[test]
fn no_request_fails_while_everything_changes() {
    let ups: Vec<Upstream> =
        (0..3).map(|_| Upstream::http(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec())).collect();
    let (server, port) = (ControlPlane::start(), free_port());
    server.set(&[
        (TypeUrl::CLUSTER, &cluster("a", "")),
        (TypeUrl::ENDPOINT, &endpoints("a", &[ups[0].port])),
        (TypeUrl::LISTENER, &listener("in", port, "r", "")),
        (TypeUrl::ROUTE, &routes("r", "a", "0")),
    ]);
    let proxy = start(&server, true);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(port);
                    let mut requests = 0;
                    while !done.load(Relaxed) {
                        let response = client.get("/");
                        assert_eq!(response.status, 200);
                        requests += 1;
                        if response.header("connection") == Some("close") {
                            client = Client::connect(port);
                        }
                    }
                    requests
                })
            })
            .collect();
        for round in 1..=ROUNDS {
            assert_eq!(server.push(TypeUrl::ROUTE, &routes("r", "a", &round.to_string())), None);
            let ports: Vec<u16> = ups.iter().skip(round % 3).map(|up| up.port).collect();
            assert_eq!(server.push(TypeUrl::ENDPOINT, &endpoints("a", &ports)), None);
            if round % 10 == 0 {
                let timeout = format!(", per_connection_buffer_limit_bytes: {}", 100_000 + round);
                assert_eq!(server.push(TypeUrl::CLUSTER, &cluster("a", &timeout)), None);
            }
            if round % 25 == 0 {
                assert_eq!(
                    server.push(TypeUrl::LISTENER, &listener("in", port, "r", &format!(", name: c{round}"))),
                    None
                );
            }
        }
        done.store(true, Relaxed);
        let requests: Vec<u32> = clients.into_iter().map(|client| client.join().expect("no request failed")).collect();
        assert!(requests.iter().all(|n| *n > 10), "{requests:?}");
    });
    assert_eq!(proxy.stat("http.in.downstream_rq_5xx"), 0);
    assert_eq!(proxy.stat("http.in.rds.r.update_success"), ROUNDS as u64 + 1);
}

/// In bursts, as fast as the server can say it, with requests in flight and connections coming.
const ROUTE_UPDATES: usize = 10_000;
const BURST: usize = 50;

#[test]
fn ten_thousand_route_updates_reset_nobody() {
    let up = Upstream::echo_line();
    let (server, port) = (ControlPlane::start(), free_port());
    server.set(&[
        (TypeUrl::CLUSTER, &cluster("a", "")),
        (TypeUrl::ENDPOINT, &endpoints("a", &[up.port])),
        (TypeUrl::LISTENER, &listener("in", port, "r", "")),
        (TypeUrl::ROUTE, &routes("r", "a", "0")),
    ]);
    let proxy = start(&server, true);
    let encoded: Vec<Vec<u8>> =
        (0..BURST).map(|n| named(&TypeUrl::ROUTE, &routes("r", "a", &format!("v{n}"))).1).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut kept, mut requests) = (Client::connect(port), 0_u32);
            while !done.load(Relaxed) {
                assert_eq!(kept.get("/").status, 200);
                assert_eq!(Client::connect(port).get("/").status, 200);
                requests += 2;
            }
            requests
        });
        for _ in 0..ROUTE_UPDATES / BURST {
            // Each is a change; what the server sends while the proxy is busy may be the last of several.
            let known = server.store.log().len();
            encoded.iter().for_each(|bytes| server.set_bytes(TypeUrl::ROUTE, "r", None, bytes.clone()));
            assert_eq!(server.verdict(&TypeUrl::ROUTE, known), None);
        }
        done.store(true, Relaxed);
        assert!(load.join().expect("no request failed") > 100);
    });
    assert_eq!(proxy.stat("http.in.downstream_rq_5xx"), 0);
    assert_eq!(proxy.stat("http.in.rds.r.update_rejected"), 0);
    assert!(proxy.stat("http.in.rds.r.update_success") > (ROUTE_UPDATES / BURST) as u64);
    let last = format!("v{}", BURST - 1);
    let settled = tests::wait_for(tests::PATIENCE, || (get(port, "/").header("x-routes")? == last).then_some(()));
    assert!(settled.is_some());
}

#[test]
fn requests_flow_while_two_thousand_services_are_pushed() {
    const SERVICES: usize = 2_000;
    let up = Upstream::echo_line();
    let (server, port) = (ControlPlane::start(), free_port());
    server.set(&[
        (TypeUrl::CLUSTER, &cluster("a", "")),
        (TypeUrl::ENDPOINT, &endpoints("a", &[up.port])),
        (TypeUrl::LISTENER, &listener("in", port, "r", "")),
        (TypeUrl::ROUTE, &routes("r", "a", "0")),
    ]);
    let proxy = start(&server, true);
    let template = named(&TypeUrl::CLUSTER, &cluster("service-0000", "")).1;
    let assignment = named(&TypeUrl::ENDPOINT, &endpoints("service-0000", &[up.port])).1;
    let renamed = |bytes: &[u8], name: &str| {
        let mut bytes = bytes.to_vec();
        let at = bytes.windows(12).position(|window| window == b"service-0000").expect("its name");
        bytes[at..at + 12].copy_from_slice(name.as_bytes());
        bytes
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut client, mut requests) = (Client::connect(port), 0_u32);
            while !done.load(Relaxed) {
                assert_eq!(client.get("/").status, 200);
                requests += 1;
            }
            requests
        });
        server.store.batch(|batch| {
            for n in 0..SERVICES {
                let name = format!("service-{n:04}");
                batch.set_resource(TypeUrl::CLUSTER, &name, renamed(&template, &name));
                batch.set_resource(TypeUrl::ENDPOINT, &name, renamed(&assignment, &name));
            }
        });
        proxy.wait_stat("cluster_manager.active_clusters", |active| active == SERVICES as u64 + 2);
        done.store(true, Relaxed);
        assert!(load.join().expect("no request failed") > 10);
    });
    assert_eq!(proxy.stat("cluster_manager.warming_clusters"), 0);
    assert_eq!(proxy.stat("cluster_manager.cds.update_rejected"), 0);
}
