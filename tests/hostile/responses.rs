//! Hostile upstreams of both versions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tests::cases::{Case, parse};
use tests::client::{Client, End, Response};
use tests::config::{self, access_log, bootstrap, cluster, hcm, listener};
use tests::frames::{self, END_STREAM, Frames, HEADERS, block, headers};
use tests::proxy::Proxy;
use tests::upstream::{Conversation, Upstream, ok};

const KEYS: &[&str] = &["what", "source", "method", "expect", "flags", "body", "hides", "then", "send"];
const KEYS2: &[&str] = &[
    "what", "source", "expect", "flags", "body", "then", "field", "again", "first", "drop", "headers", "frame", "send",
];
const PATIENCE: Duration = Duration::from_secs(3);
const ROUTES: &str = "- match: { prefix: /case/up-silent }\n  route: { cluster: up, timeout: 0.3s }\n- match: { prefix: /case/u2-silent }\n  route: { cluster: up, timeout: 0.3s }\n- match: { prefix: / }\n  route: { cluster: up }\n";

#[test]
fn no_upstream_harms_a_client_or_the_next_request() {
    let cases = Arc::new(parse(include_str!("data/http1_responses.txt"), KEYS));
    let upstream = http1_upstream(cases.clone());
    check_all(&cases, &mut start(upstream.port, ""), |_| {});
}

#[test]
fn no_http2_upstream_harms_a_client_or_the_next_request() {
    let cases = Arc::new(parse(include_str!("data/http2_responses.txt"), KEYS2));
    let turn = Arc::new(AtomicUsize::new(0));
    let port = http2_upstream(cases.clone(), turn.clone());
    check_all(&cases, &mut start(port, &config::http2()), |at| turn.store(at + 1, Ordering::Relaxed));
}

fn start(upstream: u16, cluster_fields: &str) -> Proxy {
    let log = access_log(
        "log",
        "log_format: { text_format_source: { inline_string: \"%REQ(:path)% %RESPONSE_FLAGS%\\n\" } }",
    );
    let listeners = listener("main", &hcm(ROUTES, &format!("delayed_close_timeout: 0.2s\n{log}")));
    crate::start(&bootstrap(&listeners, &cluster("up", upstream, cluster_fields)))
}

/// Answers `/case/ID` as the case says and everything else cleanly.
fn http1_upstream(cases: Arc<Vec<Case>>) -> Upstream {
    Upstream::scripted(move |conversation| {
        while let Some(request) = conversation.request() {
            let case = request.target().strip_prefix("/case/").and_then(|id| cases.iter().find(|case| case.id == id));
            let Some(case) = case else {
                if conversation.send(&ok(request.target())).is_err() {
                    return;
                }
                continue;
            };
            if !answer(conversation, case) {
                return;
            }
        }
    })
}

/// Whether the connection stays open.
fn answer(conversation: &mut Conversation, case: &Case) -> bool {
    let sent = conversation.send(&case.bytes()).is_ok();
    match case.get("then") {
        Some("keep") => sent,
        Some("wait") => {
            conversation.ended();
            false
        }
        Some("reset") => {
            conversation.stream.abort();
            false
        }
        _ => false,
    }
}

/// The same on HTTP/2. Nothing here decodes header blocks: the first request without a body is for the case whose `turn` it is,
/// counted from 1; all others are answered cleanly.
fn http2_upstream(cases: Arc<Vec<Case>>, turn: Arc<AtomicUsize>) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (cases, turn) = (cases.clone(), turn.clone());
            std::thread::spawn(move || {
                if let Some(peer) = Frames::accept(stream) {
                    converse(peer, &cases, &turn);
                }
            });
        }
    });
    port
}

fn converse(mut peer: Frames, cases: &[Case], turn: &AtomicUsize) {
    while let Some(request) = peer.find(|frame| frame.kind == HEADERS) {
        let is_clean = request.flags & END_STREAM == 0;
        let turn = if is_clean { 0 } else { turn.swap(0, Ordering::Relaxed) };
        let case = turn.checked_sub(1).and_then(|at| cases.get(at));
        let Some(case) = case else {
            let mut bytes = headers(0, request.stream, &block(&[(":status", "200")]));
            bytes.extend(frames::frame(frames::DATA, END_STREAM, request.stream, b"clean"));
            if !peer.send(&bytes) {
                return;
            }
            continue;
        };
        if !peer.send(&readdressed(&frames::bytes(case), request.stream)) {
            return;
        }
        match case.get("then") {
            Some("keep") => {}
            Some("reset") => return peer.stream.abort(),
            _ => return,
        }
    }
}

