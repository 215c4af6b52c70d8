//! A block of stats: one family in one scope. Call sites hold a [`StatBlock`] and name fields by their typed constants.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::histogram::Snapshot;
use super::registry::Shared;
use super::shard::{CodeKey, Control, Named, Rare, Shard, current};
use super::table::{Codes, Counter, Gauge, Histogram, Kind, Place, StatTable, Table, Text};
use super::tags::BlockTags;

/// A handle to a block. Cloning it costs an atomic increment: keep one per connection, not one per request. The block stays
/// listed until its last handle is dropped.
pub struct StatBlock<T> {
    pub(super) core: Arc<BlockCore>,
    family: PhantomData<fn() -> T>,
}

impl<T> Clone for StatBlock<T> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core), family: PhantomData }
    }
}

impl<T> fmt::Debug for StatBlock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatBlock({:?})", self.core.prefix)
    }
}

impl<T: StatTable> StatBlock<T> {
    pub(super) fn new(core: Arc<BlockCore>) -> Self {
        Self { core, family: PhantomData }
    }

    /// The scope, with its final dot: `cluster.store-front.`.
    pub fn prefix(&self) -> &str {
        &self.core.prefix
    }

    /// The registry that the block belongs to.
    pub fn registry(&self) -> super::Stats {
        super::Stats { shared: Arc::clone(&self.core.shared) }
    }

    #[inline]
    pub fn inc(&self, field: Counter<T>) {
        self.core.add(field.0, 1);
    }

    #[inline]
    pub fn add(&self, field: Counter<T>, n: u64) {
        self.core.add(field.0, n);
    }

    #[inline]
    pub fn gauge_inc(&self, field: Gauge<T>) {
        self.core.gauge_add(field.0, 1);
    }

    #[inline]
    pub fn gauge_dec(&self, field: Gauge<T>) {
        self.core.gauge_add(field.0, 1u64.wrapping_neg());
    }

    #[inline]
    pub fn gauge_add(&self, field: Gauge<T>, n: u64) {
        self.core.gauge_add(field.0, n);
    }

    #[inline]
    pub fn gauge_sub(&self, field: Gauge<T>, n: u64) {
        self.core.gauge_add(field.0, n.wrapping_neg());
    }

    /// Makes the gauge's sum over all threads `value`. For gauges that are only ever set, and meant for the control thread:
    /// it takes a lock, and a change that a worker makes meanwhile may be lost.
    pub fn set(&self, field: Gauge<T>, value: u64) {
        self.core.set(field.0, value);
    }

    /// Adds one now and takes it away when the guard is dropped, on whichever thread.
    pub fn gauge_guard(&self, field: Gauge<T>) -> GaugeGuard<T> {
        GaugeGuard::new(self.clone(), field)
    }

    /// Records a value in the unit of the histogram.
    #[inline]
    pub fn record(&self, field: Histogram<T>, value: u64) {
        self.core.record(field.0, value);
    }

    /// Counts a response: its code, its class and the total of the group.
    #[inline]
    pub fn code(&self, field: Codes<T>, code: u16) {
        self.core.code(field.0, code);
    }

    pub fn set_text(&self, field: Text<T>, text: &str) {
        if !self.core.is_excluded(field.0.index) {
            *self.core.control.lock().get_or_insert_default().rare().texts.entry(field.0.index) = text.into();
        }
    }

    /// Counts in a counter that this block has under a name known only now, as `ciphers.TLS_AES_128_GCM_SHA256`. Takes a
    /// lock: for what happens once per connection at most.
    pub fn inc_named(&self, name: &str) {
        self.add_named(name, 1);
    }

    /// Likewise, by `n`; 0 brings the counter into being.
    pub fn add_named(&self, name: &str, n: u64) {
        self.core.named(name, false, |value| *value = value.wrapping_add(n));
    }

    /// Sets a gauge that this block has under a name known only now. Takes a lock.
    pub fn set_named(&self, name: &str, value: u64) {
        self.core.named(name, true, |held| *held = value);
    }

    /// The sum over all threads.
    pub fn read(&self, field: Counter<T>) -> u64 {
        self.core.counter(field.0)
    }

