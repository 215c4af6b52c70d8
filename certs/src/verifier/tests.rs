//! Real handshakes: whom a server lets in, whom a client talks to, and what is said of the others.

use std::sync::Arc;

use super::*;
use crate::client::{ClientTls, ClientTlsBuilder, ConnectOptions};
use crate::info::CertInfo;
use crate::material::TrustBundle;
use crate::params::{TlsParams, TlsVersion};
use crate::san::{SanType, TextMatch};
use crate::server::{ServerTls, ServerTlsBuilder, Validation};
use crate::slot::SecretSlot;
use crate::testing::{Ca, Failed, Key, Leaf, LeafBuilder, Pair};
use crate::validation::{TrustChainVerification, ValidationError};

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

fn uri(text: TextMatch) -> SanMatcher {
    SanMatcher::new(SanType::Uri, text, false).unwrap()
}

fn mesh(ca: &Ca) -> ValidationContext {
    ValidationContext {
        match_subject_alt_names: vec![uri(TextMatch::Prefix("spiffe://cluster.local/".into()))],
        ..ValidationContext::trusting(ca.bundle())
    }
}

fn slot(leaf: &Leaf) -> Arc<SecretSlot<crate::material::TlsCertificate>> {
    SecretSlot::filled("", leaf.certificate())
}

fn server(ca: &Ca, validation: ValidationContext, required: bool) -> ServerTls {
    ServerTlsBuilder {
        tls_certificates: vec![slot(&ca.leaf().dns("server.example").uri("spiffe://cluster.local/server").build())],
        validation: Validation::Fixed(Arc::new(validation)),
        require_client_certificate: required,
        ..Default::default()
    }
    .build()
    .unwrap()
}

fn client(certificate: Option<&Leaf>, max: TlsVersion) -> ClientTls {
    ClientTlsBuilder {
        tls_params: TlsParams { max: Some(max), ..TlsParams::default() },
        tls_certificate: certificate.map(slot),
        ..Default::default()
    }
    .build()
    .unwrap()
}

/// Both versions of TLS have to agree.
fn meet(server: &ServerTls, certificate: Option<&Leaf>) -> Result<Pair, Box<Failed>> {
    let by_12 = Pair::connect(&client(certificate, TlsVersion::V1_2), server);
    let by_13 = Pair::connect(&client(certificate, TlsVersion::V1_3), server);
    match (&by_12, &by_13) {
        (Ok(_), Ok(_)) => {}
        (Err(a), Err(b)) => assert_eq!(a.reason(), b.reason()),
        (a, b) => panic!("TLS 1.2: {}, TLS 1.3: {}", a.is_ok(), b.is_ok()),
    }
    by_13
}

fn refused(server: &ServerTls, certificate: Option<&Leaf>) -> (FailedCheck, String) {
    let failed = meet(server, certificate).err().expect("refused");
    assert!(failed.client.is_some() || failed.server.is_some(), "somebody says so");
    let failure = failed.server_handshake.failure.as_ref().expect("a reason");
    assert_eq!(failed.server_handshake.validation, PeerValidation::Failed);
    (failure.check(), failure.message().to_owned())
}

fn chain(depth: usize, text: &str) -> (FailedCheck, String) {
    let message =
        format!("verify cert failed: X509_verify_cert: certificate verification error at depth {depth}: {text}");
    (FailedCheck::Chain, message)
}

#[test]
fn a_mesh_certificate_is_let_in() {
    let ca = Ca::new("root");
    let server = server(&ca, mesh(&ca), true);
    for key in [Key::P256, Key::P384, Key::P521, Key::Ed25519, Key::Rsa2048] {
        let pair =
            meet(&server, Some(&ca.leaf().uri(CLIENT).key(key).build())).unwrap_or_else(|f| panic!("{key:?}: {f:?}"));
        assert_eq!(pair.server_handshake.validation, PeerValidation::Validated);
        assert!(pair.server_handshake.failure.is_none() && pair.server_handshake.peer_signature_scheme.is_some());
    }
    let below = ca.intermediate("below");
    assert!(meet(&server, Some(&below.leaf().uri(CLIENT).build())).is_ok());
    assert!(meet(&server, Some(&below.intermediate("deeper").leaf().uri(CLIENT).build())).is_ok());
}

