use serde_json::{Value, json};
use xds_protos::envoy::admin::v3::server_info::State;

use super::fake::Fake;
use super::*;
use crate::config::matcher::StringMatcher;
use crate::stats::names::ServerStats;

mod over_the_wire;

fn ask(cx: &AdminContext, method: &Method, target: &str) -> (u16, &'static str, String) {
    let reply = respond(&Request::new(cx, method, target, ""));
    let body = match reply.content {
        Content::Whole(whole) => whole.to_vec(),
        Content::Pieces(pieces) => pieces.flatten().collect(),
    };
    (reply.status.as_u16(), reply.content_type, String::from_utf8(body).unwrap())
}

fn get(cx: &AdminContext, target: &str) -> (u16, String) {
    let (status, _, body) = ask(cx, &Method::GET, target);
    (status, body)
}

fn post(cx: &AdminContext, target: &str) -> (u16, String) {
    let (status, _, body) = ask(cx, &Method::POST, target);
    (status, body)
}

fn get_json(cx: &AdminContext, target: &str) -> Value {
    let (status, content_type, body) = ask(cx, &Method::GET, target);
    assert_eq!((status, content_type), (200, "application/json"), "{body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[test]
fn unknown_paths_and_wrong_methods() {
    let (cx, fake) = Fake::default().context();
    let (status, body) = get(&cx, "/nothing");
    assert_eq!(status, 404);
    assert!(body.starts_with("invalid path. admin commands are:\n  /: "), "{body}");
    assert_eq!(get(&cx, "/ready/").0, 404);
    assert_eq!(get(&cx, "/quitquitquit"), (405, "Method GET not allowed, POST required.".to_owned()));
    assert_eq!(ask(&cx, &Method::PUT, "/quitquitquit").2, "Method PUT not allowed, POST required.");
    assert_eq!(ask(&cx, &Method::DELETE, "/clusters").0, 200);
    assert!(fake.calls.lock().is_empty());
}

#[test]
fn only_allowed_paths_answer() {
    let (mut cx, _) = Fake::default().context();
    cx.allow_paths = vec![StringMatcher::exact("/ready"), StringMatcher::prefix("/stats")];
    assert_eq!(get(&cx, "/ready").0, 200);
    assert_eq!(get(&cx, "/stats/prometheus?usedonly").0, 200);
    assert_eq!(get(&cx, "/ready?x"), (403, "request to path /ready?x not allowed".to_owned()));
    assert_eq!(post(&cx, "/quitquitquit").0, 403);
}

#[test]
fn help_and_home_list_every_endpoint() {
    let (cx, _) = Fake::default().context();
    let (_, help) = get(&cx, "/help");
    let (_, content_type, home) = ask(&cx, &Method::GET, "/");
    assert_eq!(content_type, "text/html; charset=UTF-8");
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.path != "/") {
        let method = if endpoint.mutates { " (POST)" } else { "" };
        assert!(help.contains(&format!("\n  {}{method}: ", endpoint.path)), "{}", endpoint.path);
        assert!(home.contains(&format!("action=\"{}\"", endpoint.path)), "{}", endpoint.path);
        for param in endpoint.params {
            assert!(
                help.contains(&format!("\n      {}: ", param.id)) && home.contains(&format!("name=\"{}\"", param.id))
            );
        }
    }
    assert!(ENDPOINTS.iter().map(|endpoint| endpoint.path).is_sorted());
}

#[test]
fn ready_follows_the_state() {
    let (cx, fake) = Fake::default().context();
    assert_eq!(get(&cx, "/ready"), (200, "LIVE\n".to_owned()));
    assert_eq!(post(&cx, "/healthcheck/fail"), (200, "OK\n".to_owned()));
    assert_eq!(get(&cx, "/ready"), (503, "DRAINING\n".to_owned()));
    assert_eq!(post(&cx, "/healthcheck/ok"), (200, "OK\n".to_owned()));
    *fake.state.lock() = State::PreInitializing;
    assert_eq!(get(&cx, "/ready"), (503, "PRE_INITIALIZING\n".to_owned()));
    assert_eq!(*fake.calls.lock(), ["fail health check true", "fail health check false"]);
}

#[test]
fn commands_reach_the_server() {
    let (cx, fake) = Fake::default().context();
    for (target, call) in [
        ("/drain_listeners", "DrainListeners { inbound_only: false, graceful: false, skip_exit: false }"),
        (
            "/drain_listeners?inboundonly&graceful&skip_exit=x",
            "DrainListeners { inbound_only: true, graceful: true, skip_exit: true }",
        ),
        ("/quitquitquit", "quit"),
        ("/reopen_logs", "reopen logs"),
    ] {
        assert_eq!(post(&cx, target), (200, "OK\n".to_owned()), "{target}");
        assert_eq!(fake.calls.lock().pop().as_deref(), Some(call));
    }
    assert_eq!(get(&cx, "/hot_restart_version").1, "disabled");
    assert_eq!(get(&cx, "/contention").0, 200);
}

#[test]
fn server_info() {
    let (cx, _) = Fake::default().context();
    let info = get_json(&cx, "/server_info");
    assert_eq!(info["version"], "sha/1.40.0/Clean/RELEASE/x");
    assert_eq!(info["state"], "LIVE");
    assert_eq!(info["uptime_current_epoch"], "33s");
    assert_eq!(info["node"]["id"], "node-1");
    // Defaults are told: istioctl and Envoy's own tools expect the keys.
    assert_eq!(info["command_line_options"]["base_id"], "7");
    assert_eq!(info["command_line_options"]["mode"], "Serve");
    assert_eq!(info["command_line_options"]["disabled_extensions"], json!([]));
    assert_eq!(info["hot_restart_initializing"], false);
}

#[test]
fn clusters_as_text() {
    let (cx, _) = Fake::default().context();
    let expected = "\
b::observability_name::b;
b::outlier::success_rate_average::-1
b::outlier::success_rate_ejection_threshold::87.5
b::outlier::local_origin_success_rate_average::-1
b::outlier::local_origin_success_rate_ejection_threshold::-1
b::default_priority::max_connections::100
b::default_priority::max_pending_requests::1024
b::default_priority::max_requests::1024
b::default_priority::max_retries::3
b::high_priority::max_connections::1024
b::high_priority::max_pending_requests::1024
b::high_priority::max_requests::1024
b::high_priority::max_retries::3
b::added_via_api::true
b::eds_service_name::svc
b::127.0.0.1:8080::cx_active::2
b::127.0.0.1:8080::cx_connect_fail::0
b::127.0.0.1:8080::cx_total::5
b::127.0.0.1:8080::rq_active::0
b::127.0.0.1:8080::rq_error::0
b::127.0.0.1:8080::rq_pending_active::0
b::127.0.0.1:8080::rq_success::0
b::127.0.0.1:8080::rq_timeout::0
b::127.0.0.1:8080::rq_total::0
b::127.0.0.1:8080::hostname::h.example
b::127.0.0.1:8080::health_flags::/failed_active_hc/failed_outlier_check
b::127.0.0.1:8080::weight::3
b::127.0.0.1:8080::region::r
b::127.0.0.1:8080::zone::z
b::127.0.0.1:8080::sub_zone::
b::127.0.0.1:8080::canary::false
b::127.0.0.1:8080::priority::1
b::127.0.0.1:8080::success_rate::99.5
b::127.0.0.1:8080::local_origin_success_rate::-1
";
    assert_eq!(get(&cx, "/clusters?filter=^b$"), (200, expected.to_owned()));
    let (_, all) = get(&cx, "/clusters");
    assert!(all.starts_with("a::observability_name::a\n") && all.ends_with(expected), "{all}");
    assert!(all.contains("a::/run/x.sock::health_flags::healthy\n"), "{all}");
    let (status, why) = get(&cx, "/clusters?filter=((");
    assert!(status == 400 && why.starts_with("Invalid re2 regex"), "{why}");
}

#[test]
fn clusters_as_json() {
    let (cx, _) = Fake::default().context();
    let limits =
        |n: u32| json!({"max_connections": n, "max_pending_requests": 1024, "max_requests": 1024, "max_retries": 3});
    let mut high = limits(1024);
    high["priority"] = "HIGH".into();
    let expected = json!({"cluster_statuses": [{
        "name": "b",
        "added_via_api": true,
        "success_rate_ejection_threshold": {"value": 87.5},
        "host_statuses": [{
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8080}},
            "stats": [
                {"name": "cx_connect_fail"}, {"value": "5", "name": "cx_total"}, {"name": "rq_error"},
                {"name": "rq_success"}, {"name": "rq_timeout"}, {"name": "rq_total"},
                {"type": "GAUGE", "value": "2", "name": "cx_active"}, {"type": "GAUGE", "name": "rq_active"},
                {"type": "GAUGE", "name": "rq_pending_active"},
            ],
            "health_status": {
                "failed_active_health_check": true, "failed_outlier_check": true, "eds_health_status": "HEALTHY",
            },
            "success_rate": {"value": 99.5},
            "weight": 3,
            "hostname": "h.example",
            "priority": 1,
            "locality": {"region": "r", "zone": "z"},
        }],
        "circuit_breakers": {"thresholds": [limits(100), high]},
        "observability_name": "b;",
        "eds_service_name": "svc",
    }]});
    assert_eq!(get_json(&cx, "/clusters?format=json&filter=b"), expected);
    let pipe = &get_json(&cx, "/clusters?format=json&filter=a")["cluster_statuses"][0]["host_statuses"][0];
    assert_eq!(pipe["address"], json!({"pipe": {"path": "/run/x.sock"}}));
    assert_eq!(pipe["locality"], json!({}));
}

