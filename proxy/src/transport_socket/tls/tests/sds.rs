//! Secrets by name.

use super::*;
use crate::transport_socket::{DemandedSecret, SecretKind};
use config_source::ConfigSourceSpecifier;
use proto::common_tls_context::CombinedCertificateValidationContext;
use proto::secret::Type;
use xds_protos::envoy::config::core::v3::config_source;

fn ads() -> core::ConfigSource {
    let specifier = ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {});
    core::ConfigSource { config_source_specifier: Some(specifier), ..Default::default() }
}

fn from_ads(name: &str) -> proto::SdsSecretConfig {
    proto::SdsSecretConfig { name: name.into(), sds_config: Some(ads()) }
}

/// As istiod has it: the certificate is called `default`, the root `ROOTCA`, names stand in the configuration.
fn mesh(names: &[&str]) -> proto::CommonTlsContext {
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(proto::CertificateValidationContext {
            match_typed_subject_alt_names: names.iter().map(|name| uri_prefix(name)).collect(),
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(from_ads("ROOTCA")),
        ..Default::default()
    };
    proto::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![from_ads("default")],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..Default::default()
    }
}

fn secret(name: &str, kind: Type) -> proto::Secret {
    proto::Secret { name: name.into(), r#type: Some(kind) }
}

fn root(ca: &Ca) -> proto::Secret {
    secret("ROOTCA", Type::ValidationContext(trusting(ca, &[])))
}

fn identity(leaf: &Leaf) -> proto::Secret {
    secret("default", Type::TlsCertificate(certificate(leaf)))
}

impl World {
    /// What discovery has on its list, as names.
    fn demanded(&self) -> Vec<String> {
        self.cx.secrets.demanded().into_iter().map(|demanded| demanded.name).collect()
    }

    /// Delivers a secret to whoever wants one of its name.
    fn deliver(&self, secret: &proto::Secret) -> Result<(), Reject> {
        let wanted = |demanded: &DemandedSecret| demanded.name == secret.name;
        let demanded = self.cx.secrets.demanded();
        demanded.iter().filter(|d| wanted(d)).try_for_each(|d| self.cx.secrets.set(d, secret, &Path::root("s")))
    }

    fn factory(&self, of: &str) -> StatBlock<SslSocketFactoryStats> {
        self.cx.stats.block(&format!("{of}_ssl_socket_factory"))
    }
}

#[tokio::test]
async fn static_secrets_are_found_by_name_and_others_refused() {
    let ca = Ca::new("root");
    let world = World::new();
    let secret = |name: &str, kind| proto::Secret { name: name.into(), r#type: Some(kind) };
    let secrets = [
        secret("own", proto::secret::Type::TlsCertificate(certificate(&ca.leaf().cn("own").build()))),
        secret("roots", proto::secret::Type::ValidationContext(trusting(&ca, &[]))),
    ];
    let path = Path::root("secrets");
    world.cx.secrets.add_static(&secrets, &path).unwrap();
    let again = world.cx.secrets.add_static(&secrets, &path).unwrap_err();
    assert_eq!(again.to_string(), "secrets[0].name: the name \"own\" is taken already");
    let named = |name: &str| proto::SdsSecretConfig { name: name.into(), sds_config: None };
    let combined = proto::common_tls_context::CombinedCertificateValidationContext {
        default_validation_context: Some(proto::CertificateValidationContext {
            match_typed_subject_alt_names: vec![uri_prefix("spiffe://cluster.local/")],
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(named("roots")),
        ..Default::default()
    };
    let context = |certificate: proto::SdsSecretConfig| proto::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![certificate],
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined.clone())),
        ..Default::default()
    };
    let server = world.server(context(named("own")), true);
    assert!(meet(&server, &world.client(common(&ca.leaf().uri(CLIENT).build()))).await.0.is_ok());
    assert!(meet(&server, &world.client(common(&ca.leaf().uri("spiffe://other/x").build()))).await.0.is_err());
    let ssl = world.ssl("listener.l");
    assert!(ssl.read_named("certificate.own.expiration_unix_time_seconds") > 0);
    assert!(ssl.read_named("certificate.roots.expiration_unix_time_seconds") > 0);

    let in_use = world.cx.secrets.certificates_in_use();
    let subjects =
        |list: &[(String, Arc<certs::CertInfo>)]| list.iter().map(|(_, c)| c.subject().to_owned()).collect::<Vec<_>>();
    assert_eq!(subjects(&in_use[0].cert_chain), ["CN=own"]);
    assert_eq!(in_use[0].ca_cert.as_ref().unwrap().1.subject(), "CN=root");
    let end = in_use[0].cert_chain[0].1.not_after();
    assert_eq!(world.cx.secrets.days_until_first_cert_expiring(end - 86_400), Some(1));
    assert_eq!(world.cx.secrets.days_until_first_cert_expiring(end + 1), Some(0));

    let refused = |certificate| {
        let context =
            proto::DownstreamTlsContext { common_tls_context: Some(context(certificate)), ..Default::default() };
        world.downstream(context).err().unwrap().to_string()
    };
    let at = "t.typed_config.common_tls_context.tls_certificate_sds_secret_configs[0]";
    assert_eq!(refused(named("other")), format!("{at}.name: unknown static secret \"other\""));
    let nowhere = proto::SdsSecretConfig { sds_config: Some(core::ConfigSource::default()), ..named("own") };
    let why = "expected ads, api_config_source or path_config_source, got none";
    assert_eq!(refused(nowhere), format!("{at}.sds_config: {why}"));
}

#[tokio::test]
async fn an_emptied_slot_closes_the_door() {
    let ca = Ca::new("root");
    let world = World::new();
    let secret = proto::Secret {
        name: "own".into(),
        r#type: Some(proto::secret::Type::TlsCertificate(certificate(&ca.leaf().build()))),
    };
    world.cx.secrets.add_static(&[secret], &Path::root("secrets")).unwrap();
    let context = proto::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![proto::SdsSecretConfig { name: "own".into(), sds_config: None }],
        ..Default::default()
    };
    let server = world.server(context, false);
    world.cx.secrets.certificate("own").unwrap().set(None);
    let (accepted, connected) = meet(&server, &world.client(proto::CommonTlsContext::default())).await;
    assert_eq!(reason(accepted), "TLS error: Secret is not supplied by SDS");
    assert!(connected.is_err());
    let factory: StatBlock<SslSocketFactoryStats> = world.cx.stats.block("listener.l.server_ssl_socket_factory");
    assert_eq!(factory.read(SslSocketFactoryStats::DOWNSTREAM_CONTEXT_SECRETS_NOT_READY), 1);
}

