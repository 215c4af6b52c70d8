//! Load balancers (`Cluster.lb_policy`, `Cluster.load_balancing_policy`): which host of a snapshot is next.
//!
//! Pickers are plain state machines: the snapshot, the picker's own state and the random numbers are arguments, so a test
//! says exactly what is picked. The state of a picker belongs to one worker. Called by [`Cluster::choose_host`].
//!
//! A pick goes in Envoy's two steps: [`PriorityLoads`] chooses a priority and whether healthy, degraded or all hosts of it
//! are eligible; then the [`Policy`] picks one of these. Hosts of different localities are one flat list. Policies that hash
//! look the host up in a [`Table`] that is part of the snapshot.
//!
//! Deliberately missing, and refused when a cluster asks for it: subsets, locality weights, zone awareness, slow start.
//!
//! [`Cluster::choose_host`]: crate::cluster::Cluster::choose_host

use std::sync::Arc;

use smallvec::SmallVec;

use crate::endpoint::{Host, HostList, HostSet};

mod bounded;
mod edf;
mod hashing;
#[cfg(test)]
mod hashing_tests;
mod least_request;
mod priority;
#[cfg(test)]
mod tests;

pub use hashing::{HashFunction, HashKind, HashPolicy, Table};
pub use least_request::LeastRequest;
pub use priority::{PriorityConfig, PriorityLoads};

use edf::Edf;

/// Uniformly distributed numbers.
pub type Random<'a> = &'a mut dyn FnMut() -> u64;

/// How a host of a list is picked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// In turn; by weights, if they differ.
    RoundRobin,
    /// Any, whatever the weights.
    Random,
    LeastRequest(LeastRequest),
    /// By the hash of the request; without one any.
    Hash(HashPolicy),
}

/// What of a request counts for its host.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    pub hash: Option<u64>,
    /// How many hosts were turned down for this attempt.
    pub turned_down: u32,
    /// Requests under way to the cluster.
    pub active: &'a dyn Fn() -> u64,
}

impl Default for Wish<'_> {
    fn default() -> Self {
        Wish { hash: None, turned_down: 0, active: &|| 0 }
    }
}

/// Which hosts of a priority are eligible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eligible {
    Healthy,
    Degraded,
    /// In panic: whatever their health.
    All,
}

impl Eligible {
    fn of(self, set: &HostSet) -> &HostList {
        match self {
            Eligible::Healthy => &set.healthy,
            Eligible::Degraded => &set.degraded,
            Eligible::All => &set.hosts,
        }
    }
}

/// All priorities of a cluster at one moment.
#[derive(Debug)]
pub struct PrioritySet {
    /// Differs between any two snapshots of a cluster.
    pub generation: u64,
    pub sets: Box<[HostSet]>,
    pub loads: PriorityLoads,
    /// One for each priority, if the policy hashes.
    pub tables: Box<[Arc<Table>]>,
}

impl PrioritySet {
    /// A snapshot. What of `old` is still right is kept.
    pub fn new(
        generation: u64,
        sets: Box<[HostSet]>,
        config: &PriorityConfig,
        policy: &Policy,
        old: Option<&PrioritySet>,
    ) -> Self {
        let loads = PriorityLoads::new(&sets, config);
        let table = |(priority, set): (usize, &HostSet)| {
            let Policy::Hash(policy) = policy else { return None };
            let hosts = if loads.in_panic(priority) { &set.hosts } else { &set.healthy };
            Some(policy.table(hosts, old.and_then(|old| old.tables.get(priority))))
        };
        let tables = sets.iter().enumerate().map_while(table).collect();
        PrioritySet { generation, loads, sets, tables }
    }
}

/// What one worker remembers between picks.
#[derive(Debug, Default)]
pub struct State {
    generation: u64,
    lists: SmallVec<[ListState; 1]>,
}

/// The turn in one list of hosts.
#[derive(Debug)]
struct ListState {
    priority: usize,
    eligible: Eligible,
    cursor: usize,
    /// Only while weights differ.
    edf: Option<Edf>,
}

/// A host, and whether its priority was in panic.
#[derive(Debug)]
pub struct Pick<'a> {
    pub host: &'a Arc<Host>,
    pub panic: bool,
}

impl Policy {
    /// The next host; none when the chosen priority has no eligible host.
    pub fn pick<'a>(
        &self,
        set: &'a PrioritySet,
        state: &mut State,
        wish: Wish<'_>,
        random: Random<'_>,
    ) -> Option<Pick<'a>> {
        if let Policy::Hash(_) = self {
            let hash = wish.hash.unwrap_or_else(&mut *random);
            let (priority, _) = set.loads.choose(hash);
            let host = set.tables.get(priority)?.choose(hash, wish.turned_down, wish.active)?;
            return Some(Pick { host, panic: set.loads.in_panic(priority) });
        }
        let (priority, eligible) = set.loads.choose(random());
        let hosts = eligible.of(set.sets.get(priority)?);
        let index = match self {
            _ if hosts.is_empty() => return None,
            Policy::Random => below(random(), hosts.len()),
            _ => {
                let list = state.list(set.generation, priority, eligible, random);
                match self {
                    _ if hosts.weighted => list.weighted(hosts, |host| self.weight(host), random),
                    Policy::LeastRequest(least_request) => least_request.pick(hosts, random),
                    _ => list.next(hosts.len()),
                }
            }
        };
        Some(Pick { host: hosts.get(index)?, panic: eligible == Eligible::All })
    }

    /// What a host weighs now.
    fn weight(&self, host: &Host) -> f64 {
        match self {
            Policy::LeastRequest(least_request) => least_request.weight(host),
            _ => f64::from(host.weight()),
        }
    }
}

impl State {
    fn list(&mut self, generation: u64, priority: usize, eligible: Eligible, random: Random<'_>) -> &mut ListState {
        if self.generation != generation {
            self.generation = generation;
            self.lists.iter_mut().for_each(|list| list.edf = None);
        }
        let known = self.lists.iter().position(|list| list.priority == priority && list.eligible == eligible);
        let at = known.unwrap_or_else(|| {
            // A random start, or all proxies of a deployment would begin with the same host.
            let cursor = below(random(), u32::MAX as usize);
            self.lists.push(ListState { priority, eligible, cursor, edf: None });
            self.lists.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "found or pushed just now")]
        &mut self.lists[at]
    }
}

impl ListState {
    fn next(&mut self, hosts: usize) -> usize {
        let index = self.cursor.checked_rem(hosts).unwrap_or_default();
        self.cursor = self.cursor.wrapping_add(1);
        index
    }

    fn weighted(&mut self, hosts: &[Arc<Host>], weight: impl Fn(&Host) -> f64, random: Random<'_>) -> usize {
        let weight = |index: usize| hosts.get(index).map_or(1.0, |host| weight(host));
        let edf = self.edf.get_or_insert_with(|| {
            let mut edf = Edf::new((0..hosts.len()).map(weight));
            for _ in 0..below(random(), hosts.len()) {
                edf.pick(weight);
            }
            edf
        });
        edf.pick(weight).unwrap_or_default()
    }
}

/// A number below `bound` from a random one.
fn below(random: u64, bound: usize) -> usize {
    random.checked_rem(bound as u64).unwrap_or_default() as usize
}