/// The frames of a case are for stream 1.
fn readdressed(bytes: &[u8], stream: u32) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut at = 0;
    while let Some(head) = out.get(at..at + 9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if head[5..9] == [0, 0, 0, 1] {
            out[at + 5..at + 9].copy_from_slice(&stream.to_be_bytes());
        }
        at += 9 + length;
    }
    out
}

fn check_all(cases: &[Case], proxy: &mut Proxy, announce: impl Fn(usize)) {
    let port = proxy.port("main");
    let mut failures = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        announce(at);
        let mut client = Client::connect(port);
        let what = format!("{} ({}; {})", case.id, case.get("what").unwrap(), case.get("source").unwrap());
        let kept = check(case, &mut client).unwrap_or_else(|why| {
            failures.push(format!("{what}: {why}"));
            false
        });
        // On the same connection, and on a new one, which may get the same upstream connection.
        let mut clients = vec![Client::connect(port)];
        if kept {
            clients.insert(0, client);
        }
        for mut client in clients {
            let path = format!("/clean/{}", case.id);
            client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"));
            match client.response("POST") {
                Some(response) if response.status == 200 && (response.text() == path || response.text() == "clean") => {
                }
                other => failures.push(format!("{what}: the next request got {other:?}")),
            }
        }
    }
    assert!(proxy.is_running(), "the proxy died:\n{}", proxy.log());
    failures.extend(check_flags(cases, proxy));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn check_flags(cases: &[Case], proxy: &Proxy) -> Vec<String> {
    let owed = |case: &Case| match (case.get("flags"), case.get("expect")) {
        (Some(flags), _) => Some(flags.to_owned()),
        (None, Some("502")) => Some("UPE".to_owned()),
        _ => None,
    };
    let line_of = |case: &Case| {
        let lines = proxy.lines("log", cases.len(), PATIENCE);
        lines.iter().find_map(|line| line.strip_prefix(&format!("/case/{} ", case.id)).map(ToOwned::to_owned))
    };
    // The last one's line may still be on its way.
    let last = cases.last().expect("cases");
    tests::wait_for(tests::PATIENCE, || line_of(last));
    let lines = proxy.lines("log", cases.len(), PATIENCE);
    let of = |case: &Case| lines.iter().find_map(|line| line.strip_prefix(&format!("/case/{} ", case.id)));
    cases
        .iter()
        .filter_map(|case| {
            let owed = owed(case)?;
            let got = of(case).unwrap_or("no line in the access log");
            (!owed.split('|').any(|flags| flags == got)).then(|| format!("{}: flags {got}, not {owed}", case.id))
        })
        .collect()
}

/// Whether the client's connection serves on.
fn check(case: &Case, client: &mut Client) -> Result<bool, String> {
    let method = case.get("method").unwrap_or("GET");
    client.send(format!("{method} /case/{} HTTP/1.1\r\nHost: a\r\n\r\n", case.id));
    let expect = case.get("expect").unwrap();
    if let Some(alternatives) = expect.strip_suffix(" cut").or(expect.split_once(" cut|").map(|(status, _)| status)) {
        let status = alternatives.rsplit('|').next().unwrap_or(alternatives);
        let (bytes, end) = client.read_to_end(PATIENCE);
        let head = String::from_utf8_lossy(&bytes).into_owned();
        let refused = expect.contains("502") && head.starts_with("HTTP/1.1 502 ");
        if refused {
            return Ok(false);
        }
        if !head.starts_with(&format!("HTTP/1.1 {status} ")) || end == End::Open {
            return Err(format!("{end:?} after {head:?}"));
        }
        if let Some(response) = Response::parse(&bytes, "GET", false) {
            return Err(format!("looks complete: {response:?}"));
        }
        return Ok(false);
    }
    let mut interim = 0;
    let response = loop {
        match client.response(method) {
            Some(response) if response.is_interim() => interim += 1,
            Some(response) => break response,
            None => return Err(format!("no answer, not {expect}")),
        }
    };
    if !expect.split('|').any(|status| status.parse() == Ok(response.status)) {
        return Err(format!("{} instead of {expect}", response.status));
    }
    if interim > 8 {
        return Err(format!("{interim} interim answers"));
    }
    if let Some(body) = case.get("body")
        && response.text() != body
    {
        return Err(format!("body {:?}", response.text()));
    }
    if response.text().contains("POISONED") {
        return Err("the poison came through".to_owned());
    }
    for hidden in case.all("hides") {
        if response.header(hidden).is_some() {
            return Err(format!("{hidden} came through"));
        }
    }
    Ok(response.header("connection") != Some("close"))
}
