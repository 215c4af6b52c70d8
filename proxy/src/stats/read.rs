//! Reading a registry: the stats of a block, and those of all blocks merged in the order of their full names.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use super::block::BlockCore;
use super::table::{Kind, Place};

/// Which stats to read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Selection {
    pub counters: bool,
    pub gauges: bool,
    pub texts: bool,
    pub histograms: bool,
    /// Only stats written at least once.
    pub used_only: bool,
}

/// One stat of a block as it is now.
#[derive(Debug)]
pub(super) struct Item {
    /// Without the block's prefix.
    pub name: Cow<'static, str>,
    /// The field, for names that stand in the family's table.
    pub field: Option<u16>,
    pub value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Counter(u64),
    Gauge(u64),
    Text(Box<str>),
    /// Read when it is printed, see [`BlockCore::cumulative`] and [`BlockCore::interval`].
    Histogram(Place),
}

impl BlockCore {
    /// The selected stats in the order of their names.
    pub(super) fn items(&self, select: Selection) -> Vec<Item> {
        let mut items = Vec::new();
        for &at in self.table.sorted() {
            let field = self.table.field(at.index);
            let wanted = match field.kind {
                Kind::Counter => select.counters,
                Kind::Gauge => select.gauges,
                Kind::TextReadout => select.texts,
                Kind::Histogram(_) => select.histograms,
                Kind::Codes => false,
            };
            let needs_use = field.lazy || select.used_only;
            if !wanted || self.is_excluded(at.index) || (needs_use && !self.is_used(at, field.kind)) {
                continue;
            }
            let value = match field.kind {
                Kind::Gauge => Value::Gauge(self.gauge(at)),
                Kind::TextReadout => Value::Text(self.text(at.index)),
                Kind::Histogram(_) => Value::Histogram(at),
                Kind::Counter | Kind::Codes => Value::Counter(self.counter(at)),
            };
            items.push(Item { name: Cow::Borrowed(field.name), field: Some(at.index), value });
        }
        let of_table = items.len();
        if select.counters {
            self.code_items(select, &mut items);
        }
        self.named_items(select, &mut items);
        if items.len() > of_table {
            items.sort_by(|a, b| a.name.cmp(&b.name));
        }
        items
    }

    fn text(&self, index: u16) -> Box<str> {
        self.with_rare(|rare| rare.texts.get(index).cloned()).flatten().unwrap_or_default()
    }

    fn code_items(&self, select: Selection, items: &mut Vec<Item>) {
        let codes = self.codes();
        for (field, at) in self.table.places().filter(|(field, _)| field.kind == Kind::Codes) {
            if self.is_excluded(at.index) {
                continue;
            }
            let mut add = |name: String, value| {
                if !self.shared.excludes(&format!("{}{name}", self.prefix)) {
                    items.push(Item { name: name.into(), field: None, value: Value::Counter(value) });
                }
            };
            let ours = || codes.iter().filter(|(key, _)| key.field() == at.index).map(|(key, n)| (key.code(), *n));
            let mut total = 0u64;
            let mut used = false;
            for class in 0..6 {
                let of_class: Vec<_> = ours().filter(|(code, _)| code / 100 == class).collect();
                if of_class.is_empty() {
                    continue;
                }
                used = true;
                let sum = of_class.iter().fold(0, |sum: u64, (_, n)| sum.wrapping_add(*n));
                total = total.wrapping_add(sum);
                match class {
                    0 => add(format!("{}unknown", field.name), sum),
                    class => {
                        add(format!("{}{class}xx", field.name), sum);
                        of_class.iter().for_each(|(code, n)| add(format!("{}{code}", field.name), *n));
                    }
                }
            }
            if used || !(field.lazy || select.used_only) {
                add(format!("{}completed", field.name), total);
            }
        }
    }

    fn named_items(&self, select: Selection, items: &mut Vec<Item>) {
        self.with_rare(|rare| {
            for named in rare.named.iter().filter(|named| !named.excluded) {
                let wanted = if named.gauge { select.gauges } else { select.counters };
                let value = if named.gauge { Value::Gauge(named.value) } else { Value::Counter(named.value) };
                if wanted {
                    items.push(Item { name: Cow::Owned(named.name.to_string()), field: None, value });
                }
            }
        });
    }
}

/// All selected stats of all blocks by full name. A block is read when its turn comes, so memory holds the stats of the few
/// blocks whose names interleave (`cluster.a.` and `cluster.a.ssl.`), not of all.
pub(super) struct Merge {
    waiting: VecDeque<Arc<BlockCore>>,
    active: Vec<(Arc<BlockCore>, VecDeque<Item>)>,
    select: Selection,
}

impl Merge {
    /// `blocks` in the order of their prefixes.
    pub fn new(blocks: Vec<Arc<BlockCore>>, select: Selection) -> Self {
        Self { waiting: blocks.into(), active: Vec::new(), select }
    }

    /// Gives the next stat to `visit`; none at the end.
    pub fn next<R>(&mut self, visit: impl FnOnce(&Arc<BlockCore>, Item) -> R) -> Option<R> {
        loop {
            self.active.retain(|(_, items)| !items.is_empty());
            let least = self.least();
            let opens = |block: &Arc<BlockCore>| match least.and_then(|i| self.head(i)) {
                None => true,
                Some((active, name)) => compare((&block.prefix, ""), (&active.prefix, name)) == Ordering::Less,
            };
            if let Some(block) = self.waiting.front().filter(|block| opens(block)).cloned() {
                self.waiting.pop_front();
                let items = block.items(self.select).into();
                self.active.push((block, items));
                continue;
            }
            let (block, items) = self.active.get_mut(least?)?;
            return items.pop_front().map(|item| visit(block, item));
        }
    }

    fn head(&self, i: usize) -> Option<(&Arc<BlockCore>, &str)> {
        let (block, items) = self.active.get(i)?;
        Some((block, &items.front()?.name))
    }

    /// The active block whose next stat has the least name.
    fn least(&self) -> Option<usize> {
        (0..self.active.len()).min_by(|&a, &b| match (self.head(a), self.head(b)) {
            (Some((a, x)), Some((b, y))) => compare((&a.prefix, x), (&b.prefix, y)),
            _ => Ordering::Equal,
        })
    }
}

/// Compares names that are each in two parts.
fn compare(a: (&str, &str), b: (&str, &str)) -> Ordering {
    a.0.bytes().chain(a.1.bytes()).cmp(b.0.bytes().chain(b.1.bytes()))
}
