use http::HeaderValue;
use xds_protos::envoy::config::accesslog::v3 as pb;

use super::*;
use crate::config::testing::from_yaml;
use crate::formatter::tests::{Stream, address};
use crate::route::tests::{cx, get, info};
use crate::runtime::{Runtime, Value};
use crate::stream_info::ResponseFlags;

fn filter_with(yaml: &str, cx: &BuildCx) -> Result<Filter, String> {
    let proto: pb::AccessLogFilter = from_yaml(yaml);
    Filter::build(&proto, &Path::root("filter"), cx).map_err(|reject| reject.to_string())
}

fn filter(yaml: &str) -> Filter {
    filter_with(yaml, &cx()).unwrap_or_else(|why| panic!("{why}"))
}

fn comparison(op: &str, value: u32) -> String {
    format!("{{comparison: {{op: {op}, value: {{default_value: {value}, runtime_key: k}}}}}}")
}

/// The requests that Envoy 1.40 was asked: status, response flags, content type, request id.
fn requests() -> Vec<Stream> {
    let grpc = Some("application/grpc");
    let specs = [
        (200, None, None),
        (503, None, None),
        (404, None, None),
        (200, grpc, None),
        (503, grpc, None),
        (200, None, Some("a4511aa1-2b55-a193-94dc-f9262690a041")),
        (200, None, Some("00000000-2b55-9193-94dc-f9262690a041")),
        (200, None, Some("ffffffff-2b55-4193-94dc-f9262690a041")),
    ];
    let stream = |(code, content_type, id): (u16, Option<&str>, Option<&str>)| {
        let headers: Vec<_> = content_type.iter().map(|value| ("content-type", *value)).collect();
        let mut stream = Stream::new(get("a.test", "/", &headers));
        stream.info.response_code = code;
        stream.info.request_id = id.map(Into::into);
        if code == 404 {
            stream.info.set_flag(ResponseFlags::NO_ROUTE_FOUND);
        }
        stream
    };
    specs.into_iter().map(stream).collect()
}

#[test]
fn filters_choose_what_envoy_chooses() {
    let server_error = format!("status_code_filter: {}", comparison("EQ", 503));
    for (yaml, want) in [
        (format!("status_code_filter: {}", comparison("GE", 503)), &[1, 4][..]),
        (format!("status_code_filter: {}", comparison("NE", 200)), &[1, 2, 4]),
        (format!("status_code_filter: {}", comparison("LE", 200)), &[0, 3, 5, 6, 7]),
        (format!("status_code_filter: {}", comparison("EQ", 404)), &[2]),
        (format!("duration_filter: {}", comparison("GE", 0)), &[0, 1, 2, 3, 4, 5, 6, 7]),
        (format!("duration_filter: {}", comparison("GE", 3_600_000)), &[]),
        ("traceable_filter: {}".into(), &[]),
        ("not_health_check_filter: {}".into(), &[0, 1, 2, 3, 4, 5, 6, 7]),
        ("response_flag_filter: {flags: [NR]}".into(), &[2]),
        ("response_flag_filter: {flags: [UF, UH]}".into(), &[]),
        ("response_flag_filter: {}".into(), &[2]),
        ("grpc_status_filter: {statuses: [OK]}".into(), &[]),
        ("grpc_status_filter: {statuses: [UNKNOWN]}".into(), &[0, 3, 5, 6, 7]),
        ("grpc_status_filter: {statuses: [UNAVAILABLE], exclude: true}".into(), &[0, 2, 3, 5, 6, 7]),
        ("grpc_status_filter: {}".into(), &[]),
        ("header_filter: {header: {name: content-type, present_match: true}}".into(), &[3, 4]),
        ("log_type_filter: {types: [DownstreamEnd]}".into(), &[0, 1, 2, 3, 4, 5, 6, 7]),
        ("log_type_filter: {types: [DownstreamEnd], exclude: true}".into(), &[]),
        ("log_type_filter: {}".into(), &[]),
        (format!("and_filter: {{filters: [{{{server_error}}}, {{response_flag_filter: {{}}}}]}}"), &[]),
        (format!("or_filter: {{filters: [{{{server_error}}}, {{response_flag_filter: {{}}}}]}}"), &[1, 2, 4]),
    ] {
        let filter = filter(&yaml);
        let chosen: Vec<_> =
            requests().iter().enumerate().filter(|(_, s)| filter.matches(&s.cx())).map(|(i, _)| i).collect();
        assert_eq!(chosen, want, "{yaml}");
    }
}

