//! Both ends over pipes in memory, built from protobuf.

mod config;
mod handshake;
mod sds;
mod wire;

use std::sync::Arc;

use bytes::BytesMut;
use certs::testing::{Ca, Leaf, LeafBuilder};
use prost::Message;
use prost_types::Any;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::data_source::Specifier;
use xds_protos::envoy::config::core::v3::transport_socket::ConfigType;
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as proto;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use xds_protos::envoy::r#type::matcher::v3 as matcher_proto;

use crate::config::{BuildCx, Path, Reject};
use crate::net::{Address, Io, RawIo, Socket};
use crate::server::ServerOptions;
use crate::stats::StatBlock;
use crate::stats::names::ssl::{SslSocketFactoryStats, SslStats};
use crate::stream_info::{ConnectionInfo, TlsInfo, TrafficDirection};
use crate::transport_socket::{ConnectOptions, Downstream, TransportCx, TransportError, Upstream};

const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

fn inline(text: impl Into<String>) -> Option<core::DataSource> {
    Some(core::DataSource { watched_directory: None, specifier: Some(Specifier::InlineString(text.into())) })
}

fn certificate(leaf: &Leaf) -> proto::TlsCertificate {
    proto::TlsCertificate {
        certificate_chain: inline(leaf.chain_pem()),
        private_key: inline(&leaf.key_pem),
        ..Default::default()
    }
}

fn common(leaf: &Leaf) -> proto::CommonTlsContext {
    proto::CommonTlsContext { tls_certificates: vec![certificate(leaf)], ..Default::default() }
}

fn uri_prefix(prefix: &str) -> proto::SubjectAltNameMatcher {
    proto::SubjectAltNameMatcher {
        san_type: proto::subject_alt_name_matcher::SanType::Uri.into(),
        matcher: Some(matcher_proto::StringMatcher {
            match_pattern: Some(matcher_proto::string_matcher::MatchPattern::Prefix(prefix.into())),
            ignore_case: false,
        }),
        oid: String::new(),
    }
}

fn trusting(ca: &Ca, names: &[&str]) -> proto::CertificateValidationContext {
    proto::CertificateValidationContext {
        trusted_ca: inline(ca.pem()),
        match_typed_subject_alt_names: names.iter().map(|name| uri_prefix(name)).collect(),
        ..Default::default()
    }
}

fn validated(mut common: proto::CommonTlsContext, by: proto::CertificateValidationContext) -> proto::CommonTlsContext {
    common.validation_context_type = Some(ValidationContextType::ValidationContext(by));
    common
}

fn socket(message: &impl Message, name: &str) -> core::TransportSocket {
    let type_url = format!("type.googleapis.com/envoy.extensions.transport_sockets.{name}");
    let any = Any { type_url, value: message.encode_to_vec() };
    core::TransportSocket { name: String::new(), config_type: Some(ConfigType::TypedConfig(any)) }
}

/// A process with a listener `l` and a cluster `c`.
struct World {
    cx: BuildCx,
}

impl World {
    fn new() -> Self {
        World { cx: BuildCx::new(ServerOptions::default()) }
    }

    fn downstream(&self, context: proto::DownstreamTlsContext) -> Result<Downstream, Reject> {
        let socket = socket(&context, "tls.v3.DownstreamTlsContext");
        Downstream::build(Some(&socket), &Path::root("t"), TransportCx { build: &self.cx, scope: "listener.l" })
    }

    fn upstream(&self, context: proto::UpstreamTlsContext) -> Result<Upstream, Reject> {
        let socket = socket(&context, "tls.v3.UpstreamTlsContext");
        Upstream::build(Some(&socket), &Path::root("t"), TransportCx { build: &self.cx, scope: "cluster.c" })
    }

    fn server(&self, common: proto::CommonTlsContext, require: bool) -> Downstream {
        let context = proto::DownstreamTlsContext {
            common_tls_context: Some(common),
            require_client_certificate: Some(require),
            ..Default::default()
        };
        self.downstream(context).unwrap()
    }

    fn client(&self, common: proto::CommonTlsContext) -> Upstream {
        let context = proto::UpstreamTlsContext {
            common_tls_context: Some(common),
            sni: "server.example".into(),
            ..Default::default()
        };
        self.upstream(context).unwrap()
    }

    fn ssl(&self, scope: &str) -> StatBlock<SslStats> {
        self.cx.stats.block(&format!("{scope}.ssl"))
    }
}

fn with_max_13(mut common: proto::CommonTlsContext) -> proto::CommonTlsContext {
    let tls13 = proto::tls_parameters::TlsProtocol::TlSv13.into();
    common.tls_params = Some(proto::TlsParameters { tls_maximum_protocol_version: tls13, ..Default::default() });
    common
}

fn connection() -> ConnectionInfo {
    let address = || Address::from("127.0.0.1:80".parse::<std::net::SocketAddr>().unwrap());
    ConnectionInfo::new("l".into(), address(), address(), TrafficDirection::Inbound)
}

fn raw(stream: DuplexStream) -> RawIo {
    RawIo::new(Socket::Memory(stream))
}

type Ends = (Result<(Io, ConnectionInfo), TransportError>, Result<(Io, TlsInfo), TransportError>);

async fn meet_with(server: &Downstream, client: &Upstream, options: ConnectOptions, hostname: &str) -> Ends {
    let (near, far) = duplex(64 << 10);
    let accept = async {
        let info = connection();
        server.accept(raw(near), &info).await.map(|io| (io, info))
    };
    let connect = async {
        let (io, tls) = client.connect(raw(far), &options, hostname).await?;
        Ok((io, tls.expect("TLS")))
    };
    tokio::join!(accept, connect)
}

async fn meet(server: &Downstream, client: &Upstream) -> Ends {
    meet_with(server, client, ConnectOptions::default(), "").await
}

fn reason<T>(result: Result<T, TransportError>) -> String {
    result.err().expect("refused").reason.into_owned()
}
