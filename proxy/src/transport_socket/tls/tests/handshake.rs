//! Handshakes between our own two ends.

use super::*;

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
        crate::transport_socket::tls::of_io_error(&error).unwrap(),
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

#[tokio::test]
async fn replicas_that_share_ticket_keys_resume_each_others_sessions() {
    use downstream_tls_context::SessionTicketKeysType::SessionTicketKeys;
    use proto::downstream_tls_context;
    let (ca, world) = (Ca::new("root"), World::new());
    let own = ca.leaf().dns("server.example").build();
    let replica = |key: u8| {
        let key =
            core::DataSource { watched_directory: None, specifier: Some(Specifier::InlineBytes(vec![key; 80].into())) };
        let context = proto::DownstreamTlsContext {
            common_tls_context: Some(common(&own)),
            session_ticket_keys_type: Some(SessionTicketKeys(proto::TlsSessionTicketKeys { keys: vec![key] })),
            ..Default::default()
        };
        world.downstream(context).unwrap()
    };
    let client = world.client(validated(proto::CommonTlsContext::default(), trusting(&ca, &[])));
    let resumed = async |server: &Downstream| {
        let (accepted, connected) = meet(server, &client).await;
        drop(accepted.unwrap());
        connected.unwrap().1.resumed
    };
    let (a, b, stranger) = (replica(1), replica(1), replica(2));
    assert!(!resumed(&a).await && resumed(&b).await && resumed(&a).await);
    assert!(!resumed(&stranger).await);
}
