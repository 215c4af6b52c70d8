//! What is wanted of one type, what the server of this stream was told, and what we have: [`Watch`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use xds_protos::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use super::message::Request;
use crate::{TypeUrl, Variant, WILDCARD};

/// One type's part of a [`super::Session`].
#[derive(Default)]
pub(super) struct Watch {
    /// Names we want; `*` among them stands for all.
    pub wanted: BTreeMap<String, Want>,
    /// What the handler took, by name. Survives streams.
    pub known: BTreeMap<String, Known>,
    /// State of the world: the version of the last response that was taken whole. Survives streams.
    pub version: String,
    /// How many reasons there are to send nothing.
    pub paused: u32,
    pub stream: OnStream,
}

/// What ends with the stream.
#[derive(Default)]
pub(super) struct OnStream {
    /// The first request left.
    pub introduced: bool,
    /// Delta: names that the server counts as subscribed.
    pub asked: BTreeSet<String>,
    /// Delta: names whose subscription may differ from `asked`; true if the server must send it again.
    pub changed: BTreeMap<String, bool>,
    /// State of the world: names differ from those of the last request, or somebody asked for a fresh answer.
    pub dirty: bool,
    /// State of the world: a request listed names. From then on an empty list means none, and no more all.
    pub named: bool,
    /// State of the world: of the last response.
    pub nonce: String,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Want {
    /// When waiting for the first answer becomes pointless.
    pub fetch: Option<Instant>,
    /// When silence on this stream means that it does not exist.
    pub missing: Option<Instant>,
    /// Something was said about it, on any stream.
    pub answered: bool,
}

#[derive(Clone, Default)]
pub(super) struct Known {
    pub version: String,
    pub expires: Option<Instant>,
}

impl Watch {
    pub fn is_wildcard(&self) -> bool {
        self.wanted.contains_key(WILDCARD)
    }

    pub fn wants(&self, name: &str) -> bool {
        self.wanted.contains_key(name) || self.is_wildcard()
    }

    /// Whether a request is due that acknowledges nothing.
    pub fn has_change(&self, variant: Variant) -> bool {
        if self.paused > 0 {
            return false;
        }
        match variant {
            _ if !self.stream.introduced => !self.wanted.is_empty(),
            Variant::Delta => self.stream.changed.iter().any(|(name, renew)| self.difference(name, *renew).is_some()),
            Variant::Sotw => self.stream.dirty,
        }
    }

    /// What to tell the server of a name: subscribe, unsubscribe, or nothing.
    fn difference(&self, name: &str, renew: bool) -> Option<bool> {
        match (self.wanted.contains_key(name), self.stream.asked.contains(name)) {
            (true, false) => Some(true),
            (true, true) if renew => Some(true),
            (false, true) => Some(false),
            _ => None,
        }
    }

    /// The request that [`Watch::has_change`] spoke of.
    pub fn change(&mut self, type_url: &TypeUrl, variant: Variant) -> Request {
        match variant {
            Variant::Delta => Request::Delta(self.delta_change(type_url)),
            Variant::Sotw => Request::Sotw(self.sotw_request(type_url)),
        }
    }

    fn delta_change(&mut self, type_url: &TypeUrl) -> DeltaDiscoveryRequest {
        let mut request = DeltaDiscoveryRequest { type_url: type_url.as_str().to_owned(), ..Default::default() };
        let changed = std::mem::take(&mut self.stream.changed);
        if !self.stream.introduced {
            self.stream.introduced = true;
            self.stream.asked = self.wanted.keys().cloned().collect();
            let known = self.known.iter().filter(|(name, _)| self.wants(name));
            request.initial_resource_versions = known.map(|(name, it)| (name.clone(), it.version.clone())).collect();
            // An empty first list is how a wildcard was spelled before `*`, and how Envoy still spells it.
            if !(self.is_wildcard() && self.wanted.len() == 1) {
                request.resource_names_subscribe = self.wanted.keys().cloned().collect();
            }
            return request;
        }
        for (name, renew) in changed {
            match self.difference(&name, renew) {
                Some(true) => {
                    self.stream.asked.insert(name.clone());
                    request.resource_names_subscribe.push(name);
                }
                Some(false) => {
                    self.stream.asked.remove(&name);
                    request.resource_names_unsubscribe.push(name);
                }
                None => {}
            }
        }
        request
    }

    /// A request with all names, which acknowledges the last response if there was one.
    pub fn sotw_request(&mut self, type_url: &TypeUrl) -> DiscoveryRequest {
        self.stream.introduced = true;
        self.stream.dirty = false;
        let resource_names = match self.is_wildcard() && self.wanted.len() == 1 && !self.stream.named {
            true => Vec::new(),
            false => self.wanted.keys().cloned().collect(),
        };
        self.stream.named |= !resource_names.is_empty();
        DiscoveryRequest {
            type_url: type_url.as_str().to_owned(),
            version_info: self.version.clone(),
            response_nonce: self.stream.nonce.clone(),
            resource_names,
            ..Default::default()
        }
    }
}
