//! Counters of handshakes: the families `ssl.`, `server_ssl_socket_factory.` and `client_ssl_socket_factory.`

use certs::handshake::{Handshake, StapleAction};
use certs::params::signature_scheme_name;
use certs::verifier::FailedCheck;

use super::facts::Established;
use super::reason::{Counted, Failure};
use crate::stats::names::ssl::{SslSocketFactoryStats, SslStats};
use crate::stats::{StatBlock, Stats};

/// The statistics of one context.
pub struct Counters {
    ssl: StatBlock<SslStats>,
    factory: StatBlock<SslSocketFactoryStats>,
}

impl Counters {
    pub fn of_server(stats: &Stats, scope: &str) -> Self {
        Counters {
            ssl: stats.block(&format!("{scope}.ssl")),
            factory: stats.block(&format!("{scope}.server_ssl_socket_factory")),
        }
    }

    pub fn of_client(stats: &Stats, scope: &str) -> Self {
        Counters {
            ssl: stats.block(&format!("{scope}.ssl")),
            factory: stats.block(&format!("{scope}.client_ssl_socket_factory")),
        }
    }

    /// The gauge of when a certificate ends. Secrets have a name; all others share one, as in Envoy, where the last one set stays.
    pub fn expiration(&self, name: &str, unnamed: &str, seconds: u64) {
        let name = if name.is_empty() { unnamed } else { name };
        self.ssl.set_named(&format!("certificate.{name}.expiration_unix_time_seconds"), seconds);
    }

    pub fn updated_by_sds(&self) {
        self.factory.inc(SslSocketFactoryStats::SSL_CONTEXT_UPDATE_BY_SDS);
    }

    pub fn downstream_secrets_not_ready(&self) {
        self.factory.inc(SslSocketFactoryStats::DOWNSTREAM_CONTEXT_SECRETS_NOT_READY);
    }

    pub fn upstream_secrets_not_ready(&self) {
        self.factory.inc(SslSocketFactoryStats::UPSTREAM_CONTEXT_SECRETS_NOT_READY);
    }

    pub fn failed(&self, failure: &Failure) {
        match failure.counted() {
            Counted::Nothing => {}
            Counted::ConnectionError => self.ssl.inc(SslStats::CONNECTION_ERROR),
            Counted::Verification(check) => self.failed_check(check),
        }
        if let Some(action) = failure.staple() {
            self.stapling(action);
        }
    }

    pub fn completed(&self, established: &Established, handshake: &Handshake) {
        self.ssl.inc(SslStats::HANDSHAKE);
        if established.info.resumed {
            self.ssl.inc(SslStats::SESSION_REUSED);
        }
        if established.info.peer.is_none() {
            self.ssl.inc(SslStats::NO_CERTIFICATE);
        }
        if let Some(failure) = &handshake.failure {
            self.failed_check(failure.check()); // ACCEPT_UNTRUSTED
        }
        self.ssl.inc_named(ciphers(established.info.cipher));
        self.ssl.inc_named(match established.info.version {
            "TLSv1.2" => "versions.TLSv1.2",
            _ => "versions.TLSv1.3",
        });
        if let Some(group) = established.group {
            self.ssl.inc_named(curves(group));
        }
        if let Some(scheme) = handshake.peer_signature_scheme {
            self.ssl.inc_named(&format!("sigalgs.{}", signature_scheme_name(scheme)));
        }
        if let Some(action) = handshake.staple {
            self.stapling(action);
        }
    }

    fn failed_check(&self, check: FailedCheck) {
        self.ssl.inc(match check {
            FailedCheck::NoCertificate => SslStats::FAIL_VERIFY_NO_CERT,
            FailedCheck::Chain => SslStats::FAIL_VERIFY_ERROR,
            FailedCheck::Names => SslStats::FAIL_VERIFY_SAN,
            FailedCheck::Hash => SslStats::FAIL_VERIFY_CERT_HASH,
            FailedCheck::KeyUsage => SslStats::CONNECTION_ERROR,
        });
    }

    fn stapling(&self, action: StapleAction) {
        if action != StapleAction::ClientNotCapable {
            self.ssl.inc(SslStats::OCSP_STAPLE_REQUESTS);
        }
        match action {
            StapleAction::Staple => self.ssl.inc(SslStats::OCSP_STAPLE_RESPONSES),
            StapleAction::NoStaple => self.ssl.inc(SslStats::OCSP_STAPLE_OMITTED),
            StapleAction::Fail => self.ssl.inc(SslStats::OCSP_STAPLE_FAILED),
            StapleAction::ClientNotCapable => {}
        }
    }
}

/// Names of the counters, written out so that a handshake builds no text.
fn ciphers(name: &str) -> &'static str {
    match name {
        "TLS_AES_128_GCM_SHA256" => "ciphers.TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384" => "ciphers.TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256" => "ciphers.TLS_CHACHA20_POLY1305_SHA256",
        "ECDHE-ECDSA-AES128-GCM-SHA256" => "ciphers.ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384" => "ciphers.ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305" => "ciphers.ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-AES128-GCM-SHA256" => "ciphers.ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384" => "ciphers.ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-RSA-CHACHA20-POLY1305" => "ciphers.ECDHE-RSA-CHACHA20-POLY1305",
        _ => "ciphers.unknown_ssl_cipher",
    }
}

fn curves(name: &str) -> &'static str {
    match name {
        "X25519" => "curves.X25519",
        "P-256" => "curves.P-256",
        "P-384" => "curves.P-384",
        "P-521" => "curves.P-521",
        "X25519MLKEM768" => "curves.X25519MLKEM768",
        _ => "curves.unknown_ssl_curve",
    }
}
