//! The protocol itself: [`Session`], a state machine without I/O, clock or chance.
//!
//! Outlives streams: what is wanted and what was accepted carry over to the next one.
//!
//! ```text
//! subscribe, unsubscribe, connected, received, verdict, expired --> Session --> poll_request, deadline, events
//! ```
//!
//! Rules, as Envoy's `GrpcMux` keeps them where the protocol leaves room
//! - The node goes with the first request of a stream. Requests leave in the order CDS, EDS, LDS, RDS, SDS, others.
//! - A response is answered by one ACK or NACK that changes no subscription. What the handler asked for while it applied
//!   the response leaves before that answer: so Envoy's EDS request precedes its CDS ACK.
//! - A paused type sends nothing, its answers included: Envoy holds back the CDS ACK while clusters warm.
//! - A NACK keeps the last good version of each resource that it names; the others of the response are in force. (Envoy
//!   forgets the versions of the whole response, and is sent its good part again after a reconnect.)
//! - A response of a type that nobody asked for is ignored and not answered. Names that nobody asked for are ignored.
//! - A response that names a resource twice, or holds one of another type or without a body, is refused whole before the
//!   handler sees it. (Of duplicates in state of the world Envoy refuses the later ones alone.)
//! - A response without a nonce, or with an old one, is taken and answered like any other.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use xds_client::session::{Event, Request, Response, Session};
//! use xds_client::{Options, TypeUrl, Variant};
//! use xds_protos::envoy::service::discovery::v3::DeltaDiscoveryResponse;
//!
//! let now = Instant::now();
//! let mut session = Session::new(&Options::new(Default::default(), Variant::Delta));
//! session.subscribe(&TypeUrl::CLUSTER, "*", Duration::ZERO, now);
//! session.connected(now);
//! let Some(Request::Delta(first)) = session.poll_request(now) else { panic!() };
//! assert!(first.node.is_some() && first.resource_names_subscribe.is_empty());
//!
//! let response = DeltaDiscoveryResponse { nonce: "1".into(), type_url: first.type_url, ..Default::default() };
//! let events = session.received(Response::Delta(response), now);
//! assert!(matches!(&events[..], [Event::Update(update)] if update.added.is_empty()));
//! session.verdict(Vec::new(), now);
//! assert_eq!(session.poll_request(now).unwrap().response_nonce(), "1");
//! ```

mod message;
mod timers;
mod unwrap;
mod watch;

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use xds_protos::envoy::config::core::v3::Node;
use xds_protos::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds_protos::google::rpc::Status;

pub use message::{Request, Response};
use timers::{Kind, Timers};
use unwrap::Unwrapped;
use watch::{Known, OnStream, Want, Watch};

use crate::token_bucket::TokenBucket;
use crate::{Missing, Options, Rejected, Service, StreamEvent, TypeUrl, Update, Variant, WILDCARD};

/// What the handler must be told, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Apply it, then call [`Session::verdict`] before the next [`Session::received`]; unless it is `expired`.
    Update(Update),
    /// See [`crate::Handler::missing`].
    Missing(TypeUrl, String, Missing),
    /// See [`crate::Handler::fetch_timed_out`].
    FetchTimedOut(TypeUrl, Vec<String>),
    /// See [`crate::Handler::stream`].
    Stream(StreamEvent),
}

/// gRPC's `INTERNAL`: the code of every NACK, as Envoy's.
const INTERNAL: i32 = 13;
/// Envoy cuts the message of a NACK here, as some servers refuse long ones.
const MAX_NACK: usize = 4096;

/// The state of the protocol over all types of one stream, and over the streams that follow it. See the
/// [module](self).
pub struct Session {
    variant: Variant,
    only: Option<TypeUrl>,
    node: Node,
    node_once: bool,
    does_not_exist: Option<Duration>,
    bucket: Option<TokenBucket>,
    /// When the bucket has a token again, if it is empty.
    throttled: Option<Instant>,
    connected: bool,
    node_sent: bool,
    identifier: String,
    /// Keyed by rank first: the order in which requests leave.
    watches: BTreeMap<(usize, TypeUrl), Watch>,
    answers: VecDeque<Answer>,
    awaiting: Option<Awaiting>,
    timers: Timers,
}

/// An ACK or NACK that is due.
struct Answer {
    type_url: TypeUrl,
    nonce: String,
    error: Option<Status>,
}

/// A response that is with the handler.
struct Awaiting {
    type_url: TypeUrl,
    version: String,
    nonce: String,
    added: Vec<(String, String, Option<Duration>)>,
    removed: Vec<String>,
    full: bool,
    /// The stream that it came by is still open.
    answerable: bool,
}

