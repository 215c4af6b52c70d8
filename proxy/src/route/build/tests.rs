//! What is refused, and where; the verdicts are Envoy 1.40's unless [`UNSUPPORTED`] says otherwise.

use crate::config::Path;
use crate::config::testing::from_yaml;
use crate::route::tests::{build_with, cx};
use crate::route::unsupported::UNSUPPORTED;
use crate::route::{Action, RetryOn, RouteTable};

const ROUTE: &str = "virtual_hosts[0].routes[0]";

/// `path: why` for a table with one virtual host and this route (YAML flow style).
fn route(yaml: &str) -> Result<std::sync::Arc<RouteTable>, String> {
    table(&format!("virtual_hosts: [{{name: v, domains: ['*'], routes: [{yaml}]}}]"))
}

fn table(yaml: &str) -> Result<std::sync::Arc<RouteTable>, String> {
    build_with(&cx(), yaml).map_err(|reject| reject.to_string())
}

#[track_caller]
fn refused(result: Result<std::sync::Arc<RouteTable>, String>, path: &str, why: &str) {
    let Err(message) = result else { panic!("accepted; expected {path}: {why}") };
    assert!(message.starts_with(&format!("{path}: ")) && message.contains(why), "{message}");
}

#[test]
fn virtual_hosts_need_a_name_and_domains_of_their_own() {
    let domains = |a: &str, b: &str| {
        table(&format!("{{name: local, virtual_hosts: [{{name: a, domains: [{a}]}}, {{name: b, domains: [{b}]}}]}}"))
    };
    let duplicate = "Only unique values for domains are permitted. Duplicate entry of domain a.test in route local";
    refused(domains("a.test", "A.test"), "virtual_hosts[1].domains[0]", duplicate);
    let wildcard = "Only a single wildcard domain is permitted in route local";
    refused(domains("'*'", "x, '*'"), "virtual_hosts[1].domains[1]", wildcard);
    assert!(domains("a.test, 'a*b', '*a*', 'a.test:80'", "''").is_ok());
    refused(table("virtual_hosts: [{name: a}]"), "virtual_hosts[0].domains", "at least one");
    refused(table("virtual_hosts: [{domains: [a]}]"), "virtual_hosts[0].name", "at least one");
    assert!(table("virtual_hosts: [{name: a, domains: [x]}, {name: a, domains: [z]}]").is_ok());
    let clusters =
        |yaml: &str| table(&format!("virtual_hosts: [{{name: a, domains: [x], virtual_clusters: [{yaml}]}}]"));
    refused(clusters("{name: x}"), "virtual_hosts[0].virtual_clusters[0].headers", "must define 'headers'");
}

#[test]
fn matches_are_checked() {
    let matching = |yaml: &str| route(&format!("{{match: {{{yaml}}}, direct_response: {{status: 200}}}}"));
    let at = |field: &str| format!("{ROUTE}.match{field}");
    refused(route("{direct_response: {status: 200}}"), &at(""), "expected a match");
    refused(matching(""), &at(""), "expected one of prefix");
    for prefix in ["/a/", "/", "/a?b", "a#b", ""] {
        refused(matching(&format!("path_separated_prefix: '{prefix}'")), &at(".path_separated_prefix"), "expected");
    }
    assert!(
        matching("path_separated_prefix: /a").is_ok() && matching("prefix: a").is_ok() && matching("path: ''").is_ok()
    );
    refused(matching("safe_regex: {regex: '('}"), &at(".safe_regex.regex"), "RE2");
    refused(matching("prefix: /, headers: [{name: ''}]"), &at(".headers[0].name"), "name of a header");
    refused(matching("prefix: /, runtime_fraction: {}"), &at(".runtime_fraction.default_value"), "expected");
    assert!(matching("prefix: /, runtime_fraction: {default_value: {numerator: 150}}").is_ok());
    refused(matching("prefix: /, query_parameters: [{name: ''}]"), &at(".query_parameters[0].name"), "1024");
    let long = format!("prefix: /, query_parameters: [{{name: {}}}]", "x".repeat(1025));
    refused(matching(&long), &at(".query_parameters[0].name"), "got 1025");
    refused(matching("prefix: /, cookies: [{name: a}]"), &at(".cookies[0].string_match"), "expected a matcher");
    let policy = |yaml: &str| matching(&format!("path_match_policy: {{name: x, typed_config: {yaml}}}"));
    let any = "'@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";
    let at = at(".path_match_policy.typed_config");
    refused(policy(&format!("{{{any}, path_template: '/a/{{b}}/**/*'}}")), &format!("{at}.path_template"), "no glob");
    refused(policy("{'@type': type.googleapis.com/google.protobuf.Struct, value: {}}"), &at, "not known");
}

