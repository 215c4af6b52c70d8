//! Which of a context's certificates a client is shown: Envoy's default certificate selector.
//!
//! By server name, exact first, then with a wildcard for the first label; among the certificates of a name an ECDSA one if the client can take
//! it; without a match the first certificate, or with `full_scan_certs_on_sni_mismatch` the first that the client can take. A
//! certificate whose OCSP staple the policy misses is passed over. Unlike Envoy, names are compared without regard to case.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::time_provider::TimeProvider;
use rustls::{CipherSuite, NamedGroup, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;

use crate::handshake::{Handshake, StapleAction};
use crate::material::{KeyType, TlsCertificate};
use crate::params::Resolved;

/// `ocsp_staple_policy`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OcspStaplePolicy {
    /// Staple if there is a response that has not expired.
    #[default]
    LenientStapling,
    /// A response that is configured must not have expired.
    StrictStapling,
    /// There must be one.
    MustStaple,
}

struct Entry {
    certificate: Arc<TlsCertificate>,
    plain: Arc<CertifiedKey>,
    stapled: Option<Arc<CertifiedKey>>,
}

pub(crate) struct Selector {
    entries: Vec<Entry>,
    /// Lower-case names (`.example` for `*.example`) to indices into `entries`, one per kind of key, the earlier certificate first.
    by_name: HashMap<String, Vec<usize>>,
    policy: OcspStaplePolicy,
    full_scan: bool,
    tls13: bool,
    time: Arc<dyn TimeProvider>,
}

/// What the client can take.
#[derive(Debug, Clone, Copy, Default)]
struct Capabilities {
    p256: bool,
    p384: bool,
    p521: bool,
    ocsp: bool,
}

impl Capabilities {
    fn ecdsa(self) -> bool {
        self.p256 || self.p384 || self.p521
    }

    fn takes(self, key: KeyType) -> bool {
        match key {
            KeyType::EcdsaP256 => self.p256,
            KeyType::EcdsaP384 => self.p384,
            KeyType::EcdsaP521 => self.p521,
            KeyType::Rsa | KeyType::Ed25519 => false,
        }
    }
}

impl Selector {
    /// `certificates` is not empty.
    pub(crate) fn new(
        certificates: Vec<Arc<TlsCertificate>>,
        params: &Resolved,
        policy: OcspStaplePolicy,
        full_scan: bool,
        time: Arc<dyn TimeProvider>,
    ) -> Self {
        let limit = |key: &Arc<CertifiedKey>| limited_key(key, params);
        let entry = |certificate: Arc<TlsCertificate>| Entry {
            plain: limit(certificate.certified_key()),
            stapled: certificate.stapled().map(limit),
            certificate,
        };
        let entries: Vec<Entry> = certificates.into_iter().map(entry).collect();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            for name in entry.certificate.server_names() {
                let pattern = if name.starts_with("*.") { name.get(1..).unwrap_or(name) } else { name };
                let known = by_name.entry(pattern.to_owned()).or_default();
                let class = key_class(entry.certificate.key_type());
                let taken = |at: &usize| entries.get(*at).is_some_and(|e| key_class(e.certificate.key_type()) == class);
                if !known.iter().any(taken) {
                    known.push(index);
                }
            }
        }
        Self { entries, by_name, policy, full_scan, tls13: params.allows_tls13(), time }
    }

    fn select(&self, sni: Option<&str>, client: Capabilities) -> Option<(&Entry, StapleAction)> {
        let sni = sni.filter(|name| !name.is_empty());
        if let Some(name) = sni {
            let lower = name.to_ascii_lowercase();
            let wildcard = lower.get(1..).and_then(|rest| rest.find('.')).and_then(|dot| lower.get(dot + 1..));
            for pattern in [Some(lower.as_str()), wildcard.filter(|w| w.len() > 1)].into_iter().flatten() {
                let named = self.by_name.get(pattern).into_iter().flatten().filter_map(|at| self.entries.get(*at));
                if let Some(found) = self.best(named, client) {
                    return Some(found);
                }
            }
        }
        if (sni.is_none() || self.full_scan)
            && let Some(found) = self.best(self.entries.iter(), client)
        {
            return Some(found);
        }
        self.entries.first().map(|entry| (entry, self.staple_action(entry, client)))
    }

    /// The first certificate that suits the client best: with ECDSA if it takes that, otherwise another.
    fn best<'a>(
        &'a self,
        entries: impl Iterator<Item = &'a Entry>,
        client: Capabilities,
    ) -> Option<(&'a Entry, StapleAction)> {
        let mut candidate = None;
        for entry in entries {
            let action = self.staple_action(entry, client);
            if action == StapleAction::Fail {
                continue;
            }
            let key = entry.certificate.key_type();
            if client.takes(key) || (!client.ecdsa() && !key.is_ecdsa()) {
                return Some((entry, action));
            }
            if candidate.is_none() && !key.is_ecdsa() {
                candidate = Some((entry, action));
            }
        }
        candidate
    }

    fn staple_action(&self, entry: &Entry, client: Capabilities) -> StapleAction {
        if !client.ocsp {
            return StapleAction::ClientNotCapable;
        }
        let now = self.time.current_time().and_then(|now| i64::try_from(now.as_secs()).ok()).unwrap_or(i64::MAX);
        let staple = entry.certificate.ocsp_staple();
        let valid = staple.is_some_and(|staple| !staple.is_expired(now));
        let policy = if entry.certificate.must_staple() { OcspStaplePolicy::MustStaple } else { self.policy };
        match policy {
            _ if valid => StapleAction::Staple,
            OcspStaplePolicy::MustStaple => StapleAction::Fail,
            OcspStaplePolicy::StrictStapling if staple.is_some() => StapleAction::Fail,
            OcspStaplePolicy::StrictStapling | OcspStaplePolicy::LenientStapling => StapleAction::NoStaple,
        }
    }

    fn capabilities(&self, hello: &ClientHello<'_>, ocsp: bool) -> Capabilities {
        let (suites, schemes) = (hello.cipher_suites(), hello.signature_schemes());
        if self.tls13 && suites.iter().any(|suite| is_tls13(*suite)) {
            return Capabilities {
                p256: schemes.contains(&SignatureScheme::ECDSA_NISTP256_SHA256),
                p384: schemes.contains(&SignatureScheme::ECDSA_NISTP384_SHA384),
                p521: schemes.contains(&SignatureScheme::ECDSA_NISTP521_SHA512),
                ocsp,
            };
        }
        // TLS 1.2 has curves among the groups (RFC 8422 5.1.1) and names the kind of key in its suites. Envoy stops there, and shows
        // an ECDSA certificate to a client that does not take the signature.
        let groups = hello.named_groups().unwrap_or_default();
        let signs = |scheme: &SignatureScheme| {
            use SignatureScheme as S;
            matches!(*scheme, S::ECDSA_NISTP256_SHA256 | S::ECDSA_NISTP384_SHA384 | S::ECDSA_NISTP521_SHA512)
        };
        let ecdsa = suites.iter().any(|suite| is_ecdsa(*suite)) && schemes.iter().any(signs);
        Capabilities {
            p256: ecdsa && groups.contains(&NamedGroup::secp256r1),
            p384: ecdsa && groups.contains(&NamedGroup::secp384r1),
            p521: ecdsa && groups.contains(&NamedGroup::secp521r1),
            ocsp,
        }
    }
}

