//! The tree that a connection is led down, one level for each criterion of `FilterChainMatch`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use xds_protos::envoy::config::core::v3::CidrRange;
use xds_protos::envoy::config::listener::v3::FilterChainMatch;
use xds_protos::envoy::config::listener::v3::filter_chain_match::ConnectionSourceType;

use crate::config::{Path, Reject, values};
use crate::net::Address;

/// What a chain is chosen by.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Where the connection was addressed to, restored.
    pub destination: &'a Address,
    /// Lower-case; empty for none.
    pub server_name: &'a str,
    /// `tls` or `raw_buffer`.
    pub transport_protocol: &'a str,
    /// In the client's order.
    pub application_protocols: &'a [Arc<str>],
    pub direct_source: &'a Address,
    pub source: &'a Address,
}

/// Why a match was not added.
#[derive(Debug)]
pub(super) enum Refused {
    Field(Reject),
    /// Connections of the chain with this index would match too.
    Overlaps(usize),
}

impl From<Reject> for Refused {
    fn from(reject: Reject) -> Self {
        Refused::Field(reject)
    }
}

/// Index of a chain by source port; 0 is any.
type SourcePorts = HashMap<u16, usize>;
type SourceIps = Ips<SourcePorts>;
type DirectSourceIps = Ips<SourceTypes>;
/// The empty string is any.
type Named<T> = HashMap<Box<str>, T>;
type ApplicationProtocols = Named<DirectSourceIps>;
type TransportProtocols = Named<ApplicationProtocols>;
/// `*.a.test` is kept as `.a.test`.
type ServerNames = Named<TransportProtocols>;

#[derive(Default)]
pub(super) struct Tree {
    /// By destination port; 0 is any.
    ports: HashMap<u16, Ips<ServerNames>>,
}

#[derive(Default)]
struct SourceTypes {
    any: Option<SourceIps>,
    same_ip_or_loopback: Option<SourceIps>,
    external: Option<SourceIps>,
}

/// A value by longest prefix.
struct Ips<T> {
    /// The longest prefixes first; addresses are kept cut to their prefix.
    v4: Vec<(u8, HashMap<u32, T>)>,
    v6: Vec<(u8, HashMap<u128, T>)>,
    any: Option<T>,
}

impl<T> Default for Ips<T> {
    fn default() -> Self {
        Ips { v4: Vec::new(), v6: Vec::new(), any: None }
    }
}

impl<T: Default> Ips<T> {
    fn entry(&mut self, range: Option<IpNet>) -> &mut T {
        match range {
            None => self.any.get_or_insert_default(),
            Some(IpNet::V4(net)) => by_length(&mut self.v4, net.prefix_len()).entry(net.network().into()).or_default(),
            Some(IpNet::V6(net)) => by_length(&mut self.v6, net.prefix_len()).entry(net.network().into()).or_default(),
        }
    }

    fn get(&self, address: IpAddr) -> Option<&T> {
        let found = match address {
            IpAddr::V4(ip) => {
                let bits = u32::from(ip);
                self.v4.iter().find_map(|(len, map)| map.get(&(bits & mask32(*len))))
            }
            IpAddr::V6(ip) => {
                let bits = u128::from(ip);
                self.v6.iter().find_map(|(len, map)| map.get(&(bits & mask128(*len))))
            }
        };
        found.or(self.any.as_ref())
    }
}

fn by_length<K, T>(tables: &mut Vec<(u8, HashMap<K, T>)>, len: u8) -> &mut HashMap<K, T> {
    let at = tables.partition_point(|(other, _)| *other > len);
    if tables.get(at).is_none_or(|(other, _)| *other != len) {
        tables.insert(at, (len, HashMap::new()));
    }
    #[expect(clippy::indexing_slicing, reason = "there is an entry at this place now")]
    &mut tables[at].1
}

fn mask32(len: u8) -> u32 {
    u32::MAX.checked_shl(u32::BITS - u32::from(len)).unwrap_or(0)
}

