//! Stats of listeners: `listener.<stat_prefix or address>.`, and of the listener filters that sniff protocols.

use crate::stat_block;

stat_block! {
    /// Scope `listener.<stat_prefix or address>`; the address is written `127.0.0.1_8080` or `[__1]_8080`.
    pub struct ListenerStats {
        histogram CONNECTIONS_ACCEPTED_PER_SOCKET_EVENT(Unspecified),
        gauge DOWNSTREAM_CX_ACTIVE,
        counter DOWNSTREAM_CX_DESTROY,
        histogram DOWNSTREAM_CX_LENGTH_MS(Milliseconds),
        counter DOWNSTREAM_CX_OVERFLOW,
        counter DOWNSTREAM_CX_OVERLOAD_REJECT,
        counter DOWNSTREAM_CX_TOTAL,
        counter DOWNSTREAM_CX_TRANSPORT_SOCKET_CONNECT_TIMEOUT,
        counter DOWNSTREAM_GLOBAL_CX_OVERFLOW,
        counter DOWNSTREAM_LISTENER_FILTER_ERROR,
        counter DOWNSTREAM_LISTENER_FILTER_REMOTE_CLOSE,
        gauge DOWNSTREAM_PRE_CX_ACTIVE,
        counter DOWNSTREAM_PRE_CX_TIMEOUT,
        counter NO_FILTER_CHAIN_MATCH,
    }
}

stat_block! {
    /// Same scope. The admin listener has none of these.
    pub struct ListenerExtensionStats {
        counter EXTENSION_CONFIG_MISSING,
        counter NETWORK_EXTENSION_CONFIG_MISSING,
    }
}

stat_block! {
    /// Scope `listener.<address>.worker_<N>`, and `listener.admin.main_thread`.
    pub struct WorkerListenerStats {
        gauge DOWNSTREAM_CX_ACTIVE,
        counter DOWNSTREAM_CX_TOTAL,
    }
}

stat_block! {
    /// Scope `tls_inspector`.
    pub struct TlsInspectorStats {
        counter ALPN_FOUND,
        counter ALPN_NOT_FOUND,
        histogram BYTES_PROCESSED(Bytes),
        counter CLIENT_HELLO_TOO_LARGE,
        counter SNI_FOUND,
        counter SNI_NOT_FOUND,
        counter TLS_FOUND,
        counter TLS_NOT_FOUND,
    }
}

stat_block! {
    /// Scope `http_inspector`.
    pub struct HttpInspectorStats {
        counter HTTP10_FOUND,
        counter HTTP11_FOUND,
        counter HTTP2_FOUND,
        counter HTTP_NOT_FOUND,
        counter READ_ERROR,
    }
}

stat_block! {
    /// Scope `proxy_proto` or `proxy_proto.<stat_prefix>`.
    pub struct ProxyProtocolStats {
        counter NOT_FOUND_ALLOWED,
        counter NOT_FOUND_DISALLOWED,
        counter V1_DISALLOWED = "versions.v1.disallowed",
        counter V1_ERROR = "versions.v1.error",
        counter V1_FOUND = "versions.v1.found",
        counter V2_DISALLOWED = "versions.v2.disallowed",
        counter V2_ERROR = "versions.v2.error",
        counter V2_FOUND = "versions.v2.found",
    }
}

stat_block! {
    /// Without a scope, shared by all PROXY protocol filters.
    pub struct ProxyProtocolErrorStats {
        counter DOWNSTREAM_CX_PROXY_PROTO_ERROR,
    }
}
