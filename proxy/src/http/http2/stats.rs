//! The stats of a codec: `http2.*` for downstream connections, `cluster.<name>.http2.*` for upstream ones.

use crate::stat_block;

stat_block! {
    /// Envoy's `Http2` codec stats. Those that belong to its two codec libraries (`nghttp2_…`, `oghttp2_…`) are missing; those
    /// of its queue of outbound frames and of METADATA stay zero, as there is neither here.
    pub struct Http2Stats {
        counter COOKIES_TOTAL_BYTES_TOO_LARGE,
        counter DEFERRED_STREAM_CLOSE,
        counter DROPPED_HEADERS_WITH_UNDERSCORES,
        counter GOAWAY_SENT,
        counter HEADER_LIST_SIZE_TOO_LARGE,
        counter HEADER_OVERFLOW,
        counter HEADERS_CB_NO_STREAM,
        counter INBOUND_EMPTY_FRAMES_FLOOD,
        counter INBOUND_PRIORITY_FRAMES_FLOOD,
        counter INBOUND_WINDOW_UPDATE_FRAMES_FLOOD,
        counter KEEPALIVE_TIMEOUT,
        counter METADATA_EMPTY_FRAMES,
        counter OUTBOUND_CONTROL_FLOOD,
        counter OUTBOUND_FLOOD,
        counter REQUESTS_REJECTED_WITH_UNDERSCORES_IN_HEADERS,
        counter RX_MESSAGING_ERROR,
        counter RX_RESET,
        counter STREAM_REFUSED_ERRORS,
        counter TRAILERS,
        counter TX_FLUSH_TIMEOUT,
        counter TX_RESET,
        gauge OUTBOUND_CONTROL_FRAMES_ACTIVE,
        gauge OUTBOUND_FRAMES_ACTIVE,
        gauge PENDING_SEND_BYTES,
        gauge STREAMS_ACTIVE,
        /// Ours: connections ended for more stream resets than a sane client makes.
        lazy_counter INBOUND_RESET_FLOOD,
        /// Ours: connections ended for header blocks in too many or too large pieces.
        lazy_counter INBOUND_CONTINUATION_FLOOD,
        /// Ours: stream tasks that panicked; each ended its own stream only.
        lazy_counter STREAM_PANICS,
    }
}
