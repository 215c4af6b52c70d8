//! Resources as a management server would make them.

use std::net::TcpListener;

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// A cluster whose endpoints are discovered.
pub fn cluster(name: &str, rest: &str) -> String {
    format!(
        "{{ name: {name}, type: EDS, connect_timeout: 2s, eds_cluster_config: {{ eds_config: {{ ads: {{}}, \
         initial_fetch_timeout: 0s, resource_api_version: V3 }} }} {rest} }}"
    )
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
         stat_prefix: {name}, rds: {{ route_config_name: {routes}, config_source: {{ ads: {{}}, initial_fetch_timeout: 0s, \
         resource_api_version: V3 }} }}, http_filters: [ {{ name: router, typed_config: {{ \"@type\": \
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
