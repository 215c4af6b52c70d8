//! Operators without arguments: a name, and what it writes. The names and their meaning are in Envoy's documentation of
//! access logs; what differs or is not obvious is said here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use certs::CertInfo;
use certs::san::SanType;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;

use super::write::{Written, address, joined, number, optional, push_hex, text};
use crate::access_log::LogContext;
use crate::endpoint::Host;
use crate::http::{RequestHead, ResponseHead};
use crate::net::Address;
use crate::stream_info::{PeerCertificate, TlsInfo};

pub(super) type Eval = fn(&LogContext<'_>, &mut Vec<u8>) -> Written;

/// What an operator without arguments writes.
pub(super) fn find(name: &str) -> Option<Eval> {
    SIMPLE.binary_search_by(|(have, _)| have.cmp(&name)).ok().and_then(|at| SIMPLE.get(at)).map(|(_, eval)| *eval)
}

/// By name.
#[rustfmt::skip]
pub(super) static SIMPLE: &[(&str, Eval)] = &[
    ("ACCESS_LOG_TYPE", |cx, out| text(out, cx.kind.as_str())),
    ("BYTES_RECEIVED", |cx, out| number(out, cx.info.bytes_received)),
    // HTTP/3 only, as is the next.
    ("BYTES_RETRANSMITTED", |_, out| number(out, 0)),
    ("BYTES_SENT", |cx, out| number(out, cx.info.bytes_sent)),
    ("CONNECTION_ID", |cx, out| number(out, cx.info.connection.id)),
    ("CONNECTION_TERMINATION_DETAILS", |cx, out| optional(out, cx.info.connection.termination_details.borrow().as_deref())),
    // Set by filters that we have not.
    ("CUSTOM_FLAGS", |_, out| text(out, "")),
    ("DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", |cx, out| number(out, cx.info.downstream_header_bytes_received)),
    ("DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", |cx, out| number(out, cx.info.downstream_header_bytes_sent)),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS", |cx, out| address(out, &cx.info.connection.direct_local_address)),
    // Envoy's internal addresses have an id; we have none of them.
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID", |_, out| text(out, "")),
    ("DOWNSTREAM_DIRECT_LOCAL_PORT", |cx, out| port(out, Some(&cx.info.connection.direct_local_address))),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", |cx, out| address(out, &cx.info.connection.direct_remote_address)),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", |cx, out| port(out, Some(&cx.info.connection.direct_remote_address))),
    // From accept to the end of the handshake. Envoy subtracts the start of the request, which comes later.
    ("DOWNSTREAM_HANDSHAKE_DURATION", |cx, out| millis(out, Some(cx.info.connection.start), cx.info.connection.handshake_done.get())),
    ("DOWNSTREAM_HEADER_BYTES_RECEIVED", |cx, out| number(out, cx.info.downstream_header_bytes_received)),
    ("DOWNSTREAM_HEADER_BYTES_SENT", |cx, out| number(out, cx.info.downstream_header_bytes_sent)),
    ("DOWNSTREAM_LOCAL_ADDRESS", |cx, out| address(out, &cx.info.connection.local_address.borrow())),
    ("DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", |_, out| text(out, "")),
    ("DOWNSTREAM_LOCAL_CLOSE_REASON", |cx, out| optional(out, cx.info.connection.local_close_reason.borrow().as_deref())),
    ("DOWNSTREAM_LOCAL_DNS_SAN", |cx, out| sans(out, local(cx), SanType::Dns)),
    ("DOWNSTREAM_LOCAL_EMAIL_SAN", |cx, out| sans(out, local(cx), SanType::Email)),
    ("DOWNSTREAM_LOCAL_IP_SAN", |cx, out| sans(out, local(cx), SanType::IpAddress)),
    ("DOWNSTREAM_LOCAL_OTHERNAME_SAN", |cx, out| sans(out, local(cx), SanType::OtherName)),
    ("DOWNSTREAM_LOCAL_PORT", |cx, out| port(out, Some(&cx.info.connection.local_address.borrow()))),
    ("DOWNSTREAM_LOCAL_SUBJECT", |cx, out| named(out, local(cx).map(CertInfo::subject))),
    ("DOWNSTREAM_LOCAL_URI_SAN", |cx, out| sans(out, local(cx), SanType::Uri)),
    ("DOWNSTREAM_PEER_CERT", |cx, out| pem(out, peer(cx))),
    ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", |cx, out| chain(out, cx, |cert| cert.sha1_hex())),
    ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", |cx, out| chain(out, cx, |cert| cert.sha256_hex().to_owned())),
    ("DOWNSTREAM_PEER_CHAIN_SERIALS", |cx, out| chain(out, cx, |cert| cert.serial().to_owned())),
    ("DOWNSTREAM_PEER_DNS_SAN", |cx, out| sans(out, peer(cx), SanType::Dns)),
    ("DOWNSTREAM_PEER_EMAIL_SAN", |cx, out| sans(out, peer(cx), SanType::Email)),
    ("DOWNSTREAM_PEER_FINGERPRINT_1", |cx, out| optional(out, peer(cx).map(CertInfo::sha1_hex))),
    ("DOWNSTREAM_PEER_FINGERPRINT_256", |cx, out| optional(out, peer(cx).map(CertInfo::sha256_hex))),
    ("DOWNSTREAM_PEER_IP_SAN", |cx, out| sans(out, peer(cx), SanType::IpAddress)),
    ("DOWNSTREAM_PEER_ISSUER", |cx, out| named(out, peer(cx).map(CertInfo::issuer))),
    // The certificate after the leaf in the chain that the peer sent.
    ("DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256", |cx, out| optional(out, issuer(cx).map(|cert| cert.sha256_hex().to_owned()))),
    ("DOWNSTREAM_PEER_ISSUER_SERIAL", |cx, out| optional(out, issuer(cx).map(|cert| cert.serial().to_owned()))),
    ("DOWNSTREAM_PEER_OTHERNAME_SAN", |cx, out| sans(out, peer(cx), SanType::OtherName)),
    ("DOWNSTREAM_PEER_SERIAL", |cx, out| optional(out, peer(cx).map(CertInfo::serial))),
    ("DOWNSTREAM_PEER_SUBJECT", |cx, out| named(out, peer(cx).map(CertInfo::subject))),
    ("DOWNSTREAM_PEER_URI_SAN", |cx, out| sans(out, peer(cx), SanType::Uri)),
    ("DOWNSTREAM_REMOTE_ADDRESS", |cx, out| with_remote(cx, |remote| address(out, remote))),
    ("DOWNSTREAM_REMOTE_PORT", |cx, out| with_remote(cx, |remote| port(out, Some(remote)))),
    ("DOWNSTREAM_TLS_CIPHER", |cx, out| tls_text(out, down(cx).map(|tls| tls.cipher))),
    ("DOWNSTREAM_TLS_GROUP", |cx, out| tls_text(out, down(cx).map(|tls| tls.group))),
    ("DOWNSTREAM_TLS_SESSION_ID", |cx, out| optional(out, down(cx).and_then(|tls| tls.session_id.as_deref()))),
    ("DOWNSTREAM_TLS_VERSION", |cx, out| tls_text(out, down(cx).map(|tls| tls.version))),
    ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", |cx, out| without_spaces(out, cx.info.connection.transport_failure_reason.borrow().as_deref())),
    ("DOWNSTREAM_WIRE_BYTES_RECEIVED", |cx, out| number(out, cx.info.downstream_wire_bytes_received)),
    ("DOWNSTREAM_WIRE_BYTES_SENT", |cx, out| number(out, cx.info.downstream_wire_bytes_sent)),
    ("DURATION", |cx, out| millis(out, Some(cx.info.start), Some(cx.info.end.unwrap_or_else(Instant::now)))),
    ("FILTER_CHAIN_NAME", |cx, out| named(out, cx.info.connection.filter_chain_name.borrow().as_deref())),
    ("LISTENER_NAME", |cx, out| named(out, Some(&*cx.info.connection.listener_name))),
    ("LOCAL_REPLY_BODY", |cx, out| text(out, cx.info.local_reply_body.as_deref().unwrap_or_default())),
    ("PACKETS_RETRANSMITTED", |_, out| number(out, 0)),
    ("PROTOCOL", |cx, out| optional(out, cx.info.protocol.map(|protocol| protocol.as_str()))),
    ("REQUEST_DURATION", |cx, out| millis(out, Some(cx.info.start), cx.info.request_complete)),
    ("REQUEST_HEADERS_BYTES", |cx, out| number(out, cx.request.map_or(0, request_size))),
    ("REQUEST_TX_DURATION", |cx, out| millis(out, Some(cx.info.start), cx.info.upstream.timing.last_tx)),
    ("RESPONSE_CODE", |cx, out| number(out, cx.info.response_code)),
    ("RESPONSE_DURATION", |cx, out| millis(out, Some(cx.info.start), cx.info.upstream.timing.first_rx)),
    ("RESPONSE_FLAGS", |cx, out| flags(out, cx, |(_, short, _)| short)),
    ("RESPONSE_FLAGS_LONG", |cx, out| flags(out, cx, |(_, _, long)| long)),
    ("RESPONSE_HEADERS_BYTES", |cx, out| number(out, cx.response.map_or(0, response_size))),
    ("RESPONSE_TRAILERS_BYTES", |cx, out| number(out, cx.trailers.map_or(0, map_size))),
    ("RESPONSE_TX_DURATION", |cx, out| millis(out, cx.info.upstream.timing.first_rx, cx.info.last_downstream_tx)),
    // HTTP/3 only.
    ("ROUNDTRIP_DURATION", |_, _| Written::Missing),
    ("ROUTE_NAME", |cx, out| named(out, cx.info.route_name.as_deref())),
    // There are no traces yet.
    ("SPAN_ID", |_, _| Written::Missing),
    ("STREAM_ID", |cx, out| optional(out, cx.info.request_id.as_deref())),
    // Fingerprinting is a setting of tls_inspector that we refuse.
    ("TLS_JA3_FINGERPRINT", |_, _| Written::Missing),
    ("TLS_JA4_FINGERPRINT", |_, _| Written::Missing),
    ("TRACE_ID", |_, _| Written::Missing),
    ("UNIQUE_ID", |_, out| unique_id(out)),
    // The name that statistics carry, which in Istio ends with a semicolon.
    ("UPSTREAM_CLUSTER", |cx, out| named(out, cx.info.cluster.as_ref().map(|cluster| &*cluster.observability_name))),
    ("UPSTREAM_CLUSTER_RAW", |cx, out| named(out, cx.info.cluster.as_ref().map(|cluster| &*cluster.name))),
    ("UPSTREAM_CONNECTION_ID", |cx, out| number(out, cx.info.upstream.connection_id.unwrap_or(0))),
    ("UPSTREAM_CONNECTION_POOL_READY_DURATION", |cx, out| millis(out, cx.info.upstream.timing.started, cx.info.upstream.timing.pool_ready)),
    ("UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", |cx, out| number(out, cx.info.upstream.header_bytes_received)),
    ("UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", |cx, out| number(out, cx.info.upstream.header_bytes_sent)),
    ("UPSTREAM_HEADER_BYTES_RECEIVED", |cx, out| number(out, cx.info.upstream.header_bytes_received)),
    ("UPSTREAM_HEADER_BYTES_SENT", |cx, out| number(out, cx.info.upstream.header_bytes_sent)),
    ("UPSTREAM_HOST", |cx, out| cx.info.upstream.host.as_ref().map_or(Written::Missing, |host| address(out, &host.address))),
    ("UPSTREAM_HOSTS_ATTEMPTED", |cx, out| hosts(out, cx, |out, host| address(out, &host.address))),
    ("UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT", |cx, out| hosts(out, cx, |out, host| without_port(out, &host.address))),
    ("UPSTREAM_HOST_NAME", |cx, out| cx.info.upstream.host.as_ref().map_or(Written::Missing, |host| host_name(out, host))),
    ("UPSTREAM_HOST_NAMES_ATTEMPTED", |cx, out| hosts(out, cx, host_name)),
    ("UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", |cx, out| hosts(out, cx, host_name_without_port)),
    ("UPSTREAM_HOST_NAME_WITHOUT_PORT", |cx, out| cx.info.upstream.host.as_ref().map_or(Written::Missing, |host| host_name_without_port(out, host))),
    ("UPSTREAM_LOCAL_ADDRESS", |cx, out| optional_address(out, cx.info.upstream.local_address.as_ref())),
    ("UPSTREAM_LOCAL_DNS_SAN", |cx, out| sans(out, up_local(cx), SanType::Dns)),
    ("UPSTREAM_LOCAL_IP_SAN", |cx, out| sans(out, up_local(cx), SanType::IpAddress)),
    ("UPSTREAM_LOCAL_PORT", |cx, out| port(out, cx.info.upstream.local_address.as_ref())),
    ("UPSTREAM_LOCAL_URI_SAN", |cx, out| sans(out, up_local(cx), SanType::Uri)),
    ("UPSTREAM_PEER_CERT", |cx, out| pem(out, up_peer(cx))),
    ("UPSTREAM_PEER_DNS_SAN", |cx, out| sans(out, up_peer(cx), SanType::Dns)),
    ("UPSTREAM_PEER_IP_SAN", |cx, out| sans(out, up_peer(cx), SanType::IpAddress)),
    ("UPSTREAM_PEER_ISSUER", |cx, out| named(out, up_peer(cx).map(CertInfo::issuer))),
    ("UPSTREAM_PEER_SUBJECT", |cx, out| named(out, up_peer(cx).map(CertInfo::subject))),
    ("UPSTREAM_PEER_URI_SAN", |cx, out| sans(out, up_peer(cx), SanType::Uri)),
    ("UPSTREAM_PROTOCOL", |cx, out| optional(out, cx.info.upstream.protocol.map(|protocol| protocol.as_str()))),
    ("UPSTREAM_REMOTE_ADDRESS", |cx, out| optional_address(out, cx.info.upstream.remote_address.as_ref())),
    ("UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", |_, out| text(out, "")),
    ("UPSTREAM_REMOTE_PORT", |cx, out| port(out, cx.info.upstream.remote_address.as_ref())),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", |cx, out| number(out, cx.info.upstream.attempts)),
    ("UPSTREAM_SERVER_NAME", |cx, out| named(out, cx.info.upstream.sni.as_deref())),
    ("UPSTREAM_TLS_CIPHER", |cx, out| tls_text(out, up(cx).map(|tls| tls.cipher))),
    ("UPSTREAM_TLS_GROUP", |cx, out| tls_text(out, up(cx).map(|tls| tls.group))),
    ("UPSTREAM_TLS_SESSION_ID", |cx, out| optional(out, up(cx).and_then(|tls| tls.session_id.as_deref()))),
    ("UPSTREAM_TLS_VERSION", |cx, out| tls_text(out, up(cx).map(|tls| tls.version))),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", |cx, out| without_spaces(out, cx.info.upstream.transport_failure_reason.as_deref())),
    ("UPSTREAM_WIRE_BYTES_RECEIVED", |cx, out| number(out, cx.info.upstream.wire_bytes_received)),
    ("UPSTREAM_WIRE_BYTES_SENT", |cx, out| number(out, cx.info.upstream.wire_bytes_sent)),
    ("VIRTUAL_CLUSTER_NAME", |cx, out| virtual_cluster(out, cx)),
];