    pub fn read_gauge(&self, field: Gauge<T>) -> u64 {
        self.core.gauge(field.0)
    }

    /// Everything recorded since the start.
    pub fn read_histogram(&self, field: Histogram<T>) -> Snapshot {
        self.core.total(field.0)
    }

    /// How often exactly this code was counted.
    pub fn read_code(&self, field: Codes<T>, code: u16) -> u64 {
        let key = CodeKey::new(field.0.index, code);
        self.core.codes().get(&key).copied().unwrap_or(0)
    }

    /// Responses of any code.
    pub fn read_codes(&self, field: Codes<T>) -> u64 {
        self.core.codes().iter().filter(|e| e.0.field() == field.0.index).map(|e| *e.1).sum()
    }

    pub fn read_named(&self, name: &str) -> u64 {
        self.core.with_rare(|rare| rare.named.iter().find(|n| *n.name == *name).map(|n| n.value)).flatten().unwrap_or(0)
    }
}

/// Holds one unit of a gauge: `upstream_cx_active`, `downstream_rq_active`. `B` is how it holds the block: a clone, an `Rc` or
/// a reference.
#[must_use = "dropping the guard takes the unit away again"]
#[derive(Debug)]
pub struct GaugeGuard<T: StatTable, B: Borrow<StatBlock<T>> = StatBlock<T>> {
    block: B,
    field: Gauge<T>,
}

impl<T: StatTable, B: Borrow<StatBlock<T>>> GaugeGuard<T, B> {
    pub fn new(block: B, field: Gauge<T>) -> Self {
        block.borrow().gauge_inc(field);
        Self { block, field }
    }
}

impl<T: StatTable, B: Borrow<StatBlock<T>>> Drop for GaugeGuard<T, B> {
    fn drop(&mut self) {
        self.block.borrow().gauge_dec(self.field);
    }
}

/// A block without the type of its family.
#[derive(Debug)]
pub(super) struct BlockCore {
    pub table: &'static Table,
    /// Empty, or ends with a dot.
    pub prefix: Box<str>,
    pub shared: Arc<Shared>,
    /// One bit per field that `stats_matcher` excludes; absent when it excludes none.
    pub excluded: Option<Arc<Excluded>>,
    /// One per worker.
    shards: OnceLock<Box<[OnceLock<Shard>]>>,
    pub control: Mutex<Option<Box<Control>>>,
    tags: OnceLock<Box<BlockTags>>,
}

/// A set of field indexes.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Excluded(pub Vec<u64>);

