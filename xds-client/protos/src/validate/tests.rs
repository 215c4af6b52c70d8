use super::*;
use crate::encode::{Options, to_wire};
use crate::envoy::config::core::v3::Address;
use crate::text::{Format, parse};
use prost::Message as _;

fn wire(message: &str, text: &str) -> Vec<u8> {
    match to_wire(parse(text, Format::Auto).unwrap().root(), message, &Options::default()) {
        Ok((wire, _)) => wire,
        Err(problems) => panic!("{}", problems[0]),
    }
}

/// All problems, one a line; "OK" if there are none.
fn verdict(message: &str, text: &str) -> String {
    match validate(message, &wire(message, text)) {
        Ok(()) => "OK".into(),
        Err(problems) => problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"),
    }
}

fn cluster(text: &str) -> String {
    verdict("envoy.config.cluster.v3.Cluster", &format!("name: a\n{text}"))
}

/// Each of these was given to Envoy 1.40, which refuses and accepts the same ones.
#[test]
fn clusters_are_judged_as_by_envoy() {
    for (text, expected) in [
        ("type: STATIC", "OK"),
        ("connect_timeout: 0s", "connect_timeout: expected more than 0s, got 0s"),
        ("connect_timeout: 0.1s", "OK"),
        ("lb_policy: 99", "lb_policy: expected a value of envoy.config.cluster.v3.Cluster.LbPolicy, got 99"),
        ("type: 77", "type: expected a value of envoy.config.cluster.v3.Cluster.DiscoveryType, got 77"),
        ("circuit_breakers: {thresholds: [{max_connections: 0}]}", "OK"),
        (
            "circuit_breakers: {thresholds: [{}, {priority: 5}]}",
            "circuit_breakers.thresholds[1].priority: expected a value of envoy.config.core.v3.RoutingPriority, got 5",
        ),
        (
            "ring_hash_lb_config: {minimum_ring_size: 9000000}",
            "ring_hash_lb_config.minimum_ring_size: expected at most 8388608, got 9000000",
        ),
        (
            "common_lb_config: {healthy_panic_threshold: {value: 101}}",
            "common_lb_config.healthy_panic_threshold.value: expected at most 100, got 101",
        ),
        ("outlier_detection: {interval: 0s}", "outlier_detection.interval: expected more than 0s, got 0s"),
        (
            "health_checks: [{interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1}]",
            "health_checks[0].timeout: expected a value, got none\n\
             health_checks[0]: expected one of http_health_check, tcp_health_check, grpc_health_check, custom_health_check, got none of them",
        ),
        (
            "health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: {path: \"/a\\nb\"}}]",
            "health_checks[0].http_health_check.path: expected text without control characters, got \"/a b\"",
        ),
        ("load_assignment: {endpoints: []}", "load_assignment.cluster_name: expected at least 1 character, got \"\""),
        (
            "load_assignment: {cluster_name: a, endpoints: [{load_balancing_weight: 0, priority: 129}]}",
            "load_assignment.endpoints[0].load_balancing_weight: expected at least 1, got 0\n\
             load_assignment.endpoints[0].priority: expected at most 128, got 129",
        ),
        ("dns_refresh_rate: 0.0005s", "dns_refresh_rate: expected more than 0.001s, got 0.000500s"),
        ("upstream_http_protocol_options: {override_auto_sni_header: ''}", "OK"),
        (
            "upstream_http_protocol_options: {override_auto_sni_header: 'a b'}",
            "upstream_http_protocol_options.override_auto_sni_header: expected a header name, got \"a b\"",
        ),
        ("upstream_http_protocol_options: {override_auto_sni_header: ':authority'}", "OK"),
    ] {
        assert_eq!(cluster(text), expected, "{text}");
    }
    assert_eq!(verdict("envoy.config.cluster.v3.Cluster", "{}"), "name: expected at least 1 character, got \"\"");
}

#[test]
fn addresses() {
    let address = |text: &str| verdict("envoy.config.core.v3.Address", text);
    assert_eq!(address("{}"), "expected one of socket_address, pipe, envoy_internal_address, got none of them");
    assert_eq!(
        address("socket_address: {address: ''}"),
        "socket_address.address: expected at least 1 character, got \"\"\n\
         socket_address: expected one of port_value, named_port, got none of them"
    );
    // Port 0 is set, not absent.
    assert_eq!(address("socket_address: {address: a, port_value: 0}"), "OK");
    assert_eq!(
        address("socket_address: {address: a, port_value: 65536}"),
        "socket_address.port_value: expected at most 65535, got 65536"
    );
    assert!(Address::decode(&*wire("envoy.config.core.v3.Address", "pipe: {path: /x}")).is_ok());
}

