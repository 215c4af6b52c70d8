//! SPIFFE identities, certificate verification and secret slots on rustls.

/// Facts about a certificate.
#[derive(Debug, Clone)]
pub struct CertInfo;
