//! Both ends over pipes in memory, built from protobuf.

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

#[tokio::test]
async fn two_sidecars_shake_hands_and_talk() {
    let ca = Ca::new("root");
    let world = World::new();
    let ours = ca.leaf().cn("server").dns("server.example").uri("spiffe://cluster.local/server").build();
    let theirs = ca.leaf().cn("client").uri(CLIENT).build();
    let mut common_server = validated(common(&ours), trusting(&ca, &["spiffe://cluster.local/"]));
    common_server.alpn_protocols = vec!["h2".into(), "http/1.1".into()];
    let server = world.server(common_server, true);
    let mut common_client = with_max_13(validated(common(&theirs), trusting(&ca, &["spiffe://cluster.local/"])));
    common_client.alpn_protocols = vec!["istio".into(), "h2".into()];
    let client = world.client(common_client);
    let (accepted, connected) = meet(&server, &client).await;
    let ((mut near, info), (mut far, tls)) = (accepted.unwrap(), connected.unwrap());

    far.write_all(b"ping").await.unwrap();
    far.flush().await.unwrap();
    let mut bytes = [0; 4];
    near.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");

    let of_server = info.tls.get().unwrap();
    for facts in [of_server, &tls] {
        assert_eq!((facts.version, facts.cipher, facts.group), ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "X25519"));
        assert_eq!((facts.alpn.as_deref(), facts.resumed, facts.verified), (Some("h2"), false, true));
    }
    let peer = of_server.peer.as_ref().unwrap();
    assert_eq!((peer.leaf.subject(), peer.chain.len()), ("CN=client", 1));
    assert_eq!(of_server.local.as_ref().unwrap().subject(), "CN=server");
    assert_eq!(tls.local.as_ref().unwrap().subject(), "CN=client");
    assert_eq!(tls.peer.as_ref().unwrap().leaf.uri_sans().collect::<Vec<_>>(), ["spiffe://cluster.local/server"]);

    for scope in ["listener.l", "cluster.c"] {
        let ssl = world.ssl(scope);
        assert_eq!((ssl.read(SslStats::HANDSHAKE), ssl.read(SslStats::CONNECTION_ERROR)), (1, 0), "{scope}");
        assert_eq!((ssl.read(SslStats::NO_CERTIFICATE), ssl.read(SslStats::SESSION_REUSED)), (0, 0), "{scope}");
        for name in
            ["versions.TLSv1.3", "ciphers.TLS_AES_128_GCM_SHA256", "curves.X25519", "sigalgs.ecdsa_secp256r1_sha256"]
        {
            assert_eq!(ssl.read_named(name), 1, "{scope} {name}");
        }
    }
    let ssl = world.ssl("listener.l");
    let end = u64::try_from(peer.leaf.not_after()).unwrap();
    assert_eq!(ssl.read_named("certificate.unnamed_cert_e3b0c442.expiration_unix_time_seconds"), end);
    assert_eq!(ssl.read_named("certificate.unnamed_ca_cert_e3b0c442.expiration_unix_time_seconds"), end);

    let again = meet(&server, &client).await;
    drop(again);
    assert_eq!(world.ssl("cluster.c").read(SslStats::HANDSHAKE), 2);
}

#[tokio::test]
async fn sessions_that_are_resumed_are_counted() {
    let ca = Ca::new("root");
    let world = World::new();
    let server = world.server(common(&ca.leaf().build()), false);
    let client = world.client(proto::CommonTlsContext::default());
    let (_, first) = meet(&server, &client).await;
    assert_eq!(first.unwrap().1.version, "TLSv1.2", "Envoy's default for clients");
    let (accepted, second) = meet(&server, &client).await;
    assert!(second.unwrap().1.resumed && accepted.unwrap().1.tls.get().unwrap().resumed);
    assert_eq!(world.ssl("listener.l").read(SslStats::SESSION_REUSED), 1);
    assert_eq!(world.ssl("listener.l").read(SslStats::NO_CERTIFICATE), 2);
}

