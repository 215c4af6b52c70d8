//! Updates as a stream delivers them, against a running process without a management server.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use xds_client::Any;
use xds_protos::envoy::config::cluster::v3::Cluster;
use xds_protos::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_protos::envoy::config::listener::v3::Listener;
use xds_protos::envoy::config::route::v3::RouteConfiguration;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::Secret;

use super::*;
use crate::server::testing::{Running, on_control, options, proto};
use crate::stats::names::{ClusterManagerStats, EdsStats, ListenerManagerStats, SubscriptionStats};

struct Rig {
    running: Running,
    discovery: Rc<Discovery>,
}

impl Rig {
    fn start() -> Self {
        let running = Running::start(options(1), &[]);
        let ads = ConfigSource { origin: Origin::Ads, initial_fetch_timeout: None };
        let dynamic = DynamicResources { ads: None, cds: Some(ads.clone()), lds: Some(ads) };
        let discovery = Discovery::start(&running.server, Node::default(), dynamic);
        Rig { running, discovery }
    }

    fn send(&self, type_url: TypeUrl, added: Vec<Resource>, removed: &[&str], full: bool) -> Vec<(String, String)> {
        let removed = removed.iter().map(|name| name.to_string()).collect();
        let update = Update { type_url, version: "7".into(), nonce: "n".into(), added, removed, full, expired: false };
        let rejected = self.discovery.update(&Origin::Ads, update);
        rejected.into_iter().map(|rejected| (rejected.name, rejected.reason)).collect()
    }

    fn clusters(&self, clusters: &[&str]) -> Vec<(String, String)> {
        self.send(TypeUrl::CLUSTER, clusters.iter().map(|yaml| cluster(yaml)).collect(), &[], false)
    }

    fn endpoints(&self, endpoints: &[&str]) -> Vec<(String, String)> {
        let of = |yaml: &&str| {
            let proto: ClusterLoadAssignment = proto(yaml);
            resource(&proto.cluster_name.clone(), &proto)
        };
        self.send(TypeUrl::ENDPOINT, endpoints.iter().map(of).collect(), &[], false)
    }

    fn listeners(&self, listeners: &[&str]) -> Vec<(String, String)> {
        self.send(TypeUrl::LISTENER, listeners.iter().map(|yaml| listener(yaml)).collect(), &[], false)
    }

    fn routes(&self, routes: &[&str]) -> Vec<(String, String)> {
        let of = |yaml: &&str| {
            let proto: RouteConfiguration = proto(yaml);
            resource(&proto.name.clone(), &proto)
        };
        self.send(TypeUrl::ROUTE, routes.iter().map(of).collect(), &[], false)
    }

    fn cluster(&self, name: &str) -> Option<Arc<crate::cluster::Cluster>> {
        self.running.server.cx.clusters.find(name)?.load()
    }

    fn hosts(&self, name: &str) -> Vec<Arc<crate::endpoint::Host>> {
        let mut hosts = Vec::new();
        self.cluster(name).expect("in use").for_each_host(|host| hosts.push(host.clone()));
        hosts
    }

    fn state(&self, kind: Kind, name: &str) -> State {
        let (_, states) = self.discovery.resources(kind);
        states.into_iter().find(|(known, _)| **known == *name).map(|(_, state)| state).unwrap_or_default()
    }
}

fn resource<M: Message + Name>(name: &str, proto: &M) -> Resource {
    let any = Any { type_url: M::type_url(), value: Bytes::from(proto.encode_to_vec()) };
    Resource { name: name.into(), aliases: Vec::new(), version: String::new(), ttl: None, any }
}

fn cluster(yaml: &str) -> Resource {
    let proto: Cluster = proto(yaml);
    resource(&proto.name.clone(), &proto)
}

fn listener(yaml: &str) -> Resource {
    let proto: Listener = proto(yaml);
    resource(&proto.name.clone(), &proto)
}

fn eds(name: &str, rest: &str) -> String {
    format!("{{ name: {name}, type: EDS, eds_cluster_config: {{ eds_config: {{ ads: {{}} }} }} {rest} }}")
}

