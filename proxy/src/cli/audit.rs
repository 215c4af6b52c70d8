//! `outrigger validate --config-dump FILE`: what of a running mesh this proxy would take.
//!
//! Reads the answer of `/config_dump`, of Envoy or of this proxy, builds every resource in it as discovery would, and lists what
//! would be refused or ignored, and why. Nothing is opened or connected to.

use std::fmt::Write as _;
use std::fs;
use std::path::Path as FilePath;
use std::process::ExitCode;

use prost::Message;
use prost_types::Any;
use xds_protos::encode::{Options, to_wire};
use xds_protos::envoy::config::bootstrap::v3::Bootstrap as BootstrapProto;
use xds_protos::problem::Problem;
use xds_protos::text::{self, Format, Node, Object, Value};

use crate::bootstrap::Bootstrap;
use crate::config::{BuildCx, Reject};
use crate::discovery::offline;
use crate::server::ServerOptions;

/// Where a section of the dump has its resources: the list, what is inside its elements, and the word for one.
struct Place {
    section: &'static str,
    list: &'static str,
    within: &'static [&'static str],
    word: &'static str,
}

/// Where an element has the configuration that was rejected last.
const FAILED: &[&str] = &["error_state", "failed_configuration"];

/// In the order in which they refer to each other.
static PLACES: &[Place] = &[
    place("ClustersConfigDump", "static_clusters", &["cluster"], "cluster"),
    place("ClustersConfigDump", "dynamic_active_clusters", &["cluster"], "cluster"),
    place("ClustersConfigDump", "dynamic_warming_clusters", &["cluster"], "warming cluster"),
    place("EndpointsConfigDump", "static_endpoint_configs", &["endpoint_config"], "endpoints"),
    place("EndpointsConfigDump", "dynamic_endpoint_configs", &["endpoint_config"], "endpoints"),
    place("SecretsConfigDump", "static_secrets", &["secret"], "secret"),
    place("SecretsConfigDump", "dynamic_active_secrets", &["secret"], "secret"),
    place("SecretsConfigDump", "dynamic_warming_secrets", &["secret"], "warming secret"),
    place("ListenersConfigDump", "static_listeners", &["listener"], "listener"),
    place("ListenersConfigDump", "dynamic_listeners", &["active_state", "listener"], "listener"),
    place("ListenersConfigDump", "dynamic_listeners", &["warming_state", "listener"], "warming listener"),
    place("RoutesConfigDump", "static_route_configs", &["route_config"], "routes"),
    place("RoutesConfigDump", "dynamic_route_configs", &["route_config"], "routes"),
    place("ScopedRoutesConfigDump", "dynamic_scoped_route_configs", &["scoped_route_configs"], "scoped routes"),
    place("EcdsConfigDump", "ecds_filters", &["ecds_filter"], "extension configuration"),
    // What the dumped proxy itself refused, or another version of it.
    place("ClustersConfigDump", "dynamic_active_clusters", FAILED, "rejected cluster"),
    place("ClustersConfigDump", "dynamic_warming_clusters", FAILED, "rejected cluster"),
    place("ListenersConfigDump", "dynamic_listeners", FAILED, "rejected listener"),
    place("RoutesConfigDump", "dynamic_route_configs", FAILED, "rejected routes"),
];

const fn place(
    section: &'static str,
    list: &'static str,
    within: &'static [&'static str],
    word: &'static str,
) -> Place {
    Place { section, list, within, word }
}

/// What became of the resources of a dump.
#[derive(Default)]
struct Audit {
    lines: String,
    taken: usize,
    refused: usize,
    ignored: usize,
    unchecked: usize,
}

/// Prints the findings. The exit code is not 0 if something would be refused.
pub fn run(file: &FilePath) -> ExitCode {
    let audited = fs::read_to_string(file)
        .map_err(|error| format!("{}: cannot read the dump: {error}", file.display()))
        .and_then(|text| audit(&text).map_err(|why| format!("{}: {why}", file.display())));
    match audited {
        Ok(audit) => {
            print!("{}", audit.lines);
            let Audit { taken, refused, ignored, unchecked, .. } = audit;
            println!("{taken} taken, {refused} refused, {unchecked} not checked, {ignored} fields ignored");
            if refused > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(why) => {
            eprintln!("outrigger: {why}");
            ExitCode::FAILURE
        }
    }
}

fn audit(text: &str) -> Result<Audit, String> {
    let tree = text::parse(text, Format::Json).map_err(|problem| problem.to_string())?;
    let expected = "expected the JSON of /config_dump: an object with a list \"configs\"";
    let Value::Object(root) = tree.root().value() else { return Err(expected.to_owned()) };
    let Some(Value::Array(configs)) = field(root, "configs").map(Node::value) else { return Err(expected.to_owned()) };
    let sections: Vec<Object<'_>> = configs
        .iter()
        .filter_map(|config| match config.value() {
            Value::Object(section) => Some(section),
            _ => None,
        })
        .collect();
    let cx = BuildCx::new(ServerOptions::default());
    let mut audit = Audit::default();
    for section in sections.iter().filter(|section| is(**section, "BootstrapConfigDump")) {
        if let Some(bootstrap) = field(*section, "bootstrap") {
            audit.bootstrap(bootstrap);
        }
    }
    for place in PLACES {
        for section in sections.iter().filter(|section| is(**section, place.section)) {
            let Some(Value::Array(list)) = field(*section, place.list).map(Node::value) else { continue };
            for element in list.iter() {
                let inner = place.within.iter().try_fold(element, |node, name| match node.value() {
                    Value::Object(object) => field(object, name),
                    _ => None,
                });
                if let Some(node) = inner {
                    audit.resource(place.word, node, &cx);
                }
            }
        }
    }
    Ok(audit)
}

fn is(section: Object<'_>, name: &str) -> bool {
    let kind = section.get("@type").and_then(Node::as_str).unwrap_or_default();
    kind.rsplit('.').next() == Some(name)
}

/// By its name in the API, or in JSON's way of writing it.
fn field<'t>(object: Object<'t>, name: &str) -> Option<Node<'t>> {
    object.get(name).or_else(|| {
        let mut camel = String::with_capacity(name.len());
        for (index, word) in name.split('_').enumerate() {
            let mut letters = word.chars();
            match letters.next() {
                Some(first) if index > 0 => camel.push(first.to_ascii_uppercase()),
                first => camel.extend(first),
            }
            camel.push_str(letters.as_str());
        }
        object.get(&camel)
    })
}

