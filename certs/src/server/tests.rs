use std::time::Duration;

use super::*;
use crate::client::{ClientTls, ClientTlsBuilder, ConnectOptions};
use crate::handshake::StapleAction;
use crate::params::{TlsVersion, cipher_suite_name, group_name};
use crate::testing::{Ca, Failed, Key, Leaf, LeafBuilder, Pair, TestClock};
use crate::validation::{TrustChainVerification, ValidationContext, ValidationError};

fn slot(leaf: &Leaf) -> Arc<SecretSlot<TlsCertificate>> {
    SecretSlot::filled("", leaf.certificate())
}

fn builder(leaves: &[&Leaf]) -> ServerTlsBuilder {
    ServerTlsBuilder { tls_certificates: leaves.iter().map(|leaf| slot(leaf)).collect(), ..Default::default() }
}

fn params(max: TlsVersion) -> TlsParams {
    TlsParams { max: Some(max), ..TlsParams::default() }
}

fn client(tls_params: TlsParams) -> ClientTls {
    ClientTlsBuilder { tls_params, ..Default::default() }.build().unwrap()
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn alpn_matrix() {
    let leaf = LeafBuilder::new(None).build();
    let agree = |server: &[&str], offered: &[&str]| {
        let server = ServerTlsBuilder { alpn_protocols: names(server), ..builder(&[&leaf]) }.build().unwrap();
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let client =
                ClientTlsBuilder { alpn_protocols: names(offered), tls_params: params(version), ..Default::default() };
            let pair = Pair::connect(&client.build().unwrap(), &server).expect("the handshake goes on");
            if version == TlsVersion::V1_3 {
                return pair.alpn().map(str::to_owned);
            }
        }
        unreachable!()
    };
    assert_eq!(agree(&["h2", "http/1.1"], &["http/1.1", "h2"]).as_deref(), Some("h2"), "the server's preference");
    assert_eq!(agree(&["h2", "http/1.1"], &["istio-http/1.1", "istio", "http/1.1"]).as_deref(), Some("http/1.1"));
    assert_eq!(agree(&["h2", "http/1.1"], &["istio"]), None, "nothing in common is no reason to fail");
    assert_eq!(agree(&["h2"], &["h3", "H2"]), None);
    assert_eq!(agree(&["h2", "http/1.1"], &[]), None);
    assert_eq!(agree(&[], &["h2"]), None);
    assert_eq!(agree(&[], &[]), None);
    assert_eq!(agree(&["istio-peer-exchange,h2"], &["h2"]).as_deref(), Some("h2"));
}

fn shown(server: &ServerTls, sni: &str, client: &ClientTls) -> Option<String> {
    let options = ConnectOptions { sni: Some(sni.to_owned()), ..Default::default() };
    let pair = Pair::connect_with(client, options, server).ok()?;
    Some(pair.server_handshake.local.unwrap().leaf().unwrap().common_name().unwrap().to_owned())
}