/// Operators that Envoy has and we refuse, with the reason.
pub(super) const UNSUPPORTED: &[(&str, &str)] = &[
    ("CEL", "there are no CEL expressions yet"),
    ("DOWNSTREAM_CX_RTT", "the round-trip time of connections is not measured"),
    ("DOWNSTREAM_DETECTED_CLOSE_TYPE", "how a connection was closed is not recorded"),
    ("ROUTE_RESOLUTION_COUNT", "route resolutions are not counted"),
    ("ROUTE_RESOLUTION_TIME_US", "route resolutions are not timed"),
    ("TYPED_CEL", "there are no CEL expressions yet"),
    ("UPSTREAM_CONNECTION_IDS_ATTEMPTED", "connections of earlier attempts are not recorded"),
    ("UPSTREAM_DETECTED_CLOSE_TYPE", "how a connection was closed is not recorded"),
    ("UPSTREAM_LOCAL_CLOSE_REASON", "why upstream connections are closed is not recorded"),
    ("XFCC_VALUE", "x-forwarded-client-cert is not taken apart"),
];

/// Text that may be empty, and is then missing.
fn named(out: &mut Vec<u8>, value: Option<&str>) -> Written {
    optional(out, value.filter(|value| !value.is_empty()))
}

fn tls_text(out: &mut Vec<u8>, value: Option<&'static str>) -> Written {
    named(out, value)
}

