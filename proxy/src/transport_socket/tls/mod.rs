//! `envoy.transport_sockets.tls`: `DownstreamTlsContext` and `UpstreamTlsContext`.
//!
//! Identities, verification and the choice of parameters are the `certs` crate's; here are the configuration ([`config`]), the
//! handshakes over a socket ([`accept`], [`connect`]), their statistics ([`count`]) and Envoy's words for what went wrong ([`reason`]).
//!
//! Invariants: no byte of data is read or written before the handshake is complete and its peer was judged, also on resumption; a context whose secrets
//! are not there closes the connection.
//!
//! Deliberately missing: session ticket keys by name, key logs, private key providers, PKCS #12, custom validators (but for SPIFFE's) and handshakers,
//! compliance policies, TLS 1.0 and 1.1, renegotiation. `require_sni` is refused: Envoy accepts it and does nothing.

mod accept;
pub mod config;
mod connect;
mod count;
mod expiry;
mod facts;
mod reason;

pub use accept::DownstreamTls;
pub use connect::UpstreamTls;
pub use reason::of_io_error;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use certs::handshake::Handshake;

#[cfg(test)]
mod tests;

/// Polls a handshake of rustls with what belongs to its connection in reach.
struct Within<'a, F> {
    handshake: &'a mut Handshake,
    future: F,
}

impl<F: Future + Unpin> Future for Within<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let future = &mut this.future;
        this.handshake.run(|| Pin::new(future).poll(cx))
    }
}
