//! Envoy's `TlsParameters`: versions, cipher suites, key exchange groups and signature schemes by the names BoringSSL knows,
//! resolved once into what rustls takes.
//!
//! rustls has TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, nothing older. A name that BoringSSL does not know
//! is refused. A name that it knows and rustls lacks (RSA key exchange, CBC, 3DES, SHA-1) is dropped, and [`Resolved::dropped`]
//! says so; a list of which nothing is left is refused. As in Envoy, `cipher_suites` speaks of TLS 1.2 only and the three suites of TLS 1.3
//! are always on.
//!
//! Deliberately missing: cipher aliases and operators (`HIGH`, `-ALL`, `!SHA`), compliance policies.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use rustls::crypto::aws_lc_rs::{self, cipher_suite, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, WebPkiSupportedAlgorithms};
use rustls::{CipherSuite, NamedGroup, SignatureScheme, SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::p521::P521;

/// Protocol versions that can be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2
    V1_2,
    /// TLS 1.3
    V1_3,
}

/// Which end of a handshake a context is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `DownstreamTlsContext`
    Server,
    /// `UpstreamTlsContext`
    Client,
}

/// `TlsParameters` as configured; empty means Envoy's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsParams {
    /// Default: TLS 1.2.
    pub min: Option<TlsVersion>,
    /// Default: TLS 1.3 for servers, TLS 1.2 for clients.
    pub max: Option<TlsVersion>,
    /// `[A|B]` joins suites of equal preference.
    pub cipher_suites: Vec<String>,
    /// By preference.
    pub ecdh_curves: Vec<String>,
    /// By preference.
    pub signature_algorithms: Vec<String>,
}

/// Why parameters were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// Envoy accepts it and then fails every handshake.
    #[error("tls_minimum_protocol_version is above tls_maximum_protocol_version")]
    MinAboveMax,
    /// BoringSSL refuses it, too.
    #[error("unknown {what} {name:?}")]
    Unknown {
        /// "cipher suite", …
        what: &'static str,
        /// The offending name.
        name: String,
    },
    /// BoringSSL would take it.
    #[error("cipher aliases and operators are not supported, expected names of cipher suites, got {0:?}")]
    CipherOperator(String),
    /// Everything was dropped.
    #[error("none of the {what} is supported: {names}")]
    NoneLeft {
        /// "cipher suites", …
        what: &'static str,
        /// The names.
        names: String,
    },
}

/// The order in which a server prefers the suites, decided per ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Order {
    /// As configured, AES first among suites of equal preference.
    Aes,
    /// As configured, ChaCha20 first among suites of equal preference: for clients that say so, being without AES hardware.
    ChaCha,
}

/// What the names stand for.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) versions: &'static [&'static SupportedProtocolVersion],
    /// TLS 1.2 suites; those of one group are equally preferred.
    suites: Vec<Vec<SupportedCipherSuite>>,
    groups: Vec<&'static dyn SupportedKxGroup>,
    /// Signature schemes, most preferred first.
    pub(crate) schemes: Vec<SignatureScheme>,
    /// Whether `schemes` was configured and so limits what we sign with.
    pub(crate) schemes_configured: bool,
    /// What was asked for and cannot be had.
    pub(crate) dropped: Vec<String>,
}

