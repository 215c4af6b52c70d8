//! The fuzz targets on a stable toolchain: every hostile case as it is, then mutations of them, with a fixed seed and for a bounded time.
//!
//! `OUTRIGGER_FUZZ_SECONDS` lets each target run longer; `fuzz/` has the same targets for libFuzzer. What breaks is printed as a byte
//! string to be kept in [`FOUND`].

use std::time::{Duration, Instant};

use tests::cases::{Case, parse};
use tests::frames;
use tests::fuzz::{TARGETS, Target};

/// What fuzzing broke once, with its target.
const FOUND: &[(&str, &[u8])] = &[("http1_response", b"HTTP/1.1 \r200 OK\r\ncontent-length: 3\r\n\r\nabc")];

const KEYS: &[&str] = &[
    "what", "source", "on", "expect", "sees", "hides", "body", "flags", "method", "then", "field", "again", "first",
    "drop", "headers", "frame", "send",
];

fn cases(text: &str) -> Vec<Case> {
    parse(text, KEYS)
}

/// What a target begins with.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let raw = |text: &str| cases(text).iter().map(Case::bytes).collect::<Vec<_>>();
    let framed = |text: &str| cases(text).iter().map(frames::bytes).collect::<Vec<_>>();
    let lines = |text: &str| text.lines().map(|line| line.as_bytes().to_vec()).collect::<Vec<_>>();
    match target {
        "http1_request" => raw(include_str!("../hostile/data/http1_requests.txt")),
        "http1_response" => raw(include_str!("../hostile/data/http1_responses.txt")),
        // What follows the heads of chunked messages.
        "chunked" => raw(include_str!("../hostile/data/http1_requests.txt"))
            .iter()
            .filter_map(|bytes| bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| bytes[at + 4..].to_vec()))
            .filter(|body| !body.is_empty())
            .collect(),
        "path" => lines(include_str!("../../proxy/src/http/path/envoy.txt"))
            .iter()
            .step_by(7)
            .map(|line| line.split(|b| *b == b'\t').next().unwrap_or_default().to_vec())
            .collect(),
        "http2_frames" => [
            framed(include_str!("../hostile/data/http2_requests.txt")),
            framed(include_str!("../hostile/data/http2_responses.txt")),
        ]
        .concat(),
        "proxy_protocol" | "client_hello" | "http_inspector" => [
            raw(include_str!("../hostile/data/connections.txt")),
            vec![b"GET / HTTP/1.1\r\n".to_vec(), frames::PREFACE.to_vec()],
        ]
        .concat(),
        "bootstrap" | "wire" => [
            include_str!("../../proxy/demo/gateway.yaml"),
            include_str!("../../proxy/demo/order-service.yaml"),
            include_str!("../../proxy/demo/store-front.yaml"),
            "{\"node\": {\"id\": \"a\"}, \"admin\": {\"address\": {\"pipe\": {\"path\": \"/x\"}}}}",
            "virtual_hosts: [ { name: a, domains: [ \"*\" ], routes: [ { match: { prefix: / }, route: { cluster: a } } ] } ]",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec(),
        "formatter" => [
            "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS%\n",
            "%START_TIME(%Y/%m/%dT%H:%M:%S%z %s %3f)% %DYNAMIC_METADATA(a:b:c):10% %FILTER_STATE(a:PLAIN)%",
            "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %RESP(a?b):3% %TRAILER(x)% %% %COALESCE({\"operators\": [\"REQ\"]})%",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec(),
        "regex" => ["a.*b|(c+?)[^d-f]{2,3}", "(?i)\\pL\\d\\D\\Qx\\E$", "^/v[0-9]+/(?P<name>[[:alpha:]]*)(?:x|y){1,1000}"]
            .map(|text| text.as_bytes().to_vec())
            .to_vec(),
        _ => panic!("no corpus for {target}"),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n.max(1) as u64) as usize
    }
}

fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    const WORDS: [&[u8]; 12] =
        [b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\t", b"%", b"\xff", b"0", b"chunked", b"Content-Length: 5\r\n"];
    // Long inputs are cut: what matters is in their first bytes.
    let mut bytes: Vec<u8> = corpus[random.below(corpus.len())].iter().take(3000).copied().collect();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => {
                let word = WORDS[random.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied()).for_each(drop);
            }
            4 => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end).for_each(drop);
            }
            5 => {
                let end = (at + random.below(32)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again).for_each(drop);
            }
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(other[from..].iter().take(1000));
            }
        }
    }
    bytes
}

#[test]
fn no_input_breaks_a_parser() {
    let seconds = std::env::var("OUTRIGGER_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let targets: Vec<_> = TARGETS
        .iter()
        .map(|(name, target)| {
            std::thread::spawn(move || {
                for (_, input) in FOUND.iter().filter(|(of, _)| of == name) {
                    target(input);
                }
                let corpus = corpus(name);
                corpus.iter().for_each(|input| check(name, target, input));
                let (mut random, deadline) = (Random(0), Instant::now() + Duration::from_secs(seconds));
                let mut count = 0;
                while Instant::now() < deadline {
                    check(name, target, &mutate(&mut random, &corpus));
                    count += 1;
                }
                assert!(count > 0, "{name}: the cases alone took all of the time");
                (*name, count)
            })
        })
        .collect();
    let results: Vec<_> = targets.into_iter().map(std::thread::JoinHandle::join).collect();
    let broken = results.iter().filter(|result| result.is_err()).count();
    assert_eq!(broken, 0, "{broken} targets are broken, see above");
    for (name, count) in results.into_iter().flatten() {
        println!("{name}: {count} mutations");
    }
}

fn check(name: &str, target: &Target, input: &[u8]) {
    let started = Instant::now();
    let outcome = std::panic::catch_unwind(|| target(input));
    assert!(outcome.is_ok(), "{name} is broken by b\"{}\"", input.escape_ascii());
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{name} takes {:?} for b\"{}\"",
        started.elapsed(),
        input.escape_ascii()
    );
}