#[tokio::test]
async fn handshakes_wait_for_both_secrets_in_every_order() {
    let ca = Ca::new("root");
    let own = ca.leaf().cn("server").build();
    let friend = ca.leaf().uri(CLIENT).build();
    for order in [["default", "ROOTCA"], ["ROOTCA", "default"]] {
        let world = World::new();
        let server = world.server(mesh(&["spiffe://cluster.local/"]), true);
        let stranger = ca.leaf().uri("spiffe://elsewhere/ns/default/sa/client").build();
        let impostor = Ca::new("root").leaf().uri(CLIENT).build();
        let refused = async |world: &World| {
            for leaf in [&friend, &stranger, &impostor] {
                assert!(meet(&server, &world.client(common(leaf))).await.0.is_err(), "{order:?}");
            }
            assert!(meet(&server, &world.client(proto::CommonTlsContext::default())).await.0.is_err(), "{order:?}");
        };
        assert_eq!(server.pending_secrets(), ["default", "ROOTCA"]);
        refused(&world).await;
        let mut waiting = vec!["default".to_owned(), "ROOTCA".to_owned()];
        for name in order {
            refused(&world).await;
            world.deliver(&if name == "default" { identity(&own) } else { root(&ca) }).unwrap();
            waiting.retain(|known| known != name);
            assert_eq!(server.pending_secrets(), waiting);
        }
        assert!(meet(&server, &world.client(common(&friend))).await.0.is_ok());
        let why = async |leaf: &Leaf| reason(meet(&server, &world.client(common(leaf))).await.0);
        assert!(why(&stranger).await.contains("SAN matcher, certificate SANs are [spiffe://elsewhere/"));
        assert!(why(&impostor).await.contains("certificate signature failure"));
        let nobody = meet(&server, &world.client(proto::CommonTlsContext::default())).await.0;
        assert!(reason(nobody).contains("PEER_DID_NOT_RETURN_A_CERTIFICATE"));
        let factory = world.factory("listener.l.server");
        assert_eq!(factory.read(SslSocketFactoryStats::DOWNSTREAM_CONTEXT_SECRETS_NOT_READY), 12);
        assert_eq!(factory.read(SslSocketFactoryStats::SSL_CONTEXT_UPDATE_BY_SDS), 2);
        assert!(world.ssl("listener.l").read_named("certificate.default.expiration_unix_time_seconds") > 0);
    }
}

