use tests::config::{access_log, bootstrap, chain, cluster, hcm, listener, listener_with, tcp_proxy};

use crate::group::EndCheck::{Skip, Wait};
use crate::group::{Case, Group, Kind, Piece, send, steps};

fn log() -> String {
    access_log(
        "tcp.log",
        "log_format: { text_format_source: { inline_string: \"%RESPONSE_FLAGS% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% %UPSTREAM_TRANSPORT_FAILURE_REASON% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %PROTOCOL% %REQ(:PATH)%\\n\" } }",
    )
}

pub fn group() -> Group {
    let quiet = |case: Case| case.end(Skip);
    let cases = vec![
        quiet(
            steps(
                "echo",
                vec![send("hello"), Piece::Read(5), send("again"), Piece::Read(5), Piece::Finish, Piece::ReadToEnd],
            )
            .on("echo"),
        ),
        quiet(steps("half-closed at once", vec![Piece::Finish, Piece::ReadToEnd]).on("echo")),
        quiet(
            steps("a megabyte", vec![send(vec![b'x'; 100_000]), Piece::Read(100_000), Piece::Finish, Piece::ReadToEnd])
                .on("echo"),
        ),
        quiet(
            steps("aborted", vec![send("hello"), Piece::Read(5), Piece::Abort])
                .on("echo")
                .settle("tcp.tcp.downstream_cx_total", 4),
        ),
        quiet(steps("server speaks first", vec![Piece::ReadToEnd]).on("says")),
        steps("refused", vec![]).on("refusing").end(Wait),
        steps("refused after three attempts", vec![]).on("attempts").end(Wait),
        steps("no host", vec![]).on("nobody").end(Wait),
        steps("idle", vec![send("hello"), Piece::Read(5)]).on("idle").end(Wait),
        steps("longest duration", vec![send("hello"), Piece::Read(5)]).on("duration").end(Wait),
        quiet(steps("weighted", vec![send("hello"), Piece::Read(5), Piece::Finish, Piece::ReadToEnd]).on("weighted")),
    ];
    let tcp = |fields: &str| tcp_proxy(&format!("{fields}\n{}", log()));
    let listeners = [
        listener("main", &hcm("- { match: { prefix: / }, direct_response: { status: 200 } }\n", &log())),
        listener("echo", &tcp("cluster: echo")),
        listener("says", &tcp("cluster: says")),
        listener("refusing", &tcp("cluster: refusing")),
        listener("attempts", &tcp("cluster: refusing\nmax_connect_attempts: 3")),
        listener("nobody", &tcp("cluster: nobody")),
        listener("idle", &tcp("cluster: echo\nidle_timeout: 0.2s")),
        listener("duration", &tcp("cluster: echo\nmax_downstream_connection_duration: 0.2s")),
        listener("weighted", &tcp("weighted_clusters: { clusters: [ { name: echo, weight: 1 } ] }")),
        listener_with(
            "no-match",
            &chain(&tcp("cluster: echo"), "filter_chain_match: { server_names: [ never.test ] }"),
            "",
        ),
    ]
    .concat();
    let clusters = [
        cluster("echo", "{up:echo}", ""),
        cluster("says", "{up:says}", ""),
        cluster("refusing", "{up:refusing}", ""),
        "- name: nobody\n  type: STATIC\n  connect_timeout: 1s\n".to_owned(),
    ]
    .concat();
    let mut cases = cases;
    cases.push(steps("no filter chain", vec![]).on("no-match").end(Wait));
    Group {
        name: "tcp",
        config: bootstrap(&listeners, &clusters),
        upstreams: vec![
            ("echo", Kind::TcpEcho),
            ("says", Kind::TcpSays("hello from here")),
            ("refusing", Kind::Refusing),
        ],
        cases,
        fields: &[],
        stats: &[
            "^tcp\\.",
            "^cluster\\..*\\.upstream_cx_(total|connect_fail|active|none_healthy|rx_bytes_total|tx_bytes_total|connect_attempts_exceeded|destroy.*)$",
            "^listener\\.[0-9].*\\.(downstream_cx_(total|active|destroy)|no_filter_chain_match)$",
        ],
        logs: &["tcp.log"],
    }
}
