//! From a leaf to a trusted certificate, and in OpenSSL's words why not.

use std::cell::Cell;
use std::time::Duration;

use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, Error, ExpirationPolicy, KeyUsage, RawPublicKeyEntity, RevocationCheckDepth,
    RevocationOptionsBuilder, VerifiedPath,
};

use super::{FailedCheck, VerifyFailure};
use crate::der::Cert;
use crate::material::{MAX_CHAIN_CERTIFICATES, TrustBundle};
use crate::params::{Role, signature_algorithms};
use crate::validation::ValidationContext;

/// id-kp-serverAuth and id-kp-clientAuth
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// Checks `chain` (leaf first, not empty) for a peer of `role`.
pub(super) fn verify(
    context: &ValidationContext,
    trust: &TrustBundle,
    role: Role,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), VerifyFailure> {
    let peer = Chain { context, trust, role, chain, too_deep: Cell::new(false), stale_anchor: Cell::new(None) };
    let Some(leaf) = chain.first().filter(|_| chain.len() <= MAX_CHAIN_CERTIFICATES) else {
        return Err(refusal(chain.len(), "certificate chain too long", CertificateError::BadEncoding));
    };
    let result = match peer.verify_at(leaf, now) {
        Err(e) if context.allow_expired_certificate && is_about_time(&e) => peer.verify_at_any_time(leaf).ok_or(e),
        result => result,
    };
    match result {
        Ok(()) => Ok(()),
        Err(e) if peer.may_be_trusted_itself(&e) && peer.leaf_is_trusted_itself(leaf, now)? => Ok(()),
        Err(e) if peer.may_be_judged_here(&e, leaf) && peer.is_issued_by_anchor(leaf, now)? => Ok(()),
        Err(e) => Err(peer.explain(e, now)),
    }
}

struct Chain<'a> {
    context: &'a ValidationContext,
    trust: &'a TrustBundle,
    role: Role,
    chain: &'a [CertificateDer<'a>],
    /// A path was found and was longer than `max_verify_depth`.
    too_deep: Cell<bool>,
    /// A path was found that ends, at this depth, in a trusted certificate which is not valid now.
    stale_anchor: Cell<Option<usize>>,
}

