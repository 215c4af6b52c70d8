//! What was received, as `/config_dump` shows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use xds_client::Resource;

use crate::config::Reject;

/// The kinds of resources that are dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Cluster,
    Listener,
    Route,
    Secret,
}

/// A version of a resource.
#[derive(Debug, Clone)]
pub struct Received {
    /// As it came; of secrets what may be shown.
    pub value: Bytes,
    pub version: Arc<str>,
    pub at: SystemTime,
}

impl Received {
    /// The bytes are copied out of the response, so that a small resource does not keep a large push in memory.
    pub fn new(resource: &Resource, version: &Arc<str>) -> Self {
        Self::of(Bytes::copy_from_slice(&resource.any.value), resource, version)
    }

    /// Of other bytes than those that came.
    pub fn of(value: Bytes, resource: &Resource, version: &Arc<str>) -> Self {
        let version = match resource.version.as_str() {
            "" => version.clone(),
            own if *own == **version => version.clone(),
            own => own.into(),
        };
        Received { value, version, at: SystemTime::now() }
    }
}

/// A version that was refused.
#[derive(Debug, Clone)]
pub struct Failed {
    pub received: Received,
    pub why: String,
}

/// All that is kept of one name.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub active: Option<Received>,
    pub warming: Option<Received>,
    /// The last update, if it was refused.
    pub failed: Option<Failed>,
}

/// The resources of a kind by name.
#[derive(Default)]
pub(super) struct Store {
    /// Of the last update that was taken whole.
    pub version: Arc<str>,
    pub states: BTreeMap<Arc<str>, State>,
}

impl Store {
    pub fn state(&mut self, name: &str) -> &mut State {
        if !self.states.contains_key(name) {
            self.states.insert(name.into(), State::default());
        }
        self.states.entry(name.into()).or_default()
    }

    /// Notes a refusal.
    pub fn refused(&mut self, name: &str, received: Received, reject: &Reject) {
        self.state(name).failed = Some(Failed { received, why: reject.to_string() });
    }

    pub fn warms(&mut self, name: &str, received: Received) {
        let state = self.state(name);
        state.failed = None;
        state.warming = Some(received);
    }

    pub fn is_active(&mut self, name: &str, received: Received) {
        *self.state(name) = State { active: Some(received), warming: None, failed: None };
    }

    /// The same bytes came again. As in Envoy they go by the version that they came by first.
    pub fn is_unchanged(&mut self, name: &str) {
        self.state(name).failed = None;
    }

    /// The names that an update of the state of the world does not have.
    pub fn absent(&self, present: &std::collections::HashSet<&str>) -> Vec<String> {
        self.states.keys().filter(|name| !present.contains(&***name)).map(|name| name.to_string()).collect()
    }

    pub fn dump(&self) -> (Arc<str>, Vec<(Arc<str>, State)>) {
        (self.version.clone(), self.states.iter().map(|(name, state)| (name.clone(), state.clone())).collect())
    }
}
