use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use xds_protos::envoy::config::bootstrap::v3 as bootstrap;
use xds_protos::envoy::config::cluster::v3 as pb;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::endpoint::v3::ClusterLoadAssignment;

use super::build::{self, Built};
use super::dns::{self, DnsSpec, Resolve, ResolverOptions};
use super::events::Events;
use super::outlier::{self, EventLog};
use super::{Cluster, ClusterEvent, ClusterSlot, EdsSpec, Hosts, HttpProtocolOptions};
use crate::config::{BuildCx, Dependencies, Path, Reject};
use crate::endpoint::Locality;
use crate::pool::connect::UpstreamSockets;
use crate::stats::names::{ClusterManagerStats, ClusterStats};

/// All clusters of the process.
///
/// Clusters are built and changed by one thread, the control thread. [`start`](Self::start) begins what keeps them up to
/// date there; until then clusters that are resolved have no hosts.
#[derive(Default)]
pub struct ClusterManager {
    slots: RwLock<HashMap<Arc<str>, Arc<ClusterSlot>>>,
    entries: Mutex<BTreeMap<Arc<str>, Entry>>,
    events: Arc<Events>,
    warming: WarmingClusters,
    running: OnceLock<Running>,
    /// `cluster_manager` of the bootstrap.
    config: OnceLock<bootstrap::ClusterManager>,
    /// `typed_dns_resolver_config` of the bootstrap.
    resolver: OnceLock<ResolverOptions>,
    /// `cluster_manager.outlier_detection.event_log_path`.
    outlier_log: OnceLock<Arc<EventLog>>,
    /// What most clusters have in common.
    http: Arc<HttpProtocolOptions>,
    sockets: Arc<UpstreamSockets>,
    localities: Mutex<HashMap<Locality, Weak<Locality>>>,
}

struct Running {
    runtime: Handle,
    resolver: Arc<dyn Resolve>,
}

struct Entry {
    cluster: Arc<Cluster>,
    config: Bytes,
    added_via_api: bool,
    last_updated: SystemTime,
    upkeep: Upkeep,
    outlier: Option<AbortOnDrop>,
}

/// What keeps a cluster up to date.
enum Upkeep {
    Nothing,
    /// Names to resolve once the manager is started.
    Waiting(DnsSpec, Option<Warming>),
    Running(#[expect(dead_code, reason = "ends the task when dropped")] AbortOnDrop),
    /// What comes from a discovery service: an assignment, secrets.
    Discovered {
        warming: Option<Warming>,
        dependencies: Dependencies,
        assigned: bool,
    },
}

/// A cluster that is built and not yet in use.
pub struct Prepared {
    cluster: Arc<Cluster>,
    config: Bytes,
    dns: Option<DnsSpec>,
    warming: Option<Warming>,
    /// Secrets that it waits for.
    pub dependencies: Dependencies,
    /// The one it will replace.
    old: Option<Arc<Cluster>>,
}

impl Prepared {
    pub fn name(&self) -> &Arc<str> {
        &self.cluster.name
    }

    /// What is to be asked for its hosts.
    pub fn eds(&self) -> Option<&EdsSpec> {
        self.cluster.eds.as_deref()
    }

    /// The bytes it was built of.
    pub fn config(&self) -> &Bytes {
        &self.config
    }