fn mask128(len: u8) -> u128 {
    u128::MAX.checked_shl(u128::BITS - u32::from(len)).unwrap_or(0)
}

/// The criteria of one chain, checked.
struct Criteria {
    destination_port: u16,
    destination_ips: Vec<Option<IpNet>>,
    server_names: Vec<Box<str>>,
    transport_protocol: Box<str>,
    application_protocols: Vec<Box<str>>,
    direct_source_ips: Vec<Option<IpNet>>,
    source_type: ConnectionSourceType,
    source_ips: Vec<Option<IpNet>>,
    source_ports: Vec<u16>,
}

impl Criteria {
    fn build(proto: &FilterChainMatch, path: &Path<'_>) -> Result<Self, Reject> {
        let FilterChainMatch {
            destination_port,
            prefix_ranges,
            address_suffix,
            suffix_len,
            direct_source_prefix_ranges,
            source_type,
            source_prefix_ranges,
            source_ports,
            server_names,
            transport_protocol,
            application_protocols,
        } = proto;
        if !address_suffix.is_empty() {
            return Err(path.field("address_suffix").reject("not supported, as in Envoy"));
        }
        if suffix_len.is_some() {
            return Err(path.field("suffix_len").reject("not supported, as in Envoy"));
        }
        Ok(Criteria {
            destination_port: match destination_port {
                Some(value) => port(*value, &path.field("destination_port"))?,
                None => 0,
            },
            destination_ips: ranges(prefix_ranges, &path.field("prefix_ranges"))?,
            server_names: names(server_names, &path.field("server_names"))?,
            transport_protocol: transport_protocol.as_str().into(),
            application_protocols: any_or(application_protocols.iter().map(|p| p.as_str().into()).collect()),
            direct_source_ips: ranges(direct_source_prefix_ranges, &path.field("direct_source_prefix_ranges"))?,
            source_type: ConnectionSourceType::try_from(*source_type)
                .map_err(|_| path.field("source_type").reject(format_args!("unknown type {source_type}")))?,
            source_ips: ranges(source_prefix_ranges, &path.field("source_prefix_ranges"))?,
            source_ports: {
                let path = path.field("source_ports");
                let ports = source_ports.iter().enumerate().map(|(i, p)| port(*p, &path.index(i)));
                any_or(ports.collect::<Result<_, _>>()?)
            },
        })
    }
}

/// No value means any.
fn any_or<T: Default>(values: Vec<T>) -> Vec<T> {
    if values.is_empty() { vec![T::default()] } else { values }
}

fn port(value: u32, path: &Path<'_>) -> Result<u16, Reject> {
    match u16::try_from(value) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(path.reject(format_args!("expected a port from 1 to 65535, got {value}"))),
    }
}

fn ranges(protos: &[CidrRange], path: &Path<'_>) -> Result<Vec<Option<IpNet>>, Reject> {
    let ranges = protos.iter().enumerate().map(|(i, range)| values::cidr_range(range, &path.index(i)).map(Some));
    Ok(any_or(ranges.collect::<Result<_, _>>()?))
}

fn names(protos: &[String], path: &Path<'_>) -> Result<Vec<Box<str>>, Reject> {
    let mut names = Vec::with_capacity(protos.len());
    for (index, name) in protos.iter().enumerate() {
        let suffix = name.strip_prefix('*').filter(|rest| rest.starts_with('.'));
        let name = suffix.unwrap_or(name);
        if name.contains('*') {
            let why =
                format_args!("expected a name or \"*.\" and a suffix, got {name:?}: partial wildcards never match");
            return Err(path.index(index).reject(why));
        }
        names.push(name.to_ascii_lowercase().into());
    }
    Ok(any_or(names))
}

