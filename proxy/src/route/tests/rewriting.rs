use super::*;

/// What the request becomes: host, path, and the headers that say what they were.
fn forwarded(table: &Arc<RouteTable>, mut head: RequestHead, keep_originals: bool) -> [String; 5] {
    let found = table.find(&head, &info(), 0).unwrap();
    found.finalize_request_headers(&mut head, &info(), keep_originals);
    let value = |name| values(&head.headers, name);
    [
        head.authority.to_string(),
        head.path.to_string(),
        value("x-envoy-original-host"),
        value("x-forwarded-host"),
        value("x-envoy-original-path"),
    ]
}

#[test]
fn paths_are_rewritten_without_their_query() {
    let table = routes(
        r#"
- {match: {prefix: /p/}, route: {cluster: c, prefix_rewrite: /}}
- {match: {prefix: /CI, case_sensitive: false}, route: {cluster: c, prefix_rewrite: /new}}
- {match: {path: /exact}, route: {cluster: c, prefix_rewrite: /other}}
- {match: {path_separated_prefix: /sep}, route: {cluster: c, prefix_rewrite: /}}
- {match: {safe_regex: {regex: '/re.*'}}, route: {cluster: c, prefix_rewrite: /whole}}
- {match: {prefix: /x}, route: {cluster: c, regex_rewrite: {pattern: {regex: '^/x/([^/]+)(/.*)$'}, substitution: '\2/i/\1'}}}
- match:
    path_match_policy:
      name: t
      typed_config: {'@type': type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: '/shop/{item}/{rest=**}'}
  route:
    cluster: c
    path_rewrite_policy:
      name: t
      typed_config: {'@type': type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig, path_template_rewrite: '/v2/{rest}/of/{item}'}
- {match: {prefix: /}, route: {cluster: c}}"#,
    );
    for (path, want) in [
        ("/p/a?q=/p/", "/a?q=/p/"),
        ("/ci/a", "/new/a"),
        ("/exact?q", "/other?q"),
        ("/sep/a", "//a"),
        ("/sep?q", "/?q"),
        ("/re/a?q", "/whole?q"),
        ("/x/foo/bar?q=/x/a/b", "/bar/i/foo?q=/x/a/b"),
        ("/x/foo", "/x/foo"),
        ("/shop/shoes/a/b?q=1", "/v2/a/b/of/shoes?q=1"),
    ] {
        let [_, new, _, _, original] = forwarded(&table, get("a.test", path, &[]), true);
        assert_eq!((new.as_str(), original.as_str()), (want, path));
    }
    let [_, new, _, _, original] = forwarded(&table, get("a.test", "/other?q", &[]), true);
    assert_eq!((new.as_str(), original.as_str()), ("/other?q", ""), "a path that stays leaves no header");
    let [_, new, _, _, original] = forwarded(&table, get("a.test", "/exact", &[]), false);
    assert_eq!((new.as_str(), original.as_str()), ("/other", ""), "suppress_envoy_headers");
}

#[test]
fn hosts_are_rewritten() {
    let table = routes(
        r"
- {match: {prefix: /lit}, route: {cluster: c, host_rewrite_literal: new.test}}
- {match: {prefix: /xfh}, route: {cluster: c, host_rewrite_literal: new.test, append_x_forwarded_host: true}}
- {match: {prefix: /hdr}, route: {cluster: c, host_rewrite_header: x-host, append_x_forwarded_host: true}}
- {match: {prefix: /re}, route: {cluster: c, host_rewrite_path_regex: {pattern: {regex: '^/re/(.*)$'}, substitution: '\1.test'}}}
- {match: {prefix: /auto}, route: {cluster: c, auto_host_rewrite: true}}",
    );
    let case = |path: &str, headers: &[(&str, &str)]| {
        let [host, _, original, forwarded_host, _] = forwarded(&table, get("a.test", path, headers), true);
        format!("{host} {original} {forwarded_host}")
    };
    assert_eq!(case("/lit", &[]), "new.test a.test ");
    assert_eq!(case("/xfh", &[]), "new.test a.test a.test");
    assert_eq!(case("/xfh", &[("x-forwarded-host", "b.test")]), "new.test a.test b.test,a.test");
    assert_eq!(case("/xfh", &[("x-forwarded-host", "b.test,a.test")]), "new.test a.test b.test,a.test");
    assert_eq!(case("/hdr", &[]), "a.test  ");
    assert_eq!(case("/hdr", &[("x-host", "")]), "a.test  ");
    assert_eq!(case("/hdr", &[("x-host", "h.test"), ("x-host", "i.test")]), "h.test a.test a.test");
    assert_eq!(case("/re/foo?x", &[]), "foo.test a.test ");
    assert_eq!(case("/auto", &[]), "a.test  ");
    let [host, _, original, ..] = forwarded(&table, get("a.test", "/lit", &[]), false);
    assert_eq!((host.as_str(), original.as_str()), ("new.test", ""));
}

