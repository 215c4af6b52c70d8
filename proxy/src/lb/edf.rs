//! Earliest deadline first: a weighted turn. An entry's next turn is due one over its weight after its last one, so over
//! time entries come in proportion to their weights, and as evenly spread as can be. Weights may change from turn to turn.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

#[derive(Debug)]
pub(super) struct Edf {
    queue: BinaryHeap<Reverse<Entry>>,
    /// The deadline of the entry picked last.
    now: f64,
    /// Entries with the same deadline come in the order in which they were added.
    added: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    deadline: f64,
    added: u64,
    index: usize,
}

impl Edf {
    /// Entries `0..` with these weights, which must be above zero.
    pub fn new(weights: impl Iterator<Item = f64>) -> Self {
        let mut edf = Edf { queue: BinaryHeap::new(), now: 0.0, added: 0 };
        for (index, weight) in weights.enumerate() {
            edf.add(index, weight);
        }
        edf
    }

    /// The entry whose turn it is; it lines up again with the weight it has now. None without entries.
    pub fn pick(&mut self, weight: impl Fn(usize) -> f64) -> Option<usize> {
        let Reverse(entry) = self.queue.pop()?;
        self.now = entry.deadline;
        self.add(entry.index, weight(entry.index));
        Some(entry.index)
    }

    fn add(&mut self, index: usize, weight: f64) {
        self.queue.push(Reverse(Entry { deadline: self.now + 1.0 / weight, added: self.added, index }));
        self.added += 1;
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.deadline.total_cmp(&other.deadline).then(self.added.cmp(&other.added))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}
