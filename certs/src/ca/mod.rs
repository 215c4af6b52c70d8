//! Identities that an authority signs on request: what Istio's agent does for a workload.
//!
//! | module | what it holds | I/O |
//! |---|---|---|
//! | [`request`] | a fresh key and the certificate signing request for it | no |
//! | [`issued`] | the authority's answer, checked before anybody uses it | no |
//! | [`renewal`] | when to ask (again) | no |
//! | [`istio`] | the client of `istio.v1.auth.IstioCertificateService` (feature `ca-client`) | yes |
//! | [`workload`] | keeps one identity fresh (feature `ca-client`) | through an authority |
//!
//! Invariants
//! - A key never leaves the process, and every request has a new one.
//! - An answer that does not fit (another key, another identity, a chain that does not lead to the root that came with it) is an error like
//!   any other: what was issued last stays in use as long as it is valid.

pub mod issued;
#[cfg(feature = "ca-client")]
pub mod istio;
pub mod renewal;
pub mod request;
#[cfg(feature = "ca-client")]
pub mod workload;

use std::future::Future;
use std::time::Duration;

pub use issued::Issued;
pub use request::{KeySpec, SigningRequest};

/// Whoever signs.
pub trait CertificateAuthority {
    /// Asks for a certificate that is valid this long. The answer is PEM: the leaf first, the root last.
    ///
    /// Should fail rather than hang. Cancel safe.
    fn sign(&self, csr_pem: &str, validity: Duration) -> impl Future<Output = Result<Vec<String>, CaError>>;
}

/// Why there is no (new) certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// No key or request could be made.
    #[error("cannot make a certificate signing request: {0}")]
    Request(String),
    /// The bearer token.
    #[error("cannot read the token {path}: {why}")]
    Token {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// No connection, or no TLS.
    #[error("cannot connect to the certificate authority: {0}")]
    Connect(String),
    /// No answer.
    #[error("the certificate authority did not answer within {0:?}")]
    TimedOut(Duration),
    /// A gRPC status other than OK.
    #[error("the certificate authority refuses: {code}: {message}")]
    Refused {
        /// The name of the gRPC code.
        code: String,
        /// What the authority says.
        message: String,
        /// Whether asking again soon may help.
        retriable: bool,
    },
    /// An answer that cannot be used.
    #[error("the certificate authority's answer cannot be used: {0}")]
    Answer(String),
}

impl CaError {
    /// Whether asking again soon may help: not after a refusal of who or what was asking.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TimedOut(_) => true,
            Self::Refused { retriable, .. } => *retriable,
            Self::Request(_) | Self::Token { .. } | Self::Answer(_) => false,
        }
    }
}