const OPTIONS: Options = Options { allow_unknown: true, keep_unknown_any: true };

impl Audit {
    fn bootstrap(&mut self, node: Node<'_>) {
        match to_wire(node, "envoy.config.bootstrap.v3.Bootstrap", &OPTIONS) {
            Ok((wire, unknown)) => {
                self.unknown("bootstrap", &unknown);
                let built = BootstrapProto::decode(&*wire)
                    .map_err(|error| Reject { path: String::new(), why: error.to_string() })
                    .and_then(|proto| Bootstrap::build(proto, wire.into()).map(drop));
                self.note("bootstrap", "", built);
            }
            Err(problems) => self.malformed("bootstrap", "", &problems),
        }
    }

    fn resource(&mut self, word: &str, node: Node<'_>, cx: &BuildCx) {
        let name = match node.value() {
            Value::Object(object) => field(object, "name").or_else(|| field(object, "cluster_name")),
            _ => None,
        };
        let name = name.and_then(Node::as_str).unwrap_or_default();
        match to_wire(node, "google.protobuf.Any", &OPTIONS) {
            Ok((wire, unknown)) => {
                self.unknown(&format!("{word} {name:?}"), &unknown);
                let built = Any::decode(&*wire)
                    .map_err(|error| Reject { path: String::new(), why: error.to_string() })
                    .and_then(|any| offline::build(&any, cx));
                self.note(word, name, built);
            }
            Err(problems) => self.malformed(word, name, &problems),
        }
    }

    fn note(&mut self, word: &str, name: &str, built: Result<(), Reject>) {
        match built {
            Ok(()) => self.taken += 1,
            // Dumps have no keys, nor the names of files that hold some.
            Err(reject) if is_redacted(&reject) => {
                self.unchecked += 1;
                let _ = writeln!(self.lines, "unchecked  {word} {name:?}: {}: redacted in the dump", reject.path);
            }
            Err(reject) => {
                self.refused += 1;
                let _ = writeln!(self.lines, "refused    {word} {name:?}: {reject}");
            }
        }
    }

    fn malformed(&mut self, word: &str, name: &str, problems: &[Problem]) {
        self.refused += 1;
        for problem in problems {
            let Problem { path, expected, got, .. } = problem;
            let _ = writeln!(self.lines, "refused    {word} {name:?}: {path}: expected {expected}, got {got}");
        }
    }

    /// Fields that this release of the API does not have.
    fn unknown(&mut self, what: &str, fields: &[Problem]) {
        self.ignored += fields.len();
        for field in fields {
            let _ = writeln!(self.lines, "ignored    {what}: {}: not in this release of the API", field.path);
        }
    }
}

fn is_redacted(reject: &Reject) -> bool {
    ["private_key", "password", "session_ticket_keys", "pkcs12", "generic_secret", "secrets"]
        .iter()
        .any(|field| reject.path.contains(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = r#"{ "configs": [
      { "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": { "node": { "id": "a" } } },
      { "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump", "dynamic_route_configs": [ { "route_config": {
          "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "name": "80", "virtual_hosts": [
            { "name": "all", "domains": [ "*" ], "routes": [ { "match": { "prefix": "/" }, "route": { "cluster": "a" } } ] } ] } } ] },
      { "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": [
        { "cluster": { "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a", "type": "EDS",
                       "eds_cluster_config": { "eds_config": { "ads": {} } }, "not_of_this_release": 1 } },
        { "cluster": { "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "b", "lb_policy": "MAGLEV",
                       "lb_subset_config": { "subset_selectors": [ { "keys": [ "x" ] } ] } } } ] },
      { "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [ { "name": "l", "active_state": {
          "listener": { "@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "l",
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 80 } }, "filter_chains": [ { "filters": [
              { "name": "x", "typed_config": { "@type": "type.googleapis.com/some.Unknown" } } ] } ] } } } ] } ] }"#;

    #[test]
    fn every_resource_is_built_and_what_is_wrong_is_named() {
        let audit = audit(DUMP).unwrap();
        assert_eq!((audit.taken, audit.refused, audit.ignored), (3, 2, 1), "{}", audit.lines);
        let lines: Vec<&str> = audit.lines.lines().collect();
        assert!(lines[0].starts_with("ignored    cluster \"a\": "), "{}", lines[0]);
        assert!(lines[1].starts_with("refused    cluster \"b\": lb_"), "{}", lines[1]);
        assert!(
            lines[2].starts_with("refused    listener \"l\": filter_chains[0].filters[0].typed_config"),
            "{}",
            lines[2]
        );
        assert!(lines[2].contains("some.Unknown"), "{}", lines[2]);
    }

    #[test]
    fn what_is_no_dump_is_refused() {
        for text in ["", "[]", "{}", "{ \"configs\": 1 }"] {
            assert!(audit(text).is_err(), "{text}");
        }
    }
}
