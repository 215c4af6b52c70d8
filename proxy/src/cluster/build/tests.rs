use std::sync::Arc;
use std::time::Duration;

use xds_protos::envoy::config::bootstrap::v3 as bootstrap;
use xds_protos::envoy::config::cluster::v3 as pb;

use super::{Built, build};
use crate::cluster::dns::{Backoff, LookupFamily};
use crate::cluster::{Cluster, LbContext, Priority, Thresholds, UpstreamProtocol, WantedProtocol};
use crate::config::testing::from_yaml;
use crate::config::{BuildCx, Path};
use crate::endpoint::Host;
use crate::http::Protocol;
use crate::http::http1::{HeaderKeyFormat, OwnHeaders};
use crate::server::ServerOptions;
use crate::stats::names::ClusterStats;

fn try_build(yaml: &str) -> Result<Built, String> {
    let proto: pb::Cluster = from_yaml(yaml);
    let cx = BuildCx::new(ServerOptions { concurrency: 1, ..ServerOptions::default() });
    build(&proto, None, &bootstrap::ClusterManager::default(), &Path::root("c"), &cx).map_err(|r| r.to_string())
}

fn cluster(yaml: &str) -> Arc<Cluster> {
    try_build(yaml).unwrap_or_else(|reject| panic!("{reject}")).cluster
}

fn hosts(cluster: &Cluster) -> Vec<Arc<Host>> {
    let mut hosts = Vec::new();
    cluster.for_each_host(|host| hosts.push(host.clone()));
    hosts
}

const ENDPOINT: &str = "endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}";

/// A static cluster with one endpoint and these fields beside it.
fn with(fields: &str) -> String {
    format!(
        "{{name: c, load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: [{{{ENDPOINT}}}]}}]}}, {fields}}}"
    )
}

/// A static cluster with these locality groups.
fn assignment(endpoints: &str) -> String {
    format!("{{name: c, load_assignment: {{cluster_name: c, endpoints: [{endpoints}]}}}}")
}

#[test]
fn a_cluster_that_says_little_has_envoys_defaults() {
    let cluster = cluster(&with(""));
    assert_eq!((&*cluster.name, &*cluster.observability_name), ("c", "c"));
    assert_eq!(cluster.stats.prefix(), "cluster.c.");
    assert_eq!(cluster.connect_timeout, Duration::from_secs(5));
    assert_eq!(cluster.per_connection_buffer_limit_bytes, 1 << 20);
    assert_eq!(cluster.http.protocol, UpstreamProtocol::Http1);
    assert_eq!(cluster.http.idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(*cluster.thresholds(Priority::Default), Thresholds::default());
    assert_eq!(*cluster.thresholds(Priority::High), Thresholds::default());
    assert_eq!(cluster.choose_host(&LbContext::default()).unwrap().address.to_string(), "127.0.0.1:1");
    assert!(cluster.metadata.is_none());
}

#[test]
fn stats_go_by_the_alternative_name() {
    let cluster = cluster(&with("alt_stat_name: 'outbound|80||x;'"));
    assert_eq!(&*cluster.observability_name, "outbound|80||x;");
    assert_eq!(cluster.stats.prefix(), "cluster.outbound|80||x;.");
}

#[test]
fn endpoints_become_hosts_with_all_they_say() {
    let cluster = cluster(&assignment(
        r#"
        {locality: {region: r, zone: z, sub_zone: s}, lb_endpoints: [
          {health_status: DRAINING, load_balancing_weight: 7, metadata: {filter_metadata: {envoy.lb: {canary: true}}},
           endpoint: {hostname: h, address: {socket_address: {address: "::1", port_value: 8}},
             additional_addresses: [{address: {socket_address: {address: 127.0.0.1, port_value: 9}}}]}},
          {endpoint: {address: {pipe: {path: /tmp/x}}}},
          {endpoint: {address: {pipe: {path: /tmp/x}}}}]},
        {priority: 2, lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 1}}}}]}
        "#,
    ));
    let all = hosts(&cluster);
    let names: Vec<String> = all.iter().map(|host| host.address.to_string()).collect();
    assert_eq!(names, ["[::1]:8", "/tmp/x", "/tmp/x", "10.0.0.1:1"], "two endpoints at one address are two hosts");
    let first = &all[0];
    assert_eq!((&*first.hostname, first.weight(), first.canary, first.priority), ("h", 7, true, 0));
    assert_eq!(first.health_flags().to_string(), "/eds_status_draining");
    assert_eq!((&*first.locality.region, &*first.locality.zone, &*first.locality.sub_zone), ("r", "z", "s"));
    assert_eq!(first.additional_addresses[0].to_string(), "127.0.0.1:9");
    assert!(first.metadata.as_ref().unwrap().get().filter_metadata.contains_key("envoy.lb"));
    assert!(Arc::ptr_eq(&all[1].locality, &first.locality));
    assert_eq!(all[3].priority, 2);
    assert_eq!(cluster.members().unwrap().sets.len(), 3, "a priority that nobody has is empty");
    assert_eq!(cluster.stats.read_gauge(ClusterStats::MEMBERSHIP_TOTAL), 4);
    assert_eq!(cluster.stats.read_gauge(ClusterStats::MEMBERSHIP_EXCLUDED), 1);
    assert_eq!(cluster.stats.read(ClusterStats::MEMBERSHIP_CHANGE), 2, "two priorities got hosts");
    assert_eq!(cluster.stats.read(ClusterStats::DEFAULT_TOTAL_MATCH_COUNT), 4);
}

