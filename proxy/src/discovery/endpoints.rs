//! EDS.

use std::cell::RefMut;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tokio::task::{AbortHandle, spawn_local};
use xds_client::{Rejected, Resource, TypeUrl, Update};
use xds_protos::Message;
use xds_protos::envoy::config::endpoint::v3::ClusterLoadAssignment;

use super::store::Received;
use super::subscription::{hash, now_millis};
use super::{Discovery, check_name, decode};
use crate::cluster::{EdsSpec, Prepared};
use crate::config::{Origin, Path, Reject};
use crate::stats::StatBlock;
use crate::stats::names::{ClusterStats, EdsStats};

/// Assignments by where they come from and what they are asked for as.
#[derive(Default)]
pub(super) struct Endpoints(HashMap<Origin, HashMap<Arc<str>, Assignment>>);

#[derive(Default)]
struct Assignment {
    /// Clusters that use it; nearly always one.
    clusters: SmallVec<[Arc<str>; 1]>,
    /// Of the same clusters, so that their statistics exist from the first request on, and while they warm.
    stats: SmallVec<[(StatBlock<ClusterStats>, StatBlock<EdsStats>); 1]>,
    received: Option<Received>,
    /// `initial_fetch_timeout` passed, or the server says that there is none: clusters do not wait for it.
    given_up: bool,
    /// `endpoint_stale_after`.
    stale: Option<Timer>,
}

struct Timer(AbortHandle);

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Endpoints {
    fn find(&mut self, origin: &Origin, service: &str) -> Option<&mut Assignment> {
        self.0.get_mut(origin)?.get_mut(service)
    }
}

impl Discovery {
    /// Asks for the endpoints of a cluster. False if they were asked for before.
    pub(super) fn want_endpoints(self: &Rc<Self>, cluster: &Arc<str>, eds: &EdsSpec) -> bool {
        let mut endpoints = self.endpoints.borrow_mut();
        let of_origin = match endpoints.0.get_mut(&eds.source.origin) {
            Some(of_origin) => of_origin,
            None => endpoints.0.entry(eds.source.origin.clone()).or_default(),
        };
        let is_new = !of_origin.contains_key(&eds.service_name);
        let assignment = of_origin.entry(eds.service_name.clone()).or_default();
        if !assignment.clusters.contains(cluster) {
            assignment.clusters.push(cluster.clone());
            assignment.stats.push((self.cluster_stats(cluster), self.eds_stats(cluster)));
        }
        drop(endpoints);
        if is_new {
            self.cluster_stats(cluster).inc(ClusterStats::UPDATE_ATTEMPT);
            self.subscribe(&eds.source, &TypeUrl::ENDPOINT, &eds.service_name);
        }
        is_new
    }

    /// A cluster that was made anew waits for endpoints that were asked for before: some servers answer only when asked
    /// again. Envoy always asks again; we do where there is nothing to go on with.
    pub(super) fn want_endpoints_again(&self, eds: &EdsSpec) {
        self.ask_again_for_endpoints(&eds.source, &eds.service_name);
    }

    /// Counts a refused response, after which nobody waits for first endpoints.
    pub(super) fn refuse_endpoints(self: &Rc<Self>, origin: &Origin) {
        let endpoints = self.endpoints.borrow();
        let all = endpoints.0.get(origin).into_iter().flatten();
        let clusters: Vec<Arc<str>> = all.flat_map(|(_, assignment)| assignment.clusters.iter().cloned()).collect();
        drop(endpoints);
        clusters.iter().for_each(|cluster| self.refuse_assignment(cluster));
    }

    /// A cluster keeps what it has, or goes on without.
    fn refuse_assignment(self: &Rc<Self>, cluster: &str) {
        self.cluster_stats(cluster).inc(ClusterStats::UPDATE_ATTEMPT);
        self.eds_stats(cluster).inc(EdsStats::UPDATE_REJECTED);
        self.cluster_is_assigned(cluster);
        self.cx.clusters.settle(cluster);
    }

