//! The client's side of TLS: Envoy's `UpstreamTlsContext`.
//!
//! A [`ClientTls`] lives as long as its configuration and follows its slots by generations, like [`crate::server::ServerTls`]. What varies from connection to
//! connection ([`ConnectOptions`]) costs no new configuration.
//!
//! No host name is compared unless `auto_sni_san_validation` or `auto_san_validation` ask for it: mesh identities are URIs. A context without validation rules
//! verifies nothing, as in Envoy; one whose rules are still to come refuses to connect.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use rustls::client::{
    ClientSessionStore, ResolvesClientCert, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, SignatureScheme};
use rustls_pki_types::{DnsName, ServerName, UnixTime};

pub use crate::context::{ContextError, NotReady, Validation};
use crate::context::{alpn_protocols, current_certificate};
use crate::handshake::{ExpectedNames, Handshake};
use crate::material::TlsCertificate;
use crate::params::{Order, Resolved, Role, TlsParams};
use crate::selector::limited_key;
use crate::slot::SecretSlot;
use crate::validation::ValidationError;
use crate::verifier::{Verifier, VerifyFailure};

/// What a client context is made of; fields have the names of Envoy's messages.
#[derive(Debug, Clone)]
pub struct ClientTlsBuilder {
    /// `tls_params`. Note that the maximum defaults to TLS 1.2.
    pub tls_params: TlsParams,
    /// `alpn_protocols`
    pub alpn_protocols: Vec<String>,
    /// The certificate to show to servers that ask for one.
    pub tls_certificate: Option<Arc<SecretSlot<TlsCertificate>>>,
    /// `validation_context` and its kin.
    pub validation: Validation,
    /// `sni`; empty for none.
    pub sni: String,
    /// `auto_sni_san_validation`: the certificate must carry the name that is sent, in place of `match_subject_alt_names`.
    pub auto_sni_san_validation: bool,
    /// `max_session_keys`; 0 means that nothing is resumed.
    pub max_session_keys: usize,
    /// Where the time comes from; the system's clock if not given.
    pub time: Option<Arc<dyn TimeProvider>>,
}

impl Default for ClientTlsBuilder {
    fn default() -> Self {
        Self {
            tls_params: TlsParams::default(),
            alpn_protocols: Vec::new(),
            tls_certificate: None,
            validation: Validation::None,
            sni: String::new(),
            auto_sni_san_validation: false,
            max_session_keys: 1, // Envoy's default
            time: None,
        }
    }
}

impl ClientTlsBuilder {
    /// Checks everything that can be checked before secrets come.
    pub fn build(self) -> Result<ClientTls, ContextError> {
        let params = self.tls_params.resolve(Role::Client)?;
        let alpn = alpn_protocols(&self.alpn_protocols)?;
        let sni = server_name(&self.sni)?;
        self.validation.check()?;
        let time = self.time.clone().unwrap_or_else(|| Arc::new(DefaultTimeProvider));
        let tls = ClientTls {
            params,
            alpn,
            sni,
            time,
            current: ArcSwapOption::empty(),
            building: Mutex::new(()),
            options: self,
        };
        match tls.build_generation() {
            Ok(_) | Err(NotReady::Secret(_)) => Ok(tls),
            Err(NotReady::Context(error)) => Err(error),
        }
    }
}

/// What one connection wants otherwise than its context.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// In place of the configured `sni` (`auto_sni`, `auto_host_sni`). Empty or an address: none is sent.
    pub sni: Option<String>,
    /// One of these must be in the certificate, beside what the context wants (`auto_san_validation`).
    pub verify_subject_alt_names: Vec<String>,
    /// In place of the configured list (`istio.alpn`, protocol choice by ALPN).
    pub alpn_protocols: Option<Vec<Vec<u8>>>,
}

/// A client context: see the module.
pub struct ClientTls {
    options: ClientTlsBuilder,
    params: Resolved,
    alpn: Vec<Vec<u8>>,
    sni: ServerName<'static>,
    time: Arc<dyn TimeProvider>,
    current: ArcSwapOption<Generation>,
    building: Mutex<()>,
}

