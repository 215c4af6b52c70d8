//! From `envoy.config.cluster.v3.Cluster` to a [`Cluster`]: pure, so that an update that is refused changes nothing.
//!
//! [`fields`] lists every field and what becomes of it; the other modules read groups of them.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderName;
use xds_protos::envoy::config::bootstrap::v3 as bootstrap;
use xds_protos::envoy::config::cluster::v3 as pb;
use xds_protos::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbConfig};
use xds_protos::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_protos::envoy::extensions::clusters::dns::v3::DnsCluster;

use super::dns::DnsSpec;
use super::members::Members;
use super::outlier::{Detector, OutlierConfig};
use super::spec::{EndpointSpec, Known, Target, by_priority};
use super::{CircuitBreakers, Cluster, EdsSpec, Hosts, OriginalDst, UpstreamProtocol};
use crate::config::metadata::LazyMetadata;
use crate::config::{BuildCx, ConfigSource, Path, Reject, percent, values};
use crate::lb::PriorityConfig;
use crate::pool::connect::UpstreamSockets;
use crate::stats::names::ClusterStats;
use crate::transport_socket::Upstream;

mod breakers;
mod dns;
mod endpoints;
mod fields;
mod hashing;
mod http_options;
mod policy;
#[cfg(test)]
mod tests;
mod transport;

pub(super) use dns::typed_resolver;
pub(super) use fields::refuse;

use endpoints::{EndpointCx, Naming};
use policy::Chosen;

/// What builders of a cluster's parts may refer to.
#[derive(Clone, Copy)]
pub struct ClusterCx<'a> {
    pub build: &'a BuildCx,
    pub cluster_name: &'a Arc<str>,
    /// The scope of the cluster's stats, e.g. `cluster.store-front`.
    pub stat_scope: &'a str,
}

impl Deref for ClusterCx<'_> {
    type Target = BuildCx;

    fn deref(&self) -> &BuildCx {
        self.build
    }
}

/// A cluster, and what has to be done for it to get hosts.
pub(super) struct Built {
    pub cluster: Arc<Cluster>,
    /// Names to resolve, for clusters that have any.
    pub dns: Option<DnsSpec>,
    /// `wait_for_warm_on_init`.
    pub wait_for_warm_on_init: bool,
}

