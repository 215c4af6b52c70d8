//! The resources, and the record of what clients said: [`Store`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;

use crate::session::Request;
use crate::{Any, TypeUrl};

/// The resources that a server hands out, and the requests that it got. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Counts changes of resources.
    changed: watch::Sender<u64>,
    /// Counts entries of the log.
    logged: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    /// Of the last change.
    version: u64,
    types: BTreeMap<TypeUrl, Snapshot>,
    log: Vec<Entry>,
    streams: u64,
}

/// The resources of one type.
#[derive(Clone, Default)]
pub(super) struct Snapshot {
    pub version: u64,
    pub resources: BTreeMap<String, (u64, Any)>,
}

/// One request, as it came.
#[derive(Clone, PartialEq)]
pub struct Entry {
    /// Counts streams from 1, in the order in which they were opened.
    pub stream: u64,
    /// The request.
    pub request: Request,
}

impl Entry {
    /// Whether this is an ACK.
    pub fn is_ack(&self) -> bool {
        !self.request.response_nonce().is_empty() && self.request.nack().is_none()
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// Without resources.
    pub fn new() -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), changed: watch::Sender::new(0), logged: watch::Sender::new(0) }))
    }

    /// Adds or replaces one resource and pushes it to those who want it.
    pub fn set<M: Message>(&self, type_url: TypeUrl, name: &str, message: &M) {
        self.batch(|batch| batch.set(type_url, name, message));
    }

    /// As [`Store::set`], with the message already encoded.
    pub fn set_resource(&self, type_url: TypeUrl, name: &str, value: impl Into<Bytes>) {
        self.batch(|batch| batch.set_resource(type_url, name, value));
    }

    /// Removes one resource and tells those who want it.
    pub fn remove_resource(&self, type_url: TypeUrl, name: &str) {
        self.batch(|batch| batch.remove_resource(type_url, name));
    }

    /// Makes several changes that are pushed together: each stream gets one response a type.
    pub fn batch(&self, change: impl FnOnce(&mut Batch<'_>)) {
        let mut state = self.lock();
        state.version += 1;
        change(&mut Batch(&mut state));
        drop(state);
        self.0.changed.send_modify(|changes| *changes += 1);
    }

    /// The names of the resources of a type, sorted.
    pub fn names(&self, type_url: &TypeUrl) -> Vec<String> {
        self.lock().types.get(type_url).map(|it| it.resources.keys().cloned().collect()).unwrap_or_default()
    }

    /// The version of the last change of this type, as clients see it.
    pub fn version(&self, type_url: &TypeUrl) -> String {
        self.snapshot(type_url).version.to_string()
    }

    /// All requests so far, in the order in which they came.
    pub fn log(&self) -> Vec<Entry> {
        self.lock().log.clone()
    }

    /// Waits until the log satisfies a condition, and returns it. Cancel safe.
    pub async fn logged(&self, mut condition: impl FnMut(&[Entry]) -> bool) -> Vec<Entry> {
        let mut logged = self.0.logged.subscribe();
        loop {
            logged.borrow_and_update();
            let log = self.log();
            if condition(&log) {
                return log;
            }
            // Cannot fail: `self` keeps the sender.
            let _ = logged.changed().await;
        }
    }

    pub(super) fn snapshot(&self, type_url: &TypeUrl) -> Snapshot {
        self.lock().types.get(type_url).cloned().unwrap_or_default()
    }

    pub(super) fn type_version(&self, type_url: &TypeUrl) -> u64 {
        self.lock().types.get(type_url).map_or(0, |snapshot| snapshot.version)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    pub(super) fn open_stream(&self) -> u64 {
        let mut state = self.lock();
        state.streams += 1;
        state.streams
    }

    pub(super) fn record(&self, stream: u64, request: Request) {
        self.lock().log.push(Entry { stream, request });
        self.0.logged.send_modify(|entries| *entries += 1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Several changes of one push; see [`Store::batch`].
pub struct Batch<'a>(&'a mut State);

impl Batch<'_> {
    /// Adds or replaces.
    pub fn set<M: Message>(&mut self, type_url: TypeUrl, name: &str, message: &M) {
        self.set_resource(type_url, name, message.encode_to_vec());
    }

    /// Adds or replaces, with the message already encoded.
    pub fn set_resource(&mut self, type_url: TypeUrl, name: &str, value: impl Into<Bytes>) {
        let any = Any { type_url: type_url.as_str().to_owned(), value: value.into() };
        self.set_any(type_url, name, any);
    }

    /// As [`Batch::set_resource`], with an Any that need not be of the type that it is served as: to see what clients make of
    /// it.
    pub fn set_any(&mut self, type_url: TypeUrl, name: &str, any: Any) {
        let version = self.0.version;
        let snapshot = self.0.types.entry(type_url).or_default();
        snapshot.version = version;
        snapshot.resources.insert(name.to_owned(), (version, any));
    }

    /// Removes; no harm if it is not there.
    pub fn remove_resource(&mut self, type_url: TypeUrl, name: &str) {
        let version = self.0.version;
        let Some(snapshot) = self.0.types.get_mut(&type_url) else { return };
        if snapshot.resources.remove(name).is_some() {
            snapshot.version = version;
        }
    }
}