#[test]
fn headers_change_level_by_level() {
    let at = |level: &str, indent: usize| {
        let pad = " ".repeat(indent);
        ["request", "response"]
            .map(|side| {
                format!(
                    "{pad}{side}_headers_to_add:\n\
                 {pad}- {{header: {{key: x-o, value: {level}}}, append_action: OVERWRITE_IF_EXISTS_OR_ADD}}\n\
                 {pad}- {{header: {{key: x-a, value: {level}}}}}\n"
                )
            })
            .concat()
    };
    for (wins, order, last) in
        [("false", "weighted|route|vhost|table", "table"), ("true", "weighted|table|vhost|route", "route")]
    {
        let yaml = format!(
            "most_specific_header_mutations_wins: {wins}\n{}\
             virtual_hosts:\n- name: v\n  domains: ['*']\n{}\
             \x20 routes:\n  - match: {{prefix: /}}\n{}\
             \x20   route:\n      host_rewrite_literal: r.test\n      weighted_clusters:\n        clusters:\n\
             \x20       - name: c\n          weight: 1\n          host_rewrite_literal: w.test\n{}",
            at("table", 0),
            at("vhost", 2),
            at("route", 4),
            at("weighted", 10),
        );
        let table = table(&yaml);
        let mut head = get("a.test", "/", &[("x-o", "client")]);
        let found = table.find(&head, &info(), 0).unwrap();
        found.finalize_request_headers(&mut head, &info(), true);
        assert_eq!((values(&head.headers, "x-a"), values(&head.headers, "x-o")), (order.into(), last.into()));
        assert_eq!((&*head.authority, values(&head.headers, "x-envoy-original-host")), ("r.test", "w.test".into()));
        let mut response = ResponseHead::new(StatusCode::OK);
        found.finalize_response_headers(&mut response, &head, &info());
        assert_eq!((values(&response.headers, "x-a"), values(&response.headers, "x-o")), (order.into(), last.into()));
    }
}

#[test]
fn redirects_say_where_to() {
    let table = routes(
        r"
- {match: {prefix: /l}, redirect: {}}
- {match: {prefix: /m}, redirect: {https_redirect: true}}
- {match: {prefix: /n}, redirect: {prefix_rewrite: /zz}}
- {match: {prefix: /o}, redirect: {regex_rewrite: {pattern: {regex: '/o(.*)'}, substitution: '\1-x'}}}
- {match: {prefix: /p}, redirect: {regex_rewrite: {pattern: {regex: '/.*'}, substitution: ''}}}
- {match: {prefix: /q}, redirect: {path_redirect: /qq, port_redirect: 8080, response_code: SEE_OTHER}}
- {match: {prefix: /r}, redirect: {scheme_redirect: foo, host_redirect: h.test}}
- {match: {prefix: /s}, redirect: {path_redirect: '/y?own', strip_query: true}}
- {match: {prefix: /t}, redirect: {strip_query: true, response_code: PERMANENT_REDIRECT}}
- {match: {prefix: /u}, direct_response: {status: 302}}
- {match: {prefix: /v}, direct_response: {status: 201, body: {inline_string: made}}}
- {match: {prefix: /w}, direct_response: {status: 200}}",
    );
    for (host, path, want, original) in [
        ("a.test:80", "/l?q", "301 http://a.test:80/l?q", ""),
        ("a.test", "/m/x?q", "301 https://a.test/m/x?q", ""),
        ("a.test:80", "/m/x?q", "301 https://a.test/m/x?q", ""),
        ("a.test:81", "/m", "301 https://a.test:81/m", ""),
        ("[::1]:80", "/m", "301 https://[::1]/m", ""),
        ("[::1]", "/m", "301 https://[::1]/m", ""),
        ("a.test", "/n/x?q", "301 http://a.test/zz/x?q", "/n/x?q"),
        ("a.test", "/o/x?q", "301 http://a.test/x-x?q", "/o/x?q"),
        ("a.test", "/p/x?q", "301 http://a.test/p/x?q", ""),
        ("a.test:80", "/q/x?q", "303 http://a.test:8080/qq?q", ""),
        ("a.test:80", "/r/x?q", "301 foo://h.test/r/x?q", ""),
        ("a.test", "/s/x?q", "301 http://a.test/y?own", ""),
        ("a.test", "/t/x?q", "308 http://a.test/t/x", ""),
        ("a.test", "/u", "302 http://a.test/u", ""),
        ("a.test", "/v", "201 http://a.test/v", ""),
        ("a.test", "/w", "200 -", ""),
    ] {
        let mut head = get(host, path, &[]);
        let reply = table.find(&head, &info(), 0).unwrap().own_reply(&mut head, &mut info(), true).unwrap();
        let location = reply.location.as_deref().unwrap_or("-");
        assert_eq!(format!("{} {location}", reply.status.as_u16()), want);
        assert_eq!(values(&head.headers, "x-envoy-original-path"), original, "{path}");
    }
    let mut head = get("a.test", "/v", &[]);
    assert_eq!(table.find(&head, &info(), 0).unwrap().own_reply(&mut head, &mut info(), true).unwrap().body, "made");
    let forward = routes("- {match: {prefix: /}, route: {cluster: c}}");
    assert!(forward.find(&head, &info(), 0).unwrap().own_reply(&mut head, &mut info(), true).is_none());
}

