use super::*;
use crate::params::TlsVersion;
use crate::server::{ServerTls, ServerTlsBuilder};
use crate::testing::{Ca, Leaf, LeafBuilder, Pair};
use crate::validation::ValidationContext;

fn slot(leaf: &Leaf) -> Arc<SecretSlot<TlsCertificate>> {
    SecretSlot::filled("", leaf.certificate())
}

fn server(leaf: &Leaf) -> ServerTls {
    ServerTlsBuilder {
        tls_certificates: vec![slot(leaf)],
        alpn_protocols: vec!["h2,http/1.1".into()],
        ..Default::default()
    }
    .build()
    .unwrap()
}

fn params(max: TlsVersion) -> TlsParams {
    TlsParams { max: Some(max), ..TlsParams::default() }
}

#[test]
fn names_are_sent_as_configured_or_as_the_connection_wants() {
    let server = server(&LeafBuilder::new(None).build());
    let client = ClientTlsBuilder { sni: "outbound_.80_._.a.example".into(), ..Default::default() }.build().unwrap();
    let sent = |sni: Option<&str>| {
        let options = ConnectOptions { sni: sni.map(str::to_owned), ..Default::default() };
        let pair = Pair::connect_with(&client, options, &server).unwrap();
        pair.server.server_name().map(str::to_owned)
    };
    assert_eq!(sent(None).as_deref(), Some("outbound_.80_._.a.example"));
    assert_eq!(sent(Some("b.example")).as_deref(), Some("b.example"));
    assert_eq!(sent(Some("")), None);
    assert_eq!(sent(Some("10.0.0.1")), None, "an address is no server name");
    assert_eq!(sent(Some("::1")), None);
    let bad = ConnectOptions { sni: Some("a b".into()), ..Default::default() };
    assert_eq!(client.choose(bad).err(), Some(ContextError::Sni("a b".into()).into()));
    let bad = ClientTlsBuilder { sni: "*.example".into(), ..Default::default() }.build();
    assert_eq!(bad.unwrap_err().to_string(), "sni \"*.example\" is not a valid DNS name");
}

#[test]
fn protocols_are_offered_as_configured_or_as_the_connection_wants() {
    let server = server(&LeafBuilder::new(None).build());
    let client = ClientTlsBuilder { alpn_protocols: vec!["istio".into(), "h2".into()], ..Default::default() };
    let client = client.build().unwrap();
    assert_eq!(Pair::connect(&client, &server).unwrap().alpn(), Some("h2"));
    let own = ConnectOptions { alpn_protocols: Some(vec![b"http/1.1".to_vec()]), ..Default::default() };
    assert_eq!(Pair::connect_with(&client, own, &server).unwrap().alpn(), Some("http/1.1"));
    let none = ConnectOptions { alpn_protocols: Some(Vec::new()), ..Default::default() };
    assert_eq!(Pair::connect_with(&client, none, &server).unwrap().alpn(), None);
}

#[test]
fn sessions_are_resumed_as_long_as_keys_are_kept() {
    let server = server(&LeafBuilder::new(None).build());
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let with = |max_session_keys| {
            let client = ClientTlsBuilder { tls_params: params(version), max_session_keys, ..Default::default() };
            client.build().unwrap()
        };
        let (one, none) = (with(1), with(0));
        assert!(!Pair::connect(&one, &server).unwrap().resumed());
        assert!(Pair::connect(&one, &server).unwrap().resumed());
        assert!(Pair::connect(&one, &server).unwrap().resumed());
        Pair::connect(&none, &server).unwrap();
        assert!(!Pair::connect(&none, &server).unwrap().resumed());
        // One key only: another server's session takes its place.
        let elsewhere = || ConnectOptions { sni: Some("b.example".into()), ..Default::default() };
        assert!(!Pair::connect_with(&one, elsewhere(), &server).unwrap().resumed());
        assert!(Pair::connect_with(&one, elsewhere(), &server).unwrap().resumed());
        assert!(!Pair::connect(&one, &server).unwrap().resumed());
    }
}

/// A client whose trust bundle is a secret.
fn following(trust: &Arc<SecretSlot<ValidationContext>>, version: TlsVersion) -> ClientTls {
    ClientTlsBuilder {
        tls_params: params(version),
        validation: Validation::Secret { default: None, slot: Arc::clone(trust) },
        max_session_keys: 8,
        ..Default::default()
    }
    .build()
    .unwrap()
}

