//! Certificates for the TLS cases: P-256 with SPIFFE identities, as a mesh has them.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Outcome;

pub const CLIENT: &str = "spiffe://cluster.local/ns/bench/sa/client";
pub const SERVER: &str = "spiffe://cluster.local/ns/bench/sa/server";
/// The name a client asks for that checks names.
pub const SERVER_NAME: &str = "server.bench.test";

/// An authority and two workloads, as PEM files.
pub struct Identities {
    folder: TempDir,
    root: CertificateDer<'static>,
}

impl Identities {
    /// # Errors
    /// When no file can be written.
    pub fn new() -> Outcome<Identities> {
        let folder = tempfile::tempdir()?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key)?;
        std::fs::write(folder.path().join("root.pem"), root.pem())?;
        let issuer = Issuer::new(params, key);
        leaf(folder.path(), "client", CLIENT, &issuer)?;
        leaf(folder.path(), "server", SERVER, &issuer)?;
        Ok(Identities { folder, root: root.der().clone() })
    }

    /// `common_tls_context` of one of the workloads.
    pub fn context(&self, who: &str, alpn: &[&str], peer: Option<&str>) -> Value {
        let file = |name: String| json!({"filename": self.folder.path().join(name)});
        let mut validation = json!({"trusted_ca": file("root.pem".to_owned())});
        if let Some(peer) = peer {
            validation["match_typed_subject_alt_names"] = json!([{"san_type": "URI", "matcher": {"exact": peer}}]);
        }
        json!({
            "alpn_protocols": alpn,
            "tls_certificates": [{
                "certificate_chain": file(format!("{who}.pem")),
                "private_key": file(format!("{who}.key")),
            }],
            "validation_context": validation,
        })
    }

    /// The certificate of one of the workloads as the secret `default`.
    pub fn secret(&self, who: &str) -> Value {
        let file = |end: &str| json!({"filename": self.folder.path().join(format!("{who}.{end}"))});
        json!({"name": "default", "tls_certificate": {"certificate_chain": file("pem"), "private_key": file("key")}})
    }

    /// A client that trusts the authority, shows no certificate and never resumes.
    ///
    /// # Errors
    /// Those of rustls.
    pub fn client(&self) -> Outcome<Arc<rustls::ClientConfig>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn leaf(folder: &Path, name: &str, spiffe: &str, issuer: &Issuer<'_, KeyPair>) -> Outcome<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.subject_alt_names = vec![SanType::URI(spiffe.try_into()?), SanType::DnsName(SERVER_NAME.try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer)?;
    std::fs::write(folder.join(format!("{name}.pem")), certificate.pem())?;
    std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
    Ok(())
}
