use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Method};
use xds_protos::envoy::config::rbac::v3 as pb;

use super::engine::Rules;
use super::rule::Subject;
use crate::config::Path;
use crate::config::testing::from_yaml;
use crate::http::{Protocol, RequestHead, Scheme};
use crate::net::Address;
use crate::stream_info::{ConnectionInfo, StreamInfo, TlsInfo, TrafficDirection};

fn connection() -> ConnectionInfo {
    let address = |text: &str| Address::from(text.parse::<std::net::SocketAddr>().unwrap());
    let info =
        ConnectionInfo::new("l".into(), address("10.0.0.9:8080"), address("192.0.2.1:5000"), TrafficDirection::Inbound);
    *info.requested_server_name.borrow_mut() = Some("api.test".into());
    info
}

fn head() -> RequestHead {
    RequestHead {
        method: Method::GET,
        scheme: Scheme::Http,
        authority: "host.test".into(),
        path: "/a/b?q=1".into(),
        upgrade: None,
        headers: HeaderMap::from_iter([("x-role".parse().unwrap(), "admin".parse().unwrap())]),
        protocol: Protocol::Http11,
        case: None,
        wire_size: 0,
    }
}

fn rules(yaml: &str) -> Result<Rules, String> {
    Rules::build(&from_yaml::<pb::Rbac>(yaml), &Path::root("rules")).map_err(|reject| reject.to_string())
}

/// Whether a policy with this permission and this principal matches, for a request and for a connection.
fn matches(permission: &str, principal: &str, prepare: impl Fn(&ConnectionInfo, &mut StreamInfo)) -> (bool, bool) {
    let text = format!("policies: {{ p: {{ permissions: [ {permission} ], principals: [ {principal} ] }} }}");
    let rules = rules(&text).unwrap();
    let connection = Rc::new(connection());
    let mut info = StreamInfo::new(connection.clone(), Some(Protocol::Http11));
    prepare(&connection, &mut info);
    let head = head();
    let http = Subject { connection: &connection, head: Some(&head), info: Some(&info), route: None };
    let network = Subject { connection: &connection, head: None, info: None, route: None };
    (rules.judge(&http).allowed, rules.judge(&network).allowed)
}

const ANY: &str = "{ any: true }";

#[test]
fn permissions_look_at_the_request_and_where_it_goes() {
    for (permission, expected) in [
        ("{ any: true }", (true, true)),
        ("{ not_rule: { any: true } }", (false, false)),
        ("{ header: { name: x-role, string_match: { exact: admin } } }", (true, false)),
        ("{ header: { name: x-role, present_match: true, invert_match: true } }", (false, true)),
        ("{ header: { name: ':method', string_match: { exact: GET } } }", (true, false)),
        ("{ url_path: { path: { exact: /a/b } } }", (true, false)),
        ("{ url_path: { path: { prefix: /b } } }", (false, false)),
        ("{ not_rule: { url_path: { path: { prefix: /b } } } }", (true, true)),
        ("{ destination_ip: { address_prefix: 10.0.0.0, prefix_len: 24 } }", (true, true)),
        ("{ destination_ip: { address_prefix: 10.0.1.0, prefix_len: 24 } }", (false, false)),
        ("{ destination_port: 8080 }", (true, true)),
        ("{ destination_port: 80 }", (false, false)),
        ("{ destination_port_range: { start: 8080, end: 8081 } }", (true, true)),
        ("{ destination_port_range: { start: 8000, end: 8080 } }", (false, false)),
        ("{ requested_server_name: { suffix: .test } }", (true, true)),
        ("{ and_rules: { rules: [ { any: true }, { destination_port: 80 } ] } }", (false, false)),
        ("{ or_rules: { rules: [ { destination_port: 80 }, { any: true } ] } }", (true, true)),
    ] {
        assert_eq!(matches(permission, ANY, |_, _| {}), expected, "{permission}");
    }
}

#[test]
fn principals_look_at_the_peer() {
    let forwarded = |connection: &ConnectionInfo, info: &mut StreamInfo| {
        info.remote_address = Some(Address::from("203.0.113.7:0".parse::<std::net::SocketAddr>().unwrap()));
        *connection.remote_address.borrow_mut() =
            Address::from("198.51.100.2:1".parse::<std::net::SocketAddr>().unwrap());
    };
    for (principal, expected) in [
        ("{ direct_remote_ip: { address_prefix: 192.0.2.0, prefix_len: 24 } }", (true, true)),
        ("{ source_ip: { address_prefix: 198.51.100.0, prefix_len: 24 } }", (true, true)),
        ("{ source_ip: { address_prefix: 192.0.2.0, prefix_len: 24 } }", (false, false)),
        ("{ remote_ip: { address_prefix: 203.0.113.0, prefix_len: 24 } }", (true, false)),
        ("{ remote_ip: { address_prefix: 198.51.100.0, prefix_len: 24 } }", (false, true)),
        ("{ authenticated: {} }", (false, false)),
        ("{ not_id: { authenticated: {} } }", (true, true)),
        ("{ and_ids: { ids: [ { any: true }, { authenticated: {} } ] } }", (false, false)),
        ("{ or_ids: { ids: [ { authenticated: {} }, { any: true } ] } }", (true, true)),
    ] {
        assert_eq!(matches(ANY, principal, forwarded), expected, "{principal}");
    }
}

