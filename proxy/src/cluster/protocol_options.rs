//! `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`: which codec a cluster speaks and within which limits.

use std::time::Duration;

use crate::http::Protocol;
use crate::http::http1;
use crate::http::http2::Http2Options;
use crate::http::http2::flood::Side;
use http::HeaderName;

/// How requests are sent to a cluster's hosts.
#[derive(Clone)]
pub struct HttpProtocolOptions {
    pub protocol: UpstreamProtocol,
    /// Without stats; [`Cluster::http1_settings`](super::Cluster::http1_settings) adds them.
    pub http1: http1::ClientSettings,
    pub http2: Http2Options,
    /// How long a connection may be without a request; an hour unless set, `None` for ever.
    pub idle_timeout: Option<Duration>,
    /// A connection this old takes no more requests.
    pub max_connection_duration: Option<Duration>,
    /// After so many requests a connection takes no more.
    pub max_requests_per_connection: Option<u32>,
    /// Of a response; 100 unless set.
    pub max_headers_count: Option<u32>,
    /// Of a response, in KiB; 60 unless set.
    pub max_response_headers_kb: Option<u32>,
    /// From the start of a request upstream to the end of its response.
    pub max_stream_duration: Option<Duration>,
    pub auto_sni: Option<AutoSni>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    #[default]
    Http1,
    Http2,
    /// `use_downstream_protocol_config`: as the request came.
    UseDownstream,
    /// `auto_config`: what the TLS handshake agrees on.
    Auto,
}

/// The codec that a connection for one request is to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WantedProtocol {
    Http1,
    Http2,
    /// What the TLS handshake agrees on of `h2` and `http/1.1`; HTTP/1.1 without agreement.
    Alpn,
}

/// `upstream_http_protocol_options`: the handshake takes names from the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoSni {
    /// `auto_sni`: the name is sent as SNI.
    pub sni: bool,
    /// `auto_san_validation`: the peer's certificate must carry the name.
    pub validate_san: bool,
    /// `override_auto_sni_header`: which header has the name; `None` for the authority.
    pub header: Option<HeaderName>,
}

impl Default for HttpProtocolOptions {
    fn default() -> Self {
        HttpProtocolOptions {
            protocol: UpstreamProtocol::Http1,
            http1: http1::ClientSettings::default(),
            http2: Http2Options::new(Side::Client),
            idle_timeout: Some(Self::DEFAULT_IDLE_TIMEOUT),
            max_connection_duration: None,
            max_requests_per_connection: None,
            max_headers_count: None,
            max_response_headers_kb: None,
            max_stream_duration: None,
            auto_sni: None,
        }
    }
}

impl HttpProtocolOptions {
    pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

    /// The codec for a request that came in this protocol; `None` for one that did not come from downstream.
    pub fn protocol_for(&self, downstream: Option<Protocol>) -> WantedProtocol {
        match (self.protocol, downstream) {
            (UpstreamProtocol::Auto, _) => WantedProtocol::Alpn,
            (UpstreamProtocol::Http2, _) | (UpstreamProtocol::UseDownstream, Some(Protocol::Http2)) => {
                WantedProtocol::Http2
            }
            (UpstreamProtocol::Http1 | UpstreamProtocol::UseDownstream, _) => WantedProtocol::Http1,
        }
    }
}
