//! The configuration files of the demo as a control plane would deliver them: clusters, endpoints, listeners, routes and
//! secrets, each as a resource of its own, and a bootstrap that only says where to ask for them.

use std::path::Path;

use prost::{Message, Name};
use prost_types::Any;
use xds_client::TypeUrl;
use xds_client::server::Store;
use xds_protos::envoy::config::cluster::v3 as cluster;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_protos::envoy::config::listener::v3 as listener;
use xds_protos::envoy::config::route::v3::RouteConfiguration;
use xds_protos::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as tls;

use crate::bootstrap;

/// The resources of one proxy.
pub struct Resources {
    pub clusters: Vec<cluster::Cluster>,
    pub endpoints: Vec<ClusterLoadAssignment>,
    pub listeners: Vec<listener::Listener>,
    pub routes: Vec<RouteConfiguration>,
}

impl Resources {
    /// Takes a configuration file apart.
    pub fn read(file: &Path) -> Result<Self, String> {
        let loaded = bootstrap::load(Some(file), None, false).map_err(|error| error.to_string())?;
        let mut all = loaded.message.static_resources.unwrap_or_default();
        let (mut endpoints, mut routes) = (Vec::new(), Vec::new());
        for cluster in &mut all.clusters {
            if let Some(mut assignment) = cluster.load_assignment.take() {
                assignment.cluster_name.clone_from(&cluster.name);
                endpoints.push(assignment);
                discover_endpoints(cluster);
            }
            if let Some(socket) = &mut cluster.transport_socket {
                edit::<tls::UpstreamTlsContext>(socket, |context| discover_secrets(&mut context.common_tls_context))?;
            }
        }
        for listener in &mut all.listeners {
            for chain in &mut listener.filter_chains {
                if let Some(socket) = &mut chain.transport_socket {
                    edit::<tls::DownstreamTlsContext>(socket, |context| {
                        discover_secrets(&mut context.common_tls_context);
                    })?;
                }
                for filter in &mut chain.filters {
                    if let Some(found) = discover_routes(filter)? {
                        routes.push(found);
                    }
                }
            }
        }
        Ok(Resources { clusters: all.clusters, endpoints, listeners: all.listeners, routes })
    }

    /// Hands everything out.
    pub fn publish(&self, store: &Store) {
        store.batch(|batch| {
            for cluster in &self.clusters {
                batch.set(TypeUrl::CLUSTER, &cluster.name, cluster);
            }
            for assignment in &self.endpoints {
                batch.set(TypeUrl::ENDPOINT, &assignment.cluster_name, assignment);
            }
            for listener in &self.listeners {
                batch.set(TypeUrl::LISTENER, &listener.name, listener);
            }
            for routes in &self.routes {
                batch.set(TypeUrl::ROUTE, &routes.name, routes);
            }
        });
    }

    pub fn cluster(&mut self, name: &str) -> Result<&mut cluster::Cluster, String> {
        self.clusters.iter_mut().find(|it| it.name == name).ok_or_else(|| format!("no cluster {name}"))
    }

    pub fn listener(&mut self, name: &str) -> Result<&mut listener::Listener, String> {
        self.listeners.iter_mut().find(|it| it.name == name).ok_or_else(|| format!("no listener {name}"))
    }

    pub fn routes(&mut self, name: &str) -> Result<&mut RouteConfiguration, String> {
        self.routes.iter_mut().find(|it| it.name == name).ok_or_else(|| format!("no routes {name}"))
    }
}

/// The stream that everything comes by.
fn ads() -> Option<core::ConfigSource> {
    Some(core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(Default::default())),
        ..Default::default()
    })
}

fn discover_endpoints(cluster: &mut cluster::Cluster) {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
    cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32));
    cluster.eds_cluster_config = Some(EdsClusterConfig { eds_config: ads(), ..Default::default() });
}

/// `default` and `ROOTCA` are what Istio calls them.
fn discover_secrets(common: &mut Option<tls::CommonTlsContext>) {
    use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
    let secret = |name: &str| tls::SdsSecretConfig { name: name.to_owned(), sds_config: ads() };
    let common = common.get_or_insert_default();
    common.tls_certificates.clear();
    common.tls_certificate_sds_secret_configs = vec![secret("default")];
    if let Some(ValidationContextType::ValidationContext(context)) = common.validation_context_type.take() {
        let default = tls::CertificateValidationContext { trusted_ca: None, ..context };
        common.validation_context_type =
            Some(ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
                default_validation_context: Some(default),
                validation_context_sds_secret_config: Some(secret("ROOTCA")),
                ..Default::default()
            }));
    }
}