#[tokio::test]
async fn peers_that_are_refused_are_counted_and_explained() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    let world = World::new();
    let server = world.server(validated(common(&ca.leaf().build()), trusting(&ca, &["spiffe://cluster.local/"])), true);
    let ssl = world.ssl("listener.l");
    let verification =
        "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: ";
    let at_depth_0 = "X509_verify_cert: certificate verification error at depth 0: ";
    let cases: Vec<(proto::CommonTlsContext, String, _)> = vec![
        (
            proto::CommonTlsContext::default(),
            "TLS_error:|268435648:SSL routines:OPENSSL_internal:PEER_DID_NOT_RETURN_A_CERTIFICATE:\
             peer did not provide required client certificate:TLS_error_end"
                .into(),
            SslStats::FAIL_VERIFY_NO_CERT,
        ),
        (
            common(&other.leaf().uri(CLIENT).build()),
            format!("{verification}{at_depth_0}unable to get local issuer certificate:TLS_error_end"),
            SslStats::FAIL_VERIFY_ERROR,
        ),
        (
            common(&ca.leaf().uri(CLIENT).expired().build()),
            format!("{verification}{at_depth_0}certificate has expired:TLS_error_end"),
            SslStats::FAIL_VERIFY_ERROR,
        ),
        (
            common(&ca.leaf().dns("a.example").build()),
            format!("{verification}SAN matcher, certificate SANs are [a.example]:TLS_error_end"),
            SslStats::FAIL_VERIFY_SAN,
        ),
        (
            common(&ca.leaf().uri(CLIENT).without_digital_signature().build()),
            "TLS_error:|268435758:SSL routines:OPENSSL_internal:KEY_USAGE_BIT_INCORRECT:TLS_error_end".into(),
            SslStats::CONNECTION_ERROR,
        ),
    ];
    for (common, want, counter) in cases {
        let before = ssl.read(counter);
        let (accepted, connected) = meet(&server, &world.client(common)).await;
        assert_eq!(reason(accepted), want);
        assert_eq!(ssl.read(counter), before + 1, "{want}");
        assert!(reason(connected).contains("ALERT"));
    }
    assert_eq!(ssl.read(SslStats::HANDSHAKE), 0);
    assert_eq!(ssl.read(SslStats::CONNECTION_ERROR), 1);
}

#[tokio::test]
async fn servers_that_are_refused_are_counted_and_explained() {
    let (ca, other) = (Ca::new("root"), Ca::new("other"));
    let world = World::new();
    let client = world.client(validated(proto::CommonTlsContext::default(), trusting(&ca, &[])));
    let server = world.server(common(&other.leaf().build()), false);
    let (accepted, connected) = meet(&server, &client).await;
    assert!(reason(connected).contains("unable to get local issuer certificate"));
    assert_eq!(
        reason(accepted),
        "TLS_error:|268436504:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end"
    );
    assert_eq!(world.ssl("cluster.c").read(SslStats::FAIL_VERIFY_ERROR), 1);
    assert_eq!(world.ssl("listener.l").read(SslStats::CONNECTION_ERROR), 1);
}

#[tokio::test]
async fn a_tls13_client_learns_of_its_refusal_when_it_reads() {
    let ca = Ca::new("root");
    let world = World::new();
    let server = world.server(validated(common(&ca.leaf().build()), trusting(&ca, &[])), true);
    let client = world.client(with_max_13(proto::CommonTlsContext::default()));
    let (accepted, connected) = meet(&server, &client).await;
    assert!(accepted.is_err());
    let (mut io, _) = connected.expect("the client is done before the server");
    let error = io.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(
        super::of_io_error(&error).unwrap(),
        "TLS_error:|268436572:SSL routines:OPENSSL_internal:TLSV1_ALERT_CERTIFICATE_REQUIRED:TLS_error_end"
    );
}

#[tokio::test]
async fn options_of_a_connection_reach_the_handshake() {
    let ca = Ca::new("root");
    let world = World::new();
    let mut server_common = common(&ca.leaf().dns("a.example").build());
    server_common.alpn_protocols = vec!["h2".into(), "http/1.1".into()];
    let server = world.server(server_common, false);
    let mut client_common = validated(proto::CommonTlsContext::default(), trusting(&ca, &[]));
    client_common.alpn_protocols = vec!["h2".into()];
    let context = proto::UpstreamTlsContext {
        common_tls_context: Some(client_common),
        auto_host_sni: true,
        max_session_keys: Some(0),
        ..Default::default()
    };
    let client = world.upstream(context).unwrap();
    let sni = |result: Result<(Io, TlsInfo), TransportError>| match result.unwrap().0 {
        Io::Tls(_) => (),
        _ => panic!("no TLS"),
    };
    let with = |options| async { meet_with(&server, &client, options, "host.example").await };
    let server_name = |ends: Ends| {
        sni(ends.1);
        match ends.0.unwrap().0 {
            Io::Tls(tls) => match *tls {
                tokio_rustls::TlsStream::Server(stream) => stream.get_ref().1.server_name().map(str::to_owned),
                tokio_rustls::TlsStream::Client(_) => panic!("not the server"),
            },
            _ => panic!("no TLS"),
        }
    };
    assert_eq!(server_name(with(ConnectOptions::default()).await).as_deref(), Some("host.example"));
    let own = ConnectOptions { sni: Some("own.example".into()), ..Default::default() };
    assert_eq!(server_name(with(own).await).as_deref(), Some("own.example"));
    let good = ConnectOptions { san: Some("a.example".into()), ..Default::default() };
    assert!(with(good).await.1.is_ok());
    let bad = ConnectOptions { san: Some("b.example".into()), ..Default::default() };
    assert!(reason(with(bad).await.1).contains("expected SANs: [b.example], certificate SANs: [a.example]"));
    let alpn = ConnectOptions { alpn: Some(vec!["http/1.1".into()]), ..Default::default() };
    assert_eq!(with(alpn).await.1.unwrap().1.alpn.as_deref(), Some("http/1.1"));
}

