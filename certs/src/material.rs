//! Secrets as they are used: a certificate chain with its private key, and a bundle of trusted authorities with their
//! revocation lists. Parsed and checked once, when they are loaded; contexts share them by `Arc`.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use crate::der::{BIT_STRING, Cert, INTEGER, OID, Reader, SEQUENCE};
use crate::info::CertInfo;
use crate::ocsp::{OcspError, OcspStaple};
use crate::san::SanType;

/// A chain longer than this is refused when loaded; a peer's too (see [`crate::verifier`]).
pub const MAX_CHAIN_CERTIFICATES: usize = 11;

/// Why a secret cannot be used. Each says what was expected; the caller adds where the secret came from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MaterialError {
    /// No `CERTIFICATE` block.
    #[error("no certificate found, expected at least one PEM block \"CERTIFICATE\"")]
    NoCertificate,
    /// A block that cannot be decoded.
    #[error("malformed PEM: {0}")]
    Pem(String),
    /// A certificate that is none.
    #[error("certificate {index} of the chain cannot be parsed: {why}")]
    Certificate {
        /// Counted from 0, the leaf.
        index: usize,
        /// What is wrong.
        why: String,
    },
    /// More than [`MAX_CHAIN_CERTIFICATES`].
    #[error("the chain has {0} certificates, at most {MAX_CHAIN_CERTIFICATES} are allowed")]
    ChainTooLong(usize),
    /// No key block.
    #[error("no private key found, expected a PEM block \"PRIVATE KEY\", \"RSA PRIVATE KEY\" or \"EC PRIVATE KEY\"")]
    NoKey,
    /// A passphrase is needed.
    #[error("the private key is encrypted; only plain keys are supported")]
    EncryptedKey,
    /// A key that is none.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// The leaf's public key is another one.
    #[error("the private key does not belong to the leaf certificate ({subject})")]
    KeyMismatch {
        /// The leaf's subject.
        subject: String,
    },
    /// As Envoy: 2048 bits at least.
    #[error("the certificate has an RSA key of {0} bits, at least 2048 are required")]
    WeakRsa(usize),
    /// As Envoy, plus Ed25519.
    #[error("the certificate's key type is not supported (RSA, ECDSA on P-256, P-384 or P-521, and Ed25519 are)")]
    KeyType,
    /// The staple does not fit.
    #[error(transparent)]
    Ocsp(#[from] OcspError),
    /// RFC 7633.
    #[error("an OCSP response is required for a must-staple certificate")]
    MustStaple,
    /// A bundle without a certificate that can be used.
    #[error("no trusted CA certificate found{0}")]
    NoTrustedCa(String),
    /// No `X509 CRL` block.
    #[error("no certificate revocation list found, expected at least one PEM block \"X509 CRL\"")]
    NoCrl,
    /// A CRL that cannot be parsed, or a delta or indirect one.
    #[error("certificate revocation list {index} cannot be used: {why}")]
    Crl {
        /// Counted from 0.
        index: usize,
        /// What is wrong.
        why: String,
    },
}

/// What a certificate signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// rsaEncryption
    Rsa,
    /// secp256r1
    EcdsaP256,
    /// secp384r1
    EcdsaP384,
    /// secp521r1
    EcdsaP521,
    /// id-Ed25519
    Ed25519,
}

impl KeyType {
    /// Whether it is an ECDSA key.
    pub fn is_ecdsa(self) -> bool {
        matches!(self, Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521)
    }
}

/// Envoy's `TlsCertificate`: a chain whose key is at hand, leaf first.
#[derive(Debug)]
pub struct TlsCertificate {
    plain: Arc<CertifiedKey>,
    stapled: Option<Arc<CertifiedKey>>,
    staple: Option<OcspStaple>,
    must_staple: bool,
    key_type: KeyType,
    server_names: Vec<String>,
    infos: Vec<Arc<CertInfo>>,
    source: String,
}

