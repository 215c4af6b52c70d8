//! Reading DER, and the parts of an X.509 certificate that are asked about here.
//!
//! Whether a certificate is *valid* is rustls-webpki's judgement; this reader only takes facts out of one: names,
//! serial, validity, key usage. It copies nothing, trusts no length and takes minimal definite lengths only.

/// Context tags of `GeneralName` (RFC 5280 4.2.1.6), `[n]` IMPLICIT.
const OTHER_NAME: u8 = 0xa0;
const RFC822_NAME: u8 = 0x81;
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;
const IP_ADDRESS: u8 = 0x87;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// id-pe-tlsfeature (RFC 7633).
const TLS_FEATURE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x18];

/// One element: its tag, its contents, and all of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) value: &'a [u8],
    pub(crate) whole: &'a [u8],
}

/// Elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, after_tag) = self.rest.split_first()?;
        if tag & 0x1f == 0x1f {
            return None; // multi-byte tags do not occur in what is read here
        }
        let (&first, after_first) = after_tag.split_first()?;
        let (len, body) = if first < 0x80 {
            (usize::from(first), after_first)
        } else {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let (digits, body) = after_first.split_at_checked(count)?;
            let len = digits.iter().fold(0usize, |len, digit| (len << 8) | usize::from(*digit));
            if len < 0x80 || digits.first() == Some(&0) {
                return None; // DER wants the shortest form
            }
            (len, body)
        };
        let (value, rest) = body.split_at_checked(len)?;
        let whole = self.rest.get(..self.rest.len() - rest.len())?;
        self.rest = rest;
        Some(Element { tag, value, whole })
    }

    /// The next element if it has this tag; what was read stays unread if not.
    pub(crate) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let element = ahead.next().filter(|e| e.tag == tag)?;
        *self = ahead;
        Some(element)
    }
}

