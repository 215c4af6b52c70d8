//! Both ends of a TLS 1.3 handshake in memory, with our own transport sockets on both sides.

use std::sync::Arc;
use std::time::Duration;

use benches::fixtures::{connection_info, message, process};
use criterion::{Criterion, criterion_group, criterion_main};
use outrigger::config::{BuildCx, Path};
use outrigger::net::{Io, RawIo, Socket};
use outrigger::transport_socket::{ConnectOptions, Downstream, TransportCx, Upstream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, SignatureAlgorithm};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use xds_protos::envoy::config::core::v3::TransportSocket;

const NAME: &str = "spiffe://cluster.local/ns/bench/sa/server";

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).expect("a key")
}

struct Ends {
    downstream: Downstream,
    upstream: Upstream,
    _cx: BuildCx,
}

impl Ends {
    /// `sessions` is how many sessions the client keeps, 0 for none.
    fn new(algorithm: &'static SignatureAlgorithm, mutual: bool, sessions: u32) -> Ends {
        let root_key = key(&rcgen::PKCS_ECDSA_P256_SHA256);
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root_pem = root.self_signed(&root_key).expect("a root").pem();
        let issuer = Issuer::new(root, root_key);
        let leaf = || {
            let key = key(algorithm);
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::URI(NAME.try_into().expect("a URI"))];
            let chain = params.signed_by(&key, &issuer).expect("a leaf").pem();
            json!({"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key.serialize_pem()}})
        };
        let trust = json!({
            "trusted_ca": {"inline_string": root_pem},
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": NAME}}],
        });
        let mut server = json!({"tls_certificates": [leaf()]});
        let mut client = json!({"validation_context": trust});
        if mutual {
            server["validation_context"] = client["validation_context"].clone();
            client["tls_certificates"] = json!([leaf()]);
        }
        let server = json!({"require_client_certificate": mutual, "common_tls_context": server});
        let client = json!({"sni": "server.test", "max_session_keys": sessions, "common_tls_context": client});
        let cx = process();
        let path = Path::root("");
        let transport = |scope| TransportCx { build: &cx, scope };
        let downstream = Downstream::build(Some(&socket("Downstream", server)), &path, transport("listener.bench"));
        let upstream = Upstream::build(Some(&socket("Upstream", client)), &path, transport("cluster.bench"));
        Ends { downstream: downstream.expect("a server"), upstream: upstream.expect("a client"), _cx: cx }
    }

    /// A handshake and a byte each way, so that session tickets arrive. Whether a session was resumed.
    async fn shake_hands(&self) -> bool {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (near, far) = (RawIo::new(Socket::Memory(near)), RawIo::new(Socket::Memory(far)));
        let info = connection_info("10.0.0.1:443", "10.0.0.2:40000");
        let options = ConnectOptions::default();
        let server = async {
            let mut io = self.downstream.accept(far, &info).await.expect("accepted");
            echo(&mut io).await;
        };
        let client = async {
            let (mut io, tls) = self.upstream.connect(near, &options, "").await.expect("connected");
            io.write_all(b"?").await.expect("written");
            assert_eq!(io.read_u8().await.expect("answered"), b'?');
            tls.expect("TLS").resumed
        };
        let (resumed, ()) = tokio::join!(client, server);
        resumed
    }
}

async fn echo(io: &mut Io) {
    let byte = io.read_u8().await.expect("asked");
    io.write_u8(byte).await.expect("written");
    io.flush().await.expect("flushed");
}

fn socket(side: &str, mut context: Value) -> TransportSocket {
    context["@type"] = format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext").into();
    message(&json!({"name": "envoy.transport_sockets.tls", "typed_config": context}))
}

fn handshakes(c: &mut Criterion) {
    let runtime = benches::load::client::runtime();
    let mut group = c.benchmark_group("TLS handshake, both ends");
    let p256 = &rcgen::PKCS_ECDSA_P256_SHA256;
    for (name, algorithm, mutual, sessions) in [
        ("P-256, full", p256, false, 0),
        ("P-256, mutual, full", p256, true, 0),
        ("P-256, resumed", p256, false, 1),
        ("RSA-2048, full", &rcgen::PKCS_RSA_SHA256, false, 0),
        ("RSA-2048, resumed", &rcgen::PKCS_RSA_SHA256, false, 1),
    ] {
        let ends = Arc::new(Ends::new(algorithm, mutual, sessions));
        assert!(!runtime.block_on(ends.shake_hands()), "the first cannot resume");
        assert_eq!(runtime.block_on(ends.shake_hands()), sessions > 0, "{name}");
        group.bench_function(name, |b| b.iter(|| runtime.block_on(ends.shake_hands())));
    }
    group.finish();
}

criterion_group! {
    name = tls;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = handshakes
}
criterion_main!(tls);
