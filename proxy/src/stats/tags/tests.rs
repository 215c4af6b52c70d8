use super::*;

fn show(producer: &TagProducer, name: &str) -> String {
    let tagged = producer.produce(name);
    format!("{}{{{}}}", tagged.name, labels(&tagged.tags))
}

/// What a running Envoy 1.40 shows for these names.
#[test]
fn default_tags_are_envoys() {
    let all = TagProducer::with_defaults(|_| false);
    for (name, expected) in [
        ("server.live", "server.live{}"),
        ("cluster.a.upstream_rq_200", r#"cluster.upstream_rq{envoy_response_code="200",envoy_cluster_name="a"}"#),
        (
            "cluster.a.external.upstream_rq_2xx",
            r#"cluster.external.upstream_rq_xx{envoy_response_code_class="2",envoy_cluster_name="a"}"#,
        ),
        (
            "cluster.outbound|80||b.default.svc.cluster.local;.upstream_cx_total",
            r#"cluster.default.svc.cluster.local;.upstream_cx_total{envoy_cluster_name="outbound|80||b"}"#,
        ),
        (
            "cluster.tlsc.ssl.ciphers.ECDHE-RSA-AES128-GCM-SHA256",
            r#"cluster.ssl.ciphers{cipher_suite="ECDHE-RSA-AES128-GCM-SHA256",envoy_cluster_name="tlsc"}"#,
        ),
        ("cluster.tlsc.ssl.curves.X25519", r#"cluster.ssl.curves{envoy_ssl_curve="X25519",envoy_cluster_name="tlsc"}"#),
        (
            "cluster.tlsc.ssl.sigalgs.rsa_pss_rsae_sha256",
            r#"cluster.ssl.sigalgs{envoy_ssl_sigalg="rsa_pss_rsae_sha256",envoy_cluster_name="tlsc"}"#,
        ),
        (
            "listener.127.0.0.1_19443.ssl.versions.TLSv1.3",
            r#"listener.ssl.versions{envoy_ssl_version="TLSv1.3",envoy_listener_address="127.0.0.1_19443"}"#,
        ),
        (
            "listener.127.0.0.1_19443.ssl.ciphers.TLS_AES_256_GCM_SHA384",
            r#"listener.ssl.ciphers{envoy_ssl_cipher="TLS_AES_256_GCM_SHA384",envoy_listener_address="127.0.0.1_19443"}"#,
        ),
        (
            "listener.127.0.0.1_19443.ssl.certificate.default.expiration_unix_time_seconds",
            concat!(
                r#"listener.ssl.certificate.expiration_unix_time_seconds{envoy_tls_certificate="default","#,
                r#"envoy_listener_address="127.0.0.1_19443"}"#
            ),
        ),
        (
            "listener.[__]_15006.downstream_cx_total",
            r#"listener.downstream_cx_total{envoy_listener_address="[__]_15006"}"#,
        ),
        ("listener.sss.no_filter_chain_match", r#"listener.no_filter_chain_match{envoy_listener_address="sss"}"#),
        ("listener.admin.downstream_cx_total", "listener.admin.downstream_cx_total{}"),
        (
            "listener.admin.http.admin.downstream_rq_5xx",
            concat!(
                r#"listener.admin.http.downstream_rq_xx{envoy_response_code_class="5","#,
                r#"envoy_http_conn_manager_prefix="admin"}"#
            ),
        ),
        (
            "listener.127.0.0.1_19080.http.outbound_0.0.0.0_19080.downstream_rq_2xx",
            concat!(
                r#"listener.http.0.0.0_19080.downstream_rq_xx{envoy_response_code_class="2","#,
                r#"envoy_http_conn_manager_prefix="outbound_0",envoy_listener_address="127.0.0.1_19080"}"#
            ),
        ),
        (
            "listener.127.0.0.1_29080.worker_1.downstream_cx_total",
            r#"listener.worker_downstream_cx_total{envoy_worker_id="1",envoy_listener_address="127.0.0.1_29080"}"#,
        ),
        ("server.worker_0.watchdog_miss", r#"server.worker_watchdog_miss{envoy_worker_id="0"}"#),
        ("server.main_thread.watchdog_miss", "server.main_thread.watchdog_miss{}"),
        ("http.ing.rbac.allowed", r#"http.rbac.allowed{envoy_http_conn_manager_prefix="ing"}"#),
        ("netr.rbac.allowed", r#"rbac.allowed{envoy_rbac_prefix="netr"}"#),
        ("tcp.t.idle_timeout", r#"tcp.idle_timeout{envoy_tcp_prefix="t"}"#),
        (
            "vhost.vh.vcluster.other.upstream_rq_503",
            concat!(
                r#"vhost.vcluster.upstream_rq{envoy_response_code="503",envoy_virtual_cluster="other","#,
                r#"envoy_virtual_host="vh"}"#
            ),
        ),
        (
            "vhost.vh.route.rsp.upstream_rq_retry",
            r#"vhost.route.upstream_rq_retry{envoy_virtual_host="vh",envoy_route="rsp"}"#,
        ),
        (
            "http.ing.rds.a.b/c.update_success",
            r#"http.rds.update_success{envoy_rds_route_config="a.b/c",envoy_http_conn_manager_prefix="ing"}"#,
        ),
        ("sds.default.version", r#"sds.version{envoy_xds_resource_name="default"}"#),
    ] {
        assert_eq!(show(&all, name), expected);
    }
}

/// What istiod puts into its bootstrap.
#[test]
fn istios_tags() {
    let mut istio = TagProducer::default();
    for (tag, regex) in [
        ("cluster_name", r"^cluster(\.(.+);)"),
        ("http_conn_manager_prefix", r"^http\.(((?:[_.[:digit:]\w]*|[_\[\]aAbBcCdDeEfF[:digit:]\w\:]*));\.)"),
        ("thread_name", r"^server(\.(.+))\.watchdog"),
        ("tcp_prefix", r"^tcp\.((.*?)\.)\w+?$"),
        ("response_code", r"_rq(_(\d{3}))$"),
        ("response_code_class", r"_rq(_(\dxx))$"),
        (
            "http_conn_manager_listener_prefix",
            r"^listener(?=\.).*?\.http\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)",
        ),
        ("listener_address", r"^listener\.(((?:[_.[:digit:]]*|[_\[\]aAbBcCdDeEfF[:digit:]]*))\.)"),
        ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
        ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
    ] {
        istio.add(Extractor::regex(tag, regex).unwrap());
    }
    for (name, expected) in [
        (
            "cluster.outbound|80||b.default.svc.cluster.local;.upstream_rq_200",
            r#"cluster.upstream_rq{cluster_name="outbound|80||b.default.svc.cluster.local",response_code="200"}"#,
        ),
        (
            "cluster.outbound|80||b.default.svc.cluster.local;.upstream_rq_2xx",
            r#"cluster.upstream_rq{cluster_name="outbound|80||b.default.svc.cluster.local",response_code_class="2xx"}"#,
        ),
        (
            "http.outbound_0.0.0.0_80;.downstream_cx_total",
            r#"http.downstream_cx_total{http_conn_manager_prefix="outbound_0.0.0.0_80"}"#,
        ),
        ("server.main_thread.watchdog_miss", r#"server.watchdog_miss{thread_name="main_thread"}"#),
        ("listener.[__]_15006.downstream_cx_total", r#"listener.downstream_cx_total{listener_address="[__]_15006"}"#),
        (
            "listener.0.0.0.0_15006.http.0.0.0.0_80.downstream_rq_2xx",
            concat!(
                r#"listener.http.downstream_rq{response_code_class="2xx","#,
                r#"http_conn_manager_listener_prefix="0.0.0.0_80",listener_address="0.0.0.0_15006"}"#
            ),
        ),
        ("http.x;.rbac.allowed", r#"http.rbac{authz_enforce_result="allowed",http_conn_manager_prefix="x"}"#),
    ] {
        assert_eq!(show(&istio, name), expected);
    }
}

#[test]
fn the_first_extractor_of_a_tag_wins_and_fixed_values_stand_in_order() {
    let mut all = TagProducer::with_defaults(|_| false);
    all.add(Extractor::fixed("fixed", "a\"b\\c\nd"));
    all.add(Extractor::regex("envoy.cluster_name", r"^cluster\.[^.]+(\.(up))").unwrap());
    all.add(Extractor::regex("two", "(a)b").unwrap());
    all.add(Extractor::regex("opt", r"^cluster\.[a-z]+\.(zz)?(up)").unwrap());
    assert_eq!(
        show(&all, "cluster.a_b_c.upstream_rq_200"),
        r#"cluster.upstream_rq{envoy_response_code="200",fixed="a\"b\\c\nd",envoy_cluster_name="a_b_c"}"#
    );
    assert_eq!(
        show(&all, "cluster.abc.upstream_cx_total"),
        r#"cluster.upstream_cx_total{fixed="a\"b\\c\nd",two="a",envoy_cluster_name="abc",opt="up"}"#
    );
    let mut overridden = TagProducer::with_defaults(|tag| tag == "envoy.cluster_name");
    overridden.add(Extractor::regex("envoy.cluster_name", r"^cluster\.[^.]+(\.(up))").unwrap());
    assert_eq!(
        show(&overridden, "cluster.a.upstream_cx_total"),
        r#"cluster.astream_cx_total{envoy_cluster_name="up"}"#
    );
}

#[test]
fn expressions_of_ecmascript() {
    for (regex, name, expected) in [
        (r"^a\.([[&&~]x)\.", "a.[x.b", Some("[x")),
        (r"([^\d.]+)", "12.ab", Some("ab")),
        (r"([\D]+)\d", "ab1", Some("ab")),
        (r"(a)\1", "xaa", Some("a")),
        (r"a(?!b)(.)", "abac", Some("c")),
        (r"(\d)", "٣", None),
    ] {
        let found = EcmaRegex::new(regex).unwrap().find(name);
        assert_eq!(found.map(|f| &name[f.value]), expected, "{regex}");
    }
    for bad in ["(a", "a", r"a\", "(?<=a)(b)", "[]a](b)"] {
        assert!(EcmaRegex::new(bad).is_err(), "{bad}");
    }
}
