//! The registry of blocks: makes them, finds the one that exists already, lists them for exposition.

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use hashbrown::HashTable;
use parking_lot::Mutex;

use super::block::{BlockCore, Excluded, StatBlock};
use super::table::StatTable;

/// The statistics of a process. A clone is another handle to the same registry.
#[derive(Clone, Debug)]
pub struct Stats {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub workers: usize,
    hash: foldhash::fast::RandomState,
    blocks: Mutex<Blocks>,
}

#[derive(Debug, Default)]
struct Blocks {
    table: HashTable<Weak<BlockCore>>,
    /// Dead entries are swept when the table has grown to this size.
    sweep_at: usize,
}

impl Stats {
    /// A registry for `workers` worker threads, that includes every stat.
    pub fn new(workers: usize) -> Self {
        let hash = foldhash::fast::RandomState::default();
        Self { shared: Arc::new(Shared { workers, hash, blocks: Mutex::default() }) }
    }

    /// The block of family `T` in a scope such as `cluster.store-front`; made if no handle to it is alive. As in Envoy, a
    /// leading and a trailing dot of the scope do not count, and colons become underscores.
    pub fn block<T: StatTable>(&self, scope: &str) -> StatBlock<T> {
        let table = T::table();
        let prefix = sanitize(scope);
        let hash = self.shared.hash.hash_one(&*prefix);
        let mut blocks = self.shared.blocks.lock();
        let found = blocks.table.iter_hash(hash).filter_map(Weak::upgrade);
        if let Some(core) = found.into_iter().find(|b| std::ptr::eq(b.table, table) && *b.prefix == *prefix) {
            return StatBlock::new(core);
        }
        if blocks.table.len() >= blocks.sweep_at {
            blocks.table.retain(|weak| weak.strong_count() != 0);
            blocks.sweep_at = (2 * blocks.table.len()).max(64);
        }
        let core = Arc::new(BlockCore::new(table, &prefix, Arc::clone(&self.shared), self.excluded(&prefix)));
        let rehash = |weak: &Weak<BlockCore>| weak.upgrade().map_or(0, |b| self.shared.hash.hash_one(&*b.prefix));
        blocks.table.insert_unique(hash, Arc::downgrade(&core), rehash);
        StatBlock::new(core)
    }

    fn excluded(&self, _prefix: &str) -> Option<Arc<Excluded>> {
        None
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

    /// `/reset_counters`: counters and histograms begin at zero again, gauges stay.
    pub fn reset_counters(&self) {
        self.blocks().iter().for_each(|block| block.reset());
    }
}

impl Shared {
    /// Whether `stats_matcher` excludes a stat of this full name.
    pub fn excludes(&self, _name: &str) -> bool {
        false
    }
}

/// A scope's name as Envoy spells it, with a final dot unless empty.
fn sanitize(scope: &str) -> Box<str> {
    let scope = scope.strip_prefix('.').unwrap_or(scope);
    let scope = scope.strip_suffix('.').unwrap_or(scope);
    if scope.is_empty() {
        return "".into();
    }
    let mut out = scope.replace("://", "_").replace(":/", "_").replace([':', '\0'], "_");
    out.push('.');
    out.into()
}
