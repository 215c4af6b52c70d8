//! The sections of a dump: one message `envoy.admin.v3.…ConfigDump` for each kind of resource.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::{Any, Timestamp};
use xds_protos::Message;
use xds_protos::envoy::admin::v3 as pb;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::endpoint::v3 as endpoint;
use xds_protos::schema;

use crate::admin::endpoints::{clusters, listeners};
use crate::admin::{AdminContext, Cluster, Received, Resource, ResourceKind, Resources, UpdateFailure};
use crate::endpoint::{Health, HealthFlags, Host};

/// A message with its fields, of which those without a value are left out.
pub struct Section {
    /// `envoy.admin.v3.ClustersConfigDump`
    pub name: &'static str,
    pub fields: Vec<(&'static str, Value)>,
}

pub enum Value {
    Text(String),
    /// Full name and bytes.
    Message(&'static str, Vec<u8>),
    /// Full name of the elements' message.
    List {
        element: &'static str,
        items: Vec<Item>,
    },
}

/// An element of a list, made into bytes when its turn comes.
pub enum Item {
    Static(ResourceKind, Resource),
    Dynamic(ResourceKind, Resource),
    Listener(Box<ListenerStates>),
    Scoped { dynamic: bool, parts: Vec<Resource> },
    Endpoints { dynamic: bool, cluster: Cluster },
    Wire(Vec<u8>),
}

/// The versions of a dynamic listener.
#[derive(Default)]
pub struct ListenerStates {
    active: Option<Resource>,
    warming: Option<Resource>,
    draining: Option<Resource>,
}

impl Section {
    pub fn message(&self) -> Option<schema::Message> {
        schema::Message::find(self.name)
    }
}

/// All sections, with the resources whose name is `wanted`.
pub fn all(cx: &AdminContext, include_eds: bool, wanted: &dyn Fn(&str) -> bool) -> Vec<Section> {
    let of = |kind| {
        let mut resources = cx.config.resources(kind);
        for list in [&mut resources.statics, &mut resources.active, &mut resources.warming, &mut resources.draining] {
            list.retain(|resource| wanted(&resource.name));
        }
        resources
    };
    let mut sections = vec![bootstrap(cx.config.bootstrap()), cluster_section(of(ResourceKind::Cluster))];
    if include_eds {
        sections.push(endpoint_section(cx.clusters.clusters(), wanted));
    }
    sections.push(listener_section(of(ResourceKind::Listener)));
    sections.push(scoped_section(of(ResourceKind::ScopedRoute)));
    sections.push(route_section(of(ResourceKind::Route)));
    sections.push(secret_section(of(ResourceKind::Secret)));
    let extensions = of(ResourceKind::ExtensionConfig);
    if !extensions.active.is_empty() {
        let element = "envoy.admin.v3.EcdsConfigDump.EcdsFilterConfig";
        let fields = vec![("ecds_filters", dynamic(ResourceKind::ExtensionConfig, element, extensions.active))];
        sections.push(Section { name: "envoy.admin.v3.EcdsConfigDump", fields });
    }
    sections
}

fn bootstrap(resource: Resource) -> Section {
    let value = resource.received.map(|received| received.value.to_vec()).unwrap_or_default();
    let fields = vec![
        ("bootstrap", Value::Message("envoy.config.bootstrap.v3.Bootstrap", value)),
        ("last_updated", Value::Message("google.protobuf.Timestamp", time(resource.last_updated).encode_to_vec())),
    ];
    Section { name: "envoy.admin.v3.BootstrapConfigDump", fields }
}

fn statics(kind: ResourceKind, element: &'static str, resources: Vec<Resource>) -> Value {
    Value::List { element, items: resources.into_iter().map(|resource| Item::Static(kind, resource)).collect() }
}

fn dynamic(kind: ResourceKind, element: &'static str, resources: Vec<Resource>) -> Value {
    Value::List { element, items: resources.into_iter().map(|resource| Item::Dynamic(kind, resource)).collect() }
}

fn cluster_section(resources: Resources) -> Section {
    const STATIC: &str = "envoy.admin.v3.ClustersConfigDump.StaticCluster";
    const DYNAMIC: &str = "envoy.admin.v3.ClustersConfigDump.DynamicCluster";
    let kind = ResourceKind::Cluster;
    let fields = vec![
        ("version_info", Value::Text(resources.version_info)),
        ("static_clusters", statics(kind, STATIC, resources.statics)),
        ("dynamic_active_clusters", dynamic(kind, DYNAMIC, resources.active)),
        ("dynamic_warming_clusters", dynamic(kind, DYNAMIC, resources.warming)),
    ];
    Section { name: "envoy.admin.v3.ClustersConfigDump", fields }
}

fn listener_section(resources: Resources) -> Section {
    let mut dynamic: BTreeMap<_, Box<ListenerStates>> = BTreeMap::new();
    let mut entry = |resource: Resource, state: fn(&mut ListenerStates) -> &mut Option<Resource>| {
        let name = resource.name.clone();
        *state(dynamic.entry(name).or_default()) = Some(resource);
    };
    resources.active.into_iter().for_each(|resource| entry(resource, |states| &mut states.active));
    resources.warming.into_iter().for_each(|resource| entry(resource, |states| &mut states.warming));
    resources.draining.into_iter().for_each(|resource| entry(resource, |states| &mut states.draining));
    let items = dynamic.into_values().map(Item::Listener).collect();
    let element = "envoy.admin.v3.ListenersConfigDump.StaticListener";
    let fields = vec![
        ("version_info", Value::Text(resources.version_info)),
        ("static_listeners", statics(ResourceKind::Listener, element, resources.statics)),
        ("dynamic_listeners", Value::List { element: "envoy.admin.v3.ListenersConfigDump.DynamicListener", items }),
    ];
    Section { name: "envoy.admin.v3.ListenersConfigDump", fields }
}

fn route_section(resources: Resources) -> Section {
    const STATIC: &str = "envoy.admin.v3.RoutesConfigDump.StaticRouteConfig";
    const DYNAMIC: &str = "envoy.admin.v3.RoutesConfigDump.DynamicRouteConfig";
    let fields = vec![
        ("static_route_configs", statics(ResourceKind::Route, STATIC, resources.statics)),
        ("dynamic_route_configs", dynamic(ResourceKind::Route, DYNAMIC, resources.active)),
    ];
    Section { name: "envoy.admin.v3.RoutesConfigDump", fields }
}

fn secret_section(resources: Resources) -> Section {
    const STATIC: &str = "envoy.admin.v3.SecretsConfigDump.StaticSecret";
    const DYNAMIC: &str = "envoy.admin.v3.SecretsConfigDump.DynamicSecret";
    let fields = vec![
        ("static_secrets", statics(ResourceKind::Secret, STATIC, resources.statics)),
        ("dynamic_active_secrets", dynamic(ResourceKind::Secret, DYNAMIC, resources.active)),
        ("dynamic_warming_secrets", dynamic(ResourceKind::Secret, DYNAMIC, resources.warming)),
    ];
    Section { name: "envoy.admin.v3.SecretsConfigDump", fields }
}

/// Scoped routes of one name are one entry.
fn scoped_section(resources: Resources) -> Section {
    let list = |dynamic: bool, element: &'static str, resources: Vec<Resource>| {
        let mut by_name: BTreeMap<_, Vec<Resource>> = BTreeMap::new();
        resources.into_iter().for_each(|resource| by_name.entry(resource.name.clone()).or_default().push(resource));
        let items = by_name.into_values().map(|parts| Item::Scoped { dynamic, parts }).collect();
        Value::List { element, items }
    };
    const INLINE: &str = "envoy.admin.v3.ScopedRoutesConfigDump.InlineScopedRouteConfigs";
    const DYNAMIC: &str = "envoy.admin.v3.ScopedRoutesConfigDump.DynamicScopedRouteConfigs";
    let fields = vec![
        ("inline_scoped_route_configs", list(false, INLINE, resources.statics)),
        ("dynamic_scoped_route_configs", list(true, DYNAMIC, resources.active)),
    ];
    Section { name: "envoy.admin.v3.ScopedRoutesConfigDump", fields }
}

fn endpoint_section(clusters: Vec<Cluster>, wanted: &dyn Fn(&str) -> bool) -> Section {
    let mut clusters: Vec<Cluster> = clusters.into_iter().filter(|cluster| wanted(assignment_name(cluster))).collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    let (dynamic, statics): (Vec<_>, Vec<_>) = clusters.into_iter().partition(|cluster| cluster.added_via_api);
    let list = |dynamic: bool, element: &'static str, clusters: Vec<Cluster>| {
        let items = clusters.into_iter().map(|cluster| Item::Endpoints { dynamic, cluster }).collect();
        Value::List { element, items }
    };
    const STATIC: &str = "envoy.admin.v3.EndpointsConfigDump.StaticEndpointConfig";
    const DYNAMIC: &str = "envoy.admin.v3.EndpointsConfigDump.DynamicEndpointConfig";
    let fields = vec![
        ("static_endpoint_configs", list(false, STATIC, statics)),
        ("dynamic_endpoint_configs", list(true, DYNAMIC, dynamic)),
    ];
    Section { name: "envoy.admin.v3.EndpointsConfigDump", fields }
}

