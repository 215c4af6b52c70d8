//! The check of a peer's certificate: Envoy's default certificate validator, on rustls-webpki.
//!
//! A [`Verifier`] judges a chain by a [`ValidationContext`] in Envoy's order: chain to a trusted certificate (validity, extended key
//! usage, depth, revocation), then names, then hashes. Every refusal names the check in Envoy's words ([`VerifyFailure`]) and
//! says which of Envoy's counters it belongs to. rustls calls it for each full handshake; [`crate::server`] and [`crate::client`] call
//! it again when a session is resumed, as Envoy does, so that a certificate that expired or was revoked meanwhile ends there.
//!
//! Two kinds of leaves that webpki does not take are judged here ([`chain`]), because `openssl` makes them by default and Envoy takes
//! them: X.509 version 1, and those marked as an authority. They have to be signed by a trusted certificate itself, and with revocation
//! lists or SPIFFE names in the context they are refused.
//!
//! Where it differs from OpenSSL's verification, it is stricter:
//! - the key usage of the leaf, if there is one, must have digitalSignature (X.509-SVID section 4.3);
//! - at most six intermediates and at most ten certificates sent beside the leaf;
//! - with `allow_expired_certificate`, there must be a moment at which the whole chain was valid.

mod chain;

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};

use crate::der::{Cert, GeneralNames};
use crate::handshake::{ExpectedNames, Handshake, PeerValidation};
use crate::info::{san_text, sha256};
use crate::params::{Role, signature_algorithms};
use crate::san::{SanMatcher, SanType, list_matches};
use crate::slot::SecretSlot;
use crate::spiffe::SpiffeId;
use crate::trust_domains::TrustDomains;
use crate::validation::ValidationContext;

/// Which check failed: each belongs to a counter of Envoy's `ssl.` family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedCheck {
    /// `fail_verify_no_cert`: the peer was to present a certificate and did not.
    NoCertificate,
    /// `fail_verify_error`: no chain to a trusted certificate.
    Chain,
    /// `fail_verify_san`: no name matches.
    Names,
    /// `fail_verify_cert_hash`: none of the hashes matches.
    Hash,
    /// `connection_error`: the leaf's key usage does not allow handshakes to be signed.
    KeyUsage,
}

/// Why a peer's certificate was refused.
#[derive(Debug, Clone)]
pub struct VerifyFailure {
    check: FailedCheck,
    message: String,
    error: CertificateError,
}

impl VerifyFailure {
    fn new(check: FailedCheck, message: String, error: CertificateError) -> Self {
        Self { check, message, error }
    }

    /// Which check it was.
    pub fn check(&self) -> FailedCheck {
        self.check
    }

    /// What Envoy says in `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`, without the codes around it:
    /// `verify cert failed: SAN matcher, certificate SANs are [a.example]`.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// As rustls has to be told, so that the peer gets a fitting alert.
    fn to_error(&self) -> Error {
        let error = match &self.error {
            CertificateError::ApplicationVerificationFailure => {
                CertificateError::Other(OtherError(Arc::new(self.clone())))
            }
            error => error.clone(),
        };
        Error::InvalidCertificate(error)
    }
}

impl fmt::Display for VerifyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for VerifyFailure {}

/// The judgement on a chain.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) validation: PeerValidation,
    pub(crate) failure: Option<VerifyFailure>,
    pub(crate) accepted: bool,
}

impl Verdict {
    fn passed(validation: PeerValidation) -> Self {
        Self { validation, failure: None, accepted: true }
    }

    fn failed(failure: VerifyFailure, accepted: bool) -> Self {
        Self { validation: PeerValidation::Failed, failure: Some(failure), accepted }
    }
}

/// Judges peers for one context. Immutable; a changed secret makes a new one.
pub struct Verifier {
    /// `None` only for clients that were told to verify nothing.
    context: Option<ValidationContext>,
    role: Role,
    client_certificate_required: bool,
    auto_sni_san_validation: bool,
    schemes: Vec<SignatureScheme>,
    ca_subjects: Vec<DistinguishedName>,
}