/// What is needed to begin one connection.
pub struct ClientChoice {
    /// To be given to [`ClientConnection::new_with_alpn`], with the two fields below.
    pub config: Arc<ClientConfig>,
    /// The name to send; an address where none is sent.
    pub server_name: ServerName<'static>,
    /// The protocols to offer.
    pub alpn_protocols: Vec<Vec<u8>>,
    generation: Arc<Generation>,
}

impl ClientTls {
    /// The configuration for a new connection, and its handshake.
    pub fn choose(&self, options: ConnectOptions) -> Result<(ClientChoice, Handshake), NotReady> {
        let generation = self.generation()?;
        let server_name = match &options.sni {
            Some(sni) => server_name(sni)?,
            None => self.sni.clone(),
        };
        let sni = match &server_name {
            ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
            _ => None,
        };
        let handshake = Handshake {
            names: ExpectedNames { list: options.verify_subject_alt_names, sni },
            local: generation.certificate.clone(),
            ..Handshake::default()
        };
        let alpn_protocols = options.alpn_protocols.unwrap_or_else(|| self.alpn.clone());
        let config = Arc::clone(&generation.config);
        Ok((ClientChoice { config, server_name, alpn_protocols, generation }, handshake))
    }

    /// What was asked for in `tls_params` and cannot be had: for the log.
    pub fn dropped_params(&self) -> &[String] {
        &self.params.dropped
    }

    /// The slot of its certificate.
    pub fn certificate_slot(&self) -> Option<&Arc<SecretSlot<TlsCertificate>>> {
        self.options.tls_certificate.as_ref()
    }

    /// Where its rules for servers come from.
    pub fn validation(&self) -> &Validation {
        &self.options.validation
    }

    fn generation(&self) -> Result<Arc<Generation>, NotReady> {
        let fresh = |known: &Arc<Generation>| known.versions == self.versions();
        if let Some(known) = self.current.load_full().filter(fresh) {
            return Ok(known);
        }
        let _one = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.current.load_full().filter(fresh) {
            return Ok(known);
        }
        let new = Arc::new(self.build_generation()?);
        self.current.store(Some(Arc::clone(&new)));
        Ok(new)
    }

    fn versions(&self) -> [u64; 3] {
        let certificate = self.options.tls_certificate.as_ref().map_or(0, |slot| slot.version());
        let [rules, domains] = self.options.validation.version();
        [rules, domains, certificate]
    }