#[test]
fn a_peer_without_a_certificate_has_the_empty_name() {
    let tls = |connection: &ConnectionInfo, _: &mut StreamInfo| {
        let _ = connection.tls.set(TlsInfo::default());
    };
    let of = |principal: &str| matches(ANY, principal, tls).0;
    assert!(of("{ authenticated: {} }"));
    assert!(!of("{ authenticated: { principal_name: { prefix: 'spiffe://' } } }"));
    assert!(of("{ authenticated: { principal_name: { exact: '' } } }"));
}

#[test]
fn dynamic_metadata_is_what_other_filters_said() {
    use prost_types::value::Kind;
    let said = |_: &ConnectionInfo, info: &mut StreamInfo| {
        let fields =
            [("role".to_owned(), Kind::StringValue("admin".into())), ("size".to_owned(), Kind::NumberValue(2.5))];
        info.set_dynamic_metadata("jwt", fields);
    };
    let of = |value: &str, key: &str| {
        let text = format!("{{ metadata: {{ filter: jwt, path: [ {{ key: {key} }} ], value: {value} }} }}");
        matches(ANY, &text, said).0
    };
    assert!(of("{ string_match: { exact: admin } }", "role"));
    assert!(!of("{ string_match: { exact: guest } }", "role"));
    assert!(of("{ double_match: { range: { start: 2, end: 3 } } }", "size"));
    assert!(of("{ present_match: true }", "size"));
    assert!(!of("{ present_match: true }", "other"));
    assert!(!of("{ bool_match: true }", "role"));
    assert!(of("{ or_match: { value_matchers: [ { bool_match: true }, { string_match: { prefix: ad } } ] } }", "role"));
}

#[test]
fn the_first_policy_by_name_is_the_one_that_is_told() {
    let policies = "policies: { 'b c': { permissions: [ { any: true } ], principals: [ { any: true } ] }, a: { permissions: [ { destination_port: 80 } ], principals: [ { any: true } ] } }";
    let connection = connection();
    let subject = Subject { connection: &connection, head: None, info: None, route: None };
    let judge = |action: &str| {
        let rules = rules(&format!("action: {action}\n{policies}")).unwrap();
        let verdict = rules.judge(&subject);
        (verdict.allowed, verdict.log_hint, verdict.policy.map(Arc::clone), verdict.denied_details())
    };
    let details = "rbac_access_denied_matched_policy[b_c]".to_owned();
    assert_eq!(judge("ALLOW"), (true, None, Some("b c".into()), details.clone()));
    assert_eq!(judge("DENY"), (false, None, Some("b c".into()), details.clone()));
    assert_eq!(judge("LOG"), (true, Some(true), Some("b c".into()), details));
    let none = rules("action: ALLOW").unwrap();
    assert!(!none.judge(&subject).allowed);
    assert_eq!(none.judge(&subject).denied_details(), "rbac_access_denied_matched_policy[none]");
    assert!(rules("action: DENY").unwrap().judge(&subject).allowed);
}

#[test]
fn what_is_not_understood_is_refused() {
    let policy = |permission: &str, principal: &str, more: &str| {
        let text =
            format!("policies: {{ p: {{ permissions: [ {permission} ], principals: [ {principal} ] {more} }} }}");
        rules(&text).err().unwrap_or_default()
    };
    let at = "rules.policies[\"p\"]";
    for (permission, principal, more, expected) in [
        (
            ANY,
            "{ filter_state: { key: a, string_match: { exact: b } } }",
            "",
            "principals[0].filter_state: not supported",
        ),
        ("{ any: false }", ANY, "", "permissions[0].any: expected true"),
        ("{}", ANY, "", "permissions[0]: expected a rule"),
        ("", ANY, "", "permissions: expected at least one"),
        (ANY, "", "", "principals: expected at least one"),
        ("{ and_rules: {} }", ANY, "", "permissions[0].and_rules.rules: expected at least one"),
        ("{ destination_port: 65536 }", ANY, "", "permissions[0].destination_port: expected a port"),
        (
            "{ destination_port_range: { start: 5, end: 5 } }",
            ANY,
            "",
            "permissions[0].destination_port_range: expected",
        ),
        ("{ matcher: { name: x } }", ANY, "", "permissions[0].matcher: the matcher \"x\" is not known"),
        (ANY, ANY, ", condition: { const_expr: { bool_value: true } }", "condition: CEL"),
    ] {
        let got = policy(permission, principal, more);
        assert!(got.starts_with(&format!("{at}.{expected}")), "{got}");
    }
}
