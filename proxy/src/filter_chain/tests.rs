use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;
use xds_protos::envoy::config::core::v3::CidrRange;
use xds_protos::envoy::config::listener::v3::FilterChainMatch;
use xds_protos::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;

use super::matcher::{Refused, Subject, Tree};
use crate::config::Path;
use crate::net::Address;

fn range(text: &str) -> CidrRange {
    let net: IpNet = text.parse().unwrap();
    CidrRange { address_prefix: net.addr().to_string(), prefix_len: Some(net.prefix_len().into()) }
}

fn ranges(texts: &[&str]) -> Vec<CidrRange> {
    texts.iter().map(|t| range(t)).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

fn tree(matches: &[FilterChainMatch]) -> Result<Tree, Refused> {
    let mut tree = Tree::default();
    for (index, proto) in matches.iter().enumerate() {
        tree.add(proto, index, &Path::root("m"))?;
    }
    Ok(tree)
}

/// A connection, in owned parts.
#[derive(Debug, Clone)]
struct Connection {
    destination: Address,
    server_name: String,
    transport_protocol: &'static str,
    application_protocols: Vec<Arc<str>>,
    direct_source: Address,
    source: Address,
}

impl Default for Connection {
    fn default() -> Self {
        let source: SocketAddr = "192.0.2.9:40000".parse().unwrap();
        Connection {
            destination: Address::Ip("10.0.0.1:80".parse().unwrap()),
            server_name: String::new(),
            transport_protocol: "raw_buffer",
            application_protocols: Vec::new(),
            direct_source: Address::Ip(source),
            source: Address::Ip(source),
        }
    }
}

impl Connection {
    fn subject(&self) -> Subject<'_> {
        Subject {
            destination: &self.destination,
            server_name: &self.server_name,
            transport_protocol: self.transport_protocol,
            application_protocols: &self.application_protocols,
            direct_source: &self.direct_source,
            source: &self.source,
        }
    }

    fn to(address: &str) -> Self {
        Connection { destination: Address::Ip(address.parse().unwrap()), ..Connection::default() }
    }

    fn from(address: &str) -> Self {
        let source = Address::Ip(address.parse().unwrap());
        Connection { direct_source: source.clone(), source, ..Connection::default() }
    }

    fn sni(name: &str, protocols: &[&str]) -> Self {
        Connection {
            server_name: name.into(),
            transport_protocol: "tls",
            application_protocols: protocols.iter().map(|&p| p.into()).collect(),
            ..Connection::default()
        }
    }
}

#[test]
fn a_branch_is_not_left_again() {
    let chains = [
        FilterChainMatch { destination_port: Some(80), transport_protocol: "tls".into(), ..Default::default() },
        FilterChainMatch { prefix_ranges: ranges(&["10.0.0.0/8"]), ..Default::default() },
        FilterChainMatch {
            prefix_ranges: ranges(&["10.0.0.1/32"]),
            server_names: strings(&["a"]),
            ..Default::default()
        },
    ];
    let tree = tree(&chains).unwrap();
    assert_eq!(tree.find(&Connection::to("10.9.9.9:80").subject()), None);
    assert_eq!(tree.find(&Connection::to("10.9.9.9:81").subject()), Some(1));
    assert_eq!(tree.find(&Connection::to("10.0.0.1:81").subject()), None);
    assert_eq!(tree.find(&Connection::to("172.16.0.1:81").subject()), None);
}

#[test]
fn names_are_exact_then_by_the_longest_suffix() {
    let named = |names: &[&str]| FilterChainMatch { server_names: strings(names), ..Default::default() };
    let tree = tree(&[
        named(&["server.test"]),
        named(&["*.wild.test"]),
        named(&["*.Deep.wild.test"]),
        named(&[]),
        named(&["*.test"]),
    ])
    .unwrap();
    let chain = |name: &str| tree.find(&Connection::sni(name, &[]).subject()).unwrap();
    assert_eq!(chain("server.test"), 0);
    assert_eq!(chain("a.wild.test"), 1);
    assert_eq!(chain("a.b.wild.test"), 1);
    assert_eq!(chain("x.deep.wild.test"), 2);
    assert_eq!(chain("deep.wild.test"), 1);
    assert_eq!(chain("wild.test"), 4);
    assert_eq!(chain("test"), 3);
    assert_eq!(chain(""), 3);
    assert_eq!(chain("a.test."), 3);
}

