//! One connection that floods: it ends in time, costs little, and others do not notice.

use std::time::{Duration, Instant};

use tests::client::Client;
use tests::config::{self, TO_UP, bootstrap, chain, cluster, hcm, listener_with, tls};
use tests::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GET, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use tests::upstream::Upstream;

use crate::bounds::settled;

const FRAMES: u32 = 20_000;
const ENDS_WITHIN: Duration = Duration::from_secs(2);
const GROWS_BY_KIB: u64 = 8 * 1024;

struct Flood {
    id: &'static str,
    source: &'static str,
    first: Vec<u8>,
    each: Box<dyn Fn(u32) -> Vec<u8>>,
}

fn flood(id: &'static str, source: &'static str, first: Vec<u8>, each: impl Fn(u32) -> Vec<u8> + 'static) -> Flood {
    Flood { id, source, first, each: Box::new(each) }
}

fn open(stream: u32, flags: u8) -> Vec<u8> {
    let mut fields = GET.to_vec();
    fields.push((b"x-flood", b"1"));
    frame(HEADERS, END_HEADERS | flags, stream, &block(&fields))
}

fn floods() -> Vec<Flood> {
    let nothing = Vec::new;
    let post = || open(1, 0);
    let piece = || block(&[("a", "b")]);
    let unfinished = || frame(HEADERS, 0, 1, &block(&GET));
    let id = |n: u32| 2 * n + 1;
    vec![
        flood("ping", "CVE-2019-9512", nothing(), |_| frame(PING, 0, 0, b"abcdefgh")),
        flood("settings", "CVE-2019-9515", nothing(), |_| frame(SETTINGS, 0, 0, &[])),
        flood("settings of 32 entries", "CVE-2020-11080", nothing(), |_| {
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100].repeat(32))
        }),
        flood("priority", "CVE-2019-9513", nothing(), |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
        flood("window update", "CVE-2019-9511", nothing(), |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        flood("unknown frames", "RFC 9113 5.5", nothing(), |_| frame(0xfe, 0, 0, b"whatever")),
        flood("rapid reset", "CVE-2023-44487", nothing(), move |n| {
            [open(id(n), END_STREAM), frame(RST_STREAM, 0, id(n), &[0, 0, 0, 8])].concat()
        }),
        flood("resets of one stream", "CVE-2019-9514", post(), |_| frame(RST_STREAM, 0, 1, &[0; 4])),
        flood("streams that we must reset", "CVE-2025-8671", nothing(), move |n| {
            [open(id(n), END_STREAM), frame(WINDOW_UPDATE, 0, id(n), &[0x7f, 0xff, 0xff, 0xff])].concat()
        }),
        flood("malformed streams", "CVE-2019-9514", nothing(), move |n| {
            let mut fields = GET.to_vec();
            fields.push((b"te", b"gzip"));
            frame(HEADERS, END_HEADERS | END_STREAM, id(n), &block(&fields))
        }),
        flood("streams without an end", "RFC 9113 5.1.2", nothing(), move |n| open(id(n), 0)),
        flood("continuation", "CVE-2024-27919", unfinished(), move |_| frame(CONTINUATION, 0, 1, &piece())),
        flood("large continuation", "CVE-2024-27919", unfinished(), |_| {
            frame(CONTINUATION, 0, 1, &block(&[("a", &"v".repeat(16_000))]))
        }),
        flood("empty continuation", "CVE-2024-30255", unfinished(), |_| frame(CONTINUATION, 0, 1, &[])),
        flood("empty data", "CVE-2019-9518", post(), |_| frame(DATA, 0, 1, &[])),
        flood("padding for data", "CVE-2019-9518", post(), |_| frame(DATA, 8, 1, &[3, 0, 0, 0])),
    ]
}

#[test]
fn every_flood_ends_its_connection_and_costs_little() {
    let upstream = Upstream::scripted(|conversation| {
        while let Some(request) = conversation.request() {
            // What the flood asks for is not answered, so that its streams stay open.
            if request.header("x-flood").is_none() && conversation.send(&tests::upstream::ok("")).is_err() {
                return;
            }
        }
    });
    let mut proxy = crate::start(&config::http(TO_UP, "", upstream.port));
    let port = proxy.port("main");
    let mut bystander = Client::connect(port);
    assert_eq!(bystander.get("/").status, 200);
    let mut failures = Vec::new();
    for flood in floods() {
        let (before, cpu) = (settled(&proxy), proxy.cpu());
        let started = Instant::now();
        let mut peer = Frames::connect(port);
        // Replies are left unread until the end: a queue of them must not grow either.
        peer.polite = false;
        peer.send(&flood.first);
        let mut sent = 0;
        while sent < FRAMES {
            let bytes: Vec<u8> = (sent..sent + 50).flat_map(&flood.each).collect();
            sent += 50;
            if !peer.send(&bytes) {
                break;
            }
        }
        let (_, ended) = peer.ends_within(ENDS_WITHIN.saturating_sub(started.elapsed()).max(Duration::from_millis(50)));
        let took = started.elapsed();
        let grown = proxy.resident().saturating_sub(before);
        let cpu = proxy.cpu().saturating_sub(cpu);
        if !ended || took > ENDS_WITHIN || grown > GROWS_BY_KIB {
            failures.push(format!(
                "{} ({}): ended {ended} after {took:?} and {sent} frames, {grown} KiB, {cpu:?} of processor",
                flood.id, flood.source
            ));
        }
        let status = bystander.get("/").status;
        if status != 200 {
            failures.push(format!("{}: a bystander got {status}", flood.id));
        }
    }
    assert!(proxy.is_running(), "the proxy died:\n{}", proxy.log());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Half of a handshake, a thousand times over: bounded, and the rest is served.
#[test]
fn handshakes_that_never_finish_cost_little() {
    let folder = tempfile::tempdir().expect("a folder");
    tests::certificates::Authority::new(folder.path(), "ca").leaf(folder.path(), "server", &["a.test"]);
    let upstream = Upstream::echo_line();
    let context = "common_tls_context:\n  tls_certificates:\n  - certificate_chain: { filename: \"{certs}/server.pem\" }\n    private_key: { filename: \"{certs}/server.key\" }\n";
    let chains = chain(&hcm(TO_UP, ""), &tls("DownstreamTlsContext", context));
    let listeners = [listener_with("tls", &chains, ""), config::listener("main", &hcm(TO_UP, "stat_prefix: plain"))];
    let text = bootstrap(&listeners.concat(), &cluster("up", upstream.port, ""));
    let proxy = crate::start(&text.replace("{certs}", &folder.path().display().to_string()));
    let mut bystander = Client::connect(proxy.port("main"));
    assert_eq!(bystander.get("/").status, 200);
    let before = settled(&proxy);
    let halves: Vec<Client> = (0..300)
        .map(|_| {
            let mut client = Client::connect(proxy.port("tls"));
            client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
            client
        })
        .collect();
    let each = settled(&proxy).saturating_sub(before) as f64 / halves.len() as f64;
    assert!(each <= 40.0, "{each} KiB for half a ClientHello");
    assert_eq!(bystander.get("/").status, 200);
}