/// Reasons and details stand where blanks separate fields.
pub(super) fn without_spaces(out: &mut Vec<u8>, value: Option<&str>) -> Written {
    let start = out.len();
    let written = named(out, value);
    for byte in out.get_mut(start..).unwrap_or_default() {
        if byte.is_ascii_whitespace() {
            *byte = b'_';
        }
    }
    written
}

pub(super) fn millis(out: &mut Vec<u8>, from: Option<Instant>, to: Option<Instant>) -> Written {
    duration(from, to).map_or(Written::Missing, |between| number(out, between.as_millis() as u64))
}

/// None as well when the points are in the wrong order.
pub(super) fn duration(from: Option<Instant>, to: Option<Instant>) -> Option<Duration> {
    to?.checked_duration_since(from?)
}

fn port(out: &mut Vec<u8>, address: Option<&Address>) -> Written {
    address.and_then(Address::port).map_or(Written::Missing, |port| number(out, port))
}

fn optional_address(out: &mut Vec<u8>, value: Option<&Address>) -> Written {
    value.map_or(Written::Missing, |value| address(out, value))
}

pub(super) fn without_port(out: &mut Vec<u8>, address: &Address) -> Written {
    match address {
        Address::Ip(socket) => super::write::ip(out, socket.ip()),
        Address::Pipe(path) => text(out, path.as_bytes()),
    }
}

