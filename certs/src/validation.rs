//! What a peer's certificate must satisfy: Envoy's `CertificateValidationContext`, parsed.
//!
//! A context may come in two halves, as `combined_validation_context` has it: names from the configuration, the trust bundle from a
//! secret. [`ValidationContext::merge`] joins them as protobuf's `MergeFrom` joins the messages, and only the whole is judged by
//! [`ValidationContext::check`]: half a context is never used.
//!
//! Deliberately missing: `require_signed_certificate_timestamp` (Envoy ignores it), custom validators other than that for SPIFFE.

use std::sync::Arc;

use crate::material::{Crls, TrustBundle};
use crate::san::SanMatcher;
use crate::slot::SecretSlot;
use crate::trust_domains::TrustDomains;

/// `trust_chain_verification`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrustChainVerification {
    /// A chain to the trust bundle is demanded, if there is a bundle.
    #[default]
    VerifyTrustChain,
    /// Whatever fails is counted and let pass.
    AcceptUntrusted,
}

/// The rules for a peer's certificate. Empty means that nothing is checked.
#[derive(Debug, Clone, Default)]
pub struct ValidationContext {
    /// `trusted_ca`
    pub trusted_ca: Option<Arc<TrustBundle>>,
    /// `custom_validator_config` with the SPIFFE validator: takes the place of `trusted_ca`, beside which it is refused. In a slot, because
    /// `trust_bundles` may be a file that is followed.
    pub trust_domains: Option<Arc<SecretSlot<TrustDomains>>>,
    /// `crl`, beside the lists that the trust bundle may hold.
    pub crls: Option<Arc<Crls>>,
    /// `match_typed_subject_alt_names`, or what `match_subject_alt_names` stands for. One has to match.
    pub match_subject_alt_names: Vec<SanMatcher>,
    /// `verify_certificate_hash`: SHA-256 of the leaf. With `verify_certificate_spki`, one of all has to match.
    pub verify_certificate_hash: Vec<[u8; 32]>,
    /// `verify_certificate_spki`: SHA-256 of the leaf's public key.
    pub verify_certificate_spki: Vec<[u8; 32]>,
    /// `trust_chain_verification`
    pub trust_chain_verification: TrustChainVerification,
    /// `allow_expired_certificate`
    pub allow_expired_certificate: bool,
    /// `only_verify_leaf_cert_crl`
    pub only_verify_leaf_cert_crl: bool,
    /// `max_verify_depth`: certificates after the leaf, trust anchor included. 0 means 1, as in Envoy.
    pub max_verify_depth: Option<u32>,
    /// `suppress_client_ca_list`: servers do not tell clients which authorities they trust.
    pub suppress_client_ca_list: bool,
}

/// A context that must not be used. The first three are Envoy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValidationError {
    /// Any certificate could claim the name.
    #[error("SAN-based verification of peer certificates without trusted CA is insecure and not allowed")]
    NamesWithoutCa,
    /// Nobody to have revoked anything.
    #[error("a CRL is given without trusted CA")]
    CrlWithoutCa,
    /// It would say that something is checked.
    #[error("certificate validity period is always ignored without trusted CA")]
    ExpiredWithoutCa,
    /// `auto_sni_san_validation`
    #[error("'auto_sni_san_validation' was configured without configuring a trusted CA")]
    SniWithoutCa,
    /// The SPIFFE validator looks at trust domains and names alone. Envoy ignores the rest silently.
    #[error("the SPIFFE certificate validator cannot be combined with {0}")]
    WithTrustDomains(&'static str),
    /// A secret that says nothing would open what it is there to guard.
    #[error("the validation context verifies nothing: it has neither trusted CA nor certificate hashes")]
    Nothing,
}

impl ValidationContext {
    /// A context that trusts this bundle and says nothing else.
    pub fn trusting(bundle: Arc<TrustBundle>) -> Self {
        Self { trusted_ca: Some(bundle), ..Self::default() }
    }

    /// `self` overlaid by `over`: lists are joined, single values replaced where `over` has one.
    pub fn merge(&self, over: &Self) -> Self {
        let accept = TrustChainVerification::AcceptUntrusted;
        Self {
            trusted_ca: over.trusted_ca.clone().or_else(|| self.trusted_ca.clone()),
            trust_domains: over.trust_domains.clone().or_else(|| self.trust_domains.clone()),
            crls: over.crls.clone().or_else(|| self.crls.clone()),
            match_subject_alt_names: joined(&self.match_subject_alt_names, &over.match_subject_alt_names),
            verify_certificate_hash: joined(&self.verify_certificate_hash, &over.verify_certificate_hash),
            verify_certificate_spki: joined(&self.verify_certificate_spki, &over.verify_certificate_spki),
            trust_chain_verification: if over.trust_chain_verification == accept {
                accept
            } else {
                self.trust_chain_verification
            },
            allow_expired_certificate: self.allow_expired_certificate || over.allow_expired_certificate,
            only_verify_leaf_cert_crl: self.only_verify_leaf_cert_crl || over.only_verify_leaf_cert_crl,
            max_verify_depth: over.max_verify_depth.or(self.max_verify_depth),
            suppress_client_ca_list: self.suppress_client_ca_list || over.suppress_client_ca_list,
        }
    }

