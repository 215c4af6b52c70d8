//! Resources as a management server would make them.

use std::net::TcpListener;
use std::path::Path;

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// A cluster whose endpoints are discovered.
pub fn cluster(name: &str, rest: &str) -> String {
    format!("{{ name: {name}, type: EDS, connect_timeout: 2s, eds_cluster_config: {{ eds_config: {ADS} }} {rest} }}")
}

pub fn endpoints(cluster: &str, ports: &[u16]) -> String {
    let endpoint = |port: &u16| {
        format!("{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}")
    };
    let endpoints: Vec<String> = ports.iter().map(endpoint).collect();
    format!("{{ cluster_name: {cluster}, endpoints: [ {{ lb_endpoints: [ {} ] }} ] }}", endpoints.join(", "))
}

/// A listener that has its routes from RDS.
pub fn listener(name: &str, port: u16, routes: &str, chain: &str) -> String {
    format!(
        "{{ name: {name}, address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}, filter_chains: [ {{ filters: [ {{ \
         name: hcm, typed_config: {{ \"@type\": {TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: {name}, rds: {{ route_config_name: {routes}, config_source: {ADS} }}, http_filters: [ {{ name: router, typed_config: {{ \"@type\": \
         {TYPES}.filters.http.router.v3.Router }} }} ] }} }} ] {chain} }} ] }}"
    )
}

/// Routes that send everything to a cluster, and say `text` in a header of the answer.
pub fn routes(name: &str, cluster: &str, text: &str) -> String {
    format!(
        "{{ name: {name}, virtual_hosts: [ {{ name: all, domains: [ \"*\" ], routes: [ {{ match: {{ prefix: / }}, \
         route: {{ cluster: {cluster} }} }} ], response_headers_to_add: [ {{ header: {{ key: x-routes, value: \"{text}\" }} }} ] }} ] }}"
    )
}

/// A port that nobody listens on; listeners that are discovered cannot ask for any.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port()
}

/// Where ADS is.
pub const ADS: &str = "{ ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3 }";

/// A gRPC stream of its own to a static cluster.
pub fn stream(cluster: &str, delta: bool) -> String {
    let kind = if delta { "DELTA_GRPC" } else { "GRPC" };
    format!(
        "{{ api_config_source: {{ api_type: {kind}, transport_api_version: V3, set_node_on_first_message_only: true, grpc_services: [ \
         {{ envoy_grpc: {{ cluster_name: {cluster} }} }} ] }}, initial_fetch_timeout: 0s, resource_api_version: V3 }}"
    )
}

/// A secret of `NAME.pem` and `NAME.key` in a folder.
pub fn certificate(secret: &str, folder: &Path, name: &str) -> String {
    let read = |ending: &str| std::fs::read_to_string(folder.join(format!("{name}.{ending}"))).expect("made before");
    serde_json::json!({ "name": secret, "tls_certificate": {
        "certificate_chain": { "inline_string": read("pem") }, "private_key": { "inline_string": read("key") } } })
    .to_string()
}

/// A secret of an authority's certificate.
pub fn root(secret: &str, folder: &Path, name: &str) -> String {
    let read = std::fs::read_to_string(folder.join(format!("{name}.pem"))).expect("made before");
    serde_json::json!({ "name": secret, "validation_context": { "trusted_ca": { "inline_string": read } } }).to_string()
}

/// A transport socket whose certificate and root are secrets from a source, and whose peers have this identity.
pub fn tls(context: &str, certificate: &str, root: &str, source: &str, rest: &str) -> String {
    format!(
        ", transport_socket: {{ name: tls, typed_config: {{ \"@type\": {TYPES}.transport_sockets.tls.v3.{context}, common_tls_context: {{ \
         tls_certificate_sds_secret_configs: [ {{ name: {certificate}, sds_config: {source} }} ], combined_validation_context: {{ \
         default_validation_context: {{ match_typed_subject_alt_names: [ {{ san_type: URI, matcher: {{ exact: \"{IDENTITY}\" }} }} ] }}, \
         validation_context_sds_secret_config: {{ name: {root}, sds_config: {source} }} }} }} {rest} }} }}"
    )
}

/// Whom both sides of [`tls`] want to meet.
pub const IDENTITY: &str = "spiffe://cluster.local/ns/a/sa/b";

/// Makes a cluster speak HTTP/2.
pub const HTTP2: &str = ", typed_extension_protocol_options: { envoy.extensions.upstreams.http.v3.HttpProtocolOptions: { \
    \"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: { \
    http2_protocol_options: {} } } }";