/// What Envoy 1.40 showed to the same clients from the same list.
#[test]
fn certificates_are_chosen_by_name_and_key() {
    let ca = Ca::new("root");
    let other = ca.leaf().cn("other").dns("other.example").build();
    let ec = ca.leaf().cn("ec").dns("server.example").dns("*.wild.example").build();
    let rsa = ca.leaf().cn("rsa").dns("server.example").dns("rsa.example").key(Key::Rsa2048).build();
    let p384 = ca.leaf().cn("p384").dns("server.example").dns("p384.example").key(Key::P384).build();
    let all = [&other, &ec, &rsa, &p384];
    let plain = builder(&all).build().unwrap();
    let full = ServerTlsBuilder { full_scan_certs_on_sni_mismatch: true, ..builder(&all) }.build().unwrap();
    let rsa_first = builder(&[&rsa, &ec]).build().unwrap();
    let any = client(params(TlsVersion::V1_3));
    let only_rsa = |max| client(TlsParams { signature_algorithms: names(&["RSA-PSS+SHA256"]), ..params(max) });
    for (name, want) in [
        ("server.example", "ec"),
        ("SERVER.example", "ec"),
        ("a.wild.example", "ec"),
        ("a.b.wild.example", "other"),
        ("wild.example", "other"),
        ("other.example", "other"),
        ("rsa.example", "rsa"),
        ("p384.example", "p384"),
        ("nope.example", "other"),
        ("", "other"),
    ] {
        assert_eq!(shown(&plain, name, &any).as_deref(), Some(want), "{name}");
    }
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let rsa_only = only_rsa(version);
        assert_eq!(shown(&plain, "server.example", &rsa_only).as_deref(), Some("rsa"));
        assert_eq!(shown(&plain, "nope.example", &rsa_only), None, "the first certificate, which it cannot take");
        assert_eq!(shown(&full, "nope.example", &rsa_only).as_deref(), Some("rsa"));
        assert_eq!(shown(&full, "other.example", &rsa_only).as_deref(), Some("rsa"));
        assert_eq!(shown(&plain, "", &rsa_only).as_deref(), Some("rsa"));
    }
    assert_eq!(shown(&rsa_first, "server.example", &any).as_deref(), Some("ec"), "ECDSA if the client takes it");
    assert_eq!(shown(&rsa_first, "nope.example", &any).as_deref(), Some("rsa"));
    assert_eq!(shown(&rsa_first, "", &any).as_deref(), Some("ec"));
    let rsa_suites = TlsParams { cipher_suites: names(&["ECDHE-RSA-AES128-GCM-SHA256"]), ..params(TlsVersion::V1_2) };
    assert_eq!(shown(&plain, "server.example", &client(rsa_suites)).as_deref(), Some("rsa"));
}

#[test]
fn tls12_suites_are_ours_to_choose_and_tls13_suites_the_clients() {
    let leaf = LeafBuilder::new(None).build();
    let suite = |server: &ServerTls, client: &ClientTls| {
        let pair = Pair::connect(client, server).unwrap();
        cipher_suite_name(pair.server.negotiated_cipher_suite().unwrap().suite())
    };
    let offers = |list: &[&str]| client(TlsParams { cipher_suites: names(list), ..params(TlsVersion::V1_2) });
    let (aes128, aes256, chacha) =
        ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305");
    let server = builder(&[&leaf]).build().unwrap();
    assert_eq!(suite(&server, &offers(&[aes256, aes128])), aes128);
    assert_eq!(suite(&server, &offers(&[chacha, aes128])), chacha, "equals go by the client's wish");
    assert_eq!(suite(&server, &offers(&[aes128, chacha])), aes128);
    assert_eq!(suite(&server, &offers(&[chacha, aes256])), chacha);
    assert_eq!(suite(&server, &offers(&[aes256, chacha, aes128])), chacha, "of the equals the client names it first");
    assert_eq!(suite(&server, &offers(&[aes256])), aes256);
    let polite = ServerTlsBuilder { prefer_client_ciphers: true, ..builder(&[&leaf]) }.build().unwrap();
    assert_eq!(suite(&polite, &offers(&[aes256, aes128])), aes256);
    assert_eq!(suite(&server, &client(params(TlsVersion::V1_3))), "TLS_AES_128_GCM_SHA256", "the client's first");
}

#[test]
fn every_group_can_be_agreed_on() {
    let leaf = LeafBuilder::new(None).build();
    for group in ["X25519", "P-256", "P-384", "P-521", "X25519MLKEM768"] {
        let with = |max| TlsParams { ecdh_curves: names(&[group]), ..params(max) };
        let server = ServerTlsBuilder { tls_params: with(TlsVersion::V1_3), ..builder(&[&leaf]) }.build().unwrap();
        let pair = Pair::connect(&client(with(TlsVersion::V1_3)), &server).unwrap();
        assert_eq!(group_name(pair.server.negotiated_key_exchange_group().unwrap().name()), group);
        if group != "X25519MLKEM768" {
            assert!(Pair::connect(&client(with(TlsVersion::V1_2)), &server).is_ok(), "{group} in TLS 1.2");
        }
        // A client whose first guess is another one is asked again.
        let wide = TlsParams { ecdh_curves: names(&["X25519", "P-256", group]), ..params(TlsVersion::V1_3) };
        assert!(Pair::connect(&client(wide), &server).is_ok(), "{group} after a retry");
    }
}

