//! Stats of the HTTP codecs: `http1.` and `http2.` for downstream connections, `cluster.<name>.http1.` and
//! `cluster.<name>.http2.` for upstream ones. They come into being with the first connection of that protocol.

use crate::stat_block;

stat_block! {
    /// Scope `http1` or `cluster.<name>.http1`.
    pub struct Http1Stats {
        counter DROPPED_HEADERS_WITH_UNDERSCORES,
        counter METADATA_NOT_SUPPORTED_ERROR,
        counter REQUESTS_REJECTED_WITH_UNDERSCORES_IN_HEADERS,
        counter RESPONSE_FLOOD,
    }
}

stat_block! {
    /// Scope `http2` or `cluster.<name>.http2`.
    pub struct Http2Stats {
        histogram COOKIE_COUNT(Unspecified),
        histogram COOKIE_SIZE(Bytes),
        counter COOKIES_TOTAL_BYTES_TOO_LARGE,
        gauge DEFERRED_STREAM_CLOSE,
        counter DROPPED_HEADERS_WITH_UNDERSCORES,
        counter GOAWAY_SENT,
        histogram HEADER_COUNT(Unspecified),
        histogram HEADER_LIST_SIZE(Bytes),
        counter HEADER_LIST_SIZE_TOO_LARGE,
        counter HEADER_OVERFLOW,
        counter HEADERS_CB_NO_STREAM,
        counter INBOUND_EMPTY_FRAMES_FLOOD,
        counter INBOUND_PRIORITY_FRAMES_FLOOD,
        counter INBOUND_WINDOW_UPDATE_FRAMES_FLOOD,
        counter KEEPALIVE_TIMEOUT,
        counter METADATA_EMPTY_FRAMES,
        counter NGHTTP2_DOWNSTREAM_CONNECTIONS,
        counter NGHTTP2_UPSTREAM_CONNECTIONS,
        counter OGHTTP2_DOWNSTREAM_CONNECTIONS,
        counter OGHTTP2_UPSTREAM_CONNECTIONS,
        counter OUTBOUND_CONTROL_FLOOD,
        gauge OUTBOUND_CONTROL_FRAMES_ACTIVE,
        counter OUTBOUND_FLOOD,
        gauge OUTBOUND_FRAMES_ACTIVE,
        gauge PENDING_SEND_BYTES,
        counter REQUESTS_REJECTED_WITH_UNDERSCORES_IN_HEADERS,
        counter RX_MESSAGING_ERROR,
        counter RX_RESET,
        counter STREAM_REFUSED_ERRORS,
        gauge STREAMS_ACTIVE,
        counter TRAILERS,
        counter TX_FLUSH_TIMEOUT,
        counter TX_RESET,
    }
}
