use tests::config::{TO_UP, access_log, before_router, bootstrap, chain, cluster, hcm_with, listener_with, tcp_proxy};

use crate::group::EndCheck::{Skip, Wait};
use crate::group::{Case, Group, Kind, Piece, get, plain, raw, request, send, steps};

const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";

/// An `rbac` filter of a name with these fields.
fn filter(name: &str, fields: &str) -> String {
    format!("- name: {name}\n  typed_config: {{ \"@type\": {RBAC}, {fields} }}\n")
}

/// One policy that allows `permission` to `principal`.
fn policy(name: &str, permission: &str, principal: &str) -> String {
    format!("{name}: {{ permissions: [ {permission} ], principals: [ {principal} ] }}")
}

const ANY: &str = "{ any: true }";

/// Every kind of permission and principal: a DENY policy each, which is told in the details of the 403.
fn denials() -> String {
    let permission = |name: &str, rule: &str| policy(name, &format!("{{ and_rules: {{ rules: [ {rule} ] }} }}"), ANY);
    let path = |path: &str| format!("{{ header: {{ name: ':path', string_match: {{ prefix: {path} }} }} }}");
    let principal = |name: &str, id: &str| {
        policy(name, &format!("{{ header: {{ name: ':path', string_match: {{ prefix: /as/{name} }} }} }}"), id)
    };
    let policies = [
        permission("header", "{ header: { name: x-bad, string_match: { exact: \"yes\" } } }"),
        permission(
            "a-host",
            "{ header: { name: ':authority', string_match: { exact: Evil.test, ignore_case: true } } }",
        ),
        permission("a-method", "{ header: { name: ':method', string_match: { exact: DELETE } } }"),
        permission("url-exact", "{ url_path: { path: { exact: /exact } } }"),
        permission("url-regex", "{ url_path: { path: { safe_regex: { regex: '/re/[0-9]+' } } } }"),
        permission("url-suffix", "{ url_path: { path: { suffix: .secret } } }"),
        permission(
            "template",
            "{ uri_template: { name: envoy.path.match.uri_template.uri_template_matcher, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: '/t/*/end' } } }",
        ),
        permission(
            "dest-ip",
            &format!("{}, {{ destination_ip: {{ address_prefix: 127.0.0.0, prefix_len: 8 }} }}", path("/dest-ip")),
        ),
        permission(
            "dest-not-ip",
            &format!("{}, {{ destination_ip: {{ address_prefix: 10.0.0.0, prefix_len: 8 }} }}", path("/dest-not-ip")),
        ),
        permission(
            "dest-range",
            &format!("{}, {{ destination_port_range: {{ start: 1024, end: 65536 }} }}", path("/dest-range")),
        ),
        permission("no-sni", &format!("{}, {{ requested_server_name: {{ exact: \"\" }} }}", path("/no-sni"))),
        permission(
            "route-metadata",
            "{ sourced_metadata: { metadata_source: ROUTE, metadata_matcher: { filter: f, path: [ { key: a }, { key: b } ], value: { string_match: { exact: c } } } } }",
        ),
        permission(
            "route-present",
            "{ sourced_metadata: { metadata_source: ROUTE, metadata_matcher: { filter: f, path: [ { key: present } ], value: { present_match: true } } } }",
        ),
        permission(
            "route-list",
            "{ sourced_metadata: { metadata_source: ROUTE, metadata_matcher: { filter: f, path: [ { key: list } ], value: { list_match: { one_of: { double_match: { range: { start: 1, end: 3 } } } } } } } }",
        ),
        permission(
            "not-metadata",
            &format!(
                "{}, {{ metadata: {{ filter: f, path: [ {{ key: a }} ], value: {{ present_match: true }}, invert: true }} }}",
                path("/not-metadata")
            ),
        ),
        permission(
            "never-present",
            &format!(
                "{}, {{ metadata: {{ filter: f, path: [ {{ key: a }} ], value: {{ present_match: false }} }} }}",
                path("/never-present")
            ),
        ),
        permission(
            "shadow-said",
            &format!(
                "{}, {{ metadata: {{ filter: envoy.filters.http.rbac, path: [ {{ key: dry_shadow_engine_result }} ], value: {{ string_match: {{ exact: denied }} }} }} }}",
                path("/shadow/")
            ),
        ),
        principal("direct", "{ direct_remote_ip: { address_prefix: 127.0.0.1, prefix_len: 32 } }"),
        principal("source", "{ source_ip: { address_prefix: 127.0.0.1, prefix_len: 32 } }"),
        principal("remote", "{ remote_ip: { address_prefix: 203.0.113.0, prefix_len: 24 } }"),
        principal("tls", "{ authenticated: {} }"),
        principal("not-tls", "{ not_id: { authenticated: {} } }"),
        principal(
            "both",
            "{ and_ids: { ids: [ { header: { name: x-a, present_match: true } }, { header: { name: x-b, present_match: true } } ] } }",
        ),
        principal(
            "either",
            "{ or_ids: { ids: [ { header: { name: x-a, present_match: true } }, { url_path: { path: { suffix: /me } } } ] } }",
        ),
        "'white space': { permissions: [ { url_path: { path: { exact: /white } } } ], principals: [ { any: true } ] }"
            .to_owned(),
    ];
    format!("{{ action: DENY, policies: {{ {} }} }}", policies.join(", "))
}