fn assignment(name: &str, ports: &[u16]) -> String {
    let endpoint = |port: &u16| {
        format!("{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}")
    };
    let endpoints: Vec<String> = ports.iter().map(endpoint).collect();
    format!("{{ cluster_name: {name}, endpoints: [ {{ lb_endpoints: [ {} ] }} ] }}", endpoints.join(", "))
}

const ROUTER: &str = "http_filters: [ { name: router, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } } ]";

fn http(name: &str, routes: &str, rest: &str) -> String {
    format!(
        "{{ name: {name}, address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}, filter_chains: [ {{ filters: [ {{ name: hcm, \
         typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, \
         stat_prefix: in, {routes}, {ROUTER} }} }} ] {rest} }} ] }}"
    )
}

const RDS: &str = "rds: { route_config_name: \"80\", config_source: { ads: {} } }";

fn says(body: &str) -> String {
    format!(
        "{{ name: \"80\", virtual_hosts: [ {{ name: all, domains: [ \"*\" ], routes: [ {{ match: {{ prefix: / }}, \
         direct_response: {{ status: 200, body: {{ inline_string: {body} }} }} }} ] }} ] }}"
    )
}

async fn get(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "closed");
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|n| n.parse().unwrap());
            if body.len() == length.unwrap_or(0usize) {
                return body.to_owned();
            }
        }
    }
}

#[test]
fn a_cluster_is_used_once_it_has_endpoints() {
    on_control(async {
        let rig = Rig::start();
        assert_eq!(rig.clusters(&[&eds("a", "")]), []);
        assert!(rig.cluster("a").is_none());
        assert!(rig.state(Kind::Cluster, "a").warming.is_some());
        let stats = rig.running.server.cx.stats.block::<ClusterManagerStats>("cluster_manager");
        assert_eq!(stats.read_gauge(ClusterManagerStats::WARMING_CLUSTERS), 1);
        assert_eq!(rig.endpoints(&[&assignment("a", &[81, 82])]), []);
        assert_eq!(rig.hosts("a").len(), 2);
        assert_eq!(stats.read_gauge(ClusterManagerStats::WARMING_CLUSTERS), 0);
        let state = rig.state(Kind::Cluster, "a");
        assert!(state.warming.is_none() && state.active.is_some());
        assert_eq!(&*state.active.unwrap().version, "7");
    });
}

#[test]
fn hosts_survive_updates_of_endpoints_and_of_the_cluster() {
    on_control(async {
        let rig = Rig::start();
        rig.clusters(&[&eds("a", "")]);
        rig.endpoints(&[&assignment("a", &[81, 82])]);
        let (cluster, hosts) = (rig.cluster("a").unwrap(), rig.hosts("a"));
        rig.endpoints(&[&assignment("a", &[82, 83])]);
        assert!(Arc::ptr_eq(&cluster, &rig.cluster("a").unwrap()));
        let after = rig.hosts("a");
        assert_eq!(after.len(), 2);
        assert!(after.iter().any(|host| Arc::ptr_eq(host, &hosts[1])));
        // The endpoints that are known are used at once: the new version need not wait.
        rig.clusters(&[&eds("a", ", connect_timeout: 3s")]);
        let new = rig.cluster("a").unwrap();
        assert!(!Arc::ptr_eq(&cluster, &new));
        assert!(rig.hosts("a").iter().all(|host| after.iter().any(|old| Arc::ptr_eq(old, host))));
        // Equal bytes are no news.
        rig.clusters(&[&eds("a", ", connect_timeout: 3s")]);
        assert!(Arc::ptr_eq(&new, &rig.cluster("a").unwrap()));
    });
}