    /// Gives it the hosts of an assignment.
    ///
    /// # Errors
    /// When the assignment is refused.
    pub fn assign(&self, assignment: &ClusterLoadAssignment, path: &Path<'_>, cx: &BuildCx) -> Result<(), Reject> {
        let proto = decode(&self.config, path)?;
        let known: Vec<&Cluster> = [&self.cluster].into_iter().chain(&self.old).map(|cluster| &**cluster).collect();
        let (hosts, priorities) = build::assign(&self.cluster, &proto, assignment, &known, path, cx)?;
        self.cluster.publish_with(hosts, priorities);
        Ok(())
    }
}

fn decode(config: &Bytes, path: &Path<'_>) -> Result<pb::Cluster, Reject> {
    pb::Cluster::decode(config.clone()).map_err(|error| path.reject(format_args!("cannot decode: {error}")))
}

/// Who has to have hosts before whom, as in Envoy: the clusters that discovery services are asked through come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Primary,
    Secondary,
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type WarmingClusters = Arc<watch::Sender<Vec<(Arc<str>, Phase)>>>;

/// Holds up [`ClusterManager::initialized`] until dropped.
pub struct Warming {
    cluster: Arc<str>,
    all: WarmingClusters,
}

impl Warming {
    fn new(cluster: &Arc<str>, phase: Phase, all: &WarmingClusters) -> Self {
        all.send_modify(|names| names.push((cluster.clone(), phase)));
        Warming { cluster: cluster.clone(), all: all.clone() }
    }
}

impl Drop for Warming {
    fn drop(&mut self) {
        self.all.send_modify(|names| {
            if let Some(at) = names.iter().position(|(name, _)| *name == self.cluster) {
                names.swap_remove(at);
            }
        });
    }
}

/// A cluster as the admin pages show it.
pub struct ClusterView<'a> {
    pub cluster: &'a Arc<Cluster>,
    /// The encoded `envoy.config.cluster.v3.Cluster`.
    pub config: &'a Bytes,
    pub added_via_api: bool,
    pub last_updated: SystemTime,
}

impl ClusterManager {
    /// The slot of this name, made on first use. For builders.
    pub fn slot(&self, name: &str) -> Arc<ClusterSlot> {
        if let Some(slot) = self.find(name) {
            return slot;
        }
        let name: Arc<str> = name.into();
        let slot = ClusterSlot::new(name.clone());
        self.slots.write().entry(name).or_insert_with(|| Arc::new(slot)).clone()
    }

    /// The slot of this name if some builder or cluster knows it. For `cluster_header`, where a request names the cluster
    /// and must not be able to create slots.
    pub fn find(&self, name: &str) -> Option<Arc<ClusterSlot>> {
        self.slots.read().get(name).cloned()
    }

    /// Takes the clusters of a bootstrap, `clusters` under `path`, and its `cluster_manager`. Called once, before anything
    /// else.
    ///
    /// # Errors
    /// For the first cluster that is refused, and for two of the same name. What was taken before stays.
    pub fn load_static(
        &self,
        manager: Option<&bootstrap::ClusterManager>,
        clusters: &[pb::Cluster],
        path: &Path<'_>,
        cx: &BuildCx,
    ) -> Result<(), Reject> {
        if let Some(manager) = manager {
            let path = Path::root("cluster_manager");
            check_manager(manager, &path)?;
            if let Some(proto) = &manager.outlier_detection {
                self.open_outlier_log(proto, &path.field("outlier_detection"))?;
            }
            // Only the first call counts, and there is one.
            let _ = self.config.set(manager.clone());
        }
        let path = path.field("clusters");
        for (index, proto) in clusters.iter().enumerate() {
            let path = path.index(index);
            if self.entries.lock().contains_key(proto.name.as_str()) {
                return Err(path.field("name").reject(format_args!("there is another cluster {:?}", proto.name)));
            }
            self.put(proto, false, &path, cx)?;
        }
        Ok(())
    }

    fn open_outlier_log(
        &self,
        proto: &bootstrap::cluster_manager::OutlierDetection,
        path: &Path<'_>,
    ) -> Result<(), Reject> {
        let bootstrap::cluster_manager::OutlierDetection { event_log_path, event_service } = proto;
        build::refuse(&[(event_service.is_some(), "event_service")], path)?;
        if !event_log_path.is_empty() {
            let log = EventLog::open(event_log_path).map_err(|error| {
                path.field("event_log_path").reject(format_args!("cannot open {event_log_path:?}: {error}"))
            })?;
            // Only the first call counts, and there is one.
            let _ = self.outlier_log.set(Arc::new(log));
        }
        Ok(())
    }

    pub(super) fn outlier_log(&self) -> Option<Arc<EventLog>> {
        self.outlier_log.get().cloned()
    }

