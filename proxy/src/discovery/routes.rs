//! RDS.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Instant;

use xds_client::{Rejected, Resource, TypeUrl, Update};
use xds_protos::Message;
use xds_protos::envoy::config::route::v3::RouteConfiguration;

use super::store::{Failed, Received, State};
use super::subscription::{Subscription, now_millis};
use super::{Discovery, check_name, decode, origin_of};
use crate::config::{Origin, Path, Reject};
use crate::registry;
use crate::route::{RouteSlot, RouteTable};
use crate::stats::StatBlock;
use crate::stats::names::{ConfigReloadStats, RdsStats};

/// The route tables that connection managers want.
#[derive(Default)]
pub(super) struct Routes {
    tables: HashMap<(Origin, Arc<str>), Table>,
}

struct Table {
    slot: Weak<RouteSlot>,
    received: Option<Received>,
    failed: Option<Failed>,
    subscription: Subscription,
    reloads: StatBlock<ConfigReloadStats>,
    stats: StatBlock<RdsStats>,
}

impl Routes {
    pub fn dump(&self) -> Vec<(Arc<str>, State)> {
        let state =
            |table: &Table| State { active: table.received.clone(), warming: None, failed: table.failed.clone() };
        let mut all: Vec<_> = self.tables.iter().map(|((_, name), table)| (name.clone(), state(table))).collect();
        all.retain(|(_, state)| state.active.is_some() || state.failed.is_some());
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Counts the end of a stream.
    pub fn failed(&self, of: &Origin) {
        let tables = self.tables.iter().filter(|((origin, _), _)| origin == of);
        tables.for_each(|(_, table)| table.subscription.failed());
    }

    /// Counts a refused response, after which nobody waits for a first table.
    pub fn refused(&self, of: &Origin) {
        for (_, table) in self.tables.iter().filter(|((origin, _), _)| origin == of) {
            table.subscription.refused();
            if let Some(slot) = table.slot.upgrade() {
                slot.give_up();
            }
        }
    }
}

impl Discovery {
    /// Subscribes to what is wanted, and unsubscribes from what is not any more.
    pub(super) fn follow_routes(self: &Rc<Self>) {
        let live = self.cx.routes.live();
        let mut routes = self.routes.borrow_mut();
        let mut gone = Vec::new();
        routes.tables.retain(|key, _| {
            let wanted = live.iter().any(|slot| slot.source.origin == key.0 && slot.name == key.1);
            if !wanted {
                gone.push(key.clone());
            }
            wanted
        });
        let mut refill = Vec::new();
        let mut wanted = Vec::new();
        for slot in &live {
            let key = (slot.source.origin.clone(), slot.name.clone());
            match routes.tables.get_mut(&key) {
                Some(table) if std::ptr::eq(table.slot.as_ptr(), Arc::as_ptr(slot)) => {}
                Some(table) => {
                    table.slot = Arc::downgrade(slot);
                    refill.extend(table.received.clone().map(|received| (slot.clone(), received)));
                }
                None => {
                    let subscription = Subscription::new(&self.cx.stats, &slot.stat_scope);
                    subscription.started();
                    let table = Table {
                        slot: Arc::downgrade(slot),
                        received: None,
                        failed: None,
                        subscription,
                        reloads: self.cx.stats.block(&slot.stat_scope),
                        stats: self.cx.stats.block(&slot.stat_scope),
                    };
                    routes.tables.insert(key, table);
                    wanted.push(slot.clone());
                }
            }
        }
        drop(routes);
        for slot in wanted {
            self.subscribe(&slot.source, &TypeUrl::ROUTE, &slot.name);
        }
        for (slot, received) in refill {
            // It was built of these bytes before.
            if let Ok(table) = RouteConfiguration::decode(received.value).map(|proto| self.build_routes(&proto)) {
                slot.store(table.ok());
            }
        }
        for (origin, name) in gone {
            self.unsubscribe(&origin, &TypeUrl::ROUTE, &name);
        }
    }

    fn build_routes(&self, proto: &RouteConfiguration) -> Result<Arc<RouteTable>, Reject> {
        // Clusters may come later than the routes to them, unless the table says otherwise.
        RouteTable::build(proto, &Path::root(""), &self.cx, false, &registry::filter_config)
    }

    pub(super) fn update_routes(self: &Rc<Self>, origin: &Origin, update: Update) -> Vec<Rejected> {
        let version: Arc<str> = update.version.as_str().into();
        let mut rejected = Vec::new();
        for resource in &update.added {
            if let Err(reason) = self.update_route(origin, resource, &version) {
                rejected.push(Rejected { name: resource.name.clone(), reason });
            }
        }
        // Routes that the server takes away stay, as in Envoy: who named them goes first, or nobody answers.
        rejected
    }

    fn update_route(self: &Rc<Self>, origin: &Origin, resource: &Resource, version: &Arc<str>) -> Result<(), String> {
        let start = Instant::now();
        let key = (origin.clone(), Arc::from(resource.name.as_str()));
        let mut routes = self.routes.borrow_mut();
        // Unsubscribed while the answer was on its way.
        let Some(table) = routes.tables.get_mut(&key) else { return Ok(()) };
        if table.received.as_ref().is_some_and(|known| known.value == resource.any.value) {
            table.failed = None;
            table.subscription.updated(version, start, false);
            return Ok(());
        }
        drop(routes);
        let decoded = decode::<RouteConfiguration>(resource);
        let decoded = decoded.and_then(|proto| check_name(resource, "name", &proto.name).map(|()| proto));
        let built = decoded.map_err(|reject| (reject, None)).and_then(|proto| {
            self.build_routes(&proto).map_err(|reject| {
                let object = origin_of::route(&proto, &reject);
                (reject, object)
            })
        });
        let received = Received::new(resource, version);
        let mut routes = self.routes.borrow_mut();
        let Some(table) = routes.tables.get_mut(&key) else { return Ok(()) };
        table.subscription.updated(version, start, built.is_err());
        match built {
            Ok(built) => {
                if built.virtual_hosts.is_empty() {
                    table.stats.inc(RdsStats::UPDATE_EMPTY);
                }
                table.reloads.inc(ConfigReloadStats::CONFIG_RELOAD);
                table.reloads.set(ConfigReloadStats::CONFIG_RELOAD_TIME_MS, now_millis());
                if let Some(slot) = table.slot.upgrade() {
                    slot.store(Some(built));
                }
                (table.received, table.failed) = (Some(received), None);
                Ok(())
            }
            Err((reject, object)) => {
                table.failed = Some(Failed { received, why: reject.to_string() });
                // A first table that is refused is not waited for.
                if let Some(slot) = table.slot.upgrade() {
                    slot.give_up();
                }
                Err(origin_of::reason(&reject, object.as_deref()))
            }
        }
    }

    pub(super) fn give_up_route(&self, origin: &Origin, name: &str) {
        let routes = self.routes.borrow();
        let Some(table) = routes.tables.get(&(origin.clone(), name.into())) else { return };
        table.subscription.timed_out();
        if let Some(slot) = table.slot.upgrade() {
            slot.give_up();
        }
    }
}