impl Excluded {
    #[inline]
    fn contains(&self, index: u16) -> bool {
        self.0.get(usize::from(index / 64)).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

/// A worker's cell of a gauge holds twice the value, plus one to tell "written" from "never written".
const USED: u64 = 1;

impl BlockCore {
    pub fn new(table: &'static Table, prefix: &str, shared: Arc<Shared>, excluded: Option<Arc<Excluded>>) -> Self {
        let (shards, control, tags) = (OnceLock::new(), Mutex::new(None), OnceLock::new());
        Self { table, prefix: prefix.into(), shared, excluded, shards, control, tags }
    }

    #[inline]
    pub fn is_excluded(&self, index: u16) -> bool {
        self.excluded.as_ref().is_some_and(|e| e.contains(index))
    }

    /// The shard of the calling thread if it is a worker that wrote here before.
    #[inline]
    fn own_shard(&self) -> Option<&Shard> {
        self.shards.get()?.get(usize::from(current().wrapping_sub(1)))?.get()
    }

    #[inline]
    fn own_cell(&self, slot: u16) -> Option<&AtomicU64> {
        self.own_shard()?.cells.get(usize::from(slot))
    }

    /// The calling worker's shard, made if need be; none for other threads.
    #[cold]
    fn make_shard(&self) -> Option<&Shard> {
        let shard = usize::from(current().checked_sub(1)?);
        if shard >= self.shared.workers {
            return None;
        }
        let shards = self.shards.get_or_init(|| (0..self.shared.workers).map(|_| OnceLock::new()).collect());
        Some(shards.get(shard)?.get_or_init(|| Shard::new(self.table.cells)))
    }

    #[inline]
    fn add(&self, at: Place, n: u64) {
        if self.is_excluded(at.index) {
            return;
        }
        match self.own_cell(at.slot) {
            Some(cell) => cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed),
            None => self.add_slow(at, n),
        }
    }

    #[cold]
    fn add_slow(&self, at: Place, n: u64) {
        if let Some(cell) = self.make_shard().and_then(|shard| shard.cells.get(usize::from(at.slot))) {
            return cell.store(n, Relaxed);
        }
        let mut control = self.control.lock();
        let cell = control.get_or_insert_default().cells.entry(at.index);
        *cell = cell.wrapping_add(n);
    }

    #[inline]
    fn gauge_add(&self, at: Place, n: u64) {
        if self.is_excluded(at.index) {
            return;
        }
        match self.own_cell(at.slot) {
            Some(cell) => cell.store(cell.load(Relaxed).wrapping_add(n << 1) | USED, Relaxed),
            None => self.gauge_add_slow(at, n),
        }
    }

    #[cold]
    fn gauge_add_slow(&self, at: Place, n: u64) {
        if let Some(cell) = self.make_shard().and_then(|shard| shard.cells.get(usize::from(at.slot))) {
            return cell.store(n << 1 | USED, Relaxed);
        }
        let mut control = self.control.lock();
        let cell = control.get_or_insert_default().cells.entry(at.index);
        *cell = cell.wrapping_add(n);
    }

    fn set(&self, at: Place, value: u64) {
        if self.is_excluded(at.index) {
            return;
        }
        let mut control = self.control.lock();
        let of_workers = self.worker_gauges(at);
        *control.get_or_insert_default().cells.entry(at.index) = value.wrapping_sub(of_workers);
    }

    #[inline]
    fn record(&self, at: Place, value: u64) {
        if self.is_excluded(at.index) {
            return;
        }
        match self.own_shard().or_else(|| self.make_shard()) {
            Some(shard) => shard.record(at.slot, self.table.histograms, value),
            None => {
                self.control.lock().get_or_insert_default().rare().histograms.entry(at.index).record(value);
            }
        }
    }

    #[inline]
    fn code(&self, at: Place, code: u16) {
        if self.is_excluded(at.index) {
            return;
        }
        let key = CodeKey::new(at.index, code);
        match self.own_shard().or_else(|| self.make_shard()) {
            Some(shard) => shard.codes.inc(key),
            None => *self.control.lock().get_or_insert_default().rare().codes.entry(key.raw()) += 1,
        }
    }

    fn named(&self, name: &str, gauge: bool, change: impl FnOnce(&mut u64)) {
        let mut control = self.control.lock();
        let named = &mut control.get_or_insert_default().rare().named;
        let at = named.iter().position(|n| *n.name == *name).unwrap_or_else(|| {
            let excluded = self.shared.excludes(&format!("{}{name}", self.prefix));
            named.push(Named { name: name.into(), gauge, excluded, value: 0 });
            named.len() - 1
        });
        if let Some(named) = named.get_mut(at).filter(|n| !n.excluded) {
            change(&mut named.value);
        }
    }

    pub fn with_rare<R>(&self, f: impl FnOnce(&Rare) -> R) -> Option<R> {
        self.control.lock().as_deref().and_then(Control::rare_ref).map(f)
    }

    /// Found when first asked for, which is the first scrape.
    pub fn tags(&self) -> &BlockTags {
        self.tags
            .get_or_init(|| Box::new(self.shared.families.find(&self.shared.config.tags, self.table, &self.prefix)))
    }

    fn workers(&self) -> impl Iterator<Item = &Shard> {
        self.shards.get().into_iter().flatten().filter_map(OnceLock::get)
    }

    fn worker_cells(&self, slot: u16) -> impl Iterator<Item = u64> {
        self.workers().filter_map(move |shard| shard.cells.get(usize::from(slot))).map(|cell| cell.load(Relaxed))
    }

    fn worker_gauges(&self, at: Place) -> u64 {
        self.worker_cells(at.slot).fold(0, |sum, held| sum.wrapping_add((held as i64 >> 1) as u64))
    }

    fn control_cell(&self, index: u16) -> Option<u64> {
        self.control.lock().as_ref().and_then(|c| c.cells.get(index).copied())
    }

    pub fn counter(&self, at: Place) -> u64 {
        let control = self.control_cell(at.index).unwrap_or(0);
        self.worker_cells(at.slot).fold(control, u64::wrapping_add)
    }

    /// A sum below zero, seen when one thread's increment is not read yet and another's decrement is, reads as zero.
    pub fn gauge(&self, at: Place) -> u64 {
        let sum = self.control_cell(at.index).unwrap_or(0).wrapping_add(self.worker_gauges(at));
        // A value that was only ever set may use all 64 bits (a version hash); what workers count never does.
        let counted = self.worker_cells(at.slot).any(|held| held != 0);
        if counted && (sum as i64) < 0 { 0 } else { sum }
    }

    /// Written at least once.
    pub fn is_used(&self, at: Place, kind: Kind) -> bool {
        match kind {
            Kind::Counter | Kind::Gauge => {
                self.worker_cells(at.slot).any(|held| held != 0) || self.control_cell(at.index).is_some()
            }
            Kind::Histogram(_) => !self.total(at).is_empty(),
            Kind::TextReadout => self.with_rare(|rare| rare.texts.get(at.index).is_some()).unwrap_or(false),
            Kind::Codes => self.codes().iter().any(|e| e.0.field() == at.index),
        }
    }

    /// All codes counted.
    pub fn codes(&self) -> BTreeMap<CodeKey, u64> {
        let mut all: BTreeMap<CodeKey, u64> = BTreeMap::new();
        let mut add = |key: CodeKey, n: u64| {
            let sum = all.entry(key).or_default();
            *sum = sum.wrapping_add(n);
        };
        for shard in self.workers() {
            shard.codes.for_each(&mut add);
        }
        self.with_rare(|rare| rare.codes.iter().for_each(|(raw, n)| add(CodeKey::from_raw(raw), *n)));
        all
    }

    /// Everything a histogram ever got.
    pub fn total(&self, at: Place) -> Snapshot {
        let mut sum = Snapshot::default();
        for shard in self.workers() {
            if let Some(histogram) = shard.histogram(at.slot) {
                sum.add_shard(histogram);
            }
        }
        self.with_rare(|rare| rare.histograms.get(at.index).map(|held| sum.add(held)));
        sum
    }

    /// What the last flush interval added to a histogram.
    pub fn interval(&self, at: Place) -> Snapshot {
        self.with_rare(|rare| rare.marks.get(at.index).map(|marks| marks.interval.clone()))
            .flatten()
            .unwrap_or_default()
    }

    /// Ends a flush interval.
    pub fn flush(&self) {
        for (_, at) in self.table.places().filter(|(field, _)| matches!(field.kind, Kind::Histogram(_))) {
            let now = self.total(at);
            if now.is_empty() {
                continue;
            }
            let mut control = self.control.lock();
            let marks = control.get_or_insert_default().rare().marks.entry(at.index);
            marks.interval = now.since(&marks.flushed);
            marks.flushed = now;
        }
    }

    /// Sets counters and codes to zero; they stay "used". Workers' cells are not touched, the control store takes on what
    /// makes the sums zero.
    pub fn reset(&self) {
        for (field, at) in self.table.places() {
            match field.kind {
                Kind::Counter if self.is_used(at, field.kind) => {
                    let value = self.counter(at);
                    let mut control = self.control.lock();
                    let cell = control.get_or_insert_default().cells.entry(at.index);
                    *cell = cell.wrapping_sub(value);
                }
                _ => {}
            }
        }
        for (key, value) in self.codes() {
            let mut control = self.control.lock();
            let cell = control.get_or_insert_default().rare().codes.entry(key.raw());
            *cell = cell.wrapping_sub(value);
        }
        let mut control = self.control.lock();
        if let Some(control) = control.as_deref_mut().filter(|c| c.rare_ref().is_some()) {
            control.rare().named.iter_mut().filter(|n| !n.gauge).for_each(|n| n.value = 0);
        }
    }
}
