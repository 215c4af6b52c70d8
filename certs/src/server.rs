//! The server's side of TLS: Envoy's `DownstreamTlsContext`.
//!
//! A [`ServerTls`] lives as long as its configuration. It refers to its secrets by slots and turns them into rustls configurations
//! when a handshake begins and a slot has changed since the last one: a *generation*. All handshakes of a generation share its
//! configurations, verifier and session caches. Choosing one costs a few atomic loads.
//!
//! The configuration is chosen per ClientHello, because rustls' [`ServerConfig`] cannot express two things that Envoy does:
//! - a client whose ALPN list has nothing in common with ours goes on without ALPN (rustls would abort);
//! - TLS 1.2 clients are given the suite that *we* prefer, within a group of equals the one that they prefer, while TLS 1.3 clients
//!   always are given theirs.
//!
//! So a caller reads the ClientHello with rustls' [`Acceptor`](rustls::server::Acceptor) and asks [`ServerTls::choose`]. Handshake work is
//! done inside [`Handshake::run`], and before the first byte of data is used, [`ServerChoice::finish`] is asked.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ServerConfig, ServerConnection};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{CipherSuite, HandshakeKind};
use rustls_pki_types::UnixTime;

pub use crate::context::{ContextError, NotReady, Validation};
use crate::context::{alpn_protocols, current_certificate};
use crate::handshake::{Handshake, PeerValidation};
use crate::info::sha256;
use crate::material::TlsCertificate;
use crate::params::{Order, Resolved, Role, TlsParams, is_chacha};
use crate::resumption::Resumption;
pub use crate::resumption::{SessionResumption, TicketKeys, TicketKeysError};
pub use crate::selector::OcspStaplePolicy;
use crate::selector::{Selector, is_tls13};
use crate::slot::SecretSlot;
use crate::validation::ValidationContext;
use crate::verifier::{Verifier, VerifyFailure};

/// What a server context is made of; fields have the names of Envoy's messages.
#[derive(Debug, Clone, Default)]
pub struct ServerTlsBuilder {
    /// `tls_params`
    pub tls_params: TlsParams,
    /// `alpn_protocols`, most preferred first.
    pub alpn_protocols: Vec<String>,
    /// `tls_certificates` or `tls_certificate_sds_secret_configs`: at least one.
    pub tls_certificates: Vec<Arc<SecretSlot<TlsCertificate>>>,
    /// `validation_context` and its kin.
    pub validation: Validation,
    /// `require_client_certificate`
    pub require_client_certificate: bool,
    /// `ocsp_staple_policy`
    pub ocsp_staple_policy: OcspStaplePolicy,
    /// `full_scan_certs_on_sni_mismatch`
    pub full_scan_certs_on_sni_mismatch: bool,
    /// `prefer_client_ciphers`
    pub prefer_client_ciphers: bool,
    /// `disable_stateless_session_resumption` and its kin.
    pub session_resumption: SessionResumption,
    /// Where the time comes from; the system's clock if not given.
    pub time: Option<Arc<dyn TimeProvider>>,
}

impl ServerTlsBuilder {
    /// Checks everything that can be checked before secrets come.
    pub fn build(self) -> Result<ServerTls, ContextError> {
        let params = self.tls_params.resolve(Role::Server)?;
        let alpn = alpn_protocols(&self.alpn_protocols)?;
        if self.tls_certificates.is_empty() {
            return Err(ContextError::NoCertificate);
        }
        self.validation.check()?;
        let nothing = match &self.validation {
            Validation::None => true,
            Validation::Fixed(context) => !context.verifies_anything() && !context.accepts_untrusted(),
            Validation::Secret { .. } => false,
        };
        if nothing && self.require_client_certificate {
            return Err(ContextError::NothingToVerifyClientsBy);
        }
        let time = self.time.clone().unwrap_or_else(|| Arc::new(DefaultTimeProvider));
        let tls =
            ServerTls { params, alpn, time, current: ArcSwapOption::empty(), building: Mutex::new(()), options: self };
        // Secrets that are there already have to fit; those that are not may come later.
        match tls.build_generation(None) {
            Ok(generation) => generation.config(Variant { alpn: true, preference: Preference::Client }).map(|_| tls),
            Err(NotReady::Secret(_)) => Ok(tls),
            Err(NotReady::Context(error)) => Err(error),
        }
    }
}