#[test]
fn a_refused_resource_leaves_the_version_in_force_and_does_not_hold_up_others() {
    on_control(async {
        let rig = Rig::start();
        let a = "{ name: a, connect_timeout: 1s }";
        assert_eq!(rig.clusters(&[a]), []);
        let metadata = ", metadata: { filter_metadata: { istio: { config: /apis/networking/v1/a } } }";
        let bad = format!("{{ name: a, lb_subset_config: {{ subset_selectors: [ {{ keys: [ x ] }} ] }} {metadata} }}");
        let rejected = rig.clusters(&[&bad, "{ name: b }"]);
        assert_eq!(rejected.len(), 1);
        assert_eq!(rejected[0].0, "a");
        assert!(rejected[0].1.contains("lb_subset_config"), "{}", rejected[0].1);
        assert!(rejected[0].1.ends_with("(from /apis/networking/v1/a)"), "{}", rejected[0].1);
        assert_eq!(rig.cluster("a").unwrap().connect_timeout, std::time::Duration::from_secs(1));
        assert!(rig.cluster("b").is_some());
        let state = rig.state(Kind::Cluster, "a");
        assert!(state.active.is_some());
        assert!(state.failed.unwrap().why.contains("lb_subset_config"));
        let stats = rig.running.server.cx.stats.block::<SubscriptionStats>("cluster_manager.cds");
        assert_eq!(stats.read(SubscriptionStats::UPDATE_REJECTED), 1);
        assert_eq!(stats.read(SubscriptionStats::UPDATE_SUCCESS), 1);
        // What is good again takes the mark away.
        assert_eq!(rig.clusters(&[a]), []);
        assert!(rig.state(Kind::Cluster, "a").failed.is_none());
    });
}

#[test]
fn what_the_state_of_the_world_does_not_list_is_gone() {
    on_control(async {
        let rig = Rig::start();
        rig.send(TypeUrl::CLUSTER, vec![cluster("name: a"), cluster(&eds("b", "")), cluster("name: c")], &[], true);
        rig.send(TypeUrl::CLUSTER, vec![cluster("name: c")], &[], true);
        assert!(rig.cluster("a").is_none() && rig.cluster("c").is_some());
        // Also what never came to be used.
        rig.endpoints(&[&assignment("b", &[81])]);
        assert!(rig.cluster("b").is_none());
        rig.send(TypeUrl::CLUSTER, Vec::new(), &["c"], false);
        assert!(rig.cluster("c").is_none());
    });
}

#[test]
fn a_cluster_that_waits_in_vain_is_used_without_endpoints() {
    on_control(async {
        let rig = Rig::start();
        rig.clusters(&[&eds("a", ""), &eds("b", "")]);
        rig.discovery.fetch_timed_out(&Origin::Ads, &TypeUrl::ENDPOINT, &["a".to_owned()]);
        assert_eq!(rig.hosts("a").len(), 0);
        rig.send(TypeUrl::ENDPOINT, Vec::new(), &["b"], false);
        assert_eq!(rig.hosts("b").len(), 0);
    });
}

#[test]
fn bad_endpoints_leave_the_good_ones() {
    on_control(async {
        let rig = Rig::start();
        rig.clusters(&[&eds("a", "")]);
        rig.endpoints(&[&assignment("a", &[81])]);
        let bad = "{ cluster_name: a, endpoints: [ { priority: 129 } ] }";
        let rejected = rig.endpoints(&[bad]);
        assert!(rejected[0].1.contains("endpoints[0].priority"), "{rejected:?}");
        assert_eq!(rig.hosts("a").len(), 1);
    });
}