#[test]
fn listeners() {
    let (cx, _) = Fake::default().context();
    let text = "ingress::127.0.0.1:80\ningress::[::1]:80\npipe::/run/l.sock\n";
    assert_eq!(get(&cx, "/listeners"), (200, text.to_owned()));
    let address = |address: &str| json!({"socket_address": {"address": address, "port_value": 80}});
    let expected = json!({"listener_statuses": [
        {"name": "ingress", "local_address": address("127.0.0.1"), "additional_local_addresses": [address("::1")]},
        {"name": "pipe", "local_address": {"pipe": {"path": "/run/l.sock"}}},
    ]});
    assert_eq!(get_json(&cx, "/listeners?format=json"), expected);
}

#[test]
fn certificates_memory_and_init() {
    let (cx, _) = Fake::default().context();
    let certificates = get_json(&cx, "/certs");
    assert_eq!(certificates["certificates"][0]["ca_cert"], json!([]));
    assert_eq!(certificates["certificates"][0]["cert_chain"][0]["days_until_expiration"], "89");
    let memory = get_json(&cx, "/memory");
    for key in
        ["allocated", "heap_size", "pageheap_unmapped", "pageheap_free", "total_thread_cache", "total_physical_bytes"]
    {
        assert!(memory[key].is_string(), "{key}");
    }
    let all = get_json(&cx, "/init_dump");
    assert_eq!(all["unready_targets_dumps"][1], json!({"name": "cluster c1", "target_names": ["EDS c1", "SDS s"]}));
    let listeners = get_json(&cx, "/init_dump?mask=listener");
    assert_eq!(listeners["unready_targets_dumps"].as_array().map(Vec::len), Some(1));
}