/// The facts of a certificate, borrowed from its DER.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cert<'a> {
    /// The serial number's contents as they stand, sign byte included.
    pub(crate) serial: &'a [u8],
    /// `Name`, with its header.
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// `SubjectPublicKeyInfo`, with its header.
    pub(crate) spki: &'a [u8],
    /// What is signed, with its header; with which algorithm (the contents of the `AlgorithmIdentifier`); the signature.
    pub(crate) signed: &'a [u8],
    pub(crate) signature_algorithm: &'a [u8],
    pub(crate) signature: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Cert<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Option<Self> {
        let mut outer = Reader::new(der);
        let certificate = outer.take(SEQUENCE)?;
        if !outer.is_empty() {
            return None;
        }
        let mut certificate = Reader::new(certificate.value);
        let signed = certificate.take(SEQUENCE)?;
        let signature_algorithm = certificate.take(SEQUENCE)?.value;
        let signature = certificate.take(BIT_STRING)?.value.strip_prefix(&[0])?;
        let mut tbs = Reader::new(signed.value);
        tbs.take(0xa0); // version
        let serial = tbs.take(INTEGER)?.value;
        tbs.take(SEQUENCE)?; // signature algorithm
        let issuer = tbs.take(SEQUENCE)?.whole;
        let mut validity = Reader::new(tbs.take(SEQUENCE)?.value);
        let not_before = time(validity.next()?)?;
        let not_after = time(validity.next()?)?;
        let subject = tbs.take(SEQUENCE)?.whole;
        let spki = tbs.take(SEQUENCE)?.whole;
        tbs.take(0x81); // issuerUniqueID
        tbs.take(0x82); // subjectUniqueID
        let extensions = match tbs.take(0xa3) {
            Some(tagged) => Reader::new(tagged.value).take(SEQUENCE)?.value,
            None => &[],
        };
        let signed = signed.whole;
        Some(Self {
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            spki,
            signed,
            signature_algorithm,
            signature,
            extensions,
        })
    }

    pub(crate) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    pub(crate) fn has_extensions(&self) -> bool {
        !self.extensions.is_empty()
    }

    /// Whether there is a name constraints extension, which only authorities have.
    pub(crate) fn has_name_constraints(&self) -> bool {
        self.extension(NAME_CONSTRAINTS).is_some()
    }

    fn extension(&self, oid: &[u8]) -> Option<&'a [u8]> {
        let mut extensions = Reader::new(self.extensions);
        while let Some(extension) = extensions.take(SEQUENCE) {
            let mut fields = Reader::new(extension.value);
            if fields.take(OID)?.value == oid {
                fields.take(BOOLEAN); // critical
                return Some(fields.take(OCTET_STRING)?.value);
            }
        }
        None
    }

    /// The subject alternative names, in the certificate's order. `None` when there is no such extension, an error when it is
    /// there and cannot be read.
    pub(crate) fn general_names(&self) -> Result<Option<GeneralNames<'a>>, Malformed> {
        let Some(value) = self.extension(SUBJECT_ALT_NAME) else { return Ok(None) };
        let mut outer = Reader::new(value);
        let names = outer.take(SEQUENCE).ok_or(Malformed)?;
        if !outer.is_empty() {
            return Err(Malformed);
        }
        let mut check = Reader::new(names.value);
        while !check.is_empty() {
            check.next().ok_or(Malformed)?;
        }
        Ok(Some(GeneralNames { names: Reader::new(names.value) }))
    }

    /// Whether the key may sign a handshake: no key usage extension, or one with digitalSignature.
    pub(crate) fn may_sign_handshakes(&self) -> bool {
        let Some(value) = self.extension(KEY_USAGE) else { return true };
        let bits = Reader::new(value).take(BIT_STRING).map(|bits| bits.value);
        bits.and_then(|b| b.get(1)).is_some_and(|first| first & 0x80 != 0)
    }

    /// Whether the key is said to sign certificates or revocation lists (keyCertSign, cRLSign).
    pub(crate) fn may_sign_certificates(&self) -> bool {
        let bits =
            self.extension(KEY_USAGE).and_then(|value| Reader::new(value).take(BIT_STRING)).map(|bits| bits.value);
        bits.and_then(|b| b.get(1)).is_some_and(|first| first & 0x06 != 0)
    }

    /// Whether the certificate carries this extended key usage, or has no such extension.
    pub(crate) fn has_purpose(&self, oid: &[u8]) -> bool {
        let Some(value) = self.extension(EXTENDED_KEY_USAGE) else { return true };
        let Some(list) = Reader::new(value).take(SEQUENCE) else { return false };
        let mut purposes = Reader::new(list.value);
        while let Some(purpose) = purposes.take(OID) {
            if purpose.value == oid {
                return true;
            }
        }
        false
    }

    /// RFC 7633: the certificate demands an OCSP staple (TLS feature 5, status_request).
    pub(crate) fn must_staple(&self) -> bool {
        self.extension(TLS_FEATURE) == Some(&[SEQUENCE, 3, INTEGER, 1, 5])
    }

    /// Attributes of the subject as `(oid, element)`, in the certificate's order.
    pub(crate) fn subject_attributes(&self) -> Vec<(&'a [u8], Element<'a>)> {
        name_attributes(self.subject).into_iter().map(|(_, oid, value)| (oid, value)).collect()
    }
}

/// The attributes of a `Name`: number of the RDN they stand in, type, value. Stops at what cannot be read.
pub(crate) fn name_attributes(name: &[u8]) -> Vec<(usize, &[u8], Element<'_>)> {
    let mut attributes = Vec::new();
    let Some(rdns) = Reader::new(name).take(SEQUENCE) else { return attributes };
    let mut rdns = Reader::new(rdns.value);
    let mut number = 0;
    while let Some(rdn) = rdns.take(SET) {
        let mut pairs = Reader::new(rdn.value);
        while let Some(pair) = pairs.take(SEQUENCE) {
            let mut fields = Reader::new(pair.value);
            if let (Some(oid), Some(value)) = (fields.take(OID), fields.next()) {
                attributes.push((number, oid.value, value));
            }
        }
        number += 1;
    }
    attributes
}

