use super::*;

fn refusal(format: &str) -> String {
    match Formatter::parse(format, Extensions::default()) {
        Ok(_) => "OK".into(),
        Err(why) => why,
    }
}

#[test]
fn formats_are_refused_in_envoys_words() {
    let at =
        |format: &str, n| format!("Incorrect configuration: {format}. Couldn't find valid command at position {n}");
    for (format, position) in [
        ("%", 0),
        ("a%", 1),
        ("%PROTOCOL", 0),
        ("%PROTOCOL%%", 10),
        ("%protocol%", 0),
        ("%REQ(a):x%", 0),
        ("%REQ(a):%", 0),
        ("%REQ(a):-1%", 0),
        ("%REQ(a)x%", 0),
        ("%REQ(a%", 0),
        ("%REQ(a\nb)%", 0),
        ("%REQ(a):99999999999999999999%", 0),
    ] {
        assert_eq!(refusal(format), at(format, position));
    }
    let characters = "Invalid header configuration. Format string contains invalid characters.";
    let common = "Invalid common duration";
    for (format, want) in [
        ("%NOPE%", "Not supported field in StreamInfo: NOPE"),
        ("%NOPE(x):3%", "Not supported field in StreamInfo: NOPE"),
        ("%REQ_WITHOUT_QUERY(:path)%", "Not supported field in StreamInfo: REQ_WITHOUT_QUERY"),
        ("%PROTOCOL(x)%", "PROTOCOL does not take any parameters or length"),
        ("%PROTOCOL:3%", "PROTOCOL does not take any parameters or length"),
        ("%GRPC_STATUS_NUMBER(x)%", "GRPC_STATUS_NUMBER does not take any parameters or length"),
        ("%HOSTNAME:3%", "HOSTNAME does not take any parameters or length"),
        ("%REQ%", "REQ requires parameters"),
        ("%RESP()%", "RESP requires parameters"),
        ("%QUERY_PARAM%", "QUERY_PARAM requires parameters"),
        ("%ENVIRONMENT%", "ENVIRONMENT requires parameters"),
        ("%REQ(a?b?c)%", "More than 1 alternative header specified in token: a?b?c"),
        ("%REQ(a b)%", characters),
        ("%TRAILER(é)%", characters),
        ("%REQ(a)b)%", characters),
        ("%START_TIME(%n)%", "Invalid header configuration. Format string contains newline."),
        ("%START_TIME:3%", "START_TIME does not allow length to be specified."),
        ("%RESPONSE_CODE_DETAILS:3%", "RESPONSE_CODE_DETAILS does not allow length to be specified."),
        ("%REQUESTED_SERVER_NAME():3%", "REQUESTED_SERVER_NAME does not allow length to be specified."),
        (
            "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT:3%",
            "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT does not allow length to be specified.",
        ),
        ("%CLUSTER_METADATA(a:b):3%", "CLUSTER_METADATA does not allow length to be specified."),
        ("%CLUSTER_METADATA%", "CLUSTER_METADATA requires parameters"),
        ("%GRPC_STATUS(X)%", "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: X"),
        ("%COMMON_DURATION%", "COMMON_DURATION requires parameters"),
        ("%COMMON_DURATION(a)%", &format!("{common} configuration: a.")),
        ("%COMMON_DURATION(DS_RX_BEG:DS_RX_END:xs)%", &format!("{common} precision: xs.")),
        ("%COMMON_DURATION(A:B:ms:x)%", &format!("{common} configuration: A:B:ms:x.")),
        ("%PATH(X)%", "Invalid PATH option: 'X', only 'WQ'/'NQ' are allowed"),
        ("%PATH(WQ:X)%", "Invalid PATH option: 'X', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"),
        ("%QUERY_PARAMS(X)%", "Invalid QUERY_PARAMS option: 'X', only 'ORIG'/'DECODED' are allowed"),
        (
            "%REQUESTED_SERVER_NAME(X)%",
            "Invalid REQUESTED_SERVER_NAME option: 'X', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed",
        ),
        (
            "%REQUESTED_SERVER_NAME(HOST_FIRST:X)%",
            "Invalid REQUESTED_SERVER_NAME option: 'X', only 'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed",
        ),
        ("%METADATA(X:a)%", "X is not supported type of metadata"),
        ("%METADATA%", " is not supported type of metadata"),
        ("%FILTER_STATE%", "Invalid filter state configuration, key cannot be empty."),
        ("%FILTER_STATE(a:b)%", "Invalid filter state serialize type, only support PLAIN/TYPED/FIELD."),
        ("%COALESCE({})%", "COALESCE: JSON configuration must contain 'operators' array"),
        ("%COALESCE({\"operators\":[]})%", "COALESCE: 'operators' array must not be empty"),
        (
            "%COALESCE({\"operators\":[\"NOPE\"]})%",
            "COALESCE: failed to parse operator at index 0: unknown command: NOPE",
        ),
        (
            "%COALESCE({\"operators\":[{\"command\":\"REQ\"}]})%",
            "COALESCE: failed to parse operator at index 0: REQ requires parameters",
        ),
        ("%CEL(response.code)%", "CEL is not supported: there are no CEL expressions yet"),
        (
            "%DOWNSTREAM_CX_RTT%",
            "DOWNSTREAM_CX_RTT is not supported: the round-trip time of connections is not measured",
        ),
    ] {
        assert_eq!(refusal(format), want, "{format}");
    }
}

