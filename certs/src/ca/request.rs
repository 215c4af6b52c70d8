//! A fresh key and the request to certify it.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, RsaKeySize, SanType};

use super::CaError;
use crate::spiffe::SpiffeId;

/// The kinds of keys that a workload may have (`ECC_SIGNATURE_ALGORITHM`, `ECC_CURVE`, `WORKLOAD_RSA_KEY_SIZE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeySpec {
    /// ECDSA on P-256.
    #[default]
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// RSA with 2048 bits: Istio's default, and a hundred times slower to make.
    Rsa2048,
}

/// A request with the key it is for.
pub struct SigningRequest {
    /// `CERTIFICATE REQUEST`
    pub csr_pem: String,
    /// `PRIVATE KEY` (PKCS #8)
    pub key_pem: String,
}

impl SigningRequest {
    /// A new key, and a request that it be certified for `id`: the only name in it, critical, beside an empty subject.
    ///
    /// # Errors
    /// When the random number generator or the signature fails.
    pub fn new(spec: KeySpec, id: &SpiffeId) -> Result<Self, CaError> {
        let failed = |error: rcgen::Error| CaError::Request(error.to_string());
        let key = match spec {
            KeySpec::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeySpec::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeySpec::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        };
        let key = key.map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().map_err(failed)?)];
        let csr = params.serialize_request(&key).map_err(failed)?;
        Ok(Self { csr_pem: csr.pem().map_err(failed)?, key_pem: key.serialize_pem() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Ca;

    #[test]
    fn every_request_has_a_key_of_its_own_that_fits_what_is_signed() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/a").unwrap();
        let ca = Ca::new("root");
        for spec in [KeySpec::EcdsaP256, KeySpec::EcdsaP384, KeySpec::Rsa2048] {
            let (a, b) = (SigningRequest::new(spec, &id).unwrap(), SigningRequest::new(spec, &id).unwrap());
            assert_ne!(a.key_pem, b.key_pem);
            let chain = ca.sign(&a.csr_pem, None).unwrap().concat();
            let certificate =
                crate::material::TlsCertificate::from_pem(chain.as_bytes(), a.key_pem.as_bytes(), "").unwrap();
            assert_eq!(certificate.leaf().unwrap().uri_sans().collect::<Vec<_>>(), [id.as_str()]);
            assert_eq!(certificate.leaf().unwrap().subject(), "");
            assert!(
                crate::material::TlsCertificate::from_pem(chain.as_bytes(), b.key_pem.as_bytes(), "").is_err(),
                "another's key"
            );
        }
    }
}
