//! `/clusters`: clusters, their limits, and each host with its state and counters.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use http::StatusCode;
use xds_protos::envoy::admin::v3 as pb;
use xds_protos::envoy::admin::v3::simple_metric::Type;
use xds_protos::envoy::config::cluster::v3 as cluster;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::r#type::v3::Percent;

use super::listeners::address;
use super::stats::filter;
use crate::admin::{Cluster, Endpoint, HostStatus, Param, ParamKind, Reply, Request};
use crate::cluster::Thresholds;
use crate::endpoint::{HealthFlags, HostStats, Locality};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/clusters",
    mutates: false,
    help: "clusters and their hosts",
    params: &[
        Param { id: "filter", kind: ParamKind::Text, help: "regular expression (RE2) found in the cluster's name" },
        Param { id: "format", kind: ParamKind::OneOf(&["text", "json"]), help: "format" },
    ],
    respond,
};

fn respond(request: &Request<'_>) -> Reply {
    let filter = match filter(&request.query) {
        Ok(filter) => filter,
        Err(why) => return Reply::bad_request(why),
    };
    let mut clusters = request.cx.clusters.clusters();
    clusters.retain(|cluster| filter.as_ref().is_none_or(|filter| filter.matches(cluster.name.as_bytes())));
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    if request.query.get("format") == Some("json") {
        let cluster_statuses = clusters.iter().map(status).collect();
        return Reply::message(&pb::Clusters { cluster_statuses }, false);
    }
    let mut out = String::new();
    clusters.iter().for_each(|cluster| text(&mut out, cluster));
    Reply::text(StatusCode::OK, out)
}

