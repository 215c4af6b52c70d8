//! `envoy.config.core.v3.TransportSocket`: what lies between a socket and the bytes that network filters see.
//!
//! [`Downstream`] accepts on a listener's filter chain, [`Upstream`] connects to a host. Only raw buffers and TLS;
//! anything else is refused by the registry. [`SecretManager`] keeps the secrets that contexts refer to by name.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use prost_types::Any;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::transport_socket::ConfigType;

use crate::config::{BuildCx, Path, Reject};
use crate::net::{Io, RawIo};
use crate::registry;
use crate::stream_info::{ConnectionInfo, TlsInfo};

pub mod raw_buffer;
pub mod secrets;
pub mod tls;

pub use secrets::{DemandedSecret, SecretKind, SecretManager};

/// The transport socket of a filter chain.
#[derive(Clone)]
pub enum Downstream {
    Raw,
    Tls(Arc<tls::DownstreamTls>),
}

/// The transport socket of a cluster, or of one of its `transport_socket_matches`.
#[derive(Clone)]
pub enum Upstream {
    Raw,
    Tls(Arc<tls::UpstreamTls>),
}

/// Why a handshake failed, in Envoy's words for `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%` and
/// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`. Empty when the peer went away without a word, of which Envoy says nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct TransportError {
    pub reason: Cow<'static, str>,
}

/// What a request may change in the upstream handshake. Part of the pool's key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ConnectOptions {
    /// Overrides the configured SNI (`auto_sni`), also `auto_host_sni`.
    pub sni: Option<Arc<str>>,
    /// The name the peer's certificate must carry (`auto_san_validation`).
    pub san: Option<Arc<str>>,
    /// Overrides the configured ALPN list (`istio.alpn`).
    pub alpn: Option<Vec<Arc<str>>>,
    /// Offered when neither the context nor an override has a list: the protocol of the HTTP pool.
    pub alpn_fallback: &'static [&'static str],
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

/// What the builder of a transport socket may refer to.
#[derive(Clone, Copy)]
pub struct TransportCx<'a> {
    pub build: &'a BuildCx,
    /// Scope of the stats: `listener.127.0.0.1_80`, `cluster.store-front`.
    pub scope: &'a str,
}

impl Downstream {
    /// The transport socket of a filter chain; none is a raw buffer.
    ///
    /// # Errors
    /// An unknown extension, and what its builder refuses.
    pub fn build(proto: Option<&core::TransportSocket>, path: &Path<'_>, cx: TransportCx<'_>) -> Result<Self, Reject> {
        let Some(proto) = proto else { return Ok(Downstream::Raw) };
        let path = path.field("typed_config");
        let (entry, config) = registry::find(registry::DOWNSTREAM_TRANSPORT_SOCKETS, typed_config(proto), &path)?;
        (entry.build)(&config, &path, cx)
    }

    /// The names of the secrets that a listener has to wait for before it takes connections; empty once it may.
    pub fn pending_secrets(&self) -> Vec<String> {
        match self {
            Downstream::Raw => Vec::new(),
            Downstream::Tls(context) => {
                secrets::pending(context.context().certificate_slots(), context.context().validation())
            }
        }
    }

    /// Completes the handshake and notes what it established in `info`. The caller bounds it in time.
    ///
    /// # Errors
    /// When the peer's handshake or certificate is refused; the connection is to be closed.
    pub async fn accept(&self, raw: RawIo, info: &ConnectionInfo) -> Result<Io, TransportError> {
        match self {
            Downstream::Raw => Ok(Io::Raw(raw)),
            Downstream::Tls(context) => {
                let (io, tls) = context.accept(raw).await?;
                // Set once per connection: a cell that is taken already keeps what it has.
                let _ = info.tls.set(tls);
                Ok(io)
            }
        }
    }
}

impl Upstream {
    /// The transport socket of a cluster; none is a raw buffer.
    ///
    /// # Errors
    /// An unknown extension, and what its builder refuses.
    pub fn build(proto: Option<&core::TransportSocket>, path: &Path<'_>, cx: TransportCx<'_>) -> Result<Self, Reject> {
        let Some(proto) = proto else { return Ok(Upstream::Raw) };
        let path = path.field("typed_config");
        let (entry, config) = registry::find(registry::UPSTREAM_TRANSPORT_SOCKETS, typed_config(proto), &path)?;
        (entry.build)(&config, &path, cx)
    }

    /// The names of the secrets that a cluster has to wait for before it is used; empty once it may.
    pub fn pending_secrets(&self) -> Vec<String> {
        match self {
            Upstream::Raw => Vec::new(),
            Upstream::Tls(context) => {
                secrets::pending(context.context().certificate_slot(), context.context().validation())
            }
        }
    }

    /// Completes the handshake as a client of the host of this name (`Host::hostname`, which `auto_host_sni` sends). The caller
    /// bounds it in time.
    ///
    /// # Errors
    /// When the handshake fails or the peer's certificate is refused.
    pub async fn connect(
        &self,
        raw: RawIo,
        options: &ConnectOptions,
        hostname: &str,
    ) -> Result<(Io, Option<TlsInfo>), TransportError> {
        match self {
            Upstream::Raw => Ok((Io::Raw(raw), None)),
            Upstream::Tls(context) => context.connect(raw, options, hostname).await.map(|(io, tls)| (io, Some(tls))),
        }
    }
}

fn typed_config(proto: &core::TransportSocket) -> Option<&Any> {
    // The name is for people: the type of the configuration says which extension it is.
    let core::TransportSocket { name: _, config_type } = proto;
    config_type.as_ref().map(|ConfigType::TypedConfig(any)| any)
}
