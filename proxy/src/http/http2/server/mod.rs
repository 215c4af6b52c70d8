//! The downstream side of HTTP/2: one connection, its streams as tasks.
//!
//! Called by the connection manager with a connection that speaks HTTP/2 (ALPN, preface seen, or configured). The
//! connection's own task drives `h2` and all timers of the connection; each request runs in a task of its own on the same
//! thread, so that a panic ends one stream. Ending gracefully is two GOAWAYs (RFC 9113 §6.8): the first without a last stream
//! id, the second once the peer has had time to see it.
//!
//! Deliberately missing: server push, priorities, METADATA.

mod connection;
mod stream;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use connection::{Connection, ConnectionShared};

use super::guard::{Wire, guard};
use super::send::{Chunk, STREAM_QUEUED};
use super::settings::ServerSettings;
use crate::http::CodecService;
use crate::net::Io;
use crate::server::drain::Drain;

/// From the accept to the end of the client's preface.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(15);
/// Small DATA frames that nobody has read yet cost more than their bytes: `h2` counts 256 octets for each.
const DATA_FRAME_BUDGET: usize = 4 << 20;

/// Serves one connection until it ends. Dropping the future resets its streams.
pub async fn serve<S: CodecService>(io: Io, service: Rc<S>, settings: Rc<ServerSettings>, drain: Drain) {
    let mut limits = settings.options.flood.clone();
    let max_header_block = limits.max_header_block.max(settings.max_request_headers_kb.saturating_add(4) * 1024);
    limits.max_header_block = max_header_block;
    let (guard, wire) = guard(io, limits, settings.stats.clone());
    let handshake = builder(&settings, max_header_block).handshake::<_, Chunk>(guard);
    let Ok(Ok(h2)) = tokio::time::timeout(PREFACE_TIMEOUT, flushing(handshake, &wire)).await else { return };
    let shared = Rc::new(ConnectionShared::new(service, Rc::clone(&settings), wire.clone()));
    let ended_by_us = Connection::new(h2, Rc::clone(&shared), drain).run().await;
    shared.record_bytes();
    if ended_by_us {
        wire.linger(settings.delayed_close_timeout).await;
    }
}

fn builder(settings: &ServerSettings, max_header_block: u32) -> h2::server::Builder {
    let options = &settings.options;
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(options.initial_stream_window_size)
        .initial_connection_window_size(options.initial_connection_window_size)
        .max_concurrent_streams(options.max_concurrent_streams)
        .header_table_size(options.hpack_table_size)
        .max_header_list_size(settings.list_limits().for_h2(max_header_block))
        .max_send_buffer_size(STREAM_QUEUED)
        .data_frame_budget(DATA_FRAME_BUDGET)
        // The guard counts resets, with a memory that fades; h2's count lasts as long as the connection.
        .max_local_error_reset_streams(None)
        .max_pending_accept_reset_streams(100)
        .max_concurrent_reset_streams(256);
    if options.allow_connect {
        builder.enable_connect_protocol();
    }
    builder
}

/// Runs a handshake; what it writes leaves at once.
pub(super) async fn flushing<F: Future>(future: F, wire: &Wire) -> F::Output {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| {
        wire.begin();
        let polled = future.as_mut().poll(cx);
        // A failed write shows in h2's next read.
        match wire.poll_flush(cx) {
            Poll::Ready(_) | Poll::Pending => polled,
        }
    })
    .await
}