/// Counters and gauges of a host, in the order in which each format lists them.
fn counters(stats: &HostStats) -> [(&'static str, u64); 6] {
    [
        ("cx_connect_fail", stats.cx_connect_fail.load(Relaxed)),
        ("cx_total", stats.cx_total.load(Relaxed)),
        ("rq_error", stats.rq_error.load(Relaxed)),
        ("rq_success", stats.rq_success.load(Relaxed)),
        ("rq_timeout", stats.rq_timeout.load(Relaxed)),
        ("rq_total", stats.rq_total.load(Relaxed)),
    ]
}

fn gauges(stats: &HostStats) -> [(&'static str, u64); 3] {
    [
        ("cx_active", stats.cx_active.load(Relaxed)),
        ("rq_active", stats.rq_active.load(Relaxed)),
        ("rq_pending_active", stats.rq_pending_active.load(Relaxed)),
    ]
}

/// Writing to a string cannot fail, so its results are dropped.
fn text(out: &mut String, cluster: &Cluster) {
    let name = &cluster.name;
    let _ = writeln!(out, "{name}::observability_name::{}", cluster.observability_name);
    if let Some(outlier) = &cluster.outlier {
        for (key, value) in [
            ("success_rate_average", outlier.success_rate_average),
            ("success_rate_ejection_threshold", outlier.success_rate_ejection_threshold),
            ("local_origin_success_rate_average", outlier.local_origin_success_rate_average),
            ("local_origin_success_rate_ejection_threshold", outlier.local_origin_success_rate_ejection_threshold),
        ] {
            let _ = writeln!(out, "{name}::outlier::{key}::{value}");
        }
    }
    for (priority, limits) in [("default", &cluster.default_priority), ("high", &cluster.high_priority)] {
        for (key, value) in [
            ("max_connections", limits.max_connections),
            ("max_pending_requests", limits.max_pending_requests),
            ("max_requests", limits.max_requests),
            ("max_retries", limits.max_retries),
        ] {
            let _ = writeln!(out, "{name}::{priority}_priority::{key}::{value}");
        }
    }
    let _ = writeln!(out, "{name}::added_via_api::{}", cluster.added_via_api);
    if !cluster.eds_service_name.is_empty() {
        let _ = writeln!(out, "{name}::eds_service_name::{}", cluster.eds_service_name);
    }
    cluster.hosts.iter().for_each(|host| host_text(out, name, host));
}

fn host_text(out: &mut String, cluster: &str, status: &HostStatus) {
    let host = &status.host;
    let address = host.current_address();
    let mut metrics: Vec<_> = counters(&host.stats).into_iter().chain(gauges(&host.stats)).collect();
    metrics.sort_by_key(|(key, _)| *key);
    for (key, value) in metrics {
        let _ = writeln!(out, "{cluster}::{address}::{key}::{value}");
    }
    let Locality { region, zone, sub_zone } = &*host.locality;
    let facts: [(&str, &dyn std::fmt::Display); 10] = [
        ("hostname", &host.hostname),
        ("health_flags", &host.health_flags()),
        ("weight", &host.weight()),
        ("region", region),
        ("zone", zone),
        ("sub_zone", sub_zone),
        ("canary", &host.canary),
        ("priority", &host.priority),
        ("success_rate", &status.success_rate),
        ("local_origin_success_rate", &status.local_origin_success_rate),
    ];
    for (key, value) in facts {
        let _ = writeln!(out, "{cluster}::{address}::{key}::{value}");
    }
}

fn status(cluster: &Cluster) -> pb::ClusterStatus {
    let percent = |value: Option<f64>| value.filter(|value| *value > 0.0).map(|value| Percent { value });
    let outlier = cluster.outlier.as_ref();
    let limits = |priority: core::RoutingPriority, limits: &Thresholds| cluster::circuit_breakers::Thresholds {
        priority: priority.into(),
        max_connections: Some(limits.max_connections),
        max_pending_requests: Some(limits.max_pending_requests),
        max_requests: Some(limits.max_requests),
        max_retries: Some(limits.max_retries),
        ..Default::default()
    };
    let thresholds = vec![
        limits(core::RoutingPriority::Default, &cluster.default_priority),
        limits(core::RoutingPriority::High, &cluster.high_priority),
    ];
    pb::ClusterStatus {
        name: cluster.name.clone(),
        added_via_api: cluster.added_via_api,
        success_rate_ejection_threshold: percent(outlier.map(|o| o.success_rate_ejection_threshold)),
        host_statuses: cluster.hosts.iter().map(host_status).collect(),
        local_origin_success_rate_ejection_threshold: percent(
            outlier.map(|o| o.local_origin_success_rate_ejection_threshold),
        ),
        circuit_breakers: Some(cluster::CircuitBreakers { thresholds, ..Default::default() }),
        observability_name: cluster.observability_name.clone(),
        eds_service_name: cluster.eds_service_name.clone(),
    }
}

fn host_status(status: &HostStatus) -> pb::HostStatus {
    let host = &status.host;
    let metric = |kind: Type| {
        move |(name, value): (&str, u64)| pb::SimpleMetric { r#type: kind.into(), value, name: name.to_owned() }
    };
    let counters = counters(&host.stats).into_iter().map(metric(Type::Counter));
    let gauges = gauges(&host.stats).into_iter().map(metric(Type::Gauge));
    let percent = |value: f64| (value >= 0.0).then_some(Percent { value });
    pb::HostStatus {
        address: Some(address(&host.current_address())),
        stats: counters.chain(gauges).collect(),
        health_status: Some(health_status(host.health_flags())),
        success_rate: percent(status.success_rate),
        weight: host.weight(),
        hostname: host.hostname.to_string(),
        priority: host.priority,
        local_origin_success_rate: percent(status.local_origin_success_rate),
        locality: Some(locality(&host.locality)),
    }
}

fn health_status(flags: HealthFlags) -> pb::HostHealthStatus {
    let has = |flag: u32| flags.0 & flag != 0;
    pb::HostHealthStatus {
        failed_active_health_check: has(HealthFlags::FAILED_ACTIVE_HC),
        failed_outlier_check: has(HealthFlags::FAILED_OUTLIER_CHECK),
        failed_active_degraded_check: has(HealthFlags::DEGRADED_ACTIVE_HC),
        pending_dynamic_removal: has(HealthFlags::PENDING_DYNAMIC_REMOVAL),
        pending_active_hc: has(HealthFlags::PENDING_ACTIVE_HC),
        excluded_via_immediate_hc_fail: has(HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL),
        active_hc_timeout: has(HealthFlags::ACTIVE_HC_TIMEOUT),
        failed_degraded_outlier_detection: false,
        eds_health_status: eds_health(flags).into(),
    }
}

/// What EDS said of a host.
fn eds_health(flags: HealthFlags) -> core::HealthStatus {
    let has = |flag: u32| flags.0 & flag != 0;
    if has(HealthFlags::FAILED_EDS_HEALTH) {
        core::HealthStatus::Unhealthy
    } else if has(HealthFlags::EDS_STATUS_DRAINING) {
        core::HealthStatus::Draining
    } else if has(HealthFlags::DEGRADED_EDS_HEALTH) {
        core::HealthStatus::Degraded
    } else {
        core::HealthStatus::Healthy
    }
}

/// A locality as protobuf.
pub fn locality(locality: &Locality) -> core::Locality {
    core::Locality {
        region: locality.region.to_string(),
        zone: locality.zone.to_string(),
        sub_zone: locality.sub_zone.to_string(),
    }
}
