//! The process as the admin interface sees it: each of its traits, answered by the part that knows.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use prost::{Message, Name};
use xds_protos::envoy::admin::v3 as pb;
use xds_protos::envoy::config::bootstrap::v3::Bootstrap as BootstrapProto;
use xds_protos::envoy::config::cluster::v3::Cluster as ClusterProto;
use xds_protos::envoy::config::core::v3::node::UserAgentVersionType;
use xds_protos::envoy::config::core::v3::{BuildVersion, Extension, Node};
use xds_protos::envoy::config::listener::v3::Listener as ListenerProto;
use xds_protos::envoy::config::route::v3::RouteConfiguration;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::Secret;
use xds_protos::envoy::r#type::v3::SemanticVersion;

use super::flags::{Mode, RunOptions};
use crate::admin::{self, AdminContext};
use crate::bootstrap::Bootstrap;
use crate::cluster::outlier::Origin;
use crate::cluster::{ClusterManager, Priority};
use crate::discovery::{self, Discovery};
use crate::registry;
use crate::runtime::{Entries, NoAdminLayer, Runtime};
use crate::server::DrainStrategy;
use crate::server::listener_manager::ListenerManager;
use crate::server::{self, Server, ServerState};

/// Everything the admin interface asks for.
pub fn context(
    server: &Rc<Server>,
    discovery: &Rc<Discovery>,
    options: &RunOptions,
    bootstrap: Bootstrap,
) -> Rc<AdminContext> {
    let now = SystemTime::now();
    let node = node(bootstrap.node, options);
    let config = Rc::new(Config {
        bootstrap: resource::<BootstrapProto>("", bootstrap.wire.clone(), now),
        node: node.clone(),
        listeners: bootstrap.listeners.iter().map(|l| encoded::<ListenerProto>(&l.name, l, now)).collect(),
        secrets: bootstrap.secrets.iter().map(|s| encoded(&s.name, s, now)).collect(),
        routes: inline_routes(&bootstrap.listeners, now),
        clusters: server.cx.clusters.clone(),
        unused: bootstrap.unused.clone(),
        listener_manager: server.listeners.clone(),
        discovery: discovery.clone(),
    });
    Rc::new(AdminContext {
        stats: server.cx.stats.clone(),
        server: Rc::new(Process {
            server: server.clone(),
            discovery: discovery.clone(),
            options: command_line(options),
            node,
        }),
        clusters: Rc::new(Clusters(server.cx.clusters.clone())),
        listeners: Rc::new(Listeners(server.clone())),
        certificates: Rc::new(Certificates(server.cx.clone())),
        runtime: Rc::new(RuntimeValues(server.cx.runtime.clone())),
        config,
        log: Rc::new(admin::ProcessLog),
        allow_paths: bootstrap.admin.map(|admin| admin.allow_paths).unwrap_or_default(),
    })
}

struct Process {
    server: Rc<Server>,
    discovery: Rc<Discovery>,
    options: pb::CommandLineOptions,
    node: Node,
}

impl admin::Server for Process {
    fn refresh_stats(&self) {
        self.server.refresh_stats();
    }

    fn state(&self) -> pb::server_info::State {
        match self.server.state() {
            ServerState::Live => pb::server_info::State::Live,
            ServerState::Draining => pb::server_info::State::Draining,
            ServerState::PreInitializing => pb::server_info::State::PreInitializing,
            ServerState::Initializing => pb::server_info::State::Initializing,
        }
    }

    fn uptime(&self) -> Duration {
        self.server.start.elapsed()
    }

    fn version(&self) -> String {
        super::version()
    }

    fn command_line_options(&self) -> pb::CommandLineOptions {
        self.options.clone()
    }

    fn node(&self) -> Node {
        self.node.clone()
    }

    fn fail_health_check(&self, fail: bool) {
        self.server.health_check(fail);
    }

    fn drain_listeners(&self, how: admin::DrainListeners) {
        let admin::DrainListeners { inbound_only, graceful, skip_exit } = how;
        self.server.drain_listeners(server::DrainListeners { inbound_only, graceful, skip_exit });
    }

