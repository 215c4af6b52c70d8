use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::discovery::{Discovery, Outcome};
use super::*;
use crate::cluster::spec::Target;
use crate::cluster::{Cluster, ClusterEvent, ClusterManager, LbContext};
use crate::config::testing::from_yaml;
use crate::config::{BuildCx, Path};
use crate::endpoint::{HealthFlags, Host};
use crate::server::ServerOptions;
use crate::stats::names::ClusterStats;

const SECOND: Duration = Duration::from_secs(1);

fn refresh() -> RefreshOptions {
    RefreshOptions { rate: 5 * SECOND, failure: None, respect_ttl: false, min_rate: None, jitter: Duration::ZERO }
}

fn ttl(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn answers_are_refreshed_at_the_rate_or_by_their_ttl() {
    let after = |options: &RefreshOptions, ttl| Refresh::new(options).after_answer(options, ttl, &mut || 7);
    assert_eq!(after(&refresh(), ttl(30)), 5 * SECOND, "the TTL is not asked for");
    let by_ttl = RefreshOptions { respect_ttl: true, ..refresh() };
    assert_eq!(after(&by_ttl, ttl(30)), 30 * SECOND);
    assert_eq!(after(&by_ttl, ttl(0)), 5 * SECOND, "zero is none");
    assert_eq!(after(&by_ttl, None), 5 * SECOND);
    let at_least = RefreshOptions { min_rate: Some(10 * SECOND), ..by_ttl.clone() };
    assert_eq!(after(&at_least, ttl(1)), 10 * SECOND);
    assert_eq!(after(&at_least, ttl(30)), 30 * SECOND);
    let jittered = RefreshOptions { jitter: Duration::from_millis(5), ..refresh() };
    assert_eq!(after(&jittered, None), 5 * SECOND + Duration::from_millis(2), "7 modulo 5");
}

#[test]
fn failures_back_off_until_an_answer_comes() {
    let backoff = Backoff { base: SECOND, max: 5 * SECOND };
    let options = RefreshOptions { failure: Some(backoff), ..refresh() };
    let mut refresh = Refresh::new(&options);
    // With this number each wait is one millisecond less than its bound.
    let failed = |refresh: &mut Refresh| refresh.after_failure(&options, &mut || 59_999_999).as_millis();
    let waits: Vec<u128> = (0..5).map(|_| failed(&mut refresh)).collect();
    assert_eq!(waits, [999, 1999, 3999, 4999, 4999]);
    refresh.after_answer(&options, None, &mut || 0);
    assert_eq!(failed(&mut refresh), 999);
    assert_eq!(refresh.after_failure(&options, &mut || 0), Duration::from_millis(1), "never at once");
    let without = self::refresh();
    assert_eq!(Refresh::new(&without).after_failure(&without, &mut || 3), 5 * SECOND);
}

fn endpoint(target: &str, priority: u32) -> EndpointSpec {
    let (host, port) = target.rsplit_once(':').unwrap();
    let port = port.parse().unwrap();
    let target = match host.parse::<IpAddr>() {
        Ok(ip) => Target::Address(std::net::SocketAddr::new(ip, port).into()),
        Err(_) => Target::Name { host: host.into(), port },
    };
    EndpointSpec {
        target,
        hostname: host.into(),
        additional_addresses: Box::default(),
        weight: 1,
        health: HealthFlags::default(),
        locality: Arc::default(),
        priority,
        canary: false,
        transport_socket_match: None,
        metadata: None,
    }
}

fn discovery(endpoints: Vec<EndpointSpec>, logical: bool) -> Discovery {
    let (family, resolver) = (LookupFamily::Auto, ResolverOptions::default());
    Discovery::new(DnsSpec { endpoints, logical, refresh: refresh(), family, resolver })
}

fn answer(ips: &[&str]) -> Result<Answer, Failure> {
    Ok(Answer { addresses: ips.iter().map(|ip| ip.parse().unwrap()).collect(), ttl: None })
}

/// The hosts after an answer, by priority; none when nothing changed.
fn answered(discovery: &mut Discovery, index: usize, answer: Result<Answer, Failure>) -> Option<Vec<Vec<Arc<Host>>>> {
    match discovery.answered(index, answer, &mut || 0).unwrap().outcome {
        Outcome::Changed(hosts) => Some(hosts),
        Outcome::Unchanged | Outcome::Failed => None,
    }
}

fn names(hosts: &[Vec<Arc<Host>>]) -> Vec<Vec<String>> {
    hosts.iter().map(|hosts| hosts.iter().map(|host| host.current_address().to_string()).collect()).collect()
}

#[test]
fn every_address_of_a_name_is_a_host() {
    let mut discovery =
        discovery(vec![endpoint("a.test:80", 0), endpoint("10.0.0.9:81", 0), endpoint("b.test:82", 1)], false);
    assert_eq!(names(&discovery.start().unwrap()), [["10.0.0.9:81"]], "an address needs no answer");
    assert_eq!(
        discovery.names().iter().map(|(i, name)| (*i, &**name)).collect::<Vec<_>>(),
        [(0, "a.test"), (2, "b.test")]
    );

    let first = answered(&mut discovery, 0, answer(&["10.0.0.1", "10.0.0.2"])).unwrap();
    assert_eq!(names(&first), [["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:81"]]);
    assert_eq!(&*first[0][0].hostname, "a.test");
    let both = answered(&mut discovery, 2, answer(&["::1"])).unwrap();
    assert_eq!(names(&both)[1], ["[::1]:82"]);

    assert!(answered(&mut discovery, 0, answer(&["10.0.0.2", "10.0.0.1"])).is_none(), "another order is no change");
    let changed = answered(&mut discovery, 0, answer(&["10.0.0.2", "10.0.0.3"])).unwrap();
    assert_eq!(changed[0][0], first[0][1], "the host that stayed is the same object");
    assert_eq!(names(&changed)[0], ["10.0.0.2:80", "10.0.0.3:80", "10.0.0.9:81"]);
}

#[test]
fn addresses_that_names_share_are_one_host() {
    let mut discovery =
        discovery(vec![endpoint("a.test:80", 0), endpoint("b.test:80", 0), endpoint("b.test:81", 0)], false);
    answered(&mut discovery, 0, answer(&["10.0.0.1", "10.0.0.1"]));
    let hosts = match answered(&mut discovery, 2, answer(&["10.0.0.1"])) {
        Some(hosts) => hosts,
        None => panic!("another port is another host"),
    };
    assert_eq!(names(&hosts), [["10.0.0.1:80", "10.0.0.1:81"]]);
    assert!(answered(&mut discovery, 1, answer(&["10.0.0.1"])).is_none());
}

/// As Envoy 1.40 does with these answers of a server.
#[test]
fn a_failure_changes_nothing_and_an_empty_answer_is_one() {
    let mut strict = discovery(vec![endpoint("a.test:80", 0)], false);
    answered(&mut strict, 0, answer(&["10.0.0.1"])).unwrap();
    assert!(answered(&mut strict, 0, Err(Failure("SERVFAIL".into()))).is_none());
    assert_eq!(names(&answered(&mut strict, 0, answer(&[])).unwrap()), Vec::<Vec<String>>::new());

    let mut logical = discovery(vec![endpoint("a.test:80", 0)], true);
    let host = answered(&mut logical, 0, answer(&["10.0.0.1"])).unwrap()[0][0].clone();
    assert!(answered(&mut logical, 0, Err(Failure("SERVFAIL".into()))).is_none());
    assert!(answered(&mut logical, 0, answer(&[])).is_none());
    assert_eq!(host.current_address().to_string(), "10.0.0.1:80");
}

#[test]
fn a_logical_host_moves_and_stays_the_same_object() {
    let mut discovery = discovery(vec![endpoint("a.test:80", 0)], true);
    assert!(discovery.start().is_none());
    let hosts = answered(&mut discovery, 0, answer(&["10.0.0.1", "10.0.0.2"])).unwrap();
    assert_eq!(names(&hosts), [["10.0.0.1:80"]], "one host");
    let host = &hosts[0][0];
    assert_eq!(host.addresses().others[0].to_string(), "10.0.0.2:80");
    assert!(answered(&mut discovery, 0, answer(&["10.0.0.3"])).is_none(), "the set of hosts is the same");
    assert_eq!(host.addresses().first.to_string(), "10.0.0.3:80");
    assert!(host.addresses().others.is_empty());
}

#[test]
fn a_logical_host_with_an_address_needs_no_answer() {
    let mut discovery = discovery(vec![endpoint("10.0.0.1:80", 0)], true);
    assert_eq!(names(&discovery.start().unwrap()), [["10.0.0.1:80"]]);
    assert!(discovery.names().is_empty());
}

/// Answers in the order in which they were given; after that, nothing.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Result<Answer, Failure>>>,
    asked: Mutex<Vec<String>>,
    exhausted: Notify,
}

