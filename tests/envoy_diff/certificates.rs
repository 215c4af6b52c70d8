//! The certificates of a run, the same for both proxies, and the names that stand for what is random in them.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use tests::certificates::Authority;

/// `ca` signed `server`, `other-server`, `client` and `upstream`; `other-ca` signed `stranger`.
pub struct Certificates {
    pub folder: TempDir,
    /// Text of certificates, and what to call it.
    pub literals: Vec<(String, String)>,
}

impl Certificates {
    pub fn new() -> Certificates {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        let ca = Authority::new(at, "ca");
        ca.leaf(at, "server", &["server.test", "spiffe://cluster.local/ns/default/sa/server"]);
        ca.leaf(at, "other-server", &["other.test"]);
        ca.leaf(at, "client", &["spiffe://cluster.local/ns/default/sa/client", "client.test"]);
        ca.leaf(at, "upstream", &["upstream.test", "spiffe://cluster.local/ns/default/sa/upstream"]);
        Authority::new(at, "other-ca").leaf(at, "stranger", &["spiffe://cluster.local/ns/default/sa/client"]);
        let literals = ["client", "server", "upstream"].iter().flat_map(|name| literals(at, name)).collect();
        Certificates { folder, literals }
    }
}

fn literals(folder: &Path, name: &str) -> Vec<(String, String)> {
    let file = folder.join(format!("{name}.pem"));
    let pem = std::fs::read_to_string(&file).expect("readable");
    let der = CertificateDer::from_pem_file(&file).expect("a certificate");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let keep = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let encoded = pem.bytes().map(|b| if keep(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect();
    vec![(hex, format!("<sha256 of {name}>")), (encoded, format!("<pem of {name}>"))]
}
