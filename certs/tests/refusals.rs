//! Who is refused, every time: by servers and by clients, over both versions of TLS, whether the rules were there from the start or their
//! secrets came one by one in any order; and each refusal says which check failed.

use std::sync::Arc;

use certs::client::{ClientTls, ClientTlsBuilder};
use certs::material::{MaterialError, TlsCertificate, TrustBundle};
use certs::params::{TlsParams, TlsVersion};
use certs::san::{SanMatcher, SanType, TextMatch};
use certs::server::{ServerTls, ServerTlsBuilder, Validation};
use certs::slot::SecretSlot;
use certs::testing::{Ca, Leaf, LeafBuilder, Pair};
use certs::validation::ValidationContext;

const ID: &str = "spiffe://cluster.local/ns/default/sa/a";

/// On which side the judge sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    Server,
    Client,
}

/// How the judge comes by its own certificate and its rules.
#[derive(Debug, Clone, Copy)]
enum Arrival {
    AtStart,
    RootFirst,
    CertificateFirst,
    /// Another root was trusted before.
    RootReplaced,
}

struct World {
    ca: Ca,
    /// Of the same name, with another key.
    namesake: Ca,
    other: Ca,
    /// What the judge trusts, with a revocation list where that is what is tried.
    trust: ValidationContext,
}

impl World {
    fn new() -> Self {
        let ca = Ca::new("root");
        let trust = ValidationContext::trusting(ca.bundle());
        World { ca, namesake: Ca::new("root"), other: Ca::new("other"), trust }
    }

    fn revoking(mut self, leaf: &Leaf) -> Self {
        self.trust.crls = Some(self.ca.crl(&[leaf], 2049));
        self
    }

    fn names() -> ValidationContext {
        let prefix = TextMatch::Prefix("spiffe://cluster.local/".into());
        let matcher = SanMatcher::new(SanType::Uri, prefix, false).unwrap();
        ValidationContext { match_subject_alt_names: vec![matcher], ..Default::default() }
    }

    /// What a judge says of a peer: nothing, when it lets it pass.
    fn judge(&self, judge: Judge, arrival: Arrival, version: TlsVersion, peer: Option<&Leaf>) -> Result<(), String> {
        let own = self.ca.leaf().dns("a.example").uri(ID).build().certificate();
        let (certificate, root) = (SecretSlot::empty("default"), SecretSlot::empty("ROOTCA"));
        let validation = match arrival {
            Arrival::AtStart => Validation::Fixed(Arc::new(Self::names().merge(&self.trust))),
            _ => Validation::Secret { default: Some(Arc::new(Self::names())), slot: Arc::clone(&root) },
        };
        if matches!(arrival, Arrival::AtStart) {
            certificate.set(Some(Arc::clone(&own)));
        }
        let peer = Peer { judge, version, certificate: peer.map(Leaf::certificate) };
        let own_tls = Own::new(judge, version, Arc::clone(&certificate), validation);
        let trust = || root.set(Some(Arc::new(self.trust.clone())));
        let not_yet = || assert!(peer.meet(&own_tls).is_err(), "nobody is let in before the secrets are there");
        match arrival {
            Arrival::AtStart => {}
            Arrival::RootFirst => {
                not_yet();
                trust();
                not_yet();
                certificate.set(Some(own));
            }
            Arrival::CertificateFirst => {
                not_yet();
                certificate.set(Some(own));
                not_yet();
                trust();
            }
            Arrival::RootReplaced => {
                root.set(Some(Arc::new(ValidationContext::trusting(self.other.bundle()))));
                certificate.set(Some(own));
                let _ = peer.meet(&own_tls);
                trust();
            }
        }
        peer.meet(&own_tls)
    }

