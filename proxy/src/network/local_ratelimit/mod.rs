//! `envoy.filters.network.local_ratelimit`: at most so many new connections, over all workers.
//!
//! Deliberately missing: `share_key`, by which filters share a bucket, is refused.

use std::sync::Arc;
use std::time::Instant;

use prost_types::Any;
use xds_protos::envoy::extensions::filters::network::local_ratelimit::v3 as pb;

use super::{BuiltFilter, Close, ListenerCx, NetworkFilter, NetworkStep};
use crate::config::{Path, Reject, values};
use crate::runtime::Live;
use crate::stat_block;
use crate::stats::StatBlock;
use crate::stream_info::{ConnectionInfo, ResponseFlags};

mod bucket;

pub use bucket::{BucketSpec, TokenBucket};

stat_block! {
    /// Scope `local_rate_limit.<stat_prefix>`.
    pub struct NetworkLocalRateLimitStats {
        counter RATE_LIMITED,
    }
}

struct LocalRateLimit {
    bucket: TokenBucket,
    enabled: Live<bool>,
    stats: StatBlock<NetworkLocalRateLimitStats>,
}

/// # Errors
/// Without a `stat_prefix` or a usable bucket, and for `share_key`.
pub fn build(config: &Any, path: &Path<'_>, cx: &ListenerCx<'_>) -> Result<BuiltFilter, Reject> {
    let pb::LocalRateLimit { stat_prefix, token_bucket, runtime_enabled, share_key } = values::decode(config, path)?;
    if stat_prefix.is_empty() {
        return Err(path.field("stat_prefix").reject("expected at least one character"));
    }
    if !share_key.is_empty() {
        return Err(path.field("share_key").reject("sharing a token bucket between filters is not supported"));
    }
    let at = path.field("token_bucket");
    let bucket = token_bucket.as_ref().ok_or_else(|| at.reject("expected a token bucket, got none"))?;
    let enabled = runtime_enabled.as_ref().map(|flag| cx.runtime.feature_flag(flag, &path.field("runtime_enabled")));
    Ok(BuiltFilter::Network(Arc::new(LocalRateLimit {
        bucket: TokenBucket::new(BucketSpec::build(bucket, &at)?, Instant::now()),
        enabled: enabled.transpose()?.unwrap_or_else(|| Live::fixed(true)),
        stats: cx.stats.block_verbatim(&format!("local_rate_limit.{stat_prefix}")),
    })))
}

impl NetworkFilter for LocalRateLimit {
    fn on_new_connection(&self, _: &ConnectionInfo) -> NetworkStep {
        if !self.enabled.get() || self.bucket.take(Instant::now()) {
            return NetworkStep::Continue;
        }
        self.stats.inc(NetworkLocalRateLimitStats::RATE_LIMITED);
        NetworkStep::Close(Close {
            local_close_reason: Some("local_ratelimit_close_over_limit".into()),
            flags: ResponseFlags::RATE_LIMITED,
            ..Close::default()
        })
    }
}
