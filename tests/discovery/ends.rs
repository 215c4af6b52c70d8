//! What ends: subscriptions that nobody needs any more, and ports that are not to be open.

use std::collections::BTreeSet;

use tests::client::{Client, get};
use tests::control_plane::ControlPlane;
use tests::upstream::Upstream;
use xds_client::TypeUrl;
use xds_client::server::Entry;
use xds_client::session::Request;

use crate::resources::{ADS, cluster, endpoints, free_port, listener, routes, tls};
use crate::{VARIANTS, start};

/// What a client wants of a type after all that it said on its last stream.
fn wanted(log: &[Entry], url: &TypeUrl) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in log.iter().filter(|entry| entry.request.type_url() == url.as_str()) {
        match &entry.request {
            Request::Delta(request) => {
                names.extend(request.resource_names_subscribe.iter().cloned());
                names.retain(|name| !request.resource_names_unsubscribe.contains(name));
            }
            Request::Sotw(request) => names = request.resource_names.iter().cloned().collect(),
        }
    }
    names
}

#[test]
fn what_nobody_holds_is_asked_for_no_more() {
    for delta in VARIANTS {
        let (server, up, stays, goes) = (ControlPlane::start(), Upstream::echo_line(), free_port(), free_port());
        let socket = |name: &str| tls("UpstreamTlsContext", &format!("cert-{name}"), &format!("root-{name}"), ADS, "");
        let secured = tls("DownstreamTlsContext", "cert-in", "root-in", ADS, "");
        let authority = tempfile::tempdir().expect("a folder");
        let ca = tests::certificates::Authority::new(authority.path(), "ca");
        ca.leaf(authority.path(), "leaf", &["a"]);
        for name in ["in", "b"] {
            let (cert, root) = (format!("cert-{name}"), format!("root-{name}"));
            server.set(&[
                (TypeUrl::SECRET, &crate::resources::certificate(&cert, authority.path(), "leaf")),
                (TypeUrl::SECRET, &crate::resources::root(&root, authority.path(), "ca")),
            ]);
        }
        server.set(&[
            (TypeUrl::CLUSTER, &cluster("a", "")),
            (TypeUrl::CLUSTER, &cluster("b", &socket("b"))),
            (TypeUrl::ENDPOINT, &endpoints("a", &[up.port])),
            (TypeUrl::ENDPOINT, &endpoints("b", &[up.port])),
            (TypeUrl::LISTENER, &listener("stays", stays, "r", "")),
            (TypeUrl::LISTENER, &listener("goes", goes, "s", &secured)),
            (TypeUrl::ROUTE, &routes("r", "a", "one")),
            (TypeUrl::ROUTE, &routes("s", "a", "one")),
        ]);
        let proxy = start(&server, delta);
        assert_eq!(get(stays, "/").status, 200);
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
        let all = set(&["cert-in", "root-in", "cert-b", "root-b"]);
        server.wait("everything is asked for", |log| {
            wanted(log, &TypeUrl::SECRET) == all && wanted(log, &TypeUrl::ROUTE) == set(&["r", "s"])
        });
        server.remove(TypeUrl::LISTENER, "goes");
        proxy.wait_stat("listener_manager.total_listeners_active", |active| active == 1);
        server.remove(TypeUrl::CLUSTER, "b");
        server.wait("nothing is left of the cluster", |log| wanted(log, &TypeUrl::ENDPOINT) == set(&["a"]));
        server.wait("nothing is left of either", |log| {
            wanted(log, &TypeUrl::SECRET).is_empty() && wanted(log, &TypeUrl::ROUTE) == set(&["r"])
        });
        assert_eq!(get(stays, "/").status, 200);
    }
}

/// Ports of this process that listen, from the kernel.
fn listening(process: u32) -> BTreeSet<u16> {
    let inodes: BTreeSet<String> = std::fs::read_dir(format!("/proc/{process}/fd"))
        .expect("its descriptors")
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_string_lossy().strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut ports = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(state), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9)) else {
                continue;
            };
            let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            if *state == "0A" && inodes.contains(*inode) {
                ports.extend(port);
            }
        }
    }
    ports
}

#[test]
fn listeners_that_are_not_bound_open_no_port() {
    for delta in VARIANTS {
        let (server, up, bound, unbound) = (ControlPlane::start(), Upstream::echo_line(), free_port(), free_port());
        let virtual_listener = |routes: &str| {
            listener("virtual", unbound, routes, "").replacen(
                "{ name: virtual,",
                "{ name: virtual, bind_to_port: false,",
                1,
            )
        };
        server.set(&[
            (TypeUrl::CLUSTER, &cluster("a", "")),
            (TypeUrl::ENDPOINT, &endpoints("a", &[up.port])),
            (TypeUrl::LISTENER, &listener("bound", bound, "r", "")),
            (TypeUrl::LISTENER, &virtual_listener("r")),
            (TypeUrl::ROUTE, &routes("r", "a", "one")),
        ]);
        let proxy = start(&server, delta);
        assert_eq!(get(bound, "/").status, 200);
        proxy.wait_stat("listener_manager.total_listeners_active", |active| active == 2);
        assert_eq!(listening(proxy.id()), BTreeSet::from([bound, proxy.admin]));
        // Nor after an update, in place or not, nor after it went.
        for change in [
            virtual_listener("r").replacen("filter_chains: [ {", "filter_chains: [ { name: c,", 1),
            virtual_listener("r").replacen("{ name: virtual,", "{ name: virtual, traffic_direction: OUTBOUND,", 1),
        ] {
            assert_eq!(server.push(TypeUrl::LISTENER, &change), None);
            assert_eq!(listening(proxy.id()), BTreeSet::from([bound, proxy.admin]));
        }
        server.remove(TypeUrl::LISTENER, "virtual");
        proxy.wait_stat("listener_manager.total_listeners_active", |active| active == 1);
        assert_eq!(listening(proxy.id()), BTreeSet::from([bound, proxy.admin]));
        let mut client = Client::connect(bound);
        assert_eq!(client.get("/").status, 200);
    }
}
