//! The cases with a control plane: what a push costs, and what traffic notices of many small ones.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::LocalSet;
use xds_client::TypeUrl;
use xds_client::server::{Store, serve_tcp};
use xds_protos::envoy::config::cluster::v3::Cluster;
use xds_protos::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_protos::envoy::config::listener::v3::Listener;
use xds_protos::envoy::config::route::v3::RouteConfiguration;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::Secret;

use super::cases::{figure, settled, thousands};
use super::client::paced;
use super::figure::{Figure, Series, Target};
use super::identities::Identities;
use super::machine::{Cores, pin};
use super::process::Proxy;
use super::{Outcome, Run, client, config, upstream};
use crate::fixtures::wire;

const PATIENCE: Duration = Duration::from_secs(120);

/// A management server on the core of the load.
struct ControlPlane {
    store: Store,
    address: SocketAddr,
}

impl ControlPlane {
    fn start(cores: Cores) -> Outcome<ControlPlane> {
        let store = Store::new();
        let served = store.clone();
        let (ready, is_ready) = mpsc::channel();
        std::thread::spawn(move || {
            pin(cores.load);
            LocalSet::new().block_on(&client::runtime(), async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
                let _ = ready.send(listener.local_addr()?);
                serve_tcp(listener, served).await
            })
        });
        Ok(ControlPlane { store, address: is_ready.recv()? })
    }

    /// Pushes what a configuration holds, endpoints and routes as resources of their own.
    fn publish(&self, mesh: &Value) {
        let lists = &mesh["static_resources"];
        let list = |name: &str| lists[name].as_array().cloned().unwrap_or_default();
        self.store.batch(|batch| {
            for mut cluster in list("clusters") {
                let name = text(&cluster["name"]);
                let assignment = cluster["load_assignment"].take();
                batch.set_resource(TypeUrl::ENDPOINT, &name, wire::<ClusterLoadAssignment>(&assignment));
                batch.set_resource(TypeUrl::CLUSTER, &name, wire::<Cluster>(&discovered(cluster)));
            }
            for mut listener in list("listeners") {
                let manager = listener.pointer_mut("/filter_chains/0/filters/0/typed_config");
                if let Some(manager) = manager.and_then(Value::as_object_mut)
                    && let Some(routes) = manager.remove("route_config")
                {
                    let name = text(&routes["name"]);
                    manager.insert("rds".to_owned(), json!({"route_config_name": name, "config_source": ads()}));
                    batch.set_resource(TypeUrl::ROUTE, &name, wire::<RouteConfiguration>(&routes));
                }
                batch.set_resource(TypeUrl::LISTENER, &text(&listener["name"]), wire::<Listener>(&listener));
            }
        });
    }

    /// Pushes one resource and waits until it is acknowledged.
    fn push(&self, type_url: &TypeUrl, name: &str, bytes: Vec<u8>) -> Outcome<()> {
        let known = self.store.log().len();
        self.store.set_resource(type_url.clone(), name, bytes);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.store.log();
            let new = log.iter().skip(known).map(|entry| &entry.request);
            let mut answers = new.filter(|request| request.type_url() == type_url.as_str());
            if let Some(request) = answers.find(|request| !request.response_nonce().is_empty()) {
                return match request.nack() {
                    None => Ok(()),
                    Some(why) => Err(format!("{name} was refused: {why}").into()),
                };
            }
            if Instant::now() > deadline {
                return Err(format!("{name} was not acknowledged").into());
            }
            std::thread::park_timeout(Duration::from_micros(500));
        }
    }

    /// A bootstrap that has everything from here.
    fn bootstrap(&self) -> Value {
        let stream = json!({
            "api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
        });
        json!({
            "node": {"id": "bench", "cluster": "bench"},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            "dynamic_resources": {"ads_config": stream, "cds_config": ads(), "lds_config": ads()},
            "static_resources": {"clusters": [config::over_http2(config::cluster("xds", &[self.address]))]},
        })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn ads() -> Value {
    json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"})
}

fn discovered(mut cluster: Value) -> Value {
    cluster["type"] = "EDS".into();
    cluster["eds_cluster_config"] = json!({"eds_config": ads()});
    if let Some(cluster) = cluster.as_object_mut() {
        cluster.remove("load_assignment");
    }
    cluster
}

fn assignment(name: &str, endpoints: &[SocketAddr]) -> Vec<u8> {
    wire::<ClusterLoadAssignment>(&config::cluster(name, endpoints)["load_assignment"])
}

/// Waits until the proxy does nothing any more.
fn at_rest(proxy: &Proxy) -> f64 {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut since) = (proxy.cpu(), Instant::now());
    while since.elapsed() < Duration::from_millis(500) && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(50));
        let now = proxy.cpu();
        if now > last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// A whole mesh in one push, and then single endpoints.
