//! `ring_hash_lb_config`, `maglev_lb_config`, `consistent_hashing_lb_config`, and their forms in `load_balancing_policy`.

use xds_protos::envoy::config::cluster::v3 as pb;
use xds_protos::envoy::config::cluster::v3::cluster::DiscoveryType;
use xds_protos::envoy::extensions::load_balancing_policies::common::v3::ConsistentHashingLbConfig;
use xds_protos::envoy::extensions::load_balancing_policies::ring_hash;

use super::fields::refuse;
use crate::config::{Path, Reject};
use crate::lb::{HashFunction, HashKind, HashPolicy, Policy};

const MAX_RING: u64 = 8 << 20;
const MAX_TABLE: u64 = 5_000_011;

pub(super) fn ring(
    minimum: Option<u64>,
    maximum: Option<u64>,
    function: HashFunction,
    path: &Path<'_>,
) -> Result<HashKind, Reject> {
    let (minimum_ring_size, maximum_ring_size) = (minimum.unwrap_or(1024), maximum.unwrap_or(MAX_RING));
    for (size, field) in [(minimum_ring_size, "minimum_ring_size"), (maximum_ring_size, "maximum_ring_size")] {
        if size > MAX_RING {
            return Err(path.field(field).reject(format_args!("expected at most {MAX_RING}, got {size}")));
        }
    }
    if minimum_ring_size > maximum_ring_size {
        let why = format_args!("expected at most maximum_ring_size, {maximum_ring_size}, got {minimum_ring_size}");
        return Err(path.field("minimum_ring_size").reject(why));
    }
    Ok(HashKind::Ring { minimum_ring_size, maximum_ring_size, function })
}

pub(super) fn maglev(size: Option<u64>, path: &Path<'_>) -> Result<HashKind, Reject> {
    let size = size.unwrap_or(65537);
    match u32::try_from(size) {
        Ok(table_size) if size <= MAX_TABLE && is_prime(table_size) => Ok(HashKind::Maglev { table_size }),
        _ => {
            let why = format_args!("expected a prime number of at most {MAX_TABLE}, got {size}");
            Err(path.field("table_size").reject(why))
        }
    }
}

fn is_prime(number: u32) -> bool {
    let mut divisors = (2..).take_while(|d| d * d <= number);
    number > 1 && divisors.all(|divisor| !number.is_multiple_of(divisor))
}

#[allow(deprecated, reason = "this is what reads them")]
pub(super) fn ring_hash(proto: &ring_hash::v3::RingHash, path: &Path<'_>) -> Result<Policy, Reject> {
    use ring_hash::v3::ring_hash::HashFunction as Function;
    let ring_hash::v3::RingHash {
        hash_function,
        minimum_ring_size,
        maximum_ring_size,
        use_hostname_for_hashing,
        hash_balance_factor,
        consistent_hashing_lb_config,
        locality_weighted_lb_config,
    } = proto;
    refuse(&[(locality_weighted_lb_config.is_some(), "locality_weighted_lb_config")], path)?;
    let function = match Function::try_from(*hash_function) {
        Ok(Function::DefaultHash | Function::XxHash) => HashFunction::XxHash,
        Ok(Function::MurmurHash2) => HashFunction::MurmurHash2,
        Err(_) => return Err(unknown_function(*hash_function, path)),
    };
    let kind = ring(*minimum_ring_size, *maximum_ring_size, function, path)?;
    let own = (*use_hostname_for_hashing, *hash_balance_factor);
    consistent(kind, consistent_hashing_lb_config.as_ref(), own, path)
}

/// `own`: name and factor where the policy has fields for them.
pub(super) fn consistent(
    kind: HashKind,
    proto: Option<&ConsistentHashingLbConfig>,
    own: (bool, Option<u32>),
    path: &Path<'_>,
) -> Result<Policy, Reject> {
    let Some(ConsistentHashingLbConfig { use_hostname_for_hashing, hash_balance_factor, hash_policy }) = proto else {
        return policy(kind, own.0, own.1, path);
    };
    let path = path.field("consistent_hashing_lb_config");
    refuse(&[(!hash_policy.is_empty(), "hash_policy")], &path)?;
    policy(kind, *use_hostname_for_hashing, *hash_balance_factor, &path)
}

/// With `common_lb_config.consistent_hashing_lb_config`.
pub(super) fn from_cluster(kind: HashKind, proto: &pb::Cluster, common: &Path<'_>) -> Result<Policy, Reject> {
    let config = proto.common_lb_config.as_ref().and_then(|common| common.consistent_hashing_lb_config.as_ref());
    let path = common.field("consistent_hashing_lb_config");
    let (name, factor) = config.map_or((false, None), |c| (c.use_hostname_for_hashing, c.hash_balance_factor));
    if name && super::discovery_type(proto) != Some(DiscoveryType::StrictDns) {
        return Err(path.field("use_hostname_for_hashing").reject("only for clusters of type STRICT_DNS"));
    }
    policy(kind, name, factor, &path)
}

fn policy(
    kind: HashKind,
    use_hostname_for_hashing: bool,
    hash_balance_factor: Option<u32>,
    path: &Path<'_>,
) -> Result<Policy, Reject> {
    if let Some(factor @ ..100) = hash_balance_factor {
        return Err(path.field("hash_balance_factor").reject(format_args!("expected at least 100, got {factor}")));
    }
    Ok(Policy::Hash(HashPolicy { kind, use_hostname_for_hashing, hash_balance_factor }))
}

pub(super) fn unknown_function(number: i32, path: &Path<'_>) -> Reject {
    path.field("hash_function").reject(format_args!("unknown function {number}"))
}
