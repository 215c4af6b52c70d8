//! One discovery stream of the server: what a client wants, what it was sent, and what is due.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use xds_protos::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};

use super::call::Call;
use super::store::Store;
use crate::options::Variant;
use crate::session::Request;
use crate::{TypeUrl, WILDCARD};

pub(super) async fn run(call: Call, method: (Variant, Option<TypeUrl>), store: Store) -> io::Result<()> {
    let (variant, only) = method;
    let number = store.open_stream();
    let mut stream = Stream { call, only, number, nonces: 0, watches: BTreeMap::new(), store: store.clone() };
    let mut changes = store.changes();
    loop {
        tokio::select! {
            more = stream.request(variant) => if !more? { return stream.call.finish(0, "").map_err(io::Error::other) },
            _ = changes.changed() => stream.push(variant)?,
        }
    }
}

struct Stream {
    call: Call,
    /// The one type that this stream serves.
    only: Option<TypeUrl>,
    number: u64,
    nonces: u64,
    watches: BTreeMap<TypeUrl, Watch>,
    store: Store,
}

#[derive(Default)]
struct Watch {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Delta: what the client has.
    sent: BTreeMap<String, String>,
    /// State of the world: the version of the snapshot that was sent last.
    version: Option<u64>,
    nonce: String,
}

impl Watch {
    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}

impl Stream {
    /// Answers the next request. False at the end of the stream.
    async fn request(&mut self, variant: Variant) -> io::Result<bool> {
        let send = match variant {
            Variant::Delta => {
                let Some(request) = self.call.message::<DeltaDiscoveryRequest>().await? else { return Ok(false) };
                self.store.record(self.number, Request::Delta(request.clone()));
                self.delta(request)
            }
            Variant::Sotw => {
                let Some(request) = self.call.message::<DiscoveryRequest>().await? else { return Ok(false) };
                self.store.record(self.number, Request::Sotw(request.clone()));
                self.sotw(request)
            }
        };
        send.map_err(io::Error::other).map(|()| true)
    }

    /// Sends what changed, type by type in the order CDS, EDS, LDS, RDS, SDS.
    fn push(&mut self, variant: Variant) -> io::Result<()> {
        let mut types: Vec<TypeUrl> = self.watches.keys().cloned().collect();
        types.sort_by_key(TypeUrl::rank);
        for type_url in types {
            match variant {
                Variant::Delta => self.send_delta(&type_url, &BTreeSet::new()),
                Variant::Sotw => self.send_sotw(&type_url, false),
            }
            .map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn type_of(&self, type_url: String) -> TypeUrl {
        match &self.only {
            Some(only) if type_url.is_empty() => only.clone(),
            _ => type_url.into(),
        }
    }

    fn delta(&mut self, request: DeltaDiscoveryRequest) -> Result<(), h2::Error> {
        let type_url = self.type_of(request.type_url);
        let first = !self.watches.contains_key(&type_url);
        let watch = self.watches.entry(type_url.clone()).or_default();
        if first {
            watch.wildcard = request.resource_names_subscribe.is_empty() && request.response_nonce.is_empty();
            watch.sent = request.initial_resource_versions;
        }
        for name in request.resource_names_unsubscribe {
            watch.sent.remove(&name);
            if name == WILDCARD {
                watch.wildcard = false;
            } else {
                watch.names.remove(&name);
            }
        }
        // What is asked for anew is answered even if the client says it has it, as the client may have dropped it.
        let mut asked = BTreeSet::new();
        for name in request.resource_names_subscribe {
            if name == WILDCARD {
                watch.wildcard = true;
            } else {
                if !first {
                    watch.sent.remove(&name);
                }
                watch.names.insert(name.clone());
                asked.insert(name);
            }
        }
        if first || !asked.is_empty() { self.send_delta(&type_url, &asked) } else { Ok(()) }
    }

    /// Sends the difference, and tells of `asked` names that do not exist. Nothing if there is nothing to tell, but the
    /// first response to a wildcard always leaves.
    fn send_delta(&mut self, type_url: &TypeUrl, asked: &BTreeSet<String>) -> Result<(), h2::Error> {
        let snapshot = self.store.snapshot(type_url);
        let Some(watch) = self.watches.get_mut(type_url) else { return Ok(()) };
        let mut response = DeltaDiscoveryResponse {
            system_version_info: snapshot.version.to_string(),
            type_url: type_url.as_str().to_owned(),
            ..DeltaDiscoveryResponse::default()
        };
        for (name, (version, any)) in &snapshot.resources {
            let version = version.to_string();
            if watch.wants(name) && watch.sent.get(name) != Some(&version) {
                watch.sent.insert(name.clone(), version.clone());
                response.resources.push(Resource {
                    name: name.clone(),
                    version,
                    resource: Some(any.clone().into()),
                    ..Resource::default()
                });
            }
        }
        let known: Vec<String> = watch.sent.keys().cloned().collect();
        for name in known.iter().chain(asked) {
            if !snapshot.resources.contains_key(name) && !response.removed_resources.contains(name) {
                watch.sent.remove(name);
                response.removed_resources.push(name.clone());
            }
        }
        let first_wildcard = watch.wildcard && watch.nonce.is_empty();
        if response.resources.is_empty() && response.removed_resources.is_empty() && !first_wildcard {
            return Ok(());
        }
        self.nonces += 1;
        response.nonce = self.nonces.to_string();
        watch.nonce = response.nonce.clone();
        self.call.send(&response)
    }

    fn sotw(&mut self, request: DiscoveryRequest) -> Result<(), h2::Error> {
        let type_url = self.type_of(request.type_url);
        let first = !self.watches.contains_key(&type_url);
        let watch = self.watches.entry(type_url.clone()).or_default();
        if !request.response_nonce.is_empty() && !first && request.response_nonce != watch.nonce {
            return Ok(()); // stale: the client answers to something older
        }
        let names: BTreeSet<String> = request.resource_names.into_iter().collect();
        let wildcard = names.contains(WILDCARD) || (names.is_empty() && (first || watch.wildcard));
        let changed = first || names != watch.names || wildcard != watch.wildcard;
        (watch.names, watch.wildcard) = (names, wildcard);
        self.send_sotw(&type_url, changed)
    }

    /// Sends all that is wanted, if it changed since it was sent, or if it `must`.
    fn send_sotw(&mut self, type_url: &TypeUrl, must: bool) -> Result<(), h2::Error> {
        let Some(watch) = self.watches.get_mut(type_url) else { return Ok(()) };
        if !must && watch.version == Some(self.store.type_version(type_url)) {
            return Ok(());
        }
        let snapshot = self.store.snapshot(type_url);
        watch.version = Some(snapshot.version);
        let wanted = snapshot.resources.iter().filter(|(name, _)| watch.wants(name));
        let resources: Vec<prost_types::Any> = wanted.map(|(_, (_, any))| any.clone().into()).collect();
        if resources.is_empty() && !watch.wildcard && !type_url.is_state_of_the_world() {
            return Ok(()); // nothing that was asked for exists
        }
        self.nonces += 1;
        watch.nonce = self.nonces.to_string();
        self.call.send(&DiscoveryResponse {
            version_info: snapshot.version.to_string(),
            resources,
            type_url: type_url.as_str().to_owned(),
            nonce: watch.nonce.clone(),
            ..DiscoveryResponse::default()
        })
    }
}