    /// `typed_dns_resolver_config` of the bootstrap: for clusters that name no resolver. Called before
    /// [`load_static`](Self::load_static).
    ///
    /// # Errors
    /// For a resolver, or an option of one, that is not supported.
    pub fn set_default_resolver(&self, proto: &core::TypedExtensionConfig, path: &Path<'_>) -> Result<(), Reject> {
        let options = build::typed_resolver(proto, path)?;
        // Only the first call counts, and there is one.
        let _ = self.resolver.set(options);
        Ok(())
    }

    pub(super) fn default_resolver(&self) -> ResolverOptions {
        self.resolver.get().cloned().unwrap_or_default()
    }

    /// Adds a cluster, or replaces the one of its name. False if that was equal, and then nothing happens.
    ///
    /// # Errors
    /// When it is refused; the one before stays.
    pub fn add_or_update(&self, proto: &pb::Cluster, path: &Path<'_>, cx: &BuildCx) -> Result<bool, Reject> {
        self.put(proto, true, path, cx)
    }

    /// Removes a cluster. False if there is none of this name, or if it is of the bootstrap, which stays.
    pub fn remove(&self, name: &str) -> bool {
        let mut entries = self.entries.lock();
        if !entries.get(name).is_some_and(|entry| entry.added_via_api) {
            return false;
        }
        let Some(entry) = entries.remove(name) else { return false };
        if let Some(slot) = self.find(name) {
            slot.store(None);
        }
        if let Some(stats) = self.events.stats.get() {
            stats.inc(ClusterManagerStats::CLUSTER_REMOVED);
            stats.set(ClusterManagerStats::ACTIVE_CLUSTERS, entries.len() as u64);
        }
        self.events.cluster_removed(entry.cluster);
        true
    }

    fn put(&self, proto: &pb::Cluster, added_via_api: bool, path: &Path<'_>, cx: &BuildCx) -> Result<bool, Reject> {
        let config = Bytes::from(proto.encode_to_vec());
        if self.entries.lock().get(proto.name.as_str()).is_some_and(|old| old.config == config) {
            return Ok(false);
        }
        let prepared = self.prepare(proto, config, path, cx)?;
        self.commit(prepared, added_via_api, cx);
        Ok(true)
    }

    /// Whether a cluster that was discovered would change anything: not if it is equal to what there is, nor if the bootstrap
    /// has one of its name, which stays as it is.
    pub fn is_news(&self, name: &str, config: &[u8]) -> bool {
        self.entries.lock().get(name).is_none_or(|old| old.added_via_api && *old.config != *config)
    }

    /// Builds a cluster without putting it to use; it keeps hosts of the one it will replace. `config` is its encoding.
    ///
    /// # Errors
    /// When it is refused.
    pub fn prepare(
        &self,
        proto: &pb::Cluster,
        config: Bytes,
        path: &Path<'_>,
        cx: &BuildCx,
    ) -> Result<Prepared, Reject> {
        let old = self.active(&proto.name);
        let manager = self.config.get_or_init(Default::default);
        let cx = cx.for_resource();
        let Built { cluster, dns, wait_for_warm_on_init } = build::build(proto, old.as_deref(), manager, path, &cx)?;
        let phase = if dns.is_some() { Phase::Primary } else { Phase::Secondary };
        let waits = dns.is_some() || cluster.eds.is_some() || !cx.dependencies.are_ready();
        let warming = (wait_for_warm_on_init && waits).then(|| Warming::new(&cluster.name, phase, &self.warming));
        Ok(Prepared { cluster, config, dns, warming, dependencies: cx.dependencies, old })
    }