impl Session {
    /// Without subscriptions, not connected.
    pub fn new(options: &Options) -> Self {
        Self {
            variant: options.variant,
            only: match &options.service {
                Service::Aggregated => None,
                Service::Single(type_url) => Some(type_url.clone()),
            },
            node: options.node.clone(),
            node_once: options.set_node_on_first_message_only,
            does_not_exist: options.does_not_exist_timeout.filter(|timeout| !timeout.is_zero()),
            bucket: options.rate_limit.map(TokenBucket::new),
            throttled: None,
            connected: false,
            node_sent: false,
            identifier: String::new(),
            watches: BTreeMap::new(),
            answers: VecDeque::new(),
            awaiting: None,
            timers: Timers::default(),
        }
    }

    /// Delta or state of the world.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// Wants a resource by name, or all with `*`. Nothing changes if it is wanted already.
    pub fn subscribe(&mut self, type_url: &TypeUrl, name: &str, initial_fetch_timeout: Duration, now: Instant) {
        let variant = self.variant;
        let watch = self.watches.entry((type_url.rank(), type_url.clone())).or_default();
        if watch.wanted.contains_key(name) {
            return;
        }
        let fetch = (!initial_fetch_timeout.is_zero()).then(|| now.checked_add(initial_fetch_timeout)).flatten();
        watch.wanted.insert(name.to_owned(), Want { fetch, ..Want::default() });
        watch.stream.dirty = true;
        if variant == Variant::Delta && watch.stream.introduced {
            // Whoever let go of it may have dropped the resource: have it sent again even if the server never noticed.
            watch.stream.changed.insert(name.to_owned(), true);
        }
        if let Some(at) = fetch {
            self.timers.set(at, Kind::Fetch, type_url, name);
        }
        if watch.stream.introduced {
            self.expect(type_url, &[name.to_owned()], now);
        }
    }

    /// Wants it no more: what is known of it is forgotten, unless a wildcard still covers it.
    pub fn unsubscribe(&mut self, type_url: &TypeUrl, name: &str) {
        let Some(watch) = self.watches.get_mut(&(type_url.rank(), type_url.clone())) else { return };
        if watch.wanted.remove(name).is_none() {
            return;
        }
        watch.stream.dirty = true;
        if watch.stream.introduced {
            watch.stream.changed.insert(name.to_owned(), false);
        }
        if name == WILDCARD {
            let Watch { wanted, known, .. } = watch;
            known.retain(|name, _| wanted.contains_key(name));
        } else if !watch.is_wildcard() {
            watch.known.remove(name);
        }
    }

    /// State of the world: sends the names again, so that servers that answer every request send the resources again.
    /// In delta nothing happens.
    pub fn refresh(&mut self, type_url: &TypeUrl) {
        if let Some(watch) = self.watches.get_mut(&(type_url.rank(), type_url.clone())) {
            watch.stream.dirty |= !watch.wanted.is_empty();
        }
    }

    /// Holds back all requests of a type, answers included, until as many calls of [`Session::resume`].
    pub fn pause(&mut self, type_url: &TypeUrl) {
        self.watches.entry((type_url.rank(), type_url.clone())).or_default().paused += 1;
    }

    /// See [`Session::pause`].
    pub fn resume(&mut self, type_url: &TypeUrl) {
        if let Some(watch) = self.watches.get_mut(&(type_url.rank(), type_url.clone())) {
            watch.paused = watch.paused.saturating_sub(1);
        }
    }

    /// A stream was opened. Forgets what the last one said of nonces.
    pub fn connected(&mut self, _now: Instant) {
        self.disconnected();
        self.connected = true;
    }

    /// The stream ended. Answers that were due on it are dropped; a verdict that is still out is recorded, not sent.
    pub fn disconnected(&mut self) {
        self.connected = false;
        self.node_sent = false;
        self.answers.clear();
        if let Some(awaiting) = &mut self.awaiting {
            awaiting.answerable = false;
        }
        for watch in self.watches.values_mut() {
            watch.stream = OnStream::default();
            for want in watch.wanted.values_mut() {
                want.missing = None;
            }
        }
    }

