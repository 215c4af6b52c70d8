//! What server and client contexts have in common: where their rules for peers come from, and why they refuse to be built or used.

use std::sync::Arc;

use crate::material::TlsCertificate;
use crate::params::ParamsError;
use crate::slot::SecretSlot;
use crate::validation::{ValidationContext, ValidationError};

/// Where the rules for the peer's certificate come from.
#[derive(Debug, Clone, Default)]
pub enum Validation {
    /// There are none. A server asks for no certificate; a client verifies nothing, which is Envoy's behaviour for an
    /// `UpstreamTlsContext` without validation context.
    #[default]
    None,
    /// From the configuration: `validation_context`.
    Fixed(Arc<ValidationContext>),
    /// From a secret: `validation_context_sds_secret_config`, and with `default` `combined_validation_context`. As long as the slot
    /// is empty, or what came verifies nothing, every handshake is refused.
    Secret {
        /// `default_validation_context`
        default: Option<Arc<ValidationContext>>,
        /// What is laid over it.
        slot: Arc<SecretSlot<ValidationContext>>,
    },
}

/// Why a context cannot be built from its configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// `tls_params`
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// `validation_context`
    #[error(transparent)]
    Validation(#[from] ValidationError),
    /// A server without certificate.
    #[error("no TLS certificates found for server context")]
    NoCertificate,
    /// Envoy takes this and then asks for no certificate at all. Whoever requires one means to have it checked.
    #[error("require_client_certificate needs a validation context with a trusted CA or certificate hashes")]
    NothingToVerifyClientsBy,
    /// Each is 1 to 255 bytes long on the wire, all together 65535.
    #[error("invalid ALPN protocol string {0:?}, expected 1 to 255 bytes")]
    Alpn(String),
    /// Not a host name that may stand in a ClientHello.
    #[error("sni {0:?} is not a valid DNS name")]
    Sni(String),
    /// `ocsp_staple_policy: MUST_STAPLE`, or a certificate that demands it.
    #[error("an OCSP response is required by policy and missing from the TLS certificate{0}")]
    MustStaple(String),
    /// rustls takes exception at a combination.
    #[error("these TLS parameters cannot be used together: {0}")]
    Unusable(String),
}

/// Why no handshake is begun now. The connection is to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// A slot is empty; Envoy counts `downstream_context_secrets_not_ready` and `upstream_context_secrets_not_ready`.
    #[error("secret {0:?} has not been received")]
    Secret(String),
    /// What the slots hold does not go together.
    #[error("the TLS context cannot be used: {0}")]
    Context(#[from] ContextError),
}

impl Validation {
    /// What can be said before any secret has come.
    pub(crate) fn check(&self) -> Result<(), ContextError> {
        match self {
            Self::None | Self::Secret { .. } => Ok(()),
            Self::Fixed(context) => Ok(context.check()?),
        }
    }

    /// Changes whenever [`Validation::current`] may.
    pub(crate) fn version(&self) -> [u64; 2] {
        match self {
            Self::None => [0; 2],
            Self::Fixed(context) => [0, context.version()],
            Self::Secret { default, slot } => {
                let version = slot.version(); // before the secret: see SecretSlot::version
                let followed = slot.get().filter(|secret| secret.trust_domains.is_some());
                let domains = followed.as_ref().or(default.as_ref()).map_or(0, |context| context.version());
                [version, domains]
            }
        }
    }

    /// The rules as they are now, or none when nothing is to be verified.
    pub(crate) fn current(&self) -> Result<Option<ValidationContext>, NotReady> {
        let context = match self {
            Self::None => return Ok(None),
            Self::Fixed(context) => ValidationContext::clone(context),
            Self::Secret { default, slot } => {
                let secret = slot.get().ok_or_else(|| NotReady::Secret(slot.name().to_owned()))?;
                return Ok(Some(whole(default.as_deref(), &secret)?));
            }
        };
        context.check().map_err(ContextError::from)?;
        Ok((context.verifies_anything() || context.accepts_untrusted()).then_some(context))
    }

    /// Whether rules that read `slot` could be used if it held `candidate`. True for all others.
    ///
    /// # Errors
    /// When the candidate, together with the default, could not be used: then it is better refused than put into the slot.
    pub fn would_take(
        &self,
        slot: &Arc<SecretSlot<ValidationContext>>,
        candidate: &ValidationContext,
    ) -> Result<(), ContextError> {
        match self {
            Self::Secret { default, slot: own } if Arc::ptr_eq(own, slot) => {
                whole(default.as_deref(), candidate).map(|_| ())
            }
            _ => Ok(()),
        }
    }
}

