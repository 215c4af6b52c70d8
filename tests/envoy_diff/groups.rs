groups! {
    /// Framing, keep-alive, pipelining, interim responses, connection ends.
    http1,
    /// What is wrong with a head or a body, and the limits.
    bad_heads,
    /// What an HTTP/1 upstream may do wrong.
    bad_upstreams,
}