#[test]
fn a_part_is_chosen_by_the_request_id() {
    let chosen = |runtime: Option<Value>, denominator: &str| {
        let mut cx = cx();
        cx.runtime = Arc::new(Runtime::new(runtime.map(|value| ("k".to_owned(), value)).into_iter().collect()));
        let yaml = format!(
            "runtime_filter: {{runtime_key: k, percent_sampled: {{numerator: 1, denominator: {denominator}}}}}"
        );
        let filter = filter_with(&yaml, &cx).unwrap();
        [0u32, 49, 50, 4999, 5000, 9999, 10_000, 15_049].map(|id| {
            let mut stream = Stream::new(get("a.test", "/", &[]));
            stream.info.request_id = Some(format!("{id:08x}-2b55-4193-94dc-f9262690a041").into());
            filter.matches(&stream.cx())
        })
    };
    let bits = |text: &str| -> [bool; 8] { std::array::from_fn(|i| text.as_bytes()[i] == b'Y') };
    assert_eq!(chosen(Some(Value::Number(50.0)), "HUNDRED"), bits("YY..Y.YY"));
    assert_eq!(chosen(Some(Value::Number(50.0)), "TEN_THOUSAND"), bits("YY....Y."));
    assert_eq!(chosen(Some(Value::Text("5000".into())), "TEN_THOUSAND"), bits("YYYY..Y."));
    assert_eq!(chosen(Some(Value::Fraction { numerator: 50, denominator: 100 }), "TEN_THOUSAND"), bits("Y.....Y."));
    assert_eq!(chosen(Some(Value::Number(200.0)), "HUNDRED"), [true; 8]);
    assert_eq!(chosen(None, "HUNDRED"), bits("Y...Y.Y."));
    let never = filter("runtime_filter: {runtime_key: k}");
    assert!(requests().iter().all(|stream| !never.matches(&stream.cx())));
}

#[test]
fn a_connection_has_neither_headers_nor_a_status() {
    let info = info();
    let context = LogContext {
        request: None,
        response: None,
        trailers: None,
        info: &info,
        kind: AccessLogType::TcpConnectionEnd,
    };
    for (yaml, want) in [
        ("header_filter: {header: {name: x, present_match: true}}", false),
        ("header_filter: {header: {name: x, present_match: true, invert_match: true}}", true),
        ("grpc_status_filter: {statuses: [UNKNOWN]}", true),
        ("log_type_filter: {types: [TcpConnectionEnd]}", true),
        ("response_flag_filter: {}", false),
    ] {
        assert_eq!(filter(yaml).matches(&context), want, "{yaml}");
    }
}

#[test]
fn bad_filters_are_refused_with_their_field() {
    for (yaml, want) in [
        ("{}", "filter: expected a filter"),
        ("status_code_filter: {}", "filter.status_code_filter.comparison: expected a comparison"),
        ("duration_filter: {comparison: {}}", "filter.duration_filter.comparison.value: expected a number"),
        ("and_filter: {filters: [{not_health_check_filter: {}}]}", "filter.and_filter.filters: expected at least 2"),
        ("response_flag_filter: {flags: [NR, X]}", "filter.response_flag_filter.flags[1]: expected a response flag"),
        ("runtime_filter: {}", "filter.runtime_filter.runtime_key: expected at least one"),
        ("header_filter: {}", "filter.header_filter.header: expected a header matcher"),
        ("metadata_filter: {}", "filter.metadata_filter: dynamic metadata is not supported yet"),
        (
            "extension_filter: {name: cel, typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter, expression: 'true'}}",
            "filter.extension_filter: unsupported extension \"cel\"",
        ),
    ] {
        let message = filter_with(yaml, &cx()).err().unwrap_or_else(|| panic!("accepted {yaml}"));
        assert!(message.starts_with(want), "{message}");
    }
}

fn build(yaml: &str) -> Result<AccessLog, String> {
    let proto: pb::AccessLog = from_yaml(yaml);
    AccessLog::build(&proto, &Path::root("log"), &cx()).map_err(|reject| reject.to_string())
}

const FILE: &str = "'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";