impl Resolve for Scripted {
    fn lookup<'a>(
        &'a self,
        name: &'a str,
        _family: LookupFamily,
        _options: &'a ResolverOptions,
    ) -> BoxFuture<'a, Result<Answer, Failure>> {
        self.asked.lock().push(name.to_owned());
        match self.answers.lock().pop_front() {
            Some(answer) => Box::pin(std::future::ready(answer)),
            None => {
                self.exhausted.notify_one();
                Box::pin(std::future::pending())
            }
        }
    }
}

fn scripted(answers: Vec<Result<Answer, Failure>>) -> Arc<Scripted> {
    Arc::new(Scripted { answers: Mutex::new(answers.into()), ..Scripted::default() })
}

fn manager(yaml: &str) -> (BuildCx, Arc<ClusterManager>) {
    let cx = BuildCx::new(ServerOptions { concurrency: 1, ..ServerOptions::default() });
    let clusters: Vec<_> = yaml.lines().filter(|line| !line.trim().is_empty()).map(from_yaml).collect();
    let manager = cx.clusters.clone();
    manager.load_static(None, &clusters, &Path::root("static_resources"), &cx).unwrap();
    (cx, manager)
}

fn named(manager: &ClusterManager, name: &str) -> Arc<Cluster> {
    manager.find(name).unwrap().load().unwrap()
}