#[test]
fn versions_that_do_not_overlap_are_refused() {
    let leaf = LeafBuilder::new(None).build();
    let only13 = TlsParams { min: Some(TlsVersion::V1_3), ..TlsParams::default() };
    let server = ServerTlsBuilder { tls_params: only13, ..builder(&[&leaf]) }.build().unwrap();
    assert!(Pair::connect(&client(params(TlsVersion::V1_3)), &server).is_ok());
    assert!(Pair::connect(&client(params(TlsVersion::V1_2)), &server).is_err());
}

#[test]
fn configured_signature_algorithms_limit_both_directions() {
    let leaf = LeafBuilder::new(None).key(Key::Rsa2048).build();
    let pss512 = TlsParams { signature_algorithms: names(&["rsa_pss_rsae_sha512"]), ..params(TlsVersion::V1_3) };
    let server = ServerTlsBuilder { tls_params: pss512, ..builder(&[&leaf]) }.build().unwrap();
    let pair = Pair::connect(&client(params(TlsVersion::V1_3)), &server).unwrap();
    assert_eq!(pair.client_handshake.peer_signature_scheme, Some(rustls::SignatureScheme::RSA_PSS_SHA512));
    let pss256 = TlsParams { signature_algorithms: names(&["rsa_pss_rsae_sha256"]), ..params(TlsVersion::V1_3) };
    assert!(Pair::connect(&client(pss256), &server).is_err());
}

#[test]
fn stapling_follows_the_policy() {
    let ca = Ca::new("root");
    let clock = Arc::new(TestClock::at(1_710_000_000)); // March 2024
    let leaf = ca.leaf().build();
    let with = |response: Option<Vec<u8>>, policy| {
        let mut certificate = leaf.loaded();
        if let Some(response) = response {
            certificate = certificate.with_ocsp_staple(&response).unwrap();
        }
        ServerTlsBuilder {
            tls_certificates: vec![SecretSlot::filled("", Arc::new(certificate))],
            ocsp_staple_policy: policy,
            time: Some(Arc::clone(&clock) as _),
            ..Default::default()
        }
        .build()
    };
    let fresh = || Some(leaf.ocsp_response(Some("20240601000000Z")));
    let stale = || Some(leaf.ocsp_response(Some("20240201000000Z")));
    let asking = client(params(TlsVersion::V1_3)); // rustls always asks
    use OcspStaplePolicy::{LenientStapling, MustStaple, StrictStapling};
    for (response, policy, want) in [
        (fresh(), LenientStapling, Some(StapleAction::Staple)),
        (stale(), LenientStapling, Some(StapleAction::NoStaple)),
        (None, LenientStapling, Some(StapleAction::NoStaple)),
        (fresh(), StrictStapling, Some(StapleAction::Staple)),
        (stale(), StrictStapling, None),
        (None, StrictStapling, Some(StapleAction::NoStaple)),
        (fresh(), MustStaple, Some(StapleAction::Staple)),
        (stale(), MustStaple, None),
    ] {
        let result = Pair::connect(&asking, &with(response, policy).unwrap());
        match (result, want) {
            (Ok(pair), Some(want)) => assert_eq!(pair.server_handshake.staple, Some(want), "{policy:?}"),
            (Err(failed), None) => assert_eq!(failed.server_handshake.staple, Some(StapleAction::Fail), "{policy:?}"),
            (result, want) => panic!("{policy:?}: {}, expected {want:?}", result.is_ok()),
        }
    }
    assert!(matches!(with(None, MustStaple).unwrap_err(), ContextError::MustStaple(_)));
    let demanding = ca.leaf().cn("strict").must_staple().build();
    let error = builder(&[&demanding]).build().unwrap_err().to_string();
    assert_eq!(error, "an OCSP response is required by policy and missing from the TLS certificate CN=strict");
}

