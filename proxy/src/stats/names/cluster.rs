//! Stats of a cluster: `cluster.<alt_stat_name or name>.`
//!
//! [`ClusterStats`] is what every cluster has, in one block so that an idle cluster stays small; the other families exist
//! for clusters that configure what they count.

use crate::stat_block;
use crate::stats::Gauge;

stat_block! {
    /// Scope `cluster.<name>`.
    pub struct ClusterStats {
        /// Every response: `upstream_rq_completed`, `upstream_rq_2xx`, `upstream_rq_200`.
        codes UPSTREAM_RQ = "upstream_rq_",
        /// Responses to requests with `x-envoy-internal: true`.
        lazy_codes INTERNAL_UPSTREAM_RQ = "internal.upstream_rq_",
        /// Responses to all other requests.
        lazy_codes EXTERNAL_UPSTREAM_RQ = "external.upstream_rq_",
        /// Responses of hosts marked canary, or with `x-envoy-upstream-canary: true`.
        lazy_codes CANARY_UPSTREAM_RQ = "canary.upstream_rq_",
        /// Responses for which a request was sent again.
        lazy_codes RETRY_UPSTREAM_RQ = "retry.upstream_rq_",
        lazy_histogram INTERNAL_UPSTREAM_RQ_TIME(Milliseconds) = "internal.upstream_rq_time",
        lazy_histogram EXTERNAL_UPSTREAM_RQ_TIME(Milliseconds) = "external.upstream_rq_time",
        lazy_histogram CANARY_UPSTREAM_RQ_TIME(Milliseconds) = "canary.upstream_rq_time",
        counter ASSIGNMENT_STALE,
        counter ASSIGNMENT_TIMEOUT_RECEIVED,
        counter ASSIGNMENT_USE_CACHED,
        counter BIND_ERRORS,
        gauge CIRCUIT_BREAKERS_DEFAULT_CX_OPEN = "circuit_breakers.default.cx_open",
        gauge CIRCUIT_BREAKERS_DEFAULT_CX_POOL_OPEN = "circuit_breakers.default.cx_pool_open",
        gauge CIRCUIT_BREAKERS_DEFAULT_RQ_OPEN = "circuit_breakers.default.rq_open",
        gauge CIRCUIT_BREAKERS_DEFAULT_RQ_PENDING_OPEN = "circuit_breakers.default.rq_pending_open",
        gauge CIRCUIT_BREAKERS_DEFAULT_RQ_RETRY_OPEN = "circuit_breakers.default.rq_retry_open",
        gauge CIRCUIT_BREAKERS_HIGH_CX_OPEN = "circuit_breakers.high.cx_open",
        gauge CIRCUIT_BREAKERS_HIGH_CX_POOL_OPEN = "circuit_breakers.high.cx_pool_open",
        gauge CIRCUIT_BREAKERS_HIGH_RQ_OPEN = "circuit_breakers.high.rq_open",
        gauge CIRCUIT_BREAKERS_HIGH_RQ_PENDING_OPEN = "circuit_breakers.high.rq_pending_open",
        gauge CIRCUIT_BREAKERS_HIGH_RQ_RETRY_OPEN = "circuit_breakers.high.rq_retry_open",
        counter DEFAULT_TOTAL_MATCH_COUNT = "default.total_match_count",
        counter LB_HEALTHY_PANIC,
        counter LB_LOCAL_CLUSTER_NOT_OK,
        counter LB_RECALCULATE_ZONE_STRUCTURES,
        gauge LB_SUBSETS_ACTIVE,
        counter LB_SUBSETS_CREATED,
        counter LB_SUBSETS_FALLBACK,
        counter LB_SUBSETS_FALLBACK_PANIC,
        counter LB_SUBSETS_REMOVED,
        counter LB_SUBSETS_SELECTED,
        counter LB_ZONE_CLUSTER_TOO_SMALL,
        counter LB_ZONE_NO_CAPACITY_LEFT,
        counter LB_ZONE_ROUTING_ALL_DIRECTLY,
        counter LB_ZONE_ROUTING_CROSS_ZONE,
        counter LB_ZONE_ROUTING_SAMPLED,
        gauge MAX_HOST_WEIGHT,
        counter MEMBERSHIP_CHANGE,
        gauge MEMBERSHIP_DEGRADED,
        gauge MEMBERSHIP_EXCLUDED,
        gauge MEMBERSHIP_HEALTHY,
        gauge MEMBERSHIP_TOTAL,
        counter ORIGINAL_DST_HOST_INVALID,
        counter RETRY_OR_SHADOW_ABANDONED,
        counter UPDATE_ATTEMPT,
        counter UPDATE_EMPTY,
        counter UPDATE_FAILURE,
        counter UPDATE_NO_REBUILD,
        counter UPDATE_SUCCESS,
        gauge UPSTREAM_CX_ACTIVE,
        counter UPSTREAM_CX_CLOSE_NOTIFY,
        counter UPSTREAM_CX_CONNECT_ATTEMPTS_EXCEEDED,
        counter UPSTREAM_CX_CONNECT_FAIL,
        histogram UPSTREAM_CX_CONNECT_MS(Milliseconds),
        counter UPSTREAM_CX_CONNECT_TIMEOUT,
        counter UPSTREAM_CX_CONNECT_WITH_0_RTT,
        counter UPSTREAM_CX_DESTROY,
        counter UPSTREAM_CX_DESTROY_LOCAL,
        counter UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ,
        counter UPSTREAM_CX_DESTROY_REMOTE,
        counter UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ,
        counter UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ,
        counter UPSTREAM_CX_HTTP1_TOTAL,
        counter UPSTREAM_CX_HTTP2_TOTAL,
        counter UPSTREAM_CX_HTTP3_TOTAL,
        counter UPSTREAM_CX_IDLE_TIMEOUT,
        histogram UPSTREAM_CX_LENGTH_MS(Milliseconds),
        counter UPSTREAM_CX_MAX_DURATION_REACHED,
        counter UPSTREAM_CX_MAX_REQUESTS,
        counter UPSTREAM_CX_NONE_HEALTHY,
        counter UPSTREAM_CX_OVERFLOW,
        counter UPSTREAM_CX_POOL_OVERFLOW,
        counter UPSTREAM_CX_PRECONNECT_SKIPPED,
        counter UPSTREAM_CX_PROTOCOL_ERROR,
        gauge UPSTREAM_CX_RX_BYTES_BUFFERED,
        counter UPSTREAM_CX_RX_BYTES_TOTAL,
        counter UPSTREAM_CX_TOTAL,
        gauge UPSTREAM_CX_TX_BYTES_BUFFERED,
        counter UPSTREAM_CX_TX_BYTES_TOTAL,
        counter UPSTREAM_FLOW_CONTROL_BACKED_UP_TOTAL,
        counter UPSTREAM_FLOW_CONTROL_DRAINED_TOTAL,
        counter UPSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL,
        counter UPSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL,
        counter UPSTREAM_HTTP3_BROKEN,
        counter UPSTREAM_INTERNAL_REDIRECT_FAILED_TOTAL,
        counter UPSTREAM_INTERNAL_REDIRECT_SUCCEEDED_TOTAL,
        gauge UPSTREAM_QUEUE_OVERLOADED,
        counter UPSTREAM_RQ_0RTT,
        gauge UPSTREAM_RQ_ACTIVE,
        counter UPSTREAM_RQ_ACTIVE_OVERFLOW,
        counter UPSTREAM_RQ_CANCELLED,
        counter UPSTREAM_RQ_MAINTENANCE_MODE,
        counter UPSTREAM_RQ_MAX_DURATION_REACHED,
        gauge UPSTREAM_RQ_PENDING_ACTIVE,
        counter UPSTREAM_RQ_PENDING_FAILURE_EJECT,
        counter UPSTREAM_RQ_PENDING_OVERFLOW,
        counter UPSTREAM_RQ_PENDING_TOTAL,
        histogram UPSTREAM_RQ_PER_CX(Unspecified),
        counter UPSTREAM_RQ_PER_TRY_IDLE_TIMEOUT,
        counter UPSTREAM_RQ_PER_TRY_TIMEOUT,
        counter UPSTREAM_RQ_RETRY,
        counter UPSTREAM_RQ_RETRY_BACKOFF_EXPONENTIAL,
        counter UPSTREAM_RQ_RETRY_BACKOFF_RATELIMITED,
        counter UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED,
        counter UPSTREAM_RQ_RETRY_OVERFLOW,
        counter UPSTREAM_RQ_RETRY_SUCCESS,
        counter UPSTREAM_RQ_RX_RESET,
        counter UPSTREAM_RQ_RX_RESET_NO_ERROR,
        lazy_histogram UPSTREAM_RQ_TIME(Milliseconds),
        counter UPSTREAM_RQ_TIMEOUT,
        counter UPSTREAM_RQ_TOTAL,
        counter UPSTREAM_RQ_TX_RESET,
        gauge VERSION,
        gauge WARMING_STATE,
    }
}

