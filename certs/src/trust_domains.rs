//! A trust bundle for each trust domain: federation, as Envoy's SPIFFE certificate validator has it (`SPIFFECertValidatorConfig`).
//!
//! The domain of the peer's one SPIFFE ID says which bundle its chain has to lead to (SPIFFE Trust Domain and Bundle, section 5.1): an authority of one
//! domain can never vouch for a name in another. A peer of a domain without bundle is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use crate::material::{MaterialError, TrustBundle};
use crate::spiffe::{SpiffeError, TrustDomain};

/// Bundles by trust domain; never empty.
#[derive(Debug)]
pub struct TrustDomains {
    bundles: BTreeMap<TrustDomain, Arc<TrustBundle>>,
}

/// Why trust domains cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustDomainsError {
    /// Not one domain.
    #[error("no trust domain is given")]
    Empty,
    /// A domain that comes twice.
    #[error("multiple trust bundles are given for the trust domain {0}")]
    Twice(TrustDomain),
    /// A name that is none.
    #[error("the trust domain {name:?}: {why}")]
    Name {
        /// As it came.
        name: String,
        /// What is wrong.
        why: SpiffeError,
    },
    /// A bundle without a certificate that can be used.
    #[error("the trust bundle of {domain}: {why}")]
    Bundle {
        /// Whose it is.
        domain: TrustDomain,
        /// What is wrong.
        why: MaterialError,
    },
    /// A bundle map that is none.
    #[error("the SPIFFE bundle map cannot be read: {0}")]
    Map(String),
}

impl TrustDomains {
    /// From bundles by name.
    ///
    /// # Errors
    /// No bundle, two for one domain, a name that is none.
    pub fn new(bundles: impl IntoIterator<Item = (String, Arc<TrustBundle>)>) -> Result<Self, TrustDomainsError> {
        let mut known = BTreeMap::new();
        for (name, bundle) in bundles {
            let domain = parse_domain(&name)?;
            if known.insert(domain.clone(), bundle).is_some() {
                return Err(TrustDomainsError::Twice(domain));
            }
        }
        Self::of(known)
    }

    /// From a SPIFFE bundle map: `{"trust_domains": {"example.org": {"keys": [{"use": "x509-svid", "x5c": ["MII…"]}]}}}`. Keys for
    /// other uses are passed over; a domain without one for X.509 is refused.
    ///
    /// # Errors
    /// What is no such map, and what [`TrustDomains::new`] refuses. Nothing of a map is used when a part of it cannot be.
    pub fn from_bundle_map(json: &[u8], source: &str) -> Result<Self, TrustDomainsError> {
        let map: Value = serde_json::from_slice(json).map_err(|error| TrustDomainsError::Map(error.to_string()))?;
        let Some(domains) = map.get("trust_domains").and_then(Value::as_object) else {
            return Err(TrustDomainsError::Map("expected an object \"trust_domains\"".to_owned()));
        };
        let mut known = BTreeMap::new();
        for (name, bundle) in domains {
            let domain = parse_domain(name)?;
            let wrong = |what: &str| TrustDomainsError::Map(format!("trust_domains.{name}: {what}"));
            let keys = bundle.get("keys").and_then(Value::as_array).ok_or_else(|| wrong("expected a list \"keys\""))?;
            let mut certificates = Vec::new();
            for key in keys.iter().filter(|key| key.get("use").and_then(Value::as_str) == Some("x509-svid")) {
                // A certificate a key: what follows would be its issuers, which nobody needs (RFC 7517 4.7).
                let der = key.get("x5c").and_then(|list| list.get(0)).and_then(Value::as_str);
                let der = der.ok_or_else(|| wrong("a key for x509-svid has no certificate in \"x5c\""))?;
                let der = base64::engine::general_purpose::STANDARD.decode(der);
                certificates.push(CertificateDer::from(der.map_err(|error| wrong(&format!("x5c: {error}")))?));
            }
            let bundle = TrustBundle::from_der(certificates, &[], source)
                .map_err(|why| TrustDomainsError::Bundle { domain: domain.clone(), why })?;
            known.insert(domain, Arc::new(bundle)); // the names of an object are unique
        }
        Self::of(known)
    }

