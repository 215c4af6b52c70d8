//! Finding the route of a request, the filter chain of a connection, and applying header mutations.

use std::hint::black_box;
use std::sync::Arc;

use benches::fixtures::{connection_info, get, message, process, stream_info};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use outrigger::config::Path;
use outrigger::filter_chain::{FilterChains, KnownChains};
use outrigger::formatter::HeaderMutations;
use outrigger::network::ListenerCx;
use outrigger::route::RouteTable;
use outrigger::stream_info::TrafficDirection;
use serde_json::{Value, json};
use xds_protos::envoy::config::listener::v3::Listener;
use xds_protos::envoy::config::route::v3::{Route, RouteConfiguration};

/// Domains as istiod writes them, with two routes each: an exact path, and the rest.
fn table(virtual_hosts: usize) -> Arc<RouteTable> {
    let reply = |status: u16| json!({"status": status});
    let host = |n: usize| {
        let short = format!("service-{n}.shop");
        json!({
            "name": format!("{short}:8080"),
            "domains": [format!("{short}.svc.cluster.local"), short, format!("{short}.svc"), format!("*.{n}.example.com")],
            "routes": [
                {"name": "health", "match": {"path": "/health"}, "direct_response": reply(204)},
                {"name": "rest", "match": {"prefix": "/"}, "direct_response": reply(200)},
            ],
        })
    };
    let hosts: Vec<Value> = (0..virtual_hosts).map(host).collect();
    let proto: RouteConfiguration = message(&json!({"name": "8080", "virtual_hosts": hosts}));
    RouteTable::build(&proto, &Path::root(""), &process(), false, &|_, _, _| Ok(None)).expect("a table")
}

fn route_match(c: &mut Criterion) {
    let mut group = c.benchmark_group("route match");
    for virtual_hosts in [1, 100, 10_000] {
        let table = table(virtual_hosts);
        let info = stream_info();
        let last = virtual_hosts - 1;
        for (kind, authority) in [
            ("exact", format!("service-{last}.shop.svc.cluster.local")),
            ("suffix", format!("www.{last}.example.com")),
            ("none", "nobody.example.org".to_owned()),
        ] {
            let head = get(&authority, "/catalogue?page=2");
            let found = table.find(&head, &info, 0).map(|found| found.entry().name.to_string());
            assert_eq!(found.as_deref(), (kind != "none").then_some("rest"), "{authority}");
            group.bench_function(BenchmarkId::new(kind, virtual_hosts), |b| {
                b.iter(|| table.find(black_box(&head), &info, 0).is_some());
            });
        }
    }
    group.finish();
}

/// Chains by port and address, as of a sidecar's inbound listener.
fn chains(count: usize) -> FilterChains {
    let chain = |n: usize| {
        let echo = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"});
        json!({
            "name": format!("chain-{n}"),
            "filter_chain_match": {
                "destination_port": 1000 + n % 50,
                "prefix_ranges": [{"address_prefix": format!("10.{}.{}.0", n / 250, n % 250), "prefix_len": 24}],
                "transport_protocol": "tls",
                "application_protocols": ["istio"],
            },
            "filters": [{"name": "envoy.filters.network.echo", "typed_config": echo}],
        })
    };
    let chains: Vec<Value> = (0..count).map(chain).collect();
    let listener: Listener = message(&json!({"name": "inbound", "filter_chains": chains}));
    let process = process();
    let name = Arc::from("inbound");
    let direction = TrafficDirection::Inbound;
    let cx = ListenerCx { build: &process, listener_name: &name, stat_scope: "listener.inbound", direction };
    FilterChains::build(&listener.filter_chains, None, &KnownChains::default(), &Path::root(""), &cx).expect("chains")
}

fn filter_chain_match(c: &mut Criterion) {
    let mut group = c.benchmark_group("filter-chain match");
    for count in [1, 100, 1000] {
        let chains = chains(count);
        let n = count - 1;
        let info = connection_info(&format!("10.{}.{}.9:{}", n / 250, n % 250, 1000 + n % 50), "10.9.9.9:40000");
        info.transport_protocol.set("tls");
        info.application_protocols.borrow_mut().push("istio".into());
        assert_eq!(chains.find(&info).map(|chain| chain.name.to_string()), Some(format!("chain-{n}")));
        group
            .bench_function(BenchmarkId::from_parameter(count), |b| b.iter(|| chains.find(black_box(&info)).is_some()));
    }
    group.finish();
}

fn header_mutation(c: &mut Criterion) {
    let add =
        |key: &str, value: &str, action: &str| json!({"header": {"key": key, "value": value}, "append_action": action});
    let route: Route = message(&json!({
        "request_headers_to_add": [
            add("x-tier", "gold", "OVERWRITE_IF_EXISTS_OR_ADD"),
            add("x-peer", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "APPEND_IF_EXISTS_OR_ADD"),
            add("x-asked", "%REQ(:PATH)%", "ADD_IF_ABSENT"),
        ],
        "request_headers_to_remove": ["cookie", "x-internal"],
    }));
    let (add, remove) = (Path::root("add"), Path::root("remove"));
    let mutations =
        HeaderMutations::build((&route.request_headers_to_add, &add), (&route.request_headers_to_remove, &remove));
    let mutations = mutations.expect("mutations");
    let info = stream_info();
    let head = get("shop.test", "/catalogue");
    let mut changed = head.clone();
    mutations.apply_to_request(&mut changed, &info);
    let value = |name: &str| changed.headers.get(name).map(|value| value.to_str().expect("text"));
    assert_eq!((value("x-tier"), value("x-peer")), (Some("gold"), Some("10.0.0.2")));
    assert_eq!((value("x-asked"), value("cookie")), (Some("/catalogue"), None));
    c.bench_function("header mutation/three added, two removed", |b| {
        b.iter_batched_ref(
            || head.clone(),
            |head| mutations.apply_to_request(head, &info),
            criterion::BatchSize::SmallInput,
        );
    });
}

criterion_group! {
    name = routing;
    config = Criterion::default().sample_size(30).measurement_time(std::time::Duration::from_secs(2));
    targets = route_match, filter_chain_match, header_mutation
}
criterion_main!(routing);