#[test]
fn logging() {
    let (cx, fake) = Fake::default().context();
    let listing = "active loggers:\n  admin: info\n  http: debug\n\n";
    for (target, call) in [
        ("/logging", None),
        ("/logging?level=", None),
        ("/logging?http", None),
        ("/logging?level=trace", Some(vec!["all loggers trace"])),
        ("/logging?http=off", Some(vec!["logger http off"])),
        ("/logging?paths=http:debug,admin:trace", Some(vec!["logger http debug", "logger admin trace"])),
    ] {
        assert_eq!(post(&cx, target), (200, listing.to_owned()), "{target}");
        assert_eq!(std::mem::take(&mut *fake.calls.lock()), call.unwrap_or_default(), "{target}");
    }
    for (target, why) in [
        ("/logging?level=loud", "unknown logger level"),
        ("/logging?nobody=debug", "unknown logger name"),
        ("/logging?paths=http:debug,nobody:debug", "unknown logger name"),
        ("/logging?paths=http", "empty logger name or empty logger level"),
        ("/logging?level=info&http=debug", "invalid number of parameters"),
    ] {
        let (status, body) = post(&cx, target);
        assert_eq!(status, 400);
        assert!(body.starts_with(&format!("error: {why}\n\nusage: ")) && body.ends_with(listing), "{target}: {body}");
        assert!(fake.calls.lock().is_empty(), "{target}");
    }
    assert_eq!(get(&cx, "/logging").0, 405);
}