impl Chain<'_> {
    fn verify_at(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
        let leaf = EndEntityCert::try_from(leaf)?;
        let lists = self.revocation_lists();
        let depth = match self.context.only_verify_leaf_cert_crl {
            true => RevocationCheckDepth::EndEntity,
            false => RevocationCheckDepth::Chain,
        };
        let expiration = match self.context.allow_expired_certificate {
            true => ExpirationPolicy::Ignore,
            false => ExpirationPolicy::Enforce,
        };
        // Without a list that speaks of a certificate, its status is unknown, and that is refused: webpki's default and Envoy's.
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|options| options.with_depth(depth).with_expiration_policy(expiration).build());
        let usage = match self.role {
            Role::Server => KeyUsage::client_auth(),
            Role::Client => KeyUsage::server_auth(),
        };
        let limit = self.context.max_verify_depth.map(|depth| depth.saturating_sub(1));
        let acceptable = |path: &VerifiedPath<'_>| {
            let intermediates = path.intermediate_certificates().count();
            if limit.is_some_and(|limit| u32::try_from(intermediates).is_ok_and(|n| n > limit)) {
                self.too_deep.set(true);
                return Err(Error::UnknownIssuer);
            }
            if !self.context.allow_expired_certificate && !self.anchor_is_valid(path, now) {
                self.stale_anchor.set(Some(intermediates + 1));
                return Err(Error::UnknownIssuer);
            }
            Ok(())
        };
        leaf.verify_for_usage(
            signature_algorithms().all,
            self.trust.anchors(),
            self.chain.get(1..).unwrap_or_default(),
            now,
            usage,
            revocation,
            Some(&acceptable),
        )
        .map(|_| ())
    }

    /// webpki has no opinion on when an anchor may be used; OpenSSL minds its validity like that of any other certificate. A renewed
    /// authority may be there twice.
    fn anchor_is_valid(&self, path: &VerifiedPath<'_>, now: UnixTime) -> bool {
        let used = path.anchor();
        let same = self.trust.anchors().iter().zip(self.trust.ders()).filter(|(anchor, _)| {
            anchor.subject == used.subject && anchor.subject_public_key_info == used.subject_public_key_info
        });
        let mut certs = same.filter_map(|(_, der)| Cert::parse(der));
        certs.any(|cert| validity(&cert, now).is_none())
    }

    /// `allow_expired_certificate`: a moment at which all of the path was valid, of which the latest begin and the earliest end
    /// of validity are the outermost.
    fn verify_at_any_time(&self, leaf: &CertificateDer<'_>) -> Option<()> {
        let certs = self.chain.iter().filter_map(|der| Cert::parse(der));
        let moments = certs.flat_map(|cert| [cert.not_before, cert.not_after]);
        let mut moments = moments.filter_map(|seconds| u64::try_from(seconds).ok());
        moments.find_map(|s| self.verify_at(leaf, UnixTime::since_unix_epoch(Duration::from_secs(s))).ok())
    }

    fn revocation_lists(&self) -> Vec<&CertRevocationList<'static>> {
        let own = self.context.crls.iter().flat_map(|crls| crls.lists());
        self.trust.crls().iter().chain(own).collect()
    }

    /// Whether path building ended where a certificate that is its own anchor ends.
    fn may_be_trusted_itself(&self, error: &Error) -> bool {
        if self.context.trust_domains.is_some() {
            return false; // a bundle holds authorities, and an authority is no workload (X.509-SVID 4.1)
        }
        matches!(error, Error::UnknownIssuer | Error::CaUsedAsEndEntity)
            || (self.context.allow_expired_certificate && is_about_time(error))
    }

    /// OpenSSL's partial chains, as Envoy uses them: a leaf that is itself in the trust bundle needs no issuer. Whether it was revoked
    /// can then not be told, so revocation lists exclude it.
    fn leaf_is_trusted_itself(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<bool, VerifyFailure> {
        let Some(cert) = Cert::parse(leaf).filter(|_| self.trust.contains(leaf)) else { return Ok(false) };
        if !self.revocation_lists().is_empty() {
            return Err(self.explain(Error::UnknownRevocationStatus, now));
        }
        let purpose = if self.role == Role::Server { CLIENT_AUTH } else { SERVER_AUTH };
        if !cert.has_purpose(purpose) {
            return Err(refusal(0, UNSUPPORTED_PURPOSE, CertificateError::InvalidPurpose));
        }
        match validity(&cert, now) {
            Some((text, error)) if !self.context.allow_expired_certificate => Err(refusal(0, text, error)),
            _ => Ok(true),
        }
    }

    /// Whether `error` says that webpki does not take such leaves. In SPIFFE's world there are none.
    fn may_be_judged_here(&self, error: &Error, leaf: &CertificateDer<'_>) -> bool {
        let svid = self.context.trust_domains.is_some()
            || self.context.match_subject_alt_names.iter().any(|matcher| matcher.is_spiffe());
        !svid
            && match error {
                Error::CaUsedAsEndEntity => true,
                // Before version 3 there are no extensions; who has some anyway has some that nobody has looked at.
                Error::UnsupportedCertVersion => Cert::parse(leaf).is_some_and(|cert| !cert.has_extensions()),
                error => self.context.allow_expired_certificate && is_about_time(error),
            }
    }

    /// What webpki does not take: a leaf of X.509 version 1, which `openssl x509 -req` makes, or one marked as an authority, which
    /// `openssl req -x509` makes. A trusted certificate has to have signed it.
    fn is_issued_by_anchor(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<bool, VerifyFailure> {
        let Some(cert) = Cert::parse(leaf) else { return Ok(false) };
        let signed_by = |der: &&CertificateDer<'_>| {
            let issuer =
                Cert::parse(der).filter(|issuer| issuer.subject == cert.issuer && !issuer.has_name_constraints());
            issuer.is_some_and(|issuer| is_signed_by(&cert, &issuer))
        };
        let Some(anchor) = self.trust.ders().iter().find(signed_by).and_then(|der| Cert::parse(der)) else {
            return Err(self.explain_missing_issuer());
        };
        if !self.revocation_lists().is_empty() {
            return Err(self.explain(Error::UnknownRevocationStatus, now));
        }
        let purpose = if self.role == Role::Server { CLIENT_AUTH } else { SERVER_AUTH };
        if !cert.has_purpose(purpose) {
            return Err(refusal(0, UNSUPPORTED_PURPOSE, CertificateError::InvalidPurpose));
        }
        if !self.context.allow_expired_certificate {
            for (depth, cert) in [cert, anchor].iter().enumerate() {
                if let Some((text, error)) = validity(cert, now) {
                    return Err(refusal(depth, text, error));
                }
            }
        }
        Ok(true)
    }

    fn explain(&self, error: Error, now: UnixTime) -> VerifyFailure {
        const CRL: &str = "certificate revocation check against provided CRLs failed: ";
        let of_crl = |text: &str, error| refusal(0, &format!("{CRL}{text}"), error);
        match error {
            Error::UnknownIssuer => match self.stale_anchor.get() {
                Some(depth) => refusal(depth, "certificate has expired", CertificateError::Expired),
                None => self.explain_missing_issuer(),
            },
            Error::CertExpired { .. } | Error::CertNotValidYet { .. } => self.explain_validity(now),
            Error::CertRevoked => of_crl("certificate revoked", CertificateError::Revoked),
            Error::CrlExpired { .. } => of_crl("CRL has expired", CertificateError::ExpiredRevocationList),
            Error::UnknownRevocationStatus => {
                of_crl("unable to get certificate CRL", CertificateError::UnknownRevocationStatus)
            }
            Error::InvalidCrlSignatureForPublicKey => {
                of_crl("CRL signature failure", CertificateError::UnknownRevocationStatus)
            }
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
                refusal(0, UNSUPPORTED_PURPOSE, CertificateError::InvalidPurpose)
            }
            Error::InvalidSignatureForPublicKey => {
                refusal(0, "certificate signature failure", CertificateError::UnknownIssuer)
            }
            Error::EndEntityUsedAsCa => refusal(1, "invalid CA certificate", CertificateError::UnknownIssuer),
            Error::CaUsedAsEndEntity if self.is_self_issued() => self.explain_missing_issuer(),
            Error::CaUsedAsEndEntity => {
                refusal(0, "CA certificate used as end entity", CertificateError::InvalidPurpose)
            }
            Error::PathLenConstraintViolated => {
                refusal(1, "path length constraint exceeded", CertificateError::UnknownIssuer)
            }
            Error::NameConstraintViolation => {
                refusal(0, "permitted subtree violation", CertificateError::UnknownIssuer)
            }
            Error::UnsupportedCriticalExtension => {
                refusal(0, "unhandled critical extension", CertificateError::UnhandledCriticalExtension)
            }
            other => refusal(0, &other.to_string(), CertificateError::BadEncoding),
        }
    }

    fn is_self_issued(&self) -> bool {
        self.chain.first().and_then(|leaf| Cert::parse(leaf)).is_some_and(|leaf| leaf.is_self_issued())
    }

    /// How far the certificates that were sent lead, by their names.
    fn explain_missing_issuer(&self) -> VerifyFailure {
        let certs: Vec<_> = self.chain.iter().filter_map(|der| Cert::parse(der)).collect();
        let Some((leaf, others)) = certs.split_first() else {
            return refusal(0, "malformed certificate", CertificateError::BadEncoding);
        };
        let (mut last, mut depth) = (leaf, 0);
        while let Some(issuer) = others.iter().find(|cert| cert.subject == last.issuer && depth < others.len()) {
            if last.is_self_issued() {
                break;
            }
            (last, depth) = (issuer, depth + 1);
        }
        if self.too_deep.get() {
            let limit = self.context.max_verify_depth.unwrap_or(1).max(1);
            depth = depth.min(usize::try_from(limit).unwrap_or(usize::MAX));
        }
        let text = match (last.is_self_issued() && !self.too_deep.get(), depth) {
            (true, 0) => "self signed certificate",
            (true, _) => "self signed certificate in certificate chain",
            (false, _) => "unable to get local issuer certificate",
        };
        refusal(depth, text, CertificateError::UnknownIssuer)
    }

    fn explain_validity(&self, now: UnixTime) -> VerifyFailure {
        let certs = self.chain.iter().map(|der| Cert::parse(der));
        let first = certs.enumerate().find_map(|(depth, cert)| Some((depth, validity(&cert?, now)?)));
        match first {
            Some((depth, (text, error))) => refusal(depth, text, error),
            None => refusal(0, "certificate has expired", CertificateError::Expired),
        }
    }
}