    fn of(bundles: BTreeMap<TrustDomain, Arc<TrustBundle>>) -> Result<Self, TrustDomainsError> {
        if bundles.is_empty() { Err(TrustDomainsError::Empty) } else { Ok(Self { bundles }) }
    }

    /// The bundle of a domain.
    pub(crate) fn bundle(&self, domain: &str) -> Option<&TrustBundle> {
        let mut all = self.bundles.iter();
        all.find_map(|(known, bundle)| (known.as_str() == domain).then_some(&**bundle))
    }

    /// In the order of the domains' names.
    pub fn bundles(&self) -> impl Iterator<Item = (&TrustDomain, &Arc<TrustBundle>)> {
        self.bundles.iter()
    }
}

fn parse_domain(name: &str) -> Result<TrustDomain, TrustDomainsError> {
    TrustDomain::parse(name).map_err(|why| TrustDomainsError::Name { name: name.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Ca;

    fn map(domains: &[(&str, &str)]) -> String {
        let domains: Vec<_> = domains.iter().map(|(name, keys)| format!("{name:?}: {{\"keys\": [{keys}]}}")).collect();
        format!("{{\"trust_domains\": {{{}}}}}", domains.join(","))
    }

    fn key(ca: &Ca) -> String {
        format!("{{\"kty\": \"EC\", \"use\": \"x509-svid\", \"x5c\": [\"{}\"]}}", ca.der_base64())
    }

    #[test]
    fn a_bundle_map_is_read_whole_or_not_at_all() {
        let (a, b) = (Ca::new("a"), Ca::new("b"));
        let jwt = "{\"kty\": \"EC\", \"use\": \"jwt-svid\", \"kid\": \"x\"}";
        let two = format!("{},{jwt},{}", key(&a), key(&b));
        let good = map(&[("a.example", &two), ("b.example", &key(&b))]);
        let domains = TrustDomains::from_bundle_map(good.as_bytes(), "").unwrap();
        assert_eq!(domains.bundle("a.example").unwrap().certificates().len(), 2);
        assert_eq!(domains.bundle("b.example").unwrap().certificates()[0].subject(), "CN=b");
        assert!(domains.bundle("c.example").is_none());
        for (bad, why) in [
            ("".to_owned(), "cannot be read"),
            ("{}".to_owned(), "expected an object"),
            (map(&[]), "no trust domain"),
            (map(&[("A.example", &key(&a))]), "the trust domain \"A.example\""),
            (map(&[("a.example", &key(&a)), ("b.example", jwt)]), "trust bundle of b.example: no trusted CA"),
            (map(&[("a.example", "{\"use\": \"x509-svid\"}")]), "trust_domains.a.example: a key for x509-svid"),
            (map(&[("a.example", "{\"use\": \"x509-svid\", \"x5c\": [\"!\"]}")]), "trust_domains.a.example: x5c"),
            (map(&[("a.example", "{\"use\": \"x509-svid\", \"x5c\": [\"AAAA\"]}")]), "trust bundle of a.example"),
        ] {
            let error = TrustDomains::from_bundle_map(bad.as_bytes(), "").unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_domain_has_one_bundle() {
        let ca = Ca::new("a");
        let of = |names: &[&str]| TrustDomains::new(names.iter().map(|name| ((*name).to_owned(), ca.bundle())));
        assert!(of(&["a.example", "b.example"]).is_ok());
        assert!(matches!(of(&["a.example", "a.example"]), Err(TrustDomainsError::Twice(_))));
        assert!(matches!(of(&["spiffe://a.example"]), Err(TrustDomainsError::Name { .. })));
        assert!(matches!(of(&[]), Err(TrustDomainsError::Empty)));
    }
}
