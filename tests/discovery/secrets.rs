//! Identities over SDS: over ADS, and over a stream of its own on a unix socket. Both sides of a connection are this proxy:
//! listener `out` in clear, cluster `mesh` and listener `in` with mTLS, cluster `app` in clear.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tests::certificates::Authority;
use tests::client::{Client, get, request};
use tests::control_plane::{ControlPlane, bootstrap};
use tests::proxy::Proxy;
use tests::tls::{Offer, Tls};
use tests::upstream::Upstream;
use tests::{PATIENCE, wait_for};
use xds_client::TypeUrl;

use crate::resources::{
    ADS, HTTP2, IDENTITY, certificate, cluster, endpoints, free_port, listener, root, routes, stream, tls,
};
use crate::{VARIANTS, start, start_with};

const WITH_CLIENTS: &str = ", require_client_certificate: true";

/// Certificates: `a` and `b` are the same identity, `stranger` is another, `foreign` is of another authority.
fn certificates() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "ca");
    authority.leaf(folder.path(), "a", &[IDENTITY]);
    authority.leaf(folder.path(), "b", &[IDENTITY]);
    authority.leaf(folder.path(), "stranger", &["spiffe://cluster.local/ns/a/sa/stranger"]);
    Authority::new(folder.path(), "other").leaf(folder.path(), "foreign", &[IDENTITY]);
    folder
}

struct Mesh {
    out: u16,
    inner: u16,
    resources: Vec<(TypeUrl, String)>,
}

/// Everything but the secrets `cert` and `root`, which come from `source`. Names end with `id`.
fn mesh(id: &str, app: u16, source: &str) -> Mesh {
    let (out, inner) = (free_port(), free_port());
    let socket = |context, rest| tls(context, &format!("cert{id}"), &format!("root{id}"), source, rest);
    let resources = vec![
        (TypeUrl::CLUSTER, cluster(&format!("app{id}"), "")),
        (TypeUrl::CLUSTER, cluster(&format!("mesh{id}"), &format!("{HTTP2}{}", socket("UpstreamTlsContext", "")))),
        (TypeUrl::ENDPOINT, endpoints(&format!("app{id}"), &[app])),
        (TypeUrl::ENDPOINT, endpoints(&format!("mesh{id}"), &[inner])),
        (TypeUrl::ROUTE, routes(&format!("out{id}"), &format!("mesh{id}"), "out")),
        (TypeUrl::ROUTE, routes(&format!("in{id}"), &format!("app{id}"), "in")),
        (TypeUrl::LISTENER, listener(&format!("out{id}"), out, &format!("out{id}"), "")),
        (
            TypeUrl::LISTENER,
            listener(&format!("in{id}"), inner, &format!("in{id}"), &socket("DownstreamTlsContext", WITH_CLIENTS)),
        ),
    ];
    Mesh { out, inner, resources }
}

fn set(server: &ControlPlane, resources: &[(TypeUrl, String)]) {
    let borrowed: Vec<(TypeUrl, &str)> = resources.iter().map(|(url, yaml)| (url.clone(), yaml.as_str())).collect();
    server.set(&borrowed);
}

/// What a client with this certificate gets from a port: a status, or why not.
fn handshake(port: u16, folder: &Path, certificate: Option<&str>) -> Result<u16, String> {
    if std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        return Err("nobody listens".to_owned());
    }
    let (stream, _) = Tls::connect(port, folder, &Offer { certificate, ..Offer::default() })?;
    let mut client = Client::over(stream);
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    client.response("GET").map(|response| response.status).ok_or_else(|| "closed".to_owned())
}

fn answers(port: u16, what: &str, proxy: &Proxy) {
    let answered = wait_for(PATIENCE, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        let mut client = Client::connect(port);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        (client.response("GET")?.status == 200).then_some(())
    });
    assert!(answered.is_some(), "{what}: no answer:\n{}", proxy.log());
}

fn nobody_else(port: u16, folder: &Path) {
    for who in [None, Some("stranger"), Some("foreign")] {
        let got = handshake(port, folder, who);
        assert!(got.is_err(), "{who:?} got {got:?}");
    }
}

/// All orders of `0..n`.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(n - 1);
    (0..n)
        .flat_map(|at| {
            shorter.iter().map(move |order| {
                let mut order = order.clone();
                order.insert(at, n - 1);
                order
            })
        })
        .collect()
}

