use super::*;
use crate::encode::{self, to_wire};
use crate::text::{Format, parse};

fn wire(message: &str, text: &str) -> Vec<u8> {
    match to_wire(parse(text, Format::Auto).unwrap().root(), message, &encode::Options::default()) {
        Ok((wire, _)) => wire,
        Err(problems) => panic!("{}", problems[0]),
    }
}

/// Text to wire and back, without white space.
fn json(message: &str, text: &str) -> String {
    to_json(message, &wire(message, text), &Options::default()).unwrap()
}

fn redacted(message: &str, text: &str) -> String {
    to_json(message, &wire(message, text), &Options { redact: true, ..Options::default() }).unwrap()
}

const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";

#[test]
fn fields_come_by_number_with_proto_names() {
    let text = "lbPolicy: MAGLEV\nconnectTimeout: 0.25s\nname: x\nper_connection_buffer_limit_bytes: 0\ntype: STATIC\n";
    assert_eq!(
        json(CLUSTER, text),
        r#"{"name":"x","type":"STATIC","connect_timeout":"0.250s","per_connection_buffer_limit_bytes":0,"lb_policy":"MAGLEV"}"#
    );
    // Defaults are not there; members of a oneof (type: STATIC is 0) are.
    assert_eq!(json(CLUSTER, "name: ''\nlb_policy: ROUND_ROBIN\nhealth_checks: []"), "{}");
}

#[test]
fn pretty_is_envoys_layout() {
    let text = "name: x\nmetadata: {filter_metadata: {a: {}, b: {l: [], m: [1, {}]}}}\nconnect_timeout: 1s\ntrack_cluster_stats: {}";
    let pretty = to_json(CLUSTER, &wire(CLUSTER, text), &Options { pretty: true, ..Options::default() }).unwrap();
    let expected = r#"{
 "name": "x",
 "connect_timeout": "1s",
 "metadata": {
  "filter_metadata": {
   "a": {},
   "b": {
    "l": [],
    "m": [
     1,
     {}
    ]
   }
  }
 },
 "track_cluster_stats": {}
}"#;
    assert_eq!(pretty, expected);
}

