//! Bootstrap YAML for tests. Listeners are on port 0; [`crate::proxy::Proxy::port`] tells what they got.

/// Indents every line.
pub fn indent(text: &str, by: usize) -> String {
    let pad = " ".repeat(by);
    text.trim_matches('\n').lines().map(|line| format!("{pad}{line}\n")).collect()
}

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// The routes of one virtual host for every domain.
pub fn virtual_host(routes: &str) -> String {
    format!("- name: all\n  domains: [ \"*\" ]\n  routes:\n{}", indent(routes, 2))
}

/// The filters of a chain: a connection manager with these virtual hosts, and these further fields.
pub fn hcm_with(virtual_hosts: &str, route_fields: &str, fields: &str) -> String {
    let prefix = if fields.contains("stat_prefix:") { "" } else { "    stat_prefix: ingress\n" };
    format!(
        "- name: envoy.filters.network.http_connection_manager\n  typed_config:\n    \"@type\": {TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager\n{prefix}{}    http_filters:\n    - name: envoy.filters.http.router\n      typed_config:\n        \"@type\": {TYPES}.filters.http.router.v3.Router\n    route_config:\n      name: local\n{}      virtual_hosts:\n{}",
        indent(fields, 4),
        indent(route_fields, 6),
        indent(virtual_hosts, 6),
    )
}

/// The same with one virtual host for every domain.
pub fn hcm(routes: &str, fields: &str) -> String {
    hcm_with(&virtual_host(routes), "", fields)
}

/// The filters of a chain: a TCP proxy with these fields.
pub fn tcp_proxy(fields: &str) -> String {
    format!(
        "- name: envoy.filters.network.tcp_proxy\n  typed_config:\n    \"@type\": {TYPES}.filters.network.tcp_proxy.v3.TcpProxy\n    stat_prefix: tcp\n{}",
        indent(fields, 4)
    )
}

/// A filter chain.
pub fn chain(filters: &str, fields: &str) -> String {
    format!("- filters:\n{}{}", indent(filters, 2), indent(fields, 2))
}

/// A listener of a name with filter chains.
pub fn listener_with(name: &str, chains: &str, fields: &str) -> String {
    format!(
        "- name: {name}\n  address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}\n{}  filter_chains:\n{}",
        indent(fields, 2),
        indent(chains, 2),
    )
}

/// A listener of a name with one chain.
pub fn listener(name: &str, filters: &str) -> String {
    listener_with(name, &chain(filters, ""), "")
}

/// A static cluster with one endpoint. `port` may be a placeholder.
pub fn cluster(name: &str, port: impl std::fmt::Display, fields: &str) -> String {
    format!(
        "- name: {name}\n  type: STATIC\n  connect_timeout: 1s\n{}  load_assignment:\n    cluster_name: {name}\n    endpoints:\n    - lb_endpoints:\n      - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n",
        indent(fields, 2)
    )
}

/// `typed_extension_protocol_options` of a cluster.
pub fn http_protocol_options(fields: &str) -> String {
    format!(
        "typed_extension_protocol_options:\n  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n    \"@type\": {TYPES}.upstreams.http.v3.HttpProtocolOptions\n{}",
        indent(fields, 4)
    )
}

/// Fields of a cluster that speaks HTTP/2.
pub fn http2() -> String {
    http_protocol_options("explicit_http_config: { http2_protocol_options: {} }")
}

/// `access_log` to a file of `{tmp}` with a `log_format`.
pub fn access_log(file: &str, log_format: &str) -> String {
    format!(
        "access_log:\n- name: envoy.access_loggers.file\n  typed_config:\n    \"@type\": {TYPES}.access_loggers.file.v3.FileAccessLog\n    path: \"{{tmp}}/{file}\"\n{}",
        indent(log_format, 4)
    )
}

/// `transport_socket` with a `DownstreamTlsContext` or an `UpstreamTlsContext` of these fields.
pub fn tls(context: &str, fields: &str) -> String {
    format!(
        "transport_socket:\n  name: envoy.transport_sockets.tls\n  typed_config:\n    \"@type\": {TYPES}.transport_sockets.tls.v3.{context}\n{}",
        indent(fields, 4)
    )
}

/// One entry of `tls_certificates`.
pub fn certificate(name: &str) -> String {
    format!(
        "- certificate_chain: {{ filename: \"{{certs}}/{name}.pem\" }}\n  private_key: {{ filename: \"{{certs}}/{name}.key\" }}\n"
    )
}

pub fn bootstrap(listeners: &str, clusters: &str) -> String {
    format!(
        "admin:\n  address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}\nstatic_resources:\n  listeners:\n{}  clusters:\n{}",
        indent(listeners, 2),
        indent(clusters, 2)
    )
}

/// One listener `main`, one connection manager, one upstream `up`.
pub fn http(routes: &str, hcm_fields: &str, upstream: u16) -> String {
    bootstrap(&listener("main", &hcm(routes, hcm_fields)), &cluster("up", upstream, ""))
}

/// Every path to cluster `up`.
pub const TO_UP: &str = "- match: { prefix: / }\n  route: { cluster: up }\n";

/// The filters of a chain with these HTTP filters before the router.
pub fn before_router(http_filters: &str, filters: &str) -> String {
    let router = "    - name: envoy.filters.http.router\n";
    assert!(filters.contains(router), "a connection manager with a router");
    filters.replace(router, &format!("{}{router}", indent(http_filters, 4)))
}