fn assignment_name(cluster: &Cluster) -> &str {
    if cluster.eds_service_name.is_empty() { &cluster.name } else { &cluster.eds_service_name }
}

impl Item {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Static(kind, resource) => encode_static(*kind, resource),
            Self::Dynamic(kind, resource) => encode_dynamic(*kind, resource),
            Self::Listener(states) => encode_listener(states),
            Self::Scoped { dynamic, parts } => encode_scoped(*dynamic, parts),
            Self::Endpoints { dynamic, cluster } => encode_endpoints(*dynamic, cluster),
            Self::Wire(wire) => wire.clone(),
        }
    }
}

fn any(received: &Received) -> Any {
    Any { type_url: received.type_url.to_string(), value: received.value.to_vec() }
}

/// In milliseconds, as Envoy keeps it.
fn time(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = i32::try_from(since.subsec_millis()).unwrap_or(0) * 1_000_000;
    Timestamp { seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), nanos }
}

fn error(error: &UpdateFailure) -> pb::UpdateFailureState {
    pb::UpdateFailureState {
        failed_configuration: error.failed_configuration.as_ref().map(any),
        last_update_attempt: Some(time(error.last_update_attempt)),
        details: error.details.clone(),
        version_info: error.version_info.clone(),
    }
}

fn encode_static(kind: ResourceKind, resource: &Resource) -> Vec<u8> {
    let last_updated = Some(time(resource.last_updated));
    let any = resource.received.as_ref().map(any);
    match kind {
        ResourceKind::Cluster => pb::clusters_config_dump::StaticCluster { cluster: any, last_updated }.encode_to_vec(),
        ResourceKind::Listener => {
            pb::listeners_config_dump::StaticListener { listener: any, last_updated }.encode_to_vec()
        }
        ResourceKind::Route => {
            pb::routes_config_dump::StaticRouteConfig { route_config: any, last_updated }.encode_to_vec()
        }
        ResourceKind::Secret => {
            let name = resource.name.to_string();
            pb::secrets_config_dump::StaticSecret { name, last_updated, secret: any }.encode_to_vec()
        }
        // These have no static form, or one of their own above.
        ResourceKind::ScopedRoute | ResourceKind::ExtensionConfig => Vec::new(),
    }
}