#[test]
fn defaults_on_request() {
    let options = Options { defaults: true, ..Options::default() };
    let name = "envoy.config.core.v3.Locality";
    assert_eq!(to_json(name, &wire(name, "{zone: z}"), &options).unwrap(), r#"{"region":"","zone":"z","sub_zone":""}"#);
    let node = to_json("envoy.config.core.v3.Node", &[], &options).unwrap();
    assert_eq!(
        node,
        r#"{"id":"","cluster":"","user_agent_name":"","extensions":[],"client_features":[],"listening_addresses":[],"dynamic_parameters":{}}"#
    );
}

#[test]
fn numbers_and_enums() {
    assert_eq!(json("google.protobuf.UInt64Value", "\"18446744073709551615\""), r#""18446744073709551615""#);
    assert_eq!(json("google.protobuf.Int64Value", "-5"), r#""-5""#);
    assert_eq!(json("google.protobuf.UInt32Value", "4294967295"), "4294967295");
    assert_eq!(json("google.protobuf.BoolValue", "false"), "false");
    assert_eq!(json("google.protobuf.BytesValue", "\"+/+/\""), r#""+/+/""#);
    assert_eq!(json("google.protobuf.BytesValue", "\"YQ\""), r#""YQ==""#);
    assert_eq!(json("google.protobuf.BytesValue", "\"YWI\""), r#""YWI=""#);
    assert_eq!(json("google.protobuf.BytesValue", "\"YWJj\""), r#""YWJj""#);
    assert_eq!(json("google.protobuf.DoubleValue", "\"NaN\""), r#""NaN""#);
    assert_eq!(json("google.protobuf.DoubleValue", "\"-Infinity\""), r#""-Infinity""#);
    assert_eq!(json("google.protobuf.FloatValue", "0.1"), "0.1");
    assert_eq!(json("google.protobuf.FloatValue", "16777216"), "16777216");
    assert_eq!(json("google.protobuf.FloatValue", "1234567.9"), "1234567.88");
    assert_eq!(json(CLUSTER, "lb_policy: 99"), r#"{"lb_policy":99}"#);
    let retry = "envoy.config.route.v3.RetryPolicy";
    assert_eq!(json(retry, "retriable_status_codes: [500, 503]"), r#"{"retriable_status_codes":[500,503]}"#);
}

#[test]
fn strings_are_escaped_as_envoy_does() {
    let text = r#""<a href='x'>&\u00e9\u2028\u0007\u007f\u0080\t\ud83d\ude00/\ufeff\"\\\u00ad\ud834\udd73""#;
    let tree = parse(text, Format::Json).unwrap();
    let (wire, _) = to_wire(tree.root(), "google.protobuf.StringValue", &encode::Options::default()).unwrap();
    assert_eq!(
        to_json("google.protobuf.StringValue", &wire, &Options::default()).unwrap(),
        r#""\u003ca href='x'\u003e&é\u2028\u0007\u007f\u0080\t😀/\ufeff\"\\\u00ad\ud834\udd73""#
    );
}

#[test]
fn times() {
    let name = "envoy.admin.v3.ListenersConfigDump.DynamicListenerState";
    assert_eq!(json(name, "last_updated: '2024-05-01T12:00:00.25Z'"), r#"{"last_updated":"2024-05-01T12:00:00.250Z"}"#);
    assert_eq!(json("google.protobuf.Timestamp", "'1969-12-31T23:59:59Z'"), r#""1969-12-31T23:59:59Z""#);
    assert_eq!(
        json("google.protobuf.Timestamp", "{seconds: '999999999999'}"),
        r#"{"seconds":"999999999999","nanos":0}"#
    );
    assert_eq!(json("google.protobuf.Duration", "'-0.5s'"), r#""-0.500s""#);
}

#[test]
fn field_masks() {
    assert_eq!(json("google.protobuf.FieldMask", "'aB,c.dE'"), r#""aB,c.dE""#);
}

#[test]
fn structs_and_values() {
    let text = r#"{"a": null, "b": [true, 1.5, "x", {}], "c": {"d": -0.0}}"#;
    assert_eq!(json("google.protobuf.Struct", text), r#"{"a":null,"b":[true,1.5,"x",{}],"c":{"d":-0}}"#);
    assert_eq!(to_json("google.protobuf.Value", &[], &Options::default()).unwrap(), "null");
    assert_eq!(json("google.protobuf.ListValue", "[1, [2]]"), "[1,[2]]");
}

#[test]
fn anys() {
    let any = |text: &str| json("google.protobuf.Any", text);
    assert_eq!(
        any(r#"{"id": "x", "@type": "type.googleapis.com/envoy.config.core.v3.Node"}"#),
        r#"{"@type":"type.googleapis.com/envoy.config.core.v3.Node","id":"x"}"#
    );
    assert_eq!(
        any(r#"{"@type": "t/google.protobuf.Duration", "value": "1s"}"#),
        r#"{"@type":"t/google.protobuf.Duration","value":"1s"}"#
    );
    assert_eq!(any("{}"), "{}");
    let typed = r#"{"@type":"t/xds.type.v3.TypedStruct","type_url":"t/x.Y","value":{"a":1}}"#;
    assert_eq!(any(typed), typed);
}

#[test]
fn an_any_that_cannot_be_read_prints_its_bytes() {
    let print = |type_url: &str, value: &[u8]| {
        let any = prost_types::Any { type_url: type_url.into(), value: value.to_vec() };
        to_json("google.protobuf.Any", &prost::Message::encode_to_vec(&any), &Options::default()).unwrap()
    };
    assert_eq!(print("t/no.Such", b"abc"), r#"{"@type":"t/no.Such","value":"YWJj"}"#);
    assert_eq!(
        print("t/envoy.config.core.v3.Node", &[0x0a, 5, b'x']),
        r#"{"@type":"t/envoy.config.core.v3.Node","value":"CgV4"}"#
    );
    // Not UTF-8, a wrong wire type, a list that is not packed right.
    assert!(print("t/envoy.config.core.v3.Node", &[0x0a, 1, 0xff]).contains("\"value\""));
    assert!(print("t/envoy.config.core.v3.Node", &[0x08, 1]).contains("\"value\""));
    assert!(print("t/envoy.config.route.v3.RetryPolicy", &[0x3a, 1, 0x80]).contains("\"value\""));
    assert_eq!(to_json("envoy.config.core.v3.Node", &[0x0a, 5, b'x'], &Options::default()), Err(Error::Malformed));
    assert_eq!(to_json("no.Such", &[], &Options::default()), Err(Error::UnknownMessage));
}

#[test]
fn the_wire_is_read_as_protobuf_reads_it() {
    // Twice a message merges, twice a scalar replaces, a oneof keeps the last member.
    let mut both = wire(
        "envoy.config.bootstrap.v3.Bootstrap",
        "node: {id: a, cluster: c}\nstatic_resources: {clusters: [{name: one}]}",
    );
    both.extend(wire(
        "envoy.config.bootstrap.v3.Bootstrap",
        "static_resources: {clusters: [{name: two}]}\nnode: {id: b}",
    ));
    assert_eq!(
        to_json("envoy.config.bootstrap.v3.Bootstrap", &both, &Options::default()).unwrap(),
        r#"{"node":{"id":"b","cluster":"c"},"static_resources":{"clusters":[{"name":"one"},{"name":"two"}]}}"#
    );
    let mut both = wire(CLUSTER, "type: EDS");
    both.extend(wire(CLUSTER, "cluster_type: {name: x}"));
    assert_eq!(to_json(CLUSTER, &both, &Options::default()).unwrap(), r#"{"cluster_type":{"name":"x"}}"#);
    both.extend(wire(CLUSTER, "type: EDS"));
    assert_eq!(to_json(CLUSTER, &both, &Options::default()).unwrap(), r#"{"type":"EDS"}"#);
    // Unknown fields are passed over.
    both.extend([0xf8, 0xff, 0x01, 1]);
    assert_eq!(to_json(CLUSTER, &both, &Options::default()).unwrap(), r#"{"type":"EDS"}"#);
}

const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";

#[test]
fn secrets_are_redacted() {
    let text = "name: s\ntls_certificate: {certificate_chain: {inline_string: public}, private_key: {inline_string: hidden}, password: {inline_bytes: aGlkZGVu}}";
    assert_eq!(
        redacted(SECRET, text),
        r#"{"name":"s","tls_certificate":{"certificate_chain":{"inline_string":"public"},"private_key":{"inline_string":"[redacted]"},"password":{"inline_bytes":"W3JlZGFjdGVkXQ=="}}}"#
    );
    assert!(json(SECRET, text).contains("hidden"));
    let ticket = "session_ticket_keys: {keys: [{filename: /a}, {inline_string: hidden}]}";
    assert_eq!(
        redacted(SECRET, ticket),
        r#"{"session_ticket_keys":{"keys":[{"filename":"[redacted]"},{"inline_string":"[redacted]"}]}}"#
    );
}

#[test]
fn secrets_in_anys_and_typed_structs_are_redacted() {
    let secret = format!(
        r#"{{"@type": "t/{SECRET}", "name": "s", "generic_secret": {{"secret": {{"inline_string": "hidden"}}}}}}"#
    );
    let shown = redacted("google.protobuf.Any", &secret);
    assert_eq!(
        shown,
        format!(
            r#"{{"@type":"t/{SECRET}","name":"s","generic_secret":{{"secret":{{"inline_string":"[redacted]"}}}}}}"#
        )
    );

    let value = r#"{"name": "s", "genericSecret": {"secret": {"inline_string": "hidden"}}}"#;
    for package in ["xds.type.v3", "udpa.type.v1"] {
        let typed = format!(r#"{{"@type": "t/{package}.TypedStruct", "type_url": "t/{SECRET}", "value": {value}}}"#);
        let shown = redacted("google.protobuf.Any", &typed);
        assert_eq!(
            shown,
            format!(
                r#"{{"@type":"t/{package}.TypedStruct","type_url":"t/{SECRET}","value":{{"name":"s","generic_secret":{{"secret":{{"inline_string":"[redacted]"}}}}}}}}"#
            )
        );
        // Unreadable: nothing of it is shown.
        let broken = format!(
            r#"{{"@type": "t/{package}.TypedStruct", "type_url": "t/{SECRET}", "value": {{"nam": "hidden"}}}}"#
        );
        let shown = redacted("google.protobuf.Any", &broken);
        assert!(shown.ends_with(r#""value":{}}"#), "{shown}");
    }
}

#[test]
fn what_has_no_text_is_left_out_of_secrets() {
    // A sensitive message with numbers, booleans, structs and Anys below it.
    let name = "envoy.config.core.v3.TypedExtensionConfig";
    let wire = wire(
        name,
        r#"{"name": "x", "typed_config": {"@type": "t/envoy.config.cluster.v3.Cluster", "name": "hidden", "lb_policy": 5,
        "connect_timeout": "5s", "per_connection_buffer_limit_bytes": 7, "metadata": {"filter_metadata": {"k": {"s": "hidden", "n": 5, "b": true, "l": ["hidden"]}}}}}"#,
    );
    let mut out = String::new();
    let mut printer =
        Printer { out: &mut out, options: Options { redact: true, ..Options::default() }, indent: 0, depth: 0 };
    printer.message(&mut Stack::default(), Message::find(name).unwrap(), &wire, true).unwrap();
    assert_eq!(
        out,
        r#"{"name":"[redacted]","typed_config":{"@type":"t/envoy.config.cluster.v3.Cluster","name":"[redacted]","connect_timeout":"0s","per_connection_buffer_limit_bytes":0,"metadata":{"filter_metadata":{"k":{"s":"[redacted]","n":null,"b":null,"l":["[redacted]"]}}}}}"#
    );
    let any = prost_types::Any { type_url: "t/no.Such".into(), value: b"hidden".to_vec() };
    let mut out = String::new();
    let mut printer =
        Printer { out: &mut out, options: Options { redact: true, ..Options::default() }, indent: 0, depth: 0 };
    let bytes = prost::Message::encode_to_vec(&any);
    printer.message(&mut Stack::default(), Message::find("google.protobuf.Any").unwrap(), &bytes, true).unwrap();
    assert_eq!(out, r#"{"@type":"t/no.Such","value":"W3JlZGFjdGVkXQ=="}"#);
}

#[test]
fn deep_wire_is_an_error_or_opaque() {
    let permission = "envoy.config.rbac.v3.Permission";
    let not_rule = Message::find(permission).unwrap().field_by_name("not_rule").unwrap().number() as u8;
    let mut bytes = Vec::new();
    for _ in 0..10_000 {
        let mut outer = vec![not_rule << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
        outer.extend(bytes);
        bytes = outer;
    }
    assert_eq!(to_json(permission, &bytes, &Options::default()), Err(Error::Malformed));
    let any = prost_types::Any { type_url: format!("t/{permission}"), value: bytes };
    let shown = to_json("google.protobuf.Any", &prost::Message::encode_to_vec(&any), &Options::default()).unwrap();
    assert!(shown.contains("\"value\""));

    // Anys within Anys.
    let mut any = prost_types::Any::default();
    for _ in 0..10_000 {
        any = prost_types::Any { type_url: "t/google.protobuf.Any".into(), value: prost::Message::encode_to_vec(&any) };
    }
    assert!(to_json("google.protobuf.Any", &prost::Message::encode_to_vec(&any), &Options::default()).is_ok());
}

#[test]
fn every_message_prints_its_empty_form_and_reads_it_back() {
    for message in Message::all() {
        let text = to_json(message.full_name(), &[], &Options::default()).unwrap();
        if message.well_known().is_none() {
            assert_eq!(text, "{}");
        }
        let back = wire(message.full_name(), &text);
        let again = to_json(message.full_name(), &back, &Options::default()).unwrap();
        assert_eq!(again, text, "{message:?}");
        to_json(message.full_name(), &[], &Options { defaults: true, pretty: true, redact: true }).unwrap();
    }
}
