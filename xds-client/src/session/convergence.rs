//! Random walks of a client, a server and the wire between them: whatever happens, once it is quiet both agree.
//!
//! The server here is a model: it keeps to the protocol's words and checks that the client does, too.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use prost::Message as _;
use xds_protos::envoy::config::core::v3::ControlPlane;
use xds_protos::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource as Wrapper,
};

use super::{Event, Request, Response, Session};
use crate::{Options, Rejected, TypeUrl, Update, Variant, WILDCARD};

const TYPES: [TypeUrl; 2] = [TypeUrl::CLUSTER, TypeUrl::ROUTE];
const NAMES: [&str; 4] = ["a", "b", "c", WILDCARD];

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    /// Lets go of it and wants it again before anything is written.
    Again(usize, usize),
    Set(usize, usize),
    Remove(usize, usize),
    Pause(usize),
    Resume(usize),
    Connect,
    Disconnect,
    /// The client writes all it has to say.
    Flush,
    /// The oldest request reaches the server.
    Request,
    /// The oldest response reaches the client, which rejects those names whose bit is set; bit 3 rejects the whole.
    Response(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (kind, name) = (0..TYPES.len(), 0..NAMES.len());
    let resource = (0..TYPES.len(), 0..3usize);
    prop_oneof![
        4 => (kind.clone(), name.clone()).prop_map(|(t, n)| Step::Subscribe(t, n)),
        3 => (kind.clone(), name).prop_map(|(t, n)| Step::Unsubscribe(t, n)),
        2 => (kind.clone(), 0..3usize).prop_map(|(t, n)| Step::Again(t, n)),
        4 => resource.clone().prop_map(|(t, n)| Step::Set(t, n)),
        2 => resource.prop_map(|(t, n)| Step::Remove(t, n)),
        1 => kind.clone().prop_map(Step::Pause),
        2 => kind.prop_map(Step::Resume),
        2 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        6 => Just(Step::Flush),
        6 => Just(Step::Request),
        6 => prop_oneof![3 => Just(0), 1 => any::<u8>()].prop_map(Step::Response),
    ]
}

type Key = (TypeUrl, String);

struct World {
    variant: Variant,
    now: Instant,
    session: Session,
    connected: bool,
    paused: [u32; 2],
    /// Something was rejected: the server must change it before both can agree.
    rejected: bool,
    /// What the client's user wants and has.
    wanted: BTreeSet<Key>,
    have: BTreeMap<Key, String>,
    requests: VecDeque<Request>,
    responses: VecDeque<Response>,
    server: Server,
}

#[derive(Default)]
struct Server {
    versions: u64,
    nonces: u64,
    resources: BTreeMap<Key, u64>,
    node_seen: bool,
    watches: BTreeMap<TypeUrl, Watch>,
}

#[derive(Default)]
struct Watch {
    wildcard: bool,
    names: BTreeSet<String>,
    sent: BTreeMap<String, String>,
    /// Nonces without an answer, oldest first.
    open: VecDeque<String>,
    nonce: String,
}

