//! For tests, here and in whoever uses this crate: an in-memory certificate authority, a clock that is set by hand, and peers that
//! shake hands in memory. Nothing here belongs in a running proxy; everything panics on misuse.

#[cfg(feature = "ca-client")]
mod ca_server;
mod pair;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, RevokedCertParams, RsaKeySize, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::time_provider::TimeProvider;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::material::{Crls, TlsCertificate, TrustBundle};
#[cfg(feature = "ca-client")]
pub use ca_server::{CaServer, Seen};
pub use pair::{Failed, Pair};

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl TestClock {
    /// Shows this second since 1970.
    pub fn at(seconds: i64) -> Self {
        Self(AtomicI64::new(seconds))
    }

    /// Moves it, also back.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl TimeProvider for TestClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.load(Ordering::SeqCst)).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// A certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    /// Certificates between this authority and its root, itself first; empty for a root.
    chain: Vec<CertificateDer<'static>>,
    root_pem: String,
}

/// What a leaf signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519.
    Ed25519,
    /// RSA with 2048 bits.
    Rsa2048,
}

impl Key {
    fn generate(self) -> KeyPair {
        match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::P521 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
            Self::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            Self::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        }
        .expect("a key is generated")
    }
}

impl Ca {
    /// A self-signed root, valid from 2024 to 2049.
    pub fn new(name: &str) -> Self {
        let (params, key) = (ca_params(name), Key::P256.generate());
        let certificate = params.self_signed(&key).expect("a root is signed");
        let root_pem = certificate.pem();
        Self { issuer: Issuer::new(params, key), certificate, chain: Vec::new(), root_pem }
    }

    /// A root that was valid until 2024-06-01.
    pub fn expired(name: &str) -> Self {
        let (mut params, key) = (ca_params(name), Key::P256.generate());
        params.not_after = date_time_ymd(2024, 6, 1);
        let certificate = params.self_signed(&key).expect("a root is signed");
        let root_pem = certificate.pem();
        Self { issuer: Issuer::new(params, key), certificate, chain: Vec::new(), root_pem }
    }

    /// A leaf of X.509 version 1, without any extension, as `openssl x509 -req` makes it; `until` is a UTCTime.
    pub fn version_1_leaf(&self, name: &str, until: &str) -> Leaf {
        const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
        let seq = |parts: &[Vec<u8>]| element(0x30, &parts.concat());
        let key = Key::P256.generate();
        let issuer = crate::der::Cert::parse(self.certificate.der()).expect("an authority").subject.to_vec();
        let cn = seq(&[element(0x06, &[0x55, 0x04, 0x03]), element(0x0c, name.as_bytes())]);
        let algorithm = seq(&[element(0x06, ECDSA_SHA256)]);
        let validity = seq(&[element(0x17, b"240101000000Z"), element(0x17, until.as_bytes())]);
        let subject = seq(&[element(0x31, &cn)]);
        let spki = key.subject_public_key_info();
        let tbs = seq(&[element(0x02, &[0]), algorithm.clone(), issuer, validity, subject, spki]);
        let signature = rcgen::SigningKey::sign(self.issuer.key(), &tbs).expect("a signature");
        let der = seq(&[tbs, algorithm, element(0x03, &[&[0], signature.as_slice()].concat())]);
        Leaf { chain: vec![der.into()], key_pem: key.serialize_pem(), serial: SerialNumber::from_slice(&[0]) }
    }

    /// An authority below this one; its leaves send it along.
    pub fn intermediate(&self, name: &str) -> Self {
        let (params, key) = (ca_params(name), Key::P256.generate());
        let certificate = params.signed_by(&key, &self.issuer).expect("an intermediate is signed");
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Self { issuer: Issuer::new(params, key), certificate, chain, root_pem: self.root_pem.clone() }
    }

    /// An authority below this one that may speak of this DNS name alone.
    pub fn constrained_to(&self, dns: &str) -> Self {
        let (mut params, key) = (ca_params("constrained"), Key::P256.generate());
        let permitted_subtrees = vec![GeneralSubtree::DnsName(dns.to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        let certificate = params.signed_by(&key, &self.issuer).expect("an intermediate is signed");
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Self { issuer: Issuer::new(params, key), certificate, chain, root_pem: self.root_pem.clone() }
    }

    /// A certificate of this authority; see [`LeafBuilder`] for what it can be.
    pub fn leaf(&self) -> LeafBuilder<'_> {
        LeafBuilder::new(Some(self))
    }

    /// The authority's own certificate as PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The same as DER in Base64, as bundle maps have it.
    pub fn der_base64(&self) -> String {
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, self.certificate.der())
    }