fn route(text: &str) -> String {
    verdict("envoy.config.route.v3.Route", text)
}

#[test]
fn routes_are_judged_as_by_envoy() {
    for (text, expected) in [
        ("{match: {path_separated_prefix: /a}, direct_response: {status: 200}}", "OK"),
        (
            "{match: {path_separated_prefix: /a/}, direct_response: {status: 200}}",
            "match.path_separated_prefix: expected text that matches ^[^?#]+[^?#/]$, got \"/a/\"",
        ),
        ("{direct_response: {status: 200}}", "match: expected a value, got none"),
        ("{match: {prefix: /}, route: {cluster: ''}}", "route.cluster: expected at least 1 character, got \"\""),
        (
            "{match: {prefix: /}, direct_response: {status: 99}}",
            "direct_response.status: expected at least 200, got 99",
        ),
        (
            "{match: {prefix: /}, direct_response: {status: 600}}",
            "direct_response.status: expected less than 600, got 600",
        ),
        (
            "{match: {prefix: /}, route: {weighted_clusters: {}}}",
            "route.weighted_clusters.clusters: expected at least 1 item, got 0 items",
        ),
        ("{match: {prefix: /, headers: [{name: 'a b', present_match: true}]}, direct_response: {status: 200}}", "OK"),
        (
            "{match: {prefix: /, headers: [{name: \"a\\nb\", present_match: true}]}, direct_response: {status: 200}}",
            "match.headers[0].name: expected text without NUL, CR and LF, got \"a b\"",
        ),
        ("{match: {prefix: /, headers: [{name: a, string_match: {exact: ''}}]}, direct_response: {status: 200}}", "OK"),
        (
            "{match: {prefix: /, headers: [{name: a, string_match: {prefix: ''}}]}, direct_response: {status: 200}}",
            "match.headers[0].string_match.prefix: expected at least 1 character, got \"\"",
        ),
        (
            "{match: {prefix: /, runtime_fraction: {}}, direct_response: {status: 200}}",
            "match.runtime_fraction.default_value: expected a value, got none",
        ),
        (
            "{match: {prefix: /}, route: {cluster: a, rate_limits: [{actions: [{dynamic_metadata: {descriptor_key: a, metadata_key: {key: k, path: [{key: x}]}}}]}]}}",
            "route.rate_limits[0].actions[0].dynamic_metadata: expected a field that is still allowed, got one that is deprecated and disallowed",
        ),
    ] {
        assert_eq!(route(text), expected, "{text}");
    }
    let headers = vec!["{header: {key: a}}"; 1001].join(",");
    assert_eq!(
        route(&format!(
            "{{match: {{prefix: /}}, direct_response: {{status: 200}}, response_headers_to_add: [{headers}]}}"
        )),
        "response_headers_to_add: expected at most 1000 items, got 1001 items"
    );
}

#[test]
fn lists_with_rules_for_items() {
    let buckets = |text: &str| {
        verdict(
            "envoy.config.metrics.v3.HistogramBucketSettings",
            &format!("{{match: {{prefix: a}}, buckets: {text}}}"),
        )
    };
    assert_eq!(buckets("[1, 2.5]"), "OK");
    assert_eq!(buckets("[0, 1]"), "buckets[0]: expected more than 0, got 0");
    assert_eq!(buckets("[1, 2, 1]"), "buckets[2]: expected each value once, got 1 again");
    let flags = "envoy.config.accesslog.v3.ResponseFlagFilter";
    assert_eq!(verdict(flags, "flags: [LH, UH]"), "OK");
    assert!(verdict(flags, "flags: [LH, XX]").starts_with("flags[1]: expected one of \"LH\", \"UH\","));
}