#[test]
fn strict_refuses_everybody_else() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    let server = server(&ca, mesh(&ca), true);
    let refused = |leaf: LeafBuilder<'_>| refused(&server, Some(&leaf.build()));
    assert_eq!(refused(ca.leaf().uri(CLIENT).expired()), chain(0, "certificate has expired"));
    assert_eq!(refused(ca.leaf().uri(CLIENT).not_yet_valid()), chain(0, "certificate is not yet valid"));
    assert_eq!(refused(other.leaf().uri(CLIENT)), chain(0, "unable to get local issuer certificate"));
    assert_eq!(refused(LeafBuilder::new(None).cn("me").uri(CLIENT)), chain(0, "self signed certificate"));
    assert_eq!(refused(ca.leaf().uri(CLIENT).only_server_auth()), chain(0, "unsupported certificate purpose"));
    assert_eq!(refused(ca.leaf().uri(CLIENT).marked_as_ca()), chain(0, "CA certificate used as end entity"));
    let below = other.intermediate("below");
    assert_eq!(refused(below.leaf().uri(CLIENT)), chain(1, "unable to get local issuer certificate"));
    let names =
        |sans: &str| (FailedCheck::Names, format!("verify cert failed: SAN matcher, certificate SANs are [{sans}]"));
    assert_eq!(refused(ca.leaf().uri("spiffe://other.local/x")), names("spiffe://other.local/x"));
    assert_eq!(refused(ca.leaf().dns("a.example").ip("10.0.0.1")), names("a.example, 10.0.0.1"));
    assert_eq!(refused(ca.leaf().dns(CLIENT)), names(CLIENT));
    assert_eq!(refused(ca.leaf()), names(""));
    let two = ca.leaf().uri(CLIENT).uri("spiffe://cluster.local/other");
    assert_eq!(refused(two), names(&format!("{CLIENT}, spiffe://cluster.local/other")));
}

#[test]
fn a_forged_issuer_name_is_no_issuer() {
    let (ca, impostor) = (Ca::new("root"), Ca::new("root"));
    let server = server(&ca, mesh(&ca), true);
    let (check, message) = refused(&server, Some(&impostor.leaf().uri(CLIENT).build()));
    assert_eq!(check, FailedCheck::Chain);
    assert!(message.ends_with("certificate signature failure"), "{message}");
}

#[test]
fn no_certificate_is_refused_where_one_is_required() {
    let ca = Ca::new("root");
    let refused = |server: &ServerTls| {
        let failed = meet(server, None).err().expect("refused");
        assert_eq!(failed.server, Some(Error::NoCertificatesPresented));
    };
    refused(&server(&ca, ValidationContext::trusting(ca.bundle()), true));
    // Names and hashes cannot be satisfied without a certificate.
    refused(&server(&ca, mesh(&ca), false));
    let hash = ValidationContext { verify_certificate_hash: vec![[0; 32]], ..Default::default() };
    refused(&server(&ca, hash, false));
}

#[test]
fn an_optional_certificate_may_be_absent_but_not_wrong() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    let server = server(&ca, ValidationContext::trusting(ca.bundle()), false);
    let pair = meet(&server, None).unwrap();
    assert_eq!(pair.server_handshake.validation, PeerValidation::NoCertificate);
    assert_eq!(meet(&server, Some(&ca.leaf().build())).unwrap().server_handshake.validation, PeerValidation::Validated);
    assert_eq!(refused(&server, Some(&other.leaf().build())), chain(0, "unable to get local issuer certificate"));
}

#[test]
fn a_key_that_may_not_sign_is_refused() {
    let ca = Ca::new("root");
    let server = server(&ca, mesh(&ca), true);
    let failed = meet(&server, Some(&ca.leaf().uri(CLIENT).without_digital_signature().build())).err().unwrap();
    assert_eq!(failed.server_handshake.failure.unwrap().check(), FailedCheck::KeyUsage);
}

