use tests::config::cluster;

use super::http;
use crate::group::{Case, Group, Kind, View, admin, get, plain};

pub fn group() -> Group {
    let mut cases = vec![get("some traffic", "/x", &[]), get("some more", "/refused", &[])];
    let get_all: &[(&str, View)] = &[
        ("/ready", View::Whole),
        ("/nothing", View::Head),
        ("/", View::Head),
        ("/help", View::Head),
        ("/server_info", View::JsonPaths),
        ("/clusters", View::Lines('0')),
        ("/clusters?format=json", View::JsonPaths),
        ("/listeners", View::Whole),
        ("/listeners?format=json", View::Whole),
        ("/config_dump", View::JsonPaths),
        ("/config_dump?resource=static_clusters", View::JsonPaths),
        ("/config_dump?resource=nothing", View::Whole),
        ("/config_dump?mask=bootstrap.admin", View::JsonPaths),
        ("/config_dump?include_eds", View::JsonPaths),
        ("/config_dump?name_regex=up", View::JsonPaths),
        ("/certs", View::Whole),
        ("/stats?filter=^cluster.up.upstream_rq_(total|200|completed)$", View::Whole),
        ("/stats?filter=^cluster.up.upstream_rq_2&usedonly", View::Whole),
        ("/stats?usedonly&type=Gauges&filter=^cluster.up.membership", View::Whole),
        ("/stats?format=json&filter=^cluster.up.upstream_rq_total", View::Whole),
        ("/stats?format=json&filter=upstream_rq_time&histogram_buckets=summary", View::JsonPaths),
        ("/stats?filter=(", View::Head),
        ("/stats?format=nonsense", View::Whole),
        ("/stats/prometheus?filter=^cluster.up.upstream_rq_(total|xx|completed)", View::Whole),
        ("/stats/prometheus?filter=^cluster.up.upstream_rq_time", View::Lines(' ')),
        ("/stats?format=prometheus&filter=^cluster.up.upstream_cx_total", View::Whole),
        ("/stats/recentlookups", View::Head),
        ("/stats?filter=^server.(live|state|concurrency|hot_restart_epoch|parent_connections)$", View::Whole),
        ("/healthcheck/fail", View::Whole),
        ("/healthcheck/ok", View::Whole),
        ("/logging", View::Whole),
        ("/drain_listeners", View::Whole),
        ("/quitquitquit", View::Whole),
        ("/reset_counters", View::Whole),
        ("/runtime", View::JsonPaths),
        ("/memory", View::JsonPaths),
        ("/hot_restart_version", View::Head),
        ("/init_dump", View::Whole),
        ("/heap_dump", View::Head),
        ("/contention", View::Head),
    ];
    cases.extend(get_all.iter().map(|(path, view)| admin(format!("GET {path}"), "GET", path, *view)));
    let post: &[(&str, View)] = &[
        ("/healthcheck/fail", View::Whole),
        ("/logging?level=info", View::Head),
        ("/logging?nonsense=info", View::Head),
        ("/logging?http=nonsense", View::Head),
        ("/logging?level=warning", View::Head),
        ("/runtime_modify?a=b", View::Whole),
        ("/ready", View::Whole),
        ("/stats?filter=^cluster.up.upstream_rq_total", View::Whole),
    ];
    for (path, view) in post {
        cases.push(admin(format!("POST {path}"), "POST", path, *view));
        if *path == "/healthcheck/fail" {
            cases.push(admin("GET /ready while failing", "GET", "/ready", View::Whole));
            cases.push(admin("GET state while failing", "GET", "/stats?filter=^server.(live|state)$", View::Whole));
            cases.push(admin("POST /healthcheck/ok", "POST", "/healthcheck/ok", View::Whole));
            cases.push(admin("GET /ready after", "GET", "/ready", View::Whole));
        }
    }
    cases.push(admin("POST /reset_counters", "POST", "/reset_counters", View::Whole));
    cases.push(admin("GET after reset", "GET", "/stats?filter=^cluster.up.upstream_rq_total", View::Whole));
    let routes = "- { match: { prefix: /refused }, route: { cluster: refusing } }\n- { match: { prefix: / }, route: { cluster: up } }\n";
    let cases: Vec<Case> = cases;
    Group {
        name: "admin",
        config: http(routes, "", &(cluster("up", "{up:up}", "") + &cluster("refusing", "{up:refusing}", ""))),
        upstreams: vec![("up", Kind::Http1(plain)), ("refusing", Kind::Refusing)],
        cases,
        fields: &[],
        stats: &[],
        logs: &[],
    }
}
