//! Configuration from files (`path_config_source`), and from streams of a single type.

use std::path::Path;

use tests::client::get;
use tests::control_plane::{ControlPlane, bootstrap_with};
use tests::tls::{Offer, Tls};
use tests::upstream::Upstream;
use tests::{PATIENCE, wait_for};
use xds_client::TypeUrl;

use crate::resources::{ADS, certificate, cluster, endpoints, free_port, listener, root, routes, stream, tls};
use crate::{VARIANTS, start_with};

/// A response as a file.
fn response(url: &TypeUrl, version: &str, resources: &[&str]) -> String {
    let typed = resources.iter().map(|yaml| {
        let (head, rest) = yaml.split_once('{').expect("an object");
        format!("{head}{{ \"@type\": {}, {rest}", url.as_str())
    });
    format!("{{ version_info: \"{version}\", resources: [ {} ] }}", typed.collect::<Vec<_>>().join(", "))
}

/// Puts a new version of the files in place as Kubernetes does: a new folder, and a link to it that is moved.
fn publish(folder: &Path, version: &str, files: &[(&str, String)]) {
    let data = folder.join(version);
    std::fs::create_dir(&data).expect("made");
    for (name, text) in files {
        std::fs::write(data.join(name), text).expect("written");
        let link = folder.join(name);
        if !link.is_symlink() {
            std::os::unix::fs::symlink(Path::new("..data").join(name), link).expect("linked");
        }
    }
    std::os::unix::fs::symlink(version, folder.join("..new")).expect("linked");
    std::fs::rename(folder.join("..new"), folder.join("..data")).expect("moved");
}

fn file(folder: &Path, name: &str) -> String {
    let folder = folder.display();
    format!(
        "{{ path_config_source: {{ path: \"{folder}/{name}\", watched_directory: {{ path: \"{folder}\" }} }}, resource_api_version: V3 }}"
    )
}

fn says(port: u16, text: &str) -> bool {
    let found = wait_for(PATIENCE, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        (get(port, "/").header("x-routes") == Some(text)).then_some(())
    });
    found.is_some()
}

#[test]
fn everything_may_come_from_files_that_are_swapped() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let authority = tests::certificates::Authority::new(at, "ca");
    authority.leaf(at, "one", &["a"]);
    authority.leaf(at, "two", &["a"]);
    let (up, other, port, secured) = (Upstream::echo_line(), Upstream::echo_line(), free_port(), free_port());
    let from = |name: &str, yaml: String| yaml.replace(ADS, &file(at, name));
    let files = |version: &str, upstream: u16, text: &str, leaf: &str| {
        let chain = tls("DownstreamTlsContext", "cert", "root", &file(at, "sds.yaml"), "");
        vec![
            ("cds.yaml", response(&TypeUrl::CLUSTER, version, &[&from("eds.yaml", cluster("a", ""))])),
            ("eds.yaml", response(&TypeUrl::ENDPOINT, version, &[&endpoints("a", &[upstream])])),
            (
                "lds.yaml",
                response(
                    &TypeUrl::LISTENER,
                    version,
                    &[
                        &from("rds.yaml", listener("in", port, "r", "")),
                        &from("rds.yaml", listener("tls", secured, "r", &chain)),
                    ],
                ),
            ),
            ("rds.yaml", response(&TypeUrl::ROUTE, version, &[&routes("r", "a", text)])),
            (
                "sds.yaml",
                response(&TypeUrl::SECRET, version, &[&certificate("cert", at, leaf), &root("root", at, "ca")]),
            ),
        ]
    };
    publish(at, "1", &files("1", up.port, "one", "one"));
    let config = bootstrap_with(1, true, &file(at, "cds.yaml"), &file(at, "lds.yaml"));
    // Without ADS.
    let (before, rest) = config.split_once("  ads_config:").expect("a bootstrap");
    let (_, after) = rest.split_once("  cds_config:").expect("a bootstrap");
    let proxy = start_with(&format!("{before}  cds_config:{after}"));
    assert!(says(port, "one"), "{}", proxy.log());
    let shown = || {
        let offer = Offer { certificate: Some("one"), ..Offer::default() };
        Tls::connect(secured, at, &offer).ok().and_then(|(_, session)| session.peer)
    };
    assert_eq!(wait_for(PATIENCE, shown).as_deref(), Some("one"));
    publish(at, "2", &files("2", other.port, "two", "two"));
    assert!(says(port, "two"), "{}", proxy.log());
    assert_eq!(wait_for(PATIENCE, || shown().filter(|peer| peer == "two")).as_deref(), Some("two"));
    let reached = wait_for(PATIENCE, || {
        get(port, "/");
        other.next_within(std::time::Duration::from_millis(1))
    });
    assert!(reached.is_some(), "the endpoints stayed");
    // Half a file changes nothing.
    let mut broken = files("3", up.port, "three", "one");
    broken.iter_mut().for_each(|(_, text)| text.truncate(text.len() / 2));
    publish(at, "3", &broken);
    proxy.wait_stat("cluster_manager.cds.update_failure", |failures| failures > 0);
    assert_eq!(get(port, "/").header("x-routes"), Some("two"));
    publish(at, "4", &files("4", up.port, "four", "one"));
    assert!(says(port, "four"), "{}", proxy.log());
    // All files are watched by one instance.
    let instances = std::fs::read_dir(format!("/proc/{}/fd", proxy.id())).expect("its descriptors").flatten();
    let links = instances.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let inotify = links.filter(|link| link.to_string_lossy().contains("inotify")).count();
    assert!((1..=2).contains(&inotify), "{inotify} inotify instances");
}

#[test]
fn each_type_may_have_a_stream_of_its_own() {
    for delta in VARIANTS {
        let (server, up, port) = (ControlPlane::start(), Upstream::echo_line(), free_port());
        let source = stream("xds", delta);
        let own = |yaml: String| yaml.replace(ADS, &source);
        server.set(&[
            (TypeUrl::CLUSTER, &own(cluster("a", ""))),
            (TypeUrl::ENDPOINT, &endpoints("a", &[up.port])),
            (TypeUrl::LISTENER, &own(listener("in", port, "r", ""))),
            (TypeUrl::ROUTE, &routes("r", "a", "one")),
        ]);
        let proxy = start_with(&bootstrap_with(server.port, delta, &source, &source));
        assert!(says(port, "one"), "{}", proxy.log());
        let log = server.wait("four streams", |log| {
            let streams: std::collections::BTreeSet<(u64, &str)> =
                log.iter().map(|entry| (entry.stream, entry.request.type_url())).collect();
            streams.len() == 4
        });
        assert!(log.iter().all(|entry| entry.request.nack().is_none()));
        assert_eq!(server.push(TypeUrl::ROUTE, &routes("r", "a", "two")), None);
        assert_eq!(get(port, "/").header("x-routes"), Some("two"));
        server.remove(TypeUrl::LISTENER, "in");
        proxy.wait_stat("listener_manager.total_listeners_active", |active| active == 0);
    }
}
