use tests::config::{access_log, bootstrap, chain, cluster, hcm, listener_with};
use tests::http2::Request;
use tests::upstream::Seen;

use crate::group::EndCheck::{Skip, Wait};
use crate::group::{Group, Kind, Piece, Reply, get, http2 as h2, plain, raw, request, send, steps};

const FORMAT: &str = "log_format: { text_format_source: { inline_string: \"%ACCESS_LOG_TYPE% %REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %ROUTE_NAME% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% %RESP(X-UP)% %RESP(CONTENT-LENGTH)%\\n\" } }";

const ROUTES: &str = "
- { name: slow, match: { prefix: /slow }, route: { cluster: up, timeout: 0.5s } }
- { name: direct, match: { prefix: /direct }, direct_response: { status: 200, body: { inline_string: said } } }
- { name: tunnel, match: { prefix: /tunnel }, route: { cluster: up, timeout: 0s, upgrade_configs: [ { upgrade_type: websocket } ] } }
- { name: rest, match: { prefix: / }, route: { cluster: up } }
";

fn upstream(seen: &Seen) -> Reply {
    match seen.target() {
        "/slow/silent" => Reply::Silent,
        "/slow/half" => Reply::Tunnel(b"HTTP/1.1 200 OK\r\nx-up: 1\r\ncontent-length: 100\r\n\r\nhalf".to_vec()),
        "/tunnel" => Reply::Tunnel(
            b"HTTP/1.1 101 Switching Protocols\r\nx-up: 1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
                .to_vec(),
        ),
        _ => plain(seen),
    }
}

pub fn group() -> Group {
    let mut cases = Vec::new();
    for listener in ["main", "periodic", "tunnel", "old-start", "old-periodic", "only-start"] {
        let id = |name: &str| format!("{listener} {name}");
        let upgrade = request("GET", "/tunnel", &["connection: upgrade", "upgrade: websocket"], "");
        cases.extend([
            get(id("up"), "/up", &[]).on(listener),
            raw(id("post"), request("POST", "/up", &[], "body")).on(listener),
            get(id("direct"), "/direct", &[]).on(listener),
            raw(id("no host"), "GET / HTTP/1.1\r\n\r\n").on(listener),
            raw(id("bad"), "GET / HTTP/1.1\r\nbad\r\n\r\n").on(listener),
            get(id("silent"), "/slow/silent", &[]).requests(1).on(listener),
            get(id("half"), "/slow/half", &[]).requests(1).end(Wait).ignore("0.instead").on(listener),
            h2(id("http2"), vec![Request::get("http://test.local/up")]).on(listener),
            steps(
                id("upgraded"),
                vec![send(upgrade), Piece::Response, send("hi"), Piece::Read(2), Piece::Finish, Piece::ReadToEnd],
            )
            .requests(1)
            .end(Skip)
            .on(listener),
        ]);
    }
    let http = |name: &str, options: &str| {
        let filter = if name == "only-start" { "{ log_type_filter: { types: [ DownstreamStart ] } }" } else { "" };
        let log = access_log("access.log", FORMAT);
        let log = if filter.is_empty() { log } else { log.replace("- name:", &format!("- filter: {filter}\n  name:")) };
        let fields = format!("{log}delayed_close_timeout: 0.05s\n{options}\n");
        listener_with(name, &chain(&hcm(ROUTES, &fields), ""), "")
    };
    let listeners = [
        http("main", "access_log_options: { flush_access_log_on_new_request: true }"),
        http("periodic", "access_log_options: { access_log_flush_interval: 0.2s }"),
        http("tunnel", "access_log_options: { flush_log_on_tunnel_successfully_established: true }"),
        http("old-start", "flush_access_log_on_new_request: true"),
        http("old-periodic", "access_log_flush_interval: 0.2s"),
        http("only-start", "access_log_options: { flush_access_log_on_new_request: true, access_log_flush_interval: 0.2s, flush_log_on_tunnel_successfully_established: true }"),
    ]
    .concat();
    Group {
        name: "log_types",
        config: bootstrap(&listeners, &cluster("up", "{up:up}", "")),
        upstreams: vec![("up", Kind::Http1(upstream))],
        cases,
        fields: &["*.status"],
        stats: &[],
        logs: &["access.log"],
    }
}
