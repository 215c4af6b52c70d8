use proptest::prelude::*;

use super::*;

#[test]
fn paths() {
    let yaml = "
virtual_hosts:
- name: v
  domains: ['*']
  routes:
  - {match: {path: /exact}, direct_response: {status: 201}}
  - {match: {path: /Case, case_sensitive: false}, direct_response: {status: 202}}
  - {match: {path_separated_prefix: /psp}, direct_response: {status: 203}}
  - {match: {prefix: /pre/}, direct_response: {status: 224}}
  - {match: {safe_regex: {regex: '/re[0-9]'}}, direct_response: {status: 225}}
  - {match: {prefix: /CI, case_sensitive: false}, direct_response: {status: 206}}
  - {match: {prefix: '/q?a'}, direct_response: {status: 207}}
  - {match: {path: '/q2?a'}, direct_response: {status: 208}}
";
    let (plain, ignoring) = (table(yaml), table(&format!("ignore_path_parameters_in_path_matching: true\n{yaml}")));
    for (path, want, want_ignoring) in [
        ("/exact", 201, 201),
        ("/exact?x", 201, 201),
        ("/exact;x?y", 404, 201),
        ("/CASE", 202, 202),
        ("/case?q", 202, 202),
        ("/psp", 203, 203),
        ("/psp/", 203, 203),
        ("/psp/x", 203, 203),
        ("/pspx", 404, 404),
        ("/psp?x", 203, 203),
        ("/psp;a", 404, 203),
        ("/psp;a/b", 404, 203),
        ("/pre", 404, 404),
        ("/pre/", 224, 224),
        ("/pre/x;y", 224, 224),
        ("/re1", 225, 225),
        ("/re1?x", 225, 225),
        ("/re1;a", 404, 225),
        ("/re12", 404, 404),
        ("/ci/x", 206, 206),
        ("/q?a", 404, 404),
        ("/q2?a", 404, 404),
    ] {
        assert_eq!(status(&plain, &get("a.test", path, &[])), want, "{path}");
        assert_eq!(status(&ignoring, &get("a.test", path, &[])), want_ignoring, "ignoring {path}");
    }
}

#[test]
fn query_parameters_and_cookies() {
    let table = routes(
        "
- {match: {prefix: /ck, cookies: [{name: a, string_match: {exact: b}}]}, direct_response: {status: 229}}
- {match: {prefix: /ck, cookies: [{name: z, string_match: {exact: b}, invert_match: true}]}, direct_response: {status: 210}}
- {match: {prefix: /qp, query_parameters: [{name: a, string_match: {exact: b}}]}, direct_response: {status: 211}}
- {match: {prefix: /qp, query_parameters: [{name: p}]}, direct_response: {status: 212}}
- {match: {prefix: /qp, query_parameters: [{name: 'n', present_match: false}]}, direct_response: {status: 213}}",
    );
    for (path, want) in [
        ("/qp?a=b", 211),
        ("/qp?a=c&a=b", 213),
        ("/qp?a=b&a=c", 211),
        ("/qp?p&n", 212),
        ("/qp?p=&n=1", 212),
        ("/qp", 213),
        ("/qp?n", 404),
        ("/qp?a=%62&n", 404),
        ("/qp?%61=b&n", 404),
        ("/qp?n&a=b;", 404),
        ("/qp?n&&a=b", 211),
        ("/qp?n?a=b", 213),
        ("/qp?n&a=b?", 404),
        ("/qp?n&=&p", 212),
    ] {
        assert_eq!(status(&table, &get("a.test", path, &[])), want, "{path}");
    }
    for (cookie, want) in [
        ("a=b", 229),
        ("x=y; a=b", 229),
        ("a=\"b\"", 229),
        ("a=c; a=b", 210),
        ("a=b; a=c", 229),
        ("z=b", 404),
        ("z=c", 210),
        ("a = b", 210),
        ("z=b;a=b", 229),
    ] {
        assert_eq!(status(&table, &get("a.test", "/ck", &[("cookie", cookie)])), want, "{cookie}");
    }
    assert_eq!(status(&table, &get("a.test", "/ck", &[("cookie", "q=1"), ("cookie", "a=b")])), 229);
    assert_eq!(status(&table, &get("a.test", "/ck", &[])), 210);
}