    fn quit(&self) {
        self.server.quit();
    }

    fn reopen_logs(&self) {
        self.server.reopen_logs();
    }

    fn unready_targets(&self) -> Vec<(String, Vec<String>)> {
        let process = Some(("init manager Server".to_owned(), self.server.init.unready()));
        let listeners = self.discovery.warming_listeners().into_iter();
        let listeners =
            listeners.map(|(name, waits)| (format!("init manager Listener-local-init-manager {name}"), waits));
        process.into_iter().chain(listeners).filter(|(_, targets)| !targets.is_empty()).collect()
    }
}

fn command_line(options: &RunOptions) -> pb::CommandLineOptions {
    use pb::command_line_options::{DrainStrategy as Strategy, IpVersion, Mode as ProtoMode};
    let server = &options.server;
    let duration = |d: Duration| prost_types::Duration { seconds: d.as_secs() as i64, nanos: d.subsec_nanos() as i32 };
    pb::CommandLineOptions {
        concurrency: server.concurrency as u32,
        config_path: options.config_path.as_ref().map(|p| p.display().to_string()).unwrap_or_default(),
        config_yaml: options.config_yaml.clone().unwrap_or_default(),
        allow_unknown_static_fields: server.allow_unknown_static_fields,
        admin_address_path: options.admin_address_path.as_ref().map(|p| p.display().to_string()).unwrap_or_default(),
        local_address_ip_version: if server.prefer_ipv6 { IpVersion::V6 } else { IpVersion::V4 } as i32,
        log_level: options.log.level.to_string(),
        component_log_level: options
            .log
            .components
            .iter()
            .map(|(name, level)| format!("{name}:{level}"))
            .collect::<Vec<_>>()
            .join(","),
        log_format: options.log.format.clone().unwrap_or_else(|| crate::logging::Pattern::DEFAULT.to_owned()),
        log_path: options.log.path.as_ref().map(|p| p.display().to_string()).unwrap_or_default(),
        service_cluster: server.service_cluster.clone(),
        service_node: server.service_node.clone(),
        service_zone: server.service_zone.clone(),
        file_flush_interval: Some(duration(server.file_flush_interval)),
        drain_time: Some(duration(server.drain_time)),
        drain_strategy: match server.drain_strategy {
            DrainStrategy::Gradual => Strategy::Gradual,
            DrainStrategy::Immediate => Strategy::Immediate,
        } as i32,
        parent_shutdown_time: Some(duration(server.parent_shutdown_time)),
        mode: match options.mode {
            Mode::Serve => ProtoMode::Serve,
            Mode::Validate => ProtoMode::Validate,
            Mode::InitOnly => ProtoMode::InitOnly,
        } as i32,
        disable_hot_restart: true,
        ..pb::CommandLineOptions::default()
    }
}

/// The node as configured, with what only the binary knows.
pub fn node(mut node: Node, options: &RunOptions) -> Node {
    if node.id.is_empty() {
        node.id.clone_from(&options.server.service_node);
    }
    if node.cluster.is_empty() {
        node.cluster.clone_from(&options.server.service_cluster);
    }
    if !options.server.service_zone.is_empty() {
        node.locality.get_or_insert_with(Default::default).zone.clone_from(&options.server.service_zone);
    }
    node.user_agent_name = "outrigger".to_owned();
    let mut version = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().unwrap_or(0));
    node.user_agent_version_type = Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
        version: Some(SemanticVersion {
            major_number: version.next().unwrap_or(0),
            minor_number: version.next().unwrap_or(0),
            patch: version.next().unwrap_or(0),
        }),
        metadata: Some(build_metadata()),
    }));
    node.extensions = registry::all()
        .into_iter()
        .map(|entry| Extension {
            name: entry.name.to_owned(),
            category: entry.category.to_owned(),
            type_urls: vec![entry.type_url.trim_start_matches("type.googleapis.com/").to_owned()],
            ..Extension::default()
        })
        .collect();
    node
}