impl Verifier {
    /// For a server. The caller has checked that the context verifies something or accepts the untrusted.
    pub(crate) fn of_clients(context: ValidationContext, required: bool, schemes: Vec<SignatureScheme>) -> Self {
        // As in Envoy, rules that a certificate has to satisfy leave no room for having none.
        let required = required || (context.demands_a_certificate() && !context.accepts_untrusted());
        let ca_subjects = if context.suppress_client_ca_list { Vec::new() } else { subjects(&context) };
        Self {
            context: Some(context),
            role: Role::Server,
            client_certificate_required: required,
            auto_sni_san_validation: false,
            schemes,
            ca_subjects,
        }
    }

    /// For a client. `None` verifies nothing but that the server holds the key of the certificate it shows.
    pub(crate) fn of_servers(
        context: Option<ValidationContext>,
        auto_sni_san_validation: bool,
        schemes: Vec<SignatureScheme>,
    ) -> Self {
        Self {
            context,
            role: Role::Client,
            client_certificate_required: false,
            auto_sni_san_validation,
            schemes,
            ca_subjects: Vec::new(),
        }
    }

    /// Judges a chain, leaf first.
    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>], now: UnixTime, names: &ExpectedNames) -> Verdict {
        let Some(leaf) = chain.first() else {
            let message = "verify cert failed: empty cert chain".to_owned();
            return Verdict::failed(
                VerifyFailure::new(FailedCheck::Chain, message, CertificateError::BadEncoding),
                false,
            );
        };
        let Some(context) = &self.context else {
            return match names.list.is_empty() {
                true => Verdict::passed(PeerValidation::NotValidated),
                false => Verdict::failed(names_without_trust(), false),
            };
        };
        let untrusted = context.accepts_untrusted();
        let mut validation = PeerValidation::NotValidated;
        let chained = match (&context.trust_domains, &context.trusted_ca) {
            (Some(domains), _) => self.check_trust_domain(context, domains, chain, leaf, now).map(|()| true),
            (None, Some(trust)) => chain::verify(context, trust, self.role, chain, now).map(|()| true),
            (None, None) => Ok(false),
        };
        match chained {
            Ok(true) => validation = PeerValidation::Validated,
            Ok(false) => {}
            Err(failure) => return Verdict::failed(failure, untrusted),
        }
        let checked = match self.check_names(context, leaf, names) {
            Ok(checked) => checked,
            Err(failure) => return Verdict::failed(failure, untrusted),
        };
        let checked = match check_hashes(context, leaf) {
            Ok(hashes) => checked || hashes,
            Err(failure) => return Verdict::failed(failure, untrusted),
        };
        if checked {
            validation = PeerValidation::Validated;
        }
        if validation == PeerValidation::Validated || untrusted {
            return Verdict::passed(validation);
        }
        // Unreachable while contexts that verify nothing are not built; if one is, it stays shut.
        let message = "verify cert failed: the validation context verifies nothing".to_owned();
        Verdict::failed(VerifyFailure::new(FailedCheck::Chain, message, CertificateError::UnknownIssuer), false)
    }

    /// The chain has to lead to the bundle of the domain that the leaf's one SPIFFE ID names.
    fn check_trust_domain(
        &self,
        context: &ValidationContext,
        domains: &SecretSlot<TrustDomains>,
        chain: &[CertificateDer<'_>],
        leaf: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Result<(), VerifyFailure> {
        let unspecific = CertificateError::ApplicationVerificationFailure; // the alert of Envoy's validator
        let refuse = |what: &str| {
            let message = format!("verify cert failed: {what}");
            Err(VerifyFailure::new(FailedCheck::Chain, message, unspecific.clone()))
        };
        let cert = Cert::parse(leaf);
        // X.509-SVID 4.3: who may sign for others is no workload.
        if cert.as_ref().is_none_or(|cert| cert.may_sign_certificates()) {
            return refuse("cert precheck");
        }
        let names = cert.and_then(|cert| cert.general_names().ok().flatten());
        let uris: Vec<_> =
            names.into_iter().flatten().filter_map(san_text).filter(|(k, _)| *k == SanType::Uri).collect();
        let id = match uris.as_slice() {
            [(_, id)] => SpiffeId::parse(id).ok(),
            [] => None,
            _ => return refuse("more than one URI name beside a SPIFFE ID"), // X.509-SVID 2; Envoy takes the first
        };
        let known = domains.get();
        let bundle = id.and_then(|id| known.as_ref()?.bundle(id.trust_domain()));
        let Some(bundle) = bundle else { return refuse("no trust bundle store") };
        chain::verify(context, bundle, self.role, chain, now)
            .map_err(|failure| VerifyFailure { error: unspecific, ..failure })
    }

    /// Whether any name was checked, and passed.
    fn check_names(
        &self,
        context: &ValidationContext,
        leaf: &CertificateDer<'_>,
        expected: &ExpectedNames,
    ) -> Result<bool, VerifyFailure> {
        let by_sni = match &expected.sni {
            Some(sni) if self.auto_sni_san_validation && expected.list.is_empty() => vec![SanMatcher::dns(sni)],
            _ => Vec::new(),
        };
        let matchers = if by_sni.is_empty() { context.match_subject_alt_names.as_slice() } else { &by_sni };
        if expected.list.is_empty() && matchers.is_empty() {
            return Ok(false);
        }
        let names = Cert::parse(leaf).and_then(|cert| cert.general_names().ok().flatten());
        let refuse = |what: String| {
            let message = format!("verify cert failed: {what}");
            VerifyFailure::new(FailedCheck::Names, message, CertificateError::ApplicationVerificationFailure)
        };
        if !expected.list.is_empty() && !names.is_some_and(|names| list_matches(&expected.list, names)) {
            let (wanted, got) = (expected.list.join(", "), all_names(names));
            return Err(refuse(format!("verify SAN list, expected SANs: [{wanted}], certificate SANs: [{got}]")));
        }
        let matches = |names: GeneralNames<'_>| matchers.iter().any(|matcher| matcher.matches_any(names));
        if !matchers.is_empty() && !names.is_some_and(matches) {
            return Err(refuse(match context.trust_domains {
                Some(_) => "SAN match".to_owned(), // all that Envoy's SPIFFE validator says
                None => format!("SAN matcher, certificate SANs are [{}]", all_names(names)),
            }));
        }
        Ok(true)
    }

    /// Judges what rustls was shown, and notes it in the handshake in reach.
    fn judge_and_note(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).map(borrowed).collect();
        Handshake::with(|handshake| {
            let names = match (&handshake, self.role) {
                (Some(handshake), _) => handshake.names.clone(),
                (None, Role::Server) => ExpectedNames::default(),
                // Which names this connection wants is not known: none of them can be said to be there.
                (None, Role::Client) => return Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
            };
            let verdict = self.judge(&chain, now, &names);
            let result = match &verdict.failure {
                Some(failure) if !verdict.accepted => Err(failure.to_error()),
                _ => Ok(()),
            };
            if let Some(handshake) = handshake {
                handshake.validation = verdict.validation;
                handshake.failure = verdict.failure;
            }
            result
        })
    }

    /// Notes the peer's scheme; refuses one that was not offered and a leaf that may not sign handshakes. The leaf's key.
    fn before_signature<'a>(
        &self,
        cert: &'a CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<SubjectPublicKeyInfoDer<'a>, Error> {
        if !self.schemes.contains(&dss.scheme) {
            return Err(rustls::PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        let leaf = Cert::parse(cert).ok_or(CertificateError::BadEncoding)?;
        let may_sign = leaf.may_sign_handshakes();
        Handshake::with(|handshake| {
            if let Some(handshake) = handshake {
                handshake.peer_signature_scheme = Some(dss.scheme);
                if !may_sign {
                    handshake.failure = Some(key_usage());
                }
            }
        });
        if may_sign { Ok(SubjectPublicKeyInfoDer::from(leaf.spki)) } else { Err(key_usage().to_error()) }
    }

    /// By the bare key, as the certificate was read before: webpki would not take one of version 1.
    fn verify_tls12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = self.before_signature(cert, dss)?;
        let key = webpki::RawPublicKeyEntity::try_from(&spki).map_err(|_| CertificateError::BadEncoding)?;
        let mapping = signature_algorithms().mapping.iter().find(|(scheme, _)| *scheme == dss.scheme);
        let mut algorithms = mapping.iter().flat_map(|(_, algorithms)| algorithms.iter());
        if algorithms.any(|algorithm| key.verify_signature(*algorithm, message, dss.signature()).is_ok()) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = self.before_signature(cert, dss)?;
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &spki, dss, &signature_algorithms())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("role", &self.role).finish_non_exhaustive()
    }
}

