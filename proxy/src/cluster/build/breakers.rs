//! `envoy.config.cluster.v3.CircuitBreakers`.

use xds_protos::envoy::config::cluster::v3 as pb;
use xds_protos::envoy::config::core::v3::RoutingPriority;

use super::fields::refuse;
use crate::cluster::{RetryBudget, Thresholds};
use crate::config::{Path, Reject, percent};

/// The thresholds of both priorities, DEFAULT first. Of several for one priority the first counts, as in Envoy.
pub(super) fn build(proto: Option<&pb::CircuitBreakers>, path: &Path<'_>) -> Result<[Thresholds; 2], Reject> {
    let mut of_priority = [None, None];
    let Some(pb::CircuitBreakers { thresholds, per_host_thresholds }) = proto else { return Ok(Default::default()) };
    refuse(&[(!per_host_thresholds.is_empty(), "per_host_thresholds")], path)?;
    let path = path.field("thresholds");
    for (index, proto) in thresholds.iter().enumerate() {
        let path = path.index(index);
        let built = thresholds_of(proto, &path)?;
        let [default, high] = &mut of_priority;
        match RoutingPriority::try_from(proto.priority) {
            Ok(RoutingPriority::Default) => default.get_or_insert(built),
            Ok(RoutingPriority::High) => high.get_or_insert(built),
            Err(_) => {
                let why = format_args!("expected DEFAULT or HIGH, got {}", proto.priority);
                return Err(path.field("priority").reject(why));
            }
        };
    }
    Ok(of_priority.map(Option::unwrap_or_default))
}

fn thresholds_of(proto: &pb::circuit_breakers::Thresholds, path: &Path<'_>) -> Result<Thresholds, Reject> {
    let pb::circuit_breakers::Thresholds {
        priority: _,
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        track_remaining,
        max_connection_pools,
    } = proto;
    let default = Thresholds::default();
    let retry_budget =
        retry_budget.as_ref().map(|budget| budget_of(budget, &path.field("retry_budget"))).transpose()?;
    Ok(Thresholds {
        max_connections: max_connections.unwrap_or(default.max_connections),
        max_pending_requests: max_pending_requests.unwrap_or(default.max_pending_requests),
        max_requests: max_requests.unwrap_or(default.max_requests),
        max_retries: max_retries.unwrap_or(default.max_retries),
        max_connection_pools: *max_connection_pools,
        retry_budget,
        track_remaining: *track_remaining,
    })
}

fn budget_of(proto: &pb::circuit_breakers::thresholds::RetryBudget, path: &Path<'_>) -> Result<RetryBudget, Reject> {
    let pb::circuit_breakers::thresholds::RetryBudget { budget_percent, budget_interval, min_retry_concurrency } =
        proto;
    let interval = budget_interval.as_ref().is_some_and(|interval| *interval != Default::default());
    refuse(&[(interval, "budget_interval")], path)?;
    let budget_percent = match budget_percent {
        Some(value) => percent::percent(value, &path.field("budget_percent"))?,
        None => 20.0,
    };
    Ok(RetryBudget { budget_percent, min_retry_concurrency: min_retry_concurrency.unwrap_or(3) })
}
