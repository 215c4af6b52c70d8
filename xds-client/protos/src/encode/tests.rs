use super::*;
use crate::envoy::config::bootstrap::v3::Bootstrap;
use crate::envoy::config::cluster::v3::Cluster;
use crate::envoy::config::core::v3::{Metadata, Node as EnvoyNode, address, socket_address};
use crate::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use crate::text::{Format, parse};
use prost::Message as _;

fn wire_with(message: &str, text: &str, options: &Options) -> Result<(Vec<u8>, Vec<Problem>), Vec<Problem>> {
    to_wire(parse(text, Format::Auto).expect("well-formed").root(), message, options)
}

fn wire(message: &str, text: &str) -> Vec<u8> {
    match wire_with(message, text, &Options::default()) {
        Ok((wire, warnings)) => {
            assert_eq!(warnings, []);
            wire
        }
        Err(problems) => panic!("{}", problems.iter().map(|p| format!("{p}\n")).collect::<String>()),
    }
}

fn cluster(text: &str) -> Cluster {
    Cluster::decode(&*wire("envoy.config.cluster.v3.Cluster", text)).expect("decodes")
}

/// The first line of each problem.
fn problems(message: &str, text: &str) -> Vec<String> {
    match wire_with(message, text, &Options::default()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|p| p.to_string().lines().next().unwrap_or_default().to_owned()).collect(),
    }
}

fn cluster_problem(text: &str) -> String {
    problems("envoy.config.cluster.v3.Cluster", text).join("\n")
}

#[test]
fn a_bootstrap() {
    let text = r#"
node: { id: sidecar~1, cluster: c, metadata: { LABELS: { app: store }, N: 5 } }
admin:
  address: { socketAddress: { address: 127.0.0.1, port_value: 15000 } }
static_resources:
  listeners:
  - name: main
    address: { socket_address: { address: 0.0.0.0, portValue: "8080" } }
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          stat_prefix: ingress
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          codec_type: auto
          http_filters:
          - name: router
            typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }
  clusters:
  - name: up
    connect_timeout: 1.5s
"#;
    let bootstrap = Bootstrap::decode(&*wire("envoy.config.bootstrap.v3.Bootstrap", text)).unwrap();
    let node = bootstrap.node.unwrap();
    assert_eq!((&*node.id, &*node.cluster), ("sidecar~1", "c"));
    let resources = bootstrap.static_resources.unwrap();
    let listener = &resources.listeners[0];
    let Some(address::Address::SocketAddress(socket)) = listener.address.as_ref().unwrap().address.as_ref() else {
        panic!("a socket address");
    };
    assert!(socket.port_specifier == Some(socket_address::PortSpecifier::PortValue(8080)));
    use crate::envoy::config::listener::v3::filter::ConfigType;
    let Some(ConfigType::TypedConfig(any)) = &listener.filter_chains[0].filters[0].config_type else { panic!("typed") };
    assert!(any.type_url.ends_with(".HttpConnectionManager"));
    let hcm = HttpConnectionManager::decode(&*any.value).unwrap();
    assert_eq!(hcm.stat_prefix, "ingress");
    assert_eq!(hcm.http_filters[0].name, "router");
    assert_eq!(resources.clusters[0].connect_timeout.as_ref().unwrap().nanos, 500_000_000);
}

#[test]
fn both_formats_give_the_same_bytes() {
    let yaml =
        "name: a\nlb_policy: RING_HASH\nper_connection_buffer_limit_bytes: 5\ndns_resolvers: []\nconnect_timeout: 2s\n";
    let json = r#"{"name":"a","lbPolicy":2,"perConnectionBufferLimitBytes":5,"dnsResolvers":[],"connectTimeout":"2s"}"#;
    assert_eq!(wire("envoy.config.cluster.v3.Cluster", yaml), wire("envoy.config.cluster.v3.Cluster", json));
}

#[test]
fn enums_by_name_in_any_case_or_by_number() {
    for value in ["MAGLEV", "maglev", "Maglev", "5", "\"5\""] {
        assert_eq!(cluster(&format!("lb_policy: {value}")).lb_policy, 5, "{value}");
    }
    // An unknown number is kept: validation refuses it where the API says so.
    assert_eq!(cluster("lb_policy: 99").lb_policy, 99);
    assert_eq!(
        cluster_problem("lb_policy: MAGELV"),
        "1:12: lb_policy: expected a value of envoy.config.cluster.v3.Cluster.LbPolicy, got the string \"MAGELV\"; did you mean MAGLEV?"
    );
}