#[test]
fn actions_are_checked() {
    let acting = |yaml: &str| route(&format!("{{match: {{prefix: /}}{yaml}}}"));
    let at = |field: &str| format!("{ROUTE}{field}");
    refused(acting(""), &at(""), "expected one of route");
    for status in [600, 99, 101, 70000] {
        refused(
            acting(&format!(", direct_response: {{status: {status}}}")),
            &at(".direct_response.status"),
            "200 to 599",
        );
    }
    let body = |n| format!(", direct_response: {{status: 200, body: {{inline_string: {}}}}}", "x".repeat(n));
    assert!(acting(&body(4096)).is_ok());
    let why = "response body size is 4097 bytes; maximum is 4096";
    refused(acting(&body(4097)), &at(".direct_response.body"), why);
    refused(acting(", redirect: {host_redirect: \"a\\r\\nb\"}"), &at(".redirect.host_redirect"), "no line break");
    refused(
        acting(", redirect: {regex_rewrite: {pattern: {regex: a}, substitution: '\\2'}}"),
        &at(".redirect.regex_rewrite.substitution"),
        "expected",
    );
    assert!(acting(", redirect: {}").is_ok() && acting(", non_forwarding_action: {}").is_ok());

    let routing = |yaml: &str| acting(&format!(", route: {{{yaml}}}"));
    let at = |field: &str| format!("{ROUTE}.route{field}");
    refused(routing(""), &at(""), "expected one of cluster");
    refused(routing("cluster: ''"), &at(".cluster"), "name of a cluster");
    refused(routing("cluster_header: ''"), &at(".cluster_header"), "header");
    let two = "cluster: c, prefix_rewrite: /x, regex_rewrite: {pattern: {regex: a}, substitution: b}";
    refused(routing(two), &at(""), "only one of");
    refused(routing("cluster: c, timeout: -1s"), &at(".timeout"), "zero or more");
    refused(routing("cluster: c, host_rewrite_literal: \"a\\nb\""), &at(".host_rewrite_literal"), "expected a host");
    let upgrades = |yaml: &str| routing(&format!("cluster: c, upgrade_configs: [{yaml}]"));
    let duplicate = upgrades("{upgrade_type: websocket}, {upgrade_type: WebSocket}");
    refused(duplicate, &at(".upgrade_configs[1].upgrade_type"), "Duplicate upgrade WebSocket");
    let connect = upgrades("{upgrade_type: websocket, connect_config: {}}");
    refused(connect, &at(".upgrade_configs[0].connect_config"), "Non-CONNECT upgrade type websocket has ConnectConfig");
    let policy = "name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig, path_template_rewrite: '/{c}'}";
    let rewrite = routing(&format!("cluster: c, path_rewrite_policy: {{{policy}}}"));
    let at = at(".path_rewrite_policy.typed_config.path_template_rewrite");
    refused(rewrite, &at, "path_match_policy");
}

#[test]
fn weights_must_add_up_to_something() {
    let clusters = |yaml: &str| {
        route(&format!(
            "{{match: {{prefix: /}}, route: {{weighted_clusters: {{clusters: [{yaml}], total_weight: 7}}}}}}"
        ))
    };
    let at = |field: &str| format!("{ROUTE}.route.weighted_clusters.clusters{field}");
    assert!(clusters("{name: c, weight: 3}").is_ok(), "total_weight does not count");
    refused(clusters("{name: c, weight: 0}"), &at(""), "greater than 0");
    refused(clusters("{name: c}"), &at("[0].weight"), "expected a weight");
    refused(clusters(""), &at(""), "at least one");
    refused(clusters("{name: c, cluster_header: x, weight: 3}"), &at("[0]"), "Only one of");
    refused(clusters("{weight: 3}"), &at("[0]"), "At least one of");
    refused(clusters("{name: c, weight: 4294967295}, {name: d, weight: 1}"), &at(""), "4294967295");
}