#[test]
fn transport_sockets_are_matched_by_metadata() {
    let cluster = cluster(
        r#"
        name: c
        transport_socket_matches:
        - {name: a, match: {tls: on}, transport_socket: {name: x, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}
        - {name: b, match: {zone: 1}, transport_socket: {name: x, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}}
        load_assignment:
          cluster_name: c
          endpoints:
          - metadata: {filter_metadata: {envoy.transport_socket_match: {zone: 1}}}
            lb_endpoints:
            - {metadata: {filter_metadata: {envoy.transport_socket_match: {tls: on}}}, endpoint: {address: {pipe: {path: /1}}}}
            - {metadata: {filter_metadata: {envoy.transport_socket_match: {tls: off}}}, endpoint: {address: {pipe: {path: /2}}}}
          - lb_endpoints:
            - {metadata: {filter_metadata: {other: {tls: on}}}, endpoint: {address: {pipe: {path: /3}}}}
        "#,
    );
    let matches: Vec<_> = hosts(&cluster).iter().map(|host| host.transport_socket_match).collect();
    assert_eq!(matches, [Some(0), Some(1), None]);
    assert_eq!(cluster.stats.read_named("a.total_match_count"), 1);
    assert_eq!(cluster.stats.read_named("b.total_match_count"), 1);
    assert_eq!(cluster.stats.read(ClusterStats::DEFAULT_TOTAL_MATCH_COUNT), 1);
}

#[test]
fn thresholds_are_per_priority_and_the_first_counts() {
    let cluster = cluster(&with(
        "circuit_breakers: {thresholds: [{max_connections: 0, track_remaining: true, max_connection_pools: 3}, \
         {max_connections: 9}, {priority: HIGH, max_requests: 4294967295, retry_budget: {}}]}",
    ));
    let default = cluster.thresholds(Priority::Default);
    assert_eq!((default.max_connections, default.max_requests, default.max_connection_pools), (0, 1024, Some(3)));
    let high = cluster.thresholds(Priority::High);
    assert_eq!((high.max_requests, high.max_retries), (u32::MAX, 3));
    let budget = high.retry_budget.unwrap();
    assert_eq!((budget.budget_percent, budget.min_retry_concurrency), (20.0, 3));
    assert!(cluster.breaker(Priority::Default).try_connection().is_none());
}

const OPTIONS: &str = "\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn http_options(fields: &str) -> String {
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    with(&format!("typed_extension_protocol_options: {{{key}: {{{OPTIONS}, {fields}}}}}"))
}

#[test]
fn http_protocol_options_say_which_codec() {
    let protocol = |yaml: &str| {
        let http = cluster(yaml).http.clone();
        (http.protocol_for(Some(Protocol::Http11)), http.protocol_for(Some(Protocol::Http2)))
    };
    let (h1, h2) = (WantedProtocol::Http1, WantedProtocol::Http2);
    assert_eq!(protocol(&http_options("explicit_http_config: {http_protocol_options: {}}")), (h1, h1));
    assert_eq!(protocol(&http_options("explicit_http_config: {http2_protocol_options: {}}")), (h2, h2));
    assert_eq!(protocol(&http_options("use_downstream_protocol_config: {}")), (h1, h2));
    assert_eq!(protocol(&with("http2_protocol_options: {}")), (h2, h2));
    assert_eq!(protocol(&with("protocol_selection: USE_DOWNSTREAM_PROTOCOL")), (h1, h2));
    let both = "http2_protocol_options: {}, typed_extension_protocol_options: \
        {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {explicit_http_config: {http_protocol_options: {}}, ";
    assert_eq!(protocol(&with(&format!("{both}{OPTIONS}}}}}"))), (h1, h1), "the extension replaces the fields");
}

