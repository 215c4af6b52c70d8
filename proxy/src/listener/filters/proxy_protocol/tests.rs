use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::server::ServerOptions;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn filter(config: proto::ProxyProtocol) -> (Arc<dyn ListenerFilter>, BuildCx) {
    let cx = BuildCx::new(ServerOptions::default());
    let any = Any { type_url: String::new(), value: config.encode_to_vec() };
    (build(&any, &Path::root(""), &cx).unwrap(), cx)
}

fn allowing() -> proto::ProxyProtocol {
    proto::ProxyProtocol { allow_requests_without_proxy_protocol: true, ..Default::default() }
}

fn disallowing(version: Version) -> proto::ProxyProtocol {
    proto::ProxyProtocol { disallowed_versions: vec![version as i32], ..Default::default() }
}

fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    [SIGNATURE, &[command, family], &(payload.len() as u16).to_be_bytes(), payload].concat()
}

const V4: [u8; 12] = [9, 8, 7, 6, 5, 6, 7, 8, 0x0d, 0x05, 0x11, 0x5c];

fn v4_with(tlvs: &[u8]) -> Vec<u8> {
    v2(0x21, 0x11, &[&V4[..], tlvs].concat())
}

fn v6_payload() -> Vec<u8> {
    let (source, destination): (Ipv6Addr, Ipv6Addr) = ("2001:db8::1".parse().unwrap(), "::2".parse().unwrap());
    [&source.octets()[..], &destination.octets(), &[0, 1, 0, 2]].concat()
}

use std::net::Ipv6Addr;

/// What the tests compare.
fn verdict(filter: &dyn ListenerFilter, bytes: &[u8]) -> String {
    match filter.inspect(bytes) {
        Inspection::Need => "need".into(),
        Inspection::Reject(_) => "close".into(),
        Inspection::Done(Facts { consumed: 0, .. }) => "pass".into(),
        Inspection::Done(Facts { remote_address: None, local_address: None, .. }) => "own".into(),
        Inspection::Done(facts) => format!("{} {}", facts.remote_address.unwrap(), facts.local_address.unwrap()),
    }
}