#[test]
fn a_client_hello_is_searched_for_status_request() {
    let hello = |tls: &ClientTls| {
        let (choice, _) = tls.choose(ConnectOptions::default()).unwrap();
        let mut end = rustls::ClientConnection::new_with_alpn(choice.config, choice.server_name, Vec::new()).unwrap();
        let mut bytes = Vec::new();
        end.write_tls(&mut bytes).unwrap();
        bytes
    };
    let asking = hello(&client(params(TlsVersion::V1_3)));
    assert!(asks_for_ocsp_staple(&asking));
    // The same message in records of one byte each.
    let fragments: Vec<u8> = asking[5..].iter().flat_map(|byte| [22, 3, 1, 0, 1, *byte]).collect();
    assert!(asks_for_ocsp_staple(&fragments));
    // The extension under another number: status_request is 00 05 00 05 01 00 00 00 00.
    let at = asking.windows(9).position(|w| w == [0, 5, 0, 5, 1, 0, 0, 0, 0]).unwrap();
    let mut silent = asking.clone();
    silent[at] = 0x7f;
    assert!(!asks_for_ocsp_staple(&silent));
    for cut in 0..at {
        assert!(!asks_for_ocsp_staple(&asking[..cut]));
    }
    assert!(!asks_for_ocsp_staple(b"GET / HTTP/1.1\r\n\r\n"));
}

#[test]
fn contexts_that_would_not_check_anybody_cannot_be_built() {
    let leaf = LeafBuilder::new(None).build();
    let with = |validation, required| {
        ServerTlsBuilder { validation, require_client_certificate: required, ..builder(&[&leaf]) }.build().map(|_| ())
    };
    let fixed = |context| Validation::Fixed(Arc::new(context));
    assert_eq!(with(Validation::None, true), Err(ContextError::NothingToVerifyClientsBy));
    assert_eq!(with(fixed(ValidationContext::default()), true), Err(ContextError::NothingToVerifyClientsBy));
    assert_eq!(with(fixed(ValidationContext::default()), false), Ok(()));
    let expired = ValidationContext { allow_expired_certificate: true, ..Default::default() };
    assert_eq!(with(fixed(expired), false), Err(ValidationError::ExpiredWithoutCa.into()));
    let untrusted =
        ValidationContext { trust_chain_verification: TrustChainVerification::AcceptUntrusted, ..Default::default() };
    assert_eq!(with(fixed(untrusted), true), Ok(()));
    assert_eq!(ServerTlsBuilder::default().build().map(|_| ()), Err(ContextError::NoCertificate));
}

/// mTLS with the certificate and the trust bundle in slots.
struct Rotating {
    server: ServerTls,
    certificate: Arc<SecretSlot<TlsCertificate>>,
    trust: Arc<SecretSlot<ValidationContext>>,
    clock: Arc<TestClock>,
}

impl Rotating {
    fn new(session_resumption: SessionResumption) -> Self {
        let (certificate, trust) = (SecretSlot::empty("default"), SecretSlot::empty("ROOTCA"));
        let clock = Arc::new(TestClock::at(1_800_000_000));
        let server = ServerTlsBuilder {
            tls_certificates: vec![Arc::clone(&certificate)],
            validation: Validation::Secret { default: None, slot: Arc::clone(&trust) },
            require_client_certificate: true,
            session_resumption,
            time: Some(Arc::clone(&clock) as _),
            ..Default::default()
        };
        Self { server: server.build().unwrap(), certificate, trust, clock }
    }