/// Who sent the request, after `x-forwarded-for`.
pub(super) fn with_remote(cx: &LogContext<'_>, f: impl FnOnce(&Address) -> Written) -> Written {
    match &cx.info.remote_address {
        Some(address) => f(address),
        None => f(&cx.info.connection.remote_address.borrow()),
    }
}

fn host_name(out: &mut Vec<u8>, host: &Host) -> Written {
    if host.hostname.is_empty() { address(out, &host.address) } else { text(out, host.hostname.as_bytes()) }
}

fn host_name_without_port(out: &mut Vec<u8>, host: &Host) -> Written {
    let name = &*host.hostname;
    match crate::route::port_start(name).and_then(|at| name.get(..at)) {
        Some(bare) => text(out, bare),
        None if name.is_empty() => without_port(out, &host.address),
        None => text(out, name),
    }
}

fn hosts(out: &mut Vec<u8>, cx: &LogContext<'_>, write: fn(&mut Vec<u8>, &Host) -> Written) -> Written {
    let attempted = &cx.info.upstream.hosts_attempted;
    for (i, host) in attempted.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, host);
    }
    if attempted.is_empty() { Written::Missing } else { Written::Text }
}

fn flags(
    out: &mut Vec<u8>,
    cx: &LogContext<'_>,
    name: fn(&(crate::stream_info::ResponseFlags, &'static str, &'static str)) -> &'static str,
) -> Written {
    if cx.info.flags.is_empty() {
        return text(out, "-");
    }
    joined(out, cx.info.flags.iter().map(|flag| name(&flag)))
}

