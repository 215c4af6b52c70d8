use super::*;
use crate::testing::{Ca, Key, LeafBuilder, element};

fn load(chain: &str, key: &str) -> Result<TlsCertificate, MaterialError> {
    TlsCertificate::from_pem(chain.as_bytes(), key.as_bytes(), "<inline>")
}

#[test]
fn a_chain_and_its_key_are_loaded() {
    let ca = Ca::new("root");
    let leaf = ca.intermediate("below").leaf().cn("server").dns("A.example").uri("spiffe://td/a").build();
    let certificate = load(&leaf.chain_pem(), &leaf.key_pem).unwrap();
    assert_eq!(certificate.chain().len(), 2);
    assert_eq!(certificate.leaf().unwrap().subject(), "CN=server");
    assert_eq!(certificate.server_names(), ["a.example"], "the common name does not count beside other names");
    assert_eq!((certificate.key_type(), certificate.must_staple()), (KeyType::EcdsaP256, false));
    assert_eq!(
        load(&ca.leaf().cn("Only").build().chain_pem(), "").unwrap_err().to_string(),
        MaterialError::NoKey.to_string()
    );
    let only_cn = ca.leaf().cn("Only").build();
    assert_eq!(only_cn.loaded().server_names(), ["only"]);
}

#[test]
fn every_supported_key_type_is_loaded() {
    let ca = Ca::new("root");
    for (key, want) in [
        (Key::P256, KeyType::EcdsaP256),
        (Key::P384, KeyType::EcdsaP384),
        (Key::P521, KeyType::EcdsaP521),
        (Key::Ed25519, KeyType::Ed25519),
        (Key::Rsa2048, KeyType::Rsa),
    ] {
        assert_eq!(ca.leaf().key(key).build().loaded().key_type(), want);
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let ca = Ca::new("root");
    let (a, b) = (ca.leaf().cn("a").build(), ca.leaf().cn("b").build());
    let refusal = |chain: &str, key: &str| load(chain, key).unwrap_err().to_string();
    assert_eq!(refusal(&a.chain_pem(), &b.key_pem), "the private key does not belong to the leaf certificate (CN=a)");
    assert!(refusal("", &a.key_pem).starts_with("no certificate found"));
    assert!(refusal("junk", &a.key_pem).starts_with("no certificate found"));
    assert!(refusal(&a.chain_pem(), "junk").starts_with("no private key found"));
    assert!(refusal(&a.key_pem, &a.key_pem).starts_with("no certificate found"));
    let bad = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert!(refusal(bad, &a.key_pem).starts_with("certificate 0 of the chain cannot be parsed"));
    assert!(refusal(&(a.chain_pem() + bad), &a.key_pem).starts_with("certificate 1 of the chain"));
    assert!(
        refusal("-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n", &a.key_pem).starts_with("malformed PEM")
    );
    assert!(refusal(&a.chain_pem().repeat(12), &a.key_pem).starts_with("the chain has 12 certificates"));
    for encrypted in [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMAA=\n-----END RSA PRIVATE KEY-----\n",
    ] {
        assert!(refusal(&a.chain_pem(), encrypted).starts_with("the private key is encrypted"));
    }
}

#[test]
fn short_rsa_and_other_keys_are_refused() {
    let spki = |algorithm: &[u8], key: &[u8]| {
        let algorithm = element(0x30, algorithm);
        element(0x30, &[algorithm, element(0x03, &[&[0], key].concat())].concat())
    };
    let rsa_oid = element(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01]);
    let rsa = |bytes: usize| {
        let modulus = element(0x02, &[&[0, 0x80], vec![1; bytes - 1].as_slice()].concat());
        spki(&rsa_oid, &element(0x30, &[modulus, element(0x02, &[1, 0, 1])].concat()))
    };
    assert!(matches!(key_type(&rsa(128)), Err(MaterialError::WeakRsa(1024))));
    assert!(matches!(key_type(&rsa(255)), Err(MaterialError::WeakRsa(2040))));
    assert_eq!(key_type(&rsa(256)).unwrap(), KeyType::Rsa);
    let dsa = spki(&element(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01]), &[]);
    assert!(matches!(key_type(&dsa), Err(MaterialError::KeyType)));
    let ec = element(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]);
    let secp256k1 = spki(&[ec, element(0x06, &[0x2b, 0x81, 0x04, 0x00, 0x0a])].concat(), &[4]);
    assert!(matches!(key_type(&secp256k1), Err(MaterialError::KeyType)));
}

