//! The two header formats, as pure functions over the bytes so far.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const V1_SIGNATURE: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// With its CRLF. The specification says 107; Envoy takes one more.
const V1_MAX: usize = 108;
const V2_FIXED: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Signature {
    V1,
    V2,
    /// Too few bytes; which versions they may still become.
    Perhaps {
        v1: bool,
        v2: bool,
    },
    Neither,
}

pub(super) fn signature(buffer: &[u8]) -> Signature {
    if buffer.starts_with(V1_SIGNATURE) {
        return Signature::V1;
    }
    if buffer.starts_with(V2_SIGNATURE) {
        return Signature::V2;
    }
    match (V1_SIGNATURE.starts_with(buffer), V2_SIGNATURE.starts_with(buffer)) {
        (false, false) => Signature::Neither,
        (v1, v2) => Signature::Perhaps { v1, v2 },
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Header {
    Need,
    Bad(&'static str),
    Good {
        /// Bytes of the header.
        size: usize,
        /// Source and destination; none for a connection that the proxy itself made (UNKNOWN, LOCAL).
        addresses: Option<(SocketAddr, SocketAddr)>,
    },
}

/// A buffer that begins with `PROXY `.
pub(super) fn parse_v1(buffer: &[u8]) -> Header {
    let visible = buffer.get(..V1_MAX).unwrap_or(buffer);
    let Some(end) = visible.windows(2).position(|pair| pair == b"\r\n") else {
        return if visible.len() < V1_MAX { Header::Need } else { Header::Bad("PROXY line too long") };
    };
    let size = end + 2;
    let line = std::str::from_utf8(visible.get(..end).unwrap_or_default()).unwrap_or_default();
    let mut parts = line.trim_end().split(' ').skip(1);
    match parts.next() {
        Some("UNKNOWN") => Header::Good { size, addresses: None },
        Some(family @ ("TCP4" | "TCP6")) => match v1_addresses(parts, family == "TCP4") {
            Some(addresses) => Header::Good { size, addresses: Some(addresses) },
            None => Header::Bad("malformed addresses in a PROXY line"),
        },
        _ => Header::Bad("unknown family in a PROXY line"),
    }
}

fn v1_addresses<'a>(mut parts: impl Iterator<Item = &'a str>, v4: bool) -> Option<(SocketAddr, SocketAddr)> {
    let (source, destination) = (ip(parts.next()?, v4)?, ip(parts.next()?, v4)?);
    let (source_port, destination_port) = (port(parts.next()?)?, port(parts.next()?)?);
    if parts.next().is_some() {
        return None;
    }
    Some((SocketAddr::new(source, source_port), SocketAddr::new(destination, destination_port)))
}

fn ip(text: &str, v4: bool) -> Option<IpAddr> {
    let ip = if v4 { IpAddr::V4(text.parse().ok()?) } else { IpAddr::V6(text.parse().ok()?) };
    is_unicast(ip).then_some(ip)
}

fn port(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn is_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// A buffer that begins with the signature of version 2.
pub(super) fn parse_v2(buffer: &[u8]) -> Header {
    let after_signature = buffer.get(V2_SIGNATURE.len()..).unwrap_or_default();
    let Some(&[version_command, family_protocol, high, low]) = after_signature.first_chunk::<4>() else {
        return Header::Need;
    };
    if version_command >> 4 != 2 {
        return Header::Bad("PROXY header of an unknown version");
    }
    let local = match version_command & 0xf {
        0 => true,
        1 => false,
        _ => return Header::Bad("PROXY header with an unknown command"),
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let is_v4 = match (family_protocol >> 4, family_protocol & 0xf) {
        _ if local => true,
        (1, 1 | 2) => true,
        (2, 1 | 2) => false,
        _ => return Header::Bad("PROXY header with an unsupported address family or transport"),
    };
    if !local && length < if is_v4 { 12 } else { 36 } {
        return Header::Bad("PROXY header too short for its addresses");
    }
    let size = V2_FIXED + length;
    let Some(payload) = buffer.get(V2_FIXED..size) else { return Header::Need };
    if local {
        return Header::Good { size, addresses: None };
    }
    match v2_addresses(payload, is_v4) {
        Some((addresses, tlvs)) if tlvs_are_whole(tlvs) => Header::Good { size, addresses: Some(addresses) },
        Some(_) => Header::Bad("PROXY header with a cut TLV"),
        None => Header::Bad("PROXY header with addresses that are not unicast"),
    }
}

fn v2_addresses(payload: &[u8], is_v4: bool) -> Option<((SocketAddr, SocketAddr), &[u8])> {
    let (source, rest) = take_ip(payload, is_v4)?;
    let (destination, rest) = take_ip(rest, is_v4)?;
    let (&[a, b, c, d], tlvs) = rest.split_first_chunk::<4>()?;
    let source = SocketAddr::new(source, u16::from_be_bytes([a, b]));
    let destination = SocketAddr::new(destination, u16::from_be_bytes([c, d]));
    Some(((source, destination), tlvs))
}

fn take_ip(bytes: &[u8], is_v4: bool) -> Option<(IpAddr, &[u8])> {
    let (ip, rest) = if is_v4 {
        let (octets, rest) = bytes.split_first_chunk::<4>()?;
        (IpAddr::V4(Ipv4Addr::from(*octets)), rest)
    } else {
        let (octets, rest) = bytes.split_first_chunk::<16>()?;
        (IpAddr::V6(Ipv6Addr::from(*octets)), rest)
    };
    is_unicast(ip).then_some((ip, rest))
}

/// Type, length and value, one after the other, to the last byte.
fn tlvs_are_whole(mut tlvs: &[u8]) -> bool {
    while !tlvs.is_empty() {
        let Some((&[_, high, low], rest)) = tlvs.split_first_chunk::<3>() else { return false };
        let Some(next) = rest.get(usize::from(u16::from_be_bytes([high, low]))..) else { return false };
        tlvs = next;
    }
    true
}