#[test]
fn the_log_of_the_process_has_envoys_loggers() {
    let loggers = ProcessLog.loggers();
    assert!(loggers.iter().any(|(name, _)| name == "router") && loggers.len() > 60);
    assert_eq!(ProcessLog.levels(), ["trace", "debug", "info", "warning", "error", "critical", "off"]);
    // A logger that no statement of this crate belongs to.
    ProcessLog.set("kafka", "error");
    assert!(ProcessLog.loggers().contains(&("kafka".to_owned(), "error".to_owned())));
}

#[test]
fn runtime() {
    let (cx, fake) = Fake::default().context();
    let expected = json!({
        "entries": {
            "a.b": {"layer_values": ["1", ""], "final_value": "1"},
            "c.d": {"layer_values": ["", "x\"x"], "final_value": "x\"x"},
        },
        "layers": ["static", "admin"],
    });
    assert_eq!(get_json(&cx, "/runtime"), expected);
    assert_eq!(post(&cx, "/runtime_modify?a=b"), (503, "No admin layer specified".to_owned()));
    fake.calls.lock().clear();
    drop((cx, fake));

    let (cx, fake) = Fake { has_admin_layer: true, ..Fake::default() }.context();
    assert_eq!(post(&cx, "/runtime_modify?a=b&c="), (200, "OK\n".to_owned()));
    assert_eq!(*fake.calls.lock(), [r#"runtime [("a", "b"), ("c", "")]"#]);
    let form = respond(&Request::new(&cx, &Method::POST, "/runtime_modify", "x=y%20z"));
    assert_eq!(form.status, 200);
    assert_eq!(fake.calls.lock().last().map(String::as_str), Some(r#"runtime [("x", "y z")]"#));
    assert_eq!(post(&cx, "/runtime_modify").0, 400);
}

#[test]
fn stats_in_all_formats() {
    let (cx, fake) = Fake::default().context();
    let server = cx.stats.block::<ServerStats>("server");
    server.set(ServerStats::LIVE, 1);
    server.inc(ServerStats::WIP_PROTOS);
    server.record(ServerStats::INITIALIZATION_TIME_MS, 18);
    assert_eq!(get(&cx, "/stats?filter=^server.live"), (200, "server.live: 1\n".to_owned()));
    assert_eq!(std::mem::take(&mut *fake.calls.lock()), ["refresh stats"]);
    assert_eq!(get(&cx, "/stats?usedonly&type=Counters"), (200, "server.wip_protos: 1\n".to_owned()));
    assert_eq!(get(&cx, "/stats?usedonly&filter=live&invert_filter&type=Gauges"), (200, String::new()));
    assert_eq!(
        get_json(&cx, "/stats?format=json&filter=live"),
        json!({"stats": [{"name": "server.live", "value": 1}]})
    );
    let (_, prometheus) = get(&cx, "/stats/prometheus?usedonly&type=Gauges");
    assert!(
        prometheus.starts_with("# TYPE envoy_server_wip_protos counter\nenvoy_server_wip_protos{} 1\n"),
        "{prometheus}"
    );
    assert!(prometheus.contains("envoy_server_initialization_time_ms_bucket{le=\"25\"} 1\n"), "{prometheus}");
    assert_eq!(get(&cx, "/stats?format=prometheus&usedonly").1, prometheus);
    let (_, summary) = get(&cx, "/stats/prometheus?usedonly&histogram_buckets=summary");
    assert!(summary.contains("# TYPE envoy_server_initialization_time_ms summary\n"), "{summary}");
    let (_, detailed) = get(&cx, "/stats?filter=initialization&histogram_buckets=detailed");
    assert!(detailed.starts_with("server.initialization_time_ms:\n  totals=18,1:1\n"), "{detailed}");
    let (_, content_type, html) = ask(&cx, &Method::GET, "/stats?format=html&filter=l<i|ve");
    assert!(content_type == "text/html; charset=UTF-8" && html.contains("value=\"l&lt;i|ve\""), "{html}");
    assert!(html.contains("\nserver.live: 1\n"), "{html}");

    assert_eq!(post(&cx, "/reset_counters"), (200, "OK\n".to_owned()));
    assert_eq!(server.read(ServerStats::WIP_PROTOS), 0);
    assert_eq!(server.read_gauge(ServerStats::LIVE), 1);
}

#[test]
fn bad_parameters_of_stats() {
    let (cx, _) = Fake::default().context();
    for (target, why) in [
        ("/stats?format=x", "usage: /stats?format=(html|active-html|json|prometheus|text)"),
        ("/stats?type=x", "invalid &type= param"),
        ("/stats?histogram_buckets=x", "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|"),
        ("/stats?filter=((", "Invalid re2 regex: "),
        ("/stats?hidden=x", "usage: /stats?hidden=(include|only|exclude)"),
        ("/stats/prometheus?histogram_buckets=disjoint", "unsupported prometheus histogram bucket mode"),
        ("/stats/prometheus?histogram_buckets=prometheusnative", "unsupported prometheusnative histogram type"),
        ("/stats/prometheus?filter=((", "Invalid re2 regex: "),
    ] {
        let (status, body) = get(&cx, target);
        assert!(status == 400 && body.starts_with(why), "{target}: {body}");
    }
}

fn types(dump: &Value) -> Vec<&str> {
    let configs = dump["configs"].as_array().unwrap().iter();
    configs.map(|config| config["@type"].as_str().unwrap().rsplit('.').next().unwrap()).collect()
}

#[test]
fn config_dump() {
    let (cx, _) = Fake::default().context();
    let dump = get_json(&cx, "/config_dump");
    let names = ["Bootstrap", "Clusters", "Listeners", "ScopedRoutes", "Routes", "Secrets"];
    assert_eq!(types(&dump), names.map(|name| format!("{name}ConfigDump")));
    let cluster = |name: &str| {
        let url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
        let cluster = json!({"@type": url, "name": name, "connect_timeout": "1s"});
        json!({"cluster": cluster, "last_updated": "2023-11-14T22:13:20.250Z"})
    };
    let expected = json!({
        "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
        "static_clusters": [cluster("c0"), cluster("c1")],
    });
    assert_eq!(dump["configs"][1], expected);
    assert_eq!(dump["configs"][0]["bootstrap"]["node"]["id"], "node-1");
    assert_eq!(dump["configs"][0]["last_updated"], "2023-11-14T22:13:20.250Z");
    assert_eq!(dump["configs"][3], json!({"@type": "type.googleapis.com/envoy.admin.v3.ScopedRoutesConfigDump"}));
    let secret = &dump["configs"][5]["static_secrets"][0]["secret"]["tls_certificate"];
    assert_eq!(secret["certificate_chain"]["inline_string"], "PUBLIC");
    assert_eq!(secret["private_key"]["inline_string"], "[redacted]");
    // Indented as Envoy does, which makes dumps comparable with diff.
    let (_, text) = get(&cx, "/config_dump");
    let begin = "{\n \"configs\": [\n  {\n   \"@type\": \"type.googleapis.com/envoy.admin.v3.BootstrapConfigDump\",\n   \"bootstrap\": {\n    \"node\": {\n     \"id\": \"node-1\",\n";
    assert!(text.starts_with(begin) && text.ends_with("\n  }\n ]\n}\n"), "{text}");
    assert!(text.contains("\n   \"static_clusters\": [\n    {\n     \"cluster\": {\n      \"@type\": "), "{text}");
}

#[test]
fn dynamic_resources_in_the_dump() {
    let (cx, _) = Fake { dynamic: true, ..Fake::default() }.context();
    let dump = get_json(&cx, "/config_dump?include_eds");
    assert_eq!(types(&dump)[2], "EndpointsConfigDump");
    let clusters = &dump["configs"][1];
    assert_eq!(clusters["version_info"], "v1");
    let active = &clusters["dynamic_active_clusters"][0];
    assert_eq!((&active["version_info"], &active["cluster"]["name"]), (&json!("v1"), &json!("d0")));
    assert_eq!(active["client_status"], "ACKED");
    let listener = &dump["configs"][3]["dynamic_listeners"][0];
    assert_eq!(listener["name"], "l0");
    assert_eq!(listener["active_state"]["listener"]["name"], "l0");
    assert_eq!(listener["draining_state"]["version_info"], "v1");
    assert_eq!(listener["error_state"]["details"], "no");
    assert_eq!(listener["error_state"]["failed_configuration"]["name"], "l0");
    let endpoints = &dump["configs"][2];
    let dynamic = &endpoints["dynamic_endpoint_configs"][0]["endpoint_config"];
    let expected = json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": "svc",
        "endpoints": [{
            "locality": {"region": "r", "zone": "z"},
            "lb_endpoints": [{
                "endpoint": {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8080}},
                    "health_check_config": {},
                    "hostname": "h.example",
                },
                "health_status": "UNHEALTHY",
                "load_balancing_weight": 3,
            }],
            "priority": 1,
        }],
        "policy": {"overprovisioning_factor": 140},
    });
    assert_eq!(*dynamic, expected);
    assert_eq!(endpoints["static_endpoint_configs"][0]["endpoint_config"]["cluster_name"], "a");
}