/// A server context: see the module.
pub struct ServerTls {
    options: ServerTlsBuilder,
    params: Resolved,
    alpn: Vec<Vec<u8>>,
    time: Arc<dyn TimeProvider>,
    current: ArcSwapOption<Generation>,
    building: Mutex<()>,
}

/// The configuration for one connection.
pub struct ServerChoice {
    /// To be given to [`Accepted::into_connection`](rustls::server::Accepted::into_connection).
    pub config: Arc<ServerConfig>,
    generation: Arc<Generation>,
}

impl ServerTls {
    /// The configuration for a client that said this.
    pub fn choose(&self, hello: &ClientHello<'_>) -> Result<ServerChoice, NotReady> {
        let generation = self.generation()?;
        let variant =
            Variant { alpn: self.has_common_protocol(hello), preference: self.preference(hello.cipher_suites()) };
        Ok(ServerChoice { config: generation.config(variant)?, generation })
    }

    /// Whether the context could present this certificate.
    ///
    /// # Errors
    /// When an OCSP response has to be stapled, and there is none: then the certificate is better refused than put into the slot.
    pub fn would_take(&self, certificate: &TlsCertificate) -> Result<(), ContextError> {
        let must = self.options.ocsp_staple_policy == OcspStaplePolicy::MustStaple || certificate.must_staple();
        if must && certificate.ocsp_staple().is_none() {
            let whose = certificate.leaf().map(|leaf| format!(" {}", leaf.subject())).unwrap_or_default();
            return Err(ContextError::MustStaple(whose));
        }
        Ok(())
    }

    /// What was asked for in `tls_params` and cannot be had: for the log.
    pub fn dropped_params(&self) -> &[String] {
        &self.params.dropped
    }

    /// The slots of its certificates.
    pub fn certificate_slots(&self) -> &[Arc<SecretSlot<TlsCertificate>>] {
        &self.options.tls_certificates
    }

    /// Where its rules for clients come from.
    pub fn validation(&self) -> &Validation {
        &self.options.validation
    }

    /// No overlap is the same as no ALPN from the client.
    fn has_common_protocol(&self, hello: &ClientHello<'_>) -> bool {
        match hello.alpn() {
            Some(mut offered) => offered.any(|protocol| self.alpn.iter().any(|own| own == protocol)),
            None => true,
        }
    }

    fn preference(&self, offered: &[CipherSuite]) -> Preference {
        let tls13 = self.params.allows_tls13() && offered.iter().any(|suite| is_tls13(*suite));
        if self.options.prefer_client_ciphers || tls13 {
            return Preference::Client;
        }
        let chacha_first = || {
            let first = offered.iter().find(|suite| self.params.has_equals(**suite));
            first.is_some_and(|suite| is_chacha(*suite))
        };
        match chacha_first() {
            true => Preference::Server(Order::ChaCha),
            false => Preference::Server(Order::Aes),
        }
    }

    /// The generation of the secrets as they are now.
    fn generation(&self) -> Result<Arc<Generation>, NotReady> {
        let fresh = |known: &Arc<Generation>| known.versions.iter().copied().eq(self.versions());
        if let Some(known) = self.current.load_full().filter(fresh) {
            return Ok(known);
        }
        let _one = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.current.load_full();
        if let Some(known) = known.clone().filter(fresh) {
            return Ok(known);
        }
        let new = Arc::new(self.build_generation(known.as_deref())?);
        self.current.store(Some(Arc::clone(&new)));
        Ok(new)
    }

    fn versions(&self) -> impl Iterator<Item = u64> {
        let certificates = self.options.tls_certificates.iter().map(|slot| slot.version());
        self.options.validation.version().into_iter().chain(certificates)
    }