impl World {
    fn new(variant: Variant) -> Self {
        let options = Options::new(Default::default(), variant);
        Self {
            variant,
            now: Instant::now(),
            session: Session::new(&options),
            connected: false,
            paused: [0; 2],
            rejected: false,
            wanted: BTreeSet::new(),
            have: BTreeMap::new(),
            requests: VecDeque::new(),
            responses: VecDeque::new(),
            server: Server::default(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Subscribe(t, n) => {
                self.session.subscribe(&TYPES[t], NAMES[n], Duration::ZERO, self.now);
                self.wanted.insert((TYPES[t].clone(), NAMES[n].to_owned()));
            }
            Step::Unsubscribe(t, n) => {
                self.session.unsubscribe(&TYPES[t], NAMES[n]);
                self.wanted.remove(&(TYPES[t].clone(), NAMES[n].to_owned()));
                self.drop_unwanted();
            }
            Step::Again(t, n) => {
                self.step(Step::Unsubscribe(t, n));
                self.step(Step::Subscribe(t, n));
            }
            Step::Set(t, n) => self.set(t, n),
            Step::Remove(t, n) => {
                self.server.resources.remove(&(TYPES[t].clone(), NAMES[n].to_owned()));
                self.push(&TYPES[t]);
            }
            Step::Pause(t) => {
                self.session.pause(&TYPES[t]);
                self.paused[t] += 1;
            }
            Step::Resume(t) => {
                self.session.resume(&TYPES[t]);
                self.paused[t] = self.paused[t].saturating_sub(1);
            }
            Step::Connect => self.connect(),
            Step::Disconnect => {
                self.session.disconnected();
                self.connected = false;
                self.cut();
            }
            Step::Flush => {
                while let Some(request) = self.session.poll_request(self.now) {
                    assert!(self.connected, "nothing leaves without a stream");
                    self.requests.push_back(request);
                }
            }
            Step::Request => self.request(),
            Step::Response(rejects) => self.response(rejects),
        }
    }

    fn set(&mut self, t: usize, n: usize) {
        self.server.versions += 1;
        self.server.resources.insert((TYPES[t].clone(), NAMES[n].to_owned()), self.server.versions);
        self.push(&TYPES[t]);
    }

    fn connect(&mut self) {
        self.cut();
        self.session.connected(self.now);
        self.connected = true;
    }

    /// The wire and the server forget the stream.
    fn cut(&mut self) {
        self.requests.clear();
        self.responses.clear();
        self.server.node_seen = false;
        self.server.watches.clear();
    }

    fn wants(&self, type_url: &TypeUrl, name: &str) -> bool {
        let has = |name: &str| self.wanted.contains(&(type_url.clone(), name.to_owned()));
        has(name) || has(WILDCARD)
    }

    fn drop_unwanted(&mut self) {
        let have = std::mem::take(&mut self.have);
        self.have = have.into_iter().filter(|((type_url, name), _)| self.wants(type_url, name)).collect();
    }

    fn request(&mut self) {
        let Some(request) = self.requests.pop_front() else { return };
        let node = match &request {
            Request::Delta(request) => request.node.is_some(),
            Request::Sotw(request) => request.node.is_some(),
        };
        assert_eq!(node, !self.server.node_seen, "the node goes first, and once");
        self.server.node_seen = true;
        let type_url = TypeUrl::from(request.type_url());
        let response = match request {
            Request::Delta(request) => self.server.delta_request(&type_url, request),
            Request::Sotw(request) => self.server.sotw_request(&type_url, request),
        };
        self.responses.extend(response);
    }

    fn push(&mut self, type_url: &TypeUrl) {
        let response = match self.variant {
            Variant::Delta => self.server.delta_response(type_url, &[]).map(Response::Delta),
            Variant::Sotw => self.server.sotw_response(type_url).map(Response::Sotw),
        };
        self.responses.extend(response);
    }

    fn response(&mut self, rejects: u8) {
        let Some(response) = self.responses.pop_front() else { return };
        for event in self.session.received(response, self.now) {
            match event {
                Event::Update(update) => {
                    let verdict = self.apply(update, rejects);
                    self.rejected |= !verdict.is_empty();
                    self.session.verdict(verdict, self.now);
                }
                event => panic!("{event:?}"),
            }
        }
    }

    fn apply(&mut self, update: Update, rejects: u8) -> Vec<Rejected> {
        let reason = "by chance".to_owned();
        if rejects & 8 != 0 {
            return vec![Rejected { name: String::new(), reason }];
        }
        let bad = |name: &str| NAMES.iter().position(|it| *it == name).is_some_and(|bit| rejects & (1 << bit) != 0);
        if update.full {
            let listed = |key: &Key| key.0 != update.type_url || update.added.iter().any(|it| it.name == key.1);
            self.have.retain(|key, _| listed(key));
        }
        for name in &update.removed {
            self.have.remove(&(update.type_url.clone(), name.clone()));
        }
        let mut verdict = Vec::new();
        for resource in update.added {
            assert!(self.wants(&update.type_url, &resource.name), "unasked");
            if bad(&resource.name) {
                verdict.push(Rejected { name: resource.name, reason: reason.clone() });
            } else {
                let version = ControlPlane::decode(&*resource.any.value).unwrap().identifier;
                self.have.insert((update.type_url.clone(), resource.name), version);
            }
        }
        verdict
    }

    /// Lets everything arrive, and takes every resource.
    fn settle(&mut self) {
        for t in 0..TYPES.len() {
            while self.paused[t] > 0 {
                self.step(Step::Resume(t));
            }
        }
        if !self.connected {
            self.connect();
        }
        for _ in 0..100 {
            self.step(Step::Flush);
            if self.requests.is_empty() && self.responses.is_empty() {
                return;
            }
            while !self.requests.is_empty() {
                self.step(Step::Request);
            }
            while !self.responses.is_empty() {
                self.step(Step::Response(0));
            }
        }
        panic!("client and server talk for ever");
    }

    fn check(&self) {
        for type_url in &TYPES {
            let wanted: BTreeSet<&str> =
                self.wanted.iter().filter(|(it, _)| it == type_url).map(|(_, name)| name.as_str()).collect();
            let Some(watch) = self.server.watches.get(type_url) else {
                assert!(wanted.is_empty(), "a subscription was lost");
                continue;
            };
            assert!(watch.open.is_empty(), "every response is answered");
            let mut asked: BTreeSet<&str> = watch.names.iter().map(String::as_str).collect();
            if watch.wildcard {
                asked.insert(WILDCARD);
            }
            // State of the world has no words for the end of a wildcard without names.
            if self.variant == Variant::Delta || !wanted.is_empty() {
                assert_eq!(asked, wanted);
            }
        }
        let kept = |key: &Key| self.wants(&key.0, &key.1);
        let expected: BTreeMap<Key, String> =
            self.server.resources.iter().map(|(k, v)| (k.clone(), v.to_string())).filter(|(k, _)| kept(k)).collect();
        let mut have = self.have.clone();
        if self.variant == Variant::Sotw {
            // Nor for the end of a route: the handler drops it with what refers to it.
            have.retain(|key, _| key.0.is_state_of_the_world() || self.server.resources.contains_key(key));
        }
        assert_eq!(have, expected, "{:?}", self.variant);
        if self.variant == Variant::Delta {
            for type_url in &TYPES {
                let known: Vec<&str> = self.session.known(type_url).map(|(name, _)| name).collect();
                let have: Vec<&str> = have.keys().filter(|key| key.0 == *type_url).map(|key| key.1.as_str()).collect();
                assert_eq!(known, have);
            }
        }
    }
}

/// The resource's version is in its body, so that what the user has can be compared.
fn body(version: u64) -> Vec<u8> {
    ControlPlane { identifier: version.to_string() }.encode_to_vec()
}

impl Server {
    fn delta_request(&mut self, type_url: &TypeUrl, request: DeltaDiscoveryRequest) -> Option<Response> {
        let first = !self.watches.contains_key(type_url);
        let watch = self.watches.entry(type_url.clone()).or_default();
        if !request.response_nonce.is_empty() {
            assert_eq!(watch.open.pop_front().as_ref(), Some(&request.response_nonce), "answers come in order, once");
            assert!(request.resource_names_subscribe.is_empty() && request.resource_names_unsubscribe.is_empty());
            return None;
        }
        let (subscribe, unsubscribe) = (request.resource_names_subscribe, request.resource_names_unsubscribe);
        if first {
            watch.wildcard = subscribe.is_empty();
            watch.sent = request.initial_resource_versions;
        } else {
            assert!(!subscribe.is_empty() || !unsubscribe.is_empty(), "a request that says nothing");
            assert!(request.initial_resource_versions.is_empty(), "only the first request of a stream");
        }
        for name in unsubscribe {
            let known = if name == WILDCARD { std::mem::take(&mut watch.wildcard) } else { watch.names.remove(&name) };
            assert!(known, "{name} was not subscribed");
            watch.sent.remove(&name);
        }
        let (wildcard, names) = (watch.wildcard, watch.names.clone());
        watch.sent.retain(|name, _| first || wildcard || names.contains(name));
        for name in &subscribe {
            if name == WILDCARD {
                watch.wildcard = true;
            } else {
                watch.names.insert(name.clone());
            }
            if !first {
                watch.sent.remove(name);
            }
        }
        self.delta_response(type_url, &subscribe).map(Response::Delta)
    }

