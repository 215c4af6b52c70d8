use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::{Cluster, Hosts, LbContext, NoHost, OriginalDst};
use crate::endpoint::{HealthFlags, Host};
use crate::net::Address;
use crate::stats::Stats;
use crate::stats::names::ClusterStats;

fn host(port: u16) -> Arc<Host> {
    Arc::new(Host::new(Address::Ip(([127, 0, 0, 1], port).into()), "".into(), 1))
}

fn ports(cluster: &Cluster, n: usize) -> Vec<u16> {
    let pick = |_| cluster.choose_host(&LbContext::default()).ok()?.address.port();
    let mut ports: Vec<u16> = (0..n).filter_map(pick).collect();
    ports.sort();
    ports
}

fn gauges(cluster: &Cluster) -> [u64; 4] {
    let gauge = |field| cluster.stats.read_gauge(field);
    [
        gauge(ClusterStats::MEMBERSHIP_TOTAL),
        gauge(ClusterStats::MEMBERSHIP_HEALTHY),
        gauge(ClusterStats::MEMBERSHIP_DEGRADED),
        gauge(ClusterStats::MEMBERSHIP_EXCLUDED),
    ]
}

#[test]
fn published_hosts_are_picked_and_counted() {
    let cluster = Cluster::new("c", &Stats::new(0));
    assert_eq!(cluster.choose_host(&LbContext::default()).unwrap_err(), NoHost::NoHealthyUpstream);
    let (a, b, c) = (host(1), host(2), host(3));
    c.set_health(HealthFlags(HealthFlags::EDS_STATUS_DRAINING));
    assert!(cluster.publish(vec![vec![a.clone(), b.clone(), c.clone()]]).is_empty());
    assert_eq!(ports(&cluster, 4), [1, 1, 2, 2]);
    assert_eq!(gauges(&cluster), [3, 2, 0, 1]);
    assert_eq!(cluster.stats.read(ClusterStats::MEMBERSHIP_CHANGE), 1);

    assert_eq!(cluster.publish(vec![vec![b.clone()], vec![a.clone()]]), [c]);
    assert_eq!(gauges(&cluster), [2, 2, 0, 0]);
    assert_eq!(cluster.stats.read(ClusterStats::MEMBERSHIP_CHANGE), 3, "both priorities changed");
    assert!(cluster.publish(vec![vec![b], vec![a]]).is_empty());
    assert_eq!(cluster.stats.read(ClusterStats::MEMBERSHIP_CHANGE), 3, "nothing changed");
    let mut all = Vec::new();
    cluster.for_each_host(|host| all.extend(host.address.port()));
    assert_eq!(all, [2, 1]);
}

#[test]
fn a_change_of_health_counts_once_published() {
    let cluster = Cluster::new("c", &Stats::new(0));
    let hosts = vec![host(1), host(2), host(3)];
    cluster.publish(vec![hosts.clone()]);
    hosts[0].set_health(HealthFlags(HealthFlags::FAILED_EDS_HEALTH));
    cluster.publish(vec![hosts]);
    assert_eq!(ports(&cluster, 4), [2, 2, 3, 3]);
    assert_eq!(cluster.stats.read(ClusterStats::LB_HEALTHY_PANIC), 0);
}

#[test]
fn panic_is_counted() {
    let cluster = Cluster::new("c", &Stats::new(0));
    let hosts = vec![host(1), host(2), host(3)];
    hosts[0].set_health(HealthFlags(HealthFlags::FAILED_EDS_HEALTH));
    hosts[1].set_health(HealthFlags(HealthFlags::FAILED_EDS_HEALTH));
    cluster.publish(vec![hosts]);
    assert_eq!(ports(&cluster, 3), [1, 2, 3]);
    assert_eq!(cluster.stats.read(ClusterStats::LB_HEALTHY_PANIC), 3);
}

#[test]
fn tried_hosts_are_avoided_as_often_as_allowed() {
    let cluster = Cluster::new("c", &Stats::new(0));
    let (a, b) = (host(1), host(2));
    cluster.publish(vec![vec![a.clone(), b.clone()]]);
    let tried = [a.clone()];
    let pick = |retry_attempts| {
        let context = LbContext { tried: &tried, retry_attempts, ..LbContext::default() };
        (0..2).map(|_| cluster.choose_host(&context).unwrap()).filter(|host| *host == a).count()
    };
    assert_eq!(pick(0), 1, "in turn");
    assert_eq!(pick(1), 0);
    let all = [a, b];
    let context = LbContext { tried: &all, retry_attempts: 5, ..LbContext::default() };
    assert!(cluster.choose_host(&context).is_ok(), "the last pick stands");
}

