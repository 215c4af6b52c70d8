//! What the connection manager does to a request's headers before routing: who sent it (`x-forwarded-for`), how
//! (`x-forwarded-proto`, `:scheme`), whether it comes from inside (`x-envoy-internal`), and which `x-envoy-*` headers it may
//! therefore bring. Follows Envoy's `ConnectionManagerUtility::mutateRequestHeaders`; the order of the steps matters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::config::{HcmConfig, SchemeTransformation};
use super::tracing::X_ENVOY_DECORATOR_OPERATION;
use super::{request_id, xfcc};
use crate::http::{ByteStr, RequestHead, Scheme};
use crate::net::Address;
use crate::stream_info::ConnectionInfo;

pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub const X_ENVOY_INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
pub const X_ENVOY_EXTERNAL_ADDRESS: HeaderName = HeaderName::from_static("x-envoy-external-address");
pub const X_ENVOY_FORCE_TRACE: HeaderName = HeaderName::from_static("x-envoy-force-trace");
pub const X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER: HeaderName =
    HeaderName::from_static("x-envoy-downstream-service-cluster");
pub const X_ENVOY_DOWNSTREAM_SERVICE_NODE: HeaderName = HeaderName::from_static("x-envoy-downstream-service-node");

/// Headers that only the proxy itself may put on a request that enters the mesh.
const EDGE_ONLY: [HeaderName; 4] = [
    X_ENVOY_DECORATOR_OPERATION,
    X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER,
    X_ENVOY_DOWNSTREAM_SERVICE_NODE,
    HeaderName::from_static("x-envoy-original-path"),
];

/// Headers that steer the router and are obeyed only from internal callers.
const INTERNAL_ONLY: [HeaderName; 14] = [
    HeaderName::from_static("x-envoy-retriable-status-codes"),
    HeaderName::from_static("x-envoy-retriable-header-names"),
    HeaderName::from_static("x-envoy-retry-on"),
    HeaderName::from_static("x-envoy-retry-grpc-on"),
    HeaderName::from_static("x-envoy-max-retries"),
    HeaderName::from_static("x-envoy-upstream-alt-stat-name"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-per-try-timeout-ms"),
    HeaderName::from_static("x-envoy-upstream-rq-timeout-alt-response"),
    HeaderName::from_static("x-envoy-expected-rq-timeout-ms"),
    X_ENVOY_FORCE_TRACE,
    HeaderName::from_static("x-envoy-ip-tags"),
    HeaderName::from_static("x-envoy-original-url"),
    HeaderName::from_static("x-envoy-hedge-on-per-try-timeout"),
];

/// The fields of which this page speaks, as a set of what a request has. One pass over its names costs less than to look
/// up each, when most are absent.
#[derive(Default)]
struct Seen {
    internal: bool,
    forwarded_for: bool,
    forwarded_proto: bool,
    client_cert: bool,
    request_id: bool,
    /// Any `x-envoy-*` beside `x-envoy-internal`.
    envoy: bool,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let mut seen = Seen::default();
        for name in headers.keys().map(HeaderName::as_str).filter(|name| name.starts_with("x-")) {
            match name {
                "x-envoy-internal" => seen.internal = true,
                "x-forwarded-for" => seen.forwarded_for = true,
                "x-forwarded-proto" => seen.forwarded_proto = true,
                "x-forwarded-client-cert" => seen.client_cert = true,
                "x-request-id" => seen.request_id = true,
                _ => seen.envoy |= name.starts_with("x-envoy-"),
            }
        }
        seen
    }
}

/// What the headers say about where the request came from.
pub struct Origin {
    /// The client's address as far as it can be trusted.
    pub remote: Address,
}

/// Applies all of it. `local` is this machine's address, which stands in for loopback peers.
///
/// # Errors
/// The status that an extension for detecting addresses refuses the request with.
pub fn mutate(
    head: &mut RequestHead,
    connection: &ConnectionInfo,
    config: &HcmConfig,
    local: IpAddr,
) -> Result<Origin, StatusCode> {
    let seen = Seen::of(&head.headers);
    if seen.internal {
        head.headers.remove(&X_ENVOY_INTERNAL);
    }
    if seen.forwarded_for {
        join(&mut head.headers, X_FORWARDED_FOR);
    }
    let peer = connection.remote_address.borrow().clone();
    let over_tls = connection.tls.get().is_some();
    let (remote, trusted_checks) = detect_remote(head, &seen, &peer, connection, config, local, over_tls)?;
    set_scheme(head, config, over_tls);

    let internal = trusted_checks && remote.as_ref().is_some_and(|remote| config.internal_addresses.contains(remote));
    let edge = !internal && config.use_remote_address;
    if internal {
        head.headers.insert(X_ENVOY_INTERNAL, HeaderValue::from_static("true"));
    } else {
        sanitize(&mut head.headers, &seen, edge, config);
    }
    let remote = remote.unwrap_or(peer);

    if let Some(user_agent) = &config.user_agent {
        head.headers.insert(X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, user_agent.clone());
        head.headers.entry(http::header::USER_AGENT).or_insert_with(|| user_agent.clone());
        if let Some(node) = &config.service_node {
            head.headers.insert(X_ENVOY_DOWNSTREAM_SERVICE_NODE, node.clone());
        }
    }
    if let Some(via) = &config.via {
        append_via(&mut head.headers, via);
    }
    if edge && let Some(ip) = remote.ip() {
        head.headers.insert(X_ENVOY_EXTERNAL_ADDRESS, ip_value(ip));
    }
    if config.generate_request_id {
        if seen.request_id {
            request_id::set(&mut head.headers, edge, config.preserve_external_request_id, config.request_id);
        } else {
            head.headers.insert(X_REQUEST_ID, request_id::generate());
        }
    }
    if seen.client_cert || connection.tls.get().is_some() {
        xfcc::mutate(&mut head.headers, connection, config);
    }
    Ok(Origin { remote })
}

