//! From wire bytes to something that can serve: what one resource of a push costs.

use std::time::Duration;

use benches::fixtures::{message, process, wire};
use benches::load::config;
use benches::load::identities::Identities;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use outrigger::config::Path;
use outrigger::listener::Listener;
use outrigger::route::RouteTable;
use prost::Message;
use serde_json::Value;
use xds_protos::envoy::config::cluster::v3::Cluster;
use xds_protos::envoy::config::listener::v3 as listener;
use xds_protos::envoy::config::route::v3::RouteConfiguration;

const SERVICES: usize = 100;

fn resources(c: &mut Criterion) {
    let identities = Identities::new().expect("certificates");
    let mesh = config::mesh(SERVICES, &identities);
    let cluster = &mesh["static_resources"]["clusters"][0];
    let listener = &mesh["static_resources"]["listeners"][0];
    let routes = &listener["filter_chains"][0]["filters"][0]["typed_config"]["route_config"];
    let mut group = c.benchmark_group("decode and build");
    clusters(&mut group, cluster);
    route_tables(&mut group, routes);
    listeners(&mut group, &mesh);
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn clusters(group: &mut Group<'_>, cluster: &Value) {
    let bytes = wire::<Cluster>(cluster);
    let name = cluster["name"].as_str().expect("a name");
    let path = Path::root("");
    let build = |cx: &outrigger::config::BuildCx| {
        let proto = Cluster::decode(bytes.as_slice()).expect("a cluster");
        cx.clusters.add_or_update(&proto, &path, cx).expect("built")
    };
    let cx = process();
    assert!(build(&cx));
    let built = cx.clusters.find(name).and_then(|slot| slot.load()).expect("published");
    let mut hosts = 0;
    built.for_each_host(|_| hosts += 1);
    assert_eq!(hosts, 5);
    group.bench_function("cluster, mTLS, five endpoints", |b| {
        b.iter_batched_ref(process, |cx| build(cx), BatchSize::SmallInput);
    });
    group.bench_function("cluster, unchanged", |b| b.iter(|| build(&cx)));
}

fn route_tables(group: &mut Group<'_>, routes: &Value) {
    let bytes = wire::<RouteConfiguration>(routes);
    let cx = process();
    let build = || {
        let proto = RouteConfiguration::decode(bytes.as_slice()).expect("routes");
        RouteTable::build(&proto, &Path::root(""), &cx, false, &|_, _, _| Ok(None)).expect("built")
    };
    let head = benches::fixtures::get("service-99.ns-19.svc.cluster.local", "/");
    let info = benches::fixtures::stream_info();
    assert!(build().find(&head, &info, 0).is_some(), "the last service has a route");
    group.bench_function("routes of 100 services", |b| b.iter(build));
}

fn listeners(group: &mut Group<'_>, mesh: &Value) {
    let bytes = wire::<listener::Listener>(&mesh["static_resources"]["listeners"][0]);
    let clusters: Vec<Cluster> =
        mesh["static_resources"]["clusters"].as_array().expect("clusters").iter().map(message).collect();
    let cx = process();
    cx.clusters.load_static(None, &clusters, &Path::root(""), &cx).expect("clusters");
    let build = || {
        let proto = listener::Listener::decode(bytes.as_slice()).expect("a listener");
        Listener::build(&proto, &Path::root(""), &cx).expect("built")
    };
    assert_eq!(&*build().name, config::LISTENER);
    group.bench_function("listener with these routes", |b| b.iter(build));
}

criterion_group! {
    name = configuration;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = resources
}
criterion_main!(configuration);