#[test]
fn parts_of_the_dump() {
    let (cx, _) = Fake { dynamic: true, ..Fake::default() }.context();
    let url = |name: &str| format!("type.googleapis.com/envoy.admin.v3.{name}");
    let cluster = |name: &str| {
        json!({
            "@type": url("ClustersConfigDump.StaticCluster"),
            "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": name},
        })
    };
    let masked = get_json(&cx, "/config_dump?resource=static_clusters&mask=cluster.name");
    assert_eq!(masked, json!({"configs": [cluster("c0"), cluster("c1")]}));
    let named = get_json(&cx, "/config_dump?resource=static_clusters&mask=cluster.name&name_regex=.*1");
    assert_eq!(named, json!({"configs": [cluster("c1")]}));
    let whole = get_json(&cx, "/config_dump?resource=dynamic_listeners");
    assert_eq!(whole["configs"][0]["@type"], url("ListenersConfigDump.DynamicListener"));
    assert_eq!(whole["configs"][0]["name"], "l0");
    assert_eq!(get_json(&cx, "/config_dump?resource=dynamic_warming_clusters"), json!({}));
    assert_eq!(get_json(&cx, "/config_dump?resource=static_clusters&name_regex=c"), json!({}));
    assert_eq!(types(&get_json(&cx, "/config_dump?name_regex=c1")).len(), 6);
    assert!(get_json(&cx, "/config_dump?name_regex=c1")["configs"][2].get("static_listeners").is_none());

    let node = get_json(&cx, "/config_dump?mask=bootstrap.node.id");
    let expected = json!({"@type": url("BootstrapConfigDump"), "bootstrap": {"node": {"id": "node-1"}}});
    assert_eq!(node, json!({"configs": [expected]}));
    let version = get_json(&cx, "/config_dump?mask=version_info");
    assert_eq!(types(&version), ["ClustersConfigDump", "ListenersConfigDump"]);

    for (target, status, why) in [
        ("?resource=nope", 404, "nope not found in config dump"),
        ("?resource=static_endpoint_configs", 404, "static_endpoint_configs not found in config dump"),
        ("?resource=bootstrap", 400, "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field"),
        ("?mask=nope", 400, "FieldMask nope could not be successfully applied to any configs."),
        ("?mask=static_clusters.cluster.name", 400, "FieldMask static_clusters.cluster.name could not be"),
        ("?mask=bootstrap.node.id,static_clusters", 400, "FieldMask bootstrap.node.id,static_clusters could not be"),
        ("?resource=static_clusters&mask=nope", 400, "FieldMask nope could not be successfully used."),
        (
            "?resource=static_clusters&mask=cluster.nope",
            400,
            "FieldMask cluster.(nope) could not be successfully used.",
        ),
        ("?name_regex=((", 400, "Error while parsing name_regex"),
    ] {
        let (got, content_type, body) = ask(&cx, &Method::GET, &format!("/config_dump{target}"));
        assert_eq!((got, content_type), (status, "text/plain"), "{target}");
        assert!(body.starts_with(why), "{target}: {body}");
    }
}

