use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tracing::debug;

use super::discovery::{Discovery, Outcome};
use super::{Answer, DnsSpec, Failure, LookupFamily, Resolve, ResolverOptions};
use crate::cluster::Cluster;
use crate::cluster::events::Events;
use crate::cluster::manager::Warming;
use crate::endpoint::Host;
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
    let names = discovery.names();
    if let Some(hosts) = discovery.start() {
        // Envoy resolves addresses too, and counts that.
        let addresses = (discovery.spec.endpoints.len() - names.len()) as u64;
        cluster.stats.add(ClusterStats::UPDATE_ATTEMPT, addresses);
        cluster.stats.add(ClusterStats::UPDATE_SUCCESS, addresses);
        publish(&cluster, &discovery, hosts);
    }
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
        let mut first = true;
        loop {
            self.cluster.stats.inc(ClusterStats::UPDATE_ATTEMPT);
            let answer = self.resolver.lookup(&name, self.family, &self.options).await;
            if let Err(failure) = &answer {
                debug!(target: "upstream", "cluster {}: cannot resolve {name}: {failure}", self.cluster.name);
            }
            let Some(wait) = self.answered(index, answer, first) else { return };
            first = false;
            warm.take();
            tokio::time::sleep(wait).await;
        }
    }

    /// Applies an answer, and says when to ask again.
    fn answered(&self, index: usize, answer: Result<Answer, Failure>, first: bool) -> Option<Duration> {
        let stats = &self.cluster.stats;
        let mut discovery = self.discovery.lock();
        let step = discovery.answered(index, answer, &mut || fastrand::u64(..))?;
        match step.outcome {
            Outcome::Changed(hosts) => {
                stats.inc(ClusterStats::UPDATE_SUCCESS);
                let removed = publish(&self.cluster, &discovery, hosts);
                self.events.hosts_removed(&self.cluster, removed);
                if !first {
                    self.events.cluster_updated();
                }
            }
            Outcome::Unchanged => {
                stats.inc(ClusterStats::UPDATE_SUCCESS);
                stats.inc(ClusterStats::UPDATE_NO_REBUILD);
            }
            Outcome::Failed => stats.inc(ClusterStats::UPDATE_FAILURE),
        }
        Some(step.wait)
    }
}

fn publish(cluster: &Cluster, discovery: &Discovery, hosts: Vec<Vec<Arc<Host>>>) -> Vec<Arc<Host>> {
    if !discovery.spec.logical {
        let heaviest = hosts.iter().flatten().map(|host| host.weight()).max().unwrap_or(0);
        cluster.stats.set(ClusterStats::MAX_HOST_WEIGHT, heaviest.into());
    }
    cluster.publish(hosts)
}
