//! What a completed handshake established, as [`TlsInfo`] and for the statistics.

use std::sync::Arc;

use certs::CertInfo;
use certs::handshake::{Handshake, PeerValidation};
use certs::params::{cipher_suite_name, group_name};
use rustls::{ClientConnection, CommonState, HandshakeKind, ProtocolVersion, ServerConnection};

use crate::stream_info::{PeerCertificate, TlsInfo};

/// The protocols that are usually agreed on, so that connections share the text.
pub struct Facts {
    alpn: Vec<Arc<str>>,
}

/// The facts of one connection.
pub struct Established {
    pub info: TlsInfo,
    /// Absent when a TLS 1.2 session was resumed: no keys were exchanged.
    pub group: Option<&'static str>,
}

impl Facts {
    pub fn new(alpn_protocols: &[String]) -> Self {
        let configured = alpn_protocols.iter().flat_map(|list| list.split(','));
        Facts { alpn: configured.chain(["h2", "http/1.1"]).map(Arc::from).collect() }
    }

    pub fn of_server(&self, connection: &ServerConnection, handshake: &Handshake) -> Established {
        self.of(connection, handshake)
    }

    pub fn of_client(&self, connection: &ClientConnection, handshake: &Handshake) -> Established {
        self.of(connection, handshake)
    }

    fn of(&self, state: &CommonState, handshake: &Handshake) -> Established {
        let group = state.negotiated_key_exchange_group().map(|group| group_name(group.name()));
        let chain = state.peer_certificates().unwrap_or_default();
        let leaf = chain.first().and_then(|leaf| CertInfo::parse(leaf).ok());
        let peer =
            leaf.map(|leaf| Arc::new(PeerCertificate { leaf, chain: chain.iter().map(|der| der.to_vec()).collect() }));
        let info = TlsInfo {
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "unknown_ssl_version",
            },
            cipher: state.negotiated_cipher_suite().map_or("", |suite| cipher_suite_name(suite.suite())),
            group: group.unwrap_or_default(),
            alpn: state.alpn_protocol().and_then(|protocol| self.protocol(protocol)),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
            session_id: None, // rustls keeps it to itself
            peer,
            verified: handshake.validation == PeerValidation::Validated,
            local: handshake.local.as_ref().and_then(|certificate| certificate.leaf()).cloned(),
        };
        Established { info, group }
    }

    fn protocol(&self, agreed: &[u8]) -> Option<Arc<str>> {
        let known = self.alpn.iter().find(|known| known.as_bytes() == agreed).cloned();
        known.or_else(|| std::str::from_utf8(agreed).ok().map(Arc::from))
    }
}