fn is_signed_by(cert: &Cert<'_>, issuer: &Cert<'_>) -> bool {
    let spki = SubjectPublicKeyInfoDer::from(issuer.spki);
    let Ok(key) = RawPublicKeyEntity::try_from(&spki) else { return false };
    let of_certificate = |algorithm: &&&dyn SignatureVerificationAlgorithm| {
        algorithm.signature_alg_id().as_ref() == cert.signature_algorithm
    };
    let mut algorithms = signature_algorithms().all.iter().filter(of_certificate);
    algorithms.any(|algorithm| key.verify_signature(*algorithm, cert.signed, cert.signature).is_ok())
}

const UNSUPPORTED_PURPOSE: &str = "unsupported certificate purpose";

fn refusal(depth: usize, text: &str, error: CertificateError) -> VerifyFailure {
    let message =
        format!("verify cert failed: X509_verify_cert: certificate verification error at depth {depth}: {text}");
    VerifyFailure::new(FailedCheck::Chain, message, error)
}

fn is_about_time(error: &Error) -> bool {
    matches!(error, Error::CertExpired { .. } | Error::CertNotValidYet { .. })
}

fn validity(cert: &Cert<'_>, now: UnixTime) -> Option<(&'static str, CertificateError)> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < cert.not_before {
        Some(("certificate is not yet valid", CertificateError::NotValidYet))
    } else if now > cert.not_after {
        Some(("certificate has expired", CertificateError::Expired))
    } else {
        None
    }
}