    fn delta_response(&mut self, type_url: &TypeUrl, asked: &[String]) -> Option<DeltaDiscoveryResponse> {
        let watch = self.watches.get_mut(type_url)?;
        let mut response = DeltaDiscoveryResponse { type_url: type_url.as_str().into(), ..Default::default() };
        for ((_, name), version) in self.resources.iter().filter(|((it, _), _)| it == type_url) {
            let wants = watch.wildcard || watch.names.contains(name);
            if wants && watch.sent.get(name) != Some(&version.to_string()) {
                watch.sent.insert(name.clone(), version.to_string());
                let resource = Some(prost_types::Any { type_url: type_url.as_str().into(), value: body(*version) });
                let (name, version) = (name.clone(), version.to_string());
                response.resources.push(Wrapper { name, version, resource, ..Wrapper::default() });
            }
        }
        let absent = |name: &String| !self.resources.contains_key(&(type_url.clone(), name.clone()));
        let mut gone: BTreeSet<String> = watch.sent.keys().filter(|name| absent(name)).cloned().collect();
        gone.extend(asked.iter().filter(|name| *name != WILDCARD && absent(name)).cloned());
        watch.sent.retain(|name, _| !gone.contains(name));
        response.removed_resources = gone.into_iter().collect();
        if response.resources.is_empty() && response.removed_resources.is_empty() {
            return None;
        }
        self.nonces += 1;
        response.nonce = self.nonces.to_string();
        watch.open.push_back(response.nonce.clone());
        Some(response)
    }