    /// A bundle that trusts this authority alone.
    pub fn bundle(&self) -> Arc<TrustBundle> {
        Arc::new(TrustBundle::from_pem(self.pem().as_bytes(), "<inline>").expect("a bundle"))
    }

    /// Certifies what a request asks for, for clients and servers, from 2024 to 2049 or between these seconds since 1970. The answer is PEM:
    /// leaf, intermediates, root.
    ///
    /// # Errors
    /// A request that cannot be read or whose signature is not its key's.
    pub fn sign(&self, csr_pem: &str, validity: Option<(u64, u64)>) -> Result<Vec<String>, String> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|error| error.to_string())?;
        let params = &mut request.params;
        let at = |seconds| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        (params.not_before, params.not_after) = match validity {
            Some((from, until)) => (at(from), at(until)),
            None => (date_time_ymd(2024, 1, 1), date_time_ymd(2049, 1, 1)),
        };
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = request.signed_by(&self.issuer).map_err(|error| error.to_string())?;
        let mut answer = vec![leaf.pem()];
        answer.extend(self.chain.iter().map(|der| crate::info::pem("CERTIFICATE", der)));
        answer.push(self.root_pem.clone());
        Ok(answer)
    }

    /// A revocation list with these certificates, valid from 2024 until the given year.
    pub fn crl_pem(&self, revoked: &[&Leaf], until: i32) -> String {
        let revoke = |leaf: &&Leaf| RevokedCertParams {
            serial_number: leaf.serial.clone(),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(revoke).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list is signed").pem().expect("PEM")
    }

    /// The same, parsed.
    pub fn crl(&self, revoked: &[&Leaf], until: i32) -> Arc<Crls> {
        Arc::new(Crls::from_pem(self.crl_pem(revoked, until).as_bytes()).expect("a list"))
    }
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
    params
}

/// Describes a leaf: without more, valid from 2024 to 2049 for clients and servers, with no names, on P-256.
pub struct LeafBuilder<'ca> {
    ca: Option<&'ca Ca>,
    params: CertificateParams,
    key: Key,
}

impl<'ca> LeafBuilder<'ca> {
    /// Signed by `ca`, or by itself.
    pub fn new(ca: Option<&'ca Ca>) -> Self {
        let mut params = ca_params("leaf");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        Self { ca, params, key: Key::P256 }
    }

    /// The common name.
    pub fn cn(mut self, name: &str) -> Self {
        self.params.distinguished_name = DistinguishedName::new();
        self.params.distinguished_name.push(DnType::CommonName, name);
        self
    }

    /// Adds a URI name.
    pub fn uri(mut self, uri: &str) -> Self {
        self.params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
        self
    }

    /// Adds a DNS name.
    pub fn dns(mut self, name: &str) -> Self {
        self.params.subject_alt_names.push(SanType::DnsName(name.try_into().expect("ASCII")));
        self
    }

    /// Adds an address.
    pub fn ip(mut self, address: &str) -> Self {
        self.params.subject_alt_names.push(SanType::IpAddress(address.parse().expect("an address")));
        self
    }

    /// Adds a mail address.
    pub fn email(mut self, address: &str) -> Self {
        self.params.subject_alt_names.push(SanType::Rfc822Name(address.try_into().expect("ASCII")));
        self
    }

    /// Valid until 2024-06-01.
    pub fn expired(mut self) -> Self {
        self.params.not_after = date_time_ymd(2024, 6, 1);
        self
    }

    /// Valid from 2048 on.
    pub fn not_yet_valid(mut self) -> Self {
        self.params.not_before = date_time_ymd(2048, 1, 1);
        self
    }

