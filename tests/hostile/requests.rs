//! Hostile clients of HTTP/1, and of what stands before it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tests::certificates::Authority;
use tests::client::{Client, End};
use tests::config::{TO_UP, bootstrap, chain, cluster, hcm, listener, listener_with, tls};
use tests::proxy::Proxy;
use tests::upstream::{Seen, Upstream, ok};

use crate::canonical::{show, violation};
use tests::cases::{Case, parse, unescape};

const KEYS: &[&str] = &["what", "source", "on", "expect", "sees", "hides", "body", "send"];
/// A refused connection ends this long after the answer; see `delayed_close_timeout` below.
const CLOSES_WITHIN: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_millis(150);
/// Longer inputs are not sent byte by byte.
const BYTEWISE_UP_TO: usize = 400;

fn config(upstream: u16) -> String {
    let quick = "delayed_close_timeout: 0.2s\n";
    let http = |options: &str| format!("{quick}http_protocol_options: {{ {options} }}\n");
    let listeners = [
        listener("main", &hcm(TO_UP, quick)),
        listener("http10", &hcm(TO_UP, &http("accept_http_10: true"))),
        listener("trailers", &hcm(TO_UP, &http("enable_trailers: true"))),
        listener("ws", &hcm(TO_UP, &format!("{quick}upgrade_configs: [ {{ upgrade_type: websocket }} ]\n"))),
    ];
    bootstrap(&listeners.concat(), &cluster("up", upstream, ""))
}

/// Listeners with listener filters and TLS.
fn connections(upstream: u16, certificates: &std::path::Path) -> String {
    let filter = |name: &str, kind: &str, fields: &str| {
        format!(
            "listener_filters:\n- name: envoy.filters.listener.{name}\n  typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.listener.{name}.v3.{kind}{fields} }}\n"
        )
    };
    let context = format!(
        "common_tls_context:\n  tls_certificates:\n  - certificate_chain: {{ filename: \"{0}/server.pem\" }}\n    private_key: {{ filename: \"{0}/server.key\" }}\n",
        certificates.display()
    );
    let http = hcm(TO_UP, "delayed_close_timeout: 0.2s\nuse_remote_address: true\n");
    let secure = chain(&http, &tls("DownstreamTlsContext", &context));
    let plain = chain(&http, "");
    let proxied = |fields: &str| filter("proxy_protocol", "ProxyProtocol", fields);
    let listeners = [
        listener_with("proxied", &plain, &proxied("")),
        listener_with("optional", &plain, &proxied(", allow_requests_without_proxy_protocol: true")),
        listener_with("v2", &plain, &proxied(", disallowed_versions: [ V1 ]")),
        listener_with("tls", &secure, ""),
        listener_with("inspected", &secure, &filter("tls_inspector", "TlsInspector", "")),
        listener_with("sniffed", &plain, &filter("http_inspector", "HttpInspector", "")),
        listener_with("edge", &plain, ""),
    ];
    bootstrap(&listeners.concat(), &cluster("up", upstream, ""))
}

/// What reached the upstream: complete requests, and every head as it came.
#[derive(Default)]
pub struct Record {
    pub requests: Vec<Seen>,
    pub heads: Vec<String>,
}

/// An upstream that answers 200 with the target, and the record of what it got.
pub fn recording() -> (Upstream, Arc<Mutex<Record>>) {
    let record = Arc::new(Mutex::new(Record::default()));
    let into = record.clone();
    let upstream = Upstream::scripted(move |conversation| {
        while let Some(seen) = conversation.request_raw(|head| into.lock().unwrap().heads.push(head.to_owned())) {
            let answer = ok(seen.target());
            into.lock().unwrap().requests.push(seen);
            if conversation.send(&answer).is_err() {
                return;
            }
        }
    });
    (upstream, record)
}

struct Run {
    proxy: Proxy,
    record: Arc<Mutex<Record>>,
    failures: Vec<String>,
    /// Connections that must end, looked at when all cases ran.
    refused: Vec<(String, Client)>,
}

#[test]
fn every_request_gets_what_it_is_owed() {
    let (upstream, record) = recording();
    run(&parse(include_str!("data/http1_requests.txt"), KEYS), &config(upstream.port), record);
}

#[test]
fn every_connection_gets_what_it_is_owed() {
    let folder = tempfile::tempdir().expect("a folder");
    Authority::new(folder.path(), "ca").leaf(folder.path(), "server", &["a.test"]);
    let (upstream, record) = recording();
    run(&parse(include_str!("data/connections.txt"), KEYS), &connections(upstream.port, folder.path()), record);
}