fn encode_dynamic(kind: ResourceKind, resource: &Resource) -> Vec<u8> {
    let last_updated = resource.received.is_some().then(|| time(resource.last_updated));
    let any = resource.received.as_ref().map(any);
    let version_info = resource.version_info.clone();
    let error_state = resource.error.as_ref().map(error);
    let client_status = resource.client_status.into();
    match kind {
        ResourceKind::Cluster => {
            use pb::clusters_config_dump::DynamicCluster;
            DynamicCluster { version_info, cluster: any, last_updated, error_state, client_status }.encode_to_vec()
        }
        ResourceKind::Route => {
            use pb::routes_config_dump::DynamicRouteConfig;
            DynamicRouteConfig { version_info, route_config: any, last_updated, error_state, client_status }
                .encode_to_vec()
        }
        ResourceKind::Secret => {
            use pb::secrets_config_dump::DynamicSecret;
            let name = resource.name.to_string();
            DynamicSecret { name, version_info, last_updated, secret: any, error_state, client_status }.encode_to_vec()
        }
        ResourceKind::ExtensionConfig => {
            use pb::ecds_config_dump::EcdsFilterConfig;
            EcdsFilterConfig { version_info, ecds_filter: any, last_updated, error_state, client_status }
                .encode_to_vec()
        }
        // These have forms of their own below.
        ResourceKind::Listener | ResourceKind::ScopedRoute => Vec::new(),
    }
}