fn borrowed<'a>(der: &'a CertificateDer<'_>) -> CertificateDer<'a> {
    CertificateDer::from(der.as_ref())
}

fn key_usage() -> VerifyFailure {
    let message = "key usage does not allow digital signatures".to_owned();
    VerifyFailure::new(FailedCheck::KeyUsage, message, CertificateError::InvalidPurpose)
}

fn names_without_trust() -> VerifyFailure {
    let message = "verify cert failed: verify SAN list without trusted CA".to_owned();
    VerifyFailure::new(FailedCheck::Chain, message, CertificateError::UnknownIssuer)
}

fn subjects(context: &ValidationContext) -> Vec<DistinguishedName> {
    let mut subjects: Vec<DistinguishedName> = Vec::new();
    let domains = context.trust_domains.as_ref().and_then(|slot| slot.get());
    let of_domains = domains.iter().flat_map(|domains| domains.bundles()).map(|(_, bundle)| bundle);
    for anchor in context.trusted_ca.iter().chain(of_domains).flat_map(|trust| trust.anchors()) {
        let subject = DistinguishedName::in_sequence(anchor.subject.as_ref());
        if subjects.iter().all(|known| known.as_ref() != subject.as_ref()) {
            subjects.push(subject);
        }
    }
    subjects
}

