//! Many updates while requests flow.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tests::client::Client;
use tests::control_plane::ControlPlane;
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