#[test]
fn http_protocol_options_limit_connections_and_messages() {
    let http = cluster(&http_options(
        "explicit_http_config: {http_protocol_options: {enable_trailers: true, header_key_format: {stateful_formatter: \
         {name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig}}}}}, \
         common_http_protocol_options: {idle_timeout: 0s, max_connection_duration: 60s, max_requests_per_connection: 7, \
         max_headers_count: 5, max_response_headers_kb: 8, max_stream_duration: 9s}, \
         upstream_http_protocol_options: {auto_sni: true, auto_san_validation: true, override_auto_sni_header: x-host}",
    ))
    .http
    .clone();
    assert_eq!(http.idle_timeout, None, "zero switches it off");
    assert_eq!(http.max_connection_duration, Some(Duration::from_secs(60)));
    assert_eq!(http.max_stream_duration, Some(Duration::from_secs(9)));
    assert_eq!(http.max_requests_per_connection, Some(7));
    assert_eq!((http.http1.limits.max_headers, http.http1.limits.max_bytes), (5, 8192));
    assert!(http.http1.enable_trailers);
    assert_eq!(http.http1.header_key_format, HeaderKeyFormat::PreserveCase(OwnHeaders::LowerCase));
    let auto = http.auto_sni.as_ref().unwrap();
    assert!(auto.sni && auto.validate_san);
    assert_eq!(auto.header.as_ref().unwrap(), "x-host");
    let legacy = cluster(&with("max_requests_per_connection: 3, common_http_protocol_options: {idle_timeout: 2s}"));
    assert_eq!(legacy.http.max_requests_per_connection, Some(3));
    assert_eq!(legacy.http.idle_timeout, Some(Duration::from_secs(2)));
}

#[test]
fn codec_settings_take_the_clusters_limits() {
    let cluster =
        cluster(&with("per_connection_buffer_limit_bytes: 4096, common_http_protocol_options: {max_headers_count: 5}"));
    let (http1, http2) = (cluster.http1_settings(), cluster.http2_settings());
    assert_eq!((http1.buffer_limit, http1.limits.max_headers), (4096, 5));
    assert_eq!(http1.stats.unwrap().prefix(), "cluster.c.http1.");
    assert_eq!((http2.max_headers_count, http2.stats.prefix()), (5, "cluster.c.http2."));
}

#[test]
fn original_dst_is_built_with_its_options() {
    let cluster = cluster(
        "{name: od, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, cleanup_interval: 9223372035s, \
         original_dst_lb_config: {use_http_header: true, upstream_port_override: 15008}}",
    );
    let super::Hosts::OriginalDst(original_dst) = &cluster.hosts else { panic!("not ORIGINAL_DST") };
    assert_eq!(original_dst.cleanup_interval, Duration::from_secs(9_223_372_035));
    assert_eq!(original_dst.header.as_ref().unwrap(), "x-envoy-original-dst-host");
    assert_eq!(original_dst.upstream_port_override, Some(15008));
}

const DNS_ENDPOINT: &str = "load_assignment: {cluster_name: c, endpoints: [{lb_endpoints: \
    [{endpoint: {address: {socket_address: {address: store.test, port_value: 80}}}}]}]}";

#[test]
fn dns_options_are_read_from_the_cluster() {
    let built = try_build(&format!(
        "{{name: c, type: STRICT_DNS, {DNS_ENDPOINT}, dns_refresh_rate: 60s, respect_dns_ttl: true, dns_jitter: 0.1s, \
         dns_lookup_family: V4_PREFERRED, dns_failure_refresh_rate: {{base_interval: 2s}}, wait_for_warm_on_init: false, \
         typed_dns_resolver_config: {{name: x, typed_config: {{'@type': \
         type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, udp_max_queries: 100, \
         resolvers: [{{socket_address: {{address: 10.0.0.2, port_value: 53}}}}], query_tries: 2, \
         dns_resolver_options: {{use_tcp_for_dns_lookups: true, no_default_search_domain: true}}}}}}}}"
    ))
    .unwrap_or_else(|reject| panic!("{reject}"));
    assert!(!built.wait_for_warm_on_init);
    let dns = built.dns.unwrap();
    assert!(!dns.logical && dns.refresh.respect_ttl);
    assert_eq!((dns.refresh.rate, dns.refresh.jitter), (Duration::from_secs(60), Duration::from_millis(100)));
    assert_eq!(dns.refresh.failure, Some(Backoff { base: Duration::from_secs(2), max: Duration::from_secs(20) }));
    assert_eq!(dns.family, LookupFamily::V4Preferred);
    assert_eq!(dns.resolver.servers, ["10.0.0.2:53".parse().unwrap()]);
    assert!(dns.resolver.use_tcp && dns.resolver.no_default_search_domain);
    assert_eq!((dns.resolver.tries, dns.resolver.timeout), (2, Duration::from_secs(5)));
    assert_eq!(&*dns.endpoints[0].hostname, "store.test");
    assert!(built.cluster.choose_host(&LbContext::default()).is_err(), "no host before the first answer");
}