/// What Envoy tells of its build, and tools show.
fn build_metadata() -> prost_types::Struct {
    let version = super::version();
    let mut parts = version.split('/');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let (sha, _, status, kind, ssl) = (part(), part(), part(), part(), part());
    let text = |text| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text)) };
    let fields = [("build.type", kind), ("revision.sha", sha), ("revision.status", status), ("ssl.version", ssl)];
    prost_types::Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect() }
}

struct Clusters(Arc<ClusterManager>);

impl admin::Clusters for Clusters {
    fn clusters(&self) -> Vec<admin::Cluster> {
        let mut out = Vec::new();
        self.0.for_each(|view| {
            let cluster = view.cluster;
            let mut hosts = Vec::new();
            cluster.for_each_host(|host| {
                let host = host.clone();
                let rate = |origin| host.outlier.get().map_or(-1.0, |monitor| monitor.success_rate(origin));
                let (success_rate, local_origin_success_rate) = (rate(Origin::External), rate(Origin::Local));
                hosts.push(admin::HostStatus { host, success_rate, local_origin_success_rate });
            });
            out.push(admin::Cluster {
                name: cluster.name.to_string(),
                observability_name: cluster.observability_name.to_string(),
                added_via_api: view.added_via_api,
                eds_service_name: eds_service_name(cluster),
                default_priority: cluster.current_thresholds(Priority::Default),
                high_priority: cluster.current_thresholds(Priority::High),
                outlier: cluster.outlier().map(|detector| {
                    let (external, local) = (detector.threshold(Origin::External), detector.threshold(Origin::Local));
                    admin::Outlier {
                        success_rate_average: external.average.unwrap_or(-1.0),
                        success_rate_ejection_threshold: external.ejection.unwrap_or(-1.0),
                        local_origin_success_rate_average: local.average.unwrap_or(-1.0),
                        local_origin_success_rate_ejection_threshold: local.ejection.unwrap_or(-1.0),
                    }
                }),
                overprovisioning_factor: cluster.overprovisioning_factor(),
                hosts,
            });
        });
        out
    }
}

/// As configured: empty when the cluster's own name is asked for.
fn eds_service_name(cluster: &crate::cluster::Cluster) -> String {
    let name = cluster.eds.as_ref().map(|eds| &eds.service_name).filter(|name| **name != cluster.name);
    name.map(|name| name.to_string()).unwrap_or_default()
}

struct Listeners(Rc<Server>);

impl admin::Listeners for Listeners {
    fn listeners(&self) -> Vec<admin::Listener> {
        let one = |status: crate::server::listener_manager::ListenerStatus| admin::Listener {
            name: status.name.to_string(),
            addresses: status.addresses,
        };
        self.0.listeners.statuses().into_iter().map(one).collect()
    }
}

struct Certificates(crate::config::BuildCx);

impl admin::Certificates for Certificates {
    fn certificates(&self) -> Vec<pb::Certificate> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        self.0
            .secrets
            .certificates_in_use()
            .into_iter()
            .map(|context| pb::Certificate {
                ca_cert: context.ca_cert.iter().map(|(path, info)| details(path, info, now)).collect(),
                cert_chain: context.cert_chain.iter().map(|(path, info)| details(path, info, now)).collect(),
            })
            .collect()
    }
}

fn details(path: &str, info: &certs::CertInfo, now: i64) -> pb::CertificateDetails {
    use pb::subject_alternate_name::Name as San;
    let names = info
        .uri_sans()
        .map(|uri| San::Uri(uri.to_owned()))
        .chain(info.dns_sans().map(|dns| San::Dns(dns.to_owned())))
        .chain(info.sans_of(certs::san::SanType::IpAddress).map(|ip| San::IpAddress(ip.to_owned())));
    let timestamp = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
    pb::CertificateDetails {
        path: path.to_owned(),
        serial_number: info.serial().to_owned(),
        subject_alt_names: names.map(|name| pb::SubjectAlternateName { name: Some(name) }).collect(),
        days_until_expiration: info.days_until_expiration(now).unwrap_or(0).into(),
        valid_from: timestamp(info.not_before()),
        expiration_time: timestamp(info.not_after()),
        ocsp_details: None,
    }
}

