use tests::config::{bootstrap, cluster};
use tests::http2::Request;

use super::{STATS, http_listener};
use crate::group::{Group, Kind, get, http2 as h2, plain, raw, request};

const TEXT: &str = r#"
local_reply_config:
  mappers:
  - filter: { status_code_filter: { comparison: { op: EQ, value: { default_value: 404, runtime_key: x } } } }
    status_code: 410
    body: { inline_string: "gone from here\n" }
    headers_to_add:
    - { header: { key: x-mapped, value: "%RESPONSE_CODE%" }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }
  - filter: { response_flag_filter: { flags: [ UF ] } }
    body_format_override: { text_format_source: { inline_string: "%LOCAL_REPLY_BODY% on %REQ(:PATH)%" } }
  - filter: { header_filter: { header: { name: x-json, present_match: true } } }
    body_format_override: { json_format: { status: "%RESPONSE_CODE%", said: "%LOCAL_REPLY_BODY%" } }
  body_format: { text_format_source: { inline_string: "[%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%] %LOCAL_REPLY_BODY%" }, content_type: "text/x-own" }
"#;

const JSON: &str = r#"
local_reply_config:
  body_format: { json_format: { code: "%RESPONSE_CODE%", flags: "%RESPONSE_FLAGS%", body: "%LOCAL_REPLY_BODY%", none: "%REQ(X-NONE)%" } }
"#;

const MORE: &str = r#"
local_reply_config:
  mappers:
  - filter: { and_filter: { filters: [ { header_filter: { header: { name: content-type, string_match: { prefix: application/grpc } } } }, { status_code_filter: { comparison: { op: GE, value: { default_value: 400, runtime_key: x } } } } ] } }
    status_code: 401
    headers_to_add:
    - { header: { key: x-seen, value: "%GRPC_STATUS_NUMBER% %RESPONSE_CODE% %LOCAL_REPLY_BODY%" } }
  - filter: { header_filter: { header: { name: x-own-type, present_match: true } } }
    body: { inline_string: "<b>" }
    headers_to_add:
    - { header: { key: content-type, value: text/html }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }
  - filter: { header_filter: { header: { name: x-status-only, present_match: true } } }
    status_code: 599
  - filter: { status_code_filter: { comparison: { op: EQ, value: { default_value: 400, runtime_key: x } } } }
    status_code: 422
    body: { inline_string: "what?" }
    headers_to_add:
    - { header: { key: x-who, value: "%REQ(:METHOD)% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %RESPONSE_FLAGS%" } }
  - filter: { status_code_filter: { comparison: { op: EQ, value: { default_value: 301, runtime_key: x } } } }
    body_format_override: { text_format_source: { inline_string: "moved to %RESP(LOCATION)%" } }
  - filter: { status_code_filter: { comparison: { op: EQ, value: { default_value: 418, runtime_key: x } } } }
    body_format_override: { text_format_source: { inline_string: "" } }
  body_format: { text_format: "%LOCAL_REPLY_BODY%!" , content_type: "text/x-more" }
"#;

pub fn group() -> Group {
    let mut cases = Vec::new();
    for listener in ["main", "text", "json", "more"] {
        for path in ["/direct", "/none-at-all", "/refused", "/nobody", "/redirect", "/up"] {
            cases.push(get(format!("{listener} {path}"), path, &[]).on(listener));
        }
        cases.push(get(format!("{listener} by header"), "/direct", &["x-json: 1"]).on(listener));
        cases.push(raw(format!("{listener} head"), request("HEAD", "/direct", &[], "")).on(listener));
        cases.push(raw(format!("{listener} bad"), "GET / HTTP/1.1\r\nbad\r\n\r\n").on(listener));
        cases.push(raw(format!("{listener} missing host"), "GET / HTTP/1.1\r\n\r\n").on(listener));
        cases.push(
            raw(format!("{listener} grpc"), request("POST", "/direct", &["content-type: application/grpc"], "x"))
                .on(listener),
        );
        cases.push(h2(format!("{listener} http2"), vec![Request::get("http://test.local/direct")]).on(listener));
    }
    for path in ["/direct", "/typed", "/none-at-all", "/redirect", "/teapot"] {
        cases.push(get(format!("own type {path}"), path, &["x-own-type: 1"]).on("more"));
        cases.push(get(format!("status only {path}"), path, &["x-status-only: 1"]).on("more"));
        cases.push(get(format!("typed {path}"), path, &[]).on("text"));
        cases.push(get(format!("nothing {path}"), path, &["content-type: application/grpc"]).on("more"));
    }
    let routes = "
- { match: { prefix: /typed }, direct_response: { status: 403, body: { inline_string: typed } }, response_headers_to_add: [ { header: { key: content-type, value: text/x-route } } ] }
- { match: { prefix: /teapot }, direct_response: { status: 418, body: { inline_string: short } } }
- { match: { prefix: /direct }, direct_response: { status: 403, body: { inline_string: \"said \\\"no\\\"\" } } }
- { match: { prefix: /refused }, route: { cluster: refusing } }
- { match: { prefix: /nobody }, route: { cluster: nobody } }
- { match: { prefix: /redirect }, redirect: { path_redirect: /new } }
- { match: { prefix: /up }, route: { cluster: up } }
";
    let listeners = [
        http_listener("main", routes, "delayed_close_timeout: 0.05s\n"),
        http_listener("text", routes, &format!("delayed_close_timeout: 0.05s\n{TEXT}")),
        http_listener("more", routes, &format!("delayed_close_timeout: 0.05s\n{MORE}")),
        http_listener("json", routes, &format!("delayed_close_timeout: 0.05s\n{JSON}")),
    ]
    .concat();
    let clusters = cluster("up", "{up:up}", "")
        + &cluster("refusing", "{up:refusing}", "")
        + "- name: nobody\n  type: STATIC\n  connect_timeout: 1s\n";
    Group {
        name: "local_replies",
        config: bootstrap(&listeners, &clusters),
        upstreams: vec![("up", Kind::Http1(plain)), ("refusing", Kind::Refusing)],
        cases,
        fields: &[],
        stats: STATS,
        logs: &["access.log"],
    }
}