/// The routes of a connection manager, which is left with their name.
fn discover_routes(filter: &mut listener::Filter) -> Result<Option<RouteConfiguration>, String> {
    use hcm::http_connection_manager::RouteSpecifier;
    let Some(listener::filter::ConfigType::TypedConfig(any)) = &mut filter.config_type else { return Ok(None) };
    if any.type_url != hcm::HttpConnectionManager::type_url() {
        return Ok(None);
    }
    let mut manager = hcm::HttpConnectionManager::decode(&*any.value).map_err(|error| error.to_string())?;
    let Some(RouteSpecifier::RouteConfig(routes)) = manager.route_specifier.take() else { return Ok(None) };
    manager.route_specifier =
        Some(RouteSpecifier::Rds(hcm::Rds { config_source: ads(), route_config_name: routes.name.clone() }));
    any.value = manager.encode_to_vec();
    Ok(Some(routes))
}

/// Names other routes in the connection managers of a listener.
pub fn name_routes(listener: &mut listener::Listener, name: &str) -> Result<(), String> {
    use hcm::http_connection_manager::RouteSpecifier;
    for filter in listener.filter_chains.iter_mut().flat_map(|chain| &mut chain.filters) {
        let Some(listener::filter::ConfigType::TypedConfig(any)) = &mut filter.config_type else { continue };
        if any.type_url == hcm::HttpConnectionManager::type_url() {
            let mut manager = hcm::HttpConnectionManager::decode(&*any.value).map_err(|error| error.to_string())?;
            if let Some(RouteSpecifier::Rds(rds)) = &mut manager.route_specifier {
                name.clone_into(&mut rds.route_config_name);
            }
            any.value = manager.encode_to_vec();
        }
    }
    Ok(())
}

/// Changes the message inside a transport socket of this kind.
fn edit<M: Message + Default + Name>(
    socket: &mut core::TransportSocket,
    change: impl FnOnce(&mut M),
) -> Result<(), String> {
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &mut socket.config_type else { return Ok(()) };
    if any.type_url == M::type_url() {
        let mut message = M::decode(&*any.value).map_err(|error| error.to_string())?;
        change(&mut message);
        *any = Any { type_url: M::type_url(), value: message.encode_to_vec() };
    }
    Ok(())
}

/// A certificate with its key, or a trusted root, as a secret.
pub fn certificate(name: &str, chain: &str, key: &str) -> tls::Secret {
    tls::Secret {
        name: name.to_owned(),
        r#type: Some(tls::secret::Type::TlsCertificate(tls::TlsCertificate {
            certificate_chain: inline(chain),
            private_key: inline(key),
            ..Default::default()
        })),
    }
}

pub fn root(name: &str, ca: &str) -> tls::Secret {
    tls::Secret {
        name: name.to_owned(),
        r#type: Some(tls::secret::Type::ValidationContext(tls::CertificateValidationContext {
            trusted_ca: inline(ca),
            ..Default::default()
        })),
    }
}

fn inline(text: &str) -> Option<core::DataSource> {
    let specifier = core::data_source::Specifier::InlineString(text.to_owned());
    Some(core::DataSource { specifier: Some(specifier), ..Default::default() })
}

/// A bootstrap like a sidecar's: everything but the way to the control plane comes from there.
pub fn bootstrap(name: &str, admin: u16, socket: &Path) -> String {
    format!(
        r#"node: {{ id: "sidecar~127.0.0.1~{name}.shop~shop.svc.cluster.local", cluster: {name}.shop }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {admin} }} }} }}
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [ {{ envoy_grpc: {{ cluster_name: xds-grpc }} }} ]
  cds_config: {{ ads: {{}}, initial_fetch_timeout: 0s, resource_api_version: V3 }}
  lds_config: {{ ads: {{}}, initial_fetch_timeout: 0s, resource_api_version: V3 }}
static_resources:
  clusters:
  - name: xds-grpc
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: xds-grpc
      endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ pipe: {{ path: "{}" }} }} }} }} ] }} ]
"#,
        socket.display()
    )
}