#[test]
fn anys_are_looked_into() {
    let filter =
        |config: &str| verdict("envoy.config.listener.v3.Filter", &format!("{{name: a, typed_config: {config}}}"));
    let tcp = r#""@type": "t/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy""#;
    assert_eq!(filter(&format!("{{{tcp}, stat_prefix: s, cluster: c}}")), "OK");
    assert_eq!(
        filter(&format!("{{{tcp}, cluster: c, max_connect_attempts: 0}}")),
        "typed_config.stat_prefix: expected at least 1 character, got \"\"\n\
         typed_config.max_connect_attempts: expected at least 1, got 0"
    );
    // Special forms, TypedStructs, unknown types.
    let typed = |value: &str| {
        format!(
            "{{\"@type\": t/xds.type.v3.TypedStruct, type_url: t/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, value: {value}}}"
        )
    };
    assert_eq!(filter(&typed("{stat_prefix: s, cluster: c}")), "OK");
    assert_eq!(
        filter(&typed("{cluster: c}")),
        "typed_config.value.stat_prefix: expected at least 1 character, got \"\""
    );
    assert!(filter(&typed("{clustre: c}")).starts_with("typed_config.value.clustre: expected a field of"));
    assert_eq!(filter("{\"@type\": t/udpa.type.v1.TypedStruct, type_url: t/no.Such, value: {a: 1}}"), "OK");
    assert_eq!(
        filter("{\"@type\": t/google.protobuf.Any, value: {\"@type\": t/envoy.config.core.v3.Pipe}}"),
        "typed_config.value.path: expected at least 1 character, got \"\""
    );
    let extension = "envoy.config.core.v3.TypedExtensionConfig";
    assert_eq!(verdict(extension, "name: a"), "typed_config: expected a value, got none");
}

#[test]
fn merged_and_repeated_fields_count_as_protobuf_reads_them() {
    // Two halves of a message make one valid one.
    let name = "envoy.config.bootstrap.v3.Admin";
    let mut both = wire(name, "address: {socket_address: {address: a}}");
    assert!(validate(name, &both).is_err());
    both.extend(wire(name, "address: {socket_address: {port_value: 1}}"));
    assert_eq!(validate(name, &both), Ok(()));
    // The last scalar counts, and the last member of a oneof.
    let name = "envoy.config.core.v3.SocketAddress";
    let mut both = wire(name, "{address: a, port_value: 70000}");
    both.extend(wire(name, "{port_value: 1}"));
    assert_eq!(validate(name, &both), Ok(()));
}

#[test]
fn malformed_bytes_are_a_problem() {
    let problem = |message: &str, bytes: &[u8]| validate(message, bytes).unwrap_err()[0].to_string();
    assert_eq!(
        problem("envoy.config.cluster.v3.Cluster", &[0x0a, 9]),
        "expected a well-formed envoy.config.cluster.v3.Cluster, got other bytes"
    );
    assert_eq!(problem("no.Such", &[]), "expected a message of the API, got \"no.Such\"");
    let any = prost_types::Any { type_url: "t/envoy.config.core.v3.Pipe".into(), value: vec![0x0a, 9] };
    assert_eq!(
        problem("google.protobuf.Any", &any.encode_to_vec()),
        "expected a well-formed envoy.config.core.v3.Pipe, got other bytes"
    );
}

#[test]
fn a_problem_finds_its_line() {
    let text = "static_resources:\n  clusters:\n  - name: a\n    circuitBreakers:\n      thresholds:\n      - {}\n      - priority: 5\n";
    let tree = parse(text, Format::Yaml).unwrap();
    let name = "envoy.config.bootstrap.v3.Bootstrap";
    let (wire, _) = to_wire(tree.root(), name, &Options::default()).unwrap();
    let problem = validate(name, &wire).unwrap_err().remove(0).in_tree(&tree);
    assert_eq!(
        problem.in_file("e.yaml").to_string(),
        "e.yaml:7:19: static_resources.clusters[0].circuit_breakers.thresholds[1].priority: expected a value of \
         envoy.config.core.v3.RoutingPriority, got 5\n          - priority: 5\n                      ^"
    );
}

#[test]
fn the_number_of_problems_is_bounded() {
    let clusters = vec!["{}"; 1000].join(",");
    let text = format!("static_resources: {{clusters: [{clusters}]}}");
    let name = "envoy.config.bootstrap.v3.Bootstrap";
    assert_eq!(validate(name, &wire(name, &text)).unwrap_err().len(), MAX_PROBLEMS);
}

#[test]
fn every_message_can_be_judged_when_empty() {
    let mut refused = 0;
    for message in Message::all() {
        refused += usize::from(validate(message.full_name(), &[]).is_err());
    }
    assert!(refused > 100, "{refused} messages have something required");
}