#[test]
fn runtime_keys_change_weights() {
    let mut cx = cx();
    let layers = vec![crate::runtime::Layer { name: "a".into(), source: crate::runtime::Source::Admin }];
    cx.runtime = std::sync::Arc::new(crate::runtime::Runtime::load(layers, "", None));
    let yaml = "virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {prefix: /}, route: {weighted_clusters: \
        {runtime_key_prefix: w, clusters: [{name: a, weight: 3}, {name: b, weight: 2}]}}}]}]";
    let table = build_with(&cx, yaml).unwrap();
    let Action::Route(action) = &table.virtual_hosts[0].routes[0].action else { panic!() };
    let super::super::ClusterSpecifier::Weighted(weighted) = &action.cluster else { panic!() };
    assert_eq!([0, 2, 3, 4].map(|value| weighted.pick(value)), [0, 0, 1, 1]);
    cx.runtime.modify(&[("w.a".to_owned(), "0".to_owned())]).unwrap();
    assert_eq!([0, 2, 3, 4].map(|value| weighted.pick(value)), [1, 1, 1, 1]);
}

#[test]
fn clusters_must_exist_where_that_is_to_be_checked() {
    let yaml = |extra: &str| {
        format!(
            "{{virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /}}, route: {{cluster: nope}}}}]}}]{extra}}}"
        )
    };
    let build = |yaml: &str, default| {
        RouteTable::build(&from_yaml(yaml), &Path::root(""), &cx(), default, &|_, _, _| Ok(None))
            .map_err(|r| r.to_string())
    };
    refused(build(&yaml(""), true), &format!("{ROUTE}.route.cluster"), "route: unknown cluster 'nope'");
    assert!(build(&yaml(""), false).is_ok());
    assert!(build(&yaml(", validate_clusters: false"), true).is_ok());
    assert!(build(&yaml(", validate_clusters: true"), false).is_err());
}

#[test]
fn overrides_are_for_filters_that_take_them() {
    let with = |any: &str| {
        route(&format!(
            "{{match: {{prefix: /}}, direct_response: {{status: 200}}, typed_per_filter_config: {{x: {{{any}}}}}}}"
        ))
    };
    let at = format!("{ROUTE}.typed_per_filter_config[\"x\"]");
    let unknown = "'@type': type.googleapis.com/google.protobuf.Struct, value: {}";
    refused(with(unknown), &at, "no HTTP filter takes");
    let wrapper = "'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig";
    refused(with(wrapper), &format!("{at}.config"), "expected the filter's configuration");
    refused(with(&format!("{wrapper}, config: {{{unknown}}}")), &format!("{at}.config"), "no HTTP filter takes");
    assert!(with(&format!("{wrapper}, is_optional: true, config: {{{unknown}}}")).is_ok());
    assert!(with(&format!("{wrapper}, disabled: true")).is_ok());
}

