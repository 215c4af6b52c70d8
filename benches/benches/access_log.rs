//! Writing one line of an access log.

use std::hint::black_box;

use benches::fixtures::{get, message, stream_info};
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderValue, StatusCode};
use outrigger::access_log::{AccessLogType, LogContext};
use outrigger::config::Path;
use outrigger::formatter::LineFormat;
use outrigger::http::ResponseHead;
use serde_json::{Value, json};
use xds_protos::envoy::config::core::v3::SubstitutionFormatString;

/// Istio's default line.
const TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
    \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

fn json_format() -> Value {
    json!({
        "start_time": "%START_TIME%", "method": "%REQ(:METHOD)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "protocol": "%PROTOCOL%", "response_code": "%RESPONSE_CODE%", "response_flags": "%RESPONSE_FLAGS%",
        "bytes_received": "%BYTES_RECEIVED%", "bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%",
        "user_agent": "%REQ(USER-AGENT)%", "request_id": "%REQ(X-REQUEST-ID)%", "authority": "%REQ(:AUTHORITY)%",
        "upstream_host": "%UPSTREAM_HOST%", "upstream_cluster": "%UPSTREAM_CLUSTER%",
        "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%", "route_name": "%ROUTE_NAME%",
    })
}

fn line(format: &LineFormat, context: &LogContext<'_>) -> String {
    let mut out = Vec::new();
    format.write(context, &mut out);
    String::from_utf8(out).expect("text")
}

fn access_log(c: &mut Criterion) {
    let request = get("shop.test", "/catalogue?page=2");
    let mut response = ResponseHead::new(StatusCode::OK);
    response.headers.insert("x-envoy-upstream-service-time", HeaderValue::from_static("7"));
    let mut info = stream_info();
    info.response_code = 200;
    info.bytes_sent = 1234;
    let context = LogContext {
        request: Some(&request),
        response: Some(&response),
        trailers: None,
        info: &info,
        kind: AccessLogType::DownstreamEnd,
    };
    let text = LineFormat::text(TEXT).expect("a format");
    let written = line(&text, &context);
    assert!(written.contains("\"GET /catalogue?page=2 HTTP/1.1\" 200 - "), "{written}");
    assert!(written.contains(" 0 1234 ") && written.contains("\"shop.test\""), "{written}");

    let proto: SubstitutionFormatString = message(&json!({"json_format": json_format()}));
    let json = LineFormat::build(&proto, &Path::root("")).expect("a format");
    let read: Value = serde_json::from_str(&line(&json, &context)).expect("JSON");
    assert_eq!((&read["path"], &read["response_code"]), (&json!("/catalogue?page=2"), &json!(200)));

    let mut group = c.benchmark_group("access-log line");
    for (name, format) in [("text", &text), ("JSON", &json)] {
        let mut out = Vec::with_capacity(4096);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                format.write(black_box(&context), &mut out);
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = lines;
    config = Criterion::default().sample_size(50).measurement_time(std::time::Duration::from_secs(3));
    targets = access_log
}
criterion_main!(lines);