impl TlsCertificate {
    /// From PEM. `source` is what `/certs` shows as its path: a file name, or `<inline>`.
    pub fn from_pem(chain: &[u8], key: &[u8], source: impl Into<String>) -> Result<Self, MaterialError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| MaterialError::Pem(e.to_string()))?;
        Self::from_der(chain, key_from_pem(key)?, source)
    }

    /// From DER.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        source: impl Into<String>,
    ) -> Result<Self, MaterialError> {
        let source = source.into();
        if chain.len() > MAX_CHAIN_CERTIFICATES {
            return Err(MaterialError::ChainTooLong(chain.len()));
        }
        let parse = |(index, der)| CertInfo::parse(der).map(Arc::new).map_err(|e| bad_certificate(index, e));
        let infos = chain.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
        let (Some(leaf), Some(info)) = (chain.first(), infos.first()) else { return Err(MaterialError::NoCertificate) };
        let cert = Cert::parse(leaf).ok_or_else(|| bad_certificate(0, crate::info::NotACertificate))?;
        let key_type = key_type(cert.spki)?;
        let (must_staple, server_names) = (cert.must_staple(), server_names(info));
        let key =
            rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|e| MaterialError::Key(e.to_string()))?;
        if key.public_key().is_none_or(|own| own.as_ref() != cert.spki) {
            return Err(MaterialError::KeyMismatch { subject: info.subject().to_owned() });
        }
        let plain = Arc::new(CertifiedKey::new(chain, key));
        Ok(Self { plain, stapled: None, staple: None, must_staple, key_type, server_names, infos, source })
    }

    /// Adds an OCSP response (DER) to staple.
    pub fn with_ocsp_staple(mut self, response: &[u8]) -> Result<Self, MaterialError> {
        let serial = self.plain.cert.first().and_then(|leaf| Cert::parse(leaf)).map(|cert| cert.serial);
        self.staple = Some(OcspStaple::parse(response, serial.unwrap_or_default())?);
        self.stapled =
            Some(Arc::new(CertifiedKey { ocsp: Some(response.to_vec()), ..CertifiedKey::clone(&self.plain) }));
        Ok(self)
    }

    /// Shows this chain and signs with another's key: an impostor.
    #[cfg(test)]
    pub(crate) fn signing_with_the_key_of(mut self, other: &Self) -> Self {
        self.plain = Arc::new(CertifiedKey { key: Arc::clone(&other.plain.key), ..CertifiedKey::clone(&self.plain) });
        self
    }

    /// The chain and key, without a staple.
    pub fn certified_key(&self) -> &Arc<CertifiedKey> {
        &self.plain
    }

    pub(crate) fn stapled(&self) -> Option<&Arc<CertifiedKey>> {
        self.stapled.as_ref()
    }

    /// The OCSP response, if there is one.
    pub fn ocsp_staple(&self) -> Option<&OcspStaple> {
        self.staple.as_ref()
    }

    /// Whether the certificate demands a staple (RFC 7633).
    pub fn must_staple(&self) -> bool {
        self.must_staple
    }

    /// The type of the key.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The names a client may ask for: DNS names, or without any such extension the common name. Lower case.
    pub fn server_names(&self) -> &[String] {
        &self.server_names
    }

    /// The chain, leaf first; never empty.
    pub fn chain(&self) -> &[Arc<CertInfo>] {
        &self.infos
    }

    /// Facts about the leaf.
    pub fn leaf(&self) -> Option<&Arc<CertInfo>> {
        self.infos.first()
    }

    /// Where it came from.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Trusted certificates and what they have revoked: `trusted_ca` and `crl`.
#[derive(Debug)]
pub struct TrustBundle {
    anchors: Vec<TrustAnchor<'static>>,
    certificates: Vec<CertificateDer<'static>>,
    crls: Vec<CertRevocationList<'static>>,
    infos: Vec<Arc<CertInfo>>,
    skipped: Vec<String>,
    source: String,
}

impl TrustBundle {
    /// From PEM. As in Envoy, revocation lists in the same file count. A certificate that cannot serve as an anchor is left
    /// out and named by [`TrustBundle::skipped`], because one oddity among many authorities must not take the others away; a
    /// bundle of which nothing is left is refused.
    pub fn from_pem(pem: &[u8], source: impl Into<String>) -> Result<Self, MaterialError> {
        let (mut certificates, mut crls) = (Vec::new(), Vec::new());
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            match section.map_err(|e| MaterialError::Pem(e.to_string()))? {
                (SectionKind::Certificate, der) => certificates.push(CertificateDer::from(der)),
                (SectionKind::Crl, der) => crls.push(der),
                _ => {}
            }
        }
        Self::from_der(certificates, &crls, source)
    }

    /// From DER.
    pub fn from_der(
        certificates: Vec<CertificateDer<'static>>,
        crls: &[Vec<u8>],
        source: impl Into<String>,
    ) -> Result<Self, MaterialError> {
        let mut bundle = Self {
            anchors: Vec::new(),
            certificates: Vec::new(),
            crls: parse_crls(crls)?,
            infos: Vec::new(),
            skipped: Vec::new(),
            source: source.into(),
        };
        for (index, der) in certificates.into_iter().enumerate() {
            match (webpki::anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned()), CertInfo::parse(&der)) {
                (Ok(anchor), Ok(info)) => {
                    bundle.anchors.push(anchor);
                    bundle.infos.push(Arc::new(info));
                    bundle.certificates.push(der);
                }
                (Err(e), _) => bundle.skipped.push(format!("certificate {index}: {e}")),
                (_, Err(e)) => bundle.skipped.push(format!("certificate {index}: {e}")),
            }
        }
        if bundle.anchors.is_empty() {
            let why =
                if bundle.skipped.is_empty() { String::new() } else { format!(" ({})", bundle.skipped.join("; ")) };
            return Err(MaterialError::NoTrustedCa(why));
        }
        Ok(bundle)
    }

    pub(crate) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    pub(crate) fn crls(&self) -> &[CertRevocationList<'static>] {
        &self.crls
    }

    pub(crate) fn contains(&self, der: &CertificateDer<'_>) -> bool {
        self.certificates.iter().any(|own| own == der)
    }

    /// The trusted certificates as they came, beside [`TrustBundle::anchors`].
    pub(crate) fn ders(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The trusted certificates, in the order of the file.
    pub fn certificates(&self) -> &[Arc<CertInfo>] {
        &self.infos
    }

    /// What was left out, and why: for the log.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Where it came from.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Certificate revocation lists of their own file: `crl`.
#[derive(Debug)]
pub struct Crls {
    lists: Vec<CertRevocationList<'static>>,
}

impl Crls {
    /// From PEM. Unlike Envoy, which takes a file without any list and then refuses every peer, that is an error.
    pub fn from_pem(pem: &[u8]) -> Result<Self, MaterialError> {
        let mut ders = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            if let (SectionKind::Crl, der) = section.map_err(|e| MaterialError::Pem(e.to_string()))? {
                ders.push(der);
            }
        }
        match parse_crls(&ders)? {
            lists if lists.is_empty() => Err(MaterialError::NoCrl),
            lists => Ok(Self { lists }),
        }
    }

    pub(crate) fn lists(&self) -> &[CertRevocationList<'static>] {
        &self.lists
    }
}