/// Every operator that Envoy 1.40 takes, with arguments it takes.
#[test]
fn what_envoy_takes_is_taken_or_refused_by_name() {
    const TAKEN: &str = include_str!("envoy_operators.txt");
    let mut refused = Vec::new();
    for operator in TAKEN.lines() {
        if let Err(why) = Formatter::parse(&format!("%{operator}%"), Extensions::default()) {
            assert!(why.contains(" is not supported: "), "{operator}: {why}");
            refused.push(operator.split('(').next().unwrap());
        }
    }
    let listed: Vec<_> = super::super::operators::UNSUPPORTED.iter().map(|(name, _)| *name).collect();
    refused.sort_unstable();
    assert_eq!(refused, listed);
}

#[test]
fn odd_formats_that_are_taken() {
    for format in [
        "",
        "%%",
        "a%%b",
        "%PROTOCOL()%",
        "%REQ(?b)%",
        "%REQ(:nope)%",
        "%REQ(a):0%",
        "%START_TIME()%",
        "%PATH():3%",
        "%PATH(NQ:ORIG:x)%",
    ] {
        assert_eq!(refusal(format), "OK", "{format}");
    }
}

#[test]
fn format_strings_are_refused_with_their_path() {
    let refuse = |yaml: &str| {
        let proto: core::SubstitutionFormatString = from_yaml(yaml);
        LineFormat::build(&proto, &Path::root("f")).err().map(|reject| reject.to_string())
    };
    assert_eq!(refuse("{}").unwrap(), "f: expected one of text_format_source, text_format, json_format");
    assert!(refuse("text_format_source: {inline_string: '%'}").unwrap().starts_with("f.text_format_source: Incorrect"));
    assert!(refuse("json_format: {a: {b: ['%NOPE%']}}").unwrap().starts_with("f.json_format: Not supported field"));
    let unknown = "text_format: x\nformatters: [{name: x, typed_config: {'@type': type.googleapis.com/google.protobuf.Struct, value: {}}}]";
    assert!(refuse(unknown).unwrap().starts_with("f.formatters[0]: formatter \"x\""));
    let known = "text_format: '%REQ_WITHOUT_QUERY(:path)%'\nformatters:\n\
        - {name: a, typed_config: {'@type': type.googleapis.com/envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery}}\n\
        - {name: b, typed_config: {'@type': type.googleapis.com/envoy.extensions.formatter.metadata.v3.Metadata}}";
    assert_eq!(refuse(known), None);
}
