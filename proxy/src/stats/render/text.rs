//! `/stats`: a line `name: value` for each stat. A histogram's pairs are (last interval, since the start).

use std::io::Write;

use super::number::general_6;
use super::{Buckets, Format, Shown, disjoint};
use crate::stats::histogram::{QUANTILES, Snapshot};

pub struct Text {
    buckets: Buckets,
}

impl Text {
    pub fn new(buckets: Buckets) -> Self {
        Self { buckets }
    }
}

impl Format for Text {
    fn begin(&mut self, _: &mut Vec<u8>) {}

    fn stat(&mut self, out: &mut Vec<u8>, name: &str, value: Shown<'_>) {
        // Writing to a vector cannot fail.
        let _ = match value {
            Shown::Number(value) => writeln!(out, "{name}: {value}"),
            Shown::Text(text) => writeln!(out, "{name}: \"{text}\""),
            Shown::Histogram(block, at) => {
                let (interval, total) = (block.interval(at), block.total(at));
                if total.is_empty() && !block.is_used(at, block.table.field(at.index).kind) {
                    writeln!(out, "{name}: No recorded values")
                } else {
                    histogram(out, name, &interval, &total, self.buckets, block.shared.config.buckets(name))
                }
            }
        };
    }

    fn end(&mut self, _: &mut Vec<u8>) {}
}

fn histogram(
    out: &mut Vec<u8>,
    name: &str,
    interval: &Snapshot,
    total: &Snapshot,
    buckets: Buckets,
    bounds: &[f64],
) -> std::io::Result<()> {
    let counts = |of: &Snapshot| -> Vec<u64> { bounds.iter().map(|bound| of.count_below(*bound)).collect() };
    let list = |interval: Vec<u64>, total: Vec<u64>| -> String {
        let pairs = bounds.iter().zip(interval.iter().zip(&total));
        pairs.map(|(bound, (i, t))| format!(" B{}({i},{t})", general_6(*bound))).collect()
    };
    match buckets {
        Buckets::Summary => writeln!(out, "{name}:{}", quantiles(interval, total)),
        Buckets::Cumulative => writeln!(out, "{name}:{}", list(counts(interval), counts(total))),
        Buckets::Disjoint => writeln!(out, "{name}:{}", list(disjoint(counts(interval)), disjoint(counts(total)))),
        Buckets::Detailed => {
            writeln!(out, "{name}:\n  totals={}\n  intervals={}", bins(total), bins(interval))?;
            writeln!(out, "  summary={}", quantiles(interval, total).trim_start())
        }
    }
}

fn quantiles(interval: &Snapshot, total: &Snapshot) -> String {
    let number = |value: f64| if value.is_nan() { "nan".to_owned() } else { format!("{value}") };
    let each = QUANTILES.iter().map(|&q| (q, number(interval.quantile(q)), number(total.quantile(q))));
    each.map(|(q, interval, total)| format!(" P{}({interval},{total})", q * 100.0)).collect()
}

fn bins(of: &Snapshot) -> String {
    let bins = of.bins().map(|bin| format!("{},{}:{}", general_6(bin.lower), general_6(bin.width), bin.count));
    bins.collect::<Vec<_>>().join(", ")
}
