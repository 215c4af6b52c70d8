//! `ring_hash` and `maglev`: requests with the same hash go to the same host, and few go elsewhere when hosts come or go.
//!
//! A [`Table`] is built with each snapshot by the thread that publishes it, never by a worker; it stays while the hosts and
//! their weights do. Tables are those of Envoy to the bit: the same hosts in the same order with the same keys give the same
//! host for the same hash.
//!
//! Deliberately missing, and refused: weights of localities, `hash_policy` of a policy.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use twox_hash::XxHash64;

use super::bounded::least_overloaded;
use crate::config::metadata;
use crate::endpoint::{Host, HostList};

/// The name of a host in a table, its share of the load from 0 to 1.
type Weighted = (String, f64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashPolicy {
    pub kind: HashKind,
    pub use_hostname_for_hashing: bool,
    /// `hash_balance_factor`: no host gets more than so many percent of the average.
    pub hash_balance_factor: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKind {
    Ring {
        minimum_ring_size: u64,
        maximum_ring_size: u64,
        function: HashFunction,
    },
    /// `table_size` is prime.
    Maglev {
        table_size: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashFunction {
    XxHash,
    MurmurHash2,
}

/// Which host of one list a hash belongs to.
#[derive(Debug)]
pub struct Table {
    hosts: HostList,
    weights: Box<[u32]>,
    /// Only with a balance factor.
    shares: Box<[f64]>,
    entries: Entries,
    hash_balance_factor: Option<u32>,
    /// Entries of all hosts, of the host with the fewest, and of the one with the most.
    pub size: (u64, u64, u64),
}

#[derive(Debug)]
enum Entries {
    /// By hash.
    Ring(Box<[(u64, u32)]>),
    Maglev(Box<[u32]>),
}

impl HashPolicy {
    /// A table of these hosts, or `old` if that is one.
    pub fn table(&self, hosts: &HostList, old: Option<&Arc<Table>>) -> Arc<Table> {
        let weights: Box<[u32]> = hosts.iter().map(|host| host.weight()).collect();
        if let Some(old) = old.filter(|old| old.weights == weights && *old.hosts == **hosts) {
            return old.clone();
        }
        let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let keyed: Vec<Weighted> =
            hosts.iter().map(|host| (self.key(host), f64::from(host.weight()) / sum as f64)).collect();
        let mut counts = vec![0_u64; hosts.len()];
        let entries = match self.kind {
            HashKind::Ring { minimum_ring_size, maximum_ring_size, function } => {
                Entries::Ring(ring(&keyed, (minimum_ring_size, maximum_ring_size), function, &mut counts))
            }
            HashKind::Maglev { table_size } => Entries::Maglev(maglev(&keyed, table_size, &mut counts)),
        };
        let total = counts.iter().sum();
        let fewest = counts.iter().copied().min().unwrap_or_default();
        let size = (total, fewest, counts.iter().copied().max().unwrap_or_default());
        let shares = match self.hash_balance_factor {
            Some(_) => keyed.iter().map(|(_, share)| *share).collect(),
            None => Box::default(),
        };
        let hash_balance_factor = self.hash_balance_factor;
        Arc::new(Table { hosts: hosts.clone(), weights, shares, entries, hash_balance_factor, size })
    }

    /// `hash_key` of the host's `envoy.lb` metadata, or else its name or address.
    fn key(&self, host: &Host) -> String {
        let metadata = host.metadata.as_ref();
        let key = metadata.and_then(|lazy| metadata::text(lazy.get(), "envoy.lb", &["hash_key"]));
        match key.filter(|key| !key.is_empty()) {
            Some(key) => key.to_owned(),
            None if self.use_hostname_for_hashing => host.hostname.to_string(),
            None => host.current_address().to_string(),
        }
    }
}

impl Table {
    /// The host for a hash; `attempt` counts the hosts that were turned down before. `active` is the number of requests
    /// under way to the whole cluster.
    pub fn choose(&self, hash: u64, attempt: u32, active: &dyn Fn() -> u64) -> Option<&Arc<Host>> {
        let index = match &self.entries {
            Entries::Ring(ring) => {
                let at = ring.partition_point(|(place, _)| *place < hash);
                let at = if at == ring.len() { 0 } else { at };
                ring.get(at.wrapping_add(attempt as usize).checked_rem(ring.len())?)?.1
            }
            Entries::Maglev(table) => {
                // Other bits, so that not all that turn down one host go to the same other one.
                let hash = if attempt > 0 { hash ^ (!0_u64 - u64::from(attempt) + 1) } else { hash };
                *table.get(hash.checked_rem(table.len() as u64)? as usize)?
            }
        };
        let index = index as usize;
        let index = match self.hash_balance_factor {
            Some(factor) => {
                let slots = (active().saturating_add(1).saturating_mul(factor.into()).saturating_add(99)) / 100;
                let load = |index: usize| {
                    let share = self.shares.get(index).copied().unwrap_or_default();
                    let own = (slots as f64 * share).ceil().max(1.0);
                    let busy = self.hosts.get(index).map_or(0, |host| host.stats.rq_active.load(Ordering::Relaxed));
                    busy as f64 / own
                };
                least_overloaded(index, self.hosts.len(), hash, load)
            }
            None => index,
        };
        self.hosts.get(index)
    }
}

/// Hosts on a circle of hashes, each as often as its share demands.
fn ring(
    hosts: &[Weighted],
    (minimum, maximum): (u64, u64),
    function: HashFunction,
    counts: &mut [u64],
) -> Box<[(u64, u32)]> {
    let Some(least) = hosts.iter().map(|(_, share)| *share).reduce(f64::min) else { return Box::default() };
    // So many that the host with the smallest share gets a whole number.
    let scale = ((least * minimum as f64).ceil() / least).min(maximum as f64);
    let mut ring = Vec::with_capacity(scale.ceil() as usize);
    let (mut current, mut target) = (0.0, 0.0);
    let mut digits = itoa::Buffer::new();
    let mut name = Vec::new();
    for (index, ((key, share), count)) in hosts.iter().zip(counts).enumerate() {
        target += scale * share;
        name.clear();
        name.extend_from_slice(key.as_bytes());
        name.push(b'_');
        let prefix = name.len();
        while current < target {
            name.truncate(prefix);
            name.extend_from_slice(digits.format(*count).as_bytes());
            let hash = match function {
                HashFunction::XxHash => XxHash64::oneshot(0, &name),
                HashFunction::MurmurHash2 => murmur_hash_2(&name),
            };
            ring.push((hash, index as u32));
            *count += 1;
            current += 1.0;
        }
    }
    ring.sort_by_key(|(hash, _)| *hash);
    ring.into()
}

/// The table of "Maglev: A Fast and Reliable Software Network Load Balancer", with weights.
fn maglev(hosts: &[Weighted], size: u32, counts: &mut [u64]) -> Box<[u32]> {
    struct Walk {
        place: u64,
        skip: u64,
        share: f64,
        target: f64,
    }
    const FREE: u32 = u32::MAX;
    let Some(most) = hosts.iter().map(|(_, share)| *share).reduce(f64::max) else { return Box::default() };
    let size = u64::from(size);
    let walk = |(key, share): &Weighted| Walk {
        place: XxHash64::oneshot(0, key.as_bytes()).checked_rem(size).unwrap_or_default(),
        skip: XxHash64::oneshot(1, key.as_bytes()).checked_rem(size - 1).unwrap_or_default() + 1,
        share: *share,
        target: 0.0,
    };
    let mut walks: Vec<Walk> = hosts.iter().map(walk).collect();
    let mut table = vec![FREE; size as usize];
    let mut left = size;
    let mut round = 1.0;
    while left > 0 {
        for (index, (walk, count)) in walks.iter_mut().zip(&mut *counts).enumerate() {
            // A host with a third of the largest share takes part in every third round.
            if left == 0 || round * walk.share < walk.target {
                continue;
            }
            walk.target += most;
            // The size is prime, so a walk comes by every place.
            let free = loop {
                let place = walk.place;
                walk.place = (walk.place + walk.skip) % size;
                if let Some(entry) = table.get_mut(place as usize).filter(|entry| **entry == FREE) {
                    break entry;
                }
            };
            *free = index as u32;
            *count += 1;
            left -= 1;
        }
        round += 1.0;
    }
    table.into()
}

/// 64 bits, with the seed of libstdc++'s `std::hash`.
fn murmur_hash_2(bytes: &[u8]) -> u64 {
    const MUL: u64 = 0xc6a4_a793_5bd1_e995;
    let mix = |value: u64| value ^ (value >> 47);
    let mut hash = 0xc70f_6907_u64 ^ (bytes.len() as u64).wrapping_mul(MUL);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash ^= mix(u64::from_le_bytes(*word).wrapping_mul(MUL)).wrapping_mul(MUL);
        hash = hash.wrapping_mul(MUL);
    }
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = hash.wrapping_mul(MUL);
    }
    mix(mix(hash).wrapping_mul(MUL))
}