const DEFAULT_SUITES: &[&str] = &[
    "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
    "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
];
const DEFAULT_GROUPS: &[&str] = &["X25519", "P-256"];
const DEFAULT_SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA512,
    // BoringSSL leaves these two out by default; refusing a peer for them has no use.
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
];
const TLS13: &[SupportedCipherSuite] = &[
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
static ONLY_12: &[&SupportedProtocolVersion] = &[&version::TLS12];
static ONLY_13: &[&SupportedProtocolVersion] = &[&version::TLS13];

impl TlsParams {
    pub(crate) fn resolve(&self, role: Role) -> Result<Resolved, ParamsError> {
        let mut dropped = Vec::new();
        let min = self.min.unwrap_or(TlsVersion::V1_2);
        let default_max = if role == Role::Server { TlsVersion::V1_3 } else { TlsVersion::V1_2 };
        let max = self.max.unwrap_or(default_max.max(min));
        let versions = match (min, max) {
            (TlsVersion::V1_2, TlsVersion::V1_3) => BOTH,
            (TlsVersion::V1_2, TlsVersion::V1_2) => ONLY_12,
            (TlsVersion::V1_3, TlsVersion::V1_3) => ONLY_13,
            (TlsVersion::V1_3, TlsVersion::V1_2) => return Err(ParamsError::MinAboveMax),
        };
        let suites = resolve_suites(&or_default(&self.cipher_suites, DEFAULT_SUITES), &mut dropped)?;
        if suites.is_empty() && min == TlsVersion::V1_2 {
            return Err(none_left("cipher_suites", &self.cipher_suites));
        }
        let groups = resolve_groups(&or_default(&self.ecdh_curves, DEFAULT_GROUPS), &mut dropped)?;
        if groups.is_empty() {
            return Err(none_left("ecdh_curves", &self.ecdh_curves));
        }
        let schemes_configured = !self.signature_algorithms.is_empty();
        let schemes = if schemes_configured {
            resolve_schemes(&self.signature_algorithms, &mut dropped)?
        } else {
            DEFAULT_SCHEMES.to_vec()
        };
        if schemes.is_empty() {
            return Err(none_left("signature_algorithms", &self.signature_algorithms));
        }
        Ok(Resolved { versions, suites, groups, schemes, schemes_configured, dropped })
    }
}

impl Resolved {
    /// The provider with these suites and groups; equal ones are shared by all contexts of the process.
    pub(crate) fn provider(&self, order: Order) -> Arc<CryptoProvider> {
        // rustls offers whatever suites it has, also those of a version it will not speak.
        let mut cipher_suites = if self.allows_tls13() { TLS13.to_vec() } else { Vec::new() };
        for group in self.suites.iter().filter(|_| self.versions.contains(&&version::TLS12)) {
            let mut group = group.clone();
            group.sort_by_key(|suite| is_chacha(suite.suite()) != (order == Order::ChaCha));
            cipher_suites.extend(group);
        }
        shared(CryptoProvider { cipher_suites, kx_groups: self.groups.clone(), ..aws_lc_rs::default_provider() })
    }

    /// Whether there are others that are preferred just as much.
    pub(crate) fn has_equals(&self, suite: CipherSuite) -> bool {
        self.suites.iter().any(|group| group.len() > 1 && group.iter().any(|member| member.suite() == suite))
    }

    pub(crate) fn allows_tls13(&self) -> bool {
        self.versions.contains(&&version::TLS13)
    }

    #[cfg(test)]
    fn group_names(&self) -> impl Iterator<Item = NamedGroup> {
        self.groups.iter().map(|group| group.name())
    }
}

/// What certificates and handshakes may be signed with.
pub(crate) fn signature_algorithms() -> WebPkiSupportedAlgorithms {
    static ALGORITHMS: OnceLock<WebPkiSupportedAlgorithms> = OnceLock::new();
    *ALGORITHMS.get_or_init(|| aws_lc_rs::default_provider().signature_verification_algorithms)
}

pub(crate) fn is_chacha(suite: CipherSuite) -> bool {
    use CipherSuite as S;
    matches!(
        suite,
        S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | S::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
            | S::TLS13_CHACHA20_POLY1305_SHA256
    )
}

/// OpenSSL's name of a suite, as Envoy counts and logs it.
pub fn cipher_suite_name(suite: CipherSuite) -> &'static str {
    use CipherSuite as S;
    match suite {
        S::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        S::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        S::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        S::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        S::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        S::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "unknown_ssl_cipher",
    }
}

/// BoringSSL's name of a group.
pub fn group_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "P-256",
        NamedGroup::secp384r1 => "P-384",
        NamedGroup::secp521r1 => "P-521",
        NamedGroup::X25519MLKEM768 => "X25519MLKEM768",
        _ => "unknown_ssl_curve",
    }
}

/// BoringSSL's name of a signature scheme.
pub fn signature_scheme_name(scheme: SignatureScheme) -> &'static str {
    SCHEMES.iter().find(|(_, known)| *known == Some(scheme)).map_or("unknown_ssl_algorithm", |(name, _)| name)
}

