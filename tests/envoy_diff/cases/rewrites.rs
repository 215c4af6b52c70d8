use tests::config::cluster;

use super::{STATS, http};
use crate::group::{Group, Kind, get, plain, raw, request};

const ROUTES: &str = r#"
- { match: { prefix: /prefix/ }, route: { cluster: up, prefix_rewrite: /new/ } }
- { match: { path: /whole }, route: { cluster: up, prefix_rewrite: /new } }
- { match: { prefix: /root/ }, route: { cluster: up, prefix_rewrite: / } }
- { match: { path_separated_prefix: /separated }, route: { cluster: up, prefix_rewrite: /new } }
- { match: { prefix: /regex/ }, route: { cluster: up, regex_rewrite: { pattern: { regex: "^/regex/([^/]+)/([^/]+)" }, substitution: "/\\2/\\1" } } }
- { match: { prefix: /every-a/ }, route: { cluster: up, regex_rewrite: { pattern: { regex: "a" }, substitution: "b" } } }
- { match: { safe_regex: { regex: "/case/.*" } }, route: { cluster: up, regex_rewrite: { pattern: { regex: "(?i)/CASE/" }, substitution: "/" } } }
- { match: { prefix: /host/literal }, route: { cluster: up, host_rewrite_literal: other.test } }
- { match: { prefix: /host/header }, route: { cluster: up, host_rewrite_header: x-host } }
- { match: { prefix: /host/path }, route: { cluster: up, host_rewrite_path_regex: { pattern: { regex: "^/host/path/([^/]+).*" }, substitution: "\\1.test" } } }
- { match: { prefix: /host/forwarded }, route: { cluster: up, host_rewrite_literal: other.test, append_x_forwarded_host: true } }
- { match: { path_match_policy: { name: m, typed_config: { "@type": type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig, path_template: "/template/{a}/{b}" } } }, name: t, route: { cluster: up, path_rewrite_policy: { name: t, typed_config: { "@type": type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig, path_template_rewrite: "/x/{b}/{a}" } } } }
- { match: { prefix: /redirect/host }, redirect: { host_redirect: other.test } }
- { match: { prefix: /redirect/port }, redirect: { port_redirect: 8443 } }
- { match: { prefix: /redirect/path }, redirect: { path_redirect: /new } }
- { match: { prefix: /redirect/query }, redirect: { path_redirect: "/new?a=b" } }
- { match: { prefix: /redirect/https }, redirect: { https_redirect: true } }
- { match: { prefix: /redirect/scheme }, redirect: { scheme_redirect: ftp } }
- { match: { prefix: /redirect/https-port }, redirect: { https_redirect: true, port_redirect: 443 } }
- { match: { prefix: /redirect/prefix/ }, redirect: { prefix_rewrite: /new/ } }
- { match: { prefix: /redirect/regex/ }, redirect: { regex_rewrite: { pattern: { regex: "/redirect/regex/(.*)" }, substitution: "/new/\\1" } } }
- { match: { prefix: /redirect/strip }, redirect: { path_redirect: /new, strip_query: true } }
- { match: { prefix: /redirect/302 }, redirect: { path_redirect: /new, response_code: FOUND } }
- { match: { prefix: /redirect/303 }, redirect: { path_redirect: /new, response_code: SEE_OTHER } }
- { match: { prefix: /redirect/307 }, redirect: { path_redirect: /new, response_code: TEMPORARY_REDIRECT } }
- { match: { prefix: /redirect/308 }, redirect: { path_redirect: /new, response_code: PERMANENT_REDIRECT }, response_headers_to_add: [ { header: { key: x-a, value: b } } ] }
- { match: { prefix: /direct/empty }, direct_response: { status: 204 } }
- { match: { prefix: /direct/body }, direct_response: { status: 418, body: { inline_string: "short and stout" } } }
- { match: { prefix: /direct/bytes }, direct_response: { status: 200, body: { inline_bytes: "AAEC/w==" } } }
- { match: { prefix: /direct/typed }, direct_response: { status: 200, body: { inline_string: "{}" } }, response_headers_to_add: [ { header: { key: content-type, value: application/json }, append_action: OVERWRITE_IF_EXISTS_OR_ADD } ] }
- { match: { prefix: /direct/500 }, direct_response: { status: 500, body: { inline_string: "broken" } } }
"#;

pub fn group() -> Group {
    let targets = [
        "/prefix/",
        "/prefix/a/b?x=/prefix/",
        "/whole",
        "/whole?x",
        "/root/",
        "/root/a",
        "/root//a",
        "/separated",
        "/separated/a",
        "/separated?x",
        "/regex/one/two",
        "/regex/one/two/three?q=/regex/",
        "/regex/one",
        "/every-a/a/aa?a=a",
        "/case/x",
        "/host/literal",
        "/host/path/name/x?y",
        "/host/forwarded",
        "/redirect/host/x?y=z",
        "/redirect/port/x",
        "/redirect/path/x?y=z",
        "/redirect/query?y=z",
        "/redirect/https/x",
        "/redirect/scheme",
        "/redirect/https-port",
        "/redirect/prefix/x?y",
        "/redirect/regex/x?y",
        "/redirect/strip?y=z",
        "/redirect/302",
        "/redirect/303",
        "/redirect/307",
        "/redirect/308",
        "/template/1/2",
        "/direct/empty",
        "/direct/body",
        "/direct/bytes",
        "/direct/typed",
        "/direct/500",
        "/nothing-here",
    ];
    let mut cases: Vec<_> = targets.iter().map(|target| get(format!("get {target}"), target, &[])).collect();
    cases.push(get("host-header", "/host/header", &["x-host: other.test"]));
    cases.push(get("host-header-absent", "/host/header", &[]));
    cases.push(get("host-forwarded-there", "/host/forwarded", &["x-forwarded-host: first"]));
    cases.push(get("redirect-with-port", "/redirect/path", &["Host: a.test:8080"]));
    cases.push(get("redirect-host-with-port", "/redirect/host", &["Host: a.test:8080"]));
    cases.push(get("redirect-https-with-port", "/redirect/https", &["Host: a.test:80"]));
    cases.push(get("redirect-https-with-ipv6", "/redirect/https", &["Host: [::1]:80"]));
    cases.push(get("redirect-https-forwarded", "/redirect/https/x", &["x-forwarded-proto: https"]));
    cases.push(raw("redirect-of-post", request("POST", "/redirect/path", &[], "body")));
    cases.push(raw("direct-of-head", request("HEAD", "/direct/body", &[], "")));
    cases.push(raw("direct-of-post", request("POST", "/direct/body", &[], "body")));
    cases.push(raw("direct-of-grpc", request("POST", "/direct/body", &["content-type: application/grpc"], "body")));
    Group {
        name: "rewrites",
        config: http(ROUTES, "", &cluster("up", "{up:up}", "")),
        upstreams: vec![("up", Kind::Http1(plain))],
        cases,
        fields: &[],
        stats: STATS,
        logs: &["access.log"],
    }
}
