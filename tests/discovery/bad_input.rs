//! What a broken or hostile management server may say. Every time a NACK with a reason, the last good version in force, and the
//! process alive.

use outrigger::config::BuildCx;
use outrigger::discovery::offline;
use outrigger::server::ServerOptions;
use prost_types::Any;
use tests::client::get;
use tests::control_plane::{ControlPlane, named};
use tests::upstream::Upstream;
use xds_client::TypeUrl;

use crate::resources::{ADS, cluster, endpoints, free_port, listener, routes, tls};
use crate::{VARIANTS, start};

/// Bytes that look like nothing, the same every time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut rng = Random(seed);
    (0..length).map(|_| rng.next() as u8).collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

#[test]
fn whatever_comes_is_refused_with_a_reason_and_disturbs_nothing() {
    for delta in VARIANTS {
        let (server, up, port) = (ControlPlane::start(), Upstream::echo_line(), free_port());
        let good = [
            (TypeUrl::CLUSTER, cluster("a", "")),
            (TypeUrl::ENDPOINT, endpoints("a", &[up.port])),
            (TypeUrl::LISTENER, listener("in", port, "r", "")),
            (TypeUrl::ROUTE, routes("r", "a", "one")),
        ];
        for (url, yaml) in &good {
            server.set(&[(url.clone(), yaml)]);
        }
        let mut proxy = start(&server, delta);
        assert_eq!(get(port, "/").status, 200);
        server.wait("all four are acknowledged", |log| log.iter().filter(|entry| entry.is_ack()).count() >= 4);
        for (url, yaml) in &good {
            let (name, bytes) = named(url, yaml);
            let mut huge = vec![10, u8::try_from(name.len()).expect("short")];
            huge.extend_from_slice(name.as_bytes());
            huge.extend(noise(1, 10 << 20));
            let elsewhere = "type.googleapis.com/nobody.knows.This";
            let cases: [(&str, Option<&str>, Vec<u8>); 5] = [
                ("truncated", None, bytes[..bytes.len() - 3].to_vec()),
                ("of another type", Some(TypeUrl::SECRET.as_str()), bytes.clone()),
                ("of an unknown type", Some(elsewhere), bytes.clone()),
                ("10 MiB of noise", None, huge),
                ("noise", None, [&bytes[..name.len() + 2], &noise(2, 300)[..]].concat()),
            ];
            for (what, any_type, value) in cases {
                let known = server.store.log().len();
                server.set_bytes(url.clone(), &name, any_type, value);
                let reason = server.verdict(url, known);
                let reason = reason.unwrap_or_else(|| panic!("{what} of {url} was taken"));
                assert!((10..=4096).contains(&reason.len()), "{what} of {url}: {} bytes", reason.len());
                assert_eq!(get(port, "/").status, 200, "{what} of {url}");
                assert!(proxy.is_running());
            }
            assert_eq!(server.push(url.clone(), yaml), None);
        }
        assert_eq!(proxy.stat("listener_manager.listener_modified"), 0);
        assert_eq!(proxy.stat("cluster_manager.cluster_modified"), 0);
    }
}

#[test]
fn resources_that_say_wrong_things_are_named() {
    for delta in VARIANTS {
        let (server, up, port) = (ControlPlane::start(), Upstream::echo_line(), free_port());
        server.set(&[
            (TypeUrl::CLUSTER, &cluster("a", "")),
            (TypeUrl::ENDPOINT, &endpoints("a", &[up.port])),
            (TypeUrl::LISTENER, &listener("in", port, "r", "")),
            (TypeUrl::ROUTE, &routes("r", "a", "one")),
        ]);
        let proxy = start(&server, delta);
        assert_eq!(get(port, "/").status, 200);
        server.wait("all four are acknowledged", |log| log.iter().filter(|entry| entry.is_ack()).count() >= 4);
        let unbuildable = listener("in", port, "r", "").replace(
            "filters.http.router.v3.Router",
            "filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: a",
        );
        let reason = server.push(TypeUrl::LISTENER, &unbuildable).expect("refused");
        assert!(reason.contains("in: ") && reason.contains("http_filters[0]"), "{reason}");
        assert_eq!(get(port, "/").status, 200);
        // Nobody ever has this secret: the listener waits, and what was in force serves on.
        let missing = listener("in", port, "r", &tls("DownstreamTlsContext", "nobody", "nothing", ADS, ""));
        assert_eq!(server.push(TypeUrl::LISTENER, &listener("in", port, "r", "")), None);
        server.set(&[(TypeUrl::LISTENER, &missing)]);
        if delta {
            // Told that there is none: live, and refuses.
            proxy.wait_stat("listener_manager.listener_modified", |modified| modified == 1);
        } else {
            proxy.wait_stat("listener_manager.total_listeners_warming", |warming| warming == 1);
            assert_eq!(get(port, "/").status, 200);
        }
        assert_eq!(server.push(TypeUrl::LISTENER, &listener("in", port, "r", ", name: again")), None);
        let again = tests::wait_for(tests::PATIENCE, || {
            let mut client = tests::client::Client::connect(port);
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            (client.response("GET")?.status == 200).then_some(())
        });
        assert!(again.is_some(), "{}", proxy.log());
        // Routes to a cluster that nobody has: 503, and no refusal, as the cluster may come.
        assert_eq!(server.push(TypeUrl::ROUTE, &routes("r", "nobody", "none")), None);
        assert_eq!(get(port, "/").status, 503);
    }
}

