//! Hostile clients of HTTP/2, in front of an HTTP/1 upstream.

use std::time::Duration;

use tests::cases::{Case, parse, unescape};
use tests::config::{self, TO_UP};
use tests::frames::{Frame, Frames, GOAWAY, HEADERS, RST_STREAM, bytes};

use crate::canonical::{show, violation};
use crate::requests::recording;

pub const KEYS: &[&str] =
    &["what", "source", "expect", "sees", "hides", "field", "again", "first", "drop", "headers", "frame", "send"];
const PROBE: u32 = 101;
const ENDS_WITHIN: Duration = Duration::from_secs(2);

#[test]
fn every_request_gets_what_it_is_owed() {
    let cases = parse(include_str!("data/http2_requests.txt"), KEYS);
    let (upstream, record) = recording();
    let fields = "codec_type: HTTP2\ndelayed_close_timeout: 0.2s\n";
    let mut proxy = crate::start(&config::http(TO_UP, fields, upstream.port));
    let mut failures = Vec::new();
    for case in &cases {
        record.lock().unwrap().requests.clear();
        let mut peer = Frames::connect(proxy.port("main"));
        let result = run(case, &mut peer).and_then(|served| {
            let got = std::mem::take(&mut record.lock().unwrap().requests);
            let got: Vec<_> = got.into_iter().filter(|seen| !seen.target().starts_with("/probe")).collect();
            let texts: Vec<String> = got.iter().map(show).collect();
            if !served && !got.is_empty() {
                return Err(format!("it reached the upstream: {texts:?}"));
            }
            let text = |line: &str| unescape(line).into_iter().map(char::from).collect::<String>();
            for wanted in case.all("sees").map(text) {
                let is_there = |seen: &tests::upstream::Seen| {
                    seen.line == wanted || seen.headers.iter().any(|(n, v)| format!("{n}: {v}") == wanted)
                };
                if served && !got.iter().any(is_there) {
                    return Err(format!("the upstream did not see {wanted:?} but {texts:?}"));
                }
            }
            for hidden in case.all("hides").map(text) {
                let in_a_value = |seen: &tests::upstream::Seen| {
                    seen.headers.iter().chain(&seen.trailers).any(|(n, v)| format!("{n}: {v}|").contains(&hidden))
                        || seen.body.windows(hidden.len()).any(|w| w == hidden.as_bytes())
                };
                // A blank is looked for where it would be part of the value.
                if hidden != " " && got.iter().any(in_a_value) {
                    return Err(format!("the upstream saw {hidden:?}: {texts:?}"));
                }
            }
            Ok(())
        });
        if let Err(why) = result {
            failures.push(format!(
                "{} ({}; {}): {why}",
                case.id,
                case.get("what").unwrap_or_default(),
                case.get("source").unwrap_or_default()
            ));
        }
    }
    let heads = std::mem::take(&mut record.lock().unwrap().heads);
    failures
        .extend(heads.iter().filter_map(|head| violation(head).map(|why| format!("not canonical: {why} in {head:?}"))));
    assert!(proxy.is_running(), "the proxy died:\n{}", proxy.log());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Whether a 200 came for it.
fn run(case: &Case, peer: &mut Frames) -> Result<bool, String> {
    peer.get(1, "/probe1");
    let first = peer.find(|frame| frame.kind == HEADERS && frame.stream == 1);
    if first.as_ref().map(Frame::status) != Some(200) {
        return Err(format!("the first request got {first:?}"));
    }
    peer.send(&bytes(case));
    let expect = case.get("expect").unwrap_or_default();
    let owed: Vec<&str> = expect.split('|').collect();
    if owed.contains(&"nothing") {
        // What it may do besides shows in the answer to the probe.
        return match probe(peer) {
            Ok(()) => Ok(false),
            Err(got) if owed.contains(&got.as_str()) => Ok(false),
            Err(got) => Err(format!("{got} instead of {expect}")),
        };
    }
    let answer =
        peer.find(|frame| frame.kind == GOAWAY || (frame.stream == 3 && matches!(frame.kind, HEADERS | RST_STREAM)));
    let got = name(answer.as_ref());
    if !owed.contains(&got.as_str()) {
        return Err(format!("{got} instead of {expect}"));
    }
    if got.starts_with("goaway") || got == "end" {
        return match peer.ends_within(ENDS_WITHIN) {
            (_, true) => Ok(false),
            (_, false) => Err("the connection stays open".to_owned()),
        };
    }
    probe(peer).map_err(|got| format!("after {expect}, the next request got {got}"))?;
    Ok(got == "status 200")
}

/// A good request on the same connection; what came instead of its answer.
fn probe(peer: &mut Frames) -> Result<(), String> {
    peer.get(PROBE, "/probe2");
    let answer = peer.find(|frame| {
        frame.kind == GOAWAY || (frame.kind == RST_STREAM) || (frame.stream == PROBE && frame.kind == HEADERS)
    });
    match name(answer.as_ref()).as_str() {
        "status 200" => Ok(()),
        other => Err(other.to_owned()),
    }
}

fn name(frame: Option<&Frame>) -> String {
    match frame {
        None => "end".to_owned(),
        Some(frame) if frame.kind == GOAWAY => format!("goaway {}", frame.code()),
        Some(frame) if frame.kind == RST_STREAM => format!("reset {}", frame.code()),
        Some(frame) => format!("status {}", frame.status()),
    }
}