fn trusting(ca: &Ca) -> Option<Arc<ValidationContext>> {
    Some(Arc::new(ValidationContext::trusting(ca.bundle())))
}

#[test]
fn nobody_is_connected_to_before_the_trust_bundle_came() {
    let ca = Ca::new("root");
    let trust = SecretSlot::empty("ROOTCA");
    let client = following(&trust, TlsVersion::V1_3);
    let refused = client.choose(ConnectOptions::default()).err().unwrap();
    assert_eq!(refused, NotReady::Secret("ROOTCA".into()));
    trust.set(trusting(&ca));
    assert!(Pair::connect(&client, &server(&ca.leaf().build())).is_ok());
    let certificate = SecretSlot::empty("default");
    let mutual =
        ClientTlsBuilder { tls_certificate: Some(Arc::clone(&certificate)), ..Default::default() }.build().unwrap();
    assert_eq!(mutual.choose(ConnectOptions::default()).err(), Some(NotReady::Secret("default".into())));
}

#[test]
fn nobody_resumes_past_a_changed_trust_bundle() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let trust = SecretSlot::filled("ROOTCA", trusting(&ca).unwrap());
        let (client, server) = (following(&trust, version), server(&ca.leaf().build()));
        Pair::connect(&client, &server).unwrap();
        assert!(Pair::connect(&client, &server).unwrap().resumed());
        trust.set(trusting(&other));
        assert!(Pair::connect(&client, &server).is_err());
        trust.set(trusting(&ca));
        assert!(!Pair::connect(&client, &server).unwrap().resumed());
    }
}

#[test]
fn a_resumed_server_is_judged_by_the_names_of_the_connection() {
    let ca = Ca::new("root");
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let trust = SecretSlot::filled("ROOTCA", trusting(&ca).unwrap());
        let (client, server) = (following(&trust, version), server(&ca.leaf().dns("a.example").build()));
        let wants =
            |name: &str| ConnectOptions { verify_subject_alt_names: vec![name.to_owned()], ..Default::default() };
        Pair::connect_with(&client, wants("a.example"), &server).unwrap();
        assert!(Pair::connect_with(&client, wants("a.example"), &server).unwrap().resumed());
        let refused = Pair::connect_with(&client, wants("b.example"), &server).err().unwrap();
        assert!(refused.reason().unwrap().contains("expected SANs: [b.example]"));
    }
}

#[test]
fn a_rotated_certificate_is_shown_at_once() {
    let ca = Ca::new("root");
    let server = ServerTlsBuilder {
        tls_certificates: vec![slot(&ca.leaf().build())],
        validation: Validation::Fixed(trusting(&ca).unwrap()),
        require_client_certificate: true,
        ..Default::default()
    }
    .build()
    .unwrap();
    let (first, second) = (ca.leaf().build(), ca.leaf().build());
    let own = slot(&first);
    let client = ClientTlsBuilder { tls_certificate: Some(Arc::clone(&own)), ..Default::default() }.build().unwrap();
    let seen = || Pair::connect(&client, &server).unwrap().server.peer_certificates().unwrap().to_vec();
    assert_eq!(seen(), first.chain);
    own.set(Some(second.certificate()));
    assert_eq!(seen(), second.chain);
}

#[test]
fn an_empty_validation_context_verifies_nothing_as_in_envoy() {
    let empty = Validation::Fixed(Arc::new(ValidationContext::default()));
    let client = ClientTlsBuilder { validation: empty, ..Default::default() }.build().unwrap();
    assert!(Pair::connect(&client, &server(&LeafBuilder::new(None).build())).is_ok());
}

#[test]
fn a_name_to_check_needs_somebody_to_trust() {
    let with = |validation| {
        let client = ClientTlsBuilder { validation, auto_sni_san_validation: true, ..Default::default() };
        client.build().map(|_| ())
    };
    assert_eq!(with(Validation::None), Err(ValidationError::SniWithoutCa.into()));
    let hash = ValidationContext { verify_certificate_hash: vec![[0; 32]], ..Default::default() };
    assert_eq!(with(Validation::Fixed(Arc::new(hash))), Err(ValidationError::SniWithoutCa.into()));
    assert_eq!(with(Validation::Fixed(trusting(&Ca::new("root")).unwrap())), Ok(()));
}
