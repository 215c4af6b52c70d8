//! CDS.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, spawn_local};
use xds_client::{Rejected, Resource, Update};
use xds_protos::envoy::config::cluster::v3 as pb;

use super::store::{Received, State, Store};
use super::subscription::Subscription;
use super::{Discovery, check_name, decode, origin_of};
use crate::cluster::{EdsSpec, Prepared};
use crate::config::{BuildCx, Path, Reject};
use crate::stats::StatBlock;
use crate::stats::names::{ClusterManagerStats, ConfigReloadStats};

/// How long the acknowledgement of CDS may wait for clusters to warm: as long as Envoy lets them by default. Without a limit a
/// cluster whose endpoints never come (`initial_fetch_timeout` 0) would silence CDS for ever.
const HOLD_LIMIT: Duration = xds_client::DEFAULT_INITIAL_FETCH_TIMEOUT;

/// The clusters that were discovered.
pub(super) struct Clusters {
    store: Store,
    pub(super) warming: BTreeMap<Arc<str>, WarmingCluster>,
    pub(super) subscription: Subscription,
    reloads: Option<StatBlock<ConfigReloadStats>>,
    stats: StatBlock<ClusterManagerStats>,
    /// From the first cluster that warms to the last.
    held: Option<Held>,
}

/// CDS is held back until the timer fires; without one it was let go.
struct Held {
    timer: Option<AbortHandle>,
}

/// A cluster, or a new version of one, that is not in use yet.
pub(super) struct WarmingCluster {
    pub(super) prepared: Prepared,
    /// Its endpoints have come, were given up, or are not discovered.
    pub(super) assigned: bool,
    received: Received,
}

impl WarmingCluster {
    fn is_warm(&self) -> bool {
        self.assigned && self.prepared.dependencies.are_ready()
    }
}

impl Clusters {
    /// Statistics of CDS exist where it `is_asked`.
    pub fn new(cx: &BuildCx, is_asked: bool) -> Self {
        Clusters {
            store: Store::default(),
            warming: BTreeMap::new(),
            subscription: Subscription::when(is_asked, &cx.stats, "cluster_manager.cds"),
            reloads: is_asked.then(|| cx.stats.block("cluster_manager.cds")),
            stats: cx.stats.block("cluster_manager"),
            held: None,
        }
    }

    #[cfg(test)]
    pub fn is_held_back(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.timer.is_some())
    }

    pub fn dump(&self) -> (Arc<str>, Vec<(Arc<str>, State)>) {
        self.store.dump()
    }
}

impl Discovery {
    pub(super) fn update_clusters(self: &Rc<Self>, update: Update) -> Vec<Rejected> {
        let start = Instant::now();
        let version: Arc<str> = update.version.as_str().into();
        let mut rejected = Vec::new();
        let mut changed = false;
        for resource in &update.added {
            match self.update_cluster(resource, &version) {
                Ok(news) => changed |= news,
                Err(reason) => rejected.push(Rejected { name: resource.name.clone(), reason }),
            }
        }
        let mut removed = update.removed;
        if update.full {
            let present: HashSet<&str> = update.added.iter().map(|resource| resource.name.as_str()).collect();
            removed = self.clusters.borrow().store.absent(&present);
        }
        for name in &removed {
            changed |= self.remove_cluster(name);
        }
        let mut clusters = self.clusters.borrow_mut();
        clusters.subscription.updated(&version, start, !rejected.is_empty());
        if rejected.is_empty() {
            clusters.store.version = version;
        }
        if changed && let Some(reloads) = &clusters.reloads {
            reloads.inc(ConfigReloadStats::CONFIG_RELOAD);
            reloads.set(ConfigReloadStats::CONFIG_RELOAD_TIME_MS, super::subscription::now_millis());
        }
        drop(clusters);
        self.count_clusters();
        // Those that warm hold up the start by themselves.
        self.first_clusters.take();
        rejected
    }

    /// To be called when clusters began or ended to warm. As in Envoy, once started, CDS is acknowledged when they are warm;
    /// but not for ever: a management server that waits for the acknowledgement before it says more could never help them.
    fn count_clusters(self: &Rc<Self>) {
        let mut clusters = self.clusters.borrow_mut();
        let warming = clusters.warming.len();
        clusters.stats.set(ClusterManagerStats::WARMING_CLUSTERS, warming as u64);
        match (&clusters.held, warming) {
            (None, 1..) if self.initialized.get() => {
                let discovery = Rc::downgrade(self);
                let timer = spawn_local(async move {
                    tokio::time::sleep(HOLD_LIMIT).await;
                    if let Some(discovery) = discovery.upgrade() {
                        discovery.let_go();
                    }
                });
                clusters.held = Some(Held { timer: Some(timer.abort_handle()) });
                self.hold_back_clusters(true);
            }
            (Some(_), 0) => {
                if let Some(Held { timer: Some(timer) }) = clusters.held.take() {
                    timer.abort();
                    self.hold_back_clusters(false);
                }
            }
            _ => {}
        }
    }

    /// The clusters that warm have had their time.
    pub(super) fn let_go(&self) {
        let mut clusters = self.clusters.borrow_mut();
        if let Some(held) = &mut clusters.held
            && held.timer.take().is_some()
        {
            tracing::warn!("{} clusters still warm after {HOLD_LIMIT:?}; CDS is acknowledged", clusters.warming.len());
            self.hold_back_clusters(false);
        }
    }