fn original_dst(use_header: bool, port: Option<u16>) -> Cluster {
    let mut cluster = Cluster::new("od", &Stats::new(0));
    let header = use_header.then_some(OriginalDst::DEFAULT_HEADER);
    cluster.hosts = Hosts::OriginalDst(OriginalDst::new(header, port, Duration::from_secs(5)));
    cluster
}

fn to(address: &str) -> LbContext<'static> {
    LbContext { original_dst: Some(address.parse::<SocketAddr>().unwrap()), ..LbContext::default() }
}

#[test]
fn original_dst_goes_where_the_connection_went() {
    let cluster = original_dst(false, None);
    assert!(cluster.choose_host(&LbContext::default()).is_err());
    let host = cluster.choose_host(&to("10.0.0.1:80")).unwrap();
    assert_eq!((host.address.to_string().as_str(), &*host.hostname), ("10.0.0.1:80", "od10.0.0.1:80"));
    assert_eq!(cluster.choose_host(&to("10.0.0.1:80")).unwrap(), host, "the same host again");
    assert_ne!(cluster.choose_host(&to("10.0.0.1:81")).unwrap(), host);
    assert_eq!(gauges(&cluster), [2, 2, 0, 0]);
    let overridden = original_dst(false, Some(15008));
    assert_eq!(overridden.choose_host(&to("[fd00::1]:80")).unwrap().address.to_string(), "[fd00::1]:15008");
}

#[test]
fn a_header_comes_before_the_connection_if_it_is_an_address() {
    let cluster = original_dst(true, None);
    let chosen = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(OriginalDst::DEFAULT_HEADER, HeaderValue::from_static(value));
        }
        let context = LbContext { headers: Some(&headers), ..to("10.0.0.1:80") };
        cluster.choose_host(&context).unwrap().address.to_string()
    };
    assert_eq!(chosen(&["10.0.0.2:90"]), "10.0.0.2:90");
    assert_eq!(chosen(&["10.0.0.2:90", "10.0.0.3:90"]), "10.0.0.2:90", "only the first counts");
    assert_eq!(chosen(&[]), "10.0.0.1:80");
    assert_eq!(cluster.stats.read(ClusterStats::ORIGINAL_DST_HOST_INVALID), 0);
    assert_eq!(chosen(&["store.test:80"]), "10.0.0.1:80");
    assert_eq!(cluster.stats.read(ClusterStats::ORIGINAL_DST_HOST_INVALID), 1);
}

#[test]
fn unused_original_dst_hosts_are_forgotten_after_a_whole_interval() {
    let cluster = original_dst(false, None);
    let Hosts::OriginalDst(original_dst) = &cluster.hosts else { unreachable!() };
    let (idle, busy) =
        (cluster.choose_host(&to("10.0.0.1:80")).unwrap(), cluster.choose_host(&to("10.0.0.2:80")).unwrap());
    busy.stats.cx_active.store(1, std::sync::atomic::Ordering::Relaxed);
    assert!(original_dst.clean_up(&cluster.stats).is_empty(), "both were picked just now");
    assert_eq!(original_dst.clean_up(&cluster.stats), std::slice::from_ref(&idle));
    assert_eq!(gauges(&cluster), [1, 1, 0, 0]);
    assert_ne!(cluster.choose_host(&to("10.0.0.1:80")).unwrap(), idle, "a new host");
    assert_eq!(cluster.choose_host(&to("10.0.0.2:80")).unwrap(), busy);
}

mod manager {
    use super::*;
    use crate::cluster::{ClusterEvent, ClusterManager};
    use crate::config::testing::from_yaml;
    use crate::config::{BuildCx, Path};
    use crate::server::ServerOptions;
    use crate::stats::names::ClusterManagerStats;

    fn cx() -> BuildCx {
        BuildCx::new(ServerOptions { concurrency: 1, ..ServerOptions::default() })
    }

    fn yaml(name: &str, port: u16) -> xds_protos::envoy::config::cluster::v3::Cluster {
        let address = format!("{{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}");
        let endpoints = format!("[{{lb_endpoints: [{{endpoint: {{address: {address}}}}}]}}]");
        from_yaml(&format!("{{name: {name}, load_assignment: {{cluster_name: x, endpoints: {endpoints}}}}}"))
    }

    fn port(clusters: &ClusterManager, name: &str) -> Option<u16> {
        clusters.find(name)?.load()?.choose_host(&LbContext::default()).ok()?.address.port()
    }

