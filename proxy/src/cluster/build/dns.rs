//! How the names of STRICT_DNS and LOGICAL_DNS clusters are resolved: `dns_…` fields of the cluster, or
//! `envoy.extensions.clusters.dns.v3.DnsCluster`, and `typed_dns_resolver_config`.

use std::net::SocketAddr;
use std::time::Duration;

use xds_protos::envoy::config::cluster::v3 as pb;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::extensions::clusters::common::dns::v3::DnsLookupFamily;
use xds_protos::envoy::extensions::clusters::dns::v3 as dns_v3;
use xds_protos::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use xds_protos::envoy::extensions::network::dns_resolver::getaddrinfo::v3::GetAddrInfoDnsResolverConfig;

use super::ClusterCx;
use super::fields::refuse;
use crate::cluster::dns::{Backoff, LookupFamily, RefreshOptions, ResolverOptions};
use crate::config::{Path, Reject, values};

/// Everything about DNS of one cluster.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DnsOptions {
    pub refresh: RefreshOptions,
    pub family: LookupFamily,
    pub resolver: ResolverOptions,
}

const DEFAULT_REFRESH_RATE: Duration = Duration::from_secs(5);

/// From the deprecated fields of the cluster, which are what Istio sends.
#[allow(deprecated, reason = "this is what reads them")]
pub(super) fn from_cluster(proto: &pb::Cluster, path: &Path<'_>, cx: &ClusterCx<'_>) -> Result<DnsOptions, Reject> {
    use pb::cluster::DnsLookupFamily as Family;
    let rate = at_least_a_millisecond(proto.dns_refresh_rate.as_ref(), &path.field("dns_refresh_rate"))?;
    let rate = rate.unwrap_or(DEFAULT_REFRESH_RATE);
    let failure = proto.dns_failure_refresh_rate.as_ref();
    let at = path.field("dns_failure_refresh_rate");
    let failure = failure.map(|f| backoff(f.base_interval.as_ref(), f.max_interval.as_ref(), &at)).transpose()?;
    let family = match Family::try_from(proto.dns_lookup_family) {
        Ok(Family::Auto) => LookupFamily::Auto,
        Ok(Family::V4Only) => LookupFamily::V4Only,
        Ok(Family::V6Only) => LookupFamily::V6Only,
        Ok(Family::V4Preferred) => LookupFamily::V4Preferred,
        Ok(Family::All) => LookupFamily::All,
        Err(_) => {
            let why = format_args!("unknown family {}", proto.dns_lookup_family);
            return Err(path.field("dns_lookup_family").reject(why));
        }
    };
    let jitter = values::optional_duration(proto.dns_jitter.as_ref(), &path.field("dns_jitter"))?;
    Ok(DnsOptions {
        refresh: RefreshOptions {
            rate,
            failure,
            respect_ttl: proto.respect_dns_ttl,
            min_rate: None,
            jitter: jitter.unwrap_or_default(),
        },
        family,
        resolver: cluster_resolver(proto, path, cx)?,
    })
}

/// From `cluster_type` `envoy.clusters.dns`. True: all addresses are one endpoint, as in LOGICAL_DNS.
pub(super) fn from_extension(
    proto: &dns_v3::DnsCluster,
    cluster: &pb::Cluster,
    path: &Path<'_>,
    cluster_path: &Path<'_>,
    cx: &ClusterCx<'_>,
) -> Result<(DnsOptions, bool), Reject> {
    let dns_v3::DnsCluster {
        dns_refresh_rate,
        dns_failure_refresh_rate,
        respect_dns_ttl,
        dns_jitter,
        typed_dns_resolver_config,
        dns_lookup_family,
        all_addresses_in_single_endpoint,
        dns_min_refresh_rate,
    } = proto;
    let rate = at_least_a_millisecond(dns_refresh_rate.as_ref(), &path.field("dns_refresh_rate"))?;
    let at = path.field("dns_failure_refresh_rate");
    let failure = dns_failure_refresh_rate.as_ref();
    let failure = failure.map(|f| backoff(f.base_interval.as_ref(), f.max_interval.as_ref(), &at)).transpose()?;
    let family = match DnsLookupFamily::try_from(*dns_lookup_family) {
        Ok(DnsLookupFamily::Unspecified | DnsLookupFamily::Auto) => LookupFamily::Auto,
        Ok(DnsLookupFamily::V4Only) => LookupFamily::V4Only,
        Ok(DnsLookupFamily::V6Only) => LookupFamily::V6Only,
        Ok(DnsLookupFamily::V4Preferred) => LookupFamily::V4Preferred,
        Ok(DnsLookupFamily::All) => LookupFamily::All,
        Err(_) => {
            let why = format_args!("unknown family {dns_lookup_family}");
            return Err(path.field("dns_lookup_family").reject(why));
        }
    };
    let at = path.field("dns_min_refresh_rate");
    let min_rate = values::optional_duration(dns_min_refresh_rate.as_ref(), &at)?;
    if min_rate.is_some_and(|rate| rate < Duration::from_secs(1)) {
        return Err(at.reject("expected at least 1s"));
    }
    let resolver = match typed_dns_resolver_config {
        Some(config) => typed_resolver(config, &path.field("typed_dns_resolver_config"))?,
        None => cluster_resolver(cluster, cluster_path, cx)?,
    };
    let jitter = values::optional_duration(dns_jitter.as_ref(), &path.field("dns_jitter"))?.unwrap_or_default();
    let rate = rate.unwrap_or(DEFAULT_REFRESH_RATE);
    let refresh = RefreshOptions { rate, failure, respect_ttl: *respect_dns_ttl, min_rate, jitter };
    Ok((DnsOptions { refresh, family, resolver }, *all_addresses_in_single_endpoint))
}