/// The client's address and whether the "internal" question may be asked of it.
fn detect_remote(
    head: &mut RequestHead,
    seen: &Seen,
    peer: &Address,
    connection: &ConnectionInfo,
    config: &HcmConfig,
    local: IpAddr,
    over_tls: bool,
) -> Result<(Option<Address>, bool), StatusCode> {
    if !config.use_remote_address {
        let (address, single) = match config.original_ip_detection.as_slice() {
            [] if !seen.forwarded_for => (None, false),
            [] => last_address(&head.headers, config.xff_num_trusted_hops),
            _ => detected(head, peer, config, local)?,
        };
        if !seen.forwarded_proto {
            head.headers.insert(X_FORWARDED_PROTO, proto_value(connection, config, over_tls));
        }
        return Ok((address, single));
    }
    let trusted_checks = !seen.forwarded_for;
    let from_header = match config.xff_num_trusted_hops.checked_sub(1) {
        Some(skip) => last_address(&head.headers, skip).0,
        None => None,
    };
    if !config.skip_xff_append {
        append_peer(&mut head.headers, peer, config, local);
    }
    let untrusted_hop = config.xff_num_trusted_hops == 0;
    if untrusted_hop || !seen.forwarded_proto {
        head.headers.insert(X_FORWARDED_PROTO, proto_value(connection, config, over_tls));
    }
    if config.append_x_forwarded_port
        && (untrusted_hop || !head.headers.contains_key(X_FORWARDED_PORT))
        && let Some(port) = connection.local_address.borrow().port()
    {
        head.headers.insert(X_FORWARDED_PORT, HeaderValue::from(port));
    }
    Ok((from_header.or_else(|| Some(peer.clone())), trusted_checks))
}

/// What the first extension says that has something to say.
fn detected(
    head: &mut RequestHead,
    peer: &Address,
    config: &HcmConfig,
    local: IpAddr,
) -> Result<(Option<Address>, bool), StatusCode> {
    for detection in &config.original_ip_detection {
        let found = detection.detect(&head.headers, peer.ip())?;
        if !found.skip_append {
            append_peer(&mut head.headers, peer, config, local);
        }
        if found.address.is_some() {
            return Ok((found.address, found.trusted));
        }
    }
    Ok((None, false))
}

fn append_peer(headers: &mut HeaderMap, peer: &Address, config: &HcmConfig, local: IpAddr) {
    match peer.ip() {
        // Only the usual loopback address stands for this machine, as in Envoy; the others are somebody.
        Some(IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST)) => append_xff(headers, local),
        Some(IpAddr::V4(v4)) if config.represent_ipv4_as_mapped => {
            append_xff(headers, IpAddr::V6(v4.to_ipv6_mapped()));
        }
        Some(ip) => append_xff(headers, ip),
        None => {}
    }
}

fn proto_value(connection: &ConnectionInfo, config: &HcmConfig, over_tls: bool) -> HeaderValue {
    let port = connection.local_address.borrow().port().map(u32::from);
    let https = match port {
        Some(port) if config.https_destination_ports.contains(&port) => true,
        Some(port) if config.http_destination_ports.contains(&port) => false,
        _ => over_tls,
    };
    HeaderValue::from_static(if https { "https" } else { "http" })
}

/// `:scheme` follows `x-forwarded-proto` when the client's codec had none to give (HTTP/1), unless it is overwritten.
fn set_scheme(head: &mut RequestHead, config: &HcmConfig, over_tls: bool) {
    let overwrite = match config.scheme_transformation {
        SchemeTransformation::None => None,
        SchemeTransformation::To(https) => Some(https),
        SchemeTransformation::MatchUpstream => None, // the router knows the upstream
    };
    if let Some(https) = overwrite {
        head.scheme = if https { Scheme::Https } else { Scheme::Http };
        head.headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if https { "https" } else { "http" }));
        return;
    }
    if head.protocol != crate::http::Protocol::Http2 {
        head.scheme = match head.headers.get(X_FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(proto) if proto.eq_ignore_ascii_case(b"https") => Scheme::Https,
            Some(proto) if proto.eq_ignore_ascii_case(b"http") => Scheme::Http,
            _ if over_tls => Scheme::Https,
            _ => Scheme::Http,
        };
    }
}