#[test]
fn a_certificate_is_worth_nothing_without_its_key() {
    let ca = Ca::new("root");
    let server_ = server(&ca, mesh(&ca), true);
    for key in [Key::P256, Key::Rsa2048] {
        let (stolen, own) = (ca.leaf().uri(CLIENT).key(key).build(), ca.leaf().key(key).build());
        let impostor = SecretSlot::filled("", Arc::new(stolen.loaded().signing_with_the_key_of(&own.loaded())));
        for max in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let tls_params = TlsParams { max: Some(max), ..TlsParams::default() };
            let client = ClientTlsBuilder {
                tls_params: tls_params.clone(),
                tls_certificate: Some(Arc::clone(&impostor)),
                ..Default::default()
            };
            let failed = Pair::connect(&client.build().unwrap(), &server_).err().expect("refused");
            assert!(failed.server.is_some(), "{max:?}");
            let server =
                ServerTlsBuilder { tls_params, tls_certificates: vec![Arc::clone(&impostor)], ..Default::default() };
            let careless = ClientTlsBuilder::default().build().unwrap();
            for client in [careful(&ca, Vec::new(), false), careless] {
                let failed = Pair::connect(&client, &server.clone().build().unwrap()).err().expect("refused");
                assert!(failed.client.is_some(), "{max:?}");
            }
        }
    }
}

#[test]
fn hashes_pin_a_certificate_or_its_key() {
    let ca = Ca::new("root");
    let (pinned, other) = (Ca::new("x").leaf().build(), Ca::new("x").leaf().build());
    let info = CertInfo::parse(&pinned.chain[0]).unwrap();
    let by_hash =
        ValidationContext { verify_certificate_hash: vec![[0; 32], sha256(&pinned.chain[0])], ..Default::default() };
    let by_key = ValidationContext { verify_certificate_spki: vec![*info.spki_sha256()], ..Default::default() };
    let by_either = ValidationContext { verify_certificate_hash: vec![[0; 32]], ..by_key.clone() };
    for context in [by_hash, by_key, by_either] {
        let server = server(&ca, context, true);
        assert!(meet(&server, Some(&pinned)).is_ok());
        let hash = (FailedCheck::Hash, "verify cert failed: cert hash and spki".to_owned());
        assert_eq!(refused(&server, Some(&other)), hash);
    }
}

#[test]
fn a_hash_does_not_stand_in_for_the_chain() {
    let ca = Ca::new("root");
    let stranger = Ca::new("x").leaf().uri(CLIENT).build();
    let context = ValidationContext { verify_certificate_hash: vec![sha256(&stranger.chain[0])], ..mesh(&ca) };
    assert_eq!(
        refused(&server(&ca, context, true), Some(&stranger)),
        chain(0, "unable to get local issuer certificate")
    );
}

#[test]
fn revoked_certificates_are_refused() {
    let ca = Ca::new("root");
    let below = ca.intermediate("below");
    let (good, bad, deep) = (ca.leaf().build(), ca.leaf().build(), below.leaf().build());
    let with = |crls, only_leaf| ValidationContext {
        crls: Some(crls),
        only_verify_leaf_cert_crl: only_leaf,
        ..ValidationContext::trusting(ca.bundle())
    };
    let crl = |text: &str| chain(0, &format!("certificate revocation check against provided CRLs failed: {text}"));
    let strict = server(&ca, with(ca.crl(&[&bad], 2049), false), true);
    assert!(meet(&strict, Some(&good)).is_ok());
    assert_eq!(refused(&strict, Some(&bad)), crl("certificate revoked"));
    assert_eq!(refused(&strict, Some(&deep)), crl("unable to get certificate CRL"), "nobody speaks for the leaf");
    let stale = server(&ca, with(ca.crl(&[], 2025), false), true);
    assert_eq!(refused(&stale, Some(&good)), crl("CRL has expired"));
    // A list of the intermediate alone does for the leaf only.
    let leaf_only = server(&ca, with(below.crl(&[], 2049), true), true);
    assert!(meet(&leaf_only, Some(&deep)).is_ok());
    let all = server(&ca, with(below.crl(&[], 2049), false), true);
    assert_eq!(refused(&all, Some(&deep)), crl("unable to get certificate CRL"));
    // Lists in the trust bundle's own file count.
    let bundle = TrustBundle::from_pem((ca.pem() + &ca.crl_pem(&[&bad], 2049)).as_bytes(), "").unwrap();
    let in_bundle = server(&ca, ValidationContext::trusting(Arc::new(bundle)), true);
    assert_eq!(refused(&in_bundle, Some(&bad)), crl("certificate revoked"));
    // Somebody else's list revokes nothing, and says nothing of this certificate.
    let foreign = server(&ca, with(Ca::new("root").crl(&[], 2049), false), true);
    assert_eq!(refused(&foreign, Some(&good)), crl("CRL signature failure"));
}

