//! From `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy` to a [`TcpProxy`].

use std::sync::Arc;
use std::time::Duration;

use prost_types::Any;
use xds_protos::envoy::config::core::v3::BackoffStrategy;
use xds_protos::envoy::extensions::filters::network::tcp_proxy::v3 as proto;
use xds_protos::envoy::extensions::filters::network::tcp_proxy::v3::UpstreamConnectMode;
use xds_protos::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;

use super::{AccessLogOptions, Backoff, Clusters, TcpProxy};
use crate::access_log::AccessLog;
use crate::config::{Path, Reject, values};
use crate::network::{BuiltFilter, ListenerCx};

const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// # Errors
/// For what is not supported, and for numbers that make no sense.
pub fn build(config: &Any, path: &Path<'_>, cx: &ListenerCx<'_>) -> Result<BuiltFilter, Reject> {
    let proto: proto::TcpProxy = values::decode(config, path)?;
    refuse_unsupported(&proto, path)?;
    if proto.stat_prefix.is_empty() {
        return Err(path.field("stat_prefix").reject("expected a name, got an empty string"));
    }
    let duration = |field: &str, value: &Option<prost_types::Duration>| {
        values::optional_duration(value.as_ref(), &path.field(field))
    };
    let idle_timeout = duration("idle_timeout", &proto.idle_timeout)?.unwrap_or(DEFAULT_IDLE_TIMEOUT);
    let max_duration = duration("max_downstream_connection_duration", &proto.max_downstream_connection_duration)?;
    let logs = proto.access_log.iter().enumerate();
    let logs = logs.map(|(i, log)| AccessLog::build(log, &path.field("access_log").index(i), cx.build));
    let jitter = proto.max_downstream_connection_duration_jitter_percentage.as_ref().map_or(0.0, |p| p.value);
    if !(0.0..=100.0).contains(&jitter) {
        let path = path.field("max_downstream_connection_duration_jitter_percentage");
        return Err(path.field("value").reject(format_args!("expected 0 to 100, got {jitter}")));
    }
    Ok(BuiltFilter::Terminal(Arc::new(TcpProxy {
        clusters: clusters(&proto, path, cx)?,
        idle_timeout: Some(idle_timeout).filter(|timeout| !timeout.is_zero()),
        max_connect_attempts: match proto.max_connect_attempts {
            None => 1,
            Some(0) => return Err(path.field("max_connect_attempts").reject("expected at least 1, got 0")),
            Some(attempts) => attempts,
        },
        backoff: match &proto.backoff_options {
            Some(strategy) => Some(backoff(strategy, &path.field("backoff_options"))?),
            None => None,
        },
        max_downstream_connection_duration: max_duration,
        max_downstream_connection_duration_jitter: jitter / 100.0,
        access_log: logs.collect::<Result<_, _>>()?,
        access_log_options: access_log_options(&proto, path)?,
        stats: cx.stats.block(&format!("tcp.{}", proto.stat_prefix)),
    })))
}

/// Each field that is not read elsewhere, so that one which a later API adds does not pass unseen.
#[expect(deprecated, reason = "all fields are named")]
fn refuse_unsupported(proto: &proto::TcpProxy, path: &Path<'_>) -> Result<(), Reject> {
    let proto::TcpProxy {
        stat_prefix: _,
        on_demand,
        metadata_match,
        idle_timeout: _,
        downstream_idle_timeout,
        upstream_idle_timeout,
        access_log: _,
        max_connect_attempts: _,
        backoff_options: _,
        hash_policy,
        tunneling_config,
        max_downstream_connection_duration: _,
        max_downstream_connection_duration_jitter_percentage: _,
        access_log_flush_interval: _,
        flush_access_log_on_connected: _,
        access_log_options: _,
        proxy_protocol_tlvs,
        // Without TLVs there is nothing to merge.
        proxy_protocol_tlv_merge_policy: _,
        upstream_connect_mode,
        max_early_data_bytes,
        check_drain_close,
        cluster_specifier: _,
    } = proto;
    // Connecting after the handshake is what we always do.
    let early = *upstream_connect_mode == UpstreamConnectMode::OnDownstreamData as i32;
    let unsupported = [
        ("on_demand", on_demand.is_some()),
        ("metadata_match", metadata_match.is_some()),
        ("downstream_idle_timeout", downstream_idle_timeout.is_some()),
        ("upstream_idle_timeout", upstream_idle_timeout.is_some()),
        ("hash_policy", !hash_policy.is_empty()),
        ("tunneling_config", tunneling_config.is_some()),
        ("proxy_protocol_tlvs", !proxy_protocol_tlvs.is_empty()),
        ("upstream_connect_mode", early),
        ("max_early_data_bytes", max_early_data_bytes.is_some()),
        ("check_drain_close", *check_drain_close == Some(true)),
    ];
    match unsupported.into_iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(path.field(field).reject("not supported")),
        None => Ok(()),
    }
}