    fn sotw_request(&mut self, type_url: &TypeUrl, request: DiscoveryRequest) -> Option<Response> {
        let first = !self.watches.contains_key(type_url);
        let watch = self.watches.entry(type_url.clone()).or_default();
        if first {
            assert_eq!(request.response_nonce, "", "nonces end with their stream");
        } else if request.response_nonce != watch.nonce {
            return None; // stale: an answer to the last response is on its way
        }
        watch.open.clear();
        let names: BTreeSet<String> = request.resource_names.into_iter().collect();
        let wildcard = names.contains(WILDCARD) || (names.is_empty() && (first || watch.wildcard));
        let names: BTreeSet<String> = names.into_iter().filter(|name| name != WILDCARD).collect();
        let changed = first || names != watch.names || wildcard != watch.wildcard;
        (watch.names, watch.wildcard) = (names, wildcard);
        if changed { self.sotw_response(type_url).map(Response::Sotw) } else { None }
    }

    fn sotw_response(&mut self, type_url: &TypeUrl) -> Option<DiscoveryResponse> {
        let watch = self.watches.get_mut(type_url)?;
        let mut response = DiscoveryResponse { type_url: type_url.as_str().into(), ..Default::default() };
        for ((_, name), version) in self.resources.iter().filter(|((it, _), _)| it == type_url) {
            if watch.wildcard || watch.names.contains(name) {
                let resource = Some(prost_types::Any { type_url: type_url.as_str().into(), value: body(*version) });
                let wrapper = Wrapper { name: name.clone(), resource, ..Wrapper::default() };
                let type_url = "type.googleapis.com/envoy.service.discovery.v3.Resource".to_owned();
                response.resources.push(prost_types::Any { type_url, value: wrapper.encode_to_vec() });
            }
        }
        self.nonces += 1;
        response.nonce = self.nonces.to_string();
        response.version_info = self.versions.to_string();
        watch.nonce = response.nonce.clone();
        watch.open.push_back(response.nonce.clone());
        Some(response)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn client_and_server_agree_once_it_is_quiet(
        variant in prop_oneof![Just(Variant::Delta), Just(Variant::Sotw)],
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut world = World::new(variant);
        for step in steps {
            world.step(step);
        }
        world.settle();
        if !world.rejected {
            world.check();
        }
        // What was rejected stays as it was until the server changes it: change everything that is there.
        let there: Vec<Key> = world.server.resources.keys().cloned().collect();
        for (type_url, name) in there {
            let t = TYPES.iter().position(|it| *it == type_url).unwrap();
            let n = NAMES.iter().position(|it| *it == name).unwrap();
            world.set(t, n);
        }
        world.settle();
        world.check();
    }

    #[test]
    fn whatever_bytes_come_nothing_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        delta in any::<bool>(),
    ) {
        let variant = if delta { Variant::Delta } else { Variant::Sotw };
        let now = Instant::now();
        let mut session = Session::new(&Options::new(Default::default(), variant));
        for type_url in &TYPES {
            session.subscribe(type_url, WILDCARD, Duration::ZERO, now);
        }
        session.connected(now);
        while session.poll_request(now).is_some() {}
        let mut good = valid(variant);
        for (at, with) in flips {
            let at = at.index(good.len());
            good[at] ^= with;
        }
        for bytes in [bytes, good] {
            let Ok(response) = Response::decode(variant, &*bytes) else { continue };
            let events = session.received(response, now);
            let update = events.iter().any(|event| matches!(event, Event::Update(_)));
            session.verdict(Vec::new(), now);
            let answers = std::iter::from_fn(|| session.poll_request(now)).count();
            prop_assert!(answers <= 1);
            prop_assert!(answers == 1 || !update, "an update is answered");
        }
        session.expired(now + Duration::from_secs(1 << 40));
    }
}

/// A response with everything that a response can have.
fn valid(variant: Variant) -> Vec<u8> {
    let any = prost_types::Any { type_url: TypeUrl::CLUSTER.as_str().into(), value: body(7) };
    let ttl = Some(prost_types::Duration { seconds: 3, nanos: 0 });
    let (name, version, aliases) = ("a".to_owned(), "1".to_owned(), vec!["b".to_owned()]);
    let wrapper = Wrapper { name, version, aliases, resource: Some(any.clone()), ttl, ..Wrapper::default() };
    let control_plane = Some(ControlPlane { identifier: "server".into() });
    match variant {
        Variant::Delta => DeltaDiscoveryResponse {
            system_version_info: "1".into(),
            type_url: TypeUrl::CLUSTER.as_str().into(),
            nonce: "n".into(),
            resources: vec![wrapper],
            removed_resources: vec!["c".into()],
            control_plane,
            ..Default::default()
        }
        .encode_to_vec(),
        Variant::Sotw => {
            let type_url = "type.googleapis.com/envoy.service.discovery.v3.Resource".to_owned();
            let wrapped = prost_types::Any { type_url, value: wrapper.encode_to_vec() };
            DiscoveryResponse {
                version_info: "1".into(),
                type_url: TypeUrl::CLUSTER.as_str().into(),
                nonce: "n".into(),
                resources: vec![wrapped, any],
                control_plane,
                ..Default::default()
            }
            .encode_to_vec()
        }
    }
}