    fn build_generation(&self, before: Option<&Generation>) -> Result<Generation, NotReady> {
        let versions: Vec<u64> = self.versions().collect(); // before the secrets: see SecretSlot::version
        let slots = &self.options.tls_certificates;
        let certificates = slots.iter().map(|slot| current_certificate(slot)).collect::<Result<Vec<_>, _>>()?;
        certificates.iter().try_for_each(|certificate| self.would_take(certificate))?;
        let context = self.options.validation.current()?;
        if context.is_none() && self.options.require_client_certificate {
            return Err(ContextError::NothingToVerifyClientsBy.into());
        }
        let required = self.options.require_client_certificate;
        let schemes = self.params.schemes.clone();
        let names = names_digest(&certificates);
        let bound_to = sha256(&[names, trust_digest(context.as_ref())].concat());
        let verifier = context.map(|context| Arc::new(Verifier::of_clients(context, required, schemes)));
        let same_rules = |known: &&Generation| known.versions.get(..2) == versions.get(..2) && known.names == names;
        let resumption = match before.filter(same_rules) {
            Some(known) => Arc::clone(&known.resumption),
            None => Arc::new(Resumption::new(&self.options.session_resumption, &self.time, bound_to)),
        };
        let (policy, full_scan) = (self.options.ocsp_staple_policy, self.options.full_scan_certs_on_sni_mismatch);
        let selector = Selector::new(certificates, &self.params, policy, full_scan, Arc::clone(&self.time));
        Ok(Generation {
            versions,
            names,
            selector: Arc::new(selector),
            verifier,
            resumption,
            params: self.params.clone(),
            alpn: self.alpn.clone(),
            time: Arc::clone(&self.time),
            configs: Default::default(),
        })
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("options", &self.options).finish_non_exhaustive()
    }
}

impl ServerChoice {
    /// To be called when the handshake is complete, before any data is used: notes what became of the peer's certificate, and judges
    /// the certificate of a resumed session again, which rustls does not.
    ///
    /// # Errors
    /// When the resumed peer would not be let in today. The connection is to be closed.
    pub fn finish(&self, connection: &ServerConnection, handshake: &mut Handshake) -> Result<(), VerifyFailure> {
        let Some(verifier) = &self.generation.verifier else { return Ok(()) };
        let chain = connection.peer_certificates().unwrap_or_default();
        if chain.is_empty() {
            handshake.validation = PeerValidation::NoCertificate;
            return Ok(());
        }
        if connection.handshake_kind() != Some(HandshakeKind::Resumed) {
            return Ok(());
        }
        let now = self.generation.time.current_time().unwrap_or(UnixTime::since_unix_epoch(Default::default()));
        let verdict = verifier.judge(chain, now, &Default::default());
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
    /// Two of the validation rules, then one of each certificate.
    versions: Vec<u64>,
    names: [u8; 32],
    selector: Arc<Selector>,
    verifier: Option<Arc<Verifier>>,
    resumption: Arc<Resumption>,
    params: Resolved,
    alpn: Vec<Vec<u8>>,
    time: Arc<dyn TimeProvider>,
    configs: [OnceLock<Result<Arc<ServerConfig>, ContextError>>; 6],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preference {
    Client,
    Server(Order),
}

/// One of the configurations of a generation; made when first needed.
#[derive(Debug, Clone, Copy)]
struct Variant {
    alpn: bool,
    preference: Preference,
}

impl Variant {
    fn index(self) -> usize {
        let preference = match self.preference {
            Preference::Client => 0,
            Preference::Server(Order::Aes) => 1,
            Preference::Server(Order::ChaCha) => 2,
        };
        usize::from(self.alpn) * 3 + preference
    }
}

impl Generation {
    fn config(&self, variant: Variant) -> Result<Arc<ServerConfig>, ContextError> {
        let make = || self.make_config(variant).map(Arc::new).map_err(|e| ContextError::Unusable(e.to_string()));
        match self.configs.get(variant.index()) {
            Some(made) => made.get_or_init(make).clone(),
            None => make(),
        }
    }

    fn make_config(&self, variant: Variant) -> Result<ServerConfig, rustls::Error> {
        let order = match variant.preference {
            Preference::Server(order) => order,
            Preference::Client => Order::Aes,
        };
        let builder = ServerConfig::builder_with_details(self.params.provider(order), Arc::clone(&self.time))
            .with_protocol_versions(self.params.versions)?;
        let builder = match &self.verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier) as _),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&self.selector) as _);
        config.ignore_client_order = variant.preference != Preference::Client;
        config.session_storage = Arc::clone(&self.resumption.store);
        match &self.resumption.tickets {
            Some(tickets) => config.ticketer = Arc::clone(tickets),
            None => config.send_tls13_tickets = 0,
        }
        if variant.alpn {
            config.alpn_protocols.clone_from(&self.alpn);
        }
        Ok(config)
    }
}

