//! `envoy.filters.network.http_connection_manager`: turns a connection into HTTP requests and sees each through its
//! filters, its route and the router.
//!
//! [`HttpConnectionManager::serve`] chooses the codec (ALPN, first bytes or configuration) and hands it the connection;
//! the codec calls [`connection::HcmConnection`] for every request, which becomes a [`stream::Stream`].
//!
//! Invariants: a request is checked and normalised once, before routing, and what was judged is what is forwarded; the
//! first local reply ends the chain; gauges fall and the access log is written in one place, when the stream is dropped.
//!
//! Deliberately missing: HTTP/3, spans (refused by [`config`]).

mod codecs;
pub mod config;
mod connection;
mod deadlines;
mod early_header_mutation;
mod local_reply;
mod original_ip;
mod request_headers;
mod request_id;
mod response_headers;
mod stream;
mod tracing;
mod xfcc;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::LocalBoxFuture;
use prost::Message;
use prost_types::Any;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, timeout_at};
use xds_protos::envoy::extensions::filters::network::http_connection_manager::v3 as proto;

use crate::cluster::ClusterManager;
use crate::config::{Path, Reject};
use crate::http::http1::server::{ConnectionEnd, EndCause};
use crate::http::{Protocol, http1, http2};
use crate::net::Io;
use crate::network::{BuiltFilter, Connection, ListenerCx, TerminalFilter};
use crate::stats::StatBlock;
use crate::stats::names::{HttpStats, ListenerHttpStats};

use config::{CodecType, HcmConfig};
use connection::{Counted, HcmConnection};

pub use codecs::header_key_format;
pub use response_headers::is_grpc;

/// The client connection preface of HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A peer that has begun with the preface must finish it within this. One that says nothing at all has the idle timeout.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(15);

/// The filter as built.
pub struct HttpConnectionManager {
    config: Arc<HcmConfig>,
    clusters: Arc<ClusterManager>,
    listener_stats: Option<StatBlock<ListenerHttpStats>>,
}

/// Builds the filter from its configuration.
///
/// # Errors
/// See [`HcmConfig::build`].
pub fn build(any: &Any, path: &Path<'_>, cx: &ListenerCx<'_>) -> Result<BuiltFilter, Reject> {
    let message = proto::HttpConnectionManager::decode(&*any.value)
        .map_err(|e| path.reject(format_args!("expected an HttpConnectionManager: {e}")))?;
    let config = HcmConfig::build(&message, cx.direction, path, cx.build)?;
    let listener_stats = cx.build.stats.block(&format!("{}.http.{}", cx.stat_scope, config.stat_prefix));
    Ok(BuiltFilter::Terminal(Arc::new(HttpConnectionManager {
        config: Arc::new(config),
        clusters: cx.build.clusters.clone(),
        listener_stats: Some(listener_stats),
    })))
}

impl TerminalFilter for HttpConnectionManager {
    fn serve(self: Arc<Self>, connection: Connection) -> LocalBoxFuture<'static, ()> {
        Box::pin(self.run(connection))
    }
}

impl HttpConnectionManager {
    async fn run(self: Arc<Self>, connection: Connection) {
        let Connection { mut io, info, drain, guard, buffer_limit, stream_info: _ } = connection;
        let counted = Counted::new(self.config.clone(), info.clone());
        let protocol = match self.config.codec {
            CodecType::Http1 => Protocol::Http11,
            CodecType::Http2 => Protocol::Http2,
            CodecType::Auto => {
                let alpn = info.tls.get().and_then(|tls| tls.alpn.clone());
                match alpn.as_deref() {
                    Some("h2") => Protocol::Http2,
                    Some("http/1.1" | "http/1.0") => Protocol::Http11,
                    _ => match Box::pin(sniff(&mut io, self.config.http1.idle_timeout)).await {
                        Ok(Some(protocol)) => protocol,
                        nothing => return count_silent(&self.config.stats, nothing.err()),
                    },
                }
            }
        };
        let service = HcmConnection::new(
            counted,
            self.clusters.clone(),
            drain.clone(),
            protocol,
            self.listener_stats.clone(),
            buffer_limit,
        );
        match protocol {
            Protocol::Http2 => {
                // In a box, as is the wait for the first bytes: an idle HTTP/1 connection must not carry the room for them.
                let settings = Rc::new(self.config.http2.clone());
                Box::pin(http2::server::serve(io, service, settings, drain)).await
            }
            Protocol::Http10 | Protocol::Http11 => {
                let end = http1::server::serve(io, service, self.config.http1.clone(), drain, buffer_limit).await;
                ::tracing::trace!(?end, "HTTP/1 connection ended");
                count_end(&self.config.stats, &end);
            }
        }
        drop(guard);
    }
}