fn clusters(proto: &proto::TcpProxy, path: &Path<'_>, cx: &ListenerCx<'_>) -> Result<Clusters, Reject> {
    match &proto.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) if name.is_empty() => {
            Err(path.field("cluster").reject("expected a name, got an empty string"))
        }
        Some(ClusterSpecifier::Cluster(name)) => Ok(Clusters::One(cx.clusters.slot(name))),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            let path = path.field("weighted_clusters");
            let path = path.field("clusters");
            let mut slots = Vec::with_capacity(weighted.clusters.len());
            let mut total = 0;
            for (index, cluster) in weighted.clusters.iter().enumerate() {
                let path = path.index(index);
                let proto::tcp_proxy::weighted_cluster::ClusterWeight { name, weight, metadata_match } = cluster;
                if metadata_match.is_some() {
                    return Err(path.field("metadata_match").reject("not supported"));
                }
                if name.is_empty() {
                    return Err(path.field("name").reject("expected a name, got an empty string"));
                }
                if *weight == 0 {
                    return Err(path.field("weight").reject("expected at least 1, got 0"));
                }
                total += u64::from(*weight);
                slots.push((total, cx.clusters.slot(name)));
            }
            if slots.is_empty() {
                return Err(path.reject("expected a cluster, got none"));
            }
            Ok(Clusters::Weighted(slots))
        }
        None => Err(path.reject("expected cluster or weighted_clusters, got neither")),
    }
}

fn backoff(strategy: &BackoffStrategy, path: &Path<'_>) -> Result<Backoff, Reject> {
    let base = values::optional_duration(strategy.base_interval.as_ref(), &path.field("base_interval"))?;
    let base = match base {
        Some(base) if base >= Duration::from_millis(1) => base,
        _ => return Err(path.field("base_interval").reject("expected at least 1 ms")),
    };
    let max = values::optional_duration(strategy.max_interval.as_ref(), &path.field("max_interval"))?;
    let max = max.unwrap_or(base * 10);
    if max < base {
        return Err(path.field("max_interval").reject(format_args!("expected at least {base:?}, got {max:?}")));
    }
    Ok(Backoff { base, max })
}

#[expect(deprecated, reason = "the older fields mean the same")]
fn access_log_options(proto: &proto::TcpProxy, path: &Path<'_>) -> Result<AccessLogOptions, Reject> {
    let (interval, on_connected, on_start, path) = match &proto.access_log_options {
        None => (&proto.access_log_flush_interval, proto.flush_access_log_on_connected, false, *path),
        Some(_) if proto.flush_access_log_on_connected || proto.access_log_flush_interval.is_some() => {
            let why = "expected only this one, got also access_log_flush_interval or flush_access_log_on_connected";
            return Err(path.field("access_log_options").reject(why));
        }
        Some(options) => {
            let path = path.field("access_log_options");
            (
                &options.access_log_flush_interval,
                options.flush_access_log_on_connected,
                options.flush_access_log_on_start,
                path,
            )
        }
    };
    let interval_path = path.field("access_log_flush_interval");
    let flush_interval = values::optional_duration(interval.as_ref(), &interval_path)?;
    if flush_interval.is_some_and(|interval| interval < Duration::from_millis(1)) {
        return Err(interval_path.reject("expected at least 1 ms"));
    }
    Ok(AccessLogOptions { flush_interval, flush_on_connected: on_connected, flush_on_start: on_start })
}