/// The certificate says something that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One subject alternative name as it stands in the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GeneralName<'a> {
    Email(&'a [u8]),
    Dns(&'a [u8]),
    Uri(&'a [u8]),
    Ip(&'a [u8]),
    Other(&'a [u8]),
    /// A kind that nothing here can match: directoryName, registeredID, …
    Unknown,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct GeneralNames<'a> {
    names: Reader<'a>,
}

impl<'a> Iterator for GeneralNames<'a> {
    type Item = GeneralName<'a>;

    fn next(&mut self) -> Option<GeneralName<'a>> {
        let name = self.names.next()?;
        Some(match name.tag {
            RFC822_NAME => GeneralName::Email(name.value),
            DNS_NAME => GeneralName::Dns(name.value),
            URI => GeneralName::Uri(name.value),
            IP_ADDRESS => GeneralName::Ip(name.value),
            OTHER_NAME => GeneralName::Other(name.value),
            _ => GeneralName::Unknown,
        })
    }
}

/// Seconds since 1970 of a `UTCTime` or `GeneralizedTime` in RFC 5280's profile (`Z`, seconds present).
pub(crate) fn time(element: Element<'_>) -> Option<i64> {
    let text = std::str::from_utf8(element.value).ok()?;
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (element.tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (yy, rest) = digits.split_at(2);
            let yy: i64 = yy.parse().ok()?;
            (if yy < 50 { 2000 + yy } else { 1900 + yy }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (yyyy, rest) = digits.split_at(4);
            (yyyy.parse().ok()?, rest)
        }
        _ => return None,
    };
    let field = |n: usize| rest.get(2 * n..2 * n + 2)?.parse::<i64>().ok();
    let (month, day, hour, minute, second) = (field(0)?, field(1)?, field(2)?, field(3)?, field(4)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar, counting years from March so that the leap day comes last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(tag: u8, text: &str) -> Option<i64> {
        time(Element { tag, value: text.as_bytes(), whole: &[] })
    }

    #[test]
    fn times() {
        assert_eq!(at(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(at(UTC_TIME, "240229235959Z"), Some(1_709_251_199));
        assert_eq!(at(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(at(UTC_TIME, "500101000000Z"), Some(-631_152_000));
        assert_eq!(at(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(at(GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for bad in
            ["", "240101000000", "2401010000Z", "241301000000Z", "240100000000Z", "24010100000aZ", "240101240000Z"]
        {
            assert_eq!(at(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn lengths_are_not_trusted() {
        for bytes in [
            &[0x30][..],
            &[0x30, 0x01],
            &[0x30, 0x80, 0, 0],             // indefinite
            &[0x30, 0x81, 0x01, 0x00],       // not the shortest form
            &[0x30, 0x82, 0x00, 0x80],       // leading zero
            &[0x30, 0x85, 1, 0, 0, 0, 0, 0], // more than four bytes of length
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x1f, 0x81, 0x00, 0x00], // multi-byte tag
        ] {
            assert!(Reader::new(bytes).next().is_none(), "{bytes:x?}");
        }
        let element = Reader::new(&[0x04, 0x02, 7, 8, 9]).next().unwrap();
        assert_eq!((element.tag, element.value, element.whole), (0x04, &[7u8, 8][..], &[4u8, 2, 7, 8][..]));
    }

    #[test]
    fn a_cut_or_changed_certificate_is_read_or_refused_but_never_panics() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        let der = params.self_signed(&key).unwrap().der().to_vec();
        assert_eq!(Cert::parse(&der).unwrap().general_names().unwrap().unwrap().count(), 2);
        for at in 0..der.len() {
            assert!(Cert::parse(&der[..at]).is_none());
            for change in [0x00, 0x01, 0x30, 0x7f, 0x80, 0xff] {
                let mut changed = der.clone();
                changed[at] ^= change;
                if let Some(cert) = Cert::parse(&changed) {
                    let _ = (cert.general_names().map(|n| n.map(Iterator::count)), cert.may_sign_handshakes());
                    let _ = (cert.has_purpose(&[1]), cert.must_staple(), cert.subject_attributes().len());
                }
            }
        }
    }
}