#[test]
fn formats_make_paths_hosts_and_bodies() {
    let table = routes(
        "
- {match: {prefix: /a}, route: {cluster: c, path_rewrite: '/x%REQ(a)%'}}
- {match: {prefix: /b}, route: {cluster: c, path_rewrite: '/x?z=1'}}
- {match: {prefix: /c}, route: {cluster: c, path_rewrite: '%REQ(a)%'}}
- {match: {prefix: /d}, route: {cluster: c, host_rewrite: 'h%REQ(a)%', append_x_forwarded_host: true}}
- {match: {prefix: /e}, route: {cluster: c, host_rewrite: '%REQ(a)%'}}
- {match: {prefix: /f}, redirect: {path_rewrite: '/x%REQ(a)%'}}
- {match: {prefix: /g}, redirect: {path_rewrite: '/x%REQ(a)%?z'}}
- {match: {prefix: /h}, redirect: {path_rewrite: '/x%REQ(a)%', strip_query: true}}
- {match: {prefix: /j}, redirect: {path_rewrite: '%REQ(a)%'}}",
    );
    for (path, header, want) in [
        ("/a/b?q=1", "", "a.test /x?q=1 -  /a/b?q=1"),
        ("/a/b?q=1", "/v", "a.test /x/v?q=1 -  /a/b?q=1"),
        ("/b/x?q=1", "", "a.test /x?z=1?q=1 -  /b/x?q=1"),
        ("/c/x?q=1", "", "a.test /c/x?q=1 -  "),
        ("/d", "zz", "hzz /d a.test a.test "),
        ("/e", "", "a.test /e -  "),
    ] {
        let [host, path, original_host, forwarded_host, original_path] =
            forwarded(&table, get("a.test", path, &[("a", header)]), true);
        let original_host = if original_host.is_empty() { "-" } else { &original_host };
        assert_eq!(format!("{host} {path} {original_host} {forwarded_host} {original_path}"), want);
    }
    let [host, ..] = forwarded(&table, get("a.test", "/e", &[]), true);
    assert_eq!(host, "-", "as in Envoy, a missing value is a dash in a host");
    for (path, headers, want) in [
        ("/f/x?q", &[("a", "1")][..], "http://a.test/x1?q"),
        ("/g/x?q", &[("a", "1")], "http://a.test/x1?z"),
        ("/h/x?q", &[("a", "1")], "http://a.test/x1"),
        ("/j/x?q", &[], "http://a.test/j/x?q"),
    ] {
        let mut head = get("a.test", path, headers);
        let reply = table.find(&head, &info(), 0).unwrap().own_reply(&mut head, &mut info(), true).unwrap();
        assert_eq!((reply.location.as_deref(), &*head.path), (Some(want), path));
    }
}

#[test]
fn a_direct_response_may_be_formatted() {
    let table = routes(
        "
- {match: {prefix: /i}, direct_response: {status: 200, body: {inline_string: 'x%PROTOCOL%'}, body_format: {text_format_source: {inline_string: 'b%PROTOCOL%|%LOCAL_REPLY_BODY%|%REQ(none)%|%RESPONSE_CODE%'}, content_type: 'a/b'}}}
- {match: {prefix: /j}, direct_response: {status: 200, body_format: {json_format: {a: '%PROTOCOL%'}}}}",
    );
    for (path, body, content_type) in
        [("/i", "bHTTP/1.1|x%PROTOCOL%|-|0", "a/b"), ("/j", "{\"a\":\"HTTP/1.1\"}\n", "application/json")]
    {
        let mut head = get("a.test", path, &[]);
        let reply = table.find(&head, &info(), 0).unwrap().own_reply(&mut head, &mut info(), true).unwrap();
        assert_eq!((reply.body, reply.content_type.unwrap()), (body.into(), content_type.parse().unwrap()));
    }
}
