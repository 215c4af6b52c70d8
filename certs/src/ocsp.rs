//! An OCSP response to staple to a handshake (RFC 6960): which certificate it speaks of and until when.
//!
//! Its signature is the client's to check. Here it is only made sure that the response is a successful one, speaks of exactly the
//! certificate it is configured beside, and is not stale.

use crate::der::{ENUMERATED, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, Reader, SEQUENCE, time};

/// id-pkix-ocsp-basic
const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];

/// Why a response cannot be stapled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OcspError {
    /// No DER, or none of the shape of RFC 6960.
    #[error("the OCSP response cannot be parsed")]
    Malformed,
    /// The responder did not answer: malformedRequest, tryLater, …
    #[error("the OCSP response was not successful (status {0})")]
    Unsuccessful(u8),
    /// Envoy takes responses for one certificate only.
    #[error("the OCSP response is for {0} certificates, expected one")]
    NotOne(usize),
    /// Its serial number is another one.
    #[error("the OCSP response does not match its TLS certificate")]
    OtherCertificate,
}

/// A response that fits its certificate.
#[derive(Debug, Clone)]
pub struct OcspStaple {
    der: Vec<u8>,
    next_update: Option<i64>,
}

impl OcspStaple {
    /// `serial` is that of the certificate, as it stands in it.
    pub(crate) fn parse(der: &[u8], serial: &[u8]) -> Result<Self, OcspError> {
        let (response_serial, next_update) = single_response(der)?;
        if response_serial != serial {
            return Err(OcspError::OtherCertificate);
        }
        Ok(Self { der: der.to_vec(), next_update })
    }

    /// The response, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// A response without nextUpdate says that newer information is to be had at any time: it counts as expired.
    pub fn is_expired(&self, now: i64) -> bool {
        self.next_update.is_none_or(|next| next < now)
    }
}

/// The serial number and nextUpdate of a response's only SingleResponse.
fn single_response(der: &[u8]) -> Result<(&[u8], Option<i64>), OcspError> {
    let mut response = Reader::new(Reader::new(der).take(SEQUENCE).ok_or(OcspError::Malformed)?.value);
    match response.take(ENUMERATED).map(|status| status.value) {
        Some([0]) => {}
        Some([status]) => return Err(OcspError::Unsuccessful(*status)),
        _ => return Err(OcspError::Malformed),
    }
    let data = response_data(&mut response).ok_or(OcspError::Malformed)?;
    let mut count = 0;
    let mut all = data;
    while !all.is_empty() {
        all.take(SEQUENCE).ok_or(OcspError::Malformed)?;
        count += 1;
    }
    if count != 1 {
        return Err(OcspError::NotOne(count));
    }
    let mut only = data;
    serial_and_next_update(only.take(SEQUENCE).map(|e| e.value)).ok_or(OcspError::Malformed)
}

/// The list of SingleResponses of a BasicOCSPResponse.
fn response_data<'a>(response: &mut Reader<'a>) -> Option<Reader<'a>> {
    let mut bytes = Reader::new(Reader::new(response.take(0xa0)?.value).take(SEQUENCE)?.value);
    if bytes.take(OID)?.value != BASIC {
        return None;
    }
    let basic = Reader::new(bytes.take(OCTET_STRING)?.value).take(SEQUENCE)?;
    let mut data = Reader::new(Reader::new(basic.value).take(SEQUENCE)?.value);
    data.take(0xa0); // version
    data.take(0xa1).or_else(|| data.take(0xa2))?; // responder by name or by key
    data.take(GENERALIZED_TIME)?; // producedAt
    Some(Reader::new(data.take(SEQUENCE)?.value))
}

fn serial_and_next_update(single: Option<&[u8]>) -> Option<(&[u8], Option<i64>)> {
    let mut single = Reader::new(single?);
    let mut id = Reader::new(single.take(SEQUENCE)?.value);
    id.take(SEQUENCE)?; // hash algorithm
    id.take(OCTET_STRING)?; // issuer's name
    id.take(OCTET_STRING)?; // issuer's key
    let serial = id.take(INTEGER)?.value;
    single.next()?; // status: good, revoked, unknown
    single.take(GENERALIZED_TIME)?; // thisUpdate
    let next_update = match single.take(0xa0) {
        Some(tagged) => Some(time(Reader::new(tagged.value).take(GENERALIZED_TIME)?)?),
        None => None,
    };
    Some((serial, next_update))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ocsp_response;

    const NEXT: i64 = 1_717_200_000; // 2024-06-01

    #[test]
    fn a_response_is_read() {
        let der = ocsp_response(&[&[0x14]], Some("20240601000000Z"));
        let staple = OcspStaple::parse(&der, &[0x14]).unwrap();
        assert_eq!(staple.der(), der);
        assert!(!staple.is_expired(NEXT) && staple.is_expired(NEXT + 1));
    }

    #[test]
    fn without_next_update_it_is_stale() {
        let staple = OcspStaple::parse(&ocsp_response(&[&[0x14]], None), &[0x14]).unwrap();
        assert!(staple.is_expired(0));
    }

    #[test]
    fn what_cannot_be_stapled_is_refused() {
        let der = ocsp_response(&[&[0x14]], None);
        assert_eq!(OcspStaple::parse(&der, &[0x15]).unwrap_err(), OcspError::OtherCertificate);
        let two = ocsp_response(&[&[0x14], &[0x15]], None);
        assert_eq!(OcspStaple::parse(&two, &[0x14]).unwrap_err(), OcspError::NotOne(2));
        assert_eq!(OcspStaple::parse(&[0x30, 3, 0x0a, 1, 3], &[0x14]).unwrap_err(), OcspError::Unsuccessful(3));
        for cut in 0..der.len() {
            assert!(OcspStaple::parse(&der[..cut], &[0x14]).is_err());
        }
    }
}