#[test]
fn numbers_booleans_and_wrappers() {
    let limit =
        |text: &str| cluster(&format!("per_connection_buffer_limit_bytes: {text}")).per_connection_buffer_limit_bytes;
    for text in ["5", "\"5\"", "5.0", "5e0", "{value: 5}"] {
        assert_eq!(limit(text), Some(5), "{text}");
    }
    assert_eq!(limit("1e3"), Some(1000));
    assert_eq!(limit("0"), Some(0));
    assert_eq!(limit("4294967295"), Some(u32::MAX));
    assert_eq!(limit("~"), None);
    for text in ["5.5", "-1", "4294967296", "true", "\" 5\"", "\"5 \"", "\"\"", "+\"5\"", "1e30"] {
        let got = cluster_problem(&format!("per_connection_buffer_limit_bytes: {text}"));
        assert!(
            got.contains("per_connection_buffer_limit_bytes: expected an integer of 0 to 4294967295, got "),
            "{got}"
        );
    }
    let stats =
        |text: &str| cluster(&format!("track_cluster_stats: {{request_response_sizes: {text}}}")).track_cluster_stats;
    assert!(stats("true").unwrap().request_response_sizes);
    assert!(stats("\"true\"").unwrap().request_response_sizes);
    assert!(stats("yes").unwrap().request_response_sizes);
    assert!(!stats("false").unwrap().request_response_sizes);
    assert!(
        cluster_problem("track_cluster_stats: {request_response_sizes: 1}")
            .contains("expected true or false, got the number 1")
    );
}

#[test]
fn doubles() {
    let percent =
        |text: &str| wire_with("envoy.type.v3.Percent", &format!("{{\"value\": {text}}}"), &Options::default());
    let value = |text: &str| {
        let (wire, _) = percent(text).unwrap_or_else(|p| panic!("{}", p[0]));
        crate::envoy::r#type::v3::Percent::decode(&*wire).unwrap().value
    };
    assert_eq!(value("50.5"), 50.5);
    assert_eq!(value("\"50.5\""), 50.5);
    assert_eq!(value("1e-3"), 0.001);
    assert!(value("\"NaN\"").is_nan());
    assert_eq!(value("\"-Infinity\""), f64::NEG_INFINITY);
    assert!(value("-0.0").is_sign_negative());
    for text in ["1e400", "\"x\"", "\"inf\"", "\"nan\"", "true", "[]"] {
        assert!(percent(text).is_err(), "{text}");
    }
}