    /// Takes a response. What comes out must be handed on in order.
    pub fn received(&mut self, response: Response, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        if self.awaiting.is_some() {
            // The caller broke the contract: better to call the whole response bad than to claim that it is in force.
            self.verdict(vec![Rejected { name: String::new(), reason: "no verdict was given".to_owned() }], now);
        }
        let (url, matches) = match &response {
            Response::Delta(response) => (&response.type_url, self.variant == Variant::Delta),
            Response::Sotw(response) => (&response.type_url, self.variant == Variant::Sotw),
        };
        let type_url = match &self.only {
            Some(only) if url.is_empty() => only.clone(),
            _ => TypeUrl::from(url.as_str()),
        };
        let key = (type_url.rank(), type_url.clone());
        let Some(watch) = self.watches.get_mut(&key).filter(|watch| matches && watch.stream.introduced) else {
            return vec![Event::Stream(StreamEvent::Unasked(type_url))];
        };
        let mut unwrapped = match response {
            Response::Delta(response) => unwrap::delta(&type_url, response),
            Response::Sotw(response) => unwrap::sotw(&type_url, response),
        };
        if let Some(identifier) = unwrapped.identifier.take().filter(|it| *it != self.identifier) {
            self.identifier.clone_from(&identifier);
            events.push(Event::Stream(StreamEvent::Identifier(identifier)));
        }
        watch.stream.nonce.clone_from(&unwrapped.nonce);
        if unwrapped.problem.is_none()
            && let Some(name) = not_a_heartbeat(self.variant, watch, &unwrapped)
        {
            let problem = format!("resource {name} has no body, and renews nothing that is in force");
            unwrapped = unwrapped.refuse(problem);
        }
        if let Some(reason) = unwrapped.problem {
            self.answer(&type_url, unwrapped.nonce, Some(&reason));
            events.push(Event::Stream(StreamEvent::Refused { type_url, version: unwrapped.version, reason }));
            return events;
        }
        self.renew(&type_url, &unwrapped.heartbeats, now);
        self.take(type_url, unwrapped, now, &mut events);
        events
    }

    /// Hands the part of a good response that is wanted to the handler, or acknowledges it if there is none.
    fn take(&mut self, type_url: TypeUrl, response: Unwrapped, now: Instant, events: &mut Vec<Event>) {
        let Some(watch) = self.watches.get_mut(&(type_url.rank(), type_url.clone())) else { return };
        let Unwrapped { version, nonce, resources, heartbeats, removed, errors, .. } = response;
        let full = self.variant == Variant::Sotw && type_url.is_state_of_the_world();
        let mut added = resources;
        added.retain(|it| watch.wants(&it.name) || it.aliases.iter().any(|alias| watch.wants(alias)));
        let mut removed = removed;
        removed.retain(|name| watch.wants(name));

        let renewed = heartbeats.iter().map(|(name, ..)| name);
        let named = added.iter().flat_map(|it| std::iter::once(&it.name).chain(&it.aliases));
        for name in named.chain(&removed).chain(renewed) {
            if let Some(want) = watch.wanted.get_mut(name) {
                *want = Want { answered: true, ..Want::default() };
            }
        }
        if let Some(want) = watch.wanted.get_mut(WILDCARD) {
            *want = Want { answered: true, ..Want::default() };
        }
        if full {
            watch.wanted.values_mut().for_each(|want| *want = Want { answered: true, ..Want::default() });
        }
        for (name, code, message) in errors {
            if let Some(want) = watch.wanted.get_mut(&name) {
                *want = Want { answered: true, ..Want::default() };
                events.push(Event::Missing(type_url.clone(), name, Missing::Error { code, message }));
            }
        }

        self.awaiting = Some(Awaiting {
            type_url: type_url.clone(),
            version: version.clone(),
            nonce: nonce.clone(),
            added: added.iter().map(|it| (it.name.clone(), it.version.clone(), it.ttl)).collect(),
            removed: removed.clone(),
            full: full && heartbeats.is_empty(),
            answerable: true,
        });
        let only_heartbeats = added.is_empty() && !heartbeats.is_empty();
        if (watch.is_wildcard() || (full && !watch.wanted.is_empty()) || !added.is_empty() || !removed.is_empty())
            && !only_heartbeats
        {
            let full = full && heartbeats.is_empty();
            let update = Update { type_url, version, nonce, added, removed, full, expired: false };
            events.push(Event::Update(update));
        } else {
            self.verdict(Vec::new(), now);
        }
    }

