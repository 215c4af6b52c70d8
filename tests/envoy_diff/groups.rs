groups! {
    /// Framing, keep-alive, pipelining, interim responses, connection ends.
    http1,
    /// What is wrong with a head or a body, and the limits.
    bad_heads,
    /// Heads and bodies that Envoy takes and we refuse.
    strict,
    /// What an HTTP/1 upstream may do wrong.
    bad_upstreams,
    /// Every way to normalise a path.
    paths,
    /// Addresses, ids and names that the connection manager writes, and header mutation.
    headers,
    /// Virtual hosts and every route matcher.
    routing,
    /// Rewrites, redirects and direct responses.
    rewrites,
    /// Retry policies of routes, virtual hosts and requests.
    retries,
    /// HTTP/2 on either side, and between the versions.
    http2,
    /// gRPC, its timeouts and its local replies.
    grpc,
    /// WebSocket, CONNECT and extended CONNECT.
    upgrades,
    /// The TCP proxy.
    tcp,
    /// TLS on either side: versions, ALPN, SNI, client certificates, verification, XFCC.
    tls,
    /// Formats, operators and filters of access logs.
    access_log,
    /// Lines at other moments than the end (`access_log_options`).
    log_types,
    /// Deadlines of every kind.
    timeouts,
    /// local_reply_config.
    local_replies,
    /// Role based access control of requests and connections.
    rbac,
    /// Token buckets for requests and connections.
    local_ratelimit,
    /// Policies for origins, and preflights.
    cors,
    /// Sampling decisions, request ids and operations' names.
    tracing,
    /// Where requests come from by extensions, and headers that change before there is a route.
    origins,
    /// The admin interface.
    admin,
}
