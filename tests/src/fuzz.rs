//! What may never happen, whatever bytes come: one function for each parser that reads what a peer or a user wrote. Each panics when
//! its property is broken.
//!
//! `tests/fuzz` runs them on mutations of the hostile cases for a bounded time with a fixed seed; `fuzz/` hands them to libFuzzer.

use bytes::BytesMut;
use outrigger::config::matcher::Regex;
use outrigger::config::{BuildCx, Path};
use outrigger::formatter::LineFormat;
use outrigger::http::check::{self, UnderscoreAction};
use outrigger::http::http1::chunked::{Chunk, ChunkedDecoder, ChunkedOptions};
use outrigger::http::http1::head::{Asked, Parse, Scan, parse_request, parse_response};
use outrigger::http::http1::{ClientSettings, HeadLimits, ServerSettings};
use outrigger::http::http2::flood::{Flood, FloodLimits, Side};
use outrigger::http::http2::frames::{Event, Walker};
use outrigger::http::path::{EscapedSlashes, PathOptions, PathVerdict, normalize};
use outrigger::listener::filters::{Inspection, ListenerFilter, http_inspector, proxy_protocol, tls_inspector};
use outrigger::server::ServerOptions;
use prost_types::Any;
use xds_protos::encode::{Options, to_wire};
use xds_protos::text::{self, Format};

/// Panics where the input breaks a promise.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("http1_request", http1_request),
    ("http1_response", http1_response),
    ("chunked", chunked),
    ("path", path),
    ("proxy_protocol", |data| listener_filter(data, proxy_protocol::build)),
    ("client_hello", |data| listener_filter(data, tls_inspector::build)),
    ("http_inspector", |data| listener_filter(data, http_inspector::build)),
    ("http2_frames", http2_frames),
    ("bootstrap", bootstrap),
    ("wire", wire),
    ("formatter", formatter),
    ("regex", regex),
];

/// # Panics
/// When there is no such target, or its property is broken.
pub fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(of, _)| *of == name).unwrap_or_else(|| panic!("no target {name}"));
    target(data);
}

fn limits() -> HeadLimits {
    HeadLimits { max_bytes: 4096, max_headers: 20 }
}

/// A head has the same verdict however it is cut, and one that passes is canonical.
pub fn http1_request(data: &[u8]) {
    let settings = ServerSettings { limits: limits(), accept_http_10: true, ..ServerSettings::default() };
    let parse = |step: usize| {
        let (mut buf, mut scan, mut blank_lines) = (BytesMut::new(), Scan::request(), 0);
        for piece in data.chunks(step.max(1)) {
            buf.extend_from_slice(piece);
            match parse_request(&mut buf, &mut scan, &mut blank_lines, &settings, false) {
                Parse::Partial => {}
                Parse::Done(parsed) => {
                    // A head without a host is the connection manager's to refuse.
                    if !parsed.head.authority.is_empty() {
                        assert_eq!(check::request(&parsed.head), Ok(()), "not canonical: {:?}", parsed.head);
                    }
                    return format!("{:?} {:?} {:?}", parsed.head.method, parsed.head.path, parsed.framing);
                }
                Parse::Refused(violation) => return format!("{violation:?}"),
            }
        }
        "partial".to_owned()
    };
    same_for_every_cut(data, parse);
}

/// The same for an upstream's answer.
pub fn http1_response(data: &[u8]) {
    let settings = ClientSettings::default();
    let asked = Asked::default();
    let parse = |step: usize| {
        let (mut buf, mut scan) = (BytesMut::new(), Scan::response());
        for piece in data.chunks(step.max(1)) {
            buf.extend_from_slice(piece);
            match parse_response(&mut buf, &mut scan, &asked, &settings) {
                Parse::Partial => {}
                Parse::Done(parsed) => return format!("{} {:?}", parsed.head.status, parsed.framing),
                // Which rule is named may depend on the cut.
                Parse::Refused(_) => return "refused".to_owned(),
            }
        }
        "partial".to_owned()
    };
    same_for_every_cut(data, parse);
}

/// A chunked body decodes to the same bytes and the same end however it is cut.
pub fn chunked(data: &[u8]) {
    let options = ChunkedOptions {
        limits: limits(),
        enable_trailers: true,
        underscores: UnderscoreAction::Allow,
        lenient: data.first().is_some_and(|first| first % 2 == 1),
    };
    let decode = |step: usize| {
        let (mut buf, mut body) = (BytesMut::new(), Vec::new());
        let mut decoder = ChunkedDecoder::new(options);
        for piece in data.chunks(step.max(1)) {
            buf.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut buf) {
                    Ok(None) => break,
                    Ok(Some(Chunk::Data(bytes))) => body.extend_from_slice(&bytes),
                    Ok(Some(Chunk::End(trailers))) => return (body, format!("end {trailers:?}")),
                    Err(violation) => return (body, format!("{violation:?}")),
                }
            }
        }
        (body, "partial".to_owned())
    };
    assert!(decode(data.len()).0.len() <= data.len(), "more came out than went in");
    same_for_every_cut(data, decode);
}

