use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tracing::debug;

use super::discovery::{Discovery, Outcome};
use super::{DnsSpec, LookupFamily, Resolve, ResolverOptions};
use crate::cluster::Cluster;
use crate::cluster::events::Events;
use crate::cluster::manager::Warming;
use crate::stats::names::ClusterStats;

/// Resolves the names of a cluster and keeps its hosts up to date, until dropped. `warm` is dropped when every name has
/// been answered or has failed once; hosts that are gone are announced to `events`.
pub async fn run(
    cluster: Arc<Cluster>,
    spec: DnsSpec,
    resolver: Arc<dyn Resolve>,
    warm: Option<Warming>,
    events: Arc<Events>,
) {
    let (family, options) = (spec.family, spec.resolver.clone());
    let mut discovery = Discovery::new(spec);
    if let Some(hosts) = discovery.start() {
        cluster.publish(hosts);
    }
    let names = discovery.names();
    let warm = warm.map(Arc::new);
    let task = Task { cluster, resolver, discovery: Mutex::new(discovery), events, family, options };
    let names = names.into_iter().map(|(index, name)| task.refresh(index, name, warm.clone())).collect::<Vec<_>>();
    drop(warm);
    join_all(names).await;
}

struct Task {
    cluster: Arc<Cluster>,
    resolver: Arc<dyn Resolve>,
    discovery: Mutex<Discovery>,
    events: Arc<Events>,
    family: LookupFamily,
    options: ResolverOptions,
}

impl Task {
    /// Resolves one name again and again.
    async fn refresh(&self, index: usize, name: Arc<str>, mut warm: Option<Arc<Warming>>) {
        loop {
            let stats = &self.cluster.stats;
            stats.inc(ClusterStats::UPDATE_ATTEMPT);
            let answer = self.resolver.lookup(&name, self.family, &self.options).await;
            if let Err(failure) = &answer {
                debug!(target: "upstream", "cluster {}: cannot resolve {name}: {failure}", self.cluster.name);
            }
            let step = self.discovery.lock().answered(index, answer, &mut || fastrand::u64(..));
            let Some(step) = step else { return };
            match step.outcome {
                Outcome::Changed(hosts) => {
                    stats.inc(ClusterStats::UPDATE_SUCCESS);
                    let removed = self.cluster.publish(hosts);
                    self.events.hosts_removed(&self.cluster, removed);
                }
                Outcome::Unchanged => {
                    stats.inc(ClusterStats::UPDATE_SUCCESS);
                    stats.inc(ClusterStats::UPDATE_NO_REBUILD);
                }
                Outcome::Failed => stats.inc(ClusterStats::UPDATE_FAILURE),
            }
            warm.take();
            tokio::time::sleep(step.wait).await;
        }
    }
}