    /// All judges agree, and say this.
    fn all_say(&self, what: &str, peer: impl Fn(Judge) -> Option<Leaf>, expected: Result<(), &str>) {
        for judge in [Judge::Server, Judge::Client] {
            let peer = peer(judge);
            if judge == Judge::Client && peer.is_none() {
                continue; // a server always shows a certificate
            }
            for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
                for arrival in [Arrival::AtStart, Arrival::RootFirst, Arrival::CertificateFirst, Arrival::RootReplaced]
                {
                    let said = self.judge(judge, arrival, version, peer.as_ref());
                    match (&said, expected) {
                        (Ok(()), Ok(())) => {}
                        (Err(said), Err(part)) if said.contains(part) => {}
                        _ => panic!("{what}: {judge:?} {arrival:?} {version:?}: {said:?}"),
                    }
                }
            }
        }
    }
}

/// The judging end.
enum Own {
    Server(ServerTls),
    Client(ClientTls),
}

impl Own {
    fn new(
        judge: Judge,
        version: TlsVersion,
        certificate: Arc<SecretSlot<TlsCertificate>>,
        validation: Validation,
    ) -> Self {
        match judge {
            Judge::Server => Own::Server(server(certificate, validation, true)),
            Judge::Client => Own::Client(client(Some(certificate), validation, version)),
        }
    }
}

/// The judged end, which lets everybody pass itself.
struct Peer {
    judge: Judge,
    version: TlsVersion,
    certificate: Option<Arc<TlsCertificate>>,
}

impl Peer {
    fn meet(&self, own: &Own) -> Result<(), String> {
        let slot = self.certificate.as_ref().map(|certificate| SecretSlot::filled("", Arc::clone(certificate)));
        let met = match own {
            Own::Server(own) => Pair::connect(&client(slot, Validation::None, self.version), own),
            Own::Client(own) => Pair::connect(own, &server(slot.unwrap(), Validation::None, false)),
        };
        let failed = match met {
            Ok(_) => return Ok(()),
            Err(failed) => failed,
        };
        let handshake = match self.judge {
            Judge::Server => &failed.server_handshake,
            Judge::Client => &failed.client_handshake,
        };
        let judged = handshake.failure.as_ref().map(|failure| failure.message().to_owned());
        let by_tls = match self.judge {
            Judge::Server => failed.server.as_ref(),
            Judge::Client => failed.client.as_ref(),
        };
        Err(judged.or_else(|| by_tls.map(ToString::to_string)).or(failed.other).unwrap_or_default())
    }
}

fn server(certificate: Arc<SecretSlot<TlsCertificate>>, validation: Validation, required: bool) -> ServerTls {
    ServerTlsBuilder {
        tls_certificates: vec![certificate],
        validation,
        require_client_certificate: required,
        ..Default::default()
    }
    .build()
    .unwrap()
}

fn client(
    certificate: Option<Arc<SecretSlot<TlsCertificate>>>,
    validation: Validation,
    version: TlsVersion,
) -> ClientTls {
    let tls_params = TlsParams { max: Some(version), ..TlsParams::default() };
    ClientTlsBuilder { tls_params, tls_certificate: certificate, validation, ..Default::default() }.build().unwrap()
}

fn some(builder: LeafBuilder<'_>) -> impl Fn(Judge) -> Option<Leaf> + use<> {
    let leaf = builder.build();
    move |_| Some(leaf.clone())
}

#[test]
fn whoever_belongs_here_is_let_in() {
    let world = World::new();
    world.all_say("a workload", some(world.ca.leaf().uri(ID)), Ok(()));
    world.all_say("below an intermediate", some(world.ca.intermediate("below").leaf().uri(ID)), Ok(()));
    world.all_say("with more names", some(world.ca.leaf().uri(ID).dns("a.example")), Ok(()));
    let constrained = world.ca.constrained_to("a.example");
    world.all_say("within the constraint", some(constrained.leaf().uri(ID).dns("a.example")), Ok(()));
    let (kept, revoked) = (world.ca.leaf().uri(ID).build(), world.ca.leaf().uri(ID).build());
    world.revoking(&revoked).all_say("not revoked", |_| Some(kept.clone()), Ok(()));
}

#[test]
fn no_certificate() {
    World::new().all_say("nobody", |_| None, Err("peer sent no certificates"));
}

#[test]
fn outside_its_validity() {
    let world = World::new();
    world.all_say("expired", some(world.ca.leaf().uri(ID).expired()), Err("certificate has expired"));
    world.all_say("early", some(world.ca.leaf().uri(ID).not_yet_valid()), Err("certificate is not yet valid"));
}