fn parse_crls(ders: &[Vec<u8>]) -> Result<Vec<CertRevocationList<'static>>, MaterialError> {
    let parse = |(index, der): (usize, &Vec<u8>)| match OwnedCertRevocationList::from_der(der) {
        Ok(list) => Ok(CertRevocationList::from(list)),
        Err(e) => Err(MaterialError::Crl { index, why: e.to_string() }),
    };
    ders.iter().enumerate().map(parse).collect()
}

fn bad_certificate(index: usize, why: impl ToString) -> MaterialError {
    MaterialError::Certificate { index, why: why.to_string() }
}

fn key_from_pem(pem: &[u8]) -> Result<PrivateKeyDer<'static>, MaterialError> {
    use rustls_pki_types::pem::Error;
    // Both forms, PKCS#8 and the older one with a Proc-Type header, say so in clear.
    if pem.windows(9).any(|window| window == b"ENCRYPTED") {
        return Err(MaterialError::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|e| match e {
        Error::NoItemsFound => MaterialError::NoKey,
        e => MaterialError::Pem(e.to_string()),
    })
}

/// The key type of a `SubjectPublicKeyInfo`, with Envoy's limits.
fn key_type(spki: &[u8]) -> Result<KeyType, MaterialError> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
    const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];
    const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    let parts = || {
        let mut spki = Reader::new(Reader::new(spki).take(SEQUENCE)?.value);
        let mut algorithm = Reader::new(spki.take(SEQUENCE)?.value);
        let oid = algorithm.take(OID)?.value;
        Some((oid, algorithm.take(OID).map(|curve| curve.value), spki.take(BIT_STRING)?.value))
    };
    let (oid, curve, key) = parts().ok_or(MaterialError::KeyType)?;
    match (oid, curve) {
        (RSA, _) => match rsa_bits(key) {
            Some(bits) if bits >= 2048 => Ok(KeyType::Rsa),
            bits => Err(MaterialError::WeakRsa(bits.unwrap_or(0))),
        },
        (EC, Some(P256)) => Ok(KeyType::EcdsaP256),
        (EC, Some(P384)) => Ok(KeyType::EcdsaP384),
        (EC, Some(P521)) => Ok(KeyType::EcdsaP521),
        (ED25519, _) => Ok(KeyType::Ed25519),
        _ => Err(MaterialError::KeyType),
    }
}

fn rsa_bits(bit_string: &[u8]) -> Option<usize> {
    let key = Reader::new(bit_string.get(1..)?).take(SEQUENCE)?;
    let modulus = Reader::new(key.value).take(INTEGER)?.value;
    let significant = modulus.iter().position(|b| *b != 0)?;
    let leading = modulus.get(significant)?.leading_zeros() as usize;
    Some((modulus.len() - significant) * 8 - leading)
}

fn server_names(info: &CertInfo) -> Vec<String> {
    let lower = |name: &str| name.to_ascii_lowercase();
    if info.sans().next().is_some() {
        info.sans_of(SanType::Dns).map(lower).collect()
    } else {
        info.common_name().map(lower).into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
