//! The server's handshake.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::BytesMut;
use certs::handshake::Handshake;
use certs::server::{NotReady, ServerTls, asks_for_ocsp_staple};
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::StartHandshake;

use super::Within;
use super::count::Counters;
use super::expiry::note_expirations;
use super::facts::Facts;
use super::reason::{self, Failure};
use crate::net::{Io, RawIo};
use crate::stream_info::TlsInfo;
use crate::transport_socket::TransportError;

/// What a ClientHello usually fits into; one with a post-quantum key share takes 1.7 KiB.
const HELLO_BYTES: usize = 2048;

/// `DownstreamTlsContext`
pub struct DownstreamTls {
    context: ServerTls,
    counters: Counters,
    facts: Facts,
}

impl DownstreamTls {
    pub(super) fn new(context: ServerTls, alpn_protocols: &[String], counters: Counters) -> Self {
        note_expirations(&counters, context.certificate_slots(), context.validation());
        DownstreamTls { context, counters, facts: Facts::new(alpn_protocols) }
    }

    pub(crate) fn context(&self) -> &ServerTls {
        &self.context
    }

    /// One of its secrets was delivered: counts it, and says when the new one ends.
    pub(crate) fn secret_changed(&self) {
        self.counters.updated_by_sds();
        note_expirations(&self.counters, self.context.certificate_slots(), self.context.validation());
    }

    /// Boxed: a handshake takes kilobytes of state that the connection does not need afterwards.
    pub(crate) async fn accept(&self, raw: RawIo) -> Result<(Io, TlsInfo), TransportError> {
        Box::pin(self.shake_hands(raw)).await.map_err(|failure| {
            self.counters.failed(&failure);
            TransportError { reason: failure.into_reason() }
        })
    }

    async fn shake_hands(&self, mut raw: RawIo) -> Result<(Io, TlsInfo), Failure> {
        let mut handshake = Handshake::default();
        let handshake = &mut handshake;
        let accepted = read_hello(&mut raw, handshake).await?;
        let choice = match self.context.choose(&accepted.client_hello()) {
            Ok(choice) => choice,
            Err(not_ready) => return Err(self.not_ready(not_ready)),
        };
        let config = Arc::clone(&choice.config);
        let accept = handshake.run(|| StartHandshake::from_parts(accepted, raw).into_stream(config));
        let result = Within { handshake, future: accept }.await;
        let stream = result.map_err(|error| reason::of_handshake(&error, handshake))?;
        let connection = stream.get_ref().1;
        choice.finish(connection, handshake).map_err(|failure| reason::of_verification(&failure))?;
        let facts = self.facts.of_server(connection, handshake);
        self.counters.completed(&facts, handshake);
        Ok((Io::Tls(Box::new(stream.into())), facts.info))
    }

    fn not_ready(&self, why: NotReady) -> Failure {
        match why {
            NotReady::Secret(_) => {
                self.counters.downstream_secrets_not_ready();
                Failure::uncounted(Cow::Borrowed(reason::NO_SECRET))
            }
            other => Failure::uncounted(Cow::Owned(format!("TLS error: {other}"))),
        }
    }
}

/// Reads until rustls has a whole ClientHello; what was read beyond it goes back.
async fn read_hello(raw: &mut RawIo, handshake: &mut Handshake) -> Result<Accepted, Failure> {
    let mut acceptor = Acceptor::default();
    let mut seen = BytesMut::with_capacity(HELLO_BYTES);
    loop {
        let start = seen.len();
        if raw.read_buf(&mut seen).await.map_err(|error| reason::of_handshake(&error, handshake))? == 0 {
            return Err(Failure::peer_gone());
        }
        let mut fresh = seen.get(start..).unwrap_or_default();
        while !fresh.is_empty() {
            let before = fresh.len();
            acceptor.read_tls(&mut fresh).map_err(|error| reason::of_handshake(&error, handshake))?;
            match acceptor.accept() {
                Ok(None) if fresh.len() < before => {}
                Ok(None) => return Err(Failure::peer_gone()),
                Ok(Some(accepted)) => {
                    handshake.client_asks_for_ocsp = asks_for_ocsp_staple(&seen);
                    let mut beyond = BytesMut::from(fresh);
                    beyond.extend_from_slice(&raw.prefix);
                    raw.prefix = beyond;
                    return Ok(accepted);
                }
                Err((error, mut alert)) => {
                    let failure = reason::of_hello(&error, &seen);
                    let mut bytes = Vec::new();
                    // Envoy leaves HTTP clients without an answer: an alert means nothing to them.
                    if !failure.is_plaintext_http() && alert.write_all(&mut bytes).is_ok() {
                        let _ = raw.write_all(&bytes).await; // the connection is closed either way
                        let _ = raw.flush().await;
                    }
                    return Err(failure);
                }
            }
        }
    }
}
