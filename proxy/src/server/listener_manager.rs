//! All listeners of the process, on the control thread: adding, replacing, stopping and removing them.
//!
//! Addresses are bound when a listener is added; connections are accepted once [`ListenerManager::start`] has the workers.
//! Old connections keep the listener they came to, and are told to end when it is replaced or removed.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::drain::DrainState;
use super::watchdog::{self, WatchdogsConfig};
use super::worker::{Command, Event, Workers};
use super::{DrainStrategy, ServerOptions};
use crate::cluster::ClusterManager;
use crate::config::BuildCx;
use crate::filter_chain::FilterChain;
use crate::listener::bind::{Bound, bind};
use crate::listener::worker::ListenerId;
use crate::listener::{DrainType, Listener};
use crate::net::Address;
use crate::stats::names::ListenerManagerStats;
use crate::stats::{StatBlock, Stats};
use crate::stream_info::TrafficDirection;

/// Why a listener was not added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    #[error("error adding listener: '{listener}' has duplicate address '{address}' as existing listener '{other}'")]
    DuplicateAddress { listener: Arc<str>, address: Address, other: Arc<str> },
    #[error("error adding listener '{listener}': {error}")]
    Socket { listener: Arc<str>, error: io::Error },
}

/// A listener as `/listeners` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerStatus {
    pub name: Arc<str>,
    /// With the ports that were chosen for 0.
    pub addresses: Vec<Address>,
}

pub struct ListenerManager {
    options: Arc<ServerOptions>,
    registry: Stats,
    clusters: Arc<ClusterManager>,
    stats: StatBlock<ListenerManagerStats>,
    entries: RefCell<Vec<Entry>>,
    workers: RefCell<Option<Workers>>,
    next_id: Cell<u64>,
    /// `/healthcheck/fail`, and a drain that has begun: listeners added later are told too.
    health_failed: Cell<bool>,
    draining: Cell<bool>,
    draining_listeners: RefCell<Vec<Arc<Listener>>>,
}

struct Entry {
    id: ListenerId,
    listener: Arc<Listener>,
    /// Empty when the listener does not bind, or is stopped.
    bound: Vec<Bound>,
    stopped: bool,
}

impl Entry {
    fn addresses(&self) -> Vec<Address> {
        match self.bound.as_slice() {
            [] => self.listener.addresses.iter().map(|listen| listen.address.clone()).collect(),
            bound => bound.iter().map(|bound| bound.address.clone()).collect(),
        }
    }

    fn table(&self) -> Vec<SocketAddr> {
        match self.bound.as_slice() {
            [] => self.listener.addresses.iter().flat_map(|listen| listen.table_addresses(None)).collect(),
            bound => bound.iter().flat_map(Bound::table_addresses).collect(),
        }
    }
}

impl ListenerManager {
    pub fn new(cx: &BuildCx) -> Rc<Self> {
        Rc::new(ListenerManager {
            options: cx.options.clone(),
            registry: cx.stats.clone(),
            clusters: cx.clusters.clone(),
            stats: cx.stats.block("listener_manager"),
            entries: RefCell::default(),
            workers: RefCell::default(),
            next_id: Cell::new(0),
            health_failed: Cell::new(false),
            draining: Cell::new(false),
            draining_listeners: RefCell::default(),
        })
    }

    /// Adds a listener, or replaces the one of the same name.
    ///
    /// # Errors
    /// When another listener has one of its addresses, or a socket cannot be made. What was there before goes on.
    pub fn add(self: &Rc<Self>, listener: Arc<Listener>) -> Result<(), AddError> {
        self.refuse_duplicates(&listener)?;
        let socket = |error| AddError::Socket { listener: listener.name.clone(), error };
        let at = self.entries.borrow().iter().position(|entry| entry.listener.name == listener.name);
        if let Some(at) = at
            && self.replace_in_place(at, &listener)
        {
            self.stats.inc(ListenerManagerStats::LISTENER_MODIFIED);
            return Ok(());
        }
        let bound = match listener.bind_to_port {
            true => bind(&listener, self.options.concurrency).map_err(socket)?,
            false => Vec::new(),
        };
        let id = ListenerId(self.next_id.replace(self.next_id.get() + 1));
        let entry = Entry { id, listener: listener.clone(), bound, stopped: false };
        self.hand_out(&entry).map_err(socket)?;
        self.tell_draining(&listener);
        match at {
            Some(at) => {
                let old = self.entries.borrow_mut().get_mut(at).map(|place| std::mem::replace(place, entry));
                self.stats.inc(ListenerManagerStats::LISTENER_MODIFIED);
                old.into_iter().for_each(|old| self.retire(old));
            }
            None => {
                self.entries.borrow_mut().push(entry);
                self.stats.inc(ListenerManagerStats::LISTENER_ADDED);
            }
        }
        self.count();
        Ok(())
    }