#[test]
fn signed_by_somebody_else() {
    let world = World::new();
    let missing = Err("unable to get local issuer certificate");
    world.all_say("another authority", some(world.other.leaf().uri(ID)), missing);
    world.all_say("below another", some(world.other.intermediate("x").leaf().uri(ID)), missing);
    world.all_say("a namesake", some(world.namesake.leaf().uri(ID)), Err("certificate signature failure"));
    world.all_say("by itself", some(LeafBuilder::new(None).cn("me").uri(ID)), Err("self signed certificate"));
}

#[test]
fn with_other_names() {
    let world = World::new();
    for (what, leaf, shown) in [
        ("wrong trust domain", world.ca.leaf().uri("spiffe://elsewhere/ns/default/sa/a"), "[spiffe://elsewhere/ns"),
        ("a longer trust domain", world.ca.leaf().uri("spiffe://cluster.local.evil/a"), "[spiffe://cluster.local.evil"),
        ("no name", world.ca.leaf(), "[]"),
        ("its name as a DNS name", world.ca.leaf().dns(ID), "[spiffe://cluster.local/"),
        ("two URI names", world.ca.leaf().uri(ID).uri("spiffe://cluster.local/b"), "a, spiffe://cluster.local/b]"),
        ("a foreign URI beside", world.ca.leaf().uri("https://example.org").uri(ID), "[https://example.org, spiffe"),
    ] {
        let expected = format!("SAN matcher, certificate SANs are {shown}");
        let expected = if shown.starts_with('[') { expected } else { shown.to_owned() };
        world.all_say(what, some(leaf), Err(&expected));
    }
}

#[test]
fn not_meant_for_this() {
    let world = World::new();
    let wrong_usage = |judge| {
        let leaf = world.ca.leaf().uri(ID);
        Some(if judge == Judge::Server { leaf.only_server_auth() } else { leaf.only_client_auth() }.build())
    };
    world.all_say("wrong extended key usage", wrong_usage, Err("unsupported certificate purpose"));
    let silent = some(world.ca.leaf().uri(ID).without_digital_signature());
    world.all_say("no digital signature", silent, Err("key usage does not allow digital signatures"));
    let authority = some(world.ca.leaf().uri(ID).marked_as_ca());
    world.all_say("an authority", authority, Err("CA certificate used as end entity"));
    let constrained = world.ca.constrained_to("a.example");
    let outside = some(constrained.leaf().uri(ID).dns("b.example"));
    world.all_say("outside the name constraint", outside, Err("permitted subtree violation"));
}

#[test]
fn revoked() {
    let world = World::new();
    let revoked = world.ca.leaf().uri(ID).build();
    let peer = revoked.clone();
    world.revoking(&revoked).all_say("revoked", |_| Some(peer.clone()), Err("certificate revoked"));
    let world = World::new();
    let below = world.ca.intermediate("below").leaf().uri(ID).build();
    let nobody = world.ca.leaf().build();
    let unknown = Err("unable to get certificate CRL");
    world.revoking(&nobody).all_say("no list of its issuer", |_| Some(below.clone()), unknown);
}

#[test]
fn material_that_would_be_no_identity_is_never_loaded() {
    let ca = Ca::new("root");
    let (a, b) = (ca.leaf().build(), ca.leaf().build());
    let load = |chain: &str, key: &str| TlsCertificate::from_pem(chain.as_bytes(), key.as_bytes(), "").unwrap_err();
    assert!(matches!(load(&a.chain_pem(), &b.key_pem), MaterialError::KeyMismatch { .. }));
    assert!(matches!(load("", &a.key_pem), MaterialError::NoCertificate));
    assert!(matches!(load(&a.chain_pem(), ""), MaterialError::NoKey));
    assert!(matches!(TrustBundle::from_pem(b"", "").unwrap_err(), MaterialError::NoTrustedCa(_)));
    // A leaf is no authority, whoever puts it into a bundle: what it signs is not trusted (see the verifier's tests).
    assert!(TrustBundle::from_pem(a.key_pem.as_bytes(), "").is_err());
}
