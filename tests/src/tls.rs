//! TLS peers for tests, both sides, on the certificates of [`crate::certificates`]. They check nothing that a test does not
//! ask for: what the proxy checks is what is tested.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme, SupportedProtocolVersion,
};

use crate::client::Stream;

/// What a TLS client offers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offer<'a> {
    /// The server name, if one is sent.
    pub sni: Option<&'a str>,
    pub alpn: &'a [&'a str],
    /// The client's certificate, by its name in the folder.
    pub certificate: Option<&'a str>,
    /// Offers TLS 1.2 and nothing newer.
    pub only_tls12: bool,
}

/// What a handshake came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    pub version: String,
    pub alpn: Option<String>,
    /// The name in the folder of the peer's certificate.
    pub peer: Option<String>,
    /// What the client named, where this is a server's session.
    pub sni: Option<String>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Certificate chain and key of `NAME.pem` and `NAME.key`.
fn identity(folder: &Path, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(folder.join(format!("{name}.pem"))).expect("certificates");
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{name}.key"))).expect("a key");
    (chain.collect::<Result<_, _>>().expect("certificates"), key)
}

pub fn client_config(folder: &Path, offer: &Offer<'_>) -> Arc<ClientConfig> {
    let versions: &[&SupportedProtocolVersion] =
        if offer.only_tls12 { &[&rustls::version::TLS12] } else { rustls::DEFAULT_VERSIONS };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = match offer.certificate {
        Some(name) => {
            let (chain, key) = identity(folder, name);
            builder.with_client_auth_cert(chain, key).expect("a client certificate")
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = offer.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.enable_sni = offer.sni.is_some();
    Arc::new(config)
}

/// A server that shows certificate `name` and, with `client_ca`, asks for a certificate of that authority.
pub fn server_config(folder: &Path, name: &str, client_ca: Option<&str>, alpn: &[&str]) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("versions");
    let (chain, key) = identity(folder, name);
    let mut config = match client_ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(folder.join(format!("{ca}.pem"))).expect("a root")).expect("added");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
        None => builder.with_no_client_auth(),
    }
    .with_single_cert(chain, key)
    .expect("a certificate");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

pub fn server_name(offer: &Offer<'_>) -> ServerName<'static> {
    // Not sent when `enable_sni` is off.
    ServerName::try_from(offer.sni.unwrap_or("none.invalid").to_owned()).expect("a server name")
}

/// A blocking TLS stream of either side.
pub struct Tls<C> {
    connection: C,
    socket: TcpStream,
}

impl Tls<ClientConnection> {
    /// Connects to a port of this machine and shakes hands.
    ///
    /// # Errors
    /// Why the handshake failed.
    pub fn connect(port: u16, folder: &Path, offer: &Offer<'_>) -> Result<(Self, Session), String> {
        let connection =
            ClientConnection::new(client_config(folder, offer), server_name(offer)).map_err(|e| e.to_string())?;
        let mut tls = Tls { connection, socket: crate::client::tcp(port) };
        tls.handshake().map_err(|e| e.to_string())?;
        let session = session(&tls.connection, None, folder);
        Ok((tls, session))
    }

    fn handshake(&mut self) -> io::Result<()> {
        while self.connection.is_handshaking() {
            self.connection.complete_io(&mut self.socket)?;
        }
        Ok(())
    }
}

impl Tls<ServerConnection> {
    /// Shakes hands on an accepted connection.
    ///
    /// # Errors
    /// Why the handshake failed.
    pub fn accept(socket: TcpStream, config: Arc<ServerConfig>, folder: &Path) -> Result<(Self, Session), String> {
        let mut tls = Tls { connection: ServerConnection::new(config).map_err(|e| e.to_string())?, socket };
        while tls.connection.is_handshaking() {
            tls.connection.complete_io(&mut tls.socket).map_err(|e| e.to_string())?;
        }
        let session = session(&tls.connection, tls.connection.server_name(), folder);
        Ok((tls, session))
    }
}

/// What was agreed on, and by which certificate of `folder` the peer is known.
pub fn session<D>(connection: &rustls::ConnectionCommon<D>, sni: Option<&str>, folder: &Path) -> Session {
    let peer = connection.peer_certificates().and_then(<[_]>::first);
    Session {
        version: connection.protocol_version().map_or_else(String::new, |version| format!("{version:?}")),
        alpn: connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        peer: peer.map(|peer| name_of(peer, folder)),
        sni: sni.map(ToOwned::to_owned),
    }
}

fn name_of(certificate: &CertificateDer<'_>, folder: &Path) -> String {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for file in files.filter(|file| file.extension().is_some_and(|ending| ending == "pem")) {
        if CertificateDer::from_pem_file(&file).is_ok_and(|this| &this == certificate) {
            return file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
    }
    "unknown".to_owned()
}

macro_rules! stream {
    ($connection:ty) => {
        impl Read for Tls<$connection> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                rustls::Stream::new(&mut self.connection, &mut self.socket).read(buffer)
            }
        }

        impl Write for Tls<$connection> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                rustls::Stream::new(&mut self.connection, &mut self.socket).write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                rustls::Stream::new(&mut self.connection, &mut self.socket).flush()
            }
        }

        impl Stream for Tls<$connection> {
            fn set_patience(&self, patience: Duration) {
                self.socket.set_patience(patience);
            }

            fn finish(&mut self) {
                self.connection.send_close_notify();
                let _ = self.connection.write_tls(&mut self.socket);
                self.socket.finish();
            }

            fn abort(&mut self) {
                self.socket.abort();
            }
        }
    };
}

stream!(ClientConnection);
stream!(ServerConnection);

/// Takes every server for what it says it is.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