#[test]
fn retry_policies_are_read_in_full() {
    let with =
        |yaml: &str| route(&format!("{{match: {{prefix: /}}, route: {{cluster: c, retry_policy: {{{yaml}}}}}}}"));
    let at = |field: &str| format!("{ROUTE}.route.retry_policy{field}");
    let table = with(
        "retry_on: 'connect-failure,refused-stream,unavailable,cancelled,bogus', num_retries: 2, \
         host_selection_retry_max_attempts: 5, retriable_status_codes: [503], per_try_timeout: 1s, \
         retry_back_off: {base_interval: 0.0001s}, retry_host_predicate: [{name: envoy.retry_host_predicates.previous_hosts, \
         typed_config: {'@type': type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate}}]",
    )
    .unwrap();
    let Action::Route(action) = &table.virtual_hosts[0].routes[0].action else { panic!() };
    let policy = action.retry_policy.as_ref().unwrap();
    let on = RetryOn::CONNECT_FAILURE
        .with(RetryOn::REFUSED_STREAM)
        .with(RetryOn::GRPC_UNAVAILABLE)
        .with(RetryOn::GRPC_CANCELLED);
    assert_eq!((policy.retry_on, policy.num_retries, policy.host_selection_retry_max_attempts), (on, 2, 5));
    assert_eq!(policy.retry_host_predicates.len(), 1);
    assert_eq!(policy.back_off, Some((std::time::Duration::from_millis(1), None)));
    let back_off = "retry_back_off: {base_interval: 2s, max_interval: 1s}";
    refused(with(back_off), &at(".retry_back_off.max_interval"), "at least base_interval");
    refused(with("retry_back_off: {max_interval: 1s}"), &at(".retry_back_off.base_interval"), "expected a duration");
    refused(
        with("retry_host_predicate: [{name: bogus}]"),
        &at(".retry_host_predicate[0]"),
        "\"bogus\" with type URL \"\"",
    );
    refused(with("retry_priority: {name: bogus}"), &at(".retry_priority"), "not supported");
    refused(with("rate_limited_retry_back_off: {}"), &at(".rate_limited_retry_back_off.reset_headers"), "at least one");
    refused(with("retriable_headers: [{name: ''}]"), &at(".retriable_headers[0].name"), "name of a header");
}

#[test]
fn routes_inherit_from_their_virtual_host() {
    let table = table(
        "virtual_hosts: [{name: v, domains: ['*'], retry_policy: {retry_on: 5xx}, per_request_buffer_limit_bytes: 7, routes: [\
         {match: {prefix: /a}, route: {cluster: c}}, \
         {match: {prefix: /b}, route: {cluster: c, retry_policy: {retry_on: reset}}, request_body_buffer_limit: 9}]}]",
    )
    .unwrap();
    let of = |i: usize| {
        let entry = &table.virtual_hosts[0].routes[i];
        let Action::Route(action) = &entry.action else { panic!() };
        (action.retry_policy.as_ref().unwrap().retry_on, entry.request_body_buffer_limit)
    };
    assert_eq!(of(0), (RetryOn::HTTP_5XX, Some(7)));
    assert_eq!(of(1), (RetryOn::RESET, Some(9)));
}

#[test]
fn hash_policies_are_read_in_full() {
    let with =
        |yaml: &str| route(&format!("{{match: {{prefix: /}}, route: {{cluster: c, hash_policy: [{{{yaml}}}]}}}}"));
    let at = |field: &str| format!("{ROUTE}.route.hash_policy[0]{field}");
    for good in [
        "header: {header_name: x-a}, terminal: true",
        "cookie: {name: a, ttl: 0s, path: /p, attributes: [{name: SameSite, value: Strict}]}",
        "connection_properties: {}",
        "query_parameter: {name: q}",
    ] {
        assert!(with(good).is_ok(), "{good}");
    }
    refused(with(""), &at(""), "expected one of header");
    refused(with("header: {}"), &at(".header.header_name"), "header");
    refused(with("cookie: {}"), &at(".cookie.name"), "at least one");
    refused(with("query_parameter: {}"), &at(".query_parameter.name"), "at least one");
    refused(with("filter_state: {key: k}"), &at(".filter_state"), "not supported yet");
}