#[test]
fn a_staple_has_to_speak_of_the_certificate() {
    let ca = Ca::new("root");
    let (a, b) = (ca.leaf().must_staple().build(), ca.leaf().build());
    assert!(a.loaded().must_staple() && !b.loaded().must_staple());
    let stapled = a.loaded().with_ocsp_staple(&a.ocsp_response(None)).unwrap();
    assert_eq!(stapled.stapled().unwrap().ocsp.as_deref(), stapled.ocsp_staple().map(OcspStaple::der));
    assert!(stapled.certified_key().ocsp.is_none());
    let other = a.loaded().with_ocsp_staple(&b.ocsp_response(None)).unwrap_err();
    assert_eq!(other.to_string(), "the OCSP response does not match its TLS certificate");
}

#[test]
fn a_trust_bundle_takes_certificates_and_lists() {
    let (a, b) = (Ca::new("a"), Ca::new("b"));
    let revoked = a.leaf().build();
    let pem = a.pem() + &b.pem() + &a.crl_pem(&[&revoked], 2049);
    let bundle = TrustBundle::from_pem(pem.as_bytes(), "ca.pem").unwrap();
    assert_eq!((bundle.anchors().len(), bundle.crls().len(), bundle.source()), (2, 1, "ca.pem"));
    let subjects: Vec<_> = bundle.certificates().iter().map(|info| info.subject()).collect();
    assert_eq!(subjects, ["CN=a", "CN=b"]);
    assert!(bundle.skipped().is_empty());
}

#[test]
fn a_bundle_of_nothing_is_refused_and_an_oddity_is_left_out() {
    let bad = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let refusal = |pem: &str| TrustBundle::from_pem(pem.as_bytes(), "").unwrap_err().to_string();
    assert_eq!(refusal(""), "no trusted CA certificate found");
    assert_eq!(refusal("zzz"), "no trusted CA certificate found");
    assert!(refusal(bad).starts_with("no trusted CA certificate found (certificate 0: "));
    let ca = Ca::new("a");
    assert!(refusal(&ca.crl_pem(&[], 2049)).starts_with("no trusted CA"));
    let bundle = TrustBundle::from_pem((bad.to_owned() + &ca.pem()).as_bytes(), "").unwrap();
    assert_eq!((bundle.anchors().len(), bundle.skipped().len()), (1, 1));
}

#[test]
fn a_list_file_without_a_usable_list_is_refused() {
    let ca = Ca::new("a");
    assert!(matches!(Crls::from_pem(b"zzz"), Err(MaterialError::NoCrl)));
    assert!(matches!(Crls::from_pem(ca.pem().as_bytes()), Err(MaterialError::NoCrl)));
    let bad = b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
    assert!(matches!(Crls::from_pem(bad), Err(MaterialError::Crl { index: 0, .. })));
    assert_eq!(ca.crl(&[], 2049).lists().len(), 1);
}

#[test]
fn a_bundle_knows_its_own() {
    let own = LeafBuilder::new(None).cn("self").build();
    let bundle = TrustBundle::from_pem(own.chain_pem().as_bytes(), "").unwrap();
    assert!(bundle.contains(&own.chain[0]));
    assert!(!bundle.contains(&LeafBuilder::new(None).cn("self").build().chain[0]));
}
