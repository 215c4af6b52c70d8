//! `envoy.config.cluster.v3.Cluster`: a named group of hosts with everything that is needed to send to one of them.
//!
//! Routes and TCP proxies hold an `Arc<ClusterSlot>`, resolved by name when they are built; the slot is filled, replaced
//! or emptied later without touching them.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderMap;

pub use crate::route::RoutingPriority as Priority;

use crate::config::ConfigSource;
use crate::config::metadata::LazyMetadata;
use crate::endpoint::{HealthFlags, Host, HostSet};
use crate::http::http1;
use crate::http::http2;
use crate::lb::{HashKind, Policy, PriorityConfig, PrioritySet, Wish};
use crate::pool::connect::UpstreamSockets;
use crate::stats::names::{ClusterStats, MaglevStats, RingHashStats};
use crate::stats::{Gauge, StatBlock, StatTable, Stats};
use crate::transport_socket::Upstream;

mod breaker;
mod build;
pub mod dns;
mod events;
mod manager;
mod members;
mod original_dst;
pub mod outlier;
mod protocol_options;
mod spec;
#[cfg(test)]
mod tests;

pub use breaker::{Breaker, CircuitBreakers, Permit, Resource, RetryBudget, Thresholds};
pub use build::ClusterCx;
pub use events::ClusterEvent;
pub use manager::{ClusterManager, ClusterView, Prepared, Warming};
use members::Members;
pub use original_dst::OriginalDst;
pub use protocol_options::{AutoSni, HttpProtocolOptions, UpstreamProtocol, WantedProtocol};

/// The place of a cluster by name. Empty: routes to it answer with `cluster_not_found_response_code`.
pub struct ClusterSlot {
    pub name: Arc<str>,
    current: ArcSwapOption<Cluster>,
}

impl ClusterSlot {
    fn new(name: Arc<str>) -> Self {
        ClusterSlot { name, current: ArcSwapOption::empty() }
    }

    pub fn load(&self) -> Option<Arc<Cluster>> {
        self.current.load_full()
    }

    pub fn store(&self, cluster: Option<Arc<Cluster>>) {
        self.current.store(cluster);
    }
}

/// A cluster as built. An update of its configuration makes a new one; its hosts move over.
pub struct Cluster {
    pub name: Arc<str>,
    /// `alt_stat_name`, or else the name.
    pub observability_name: Arc<str>,
    /// Scope `cluster.<observability_name>`.
    pub stats: StatBlock<ClusterStats>,
    /// Over TCP connect and transport handshake.
    pub connect_timeout: Duration,
    pub per_connection_buffer_limit_bytes: u32,
    pub http: Arc<HttpProtocolOptions>,
    pub sockets: Arc<UpstreamSockets>,
    pub metadata: Option<Arc<LazyMetadata>>,
    /// `transport_socket`.
    pub transport: Upstream,
    /// `transport_socket_matches`, to which [`Host::transport_socket_match`] points.
    pub transport_matches: Box<[Upstream]>,
    transport_match_names: Box<[Box<str>]>,
    breakers: Arc<CircuitBreakers>,
    hosts: Hosts,
    outlier: Option<Box<outlier::Detector>>,
    /// Only where the balancer is one of these; a block is there as long as somebody holds it.
    ring_hash_stats: OnceLock<StatBlock<RingHashStats>>,
    maglev_stats: OnceLock<StatBlock<MaglevStats>>,
    /// For clusters of type EDS.
    pub eds: Option<Box<EdsSpec>>,
}

/// What endpoint discovery is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdsSpec {
    pub source: ConfigSource,
    /// `eds_cluster_config.service_name`, or else the cluster's name.
    pub service_name: Arc<str>,
}

/// Where hosts come from, and how one is picked.
enum Hosts {
    /// Static or resolved: a list that is published, and a policy for it.
    Listed(Members),
    OriginalDst(OriginalDst),
}

/// Why a cluster gives no host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoHost {
    /// There is none, or none that may be used.
    #[error("no healthy upstream")]
    NoHealthyUpstream,
}

impl Cluster {
    /// A cluster with Envoy's defaults and no hosts.
    pub fn new(name: &str, stats: &Stats) -> Self {
        let name: Arc<str> = name.into();
        let block = stats.block(&format!("cluster.{name}"));
        let remaining = |priority: &str| stats.block(&format!("cluster.{name}.circuit_breakers.{priority}"));
        let thresholds = Thresholds::default();
        Cluster {
            observability_name: name.clone(),
            breakers: CircuitBreakers::new(block.clone(), thresholds, thresholds, remaining),
            stats: block,
            name,
            connect_timeout: Duration::from_secs(5),
            per_connection_buffer_limit_bytes: 1 << 20,
            http: Arc::default(),
            sockets: Arc::default(),
            metadata: None,
            transport: Upstream::Raw,
            transport_matches: Box::default(),
            transport_match_names: Box::default(),
            hosts: Hosts::Listed(Members::new(PriorityConfig::default(), Policy::RoundRobin, 0)),
            outlier: None,
            ring_hash_stats: OnceLock::new(),
            maglev_stats: OnceLock::new(),
            eds: None,
        }
    }