#[test]
fn pseudo_headers_grpc_and_connect() {
    let table = routes(
        "
- {match: {connect_matcher: {}}, direct_response: {status: 201}}
- {match: {prefix: /, grpc: {}}, direct_response: {status: 202}}
- {match: {prefix: /, headers: [{name: ':method', string_match: {exact: PUT}}]}, direct_response: {status: 203}}
- {match: {prefix: /, headers: [{name: ':authority', string_match: {suffix: .org}}, {name: Host, present_match: true}]}, direct_response: {status: 206}}
- {match: {prefix: /, headers: [{name: ':scheme', string_match: {exact: https}}]}, direct_response: {status: 207}}
- {match: {prefix: /, headers: [{name: ':path', string_match: {suffix: x=1}}]}, direct_response: {status: 208}}
- {match: {prefix: /, headers: [{name: upgrade, string_match: {exact: websocket}}, {name: ':method', string_match: {exact: GET}}]}, direct_response: {status: 209}}
- {match: {prefix: /, headers: [{name: ':protocol', present_match: true}]}, direct_response: {status: 210}}",
    );
    let head = || get("a.test", "/", &[]);
    let with = |f: &dyn Fn(&mut RequestHead)| {
        let mut head = head();
        f(&mut head);
        status(&table, &head)
    };
    assert_eq!(status(&table, &head()), 404);
    assert_eq!(with(&|h| (h.method, h.path) = (Method::CONNECT, ByteStr::default())), 201);
    let websocket = |h: &mut RequestHead| h.upgrade = Some("websocket".into());
    assert_eq!(with(&websocket), 209);
    assert_eq!(with(&|h| (websocket(h), h.method = Method::CONNECT).1), 209, "an extended CONNECT is an upgrade");
    assert_eq!(with(&|h| h.method = Method::PUT), 203);
    assert_eq!(with(&|h| h.authority = "a.org".into()), 206);
    assert_eq!(with(&|h| h.scheme = Scheme::Https), 207);
    assert_eq!(status(&table, &get("a.test", "/?x=1", &[])), 208);
    for (content_type, want) in [
        ("application/grpc", 202),
        ("application/grpc+proto", 202),
        ("application/grpc-web", 404),
        ("application/grpc;x", 404),
        ("application/json", 404),
    ] {
        assert_eq!(status(&table, &get("a.test", "/", &[("content-type", content_type)])), want, "{content_type}");
    }
}

#[test]
fn no_path_matcher_but_connect_matches_a_request_without_a_path() {
    let table = routes(
        "- {match: {prefix: ''}, direct_response: {status: 201}}\n- {match: {safe_regex: {regex: '.*'}}, direct_response: {status: 202}}",
    );
    let mut head = get("a.test:443", "", &[]);
    head.method = Method::CONNECT;
    assert_eq!(status(&table, &head), 404);
}

#[test]
fn tls_context() {
    let table = routes(
        "
- {match: {prefix: /, tls_context: {validated: true}}, direct_response: {status: 201}}
- {match: {prefix: /, tls_context: {presented: true}}, direct_response: {status: 202}}
- {match: {prefix: /, tls_context: {presented: false}}, direct_response: {status: 203}}",
    );
    let status_with = |tls: Option<TlsInfo>| {
        let info = info();
        tls.into_iter().for_each(|tls| assert!(info.connection.tls.set(tls).is_ok()));
        let found = table.find(&get("a.test", "/", &[]), &info, 0).unwrap();
        let Action::DirectResponse(response) = found.action() else { panic!() };
        response.status.as_u16()
    };
    assert_eq!(status_with(None), 203);
    assert_eq!(status_with(Some(TlsInfo::default())), 203);
    assert_eq!(status_with(Some(TlsInfo { verified: true, ..TlsInfo::default() })), 203);
    let ca = rcgen::generate_simple_self_signed(["peer.test".to_owned()]).unwrap();
    let leaf = certs::CertInfo::parse(ca.cert.der()).unwrap();
    let peer = Arc::new(PeerCertificate { leaf, chain: vec![ca.cert.der().to_vec()] });
    assert_eq!(status_with(Some(TlsInfo { peer: Some(peer.clone()), ..TlsInfo::default() })), 202);
    assert_eq!(status_with(Some(TlsInfo { peer: Some(peer), verified: true, ..TlsInfo::default() })), 201);
}

