//! `envoy.config.endpoint.v3.ClusterLoadAssignment`: endpoints with their localities, priorities, weights and health.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use prost::Message;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::address::Address as AddressKind;
use xds_protos::envoy::config::core::v3::socket_address::PortSpecifier;
use xds_protos::envoy::config::endpoint::v3 as pb;
use xds_protos::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;

use super::ClusterCx;
use super::fields::refuse;
use super::transport::Matches;
use crate::cluster::spec::{EndpointSpec, Target};
use crate::config::metadata::{self, LazyMetadata};
use crate::config::{Path, Reject, values};
use crate::endpoint::{HealthFlags, Locality};
use crate::lb::PriorityConfig;
use crate::net::Address;

/// How the addresses of endpoints are to be understood.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// IP addresses and pipes.
    Addresses,
    /// Names for DNS; an IP address is a name that needs no server.
    Names,
}

/// What reading the endpoints of one cluster needs besides the endpoint.
pub(super) struct EndpointCx<'a> {
    pub naming: Naming,
    pub matches: &'a Matches<'a>,
    pub cluster: &'a ClusterCx<'a>,
    /// By encoding: most endpoints of a cluster have the same metadata.
    metadata: HashMap<Vec<u8>, Arc<LazyMetadata>>,
}

impl<'a> EndpointCx<'a> {
    pub fn new(naming: Naming, matches: &'a Matches<'a>, cluster: &'a ClusterCx<'a>) -> Self {
        EndpointCx { naming, matches, cluster, metadata: HashMap::new() }
    }

    fn metadata(&mut self, proto: &core::Metadata) -> Arc<LazyMetadata> {
        let encoded = proto.encode_to_vec();
        self.metadata.entry(encoded).or_insert_with(|| Arc::new(LazyMetadata::new(proto))).clone()
    }
}

/// The endpoints of a load assignment in its order.
pub(super) fn build(
    proto: &pb::ClusterLoadAssignment,
    path: &Path<'_>,
    cx: &mut EndpointCx<'_>,
) -> Result<Vec<EndpointSpec>, Reject> {
    // Ignored: `cluster_name`, which is for EDS. `policy` is read by `priorities`.
    let pb::ClusterLoadAssignment { cluster_name: _, endpoints, named_endpoints, policy: _ } = proto;
    refuse(&[(!named_endpoints.is_empty(), "named_endpoints")], path)?;
    let path = path.field("endpoints");
    let mut specs = Vec::with_capacity(endpoints.iter().map(|group| group.lb_endpoints.len()).sum());
    for (index, group) in endpoints.iter().enumerate() {
        locality(group, &path.index(index), cx, &mut specs)?;
    }
    Ok(specs)
}

/// `ClusterLoadAssignment.policy`, and the panic threshold of the cluster.
pub(super) fn priorities(
    proto: Option<&pb::cluster_load_assignment::Policy>,
    healthy_panic_threshold: u32,
    path: &Path<'_>,
) -> Result<PriorityConfig, Reject> {
    let default = PriorityConfig { healthy_panic_threshold, ..PriorityConfig::default() };
    let Some(pb::cluster_load_assignment::Policy {
        drop_overloads,
        overprovisioning_factor,
        // Ignored: for EDS, whose assignments may grow stale.
        endpoint_stale_after: _,
        weighted_priority_health,
    }) = proto
    else {
        return Ok(default);
    };
    refuse(&[(!drop_overloads.is_empty(), "drop_overloads")], path)?;
    let overprovisioning_factor = match overprovisioning_factor {
        Some(0) => return Err(path.field("overprovisioning_factor").reject("expected more than 0, got 0")),
        Some(factor) => *factor,
        None => default.overprovisioning_factor,
    };
    Ok(PriorityConfig { overprovisioning_factor, weighted_priority_health: *weighted_priority_health, ..default })
}

