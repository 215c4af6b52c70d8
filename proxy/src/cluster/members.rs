//! The hosts of a cluster as balancers see them, and whose turn it is on each worker.

use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::endpoint::{Host, HostList, HostSet};
use crate::lb::{Policy, PriorityConfig, PrioritySet, State, Wish};
use crate::stats::{StatBlock, current_shard, names::ClusterStats};

/// Published as a whole by the control thread; workers read a snapshot.
pub(super) struct Members {
    /// Changes with assignments that are discovered; workers see it in the snapshot.
    config: Mutex<PriorityConfig>,
    policy: Policy,
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
    pub fn new(config: PriorityConfig, policy: Policy, workers: usize) -> Self {
        Members {
            current: ArcSwap::from_pointee(PrioritySet::new(0, Box::default(), &config, &policy, None)),
            config: Mutex::new(config),
            policy,
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
        let new = self.snapshot(&old, priorities);
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

    /// The same hosts, sorted out anew by their health.
    pub fn refresh(&self) {
        let old = self.current.load_full();
        let hosts = old.sets.iter().map(|set| set.hosts.to_vec()).collect();
        self.current.store(Arc::new(self.snapshot(&old, hosts)));
    }

    fn snapshot(&self, old: &PrioritySet, priorities: Vec<Vec<Arc<Host>>>) -> PrioritySet {
        let sets = priorities.into_iter().map(|hosts| HostSet::new(HostList::new(hosts))).collect();
        PrioritySet::new(old.generation + 1, sets, &self.config(), &self.policy, Some(old))
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    pub fn pick(&self, wish: Wish<'_>, stats: &StatBlock<ClusterStats>) -> Option<Arc<Host>> {
        let members = self.current.load();
        let turns = self.turns.get_or_init(|| (0..=self.workers).map(|_| Turn::default()).collect());
        let turn = turns.get(current_shard()).or(turns.first())?;
        let pick = self.policy.pick(&members, &mut turn.0.lock(), wish, &mut || fastrand::u64(..))?;
        if pick.panic {
            stats.inc(ClusterStats::LB_HEALTHY_PANIC);
        }
        Some(pick.host.clone())
    }
}

/// Hosts of `a` that are not in `b`.
fn difference(a: &[Arc<Host>], b: &[Arc<Host>]) -> Vec<Arc<Host>> {
    if b.is_empty() {
        return a.to_vec();
    }
    let known: std::collections::HashSet<u64, foldhash::fast::RandomState> = b.iter().map(|host| host.id).collect();
    a.iter().filter(|host| !known.contains(&host.id)).cloned().collect()
}