#[tokio::test]
async fn a_pools_protocol_is_offered_only_where_nothing_else_is() {
    let world = World::new();
    let mut server_common = common(&LeafBuilder::new(None).build());
    server_common.alpn_protocols = vec!["h2".into(), "http/1.1".into(), "istio".into()];
    let server = world.server(server_common, false);
    let agreed = |configured: &[&str], options: ConnectOptions| {
        let alpn_protocols = configured.iter().map(|name| (*name).to_owned()).collect();
        let client = world.client(proto::CommonTlsContext { alpn_protocols, ..Default::default() });
        let server = &server;
        async move { meet_with(server, &client, options, "").await.1.unwrap().1.alpn.as_deref().map(str::to_owned) }
    };
    let pool = || ConnectOptions { alpn_fallback: &["http/1.1"], ..Default::default() };
    let overridden = || ConnectOptions { alpn: Some(vec!["h2".into()]), ..pool() };
    assert_eq!(agreed(&[], pool()).await.as_deref(), Some("http/1.1"));
    assert_eq!(agreed(&["istio"], pool()).await.as_deref(), Some("istio"));
    assert_eq!(agreed(&[], overridden()).await.as_deref(), Some("h2"));
    assert_eq!(agreed(&["istio"], overridden()).await.as_deref(), Some("h2"));
    assert_eq!(agreed(&[], ConnectOptions::default()).await, None);
}

/// What the server says to these bytes, and why it gives up.
async fn say(server: &Downstream, bytes: &[u8]) -> (Vec<u8>, String) {
    let (near, mut far) = duplex(64 << 10);
    far.write_all(bytes).await.unwrap();
    far.shutdown().await.unwrap();
    let refused = server.accept(raw(near), &connection()).await;
    let mut answer = Vec::new();
    let why = reason(refused);
    far.read_to_end(&mut answer).await.unwrap();
    (answer, why)
}

#[tokio::test]
async fn what_is_no_tls_is_refused() {
    let world = World::new();
    let server = world.server(common(&LeafBuilder::new(None).build()), false);
    let http = say(&server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(http.0, b"", "no alert for who speaks HTTP");
    assert_eq!(http.1, "TLS_error:|268435612:SSL routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end");
    let zeros = say(&server, &[0; 64]).await;
    assert_eq!(zeros.1, "TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end");
    assert_eq!(zeros.0.first(), Some(&21), "an alert");
    let short = say(&server, &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0]).await;
    assert_eq!(short.1, "TLS_error:|268435587:SSL routines:OPENSSL_internal:CLIENTHELLO_PARSE_FAILED:TLS_error_end");
    let ssl = world.ssl("listener.l");
    assert_eq!(ssl.read(SslStats::CONNECTION_ERROR), 3);
    for gone in [&b""[..], &[22, 3, 1, 0]] {
        assert_eq!(say(&server, gone).await, (Vec::new(), String::new()), "nobody is there to be told");
    }
    assert_eq!(ssl.read(SslStats::CONNECTION_ERROR), 3);
}

#[tokio::test]
async fn a_hello_may_come_in_any_pieces() {
    let ca = Ca::new("root");
    let world = World::new();
    let server = world.server(common(&ca.leaf().build()), false);
    let client = world.client(proto::CommonTlsContext::default());
    let (options, info) = (ConnectOptions::default(), connection());
    // Through a pipe of 7 bytes everything comes in pieces.
    let (near, far) = duplex(7);
    let (accepted, connected) = tokio::join!(server.accept(raw(near), &info), client.connect(raw(far), &options, ""));
    assert!(accepted.is_ok() && connected.is_ok());
    // What a listener filter has read already comes first.
    let (mut near, far) = duplex(64 << 10);
    let accept = async {
        let mut prefix = BytesMut::with_capacity(4096);
        near.read_buf(&mut prefix).await.unwrap();
        let mut io = raw(near);
        io.prefix = prefix;
        server.accept(io, &connection()).await.map(|_| ())
    };
    let (accepted, connected) = tokio::join!(accept, client.connect(raw(far), &options, ""));
    assert!(accepted.is_ok() && connected.is_ok());
}

