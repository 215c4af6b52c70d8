//! Facts about one certificate, as Envoy prints them in access logs, `x-forwarded-client-cert` and on `/certs`.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use aws_lc_rs::digest;
use base64::Engine;
use rustls_pki_types::CertificateDer;

use crate::der::{Cert, GeneralName};
use crate::name;
use crate::san::SanType;

/// Which certificate it is and whom it names. Digests and PEM are made when first asked for.
#[derive(Debug, Clone)]
pub struct CertInfo {
    der: CertificateDer<'static>,
    subject: String,
    issuer: String,
    serial: String,
    not_before: i64,
    not_after: i64,
    sans: Vec<(SanType, String)>,
    common_name: Option<String>,
    spki_sha256: [u8; 32],
    sha256: OnceLock<String>,
    pem: OnceLock<String>,
}

/// The bytes are no X.509 certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an X.509 certificate")]
pub struct NotACertificate;

impl CertInfo {
    /// Reads the facts out of a certificate. Nothing is verified. A subject alternative name extension that cannot be read counts
    /// as absent here; the verifier refuses it.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, NotACertificate> {
        let cert = Cert::parse(der).ok_or(NotACertificate)?;
        let sans = cert.general_names().ok().flatten().into_iter().flatten();
        Ok(Self {
            subject: name::rfc2253(cert.subject),
            issuer: name::rfc2253(cert.issuer),
            serial: serial_hex(cert.serial),
            not_before: cert.not_before,
            not_after: cert.not_after,
            sans: sans.filter_map(|name| san_text(name)).collect(),
            common_name: common_name(&cert),
            spki_sha256: sha256(cert.spki),
            sha256: OnceLock::new(),
            pem: OnceLock::new(),
            der: der.clone().into_owned(),
        })
    }

    /// The certificate itself.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// `CN=client,O=Example`: RFC 2253.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Likewise.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The last common name of the subject, if it is text.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Lower-case hexadecimal, whole bytes, no sign.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Start of validity, seconds since 1970.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// End of validity, seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// Whole days until it expires, or `None` once it has.
    pub fn days_until_expiration(&self, now: i64) -> Option<u32> {
        u32::try_from((self.not_after - now).max(-86_400).div_euclid(86_400)).ok()
    }

    /// All subject alternative names that can be written as text, in the certificate's order.
    pub fn sans(&self) -> impl Iterator<Item = (SanType, &str)> {
        self.sans.iter().map(|(kind, text)| (*kind, text.as_str()))
    }

    /// The subject alternative names of one kind.
    pub fn sans_of(&self, kind: SanType) -> impl Iterator<Item = &str> {
        self.sans().filter(move |(k, _)| *k == kind).map(|(_, text)| text)
    }

    /// URI names.
    pub fn uri_sans(&self) -> impl Iterator<Item = &str> {
        self.sans_of(SanType::Uri)
    }

    /// DNS names.
    pub fn dns_sans(&self) -> impl Iterator<Item = &str> {
        self.sans_of(SanType::Dns)
    }

    /// SHA-256 of the certificate, lower-case hexadecimal.
    pub fn sha256_hex(&self) -> &str {
        self.sha256.get_or_init(|| hex(&sha256(&self.der)))
    }

    /// SHA-1 of the certificate, lower-case hexadecimal. A fingerprint for logs, no proof of anything.
    pub fn sha1_hex(&self) -> String {
        hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &self.der).as_ref())
    }

    /// SHA-256 of the subject public key info: what `verify_certificate_spki` lists, in base64.
    pub fn spki_sha256(&self) -> &[u8; 32] {
        &self.spki_sha256
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> &str {
        self.pem.get_or_init(|| pem("CERTIFICATE", &self.der))
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A PEM block of `label`.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    let _ = writeln!(out, "-----END {label}-----");
    out
}

fn serial_hex(serial: &[u8]) -> String {
    let significant = serial.iter().position(|b| *b != 0).unwrap_or(serial.len());
    match serial.get(significant..) {
        Some(digits) if !digits.is_empty() => hex(digits),
        _ => "00".to_owned(),
    }
}

fn common_name(cert: &Cert<'_>) -> Option<String> {
    let attributes = cert.subject_attributes();
    let (_, value) = attributes.into_iter().rfind(|(oid, _)| *oid == [0x55, 0x04, 0x03])?;
    name::string_value(value).filter(|text| !text.is_empty())
}

/// A subject alternative name as text: bytes that are no UTF-8 become replacement characters, an address is written as usual.
pub(crate) fn san_text(name: GeneralName<'_>) -> Option<(SanType, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(match name {
        GeneralName::Email(bytes) => (SanType::Email, text(bytes)),
        GeneralName::Dns(bytes) => (SanType::Dns, text(bytes)),
        GeneralName::Uri(bytes) => (SanType::Uri, text(bytes)),
        GeneralName::Ip(bytes) => (SanType::IpAddress, ip_text(bytes)?),
        GeneralName::Other(bytes) => (SanType::OtherName, other_name_text(bytes)?),
        GeneralName::Unknown => return None,
    })
}