    /// Removes a listener by name: it accepts no more, its connections are told to end and cut after the drain time.
    pub fn remove(self: &Rc<Self>, name: &str) -> bool {
        let at = self.entries.borrow().iter().position(|entry| *entry.listener.name == *name);
        let Some(at) = at else { return false };
        let entry = self.entries.borrow_mut().remove(at);
        self.stats.inc(ListenerManagerStats::LISTENER_REMOVED);
        self.retire(entry);
        self.count();
        true
    }

    /// Starts the workers, and accepting.
    ///
    /// # Errors
    /// When a thread or a socket is refused.
    pub fn start(&self) -> io::Result<UnboundedReceiver<Event>> {
        let (workers, events) = Workers::start(self.options.concurrency, &self.registry, &self.clusters)?;
        *self.workers.borrow_mut() = Some(workers);
        for entry in self.entries.borrow().iter() {
            self.hand_out(entry)?;
        }
        self.stats.set(ListenerManagerStats::WORKERS_STARTED, 1);
        self.count();
        Ok(events)
    }

    /// Ends the workers.
    /// Has every worker touch its heartbeat.
    ///
    /// # Errors
    /// When the system gives no thread to watch them.
    pub fn watch(&self, config: WatchdogsConfig) -> io::Result<()> {
        watchdog::watch(config, self.options.concurrency, &self.registry, |worker, heartbeat, start, interval| {
            if let Some(workers) = &*self.workers.borrow() {
                workers.send(worker, Command::Beat(heartbeat, start, interval));
            }
        })
    }

    pub fn exit(&self) {
        if let Some(workers) = self.workers.borrow_mut().take() {
            workers.exit();
        }
    }

    pub fn statuses(&self) -> Vec<ListenerStatus> {
        let entries = self.entries.borrow();
        let status = |entry: &Entry| ListenerStatus { name: entry.listener.name.clone(), addresses: entry.addresses() };
        entries.iter().map(status).collect()
    }

    /// The listener of this name as it accepts connections now.
    pub fn listener(&self, name: &str) -> Option<Arc<Listener>> {
        let entries = self.entries.borrow();
        entries.iter().find(|entry| *entry.listener.name == *name).map(|entry| entry.listener.clone())
    }

    /// Stops accepting: `/drain_listeners`. Connections go on.
    pub fn stop(&self, inbound_only: bool) {
        for entry in self.entries.borrow_mut().iter_mut().filter(|entry| !entry.stopped) {
            if inbound_only && entry.listener.direction != TrafficDirection::Inbound {
                continue;
            }
            entry.stopped = true;
            self.for_workers(|_| Command::Stop(entry.id));
            let workers = self.workers.borrow().as_ref().map_or(0, Workers::count);
            self.stats.add(ListenerManagerStats::LISTENER_STOPPED, workers as u64);
            // The addresses stay known; the control thread's copies of the sockets go, or the kernel would go on accepting.
            entry.bound.iter_mut().for_each(Bound::close);
        }
    }

    /// Resolves when what was told to stop has accepted its last connection.
    pub async fn stopped(&self) {
        let mut waiting = Vec::new();
        if let Some(workers) = self.workers.borrow().as_ref() {
            for worker in 0..workers.count() {
                let (done, stopped) = oneshot::channel();
                workers.send(worker, Command::Stopped(done));
                waiting.push(stopped);
            }
        }
        for stopped in waiting {
            // An error: the worker is gone, and accepts nothing.
            let _ = stopped.await;
        }
    }

