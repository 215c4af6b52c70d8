//! What Istio's control plane sends: `istio/*.jsonl` hold clusters, listeners and routes, one a line, as istiod of August 2026
//! generated them for a sidecar and for an ingress gateway of a small mesh: STRICT mTLS, AuthorizationPolicy, JWT,
//! DestinationRule with outlier detection and subsets, VirtualService with faults, CORS, retries, mirrors and redirects, an
//! external service, and a gateway with every kind of TLS. `istio/*.refused` list what of it is refused so far, each for the
//! first reason found; they are to shrink. `OUTRIGGER_BLESS=1` writes them anew.

use std::path::Path;
use std::process::Command;

use tests::proxy_under_test;

/// Where a config dump has the resources of a type, around each of them.
const PLACES: &[(&str, &str, &str, &str)] = &[
    ("Clusters", "dynamic_active_clusters", "config.cluster.v3.Cluster", "{\"cluster\":RESOURCE}"),
    ("Listeners", "dynamic_listeners", "config.listener.v3.Listener", "{\"active_state\":{\"listener\":RESOURCE}}"),
    ("Routes", "dynamic_route_configs", "config.route.v3.RouteConfiguration", "{\"route_config\":RESOURCE}"),
];

fn dump(resources: &str) -> String {
    let section = |(name, list, message, around): &(&str, &str, &str, &str)| {
        let start = format!("{{\"@type\":\"type.googleapis.com/envoy.{message}\"");
        let of_type = resources.lines().filter(|line| line.starts_with(&start));
        let entries: Vec<String> = of_type.map(|line| around.replace("RESOURCE", line)).collect();
        assert!(!entries.is_empty(), "there are {name} in every fixture");
        let of = format!("type.googleapis.com/envoy.admin.v3.{name}ConfigDump");
        format!("{{\"@type\":\"{of}\",\"{list}\":[{}]}}", entries.join(","))
    };
    format!("{{\"configs\":[{}]}}", PLACES.iter().map(section).collect::<Vec<_>>().join(","))
}

/// What `validate --config-dump` says of a dump.
pub fn audit(dump: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("dump.json");
    std::fs::write(&file, dump).expect("written");
    let binary = proxy_under_test(env!("CARGO_BIN_EXE_proxy-under-test"));
    let output = Command::new(binary).args(["validate", "--config-dump"]).arg(&file).output().expect("ran");
    String::from_utf8(output.stdout).expect("text")
}

fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("xds/istio");
    let resources = std::fs::read_to_string(folder.join(format!("{name}.jsonl"))).expect("read");
    let text = audit(&dump(&resources));
    // Which extensions there are is not the matter here.
    let brief = |line: &str| line.split("; supported here:").next().unwrap_or_default().to_owned() + "\n";
    let found: String = text.lines().map(brief).collect();
    let summary = found.lines().next_back().unwrap_or_default();
    let (taken, rest) = summary.split_once(" taken, ").unwrap_or_else(|| panic!("no summary: {found}"));
    let refused = rest.split(' ').next().unwrap_or_default();
    let looked_at: usize = [taken, refused].iter().filter_map(|count| count.parse::<usize>().ok()).sum();
    assert_eq!(looked_at, resources.lines().count(), "every resource was looked at: {found}");
    let list = folder.join(format!("{name}.refused"));
    if std::env::var_os("OUTRIGGER_BLESS").is_some() {
        std::fs::write(&list, &found).expect("written");
    }
    let known = std::fs::read_to_string(&list).expect("read");
    assert!(
        found == known,
        "{} is not what is refused now; OUTRIGGER_BLESS=1 writes it anew:\n{found}",
        list.display()
    );
}

#[test]
fn a_sidecar_takes_what_istio_sends_but_for_what_is_listed() {
    check("sidecar");
}

#[test]
fn a_gateway_takes_what_istio_sends_but_for_what_is_listed() {
    check("gateway");
}