/// Two resources of one name.
#[test]
fn duplicates_are_refused() {
    let (server, port) = (ControlPlane::start(), free_port());
    server.set(&[(TypeUrl::CLUSTER, "{ name: a }"), (TypeUrl::LISTENER, &listener("in", port, "r", ""))]);
    server.set(&[(TypeUrl::ROUTE, &routes("r", "a", "one"))]);
    let proxy = start(&server, false);
    server.wait("all three are acknowledged", |log| log.iter().filter(|entry| entry.is_ack()).count() >= 3);
    let known = server.store.log().len();
    let (_, twice) = named(&TypeUrl::CLUSTER, "{ name: a, connect_timeout: 7s }");
    server.set_bytes(TypeUrl::CLUSTER, "b", None, twice);
    let reason = server.verdict(&TypeUrl::CLUSTER, known).expect("refused");
    assert!(reason.contains("duplicate name a"), "{reason}");
    assert_eq!(proxy.stat("cluster_manager.cds.update_rejected"), 1);
    assert_eq!(proxy.stat("cluster_manager.cluster_modified"), 0);
}

/// Damages good resources at random, and builds them: any answer will do, as long as there is one.
#[test]
fn damaged_resources_are_built_or_refused_but_never_worse() {
    let good: Vec<(TypeUrl, Vec<u8>)> = [
        (TypeUrl::CLUSTER, cluster("a", crate::resources::HTTP2)),
        (TypeUrl::CLUSTER, cluster("b", &tls("UpstreamTlsContext", "cert", "root", ADS, ", sni: a.b"))),
        (TypeUrl::ENDPOINT, endpoints("a", &[80, 81, 82])),
        (TypeUrl::LISTENER, listener("in", 80, "r", "")),
        (TypeUrl::LISTENER, listener("in", 80, "r", &tls("DownstreamTlsContext", "cert", "root", ADS, ""))),
        (TypeUrl::ROUTE, routes("r", "a", "one")),
        (TypeUrl::SECRET, "{ name: s, validation_context: { trusted_ca: { inline_string: x } } }".to_owned()),
    ]
    .into_iter()
    .map(|(url, yaml)| {
        let (_, bytes) = named(&url, &yaml);
        (url, bytes)
    })
    .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut random = Random(20_260);
        let (mut taken, mut refused) = (0, 0);
        for round in 0..6_000 {
            let cx = BuildCx::new(ServerOptions { concurrency: 1, ..ServerOptions::default() });
            let (url, bytes) = &good[round % good.len()];
            let mut bytes = bytes.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                match random.below(5) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at] = random.next() as u8,
                    2 => bytes.truncate(at.max(1)),
                    3 => {
                        let piece = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                        let to = random.below(bytes.len());
                        bytes.splice(to..to, piece);
                    }
                    _ => {
                        let end = (at + random.below(20)).min(bytes.len());
                        bytes.drain(at..end);
                        bytes.push(random.next() as u8);
                    }
                }
            }
            match offline::build(&Any { type_url: url.as_str().to_owned(), value: bytes }, &cx) {
                Ok(()) => taken += 1,
                Err(reject) => {
                    assert!(!reject.why.is_empty());
                    refused += 1;
                }
            }
        }
        assert!(taken > 50 && refused > 500, "{taken} taken, {refused} refused");
    });
}