pub(crate) fn ip_text(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).to_string())
}

/// `OtherName ::= SEQUENCE { type-id OID, value [0] EXPLICIT ANY }`, for values that are strings.
fn other_name_text(bytes: &[u8]) -> Option<String> {
    let mut fields = crate::der::Reader::new(bytes);
    fields.take(crate::der::OID)?;
    name::string_value(crate::der::Reader::new(fields.take(0xa0)?.value).next()?)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData, SanType as Rcgen, SerialNumber};

    use super::*;

    #[test]
    fn what_a_certificate_says() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example");
        params.distinguished_name.push(DnType::CommonName, "client");
        params.serial_number = Some(SerialNumber::from_slice(&[0, 0x0f, 0xbf]));
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2024, 6, 1);
        params.subject_alt_names = vec![
            Rcgen::DnsName("a.example".try_into().unwrap()),
            Rcgen::URI("spiffe://td/ns/x".try_into().unwrap()),
            Rcgen::IpAddress("10.1.2.3".parse().unwrap()),
            Rcgen::IpAddress("::1".parse().unwrap()),
            Rcgen::Rfc822Name("a@b.example".try_into().unwrap()),
            Rcgen::OtherName((vec![1, 2, 3, 4], "abc".into())),
        ];
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let info = CertInfo::parse(cert.der()).unwrap();
        assert_eq!((info.subject(), info.issuer()), ("CN=client,O=Example", "CN=client,O=Example"));
        assert_eq!(info.common_name(), Some("client"));
        assert_eq!(info.serial(), "0fbf");
        assert_eq!((info.not_before(), info.not_after()), (1_704_067_200, 1_717_200_000));
        assert_eq!(info.days_until_expiration(1_717_200_000 - 86_400 * 3 - 1), Some(3));
        assert_eq!(info.days_until_expiration(1_717_200_000), Some(0));
        assert_eq!(info.days_until_expiration(1_717_200_001), None);
        let sans: Vec<_> = info.sans().map(|(_, text)| text).collect();
        assert_eq!(sans, ["a.example", "spiffe://td/ns/x", "10.1.2.3", "::1", "a@b.example", "abc"]);
        assert_eq!(info.uri_sans().collect::<Vec<_>>(), ["spiffe://td/ns/x"]);
        assert_eq!(info.sha256_hex().len(), 64);
        assert_eq!(info.sha1_hex().len(), 40);
        assert_eq!(info.spki_sha256(), &sha256(&key.subject_public_key_info()));
        assert_eq!(info.pem().replace('\n', ""), cert.pem().replace(['\r', '\n'], ""));
    }

    #[test]
    fn serials() {
        assert_eq!(serial_hex(&[]), "00");
        assert_eq!(serial_hex(&[0]), "00");
        assert_eq!(serial_hex(&[0x14]), "14");
        assert_eq!(serial_hex(&[0, 0x9f, 1]), "9f01");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert_eq!(CertInfo::parse(&CertificateDer::from(vec![0x30, 0])).unwrap_err(), NotACertificate);
    }
}