#[tokio::test]
async fn a_client_connects_to_nobody_until_it_knows_whom_to_trust() {
    let ca = Ca::new("root");
    let world = World::new();
    let server = world.server(common(&ca.leaf().uri("spiffe://cluster.local/server").build()), false);
    let impostor = world.server(common(&Ca::new("root").leaf().uri("spiffe://cluster.local/server").build()), false);
    let client = world.client(mesh(&["spiffe://cluster.local/"]));
    for deliver in [None, Some(identity(&ca.leaf().uri(CLIENT).build()))] {
        deliver.iter().for_each(|secret| world.deliver(secret).unwrap());
        assert_eq!(reason(meet(&server, &client).await.1), "TLS error: Secret is not supplied by SDS");
    }
    let factory = world.factory("cluster.c.client");
    assert_eq!(factory.read(SslSocketFactoryStats::UPSTREAM_CONTEXT_SECRETS_NOT_READY), 2);
    world.deliver(&root(&ca)).unwrap();
    assert!(client.pending_secrets().is_empty());
    assert!(meet(&server, &client).await.1.is_ok());
    assert!(reason(meet(&impostor, &client).await.1).contains("certificate signature failure"));
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_leaves_the_last_good_one() {
    let ca = Ca::new("root");
    let world = World::new();
    let server = world.server(mesh(&["spiffe://cluster.local/"]), true);
    let own = ca.leaf().cn("first").build();
    world.deliver(&identity(&own)).unwrap();
    world.deliver(&root(&ca)).unwrap();
    let other_key = proto::TlsCertificate { private_key: inline(&ca.leaf().build().key_pem), ..certificate(&own) };
    let no_root = proto::CertificateValidationContext::default();
    let no_pem = proto::CertificateValidationContext { trusted_ca: inline("no PEM"), ..Default::default() };
    for (secret, path, why) in [
        (secret("default", Type::TlsCertificate(other_key)), "s.tls_certificate.private_key", "does not belong"),
        (secret("default", Type::TlsCertificate(Default::default())), "s.tls_certificate.certificate_chain", "none"),
        (
            secret("default", Type::ValidationContext(trusting(&ca, &[]))),
            "s",
            "expected tls_certificate, got validation_context",
        ),
        (proto::Secret { name: "default".into(), r#type: None }, "s", "expected tls_certificate, got none"),
        (secret("ROOTCA", Type::ValidationContext(no_root)), "s.validation_context", "without trusted CA"),
        (secret("ROOTCA", Type::ValidationContext(no_pem)), "s.validation_context.trusted_ca", "no trusted CA"),
        (secret("ROOTCA", Type::TlsCertificate(certificate(&own))), "s", "expected validation_context"),
    ] {
        let reject = world.deliver(&secret).unwrap_err();
        assert!(reject.path == path && reject.why.contains(why), "{reject}");
        let (accepted, _) = meet(&server, &world.client(common(&ca.leaf().uri(CLIENT).build()))).await;
        assert_eq!(accepted.unwrap().1.tls.get().unwrap().local.as_ref().unwrap().subject(), "CN=first");
    }
    let demanded = &world.cx.secrets.demanded()[0];
    let reject = world.cx.secrets.set(demanded, &root(&ca), &Path::root("s")).unwrap_err();
    assert_eq!(reject.to_string(), "s.name: expected the secret \"default\", got \"ROOTCA\"");
}

#[tokio::test]
async fn a_first_secret_that_is_refused_or_late_ends_the_wait_and_opens_nothing() {
    let ca = Ca::new("root");
    for refused in [true, false] {
        let world = World::new();
        let server = world.server(mesh(&[]), true);
        let mut arrivals = world.cx.secrets.arrivals();
        for demanded in world.cx.secrets.demanded() {
            assert!(!demanded.is_ready && !world.cx.secrets.is_ready(&demanded));
            match refused {
                true => drop(
                    world
                        .cx
                        .secrets
                        .set(
                            &demanded,
                            &secret(&demanded.name, Type::GenericSecret(Default::default())),
                            &Path::root("s"),
                        )
                        .unwrap_err(),
                ),
                false => world.cx.secrets.settle(&demanded),
            }
            assert!(arrivals.has_changed().unwrap() && world.cx.secrets.is_ready(&demanded));
            arrivals.mark_unchanged();
        }
        assert!(server.pending_secrets().is_empty());
        let client = world.client(common(&ca.leaf().uri(CLIENT).build()));
        assert_eq!(reason(meet(&server, &client).await.0), "TLS error: Secret is not supplied by SDS");
        world.deliver(&identity(&ca.leaf().build())).unwrap();
        world.deliver(&root(&ca)).unwrap();
        assert!(meet(&server, &client).await.0.is_ok());
    }
}

#[tokio::test]
async fn contexts_share_a_secret_until_the_last_one_is_gone() {
    let ca = Ca::new("root");
    let world = World::new();
    let mut demands = world.cx.secrets.demands();
    let server = world.server(mesh(&[]), true);
    assert!(demands.has_changed().unwrap());
    demands.mark_unchanged();
    let client = world.client(mesh(&[]));
    assert!(!demands.has_changed().unwrap(), "nothing new is wanted");
    assert_eq!(world.demanded(), ["default", "ROOTCA"]);
    let kinds: Vec<_> = world.cx.secrets.demanded().iter().map(|demanded| demanded.kind).collect();
    assert_eq!(kinds, [SecretKind::TlsCertificate, SecretKind::ValidationContext]);

    let mut elsewhere = ads();
    elsewhere.initial_fetch_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let other = proto::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![proto::SdsSecretConfig {
            name: "default".into(),
            sds_config: Some(elsewhere),
        }],
        ..Default::default()
    };
    let other = world.server(other, false);
    assert!(demands.has_changed().unwrap());
    assert_eq!(world.demanded(), ["default", "default", "ROOTCA"], "another source is another secret");
    drop(other);
    assert_eq!(world.demanded(), ["default", "ROOTCA"]);

    world.deliver(&identity(&ca.leaf().build())).unwrap();
    world.deliver(&root(&ca)).unwrap();
    drop(server);
    demands.mark_unchanged();
    assert_eq!(world.demanded(), ["default", "ROOTCA"]);
    drop(client);
    assert!(demands.has_changed().unwrap());
    // Before discovery has looked, a new context takes over what the last one had; afterwards it starts anew.
    let heir = world.server(mesh(&[]), true);
    assert!(heir.pending_secrets().is_empty());
    drop(heir);
    assert!(world.demanded().is_empty());
    assert_eq!(world.server(mesh(&[]), true).pending_secrets(), ["default", "ROOTCA"]);
}