#[test]
fn expired_certificates_may_be_allowed() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    let context = ValidationContext { allow_expired_certificate: true, ..mesh(&ca) };
    let server = server(&ca, context, true);
    assert!(meet(&server, Some(&ca.leaf().uri(CLIENT).expired().build())).is_ok());
    assert!(meet(&server, Some(&ca.leaf().uri(CLIENT).not_yet_valid().build())).is_ok());
    assert!(meet(&server, Some(&ca.intermediate("below").leaf().uri(CLIENT).expired().build())).is_ok());
    assert!(meet(&server, Some(&other.leaf().uri(CLIENT).expired().build())).is_err());
    assert!(meet(&server, Some(&ca.leaf().uri("spiffe://x/y").expired().build())).is_err());
}

#[test]
fn depth_counts_certificates_above_the_leaf() {
    let ca = Ca::new("root");
    let below = ca.intermediate("below");
    let (direct, one, two) = (ca.leaf().build(), below.leaf().build(), below.intermediate("deeper").leaf().build());
    for (depth, allowed) in [(0, 1), (1, 1), (2, 2), (3, 3)] {
        let context = ValidationContext { max_verify_depth: Some(depth), ..ValidationContext::trusting(ca.bundle()) };
        let server = server(&ca, context, true);
        for (above, leaf) in [(1, &direct), (2, &one), (3, &two)] {
            if above <= allowed {
                assert!(meet(&server, Some(leaf)).is_ok(), "depth {depth}, {above} above");
            } else {
                assert_eq!(refused(&server, Some(leaf)), chain(allowed, "unable to get local issuer certificate"));
            }
        }
    }
}

#[test]
fn long_chains_are_refused() {
    let ca = Ca::new("root");
    let server = server(&ca, ValidationContext::trusting(ca.bundle()), true);
    let mut leaf = ca.leaf().build();
    let padding = ca.intermediate("padding").leaf().build().chain[1].clone();
    leaf.chain.extend(std::iter::repeat_n(padding, 10));
    assert!(meet(&server, Some(&leaf)).is_ok(), "ten beside the leaf");
    let verifier = Verifier::of_clients(ValidationContext::trusting(ca.bundle()), true, Vec::new());
    leaf.chain.push(leaf.chain[1].clone());
    let verdict = verifier.judge(&leaf.chain, UnixTime::now(), &ExpectedNames::default());
    assert!(!verdict.accepted && verdict.failure.unwrap().message().ends_with("certificate chain too long"));
}

