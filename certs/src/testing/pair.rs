//! Two contexts that shake hands in memory.

use std::io;

use rustls::server::Acceptor;
use rustls::{ClientConnection, Error, HandshakeKind, ServerConnection};

use crate::client::{ClientTls, ConnectOptions};
use crate::handshake::Handshake;
use crate::server::{ServerTls, asks_for_ocsp_staple};

/// A completed handshake.
pub struct Pair {
    /// The client's end.
    pub client: ClientConnection,
    /// The server's end.
    pub server: ServerConnection,
    /// What the client's verifier heard.
    pub client_handshake: Handshake,
    /// What the server's verifier heard.
    pub server_handshake: Handshake,
}

/// A handshake that failed.
#[derive(Debug, Default)]
pub struct Failed {
    /// What the client says of it.
    pub client: Option<Error>,
    /// What the server says of it.
    pub server: Option<Error>,
    /// A context that was not ready, or a resumed peer that was refused.
    pub other: Option<String>,
    /// What the client's verifier heard.
    pub client_handshake: Handshake,
    /// What the server's verifier heard.
    pub server_handshake: Handshake,
}

impl Failed {
    /// The reason in Envoy's words: of the server's verifier, or the client's.
    pub fn reason(&self) -> Option<&str> {
        let failure = self.server_handshake.failure.as_ref().or(self.client_handshake.failure.as_ref());
        failure.map(|failure| failure.message())
    }
}

impl Pair {
    /// Shakes hands.
    pub fn connect(client: &ClientTls, server: &ServerTls) -> Result<Self, Box<Failed>> {
        Self::connect_with(client, ConnectOptions::default(), server)
    }

    /// Shakes hands with options.
    pub fn connect_with(client: &ClientTls, options: ConnectOptions, server: &ServerTls) -> Result<Self, Box<Failed>> {
        let not_ready = |e: &dyn ToString| Box::new(Failed { other: Some(e.to_string()), ..Failed::default() });
        let (choice, mut client_handshake) = client.choose(options).map_err(|e| not_ready(&e))?;
        let mut client_end = ClientConnection::new_with_alpn(
            choice.config.clone(),
            choice.server_name.clone(),
            choice.alpn_protocols.clone(),
        )
        .expect("a client begins");
        let mut hello = Vec::new();
        client_end.write_tls(&mut hello).expect("memory");
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut hello.as_slice()).expect("memory");
        let accepted = acceptor.accept().expect("a ClientHello").expect("a whole ClientHello");
        let server_choice = server.choose(&accepted.client_hello()).map_err(|e| not_ready(&e))?;
        let mut server_handshake =
            Handshake { client_asks_for_ocsp: asks_for_ocsp_staple(&hello), ..Handshake::default() };
        let begun = server_handshake.run(|| accepted.into_connection(server_choice.config.clone()));
        let mut failed = Failed::default();
        match begun {
            Err((error, mut alert)) => {
                failed.server = Some(error);
                let mut bytes = Vec::new();
                alert.write_all(&mut bytes).expect("memory");
                client_end.read_tls(&mut bytes.as_slice()).expect("memory");
                failed.client = client_handshake.run(|| client_end.process_new_packets()).err();
            }
            Ok(mut server_end) => {
                let mut rounds = 0;
                while transfer(
                    &mut client_end,
                    &mut client_handshake,
                    &mut server_end,
                    &mut server_handshake,
                    &mut failed,
                ) {
                    rounds += 1;
                    assert!(rounds < 20, "the handshake does not end");
                }
                if failed.client.is_none() && failed.server.is_none() {
                    assert!(!client_end.is_handshaking() && !server_end.is_handshaking());
                    let client_verdict = choice.finish(&client_end, &mut client_handshake);
                    let server_verdict = server_choice.finish(&server_end, &mut server_handshake);
                    match client_verdict.and(server_verdict) {
                        Ok(()) => {
                            return Ok(Self {
                                client: client_end,
                                server: server_end,
                                client_handshake,
                                server_handshake,
                            });
                        }
                        Err(failure) => failed.other = Some(failure.to_string()),
                    }
                }
            }
        }
        Err(Box::new(Failed { client_handshake, server_handshake, ..failed }))
    }

    /// Whether an earlier session was resumed.
    pub fn resumed(&self) -> bool {
        self.server.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The protocol that was agreed on, as the client sees it.
    pub fn alpn(&self) -> Option<&str> {
        assert_eq!(self.client.alpn_protocol(), self.server.alpn_protocol());
        self.client.alpn_protocol().map(|protocol| std::str::from_utf8(protocol).expect("ASCII"))
    }
}

/// Moves what each end has to say to the other; whether anything moved.
fn transfer(
    client: &mut ClientConnection,
    client_handshake: &mut Handshake,
    server: &mut ServerConnection,
    server_handshake: &mut Handshake,
    failed: &mut Failed,
) -> bool {
    let mut moved = false;
    let mut bytes = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut bytes).expect("memory");
    }
    if !bytes.is_empty() && failed.client.is_none() {
        moved = true;
        failed.client =
            client_handshake.run(|| feed(&bytes, |r| client.read_tls(r).map(|_| client.process_new_packets())));
    }
    bytes.clear();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("memory");
    }
    if !bytes.is_empty() && failed.server.is_none() {
        moved = true;
        failed.server =
            server_handshake.run(|| feed(&bytes, |r| server.read_tls(r).map(|_| server.process_new_packets())));
    }
    moved
}

fn feed<T>(mut bytes: &[u8], mut step: impl FnMut(&mut dyn io::Read) -> io::Result<Result<T, Error>>) -> Option<Error> {
    while !bytes.is_empty() {
        if let Err(error) = step(&mut bytes).expect("memory") {
            return Some(error);
        }
    }
    None
}