pub fn push(run: &Run) -> Outcome<Vec<Figure>> {
    let identities = Identities::new()?;
    let services = run.scales.iter().copied().max().unwrap_or(20);
    let changes = if services < 100 { 20 } else { 500 };
    let (whole, one) = (config::mesh(services, &identities), config::mesh(1, &identities));
    let (mut cost, mut memory, mut single) = (Vec::new(), Vec::new(), Vec::new());
    for side in &run.sides {
        let plane = ControlPlane::start(run.cores)?;
        plane.publish(&one);
        let proxy = Proxy::start(side, &plane.bootstrap(), 2, run.cores)?;
        let before = at_rest(&proxy);
        plane.publish(&whole);
        // The last of it: then nothing is on its way.
        let names = plane.store.names(&TypeUrl::ENDPOINT);
        let last = names.last().ok_or("no services")?;
        plane.push(&TypeUrl::ENDPOINT, last, assignment(last, &[([127, 0, 0, 1], 1).into()]))?;
        let after = at_rest(&proxy);
        cost.push(Series::one((after - before) * 1000.0));
        memory.push(Series::one(settled(&proxy) / 1024.0));
        let before = at_rest(&proxy);
        for change in 0..changes {
            let name = names.get(change * 7 % names.len()).ok_or("no services")?;
            let endpoint = SocketAddr::from(([127, 0, 1, (change % 250) as u8], 8080));
            plane.push(&TypeUrl::ENDPOINT, name, assignment(name, &[endpoint]))?;
        }
        single.push(Series::one((at_rest(&proxy) - before) * 1e6 / changes as f64));
    }
    let title = format!("push of {} services", thousands(services));
    Ok(vec![
        figure(run, "push", &title, "ms CPU", cost, Target::Ratio(0.5)),
        figure(run, "push", &format!("{title}, memory"), "MiB", memory, Target::Absolute(120.0)),
        figure(run, "push", "one endpoint of them", "µs CPU", single, Target::Ratio(0.5)),
    ])
}