fn or_default(names: &[String], default: &[&str]) -> Vec<String> {
    if names.is_empty() { default.iter().map(|name| (*name).to_owned()).collect() } else { names.to_vec() }
}

fn none_left(what: &'static str, names: &[String]) -> ParamsError {
    ParamsError::NoneLeft { what, names: names.join(", ") }
}

fn resolve_suites(names: &[String], dropped: &mut Vec<String>) -> Result<Vec<Vec<SupportedCipherSuite>>, ParamsError> {
    let mut groups: Vec<Vec<SupportedCipherSuite>> = Vec::new();
    let mut seen = Vec::new();
    for entry in names.iter().flat_map(|name| name.split(':')).filter(|entry| !entry.is_empty()) {
        let members = entry.strip_prefix('[').and_then(|e| e.strip_suffix(']')).unwrap_or(entry);
        let mut group = Vec::new();
        for name in members.split('|') {
            match resolve_suite(name)? {
                Some(suite) if seen.contains(&suite.suite()) => {}
                Some(suite) => {
                    seen.push(suite.suite());
                    group.push(suite);
                }
                None => dropped.push(name.to_owned()),
            }
        }
        if !group.is_empty() {
            groups.push(group);
        }
    }
    Ok(groups)
}

/// The suite, or nothing for one that BoringSSL has and rustls lacks.
fn resolve_suite(name: &str) -> Result<Option<SupportedCipherSuite>, ParamsError> {
    Ok(Some(match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" | "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        }
        "ECDHE-ECDSA-AES256-GCM-SHA384" | "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        }
        "ECDHE-ECDSA-CHACHA20-POLY1305" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => {
            cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "ECDHE-RSA-AES128-GCM-SHA256" | "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => {
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        }
        "ECDHE-RSA-AES256-GCM-SHA384" | "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => {
            cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        }
        "ECDHE-RSA-CHACHA20-POLY1305" | "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => {
            cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
        _ if LACKING_SUITES.contains(&name) || LACKING_SUITES_RFC.contains(&name) => return Ok(None),
        _ if CIPHER_ALIASES.contains(&name) || name.starts_with(['-', '!', '+', '@']) => {
            return Err(ParamsError::CipherOperator(name.to_owned()));
        }
        _ => return Err(ParamsError::Unknown { what: "cipher suite", name: name.to_owned() }),
    }))
}

const LACKING_SUITES: &[&str] = &[
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
    "PSK-AES128-CBC-SHA",
    "PSK-AES256-CBC-SHA",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-PSK-CHACHA20-POLY1305",
];
const LACKING_SUITES_RFC: &[&str] = &[
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
];
const CIPHER_ALIASES: &[&str] = &[
    "ALL", "DEFAULT", "HIGH", "FIPS", "aRSA", "aECDSA", "kRSA", "kECDHE", "kEECDH", "ECDHE", "EECDH", "RSA", "ECDSA",
    "AES", "AESGCM", "AES128", "AES256", "CHACHA20", "3DES", "SHA", "SHA1", "TLSv1", "TLSv1.2", "SSLv3",
];

fn resolve_groups(
    names: &[String],
    dropped: &mut Vec<String>,
) -> Result<Vec<&'static dyn SupportedKxGroup>, ParamsError> {
    let mut groups: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for name in names.iter().flat_map(|name| name.split(':')) {
        let group = match name {
            "X25519" | "x25519" => kx_group::X25519,
            "P-256" | "prime256v1" => kx_group::SECP256R1,
            "P-384" | "secp384r1" => kx_group::SECP384R1,
            "P-521" | "secp521r1" => &P521,
            "X25519MLKEM768" => kx_group::X25519MLKEM768,
            "MLKEM1024" => {
                dropped.push(name.to_owned());
                continue;
            }
            _ => return Err(ParamsError::Unknown { what: "curve", name: name.to_owned() }),
        };
        if groups.iter().all(|known| known.name() != group.name()) {
            groups.push(group);
        }
    }
    Ok(groups)
}