#[test]
fn application_protocols_are_tried_in_the_clients_order() {
    let of = |protocols: &[&str]| FilterChainMatch { application_protocols: strings(protocols), ..Default::default() };
    let tree = tree(&[of(&["istio", "h2"]), of(&["http/1.1"])]).unwrap();
    let chain = |protocols: &[&str]| tree.find(&Connection::sni("", protocols).subject());
    assert_eq!(chain(&["istio", "http/1.1"]), Some(0));
    assert_eq!(chain(&["http/1.1", "istio"]), Some(1));
    assert_eq!(chain(&["spdy", "h2"]), Some(0));
    assert_eq!(chain(&["spdy"]), None);
    assert_eq!(chain(&[]), None);
}

/// As observed with Envoy 1.40: of 127.0.0.0/8 only 127.0.0.1 is loopback.
#[test]
fn source_types() {
    let of = |kind: ConnectionSourceType| FilterChainMatch { source_type: kind as i32, ..Default::default() };
    let all = tree(&[
        of(ConnectionSourceType::Any),
        of(ConnectionSourceType::SameIpOrLoopback),
        of(ConnectionSourceType::External),
    ])
    .unwrap();
    let chain = |tree: &Tree, from: &str| tree.find(&Connection::from(from).subject());
    assert_eq!(chain(&all, "127.0.0.1:1"), Some(1));
    assert_eq!(chain(&all, "[::1]:1"), Some(1));
    assert_eq!(chain(&all, "10.0.0.1:1"), Some(1), "the destination's own address");
    assert_eq!(chain(&all, "127.0.8.8:1"), Some(2));
    let pipe = Connection { source: Address::Pipe("@".into()), ..Connection::default() };
    assert_eq!(all.find(&pipe.subject()), Some(1));
    let local = tree(&[of(ConnectionSourceType::SameIpOrLoopback)]).unwrap();
    assert_eq!(chain(&local, "192.0.2.1:1"), None);
    let any = tree(&[of(ConnectionSourceType::Any)]).unwrap();
    assert_eq!(chain(&any, "192.0.2.1:1"), Some(0));
}

#[test]
fn a_pipe_is_in_no_range_and_on_no_port() {
    let tree = tree(&[
        FilterChainMatch { destination_port: Some(80), ..Default::default() },
        FilterChainMatch { prefix_ranges: ranges(&["10.0.0.0/8"]), ..Default::default() },
        FilterChainMatch { source_ports: vec![7], ..Default::default() },
        FilterChainMatch::default(),
    ])
    .unwrap();
    let pipe = Address::Pipe("/s".into());
    let connection =
        Connection { destination: pipe.clone(), direct_source: pipe.clone(), source: pipe, ..Default::default() };
    assert_eq!(tree.find(&connection.subject()), Some(3));
}

#[test]
fn equal_and_overlapping_matches_are_refused() {
    let overlap = |a: FilterChainMatch, b: FilterChainMatch| matches!(tree(&[a, b]), Err(Refused::Overlaps(0)));
    assert!(overlap(FilterChainMatch::default(), FilterChainMatch::default()));
    let names = |names: &[&str]| FilterChainMatch { server_names: strings(names), ..Default::default() };
    assert!(overlap(names(&["a", "b"]), names(&["B"])));
    assert!(!overlap(names(&["a"]), names(&["b"])));
    let ips = |ips: &[&str]| FilterChainMatch { prefix_ranges: ranges(ips), ..Default::default() };
    assert!(overlap(ips(&["10.1.0.0/16"]), ips(&["10.1.2.3/16"])));
    assert!(!overlap(ips(&["10.1.0.0/16"]), ips(&["10.1.0.0/17"])));
}