#[test]
fn a_certificate_in_the_bundle_is_trusted_for_itself() {
    let ca = Ca::new("root");
    let own = LeafBuilder::new(None).cn("self").uri(CLIENT).marked_as_ca();
    let own = own.build();
    let plain = LeafBuilder::new(None).cn("self").uri(CLIENT).build();
    let issued = ca.leaf().uri(CLIENT).build();
    for trusted in [&own, &plain, &issued] {
        let bundle = TrustBundle::from_pem(trusted.chain_pem().as_bytes(), "").unwrap();
        let context = ValidationContext::trusting(Arc::new(bundle));
        let server_ = server(&ca, context.clone(), true);
        assert!(meet(&server_, Some(trusted)).is_ok());
        assert!(meet(&server_, Some(&ca.leaf().uri(CLIENT).build())).is_err());
        let with_list = ValidationContext { crls: Some(ca.crl(&[], 2049)), ..context };
        assert!(meet(&server(&ca, with_list, true), Some(trusted)).is_err(), "nobody can tell whether it was revoked");
    }
    let own = || LeafBuilder::new(None).cn("a");
    let bad = [
        own().expired(),
        own().only_server_auth(),
        own().marked_as_ca().only_server_auth(),
        own().marked_as_ca().expired(),
    ];
    for bad in bad {
        let bad = bad.build();
        let bundle = TrustBundle::from_pem(bad.chain_pem().as_bytes(), "").unwrap();
        assert!(meet(&server(&ca, ValidationContext::trusting(Arc::new(bundle)), true), Some(&bad)).is_err());
    }
}

#[test]
fn untrusted_peers_may_be_accepted_and_are_marked() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    let accept =
        |context| ValidationContext { trust_chain_verification: TrustChainVerification::AcceptUntrusted, ..context };
    let server_ = server(&ca, accept(mesh(&ca)), true);
    let stranger = meet(&server_, Some(&other.leaf().uri(CLIENT).build())).unwrap();
    assert_eq!(stranger.server_handshake.validation, PeerValidation::Failed);
    assert_eq!(stranger.server_handshake.failure.unwrap().check(), FailedCheck::Chain);
    let misnamed = meet(&server_, Some(&ca.leaf().build())).unwrap();
    assert_eq!(misnamed.server_handshake.failure.unwrap().check(), FailedCheck::Names);
    assert!(meet(&server_, None).is_err(), "a certificate is still required");
    let optional = server(&ca, accept(ValidationContext::default()), false);
    assert_eq!(meet(&optional, None).unwrap().server_handshake.validation, PeerValidation::NoCertificate);
    let unchecked = meet(&optional, Some(&other.leaf().build())).unwrap();
    assert_eq!(unchecked.server_handshake.validation, PeerValidation::NotValidated);
}

#[test]
fn an_authority_that_has_expired_is_trusted_no_more() {
    let ca = Ca::expired("root");
    let server_ = server(&ca, ValidationContext::trusting(ca.bundle()), true);
    assert_eq!(refused(&server_, Some(&ca.leaf().build())), chain(1, "certificate has expired"));
    let below = ca.intermediate("below").leaf().build();
    assert_eq!(refused(&server_, Some(&below)), chain(2, "certificate has expired"));
    let allowed = ValidationContext { allow_expired_certificate: true, ..ValidationContext::trusting(ca.bundle()) };
    assert!(meet(&server(&ca, allowed, true), Some(&below)).is_ok());
}