    /// Tells connections to end, as `--drain-strategy` says: `/drain_listeners?graceful`.
    pub fn drain(&self, inbound_only: bool) {
        self.draining.set(true);
        for listener in self.drained_with_the_process() {
            if !inbound_only || listener.direction == TrafficDirection::Inbound {
                listener.chains().for_each(|chain| self.begin(chain));
            }
        }
    }

    /// `/healthcheck/fail` and `/healthcheck/ok`: while it fails, every response is the last of its connection.
    pub fn health_check(&self, failed: bool) {
        self.health_failed.set(failed);
        for listener in self.drained_with_the_process() {
            for chain in listener.chains() {
                match chain.drain.state() {
                    DrainState::Running if failed => chain.drain.set(DrainState::Draining),
                    DrainState::Draining if !failed && !self.draining.get() => chain.drain.set(DrainState::Running),
                    _ => {}
                }
            }
        }
    }

    /// Tells all connections of all listeners.
    pub fn set_all(&self, state: DrainState) {
        let entries = self.entries.borrow();
        entries.iter().flat_map(|entry| entry.listener.chains()).for_each(|chain| chain.drain.set(state));
    }

    fn drained_with_the_process(&self) -> Vec<Arc<Listener>> {
        let entries = self.entries.borrow();
        let listeners = entries.iter().map(|entry| &entry.listener);
        listeners.filter(|listener| listener.drain_type == DrainType::Default).cloned().collect()
    }

    fn begin(&self, chain: &FilterChain) {
        match self.options.drain_strategy {
            DrainStrategy::Immediate => chain.drain.set(DrainState::Draining),
            DrainStrategy::Gradual => chain.drain.begin(self.options.drain_time),
        }
    }

    /// A listener that comes while the process drains.
    fn tell_draining(&self, listener: &Listener) {
        if listener.drain_type != DrainType::Default {
            return;
        }
        // Chains that an update kept have been told.
        let untold = listener.chains().filter(|chain| chain.drain.state() == DrainState::Running);
        if self.health_failed.get() {
            untold.for_each(|chain| chain.drain.set(DrainState::Draining));
        } else if self.draining.get() {
            untold.for_each(|chain| self.begin(chain));
        }
    }