    fn trust(&self, ca: &Ca) {
        self.trust.set(Some(Arc::new(ValidationContext::trusting(ca.bundle()))));
    }
}

fn showing(leaf: &Leaf, version: TlsVersion) -> ClientTls {
    ClientTlsBuilder { tls_params: params(version), tls_certificate: Some(slot(leaf)), ..Default::default() }
        .build()
        .unwrap()
}

fn not_ready(result: Result<Pair, Box<Failed>>) -> String {
    result.err().expect("not ready").other.expect("a reason")
}

#[test]
fn nothing_is_served_before_all_secrets_came() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    let rotating = Rotating::new(SessionResumption::default());
    let client = showing(&ca.leaf().build(), TlsVersion::V1_3);
    assert_eq!(not_ready(Pair::connect(&client, &rotating.server)), "secret \"default\" has not been received");
    rotating.certificate.set(Some(ca.leaf().build().certificate()));
    assert_eq!(not_ready(Pair::connect(&client, &rotating.server)), "secret \"ROOTCA\" has not been received");
    rotating.trust.set(Some(Arc::new(ValidationContext::default())));
    assert!(not_ready(Pair::connect(&client, &rotating.server)).contains("verifies nothing"));
    rotating.trust(&ca);
    assert!(Pair::connect(&client, &rotating.server).is_ok());
    rotating.trust(&other);
    assert!(Pair::connect(&client, &rotating.server).is_err(), "the next handshake sees the new bundle");
    rotating.trust.set(None);
    assert!(not_ready(Pair::connect(&client, &rotating.server)).contains("ROOTCA"));
}

#[test]
fn a_renewed_certificate_is_shown_at_once_and_keeps_sessions() {
    let ca = Ca::new("root");
    let rotating = Rotating::new(SessionResumption::default());
    rotating.trust(&ca);
    rotating.certificate.set(Some(ca.leaf().cn("a").build().certificate()));
    let client = showing(&ca.leaf().build(), TlsVersion::V1_3);
    let shown = |pair: &Pair| pair.server_handshake.local.as_ref().unwrap().leaf().unwrap().serial().to_owned();
    let first = Pair::connect(&client, &rotating.server).unwrap();
    assert!(!first.resumed());
    let renewed = ca.leaf().cn("a").build();
    rotating.certificate.set(Some(renewed.certificate()));
    let second = Pair::connect(&client, &rotating.server).unwrap();
    assert!(second.resumed() && shown(&second) != shown(&first));
    rotating.certificate.set(Some(ca.leaf().cn("b").build().certificate()));
    assert!(!Pair::connect(&client, &rotating.server).unwrap().resumed(), "another name is another server");
}

#[test]
fn sessions_are_resumed_by_ticket_and_by_id() {
    let ca = Ca::new("root");
    let leaf = ca.leaf().build();
    let resumes = |options: SessionResumption, version| {
        let rotating = Rotating::new(options);
        rotating.trust(&ca);
        rotating.certificate.set(Some(ca.leaf().build().certificate()));
        let client = showing(&leaf, version);
        assert!(!Pair::connect(&client, &rotating.server).unwrap().resumed());
        let pair = Pair::connect(&client, &rotating.server).unwrap();
        assert_eq!(pair.server.peer_certificates(), Some(leaf.chain.as_slice()), "the peer is known again");
        pair.resumed()
    };
    let (v12, v13) = (TlsVersion::V1_2, TlsVersion::V1_3);
    let no_tickets = SessionResumption { disable_stateless: true, ..Default::default() };
    let no_store = SessionResumption { disable_stateful: true, ..Default::default() };
    let neither = SessionResumption { disable_stateless: true, ..no_store.clone() };
    assert!(resumes(SessionResumption::default(), v13) && resumes(SessionResumption::default(), v12));
    assert!(!resumes(no_tickets.clone(), v13) && resumes(no_tickets, v12));
    assert!(resumes(no_store.clone(), v13) && resumes(no_store, v12));
    assert!(!resumes(neither.clone(), v13) && !resumes(neither, v12));
}

