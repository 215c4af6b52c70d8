//! The registry of blocks: makes them, finds the one that exists already, lists them for exposition.

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use hashbrown::HashTable;
use parking_lot::Mutex;

use super::block::{BlockCore, Excluded, StatBlock};
use super::config::{StatsConfig, StatsMatcher};
use super::table::{Kind, StatTable, Table};
use super::tags::FamilyCache;

/// The statistics of a process. A clone is another handle to the same registry.
#[derive(Clone, Debug)]
pub struct Stats {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub workers: usize,
    pub config: StatsConfig,
    pub families: FamilyCache,
    /// First tokens of names that Prometheus shows without them and without `envoy_`.
    namespaces: Mutex<Vec<Box<str>>>,
    hash: foldhash::fast::RandomState,
    blocks: Mutex<Blocks>,
}

#[derive(Debug, Default)]
struct Blocks {
    table: HashTable<Weak<BlockCore>>,
    /// Dead entries are swept when the table has grown to this size.
    sweep_at: usize,
    lookups: Lookups,
    /// One of each distinct set, shared by the blocks that have it.
    exclusions: Vec<Weak<Excluded>>,
}

impl Stats {
    /// A registry for `workers` worker threads, that includes every stat.
    pub fn new(workers: usize) -> Self {
        Self::with_config(workers, StatsConfig::default())
    }

    pub fn with_config(workers: usize, config: StatsConfig) -> Self {
        let hash = foldhash::fast::RandomState::default();
        let (families, namespaces, blocks) = (FamilyCache::default(), Mutex::default(), Mutex::default());
        Self { shared: Arc::new(Shared { workers, config, families, namespaces, hash, blocks }) }
    }

    /// The block of family `T` in a scope such as `cluster.store-front`; made if no handle to it is alive. As in Envoy, a
    /// leading and a trailing dot of the scope do not count, and colons become underscores.
    pub fn block<T: StatTable>(&self, scope: &str) -> StatBlock<T> {
        self.block_verbatim(&scope.replace("://", "_").replace(":/", "_").replace([':', '\0'], "_"))
    }

    /// Like [`block`](Self::block), with the colons left as they are: the names that Envoy makes by putting strings together
    /// rather than from a scope, which are those of the router (`http.<stat_prefix>.`) and of virtual hosts (`vhost.`).
    pub fn block_verbatim<T: StatTable>(&self, scope: &str) -> StatBlock<T> {
        let table = T::table();
        let prefix = with_dot(scope);
        let hash = self.shared.hash.hash_one(&*prefix);
        let mut blocks = self.shared.blocks.lock();
        blocks.lookups.note(&prefix);
        let found = blocks.table.iter_hash(hash).filter_map(Weak::upgrade);
        if let Some(core) = found.into_iter().find(|b| std::ptr::eq(b.table, table) && *b.prefix == *prefix) {
            return StatBlock::new(core);
        }
        if blocks.table.len() >= blocks.sweep_at {
            blocks.table.retain(|weak| weak.strong_count() != 0);
            blocks.exclusions.retain(|weak| weak.strong_count() != 0);
            blocks.sweep_at = (2 * blocks.table.len()).max(64);
        }
        let excluded = self.shared.excluded(table, &prefix).map(|set| blocks.share(set));
        let core = Arc::new(BlockCore::new(table, &prefix, Arc::clone(&self.shared), excluded));
        let rehash = |weak: &Weak<BlockCore>| weak.upgrade().map_or(0, |b| self.shared.hash.hash_one(&*b.prefix));
        blocks.table.insert_unique(hash, Arc::downgrade(&core), rehash);
        StatBlock::new(core)
    }

    /// Makes Prometheus show stats of `<namespace>.` without the namespace and without `envoy_`, as for Istio's own metrics.
    pub fn add_prometheus_namespace(&self, namespace: &str) {
        let mut namespaces = self.shared.namespaces.lock();
        if !namespaces.iter().any(|known| **known == *namespace) {
            namespaces.push(namespace.into());
        }
    }

    /// The live blocks in the order of their prefixes.
    pub(super) fn blocks(&self) -> Vec<Arc<BlockCore>> {
        let mut live: Vec<_> = self.shared.blocks.lock().table.iter().filter_map(Weak::upgrade).collect();
        live.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        live
    }