impl ResolvesServerCert for Selector {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let ocsp = Handshake::with(|handshake| handshake.is_some_and(|h| h.client_asks_for_ocsp));
        let (entry, action) = self.select(hello.server_name(), self.capabilities(&hello, ocsp))?;
        Handshake::with(|handshake| {
            if let Some(handshake) = handshake {
                handshake.staple = Some(action);
                handshake.local = Some(Arc::clone(&entry.certificate));
            }
        });
        match action {
            StapleAction::Fail => None,
            StapleAction::Staple => entry.stapled.clone(),
            StapleAction::NoStaple | StapleAction::ClientNotCapable => Some(Arc::clone(&entry.plain)),
        }
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector").field("certificates", &self.entries.len()).finish_non_exhaustive()
    }
}

/// Envoy keeps one certificate per name and kind of key, whatever the curve.
fn key_class(key: KeyType) -> u8 {
    match key {
        KeyType::Rsa => 0,
        KeyType::EcdsaP256 | KeyType::EcdsaP384 | KeyType::EcdsaP521 => 1,
        KeyType::Ed25519 => 2,
    }
}

pub(crate) fn is_tls13(suite: CipherSuite) -> bool {
    use CipherSuite as S;
    matches!(suite, S::TLS13_AES_128_GCM_SHA256 | S::TLS13_AES_256_GCM_SHA384 | S::TLS13_CHACHA20_POLY1305_SHA256)
}

fn is_ecdsa(suite: CipherSuite) -> bool {
    use CipherSuite as S;
    matches!(
        suite,
        S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | S::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            | S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

/// The same chain and key, signing only with the configured `signature_algorithms`.
pub(crate) fn limited_key(key: &Arc<CertifiedKey>, params: &Resolved) -> Arc<CertifiedKey> {
    if !params.schemes_configured {
        return Arc::clone(key);
    }
    let limited = LimitedKey { inner: Arc::clone(&key.key), allowed: params.schemes.clone() };
    Arc::new(CertifiedKey { key: Arc::new(limited), ..CertifiedKey::clone(key) })
}

#[derive(Debug)]
struct LimitedKey {
    inner: Arc<dyn SigningKey>,
    allowed: Vec<SignatureScheme>,
}

impl SigningKey for LimitedKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let both: Vec<_> = self.allowed.iter().filter(|scheme| offered.contains(scheme)).copied().collect();
        self.inner.choose_scheme(&both)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.inner.public_key()
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }
}
