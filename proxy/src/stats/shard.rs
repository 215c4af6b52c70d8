//! The cells of a block: one dense shard per worker, one sparse store for all other threads.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::histogram::{HistogramShard, Snapshot};

thread_local! {
    static SHARD: Cell<u16> = const { Cell::new(0) };
}

/// Makes shard `index` the calling thread's own: 1 for worker 0, 2 for worker 1 and so on. A worker calls this once at its
/// start; two threads that share one registry must not claim the same index. Threads that never call it use shard 0,
/// which any number of threads may write.
pub fn set_shard(index: usize) {
    SHARD.set(u16::try_from(index).unwrap_or(0));
}

/// The calling thread's own shard: 0 unless it called [`set_shard`]. What a worker keeps for itself beside its stats goes by
/// the same index.
pub fn current_shard() -> usize {
    usize::from(SHARD.get())
}

#[inline]
pub(super) fn current() -> u16 {
    SHARD.get()
}

/// A response code of one [`Codes`](super::Codes) field: the field's index above ten bits of code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct CodeKey(u16);

impl CodeKey {
    const CODE_BITS: u32 = 10;

    #[inline]
    pub fn new(field: u16, code: u16) -> Self {
        // Only 100..=599 are status codes; everything else is one class, "unknown".
        let code = if (100..600).contains(&code) { code } else { 0 };
        Self(field << Self::CODE_BITS | code)
    }

    pub fn field(self) -> u16 {
        self.0 >> Self::CODE_BITS
    }

    pub fn code(self) -> u16 {
        self.0 & ((1 << Self::CODE_BITS) - 1)
    }
}

/// What one worker counted.
#[derive(Debug)]
pub(super) struct Shard {
    pub cells: Box<[AtomicU64]>,
    histograms: OnceLock<Box<[OnceLock<Box<HistogramShard>>]>>,
    pub codes: CodeCells,
}

impl Shard {
    pub fn new(cells: u16) -> Self {
        Self {
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            histograms: OnceLock::new(),
            codes: CodeCells::default(),
        }
    }

    #[inline]
    pub fn record(&self, slot: u16, of: u16, value: u64) {
        let slots = self.histograms.get_or_init(|| (0..of).map(|_| OnceLock::new()).collect());
        if let Some(slot) = slots.get(usize::from(slot)) {
            slot.get_or_init(Box::default).record(value);
        }
    }

    pub fn histogram(&self, slot: u16) -> Option<&HistogramShard> {
        self.histograms.get()?.get(usize::from(slot))?.get().map(|h| &**h)
    }
}

/// Counts by [`CodeKey`]: an append-only list written by one thread. A proxy sees a handful of codes per cluster, and the
/// frequent ones come first, so a scan of a cache line beats a table of five hundred cells in time and memory. A slot holds
/// the key plus one in its upper 16 bits and the count below; 2^48 responses of one code is out of reach.
#[derive(Debug, Default)]
pub(super) struct CodeCells {
    slots: [AtomicU64; 7],
    next: OnceLock<Box<CodeCells>>,
}

impl CodeCells {
    const COUNT_BITS: u32 = 48;

    #[inline]
    pub fn inc(&self, key: CodeKey) {
        let tag = u64::from(key.0) + 1;
        for slot in &self.slots {
            let held = slot.load(Relaxed);
            if held >> Self::COUNT_BITS == tag {
                return slot.store(held + 1, Relaxed);
            }
            if held == 0 {
                return slot.store(tag << Self::COUNT_BITS | 1, Relaxed);
            }
        }
        self.next.get_or_init(Box::default).inc(key);
    }

    pub fn for_each(&self, mut visit: impl FnMut(CodeKey, u64)) {
        let mut list = Some(self);
        while let Some(cells) = list {
            for held in cells.slots.iter().map(|slot| slot.load(Relaxed)).filter(|&held| held != 0) {
                let tag = (held >> Self::COUNT_BITS) as u16;
                visit(CodeKey(tag.wrapping_sub(1)), held & ((1 << Self::COUNT_BITS) - 1));
            }
            list = cells.next.get().map(|next| &**next);
        }
    }
}

/// What threads other than workers wrote, and what concerns a block as a whole. Everything but `cells` is behind one more
/// pointer, because most blocks only ever see a few cells.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// By field index: counts, and signed changes of gauges modulo 2^64.
    pub cells: SmallMap<u64>,
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
pub(super) struct Rare {
    pub codes: SmallMap<u64>,
    pub histograms: SmallMap<Snapshot>,
    pub texts: SmallMap<Box<str>>,
    /// Flush marks of histograms, by field index.
    pub marks: SmallMap<Marks>,
    pub named: Vec<Named>,
}

/// A histogram as it was at certain moments.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Everything recorded until the last flush.
    pub flushed: Snapshot,
    /// What the last flush interval added.
    pub interval: Snapshot,
}

/// A stat whose name is known only at run time, such as `ciphers.TLS_AES_128_GCM_SHA256`.
#[derive(Debug)]
pub(super) struct Named {
    pub name: Box<str>,
    pub gauge: bool,
    pub excluded: bool,
    pub value: u64,
}

impl Control {
    pub fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub fn rare_ref(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }
}

impl CodeKey {
    pub fn raw(self) -> u16 {
        self.0
    }

    pub fn from_raw(raw: u16) -> Self {
        Self(raw)
    }
}

/// A sorted list from a small number to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SmallMap<V>(Vec<(u16, V)>);

impl<V> Default for SmallMap<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V: Default> SmallMap<V> {
    #[expect(clippy::indexing_slicing, reason = "the entry was found or inserted there")]
    pub fn entry(&mut self, key: u16) -> &mut V {
        let at = match self.0.binary_search_by_key(&key, |e| e.0) {
            Ok(at) => at,
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    // Grown by little: an idle cluster has five entries, and there are thousands of them.
                    self.0.reserve_exact(self.0.len().max(3));
                }
                self.0.insert(at, (key, V::default()));
                at
            }
        };
        &mut self.0[at].1
    }
}

impl<V> SmallMap<V> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, key: u16) -> Option<&V> {
        let at = self.0.binary_search_by_key(&key, |e| e.0).ok()?;
        self.0.get(at).map(|e| &e.1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u16, &V)> {
        self.0.iter().map(|(key, value)| (*key, value))
    }
}