    fn refuse_duplicates(&self, listener: &Listener) -> Result<(), AddError> {
        let entries = self.entries.borrow();
        for entry in entries.iter().filter(|entry| entry.listener.name != listener.name) {
            if entry.listener.bind_to_port != listener.bind_to_port {
                continue;
            }
            let taken: HashSet<Address> = entry.addresses().into_iter().collect();
            let addresses = listener.addresses.iter().map(|listen| &listen.address);
            // Any number of listeners may let the system choose their port.
            let mut addresses = addresses.filter(|address| address.port() != Some(0));
            if let Some(address) = addresses.find(|address| taken.contains(*address)) {
                return Err(AddError::DuplicateAddress {
                    listener: listener.name.clone(),
                    address: address.clone(),
                    other: entry.listener.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// Keeps the sockets of a listener whose addresses and socket options are what they were.
    fn replace_in_place(self: &Rc<Self>, at: usize, listener: &Arc<Listener>) -> bool {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(at).filter(|entry| !entry.stopped) else { return false };
        if !entry.listener.binds_like(listener) {
            return false;
        }
        let old = std::mem::replace(&mut entry.listener, listener.clone());
        let id = entry.id;
        drop(entries);
        self.for_workers(|_| Command::Update(id, listener.clone()));
        self.tell_draining(listener);
        let kept: HashSet<*const FilterChain> = listener.chains().map(Arc::as_ptr).collect();
        let (kept, gone): (Vec<_>, Vec<_>) =
            old.chains().cloned().partition(|chain| kept.contains(&Arc::as_ptr(chain)));
        // The listener is another one, or the same with other chains.
        if kept.is_empty() && !Arc::ptr_eq(&old.open, &listener.open) {
            self.drain_out(gone, Some(old), None);
        } else {
            self.stats.inc(ListenerManagerStats::LISTENER_IN_PLACE_UPDATED);
            self.drain_out(gone, None, None);
        }
        true
    }

    /// Gives a listener to the workers, if they run already.
    fn hand_out(&self, entry: &Entry) -> io::Result<()> {
        let workers = self.workers.borrow();
        let Some(workers) = workers.as_ref() else { return Ok(()) };
        for bound in &entry.bound {
            bound.listen()?;
        }
        for worker in 0..workers.count() {
            let sockets = entry.bound.iter().map(|bound| Ok((bound.address.clone(), bound.for_worker(worker)?)));
            workers.send(
                worker,
                Command::Add {
                    id: entry.id,
                    listener: entry.listener.clone(),
                    sockets: sockets.collect::<io::Result<_>>()?,
                    table: entry.table(),
                },
            );
            self.stats.inc(ListenerManagerStats::LISTENER_CREATE_SUCCESS);
        }
        Ok(())
    }

    fn for_workers(&self, command: impl Fn(usize) -> Command) {
        if let Some(workers) = self.workers.borrow().as_ref() {
            (0..workers.count()).for_each(|worker| workers.send(worker, command(worker)));
        }
    }

    /// Stops a listener that is out of the list, and ends its connections within the drain time.
    fn retire(self: &Rc<Self>, entry: Entry) {
        self.for_workers(|_| Command::Stop(entry.id));
        let chains = entry.listener.chains().cloned().collect();
        self.drain_out(chains, Some(entry.listener), Some(entry.id));
    }

    /// Tells the connections of chains to end, and cuts what is left after the drain time. `listener` is the one that goes with
    /// all its chains, `id` what is then forgotten.
    fn drain_out(
        self: &Rc<Self>,
        chains: Vec<Arc<FilterChain>>,
        listener: Option<Arc<Listener>>,
        id: Option<ListenerId>,
    ) {
        chains.iter().for_each(|chain| self.begin(chain));
        if self.workers.borrow().is_none() || (chains.is_empty() && listener.is_none()) {
            return;
        }
        let (gauge, count) = match &listener {
            Some(_) => (ListenerManagerStats::TOTAL_LISTENERS_DRAINING, 1),
            None => (ListenerManagerStats::TOTAL_FILTER_CHAINS_DRAINING, chains.len() as u64),
        };
        let manager = self.clone();
        manager.draining_listeners.borrow_mut().extend(listener.clone());
        manager.stats.gauge_add(gauge, count);
        let drain_time = self.options.drain_time;
        spawn_local(async move {
            let none_left = async {
                if let Some(listener) = &listener {
                    listener.open.none_left().await;
                }
                for chain in &chains {
                    chain.open.none_left().await;
                }
            };
            let _ = tokio::time::timeout(drain_time, none_left).await;
            chains.iter().for_each(|chain| chain.drain.set(DrainState::Closing));
            if let Some(id) = id {
                manager.for_workers(|_| Command::Remove(id));
            }
            if let Some(listener) = listener {
                manager.draining_listeners.borrow_mut().retain(|draining| !Arc::ptr_eq(draining, &listener));
            }
            manager.stats.gauge_sub(gauge, count);
        });
    }

    /// Listeners that were replaced or removed, and whose connections are told to end.
    pub fn draining_listeners(&self) -> Vec<Arc<Listener>> {
        self.draining_listeners.borrow().clone()
    }

    fn count(&self) {
        self.stats.set(ListenerManagerStats::TOTAL_LISTENERS_ACTIVE, self.entries.borrow().len() as u64);
    }

    /// Lets worker 0 accept on any socket in the name of a listener.
    #[cfg(test)]
    pub fn accept_on(&self, name: &str, socket: std::net::TcpListener) {
        let entries = self.entries.borrow();
        let Some(entry) = entries.iter().find(|entry| *entry.listener.name == *name) else { return };
        let address = Address::Pipe("test".into());
        if let Some(workers) = self.workers.borrow().as_ref() {
            workers.send(
                0,
                Command::Add {
                    id: entry.id,
                    listener: entry.listener.clone(),
                    sockets: vec![(address, crate::listener::bind::ListenSocket::Tcp(socket))],
                    table: Vec::new(),
                },
            );
        }
    }
}
