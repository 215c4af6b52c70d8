//! Log-linear histograms with the bins of libcircllhist, which Envoy uses: two significant decimal digits. Whole numbers
//! from 0 to 99 have a bin each; from there each decade has ninety.
//!
//! [`HistogramShard`] is written by one worker; a [`Snapshot`] is the sum of shards at a moment, and computes what is
//! printed: quantiles, cumulative buckets, the approximate sum.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::shard::SmallMap;

/// Decades above 9 that a `u64` reaches.
const DECADES: usize = 19;
const BINS_PER_DECADE: u16 = 90;

/// The quantiles `/stats` prints.
pub const QUANTILES: [f64; 10] = [0.0, 0.25, 0.5, 0.75, 0.90, 0.95, 0.99, 0.995, 0.999, 1.0];

/// The bucket bounds of the Prometheus exposition unless `histogram_bucket_settings` says otherwise.
pub const DEFAULT_BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// The number of a bin: 0 to 9 for those values, then ninety for each decade.
#[inline]
fn bin_of(value: u64) -> u16 {
    if value < 100 {
        return value as u16;
    }
    let decade = value.ilog10();
    let mantissa = value / 10u64.pow(decade - 1);
    10 + (decade as u16 - 1) * BINS_PER_DECADE + (mantissa as u16 - 10)
}

/// Lower bound and width of a bin. The bins of 1 to 9 are a tenth wide, since a bin keeps two digits; that of 0 has no width.
fn bin_range(bin: u16) -> (f64, f64) {
    match bin {
        0 => (0.0, 0.0),
        1..10 => (f64::from(bin), 0.1),
        _ => {
            let (decade, mantissa) = ((bin - 10) / BINS_PER_DECADE, (bin - 10) % BINS_PER_DECADE + 10);
            let width = 10f64.powi(i32::from(decade));
            (f64::from(mantissa) * width, width)
        }
    }
}

type Decade = [AtomicU64; BINS_PER_DECADE as usize];

/// What one worker recorded. Decades are allocated when a value falls into them.
#[derive(Debug, Default)]
pub struct HistogramShard {
    small: [AtomicU64; 10],
    decades: [OnceLock<Box<Decade>>; DECADES],
}

impl HistogramShard {
    #[inline]
    pub fn record(&self, value: u64) {
        let bin = bin_of(value);
        let cell = match bin.checked_sub(10) {
            None => self.small.get(usize::from(bin)),
            Some(bin) => self.decades.get(usize::from(bin / BINS_PER_DECADE)).and_then(|decade| {
                let decade = decade.get_or_init(|| Box::new([const { AtomicU64::new(0) }; BINS_PER_DECADE as usize]));
                decade.get(usize::from(bin % BINS_PER_DECADE))
            }),
        };
        if let Some(cell) = cell {
            cell.store(cell.load(Relaxed) + 1, Relaxed);
        }
    }

    fn for_each(&self, mut visit: impl FnMut(u16, u64)) {
        let mut bin = 0;
        for cell in &self.small {
            visit(bin, cell.load(Relaxed));
            bin += 1;
        }
        for decade in &self.decades {
            for (i, cell) in decade.get().iter().flat_map(|decade| decade.iter()).enumerate() {
                visit(bin + i as u16, cell.load(Relaxed));
            }
            bin += BINS_PER_DECADE;
        }
    }
}

/// Counts by bin, sorted, none of them zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(SmallMap<u64>);

/// One bin or bucket of a histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub width: f64,
    pub count: u64,
}

impl Snapshot {
    pub fn record(&mut self, value: u64) {
        self.add_bin(bin_of(value), 1);
    }

    fn add_bin(&mut self, bin: u16, count: u64) {
        if count != 0 {
            *self.0.entry(bin) += count;
        }
    }

    pub fn add_shard(&mut self, shard: &HistogramShard) {
        shard.for_each(|bin, count| self.add_bin(bin, count));
    }

    pub fn add(&mut self, other: &Snapshot) {
        other.0.iter().for_each(|(bin, count)| self.add_bin(bin, *count));
    }

    /// What was recorded since `earlier`.
    pub fn since(&self, earlier: &Snapshot) -> Snapshot {
        let mut since = Snapshot::default();
        for (bin, count) in self.0.iter() {
            since.add_bin(bin, count.saturating_sub(earlier.0.get(bin).copied().unwrap_or(0)));
        }
        since
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn count(&self) -> u64 {
        self.0.iter().map(|e| *e.1).sum()
    }

    /// The bins that hold something, in order.
    pub fn bins(&self) -> impl Iterator<Item = Bucket> {
        self.0.iter().map(|(bin, &count)| {
            let (lower, width) = bin_range(bin);
            Bucket { lower, width, count }
        })
    }

    /// The sum of the values, each taken to lie at the harmonic mean of its bin's bounds.
    pub fn sum(&self) -> f64 {
        self.bins()
            .map(|b| {
                let upper = b.lower + b.width;
                let middle = if b.width == 0.0 { b.lower } else { 2.0 * b.lower * upper / (b.lower + upper) };
                middle * b.count as f64
            })
            .sum()
    }

    /// The value at quantile `q` in 0..=1, NaN when nothing was recorded. The values of a bin are taken to divide it into
    /// equal parts.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = ((self.count() as f64 * q).ceil() as u64).max(1);
        let mut below = 0;
        for bin in self.bins() {
            if below + bin.count >= rank {
                return bin.lower + bin.width * ((rank - below) as f64 / (bin.count + 1) as f64);
            }
            below += bin.count;
        }
        f64::NAN
    }

    /// How many values lie in bins that begin at or below `bound`.
    pub fn count_below(&self, bound: f64) -> u64 {
        self.bins().take_while(|b| b.lower <= bound).map(|b| b.count).sum()
    }
}