    /// Ends a `stats_flush_interval`: what `/stats` prints as a histogram's interval values is what came since the flush before.
    pub fn flush(&self) {
        self.blocks().iter().for_each(|block| block.flush());
    }

    /// `/reset_counters`: counters begin at zero again, gauges and histograms stay, as in Envoy. Look-ups are forgotten.
    pub fn reset_counters(&self) {
        self.clear_lookups();
        self.blocks().iter().for_each(|block| block.reset());
    }
}

impl Stats {
    /// `/stats/recentlookups`: how often scopes were looked up by name, and which the last ones were, with their counts, the
    /// most frequent first; none unless they are tracked.
    pub fn lookups(&self) -> (u64, Option<Vec<(String, u64)>>) {
        let blocks = self.shared.blocks.lock();
        let recent = blocks.lookups.recent.as_ref().map(|recent| {
            let mut counts = BTreeMap::<&str, u64>::new();
            recent.iter().for_each(|name| *counts.entry(name).or_default() += 1);
            let mut counts: Vec<_> = counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
            counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            counts
        });
        (blocks.lookups.total, recent)
    }

    /// Begins or ends to track look-ups.
    pub fn track_lookups(&self, track: bool) {
        self.shared.blocks.lock().lookups.recent = track.then(VecDeque::new);
    }

    pub fn clear_lookups(&self) {
        let lookups = &mut self.shared.blocks.lock().lookups;
        lookups.total = 0;
        if let Some(recent) = &mut lookups.recent {
            recent.clear();
        }
    }
}

/// Look-ups of scopes by name. A busy proxy makes none: whoever counts keeps its block.
#[derive(Debug, Default)]
struct Lookups {
    total: u64,
    /// The last [`LOOKUPS`], while they are tracked.
    recent: Option<VecDeque<Box<str>>>,
}

/// As many as Envoy keeps.
const LOOKUPS: usize = 100;

impl Lookups {
    fn note(&mut self, prefix: &str) {
        self.total += 1;
        if let Some(recent) = &mut self.recent {
            recent.truncate(LOOKUPS - 1);
            recent.push_front(prefix.trim_end_matches('.').into());
        }
    }
}

impl Blocks {
    fn share(&mut self, set: Excluded) -> Arc<Excluded> {
        let held = self.exclusions.iter().filter_map(Weak::upgrade).find(|held| **held == set);
        held.unwrap_or_else(|| {
            let set = Arc::new(set);
            self.exclusions.push(Arc::downgrade(&set));
            set
        })
    }
}

impl Shared {
    /// The rest of a name in one of the namespaces that Prometheus does not show.
    pub fn strip_namespace<'a>(&self, name: &'a str) -> Option<&'a str> {
        let (first, rest) = name.split_once('.')?;
        self.namespaces.lock().iter().any(|known| **known == *first).then_some(rest)
    }

    /// Whether `stats_matcher` excludes a stat of this full name.
    pub fn excludes(&self, name: &str) -> bool {
        self.config.matcher.excludes(name)
    }

    /// The fields of a block that `stats_matcher` excludes. Response codes are counted in any case, unless every stat is
    /// excluded: there are five hundred names to each group, and they are asked for when they are shown.
    fn excluded(&self, table: &Table, prefix: &str) -> Option<Excluded> {
        if matches!(self.config.matcher, StatsMatcher::All) {
            return None;
        }
        let mut set = Excluded(vec![0; table.fields.len().div_ceil(64)]);
        let mut name = String::from(prefix);
        for (field, at) in table.places() {
            name.truncate(prefix.len());
            name.push_str(field.name);
            let excluded = match field.kind {
                Kind::Codes => matches!(self.config.matcher, StatsMatcher::None),
                _ => self.excludes(&name),
            };
            if let Some(word) = set.0.get_mut(usize::from(at.index / 64)).filter(|_| excluded) {
                *word |= 1 << (at.index % 64);
            }
        }
        set.0.iter().any(|word| *word != 0).then_some(set)
    }
}

/// A scope's name with one final dot unless empty.
fn with_dot(scope: &str) -> Box<str> {
    let scope = scope.strip_prefix('.').unwrap_or(scope);
    let scope = scope.strip_suffix('.').unwrap_or(scope);
    if scope.is_empty() { "".into() } else { format!("{scope}.").into() }
}