#[tokio::test]
async fn an_idle_connection_is_not_ready_to_read() {
    let world = World::new();
    let server = world.server(common(&LeafBuilder::new(None).build()), false);
    let client = world.client(with_max_13(proto::CommonTlsContext::default()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, near) = tokio::join!(tokio::net::TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let tcp = |stream| RawIo::new(Socket::Tcp(stream));
    let (options, info) = (ConnectOptions::default(), connection());
    let (near, far) =
        tokio::join!(server.accept(tcp(near.unwrap().0), &info), client.connect(tcp(far.unwrap()), &options, ""));
    let (mut near, mut far) = (near.unwrap(), far.unwrap().0);
    let ready = |io: &Io| io.poll_read_ready(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready();
    near.write_all(b"abc").await.unwrap();
    near.flush().await.unwrap();
    std::future::poll_fn(|cx| far.poll_read_ready(cx)).await.unwrap();
    // Session tickets come first.
    assert_eq!(far.read_u8().await.unwrap(), b'a');
    assert!(ready(&far), "the rest is decrypted already");
    assert_eq!(far.read_u16().await.unwrap(), u16::from_be_bytes(*b"bc"));
    let mut nothing = [0; 8];
    let idle = std::future::poll_fn(|cx| {
        let mut buf = tokio::io::ReadBuf::new(&mut nothing);
        let read = std::pin::Pin::new(&mut far).poll_read(cx, &mut buf);
        std::task::Poll::Ready(read.is_pending() && !ready(&far))
    });
    assert!(idle.await);
    near.shutdown().await.unwrap();
    std::future::poll_fn(|cx| far.poll_read_ready(cx)).await.unwrap();
    assert_eq!(far.read(&mut nothing).await.unwrap(), 0);
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
    let discovered = proto::SdsSecretConfig { sds_config: Some(core::ConfigSource::default()), ..named("own") };
    let why = "the secret \"own\" needs a secret discovery service (SDS), which is not supported yet";
    assert_eq!(refused(discovered), format!("{at}.sds_config: {why}"));
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

#[test]
fn what_cannot_be_done_is_refused_with_its_path() {
    let ca = Ca::new("root");
    let leaf = ca.leaf().build();
    let world = World::new();
    let common_of = |change: &dyn Fn(&mut proto::CommonTlsContext)| {
        let mut context = common(&leaf);
        change(&mut context);
        let context = proto::DownstreamTlsContext { common_tls_context: Some(context), ..Default::default() };
        world.downstream(context).err().map(|reject| (reject.path.replace("t.typed_config.", ""), reject.why))
    };
    let path = |change: &dyn Fn(&mut proto::CommonTlsContext)| common_of(change).expect("refused").0;
    let validation = |change: &dyn Fn(&mut proto::CertificateValidationContext)| {
        path(&|common| {
            let mut context = trusting(&ca, &[]);
            change(&mut context);
            common.validation_context_type = Some(ValidationContextType::ValidationContext(context));
        })
    };
    assert_eq!(common_of(&|_| {}), None);
    assert_eq!(path(&|c| c.tls_certificates.clear()), "common_tls_context.tls_certificates");
    assert_eq!(
        path(&|c| c.tls_certificates[0].private_key = inline(&ca.leaf().build().key_pem)),
        "common_tls_context.tls_certificates[0].private_key"
    );
    assert_eq!(
        path(&|c| c.tls_certificates[0].certificate_chain = inline("x")),
        "common_tls_context.tls_certificates[0].certificate_chain"
    );
    assert_eq!(path(&|c| c.tls_certificates[0].pkcs12 = inline("x")), "common_tls_context.tls_certificates[0].pkcs12");
    assert_eq!(
        path(&|c| c.tls_certificates[0].ocsp_staple = inline("x")),
        "common_tls_context.tls_certificates[0].ocsp_staple"
    );
    assert_eq!(path(&|c| c.key_log = Some(Default::default())), "common_tls_context.key_log");
    assert_eq!(path(&|c| c.custom_handshaker = Some(Default::default())), "common_tls_context.custom_handshaker");
    assert_eq!(path(&|c| c.alpn_protocols = vec!["x".repeat(256)]), "common_tls_context.alpn_protocols");
    let params = |params: proto::TlsParameters| path(&|c| c.tls_params = Some(params.clone()));
    let tls11 = proto::tls_parameters::TlsProtocol::TlSv11.into();
    assert_eq!(
        params(proto::TlsParameters { tls_minimum_protocol_version: tls11, ..Default::default() }),
        "common_tls_context.tls_params.tls_minimum_protocol_version"
    );
    let cipher = proto::TlsParameters { cipher_suites: vec!["AES128-SHA".into()], ..Default::default() };
    assert_eq!(params(cipher), "common_tls_context.tls_params");
    let of_validation = "common_tls_context.validation_context";
    assert_eq!(validation(&|v| v.trusted_ca = inline("x")), format!("{of_validation}.trusted_ca"));
    assert_eq!(validation(&|v| v.crl = inline("x")), format!("{of_validation}.crl"));
    let hash = |v: &mut proto::CertificateValidationContext| v.verify_certificate_hash = vec!["zz".repeat(32)];
    assert_eq!(validation(&hash), format!("{of_validation}.verify_certificate_hash[0]"));
    let spki = |v: &mut proto::CertificateValidationContext| v.verify_certificate_spki = vec!["A".repeat(44)];
    assert_eq!(validation(&spki), format!("{of_validation}.verify_certificate_spki[0]"));
    let names = |v: &mut proto::CertificateValidationContext| {
        v.trusted_ca = None;
        v.match_typed_subject_alt_names = vec![uri_prefix("spiffe://")];
    };
    assert_eq!(validation(&names), of_validation);
    let sct = |v: &mut proto::CertificateValidationContext| v.require_signed_certificate_timestamp = Some(true);
    assert_eq!(validation(&sct), format!("{of_validation}.require_signed_certificate_timestamp"));

    let downstream = |change: &dyn Fn(&mut proto::DownstreamTlsContext)| {
        let mut context = proto::DownstreamTlsContext { common_tls_context: Some(common(&leaf)), ..Default::default() };
        change(&mut context);
        world.downstream(context).err().expect("refused").path.replace("t.typed_config.", "")
    };
    assert_eq!(downstream(&|d| d.require_sni = Some(true)), "require_sni");
    assert_eq!(downstream(&|d| d.require_client_certificate = Some(true)), "require_client_certificate");
    assert_eq!(downstream(&|d| d.ocsp_staple_policy = 2), "ocsp_staple_policy");
    let upstream = |context: proto::UpstreamTlsContext| {
        world.upstream(context).err().expect("refused").path.replace("t.typed_config.", "")
    };
    assert_eq!(
        upstream(proto::UpstreamTlsContext { allow_renegotiation: true, ..Default::default() }),
        "allow_renegotiation"
    );
    assert_eq!(upstream(proto::UpstreamTlsContext { sni: "a b".into(), ..Default::default() }), "sni");
    let two = proto::CommonTlsContext { tls_certificates: vec![certificate(&leaf); 2], ..Default::default() };
    let two = proto::UpstreamTlsContext { common_tls_context: Some(two), ..Default::default() };
    assert_eq!(upstream(two), "common_tls_context");
}

#[test]
fn digests_are_read_in_both_spellings() {
    let world = World::new();
    let colons = ["AB"; 32].join(":");
    for hash in ["ab".repeat(32), "AB".repeat(32), colons] {
        let context = proto::CertificateValidationContext { verify_certificate_hash: vec![hash], ..Default::default() };
        let common = validated(common(&LeafBuilder::new(None).build()), context);
        let context = proto::DownstreamTlsContext { common_tls_context: Some(common), ..Default::default() };
        assert!(world.downstream(context).is_ok());
    }
}

#[test]
fn a_raw_buffer_is_a_raw_buffer() {
    let world = World::new();
    let cx = TransportCx { build: &world.cx, scope: "listener.l" };
    let path = Path::root("t");
    let proto = xds_protos::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer::default();
    let socket_ = socket(&proto, "raw_buffer.v3.RawBuffer");
    assert!(matches!(Downstream::build(Some(&socket_), &path, cx), Ok(Downstream::Raw)));
    assert!(matches!(Upstream::build(Some(&socket_), &path, cx), Ok(Upstream::Raw)));
    assert!(matches!(Upstream::build(None, &path, cx), Ok(Upstream::Raw)));
    let unknown = socket(&proto, "alts.v3.Alts");
    let reject = Downstream::build(Some(&unknown), &path, cx).err().unwrap();
    assert!(reject.why.contains("envoy.transport_sockets.tls"), "{reject}");
}