fn encode_listener(states: &ListenerStates) -> Vec<u8> {
    let all = [&states.active, &states.warming, &states.draining];
    let state = |of: &Option<Resource>| {
        let resource = of.as_ref().filter(|resource| resource.received.is_some())?;
        Some(pb::listeners_config_dump::DynamicListenerState {
            version_info: resource.version_info.clone(),
            listener: resource.received.as_ref().map(any),
            last_updated: Some(time(resource.last_updated)),
        })
    };
    let first = all.into_iter().flatten().next();
    pb::listeners_config_dump::DynamicListener {
        name: first.map(|resource| resource.name.to_string()).unwrap_or_default(),
        active_state: state(&states.active),
        warming_state: state(&states.warming),
        draining_state: state(&states.draining),
        error_state: all.into_iter().flatten().find_map(|resource| resource.error.as_ref()).map(error),
        client_status: first.map(|resource| resource.client_status.into()).unwrap_or_default(),
    }
    .encode_to_vec()
}

fn encode_scoped(dynamic: bool, parts: &[Resource]) -> Vec<u8> {
    let Some(first) = parts.first() else { return Vec::new() };
    let name = first.name.to_string();
    let scoped_route_configs = parts.iter().filter_map(|part| part.received.as_ref()).map(any).collect();
    let last_updated = Some(time(first.last_updated));
    if dynamic {
        let version_info = first.version_info.clone();
        let error_state = first.error.as_ref().map(error);
        let client_status = first.client_status.into();
        use pb::scoped_routes_config_dump::DynamicScopedRouteConfigs as Dynamic;
        Dynamic { name, version_info, scoped_route_configs, last_updated, error_state, client_status }.encode_to_vec()
    } else {
        use pb::scoped_routes_config_dump::InlineScopedRouteConfigs as Inline;
        Inline { name, scoped_route_configs, last_updated }.encode_to_vec()
    }
}

fn encode_endpoints(dynamic: bool, cluster: &Cluster) -> Vec<u8> {
    let endpoint_config = Some(Any {
        type_url: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment".to_owned(),
        value: load_assignment(cluster).encode_to_vec(),
    });
    if dynamic {
        let config = pb::endpoints_config_dump::DynamicEndpointConfig { endpoint_config, ..Default::default() };
        config.encode_to_vec()
    } else {
        pb::endpoints_config_dump::StaticEndpointConfig { endpoint_config, last_updated: None }.encode_to_vec()
    }
}

/// The hosts of a cluster as they are now.
fn load_assignment(cluster: &Cluster) -> endpoint::ClusterLoadAssignment {
    let mut endpoints: Vec<endpoint::LocalityLbEndpoints> = Vec::new();
    let mut hosts: Vec<&Host> = cluster.hosts.iter().map(|status| &*status.host).collect();
    hosts.sort_by_key(|host| host.priority);
    for host in hosts {
        let locality = clusters::locality(&host.locality);
        let same = |group: &endpoint::LocalityLbEndpoints| {
            group.priority == host.priority && group.locality.as_ref() == Some(&locality)
        };
        let at = endpoints.iter().position(same).unwrap_or_else(|| {
            endpoints.push(endpoint::LocalityLbEndpoints {
                locality: Some(locality.clone()),
                priority: host.priority,
                ..Default::default()
            });
            endpoints.len() - 1
        });
        if let Some(group) = endpoints.get_mut(at) {
            group.lb_endpoints.push(lb_endpoint(host));
        }
    }
    endpoint::ClusterLoadAssignment {
        cluster_name: assignment_name(cluster).to_owned(),
        endpoints,
        policy: Some(endpoint::cluster_load_assignment::Policy {
            overprovisioning_factor: Some(cluster.overprovisioning_factor),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn lb_endpoint(host: &Host) -> endpoint::LbEndpoint {
    let flags = host.health_flags();
    let health = match host.health() {
        _ if flags.0 & HealthFlags::EDS_STATUS_DRAINING != 0 => core::HealthStatus::Draining,
        Health::Healthy => core::HealthStatus::Healthy,
        Health::Degraded => core::HealthStatus::Degraded,
        Health::Unhealthy => core::HealthStatus::Unhealthy,
    };
    let endpoint = endpoint::Endpoint {
        address: Some(listeners::address(&host.current_address())),
        health_check_config: Some(Default::default()),
        hostname: host.hostname.to_string(),
        ..Default::default()
    };
    endpoint::LbEndpoint {
        health_status: health.into(),
        // Decoded for this once, so that a dump leaves nothing behind.
        metadata: host.metadata.as_ref().and_then(|metadata| core::Metadata::decode(metadata.bytes()).ok()),
        load_balancing_weight: Some(host.weight()),
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
    }
}