    /// Puts a cluster to use in place of the one of its name.
    pub fn commit(&self, prepared: Prepared, added_via_api: bool, cx: &BuildCx) {
        let Prepared { cluster, config, dns, warming, dependencies, old: _ } = prepared;
        let upkeep = match dns {
            Some(spec) => Upkeep::Waiting(spec, warming),
            None if cluster.eds.is_some() || !dependencies.are_ready() => {
                Upkeep::Discovered { warming, dependencies, assigned: cluster.eds.is_none() }
            }
            None => Upkeep::Nothing,
        };
        let mut entry = Entry {
            cluster: cluster.clone(),
            config,
            added_via_api,
            last_updated: SystemTime::now(),
            upkeep,
            outlier: None,
        };
        if let Some(running) = self.running.get() {
            self.run(&mut entry, running);
        }
        let slot = self.slot(&cluster.name);
        let stats = self.events.stats.get_or_init(|| cx.stats.block("cluster_manager"));
        let mut entries = self.entries.lock();
        let old = entries.insert(cluster.name.clone(), entry);
        stats.inc(if old.is_some() {
            ClusterManagerStats::CLUSTER_MODIFIED
        } else {
            ClusterManagerStats::CLUSTER_ADDED
        });
        stats.set(ClusterManagerStats::ACTIVE_CLUSTERS, entries.len() as u64);
        slot.store(Some(cluster));
        if let Some(old) = old {
            self.events.cluster_removed(old.cluster);
        }
    }

    fn active(&self, name: &str) -> Option<Arc<Cluster>> {
        self.entries.lock().get(name).map(|entry| entry.cluster.clone())
    }

    /// Gives a cluster of type EDS the hosts of an assignment. False if there is no such cluster.
    ///
    /// # Errors
    /// When the assignment is refused; the hosts stay what they were.
    pub fn assign(
        &self,
        name: &str,
        assignment: &ClusterLoadAssignment,
        path: &Path<'_>,
        cx: &BuildCx,
    ) -> Result<bool, Reject> {
        let (cluster, config) = match self.entries.lock().get(name) {
            Some(entry) if entry.cluster.eds.is_some() => (entry.cluster.clone(), entry.config.clone()),
            _ => return Ok(false),
        };
        let proto = decode(&config, path)?;
        let (hosts, priorities) = build::assign(&cluster, &proto, assignment, &[&cluster], path, cx)?;
        let had_hosts = cluster.stats.read_gauge(ClusterStats::MEMBERSHIP_TOTAL) > 0;
        let removed = cluster.publish_with(hosts, priorities);
        self.events.hosts_removed(&cluster, removed);
        if had_hosts {
            self.events.cluster_updated();
        }
        self.settle(name);
        Ok(true)
    }

    /// Says that the endpoints of a cluster have come or were given up, so that [`initialized`](Self::initialized) no longer
    /// waits for them.
    pub fn settle(&self, name: &str) {
        self.unhold(name, true);
    }

    /// Looks again whether the secrets have come that [`initialized`](Self::initialized) waits for.
    pub fn settle_secrets(&self) {
        self.warming().iter().for_each(|name| self.unhold(name, false));
    }

    fn unhold(&self, name: &str, has_endpoints: bool) {
        if let Some(entry) = self.entries.lock().get_mut(name)
            && let Upkeep::Discovered { warming, dependencies, assigned } = &mut entry.upkeep
        {
            *assigned |= has_endpoints;
            if *assigned && dependencies.are_ready() {
                drop(warming.take());
            }
        }
    }

    /// The clusters of type EDS, with what is to be asked for them.
    pub fn discovered(&self) -> Vec<(Arc<str>, EdsSpec)> {
        let entries = self.entries.lock();
        let discovered =
            entries.values().filter_map(|e| Some((e.cluster.name.clone(), (**e.cluster.eds.as_ref()?).clone())));
        discovered.collect()
    }

    /// Begins to resolve names and to forget unused hosts, on the runtime that this is called in.
    pub fn start(&self, resolver: Arc<dyn Resolve>) {
        let running = self.running.get_or_init(|| Running { runtime: Handle::current(), resolver });
        for entry in self.entries.lock().values_mut() {
            self.run(entry, running);
        }
    }

