use tests::config::{bootstrap, cluster};

use super::{STATS, http_listener};
use crate::group::{Group, Kind, get, plain};

const TYPE: &str = "\"@type\": type.googleapis.com/envoy.extensions.http";

pub fn group() -> Group {
    let detect = |kind: &str, fields: &str| {
        format!("{{ name: x, typed_config: {{ {TYPE}.original_ip_detection.{kind}, {fields} }} }}")
    };
    let custom =
        |fields: &str| detect("custom_header.v3.CustomHeaderConfig", &format!("header_name: x-client, {fields}"));
    let xff = |fields: &str| detect("xff.v3.XffConfig", fields);
    let internal = "internal_address_config: { cidr_ranges: [ { address_prefix: 10.0.0.0, prefix_len: 8 } ] }\n";
    let mutation = "early_header_mutation_extensions: [ { name: x, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation, mutations: [
      { append: { header: { key: x-to, value: \"%REQ(x-from)%\" }, append_action: OVERWRITE_IF_EXISTS_OR_ADD } },
      { remove: x-from },
      { append: { header: { key: x-again, value: \"%REQ(x-from)%|%REQ(x-to)%|%REQ(x-request-id)%|%REQ(x-envoy-internal)%\" } } },
      { append: { header: { key: x-envoy-retry-on, value: \"5xx\" } } },
      { append: { header: { key: x-peer, value: \"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%\" } } },
      { remove_on_match: { key_matcher: { prefix: x-drop } } } ] } } ]\n";
    let with = |list: &[String]| format!("original_ip_detection_extensions: [ {} ]\n{internal}", list.join(", "));
    let listeners = [
        ("main", with(&[custom("allow_extension_to_set_address_as_trusted: true")])),
        ("distrusting", with(&[custom("")])),
        ("rejecting", with(&[custom("reject_with_status: { code: 401 }")])),
        ("rejecting oddly", with(&[custom("reject_with_status: { code: 200 }")])),
        ("xff", with(&[xff("xff_num_trusted_hops: 1")])),
        ("xff-appending", with(&[xff("skip_xff_append: false")])),
        (
            "cidrs",
            with(&[xff(
                "xff_trusted_cidrs: { cidrs: [ { address_prefix: 127.0.0.0, prefix_len: 8 }, { address_prefix: 9.0.0.0, prefix_len: 8 } ] }",
            )]),
        ),
        (
            "cidrs-elsewhere",
            with(&[xff("xff_trusted_cidrs: { cidrs: [ { address_prefix: 9.0.0.0, prefix_len: 8 } ] }")]),
        ),
        ("both", with(&[custom(""), xff("xff_num_trusted_hops: 0")])),
        ("mutating", mutation.replace('\n', " ").trim_end().to_owned() + "\n"),
    ];
    let mut cases = Vec::new();
    for (listener, _) in &listeners {
        let headers: [(&str, &[&str]); 12] = [
            ("none", &[]),
            ("inside", &["x-client: 10.1.2.3"]),
            ("outside", &["x-client: 1.2.3.4"]),
            ("v6", &["x-client: 2001:db8::1"]),
            ("port", &["x-client: 1.2.3.4:80"]),
            ("nonsense", &["x-client: me"]),
            ("two", &["x-client: 10.1.2.3", "x-client: 10.9.9.9"]),
            ("xff", &["x-forwarded-for: 1.1.1.1"]),
            ("xff inside", &["x-forwarded-for: 10.1.1.1"]),
            ("xff of three", &["x-forwarded-for: 10.1.1.1, 2.2.2.2,9.9.9.9"]),
            ("xff in lines", &["x-forwarded-for: 10.1.1.1, 2.2.2.2", "x-forwarded-for: 9.9.9.9"]),
            ("headers", &["x-from: a", "x-to: b", "x-drop-me: 1", "x-request-id: mine", "x-envoy-retry-on: reset"]),
        ];
        for (name, lines) in headers {
            cases.push(get(format!("{listener} {name}"), "/x", lines).on(listener));
        }
    }
    let routes = "
- { name: to-a, match: { prefix: /, headers: [ { name: x-to, string_match: { exact: a } } ] }, route: { cluster: up } }
- { name: other, match: { prefix: / }, route: { cluster: up }, request_headers_to_add: [ { header: { key: x-said, value: \"%DOWNSTREAM_REMOTE_ADDRESS%\" } } ] }
";
    let listeners: String = listeners.iter().map(|(name, fields)| http_listener(name, routes, fields)).collect();
    Group {
        name: "origins",
        config: bootstrap(&listeners, &cluster("up", "{up:up}", "")),
        upstreams: vec![("up", Kind::Http1(plain))],
        cases,
        fields: &[],
        stats: STATS,
        logs: &["access.log"],
    }
}
