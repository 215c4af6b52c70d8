//! Stats of TLS: `listener.<address>.ssl.` and `cluster.<name>.ssl.`
//!
//! Ciphers, curves, signature algorithms and versions are counted under names known only at run time:
//! `inc_named("ciphers.TLS_AES_128_GCM_SHA256")`, `curves.X25519`, `sigalgs.rsa_pss_rsae_sha256`, `versions.TLSv1.3`; and
//! `set_named("certificate.<name>.expiration_unix_time_seconds", t)`.

use crate::stat_block;

stat_block! {
    /// Scope `listener.<address>.ssl` or `cluster.<name>.ssl`.
    pub struct SslStats {
        counter CONNECTION_ERROR,
        counter FAIL_VERIFY_CERT_HASH,
        counter FAIL_VERIFY_ERROR,
        counter FAIL_VERIFY_NO_CERT,
        counter FAIL_VERIFY_SAN,
        counter HANDSHAKE,
        counter NO_CERTIFICATE,
        counter OCSP_STAPLE_FAILED,
        counter OCSP_STAPLE_OMITTED,
        counter OCSP_STAPLE_REQUESTS,
        counter OCSP_STAPLE_RESPONSES,
        counter SESSION_REUSED,
    }
}

stat_block! {
    /// Scope `listener.<address>.server_ssl_socket_factory` or `cluster.<name>.client_ssl_socket_factory`.
    pub struct SslSocketFactoryStats {
        counter DOWNSTREAM_CONTEXT_SECRETS_NOT_READY,
        counter SSL_CONTEXT_UPDATE_BY_SDS,
        counter UPSTREAM_CONTEXT_SECRETS_NOT_READY,
    }
}