const STRICT: &str = "{name: dns, type: STRICT_DNS, dns_refresh_rate: 0.002s, load_assignment: {cluster_name: dns, endpoints: \
    [{lb_endpoints: [{endpoint: {address: {socket_address: {address: store.test, port_value: 80}}}}]}]}}";

#[tokio::test]
async fn names_are_resolved_again_and_again_and_removals_announced() {
    let (_cx, manager) = manager(STRICT);
    let mut events = manager.subscribe();
    let mut warm = Box::pin(manager.initialized());
    assert!(warm.as_mut().now_or_never().is_none(), "not before the first answer");
    let resolver = scripted(vec![
        answer(&["10.0.0.1", "10.0.0.2"]),
        Err(Failure("time-out".into())),
        answer(&["10.0.0.2", "10.0.0.1"]),
        answer(&["10.0.0.2"]),
    ]);
    manager.start(resolver.clone());
    warm.await;
    resolver.exhausted.notified().await;
    let cluster = named(&manager, "dns");
    assert_eq!(cluster.choose_host(&LbContext::default()).unwrap().address.to_string(), "10.0.0.2:80");
    let Some(ClusterEvent::HostsRemoved { hosts, .. }) = events.recv().await else { panic!("expected a removal") };
    assert_eq!(hosts.iter().map(|host| host.address.to_string()).collect::<Vec<_>>(), ["10.0.0.1:80"]);
    let counts = [
        ClusterStats::UPDATE_ATTEMPT,
        ClusterStats::UPDATE_SUCCESS,
        ClusterStats::UPDATE_NO_REBUILD,
        ClusterStats::UPDATE_FAILURE,
        ClusterStats::MEMBERSHIP_CHANGE,
    ];
    assert_eq!(counts.map(|counter| cluster.stats.read(counter)), [5, 3, 1, 1, 2]);
}

#[tokio::test]
async fn a_failed_first_answer_does_not_hold_up_the_start() {
    let (_cx, manager) = manager(STRICT);
    let resolver = scripted(vec![Err(Failure("no server".into()))]);
    manager.start(resolver);
    manager.initialized().await;
    assert!(named(&manager, "dns").choose_host(&LbContext::default()).is_err());
}

#[tokio::test]
async fn some_clusters_do_not_wait_and_some_have_nothing_to_wait_for() {
    let (_cx, manager) = manager(
        "
        {name: lazy, type: STRICT_DNS, wait_for_warm_on_init: false, load_assignment: {cluster_name: lazy, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: store.test, port_value: 80}}}}]}]}}
        {name: numeric, type: STRICT_DNS, load_assignment: {cluster_name: numeric, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]}}
        {name: empty, type: STRICT_DNS}
        ",
    );
    let resolver = scripted(vec![]);
    manager.start(resolver.clone());
    manager.initialized().await;
    let host = named(&manager, "numeric").choose_host(&LbContext::default()).unwrap();
    assert_eq!((host.address.to_string().as_str(), &*host.hostname), ("10.0.0.1:80", "10.0.0.1"));
    resolver.exhausted.notified().await;
    assert_eq!(*resolver.asked.lock(), ["store.test"], "nobody asks for a number");
}

