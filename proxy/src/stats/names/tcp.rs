//! Stats of the TCP proxy: `tcp.<stat_prefix>.`

use crate::stat_block;

stat_block! {
    /// Scope `tcp.<stat_prefix>`.
    pub struct TcpProxyStats {
        counter DOWNSTREAM_CX_DRAIN_CLOSE,
        counter DOWNSTREAM_CX_NO_ROUTE,
        counter DOWNSTREAM_CX_OVERLOAD_CLOSE,
        gauge DOWNSTREAM_CX_RX_BYTES_BUFFERED,
        counter DOWNSTREAM_CX_RX_BYTES_TOTAL,
        counter DOWNSTREAM_CX_TOTAL,
        gauge DOWNSTREAM_CX_TX_BYTES_BUFFERED,
        counter DOWNSTREAM_CX_TX_BYTES_TOTAL,
        counter DOWNSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL,
        counter DOWNSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL,
        counter EARLY_DATA_RECEIVED_COUNT_TOTAL,
        counter IDLE_TIMEOUT,
        counter MAX_DOWNSTREAM_CONNECTION_DURATION,
        counter ROUTE_DELAYED_TOTAL,
        gauge UPSTREAM_FLUSH_ACTIVE,
        counter UPSTREAM_FLUSH_TOTAL,
    }
}