    #[test]
    fn clusters_of_the_bootstrap_fill_the_slots_that_builders_hold() {
        let cx = cx();
        let slot = cx.clusters.slot("b");
        assert!(slot.load().is_none());
        let path = Path::root("static_resources");
        cx.clusters.load_static(None, &[yaml("b", 2), yaml("a", 1)], &path, &cx).unwrap();
        assert_eq!(&*slot.load().unwrap().name, "b");
        let mut seen = Vec::new();
        cx.clusters
            .for_each(|view| seen.push((view.cluster.name.to_string(), view.added_via_api, view.config.clone())));
        let encoded = |name, port| prost::Message::encode_to_vec(&yaml(name, port)).into();
        assert_eq!(seen, [("a".to_owned(), false, encoded("a", 1)), ("b".to_owned(), false, encoded("b", 2))]);
        let stats = cx.stats.block::<ClusterManagerStats>("cluster_manager");
        assert_eq!(stats.read_gauge(ClusterManagerStats::ACTIVE_CLUSTERS), 2);
        assert_eq!(stats.read(ClusterManagerStats::CLUSTER_ADDED), 2);
    }

    #[test]
    fn a_name_is_taken_once() {
        let cx = cx();
        let clusters = [yaml("a", 1), yaml("b", 2), yaml("a", 3)];
        let reject = cx.clusters.load_static(None, &clusters, &Path::root("static_resources"), &cx).unwrap_err();
        assert_eq!(reject.to_string(), "static_resources.clusters[2].name: there is another cluster \"a\"");
    }

    #[test]
    fn a_bad_cluster_is_named_by_its_place() {
        let cx = cx();
        let bad = from_yaml("{name: c, type: EDS}");
        let reject =
            cx.clusters.load_static(None, &[yaml("a", 1), bad], &Path::root("static_resources"), &cx).unwrap_err();
        assert_eq!(reject.path, "static_resources.clusters[1].eds_cluster_config");
        let manager = from_yaml("{local_cluster_name: a}");
        let reject = cx.clusters.load_static(Some(&manager), &[], &Path::root("static_resources"), &cx).unwrap_err();
        assert_eq!(reject.path, "cluster_manager.local_cluster_name");
    }

    #[test]
    fn updates_replace_and_removals_empty_the_slot() {
        let cx = cx();
        let clusters = &cx.clusters;
        let mut events = clusters.subscribe();
        let path = Path::root("");
        clusters.load_static(None, &[yaml("static", 1)], &path, &cx).unwrap();
        assert!(clusters.add_or_update(&yaml("a", 1), &path, &cx).unwrap());
        let slot = clusters.slot("a");
        let first = slot.load().unwrap();
        assert!(!clusters.add_or_update(&yaml("a", 1), &path, &cx).unwrap(), "equal");
        assert!(Arc::ptr_eq(&slot.load().unwrap(), &first));
        assert!(events.try_recv().is_err());

        assert!(clusters.add_or_update(&yaml("a", 2), &path, &cx).unwrap());
        assert_eq!(port(clusters, "a"), Some(2));
        let Ok(ClusterEvent::ClusterRemoved(old)) = events.try_recv() else { panic!("expected the old cluster") };
        assert!(Arc::ptr_eq(&old, &first));
        let refused = from_yaml("{name: a, type: EDS}");
        assert!(clusters.add_or_update(&refused, &path, &cx).is_err());
        assert_eq!(port(clusters, "a"), Some(2), "the last good one stays");

        assert!(clusters.remove("a"));
        assert!(slot.load().is_none());
        assert!(matches!(events.try_recv(), Ok(ClusterEvent::ClusterRemoved(_))));
        assert!(!clusters.remove("a"), "gone already");
        assert!(!clusters.remove("static"), "the bootstrap's stay");
        let stats = cx.stats.block::<ClusterManagerStats>("cluster_manager");
        let counts = [
            stats.read(ClusterManagerStats::CLUSTER_ADDED),
            stats.read(ClusterManagerStats::CLUSTER_MODIFIED),
            stats.read(ClusterManagerStats::CLUSTER_REMOVED),
            stats.read_gauge(ClusterManagerStats::ACTIVE_CLUSTERS),
        ];
        assert_eq!(counts, [2, 1, 1, 1]);
    }

    #[test]
    fn requests_cannot_make_slots() {
        let cx = cx();
        assert!(cx.clusters.find("nobody").is_none());
        cx.clusters.slot("route");
        assert!(cx.clusters.find("route").unwrap().load().is_none());
    }
}
