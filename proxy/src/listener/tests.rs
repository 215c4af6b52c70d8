use super::*;
use crate::server::testing;

const CHAIN: &str = "filter_chains: [ { filters: [ { name: e, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo } } ] } ]";
const ADDRESS: &str = "address: { socket_address: { address: 127.0.0.1, port_value: 80 } }";

fn build(yaml: &str) -> Result<Arc<Listener>, String> {
    testing::listener(&BuildCx::new(testing::options(1)), yaml).map_err(|reject| reject.path)
}

fn with(fields: &str) -> Result<Arc<Listener>, String> {
    build(&format!("{ADDRESS}\n{CHAIN}\n{fields}"))
}

#[test]
fn defaults_are_envoys() {
    let listener = with("").unwrap();
    assert!(listener.bind_to_port && listener.socket.reuse_port);
    assert_eq!(listener.listener_filters_timeout, Some(Duration::from_secs(15)));
    assert!(!listener.continue_on_listener_filters_timeout);
    assert_eq!(listener.per_connection_buffer_limit_bytes, 1024 * 1024);
    assert_eq!(listener.drain_type, DrainType::Default);
    assert_eq!(listener.direction, TrafficDirection::Unspecified);
    assert_eq!(listener.stats.prefix(), "listener.127.0.0.1_80.");
    assert_eq!(listener.name.len(), 36, "a UUID");
    assert_ne!(listener.name, with("").unwrap().name);
}

#[test]
fn fields_are_read() {
    let listener = with(
        "name: l\nstat_prefix: p\nbind_to_port: false\nlistener_filters_timeout: 0s\nper_connection_buffer_limit_bytes: 5\n\
         traffic_direction: INBOUND\nenable_reuse_port: false\ndrain_type: MODIFY_ONLY\nuse_original_dst: true\n\
         transparent: true\ntcp_backlog_size: 7\ntcp_fast_open_queue_length: 3\nmax_connections_to_accept_per_socket_event: 1",
    )
    .unwrap();
    assert_eq!((&*listener.name, listener.stats.prefix()), ("l", "listener.p."));
    assert!(!listener.bind_to_port && !listener.socket.reuse_port && listener.is_transparent());
    assert_eq!((listener.socket.backlog, listener.socket.tcp_fast_open_queue_length), (7, Some(3)));
    assert_eq!(listener.listener_filters_timeout, None);
    assert_eq!(listener.per_connection_buffer_limit_bytes, 5);
    assert_eq!(listener.direction, TrafficDirection::Inbound);
    assert_eq!(listener.drain_type, DrainType::ModifyOnly);
    assert_eq!(listener.filters.len(), 1, "use_original_dst implies its filter");
    assert_eq!(listener.max_connections_to_accept_per_socket_event, 1);
    assert!(!with("deprecated_v1: { bind_to_port: false }").unwrap().bind_to_port);
    let pipe = build(&format!("address: {{ pipe: {{ path: /tmp/x, mode: 384 }} }}\n{CHAIN}")).unwrap();
    assert_eq!(pipe.stats.prefix(), "listener./tmp/x.");
    assert_eq!(pipe.addresses[0].mode, 0o600);
}

#[test]
fn what_cannot_be_done_is_refused() {
    let refused = |fields: &str| with(fields).map(|_| ()).unwrap_err();
    for (fields, path) in [
        ("udp_listener_config: {}", "udp_listener_config"),
        ("internal_listener: {}", "internal_listener"),
        ("api_listener: {}", "api_listener"),
        ("fcds_config: {}", "fcds_config"),
        ("filter_chain_matcher: {}", "filter_chain_matcher"),
        ("stats_matcher: { reject_all: true }", "stats_matcher"),
        ("per_connection_buffer_high_watermark_timeout: 1s", "per_connection_buffer_high_watermark_timeout"),
        ("connection_balance_config: { cpu_locality_balance: {} }", "connection_balance_config.cpu_locality_balance"),
        ("connection_balance_config: {}", "connection_balance_config"),
        ("listener_filters_timeout: -1s", "listener_filters_timeout"),
        ("max_connections_to_accept_per_socket_event: 0", "max_connections_to_accept_per_socket_event"),
        ("socket_options: [ { level: 1, name: 2 } ]", "socket_options[0]"),
        ("listener_filters: [ { name: x } ]", "listener_filters[0].typed_config"),
        ("additional_addresses: [ {} ]", "additional_addresses[0].address"),
        ("default_filter_chain: { use_proxy_proto: true }", "default_filter_chain.use_proxy_proto"),
    ] {
        assert_eq!(refused(fields), path, "{fields}");
    }
    for (yaml, path) in [
        (ADDRESS.to_owned(), "filter_chains"),
        (CHAIN.to_owned(), "address"),
        (
            format!("{CHAIN}\naddress: {{ socket_address: {{ address: a.test, port_value: 1 }} }}"),
            "address.socket_address.address",
        ),
        (
            format!("{CHAIN}\naddress: {{ socket_address: {{ protocol: UDP, address: 10.0.0.1, port_value: 1 }} }}"),
            "address.socket_address.protocol",
        ),
        (
            format!("{CHAIN}\naddress: {{ socket_address: {{ address: 0.0.0.0, port_value: 1, ipv4_compat: true }} }}"),
            "address.socket_address.ipv4_compat",
        ),
        (format!("{CHAIN}\naddress: {{ pipe: {{ path: /x, mode: 512 }} }}"), "address.pipe.mode"),
        (
            format!(
                "{ADDRESS}\nfilter_chains: [ {{ filters: [ {{ name: x, typed_config: {{ \"@type\": type.googleapis.com/google.protobuf.Empty }} }} ] }} ]"
            ),
            "filter_chains[0].filters[0].typed_config",
        ),
    ] {
        assert_eq!(build(&yaml).map(|_| ()).unwrap_err(), path, "{yaml}");
    }
}

/// The last filter of a chain, and only that, is terminal.
#[test]
fn chains_end_in_one_terminal_filter() {
    let echo =
        "{ name: e, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo } }";
    let chains = |filters: &str| build(&format!("{ADDRESS}\nfilter_chains: [ {{ filters: [ {filters} ] }} ]"));
    assert_eq!(chains(&format!("{echo}, {echo}")).map(|_| ()).unwrap_err(), "filter_chains[0].filters[0]");
    assert!(chains(echo).is_ok());
    assert!(chains("").is_ok(), "a chain without filters closes what it gets");
}

#[test]
fn equal_chains_are_refused() {
    let two = "filter_chains: [ { name: a, filter_chain_match: { server_names: [ x ] } }, { name: b, filter_chain_match: { server_names: [ X ] } } ]";
    assert_eq!(build(&format!("{ADDRESS}\n{two}")).map(|_| ()).unwrap_err(), "filter_chains[1].filter_chain_match");
}