/// The "open" gauges of one priority: 1 while the limit is reached.
#[derive(Clone, Copy, Debug)]
pub struct CircuitBreakerGauges {
    pub cx_open: Gauge<ClusterStats>,
    pub cx_pool_open: Gauge<ClusterStats>,
    pub rq_open: Gauge<ClusterStats>,
    pub rq_pending_open: Gauge<ClusterStats>,
    pub rq_retry_open: Gauge<ClusterStats>,
}

impl ClusterStats {
    pub const CIRCUIT_BREAKERS_DEFAULT: CircuitBreakerGauges = CircuitBreakerGauges {
        cx_open: Self::CIRCUIT_BREAKERS_DEFAULT_CX_OPEN,
        cx_pool_open: Self::CIRCUIT_BREAKERS_DEFAULT_CX_POOL_OPEN,
        rq_open: Self::CIRCUIT_BREAKERS_DEFAULT_RQ_OPEN,
        rq_pending_open: Self::CIRCUIT_BREAKERS_DEFAULT_RQ_PENDING_OPEN,
        rq_retry_open: Self::CIRCUIT_BREAKERS_DEFAULT_RQ_RETRY_OPEN,
    };
    pub const CIRCUIT_BREAKERS_HIGH: CircuitBreakerGauges = CircuitBreakerGauges {
        cx_open: Self::CIRCUIT_BREAKERS_HIGH_CX_OPEN,
        cx_pool_open: Self::CIRCUIT_BREAKERS_HIGH_CX_POOL_OPEN,
        rq_open: Self::CIRCUIT_BREAKERS_HIGH_RQ_OPEN,
        rq_pending_open: Self::CIRCUIT_BREAKERS_HIGH_RQ_PENDING_OPEN,
        rq_retry_open: Self::CIRCUIT_BREAKERS_HIGH_RQ_RETRY_OPEN,
    };
}