#[test]
fn unsupported() {
    let (cx, _) = Fake::default().context();
    assert_eq!(get(&cx, "/unsupported").1, "m.A.g: 2 (sizes a table)\nm.B.f: 1 (sizes a table)\n");
    let first = json!({"message": "m.A", "field": "g", "count": 2, "reason": "sizes a table"});
    assert_eq!(get_json(&cx, "/unsupported?format=json")["ignored"][0], first);
}

#[test]
fn profilers_are_refused_as_by_a_build_without_them() {
    let (cx, _) = Fake::default().context();
    assert_eq!(post(&cx, "/cpuprofiler?enable=y"), (500, "failure to start the profiler".to_owned()));
    assert_eq!(post(&cx, "/cpuprofiler?enable=n"), (200, "OK\n".to_owned()));
    assert_eq!(post(&cx, "/cpuprofiler").0, 400);
    for path in ["/heapprofiler?enable=y", "/allocprofiler"] {
        assert_eq!(post(&cx, path).0, 501, "{path}");
        assert_eq!(get(&cx, path).0, 405, "{path}");
    }
    assert_eq!(get(&cx, "/heap_dump").0, 501);
}

#[test]
fn recent_lookups() {
    let (cx, _) = Fake::default().context();
    assert!(get(&cx, "/stats/recentlookups").1.starts_with("Lookup tracking is not enabled."));
    assert_eq!(post(&cx, "/stats/recentlookups/enable"), (200, "OK\n".to_owned()));
    let _block = cx.stats.block::<crate::stats::names::ServerStats>("some.scope");
    post(&cx, "/stats/recentlookups/clear");
    for scope in ["a", "b", "b"] {
        cx.stats.block::<crate::stats::names::ServerStats>(scope);
    }
    let text = "   Count Lookup\n       2 b\n       1 a\n\ntotal: 3\n";
    assert_eq!(get(&cx, "/stats/recentlookups"), (200, text.to_owned()));
    post(&cx, "/reset_counters");
    assert!(get(&cx, "/stats/recentlookups").1.ends_with("total: 0\n"));
    post(&cx, "/stats/recentlookups/disable");
    assert!(get(&cx, "/stats/recentlookups").1.starts_with("Lookup tracking is not enabled."));
}