#[tokio::test]
async fn the_system_resolver_knows_localhost_without_a_server() {
    let resolver = SystemResolver::new(&crate::stats::Stats::new(0));
    // Nobody answers there, and nobody is asked.
    let servers = vec!["127.0.0.1:9".parse().unwrap()];
    let options =
        ResolverOptions { servers, timeout: Duration::from_millis(100), tries: 1, ..ResolverOptions::default() };
    let found = resolver.lookup("localhost", LookupFamily::V4Only, &options).await.unwrap();
    assert_eq!(found, Answer { addresses: vec!["127.0.0.1".parse().unwrap()], ttl: None });
    let failed = resolver.lookup("store.test", LookupFamily::V4Only, &options).await;
    assert!(failed.is_err(), "a server that does not answer is a failure: {failed:?}");
}

/// A DNS server on loopback that answers each question by its name: what is in the name decides.
async fn server() -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while let Ok((n, peer)) = socket.recv_from(&mut buffer).await {
            let question_end = 12 + buffer[12..n].iter().position(|b| *b == 0).unwrap() + 5;
            let label = String::from_utf8_lossy(&buffer[13..13 + usize::from(buffer[12])]).to_string();
            let kind = buffer[question_end - 3];
            // Answers: one A of 7 s and one of 30 s, or one AAAA.
            let record = |kind: u8, ttl: u8, data: &[u8]| {
                [&[0xc0, 0x0c, 0, kind, 0, 1, 0, 0, 0, ttl, 0, data.len() as u8], data].concat()
            };
            let (code, answers): (u8, Vec<Vec<u8>>) = match (label.as_str(), kind) {
                ("nxdomain", _) => (3, vec![]),
                ("servfail", _) => (2, vec![]),
                ("refused", _) => (5, vec![]),
                ("both" | "four", 1) => (0, vec![record(1, 30, &[10, 0, 0, 1]), record(1, 7, &[10, 0, 0, 2])]),
                ("both", 28) => (0, vec![record(28, 9, &std::net::Ipv6Addr::LOCALHOST.octets())]),
                _ => (0, vec![]),
            };
            let mut reply = buffer[..question_end].to_vec();
            reply[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, answers.len() as u8, 0, 0, 0, 0]);
            reply.extend(answers.concat());
            socket.send_to(&reply, peer).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn the_system_resolver_tells_answers_from_failures() {
    let resolver = SystemResolver::new(&crate::stats::Stats::new(0));
    let options = ResolverOptions {
        servers: vec![server().await],
        no_default_search_domain: true,
        timeout: SECOND,
        tries: 1,
        ..ResolverOptions::default()
    };
    let lookup = async |name: &str, family| resolver.lookup(name, family, &options).await;
    let found = |ips: &[&str], seconds: u64| Answer { ttl: ttl(seconds), ..answer(ips).unwrap() };
    use LookupFamily::{All, Auto, V4Only, V4Preferred, V6Only};
    let (four, six) = (["10.0.0.1", "10.0.0.2"], "::1");
    assert_eq!(lookup("four.test", V4Only).await, Ok(found(&four, 7)), "the least time to live");
    assert_eq!(lookup("four.test", Auto).await, Ok(found(&four, 7)), "no IPv6 address");
    assert_eq!(lookup("four.test", V6Only).await, Ok(Answer::default()));
    assert_eq!(lookup("both.test", Auto).await, Ok(found(&[six], 9)));
    assert_eq!(lookup("both.test", V4Preferred).await, Ok(found(&four, 7)));
    assert_eq!(lookup("both.test", All).await, Ok(found(&[four[0], four[1], six], 7)));
    assert_eq!(lookup("nxdomain.test", Auto).await, Ok(Answer::default()));
    assert_eq!(lookup("empty.test", All).await, Ok(Answer::default()));
    assert!(lookup("servfail.test", Auto).await.is_err());
    assert!(lookup("refused.test", V4Only).await.is_err());
}