    /// `outlier_detection`, where it is configured.
    pub fn outlier(&self) -> Option<&outlier::Detector> {
        self.outlier.as_deref()
    }

    /// Tells outlier detection how it went with a host.
    pub fn report(&self, host: &Arc<Host>, outcome: outlier::Outcome) {
        if let Some(detector) = &self.outlier {
            detector.report(host, outcome);
        }
    }

    /// Picks a host for a request or connection.
    ///
    /// # Errors
    /// When there is none: to be answered with 503 and the flag `UH`.
    pub fn choose_host(&self, context: &LbContext<'_>) -> Result<Arc<Host>, NoHost> {
        let active = || self.stats.read_gauge(ClusterStats::UPSTREAM_RQ_ACTIVE);
        let pick = |more: u32| match &self.hosts {
            Hosts::Listed(members) => {
                let turned_down = context.turned_down.saturating_add(more);
                members.pick(Wish { hash: context.hash, turned_down, active: &active }, &self.stats)
            }
            Hosts::OriginalDst(original_dst) => original_dst.choose(&self.name, context, &self.stats),
        };
        let mut host = pick(0).ok_or(NoHost::NoHealthyUpstream)?;
        for more in 1..=context.retry_attempts {
            if !context.tried.contains(&host) {
                break;
            }
            host = pick(more).ok_or(NoHost::NoHealthyUpstream)?;
        }
        Ok(host)
    }

    /// Replaces the hosts of all priorities, the first being priority 0, and returns those that are no longer there. Hosts
    /// that stay are to be the same objects. For the control thread; without effect on ORIGINAL_DST.
    pub fn publish(&self, priorities: Vec<Vec<Arc<Host>>>) -> Vec<Arc<Host>> {
        let Hosts::Listed(members) = &self.hosts else { return Vec::new() };
        if self.outlier.is_none() {
            // Of a cluster before this one, which had it.
            priorities.iter().flatten().for_each(|host| host.clear_flag(HealthFlags::FAILED_OUTLIER_CHECK));
        }
        let change = members.publish(priorities);
        if change.priorities > 0 {
            self.stats.add(ClusterStats::MEMBERSHIP_CHANGE, change.priorities);
        }
        change.added.iter().for_each(|host| self.count_match(host));
        self.show_membership(&members.load());
        self.show_tables(members);
        change.removed
    }

    /// Makes changes of hosts' health known to the balancer. For the control thread.
    pub fn publish_health(&self) {
        if let Hosts::Listed(members) = &self.hosts {
            members.refresh();
            self.show_membership(&members.load());
            self.show_tables(members);
        }
    }

    /// Sizes of the tables that hashes are looked up in; with several priorities those of the last, as in Envoy.
    fn show_tables(&self, members: &Members) {
        let Policy::Hash(policy) = members.policy() else { return };
        let Some((size, fewest, most)) = members.load().tables.last().map(|table| table.size) else { return };
        match policy.kind {
            HashKind::Ring { .. } => {
                let stats = self.ring_hash_stats.get_or_init(|| self.codec_stats("ring_hash_lb"));
                stats.set(RingHashStats::SIZE, size);
                stats.set(RingHashStats::MIN_HASHES_PER_HOST, fewest);
                stats.set(RingHashStats::MAX_HASHES_PER_HOST, most);
            }
            HashKind::Maglev { .. } => {
                let stats = self.maglev_stats.get_or_init(|| self.codec_stats("maglev_lb"));
                stats.set(MaglevStats::MIN_ENTRIES_PER_HOST, fewest);
                stats.set(MaglevStats::MAX_ENTRIES_PER_HOST, most);
            }
        }
    }

    fn show_membership(&self, members: &PrioritySet) {
        let show = |gauge: Gauge<ClusterStats>, of: fn(&HostSet) -> usize| {
            let sum = members.sets.iter().map(|set| of(set) as u64).sum();
            // A gauge that was never written costs no memory, and most clusters have no degraded hosts.
            if self.stats.read_gauge(gauge) != sum {
                self.stats.set(gauge, sum);
            }
        };
        show(ClusterStats::MEMBERSHIP_TOTAL, |set| set.hosts.len());
        show(ClusterStats::MEMBERSHIP_HEALTHY, |set| set.healthy.len());
        show(ClusterStats::MEMBERSHIP_DEGRADED, |set| set.degraded.len());
        show(ClusterStats::MEMBERSHIP_EXCLUDED, |set| set.excluded);
        if let Some(detector) = &self.outlier {
            detector.show_active(members.sets.iter().flat_map(|set| &*set.hosts));
        }
    }

