//! `envoy.config.core.v3.TransportSocket`: what lies between a socket and the bytes that network filters see.
//!
//! [`Downstream`] accepts on a listener's filter chain, [`Upstream`] connects to a host. Only raw buffers and TLS;
//! anything else is refused by the registry.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crate::net::{Io, RawIo};
use crate::stream_info::{ConnectionInfo, TlsInfo};

/// The transport socket of a filter chain.
#[derive(Clone)]
pub enum Downstream {
    Raw,
}

/// The transport socket of a cluster, or of one of its `transport_socket_matches`.
#[derive(Clone)]
pub enum Upstream {
    Raw,
}

/// Why a handshake failed, in Envoy's words for `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%` and
/// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct TransportError {
    pub reason: Cow<'static, str>,
}

/// What a request may change in the upstream handshake. Part of the pool's key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ConnectOptions {
    /// Overrides the configured SNI (`auto_sni`, `auto_host_sni`).
    pub sni: Option<Arc<str>>,
    /// The name the peer's certificate must carry (`auto_san_validation`).
    pub san: Option<Arc<str>>,
    /// Overrides the configured ALPN list (`istio.alpn`, automatic protocol choice).
    pub alpn: Option<Vec<Arc<str>>>,
    /// Where the connection comes from, when it is to look like the downstream's (`original_src`).
    pub source: Option<UpstreamSource>,
}

/// What the `original_src` listener filter asks of upstream connections: the downstream's address, and a mark for the
/// routing rules that bring the answers back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UpstreamSource {
    pub address: IpAddr,
    /// `SO_MARK`; 0 for none.
    pub mark: u32,
}

impl Downstream {
    /// Completes the handshake and notes what it established in `info`. The caller bounds it in time.
    ///
    /// # Errors
    /// When the peer's handshake or certificate is refused; the connection is to be closed.
    pub async fn accept(&self, raw: RawIo, _info: &ConnectionInfo) -> Result<Io, TransportError> {
        match self {
            Downstream::Raw => Ok(Io::Raw(raw)),
        }
    }
}

impl Upstream {
    /// Completes the handshake as a client. The caller bounds it in time.
    ///
    /// # Errors
    /// When the handshake fails or the peer's certificate is refused.
    pub async fn connect(
        &self,
        raw: RawIo,
        _options: &ConnectOptions,
    ) -> Result<(Io, Option<TlsInfo>), TransportError> {
        match self {
            Upstream::Raw => Ok((Io::Raw(raw), None)),
        }
    }
}