#[test]
fn bad_loggers_are_refused_with_their_field() {
    for (yaml, want) in [
        ("name: envoy.access_loggers.file".to_owned(), "log.typed_config: expected a typed_config"),
        (format!("typed_config: {{{FILE}}}"), "log.typed_config.path: expected a file"),
        (format!("typed_config: {{{FILE}, path: /nonexistent/x}}"), "log.typed_config: cannot open"),
        (
            format!("typed_config: {{{FILE}, path: /dev/null, log_format: {{text_format: '%NOPE%'}}}}"),
            "log.typed_config.log_format.text_format: Not supported field in StreamInfo: NOPE",
        ),
        (
            format!("typed_config: {{{FILE}, path: /dev/null, json_format: {{a: '%'}}}}"),
            "log.typed_config.json_format: Incorrect configuration",
        ),
        (
            "typed_config: {'@type': type.googleapis.com/google.protobuf.Struct, value: {}}".to_owned(),
            "log.typed_config: unsupported extension",
        ),
    ] {
        let message = build(&yaml).err().unwrap_or_else(|| panic!("accepted {yaml}"));
        assert!(message.starts_with(want), "{message}");
    }
    let stream = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3";
    assert!(build(&format!("typed_config: {{'@type': {stream}.StdoutAccessLog}}")).is_ok());
    assert!(
        build(&format!("typed_config: {{'@type': {stream}.StderrAccessLog, log_format: {{text_format: x}}}}")).is_ok()
    );
}

/// What one log makes of a request that went well.
fn written(fields: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = build(&format!("typed_config: {{{FILE}, path: {}{fields}}}", path.display())).unwrap();
    let mut stream = Stream::new(get(
        "a.test",
        "/ok?q=1",
        &[("user-agent", "ua/1"), ("x-forwarded-for", "9.9.9.9"), ("x-request-id", "id")],
    ));
    stream.info.response_code = 200;
    (stream.info.bytes_received, stream.info.bytes_sent) = (5, 3);
    stream.info.start_time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_795_238_685_100);
    stream.info.end = Some(stream.info.start + std::time::Duration::from_millis(4));
    stream.info.upstream.host = Some(Arc::new(crate::endpoint::Host::new(address("127.0.0.1:9090"), "".into(), 1)));
    let headers = &mut stream.response.as_mut().unwrap().headers;
    headers.insert("x-envoy-upstream-service-time", HeaderValue::from_static("3"));
    log.log(&stream.cx());
    flush_all();
    std::fs::read_to_string(&path).unwrap()
}

#[test]
fn lines_are_envoys() {
    let default = "[2026-11-21T05:24:45.100Z] \"GET /ok?q=1 HTTP/1.1\" 200 - 5 3 4 3 \"9.9.9.9\" \"ua/1\" \"id\" \"a.test\" \"127.0.0.1:9090\"\n";
    assert_eq!(written(""), default);
    assert_eq!(written(", format: 'f %RESPONSE_CODE%'"), "f 200");
    for field in ["json_format", "typed_json_format"] {
        let line = written(&format!(", {field}: {{a: '%RESPONSE_CODE%', b: '%REQ(none)%', c: 'x%RESPONSE_CODE%'}}"));
        assert_eq!(line, "{\"a\":200,\"b\":null,\"c\":\"x200\"}\n");
    }
    assert_eq!(written(", log_format: {text_format_source: {inline_string: '%ACCESS_LOG_TYPE%'}}"), "DownstreamEnd");
}

#[test]
fn a_filtered_line_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let filter = format!("filter: {{status_code_filter: {}}}", comparison("GE", 500));
    let log = build(&format!(
        "{{{filter}, typed_config: {{{FILE}, path: {}, format: \"%RESPONSE_CODE%\\n\"}}}}",
        path.display()
    ))
    .unwrap();
    requests().iter().for_each(|stream| log.log(&stream.cx()));
    flush_all();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "503\n503\n");
}

#[test]
fn lines_reach_the_file_and_a_reopened_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let stats = cx().stats;
    let open = || Sink::open(Target::File(path.clone()), std::time::Duration::from_secs(10), &stats);
    let sink = open().unwrap();
    assert!(Arc::ptr_eq(&sink, &open().unwrap()), "one sink for one file");
    sink.append(|line| line.extend_from_slice(b"one\n"));
    flush_all();
    std::fs::rename(&path, folder.path().join("old")).unwrap();
    reopen();
    sink.append(|line| line.extend_from_slice(b"two\n"));
    flush_all();
    assert_eq!(std::fs::read_to_string(folder.path().join("old")).unwrap(), "one\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
}