/// What `openssl x509 -req` and `openssl req -x509` make unless told otherwise, and what Istio's tasks use.
#[test]
fn leaves_that_openssl_makes_by_default_are_taken_where_envoy_takes_them() {
    let (ca, other) = (Ca::new("root"), Ca::new("root"));
    let v1 = |ca: &Ca| ca.version_1_leaf("a", "490101000000Z");
    let marked = |ca: &Ca| ca.leaf().cn("a").marked_as_ca().build();
    for leaf in [v1(&ca), marked(&ca)] {
        let trusting = || ValidationContext::trusting(ca.bundle());
        assert!(meet(&server(&ca, trusting(), true), Some(&leaf)).is_ok());
        let client = careful(&ca, Vec::new(), false);
        assert!(Pair::connect(&client, &open_server(&leaf)).is_ok());
        let with_list = ValidationContext { crls: Some(ca.crl(&[], 2049)), ..trusting() };
        assert!(meet(&server(&ca, with_list, true), Some(&leaf)).is_err(), "its status is unknown");
        assert!(meet(&server(&ca, mesh(&ca), true), Some(&leaf)).is_err(), "no X.509-SVID");
    }
    let server_ = server(&ca, ValidationContext::trusting(ca.bundle()), true);
    let no_issuer = chain(0, "unable to get local issuer certificate");
    assert_eq!(refused(&server_, Some(&v1(&other))), no_issuer, "a name is no signature");
    assert_eq!(refused(&server_, Some(&marked(&other))), no_issuer);
    assert_eq!(refused(&server_, Some(&v1(&ca.intermediate("below")))), no_issuer);
    let expired = ca.version_1_leaf("a", "240601000000Z");
    assert_eq!(refused(&server_, Some(&expired)), chain(0, "certificate has expired"));
    let expired_root = Ca::expired("root");
    let stale = server(&ca, ValidationContext::trusting(expired_root.bundle()), true);
    assert_eq!(refused(&stale, Some(&v1(&expired_root))), chain(1, "certificate has expired"));
    let wrong = ca.leaf().marked_as_ca().only_server_auth().build();
    assert_eq!(refused(&server_, Some(&wrong)), chain(0, "unsupported certificate purpose"));
    let lone = LeafBuilder::new(None).cn("x").marked_as_ca().build();
    assert_eq!(refused(&server_, Some(&lone)), chain(0, "self signed certificate"));
    let allowed = ValidationContext { allow_expired_certificate: true, ..ValidationContext::trusting(ca.bundle()) };
    let lenient = server(&ca, allowed, true);
    assert!(meet(&lenient, Some(&expired)).is_ok());
    assert!(meet(&lenient, Some(&ca.leaf().marked_as_ca().expired().build())).is_ok());
}

/// A client context that trusts `ca` and wants these names.
fn careful(ca: &Ca, names: Vec<SanMatcher>, auto_sni: bool) -> ClientTls {
    let context = ValidationContext { match_subject_alt_names: names, ..ValidationContext::trusting(ca.bundle()) };
    ClientTlsBuilder {
        tls_params: TlsParams { max: Some(TlsVersion::V1_3), ..TlsParams::default() },
        validation: Validation::Fixed(Arc::new(context)),
        sni: "server.example".to_owned(),
        auto_sni_san_validation: auto_sni,
        ..Default::default()
    }
    .build()
    .unwrap()
}

fn open_server(leaf: &Leaf) -> ServerTls {
    ServerTlsBuilder { tls_certificates: vec![slot(leaf)], ..Default::default() }.build().unwrap()
}

#[test]
fn a_client_judges_servers_by_the_same_rules() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    let client = careful(&ca, vec![uri(TextMatch::Exact(CLIENT.into()))], false);
    let reason = |leaf: LeafBuilder<'_>| {
        let failed = Pair::connect(&client, &open_server(&leaf.build())).err().expect("refused");
        assert!(failed.client.is_some());
        failed.reason().unwrap().to_owned()
    };
    assert!(
        Pair::connect(&client, &open_server(&ca.leaf().uri(CLIENT).build())).is_ok(),
        "the host name does not count"
    );
    assert_eq!(reason(ca.leaf().uri(CLIENT).expired()), chain(0, "certificate has expired").1);
    assert_eq!(reason(ca.leaf().uri(CLIENT).not_yet_valid()), chain(0, "certificate is not yet valid").1);
    assert_eq!(reason(other.leaf().uri(CLIENT)), chain(0, "unable to get local issuer certificate").1);
    assert_eq!(reason(LeafBuilder::new(None).cn("x").uri(CLIENT)), chain(0, "self signed certificate").1);
    assert_eq!(reason(ca.leaf().uri(CLIENT).only_client_auth()), chain(0, "unsupported certificate purpose").1);
    assert_eq!(
        reason(ca.leaf().dns("server.example")),
        "verify cert failed: SAN matcher, certificate SANs are [server.example]"
    );
    reason(ca.leaf().uri(CLIENT).without_digital_signature());
}