#[test]
fn whatever_comes_first_nobody_passes_unverified_and_in_the_end_all_works() {
    let folder = certificates();
    let app = Upstream::echo_line();
    for delta in VARIANTS {
        let server = ControlPlane::start();
        let proxy = start(&server, delta);
        for (i, order) in orders(4).into_iter().enumerate() {
            let id = format!("-{i}");
            let mesh = mesh(&id, app.port, ADS);
            let (late, early): (Vec<_>, Vec<_>) = mesh.resources.into_iter().partition(|(url, yaml)| match url {
                url if *url == TypeUrl::LISTENER => yaml.contains("DownstreamTlsContext"),
                url => *url == TypeUrl::CLUSTER && yaml.contains("UpstreamTlsContext"),
            });
            set(&server, &early);
            let mut steps: Vec<(TypeUrl, String)> = late;
            steps.push((TypeUrl::SECRET, certificate(&format!("cert{id}"), folder.path(), "a")));
            steps.push((TypeUrl::SECRET, root(&format!("root{id}"), folder.path(), "ca")));
            for (done, step) in order.iter().enumerate() {
                set(&server, &steps[*step..=*step]);
                if done < 3 {
                    nobody_else(mesh.inner, folder.path());
                }
            }
            answers(mesh.out, &format!("delta {delta}, order {order:?}"), &proxy);
            nobody_else(mesh.inner, folder.path());
            assert_eq!(handshake(mesh.inner, folder.path(), Some("b")), Ok(200));
        }
    }
}

#[test]
fn an_agents_socket_serves_identities_and_rotation_disturbs_nobody() {
    let folder = certificates();
    for delta in VARIANTS {
        // Answers once the body is complete.
        let app = Upstream::echo_line();
        let agent = ControlPlane::on_socket(&folder.path().join(format!("sds-{delta}")));
        let server = ControlPlane::start();
        let mesh = mesh("", app.port, &stream("sds-grpc", delta));
        set(&server, &mesh.resources);
        let secrets = |name: &str| {
            set(
                &agent,
                &[
                    (TypeUrl::SECRET, certificate("cert", folder.path(), name)),
                    (TypeUrl::SECRET, root("root", folder.path(), "ca")),
                ],
            );
        };
        secrets("a");
        let socket = folder.path().join(format!("sds-{delta}"));
        let agents = format!(
            "  - name: sds-grpc\n    connect_timeout: 1s\n    typed_extension_protocol_options:\n      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n        \
             \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n        explicit_http_config: {{ http2_protocol_options: {{}} }}\n    \
             load_assignment: {{ cluster_name: sds-grpc, endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ pipe: {{ path: {} }} }} }} }} ] }} ] }}\n",
            socket.display()
        );
        let proxy = start_with(&(bootstrap(server.port, delta) + &agents));
        answers(mesh.out, "over the agent's socket", &proxy);
        nobody_else(mesh.inner, folder.path());

        let mut open = Client::connect(mesh.out);
        open.send("POST /open HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n1");
        let (kept, _) = Tls::connect(mesh.inner, folder.path(), &Offer { certificate: Some("a"), ..Offer::default() })
            .expect("a handshake");
        let mut kept = Client::over(kept);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let shakes = scope.spawn(|| {
                let mut shakes = 0;
                while !done.load(Relaxed) {
                    assert_eq!(handshake(mesh.inner, folder.path(), Some("b")), Ok(200));
                    shakes += 1;
                }
                shakes
            });
            for round in 0..20 {
                let known = agent.store.log().len();
                secrets(["b", "a"][round % 2]);
                assert_eq!(agent.verdict(&TypeUrl::SECRET, known), None);
                assert_eq!(kept.get("/kept").status, 200);
                assert_eq!(get(mesh.out, "/").status, 200);
            }
            done.store(true, Relaxed);
            assert!(shakes.join().expect("no handshake failed") > 5);
        });
        open.send("2");
        assert_eq!(open.response("POST").expect("the stream survived").status, 200);
        assert_eq!(proxy.stat("cluster.mesh.upstream_cx_total"), 1);
        // What new handshakes see is the last.
        let (_, session) =
            Tls::connect(mesh.inner, folder.path(), &Offer { certificate: Some("b"), ..Offer::default() })
                .expect("a handshake");
        assert_eq!(session.peer.as_deref(), Some("a"));
    }
}

#[test]
fn a_root_that_is_exchanged_decides_from_then_on() {
    let folder = certificates();
    let (app, server) = (Upstream::echo_line(), ControlPlane::start());
    let mesh = mesh("", app.port, ADS);
    set(&server, &mesh.resources);
    set(
        &server,
        &[
            (TypeUrl::SECRET, certificate("cert", folder.path(), "a")),
            (TypeUrl::SECRET, root("root", folder.path(), "ca")),
        ],
    );
    let proxy = start(&server, true);
    answers(mesh.out, "at first", &proxy);
    assert!(handshake(mesh.inner, folder.path(), Some("foreign")).is_err());
    assert_eq!(server.push(TypeUrl::SECRET, &root("root", folder.path(), "other")), None);
    let turned = wait_for(PATIENCE, || handshake(mesh.inner, folder.path(), Some("foreign")).ok());
    assert_eq!(turned, Some(200));
    assert!(handshake(mesh.inner, folder.path(), Some("a")).is_err());
    // An empty root, a root that is none, a key that is none: refused, and what was in force stays.
    for bad in [
        "{ name: root, validation_context: { trusted_ca: { inline_string: \"\" } } }",
        "{ name: root, validation_context: {} }",
        "{ name: root, validation_context: { trusted_ca: { inline_string: nonsense } } }",
        "{ name: cert, tls_certificate: { certificate_chain: { inline_string: x }, private_key: { inline_string: z } } }",
        "{ name: cert, tls_certificate: {} }",
    ] {
        let reason = server.push(TypeUrl::SECRET, bad);
        assert!(reason.is_some_and(|reason| reason.len() > 10), "{bad} was taken");
        assert_eq!(handshake(mesh.inner, folder.path(), Some("foreign")), Ok(200));
        nobody_with(mesh.inner, folder.path(), &[None, Some("a")]);
    }
    // What is taken away stays in force.
    server.remove(TypeUrl::SECRET, "root");
    server.remove(TypeUrl::SECRET, "cert");
    assert_eq!(server.push(TypeUrl::CLUSTER, "{ name: later }"), None);
    assert_eq!(handshake(mesh.inner, folder.path(), Some("foreign")), Ok(200));
    nobody_with(mesh.inner, folder.path(), &[None, Some("a")]);
}