fn same_for_every_cut<T: PartialEq + std::fmt::Debug>(data: &[u8], read: impl Fn(usize) -> T) {
    let whole = read(data.len());
    for step in [1, 2, 7] {
        assert_eq!(whole, read(step), "in pieces of {step}: {}", data.escape_ascii());
    }
}

/// No dot segment and no backslash is left in a path that goes on.
pub fn path(data: &[u8]) {
    let text = format!("/{}", String::from_utf8_lossy(data));
    for escaped_slashes in [EscapedSlashes::KeepUnchanged, EscapedSlashes::Reject, EscapedSlashes::UnescapeAndForward] {
        let options = PathOptions { normalize: true, merge_slashes: true, escaped_slashes };
        if let PathVerdict::Changed(new) = normalize(&text.as_str().into(), &options) {
            let only = new.split('?').next().unwrap_or_default();
            assert!(only.starts_with('/') && !only.contains(['\\', '#']), "{text:?} became {new:?}");
            assert!(only.split('/').all(|part| part != "." && part != ".."), "{text:?} became {new:?}");
        }
    }
}

type Build = fn(&Any, &Path<'_>, &BuildCx) -> Result<std::sync::Arc<dyn ListenerFilter>, outrigger::config::Reject>;

/// The first verdict stands for every continuation, and nothing is consumed that has not come.
pub fn listener_filter(data: &[u8], build: Build) {
    let cx = BuildCx::new(ServerOptions { concurrency: 1, ..ServerOptions::default() });
    let filter = build(&Any::default(), &Path::root("filter"), &cx).expect("an empty configuration is good");
    let mut first = None;
    for end in 1..=data.len().min(filter.max_bytes()) {
        // Long inputs are looked at in larger steps.
        if end > 600 && !end.is_multiple_of(97) && end != data.len() {
            continue;
        }
        let verdict = filter.inspect(&data[..end]);
        match (&first, &verdict) {
            (None, Inspection::Need) => {}
            (None, Inspection::Done(facts)) => {
                assert!(facts.consumed <= end);
                first = Some(verdict);
            }
            (None, Inspection::Reject(_)) => first = Some(verdict),
            (Some(first), verdict) => assert_eq!(first, verdict, "{}", data[..end].escape_ascii()),
        }
    }
}

/// Frames are the same however they are cut, and counting them fails at the same place.
pub fn http2_frames(data: &[u8]) {
    let now = std::time::Instant::now();
    let walk = |step: usize| {
        let (mut walker, mut flood) = (Walker::new(0), Flood::new(FloodLimits::new(Side::Server), now));
        let mut events: Vec<Event> = Vec::new();
        let mut verdict = Ok(());
        for piece in data.chunks(step.max(1)) {
            verdict = walker.feed(piece, &mut |event| {
                let judged = flood.received(&event, now);
                events.push(event);
                judged
            });
            if verdict.is_err() {
                break;
            }
        }
        (events, verdict)
    };
    same_for_every_cut(data, walk);
}

/// Any text is a configuration or a mistake with a place in it.
pub fn bootstrap(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for format in [Format::Yaml, Format::Json] {
        let Ok(tree) = text::parse(&text, format) else { continue };
        for message in ["envoy.config.bootstrap.v3.Bootstrap", "envoy.config.route.v3.RouteConfiguration"] {
            let options = Options { allow_unknown: false, keep_unknown_any: true };
            if let Ok((wire, _)) = to_wire(tree.root(), message, &options) {
                self::wire(&wire);
            }
        }
    }
    if let Ok(loaded) = outrigger::bootstrap::load(None, Some(&text), false)
        && let Err(reject) = outrigger::bootstrap::Bootstrap::build(loaded.message.clone(), loaded.wire.clone())
    {
        assert!(!loaded.describe(&reject).is_empty());
    }
}

/// Any bytes from a discovery service decode, validate and build, or are refused.
pub fn wire(data: &[u8]) {
    use prost::Message;
    use xds_protos::envoy::config::{cluster, listener, route};
    let cx = BuildCx::new(ServerOptions { concurrency: 1, ..ServerOptions::default() });
    for name in [
        "envoy.config.listener.v3.Listener",
        "envoy.config.cluster.v3.Cluster",
        "envoy.config.route.v3.RouteConfiguration",
        "envoy.config.endpoint.v3.ClusterLoadAssignment",
    ] {
        let valid = xds_protos::validate::validate(name, data).is_ok();
        if !valid {
            continue;
        }
        match name {
            "envoy.config.listener.v3.Listener" => {
                if let Ok(message) = listener::v3::Listener::decode(data) {
                    let _ = outrigger::listener::Listener::build(&message, &Path::root("listener"), &cx);
                }
            }
            "envoy.config.cluster.v3.Cluster" => drop(cluster::v3::Cluster::decode(data)),
            _ => drop(route::v3::RouteConfiguration::decode(data)),
        }
    }
}

/// Formats are parsed or refused.
pub fn formatter(data: &[u8]) {
    let _ = LineFormat::text(&String::from_utf8_lossy(data));
}

/// A pattern in RE2's syntax compiles or is refused, and then matches in bounded time.
pub fn regex(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let pattern: String = text.chars().take(60).collect();
    if let Ok(regex) = Regex::new(&pattern) {
        regex.matches(data);
        regex.matches(b"");
    }
}