fn down<'c>(cx: &LogContext<'c>) -> Option<&'c TlsInfo> {
    cx.info.connection.tls.get()
}

fn local<'c>(cx: &LogContext<'c>) -> Option<&'c CertInfo> {
    down(cx)?.local.as_deref()
}

fn peer_chain<'c>(cx: &LogContext<'c>) -> Option<&'c Arc<PeerCertificate>> {
    down(cx)?.peer.as_ref()
}

pub(super) fn peer<'c>(cx: &LogContext<'c>) -> Option<&'c CertInfo> {
    peer_chain(cx).map(|peer| &peer.leaf)
}

fn up<'c>(cx: &LogContext<'c>) -> Option<&'c TlsInfo> {
    cx.info.upstream.tls.as_deref()
}

pub(super) fn up_peer<'c>(cx: &LogContext<'c>) -> Option<&'c CertInfo> {
    up(cx)?.peer.as_ref().map(|peer| &peer.leaf)
}

fn up_local<'c>(cx: &LogContext<'c>) -> Option<&'c CertInfo> {
    up(cx)?.local.as_deref()
}

fn sans(out: &mut Vec<u8>, cert: Option<&CertInfo>, kind: SanType) -> Written {
    cert.map_or(Written::Missing, |cert| joined(out, cert.sans_of(kind)))
}

