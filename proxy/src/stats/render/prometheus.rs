//! `/stats/prometheus`: the text exposition format, version 0.0.4, without HELP lines, as Envoy prints it.
//!
//! Counters come first, then gauges, text readouts if asked for, histograms; within a kind families are in the order of
//! their names and the series of a family in the order of their full names, all in one run, as Prometheus demands.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;

use super::number::general_32;
use super::{Buckets, PIECE, Query};
use crate::stats::Stats;
use crate::stats::block::BlockCore;
use crate::stats::histogram::QUANTILES;
use crate::stats::read::{Item, Merge, Selection, Value};
use crate::stats::table::Place;
use crate::stats::tags::{self, Families, prometheus_name};

pub struct Prometheus {
    stats: Stats,
    query: Query,
    kinds: std::vec::IntoIter<(Selection, &'static str)>,
    kind: &'static str,
    families: std::vec::IntoIter<(Arc<str>, Vec<Row>)>,
}

/// A series, without its family.
struct Row {
    block: Arc<BlockCore>,
    labels: Labels,
    value: RowValue,
}

enum Labels {
    /// One of the block's label sets.
    Known(u16),
    Own(Box<str>),
}

impl Labels {
    fn of<'a>(&'a self, block: &'a BlockCore) -> &'a str {
        match self {
            Self::Known(set) => block.tags().labels.get(usize::from(*set)).map_or("", |set| set),
            Self::Own(labels) => labels,
        }
    }
}

enum RowValue {
    Number(u64),
    Histogram(Place),
}

impl Prometheus {
    pub fn new(stats: Stats, query: Query, text_readouts: bool) -> Self {
        let none = Selection { used_only: query.used_only, ..Selection::default() };
        let histogram = if query.buckets == Some(Buckets::Summary) { "summary" } else { "histogram" };
        let mut kinds = vec![
            (Selection { counters: true, ..none }, "counter"),
            (Selection { gauges: true, ..none }, "gauge"),
            (Selection { texts: text_readouts, ..none }, "gauge"),
            (Selection { histograms: true, ..none }, histogram),
        ];
        kinds.retain(|(select, _)| select.counters || select.gauges || select.texts || select.histograms);
        Self { stats, query, kinds: kinds.into_iter(), kind: "", families: Vec::new().into_iter() }
    }

    /// All series of a kind by family.
    fn series(&self, select: Selection) -> Vec<(Arc<str>, Vec<Row>)> {
        let mut families = FamilyRows::default();
        let mut merge = Merge::new(self.stats.blocks(), select);
        let mut name = String::new();
        loop {
            let more = merge.next(|block, item| {
                name.clear();
                name.push_str(&block.prefix);
                name.push_str(&item.name);
                if self.query.wants(&name) {
                    families.add(block, &name, item);
                }
            });
            if more.is_none() {
                break;
            }
        }
        let mut rows = families.rows;
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    }