impl Tree {
    /// Lets the connections that `proto` describes go to chain `index`.
    pub fn add(&mut self, proto: &FilterChainMatch, index: usize, path: &Path<'_>) -> Result<(), Refused> {
        let criteria = Criteria::build(proto, path)?;
        let ips = self.ports.entry(criteria.destination_port).or_default();
        for range in &criteria.destination_ips {
            let names = ips.entry(*range);
            for name in &criteria.server_names {
                let transports = names.entry(name.clone()).or_default();
                let protocols = transports.entry(criteria.transport_protocol.clone()).or_default();
                for protocol in &criteria.application_protocols {
                    add_sources(protocols.entry(protocol.clone()).or_default(), &criteria, index)?;
                }
            }
        }
        Ok(())
    }

    /// The index of the chain that a connection gets.
    pub fn find(&self, subject: &Subject<'_>) -> Option<usize> {
        let port = subject.destination.port().and_then(|port| self.ports.get(&port));
        let names = port.or_else(|| self.ports.get(&0))?.get(ip_of(subject.destination))?;
        let transports = find_name(names, subject.server_name)?;
        let protocols = transports.get(subject.transport_protocol).or_else(|| transports.get(""))?;
        let offered = subject.application_protocols.iter().find_map(|protocol| protocols.get(&**protocol));
        let direct_sources = offered.or_else(|| protocols.get(""))?;
        let types = direct_sources.get(ip_of(subject.direct_source))?;
        let ports = find_source_type(types, subject)?.get(ip_of(subject.source))?;
        let port = subject.source.port().unwrap_or(0);
        ports.get(&port).or_else(|| ports.get(&0)).copied()
    }
}

fn add_sources(direct_sources: &mut DirectSourceIps, criteria: &Criteria, index: usize) -> Result<(), Refused> {
    for direct_source in &criteria.direct_source_ips {
        let types = direct_sources.entry(*direct_source);
        let ips = match criteria.source_type {
            ConnectionSourceType::Any => types.any.get_or_insert_default(),
            ConnectionSourceType::SameIpOrLoopback => types.same_ip_or_loopback.get_or_insert_default(),
            ConnectionSourceType::External => types.external.get_or_insert_default(),
        };
        for source in &criteria.source_ips {
            let ports = ips.entry(*source);
            for port in &criteria.source_ports {
                match ports.entry(*port) {
                    Entry::Vacant(place) => {
                        place.insert(index);
                    }
                    Entry::Occupied(other) => return Err(Refused::Overlaps(*other.get())),
                }
            }
        }
    }
    Ok(())
}

/// The address that stands for a pipe: in no range but the widest.
fn ip_of(address: &Address) -> IpAddr {
    address.ip().unwrap_or(IpAddr::V4(Ipv4Addr::BROADCAST))
}

/// The exact name, then its suffixes from the longest, then chains that ask for none.
fn find_name<'a>(names: &'a ServerNames, name: &str) -> Option<&'a TransportProtocols> {
    if let Some(exact) = names.get(name) {
        return Some(exact);
    }
    // A dot at either end begins no suffix.
    let inner = name.len().saturating_sub(1);
    let suffixes = name.match_indices('.').filter(|(at, _)| (1..inner).contains(at));
    let wildcard = suffixes.filter_map(|(at, _)| name.get(at..)).find_map(|suffix| names.get(suffix));
    wildcard.or_else(|| names.get(""))
}

fn find_source_type<'a>(types: &'a SourceTypes, subject: &Subject<'_>) -> Option<&'a SourceIps> {
    let special = match (&types.same_ip_or_loopback, &types.external) {
        // The usual case, without a look at the addresses.
        (None, None) => None,
        (local, _) if is_same_ip_or_loopback(subject) => local.as_ref(),
        (_, external) => external.as_ref(),
    };
    special.or(types.any.as_ref())
}

fn is_same_ip_or_loopback(subject: &Subject<'_>) -> bool {
    match (subject.source.ip(), subject.destination.ip()) {
        (None, _) => true,
        // Envoy's loopback of IPv4 is one address, not the network.
        (Some(IpAddr::V4(ip)), _) if ip == Ipv4Addr::LOCALHOST => true,
        (Some(IpAddr::V6(ip)), _) if ip == Ipv6Addr::LOCALHOST => true,
        (source, destination) => source == destination,
    }
}