stat_block! {
    /// Scope `cluster.<name>.circuit_breakers.<default|high>`, for thresholds with `track_remaining`.
    pub struct CircuitBreakerRemainingStats {
        gauge REMAINING_CX,
        gauge REMAINING_CX_POOLS,
        gauge REMAINING_PENDING,
        gauge REMAINING_RETRIES,
        gauge REMAINING_RQ,
    }
}

stat_block! {
    /// Scope `cluster.<name>.outlier_detection`, for clusters with `outlier_detection`.
    pub struct OutlierDetectionStats {
        gauge EJECTIONS_ACTIVE,
        counter EJECTIONS_CONSECUTIVE_5XX,
        counter EJECTIONS_DETECTED_CONSECUTIVE_5XX,
        counter EJECTIONS_DETECTED_CONSECUTIVE_GATEWAY_FAILURE,
        counter EJECTIONS_DETECTED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
        counter EJECTIONS_DETECTED_DEGRADATION,
        counter EJECTIONS_DETECTED_FAILURE_PERCENTAGE,
        counter EJECTIONS_DETECTED_LOCAL_ORIGIN_FAILURE_PERCENTAGE,
        counter EJECTIONS_DETECTED_LOCAL_ORIGIN_SUCCESS_RATE,
        counter EJECTIONS_DETECTED_SUCCESS_RATE,
        counter EJECTIONS_ENFORCED_CONSECUTIVE_5XX,
        counter EJECTIONS_ENFORCED_CONSECUTIVE_GATEWAY_FAILURE,
        counter EJECTIONS_ENFORCED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
        counter EJECTIONS_ENFORCED_FAILURE_PERCENTAGE,
        counter EJECTIONS_ENFORCED_LOCAL_ORIGIN_FAILURE_PERCENTAGE,
        counter EJECTIONS_ENFORCED_LOCAL_ORIGIN_SUCCESS_RATE,
        counter EJECTIONS_ENFORCED_SUCCESS_RATE,
        counter EJECTIONS_ENFORCED_TOTAL,
        counter EJECTIONS_OVERFLOW,
        counter EJECTIONS_SUCCESS_RATE,
        counter EJECTIONS_TOTAL,
    }
}

stat_block! {
    /// Scope `cluster.<name>.health_check`, for clusters with `health_checks`.
    pub struct HealthCheckStats {
        counter ATTEMPT,
        gauge DEGRADED,
        counter FAILURE,
        gauge HEALTHY,
        counter NETWORK_FAILURE,
        counter PASSIVE_FAILURE,
        counter SUCCESS,
        counter VERIFY_CLUSTER,
    }
}

stat_block! {
    /// Scope `cluster.<name>`, for clusters with `track_cluster_stats.timeout_budgets`.
    pub struct TimeoutBudgetStats {
        histogram UPSTREAM_RQ_TIMEOUT_BUDGET_PER_TRY_PERCENT_USED(Unspecified),
        histogram UPSTREAM_RQ_TIMEOUT_BUDGET_PERCENT_USED(Unspecified),
    }
}

stat_block! {
    /// Scope `cluster.<name>`, for clusters with `track_cluster_stats.request_response_sizes`.
    pub struct RequestResponseSizeStats {
        histogram UPSTREAM_RQ_BODY_SIZE(Bytes),
        histogram UPSTREAM_RQ_HEADERS_COUNT(Unspecified),
        histogram UPSTREAM_RQ_HEADERS_SIZE(Bytes),
        histogram UPSTREAM_RS_BODY_SIZE(Bytes),
        histogram UPSTREAM_RS_HEADERS_COUNT(Unspecified),
        histogram UPSTREAM_RS_HEADERS_SIZE(Bytes),
    }
}

stat_block! {
    /// Scope `cluster.<name>.ring_hash_lb`.
    pub struct RingHashStats {
        gauge MAX_HASHES_PER_HOST,
        gauge MIN_HASHES_PER_HOST,
        gauge SIZE,
    }
}

stat_block! {
    /// Scope `cluster.<name>.maglev_lb`.
    pub struct MaglevStats {
        gauge MAX_ENTRIES_PER_HOST,
        gauge MIN_ENTRIES_PER_HOST,
    }
}