    fn family(&self, out: &mut Vec<u8>, family: &str, rows: &[Row]) -> std::io::Result<()> {
        let name = match self.stats.shared.strip_namespace(family) {
            Some(rest) => prometheus_name(rest).into_owned(),
            None => format!("envoy_{}", prometheus_name_part(family)),
        };
        writeln!(out, "# TYPE {name} {}", self.kind)?;
        for row in rows {
            let labels = row.labels.of(&row.block);
            match row.value {
                RowValue::Number(value) => writeln!(out, "{name}{{{labels}}} {value}")?,
                RowValue::Histogram(at) if self.query.buckets == Some(Buckets::Summary) => {
                    summary(out, &name, labels, &row.block, at)?;
                }
                RowValue::Histogram(at) => histogram(out, &name, labels, &row.block, at)?,
            }
        }
        Ok(())
    }
}

/// What may follow the prefix `envoy_`; a digit may.
fn prometheus_name_part(family: &str) -> String {
    let name = format!("_{family}");
    prometheus_name(&name).get(1..).unwrap_or_default().to_owned()
}

#[derive(Default)]
struct FamilyRows {
    rows: Vec<(Arc<str>, Vec<Row>)>,
    by_name: HashMap<Arc<str>, usize>,
    /// The same for fields, which spares comparing names.
    by_field: HashMap<(*const Families, u16), usize>,
}

impl FamilyRows {
    fn add(&mut self, block: &Arc<BlockCore>, name: &str, item: Item) {
        let (family, mut labels) = match item.field {
            Some(field) => {
                let Some((family, set)) = block.tags().families.get(field) else { return };
                (self.of_field(&block.tags().families, field, family), Labels::Known(set))
            }
            None => {
                let tagged = block.shared.config.tags.produce(name);
                (self.of_name(&Arc::from(tagged.name)), Labels::Own(tags::labels(&tagged.tags).into()))
            }
        };
        let value = match item.value {
            Value::Counter(value) | Value::Gauge(value) => RowValue::Number(value),
            Value::Histogram(at) => RowValue::Histogram(at),
            Value::Text(text) => {
                let text = tags::labels(&[("text_value".into(), text.into())]);
                let before = labels.of(block);
                let comma = if before.is_empty() { "" } else { "," };
                labels = Labels::Own(format!("{before}{comma}{text}").into());
                RowValue::Number(0)
            }
        };
        if let Some((_, rows)) = self.rows.get_mut(family) {
            rows.push(Row { block: Arc::clone(block), labels, value });
        }
    }

    fn of_field(&mut self, families: &Arc<Families>, field: u16, family: &Arc<str>) -> usize {
        let key = (Arc::as_ptr(families), field);
        if let Some(&at) = self.by_field.get(&key) {
            return at;
        }
        let at = self.of_name(family);
        self.by_field.insert(key, at);
        at
    }

    fn of_name(&mut self, family: &Arc<str>) -> usize {
        *self.by_name.entry(Arc::clone(family)).or_insert_with(|| {
            self.rows.push((Arc::clone(family), Vec::new()));
            self.rows.len() - 1
        })
    }
}

fn histogram(out: &mut Vec<u8>, name: &str, labels: &str, block: &BlockCore, at: Place) -> std::io::Result<()> {
    let total = block.total(at);
    let comma = if labels.is_empty() { "" } else { "," };
    let full_name = format!("{}{}", block.prefix, block.table.field(at.index).name);
    for bound in block.shared.config.buckets(&full_name) {
        let (le, count) = (general_32(*bound), total.count_below(*bound));
        writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{le}\"}} {count}")?;
    }
    let count = total.count();
    writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {count}")?;
    writeln!(out, "{name}_sum{{{labels}}} {}", general_32(total.sum()))?;
    writeln!(out, "{name}_count{{{labels}}} {count}")
}

/// Quantiles, sum and count of the last flush interval.
fn summary(out: &mut Vec<u8>, name: &str, labels: &str, block: &BlockCore, at: Place) -> std::io::Result<()> {
    let interval = block.interval(at);
    let comma = if labels.is_empty() { "" } else { "," };
    for q in QUANTILES {
        writeln!(out, "{name}{{{labels}{comma}quantile=\"{q}\"}} {}", general_32(interval.quantile(q)))?;
    }
    writeln!(out, "{name}_sum{{{labels}}} {}", general_32(interval.sum()))?;
    writeln!(out, "{name}_count{{{labels}}} {}", interval.count())
}

impl Iterator for Prometheus {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.len() < PIECE {
            match self.families.next() {
                // Writing to a vector cannot fail.
                Some((family, rows)) => {
                    let _ = self.family(&mut out, &family, &rows);
                }
                None => {
                    let Some((select, kind)) = self.kinds.next() else { break };
                    self.kind = kind;
                    self.families = self.series(select).into_iter();
                }
            }
        }
        (!out.is_empty()).then(|| out.into())
    }
}