/// A secret laid over the default; refused if the whole verifies nothing or does not go together.
fn whole(default: Option<&ValidationContext>, secret: &ValidationContext) -> Result<ValidationContext, ContextError> {
    let whole = default.map_or_else(|| secret.clone(), |default| default.merge(secret));
    if !whole.verifies_anything() && !whole.accepts_untrusted() {
        return Err(ValidationError::Nothing.into());
    }
    whole.check()?;
    Ok(whole)
}

pub(crate) fn current_certificate(slot: &SecretSlot<TlsCertificate>) -> Result<Arc<TlsCertificate>, NotReady> {
    slot.get().ok_or_else(|| NotReady::Secret(slot.name().to_owned()))
}

/// ALPN protocols as the configuration has them: Envoy takes lists joined by commas in one string, too.
pub(crate) fn alpn_protocols(configured: &[String]) -> Result<Vec<Vec<u8>>, ContextError> {
    let mut protocols = Vec::new();
    for protocol in configured.iter().flat_map(|entry| entry.split(',')) {
        if protocol.is_empty() && configured.iter().all(String::is_empty) {
            continue;
        }
        if protocol.is_empty() || protocol.len() > 255 {
            return Err(ContextError::Alpn(protocol.to_owned()));
        }
        protocols.push(protocol.as_bytes().to_vec());
    }
    Ok(protocols)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::san::SanMatcher;
    use crate::testing::Ca;

    #[test]
    fn alpn_is_split_and_checked() {
        let parse = |list: &[&str]| alpn_protocols(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&["h2,http/1.1", "istio"]).unwrap(), [&b"h2"[..], b"http/1.1", b"istio"]);
        assert_eq!(parse(&[]).unwrap(), parse(&[""]).unwrap());
        assert!(parse(&["h2,"]).is_err() && parse(&[&"x".repeat(256)]).is_err());
        assert!(parse(&[&"x".repeat(255)]).is_ok());
    }

    #[test]
    fn an_empty_slot_is_never_open() {
        let slot = SecretSlot::empty("ROOTCA");
        let names = ValidationContext { match_subject_alt_names: vec![SanMatcher::dns("a")], ..Default::default() };
        for default in [None, Some(Arc::new(names))] {
            let validation = Validation::Secret { default, slot: Arc::clone(&slot) };
            assert_eq!(validation.current().unwrap_err(), NotReady::Secret("ROOTCA".into()));
        }
    }

    #[test]
    fn a_secret_that_verifies_nothing_is_refused() {
        let slot = SecretSlot::filled("ROOTCA", Arc::new(ValidationContext::default()));
        let validation = Validation::Secret { default: None, slot: Arc::clone(&slot) };
        assert_eq!(validation.current().unwrap_err(), NotReady::Context(ValidationError::Nothing.into()));
        slot.set(Some(Arc::new(ValidationContext::trusting(Ca::new("root").bundle()))));
        assert!(validation.current().unwrap().is_some());
        slot.set(None);
        assert!(validation.current().is_err());
    }

    #[test]
    fn a_candidate_is_judged_with_the_default() {
        let names = ValidationContext { match_subject_alt_names: vec![SanMatcher::dns("a")], ..Default::default() };
        let (slot, other) = (SecretSlot::empty("ROOTCA"), SecretSlot::empty("ROOTCA"));
        let validation = Validation::Secret { default: Some(Arc::new(names)), slot: Arc::clone(&slot) };
        let empty = ValidationContext::default();
        assert_eq!(validation.would_take(&slot, &empty).unwrap_err(), ValidationError::NamesWithoutCa.into());
        assert_eq!(validation.would_take(&other, &empty), Ok(()));
        assert_eq!(validation.would_take(&slot, &ValidationContext::trusting(Ca::new("root").bundle())), Ok(()));
        let alone = Validation::Secret { default: None, slot: Arc::clone(&slot) };
        assert_eq!(alone.would_take(&slot, &empty).unwrap_err(), ValidationError::Nothing.into());
    }

    #[test]
    fn names_alone_are_no_trust() {
        let names = ValidationContext { match_subject_alt_names: vec![SanMatcher::dns("a")], ..Default::default() };
        let slot = SecretSlot::filled("ROOTCA", Arc::new(ValidationContext::default()));
        let validation = Validation::Secret { default: Some(Arc::new(names)), slot };
        let refused = NotReady::Context(ValidationError::NamesWithoutCa.into());
        assert_eq!(validation.current().unwrap_err(), refused);
    }
}