fn filters() -> String {
    let dry = policy("'dry.run'", "{ url_path: { path: { prefix: /shadow/no } } }", ANY);
    [
        filter(
            "logs",
            &format!(
                "rules: {{ action: LOG, policies: {{ {} }} }}",
                policy("audit", "{ url_path: { path: { prefix: /audit } } }", ANY)
            ),
        ),
        filter(
            "dry",
            &format!(
                "shadow_rules_stat_prefix: dry_, track_per_rule_stats: true, shadow_rules: {{ action: DENY, policies: {{ {dry} }} }}"
            ),
        ),
        filter("envoy.filters.http.rbac", &format!("rules_stat_prefix: deny_, track_per_rule_stats: true, rules: {}", denials())),
        filter(
            "allow",
            &format!(
                "rules_stat_prefix: allow., rules: {{ action: ALLOW, policies: {{ {} }} }}",
                policy("all-but", "{ not_rule: { url_path: { path: { prefix: /unlisted } } } }", ANY)
            ),
        ),
        filter("never", "rules: { action: ALLOW }").replace("  typed_config", "  disabled: true\n  typed_config"),
    ]
    .concat()
}

fn routes() -> String {
    let per_route = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute";
    let config = "type.googleapis.com/envoy.config.route.v3.FilterConfig";
    format!(
        "
- match: {{ prefix: /unlisted/but-off }}
  route: {{ cluster: up }}
  typed_per_filter_config: {{ allow: {{ \"@type\": {per_route} }} }}
- match: {{ prefix: /unlisted/disabled }}
  route: {{ cluster: up }}
  typed_per_filter_config: {{ allow: {{ \"@type\": {config}, disabled: true }} }}
- match: {{ prefix: /enabled }}
  route: {{ cluster: up }}
  typed_per_filter_config: {{ never: {{ \"@type\": {config}, config: {{}} }} }}
- match: {{ prefix: /own }}
  route: {{ cluster: up }}
  typed_per_filter_config: {{ allow: {{ \"@type\": {per_route}, rbac: {{ rules_stat_prefix: other_, track_per_rule_stats: true, rules: {{ action: ALLOW, policies: {{ own: {{ permissions: [ {{ url_path: {{ path: {{ exact: /own/yes }} }} }} ], principals: [ {{ any: true }} ] }} }} }}, shadow_rules_stat_prefix: own_, shadow_rules: {{ action: ALLOW }} }} }} }}
- match: {{ prefix: /meta/1 }}
  route: {{ cluster: up }}
  metadata: {{ filter_metadata: {{ f: {{ a: {{ b: c }} }} }} }}
- match: {{ prefix: /meta/2 }}
  route: {{ cluster: up }}
  metadata: {{ filter_metadata: {{ f: {{ present: false }} }} }}
- match: {{ prefix: /meta/3 }}
  route: {{ cluster: up }}
  metadata: {{ filter_metadata: {{ f: {{ list: [ 5, 2 ] }} }} }}
- match: {{ prefix: /meta/4 }}
  route: {{ cluster: up }}
  metadata: {{ filter_metadata: {{ f: {{ list: [ 5, 3 ], a: {{ b: d }} }} }} }}
- match: {{ prefix: /direct }}
  direct_response: {{ status: 200 }}
{TO_UP}"
    )
}

fn cases() -> Vec<Case> {
    let refused = |id: &str, target: &str, headers: &[&str]| get(id, target, headers).status(403);
    let passes = |id: &str, target: &str, headers: &[&str]| get(id, target, headers).status(200);
    vec![
        passes("nothing matches", "/", &[]),
        refused("header", "/", &["x-bad: yes"]),
        passes("another value", "/", &["x-bad: no"]),
        refused("header of two", "/", &["x-bad: no", "x-bad: yes"]),
        refused("host", "/", &["Host: eVIL.test"]),
        raw("method", request("DELETE", "/", &[], "")).status(403),
        refused("path with a query", "/exact?x=1", &[]),
        passes("path that is longer", "/exact/x", &[]),
        refused("path by regex", "/re/123?x", &[]),
        passes("path by regex, whole", "/re/123x", &[]),
        refused("path by suffix", "/a.secret?b", &[]),
        refused("template", "/t/x/end", &[]),
        refused("template with a query", "/t/x/end?y=1", &[]),
        passes("template, another", "/t/x/y/end", &[]),
        refused("destination", "/dest-ip", &[]),
        passes("another destination", "/dest-not-ip", &[]),
        refused("destination ports", "/dest-range", &[]),
        refused("no server name", "/no-sni", &[]),
        refused("metadata of the route", "/meta/1", &[]),
        refused("metadata that is there", "/meta/2", &[]),
        refused("metadata in a list", "/meta/3", &[]),
        passes("other metadata", "/meta/4", &[]),
        refused("metadata that is not there", "/not-metadata", &[]),
        passes("metadata that must not be there", "/never-present", &[]),
        refused("what shadow rules said", "/shadow/no", &[]),
        passes("what shadow rules allowed", "/shadow/yes", &[]),
        refused("direct peer", "/as/direct", &["x-forwarded-for: 203.0.113.9"]),
        get("peer", "/as/source", &["x-forwarded-for: 203.0.113.9"]),
        refused("remote", "/as/remote", &["x-forwarded-for: 203.0.113.9"]),
        passes("remote elsewhere", "/as/remote", &[]),
        passes("no TLS", "/as/tls", &[]),
        refused("not TLS", "/as/not-tls", &[]),
        passes("both", "/as/both", &["x-a: 1"]),
        refused("both there", "/as/both", &["x-a: 1", "x-b: 1"]),
        refused("either", "/as/either", &["x-a: 1"]),
        refused("either path", "/as/either/me", &[]),
        refused("a name with a space", "/white", &[]),
        passes("audited", "/audit", &[]),
        refused("not listed", "/unlisted", &[]),
        passes("not listed but off", "/unlisted/but-off", &[]),
        passes("not listed but disabled", "/unlisted/disabled", &[]),
        refused("enabled", "/enabled", &[]),
        passes("own rules", "/own/yes", &[]),
        refused("own rules deny", "/own/no", &[]),
        refused("direct response", "/direct", &["x-bad: yes"]),
        raw("with a body", request("POST", "/exact", &[], "hello")).status(403),
        get("grpc", "/exact", &["content-type: application/grpc"]).status(200),
        steps("connection allowed", vec![send("hello"), Piece::Read(5), Piece::Finish, Piece::ReadToEnd])
            .on("open")
            .end(Skip),
        steps("connection denied", vec![send("hello"), Piece::ReadToEnd]).on("closed").end(Wait),
        steps("connection in the shadow", vec![send("hello"), Piece::Read(5), Piece::Finish, Piece::ReadToEnd])
            .on("shadow")
            .end(Skip),
    ]
}

pub fn group() -> Group {
    let log = access_log(
        "access.log",
        "log_format: { text_format_source: { inline_string: \"%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %DYNAMIC_METADATA(envoy.filters.http.rbac:dry_shadow_engine_result)% %DYNAMIC_METADATA(envoy.filters.http.rbac:dry_shadow_effective_policy_id)% %DYNAMIC_METADATA(envoy.filters.http.rbac)% %DYNAMIC_METADATA(envoy.common)%\\n\" } }",
    );
    let hosts = format!("- name: all\n  domains: [ \"*\" ]\n  routes:\n{}", tests::config::indent(&routes(), 2));
    let http = before_router(&filters(), &hcm_with(&hosts, "", &log));
    let network = |fields: &str| {
        format!(
            "- name: rbac\n  typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, {fields} }}\n{}",
            tcp_proxy("cluster: echo")
        )
    };
    let deny = format!(
        "{{ action: DENY, policies: {{ {} }} }}",
        policy("'some one'", ANY, "{ direct_remote_ip: { address_prefix: 127.0.0.1, prefix_len: 32 } }")
    );
    let listeners = [
        listener_with("main", &chain(&http, ""), ""),
        listener_with("open", &chain(&network("stat_prefix: open., rules: { action: DENY }"), ""), ""),
        listener_with("closed", &chain(&network(&format!("stat_prefix: closed, rules: {deny}")), ""), ""),
        listener_with(
            "shadow",
            &chain(&network(&format!("stat_prefix: shadow., shadow_rules_stat_prefix: s_, shadow_rules: {deny}")), ""),
            "",
        ),
    ]
    .concat();
    Group {
        name: "rbac",
        config: bootstrap(&listeners, &[cluster("up", "{up:up}", ""), cluster("echo", "{up:echo}", "")].concat()),
        upstreams: vec![("up", Kind::Http1(plain)), ("echo", Kind::TcpEcho)],
        cases: cases(),
        fields: &[],
        stats: &["rbac", "^http\\.ingress\\.downstream_rq_([1-5]xx|total|completed)$"],
        logs: &["access.log"],
    }
}
