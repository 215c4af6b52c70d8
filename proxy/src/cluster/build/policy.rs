//! `lb_policy` with its configuration, or `load_balancing_policy` with the same in another form.

use xds_protos::envoy::config::cluster::v3 as pb;
use xds_protos::envoy::config::cluster::v3::cluster::{DiscoveryType, LbConfig, LbPolicy};
use xds_protos::envoy::config::core::v3::RuntimeDouble;
use xds_protos::envoy::extensions::load_balancing_policies::common::v3::{LocalityLbConfig, SlowStartConfig};
use xds_protos::envoy::extensions::load_balancing_policies::{least_request, maglev, random, round_robin};

use super::ClusterCx;
use super::fields::refuse;
use super::hashing::{self, unknown_function};
use crate::config::{Path, Reject, values};
use crate::lb::{HashFunction, LeastRequest, Policy};

/// What picks hosts: a policy, or the cluster itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Chosen {
    Policy(Policy),
    ClusterProvided,
}

pub(super) fn build(proto: &pb::Cluster, path: &Path<'_>, cx: &ClusterCx<'_>) -> Result<Chosen, Reject> {
    let chosen = match &proto.load_balancing_policy {
        Some(policy) => from_list(policy, &path.field("load_balancing_policy"), cx)?,
        None => from_enum(proto, path, cx)?,
    };
    let original_dst = super::discovery_type(proto) == Some(DiscoveryType::OriginalDst);
    match chosen {
        Chosen::ClusterProvided if !original_dst => {
            Err(path.field("lb_policy").reject("CLUSTER_PROVIDED is only for clusters of type ORIGINAL_DST"))
        }
        Chosen::Policy(_) if original_dst => {
            Err(path.field("lb_policy").reject("expected CLUSTER_PROVIDED, the only one for type ORIGINAL_DST"))
        }
        chosen => Ok(chosen),
    }
}

fn from_enum(proto: &pb::Cluster, path: &Path<'_>, cx: &ClusterCx<'_>) -> Result<Chosen, Reject> {
    let at = path.field("lb_policy");
    let common = path.field("common_lb_config");
    // A configuration for another policy than the chosen one has no effect in Envoy either.
    let policy = match LbPolicy::try_from(proto.lb_policy) {
        Ok(LbPolicy::RoundRobin) => {
            if let Some(LbConfig::RoundRobinLbConfig(config)) = &proto.lb_config {
                let path = path.field("round_robin_lb_config");
                refuse_slow_start(config.slow_start_config.as_ref().and_then(|c| c.slow_start_window.as_ref()), &path)?;
            }
            Policy::RoundRobin
        }
        Ok(LbPolicy::LeastRequest) => {
            let path = path.field("least_request_lb_config");
            let Some(LbConfig::LeastRequestLbConfig(config)) = &proto.lb_config else {
                return Ok(Chosen::Policy(Policy::LeastRequest(LeastRequest::default())));
            };
            let pb::cluster::LeastRequestLbConfig { choice_count, active_request_bias, slow_start_config } = config;
            refuse_slow_start(slow_start_config.as_ref().and_then(|c| c.slow_start_window.as_ref()), &path)?;
            Policy::LeastRequest(LeastRequest {
                choice_count: choices(*choice_count, &path)?,
                active_request_bias: bias(active_request_bias.as_ref(), cx),
                full_scan: false,
            })
        }
        Ok(LbPolicy::Random) => Policy::Random,
        Ok(LbPolicy::ClusterProvided) => return Ok(Chosen::ClusterProvided),
        Ok(LbPolicy::LoadBalancingPolicyConfig) => {
            return Err(path.field("load_balancing_policy").reject("expected a policy, got none"));
        }
        Ok(LbPolicy::RingHash) => {
            let config = match &proto.lb_config {
                Some(LbConfig::RingHashLbConfig(config)) => *config,
                _ => Default::default(),
            };
            let path = path.field("ring_hash_lb_config");
            let function = match pb::cluster::ring_hash_lb_config::HashFunction::try_from(config.hash_function) {
                Ok(pb::cluster::ring_hash_lb_config::HashFunction::XxHash) => HashFunction::XxHash,
                Ok(pb::cluster::ring_hash_lb_config::HashFunction::MurmurHash2) => HashFunction::MurmurHash2,
                Err(_) => return Err(unknown_function(config.hash_function, &path)),
            };
            let kind = hashing::ring(config.minimum_ring_size, config.maximum_ring_size, function, &path)?;
            hashing::from_cluster(kind, proto, &common)?
        }
        Ok(LbPolicy::Maglev) => {
            let size = match &proto.lb_config {
                Some(LbConfig::MaglevLbConfig(config)) => config.table_size,
                _ => None,
            };
            hashing::from_cluster(hashing::maglev(size, &path.field("maglev_lb_config"))?, proto, &common)?
        }
        Err(_) => return Err(at.reject(format_args!("unknown policy {}", proto.lb_policy))),
    };
    Ok(Chosen::Policy(policy))
}