/// One configuration for each line of the table, so that none is passed over.
#[test]
fn what_is_not_supported_is_refused_by_name() {
    let plain = "{match: {prefix: /}, direct_response: {status: 200}}";
    let acting = |yaml: &str| {
        format!("{{virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /}}, {yaml}}}]}}]}}")
    };
    let routing = |yaml: &str| acting(&format!("route: {{cluster: c, {yaml}}}"));
    let matching = |yaml: &str| {
        format!(
            "{{virtual_hosts: [{{name: v, domains: ['*'], routes: [{{match: {{prefix: /, {yaml}}}, direct_response: {{status: 200}}}}]}}]}}"
        )
    };
    let hosting = |yaml: &str| format!("{{virtual_hosts: [{{name: v, domains: ['*'], routes: [{plain}], {yaml}}}]}}");
    let any = "{name: x, typed_config: {'@type': type.googleapis.com/google.protobuf.Struct, value: {}}}";
    let typed = "{'@type': type.googleapis.com/google.protobuf.Struct, value: {}}";
    let metadata = "{filter: f, path: [{key: k}], value: {present_match: true}}";
    let cases = [
        ("cluster_specifier_plugin", acting("route: {cluster_specifier_plugin: x}")),
        ("cluster_specifier_plugins", format!("{{cluster_specifier_plugins: [{{extension: {any}}}]}}")),
        ("cors", routing("cors: {}")),
        ("cors", hosting("cors: {}")),
        ("dynamic_metadata", matching(&format!("dynamic_metadata: [{metadata}]"))),
        ("early_data_policy", routing(&format!("early_data_policy: {any}"))),
        ("filter_action", acting("filter_action: {}")),
        ("filter_state", matching("filter_state: [{key: k, string_match: {exact: a}}]")),
        ("hedge_policy", routing("hedge_policy: {}")),
        ("hedge_policy", hosting("hedge_policy: {}")),
        ("include_is_timeout_retry_header", hosting("include_is_timeout_retry_header: true")),
        ("include_vh_rate_limits", routing("include_vh_rate_limits: true")),
        (
            "inline_cluster_specifier_plugin",
            acting(&format!("route: {{inline_cluster_specifier_plugin: {{extension: {any}}}}}")),
        ),
        ("internal_redirect_action", routing("internal_redirect_action: HANDLE_INTERNAL_REDIRECT")),
        ("internal_redirect_policy", routing("internal_redirect_policy: {}")),
        ("matcher", hosting("matcher: {}")),
        ("max_internal_redirects", routing("max_internal_redirects: 3")),
        ("metadata_match", routing("metadata_match: {}")),
        (
            "metadata_match",
            acting("route: {weighted_clusters: {clusters: [{name: c, weight: 1, metadata_match: {}}]}}"),
        ),
        (
            "proxy_protocol_config",
            routing("upgrade_configs: [{upgrade_type: CONNECT, connect_config: {proxy_protocol_config: {}}}]"),
        ),
        ("rate_limits", routing("rate_limits: [{actions: [{remote_address: {}}]}]")),
        ("rate_limits", hosting("rate_limits: [{actions: [{remote_address: {}}]}]")),
        ("refresh_cluster_on_retry", routing("retry_policy: {refresh_cluster_on_retry: true}")),
        ("request_mirror_policies", "{request_mirror_policies: [{cluster: c}]}".into()),
        ("request_mirror_policies", hosting("request_mirror_policies: [{cluster: c}]")),
        ("request_mirror_policies", routing("request_mirror_policies: [{cluster: c}]")),
        ("retry_options_predicates", routing(&format!("retry_policy: {{retry_options_predicates: [{any}]}}"))),
        ("retry_policy_typed_config", routing(&format!("retry_policy_typed_config: {typed}"))),
        ("retry_policy_typed_config", hosting(&format!("retry_policy_typed_config: {typed}"))),
        ("route_specifiers", format!("{{route_specifiers: [{any}]}}")),
        ("tracing", acting("direct_response: {status: 200}, tracing: {}")),
        (
            "use_hash_policy",
            acting("route: {weighted_clusters: {clusters: [{name: c, weight: 1}], use_hash_policy: true}}"),
        ),
        ("vhds", "{vhds: {config_source: {ads: {}}}}".into()),
    ];
    for (field, yaml) in &cases {
        let message = table(yaml).err().unwrap_or_else(|| panic!("{field} accepted: {yaml}"));
        assert!(message.contains(&format!("{field}: not supported yet")), "{message}");
    }
    for (field, _) in UNSUPPORTED {
        assert!(cases.iter().any(|(case, _)| case == field), "no case for {field}");
    }
}
