//! `envoy.filters.listener.http_inspector`: whether a plaintext connection begins with an HTTP request, and of which version.
//! The answer becomes the connection's application protocol: `http/1.0`, `http/1.1` or `h2c`.
//!
//! A request line is what Envoy's parser takes for one. That is looser than what the codec accepts later (any white space
//! and control byte separates, any method token will do), and must be: a filter chain is chosen by it. A request line of
//! another version than 1.1 counts as `http/1.0`. As with Envoy, bytes that begin like a request wait for the line's end.

use std::sync::Arc;

use prost_types::Any;
use xds_protos::envoy::extensions::filters::listener::http_inspector::v3 as proto;

use super::{Facts, Inspection, ListenerFilter, OnAccept};
use crate::config::{BuildCx, Path, Reject, values};
use crate::net::Socket;
use crate::stats::StatBlock;
use crate::stats::names::HttpInspectorStats;
use crate::stream_info::ConnectionInfo;

#[cfg(test)]
mod tests;

/// A request line that is longer closes the connection.
const MAX_INSPECT_SIZE: usize = 64 * 1024;
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What some bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detected {
    Need,
    Http10,
    Http11,
    Http2,
    NotHttp,
}

struct HttpInspector {
    stats: StatBlock<HttpInspectorStats>,
}

pub fn build(config: &Any, path: &Path<'_>, cx: &BuildCx) -> Result<Arc<dyn ListenerFilter>, Reject> {
    let proto::HttpInspector {} = values::decode(config, path)?;
    Ok(Arc::new(HttpInspector { stats: cx.stats.block("http_inspector") }))
}

impl ListenerFilter for HttpInspector {
    fn on_accept(&self, _: &Socket, info: &ConnectionInfo) -> OnAccept {
        match info.transport_protocol.get() {
            "" | "raw_buffer" => OnAccept::Inspect,
            _ => OnAccept::Done(Facts::default()),
        }
    }

    fn inspect(&self, buffer: &[u8]) -> Inspection {
        let visible = buffer.get(..MAX_INSPECT_SIZE).unwrap_or(buffer);
        let (counter, protocol) = match detect(visible) {
            Detected::Need if visible.len() < MAX_INSPECT_SIZE => return Inspection::Need,
            Detected::Need => {
                self.stats.inc(HttpInspectorStats::READ_ERROR);
                return Inspection::Reject("request line too long");
            }
            Detected::NotHttp => {
                self.stats.inc(HttpInspectorStats::HTTP_NOT_FOUND);
                return Inspection::Done(Facts::default());
            }
            Detected::Http10 => (HttpInspectorStats::HTTP10_FOUND, "http/1.0"),
            Detected::Http11 => (HttpInspectorStats::HTTP11_FOUND, "http/1.1"),
            Detected::Http2 => (HttpInspectorStats::HTTP2_FOUND, "h2c"),
        };
        self.stats.inc(counter);
        Inspection::Done(Facts { application_protocols: Some(vec![protocol.into()]), ..Facts::default() })
    }

    fn max_bytes(&self) -> usize {
        MAX_INSPECT_SIZE
    }
}

/// Looks for a request line or the HTTP/2 preface. For every continuation of `buffer` the answer is the same, unless it is
/// `Need`.
fn detect(buffer: &[u8]) -> Detected {
    if buffer.starts_with(HTTP2_PREFACE) {
        return Detected::Http2;
    }
    if HTTP2_PREFACE.starts_with(buffer) {
        return Detected::Need;
    }
    match buffer.iter().position(|&b| b == b'\n') {
        Some(end) => request_line(buffer.get(..end).unwrap_or_default()),
        // Whatever comes, a method that is no token stays none.
        None if method(buffer).is_some() => Detected::Need,
        None => Detected::NotHttp,
    }
}

fn is_separator(byte: u8) -> bool {
    byte <= b' '
}

/// The method at the start, if it is a token (RFC 9110, section 5.6.2).
fn method(line: &[u8]) -> Option<&[u8]> {
    let method = line.split(|&b| is_separator(b)).next()?;
    (!method.is_empty() && method.iter().all(|&b| is_token(b))).then_some(method)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn request_line(line: &[u8]) -> Detected {
    let Some(method) = method(line) else { return Detected::NotHttp };
    let after = line.get(method.len()..).unwrap_or_default();
    let after = skip_separators(after);
    let target_len = after.iter().position(|&b| is_separator(b)).unwrap_or(after.len());
    let (target, version) = after.split_at_checked(target_len).unwrap_or_default();
    if !is_target(target, method == b"CONNECT") {
        return Detected::NotHttp;
    }
    match trim_end(skip_separators(version)) {
        b"HTTP/1.1" => Detected::Http11,
        // HTTP/0.9 has no version.
        b"" => Detected::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Detected::Http10
        }
        _ => Detected::NotHttp,
    }
}

fn skip_separators(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_separator(*first)
    {
        bytes = rest;
    }
    bytes
}

fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_separator(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Origin form, asterisk form with anything after it, a URL, or for CONNECT an authority with anything after it.
fn is_target(target: &[u8], is_connect: bool) -> bool {
    if target.is_empty() {
        return false;
    }
    let is_path = |bytes: &[u8]| bytes.iter().all(|b| b.is_ascii_graphic());
    if matches!(target.first(), Some(b'/' | b'*')) {
        return is_path(target);
    }
    let authority = if is_connect { Some(target) } else { after_scheme(target) };
    let Some(authority) = authority else { return false };
    let end = authority.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(authority.len());
    let (host, path) = authority.split_at_checked(end).unwrap_or_default();
    let host_byte = |b: &u8| b.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=@[]_~".contains(b);
    host.iter().all(host_byte) && !host.windows(2).any(|pair| pair == b"@@") && is_path(path)
}

/// What follows `scheme://` (RFC 3986, section 3.1).
fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    let is_scheme = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
    if !target.first()?.is_ascii_alphabetic() {
        return None;
    }
    let end = target.iter().position(|b| !is_scheme(b))?;
    target.get(end..)?.strip_prefix(b"://")
}
