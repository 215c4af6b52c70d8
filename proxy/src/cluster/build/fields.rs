//! Every field of `envoy.config.cluster.v3.Cluster`: used, refused, or ignored for a reason. A field that a new version of
//! the API adds does not compile here until somebody decided.

use xds_protos::envoy::config::cluster::v3 as pb;

use crate::config::{Path, Reject};

/// Refuses what cannot be done yet.
#[allow(deprecated, reason = "deprecated fields are fields")]
pub(super) fn check(proto: &pb::Cluster, path: &Path<'_>) -> Result<(), Reject> {
    let pb::Cluster {
        // Used, by `build` and the modules beside this one.
        name: _,
        alt_stat_name: _,
        connect_timeout: _,
        per_connection_buffer_limit_bytes: _,
        metadata: _,
        cluster_discovery_type: _,
        load_assignment: _,
        lb_policy: _,
        lb_config: _,
        load_balancing_policy: _,
        common_lb_config,
        circuit_breakers: _,
        transport_socket: _,
        transport_socket_matches: _,
        upstream_bind_config: _,
        upstream_connection_options: _,
        typed_extension_protocol_options: _,
        max_requests_per_connection: _,
        upstream_http_protocol_options: _,
        common_http_protocol_options: _,
        http_protocol_options: _,
        http2_protocol_options: _,
        protocol_selection: _,
        dns_refresh_rate: _,
        dns_jitter: _,
        dns_failure_refresh_rate: _,
        respect_dns_ttl: _,
        dns_lookup_family: _,
        dns_resolvers: _,
        use_tcp_for_dns_lookups: _,
        dns_resolution_config: _,
        typed_dns_resolver_config: _,
        wait_for_warm_on_init: _,
        cleanup_interval: _,
        eds_cluster_config: _,
        outlier_detection: _,
        // Ignored: both say what to do when active health checking fails a host, and there is none.
        close_connections_on_host_health_failure: _,
        ignore_health_on_host_removal: _,
        // Refused.
        transport_socket_matcher,
        stats_matcher,
        per_connection_buffer_high_watermark_timeout,
        health_checks,
        lb_subset_config,
        filters,
        lrs_server,
        lrs_report_endpoint_metrics,
        track_timeout_budgets,
        upstream_config,
        track_cluster_stats,
        preconnect_policy,
        connection_pool_per_downstream_connection,
        queuing_policies,
    } = proto;
    let watermark_timeout = per_connection_buffer_high_watermark_timeout.as_ref();
    let refused = [
        (transport_socket_matcher.is_some(), "transport_socket_matcher"),
        (stats_matcher.is_some(), "stats_matcher"),
        (watermark_timeout.is_some_and(|d| *d != Default::default()), "per_connection_buffer_high_watermark_timeout"),
        (!health_checks.is_empty(), "health_checks"),
        // Without selectors Envoy makes no subsets.
        (lb_subset_config.as_ref().is_some_and(|subset| !subset.subset_selectors.is_empty()), "lb_subset_config"),
        (!filters.is_empty(), "filters"),
        (lrs_server.is_some(), "lrs_server"),
        (!lrs_report_endpoint_metrics.is_empty(), "lrs_report_endpoint_metrics"),
        (*track_timeout_budgets, "track_timeout_budgets"),
        (upstream_config.is_some(), "upstream_config"),
        (track_cluster_stats.as_ref().is_some_and(|track| *track != Default::default()), "track_cluster_stats"),
        (preconnect_policy.as_ref().is_some_and(|policy| *policy != Default::default()), "preconnect_policy"),
        (*connection_pool_per_downstream_connection, "connection_pool_per_downstream_connection"),
        (queuing_policies.is_some(), "queuing_policies"),
    ];
    refuse(&refused, path)?;
    check_common_lb_config(common_lb_config.as_ref(), &path.field("common_lb_config"))
}

fn check_common_lb_config(proto: Option<&pb::cluster::CommonLbConfig>, path: &Path<'_>) -> Result<(), Reject> {
    use pb::cluster::common_lb_config::LocalityConfigSpecifier;
    let Some(pb::cluster::CommonLbConfig {
        healthy_panic_threshold: _,
        // Ignored: when updates reach the workers is not observable otherwise than by being late.
        update_merge_window: _,
        // Ignored: there are no active health checks to wait for.
        ignore_new_hosts_until_first_hc: _,
        close_connections_on_host_set_change,
        // Used by `policy`.
        consistent_hashing_lb_config: _,
        // Ignored: for sessions that are bound to a host, which are refused where they are configured.
        override_host_status: _,
        locality_config_specifier,
    }) = proto
    else {
        return Ok(());
    };
    let zone_aware = matches!(locality_config_specifier, Some(LocalityConfigSpecifier::ZoneAwareLbConfig(_)));
    let weighted = matches!(locality_config_specifier, Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(_)));
    let refused = [
        (*close_connections_on_host_set_change, "close_connections_on_host_set_change"),
        (zone_aware, "zone_aware_lb_config"),
        (weighted, "locality_weighted_lb_config"),
    ];
    refuse(&refused, path)
}

/// Refuses the first field that is there.
pub fn refuse(fields: &[(bool, &str)], path: &Path<'_>) -> Result<(), Reject> {
    match fields.iter().find(|(present, _)| *present) {
        Some((_, field)) => Err(path.field(field).reject("not supported yet")),
        None => Ok(()),
    }
}
