//! Connections to management servers, made through the proxy's own clusters (`envoy_grpc`): their hosts, TLS, timeouts and
//! HTTP/2 settings.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use xds_client::Transport;
use xds_client::transport::BoxError;
use xds_client::transport::http2::{Connection, Http2Options, handshake};

use crate::cluster::{ClusterSlot, LbContext};
use crate::net::Io;
use crate::pool::connect::{UpstreamCx, connect};
use crate::stats::names::ClusterStats;
use crate::transport_socket::ConnectOptions;

/// Connects to a host of a cluster.
pub(super) struct ClusterTransport(pub Arc<ClusterSlot>);

impl Transport for ClusterTransport {
    type Body = hyper::body::Incoming;
    type Service = Connection;

    async fn connect(&self) -> Result<Connection, BoxError> {
        let cluster = self.0.load().ok_or_else(|| format!("unknown cluster {:?}", self.0.name))?;
        let host = cluster.choose_host(&LbContext::default())?;
        cluster.stats.inc(ClusterStats::UPSTREAM_RQ_TOTAL);
        let options = ConnectOptions { alpn_fallback: &["h2"], ..ConnectOptions::default() };
        let connected = connect(&cluster, &host, &options).await.map_err(|error| {
            let address = host.current_address();
            format!("cannot connect to {address} of cluster {:?}: {error}", self.0.name)
        })?;
        let configured = &cluster.http.http2;
        let mut options = Http2Options {
            initial_stream_window_size: configured.initial_stream_window_size.max(1 << 20),
            initial_connection_window_size: configured.initial_connection_window_size.max(1 << 20),
            ..Http2Options::default()
        };
        if let Some(keepalive) = &configured.connection_keepalive {
            options.keepalive_interval = keepalive.interval;
            options.keepalive_timeout = keepalive.timeout;
        }
        handshake(Counted { io: connected.io, _cx: connected.cx }, &options).await
    }
}

/// A connection that its cluster counts until it is dropped.
struct Counted {
    io: Io,
    _cx: UpstreamCx,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
