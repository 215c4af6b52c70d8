//! LDS.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use xds_client::{Rejected, Resource, Update};
use xds_protos::Message;
use xds_protos::envoy::config::listener::v3 as pb;

use super::store::{Received, State, Store};
use super::subscription::Subscription;
use super::{Discovery, check_name, decode, origin_of};
use crate::config::{BuildCx, Dependencies, Path, Reject};
use crate::listener::Listener;
use crate::server::init::InitTarget;
use crate::stats::StatBlock;
use crate::stats::names::ListenerManagerStats;

/// The listeners that were discovered.
pub(super) struct Listeners {
    store: Store,
    warming: BTreeMap<Arc<str>, WarmingListener>,
    pub(super) subscription: Subscription,
    stats: StatBlock<ListenerManagerStats>,
}

/// A listener, or a new version of one, that takes no connections yet.
struct WarmingListener {
    listener: Arc<Listener>,
    dependencies: Dependencies,
    received: Received,
    /// Holds up the start of the process.
    _init: Option<InitTarget>,
}

impl Listeners {
    /// Statistics of LDS exist where it `is_asked`.
    pub fn new(cx: &BuildCx, is_asked: bool) -> Self {
        Listeners {
            store: Store::default(),
            warming: BTreeMap::new(),
            subscription: Subscription::when(is_asked, &cx.stats, "listener_manager.lds"),
            stats: cx.stats.block("listener_manager"),
        }
    }

    pub fn dump(&self) -> (Arc<str>, Vec<(Arc<str>, State)>) {
        self.store.dump()
    }

    pub fn waiting(&self) -> Vec<(Arc<str>, Vec<String>)> {
        self.warming.iter().map(|(name, warming)| (name.clone(), warming.dependencies.unready())).collect()
    }

    fn count(&self) {
        self.stats.set(ListenerManagerStats::TOTAL_LISTENERS_WARMING, self.warming.len() as u64);
    }
}

impl Discovery {
    pub(super) fn update_listeners(self: &Rc<Self>, update: Update) -> Vec<Rejected> {
        let start = Instant::now();
        let version: Arc<str> = update.version.as_str().into();
        let mut removed = update.removed;
        if update.full {
            let present: HashSet<&str> = update.added.iter().map(|resource| resource.name.as_str()).collect();
            removed = self.listeners.borrow().store.absent(&present);
        }
        removed.iter().for_each(|name| self.remove_listener(name));
        let mut rejected = Vec::new();
        for resource in &update.added {
            if let Err(reason) = self.update_listener(resource, &version) {
                rejected.push(Rejected { name: resource.name.clone(), reason });
            }
        }
        let mut listeners = self.listeners.borrow_mut();
        listeners.subscription.updated(&version, start, !rejected.is_empty());
        if rejected.is_empty() {
            listeners.store.version = version;
        }
        listeners.count();
        drop(listeners);
        // Those that warm hold up the start by themselves.
        self.first_listeners.take();
        rejected
    }

    /// # Errors
    /// Why it is refused.
    fn update_listener(self: &Rc<Self>, resource: &Resource, version: &Arc<str>) -> Result<(), String> {
        let name = resource.name.as_str();
        let mut listeners = self.listeners.borrow_mut();
        let state = listeners.store.states.get(name);
        let known = state.and_then(|state| state.warming.as_ref().or(state.active.as_ref()));
        if known.is_some_and(|known| known.value == resource.any.value) {
            listeners.store.is_unchanged(name);
            return Ok(());
        }
        let active = state.and_then(|state| state.active.clone());
        drop(listeners);
        let old = self.server.listeners.listener(name);
        if old.is_some() && active.is_none() {
            tracing::debug!("listener {name:?} is of the bootstrap and stays as it is");
            return Ok(());
        }
        if active.as_ref().is_some_and(|active| active.value == resource.any.value) {
            // Back to what is in use.
            let mut listeners = self.listeners.borrow_mut();
            listeners.warming.remove(name);
            listeners.store.state(name).warming = None;
            listeners.store.is_unchanged(name);
            return Ok(());
        }
        let received = Received::new(resource, version);
        let refuse = |reject: &Reject, object: Option<String>| {
            self.listeners.borrow_mut().store.refused(name, received.clone(), reject);
            origin_of::reason(reject, object.as_deref())
        };
        let proto =
            decode(resource).and_then(|proto: pb::Listener| check_name(resource, "name", &proto.name).map(|()| proto));
        let proto = proto.map_err(|reject| refuse(&reject, None))?;
        let cx = self.cx.for_resource();
        let old_proto = active.and_then(|active| pb::Listener::decode(active.value).ok());
        let path = Path::root("");
        let built = match (&old, &old_proto) {
            (Some(old), Some(old_proto)) => Listener::update(&proto, old, old_proto, &path, &cx),
            _ => Listener::build(&proto, &path, &cx),
        };
        let listener = built.map_err(|reject| refuse(&reject, origin_of::listener(&proto, &reject)))?;
        let listener =
            if name.is_empty() { return Err("a listener from LDS needs a name".to_owned()) } else { listener };
        let starting = !self.server.is_started();
        let init = starting.then(|| self.server.init.target(format!("Listener {name}")));
        let warming = WarmingListener { listener, dependencies: cx.dependencies, received, _init: init };
        if warming.dependencies.are_ready() {
            return self.commit_listener(name, warming);
        }
        let mut listeners = self.listeners.borrow_mut();
        listeners.store.warms(name, warming.received.clone());
        listeners.warming.insert(name.into(), warming);
        Ok(())
    }

    /// # Errors
    /// When its addresses cannot be had.
    fn commit_listener(&self, name: &str, warming: WarmingListener) -> Result<(), String> {
        let WarmingListener { listener, received, .. } = warming;
        let added = self.server.listeners.add(listener);
        let mut listeners = self.listeners.borrow_mut();
        listeners.warming.remove(name);
        match added {
            Ok(()) => {
                listeners.store.is_active(name, received);
                Ok(())
            }
            Err(error) => {
                listeners.stats.inc(ListenerManagerStats::LISTENER_CREATE_FAILURE);
                listeners.store.state(name).warming = None;
                let reject = Reject { path: "address".to_owned(), why: error.to_string() };
                listeners.store.refused(name, received, &reject);
                Err(error.to_string())
            }
        }
    }

    fn remove_listener(&self, name: &str) {
        let mut listeners = self.listeners.borrow_mut();
        listeners.warming.remove(name);
        let state = listeners.store.states.remove(name);
        drop(listeners);
        // Others are of the bootstrap.
        if state.is_some_and(|state| state.active.is_some()) {
            self.server.listeners.remove(name);
        }
    }

    pub(super) fn commit_warm_listeners(&self) {
        let listeners = self.listeners.borrow();
        let warm = listeners.warming.iter().filter(|(_, warming)| warming.dependencies.are_ready());
        let warm: Vec<Arc<str>> = warm.map(|(name, _)| name.clone()).collect();
        drop(listeners);
        for name in warm {
            let warming = self.listeners.borrow_mut().warming.remove(&name);
            if let Some(warming) = warming
                && let Err(why) = self.commit_listener(&name, warming)
            {
                // It was acknowledged when it began to warm.
                tracing::error!("listener {name:?} cannot take connections: {why}");
            }
        }
        self.listeners.borrow().count();
    }
}
