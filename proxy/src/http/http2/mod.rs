//! HTTP/2: the downstream codec (`envoy.extensions…http_connection_manager.v3.HttpConnectionManager.codec_type: HTTP2`)
//! and the upstream connection, on the `h2` crate.