    /// What the handler made of the last [`Event::Update`]: an empty list acknowledges it.
    pub fn verdict(&mut self, rejected: Vec<Rejected>, now: Instant) {
        let Some(response) = self.awaiting.take() else { return };
        let Awaiting { type_url, version, nonce, added, removed, full, answerable } = response;
        let Some(watch) = self.watches.get_mut(&(type_url.rank(), type_url.clone())) else { return };
        let bad: HashSet<&str> = rejected.iter().map(|it| it.name.as_str()).collect();
        if !bad.contains("") {
            if full {
                let listed: HashSet<&str> = added.iter().map(|(name, ..)| name.as_str()).collect();
                watch.known.retain(|name, _| listed.contains(name.as_str()));
            }
            for (name, version, ttl) in added {
                if !watch.wants(&name) || bad.contains(name.as_str()) {
                    continue; // let go of while it was applied; or the last good one stays
                }
                let expires = ttl.and_then(|ttl| now.checked_add(ttl));
                if let Some(at) = expires {
                    self.timers.set(at, Kind::Ttl, &type_url, &name);
                }
                watch.known.insert(name, Known { version, expires });
            }
            for name in removed {
                watch.known.remove(&name);
            }
        }
        if rejected.is_empty() {
            watch.version = version;
        }
        let reason = (!rejected.is_empty()).then(|| nack_message(&type_url, &rejected));
        if answerable {
            self.answer(&type_url, nonce, reason.as_deref());
        }
    }

    /// The next request to send, in order; call until `None`.
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        if !self.connected {
            return None;
        }
        let due = self.next_due()?;
        if let Some(bucket) = &mut self.bucket {
            self.throttled = bucket.take(now).err();
            if self.throttled.is_some() {
                return None;
            }
        }
        let mut request = match due {
            Due::Change(key) => {
                let watch = self.watches.get_mut(&key)?;
                let first = !watch.stream.introduced;
                let request = watch.change(&key.1, self.variant);
                if first {
                    let names: Vec<String> = watch.wanted.keys().cloned().collect();
                    self.expect(&key.1, &names, now);
                }
                request
            }
            Due::Answer(index) => {
                let answer = self.answers.remove(index)?;
                self.answer_request(answer)?
            }
        };
        if !(self.node_once && self.node_sent) {
            self.node_sent = true;
            match &mut request {
                Request::Delta(request) => request.node = Some(self.node.clone()),
                Request::Sotw(request) => request.node = Some(self.node.clone()),
            }
        }
        Some(request)
    }

    /// Whether requests wait for the rate limit, and how many types have one.
    pub fn throttled(&self) -> Option<usize> {
        self.throttled?;
        let waiting = self.watches.values().filter(|watch| watch.has_change(self.variant)).count();
        Some(waiting + self.answers.len())
    }

    /// When [`Session::expired`] or [`Session::poll_request`] has something to do without anything else happening. May
    /// be early, never late.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.throttled.filter(|_| self.connected)).min()
    }

    /// Does what time has brought. To be called when [`Session::deadline`] is reached.
    pub fn expired(&mut self, now: Instant) -> Vec<Event> {
        let (mut timed_out, mut gone) =
            (BTreeMap::<TypeUrl, Vec<String>>::new(), BTreeMap::<TypeUrl, Vec<String>>::new());
        let mut events = Vec::new();
        while let Some((at, kind, type_url, name)) = self.timers.pop(now) {
            let Some(watch) = self.watches.get_mut(&(type_url.rank(), type_url.clone())) else { continue };
            match kind {
                Kind::Fetch => {
                    if let Some(want) = watch.wanted.get_mut(&name).filter(|want| want.fetch == Some(at)) {
                        want.fetch = None;
                        timed_out.entry(type_url).or_default().push(name);
                    }
                }
                Kind::Missing => {
                    if let Some(want) = watch.wanted.get_mut(&name).filter(|want| want.missing == Some(at)) {
                        want.missing = None;
                        events.push(Event::Missing(type_url, name, Missing::TimedOut));
                    }
                }
                Kind::Ttl => {
                    if watch.known.get(&name).is_some_and(|known| known.expires == Some(at)) {
                        watch.known.remove(&name);
                        gone.entry(type_url).or_default().push(name);
                    }
                }
            }
        }
        for (type_url, removed) in gone {
            let (version, nonce, added) = Default::default();
            events.push(Event::Update(Update { type_url, version, nonce, added, removed, full: false, expired: true }));
        }
        events.extend(timed_out.into_iter().map(|(type_url, names)| Event::FetchTimedOut(type_url, names)));
        events
    }

    /// Names that the handler has in force, with their versions, sorted.
    pub fn known(&self, type_url: &TypeUrl) -> impl Iterator<Item = (&str, &str)> {
        let watch = self.watches.get(&(type_url.rank(), type_url.clone()));
        let known = watch.into_iter().flat_map(|watch| &watch.known);
        known.map(|(name, known)| (name.as_str(), known.version.as_str()))
    }

    /// What leaves next. Changes come before answers, except changes of a type that owes an answer.
    fn next_due(&self) -> Option<Due> {
        let owes = |type_url: &TypeUrl| self.answers.iter().any(|answer| answer.type_url == *type_url);
        let change = |also: bool| {
            let mut watches = self.watches.iter();
            let due = watches.find(|(key, watch)| watch.has_change(self.variant) && (also || !owes(&key.1)));
            due.map(|(key, _)| Due::Change(key.clone()))
        };
        let paused = |type_url: &TypeUrl| {
            self.watches.get(&(type_url.rank(), type_url.clone())).is_some_and(|watch| watch.paused > 0)
        };
        change(false)
            .or_else(|| self.answers.iter().position(|answer| !paused(&answer.type_url)).map(Due::Answer))
            .or_else(|| change(true))
    }

    fn answer_request(&mut self, answer: Answer) -> Option<Request> {
        let Answer { type_url, nonce, error } = answer;
        Some(match self.variant {
            Variant::Delta => Request::Delta(DeltaDiscoveryRequest {
                type_url: type_url.as_str().to_owned(),
                response_nonce: nonce,
                error_detail: error,
                ..DeltaDiscoveryRequest::default()
            }),
            Variant::Sotw => {
                let watch = self.watches.get_mut(&(type_url.rank(), type_url.clone()))?;
                let mut request = watch.sotw_request(&type_url);
                (request.response_nonce, request.error_detail) = (nonce, error);
                Request::Sotw(request)
            }
        })
    }

    fn answer(&mut self, type_url: &TypeUrl, nonce: String, reason: Option<&str>) {
        if !self.connected {
            return;
        }
        let error = reason.map(|reason| Status { code: INTERNAL, message: cut(reason), details: Vec::new() });
        if self.variant == Variant::Sotw {
            // A request of this variant answers the last response alone.
            self.answers.retain(|answer| answer.type_url != *type_url);
        }
        self.answers.push_back(Answer { type_url: type_url.clone(), nonce, error });
    }

    /// Starts the does-not-exist timers of names that were just asked for.
    fn expect(&mut self, type_url: &TypeUrl, names: &[String], now: Instant) {
        let Some(at) = self.does_not_exist.and_then(|timeout| now.checked_add(timeout)) else { return };
        let Some(watch) = self.watches.get_mut(&(type_url.rank(), type_url.clone())) else { return };
        for name in names.iter().filter(|name| *name != WILDCARD) {
            let known = watch.known.contains_key(name);
            if let Some(want) = watch.wanted.get_mut(name).filter(|want| !want.answered && !known) {
                want.missing = Some(at);
                self.timers.set(at, Kind::Missing, type_url, name);
            }
        }
    }

    fn renew(&mut self, type_url: &TypeUrl, heartbeats: &[(String, String, Option<Duration>)], now: Instant) {
        let Some(watch) = self.watches.get_mut(&(type_url.rank(), type_url.clone())) else { return };
        for (name, _, ttl) in heartbeats {
            let Some(known) = watch.known.get_mut(name) else { continue };
            known.expires = ttl.and_then(|ttl| now.checked_add(ttl));
            if let Some(at) = known.expires {
                self.timers.set(at, Kind::Ttl, type_url, name);
            }
        }
    }
}