fn at_least_a_millisecond(proto: Option<&prost_types::Duration>, path: &Path<'_>) -> Result<Option<Duration>, Reject> {
    match values::optional_duration(proto, path)? {
        Some(rate) if rate <= Duration::from_millis(1) => {
            Err(path.reject(format_args!("expected more than 1ms, got {rate:?}")))
        }
        rate => Ok(rate),
    }
}

fn backoff(
    base: Option<&prost_types::Duration>,
    max: Option<&prost_types::Duration>,
    path: &Path<'_>,
) -> Result<Backoff, Reject> {
    let at = path.field("base_interval");
    let base = at_least_a_millisecond(base, &at)?.ok_or_else(|| at.reject("expected a duration, got none"))?;
    let at = path.field("max_interval");
    let max = at_least_a_millisecond(max, &at)?.unwrap_or_else(|| base.saturating_mul(10));
    if max < base {
        return Err(at.reject(format_args!("expected at least base_interval, {base:?}, got {max:?}")));
    }
    Ok(Backoff { base, max })
}

#[allow(deprecated, reason = "the older forms still count, in this order")]
fn cluster_resolver(proto: &pb::Cluster, path: &Path<'_>, cx: &ClusterCx<'_>) -> Result<ResolverOptions, Reject> {
    if let Some(config) = &proto.typed_dns_resolver_config {
        return typed_resolver(config, &path.field("typed_dns_resolver_config"));
    }
    if let Some(config) = &proto.dns_resolution_config {
        let path = path.field("dns_resolution_config");
        let core::DnsResolutionConfig { resolvers, dns_resolver_options } = config;
        let servers = servers(resolvers, &path.field("resolvers"))?;
        let mut options = ResolverOptions { servers, ..ResolverOptions::default() };
        flags(dns_resolver_options.as_ref(), &mut options);
        return Ok(options);
    }
    if proto.dns_resolvers.is_empty() {
        let default = cx.clusters.default_resolver();
        return Ok(ResolverOptions { use_tcp: default.use_tcp || proto.use_tcp_for_dns_lookups, ..default });
    }
    let servers = servers(&proto.dns_resolvers, &path.field("dns_resolvers"))?;
    Ok(ResolverOptions { servers, use_tcp: proto.use_tcp_for_dns_lookups, ..ResolverOptions::default() })
}

pub(in crate::cluster) fn typed_resolver(
    proto: &core::TypedExtensionConfig,
    path: &Path<'_>,
) -> Result<ResolverOptions, Reject> {
    let path = path.field("typed_config");
    let config = proto.typed_config.as_ref().ok_or_else(|| path.reject("expected a typed_config, got none"))?;
    match config.type_url.rsplit('/').next().unwrap_or_default() {
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig" => {
            cares(&values::decode(config, &path)?, &path)
        }
        "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig" => {
            // Ignored: tuning of the C library's resolver, in whose place the system's servers are asked directly.
            let GetAddrInfoDnsResolverConfig { num_retries: _, num_resolver_threads: _ } =
                values::decode(config, &path)?;
            Ok(ResolverOptions::default())
        }
        other => Err(path.reject(format_args!("expected a cares or getaddrinfo resolver, got {other}"))),
    }
}

fn cares(proto: &CaresDnsResolverConfig, path: &Path<'_>) -> Result<ResolverOptions, Reject> {
    let CaresDnsResolverConfig {
        resolvers,
        use_resolvers_as_fallback,
        filter_unroutable_families,
        dns_resolver_options,
        query_timeout_seconds,
        query_tries,
        rotate_nameservers,
        // Ignored: how long c-ares keeps its sockets, of which there are none here between lookups.
        udp_max_queries: _,
        max_udp_channel_duration: _,
        reinit_channel_on_timeout: _,
        // Ignored: a bound of what a server may send in one datagram; larger answers come over TCP.
        edns0_max_payload_size: _,
        qcache_max_ttl,
    } = proto;
    let refused = [
        (*use_resolvers_as_fallback && !resolvers.is_empty(), "use_resolvers_as_fallback"),
        (*filter_unroutable_families, "filter_unroutable_families"),
        (qcache_max_ttl.is_some_and(|ttl| ttl > 0), "qcache_max_ttl"),
    ];
    refuse(&refused, path)?;
    let servers = servers(resolvers, &path.field("resolvers"))?;
    let mut options = ResolverOptions { servers, rotate: *rotate_nameservers, ..ResolverOptions::default() };
    if let Some(seconds) = query_timeout_seconds {
        options.timeout = Duration::from_secs((*seconds).clamp(1, 3600));
    }
    if let Some(tries) = query_tries {
        options.tries = (*tries).max(1);
    }
    flags(dns_resolver_options.as_ref(), &mut options);
    Ok(options)
}

fn flags(proto: Option<&core::DnsResolverOptions>, options: &mut ResolverOptions) {
    let Some(core::DnsResolverOptions { use_tcp_for_dns_lookups, no_default_search_domain }) = proto else { return };
    options.use_tcp = *use_tcp_for_dns_lookups;
    options.no_default_search_domain = *no_default_search_domain;
}

fn servers(protos: &[core::Address], path: &Path<'_>) -> Result<Vec<SocketAddr>, Reject> {
    let server = |(index, proto): (usize, &core::Address)| {
        let path = path.index(index);
        match values::address(proto, &path)?.socket() {
            Some(address) => Ok(address),
            None => Err(path.reject("expected the IP address and port of a DNS server")),
        }
    };
    protos.iter().enumerate().map(server).collect()
}
