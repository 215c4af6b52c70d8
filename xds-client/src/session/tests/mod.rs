//! The rules of the protocol, one test a rule, without I/O.

use std::time::{Duration, Instant};

use prost::Message as _;
use xds_protos::envoy::config::core::v3::{ControlPlane, Node};
use xds_protos::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource as Wrapper,
    ResourceError, ResourceName,
};

use super::*;
use crate::RateLimit;

mod requests;
mod responses;
mod time;

const FOREVER: Duration = Duration::ZERO;
const C: TypeUrl = TypeUrl::CLUSTER;
const E: TypeUrl = TypeUrl::ENDPOINT;
const L: TypeUrl = TypeUrl::LISTENER;
const R: TypeUrl = TypeUrl::ROUTE;

fn options(variant: Variant) -> Options {
    Options::new(Node { id: "me".into(), ..Node::default() }, variant)
}

fn start(variant: Variant) -> (Session, Instant) {
    (Session::new(&options(variant)), Instant::now())
}

/// A body with its name in field 1, as all resources have.
fn body(name: &str) -> Vec<u8> {
    ControlPlane { identifier: name.into() }.encode_to_vec()
}

fn any(type_url: &TypeUrl, name: &str) -> prost_types::Any {
    prost_types::Any { type_url: type_url.as_str().into(), value: body(name) }
}

fn wrapper(type_url: &TypeUrl, name: &str, version: &str) -> Wrapper {
    let resource = Some(any(type_url, name));
    Wrapper { name: name.into(), version: version.into(), resource, ..Wrapper::default() }
}

/// A response of delta with resources at a version, in which `-name` is a removal.
fn delta(type_url: &TypeUrl, nonce: &str, resources: &[&str]) -> DeltaDiscoveryResponse {
    let (removed, added): (Vec<&str>, Vec<&str>) = resources.iter().partition(|name| name.starts_with('-'));
    DeltaDiscoveryResponse {
        system_version_info: format!("v{nonce}"),
        type_url: type_url.as_str().into(),
        nonce: nonce.into(),
        resources: added.into_iter().map(|name| wrapper(type_url, name, nonce)).collect(),
        removed_resources: removed.into_iter().map(|name| name[1..].to_owned()).collect(),
        ..Default::default()
    }
}

fn sotw(type_url: &TypeUrl, nonce: &str, resources: &[&str]) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info: format!("v{nonce}"),
        type_url: type_url.as_str().into(),
        nonce: nonce.into(),
        resources: resources.iter().map(|name| any(type_url, name)).collect(),
        ..Default::default()
    }
}

fn give(session: &mut Session, response: impl Into<Response>, now: Instant) -> Vec<Event> {
    session.received(response.into(), now)
}

impl From<DeltaDiscoveryResponse> for Response {
    fn from(response: DeltaDiscoveryResponse) -> Self {
        Self::Delta(response)
    }
}

impl From<DiscoveryResponse> for Response {
    fn from(response: DiscoveryResponse) -> Self {
        Self::Sotw(response)
    }
}

/// Takes the one update among the events.
fn update(events: Vec<Event>) -> Update {
    let mut updates = events.into_iter().filter_map(|event| match event {
        Event::Update(update) => Some(update),
        _ => None,
    });
    let update = updates.next().expect("an update");
    assert!(updates.next().is_none());
    update
}

fn names(update: &Update) -> Vec<&str> {
    update.added.iter().map(|it| it.name.as_str()).collect()
}

fn next_delta(session: &mut Session, now: Instant) -> DeltaDiscoveryRequest {
    match session.poll_request(now) {
        Some(Request::Delta(request)) => request,
        _ => panic!("a delta request"),
    }
}

fn next_sotw(session: &mut Session, now: Instant) -> DiscoveryRequest {
    match session.poll_request(now) {
        Some(Request::Sotw(request)) => request,
        _ => panic!("a state-of-the-world request"),
    }
}

fn drain(session: &mut Session, now: Instant) -> Vec<Request> {
    std::iter::from_fn(|| session.poll_request(now)).collect()
}

fn rejected(name: &str) -> Vec<Rejected> {
    vec![Rejected { name: name.into(), reason: "no".into() }]
}