    /// Which transport socket a new host uses.
    fn count_match(&self, host: &Host) {
        match host.transport_socket_match.and_then(|index| self.transport_match_names.get(usize::from(index))) {
            Some(name) => self.stats.inc_named(&format!("{name}.total_match_count")),
            None => self.stats.inc(ClusterStats::DEFAULT_TOTAL_MATCH_COUNT),
        }
    }

    /// All hosts, priority by priority.
    pub fn for_each_host(&self, mut visit: impl FnMut(&Arc<Host>)) {
        match &self.hosts {
            Hosts::Listed(members) => members.load().sets.iter().flat_map(|set| &*set.hosts).for_each(visit),
            Hosts::OriginalDst(original_dst) => original_dst.hosts().iter().for_each(&mut visit),
        }
    }

    /// The hosts as they are now; none for ORIGINAL_DST.
    pub fn members(&self) -> Option<Arc<PrioritySet>> {
        match &self.hosts {
            Hosts::Listed(members) => Some(Arc::clone(&members.load())),
            Hosts::OriginalDst(_) => None,
        }
    }

    /// `load_assignment.policy` and `common_lb_config`.
    fn priority_config(&self) -> PriorityConfig {
        match &self.hosts {
            Hosts::Listed(members) => members.config(),
            Hosts::OriginalDst(_) => PriorityConfig::default(),
        }
    }

    /// `load_assignment.policy.overprovisioning_factor`.
    pub fn overprovisioning_factor(&self) -> u32 {
        self.priority_config().overprovisioning_factor
    }

    /// [`publish`](Self::publish) with another policy of the assignment.
    fn publish_with(&self, priorities: Vec<Vec<Arc<Host>>>, config: PriorityConfig) -> Vec<Arc<Host>> {
        if let Hosts::Listed(members) = &self.hosts {
            members.set_config(config);
        }
        self.publish(priorities)
    }

    /// The transport socket for a host of this cluster.
    pub fn transport_socket(&self, host: &Host) -> &Upstream {
        let matched = host.transport_socket_match.and_then(|index| self.transport_matches.get(usize::from(index)));
        matched.unwrap_or(&self.transport)
    }

    /// Connections to this host are encrypted.
    pub fn is_tls(&self, host: &Host) -> bool {
        !matches!(self.transport_socket(host), Upstream::Raw)
    }

    /// What HTTP/1 connections to this cluster need to know. The stats come into being with the first call.
    pub fn http1_settings(&self) -> http1::ClientSettings {
        http1::ClientSettings {
            buffer_limit: self.per_connection_buffer_limit_bytes as usize,
            stats: Some(self.codec_stats("http1")),
            ..self.http.http1.clone()
        }
    }

    /// What HTTP/2 connections to this cluster need to know. The stats come into being with the first call.
    pub fn http2_settings(&self) -> http2::ClientSettings {
        let mut settings = http2::ClientSettings::new(self.http.http2.clone(), self.codec_stats("http2"));
        if let Some(max) = self.http.max_headers_count {
            settings.max_headers_count = max;
        }
        if let Some(max) = self.http.max_response_headers_kb {
            settings.max_response_headers_kb = max;
        }
        settings
    }

    fn codec_stats<T: StatTable>(&self, part: &str) -> StatBlock<T> {
        self.stats.registry().block_verbatim(&format!("{}{part}", self.stats.prefix()))
    }

    /// The circuit breaker of one priority.
    pub fn breaker(&self, priority: Priority) -> Breaker<'_> {
        self.breakers.breaker(priority)
    }

    /// Its limits as configured.
    pub fn thresholds(&self, priority: Priority) -> &Thresholds {
        self.breakers.thresholds(priority)
    }

    /// Its limits as `/clusters` shows them.
    pub fn current_thresholds(&self, priority: Priority) -> Thresholds {
        self.breakers.current(priority)
    }
}

/// What a load balancer may look at when it picks a host.
#[derive(Default)]
pub struct LbContext<'a> {
    /// From the route's hash policies.
    pub hash: Option<u64>,
    /// How many picks for this attempt were turned down already, for balancers that would give the same host again.
    pub turned_down: u32,
    /// The downstream connection's restored original destination, for ORIGINAL_DST clusters.
    pub original_dst: Option<SocketAddr>,
    /// Request headers, for `use_http_header` of ORIGINAL_DST.
    pub headers: Option<&'a HeaderMap>,
    /// Hosts that were already tried for this request.
    pub tried: &'a [Arc<Host>],
    /// How often to pick again when the host is one of `tried`: `host_selection_retry_max_attempts` of a retry policy with
    /// the predicate `previous_hosts`, else 0. The last pick stands even if it was tried.
    pub retry_attempts: u32,
}
