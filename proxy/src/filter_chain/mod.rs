//! `envoy.config.listener.v3.FilterChain`: a transport socket and network filters, and the match that chooses a chain.

use std::sync::Arc;
use std::time::Duration;

use crate::network::{NetworkFilter, TerminalFilter};
use crate::transport_socket::Downstream;

/// One filter chain as built.
pub struct FilterChain {
    pub name: Arc<str>,
    pub transport: Downstream,
    /// `transport_socket_connect_timeout`; `None` stands for our own bound on handshakes.
    pub transport_connect_timeout: Option<Duration>,
    pub filters: Vec<Arc<dyn NetworkFilter>>,
    pub terminal: Arc<dyn TerminalFilter>,
}
