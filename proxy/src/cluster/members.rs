//! The hosts of a cluster as balancers see them, and whose turn it is on each worker.

use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::endpoint::{Host, HostList, HostSet};
use crate::lb::{Policy, PriorityConfig, PriorityLoads, PrioritySet, State};
use crate::stats::{StatBlock, current_shard, names::ClusterStats};

/// Published as a whole by the control thread; workers read a snapshot.
pub(super) struct Members {
    /// Changes with assignments that are discovered; workers see it in the snapshot.
    config: Mutex<PriorityConfig>,
    current: ArcSwap<PrioritySet>,
    /// One per worker and one for all other threads; made at the first pick, because most clusters are never used.
    turns: OnceLock<Box<[Turn]>>,
    workers: usize,
}

/// A worker locks nobody's but its own, so the lock is free. On a line of its own, so that workers do not slow each other.
#[repr(align(64))]
#[derive(Default)]
struct Turn(Mutex<State>);

/// What a publication changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub added: Vec<Arc<Host>>,
    pub removed: Vec<Arc<Host>>,
    /// Priorities in which hosts came or went.
    pub priorities: u64,
}

impl Members {
    pub fn new(config: PriorityConfig, workers: usize) -> Self {
        Members {
            current: ArcSwap::from_pointee(snapshot(0, Vec::new(), &config)),
            config: Mutex::new(config),
            turns: OnceLock::new(),
            workers,
        }
    }

    pub fn config(&self) -> PriorityConfig {
        *self.config.lock()
    }

    /// Takes effect with the next publication.
    pub fn set_config(&self, config: PriorityConfig) {
        *self.config.lock() = config;
    }

    pub fn load(&self) -> Guard<Arc<PrioritySet>> {
        self.current.load()
    }

    /// Replaces the hosts of all priorities. One caller at a time.
    pub fn publish(&self, priorities: Vec<Vec<Arc<Host>>>) -> Change {
        let old = self.current.load_full();
        let new = snapshot(old.generation + 1, priorities, &self.config());
        let mut change = Change::default();
        for priority in 0..old.sets.len().max(new.sets.len()) {
            let hosts = |of: &PrioritySet| of.sets.get(priority).map(|set| set.hosts.to_vec()).unwrap_or_default();
            let (before, now) = (hosts(&old), hosts(&new));
            let (gone, come) = (difference(&before, &now), difference(&now, &before));
            change.priorities += u64::from(!gone.is_empty() || !come.is_empty());
            change.removed.extend(gone);
            change.added.extend(come);
        }
        // A host that went to another priority neither came nor went.
        let (removed, added) = (difference(&change.removed, &change.added), difference(&change.added, &change.removed));
        (change.removed, change.added) = (removed, added);
        self.current.store(Arc::new(new));
        change
    }

    pub fn pick(&self, policy: &Policy, stats: &StatBlock<ClusterStats>) -> Option<Arc<Host>> {
        let members = self.current.load();
        let turns = self.turns.get_or_init(|| (0..=self.workers).map(|_| Turn::default()).collect());
        let turn = turns.get(current_shard()).or(turns.first())?;
        let pick = policy.pick(&members, &mut turn.0.lock(), &mut || fastrand::u64(..))?;
        if pick.panic {
            stats.inc(ClusterStats::LB_HEALTHY_PANIC);
        }
        Some(pick.host.clone())
    }
}

fn snapshot(generation: u64, priorities: Vec<Vec<Arc<Host>>>, config: &PriorityConfig) -> PrioritySet {
    let sets: Box<[HostSet]> = priorities.into_iter().map(|hosts| HostSet::new(HostList::new(hosts))).collect();
    PrioritySet { generation, loads: PriorityLoads::new(&sets, config), sets }
}

/// Hosts of `a` that are not in `b`.
fn difference(a: &[Arc<Host>], b: &[Arc<Host>]) -> Vec<Arc<Host>> {
    if b.is_empty() {
        return a.to_vec();
    }
    let known: std::collections::HashSet<u64, foldhash::fast::RandomState> = b.iter().map(|host| host.id).collect();
    a.iter().filter(|host| !known.contains(&host.id)).cloned().collect()
}