#[test]
fn unsupported_and_malformed_criteria_are_refused() {
    let refused = |proto: FilterChainMatch| match tree(&[proto]) {
        Err(Refused::Field(reject)) => reject.path,
        _ => panic!("was not refused"),
    };
    assert_eq!(refused(FilterChainMatch { address_suffix: "x".into(), ..Default::default() }), "m.address_suffix");
    assert_eq!(refused(FilterChainMatch { suffix_len: Some(1), ..Default::default() }), "m.suffix_len");
    assert_eq!(
        refused(FilterChainMatch { server_names: strings(&["a", "*b.c"]), ..Default::default() }),
        "m.server_names[1]"
    );
    assert_eq!(refused(FilterChainMatch { server_names: strings(&["*"]), ..Default::default() }), "m.server_names[0]");
    assert_eq!(refused(FilterChainMatch { destination_port: Some(0), ..Default::default() }), "m.destination_port");
    assert_eq!(refused(FilterChainMatch { source_ports: vec![1, 65_536], ..Default::default() }), "m.source_ports[1]");
    let bad = CidrRange { address_prefix: "10.0.0.1".into(), prefix_len: Some(40) };
    let bad = FilterChainMatch { source_prefix_ranges: vec![bad], ..Default::default() };
    assert_eq!(refused(bad), "m.source_prefix_ranges[0].prefix_len");
}

/// The rules of `FilterChainMatch`'s documentation, applied one after the other to the list of chains.
fn reference(chains: &[FilterChainMatch], connection: &Connection) -> Option<usize> {
    let mut left: Vec<usize> = (0..chains.len()).collect();
    let mut keep = |score: &dyn Fn(&FilterChainMatch) -> Option<u32>| {
        let best = left.iter().filter_map(|&i| score(&chains[i])).max();
        left.retain(|&i| best.is_some() && score(&chains[i]) == best);
    };
    let port = connection.destination.port().map(u32::from);
    keep(&|m| match m.destination_port {
        Some(wanted) => (Some(wanted) == port).then_some(1),
        None => Some(0),
    });
    keep(&|m| longest(&m.prefix_ranges, connection.destination.ip()));
    keep(&|m| best_name(&m.server_names, &connection.server_name));
    keep(&|m| match m.transport_protocol.as_str() {
        "" => Some(0),
        wanted => (wanted == connection.transport_protocol).then_some(1),
    });
    keep(&|m| {
        let offered = &connection.application_protocols;
        let first = offered.iter().position(|p| m.application_protocols.iter().any(|w| **w == **p));
        let rank = first.map(|at| 1 + (offered.len() - at) as u32);
        if m.application_protocols.is_empty() { Some(0) } else { rank }
    });
    keep(&|m| longest(&m.direct_source_prefix_ranges, connection.direct_source.ip()));
    let source = connection.source.ip();
    let local = source.is_none()
        || source == connection.destination.ip()
        || matches!(source.map(|ip| ip.to_string()).as_deref(), Some("127.0.0.1" | "::1"));
    keep(&|m| match ConnectionSourceType::try_from(m.source_type).unwrap() {
        ConnectionSourceType::Any => Some(0),
        ConnectionSourceType::SameIpOrLoopback => local.then_some(1),
        ConnectionSourceType::External => (!local).then_some(1),
    });
    keep(&|m| longest(&m.source_prefix_ranges, source));
    let port = connection.source.port().map(u32::from);
    keep(&|m| match m.source_ports.as_slice() {
        [] => Some(0),
        ports => ports.iter().any(|p| Some(*p) == port).then_some(1),
    });
    assert!(left.len() <= 1, "chains that overlap were accepted: {left:?}");
    left.first().copied()
}

fn longest(ranges: &[CidrRange], ip: Option<IpAddr>) -> Option<u32> {
    if ranges.is_empty() {
        return Some(0);
    }
    let nets =
        ranges.iter().map(|r| format!("{}/{}", r.address_prefix, r.prefix_len.unwrap()).parse::<IpNet>().unwrap());
    nets.filter(|net| ip.is_some_and(|ip| net.contains(&ip))).map(|net| 1 + u32::from(net.prefix_len())).max()
}

fn best_name(names: &[String], name: &str) -> Option<u32> {
    if names.is_empty() {
        return Some(0);
    }
    let rank = |wanted: &String| match wanted.strip_prefix('*') {
        None => (wanted == name).then_some(1000),
        Some(suffix) => (name.len() > suffix.len() && name.ends_with(suffix)).then_some(suffix.len() as u32),
    };
    names.iter().filter_map(rank).max()
}

