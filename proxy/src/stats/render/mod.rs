//! What `/stats` and `/stats/prometheus` print, in Envoy's formats. Output comes in pieces, so that a large registry and a
//! slow reader cost a bounded buffer.

use bytes::Bytes;

mod json;
mod number;
mod prometheus;
mod text;

use super::Stats;
use super::block::BlockCore;
use super::read::{Merge, Selection, Value};
use super::table::Place;
use crate::config::matcher::Regex;

/// A piece is handed out when it has grown to this size.
const PIECE: usize = 64 << 10;

/// Which kinds of stats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kinds {
    #[default]
    All,
    Counters,
    Gauges,
    Histograms,
    TextReadouts,
    /// `hidden=only`: Envoy hides stats that are only there to be pushed; none is here.
    None,
}

/// How a histogram is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// Quantiles.
    Summary,
    /// How many values up to each bound.
    Cumulative,
    /// How many values between each two bounds.
    Disjoint,
    /// Every bin.
    Detailed,
}

/// What to print.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pub kinds: Kinds,
    pub used_only: bool,
    /// Full names in which this finds something, or finds nothing.
    pub filter: Option<Regex>,
    pub invert_filter: bool,
    /// `Summary` for text and JSON, `Cumulative` for Prometheus unless given.
    pub buckets: Option<Buckets>,
}

impl Query {
    fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(name.as_bytes()) != self.invert_filter)
    }

    /// The groups of stats in the order in which text and JSON have them: text readouts, then counters and gauges, then
    /// histograms.
    fn groups(&self) -> Vec<Selection> {
        let is = |kind| self.kinds == Kinds::All || self.kinds == kind;
        let used_only = self.used_only;
        let none = Selection { used_only, ..Selection::default() };
        vec![
            Selection { texts: is(Kinds::TextReadouts), ..none },
            Selection { counters: is(Kinds::Counters), gauges: is(Kinds::Gauges), ..none },
            Selection { histograms: is(Kinds::Histograms), ..none },
        ]
    }
}

impl Stats {
    /// `/stats`
    pub fn text(&self, query: Query) -> impl Iterator<Item = Bytes> + use<> {
        let text = text::Text::new(query.buckets.unwrap_or(Buckets::Summary));
        Pieces::new(self.clone(), query, text)
    }

    /// `/stats?format=json`
    pub fn json(&self, query: Query) -> impl Iterator<Item = Bytes> + use<> {
        let buckets = query.buckets.unwrap_or(Buckets::Summary);
        Pieces::new(self.clone(), query, json::Json::new(buckets))
    }

    /// `/stats/prometheus`. With `text_readouts` those are gauges of value 0 whose label `text_value` is the text. Of
    /// [`Buckets`] only `Cumulative`, which is Prometheus's histogram, and `Summary` exist here; the others count as the first.
    pub fn prometheus(&self, query: Query, text_readouts: bool) -> impl Iterator<Item = Bytes> + use<> {
        prometheus::Prometheus::new(self.clone(), query, text_readouts)
    }
}

/// A way to write stats one after the other.
trait Format {
    fn begin(&mut self, out: &mut Vec<u8>);
    fn stat(&mut self, out: &mut Vec<u8>, name: &str, value: Shown<'_>);
    fn end(&mut self, out: &mut Vec<u8>);
}

enum Shown<'a> {
    Number(u64),
    Text(&'a str),
    Histogram(&'a BlockCore, Place),
}

/// The pieces of a listing.
struct Pieces<F> {
    stats: Stats,
    query: Query,
    format: F,
    groups: std::vec::IntoIter<Selection>,
    merge: Option<Merge>,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Begin,
    Middle,
    Done,
}

impl<F: Format> Pieces<F> {
    fn new(stats: Stats, query: Query, format: F) -> Self {
        let groups = query.groups().into_iter();
        Self { stats, query, format, groups, merge: None, state: State::Begin }
    }
}

impl<F: Format> Iterator for Pieces<F> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        let mut name = String::new();
        match self.state {
            State::Done => return None,
            State::Begin => self.format.begin(&mut out),
            State::Middle => {}
        }
        self.state = State::Middle;
        while out.len() < PIECE {
            let Some(merge) = &mut self.merge else {
                let Some(group) = self.groups.next() else {
                    self.format.end(&mut out);
                    self.state = State::Done;
                    break;
                };
                self.merge = Some(Merge::new(self.stats.blocks(), group));
                continue;
            };
            let more = merge.next(|block, item| {
                name.clear();
                name.push_str(&block.prefix);
                name.push_str(&item.name);
                if self.query.wants(&name) {
                    let value = match &item.value {
                        Value::Counter(value) | Value::Gauge(value) => Shown::Number(*value),
                        Value::Text(text) => Shown::Text(text),
                        Value::Histogram(at) => Shown::Histogram(block, *at),
                    };
                    self.format.stat(&mut out, &name, value);
                }
            });
            if more.is_none() {
                self.merge = None;
            }
        }
        (!out.is_empty()).then(|| out.into())
    }
}

/// Counts between each two bounds, from counts up to each.
fn disjoint(mut counts: Vec<u64>) -> Vec<u64> {
    let mut below = 0;
    for count in &mut counts {
        (below, *count) = (*count, *count - below);
    }
    counts
}

#[cfg(test)]
mod tests;