/// Where the hosts of a cluster come from.
enum Discovery {
    Static,
    Dns(dns::DnsOptions, DnsKind),
    Eds(EdsSpec),
    OriginalDst,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DnsKind {
    Strict,
    Logical,
}

/// Builds a cluster. `old` is the one it replaces, whose hosts it keeps.
///
/// # Errors
/// The first field that is wrong or that cannot be done.
pub(super) fn build(
    proto: &pb::Cluster,
    old: Option<&Cluster>,
    manager: &bootstrap::ClusterManager,
    path: &Path<'_>,
    cx: &BuildCx,
) -> Result<Built, Reject> {
    if proto.name.is_empty() {
        return Err(path.field("name").reject("expected a name, got none"));
    }
    fields::check(proto, path)?;
    let name: Arc<str> = cx.clusters.slot(&proto.name).name.clone();
    let observability_name: Arc<str> =
        if proto.alt_stat_name.is_empty() { name.clone() } else { proto.alt_stat_name.as_str().into() };
    let scope = format!("cluster.{observability_name}");
    let cx = ClusterCx { build: cx, cluster_name: &name, stat_scope: &scope };
    let stats = cx.stats.block::<ClusterStats>(&scope);

    let discovery = discovery(proto, path, &cx)?;
    let chosen = policy::build(proto, path, &cx)?;
    let transport = transport::socket(proto.transport_socket.as_ref(), &path.field("transport_socket"), &cx)?;
    let at = path.field("transport_socket_matches");
    let (transport_matches, matches) = transport::matches(&proto.transport_socket_matches, &at, &cx)?;
    let http = http_options::build(proto, path)?;
    if http.as_ref().is_some_and(|http| http.protocol == UpstreamProtocol::Auto)
        && transport_matches.iter().chain([&transport]).any(|socket| matches!(socket, Upstream::Raw))
    {
        let path = path.field("typed_extension_protocol_options");
        return Err(path.reject("auto_config needs a transport socket with ALPN, that is TLS"));
    }
    let naming = if matches!(discovery, Discovery::Dns(..)) { Naming::Names } else { Naming::Addresses };
    let endpoints = endpoints(proto, path, &mut EndpointCx::new(naming, &matches, &cx))?;
    let eds = match &discovery {
        Discovery::Eds(eds) => Some(Box::new(eds.clone())),
        _ if proto.eds_cluster_config.is_some() => {
            return Err(path.field("eds_cluster_config").reject("only for clusters of type EDS"));
        }
        _ => None,
    };
    let outlier = match &proto.outlier_detection {
        Some(proto) => {
            let config = OutlierConfig::build(proto, &path.field("outlier_detection"), &cx)?;
            let stats = cx.stats.block(&format!("{scope}.outlier_detection"));
            Some(Box::new(Detector::new(config, name.clone(), stats, cx.clusters.outlier_log())))
        }
        None => None,
    };
    let (hosts, first, dns) = hosts(proto, discovery, chosen, endpoints, old, path, &cx)?;

    let at = path.field("circuit_breakers");
    let [default, high] = breakers::build(proto.circuit_breakers.as_ref(), &at)?;
    let remaining = |priority: &str| cx.stats.block(&format!("{scope}.circuit_breakers.{priority}"));
    let connect_timeout = positive(proto.connect_timeout.as_ref(), &path.field("connect_timeout"))?;
    let cluster = Arc::new(Cluster {
        breakers: CircuitBreakers::new(stats.clone(), default, high, remaining),
        connect_timeout: connect_timeout.unwrap_or(Duration::from_secs(5)),
        per_connection_buffer_limit_bytes: proto.per_connection_buffer_limit_bytes.unwrap_or(1 << 20),
        http: http.map_or_else(|| cx.clusters.default_http(), Arc::new),
        sockets: sockets(proto, manager, path, &cx)?,
        metadata: proto.metadata.as_ref().map(|metadata| Arc::new(LazyMetadata::new(metadata))),
        transport,
        transport_matches,
        transport_match_names: matches.names(),
        hosts,
        outlier,
        ring_hash_stats: OnceLock::new(),
        maglev_stats: OnceLock::new(),
        eds,
        observability_name,
        stats,
        name,
    });
    cluster.publish(first);
    Ok(Built { cluster, dns, wait_for_warm_on_init: proto.wait_for_warm_on_init.unwrap_or(true) })
}

fn positive(proto: Option<&prost_types::Duration>, path: &Path<'_>) -> Result<Option<Duration>, Reject> {
    match values::optional_duration(proto, path)? {
        Some(Duration::ZERO) => Err(path.reject("expected more than 0s")),
        duration => Ok(duration),
    }
}

/// `type`, or STATIC; none for a `cluster_type`.
fn discovery_type(proto: &pb::Cluster) -> Option<DiscoveryType> {
    match &proto.cluster_discovery_type {
        None => Some(DiscoveryType::Static),
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(*kind).ok(),
        Some(ClusterDiscoveryType::ClusterType(_)) => None,
    }
}

fn discovery(proto: &pb::Cluster, path: &Path<'_>, cx: &ClusterCx<'_>) -> Result<Discovery, Reject> {
    match (discovery_type(proto), &proto.cluster_discovery_type) {
        (Some(DiscoveryType::Static), _) => Ok(Discovery::Static),
        (Some(DiscoveryType::StrictDns), _) => Ok(Discovery::Dns(dns::from_cluster(proto, path, cx)?, DnsKind::Strict)),
        (Some(DiscoveryType::LogicalDns), _) => {
            Ok(Discovery::Dns(dns::from_cluster(proto, path, cx)?, DnsKind::Logical))
        }
        (Some(DiscoveryType::OriginalDst), _) => Ok(Discovery::OriginalDst),
        (Some(DiscoveryType::Eds), _) => eds(proto, path, cx).map(Discovery::Eds),
        (None, Some(ClusterDiscoveryType::ClusterType(extension))) => {
            let path = path.field("cluster_type");
            let config = extension.typed_config.as_ref();
            let url = config.map_or("none", |config| config.type_url.rsplit('/').next().unwrap_or_default());
            match (config, url) {
                (Some(config), "envoy.extensions.clusters.dns.v3.DnsCluster") => {
                    let at = path.field("typed_config");
                    let config: DnsCluster = values::decode(config, &at)?;
                    let (options, single) = dns::from_extension(&config, proto, &at, &path, cx)?;
                    Ok(Discovery::Dns(options, if single { DnsKind::Logical } else { DnsKind::Strict }))
                }
                _ => Err(path.reject(format_args!("expected envoy.clusters.dns, got {:?} ({url})", extension.name))),
            }
        }
        (None, _) => Err(path.field("type").reject("unknown type")),
    }
}

fn eds(proto: &pb::Cluster, path: &Path<'_>, cx: &ClusterCx<'_>) -> Result<EdsSpec, Reject> {
    let path = path.field("eds_cluster_config");
    let Some(pb::cluster::EdsClusterConfig { eds_config, service_name }) = &proto.eds_cluster_config else {
        return Err(path.reject("expected one for a cluster of type EDS, got none"));
    };
    let at = path.field("eds_config");
    let source = eds_config.as_ref().ok_or_else(|| at.reject("expected a source, got none"))?;
    Ok(EdsSpec {
        source: ConfigSource::build(source, &at)?,
        service_name: if service_name.is_empty() { cx.cluster_name.clone() } else { service_name.as_str().into() },
    })
}

fn endpoints(proto: &pb::Cluster, path: &Path<'_>, cx: &mut EndpointCx<'_>) -> Result<Vec<EndpointSpec>, Reject> {
    match &proto.load_assignment {
        Some(assignment) => endpoints::build(assignment, &path.field("load_assignment"), cx),
        None => Ok(Vec::new()),
    }
}

type HostSource = (Hosts, Vec<Vec<Arc<crate::endpoint::Host>>>, Option<DnsSpec>);

/// Where hosts come from, those that are known at once, and what there is to resolve.
fn hosts(
    proto: &pb::Cluster,
    discovery: Discovery,
    chosen: Chosen,
    endpoints: Vec<EndpointSpec>,
    old: Option<&Cluster>,
    path: &Path<'_>,
    cx: &ClusterCx<'_>,
) -> Result<HostSource, Reject> {
    let Chosen::Policy(policy) = chosen else {
        if proto.load_assignment.is_some() {
            return Err(path.field("load_assignment").reject("not for clusters of type ORIGINAL_DST"));
        }
        return Ok((Hosts::OriginalDst(original_dst(proto, path)?), Vec::new(), None));
    };
    let threshold = panic_threshold(proto, path, cx)?;
    let assignment = proto.load_assignment.as_ref();
    let at = path.field("load_assignment");
    let config = endpoints::priorities(assignment.and_then(|a| a.policy.as_ref()), threshold, &at.field("policy"))?;
    let members = Hosts::Listed(Members::new(config, policy, cx.options.concurrency));
    if let Discovery::Eds(_) = discovery {
        if assignment.is_some() {
            return Err(at.reject("not for clusters of type EDS, whose assignment is discovered"));
        }
        return Ok((members, Vec::new(), None));
    }
    let Discovery::Dns(options, kind) = discovery else {
        let mut known = Known::default();
        if let Some(old) = old {
            old.for_each_host(|host| known.insert(host));
        }
        let address = |spec: &EndpointSpec| match &spec.target {
            Target::Address(address) => Some(address.clone()),
            Target::Name { .. } => None,
        };
        let hosts = endpoints.iter().filter_map(|spec| Some(known.host(spec, address(spec)?)));
        return Ok((members, by_priority(hosts), None));
    };
    if kind == DnsKind::Logical && endpoints.len() != 1 {
        return Err(at.reject(format_args!("LOGICAL_DNS takes exactly one endpoint, got {}", endpoints.len())));
    }
    let dns::DnsOptions { refresh, family, resolver } = options;
    let spec = DnsSpec { endpoints, logical: kind == DnsKind::Logical, refresh, family, resolver };
    Ok((members, Vec::new(), Some(spec)))
}

/// Hosts by priority, and the policy of the assignment.
type Assigned = (Vec<Vec<Arc<crate::endpoint::Host>>>, PriorityConfig);

/// The hosts of an assignment that was discovered, for `cluster`, which was built of `proto`. Hosts that `known` has stay
/// the same objects.
///
/// # Errors
/// The first field that is wrong or that cannot be done.
pub(super) fn assign(
    cluster: &Cluster,
    proto: &pb::Cluster,
    assignment: &ClusterLoadAssignment,
    known: &[&Cluster],
    path: &Path<'_>,
    cx: &BuildCx,
) -> Result<Assigned, Reject> {
    let cx = ClusterCx { build: cx, cluster_name: &cluster.name, stat_scope: "" };
    let matches = transport::Matches::of(&proto.transport_socket_matches);
    let specs = endpoints::build(assignment, path, &mut EndpointCx::new(Naming::Addresses, &matches, &cx))?;
    let threshold = cluster.priority_config().healthy_panic_threshold;
    let config = endpoints::priorities(assignment.policy.as_ref(), threshold, &path.field("policy"))?;
    let mut existing = Known::default();
    known.iter().for_each(|cluster| cluster.for_each_host(|host| existing.insert(host)));
    let hosts = specs.iter().filter_map(|spec| match &spec.target {
        Target::Address(address) => Some(existing.host(spec, address.clone())),
        Target::Name { .. } => None,
    });
    Ok((by_priority(hosts), config))
}

/// `healthy_panic_threshold` in whole percent, unless the runtime says another.
fn panic_threshold(proto: &pb::Cluster, path: &Path<'_>, cx: &ClusterCx<'_>) -> Result<u32, Reject> {
    let configured = proto.common_lb_config.as_ref().and_then(|common| common.healthy_panic_threshold.as_ref());
    let configured = match configured {
        Some(value) => {
            let path = path.field("common_lb_config");
            percent::percent(value, &path.field("healthy_panic_threshold"))?.round() as u64
        }
        None => 50,
    };
    Ok(cx.runtime.integer("upstream.healthy_panic_threshold", configured).min(100) as u32)
}

fn original_dst(proto: &pb::Cluster, path: &Path<'_>) -> Result<OriginalDst, Reject> {
    let interval = positive(proto.cleanup_interval.as_ref(), &path.field("cleanup_interval"))?;
    let interval = interval.unwrap_or(OriginalDst::DEFAULT_CLEANUP_INTERVAL);
    let Some(LbConfig::OriginalDstLbConfig(config)) = &proto.lb_config else {
        return Ok(OriginalDst::new(None, None, interval));
    };
    let path = path.field("original_dst_lb_config");
    let pb::cluster::OriginalDstLbConfig { use_http_header, http_header_name, upstream_port_override, metadata_key } =
        config;
    refuse(&[(metadata_key.is_some(), "metadata_key")], &path)?;
    let at = path.field("http_header_name");
    let header = match (use_http_header, http_header_name.as_str()) {
        (false, "") => None,
        (false, _) => return Err(at.reject("not without use_http_header")),
        (true, "") => Some(OriginalDst::DEFAULT_HEADER),
        (true, name) => Some(
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| at.reject(format_args!("expected the name of a header, got {name:?}")))?,
        ),
    };
    let port = upstream_port_override
        .map(u16::try_from)
        .transpose()
        .map_err(|_| path.field("upstream_port_override").reject("expected a port of at most 65535"))?;
    Ok(OriginalDst::new(header, port, interval))
}

/// Sockets without options of their own are shared.
fn sockets(
    proto: &pb::Cluster,
    manager: &bootstrap::ClusterManager,
    path: &Path<'_>,
    cx: &ClusterCx<'_>,
) -> Result<Arc<UpstreamSockets>, Reject> {
    let (bind, options) = (proto.upstream_bind_config.as_ref(), proto.upstream_connection_options.as_ref());
    let manager = manager.upstream_bind_config.as_ref();
    if bind.is_none() && options.is_none() && manager.is_none() {
        return Ok(cx.clusters.default_sockets());
    }
    UpstreamSockets::build(bind, options, manager, path).map(Arc::new)
}