#[test]
fn dns_clusters_have_an_extension_too() {
    let dns = |fields: &str| {
        let config = "'@type': type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster";
        let yaml = format!(
            "{{name: c, {DNS_ENDPOINT}, cluster_type: {{name: envoy.clusters.dns, typed_config: {{{config}, {fields}}}}}}}"
        );
        try_build(&yaml).unwrap_or_else(|reject| panic!("{reject}")).dns.unwrap()
    };
    let strict = dns("");
    assert!(!strict.logical);
    assert_eq!((strict.refresh.rate, strict.family), (Duration::from_secs(5), LookupFamily::Auto));
    let logical = dns("all_addresses_in_single_endpoint: true, dns_min_refresh_rate: 3s, dns_lookup_family: ALL");
    assert!(logical.logical);
    assert_eq!((logical.refresh.min_rate, logical.family), (Some(Duration::from_secs(3)), LookupFamily::All));
}

fn lb_policy(name: &str, fields: &str) -> String {
    let kind = format!("'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.{name}");
    with(&format!(
        "load_balancing_policy: {{policies: [{{typed_extension_config: {{name: x, typed_config: {{{kind}, {fields}}}}}}}]}}"
    ))
}

#[test]
fn a_policy_has_two_forms() {
    use crate::lb::{LeastRequest, Policy};
    let policy = |yaml: &str| match &cluster(yaml).hosts {
        super::Hosts::Listed(members) => *members.policy(),
        super::Hosts::OriginalDst(_) => panic!("ORIGINAL_DST"),
    };
    assert_eq!(policy(&with("")), Policy::RoundRobin);
    assert_eq!(policy(&with("lb_policy: RANDOM")), Policy::Random);
    assert_eq!(policy(&with("lb_policy: LEAST_REQUEST")), Policy::LeastRequest(LeastRequest::default()));
    let least = LeastRequest { choice_count: 5, active_request_bias: 0.5, full_scan: false };
    let config = "choice_count: 5, active_request_bias: {default_value: 0.5, runtime_key: k}";
    assert_eq!(
        policy(&with(&format!("lb_policy: LEAST_REQUEST, least_request_lb_config: {{{config}}}"))),
        Policy::LeastRequest(least)
    );
    assert_eq!(policy(&lb_policy("least_request.v3.LeastRequest", config)), Policy::LeastRequest(least));
    let full = LeastRequest { full_scan: true, ..LeastRequest::default() };
    assert_eq!(
        policy(&lb_policy("least_request.v3.LeastRequest", "selection_method: FULL_SCAN")),
        Policy::LeastRequest(full)
    );
    assert_eq!(policy(&lb_policy("random.v3.Random", "")), Policy::Random);
    let negative =
        "lb_policy: LEAST_REQUEST, least_request_lb_config: {active_request_bias: {default_value: -1, runtime_key: k}}";
    assert_eq!(policy(&with(negative)), Policy::LeastRequest(LeastRequest::default()));
    let first_known = "lb_policy: RANDOM, load_balancing_policy: {policies: [{typed_extension_config: {name: x, typed_config: \
        {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.subset.v3.Subset}}}, {typed_extension_config: \
        {name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin}}}]}";
    assert_eq!(policy(&with(first_known)), Policy::RoundRobin);
}