#[test]
fn the_name_sent_is_checked_only_when_asked_for() {
    let ca = Ca::new("root");
    let other_name = SanMatcher::dns("other.example");
    let (by_sni, plain) = (careful(&ca, vec![other_name.clone()], true), careful(&ca, vec![other_name], false));
    let server = open_server(&ca.leaf().dns("server.example").build());
    let elsewhere = open_server(&ca.leaf().dns("other.example").build());
    assert!(Pair::connect(&by_sni, &server).is_ok(), "the name sent stands in for the configured ones");
    assert!(Pair::connect(&by_sni, &elsewhere).is_err());
    assert!(Pair::connect(&plain, &server).is_err());
    assert!(Pair::connect(&plain, &elsewhere).is_ok());
    let none = ConnectOptions { sni: Some(String::new()), ..Default::default() };
    assert!(Pair::connect_with(&by_sni, none, &server).is_err(), "without a name the configured ones count");
}

#[test]
fn a_connection_may_want_a_name_of_its_own() {
    let ca = Ca::new("root");
    let client = careful(&ca, Vec::new(), false);
    let server = open_server(&ca.leaf().dns("*.server.example").ip("10.0.0.1").build());
    let wants = |name: &str| ConnectOptions { verify_subject_alt_names: vec![name.to_owned()], ..Default::default() };
    assert!(Pair::connect_with(&client, wants("a.server.example"), &server).is_ok());
    assert!(Pair::connect_with(&client, wants("10.0.0.1"), &server).is_ok());
    let failed = Pair::connect_with(&client, wants("b.example"), &server).err().unwrap();
    assert_eq!(
        failed.reason().unwrap(),
        "verify cert failed: verify SAN list, expected SANs: [b.example], certificate SANs: [*.server.example, 10.0.0.1]"
    );
    // Without anybody to trust, a name is worth nothing.
    let careless = ClientTlsBuilder::default().build().unwrap();
    assert!(Pair::connect(&careless, &server).is_ok());
    assert!(Pair::connect_with(&careless, wants("a.server.example"), &server).is_err());
}

#[test]
fn a_client_without_rules_verifies_nothing_as_in_envoy() {
    let ca = Ca::new("root");
    let server = open_server(&LeafBuilder::new(None).expired().build());
    let careless = ClientTlsBuilder::default().build().unwrap();
    let pair = Pair::connect(&careless, &server).unwrap();
    assert_eq!(pair.client_handshake.validation, PeerValidation::NotValidated);
    assert!(Pair::connect(&careful(&ca, Vec::new(), false), &server).is_err());
}

#[test]
fn a_client_outside_a_handshake_refuses() {
    let ca = Ca::new("root");
    let leaf = ca.leaf().build();
    let verifier = Verifier::of_servers(Some(ValidationContext::trusting(ca.bundle())), false, Vec::new());
    let name = ServerName::try_from("a.example").unwrap();
    let alone = verifier.verify_server_cert(&leaf.chain[0], &[], &name, &[], UnixTime::now());
    assert!(alone.is_err());
    let scoped =
        Handshake::default().run(|| verifier.verify_server_cert(&leaf.chain[0], &[], &name, &[], UnixTime::now()));
    assert!(scoped.is_ok());
}

#[test]
fn clients_are_told_whom_the_server_trusts() {
    let ca = Ca::new("root");
    let hints =
        |context| ClientCertVerifier::root_hint_subjects(&Verifier::of_clients(context, true, Vec::new())).len();
    let twice = TrustBundle::from_pem(ca.pem().repeat(2).as_bytes(), "").unwrap();
    assert_eq!(hints(ValidationContext::trusting(Arc::new(twice))), 1);
    let silent = ValidationContext { suppress_client_ca_list: true, ..ValidationContext::trusting(ca.bundle()) };
    assert_eq!(hints(silent), 0);
}

fn federated(domains: &[(&str, &Ca)]) -> ValidationContext {
    let bundles = domains.iter().map(|(name, ca)| ((*name).to_owned(), ca.bundle()));
    let domains = TrustDomains::new(bundles).unwrap();
    ValidationContext { trust_domains: Some(SecretSlot::filled("", Arc::new(domains))), ..Default::default() }
}

