//! The configurations: ordinary Envoy ones, the same bytes for both sides but for the port of a peer.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::identities::{CLIENT, Identities, SERVER};

/// Name of the one listener.
pub const LISTENER: &str = "ingress";

fn any(kind: &str, mut fields: Value) -> Value {
    fields["@type"] = format!("type.googleapis.com/envoy.{kind}").into();
    fields
}

pub fn bootstrap(filter: Value, transport_socket: Option<Value>, clusters: Vec<Value>) -> Value {
    let mut chain = json!({"filters": [filter]});
    if let Some(socket) = transport_socket {
        chain["transport_socket"] = socket;
    }
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    json!({
        "admin": {"address": address},
        "static_resources": {
            "listeners": [{"name": LISTENER, "address": address, "filter_chains": [chain]}],
            "clusters": clusters,
        },
    })
}

/// A connection manager that sends everything to the cluster `upstream`.
pub fn http(access_log: bool) -> Value {
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "upstream"}});
    http_to(vec![json!({"name": "all", "domains": ["*"], "routes": [route]})], access_log)
}

fn http_to(virtual_hosts: Vec<Value>, access_log: bool) -> Value {
    let router = any("extensions.filters.http.router.v3.Router", json!({}));
    let mut manager = json!({
        "stat_prefix": "ingress",
        "route_config": {"name": "routes", "virtual_hosts": virtual_hosts},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    });
    if access_log {
        let file = any("extensions.access_loggers.file.v3.FileAccessLog", json!({"path": "/dev/null"}));
        manager["access_log"] = json!([{"name": "envoy.access_loggers.file", "typed_config": file}]);
    }
    let kind = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": any(kind, manager)})
}

pub fn tcp_proxy() -> Value {
    let fields = json!({"stat_prefix": "ingress", "cluster": "upstream"});
    let config = any("extensions.filters.network.tcp_proxy.v3.TcpProxy", fields);
    json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": config})
}

/// A cluster of these endpoints, with breakers as wide as istiod makes them, which Envoy's own defaults are not.
pub fn cluster(name: &str, endpoints: &[SocketAddr]) -> Value {
    let of = |endpoint: &SocketAddr| {
        let address = json!({"address": endpoint.ip().to_string(), "port_value": endpoint.port()});
        json!({"endpoint": {"address": {"socket_address": address}}, "load_balancing_weight": 1})
    };
    let hosts: Vec<Value> = endpoints.iter().map(of).collect();
    let wide = json!({
        "max_connections": u32::MAX, "max_pending_requests": u32::MAX, "max_requests": u32::MAX, "max_retries": u32::MAX,
    });
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [wide]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]},
    })
}

pub fn upstream(endpoint: SocketAddr) -> Value {
    cluster("upstream", &[endpoint])
}

/// The same cluster over HTTP/2.
pub fn over_http2(mut cluster: Value) -> Value {
    let fields = json!({"explicit_http_config": {"http2_protocol_options": {}}});
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
            any("extensions.upstreams.http.v3.HttpProtocolOptions", fields),
    });
    cluster
}

/// The same cluster over mTLS.
pub fn over_mtls(mut cluster: Value, identities: &Identities, alpn: &[&str]) -> Value {
    let fields = json!({
        "sni": "outbound_.8080_._.server.bench.svc.cluster.local",
        "common_tls_context": identities.context("client", alpn, Some(SERVER)),
    });
    cluster["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": any("extensions.transport_sockets.tls.v3.UpstreamTlsContext", fields),
    });
    cluster
}

/// The server's side of TLS, or of mTLS.
pub fn tls_server(identities: &Identities, mutual: bool) -> Value {
    let peer = mutual.then_some(CLIENT);
    let fields = json!({
        "require_client_certificate": mutual,
        "common_tls_context": identities.context("server", &["h2", "http/1.1"], peer),
    });
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": any("extensions.transport_sockets.tls.v3.DownstreamTlsContext", fields),
    })
}

/// A mesh of so many services with five endpoints each, as a sidecar is told of it: mTLS contexts, retry policies, domains.
pub fn mesh(services: usize, identities: &Identities) -> Value {
    let mut clusters = Vec::with_capacity(services);
    let mut virtual_hosts = Vec::with_capacity(services);
    for service in 0..services {
        let namespace = format!("ns-{}", service % 40);
        let host = format!("service-{service}.{namespace}.svc.cluster.local");
        let name = format!("outbound|8080||{host}");
        let [high, low] = u16::try_from(service).unwrap_or(u16::MAX).to_be_bytes();
        let endpoints: Vec<SocketAddr> = (1..=5).map(|n| SocketAddr::from(([127, 64 + high, low, n], 8080))).collect();
        let mut cluster = over_mtls(cluster(&name, &endpoints), identities, &["istio"]);
        let meta = json!({"services": [{"host": host, "name": format!("service-{service}"), "namespace": namespace}]});
        cluster["metadata"] = json!({"filter_metadata": {"istio": meta}});
        clusters.push(cluster);
        virtual_hosts.push(virtual_host(service, &namespace, &host, &name));
    }
    bootstrap(http_to(virtual_hosts, false), None, clusters)
}

fn virtual_host(service: usize, namespace: &str, host: &str, cluster: &str) -> Value {
    let not_the_last = any("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", json!({}));
    let retry = json!({
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
        "num_retries": 2,
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": not_the_last}],
        "host_selection_retry_max_attempts": "5",
    });
    let short = format!("service-{service}.{namespace}");
    json!({
        "name": format!("{host}:8080"),
        "domains": [host, short, format!("{short}.svc"), format!("10.96.{}.{}", service / 250, service % 250)],
        "routes": [{
            "name": "default",
            "match": {"prefix": "/"},
            "route": {"cluster": cluster, "timeout": "0s", "retry_policy": retry},
        }],
    })
}
