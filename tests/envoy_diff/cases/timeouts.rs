use tests::config::{bootstrap, cluster, http_protocol_options};
use tests::http2::Request;
use tests::upstream::Seen;

use super::{STATS, http_listener};
use crate::group::EndCheck::{Skip, Wait};
use crate::group::{Group, Kind, Piece, Reply, get, http2 as h2, plain, raw, request, send, steps};

fn upstream(request: &Seen) -> Reply {
    match request.target().rsplit('/').next().unwrap_or_default() {
        "silent" => Reply::Silent,
        "half" => Reply::Tunnel(b"HTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 100\r\n\r\nhalf".to_vec()),
        _ => plain(request),
    }
}

const ROUTES: &str = "
- { match: { prefix: /route/ }, route: { cluster: up, timeout: 0.2s } }
- { match: { prefix: /idle/ }, route: { cluster: up, timeout: 0s, idle_timeout: 0.2s } }
- { match: { prefix: /duration/ }, route: { cluster: up, timeout: 0s, max_stream_duration: { max_stream_duration: 0.2s } } }
- { match: { prefix: /none/ }, route: { cluster: up, timeout: 0s } }
- { match: { prefix: /cluster/ }, route: { cluster: short, timeout: 0s } }
- { match: { prefix: / }, route: { cluster: up } }
";

pub fn group() -> Group {
    let half = |id: &str, path: &str| get(id, path, &[]).requests(1).end(Wait);
    let cases = vec![
        get("route silent", "/route/silent", &[]).requests(1).status(504),
        half("route half", "/route/half"),
        raw("route while the body comes", "POST /route/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
            .on("stream-idle")
            .status(408),
        get("route answered", "/route/x", &[]).status(200),
        h2("route silent over http2", vec![Request::get("http://test.local/route/silent")]).requests(1),
        h2("route half over http2", vec![Request::get("http://test.local/route/half")]).requests(1),
        get("idle silent", "/idle/silent", &[]).requests(1).status(504),
        half("idle half", "/idle/half"),
        get("duration silent", "/duration/silent", &[]).requests(1),
        half("duration half", "/duration/half"),
        get("cluster silent", "/cluster/silent", &[]).requests(1),
        half("cluster half", "/cluster/half"),
        get("stream idle silent", "/none/silent", &[]).on("stream-idle").requests(1).status(504),
        half("stream idle half", "/none/half").on("stream-idle"),
        h2("stream idle half over http2", vec![Request::get("http://test.local/none/half")])
            .on("stream-idle")
            .requests(1),
        get("stream duration silent", "/none/silent", &[]).on("stream-duration").requests(1),
        half("stream duration half", "/none/half").on("stream-duration"),
        h2("stream duration half over http2", vec![Request::get("http://test.local/none/half")])
            .on("stream-duration")
            .requests(1),
        steps("connection idle", vec![send(request("GET", "/x", &[], "")), Piece::Response]).on("idle").end(Wait),
        steps("connection duration", vec![send(request("GET", "/x", &[], "")), Piece::Response])
            .on("duration")
            .end(Wait),
        get("header timeout external", "/none/silent", &["x-envoy-upstream-rq-timeout-ms: 200"])
            .on("internal")
            .requests(1)
            .status(504),
        get("header timeout nonsense", "/none/x", &["x-envoy-upstream-rq-timeout-ms: soon"]).on("internal").status(200),
        get("header timeout zero", "/route/x", &["x-envoy-upstream-rq-timeout-ms: 0"]).on("internal").status(200),
        get(
            "per try header",
            "/none/x",
            &["x-envoy-upstream-rq-timeout-ms: 3000", "x-envoy-upstream-rq-per-try-timeout-ms: 2000"],
        )
        .on("internal")
        .status(200),
        get("expected from client", "/none/x", &["x-envoy-expected-rq-timeout-ms: 1234"]).on("internal").status(200),
        steps("gone while waiting", vec![send(request("GET", "/none/silent", &[], "")), Piece::Arrive, Piece::Abort])
            .end(Skip),
        steps("half a head, headers timeout", vec![send("GET /x HTTP/1.1\r\n")]).on("heads").responses(1).end(Wait),
        steps("half a head, request timeout", vec![send("GET /x HTTP/1.1\r\nx")]).on("requests").responses(1).end(Wait),
        steps("half a head, duration", vec![send("G")]).on("stream-duration").responses(1).end(Wait),
        raw("half a body, request timeout", "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab")
            .on("requests"),
        raw("grpc silent", request("POST", "/route/silent", &["content-type: application/grpc"], "")).requests(1),
        raw("grpc stream idle", request("POST", "/none/silent", &["content-type: application/grpc"], ""))
            .on("stream-idle")
            .requests(1),
        raw("grpc stream duration", request("POST", "/none/silent", &["content-type: application/grpc"], ""))
            .on("stream-duration")
            .requests(1),
        raw("grpc duration", request("POST", "/duration/silent", &["content-type: application/grpc"], "")).requests(1),
        h2(
            "grpc silent over http2",
            vec![Request::get("http://test.local/route/silent").header("content-type", "application/grpc")],
        )
        .requests(1),
        steps("half a head", vec![send("GET /x HTTP/1.1\r\n")]).on("stream-idle").responses(1).end(Wait),
    ];
    let listeners = [
        http_listener("main", ROUTES, ""),
        http_listener("stream-idle", ROUTES, "stream_idle_timeout: 0.2s\n"),
        http_listener("stream-duration", ROUTES, "common_http_protocol_options: { max_stream_duration: 0.2s }\n"),
        http_listener("heads", ROUTES, "request_headers_timeout: 0.2s\n"),
        http_listener("requests", ROUTES, "request_timeout: 0.2s\n"),
        http_listener("idle", ROUTES, "common_http_protocol_options: { idle_timeout: 0.2s }\ndrain_timeout: 0.1s\n"),
        http_listener("duration", ROUTES, "common_http_protocol_options: { max_connection_duration: 0.2s }\ndrain_timeout: 0.1s\n"),
        http_listener("internal", ROUTES, "use_remote_address: true\ninternal_address_config: { cidr_ranges: [ { address_prefix: 127.0.0.0, prefix_len: 8 } ] }\n"),
    ]
    .concat();
    let short = http_protocol_options(
        "common_http_protocol_options: { max_stream_duration: 0.2s }\nexplicit_http_config: { http_protocol_options: {} }",
    );
    Group {
        name: "timeouts",
        config: bootstrap(&listeners, &(cluster("up", "{up:up}", "") + &cluster("short", "{up:up}", &short))),
        upstreams: vec![("up", Kind::Http1(upstream))],
        cases,
        fields: &[],
        stats: STATS,
        logs: &["access.log"],
    }
}