fn nobody_with(port: u16, folder: &Path, whom: &[Option<&str>]) {
    for who in whom {
        assert!(handshake(port, folder, *who).is_err(), "{who:?}");
    }
}

#[test]
fn a_secret_that_never_comes_leaves_a_listener_that_refuses_handshakes() {
    let folder = certificates();
    let (app, server) = (Upstream::echo_line(), ControlPlane::start());
    let impatient = "{ ads: {}, initial_fetch_timeout: 0.2s, resource_api_version: V3 }";
    let mesh = mesh("", app.port, impatient);
    set(&server, &mesh.resources);
    // State of the world: the server says nothing of what it does not have.
    let proxy = start(&server, false);
    proxy.wait_stat("sds.cert.init_fetch_timeout", |count| count == 1);
    proxy.wait_stat("listener_manager.total_listeners_active", |count| count == 2);
    nobody_with(mesh.inner, folder.path(), &[None, Some("a"), Some("foreign")]);
    assert_eq!(request(mesh.out, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").status, 503);
    let not_ready: u64 = proxy.stats("downstream_context_secrets_not_ready").values().sum();
    assert!(not_ready >= 3, "{not_ready}");
    // It may still come.
    set(
        &server,
        &[
            (TypeUrl::SECRET, certificate("cert", folder.path(), "a")),
            (TypeUrl::SECRET, root("root", folder.path(), "ca")),
        ],
    );
    answers(mesh.out, "in the end", &proxy);
    nobody_else(mesh.inner, folder.path());
}

#[test]
fn permissive_turns_to_strict_while_requests_flow() {
    let folder = certificates();
    let (app, server) = (Upstream::echo_line(), ControlPlane::start());
    let mesh = mesh("", app.port, ADS);
    let strict = mesh.resources.last().expect("the listener").1.clone();
    // Two chains: TLS as in STRICT, and everything else in clear.
    let tls_inspector = ", listener_filters: [ { name: tls, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector } } ] }";
    let clear = listener("in", mesh.inner, "in", "");
    let chain = |of: &str| {
        let (_, rest) = of.split_once("filter_chains: [ ").expect("chains");
        rest.trim_end().trim_end_matches('}').trim_end().trim_end_matches(']').trim().to_owned()
    };
    let with = |chains: &str| {
        let (head, _) = strict.split_once("filter_chains: [ ").expect("chains");
        format!("{head}filter_chains: [ {chains} ] {tls_inspector}")
    };
    let tls_chain = chain(&strict).replacen('{', "{ name: tls, filter_chain_match: { transport_protocol: tls },", 1);
    let permissive = with(&format!("{tls_chain}, {}", chain(&clear).replacen('{', "{ name: clear,", 1)));
    let strict = with(&tls_chain);
    set(&server, &mesh.resources);
    set(
        &server,
        &[
            (TypeUrl::LISTENER, permissive),
            (TypeUrl::SECRET, certificate("cert", folder.path(), "a")),
            (TypeUrl::SECRET, root("root", folder.path(), "ca")),
        ],
    );
    let proxy = start(&server, true);
    answers(mesh.out, "permissive", &proxy);
    assert_eq!(get(mesh.inner, "/").status, 200);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut requests = 0;
            let mut client = Client::connect(mesh.out);
            while !done.load(Relaxed) {
                assert_eq!(client.get("/").status, 200);
                assert_eq!(handshake(mesh.inner, folder.path(), Some("b")), Ok(200));
                requests += 1;
            }
            requests
        });
        assert_eq!(server.push(TypeUrl::LISTENER, &strict), None);
        let refused = wait_for(PATIENCE, || {
            let mut client = Client::connect(mesh.inner);
            client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            client.response("GET").is_none().then_some(())
        });
        assert!(refused.is_some(), "still permissive");
        assert_eq!(get(mesh.out, "/").status, 200);
        done.store(true, Relaxed);
        assert!(load.join().expect("no request failed") > 0);
    });
    // The chain that did not change kept its connections.
    assert_eq!(proxy.stat("cluster.mesh.upstream_cx_total"), 1);
}
