//! End-to-end: the proxy as a process, real sockets, upstreams and clients that see every byte.

mod http1;

use tests::proxy::Proxy;
use tests::proxy_under_test;

/// Routes that send everything to the cluster `up`.
const TO_UP: &str = "- match: { prefix: / }\n  route: { cluster: up }\n";

/// The proxy with a listener `in` with `routes`, and a cluster `up` at `upstream`.
fn start(routes: &str, upstream: u16) -> Proxy {
    let routes = routes.replace('\n', "\n                ");
    let config = format!(
        r#"
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
static_resources:
  listeners:
  - name: in
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            validate_clusters: false
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
                {routes}
  clusters:
  - name: up
    connect_timeout: 2s
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }}
"#
    );
    Proxy::start(proxy_under_test(env!("CARGO_BIN_EXE_proxy-under-test")), &config)
}