fn sanitize(headers: &mut HeaderMap, seen: &Seen, edge: bool, config: &HcmConfig) {
    config.routes.internal_only_headers(|name| drop(headers.remove(name)));
    if !seen.envoy {
        return;
    }
    if edge {
        EDGE_ONLY.iter().for_each(|name| drop(headers.remove(name)));
    }
    INTERNAL_ONLY.iter().for_each(|name| drop(headers.remove(name)));
}

/// The address `skip` places from the end of `x-forwarded-for`, whose lines are joined, and whether the header holds
/// exactly one address.
pub fn last_address(headers: &HeaderMap, skip: u32) -> (Option<Address>, bool) {
    let Some(value) = headers.get(X_FORWARDED_FOR) else { return (None, false) };
    let address = forwarded_for(value).nth(skip as usize).flatten();
    let single = !value.as_bytes().contains(&b',') && address.is_some();
    (address, single)
}

/// The last address of `x-forwarded-for` that is not trusted, or the first one if all are; and whether it is the only one.
/// None if one on the way is no address.
pub fn last_untrusted_address(headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> (Option<Address>, bool) {
    let Some(value) = headers.get(X_FORWARDED_FOR) else { return (None, false) };
    let single = !value.as_bytes().contains(&b',');
    let mut last = None;
    for address in forwarded_for(value) {
        let Some(address) = address else { return (None, false) };
        let trusted = address.ip().is_some_and(&is_trusted);
        last = Some(address);
        if !trusted {
            break;
        }
    }
    (last, single)
}

/// From the end to the start.
fn forwarded_for(value: &HeaderValue) -> impl Iterator<Item = Option<Address>> {
    value
        .as_bytes()
        .rsplit(|b| *b == b',')
        .map(|part| parse_address(std::str::from_utf8(part).ok()?.trim_matches([' ', '\t'])))
}

/// Makes one line of several, as Envoy does with the headers that it knows.
pub fn join(headers: &mut HeaderMap, name: HeaderName) {
    if headers.get_all(&name).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_maybe_shared(bytes::Bytes::from(all.join(&b","[..]))) {
        headers.insert(name, joined);
    }
}

/// An IP address without a port, as Envoy accepts in `x-forwarded-for`. The port of the result is 0.
pub fn parse_address(text: &str) -> Option<Address> {
    let ip: IpAddr = text.parse().ok()?;
    Some(Address::Ip(SocketAddr::new(ip, 0)))
}

fn append_xff(headers: &mut HeaderMap, ip: IpAddr) {
    append(headers, X_FORWARDED_FOR, &ip_value(ip), b",");
}

/// Puts `value` after what the header already has (all values joined), with `separator` between.
pub fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue, separator: &[u8]) {
    let mut joined = Vec::new();
    for old in headers.get_all(&name) {
        if !joined.is_empty() {
            joined.extend_from_slice(b",");
        }
        joined.extend_from_slice(old.as_bytes());
    }
    if joined.is_empty() {
        headers.insert(name, value.clone());
        return;
    }
    joined.extend_from_slice(separator);
    joined.extend_from_slice(value.as_bytes());
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(joined)) {
        headers.insert(name, value);
    }
}

pub fn append_via(headers: &mut HeaderMap, via: &HeaderValue) {
    append(headers, http::header::VIA, via, b", ");
}

pub fn ip_value(ip: IpAddr) -> HeaderValue {
    HeaderValue::try_from(ip.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// `authority` without its port, as `strip_any_host_port` and `strip_matching_host_port` (with `only`) ask.
pub fn strip_port(authority: &ByteStr, only: Option<u16>) -> Option<ByteStr> {
    let text = authority.as_str();
    let colon = text.rfind(':')?;
    if text.starts_with('[') && text.rfind(']').is_none_or(|bracket| colon < bracket) {
        return None; // an IPv6 literal without a port
    }
    let port: u16 = text.get(colon + 1..)?.parse().ok()?;
    if only.is_some_and(|only| only != port) {
        return None;
    }
    Some(text.get(..colon)?.into())
}

/// `authority` without a trailing dot of the host name; a port stays.
pub fn strip_trailing_dot(authority: &ByteStr) -> Option<ByteStr> {
    let text = authority.as_str();
    if let Some(host) = text.strip_suffix('.') {
        return Some(host.into());
    }
    let (host, port) = text.rsplit_once(':')?;
    Some(ByteStr::from(format!("{}:{port}", host.strip_suffix('.')?)))
}