/// 2,000 requests a second, quiet and then under updates of every kind.
pub fn churn(run: &Run) -> Outcome<Vec<Figure>> {
    const RATE: usize = 2000;
    const CONNECTIONS: usize = 16;
    const SERVICES: usize = 200;
    let identities = Identities::new()?;
    let ups = [upstream::http1(run.cores)?, upstream::http1(run.cores)?];
    let time = run.time * 20;
    let (mut slower, mut growth) = (Vec::new(), Vec::new());
    for side in &run.sides {
        let plane = ControlPlane::start(run.cores)?;
        plane.publish(&config::mesh(SERVICES, &identities));
        let target = config::bootstrap(config::http(false), None, vec![config::upstream(ups[0])]);
        plane.publish(&target);
        let secret =
            |n: usize| wire::<Secret>(&identities.secret(if n.is_multiple_of(2) { "server" } else { "client" }));
        plane.store.set_resource(TypeUrl::SECRET, "default", secret(0));
        plane.store.set_resource(TypeUrl::LISTENER, "other", other(0));
        let proxy = Proxy::start(side, &plane.bootstrap(), 2, run.cores)?;
        let address = proxy.address(config::LISTENER)?;
        let load = |time| paced::load(address, CONNECTIONS, RATE, time, run.cores);
        // On threads of their own, which the load pins to its core.
        let quiet =
            std::thread::scope(|scope| scope.spawn(|| load(time / 4)).join()).map_err(|_| "the load broke down")?;
        let before = settled(&proxy);
        let busy = std::thread::scope(|scope| {
            let busy = scope.spawn(|| load(time));
            let mut n = 0;
            let mut next = Instant::now();
            while !busy.is_finished() {
                n += 1;
                update(&plane, n, &ups, &secret)?;
                next += Duration::from_millis(20);
                std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
            }
            busy.join().map_err(|_| "the load broke down".into())
        });
        let busy: client::Load = busy.map_err(|error: Box<dyn std::error::Error>| error)?;
        growth.push(Series::one((settled(&proxy) - before) / 1024.0));
        let ratio = busy.percentile(0.99).unwrap_or(f64::NAN) / quiet.percentile(0.99).unwrap_or(f64::NAN);
        slower.push(Series {
            values: vec![ratio],
            failed: quiet.failed + busy.failed,
            per_second: vec![busy.done / busy.seconds],
            p50: busy.percentile(0.5).into_iter().collect(),
            p99: busy.percentile(0.99).into_iter().collect(),
        });
    }
    Ok(vec![
        figure(run, "churn", "p99 under churn, of the quiet", "x", slower, Target::Absolute(2.0)),
        figure(run, "churn", "memory after churn", "MiB more", growth, Target::Absolute(8.0)),
    ])
}

/// The update of one tick, of which there are 50 a second: 50 EDS, 10 RDS, 2 CDS, 1 LDS, 1 SDS.
fn update(plane: &ControlPlane, n: usize, ups: &[SocketAddr; 2], secret: &dyn Fn(usize) -> Vec<u8>) -> Outcome<()> {
    plane.store.batch(|batch| {
        let hosts = if n.is_multiple_of(2) { &ups[..] } else { &ups[..1] };
        batch.set_resource(TypeUrl::ENDPOINT, "upstream", assignment("upstream", hosts));
        if n.is_multiple_of(5) {
            let header = json!({"header": {"key": "x-version", "value": n.to_string()}});
            let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "upstream"}});
            let host = json!({"name": "all", "domains": ["*"], "routes": [route], "response_headers_to_add": [header]});
            let routes = json!({"name": "routes", "virtual_hosts": [host]});
            batch.set_resource(TypeUrl::ROUTE, "routes", wire::<RouteConfiguration>(&routes));
        }
        if n.is_multiple_of(25) {
            let mut cluster = discovered(config::cluster("churned", &[]));
            cluster["connect_timeout"] = format!("{}s", 1 + n % 9).into();
            batch.set_resource(TypeUrl::CLUSTER, "churned", wire::<Cluster>(&cluster));
            batch.set_resource(TypeUrl::ENDPOINT, "churned", assignment("churned", &ups[..1]));
        }
        if n.is_multiple_of(50) {
            batch.set_resource(TypeUrl::LISTENER, "other", other(n));
            batch.set_resource(TypeUrl::SECRET, "default", secret(n / 50));
        }
    });
    Ok(())
}

/// A listener with a discovered secret that nobody connects to.
fn other(n: usize) -> Vec<u8> {
    let mut filter = config::tcp_proxy();
    filter["typed_config"]["stat_prefix"] = format!("other{n}").into();
    let context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": ads()}]},
    });
    let socket = json!({"name": "envoy.transport_sockets.tls", "typed_config": context});
    let mut all = config::bootstrap(filter, Some(socket), Vec::new());
    let mut listener = all["static_resources"]["listeners"][0].take();
    listener["name"] = "other".into();
    wire::<Listener>(&listener)
}
