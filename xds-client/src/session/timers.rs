//! Deadlines by name. Entries are never taken out early: whoever pops one checks that it still stands.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::TypeUrl;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `initial_fetch_timeout`.
    Fetch,
    /// `does_not_exist_timeout`.
    Missing,
    /// `Resource.ttl`.
    Ttl,
}

#[derive(Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, Kind, TypeUrl, String)>>);

impl Timers {
    pub fn set(&mut self, at: Instant, kind: Kind, type_url: &TypeUrl, name: &str) {
        self.0.push(Reverse((at, kind, type_url.clone(), name.to_owned())));
    }

    pub fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, ..))| *at)
    }

    pub fn pop(&mut self, now: Instant) -> Option<(Instant, Kind, TypeUrl, String)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}