struct RuntimeValues(Arc<Runtime>);

impl admin::Runtime for RuntimeValues {
    fn layers(&self) -> Vec<(String, Entries)> {
        self.0.layers()
    }

    fn modify(&self, values: &[(String, String)]) -> Result<(), NoAdminLayer> {
        self.0.modify(values)
    }
}

struct Config {
    bootstrap: admin::Resource,
    /// Which the bootstrap is shown with, as it is what a control plane gets to see.
    node: Node,
    listeners: Vec<admin::Resource>,
    secrets: Vec<admin::Resource>,
    routes: Vec<admin::Resource>,
    clusters: Arc<ClusterManager>,
    unused: Vec<String>,
    listener_manager: Rc<ListenerManager>,
    discovery: Rc<Discovery>,
}

impl admin::Config for Config {
    fn bootstrap(&self) -> admin::Resource {
        let mut bootstrap = self.bootstrap.clone();
        if let Some(received) = &mut bootstrap.received {
            received.value = with_node(&received.value, &self.node);
        }
        bootstrap
    }

    fn resources(&self, kind: admin::ResourceKind) -> admin::Resources {
        let (statics, dynamic, type_url) = match kind {
            admin::ResourceKind::Cluster => {
                let mut out = Vec::new();
                self.clusters.for_each(|view| {
                    if !view.added_via_api {
                        let config = view.config.clone();
                        out.push(resource::<ClusterProto>(&view.cluster.name, config, view.last_updated));
                    }
                });
                (out, Some(discovery::Kind::Cluster), ClusterProto::type_url())
            }
            admin::ResourceKind::Listener => {
                (self.listeners.clone(), Some(discovery::Kind::Listener), ListenerProto::type_url())
            }
            admin::ResourceKind::Route => {
                (self.routes.clone(), Some(discovery::Kind::Route), RouteConfiguration::type_url())
            }
            admin::ResourceKind::Secret => (self.secrets.clone(), Some(discovery::Kind::Secret), Secret::type_url()),
            admin::ResourceKind::ScopedRoute | admin::ResourceKind::ExtensionConfig => {
                return admin::Resources::default();
            }
        };
        let mut resources = admin::Resources { statics, ..admin::Resources::default() };
        if let Some(kind) = dynamic {
            self.dynamic(kind, &type_url.into(), &mut resources);
        }
        if let admin::ResourceKind::Listener = kind {
            let draining = self.listener_manager.draining_listeners();
            resources.draining = draining.iter().map(|listener| unreceived(&listener.name)).collect();
        }
        resources
    }

    fn ignored(&self) -> Vec<admin::Ignored> {
        let one = |line: &String| {
            let (field, reason) = line.split_once(": ").unwrap_or((line, ""));
            admin::Ignored {
                message: "envoy.config.bootstrap.v3.Bootstrap".to_owned(),
                field: field.to_owned(),
                count: 1,
                reason: reason.to_owned(),
            }
        };
        self.unused.iter().map(one).collect()
    }
}

impl Config {
    /// What discovery received of a kind.
    fn dynamic(&self, kind: discovery::Kind, type_url: &Arc<str>, into: &mut admin::Resources) {
        let (version, states) = self.discovery.resources(kind);
        into.version_info = version.to_string();
        for (name, discovery::State { active, warming, failed }) in states {
            let one = |received: &discovery::Received| admin::Resource {
                name: name.clone(),
                received: Some(admin::Received { type_url: type_url.clone(), value: received.value.clone() }),
                version_info: received.version.to_string(),
                last_updated: received.at,
                error: None,
                // As Envoy, which tells it to client status discovery alone.
                client_status: pb::ClientResourceStatus::Unknown,
            };
            let error = failed.map(|failed| admin::UpdateFailure {
                failed_configuration: Some(admin::Received {
                    type_url: type_url.clone(),
                    value: failed.received.value.clone(),
                }),
                last_update_attempt: failed.received.at,
                details: failed.why.clone(),
                version_info: failed.received.version.to_string(),
            });
            into.warming.extend(warming.iter().map(one));
            match &active {
                Some(active) => into.active.push(admin::Resource { error, ..one(active) }),
                None if error.is_some() => into.active.push(admin::Resource { error, ..unreceived(&name) }),
                None => {}
            }
        }
    }
}

