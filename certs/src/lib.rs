//! Identities and TLS for a service mesh, on rustls with aws-lc-rs. Knows nothing about proxies.
//!
//! | module | what it holds | Envoy's word for it |
//! |---|---|---|
//! | [`spiffe`] | SPIFFE IDs and trust domains | |
//! | [`info`] | facts about a certificate, for logs, headers and admin pages | `Ssl::ConnectionInfo`, `CertificateDetails` |
//! | [`material`] | a certificate chain with its key, trust bundles with their CRLs | `TlsCertificate`, `trusted_ca`, `crl` |
//! | [`slot`] | a named place for a secret that is read at each handshake | an SDS secret |
//! | [`san`] | subject alternative name matchers | `SubjectAltNameMatcher` |
//! | [`trust_domains`] | a trust bundle for each trust domain | `SPIFFECertValidatorConfig` |
//! | [`validation`] | what a peer's certificate must satisfy | `CertificateValidationContext` |
//! | [`verifier`] | the check itself, as rustls' verifier traits | the default `CertValidator` |
//! | [`params`] | versions, cipher suites, groups and signature schemes by their OpenSSL names | `TlsParameters` |
//! | [`server`], [`client`] | contexts that live as long as their configuration and follow the slots | `DownstreamTlsContext`, `UpstreamTlsContext` |
//! | [`ca`] | identities that an authority signs on request; Istio's certificate service | |
//! | [`handshake`] | what one handshake tells the shared verifier, and hears from it | |
//!
//! Invariants
//! - Nothing here opens when something is missing: an empty slot, an empty trust bundle, an unreadable CRL refuse
//!   the handshake or the configuration. The one exception is Envoy's own: a *client* context without any
//!   validation context verifies nothing ([`client::ClientTls`]), and it has to be asked for by name.
//! - Everything that can be parsed is parsed once, when it is loaded; a handshake reads shared, immutable values.
//! - A session is resumed only within the generation of the validation context that let its peer in, and the peer's
//!   certificate is checked again on each resumption.
//! - Time comes from rustls' `TimeProvider`, which the builders take.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod ca;
pub mod client;
mod context;
mod der;
pub mod handshake;
pub mod info;
pub mod material;
mod name;
pub mod ocsp;
mod p521;
pub mod params;
mod resumption;
pub mod san;
mod selector;
pub mod server;
pub mod slot;
pub mod spiffe;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trust_domains;
pub mod validation;
pub mod verifier;

pub use info::CertInfo;