#[test]
fn a_runtime_fraction_takes_its_part_of_the_random_values() {
    let table = routes(
        "
- {match: {prefix: /, runtime_fraction: {default_value: {numerator: 30}}}, direct_response: {status: 201}}
- {match: {prefix: /}, direct_response: {status: 202}}",
    );
    let head = get("a.test", "/", &[]);
    let of = |random| match table.find(&head, &info(), random).unwrap().action() {
        Action::DirectResponse(response) => response.status.as_u16(),
        _ => 0,
    };
    assert_eq!([of(0), of(29), of(30), of(99), of(129), of(130)], [201, 201, 202, 202, 201, 202]);
}

#[test]
fn the_host_with_or_without_its_port() {
    let yaml = "
virtual_hosts:
- {name: a, domains: [a.test, '[::1]'], routes: [{match: {prefix: /}, direct_response: {status: 201}}]}
- {name: b, domains: ['b.test:80', '*.c.test:80'], routes: [{match: {prefix: /}, direct_response: {status: 202}}]}
";
    let (exact, ignoring) = (table(yaml), table(&format!("ignore_port_in_host_matching: true\n{yaml}")));
    for (host, want, want_ignoring) in [
        ("a.test", 201, 201),
        ("A.Test:99", 404, 201),
        ("a.test:x", 404, 201),
        ("a.test:", 404, 201),
        ("[::1]", 201, 201),
        ("[::1]:80", 404, 201),
        ("b.test:80", 202, 404),
        ("b.test", 404, 404),
        ("x.c.test:80", 202, 404),
        ("a.test.", 404, 404),
        ("a.test:80:90", 404, 404),
    ] {
        assert_eq!(status(&exact, &get(host, "/", &[])), want, "{host}");
        assert_eq!(status(&ignoring, &get(host, "/", &[])), want_ignoring, "ignoring {host}");
    }
}

#[test]
fn a_header_instead_of_the_host() {
    let table = table(
        "
vhost_header: x-vh
ignore_port_in_host_matching: true
virtual_hosts:
- {name: a, domains: [a.test], routes: [{match: {prefix: /}, direct_response: {status: 201}}]}
- {name: b, domains: [b.test], routes: [{match: {prefix: /}, direct_response: {status: 202}}]}
- {name: c, domains: ['*'], routes: [{match: {prefix: /}, direct_response: {status: 203}}]}
",
    );
    assert_eq!(status(&table, &get("a.test", "/", &[])), 404);
    for (header, want) in [("b.test", 202), ("B.test:80", 202), ("", 203), ("zz", 203)] {
        assert_eq!(status(&table, &get("a.test", "/", &[("x-vh", header)])), want, "{header}");
    }
    assert_eq!(status(&table, &get("a.test", "/", &[("x-vh", "b.test"), ("x-vh", "a.test")])), 202);
}