enum Due {
    Change((usize, TypeUrl)),
    Answer(usize),
}

/// A resource without a body that does not renew what is in force. Envoy looks at the version in delta only.
fn not_a_heartbeat<'a>(variant: Variant, watch: &Watch, response: &'a Unwrapped) -> Option<&'a str> {
    let renews = |name: &str, version: &str| match watch.known.get(name) {
        Some(known) => variant == Variant::Sotw || known.version == version,
        None => !watch.wants(name),
    };
    let mut heartbeats = response.heartbeats.iter();
    heartbeats.find(|(name, version, _)| !renews(name, version)).map(|(name, ..)| name.as_str())
}

/// Envoy's words for CDS and LDS; the others have no list of their own there, and get `name: reason`.
fn nack_message(type_url: &TypeUrl, rejected: &[Rejected]) -> String {
    let one = |it: &Rejected| match it.name.is_empty() {
        true => it.reason.clone(),
        false => format!("{}: {}", it.name, it.reason),
    };
    let list = rejected.iter().map(one).collect::<Vec<_>>();
    match type_url {
        url if *url == TypeUrl::CLUSTER => format!("Error adding/updating cluster(s) {}", list.join(", ")),
        url if *url == TypeUrl::LISTENER => format!("Error adding/updating listener(s) {}\n", list.join("\n")),
        _ => list.join(", "),
    }
}

fn cut(reason: &str) -> String {
    if reason.len() <= MAX_NACK {
        return reason.to_owned();
    }
    format!("{}...(truncated)", &reason.get(..reason.floor_char_boundary(MAX_NACK)).unwrap_or_default())
}
