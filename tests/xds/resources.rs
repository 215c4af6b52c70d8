//! The resources of the script: one service behind a plain and a TLS listener.

use std::path::Path;

const ADS: &str = "{ ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3 }";
const TYPE: &str = "\"@type\": type.googleapis.com/envoy";

/// Asks one management server for everything.
pub fn bootstrap(port: u16, delta: bool) -> String {
    let api = if delta { "DELTA_GRPC" } else { "GRPC" };
    format!(
        r#"
node: {{ id: the-node, cluster: the-cluster }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
dynamic_resources:
  cds_config: {ADS}
  lds_config: {ADS}
  ads_config:
    api_type: {api}
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services:
    - envoy_grpc:
        cluster_name: xds
        retry_policy: {{ retry_back_off: {{ base_interval: 0.05s, max_interval: 0.1s }} }}
static_resources:
  clusters:
  - name: xds
    connect_timeout: 1s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        {TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{ http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: xds
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}
"#
    )
}

pub fn cluster() -> String {
    format!(
        r#"
{TYPE}.config.cluster.v3.Cluster
name: up
type: EDS
connect_timeout: 1s
eds_cluster_config: {{ eds_config: {ADS} }}
"#
    )
}

pub fn endpoints(port: u16) -> String {
    format!(
        r#"
{TYPE}.config.endpoint.v3.ClusterLoadAssignment
cluster_name: up
endpoints:
- lb_endpoints:
  - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}
"#
    )
}

/// Routes all to `up`, and says so in the header `route`.
pub fn route(says: &str) -> String {
    format!(
        r#"
{TYPE}.config.route.v3.RouteConfiguration
name: to-up
virtual_hosts:
- name: all
  domains: [ "*" ]
  routes:
  - match: {{ prefix: / }}
    route: {{ cluster: up }}
    response_headers_to_add: [ {{ header: {{ key: route, value: "{says}" }} }} ]
"#
    )
}

/// A listener with a connection manager on the routes above; `more` HTTP filters come before the router.
pub fn listener(name: &str, port: u16, transport_socket: &str, more: &str) -> String {
    format!(
        r#"
{TYPE}.config.listener.v3.Listener
name: {name}
address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
filter_chains:
- filters:
  - name: envoy.filters.network.http_connection_manager
    typed_config:
      {TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      stat_prefix: {name}
      rds: {{ route_config_name: to-up, config_source: {ADS} }}
      http_filters:
{more}      - name: envoy.filters.http.router
        typed_config: {{ {TYPE}.extensions.filters.http.router.v3.Router }}
{transport_socket}
"#
    )
}

/// TLS with the certificate that the secret `identity` is.
pub fn tls() -> String {
    format!(
        r#"
  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      {TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext
      common_tls_context:
        tls_certificate_sds_secret_configs: [ {{ name: identity, sds_config: {ADS} }} ]
"#
    )
}

/// An HTTP filter that nobody has.
pub const UNKNOWN_FILTER: &str = "      - name: unheard-of
        typed_config:
          \"@type\": type.googleapis.com/xds.type.v3.TypedStruct
          type_url: type.googleapis.com/example.UnheardOf
";

/// The secret `identity`: a certificate and its key out of a folder.
pub fn secret(folder: &Path, name: &str) -> String {
    let read = |suffix: &str| {
        let pem = std::fs::read_to_string(folder.join(format!("{name}.{suffix}"))).expect("read");
        pem.replace('\n', "\\n")
    };
    format!(
        r#"
{TYPE}.extensions.transport_sockets.tls.v3.Secret
name: identity
tls_certificate:
  certificate_chain: {{ inline_string: "{}" }}
  private_key: {{ inline_string: "{}" }}
"#,
        read("pem"),
        read("key")
    )
}