#[test]
fn an_authority_vouches_only_for_its_own_trust_domain() {
    let (a, b) = (Ca::new("a"), Ca::new("b"));
    let server = server(&a, federated(&[("a.example", &a), ("b.example", &b)]), true);
    let (of_a, of_b, of_c) = ("spiffe://a.example/x", "spiffe://b.example/x", "spiffe://c.example/x");
    assert!(meet(&server, Some(&a.leaf().uri(of_a).build())).is_ok());
    assert!(meet(&server, Some(&b.intermediate("below").leaf().uri(of_b).build())).is_ok());
    let refused = |leaf: LeafBuilder<'_>| refused(&server, Some(&leaf.build()));
    let missing = chain(0, "unable to get local issuer certificate");
    assert_eq!(refused(a.leaf().uri(of_b)), missing);
    assert_eq!(refused(b.leaf().uri(of_a)), missing);
    let said = |what: &str| (FailedCheck::Chain, format!("verify cert failed: {what}"));
    assert_eq!(refused(a.leaf().uri(of_c)), said("no trust bundle store"));
    let no_domain = said("no trust bundle store");
    assert_eq!(refused(a.leaf().uri(of_a).uri(of_b)), said("more than one URI name beside a SPIFFE ID"));
    assert_eq!(refused(a.leaf().uri("https://a.example/x")), no_domain);
    assert_eq!(refused(a.leaf().dns("a.example")), no_domain);
    assert_eq!(refused(a.leaf().uri(of_a).expired()), chain(0, "certificate has expired"));
    assert_eq!(refused(a.leaf().uri(of_a).only_server_auth()), chain(0, "unsupported certificate purpose"));
    let precheck = said("cert precheck");
    assert_eq!(refused(a.leaf().uri(of_a).signing_certificates()), precheck);
    assert_eq!(refused(LeafBuilder::new(None).cn("me").uri(of_a)), chain(0, "self signed certificate"));
    let failed = meet(&server, None).err().expect("a certificate is demanded");
    assert_eq!(failed.server, Some(Error::NoCertificatesPresented));
}

#[test]
fn names_are_matched_beside_trust_domains_and_bundles_change_in_place() {
    let (a, b) = (Ca::new("a"), Ca::new("b"));
    let domains = federated(&[("cluster.local", &a)]);
    let slot = Arc::clone(domains.trust_domains.as_ref().unwrap());
    let names = vec![uri(TextMatch::Prefix("spiffe://cluster.local/ns/default/".into()))];
    let server = server(&a, ValidationContext { match_subject_alt_names: names, ..domains }, true);
    assert!(meet(&server, Some(&a.leaf().uri(CLIENT).build())).is_ok());
    let refusal = refused(&server, Some(&a.leaf().uri("spiffe://cluster.local/ns/other/sa/x").build()));
    assert_eq!(refusal, (FailedCheck::Names, "verify cert failed: SAN match".to_owned()));
    slot.set(Some(Arc::new(TrustDomains::new([("cluster.local".to_owned(), b.bundle())]).unwrap())));
    assert!(meet(&server, Some(&a.leaf().uri(CLIENT).build())).is_err());
    assert!(meet(&server, Some(&b.leaf().uri(CLIENT).build())).is_ok());
    slot.set(None);
    assert!(meet(&server, Some(&b.leaf().uri(CLIENT).build())).is_err(), "no bundles are no trust");
}

#[test]
fn trust_domains_stand_alone() {
    let ca = Ca::new("a");
    let domains = || federated(&[("cluster.local", &ca)]);
    assert!(domains().check().is_ok());
    let with_ca = ValidationContext { trusted_ca: Some(ca.bundle()), ..domains() };
    assert_eq!(with_ca.check(), Err(ValidationError::WithTrustDomains("trusted_ca")));
    let with_crl = ValidationContext { crls: Some(ca.crl(&[], 2049)), ..domains() };
    assert_eq!(with_crl.check(), Err(ValidationError::WithTrustDomains("crl")));
    let open = ValidationContext { trust_chain_verification: TrustChainVerification::AcceptUntrusted, ..domains() };
    assert!(open.check().is_err());
    assert!(domains().merge(&ValidationContext::trusting(ca.bundle())).check().is_err());
}
