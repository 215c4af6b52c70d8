use tokio::io::{DuplexStream, duplex};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::ca::{KeySpec, SigningRequest};
use crate::spiffe::SpiffeId;
use crate::testing::{Ca, CaServer, Leaf, TestClock};

fn server() -> Arc<CaServer> {
    CaServer::new(Ca::new("root"), Arc::new(TestClock::at(1_800_000_000)))
}

fn csr() -> String {
    let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/a").unwrap();
    SigningRequest::new(KeySpec::EcdsaP256, &id).unwrap().csr_pem
}

/// A stream to the server, in the clear.
async fn plain(server: &Arc<CaServer>) -> Result<DuplexStream, CaError> {
    let (near, far) = duplex(1 << 16);
    tokio::spawn(Arc::clone(server).serve(far));
    Ok(near)
}

async fn ask(server: &Arc<CaServer>, options: IstioCaOptions) -> Result<Vec<String>, CaError> {
    IstioCa::new(options, || plain(server)).sign(&csr(), Duration::from_secs(3600)).await
}

#[tokio::test]
async fn a_call_carries_what_istiod_wants_and_brings_a_chain() {
    let server = server();
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("istio-token");
    let options = IstioCaOptions {
        token: Some(token.clone()),
        cluster_id: "Kubernetes".into(),
        headers: vec![("X-Custom".into(), "a".into())],
        cert_signer: Some("example.org/signer".into()),
        ..Default::default()
    };
    for text in ["first\n", "second"] {
        std::fs::write(&token, text).unwrap();
        let answer = ask(&server, options.clone()).await.unwrap();
        assert!(answer.len() == 2 && answer[1].contains("BEGIN CERTIFICATE"));
    }
    let seen = server.seen();
    let header = |at: usize, name: &str| seen[at].headers.get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        (header(0, "authorization"), header(1, "authorization")),
        ("Bearer first".into(), "Bearer second".into())
    );
    assert_eq!((header(0, "clusterid"), header(0, "x-custom")), ("Kubernetes".into(), "a".into()));
    let IstioCertificateRequest { csr, validity_duration, metadata } = &seen[0].request;
    assert!(csr.contains("BEGIN CERTIFICATE REQUEST") && *validity_duration == 3600);
    assert_eq!(*metadata, Some(super::cert_signer("example.org/signer")));
}

#[tokio::test]
async fn a_token_that_is_not_there_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("istio-token");
    let options = IstioCaOptions { token: Some(token.clone()), ..Default::default() };
    let error = ask(&server(), options.clone()).await.unwrap_err();
    assert!(matches!(&error, CaError::Token { path, .. } if path.ends_with("istio-token")) && !error.is_retriable());
    for (text, why) in [(" \n", "the file is empty"), ("a\nb", "characters that no token has")] {
        std::fs::write(&token, text).unwrap();
        assert!(ask(&server(), options.clone()).await.unwrap_err().to_string().contains(why));
    }
}

#[tokio::test]
async fn refusals_say_who_refused_and_whether_to_ask_again() {
    let server = server();
    for (code, retriable) in
        [(Code::Unavailable, true), (Code::Unauthenticated, false), (Code::PermissionDenied, false)]
    {
        server.refuse_next(code, "not you");
        let error = ask(&server, IstioCaOptions::default()).await.unwrap_err();
        assert_eq!(error, CaError::Refused { code: format!("{code:?}"), message: "not you".into(), retriable });
        assert_eq!(error.is_retriable(), retriable);
    }
    let ca = IstioCa::new(IstioCaOptions::default(), || plain(&server));
    let error = ca.sign("no PEM", Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(&error, CaError::Refused { code, .. } if code == "InvalidArgument"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn silence_and_hangups_are_errors() {
    let silent = IstioCa::new(IstioCaOptions::default(), || async { Ok(duplex(1 << 16).0) });
    let kept = std::cell::RefCell::new(Vec::new());
    let hanging = IstioCa::new(IstioCaOptions::default(), || async {
        let (near, far) = duplex(1 << 16);
        kept.borrow_mut().push(far);
        Ok(near)
    });
    let hour = Duration::from_secs(3600);
    assert!(matches!(silent.sign(&csr(), hour).await.unwrap_err(), CaError::Connect(_)));
    assert_eq!(hanging.sign(&csr(), hour).await.unwrap_err(), CaError::TimedOut(Duration::from_secs(10)));
    let nowhere = IstioCa::new(IstioCaOptions::default(), || async {
        Err::<DuplexStream, _>(CaError::Connect("no route".into()))
    });
    assert!(nowhere.sign(&csr(), hour).await.unwrap_err().is_retriable());
}

/// Serves behind TLS with this certificate; what the client says of it.
async fn dial(root: &Ca, leaf: &Leaf) -> Result<Vec<String>, CaError> {
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain.clone(), leaf.key_der())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let dial = TlsDial::new("istiod:15012", "istiod.istio-system.svc", root.bundle(), None).unwrap();
    let server = server();
    let open = || async {
        let (near, far) = duplex(1 << 16);
        let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
        tokio::spawn(async move {
            if let Ok(stream) = acceptor.accept(far).await {
                server.serve(stream).await;
            }
        });
        dial.shake_hands(near).await
    };
    IstioCa::new(IstioCaOptions::default(), open).sign(&csr(), Duration::from_secs(3600)).await
}

#[tokio::test]
async fn only_the_authority_behind_the_pinned_root_is_asked() {
    let ca = Ca::new("mesh");
    let name = "istiod.istio-system.svc";
    assert_eq!(dial(&ca, &ca.leaf().dns(name).build()).await.unwrap().len(), 2);
    for (leaf, why) in [
        (Ca::new("other").leaf().dns(name).build(), "unable to get local issuer certificate"),
        (Ca::new("mesh").leaf().dns(name).build(), "certificate signature failure"),
        (ca.leaf().dns("istiod.elsewhere.svc").build(), "SAN matcher, certificate SANs are [istiod.elsewhere.svc]"),
        (ca.leaf().cn(name).build(), "SAN matcher"),
        (ca.leaf().dns(name).expired().build(), "certificate has expired"),
        (ca.leaf().dns(name).not_yet_valid().build(), "certificate is not yet valid"),
        (ca.leaf().dns(name).only_client_auth().build(), "unsupported certificate purpose"),
        (crate::testing::LeafBuilder::new(None).dns(name).build(), "self"),
    ] {
        let error = dial(&ca, &leaf).await.unwrap_err();
        assert!(
            matches!(&error, CaError::Connect(text) if text.contains("istiod:15012") && text.contains(why)),
            "{error}"
        );
    }
    assert!(TlsDial::new("istiod:15012", "", ca.bundle(), None).is_err(), "anybody below the root");
}