    /// Another kind of key.
    pub fn key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    /// For servers only.
    pub fn only_server_auth(mut self) -> Self {
        self.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    /// For clients only.
    pub fn only_client_auth(mut self) -> Self {
        self.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    /// With a key usage that does not allow handshakes to be signed.
    pub fn without_digital_signature(mut self) -> Self {
        self.params.key_usages = vec![KeyUsagePurpose::KeyAgreement];
        self
    }

    /// With a key usage that allows certificates to be signed, though it is no authority.
    pub fn signing_certificates(mut self) -> Self {
        self.params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        self
    }

    /// With the basic constraint of an authority, as `openssl req -x509` makes them.
    pub fn marked_as_ca(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self
    }

    /// Demanding an OCSP staple.
    pub fn must_staple(mut self) -> Self {
        let oid = [1, 3, 6, 1, 5, 5, 7, 1, 24];
        self.params.custom_extensions.push(CustomExtension::from_oid_content(&oid, vec![0x30, 3, 2, 1, 5]));
        self
    }

    /// With any other extension.
    pub fn extension(mut self, extension: CustomExtension) -> Self {
        self.params.custom_extensions.push(extension);
        self
    }

    /// Signs it.
    pub fn build(mut self) -> Leaf {
        let key = self.key.generate();
        let serial: [u8; 8] = std::array::from_fn(|at| key.public_key_raw().get(at + 5).map_or(1, |b| b | 1));
        let serial = SerialNumber::from_slice(&[&[1], &serial[..]].concat());
        self.params.serial_number = Some(serial.clone());
        let certificate = match self.ca {
            Some(ca) => self.params.signed_by(&key, &ca.issuer),
            None => self.params.self_signed(&key),
        }
        .expect("a leaf is signed");
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.ca.into_iter().flat_map(|ca| ca.chain.iter().cloned()));
        Leaf { chain, key_pem: key.serialize_pem(), serial }
    }
}

/// A certificate with its chain and key.
#[derive(Clone)]
pub struct Leaf {
    /// Leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key_pem: String,
    serial: SerialNumber,
}

impl Leaf {
    /// The chain as PEM.
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| crate::info::pem("CERTIFICATE", der)).collect()
    }

    /// As a context takes it.
    pub fn certificate(&self) -> Arc<TlsCertificate> {
        Arc::new(self.loaded())
    }

    /// Not yet shared, so that a staple can be added.
    pub fn loaded(&self) -> TlsCertificate {
        TlsCertificate::from_pem(self.chain_pem().as_bytes(), self.key_pem.as_bytes(), "<inline>")
            .expect("a certificate")
    }

    /// The key.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).expect("a key")
    }

    /// An OCSP response that speaks of this certificate.
    pub fn ocsp_response(&self, next_update: Option<&str>) -> Vec<u8> {
        ocsp_response(&[&self.serial.to_bytes()], next_update)
    }
}

/// A DER element.
pub(crate) fn element(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match value.len() {
        len @ 0..=0x7f => out.push(len as u8),
        len @ 0x80..=0xff => out.extend([0x81, len as u8]),
        len => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend(value);
    out
}

/// A well-formed, unsigned OCSP response for these serial numbers (contents of the INTEGER).
pub fn ocsp_response(serials: &[&[u8]], next_update: Option<&str>) -> Vec<u8> {
    const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
    const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
    let seq = |parts: &[Vec<u8>]| element(0x30, &parts.concat());
    let at = |text: &str| element(0x18, text.as_bytes());
    let single = |serial: &&[u8]| {
        let algorithm = seq(&[element(0x06, SHA1)]);
        let id = seq(&[algorithm, element(0x04, &[0; 20]), element(0x04, &[0; 20]), element(0x02, serial)]);
        let mut single = vec![id, element(0x80, &[]), at("20240101000000Z")];
        single.extend(next_update.map(|next| element(0xa0, &at(next))));
        seq(&single)
    };
    let singles: Vec<Vec<u8>> = serials.iter().map(single).collect();
    let responder = element(0xa2, &element(0x04, &[0; 20]));
    let data = seq(&[responder, at("20240101000000Z"), seq(&singles)]);
    let basic = seq(&[data, seq(&[element(0x06, SHA1)]), element(0x03, &[0])]);
    let bytes = seq(&[element(0x06, BASIC), element(0x04, &basic)]);
    seq(&[element(0x0a, &[0]), element(0xa0, &bytes)])
}
