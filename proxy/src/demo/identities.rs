//! The certificate authority of the demo.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// Who the proxies are.
const IDENTITIES: [(&str, &str); 3] = [
    ("gateway", "spiffe://cluster.local/ns/edge/sa/gateway"),
    ("store-front", "spiffe://cluster.local/ns/shop/sa/store-front"),
    ("order-service", "spiffe://cluster.local/ns/shop/sa/order-service"),
];

/// Made anew for each run; its key never leaves the process.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Authority {
    pub fn new() -> Result<Self, String> {
        Self::make().map_err(|error| format!("cannot make a certificate authority: {error}"))
    }

    fn make() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::OrganizationName, "cluster.local");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let root = params.self_signed(&key)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), root })
    }

    /// The root as PEM.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// A new certificate and key for a proxy, as PEM.
    pub fn issue(&self, name: &str) -> Result<(String, String), String> {
        let known = IDENTITIES.iter().find(|(known, _)| *known == name);
        let (_, identity) = known.ok_or_else(|| format!("{name} has no identity"))?;
        self.sign(identity).map_err(|error| format!("cannot make a certificate for {name}: {error}"))
    }

    fn sign(&self, identity: &str) -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// The root, and a certificate for each proxy, as files: for whoever runs the configuration files by themselves.
    pub fn write(&self, dir: &Path) -> Result<(), String> {
        let write = |name: &str, text: &str| {
            let file = dir.join(name);
            fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))
        };
        fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        write("ca.pem", &self.root)?;
        for (name, _) in IDENTITIES {
            let (chain, key) = self.issue(name)?;
            write(&format!("{name}.pem"), &chain)?;
            write(&format!("{name}.key"), &key)?;
        }
        Ok(())
    }
}