#[test]
fn sixty_four_bits() {
    let name = "google.protobuf.UInt64Value";
    let value = |text: &str| wire_with(name, text, &Options::default()).map(|(wire, _)| wire);
    let max = value("\"18446744073709551615\"").unwrap();
    assert_eq!(max, [8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    assert_eq!(value("18446744073709551615").unwrap(), max);
    assert!(value("18446744073709551616").is_err());
    let signed = |text: &str| wire_with("google.protobuf.Int64Value", text, &Options::default()).map(|(wire, _)| wire);
    assert_eq!(signed("-9223372036854775808").unwrap(), [8, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1]);
    assert!(signed("9223372036854775808").is_err());
}

#[test]
fn durations_and_their_mistakes() {
    let timeout =
        |text: &str| cluster(&format!("connect_timeout: {text}")).connect_timeout.map(|d| (d.seconds, d.nanos));
    assert_eq!(timeout("1.5s"), Some((1, 500_000_000)));
    assert_eq!(timeout("-0.5s"), Some((0, -500_000_000)));
    assert_eq!(timeout("0s"), Some((0, 0)));
    assert_eq!(timeout("{seconds: 2, nanos: 3}"), Some((2, 3)));
    assert_eq!(timeout("~"), None);
    assert_eq!(
        cluster_problem("name: x\nconnect_timeout: 5"),
        "2:18: connect_timeout: expected a duration such as \"1.5s\", got the number 5"
    );
    assert!(cluster_problem("connect_timeout: 5ms").contains("got the string \"5ms\""));
}

#[test]
fn strings_are_not_numbers() {
    let got = cluster_problem("name: 15");
    assert_eq!(got, "1:7: name: expected a string, got the number 15; put it in quotes");
    assert_eq!(
        cluster_problem("name: n"),
        "1:7: name: expected a string, got false; put it in quotes: a plain n is a boolean in YAML"
    );
    assert_eq!(cluster_problem("name: true"), "1:7: name: expected a string, got true; put it in quotes");
    assert_eq!(cluster("name: 2.5").name, "2.5");
    assert_eq!(cluster("name: '15'").name, "15");
}

#[test]
fn bytes_are_base64() {
    let data = |text: &str| wire_with("google.protobuf.BytesValue", text, &Options::default()).map(|(wire, _)| wire);
    assert_eq!(data("\"+/+/\"").unwrap(), [10, 3, 0xfb, 0xff, 0xbf]);
    assert_eq!(data("\"-_-_\"").unwrap(), [10, 3, 0xfb, 0xff, 0xbf]);
    assert_eq!(data("\"YQ==\"").unwrap(), [10, 1, b'a']);
    assert_eq!(data("\"YQ\"").unwrap(), [10, 1, b'a']);
    assert_eq!(data("\"\"").unwrap(), []);
    for text in ["\"Y\"", "\"Y===\"", "\"a b=\"", "\"=\"", "5"] {
        assert!(data(text).is_err() || text == "\"=\"", "{text}");
    }
}

#[test]
fn lists_maps_and_null() {
    assert_eq!(cluster("health_checks: ~").health_checks.len(), 0);
    assert_eq!(cluster_problem("health_checks: {timeout: 1s}"), "1:16: health_checks: expected a list, got an object");
    assert_eq!(
        cluster_problem("health_checks: [~]"),
        "1:17: health_checks[0]: expected an object (envoy.config.core.v3.HealthCheck), got null"
    );
    assert_eq!(
        cluster_problem("upstream_connection_options: []"),
        "1:30: upstream_connection_options: expected an object (envoy.config.cluster.v3.UpstreamConnectionOptions), got a list"
    );
    assert_eq!(
        cluster_problem("metadata: {filter_metadata: {\"a.b\": 5}}"),
        "1:37: metadata.filter_metadata[\"a.b\"]: expected an object (google.protobuf.Struct), got the number 5"
    );
    assert!(cluster_problem("metadata: {filter_metadata: []}").contains("expected an object (a map), got a list"));
    // Packed and unpacked elements.
    let codes = wire("envoy.config.route.v3.RetryPolicy", "retriable_status_codes: [500, 503]");
    assert_eq!(
        crate::envoy::config::route::v3::RetryPolicy::decode(&*codes).unwrap().retriable_status_codes,
        [500, 503]
    );
    assert!(
        problems("envoy.config.route.v3.RetryPolicy", "retriable_status_codes: [500, x]")[0]
            .contains("retriable_status_codes[1]")
    );
}

#[test]
fn structs_keep_what_yaml_gave() {
    let text = "filter_metadata: {f: {n: 5, s: '5', b: yes, z: ~, l: [1, [], {}], o: {k: 1.5, big: 5000000000}}}";
    let metadata = Metadata::decode(&*wire("envoy.config.core.v3.Metadata", text)).unwrap();
    use prost_types::value::Kind::{BoolValue, ListValue, NullValue, NumberValue, StringValue, StructValue};
    let fields = &metadata.filter_metadata["f"].fields;
    let kind = |name: &str| fields[name].kind.clone().unwrap();
    assert_eq!(kind("n"), NumberValue(5.0));
    assert_eq!(kind("s"), StringValue("5".into()));
    assert_eq!(kind("b"), BoolValue(true));
    assert_eq!(kind("z"), NullValue(0));
    let ListValue(list) = kind("l") else { panic!("a list") };
    assert_eq!(list.values.len(), 3);
    let StructValue(object) = kind("o") else { panic!("an object") };
    // As Envoy: YAML fractions and large integers arrive as strings.
    assert_eq!(object.fields["k"].kind, Some(StringValue("1.5".into())));
    assert_eq!(object.fields["big"].kind, Some(StringValue("5000000000".into())));
    let json = r#"{"filter_metadata": {"f": {"k": 1.5}}}"#;
    let metadata = Metadata::decode(&*wire("envoy.config.core.v3.Metadata", json)).unwrap();
    assert_eq!(metadata.filter_metadata["f"].fields["k"].kind, Some(NumberValue(1.5)));
}

#[test]
fn field_masks() {
    let wire = wire("google.protobuf.FieldMask", "\"userAgent,node.buildVersion\"");
    assert_eq!(wire, b"\x0a\x0auser_agent\x0a\x12node.build_version");
}

#[test]
fn any_of_ordinary_and_special_messages() {
    let any = |text: &str| wire("google.protobuf.Any", text);
    let node = any(r#"{"id": "x", "@type": "foo.com/a/envoy.config.core.v3.Node", "cluster": "c"}"#);
    let node = prost_types::Any::decode(&*node).unwrap();
    assert_eq!(node.type_url, "foo.com/a/envoy.config.core.v3.Node");
    assert_eq!(EnvoyNode::decode(&*node.value).unwrap().cluster, "c");
    let wrapped = any(r#"{"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "x"}"#);
    assert_eq!(prost_types::Any::decode(&*wrapped).unwrap().value, b"\x0a\x01x");
    let object = any(r#"{"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"a": null}}"#);
    assert_eq!(prost_types::Any::decode(&*object).unwrap().value, b"\x0a\x07\x0a\x01a\x12\x02\x08\x00");
    assert_eq!(any("{}"), []);
    // An Any in an Any.
    any(r#"{"@type": "t/google.protobuf.Any", "value": {"@type": "t/google.protobuf.Duration", "value": "1s"}}"#);
}

#[test]
fn any_mistakes() {
    let any = |text: &str| problems("google.protobuf.Any", text).join("\n");
    assert_eq!(any(r#"{"id": "x"}"#), "1:1: expected \"@type\" with the type of the message, got an object without it");
    assert_eq!(
        any(r#"{"@type": "nope.Foo"}"#),
        "1:11: expected a type URL such as \"type.googleapis.com/NAME\", got the string \"nope.Foo\""
    );
    assert_eq!(
        any(r#"{"@type": "type.googleapis.com/nope.Foo"}"#),
        "1:11: expected a known message type in \"@type\", got \"type.googleapis.com/nope.Foo\""
    );
    assert!(any(r#"{"@type": "/google.protobuf.Any"}"#).contains("expected a type URL"));
    assert!(any(r#"{"@type": 5}"#).contains("expected a type URL"));
    assert!(
        any(r#"{"@type": "t/google.protobuf.StringValue", "x": 1, "value": "y"}"#)
            .contains("expected only \"@type\" and \"value\"")
    );
    assert!(
        any(r#"{"@type": "t/google.protobuf.StringValue"}"#)
            .contains("expected \"value\" (google.protobuf.StringValue)")
    );
    assert!(
        any(r#"{"@type": "t/google.protobuf.Duration", "value": 1}"#).starts_with("1:50: value: expected a duration")
    );
    assert!(any("[]").contains("expected an object (google.protobuf.Any), got a list"));
}

#[test]
fn an_unknown_any_can_be_kept_as_a_typed_struct() {
    let options = Options { keep_unknown_any: true, ..Options::default() };
    let text = r#"{"@type": "type.googleapis.com/nope.Foo", "a": {"b": [1]}}"#;
    let (wire, _) = wire_with("google.protobuf.Any", text, &options).unwrap();
    let any = prost_types::Any::decode(&*wire).unwrap();
    assert_eq!(any.type_url, "type.googleapis.com/xds.type.v3.TypedStruct");
    let inner = crate::xds::r#type::v3::TypedStruct::decode(&*any.value).unwrap();
    assert_eq!(inner.type_url, "type.googleapis.com/nope.Foo");
    assert_eq!(inner.value.unwrap().fields.len(), 1);
}

#[test]
fn oneofs_take_one_member() {
    assert_eq!(
        cluster_problem("name: x\ntype: STATIC\ncluster_type: {name: x}"),
        "3:1: cluster_type: expected one field of the oneof cluster_discovery_type, got \"cluster_type\" after \"type\""
    );
    assert_eq!(cluster_problem("type: ~\ncluster_type: {name: x}"), "");
    assert_eq!(
        cluster_problem("connectTimeout: 1s\nconnect_timeout: 2s"),
        "2:1: connect_timeout: expected the field once, got it as both \"connect_timeout\" and \"connectTimeout\""
    );
    // A member at its default is set all the same.
    let set = cluster("type: STATIC").cluster_discovery_type;
    assert!(set.is_some());
}

#[test]
fn unknown_fields_get_a_hint() {
    let got = problems(
        "envoy.config.bootstrap.v3.Bootstrap",
        "static_resources:\n  listeners:\n  - filter_chains:\n    - filters:\n      - name: hcm\n        typed_config:\n          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager\n          stat_prefx: x\n",
    );
    assert_eq!(
        got,
        [
            "8:11: static_resources.listeners[0].filter_chains[0].filters[0].typed_config.stat_prefx: expected a field of \
          envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, got the unknown field \
          \"stat_prefx\"; did you mean \"stat_prefix\"?"
        ]
    );
    assert!(
        problems("envoy.config.core.v3.DataSource", "zzzzzzz: 1")[0]
            .ends_with("; it has filename, inline_bytes, inline_string, environment_variable, watched_directory")
    );
    assert!(problems("google.protobuf.Empty", "a: 1").iter().all(|p| p.ends_with("it has no fields")));
    assert!(cluster_problem("ConnectTimeout: 1s").contains("did you mean \"connect_timeout\"?"));

    let options = Options { allow_unknown: true, ..Options::default() };
    let (wire, warnings) = wire_with("envoy.config.cluster.v3.Cluster", "name: x\nfoo: 1", &options).unwrap();
    assert_eq!(wire, b"\x0a\x01x");
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].path, "foo");
}

#[test]
fn all_problems_are_reported_up_to_a_bound() {
    let got = problems(
        "envoy.config.cluster.v3.Cluster",
        "nam: x\nconnect_timeout: 5\nlb_policy: FOO\nhealth_checks: [{timeout: 1, foo: 2}]\n",
    );
    let lines: Vec<_> = got.iter().map(|p| p.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["1", "2", "3", "4", "4"]);
    let many: String = (0..100).map(|i| format!("unknown{i}: 1\n")).collect();
    assert_eq!(problems("envoy.config.cluster.v3.Cluster", &many).len(), MAX_PROBLEMS);
}

#[test]
fn a_problem_shows_file_line_and_caret() {
    let text = "name: x\nconnect_timeout: 5\n";
    let problems = wire_with("envoy.config.cluster.v3.Cluster", text, &Options::default()).unwrap_err();
    assert_eq!(
        problems[0].in_file("envoy.yaml").to_string(),
        "envoy.yaml:2:18: connect_timeout: expected a duration such as \"1.5s\", got the number 5\n    connect_timeout: 5\n                     ^"
    );
}

#[test]
fn the_root_must_be_an_object_of_a_known_message() {
    assert_eq!(
        problems("envoy.config.cluster.v3.Cluster", "# empty"),
        ["1:8: expected an object (envoy.config.cluster.v3.Cluster), got null"]
    );
    assert_eq!(problems("nope.Foo", "a: 1"), ["expected a message of the API, got \"nope.Foo\""]);
}

#[test]
fn deep_messages_are_refused() {
    let nested = |n: usize| format!("{}{{\"any\": true}}{}", "{\"not_rule\":".repeat(n), "}".repeat(n));
    let name = "envoy.config.rbac.v3.Permission";
    let deep = wire(name, &nested(100));
    assert!(crate::envoy::config::rbac::v3::Permission::decode(&*deep).is_ok(), "what is accepted decodes");
    assert!(problems(name, &nested(101))[0].contains("expected at most 100 messages within each other"));
}

#[test]
fn lengths_of_all_sizes_are_right() {
    for len in [0, 1, 126, 127, 128, 16_380, 16_384, 70_000] {
        let text = format!("{{\"node\": {{\"id\": \"{}\"}}}}", "x".repeat(len));
        let bootstrap = Bootstrap::decode(&*wire("envoy.config.bootstrap.v3.Bootstrap", &text)).unwrap();
        assert_eq!(bootstrap.node.unwrap().id.len(), len);
    }
}

#[test]
fn an_overlay_in_a_row_merges_as_envoy_does() {
    let name = "envoy.config.bootstrap.v3.Bootstrap";
    let mut both =
        wire(name, "node: {id: a, cluster: c}\nstatic_resources: {clusters: [{name: one}]}\nstats_flush_interval: 5s");
    both.extend(wire(name, "node: {id: b, cluster: ''}\nstatic_resources: {clusters: [{name: two}]}"));
    let merged = Bootstrap::decode(&*both).unwrap();
    let node = merged.node.unwrap();
    assert_eq!((&*node.id, &*node.cluster), ("b", "c"));
    let names: Vec<_> = merged.static_resources.unwrap().clusters.iter().map(|c| c.name.clone()).collect();
    assert_eq!(names, ["one", "two"]);
}

#[test]
fn every_message_takes_an_empty_object() {
    for message in crate::schema::Message::all().filter(|m| !m.has_special_json()) {
        assert_eq!(wire(message.full_name(), "{}"), [], "{message:?}");
    }
}