    /// Whether anything changed.
    ///
    /// # Errors
    /// Why it is refused.
    fn update_cluster(self: &Rc<Self>, resource: &Resource, version: &Arc<str>) -> Result<bool, String> {
        let name = resource.name.as_str();
        let is_warming = {
            let clusters = &mut *self.clusters.borrow_mut();
            match clusters.warming.get_mut(name) {
                Some(warming) if *warming.prepared.config() == resource.any.value => {
                    clusters.store.is_unchanged(name);
                    return Ok(false);
                }
                warming => warming.is_some(),
            }
        };
        if !self.cx.clusters.is_news(name, &resource.any.value) {
            // Back to what is in use.
            if is_warming {
                self.drop_warming_cluster(name);
            }
            self.clusters.borrow_mut().store.is_unchanged(name);
            return Ok(is_warming);
        }
        let received = Received::new(resource, version);
        let refuse = |reject: &Reject, object: Option<String>| {
            self.clusters.borrow_mut().store.refused(name, received.clone(), reject);
            origin_of::reason(reject, object.as_deref())
        };
        let proto =
            decode(resource).and_then(|proto: pb::Cluster| check_name(resource, "name", &proto.name).map(|()| proto));
        let proto = proto.map_err(|reject| refuse(&reject, None))?;
        let prepared = self.cx.clusters.prepare(&proto, received.value.clone(), &Path::root(""), &self.cx);
        let prepared = prepared.map_err(|reject| refuse(&reject, origin_of::cluster(&proto)))?;
        drop(proto);
        if is_warming {
            self.drop_warming_cluster(name);
        }
        let mut assigned = true;
        if let Some(eds) = prepared.eds() {
            let is_new = self.want_endpoints(prepared.name(), eds);
            assigned = self.assign_known(&prepared);
            if !assigned && !is_new {
                self.want_endpoints_again(eds);
            }
        }
        let warming = WarmingCluster { prepared, assigned, received };
        if warming.is_warm() {
            self.commit_cluster(warming);
        } else {
            let mut clusters = self.clusters.borrow_mut();
            clusters.store.warms(name, warming.received.clone());
            clusters.warming.insert(warming.prepared.name().clone(), warming);
        }
        Ok(true)
    }

    /// Puts a cluster to use, and ends what only the version before wanted.
    fn commit_cluster(self: &Rc<Self>, warming: WarmingCluster) {
        let WarmingCluster { prepared, assigned: _, received } = warming;
        let name = prepared.name().clone();
        let new = prepared.eds().cloned();
        let old = self.eds_in_use(&name);
        self.cx.clusters.commit(prepared, true, &self.cx);
        self.cx.clusters.settle(&name);
        if let Some(old) = old.filter(|old| Some(old) != new.as_ref()) {
            self.unwant_endpoints(&name, &old);
        }
        self.clusters.borrow_mut().store.is_active(&name, received);
    }

    fn eds_in_use(&self, name: &str) -> Option<EdsSpec> {
        Some((**self.cx.clusters.find(name)?.load()?.eds.as_ref()?).clone())
    }

    /// Gives up a version that never came to be used.
    fn drop_warming_cluster(self: &Rc<Self>, name: &str) {
        let mut clusters = self.clusters.borrow_mut();
        let Some(warming) = clusters.warming.remove(name) else { return };
        clusters.store.state(name).warming = None;
        drop(clusters);
        if let Some(eds) = warming.prepared.eds()
            && self.eds_in_use(name).as_ref() != Some(eds)
        {
            self.unwant_endpoints(warming.prepared.name(), eds);
        }
    }

    fn remove_cluster(self: &Rc<Self>, name: &str) -> bool {
        self.drop_warming_cluster(name);
        let eds = self.eds_in_use(name);
        let removed = self.cx.clusters.remove(name);
        if removed && let Some(eds) = eds {
            self.unwant_endpoints(&name.into(), &eds);
        }
        self.clusters.borrow_mut().store.states.remove(name).is_some() || removed
    }

    /// The endpoints of a warming cluster have come, or were given up.
    pub(super) fn cluster_is_assigned(self: &Rc<Self>, name: &str) {
        let mut clusters = self.clusters.borrow_mut();
        let Some(warming) = clusters.warming.get_mut(name) else { return };
        warming.assigned = true;
        if warming.is_warm()
            && let Some(warming) = clusters.warming.remove(name)
        {
            drop(clusters);
            self.commit_cluster(warming);
            self.count_clusters();
        }
    }

    pub(super) fn commit_warm_clusters(self: &Rc<Self>) {
        let mut clusters = self.clusters.borrow_mut();
        if !clusters.warming.is_empty() {
            let all = std::mem::take(&mut clusters.warming);
            let (warm, cold): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, warming)| warming.is_warm());
            clusters.warming = cold.into_iter().collect();
            drop(clusters);
            warm.into_iter().for_each(|(_, warming)| self.commit_cluster(warming));
            self.count_clusters();
        } else {
            drop(clusters);
        }
        // Clusters of the bootstrap are in use from the start, and hold up the process until they are warm.
        self.cx.clusters.settle_secrets();
    }
}