#[test]
fn nobody_resumes_past_a_changed_trust_bundle() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for disable_stateless in [false, true] {
            let rotating = Rotating::new(SessionResumption { disable_stateless, ..Default::default() });
            rotating.trust(&ca);
            rotating.certificate.set(Some(ca.leaf().build().certificate()));
            let client = showing(&ca.leaf().build(), version);
            assert!(Pair::connect(&client, &rotating.server).is_ok());
            rotating.trust(&other);
            assert!(Pair::connect(&client, &rotating.server).is_err());
            rotating.trust(&ca);
            let again = Pair::connect(&client, &rotating.server).unwrap();
            assert!(!again.resumed(), "back again, but verified anew");
        }
    }
}

#[test]
fn a_resumed_peer_is_judged_again() {
    let ca = Ca::new("root");
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let rotating =
            Rotating::new(SessionResumption { timeout: Some(Duration::from_secs(36_000)), ..Default::default() });
        rotating.clock.advance(1_717_200_000 - 1_800_000_000 - 3600); // an hour before the end of May 2024
        rotating.trust(&ca);
        rotating.certificate.set(Some(ca.leaf().build().certificate()));
        let client = showing(&ca.leaf().expired().build(), version);
        Pair::connect(&client, &rotating.server).unwrap();
        let resumed = Pair::connect(&client, &rotating.server).unwrap();
        assert!(resumed.resumed());
        rotating.clock.advance(3601);
        let refused = Pair::connect(&client, &rotating.server).err().expect("expired meanwhile");
        assert!(refused.other.as_ref().unwrap().ends_with("certificate has expired"), "{refused:?}");
    }
}

#[test]
fn sessions_end_with_their_timeout() {
    let ca = Ca::new("root");
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let rotating =
            Rotating::new(SessionResumption { timeout: Some(Duration::from_secs(60)), ..Default::default() });
        rotating.trust(&ca);
        rotating.certificate.set(Some(ca.leaf().build().certificate()));
        let client = showing(&ca.leaf().build(), version);
        Pair::connect(&client, &rotating.server).unwrap();
        rotating.clock.advance(60);
        assert!(Pair::connect(&client, &rotating.server).unwrap().resumed());
        rotating.clock.advance(61);
        assert!(!Pair::connect(&client, &rotating.server).unwrap().resumed());
    }
}

#[test]
fn contexts_do_not_share_sessions() {
    let ca = Ca::new("root");
    let (a, b) = (Rotating::new(SessionResumption::default()), Rotating::new(SessionResumption::default()));
    let certificate = ca.leaf().build().certificate();
    for rotating in [&a, &b] {
        rotating.trust(&ca);
        rotating.certificate.set(Some(Arc::clone(&certificate)));
    }
    let client = showing(&ca.leaf().build(), TlsVersion::V1_3);
    Pair::connect(&client, &a.server).unwrap();
    assert!(!Pair::connect(&client, &b.server).unwrap().resumed());
}

#[test]
fn unchanged_secrets_mean_the_same_configuration() {
    let leaf = LeafBuilder::new(None).build();
    let server = ServerTlsBuilder { alpn_protocols: names(&["h2"]), ..builder(&[&leaf]) }.build().unwrap();
    let config = |alpn| {
        let variant = Variant { alpn, preference: Preference::Client };
        server.generation().unwrap().config(variant).unwrap()
    };
    assert!(Arc::ptr_eq(&config(true), &config(true)));
    assert!(!Arc::ptr_eq(&config(true), &config(false)));
    let before = config(true);
    server.certificate_slots()[0].set(Some(LeafBuilder::new(None).build().certificate()));
    assert!(!Arc::ptr_eq(&before, &config(true)));
}
