//! Stats of the HTTP connection manager and the router: `http.<stat_prefix>.`

use crate::stat_block;
use crate::stats::Counter;

stat_block! {
    /// Scope `http.<stat_prefix>`: the connection manager.
    pub struct HttpStats {
        gauge DOWNSTREAM_CX_ACTIVE,
        counter DOWNSTREAM_CX_DELAYED_CLOSE_TIMEOUT,
        counter DOWNSTREAM_CX_DESTROY,
        counter DOWNSTREAM_CX_DESTROY_ACTIVE_RQ,
        counter DOWNSTREAM_CX_DESTROY_LOCAL,
        counter DOWNSTREAM_CX_DESTROY_LOCAL_ACTIVE_RQ,
        counter DOWNSTREAM_CX_DESTROY_REMOTE,
        counter DOWNSTREAM_CX_DESTROY_REMOTE_ACTIVE_RQ,
        counter DOWNSTREAM_CX_DRAIN_CLOSE,
        gauge DOWNSTREAM_CX_HTTP1_ACTIVE,
        gauge DOWNSTREAM_CX_HTTP1_SOFT_DRAIN,
        counter DOWNSTREAM_CX_HTTP1_TOTAL,
        gauge DOWNSTREAM_CX_HTTP2_ACTIVE,
        counter DOWNSTREAM_CX_HTTP2_TOTAL,
        gauge DOWNSTREAM_CX_HTTP3_ACTIVE,
        counter DOWNSTREAM_CX_HTTP3_TOTAL,
        counter DOWNSTREAM_CX_IDLE_TIMEOUT,
        histogram DOWNSTREAM_CX_LENGTH_MS(Milliseconds),
        counter DOWNSTREAM_CX_MAX_DURATION_REACHED,
        counter DOWNSTREAM_CX_MAX_REQUESTS_REACHED,
        counter DOWNSTREAM_CX_OVERLOAD_DISABLE_KEEPALIVE,
        counter DOWNSTREAM_CX_PROTOCOL_ERROR,
        gauge DOWNSTREAM_CX_RX_BYTES_BUFFERED,
        counter DOWNSTREAM_CX_RX_BYTES_TOTAL,
        gauge DOWNSTREAM_CX_SSL_ACTIVE,
        counter DOWNSTREAM_CX_SSL_TOTAL,
        counter DOWNSTREAM_CX_TOTAL,
        gauge DOWNSTREAM_CX_TX_BYTES_BUFFERED,
        counter DOWNSTREAM_CX_TX_BYTES_TOTAL,
        gauge DOWNSTREAM_CX_UPGRADES_ACTIVE,
        counter DOWNSTREAM_CX_UPGRADES_TOTAL,
        counter DOWNSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL,
        counter DOWNSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL,
        counter DOWNSTREAM_RQ_1XX,
        counter DOWNSTREAM_RQ_2XX,
        counter DOWNSTREAM_RQ_3XX,
        counter DOWNSTREAM_RQ_4XX,
        counter DOWNSTREAM_RQ_5XX,
        gauge DOWNSTREAM_RQ_ACTIVE,
        counter DOWNSTREAM_RQ_COMPLETED,
        counter DOWNSTREAM_RQ_FAILED_PATH_NORMALIZATION,
        counter DOWNSTREAM_RQ_HEADER_TIMEOUT,
        counter DOWNSTREAM_RQ_HTTP1_TOTAL,
        counter DOWNSTREAM_RQ_HTTP2_TOTAL,
        counter DOWNSTREAM_RQ_HTTP3_TOTAL,
        counter DOWNSTREAM_RQ_IDLE_TIMEOUT,
        counter DOWNSTREAM_RQ_MAX_DURATION_REACHED,
        counter DOWNSTREAM_RQ_NON_RELATIVE_PATH,
        counter DOWNSTREAM_RQ_OVERLOAD_CLOSE,
        counter DOWNSTREAM_RQ_REDIRECTED_WITH_NORMALIZED_PATH,
        counter DOWNSTREAM_RQ_REJECTED_VIA_IP_DETECTION,
        counter DOWNSTREAM_RQ_RESPONSE_BEFORE_RQ_COMPLETE,
        counter DOWNSTREAM_RQ_RX_RESET,
        histogram DOWNSTREAM_RQ_TIME(Milliseconds),
        counter DOWNSTREAM_RQ_TIMEOUT,
        counter DOWNSTREAM_RQ_TOO_LARGE,
        counter DOWNSTREAM_RQ_TOO_MANY_PREMATURE_RESETS,
        counter DOWNSTREAM_RQ_TOTAL,
        counter DOWNSTREAM_RQ_TX_RESET,
        counter DOWNSTREAM_RQ_WS_ON_NON_WS_ROUTE,
        counter RS_TOO_LARGE,
    }
}

stat_block! {
    /// Scope `http.<stat_prefix>.tracing`.
    pub struct HttpTracingStats {
        counter CLIENT_ENABLED,
        counter HEALTH_CHECK,
        counter NOT_TRACEABLE,
        counter RANDOM_SAMPLING,
        counter SERVICE_FORCED,
    }
}

stat_block! {
    /// Scope `http.<stat_prefix>`: the router filter. Also `http.async-client`, for what the proxy itself asks.
    pub struct RouterStats {
        counter NO_CLUSTER,
        counter NO_ROUTE,
        counter PASSTHROUGH_INTERNAL_REDIRECT_BAD_LOCATION,
        counter PASSTHROUGH_INTERNAL_REDIRECT_NO_ROUTE,
        counter PASSTHROUGH_INTERNAL_REDIRECT_PREDICATE,
        counter PASSTHROUGH_INTERNAL_REDIRECT_TOO_MANY_REDIRECTS,
        counter PASSTHROUGH_INTERNAL_REDIRECT_UNSAFE_SCHEME,
        counter RQ_DIRECT_RESPONSE,
        counter RQ_OVERLOAD_LOCAL_REPLY,
        counter RQ_REDIRECT,
        counter RQ_RESET_AFTER_DOWNSTREAM_RESPONSE_STARTED,
        counter RQ_TOTAL,
    }
}

stat_block! {
    /// Scope `listener.<address>.http.<stat_prefix>`.
    pub struct ListenerHttpStats {
        counter DOWNSTREAM_RQ_1XX,
        counter DOWNSTREAM_RQ_2XX,
        counter DOWNSTREAM_RQ_3XX,
        counter DOWNSTREAM_RQ_4XX,
        counter DOWNSTREAM_RQ_5XX,
        counter DOWNSTREAM_RQ_COMPLETED,
    }
}

macro_rules! class_of {
    ($family:ident) => {
        impl $family {
            /// The counter of a response code's class: `downstream_rq_2xx` for 204.
            pub fn downstream_rq_class(code: u16) -> Option<Counter<Self>> {
                match code / 100 {
                    1 => Some(Self::DOWNSTREAM_RQ_1XX),
                    2 => Some(Self::DOWNSTREAM_RQ_2XX),
                    3 => Some(Self::DOWNSTREAM_RQ_3XX),
                    4 => Some(Self::DOWNSTREAM_RQ_4XX),
                    5 => Some(Self::DOWNSTREAM_RQ_5XX),
                    _ => None,
                }
            }
        }
    };
}

class_of!(HttpStats);
class_of!(ListenerHttpStats);