fn locality(
    proto: &pb::LocalityLbEndpoints,
    path: &Path<'_>,
    cx: &mut EndpointCx<'_>,
    specs: &mut Vec<EndpointSpec>,
) -> Result<(), Reject> {
    let pb::LocalityLbEndpoints {
        locality,
        metadata,
        lb_endpoints,
        // Ignored: it counts with locality weighted balancing only, which is refused; nor does Envoy read `proximity`.
        load_balancing_weight: _,
        proximity: _,
        priority,
        lb_config,
    } = proto;
    refuse(&[(lb_config.is_some(), "lb_config")], path)?;
    if *priority > 128 {
        return Err(path.field("priority").reject(format_args!("expected at most 128, got {priority}")));
    }
    let locality = cx.cluster.clusters.locality(locality.as_ref().map_or_else(Locality::default, |locality| {
        let core::Locality { region, zone, sub_zone } = locality;
        Locality { region: region.as_str().into(), zone: zone.as_str().into(), sub_zone: sub_zone.as_str().into() }
    }));
    let path = path.field("lb_endpoints");
    for (index, proto) in lb_endpoints.iter().enumerate() {
        let path = path.index(index);
        let pb::LbEndpoint { health_status, metadata: own, load_balancing_weight, host_identifier } = proto;
        let endpoint = match host_identifier {
            Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
            Some(HostIdentifier::EndpointName(_)) => {
                return Err(path.field("endpoint_name").reject("not supported yet"));
            }
            None => return Err(path.reject("expected an endpoint, got none")),
        };
        let status = core::HealthStatus::try_from(*health_status)
            .map_err(|_| path.field("health_status").reject(format_args!("unknown health status {health_status}")))?;
        let weight = load_balancing_weight.unwrap_or(1);
        if weight == 0 {
            return Err(path.field("load_balancing_weight").reject("expected at least 1, got 0"));
        }
        let (target, hostname, additional_addresses) = addresses(endpoint, &path.field("endpoint"), cx.naming)?;
        let canary = own.as_ref().and_then(|own| metadata::boolean(own, "envoy.lb", &["canary"]));
        specs.push(EndpointSpec {
            target,
            hostname,
            additional_addresses,
            weight,
            health: HealthFlags::from_eds(status),
            locality: locality.clone(),
            priority: *priority,
            canary: canary.unwrap_or(false),
            transport_socket_match: cx.matches.resolve(own.as_ref(), metadata.as_ref()),
            metadata: own.as_ref().map(|own| cx.metadata(own)),
        });
    }
    Ok(())
}

type Addresses = (Target, Arc<str>, Box<[Address]>);

fn addresses(proto: &pb::Endpoint, path: &Path<'_>, naming: Naming) -> Result<Addresses, Reject> {
    let pb::Endpoint {
        address,
        // Ignored: for active health checks, which are refused.
        health_check_config: _,
        hostname,
        additional_addresses,
        // Ignored: for stats of single endpoints, which are refused.
        observability_name: _,
    } = proto;
    let at = path.field("address");
    let address = address.as_ref().ok_or_else(|| at.reject("expected an address, got none"))?;
    let more = path.field("additional_addresses");
    if naming == Naming::Names {
        if !additional_addresses.is_empty() {
            return Err(more.reject("not for clusters whose endpoints are resolved with DNS"));
        }
        let target = name(address, &at)?;
        let hostname = match (&**hostname, &target) {
            ("", Target::Name { host, .. }) => Arc::clone(host),
            ("", Target::Address(Address::Ip(address))) => address.ip().to_string().into(),
            (hostname, _) => hostname.into(),
        };
        return Ok((target, hostname, Box::default()));
    }
    let additional = additional_addresses.iter().enumerate().map(|(index, proto)| {
        let path = more.index(index);
        let path = path.field("address");
        values::address(proto.address.as_ref().ok_or_else(|| path.reject("expected an address, got none"))?, &path)
    });
    let target = Target::Address(values::address(address, &at)?);
    let hostname: Arc<str> = if hostname.is_empty() { Arc::default() } else { hostname.as_str().into() };
    Ok((target, hostname, additional.collect::<Result<_, _>>()?))
}

/// A name and a port.
fn name(proto: &core::Address, path: &Path<'_>) -> Result<Target, Reject> {
    let Some(AddressKind::SocketAddress(socket)) = &proto.address else {
        return Err(path.reject("expected a socket_address with a name to resolve"));
    };
    let path = path.field("socket_address");
    if socket.address.parse::<IpAddr>().is_ok() {
        return values::socket_address(socket, &path).map(|address| Target::Address(address.into()));
    }
    // Everything but the name is as for an IP address.
    let like = core::SocketAddress { address: "0.0.0.0".into(), ..socket.clone() };
    let port = values::socket_address(&like, &path)?.port();
    if socket.address.is_empty() || socket.address.len() > 253 {
        let why = format_args!("expected a name of 1 to 253 characters, got {:?}", socket.address);
        return Err(path.field("address").reject(why));
    }
    debug_assert!(matches!(socket.port_specifier, Some(PortSpecifier::PortValue(_))));
    Ok(Target::Name { host: socket.address.as_str().into(), port })
}
