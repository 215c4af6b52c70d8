//! What an authority answered, checked.

use std::sync::Arc;

use rustls_pki_types::UnixTime;

use super::{CaError, SigningRequest};
use crate::material::{TlsCertificate, TrustBundle};
use crate::spiffe::SpiffeId;
use crate::validation::ValidationContext;
use crate::verifier::Verifier;

/// A certificate that was issued for a workload, with its key and the root to trust.
#[derive(Debug)]
pub struct Issued {
    /// For TLS contexts.
    pub certificate: Arc<TlsCertificate>,
    /// For TLS contexts.
    pub root: Arc<TrustBundle>,
    /// The leaf and its intermediates, as PEM: `certificate_chain` of the secret `default`.
    pub chain_pem: String,
    /// The root as PEM: `trusted_ca` of the secret `ROOTCA`.
    pub root_pem: String,
    key_pem: String,
}

impl Issued {
    /// From the answer to a request, leaf first and root last.
    ///
    /// # Errors
    /// Fewer than two certificates, another key than the request's, another identity than `id` or one more, a certificate that is not
    /// valid at `now`, or a chain that does not lead to the root.
    pub fn check(request: &SigningRequest, id: &SpiffeId, answer: &[String], now: UnixTime) -> Result<Self, CaError> {
        let unusable = |why: &dyn std::fmt::Display| CaError::Answer(why.to_string());
        let (root_pem, chain) = match answer {
            [chain @ .., root] if !chain.is_empty() => (root.clone(), chain),
            short => {
                let why = format!("expected a leaf and a root at least, got {} certificates", short.len());
                return Err(CaError::Answer(why));
            }
        };
        let chain_pem: String = chain.iter().flat_map(|pem| [pem.trim_end(), "\n"]).collect();
        let certificate = TlsCertificate::from_pem(chain_pem.as_bytes(), request.key_pem.as_bytes(), "<issued>")
            .map_err(|error| unusable(&error))?;
        let root = TrustBundle::from_pem(root_pem.as_bytes(), "<issued>").map_err(|error| unusable(&error))?;
        let names: Vec<&str> = certificate.leaf().into_iter().flat_map(|leaf| leaf.uri_sans()).collect();
        if names != [id.as_str()] {
            return Err(CaError::Answer(format!("expected the identity {id} alone, got [{}]", names.join(", "))));
        }
        let root = Arc::new(root);
        let verifier = Verifier::of_clients(ValidationContext::trusting(Arc::clone(&root)), true, Vec::new());
        let verdict = verifier.judge(&certificate.certified_key().cert, now, &Default::default());
        if let Some(failure) = verdict.failure {
            return Err(unusable(&failure));
        }
        let certificate = Arc::new(certificate);
        Ok(Self { certificate, root, chain_pem, root_pem, key_pem: request.key_pem.clone() })
    }

    /// The key as PEM (PKCS #8): `private_key` of the secret `default`.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Seconds since 1970 between which the leaf is valid.
    pub fn validity(&self) -> (i64, i64) {
        self.certificate.leaf().map_or((0, 0), |leaf| (leaf.not_before(), leaf.not_after()))
    }
}

impl std::fmt::Debug for SigningRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningRequest").field("csr_pem", &self.csr_pem).finish_non_exhaustive() // the key is secret
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ca::KeySpec;
    use crate::testing::Ca;

    const ID: &str = "spiffe://cluster.local/ns/default/sa/a";

    #[test]
    fn only_an_answer_that_fits_is_taken() {
        let (ca, other) = (Ca::new("root"), Ca::new("other"));
        let id = SpiffeId::parse(ID).unwrap();
        let request = SigningRequest::new(KeySpec::EcdsaP256, &id).unwrap();
        let of = |id: &str| SigningRequest::new(KeySpec::EcdsaP256, &SpiffeId::parse(id).unwrap()).unwrap();
        let now = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let check = |answer: &[String], at: u64| {
            Issued::check(&request, &id, answer, now(at)).map(|issued| issued.validity()).map_err(|e| e.to_string())
        };
        let answer = ca.sign(&request.csr_pem, Some((1_800_000_000, 1_800_086_400))).unwrap();
        assert_eq!(check(&answer, 1_800_000_100), Ok((1_800_000_000, 1_800_086_400)));
        let below = ca.intermediate("below");
        let longer = below.sign(&request.csr_pem, None).unwrap();
        assert_eq!(longer.len(), 3);
        assert!(check(&longer, 1_800_000_100).is_ok());

        let mut wrong_root = answer.clone();
        wrong_root[1] = other.pem();
        let gap = [longer[0].clone(), longer[2].clone()];
        let another_key = ca.sign(&of(ID).csr_pem, None).unwrap();
        let garbage = ["no PEM".to_owned(), ca.pem()];
        for (answer, at, why) in [
            (&answer[..1], 1_800_000_100, "expected a leaf and a root at least, got 1 certificates"),
            (&[], 1_800_000_100, "got 0 certificates"),
            (&answer, 1_799_999_999, "certificate is not yet valid"),
            (&answer, 1_800_086_401, "certificate has expired"),
            (&wrong_root, 1_800_000_100, "unable to get local issuer certificate"),
            (&gap, 1_800_000_100, "unable to get local issuer certificate"),
            (&another_key, 1_800_000_100, "the private key does not belong to the leaf"),
            (&garbage, 1_800_000_100, "no certificate found"),
        ] {
            let error = check(answer, at).unwrap_err();
            assert!(error.contains("answer cannot be used") && error.contains(why), "{error}");
        }
        let stranger = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/b").unwrap();
        let error = Issued::check(&request, &stranger, &answer, now(1_800_000_100)).unwrap_err();
        assert!(error.to_string().contains(&format!("expected the identity {stranger} alone, got [{ID}]")), "{error}");
    }
}
