//! What is refused when a context is built.

use super::*;

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
