//! The client's handshake.

use std::borrow::Cow;
use std::sync::Arc;

use certs::client::{ClientTls, ConnectOptions as Options, NotReady};
use tokio_rustls::TlsConnector;

use super::Within;
use super::count::Counters;
use super::expiry::note_expirations;
use super::facts::Facts;
use super::reason::{self, Failure};
use crate::net::{Io, RawIo};
use crate::stream_info::TlsInfo;
use crate::transport_socket::{ConnectOptions, TransportError};

/// `UpstreamTlsContext`
pub struct UpstreamTls {
    context: ClientTls,
    auto_host_sni: bool,
    offers_alpn: bool,
    counters: Counters,
    facts: Facts,
}

impl UpstreamTls {
    pub(super) fn new(context: ClientTls, alpn: &[String], auto_host_sni: bool, counters: Counters) -> Self {
        let offers_alpn = alpn.iter().any(|list| !list.is_empty());
        note_expirations(&counters, context.certificate_slot(), context.validation());
        UpstreamTls { context, auto_host_sni, offers_alpn, counters, facts: Facts::new(alpn) }
    }

    pub(crate) fn context(&self) -> &ClientTls {
        &self.context
    }

    /// One of its secrets was delivered: counts it, and says when the new one ends.
    pub(crate) fn secret_changed(&self) {
        self.counters.updated_by_sds();
        note_expirations(&self.counters, self.context.certificate_slot(), self.context.validation());
    }

    /// Boxed: a handshake takes kilobytes of state that the connection does not need afterwards.
    pub(crate) async fn connect(
        &self,
        raw: RawIo,
        options: &ConnectOptions,
        hostname: &str,
    ) -> Result<(Io, TlsInfo), TransportError> {
        Box::pin(self.shake_hands(raw, self.options(options, hostname))).await.map_err(|failure| {
            self.counters.failed(&failure);
            TransportError { reason: failure.into_reason() }
        })
    }

    fn options(&self, options: &ConnectOptions, hostname: &str) -> Options {
        let ConnectOptions { sni, san, alpn, alpn_fallback, source: _ } = options;
        let fallback = || {
            let list = || alpn_fallback.iter().map(|name| name.as_bytes().to_vec()).collect();
            (!self.offers_alpn && !alpn_fallback.is_empty()).then(list)
        };
        let overriding = alpn.as_ref().map(|list| list.iter().map(|name| name.as_bytes().to_vec()).collect());
        let of_host = || (self.auto_host_sni && !hostname.is_empty()).then(|| hostname.to_owned());
        Options {
            sni: sni.as_deref().map(str::to_owned).or_else(of_host),
            verify_subject_alt_names: san.iter().map(|name| name.to_string()).collect(),
            alpn_protocols: overriding.or_else(fallback),
        }
    }

    async fn shake_hands(&self, raw: RawIo, options: Options) -> Result<(Io, TlsInfo), Failure> {
        let (choice, mut handshake) = self.context.choose(options).map_err(|why| self.not_ready(why))?;
        let connector = TlsConnector::from(Arc::clone(&choice.config));
        let name = choice.server_name.clone();
        let alpn = choice.alpn_protocols.clone();
        let connect = handshake.run(|| connector.with_alpn(alpn).connect(name, raw));
        let result = Within { handshake: &mut handshake, future: connect }.await;
        let stream = result.map_err(|error| reason::of_handshake(&error, &handshake))?;
        let connection = stream.get_ref().1;
        choice.finish(connection, &mut handshake).map_err(|failure| reason::of_verification(&failure))?;
        let facts = self.facts.of_client(connection, &handshake);
        self.counters.completed(&facts, &handshake);
        Ok((Io::Tls(Box::new(stream.into())), facts.info))
    }

    fn not_ready(&self, why: NotReady) -> Failure {
        match why {
            NotReady::Secret(_) => {
                self.counters.upstream_secrets_not_ready();
                Failure::uncounted(Cow::Borrowed(reason::NO_SECRET))
            }
            other => Failure::uncounted(Cow::Owned(format!("TLS error: {other}"))),
        }
    }
}
