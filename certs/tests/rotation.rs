//! Secrets change while handshakes are under way: none fails, and each uses one state of the secrets from its first byte to its last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use certs::client::{ClientTls, ClientTlsBuilder, ConnectOptions};
use certs::material::{TlsCertificate, TrustBundle};
use certs::san::SanMatcher;
use certs::server::{ServerTls, ServerTlsBuilder, Validation};
use certs::slot::SecretSlot;
use certs::testing::{Ca, Pair};
use certs::validation::ValidationContext;
use rustls::server::Acceptor;

const ROTATIONS: usize = 100;
const WORKERS: usize = 3;

/// A mesh of two, with the secrets of both in slots.
struct Mesh {
    ca: Ca,
    server: ServerTls,
    client: ClientTls,
    certificates: [Arc<SecretSlot<TlsCertificate>>; 2],
    root: Arc<SecretSlot<ValidationContext>>,
}

impl Mesh {
    fn new() -> Self {
        let ca = Ca::new("root");
        let certificates = ["server", "client"].map(|name| SecretSlot::filled(name, certificate(&ca, 0)));
        let root = SecretSlot::filled("ROOTCA", trusting(&ca, &Ca::new("other")));
        let names =
            ValidationContext { match_subject_alt_names: vec![SanMatcher::dns("a.test")], ..Default::default() };
        let validation = || Validation::Secret { default: Some(Arc::new(names.clone())), slot: Arc::clone(&root) };
        let server = ServerTlsBuilder {
            tls_certificates: vec![Arc::clone(&certificates[0])],
            validation: validation(),
            require_client_certificate: true,
            ..Default::default()
        };
        let client = ClientTlsBuilder {
            tls_certificate: Some(Arc::clone(&certificates[1])),
            validation: validation(),
            max_session_keys: 4,
            ..Default::default()
        };
        let (server, client) = (server.build().unwrap(), client.build().unwrap());
        Mesh { ca, server, client, certificates, root }
    }

    fn rotate(&self, serial: usize, other: &Ca) {
        self.root.set(Some(trusting(&self.ca, other)));
        for slot in &self.certificates {
            slot.set(Some(certificate(&self.ca, serial)));
        }
    }
}

fn certificate(ca: &Ca, serial: usize) -> Arc<TlsCertificate> {
    ca.leaf().cn(&format!("serial {serial}")).dns("a.test").build().certificate()
}

fn trusting(ca: &Ca, other: &Ca) -> Arc<ValidationContext> {
    let both = ca.pem() + &other.pem();
    let bundle = TrustBundle::from_pem(both.as_bytes(), "<inline>").unwrap();
    Arc::new(ValidationContext::trusting(Arc::new(bundle)))
}

#[test]
fn no_handshake_fails_while_secrets_rotate() {
    let mesh = Mesh::new();
    let others: Vec<Ca> = (0..4).map(|n| Ca::new(&format!("other {n}"))).collect();
    let (done, met, resumed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = thread::scope(|scope| {
        let shake_hands = || {
            while !done.load(Ordering::Relaxed) {
                let pair = Pair::connect(&mesh.client, &mesh.server).map_err(|failed| format!("{failed:?}"))?;
                resumed.fetch_add(usize::from(pair.resumed()), Ordering::Relaxed);
                met.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), String>(())
        };
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(shake_hands)).collect();
        for serial in 1..=ROTATIONS {
            let before = met.load(Ordering::Relaxed);
            mesh.rotate(serial, &others[serial % others.len()]);
            // Until somebody got through with the new ones, or a worker has given up.
            while met.load(Ordering::Relaxed) == before && !workers.iter().any(|worker| worker.is_finished()) {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
        workers.into_iter().filter_map(|worker| worker.join().unwrap().err()).next()
    });
    assert_eq!(failed, None);
    assert!(met.load(Ordering::Relaxed) >= ROTATIONS);
    let pair = Pair::connect(&mesh.client, &mesh.server).unwrap_or_else(|failed| panic!("{failed:?}"));
    let shown = pair.server_handshake.local.unwrap();
    assert_eq!(shown.leaf().unwrap().subject(), format!("CN=serial {ROTATIONS}"), "the newest is in use");
}

#[test]
fn a_handshake_that_has_begun_ends_with_the_secrets_it_began_with() {
    let mesh = Mesh::new();
    let stranger = Ca::new("stranger");
    let (choice, mut of_client) = mesh.client.choose(ConnectOptions::default()).unwrap();
    let mut client = rustls::ClientConnection::new_with_alpn(
        choice.config.clone(),
        choice.server_name.clone(),
        choice.alpn_protocols.clone(),
    )
    .unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut bytes.as_slice()).unwrap();
    let accepted = acceptor.accept().unwrap().unwrap();
    let server_choice = mesh.server.choose(&accepted.client_hello()).unwrap();

    // Now everything changes, to what would not let either pass.
    mesh.root.set(Some(Arc::new(ValidationContext::trusting(stranger.bundle()))));
    mesh.certificates.iter().for_each(|slot| slot.set(Some(certificate(&stranger, 1))));

    let mut of_server = certs::handshake::Handshake::default();
    let mut server = of_server.run(|| accepted.into_connection(server_choice.config.clone())).map_err(|e| e.0).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        server.write_tls(&mut bytes).unwrap();
        if !bytes.is_empty() {
            client.read_tls(&mut bytes.as_slice()).unwrap();
            of_client.run(|| client.process_new_packets()).unwrap();
        }
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        if !bytes.is_empty() {
            server.read_tls(&mut bytes.as_slice()).unwrap();
            of_server.run(|| server.process_new_packets()).unwrap();
        }
    }
    choice.finish(&client, &mut of_client).unwrap();
    server_choice.finish(&server, &mut of_server).unwrap();
    assert_eq!(of_server.local.unwrap().leaf().unwrap().subject(), "CN=serial 0");

    // The next one has the new ones, and no session of the old trust is resumed.
    let pair = Pair::connect(&mesh.client, &mesh.server).unwrap_or_else(|failed| panic!("{failed:?}"));
    assert!(!pair.resumed());
    assert_eq!(pair.server_handshake.local.unwrap().leaf().unwrap().subject(), "CN=serial 1");
}