/// Whom the context claims to be: sessions outlive a renewed certificate, not one for other names or from another issuer.
fn names_digest(certificates: &[Arc<TlsCertificate>]) -> [u8; 32] {
    let mut text = String::new();
    for leaf in certificates.iter().filter_map(|certificate| certificate.leaf()) {
        for part in leaf.sans().map(|(_, name)| name).chain([leaf.subject(), leaf.issuer()]) {
            text.push_str(&part.len().to_string());
            text.push(':');
            text.push_str(part);
        }
        text.push('\n');
    }
    sha256(text.as_bytes())
}

/// Whom the context trusts, so that a ticket that was issued under other authorities opens nothing, in no process. Names and hashes are
/// judged again on resumption.
fn trust_digest(context: Option<&ValidationContext>) -> [u8; 32] {
    let Some(context) = context else { return [0; 32] };
    let mut all = Vec::new();
    let domains = context.trust_domains.as_ref().and_then(|slot| slot.get());
    let of_domains = domains.iter().flat_map(|domains| domains.bundles()).map(|(_, bundle)| bundle);
    for bundle in context.trusted_ca.iter().chain(of_domains) {
        bundle.certificates().iter().for_each(|certificate| all.extend(sha256(certificate.der())));
        all.push(0);
    }
    sha256(&all)
}

/// Whether a ClientHello, in the records in which it came, asks for an OCSP staple (`status_request`, RFC 6066 8). rustls does not tell.
pub fn asks_for_ocsp_staple(records: &[u8]) -> bool {
    fn vector<'a>(bytes: &mut &'a [u8], length_bytes: usize) -> Option<&'a [u8]> {
        let (length, rest) = bytes.split_at_checked(length_bytes)?;
        let length = length.iter().fold(0usize, |length, byte| (length << 8) | usize::from(*byte));
        let (value, rest) = rest.split_at_checked(length)?;
        *bytes = rest;
        Some(value)
    }
    fn find(records: &[u8]) -> Option<bool> {
        let (mut rest, mut message) = (records, Vec::new());
        while let Some((header, after)) = rest.split_first_chunk::<3>() {
            rest = after;
            match (header, vector(&mut rest, 2)) {
                ([22, ..], Some(fragment)) => message.extend_from_slice(fragment),
                _ => break,
            }
        }
        let mut body = message.strip_prefix(&[1])?;
        let mut hello = vector(&mut body, 3)?.get(34..)?;
        vector(&mut hello, 1)?; // session ID
        vector(&mut hello, 2)?; // cipher suites
        vector(&mut hello, 1)?; // compression methods
        let mut extensions = vector(&mut hello, 2)?;
        while let Some((kind, after)) = extensions.split_first_chunk::<2>() {
            if *kind == [0, 5] {
                return Some(true);
            }
            extensions = after;
            vector(&mut extensions, 2)?;
        }
        Some(false)
    }
    find(records).unwrap_or(false)
}

#[cfg(test)]
mod tests;