    /// Whether the parts go together.
    pub fn check(&self) -> Result<(), ValidationError> {
        if self.trust_domains.is_some() {
            return self.check_beside_trust_domains();
        }
        if self.trusted_ca.is_some() {
            return Ok(());
        }
        if self.crls.is_some() {
            return Err(ValidationError::CrlWithoutCa);
        }
        if !self.match_subject_alt_names.is_empty() {
            return Err(ValidationError::NamesWithoutCa);
        }
        if self.allow_expired_certificate {
            return Err(ValidationError::ExpiredWithoutCa);
        }
        Ok(())
    }

    fn check_beside_trust_domains(&self) -> Result<(), ValidationError> {
        let given = [
            (self.trusted_ca.is_some(), "trusted_ca"),
            (self.crls.is_some(), "crl"),
            (!self.verify_certificate_hash.is_empty(), "verify_certificate_hash"),
            (!self.verify_certificate_spki.is_empty(), "verify_certificate_spki"),
            (self.accepts_untrusted(), "trust_chain_verification: ACCEPT_UNTRUSTED"),
        ];
        match given.iter().find(|(given, _)| *given) {
            Some((_, what)) => Err(ValidationError::WithTrustDomains(what)),
            None => Ok(()),
        }
    }

    /// Whether there is anything that a certificate could fail.
    pub fn verifies_anything(&self) -> bool {
        self.trusted_ca.is_some() || self.trust_domains.is_some() || self.demands_a_certificate()
    }

    /// Whether a peer without certificate fails by the rules themselves, however optional the certificate.
    pub(crate) fn demands_a_certificate(&self) -> bool {
        self.trust_domains.is_some()
            || !self.match_subject_alt_names.is_empty()
            || !self.verify_certificate_hash.is_empty()
            || !self.verify_certificate_spki.is_empty()
    }

    /// Changes with the trust domains.
    pub(crate) fn version(&self) -> u64 {
        self.trust_domains.as_ref().map_or(0, |slot| slot.version())
    }

    pub(crate) fn accepts_untrusted(&self) -> bool {
        self.trust_chain_verification == TrustChainVerification::AcceptUntrusted
    }
}

fn joined<T: Clone>(a: &[T], b: &[T]) -> Vec<T> {
    a.iter().chain(b).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Ca;

    fn names() -> ValidationContext {
        ValidationContext { match_subject_alt_names: vec![SanMatcher::dns("a.example")], ..Default::default() }
    }

    #[test]
    fn rules_that_need_a_trusted_ca_are_refused_without() {
        let ca = Ca::new("root");
        let crl = ValidationContext { crls: Some(ca.crl(&[], 2049)), ..Default::default() };
        let expired = ValidationContext { allow_expired_certificate: true, ..Default::default() };
        let untrusted =
            ValidationContext { trust_chain_verification: TrustChainVerification::AcceptUntrusted, ..names() };
        assert_eq!(names().check(), Err(ValidationError::NamesWithoutCa));
        assert_eq!(untrusted.check(), Err(ValidationError::NamesWithoutCa));
        assert_eq!(crl.check(), Err(ValidationError::CrlWithoutCa));
        assert_eq!(expired.check(), Err(ValidationError::ExpiredWithoutCa));
        let trust = ValidationContext::trusting(ca.bundle());
        for context in [names(), crl, expired, untrusted] {
            assert_eq!(context.merge(&trust).check(), Ok(()));
            assert_eq!(trust.merge(&context).check(), Ok(()));
        }
    }

    #[test]
    fn merging_loses_neither_half() {
        let (a, b) = (Ca::new("a"), Ca::new("b"));
        let hash = ValidationContext { verify_certificate_hash: vec![[1; 32]], ..names() };
        let over = ValidationContext {
            verify_certificate_hash: vec![[2; 32]],
            max_verify_depth: Some(3),
            allow_expired_certificate: true,
            ..ValidationContext::trusting(a.bundle())
        };
        let both = hash.merge(&over);
        assert!(both.trusted_ca.is_some() && both.match_subject_alt_names.len() == 1);
        assert_eq!(both.verify_certificate_hash, [[1; 32], [2; 32]]);
        assert_eq!((both.max_verify_depth, both.allow_expired_certificate), (Some(3), true));
        let later = both.merge(&ValidationContext::trusting(b.bundle()));
        assert_eq!(later.trusted_ca.unwrap().certificates()[0].subject(), "CN=b");
        assert_eq!(later.max_verify_depth, Some(3));
    }

    #[test]
    fn an_empty_context_verifies_nothing() {
        assert!(!ValidationContext::default().verifies_anything());
        assert!(names().verifies_anything() && names().demands_a_certificate());
        let trust = ValidationContext::trusting(Ca::new("a").bundle());
        assert!(trust.verifies_anything() && !trust.demands_a_certificate());
    }
}