    fn build_generation(&self) -> Result<Generation, NotReady> {
        let versions = self.versions(); // before the secrets: see SecretSlot::version
        let certificate = self.options.tls_certificate.as_ref().map(|slot| current_certificate(slot)).transpose()?;
        let context = self.options.validation.current()?;
        let trust =
            context.as_ref().is_some_and(|context| context.trusted_ca.is_some() || context.trust_domains.is_some());
        if self.options.auto_sni_san_validation && !trust {
            return Err(ContextError::from(ValidationError::SniWithoutCa).into());
        }
        let auto_sni_san = self.options.auto_sni_san_validation;
        let verifier = Arc::new(Verifier::of_servers(context, auto_sni_san, self.params.schemes.clone()));
        let key = certificate.as_ref().map(|certificate| limited_key(certificate.certified_key(), &self.params));
        let builder = ClientConfig::builder_with_details(self.params.provider(Order::Aes), Arc::clone(&self.time))
            .with_protocol_versions(self.params.versions)
            .map_err(|e| ContextError::Unusable(e.to_string()))?;
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_cert_resolver(Arc::new(Own(key)));
        config.resumption = match self.options.max_session_keys {
            0 => Resumption::disabled(),
            max => Resumption::store(Arc::new(SessionKeys { max, kept: Mutex::default() })),
        };
        let (config, time) = (Arc::new(config), Arc::clone(&self.time));
        Ok(Generation { versions, certificate, verifier, config, time })
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ClientChoice {
    /// To be called when the handshake is complete, before any data is sent: judges the certificate of a resumed session again,
    /// by the names that this connection wants.
    ///
    /// # Errors
    /// When the resumed peer would be refused today. The connection is to be closed.
    pub fn finish(&self, connection: &ClientConnection, handshake: &mut Handshake) -> Result<(), VerifyFailure> {
        if connection.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let now = self.generation.time.current_time().unwrap_or(UnixTime::since_unix_epoch(Default::default()));
        let chain = connection.peer_certificates().unwrap_or_default();
        let verdict = self.generation.verifier.judge(chain, now, &handshake.names);
        handshake.validation = verdict.validation;
        handshake.failure.clone_from(&verdict.failure);
        match verdict.failure {
            Some(failure) if !verdict.accepted => Err(failure),
            _ => Ok(()),
        }
    }
}

/// Everything that is made from one state of the secrets.
struct Generation {
    versions: [u64; 3],
    certificate: Option<Arc<TlsCertificate>>,
    verifier: Arc<Verifier>,
    config: Arc<ClientConfig>,
    time: Arc<dyn TimeProvider>,
}

/// The name to send. rustls wants some name even for none, and sends no address.
fn server_name(sni: &str) -> Result<ServerName<'static>, ContextError> {
    if sni.is_empty() || sni.parse::<IpAddr>().is_ok() {
        return Ok(ServerName::IpAddress(IpAddr::from(Ipv4Addr::UNSPECIFIED).into()));
    }
    let name = DnsName::try_from(sni).map_err(|_| ContextError::Sni(sni.to_owned()))?;
    Ok(ServerName::DnsName(name.to_owned()))
}

/// Shows the configured certificate to whoever asks, whatever authorities the server names: as Envoy does.
#[derive(Debug)]
struct Own(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

enum SessionKey {
    Tls12(Tls12ClientSessionValue),
    Tls13(Tls13ClientSessionValue),
}

/// The newest `max` sessions, whatever server they are with, as Envoy keeps them.
struct SessionKeys {
    max: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Newest first.
    keys: VecDeque<(ServerName<'static>, SessionKey)>,
    /// The group that a server wanted last; at most [`MAX_HINTS`].
    hints: VecDeque<(ServerName<'static>, NamedGroup)>,
}

const MAX_HINTS: usize = 16;

impl SessionKeys {
    fn with<R>(&self, f: impl FnOnce(&mut Kept) -> R) -> R {
        f(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep(&self, name: ServerName<'static>, key: SessionKey) {
        self.with(|kept| {
            kept.keys.truncate(self.max.saturating_sub(1));
            kept.keys.push_front((name, key));
        });
    }
}

impl ClientSessionStore for SessionKeys {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.with(|kept| {
            kept.hints.retain(|(known, _)| *known != name);
            kept.hints.truncate(MAX_HINTS - 1);
            kept.hints.push_front((name, group));
        });
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(|kept| kept.hints.iter().find(|(known, _)| known == name).map(|(_, group)| *group))
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.keep(name, SessionKey::Tls12(value));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.with(|kept| {
            kept.keys.iter().find_map(|(known, key)| match key {
                SessionKey::Tls12(value) if known == name => Some(value.clone()),
                _ => None,
            })
        })
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.with(|kept| kept.keys.retain(|(known, key)| known != name || !matches!(key, SessionKey::Tls12(_))));
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.keep(name, SessionKey::Tls13(value));
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(|kept| {
            let is_ticket = |(known, key): &(ServerName<'_>, _)| known == name && matches!(key, SessionKey::Tls13(_));
            let at = kept.keys.iter().position(is_ticket)?;
            match kept.keys.remove(at) {
                Some((_, SessionKey::Tls13(value))) => Some(value),
                _ => None,
            }
        })
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKeys").field("max", &self.max).finish_non_exhaustive() // sessions are secret
    }
}

#[cfg(test)]
mod tests;
