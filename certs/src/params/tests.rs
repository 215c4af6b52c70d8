use super::*;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn suites(list: &[&str]) -> Result<Resolved, ParamsError> {
    TlsParams { cipher_suites: names(list), ..TlsParams::default() }.resolve(Role::Server)
}

fn tls12(resolved: &Resolved, order: Order) -> Vec<&'static str> {
    resolved.provider(order).cipher_suites.iter().skip(3).map(|s| cipher_suite_name(s.suite())).collect()
}

#[test]
fn defaults_are_envoys() {
    let server = TlsParams::default().resolve(Role::Server).unwrap();
    let client = TlsParams::default().resolve(Role::Client).unwrap();
    assert_eq!(server.versions, [&version::TLS13, &version::TLS12]);
    assert_eq!(client.versions, [&version::TLS12], "Envoy's clients speak TLS 1.2 unless told");
    assert_eq!(
        tls12(&server, Order::Aes),
        [
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-RSA-CHACHA20-POLY1305",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
        ]
    );
    assert_eq!(tls12(&server, Order::ChaCha)[..2], ["ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"]);
    assert!(server.has_equals(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256));
    assert!(server.dropped.is_empty() && !server.schemes_configured);
    assert_eq!(server.group_names().collect::<Vec<_>>(), [NamedGroup::X25519, NamedGroup::secp256r1]);
}

#[test]
fn versions() {
    let resolve = |min, max, role| TlsParams { min, max, ..TlsParams::default() }.resolve(role).map(|r| r.versions);
    use TlsVersion::{V1_2, V1_3};
    assert_eq!(resolve(Some(V1_3), None, Role::Server).unwrap(), [&version::TLS13]);
    assert_eq!(resolve(Some(V1_3), None, Role::Client).unwrap(), [&version::TLS13]);
    assert_eq!(resolve(None, Some(V1_2), Role::Server).unwrap(), [&version::TLS12]);
    assert_eq!(resolve(Some(V1_3), Some(V1_2), Role::Server).unwrap_err(), ParamsError::MinAboveMax);
}

#[test]
fn istios_list_loses_only_rsa_key_exchange() {
    let resolved = suites(&[
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "AES256-GCM-SHA384",
        "AES128-GCM-SHA256",
    ])
    .unwrap();
    assert_eq!(resolved.dropped, ["AES256-GCM-SHA384", "AES128-GCM-SHA256"]);
    assert_eq!(tls12(&resolved, Order::Aes).len(), 4);
    assert_eq!(tls12(&resolved, Order::Aes)[0], "ECDHE-ECDSA-AES256-GCM-SHA384");
    assert!(!resolved.has_equals(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256));
}

#[test]
fn cipher_names_that_cannot_be_are_refused() {
    let refused = |list: &[&str]| suites(list).unwrap_err().to_string();
    assert_eq!(refused(&["FOO", "ECDHE-RSA-AES128-GCM-SHA256"]), "unknown cipher suite \"FOO\"");
    assert_eq!(refused(&["TLS_AES_128_GCM_SHA256"]), "unknown cipher suite \"TLS_AES_128_GCM_SHA256\"");
    assert_eq!(refused(&["ecdhe-rsa-aes128-gcm-sha256"]), "unknown cipher suite \"ecdhe-rsa-aes128-gcm-sha256\"");
    assert_eq!(refused(&["RC4-SHA"]), "unknown cipher suite \"RC4-SHA\"");
    assert!(refused(&["HIGH"]).starts_with("cipher aliases and operators"));
    assert!(refused(&["-ALL", "ECDHE-RSA-AES128-GCM-SHA256"]).contains("\"-ALL\""));
    assert_eq!(
        refused(&["AES128-GCM-SHA256", "AES256-SHA"]),
        "none of the cipher_suites is supported: AES128-GCM-SHA256, AES256-SHA"
    );
    let only13 =
        TlsParams { min: Some(TlsVersion::V1_3), cipher_suites: names(&["AES256-SHA"]), ..TlsParams::default() };
    assert!(only13.resolve(Role::Server).is_ok(), "the list has no effect on TLS 1.3");
    assert_eq!(tls12(&suites(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]).unwrap(), Order::Aes).len(), 1);
    assert_eq!(
        tls12(&suites(&["ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"]).unwrap(), Order::Aes).len(),
        1
    );
}

#[test]
fn curves() {
    let resolve = |list: &[&str]| TlsParams { ecdh_curves: names(list), ..TlsParams::default() }.resolve(Role::Server);
    let all = resolve(&["X25519MLKEM768", "P-521", "P-384", "prime256v1", "x25519", "P-256", "MLKEM1024"]).unwrap();
    let got: Vec<_> = all.group_names().map(group_name).collect();
    assert_eq!(got, ["X25519MLKEM768", "P-521", "P-384", "P-256", "X25519"]);
    assert_eq!(all.dropped, ["MLKEM1024"]);
    assert_eq!(resolve(&["P-224"]).unwrap_err().to_string(), "unknown curve \"P-224\"");
    assert_eq!(resolve(&["MLKEM1024"]).unwrap_err().to_string(), "none of the ecdh_curves is supported: MLKEM1024");
}

#[test]
fn signature_schemes() {
    let resolve =
        |list: &[&str]| TlsParams { signature_algorithms: names(list), ..TlsParams::default() }.resolve(Role::Server);
    let two = resolve(&["PSS+SHA256", "ecdsa_secp256r1_sha256", "rsa_pss_rsae_sha256", "ecdsa_sha1"]).unwrap();
    assert_eq!(two.schemes, [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256]);
    assert!(two.schemes_configured);
    assert_eq!(two.dropped, ["ecdsa_sha1"]);
    assert_eq!(resolve(&["ed448"]).unwrap_err().to_string(), "unknown signature algorithm \"ed448\"");
    assert!(resolve(&["rsa_pkcs1_sha1"]).is_err());
    assert_eq!(signature_scheme_name(SignatureScheme::RSA_PSS_SHA256), "rsa_pss_rsae_sha256");
    assert_eq!(signature_scheme_name(SignatureScheme::RSA_PKCS1_SHA1), "unknown_ssl_algorithm");
}

#[test]
fn equal_parameters_share_a_provider() {
    let a = TlsParams::default().resolve(Role::Server).unwrap().provider(Order::Aes);
    let with_13 = TlsParams { max: Some(TlsVersion::V1_3), ..TlsParams::default() };
    let b = with_13.resolve(Role::Client).unwrap().provider(Order::Aes);
    let c = with_13.resolve(Role::Client).unwrap().provider(Order::ChaCha);
    assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
}

#[test]
fn suites_of_versions_that_are_off_are_not_offered() {
    let suites = |min, max| {
        let resolved =
            TlsParams { min: Some(min), max: Some(max), ..TlsParams::default() }.resolve(Role::Client).unwrap();
        let provider = resolved.provider(Order::Aes);
        let mut versions: Vec<_> = provider.cipher_suites.iter().map(|suite| suite.version().version).collect();
        versions.dedup();
        versions
    };
    use rustls::ProtocolVersion::{TLSv1_2, TLSv1_3};
    assert_eq!(suites(TlsVersion::V1_2, TlsVersion::V1_2), [TLSv1_2]);
    assert_eq!(suites(TlsVersion::V1_3, TlsVersion::V1_3), [TLSv1_3]);
    assert_eq!(suites(TlsVersion::V1_2, TlsVersion::V1_3), [TLSv1_3, TLSv1_2]);
}