fn some_of<T: Clone + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = Vec<T>> {
    let most = values.len().min(2);
    prop_oneof![2 => Just(Vec::new()), 1 => proptest::sample::subsequence(values, 0..=most)]
}

fn any_ranges() -> impl Strategy<Value = Vec<&'static str>> {
    some_of(&["10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/32", "127.0.0.0/8", "fd00::/8", "fd00::1/128"])
}

/// Protobuf messages print nothing; this one says what it matches.
#[derive(Clone)]
struct Match(FilterChainMatch);

impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = |ranges: &[CidrRange]| -> Vec<String> {
            ranges.iter().map(|r| format!("{}/{}", r.address_prefix, r.prefix_len.unwrap_or(0))).collect()
        };
        let m = &self.0;
        let destination = (m.destination_port, ranges(&m.prefix_ranges));
        let protocols = (&m.server_names, &m.transport_protocol, &m.application_protocols);
        let sources = (ranges(&m.direct_source_prefix_ranges), m.source_type, ranges(&m.source_prefix_ranges));
        (destination, protocols, sources, &m.source_ports).fmt(f)
    }
}

fn any_match() -> impl Strategy<Value = Match> {
    (
        proptest::option::of(prop_oneof![Just(80u32), Just(443)]),
        any_ranges(),
        some_of(&["a.test", "*.test", "*.b.test", "x.b.test"]),
        prop_oneof![2 => Just(""), 1 => Just("tls"), 1 => Just("raw_buffer")],
        some_of(&["h2", "http/1.1", "istio"]),
        any_ranges(),
        0i32..3,
        any_ranges(),
        some_of(&[1000u32, 2000]),
    )
        .prop_map(|(port, destinations, names, transport, protocols, direct, source_type, sources, ports)| {
            Match(FilterChainMatch {
                destination_port: port,
                prefix_ranges: ranges(&destinations),
                server_names: strings(&names),
                transport_protocol: transport.into(),
                application_protocols: strings(&protocols),
                direct_source_prefix_ranges: ranges(&direct),
                source_type,
                source_prefix_ranges: ranges(&sources),
                source_ports: ports,
                ..Default::default()
            })
        })
}

fn any_address() -> impl Strategy<Value = Address> {
    let ip = proptest::sample::select(
        &["10.0.0.1", "10.0.0.2", "10.1.0.1", "127.0.0.1", "fd00::1", "fd00::2", "8.8.8.8"][..],
    );
    let port = proptest::sample::select(&[80u16, 443, 1000, 2000, 9][..]);
    (ip, port).prop_map(|(ip, port)| Address::Ip(SocketAddr::new(ip.parse().unwrap(), port)))
}

fn any_connection() -> impl Strategy<Value = Connection> {
    let name = proptest::sample::select(&["", "a.test", "b.test", "x.b.test", "y.x.b.test", "test", "other"][..]);
    let tls = proptest::sample::select(&["tls", "raw_buffer"][..]);
    let protocols = proptest::sample::subsequence(vec!["h2", "http/1.1", "istio", "x"], 0..=3).prop_shuffle();
    (any_address(), name, tls, protocols, any_address(), any_address()).prop_map(
        |(destination, name, transport_protocol, protocols, direct_source, source)| Connection {
            destination,
            server_name: name.into(),
            transport_protocol,
            application_protocols: protocols.into_iter().map(Arc::from).collect(),
            direct_source,
            source,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_tree_agrees_with_the_rules(
        candidates in proptest::collection::vec(any_match(), 1..8),
        connections in proptest::collection::vec(any_connection(), 1..10),
    ) {
        // Chains that overlap with earlier ones are left out, as a listener with them is refused.
        let mut chains: Vec<FilterChainMatch> = Vec::new();
        for candidate in candidates {
            chains.push(candidate.0);
            if tree(&chains).is_err() {
                chains.pop();
            }
        }
        let tree = tree(&chains).unwrap();
        for connection in connections {
            prop_assert_eq!(tree.find(&connection.subject()), reference(&chains, &connection), "{:?}", connection);
        }
    }
}
