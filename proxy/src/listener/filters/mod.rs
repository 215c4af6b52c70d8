//! Listener filters: what is found out about a connection before a filter chain is chosen for it.
//!
//! A filter either decides at once from the socket ([`OnAccept::Done`]) or looks at the first bytes. For that it is a pure
//! parser over one growing buffer: [`ListenerFilter::inspect`] is called with everything read so far until it gives a
//! verdict. Whatever it does not consume stays in front of the stream, so nothing is lost when the chain takes over.
//!
//! Invariants, checked by property tests: a verdict other than `Need` for some bytes is the verdict for every continuation
//! of them, however they were split; no input panics; no filter asks for more than its `max_bytes`.

pub mod http_inspector;
pub mod original_dst;
pub mod original_src;
pub(super) mod predicate;
pub mod proxy_protocol;
pub mod tls_inspector;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::net::Socket;
use crate::stream_info::ConnectionInfo;
use crate::transport_socket::UpstreamSource;

/// A listener filter as built from its configuration; shared by all connections of all workers.
pub trait ListenerFilter: Send + Sync {
    /// Called once, in the order of configuration, with what earlier filters found in `info`.
    fn on_accept(&self, socket: &Socket, info: &ConnectionInfo) -> OnAccept;

    /// Looks at everything that was read and not consumed by earlier filters. Never called with an empty buffer.
    fn inspect(&self, _buffer: &[u8]) -> Inspection {
        Inspection::Done(Facts::default())
    }

    /// The most bytes that [`inspect`](Self::inspect) needs for a verdict.
    fn max_bytes(&self) -> usize {
        0
    }
}

/// What a filter says about a connection that was just accepted.
#[derive(Debug, PartialEq, Eq)]
pub enum OnAccept {
    Done(Facts),
    /// Bytes are needed.
    Inspect,
}

/// A verdict over the bytes so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Inspection {
    Need,
    Done(Facts),
    /// Close the connection; the reason is for the log.
    Reject(&'static str),
}

/// What a filter found out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bytes at the start of the buffer that are not part of the stream.
    pub consumed: usize,
    /// `tls`.
    pub transport_protocol: Option<&'static str>,
    /// Lower-case.
    pub server_name: Option<Arc<str>>,
    pub application_protocols: Option<Vec<Arc<str>>>,
    /// Who connected, from a PROXY header.
    pub remote_address: Option<SocketAddr>,
    /// Where the connection was addressed to before it was redirected or proxied to us.
    pub local_address: Option<SocketAddr>,
    /// `local_address` counts as restored even if it is the socket's own.
    pub transparent: bool,
    /// What upstream connections are to be bound to.
    pub upstream_source: Option<UpstreamSource>,
}