/// Verdicts with the default configuration and with `allow_requests_without_proxy_protocol`, observed with Envoy 1.40,
/// except that where it waits for 16 bytes before it sees that there is no header we do not.
#[test]
fn verdicts_are_envoys() {
    let x = |n: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(n - 16)).into_bytes();
    let ip4 = "1.2.3.4:1111 5.6.7.8:2222";
    let v4 = "9.8.7.6:3333 5.6.7.8:4444";
    let v6 = v6_payload();
    let mapped = [&[0; 10], &[255, 255, 1, 2, 3, 4][..], &v6[16..]].concat();
    let cases: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("v1", b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\nrest".into(), ip4, ip4),
        ("trailing space", b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222 \r\n".into(), ip4, ip4),
        ("TCP6", b"PROXY TCP6 ::1 ::2 1 2\r\n".into(), "[::1]:1 [::2]:2", "[::1]:1 [::2]:2"),
        ("UNKNOWN", b"PROXY UNKNOWN\r\n".into(), "own", "own"),
        ("UNKNOWN and more", b"PROXY UNKNOWN a b c d e f g\r\n".into(), "own", "own"),
        ("108 bytes", x(108), "own", "own"),
        ("109 bytes", x(109), "close", "close"),
        ("no end", b"PROXY TCP4 1.2.3.4 5.6.7.8".into(), "need", "need"),
        ("LF alone", b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\n".into(), "need", "need"),
        ("two spaces", b"PROXY TCP4  1.2.3.4 5.6.7.8 1111 2222\r\n".into(), "close", "close"),
        ("a field short", b"PROXY TCP4 1.2.3.4 5.6.7.8 1111\r\n".into(), "close", "close"),
        ("a field more", b"PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222 3\r\n".into(), "close", "close"),
        ("port 65536", b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n".into(), "close", "close"),
        ("leading zero in ip", b"PROXY TCP4 01.2.3.4 5.6.7.8 1 2\r\n".into(), "close", "close"),
        ("v4 in TCP6", b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n".into(), "close", "close"),
        ("v6 in TCP4", b"PROXY TCP4 ::1 ::2 1 2\r\n".into(), "close", "close"),
        ("unspecified", b"PROXY TCP4 0.0.0.0 5.6.7.8 1 2\r\n".into(), "close", "close"),
        ("broadcast", b"PROXY TCP4 255.255.255.255 5.6.7.8 1 2\r\n".into(), "close", "close"),
        ("multicast", b"PROXY TCP4 1.2.3.4 239.0.0.1 1 2\r\n".into(), "close", "close"),
        ("UDP4", b"PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n".into(), "close", "close"),
        ("lower case", b"proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n".into(), "close", "pass"),
        ("PROXYX", b"PROXYX".into(), "close", "pass"),
        ("PROXY", b"PROXY".into(), "need", "need"),
        ("http", b"GET / HTTP/1.1\r\n\r\n".into(), "close", "pass"),
        ("half signature", SIGNATURE[..11].into(), "need", "need"),
        ("wrong signature", [&SIGNATURE[..11], b"x"].concat(), "close", "pass"),
        ("v2", v4_with(b""), v4, v4),
        ("v2 IPv6", v2(0x21, 0x21, &v6), "[2001:db8::1]:1 [::2]:2", "[2001:db8::1]:1 [::2]:2"),
        ("v2 mapped", v2(0x21, 0x21, &mapped), "[::ffff:1.2.3.4]:1 [::2]:2", "[::ffff:1.2.3.4]:1 [::2]:2"),
        ("v2 datagram", v2(0x21, 0x12, &V4), v4, v4),
        ("v2 pipe", v2(0x21, 0x31, &[b'x'; 216]), "close", "close"),
        ("v2 unspecified family", v2(0x21, 0, b""), "close", "close"),
        ("v2 unspecified transport", v2(0x21, 0x10, &V4), "close", "close"),
        ("v2 LOCAL", v2(0x20, 0, b""), "own", "own"),
        ("v2 LOCAL with payload", v2(0x20, 0x11, b"abcd"), "own", "own"),
        ("v2 version 1", v2(0x11, 0x11, &V4), "close", "close"),
        ("v2 command 2", v2(0x22, 0x11, &V4), "close", "close"),
        ("v2 short", v2(0x21, 0x11, &V4[..11]), "close", "close"),
        ("v2 unspecified address", v2(0x21, 0x11, &[0; 12]), "close", "close"),
        ("v2 cut", v4_with(b"")[..20].into(), "need", "need"),
        ("TLV", v4_with(b"\x02\0\x03abc"), v4, v4),
        ("empty TLV", v4_with(b"\x02\0\0"), v4, v4),
        ("TLV without length", v4_with(b"\x02\0"), "close", "close"),
        ("cut TLV", v4_with(b"\x02\0\x05ab"), "close", "close"),
        ("cut TLV with LOCAL", v2(0x20, 0x11, &[&V4[..], b"\x02\0\x05ab"].concat()), "own", "own"),
    ];
    let (strict, lax) = (filter(proto::ProxyProtocol::default()).0, filter(allowing()).0);
    for (name, bytes, by_strict, by_lax) in cases {
        assert_eq!(verdict(&*strict, &bytes), by_strict, "{name}");
        assert_eq!(verdict(&*lax, &bytes), by_lax, "{name}, optional");
    }
}

#[test]
fn the_header_is_consumed_and_nothing_else() {
    let (filter, _) = filter(proto::ProxyProtocol::default());
    for header in [b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), v4_with(b"\x02\0\x03abc"), v2(0x20, 0, b"xyz")] {
        let Inspection::Done(facts) = filter.inspect(&[&header[..], b"PROXY "].concat()) else { panic!("no header") };
        assert_eq!(facts.consumed, header.len());
    }
}

#[test]
fn a_disallowed_version_is_refused_or_none() {
    let v1 = b"PROXY UNKNOWN\r\n";
    let (strict, cx) = filter(disallowing(Version::V1));
    assert_eq!(verdict(&*strict, v1), "close");
    assert_eq!(verdict(&*strict, &v4_with(b"")), "9.8.7.6:3333 5.6.7.8:4444");
    let stats = cx.stats.block::<ProxyProtocolStats>("proxy_proto");
    assert_eq!(stats.read(ProxyProtocolStats::V1_FOUND), 1);
    assert_eq!(stats.read(ProxyProtocolStats::V1_DISALLOWED), 1);
    assert_eq!(stats.read(ProxyProtocolStats::V2_FOUND), 1);
    let errors = cx.stats.block::<ProxyProtocolErrorStats>("");
    assert_eq!(errors.read(ProxyProtocolErrorStats::DOWNSTREAM_CX_PROXY_PROTO_ERROR), 1);
    let (lax, _) =
        filter(proto::ProxyProtocol { allow_requests_without_proxy_protocol: true, ..disallowing(Version::V2) });
    assert_eq!(verdict(&*lax, b"\r"), "pass");
    assert_eq!(verdict(&*lax, &v4_with(b"")), "pass");
    assert_eq!(verdict(&*lax, b"PROX"), "need");
    assert_eq!(verdict(&*lax, v1), "own");
}

#[test]
fn what_cannot_be_done_is_refused() {
    let cx = BuildCx::new(ServerOptions::default());
    let refused = |config: proto::ProxyProtocol| {
        let any = Any { type_url: String::new(), value: config.encode_to_vec() };
        build(&any, &Path::root("f"), &cx).map(|_| ()).unwrap_err().path
    };
    assert_eq!(refused(proto::ProxyProtocol { rules: vec![Default::default()], ..Default::default() }), "f.rules");
    let tlvs = proto::ProxyProtocol { pass_through_tlvs: Some(Default::default()), ..Default::default() };
    assert_eq!(refused(tlvs), "f.pass_through_tlvs");
    let both = vec![Version::V1 as i32, Version::V2 as i32];
    let none = proto::ProxyProtocol { disallowed_versions: both, ..Default::default() };
    assert_eq!(refused(none), "f.disallowed_versions");
}

fn assert_stable(filter: &dyn ListenerFilter, bytes: &[u8]) {
    let whole = filter.inspect(bytes);
    for n in 1..bytes.len() {
        let so_far = filter.inspect(&bytes[..n]);
        let text = bytes.escape_ascii();
        assert!(so_far == Inspection::Need || so_far == whole, "{so_far:?} after {n} bytes of {text}, then {whole:?}");
    }
    assert!(bytes.len() < filter.max_bytes() || whole != Inspection::Need);
}

proptest! {
    #[test]
    fn splits_do_not_matter(
        line in "(PROXY |PROX)(TCP4|TCP6|UNKNOWN|TCP) [0-9.]{0,8} ?(::1)? [0-9]{0,3} [0-9]{0,3}\r?\n?(rest)?",
        payload in proptest::collection::vec(any::<u8>(), 0..60),
        command in 0x1fu8..0x23, family in 0u8..0x33, optional in any::<bool>(),
    ) {
        let config = if optional { allowing() } else { disallowing(Version::V2) };
        let (filter, _) = filter(config);
        assert_stable(&*filter, line.as_bytes());
        assert_stable(&*filter, &[&v2(command, family, &payload)[..], b"rest"].concat());
        assert_stable(&*filter, &[0; 1].repeat(payload.len() + 1));
    }
}