    fn run(&self, entry: &mut Entry, running: &Running) {
        let (cluster, events) = (entry.cluster.clone(), self.events.clone());
        if cluster.outlier().is_some() {
            let task = running.runtime.spawn(outlier::run(cluster.clone()));
            entry.outlier = Some(AbortOnDrop(task.abort_handle()));
        }
        let upkeep = std::mem::replace(&mut entry.upkeep, Upkeep::Nothing);
        let task = match (upkeep, &entry.cluster.hosts) {
            (Upkeep::Waiting(spec, warming), _) => {
                running.runtime.spawn(dns::run(cluster, spec, running.resolver.clone(), warming, events))
            }
            (Upkeep::Nothing, Hosts::OriginalDst(_)) => running.runtime.spawn(clean_up(cluster, events)),
            (upkeep, _) => {
                entry.upkeep = upkeep;
                return;
            }
        };
        entry.upkeep = Upkeep::Running(AbortOnDrop(task.abort_handle()));
    }

    /// Clusters that [`initialized`](Self::initialized) waits for.
    pub fn warming(&self) -> Vec<Arc<str>> {
        self.warming.borrow().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Lets [`initialized`](Self::initialized) wait for one thing more.
    pub fn wait_for(&self, what: &str) -> Warming {
        Warming::new(&what.into(), Phase::Secondary, &self.warming)
    }

    /// Resolves once the clusters that need no discovery service have hosts, as far as names could be resolved. Discovery
    /// services are asked after that.
    pub async fn primaries_initialized(&self) {
        let none = |names: &Vec<(Arc<str>, Phase)>| names.iter().all(|(_, phase)| *phase != Phase::Primary);
        // The sender is part of `self`, so it is not gone.
        let _ = self.warming.subscribe().wait_for(none).await;
    }

    /// Resolves once every cluster has hosts, as far as names could be resolved. Listeners start after that.
    pub async fn initialized(&self) {
        // The sender is part of `self`, so it is not gone.
        let _ = self.warming.subscribe().wait_for(Vec::is_empty).await;
    }

    /// What happens to clusters and hosts from now on, for the pools of one worker.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<ClusterEvent> {
        self.events.subscribe()
    }

    /// Visits the clusters in the order of their names.
    pub fn for_each(&self, mut visit: impl FnMut(ClusterView<'_>)) {
        for entry in self.entries.lock().values() {
            visit(ClusterView {
                cluster: &entry.cluster,
                config: &entry.config,
                added_via_api: entry.added_via_api,
                last_updated: entry.last_updated,
            });
        }
    }

    /// The one object for this locality.
    pub fn locality(&self, locality: Locality) -> Arc<Locality> {
        let mut localities = self.localities.lock();
        if let Some(known) = localities.get(&locality).and_then(Weak::upgrade) {
            return known;
        }
        localities.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(locality.clone());
        localities.insert(locality, Arc::downgrade(&new));
        new
    }

    pub(super) fn default_http(&self) -> Arc<HttpProtocolOptions> {
        self.http.clone()
    }

    pub(super) fn default_sockets(&self) -> Arc<UpstreamSockets> {
        self.sockets.clone()
    }
}

/// `envoy.config.bootstrap.v3.ClusterManager`.
fn check_manager(proto: &bootstrap::ClusterManager, path: &Path<'_>) -> Result<(), Reject> {
    let bootstrap::ClusterManager {
        local_cluster_name,
        // Read by `load_static`.
        outlier_detection: _,
        // Used by every cluster that has none of its own.
        upstream_bind_config: _,
        load_stats_config,
        // Ignored: an optimisation of Envoy's.
        enable_deferred_cluster_creation: _,
    } = proto;
    let refused =
        [(!local_cluster_name.is_empty(), "local_cluster_name"), (load_stats_config.is_some(), "load_stats_config")];
    build::refuse(&refused, path)
}

/// Forgets hosts of an ORIGINAL_DST cluster that nobody uses any more.
async fn clean_up(cluster: Arc<Cluster>, events: Arc<Events>) {
    let Hosts::OriginalDst(original_dst) = &cluster.hosts else { return };
    loop {
        original_dst.populated().await;
        tokio::time::sleep(original_dst.cleanup_interval).await;
        events.hosts_removed(&cluster, original_dst.clean_up(&cluster.stats));
    }
}
