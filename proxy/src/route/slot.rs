//! Route tables that a discovery service sends (RDS): the place of one by name, and which places are in use.
//!
//! A connection manager holds a [`RouteSlot`] from when it is built; the table in it is exchanged later without touching the
//! connection manager or its connections. Connection managers that name the same routes of the same source share the slot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use http::HeaderName;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{RouteMatch, RouteTable};
use crate::config::{ConfigSource, Dependency};
use crate::http::RequestHead;
use crate::stream_info::StreamInfo;

/// The place of a route table by name.
pub struct RouteSlot {
    pub name: Arc<str>,
    pub source: ConfigSource,
    /// Of its statistics: `http.<stat_prefix>.rds.<name>`, of the first connection manager that named it.
    pub stat_scope: String,
    current: ArcSwapOption<RouteTable>,
    given_up: AtomicBool,
    slots: Arc<Shared>,
}

impl RouteSlot {
    /// Puts a table to use: requests that come from now on are matched against it.
    pub fn store(&self, table: Option<Arc<RouteTable>>) {
        self.current.store(table);
    }

    pub fn load(&self) -> Option<Arc<RouteTable>> {
        self.current.load_full()
    }

    /// Who waits for the table need not any more, though there is none.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }
}

impl Dependency for RouteSlot {
    fn name(&self) -> String {
        format!("RdsRouteConfigSubscription RDS init {}", self.name)
    }

    fn is_ready(&self) -> bool {
        self.given_up.load(Ordering::Acquire) || self.current.load().is_some()
    }
}

impl Drop for RouteSlot {
    fn drop(&mut self) {
        self.slots.changed.notify_one();
    }
}

/// The route tables of the process that are discovered.
#[derive(Default)]
pub struct RouteSlots(Arc<Shared>);

#[derive(Default)]
struct Shared {
    slots: Mutex<Vec<Weak<RouteSlot>>>,
    changed: Notify,
}

impl RouteSlots {
    /// The slot of this name and source, made on first use.
    pub fn slot(&self, source: ConfigSource, name: &str, stat_scope: impl FnOnce() -> String) -> Arc<RouteSlot> {
        let mut slots = self.0.slots.lock();
        let mut live = slots.iter().filter_map(Weak::upgrade);
        if let Some(slot) = live.find(|slot| *slot.name == *name && slot.source.origin == source.origin) {
            return slot;
        }
        let slot = Arc::new(RouteSlot {
            name: name.into(),
            source,
            stat_scope: stat_scope(),
            current: ArcSwapOption::empty(),
            given_up: AtomicBool::new(false),
            slots: self.0.clone(),
        });
        slots.push(Arc::downgrade(&slot));
        self.0.changed.notify_one();
        slot
    }

    /// Those that somebody uses.
    pub fn live(&self) -> Vec<Arc<RouteSlot>> {
        let mut slots = self.0.slots.lock();
        slots.retain(|slot| slot.strong_count() > 0);
        slots.iter().filter_map(Weak::upgrade).collect()
    }

    /// Resolves when a slot came or went since the last call. Cancel safe; for one task.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

/// Where a connection manager has its routes from.
pub enum Routes {
    /// `route_config`.
    Inline(Arc<RouteTable>),
    /// `rds`.
    Discovered(Arc<RouteSlot>),
}

impl Routes {
    /// The route of a request in the table of this moment. See [`RouteTable::find`].
    pub fn find(&self, head: &RequestHead, info: &StreamInfo, random: u64) -> Option<RouteMatch> {
        match self {
            Routes::Inline(table) => table.find(head, info, random),
            Routes::Discovered(slot) => slot.current.load().as_ref()?.find(head, info, random),
        }
    }

    /// Calls `with` for each header that requests from outside must not carry.
    pub fn internal_only_headers(&self, with: impl FnMut(&HeaderName)) {
        match self {
            Routes::Inline(table) => table.internal_only_headers.iter().for_each(with),
            Routes::Discovered(slot) => {
                if let Some(table) = slot.current.load().as_ref() {
                    table.internal_only_headers.iter().for_each(with);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::config::Origin;

    fn source(timeout: Option<u64>) -> ConfigSource {
        ConfigSource { origin: Origin::Ads, initial_fetch_timeout: timeout.map(std::time::Duration::from_secs) }
    }

    #[test]
    fn a_slot_is_shared_while_it_is_used() {
        let slots = RouteSlots::default();
        let first = slots.slot(source(None), "80", || "http.a.rds.80".into());
        assert!(slots.changed().now_or_never().is_some());
        let second = slots.slot(source(Some(1)), "80", || "http.b.rds.80".into());
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(first.stat_scope, "http.a.rds.80");
        assert!(slots.changed().now_or_never().is_none());
        assert_eq!(slots.live().len(), 1);
        drop((first, second));
        assert!(slots.changed().now_or_never().is_some());
        assert!(slots.live().is_empty());
    }

    #[test]
    fn a_slot_is_ready_when_it_has_a_table_or_is_given_up() {
        let slot = RouteSlots::default().slot(source(None), "80", String::new);
        assert!(!slot.is_ready());
        slot.give_up();
        assert!(slot.is_ready());
    }
}