fn all_names(names: Option<GeneralNames<'_>>) -> String {
    let texts: Vec<_> = names.into_iter().flatten().filter_map(san_text).map(|(_, text)| text).collect();
    texts.join(", ")
}

/// Whether there are hashes, of which one matches.
fn check_hashes(context: &ValidationContext, leaf: &CertificateDer<'_>) -> Result<bool, VerifyFailure> {
    let (certificate, spki) = (&context.verify_certificate_hash, &context.verify_certificate_spki);
    if certificate.is_empty() && spki.is_empty() {
        return Ok(false);
    }
    let by_certificate = !certificate.is_empty() && certificate.contains(&sha256(leaf));
    let by_spki = || Cert::parse(leaf).is_some_and(|cert| spki.contains(&sha256(cert.spki)));
    if by_certificate || (!spki.is_empty() && by_spki()) {
        return Ok(true);
    }
    let message = "verify cert failed: cert hash and spki".to_owned();
    Err(VerifyFailure::new(FailedCheck::Hash, message, CertificateError::ApplicationVerificationFailure))
}

/// What rustls wants of both verifiers in the same words.
macro_rules! signatures_by_the_bare_key {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verify_tls12(message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.verify_tls13(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.schemes.clone()
        }
    };
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.client_certificate_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.ca_subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge_and_note(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    signatures_by_the_bare_key!();
}

impl ServerCertVerifier for Verifier {
    /// The server name is not compared: that is done only where `auto_sni_san_validation` or `auto_san_validation` ask for it.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge_and_note(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    signatures_by_the_bare_key!();
}

#[cfg(test)]
mod tests;