#[test]
fn tls_is_required_of_all_or_of_those_from_outside() {
    let table = table(
        "
response_headers_to_add: [{header: {key: x-added, value: added}}]
virtual_hosts:
- {name: a, domains: [all.test], require_tls: ALL, routes: [{match: {prefix: /}, direct_response: {status: 201}}]}
- {name: b, domains: [external.test], require_tls: EXTERNAL_ONLY, routes: [{match: {prefix: /}, direct_response: {status: 201}}]}
",
    );
    let find = |host: &str, headers: &[(&str, &str)]| table.find(&get(host, "/x?q", headers), &info(), 0);
    assert!(find("all.test", &[("x-forwarded-proto", "")]).is_none());
    assert!(!find("all.test", &[("x-forwarded-proto", "https")]).unwrap().is_tls_redirect());
    let internal = ("x-envoy-internal", "true");
    assert!(find("all.test", &[internal]).unwrap().is_tls_redirect());
    assert!(!find("external.test", &[internal]).unwrap().is_tls_redirect());
    let found = find("external.test", &[]).unwrap();
    assert!(found.is_tls_redirect() && found.entry().name.is_empty());
    let reply = found.own_reply(&mut get("external.test:80", "/x?q", &[]), &mut info(), true).unwrap();
    assert_eq!(reply.status, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(reply.location.as_deref(), Some("https://external.test:80/x?q"));
    let mut head = ResponseHead::new(reply.status);
    found.finalize_response_headers(&mut head, &get("external.test", "/", &[]), &info());
    assert!(head.headers.is_empty(), "no route, no mutations");
}

fn weighted() -> Arc<RouteTable> {
    routes(
        "
- match: {prefix: /}
  route:
    weighted_clusters:
      header_name: x-rnd
      clusters:
      - {name: a, weight: 3}
      - {name: none, weight: 0}
      - {name: b, weight: 2}
      - {cluster_header: x-cluster, weight: 1}",
    )
}

fn cluster_name(found: &RouteMatch, head: &RequestHead, cx: &BuildCx) -> Option<String> {
    found.cluster(head, &cx.clusters).map(|slot| slot.name.to_string())
}

#[test]
fn weighted_clusters_share_the_random_values() {
    let table = weighted();
    let name = |head: &RequestHead, random| {
        let found = table.find(head, &info(), random).unwrap();
        match found.cluster_target().unwrap() {
            ClusterTarget::Cluster(slot) => slot.name.to_string(),
            ClusterTarget::Header(name) => name.to_string(),
        }
    };
    let head = get("a.test", "/", &[]);
    let picked: Vec<_> = (0..7).map(|random| name(&head, random)).collect();
    assert_eq!(picked, ["a", "a", "a", "b", "b", "x-cluster", "a"]);
    for (values, want) in [(&["3"][..], "b"), (&["9"], "b"), (&["x"], "a"), (&["3", "3"], "a"), (&[""], "a")] {
        let headers: Vec<_> = values.iter().map(|v| ("x-rnd", *v)).collect();
        assert_eq!(name(&get("a.test", "/", &headers), 0), want, "{values:?}");
    }
}

#[test]
fn a_header_names_a_cluster_that_must_exist() {
    let cx = cx();
    let table = build_with(
        &cx,
        "
virtual_hosts:
- name: v
  domains: ['*']
  routes:
  - {match: {prefix: /a}, route: {cluster: known}}
  - {match: {prefix: /}, route: {cluster_header: x-cluster}}",
    )
    .unwrap();
    let name = |headers: &[(&str, &str)]| {
        let head = get("a.test", "/", headers);
        cluster_name(&table.find(&head, &info(), 0).unwrap(), &head, &cx)
    };
    assert_eq!(name(&[("x-cluster", "known"), ("x-cluster", "other")]), Some("known".into()));
    assert_eq!(name(&[("x-cluster", "unknown")]), None);
    assert_eq!(name(&[]), None);
    assert!(cx.clusters.find("unknown").is_none(), "a request makes no slots");
}

#[test]
fn virtual_clusters_take_the_first_that_matches() {
    let table = table(
        "
virtual_hosts:
- name: v
  domains: ['*']
  virtual_clusters:
  - {name: puts, headers: [{name: ':method', string_match: {exact: PUT}}]}
  - {name: api, headers: [{name: ':path', string_match: {prefix: /api}}]}
",
    );
    let clusters = table.virtual_hosts[0].virtual_clusters.as_ref().unwrap();
    let mut head = get("a.test", "/api", &[]);
    assert_eq!(&*clusters.find(&head).name, "api");
    head.method = Method::PUT;
    assert_eq!(&*clusters.find(&head).name, "puts");
    let other = clusters.find(&get("a.test", "/", &[]));
    assert_eq!((&*other.name, other.stats.prefix()), ("other", "vhost.v.vcluster.other."));
}

#[test]
fn overrides_of_filters_by_specificity() {
    let table = table(
        "
typed_per_filter_config:
  f: {'@type': type.googleapis.com/google.protobuf.Duration, value: 1s}
  g: {'@type': type.googleapis.com/google.protobuf.Duration, value: 1s}
virtual_hosts:
- name: v
  domains: ['*']
  typed_per_filter_config:
    f: {'@type': type.googleapis.com/google.protobuf.BoolValue, value: true}
    off: {'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}
  routes:
  - match: {prefix: /a}
    direct_response: {status: 200}
    typed_per_filter_config:
      f: {'@type': type.googleapis.com/google.protobuf.StringValue, value: x}
      off: {'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {}}
      optional: {'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, is_optional: true, config: {'@type': type.googleapis.com/google.protobuf.Struct, value: {}}}
  - match: {prefix: /b}
    route:
      weighted_clusters:
        clusters:
        - name: c
          weight: 1
          typed_per_filter_config:
            f: {'@type': type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}
",
    );
    let find = |path| table.find(&get("a.test", path, &[]), &info(), 0).unwrap();
    let types = |found: &RouteMatch, filter: &str| {
        let configs = found.filter_configs(filter).map(|c| c.downcast_ref::<String>().unwrap().clone());
        configs.map(|url| url.rsplit('.').next().unwrap().to_owned()).collect::<Vec<_>>().join(",")
    };
    let a = find("/a");
    assert_eq!(types(&a, "f"), "StringValue,BoolValue,Duration");
    assert_eq!(types(&a, "g"), "Duration");
    assert_eq!((a.filter_disabled("f"), a.filter_disabled("off")), (Some(false), Some(false)));
    assert_eq!((a.filter_disabled("optional"), a.filter_disabled("none")), (None, None));
    let b = find("/b");
    assert_eq!((b.filter_disabled("f"), b.filter_disabled("off")), (Some(true), Some(true)));
    assert_eq!(types(&b, "f"), "BoolValue,Duration");
    assert!(b.filter_config("off").is_none());
}

#[test]
fn what_every_route_of_a_mesh_costs() {
    assert!(size_of::<RouteEntry>() <= 160, "{}", size_of::<RouteEntry>());
    assert!(size_of::<VirtualHost>() <= 128, "{}", size_of::<VirtualHost>());
    assert!(size_of::<RouteAction>() <= 320, "{}", size_of::<RouteAction>());
}

/// What a request gets, in the slowest way: each route in order, each part of its match in plain words.
fn slow(routes: &[(u8, String, Option<String>, bool)], path: &str, header: Option<&str>) -> Option<usize> {
    routes.iter().position(|(kind, text, want_header, case_sensitive)| {
        let only = path.split('?').next().unwrap();
        let fold = |s: &str| if *case_sensitive { s.to_owned() } else { s.to_lowercase() };
        let (only, text) = (fold(only), fold(text));
        let path_ok = match kind {
            0 => only.starts_with(&text),
            1 => only == text,
            _ => only == text || only.starts_with(&format!("{text}/")),
        };
        path_ok && want_header.as_deref().is_none_or(|want| header == Some(want))
    })
}

proptest! {
    #[test]
    fn the_first_route_that_matches(
        specs in prop::collection::vec((0u8..3, "/[abA]{1,2}(/[ab]{1,2})?", prop::option::of("[xy]"), any::<bool>()), 0..8),
        requests in prop::collection::vec(("/[abA]{0,3}(/[ab]{0,3})?(\\?[ab=]{0,3})?", prop::option::of("[xy]")), 1..12),
    ) {
        let mut yaml = String::from("- {match: {path: /never}, direct_response: {status: 200}}");
        for (kind, text, header, case_sensitive) in &specs {
            let key = ["prefix", "path", "path_separated_prefix"][*kind as usize];
            let header = header.as_ref().map_or(String::new(), |v| format!(", headers: [{{name: h, string_match: {{exact: '{v}'}}}}]"));
            yaml += &format!("\n- {{match: {{{key}: '{text}', case_sensitive: {case_sensitive}{header}}}, direct_response: {{status: 200}}}}");
        }
        let table = routes(&yaml);
        for (path, header) in requests {
            let headers: Vec<_> = header.iter().map(|v| ("h", v.as_str())).collect();
            let found = table.find(&get("a.test", &path, &headers), &info(), 0);
            let entries = &table.virtual_hosts[0].routes;
            let index = found.map(|found| entries.iter().position(|e| std::ptr::eq(e, found.entry())).unwrap() - 1);
            prop_assert_eq!(index, slow(&specs, &path, header.as_deref()), "{} {:?}", path, header);
        }
    }
}