fn run(cases: &[Case], config: &str, record: Arc<Mutex<Record>>) {
    let mut run = Run { proxy: crate::start(config), record, failures: Vec::new(), refused: Vec::new() };
    for case in cases {
        let bytes = case.bytes();
        run.case(case, "", &[&bytes]);
        if bytes.len() <= BYTEWISE_UP_TO {
            let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
            run.case(case, " byte by byte", &pieces);
        }
    }
    for (id, client) in &mut run.refused {
        if client.end(CLOSES_WITHIN) == End::Open {
            run.failures.push(format!("{id}: the connection stays open"));
        }
    }
    let heads = std::mem::take(&mut run.record.lock().unwrap().heads);
    run.failures
        .extend(heads.iter().filter_map(|head| violation(head).map(|why| format!("not canonical: {why} in {head:?}"))));
    assert!(run.proxy.is_running(), "the proxy died:\n{}", run.proxy.log());
    assert!(run.failures.is_empty(), "{} failures:\n{}", run.failures.len(), run.failures.join("\n"));
}

impl Run {
    fn case(&mut self, case: &Case, how: &str, pieces: &[&[u8]]) {
        let id = format!("{}{how}", case.id);
        self.record.lock().unwrap().requests.clear();
        let mut client = Client::connect(self.proxy.port(case.get("on").unwrap_or("main")));
        for piece in pieces {
            client.send(piece);
        }
        if let Err(why) = self.check(case, &id, client) {
            self.failures.push(format!("{id} ({}; {}): {why}", case.get("what").unwrap(), case.get("source").unwrap()));
        }
    }

    fn check(&mut self, case: &Case, id: &str, mut client: Client) -> Result<(), String> {
        let expect = case.get("expect").unwrap();
        let (answers, after) = match expect.rsplit_once(' ') {
            Some((answers, after @ ("close" | "keep"))) => (answers, after),
            _ => (expect, ""),
        };
        let answers: Vec<&str> = answers.split(", ").collect();
        match answers[..] {
            ["none"] => {
                let (bytes, end) = client.read_to_end(QUIET);
                if !bytes.is_empty() || end != End::Open {
                    return Err(format!("got {:?}, {end:?}", bytes.escape_ascii().to_string()));
                }
                client.finish();
            }
            ["end"] => {}
            _ => {
                for wanted in &answers {
                    let Some(response) = client.response("GET") else { return Err(format!("no answer, not {wanted}")) };
                    if !wanted.split('|').any(|status| status.parse() == Ok(response.status)) {
                        return Err(format!("{} instead of {wanted}", response.status));
                    }
                    let refused = after == "close" && Some(wanted) == answers.last();
                    if refused && response.header("connection") != Some("close") {
                        return Err("the answer does not say that the connection closes".to_owned());
                    }
                }
            }
        }
        let got = std::mem::take(&mut self.record.lock().unwrap().requests);
        self.forwarded(case, answers[0].contains("200"), &got)?;
        match after {
            "" if matches!(answers[..], ["none" | "end"]) => self.refused.push((id.to_owned(), client)),
            "close" => self.refused.push((id.to_owned(), client)),
            "keep" => {
                client.send("GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n");
                let response = client.response("GET").ok_or("no answer to the next request")?;
                if (response.status, response.text().as_str()) != (200, "/probe") {
                    return Err(format!("the next request got {} {}", response.status, response.text()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn forwarded(&self, case: &Case, served: bool, got: &[Seen]) -> Result<(), String> {
        if !served && !got.is_empty() {
            return Err(format!("it reached the upstream: {}", got.iter().map(show).collect::<Vec<_>>().join(" ++ ")));
        }
        let texts: Vec<String> = got.iter().map(show).collect();
        for wanted in case.all("sees") {
            let wanted: String = unescape(wanted).into_iter().map(char::from).collect();
            let is_there = |seen: &Seen| {
                seen.line == wanted
                    || seen.headers.iter().any(|(n, v)| format!("{}: {v}", n.to_ascii_lowercase()) == wanted)
            };
            if !got.iter().any(is_there) {
                return Err(format!("the upstream did not see {wanted:?} but {texts:?}"));
            }
        }
        for hidden in case.all("hides") {
            let field = |seen: &Seen| {
                seen.headers
                    .iter()
                    .chain(&seen.trailers)
                    .any(|(n, v)| n.eq_ignore_ascii_case(hidden) || v.contains(hidden))
            };
            if got.iter().any(|seen| field(seen) || seen.line.contains(hidden)) {
                return Err(format!("the upstream saw {hidden:?}: {texts:?}"));
            }
        }
        match case.get("body") {
            Some(body) if !got.iter().any(|seen| seen.body == body.as_bytes()) => {
                Err(format!("the upstream did not get the body {body:?} but {texts:?}"))
            }
            _ => Ok(()),
        }
    }
}