#[test]
fn a_listener_waits_for_its_routes_and_an_update_of_them_disturbs_nobody() {
    on_control(async {
        let rig = Rig::start();
        assert_eq!(rig.listeners(&[&http("in", RDS, "")]), []);
        assert_eq!(rig.running.server.listeners.statuses(), []);
        let (name, waits_for) = rig.discovery.warming_listeners().pop().unwrap();
        assert_eq!((&*name, waits_for.len()), ("in", 1));
        assert_eq!(rig.routes(&[&says("one")]), []);
        let mut stream = TcpStream::connect(rig.running.address("in")).await.unwrap();
        assert_eq!(get(&mut stream).await, "one");
        assert_eq!(rig.routes(&[&says("two")]), []);
        assert_eq!(get(&mut stream).await, "two");
        let rejected = rig.routes(&[
            "{ name: \"80\", virtual_hosts: [ { name: a, domains: [ \"*\" ] }, { name: b, domains: [ \"*\" ] } ] }",
        ]);
        assert_eq!(rejected.len(), 1, "{rejected:?}");
        assert_eq!(get(&mut stream).await, "two");
        let stats = rig.running.server.cx.stats.block::<SubscriptionStats>("http.in.rds.80");
        assert_eq!(stats.read(SubscriptionStats::UPDATE_SUCCESS), 2);
        assert_eq!(stats.read(SubscriptionStats::UPDATE_REJECTED), 1);
    });
}

#[test]
fn an_equal_listener_is_no_news_and_another_keeps_the_socket() {
    on_control(async {
        let rig = Rig::start();
        rig.listeners(&[&http("in", RDS, "")]);
        rig.routes(&[&says("one")]);
        let address = rig.running.address("in");
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(get(&mut stream).await, "one");
        rig.listeners(&[&http("in", RDS, "")]);
        let stats = rig.running.server.cx.stats.block::<ListenerManagerStats>("listener_manager");
        assert_eq!(stats.read(ListenerManagerStats::LISTENER_MODIFIED), 0);
        rig.listeners(&[&http("in", RDS, ", name: other")]);
        assert_eq!(stats.read(ListenerManagerStats::LISTENER_MODIFIED), 1);
        assert_eq!(stats.read(ListenerManagerStats::LISTENER_IN_PLACE_UPDATED), 1);
        assert_eq!(rig.running.address("in"), address);
        assert_eq!(get(&mut stream).await, "one");
    });
}

#[test]
fn a_listener_may_take_the_address_of_one_that_goes() {
    on_control(async {
        let rig = Rig::start();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = |name: &str| {
            let routes = format!("route_config: {}", says(name));
            http(name, &routes, "").replace("port_value: 0", &format!("port_value: {port}"))
        };
        assert_eq!(rig.listeners(&[&at("a")]), []);
        let rejected = rig.listeners(&[&at("b")]);
        assert!(rejected[0].1.contains("duplicate address"), "{rejected:?}");
        assert_eq!(rig.send(TypeUrl::LISTENER, vec![listener(&at("b"))], &["a"], false), []);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        rig.running.server.listeners.stopped().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(get(&mut stream).await, "b");
    });
}

#[test]
fn a_listener_waits_for_its_secrets() {
    on_control(async {
        let rig = Rig::start();
        let tls = ", transport_socket: { name: tls, typed_config: { \
                   \"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: { \
                   tls_certificate_sds_secret_configs: [ { name: default, sds_config: { ads: {} } } ] } } }";
        let routes = format!("route_config: {}", says("one"));
        assert_eq!(rig.listeners(&[&http("in", &routes, tls)]), []);
        assert_eq!(rig.running.server.listeners.statuses(), []);
        let secret = |yaml: &str| {
            let proto: Secret = proto(yaml);
            resource("default", &proto)
        };
        let ca = certs::testing::Ca::new("ca");
        let identity = ca.leaf().uri("spiffe://cluster.local/ns/a/sa/b").build();
        let good = serde_json::json!({ "name": "default", "tls_certificate": {
            "certificate_chain": { "inline_string": identity.chain_pem() }, "private_key": { "inline_string": identity.key_pem } } });
        assert_eq!(rig.send(TypeUrl::SECRET, vec![secret(&good.to_string())], &[], false), []);
        assert_eq!(rig.running.server.listeners.statuses().len(), 1);
        let shown = rig.state(Kind::Secret, "default").active.unwrap().value;
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(!shown.contains("PRIVATE KEY") && shown.contains("[redacted]"), "{shown}");
        let bad = "{ name: default, tls_certificate: { certificate_chain: { inline_string: not a chain }, private_key: { inline_string: not a key } } }";
        let rejected = rig.send(TypeUrl::SECRET, vec![secret(bad)], &[], false);
        assert_eq!(rejected.len(), 1, "{rejected:?}");
        let state = rig.state(Kind::Secret, "default");
        assert!(state.active.is_some() && state.failed.is_some());
    });
}