/// The first policy of the list that is known here.
fn from_list(proto: &pb::LoadBalancingPolicy, path: &Path<'_>, cx: &ClusterCx<'_>) -> Result<Chosen, Reject> {
    let path = path.field("policies");
    let mut unknown = Vec::new();
    for (index, policy) in proto.policies.iter().enumerate() {
        let extension = policy.typed_extension_config.as_ref();
        let Some(config) = extension.and_then(|extension| extension.typed_config.as_ref()) else { continue };
        let at = path.index(index);
        let at = at.field("typed_extension_config");
        let at = at.field("typed_config");
        let built = match config.type_url.rsplit('/').next().unwrap_or_default() {
            "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin" => {
                let round_robin::v3::RoundRobin { slow_start_config, locality_lb_config } =
                    values::decode(config, &at)?;
                refuse_common(slow_start_config.as_ref(), locality_lb_config.as_ref(), &at)?;
                Policy::RoundRobin
            }
            "envoy.extensions.load_balancing_policies.random.v3.Random" => {
                let random::v3::Random { locality_lb_config } = values::decode(config, &at)?;
                refuse_common(None, locality_lb_config.as_ref(), &at)?;
                Policy::Random
            }
            "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest" => {
                Policy::LeastRequest(least_request(&values::decode(config, &at)?, &at, cx)?)
            }
            "envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash" => {
                hashing::ring_hash(&values::decode(config, &at)?, &at)?
            }
            "envoy.extensions.load_balancing_policies.maglev.v3.Maglev" => {
                let maglev::v3::Maglev { table_size, consistent_hashing_lb_config, locality_weighted_lb_config } =
                    values::decode(config, &at)?;
                refuse(&[(locality_weighted_lb_config.is_some(), "locality_weighted_lb_config")], &at)?;
                let kind = hashing::maglev(table_size, &at)?;
                hashing::consistent(kind, consistent_hashing_lb_config.as_ref(), (false, None), &at)?
            }
            "envoy.extensions.load_balancing_policies.cluster_provided.v3.ClusterProvided" => {
                return Ok(Chosen::ClusterProvided);
            }
            name => {
                unknown.push(name);
                continue;
            }
        };
        return Ok(Chosen::Policy(built));
    }
    let unknown = unknown.join(", ");
    Err(path.reject(format_args!("expected a policy that is supported, got [{unknown}]")))
}

#[allow(deprecated, reason = "enable_full_scan still counts")]
fn least_request(
    proto: &least_request::v3::LeastRequest,
    path: &Path<'_>,
    cx: &ClusterCx<'_>,
) -> Result<LeastRequest, Reject> {
    use least_request::v3::least_request::SelectionMethod;
    let least_request::v3::LeastRequest {
        choice_count,
        active_request_bias,
        slow_start_config,
        locality_lb_config,
        enable_full_scan,
        selection_method,
    } = proto;
    refuse_common(slow_start_config.as_ref(), locality_lb_config.as_ref(), path)?;
    let full_scan = match SelectionMethod::try_from(*selection_method) {
        Ok(SelectionMethod::NChoices) => enable_full_scan.unwrap_or(false),
        Ok(SelectionMethod::FullScan) => true,
        Err(_) => {
            let why = format_args!("expected N_CHOICES or FULL_SCAN, got {selection_method}");
            return Err(path.field("selection_method").reject(why));
        }
    };
    let choice_count = choices(*choice_count, path)?;
    Ok(LeastRequest { choice_count, active_request_bias: bias(active_request_bias.as_ref(), cx), full_scan })
}

fn choices(choice_count: Option<u32>, path: &Path<'_>) -> Result<u32, Reject> {
    match choice_count.unwrap_or(2) {
        count @ 2.. => Ok(count),
        count => Err(path.field("choice_count").reject(format_args!("expected at least 2, got {count}"))),
    }
}

/// Envoy takes 1 for a negative bias.
fn bias(proto: Option<&RuntimeDouble>, cx: &ClusterCx<'_>) -> f64 {
    let bias = proto.map_or(1.0, |proto| cx.runtime.runtime_double(proto).get());
    if bias >= 0.0 { bias } else { 1.0 }
}

fn refuse_slow_start(window: Option<&prost_types::Duration>, path: &Path<'_>) -> Result<(), Reject> {
    // Without a window nothing starts slowly.
    refuse(&[(window.is_some_and(|window| *window != Default::default()), "slow_start_config")], path)
}

fn refuse_common(
    slow_start: Option<&SlowStartConfig>,
    locality: Option<&LocalityLbConfig>,
    path: &Path<'_>,
) -> Result<(), Reject> {
    refuse_slow_start(slow_start.and_then(|config| config.slow_start_window.as_ref()), path)?;
    let locality = locality.is_some_and(|config| config.locality_config_specifier.is_some());
    refuse(&[(locality, "locality_lb_config")], path)
}