    /// A cluster uses these endpoints no more.
    pub(super) fn unwant_endpoints(&self, cluster: &Arc<str>, eds: &EdsSpec) {
        let mut endpoints = self.endpoints.borrow_mut();
        let Some(assignment) = endpoints.find(&eds.source.origin, &eds.service_name) else { return };
        if let Some(at) = assignment.clusters.iter().position(|user| user == cluster) {
            assignment.clusters.remove(at);
            assignment.stats.remove(at);
        }
        if assignment.clusters.is_empty() {
            if let Some(of_origin) = endpoints.0.get_mut(&eds.source.origin) {
                of_origin.remove(&eds.service_name);
            }
            drop(endpoints);
            self.unsubscribe(&eds.source.origin, &TypeUrl::ENDPOINT, &eds.service_name);
        }
    }

    /// Gives a new version of a cluster the endpoints that are known. True if it need not wait for them.
    pub(super) fn assign_known(&self, prepared: &Prepared) -> bool {
        let Some(eds) = prepared.eds() else { return true };
        let mut endpoints = self.endpoints.borrow_mut();
        let Some(assignment) = endpoints.find(&eds.source.origin, &eds.service_name) else { return false };
        let Some(received) = assignment.received.clone() else { return assignment.given_up };
        drop(endpoints);
        let Ok(proto) = ClusterLoadAssignment::decode(received.value) else { return false };
        let assigned = prepared.assign(&proto, &Path::root(""), &self.cx);
        if assigned.is_ok() {
            self.cluster_stats(prepared.name()).inc(ClusterStats::ASSIGNMENT_USE_CACHED);
        }
        assigned.is_ok()
    }

    pub(super) fn update_endpoints(self: &Rc<Self>, origin: &Origin, update: Update) -> Vec<Rejected> {
        let version: Arc<str> = update.version.as_str().into();
        let mut rejected = Vec::new();
        for resource in &update.added {
            if let Err(reject) = self.update_assignment(origin, resource, &version) {
                rejected.push(Rejected { name: resource.name.clone(), reason: reject.to_string() });
            }
        }
        // The cluster stays as it is until CDS takes it away; only who waits need not any more. One that outlived its time to
        // live is no longer true.
        for name in &update.removed {
            if update.expired {
                self.endpoints_are_stale(origin, name);
            }
            self.give_up_endpoints(origin, name, false);
        }
        rejected
    }

    fn update_assignment(
        self: &Rc<Self>,
        origin: &Origin,
        resource: &Resource,
        version: &Arc<str>,
    ) -> Result<(), Reject> {
        let start = Instant::now();
        let mut endpoints = self.endpoints.borrow_mut();
        // Unsubscribed while the answer was on its way.
        let Some(assignment) = endpoints.find(origin, &resource.name) else { return Ok(()) };
        let clusters = assignment.clusters.clone();
        if assignment.received.as_ref().is_some_and(|known| known.value == resource.any.value) {
            drop(endpoints);
            clusters.iter().for_each(|cluster| self.count_assignment(cluster, version, start, true));
            return Ok(());
        }
        drop(endpoints);
        let applied = self.apply(&clusters, resource);
        match &applied {
            Ok(proto) => {
                let stale_after = proto.policy.as_ref().and_then(|policy| policy.endpoint_stale_after);
                let stale = stale_after.and_then(|after| Duration::try_from(after).ok()).filter(|d| !d.is_zero());
                let stale = stale.map(|after| self.stale_timer(origin, &resource.name, after));
                let endpoints = self.endpoints.borrow_mut();
                if let Ok(mut assignment) =
                    RefMut::filter_map(endpoints, |endpoints| endpoints.find(origin, &resource.name))
                {
                    assignment.received = Some(Received::new(resource, version));
                    if stale.is_some() {
                        clusters
                            .iter()
                            .for_each(|c| self.cluster_stats(c).inc(ClusterStats::ASSIGNMENT_TIMEOUT_RECEIVED));
                    }
                    assignment.stale = stale;
                }
            }
            Err(_) => clusters.iter().for_each(|cluster| self.refuse_assignment(cluster)),
        }
        if applied.is_ok() {
            for cluster in &clusters {
                self.count_assignment(cluster, version, start, false);
                self.cluster_is_assigned(cluster);
            }
        }
        applied.map(|_| ())
    }