/// PEM with the characters encoded that a header's value or a URL could not hold.
fn pem(out: &mut Vec<u8>, cert: Option<&CertInfo>) -> Written {
    let Some(cert) = cert else { return Written::Missing };
    for byte in cert.pem().bytes() {
        match byte {
            b'\n' | b' ' | b'+' | b'/' | b'=' => {
                out.push(b'%');
                let start = out.len();
                push_hex(out, byte);
                out.get_mut(start..).unwrap_or_default().make_ascii_uppercase();
            }
            byte => out.push(byte),
        }
    }
    Written::Text
}

/// Of each certificate that the peer sent. Reading them again costs, and few ask.
fn chain(out: &mut Vec<u8>, cx: &LogContext<'_>, of: fn(&CertInfo) -> String) -> Written {
    let certs = peer_chain(cx).into_iter().flat_map(|peer| &peer.chain);
    joined(
        out,
        certs.filter_map(|der| CertInfo::parse(&CertificateDer::from(der.as_slice())).ok()).map(|cert| of(&cert)),
    )
}

fn issuer(cx: &LogContext<'_>) -> Option<CertInfo> {
    CertInfo::parse(&CertificateDer::from(peer_chain(cx)?.chain.get(1)?.as_slice())).ok()
}

fn virtual_cluster(out: &mut Vec<u8>, cx: &LogContext<'_>) -> Written {
    let found = cx.info.route.as_ref().zip(cx.request);
    let clusters = found.and_then(|(route, request)| Some((route.virtual_host().virtual_clusters.as_ref()?, request)));
    optional(out, clusters.map(|(clusters, request)| clusters.find(request).name.as_bytes()))
}

/// A random UUID, version 4.
fn unique_id(out: &mut Vec<u8>) -> Written {
    let id = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    for (i, byte) in id.to_be_bytes().into_iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        push_hex(out, byte);
    }
    Written::Text
}

/// What Envoy's map of request headers would hold, names and values.
fn request_size(head: &RequestHead) -> usize {
    let pseudo = |name: &str, len: usize| if len == 0 { 0 } else { name.len() + len };
    pseudo(":method", head.method.as_str().len())
        + pseudo(":scheme", head.scheme.as_str().len())
        + pseudo(":authority", head.authority.len())
        + pseudo(":path", head.path.len())
        + head.upgrade.as_ref().map_or(0, |token| "upgrade".len() + token.len())
        + map_size(&head.headers)
}

fn response_size(head: &ResponseHead) -> usize {
    ":status".len() + 3 + map_size(&head.headers)
}

fn map_size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::{SIMPLE, UNSUPPORTED};

    #[test]
    fn the_table_is_sorted_and_says_each_name_once() {
        assert!(SIMPLE.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(UNSUPPORTED.iter().all(|(name, _)| SIMPLE.binary_search_by(|(have, _)| have.cmp(name)).is_err()));
    }
}