/// The end of a connection on which too little was said to know its protocol.
fn count_silent(stats: &StatBlock<HttpStats>, error: Option<io::Error>) {
    if error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
        stats.inc(HttpStats::DOWNSTREAM_CX_IDLE_TIMEOUT);
        stats.inc(HttpStats::DOWNSTREAM_CX_DESTROY_LOCAL);
    } else {
        stats.inc(HttpStats::DOWNSTREAM_CX_DESTROY_REMOTE);
    }
}

fn count_end(stats: &StatBlock<HttpStats>, end: &ConnectionEnd) {
    let (side, with_request) = match end.by_peer() {
        true => (HttpStats::DOWNSTREAM_CX_DESTROY_REMOTE, HttpStats::DOWNSTREAM_CX_DESTROY_REMOTE_ACTIVE_RQ),
        false => (HttpStats::DOWNSTREAM_CX_DESTROY_LOCAL, HttpStats::DOWNSTREAM_CX_DESTROY_LOCAL_ACTIVE_RQ),
    };
    stats.inc(side);
    // A response that was cut is the end of its request, which the connection's end then follows.
    if end.active_request && end.cause != EndCause::CutResponse {
        stats.inc(HttpStats::DOWNSTREAM_CX_DESTROY_ACTIVE_RQ);
        stats.inc(with_request);
    }
    if end.delayed_close_timeout {
        stats.inc(HttpStats::DOWNSTREAM_CX_DELAYED_CLOSE_TIMEOUT);
    }
    match end.cause {
        EndCause::IdleTimeout => stats.inc(HttpStats::DOWNSTREAM_CX_IDLE_TIMEOUT),
        EndCause::MaxDuration => stats.inc(HttpStats::DOWNSTREAM_CX_MAX_DURATION_REACHED),
        EndCause::MaxRequests => stats.inc(HttpStats::DOWNSTREAM_CX_MAX_REQUESTS_REACHED),
        _ => {}
    }
}

/// Reads until the first bytes tell HTTP/2's preface from anything else. What was read stays readable. `None`: the peer
/// closed without a byte. `idle_timeout` is for the first of them.
///
/// # Errors
/// `TimedOut` when the bytes do not come in time; whatever reading says.
async fn sniff(io: &mut Io, idle_timeout: Option<Duration>) -> io::Result<Option<Protocol>> {
    let mut seen = BytesMut::new();
    let mut deadline = idle_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let mut buf = [0_u8; 64];
        let mut buf = ReadBuf::new(&mut buf);
        // One wait for both: a socket that is thought ready may have nothing to read.
        let read = poll_fn(|cx| {
            std::task::ready!(io.poll_read_ready(cx))?;
            Pin::new(&mut *io).poll_read(cx, &mut buf)
        });
        match deadline {
            Some(at) => timeout_at(at, read).await??,
            None => read.await?,
        }
        if buf.filled().is_empty() {
            if seen.is_empty() {
                return Ok(None);
            }
            io.unread(seen);
            return Ok(Some(Protocol::Http11));
        }
        seen.extend_from_slice(buf.filled());
        let n = seen.len().min(PREFACE.len());
        let same = seen.get(..n) == PREFACE.get(..n);
        if !same || n == PREFACE.len() {
            io.unread(seen);
            return Ok(Some(if same { Protocol::Http2 } else { Protocol::Http11 }));
        }
        let limit = Instant::now() + PREFACE_TIMEOUT;
        deadline = Some(deadline.map_or(limit, |at| at.min(limit)));
    }
}