/// Names of signature schemes, in TLS' and OpenSSL's spelling; `None` for those that rustls lacks.
const SCHEMES: &[(&str, Option<SignatureScheme>)] = &[
    ("ecdsa_secp256r1_sha256", Some(SignatureScheme::ECDSA_NISTP256_SHA256)),
    ("ecdsa_secp384r1_sha384", Some(SignatureScheme::ECDSA_NISTP384_SHA384)),
    ("ecdsa_secp521r1_sha512", Some(SignatureScheme::ECDSA_NISTP521_SHA512)),
    ("rsa_pss_rsae_sha256", Some(SignatureScheme::RSA_PSS_SHA256)),
    ("rsa_pss_rsae_sha384", Some(SignatureScheme::RSA_PSS_SHA384)),
    ("rsa_pss_rsae_sha512", Some(SignatureScheme::RSA_PSS_SHA512)),
    ("rsa_pkcs1_sha256", Some(SignatureScheme::RSA_PKCS1_SHA256)),
    ("rsa_pkcs1_sha384", Some(SignatureScheme::RSA_PKCS1_SHA384)),
    ("rsa_pkcs1_sha512", Some(SignatureScheme::RSA_PKCS1_SHA512)),
    ("ed25519", Some(SignatureScheme::ED25519)),
    ("ECDSA+SHA256", Some(SignatureScheme::ECDSA_NISTP256_SHA256)),
    ("ECDSA+SHA384", Some(SignatureScheme::ECDSA_NISTP384_SHA384)),
    ("ECDSA+SHA512", Some(SignatureScheme::ECDSA_NISTP521_SHA512)),
    ("RSA+SHA256", Some(SignatureScheme::RSA_PKCS1_SHA256)),
    ("RSA+SHA384", Some(SignatureScheme::RSA_PKCS1_SHA384)),
    ("RSA+SHA512", Some(SignatureScheme::RSA_PKCS1_SHA512)),
    ("PSS+SHA256", Some(SignatureScheme::RSA_PSS_SHA256)),
    ("PSS+SHA384", Some(SignatureScheme::RSA_PSS_SHA384)),
    ("PSS+SHA512", Some(SignatureScheme::RSA_PSS_SHA512)),
    ("RSA-PSS+SHA256", Some(SignatureScheme::RSA_PSS_SHA256)),
    ("RSA-PSS+SHA384", Some(SignatureScheme::RSA_PSS_SHA384)),
    ("RSA-PSS+SHA512", Some(SignatureScheme::RSA_PSS_SHA512)),
    ("rsa_pkcs1_sha1", None),
    ("ecdsa_sha1", None),
    ("RSA+SHA1", None),
    ("ECDSA+SHA1", None),
    ("mldsa44", None),
    ("mldsa65", None),
    ("mldsa87", None),
];

fn resolve_schemes(names: &[String], dropped: &mut Vec<String>) -> Result<Vec<SignatureScheme>, ParamsError> {
    let mut schemes = Vec::new();
    for name in names.iter().flat_map(|name| name.split(':')) {
        match SCHEMES.iter().find(|(known, _)| known == &name) {
            Some((_, Some(scheme))) if schemes.contains(scheme) => {}
            Some((_, Some(scheme))) => schemes.push(*scheme),
            Some((_, None)) => dropped.push(name.to_owned()),
            None => return Err(ParamsError::Unknown { what: "signature algorithm", name: name.to_owned() }),
        }
    }
    Ok(schemes)
}

/// Thousands of contexts have the same parameters: they share one provider.
fn shared(provider: CryptoProvider) -> Arc<CryptoProvider> {
    static PROVIDERS: Mutex<Vec<Weak<CryptoProvider>>> = Mutex::new(Vec::new());
    let key = |p: &CryptoProvider| {
        let suites: Vec<_> = p.cipher_suites.iter().map(|s| s.suite()).collect();
        (suites, p.kx_groups.iter().map(|g| g.name()).collect::<Vec<_>>())
    };
    let wanted = key(&provider);
    let mut providers = PROVIDERS.lock().unwrap_or_else(PoisonError::into_inner);
    providers.retain(|known| known.strong_count() > 0);
    if let Some(known) = providers.iter().filter_map(Weak::upgrade).find(|known| key(known) == wanted) {
        return known;
    }
    let provider = Arc::new(provider);
    providers.push(Arc::downgrade(&provider));
    provider
}

#[cfg(test)]
mod tests;