/// A configuration, the path that is named in its refusal, and a part of the reason.
fn refusals() -> Vec<(String, String, &'static str)> {
    let typed = "c.typed_extension_protocol_options[\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"]";
    let endpoint = "c.load_assignment.endpoints[0].lb_endpoints[0]";
    let dns = |fields: &str| format!("{{name: c, type: STRICT_DNS, {DNS_ENDPOINT}, {fields}}}");
    let raw = "{name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}";
    vec![
        ("{name: ''}".into(), "c.name".into(), "expected a name"),
        (with("connect_timeout: 0s"), "c.connect_timeout".into(), "more than 0s"),
        (with("type: EDS"), "c.eds_cluster_config".into(), "expected one for a cluster of type EDS"),
        (with("eds_cluster_config: {}"), "c.eds_cluster_config".into(), "only for clusters of type EDS"),
        (with("cluster_type: {name: foo}"), "c.cluster_type".into(), "expected envoy.clusters.dns, got \"foo\""),
        (with("outlier_detection: {max_ejection_percent: 101}"), "c.outlier_detection.max_ejection_percent".into(), "up to 100"),
        (with("outlier_detection: {detect_degraded_hosts: true}"), "c.outlier_detection.detect_degraded_hosts".into(), "not supported yet"),
        (with("filters: [{name: x}]"), "c.filters".into(), "not supported yet"),
        (with("lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 9, maximum_ring_size: 8}"), "c.ring_hash_lb_config.minimum_ring_size".into(), "got 9"),
        (with("lb_policy: MAGLEV, maglev_lb_config: {table_size: 65536}"), "c.maglev_lb_config.table_size".into(), "a prime number"),
        (with("lb_policy: CLUSTER_PROVIDED"), "c.lb_policy".into(), "only for clusters of type ORIGINAL_DST"),
        (with("lb_policy: LOAD_BALANCING_POLICY_CONFIG"), "c.load_balancing_policy".into(), "expected a policy"),
        (with("load_balancing_policy: {}"), "c.load_balancing_policy.policies".into(), "expected a policy"),
        (with("lb_policy: LEAST_REQUEST, least_request_lb_config: {choice_count: 1}"), "c.least_request_lb_config.choice_count".into(), "at least 2, got 1"),
        (with("round_robin_lb_config: {slow_start_config: {slow_start_window: 1s}}"), "c.round_robin_lb_config.slow_start_config".into(), "not supported yet"),
        (
            lb_policy("round_robin.v3.RoundRobin", "locality_lb_config: {locality_weighted_lb_config: {}}"),
            "c.load_balancing_policy.policies[0].typed_extension_config.typed_config.locality_lb_config".into(),
            "not supported yet",
        ),
        (with("common_lb_config: {locality_weighted_lb_config: {}}"), "c.common_lb_config.locality_weighted_lb_config".into(), "not supported yet"),
        (with("common_lb_config: {healthy_panic_threshold: {value: 101}}"), "c.common_lb_config.healthy_panic_threshold".into(), "from 0 to 100"),
        ("{name: c, type: ORIGINAL_DST}".into(), "c.lb_policy".into(), "expected CLUSTER_PROVIDED"),
        (with("type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED"), "c.load_assignment".into(), "not for clusters of type ORIGINAL_DST"),
        (
            "{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, original_dst_lb_config: {http_header_name: x}}".into(),
            "c.original_dst_lb_config.http_header_name".into(),
            "not without use_http_header",
        ),
        (
            "{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, original_dst_lb_config: {metadata_key: {key: x}}}".into(),
            "c.original_dst_lb_config.metadata_key".into(),
            "not supported yet",
        ),
        ("{name: c, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, cleanup_interval: 0s}".into(), "c.cleanup_interval".into(), "more than 0s"),
        ("{name: c, type: LOGICAL_DNS}".into(), "c.load_assignment".into(), "exactly one endpoint, got 0"),
        (dns("dns_refresh_rate: 0.001s"), "c.dns_refresh_rate".into(), "more than 1ms"),
        (dns("dns_failure_refresh_rate: {base_interval: 10s, max_interval: 1s}"), "c.dns_failure_refresh_rate.max_interval".into(), "at least base_interval"),
        (dns("dns_failure_refresh_rate: {max_interval: 1s}"), "c.dns_failure_refresh_rate.base_interval".into(), "expected a duration"),
        (dns("dns_resolvers: [{socket_address: {address: ns.test, port_value: 53}}]"), "c.dns_resolvers[0].socket_address.address".into(), "expected an IP address"),
        (with("circuit_breakers: {per_host_thresholds: [{max_connections: 1}]}"), "c.circuit_breakers.per_host_thresholds".into(), "not supported yet"),
        (with("circuit_breakers: {thresholds: [{retry_budget: {budget_percent: {value: 101}}}]}"), "c.circuit_breakers.thresholds[0].retry_budget.budget_percent".into(), "from 0 to 100"),
        (with("transport_socket: {name: x}"), "c.transport_socket.typed_config".into(), "expected a typed_config"),
        (with(&format!("transport_socket_matches: [{{transport_socket: {raw}}}]")), "c.transport_socket_matches[0].name".into(), "expected a name"),
        (with("transport_socket_matches: [{name: a}]"), "c.transport_socket_matches[0].transport_socket".into(), "expected one"),
        (with(&format!("typed_extension_protocol_options: {{foo: {{{OPTIONS}}}}}")), "c.typed_extension_protocol_options[\"foo\"]".into(), "unsupported extension"),
        (http_options(""), typed.into(), "expected explicit_http_config"),
        (http_options("explicit_http_config: {}, http_filters: [{name: x}]"), format!("{typed}.http_filters"), "not supported yet"),
        (http_options("explicit_http_config: {http3_protocol_options: {}}"), format!("{typed}.explicit_http_config.http3_protocol_options"), "HTTP/3 is not supported"),
        (http_options("auto_config: {}"), "c.typed_extension_protocol_options".into(), "needs a transport socket with ALPN"),
        (assignment("{priority: 129}"), "c.load_assignment.endpoints[0].priority".into(), "at most 128"),
        (assignment("{lb_endpoints: [{}]}"), endpoint.into(), "expected an endpoint"),
        (assignment("{lb_endpoints: [{endpoint: {}}]}"), format!("{endpoint}.endpoint.address"), "expected an address"),
        (assignment("{lb_endpoints: [{endpoint_name: x}]}"), format!("{endpoint}.endpoint_name"), "not supported yet"),
        (assignment(&format!("{{lb_endpoints: [{{load_balancing_weight: 0, {ENDPOINT}}}]}}")), format!("{endpoint}.load_balancing_weight"), "at least 1, got 0"),
        (
            assignment("{lb_endpoints: [{endpoint: {address: {socket_address: {address: store.test, port_value: 1}}}}]}"),
            format!("{endpoint}.endpoint.address.socket_address.address"),
            "expected an IP address",
        ),
        (
            assignment("{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, named_port: http}}}}]}"),
            format!("{endpoint}.endpoint.address.socket_address.named_port"),
            "not supported",
        ),
        (
            "{name: c, load_assignment: {cluster_name: c, policy: {drop_overloads: [{category: a}]}}}".into(),
            "c.load_assignment.policy.drop_overloads".into(),
            "not supported yet",
        ),
    ]
}

