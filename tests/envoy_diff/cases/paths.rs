use tests::config::{bootstrap, cluster};

use super::{STATS, http_listener};
use crate::group::{Group, Kind, get, plain};

/// Spellings of paths, most of them meant to get past a rule about `/admin`.
const PATHS: &[&str] = &[
    "/",
    "/a/b",
    "/a//b",
    "//a",
    "///a//",
    "/a/./b",
    "/a/../b",
    "/./admin",
    "/../admin",
    "/x/../admin",
    "/x/..//admin",
    "/a/..",
    "/a/.",
    "/..",
    "/.",
    "/a/b/../..",
    "/a/b/../../..",
    "/a/..b",
    "/a/...",
    "/%61dmin",
    "/ad%6Din",
    "/%2e/admin",
    "/x/%2e%2e/admin",
    "/x/%2E%2E/admin",
    "/x/.%2e/admin",
    "/x%2f..%2fadmin",
    "/..%2fadmin",
    "/x/%2E%2E%2Fadmin",
    "/x%2Fy",
    "/x%2fy",
    "/x%5cy",
    "/x%5Cy",
    "/%5cadmin",
    "/x%5c..%5cadmin",
    "/x\\..\\admin",
    "/\\admin",
    "/a\\b",
    "/x/..;/admin",
    "/x/..;a=b/admin",
    "/.;/admin",
    "/x;/../admin",
    "/;a/admin",
    "/admin;a=b",
    "/admin%2f",
    "/admin%20",
    "/admin%3fx",
    "/%2561dmin",
    "/x/%252e%252e/admin",
    "/%25",
    "/%2",
    "/%",
    "/%zz",
    "/%7e",
    "/%7E~",
    "/%41%5a%61%7a%30%39",
    "/%2d%5f%2E",
    "/ADMIN",
    "/a?b=/../c",
    "/a/../b?x=%2e%2e/y",
    "/a?%00",
    "/a%3F/../b",
    "/%23",
    "/a%00b",
    "/admin%00",
    "/%01",
    "/a%0d%0ab",
    "/a!$&'()*+,;=:@b",
    "/a|b",
    "/a^b",
    "/a`b",
    "/a{b}",
    "/a\"b",
    "/a<b>",
    "/[a]",
    "/a/%2F/b",
    "/a/%5C/../b",
    "/a%2f%2fb",
    "/%c3%a9",
    "/%C3%A9",
    "/%ff",
    "/%c0%af",
    "/a;b/../c",
    "/a/b;c=d/..",
    "/?",
    "/a?",
    "/a??b",
];

/// Ways to set up a connection manager.
const MODES: &[(&str, &str)] = &[
    ("none", ""),
    ("normalize", "normalize_path: true"),
    ("merge", "merge_slashes: true"),
    ("normalize-merge", "normalize_path: true\nmerge_slashes: true"),
    ("keep", "normalize_path: true\npath_with_escaped_slashes_action: KEEP_UNCHANGED"),
    ("reject", "normalize_path: true\npath_with_escaped_slashes_action: REJECT_REQUEST"),
    ("redirect", "normalize_path: true\nmerge_slashes: true\npath_with_escaped_slashes_action: UNESCAPE_AND_REDIRECT"),
    ("unescape", "normalize_path: true\nmerge_slashes: true\npath_with_escaped_slashes_action: UNESCAPE_AND_FORWARD"),
    ("unescape-only", "path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD"),
];

pub fn group() -> Group {
    let mut cases = Vec::new();
    for (mode, _) in MODES {
        for path in PATHS {
            cases.push(get(format!("{mode} {path}"), path, &[]).on(mode));
        }
        cases.push(get(format!("{mode} absolute"), "http://b.test//x/../admin", &[]).on(mode));
    }
    let routes = "- match: { prefix: /admin }\n  name: admin\n  direct_response: { status: 403 }\n- match: { prefix: / }\n  name: rest\n  route: { cluster: up }\n";
    let listeners: String =
        MODES.iter().map(|(name, fields)| http_listener(name, routes, &format!("{QUICK}{fields}"))).collect();
    Group {
        name: "paths",
        config: bootstrap(&(http_listener("main", routes, "") + &listeners), &cluster("up", "{up:up}", "")),
        upstreams: vec![("up", Kind::Http1(plain))],
        cases,
        fields: &["0.status", "0.instead", "0.header.location", "end", "*.line", "up.up.0.header.x-envoy*"],
        stats: STATS,
        logs: &["access.log"],
    }
}

const QUICK: &str = "delayed_close_timeout: 0.01s\n";