/// A resource of which nothing but the name is shown.
fn unreceived(name: &Arc<str>) -> admin::Resource {
    admin::Resource {
        name: name.clone(),
        received: None,
        version_info: String::new(),
        last_updated: SystemTime::UNIX_EPOCH,
        error: None,
        client_status: pb::ClientResourceStatus::Unknown,
    }
}

/// The bytes of a bootstrap with another node: what is kept is what was loaded, once, and put together when it is asked for.
fn with_node(wire: &Bytes, node: &Node) -> Bytes {
    use prost::encoding::{DecodeContext, decode_key, message, skip_field};
    const NODE: u32 = 1;
    let mut out = Vec::with_capacity(wire.len() + node.encoded_len() + 8);
    message::encode(NODE, node, &mut out);
    let mut rest = wire.clone();
    while !rest.is_empty() {
        let field = rest.clone();
        let skipped = decode_key(&mut rest)
            .and_then(|(tag, kind)| skip_field(kind, tag, &mut rest, DecodeContext::default()).map(|()| tag));
        match skipped {
            Ok(NODE) => {}
            Ok(_) => out.extend_from_slice(field.get(..field.len() - rest.len()).unwrap_or_default()),
            // These bytes were decoded when they were loaded.
            Err(_) => return wire.clone(),
        }
    }
    out.into()
}

/// Route tables that stand in listeners.
fn inline_routes(listeners: &[ListenerProto], now: SystemTime) -> Vec<admin::Resource> {
    use xds_protos::envoy::config::listener::v3::filter::ConfigType;
    use xds_protos::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
    let chains = listeners.iter().flat_map(|l| l.filter_chains.iter().chain(&l.default_filter_chain));
    chains
        .flat_map(|chain| &chain.filters)
        .filter_map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) if any.type_url.ends_with(".HttpConnectionManager") => {
                hcm::HttpConnectionManager::decode(&*any.value).ok()
            }
            _ => None,
        })
        .filter_map(|manager| match manager.route_specifier {
            Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(routes)) => {
                Some(encoded(&routes.name.clone(), &routes, now))
            }
            _ => None,
        })
        .collect()
}

fn encoded<M: Message + Name>(name: &str, message: &M, at: SystemTime) -> admin::Resource {
    resource::<M>(name, Bytes::from(message.encode_to_vec()), at)
}

fn resource<M: Name>(name: &str, value: Bytes, at: SystemTime) -> admin::Resource {
    admin::Resource {
        name: name.into(),
        received: Some(admin::Received { type_url: M::type_url().into(), value }),
        version_info: String::new(),
        last_updated: at,
        error: None,
        client_status: pb::ClientResourceStatus::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_is_shown_with_the_whole_node() {
        let node = |id: &str| Node { id: id.to_owned(), ..Node::default() };
        let loaded = BootstrapProto {
            node: Some(Node { cluster: "c".to_owned(), ..node("configured") }),
            header_prefix: "x".to_owned(),
            ..BootstrapProto::default()
        };
        let shown = with_node(&loaded.encode_to_vec().into(), &node("whole"));
        let expected = BootstrapProto { node: Some(node("whole")), ..loaded };
        assert!(BootstrapProto::decode(shown).is_ok_and(|shown| shown == expected));
        let garbage = Bytes::from_static(&[0xff]);
        assert_eq!(with_node(&garbage, &node("")), garbage);
    }
}