#[test]
fn a_refused_response_ends_waiting() {
    on_control(async {
        let rig = Rig::start();
        rig.clusters(&[&eds("a", "")]);
        rig.listeners(&[&http("in", RDS, "")]);
        assert!(rig.cluster("a").is_none() && rig.running.server.listeners.statuses().is_empty());
        rig.discovery.response_refused(&Origin::Ads, &TypeUrl::ENDPOINT);
        assert_eq!(rig.hosts("a").len(), 0);
        rig.discovery.response_refused(&Origin::Ads, &TypeUrl::ROUTE);
        assert_eq!(rig.running.server.listeners.statuses().len(), 1);
        let stats = rig.running.server.cx.stats.block::<SubscriptionStats>("http.in.rds.80");
        assert_eq!(stats.read(SubscriptionStats::UPDATE_REJECTED), 1);
        let stats = rig.running.server.cx.stats.block::<EdsStats>("cluster.a");
        assert_eq!(stats.read(EdsStats::UPDATE_REJECTED), 1);
    });
}

#[test]
fn cds_is_held_back_while_clusters_warm_but_not_for_ever() {
    on_control(async {
        let rig = Rig::start();
        let held = || rig.discovery.clusters.borrow().is_held_back();
        // Not before the process has started: then everybody waits for these clusters.
        rig.clusters(&[&eds("a", "")]);
        assert!(!held());
        rig.endpoints(&[&assignment("a", &[81])]);
        rig.discovery.initialized.set(true);
        rig.clusters(&[&eds("b", "")]);
        assert!(held());
        rig.endpoints(&[&assignment("b", &[81])]);
        assert!(!held());
        rig.clusters(&[&eds("c", "")]);
        assert!(held());
        rig.discovery.let_go();
        assert!(!held());
        // Once let go it stays so until nothing warms any more.
        rig.clusters(&[&eds("d", "")]);
        assert!(!held());
        rig.endpoints(&[&assignment("c", &[81]), &assignment("d", &[81])]);
        rig.clusters(&[&eds("e", "")]);
        assert!(held());
    });
}

#[test]
fn a_resource_goes_by_its_own_name() {
    on_control(async {
        let rig = Rig::start();
        let a: Cluster = proto("name: a");
        let rejected = rig.send(TypeUrl::CLUSTER, vec![resource("b", &a)], &[], false);
        assert_eq!(rejected[0].0, "b");
        assert!(rejected[0].1.contains("name"), "{rejected:?}");
        assert!(rig.cluster("a").is_none() && rig.cluster("b").is_none());
    });
}

#[test]
fn garbage_is_refused_with_a_reason() {
    on_control(async {
        let rig = Rig::start();
        let garbage = |name: &str, type_url: &TypeUrl, value: &[u8]| Resource {
            name: name.into(),
            aliases: Vec::new(),
            version: String::new(),
            ttl: None,
            any: Any { type_url: type_url.as_str().to_owned(), value: Bytes::copy_from_slice(value) },
        };
        for type_url in [TypeUrl::CLUSTER, TypeUrl::LISTENER] {
            let value = [0x0a, 0xff, 0xff, 0xff];
            let rejected = rig.send(type_url.clone(), vec![garbage("x", &type_url, &value)], &[], false);
            assert_eq!(rejected.len(), 1);
            assert!(!rejected[0].1.is_empty());
        }
        let unknown = TypeUrl::from("type.googleapis.com/a.B");
        let rejected = rig.send(unknown.clone(), vec![garbage("x", &unknown, b"")], &[], false);
        assert_eq!(rejected[0].1, "nothing here uses resources of type type.googleapis.com/a.B");
    });
}
