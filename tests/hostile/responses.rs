//! Hostile HTTP/1 upstreams.

use std::sync::Arc;
use std::time::Duration;

use tests::client::{Client, End, Response};
use tests::config::{self, TO_UP};
use tests::upstream::{Conversation, Upstream, ok};

use crate::cases::{Case, parse};

const KEYS: &[&str] = &["what", "source", "method", "expect", "body", "hides", "then", "send"];
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers `/case/ID` as the case says and everything else cleanly.
fn upstream(cases: Arc<Vec<Case>>) -> Upstream {
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
        Some("reset") => {
            conversation.stream.abort();
            false
        }
        _ => false,
    }
}

#[test]
fn no_upstream_harms_a_client_or_the_next_request() {
    let cases = Arc::new(parse(include_str!("data/http1_responses.txt"), KEYS));
    let upstream = upstream(cases.clone());
    let mut proxy = crate::start(&config::http(TO_UP, "delayed_close_timeout: 0.2s\n", upstream.port));
    let port = proxy.port("main");
    let mut failures = Vec::new();
    for case in cases.iter() {
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
            client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            match client.response("GET") {
                Some(response) if (response.status, response.text()) == (200, path) => {}
                other => failures.push(format!("{what}: the next request got {other:?}")),
            }
        }
    }
    assert!(proxy.is_running(), "the proxy died:\n{}", proxy.log());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Whether the client's connection serves on.
fn check(case: &Case, client: &mut Client) -> Result<bool, String> {
    let method = case.get("method").unwrap_or("GET");
    client.send(format!("{method} /case/{} HTTP/1.1\r\nHost: a\r\n\r\n", case.id));
    let expect = case.get("expect").unwrap();
    if let Some(status) = expect.strip_suffix(" cut") {
        let (bytes, end) = client.read_to_end(PATIENCE);
        let head = String::from_utf8_lossy(&bytes).into_owned();
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