    /// Gives the endpoints to the clusters that use them, and to versions of them that warm.
    fn apply(self: &Rc<Self>, clusters: &[Arc<str>], resource: &Resource) -> Result<ClusterLoadAssignment, Reject> {
        let proto: ClusterLoadAssignment = decode(resource)?;
        check_name(resource, "cluster_name", &proto.cluster_name)?;
        let path = Path::root("");
        for cluster in clusters {
            if let Some(warming) = self.clusters.borrow().warming.get(cluster) {
                warming.prepared.assign(&proto, &path, &self.cx)?;
            }
            self.cx.clusters.assign(cluster, &proto, &path, &self.cx)?;
        }
        Ok(proto)
    }

    fn stale_timer(self: &Rc<Self>, origin: &Origin, name: &str, after: Duration) -> Timer {
        let (discovery, origin, name) = (Rc::downgrade(self), origin.clone(), name.to_owned());
        let task = spawn_local(async move {
            tokio::time::sleep(after).await;
            if let Some(discovery) = discovery.upgrade() {
                discovery.endpoints_are_stale(&origin, &name);
            }
        });
        Timer(task.abort_handle())
    }

    /// Nobody confirmed the endpoints in time: better none than wrong ones.
    fn endpoints_are_stale(self: &Rc<Self>, origin: &Origin, name: &str) {
        let mut endpoints = self.endpoints.borrow_mut();
        let Some(assignment) = endpoints.find(origin, name) else { return };
        assignment.received = None;
        let clusters = assignment.clusters.clone();
        drop(endpoints);
        for cluster in &clusters {
            self.cluster_stats(cluster).inc(ClusterStats::ASSIGNMENT_STALE);
            let empty = ClusterLoadAssignment::default();
            if let Err(reject) = self.cx.clusters.assign(cluster, &empty, &Path::root(""), &self.cx) {
                tracing::error!("cluster {cluster:?} cannot be emptied: {reject}");
            }
        }
    }

    /// Clusters need not wait for these endpoints.
    pub(super) fn give_up_endpoints(self: &Rc<Self>, origin: &Origin, name: &str, timed_out: bool) {
        let mut endpoints = self.endpoints.borrow_mut();
        let Some(assignment) = endpoints.find(origin, name) else { return };
        assignment.given_up = true;
        let clusters = assignment.clusters.clone();
        drop(endpoints);
        for cluster in &clusters {
            if timed_out {
                self.eds_stats(cluster).inc(EdsStats::INIT_FETCH_TIMEOUT);
            }
            self.cluster_is_assigned(cluster);
            self.cx.clusters.settle(cluster);
        }
    }

    fn count_assignment(&self, cluster: &str, version: &str, start: Instant, unchanged: bool) {
        let stats = self.cluster_stats(cluster);
        stats.inc(ClusterStats::UPDATE_ATTEMPT);
        stats.inc(ClusterStats::UPDATE_SUCCESS);
        if unchanged {
            stats.inc(ClusterStats::UPDATE_NO_REBUILD);
        }
        stats.set(ClusterStats::VERSION, hash(version));
        let eds = self.eds_stats(cluster);
        eds.set(EdsStats::UPDATE_TIME, now_millis());
        eds.set_text(EdsStats::VERSION_TEXT, version);
        eds.record(EdsStats::UPDATE_DURATION, u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
    }

    fn cluster_stats(&self, cluster: &str) -> StatBlock<ClusterStats> {
        self.cx.stats.block(&self.cluster_scope(cluster))
    }

    fn eds_stats(&self, cluster: &str) -> StatBlock<EdsStats> {
        self.cx.stats.block(&self.cluster_scope(cluster))
    }

    fn cluster_scope(&self, cluster: &str) -> String {
        let active = self.cx.clusters.find(cluster).and_then(|slot| slot.load());
        let name = active.map_or_else(|| cluster.into(), |cluster| cluster.observability_name.clone());
        format!("cluster.{name}")
    }
}