#[test]
fn what_cannot_be_done_is_refused_with_its_path() {
    for (yaml, path, why) in refusals() {
        let Err(reject) = try_build(&yaml) else { panic!("not refused: {yaml}") };
        assert!(reject.starts_with(&format!("{path}: ")) && reject.contains(why), "{reject}\nexpected {path}: … {why}");
    }
}

#[test]
fn an_update_keeps_hosts_by_address() {
    let cx = BuildCx::new(ServerOptions { concurrency: 1, ..ServerOptions::default() });
    let built = |yaml: &str, old: Option<&Cluster>| {
        let proto: pb::Cluster = from_yaml(yaml);
        let manager = bootstrap::ClusterManager::default();
        build(&proto, old, &manager, &Path::root("c"), &cx).unwrap_or_else(|reject| panic!("{reject}")).cluster
    };
    let at = |port: u32, fields: &str| {
        format!("{{{fields} endpoint: {{address: {{socket_address: {{address: 10.0.0.1, port_value: {port}}}}}}}}}")
    };
    let first = built(&assignment(&format!("{{lb_endpoints: [{}, {}]}}", at(1, ""), at(2, ""))), None);
    let weight = "load_balancing_weight: 9, health_status: UNHEALTHY,";
    let yaml = assignment(&format!(
        "{{lb_endpoints: [{}, {}]}}, {{priority: 1, lb_endpoints: [{}]}}",
        at(3, ""),
        at(2, weight),
        at(1, "")
    ));
    let (old, new) = (hosts(&first), hosts(&built(&yaml, Some(&first))));
    assert_eq!(new[1], old[1], "the same object");
    assert_eq!((new[1].weight(), new[1].health_flags().to_string()), (9, "/failed_eds_health".to_owned()));
    assert_ne!(new[2], old[0], "another priority");
}
