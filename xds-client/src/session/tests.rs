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

#[test]
fn the_node_goes_once_a_stream_or_always() {
    for once in [true, false] {
        let mut options = options(Variant::Delta);
        options.set_node_on_first_message_only = once;
        let (mut session, now) = (Session::new(&options), Instant::now());
        session.subscribe(&C, "*", FOREVER, now);
        session.subscribe(&E, "a", FOREVER, now);
        for _stream in 0..2 {
            session.connected(now);
            let nodes: Vec<bool> = (0..2).map(|_| next_delta(&mut session, now).node.is_some()).collect();
            assert_eq!(nodes, [true, !once]);
        }
    }
}

#[test]
fn nothing_leaves_without_a_stream_and_each_type_asks_once() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&C, "*", FOREVER, now);
    assert!(session.poll_request(now).is_none());
    session.connected(now);
    assert_eq!(drain(&mut session, now).len(), 1);
    session.subscribe(&C, "*", FOREVER, now);
    assert!(session.poll_request(now).is_none(), "asking twice is asking once");
}

#[test]
fn first_requests_leave_in_order() {
    for variant in [Variant::Delta, Variant::Sotw] {
        let (mut session, now) = start(variant);
        let other = TypeUrl::from("type.googleapis.com/istio.networking.nds.v1.NameTable");
        for type_url in [&other, &TypeUrl::SECRET, &R, &L, &E, &C] {
            session.subscribe(type_url, "x", FOREVER, now);
        }
        session.connected(now);
        let order: Vec<String> = drain(&mut session, now).iter().map(|it| it.type_url().to_owned()).collect();
        let expected = [&C, &E, &L, &R, &TypeUrl::SECRET, &other].map(|it| it.as_str().to_owned());
        assert_eq!(order, expected);
    }
}

#[test]
fn delta_spells_a_wildcard_as_an_empty_list_or_as_a_star() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&C, "*", FOREVER, now);
    session.connected(now);
    assert!(next_delta(&mut session, now).resource_names_subscribe.is_empty(), "alone");
    session.subscribe(&C, "extra", FOREVER, now);
    assert_eq!(next_delta(&mut session, now).resource_names_subscribe, ["extra"]);
    session.connected(now);
    assert_eq!(next_delta(&mut session, now).resource_names_subscribe, ["*", "extra"], "beside names");

    session.unsubscribe(&C, "*");
    let request = next_delta(&mut session, now);
    assert_eq!((request.resource_names_unsubscribe, request.resource_names_subscribe), (vec!["*".to_owned()], vec![]));
    session.subscribe(&C, "*", FOREVER, now);
    assert_eq!(next_delta(&mut session, now).resource_names_subscribe, ["*"], "later on the stream");
}

#[test]
fn the_end_of_a_wildcard_leaves_what_is_wanted_by_name() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&C, "*", FOREVER, now);
    session.subscribe(&C, "a", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, delta(&C, "1", &["a", "b"]), now);
    session.verdict(vec![], now);
    session.unsubscribe(&C, "*");
    assert_eq!(session.known(&C).collect::<Vec<_>>(), [("a", "1")]);
    drain(&mut session, now);
    let events = give(&mut session, delta(&C, "2", &["b"]), now);
    assert!(events.is_empty(), "nobody wants b any more");
    assert_eq!(next_delta(&mut session, now).response_nonce, "2", "acknowledged all the same");
}

#[test]
fn sotw_lists_all_names_each_time() {
    let (mut session, now) = start(Variant::Sotw);
    session.subscribe(&E, "a", FOREVER, now);
    session.connected(now);
    assert_eq!(next_sotw(&mut session, now).resource_names, ["a"]);
    session.subscribe(&E, "b", FOREVER, now);
    session.subscribe(&E, "c", FOREVER, now);
    assert_eq!(next_sotw(&mut session, now).resource_names, ["a", "b", "c"], "one request for both");
    session.unsubscribe(&E, "a");
    assert_eq!(next_sotw(&mut session, now).resource_names, ["b", "c"]);
    assert!(session.poll_request(now).is_none());
    session.refresh(&E);
    assert_eq!(next_sotw(&mut session, now).resource_names, ["b", "c"]);
    assert!(session.poll_request(now).is_none());
}

#[test]
fn an_ack_repeats_the_nonce_and_changes_no_subscription() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&C, "*", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    let update = update(give(&mut session, delta(&C, "n1", &["a"]), now));
    assert_eq!((names(&update), update.full, &*update.version), (vec!["a"], false, "vn1"));
    session.verdict(vec![], now);
    let ack = next_delta(&mut session, now);
    let expected = DeltaDiscoveryRequest {
        type_url: C.as_str().into(),
        response_nonce: "n1".into(),
        ..DeltaDiscoveryRequest::default()
    };
    assert!(ack == expected);
    assert!(session.poll_request(now).is_none());
}

#[test]
fn a_sotw_ack_tells_the_new_version_and_a_nack_the_old() {
    let (mut session, now) = start(Variant::Sotw);
    session.subscribe(&L, "*", FOREVER, now);
    session.connected(now);
    assert_eq!(next_sotw(&mut session, now).version_info, "");
    for (nonce, verdict, version) in
        [("1", vec![], "v1"), ("2", rejected("l"), "v1"), ("3", vec![], "v3"), ("4", rejected("l"), "v3")]
    {
        let update = update(give(&mut session, sotw(&L, nonce, &["l"]), now));
        assert!(update.full);
        assert_eq!(update.added[0].version, format!("v{nonce}"));
        let refused = !verdict.is_empty();
        session.verdict(verdict, now);
        let answer = next_sotw(&mut session, now);
        assert_eq!((&*answer.response_nonce, &*answer.version_info), (nonce, version));
        assert_eq!(answer.error_detail.is_some(), refused);
    }
    session.connected(now);
    let first = next_sotw(&mut session, now);
    assert_eq!((&*first.version_info, &*first.response_nonce), ("v3", ""), "nonces end with their stream");
}

#[test]
fn a_nack_names_each_resource_in_envoys_words() {
    for (type_url, message) in [
        (C, "Error adding/updating cluster(s) a: no, b: not at all"),
        (L, "Error adding/updating listener(s) a: no\nb: not at all\n"),
        (R, "a: no, b: not at all"),
    ] {
        let (mut session, now) = start(Variant::Delta);
        session.subscribe(&type_url, "*", FOREVER, now);
        session.connected(now);
        drain(&mut session, now);
        give(&mut session, delta(&type_url, "1", &["a", "b", "c"]), now);
        let mut verdict = rejected("a");
        verdict.push(Rejected { name: "b".into(), reason: "not at all".into() });
        session.verdict(verdict, now);
        let nack = next_delta(&mut session, now).error_detail.unwrap();
        assert_eq!((nack.code, &*nack.message), (13, message));
    }
}

#[test]
fn the_message_of_a_nack_is_cut_between_characters() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&R, "*", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, delta(&R, "1", &["a"]), now);
    session.verdict(vec![Rejected { name: String::new(), reason: "é".repeat(9000) }], now);
    let message = next_delta(&mut session, now).error_detail.unwrap().message;
    assert!(message.len() <= 4096 + 14 && message.ends_with("é...(truncated)"));
}

#[test]
fn a_reconnect_reports_the_last_good_versions_of_what_is_still_wanted() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&E, "a", FOREVER, now);
    session.subscribe(&E, "b", FOREVER, now);
    session.subscribe(&E, "c", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, delta(&E, "1", &["a", "b", "c"]), now);
    session.verdict(vec![], now);
    give(&mut session, delta(&E, "2", &["a", "b"]), now);
    session.verdict(rejected("b"), now);
    give(&mut session, delta(&E, "3", &["a"]), now);
    session.verdict(rejected(""), now);
    session.unsubscribe(&E, "c");
    session.subscribe(&E, "new", FOREVER, now);
    session.connected(now);
    let first = next_delta(&mut session, now);
    assert_eq!(first.resource_names_subscribe, ["a", "b", "new"]);
    let expected = [("a", "2"), ("b", "1")].map(|(name, version)| (name.to_owned(), version.to_owned()));
    assert_eq!(first.initial_resource_versions, expected.into());
    assert!(session.poll_request(now).is_none(), "no answer to a response of the last stream");
}

#[test]
fn removed_resources_are_told_and_forgotten() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&C, "*", FOREVER, now);
    session.subscribe(&E, "e", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, delta(&C, "1", &["a", "b"]), now);
    session.verdict(vec![], now);
    let gone = update(give(&mut session, delta(&C, "2", &["-a"]), now));
    assert_eq!((gone.removed, gone.added), (vec!["a".to_owned()], vec![]));
    session.verdict(vec![], now);
    assert_eq!(session.known(&C).collect::<Vec<_>>(), [("b", "1")]);
    // So is a name that never existed, which is how a server says so; but not what nobody asked for.
    let absent = update(give(&mut session, delta(&E, "3", &["-e", "-other"]), now));
    assert_eq!(absent.removed, ["e"]);
}

#[test]
fn a_sotw_update_of_listeners_is_full_and_of_routes_is_not() {
    let (mut session, now) = start(Variant::Sotw);
    session.subscribe(&L, "*", FOREVER, now);
    session.subscribe(&R, "r1", FOREVER, now);
    session.subscribe(&R, "r2", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    assert!(update(give(&mut session, sotw(&L, "1", &["l"]), now)).full);
    session.verdict(vec![], now);
    let empty = update(give(&mut session, sotw(&L, "2", &[]), now));
    assert!(empty.full && empty.added.is_empty(), "an empty set is news");
    session.verdict(vec![], now);
    assert_eq!(session.known(&L).count(), 0);
    let routes = update(give(&mut session, sotw(&R, "3", &["r1", "unasked"]), now));
    assert_eq!((names(&routes), routes.full), (vec!["r1"], false));
    session.verdict(vec![], now);
    drain(&mut session, now);
    assert!(give(&mut session, sotw(&R, "4", &["unasked"]), now).is_empty());
    assert_eq!(next_sotw(&mut session, now).response_nonce, "4");
}

#[test]
fn what_an_update_asks_for_leaves_before_its_ack_in_one_request_a_type() {
    for variant in [Variant::Delta, Variant::Sotw] {
        let (mut session, now) = start(variant);
        session.subscribe(&C, "*", FOREVER, now);
        session.connected(now);
        drain(&mut session, now);
        match variant {
            Variant::Delta => give(&mut session, delta(&C, "1", &["a"]), now),
            Variant::Sotw => give(&mut session, sotw(&C, "1", &["a"]), now),
        };
        for name in ["r1", "r2"] {
            session.subscribe(&R, name, FOREVER, now);
        }
        session.subscribe(&E, "e", FOREVER, now);
        session.verdict(vec![], now);
        let said = drain(&mut session, now);
        let order: Vec<(&str, &str)> = said.iter().map(|it| (it.type_url(), it.response_nonce())).collect();
        assert_eq!(order, [(E.as_str(), ""), (R.as_str(), ""), (C.as_str(), "1")]);
    }
}

#[test]
fn a_change_of_the_type_that_owes_an_answer_comes_after_it() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&R, "r1", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, delta(&R, "1", &["r1"]), now);
    session.subscribe(&R, "r2", FOREVER, now);
    session.verdict(vec![], now);
    let ack = next_delta(&mut session, now);
    assert_eq!((&*ack.response_nonce, ack.resource_names_subscribe.len()), ("1", 0));
    assert_eq!(next_delta(&mut session, now).resource_names_subscribe, ["r2"]);

    // In state of the world they are one request: its nonce answers, its names ask.
    let (mut session, now) = start(Variant::Sotw);
    session.subscribe(&R, "r1", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, sotw(&R, "1", &["r1"]), now);
    session.subscribe(&R, "r2", FOREVER, now);
    session.verdict(vec![], now);
    let both = next_sotw(&mut session, now);
    assert_eq!((&*both.response_nonce, both.resource_names.len()), ("1", 2));
    assert!(session.poll_request(now).is_none());
}

#[test]
fn a_subscription_that_ended_before_it_was_sent_is_never_sent() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&E, "keep", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    session.subscribe(&E, "a", FOREVER, now);
    session.unsubscribe(&E, "a");
    assert!(session.poll_request(now).is_none());
    // The other way round the server must send it again: whoever let go of it has dropped it.
    session.unsubscribe(&E, "keep");
    session.subscribe(&E, "keep", FOREVER, now);
    let again = next_delta(&mut session, now);
    assert_eq!((again.resource_names_subscribe, again.resource_names_unsubscribe), (vec!["keep".to_owned()], vec![]));
}

#[test]
fn several_responses_are_answered_one_by_one_in_delta_and_by_the_last_in_sotw() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&C, "*", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    for nonce in ["1", "2"] {
        give(&mut session, delta(&C, nonce, &["a"]), now);
        session.verdict(vec![], now);
    }
    let nonces: Vec<String> = drain(&mut session, now).iter().map(|it| it.response_nonce().to_owned()).collect();
    assert_eq!(nonces, ["1", "2"]);

    let (mut session, now) = start(Variant::Sotw);
    session.subscribe(&C, "*", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    for nonce in ["1", "2"] {
        give(&mut session, sotw(&C, nonce, &["a"]), now);
        session.verdict(vec![], now);
    }
    // An answer to the first would be stale for the server, which waits for one to the second.
    let nonces: Vec<String> = drain(&mut session, now).iter().map(|it| it.response_nonce().to_owned()).collect();
    assert_eq!(nonces, ["2"]);
}

#[test]
fn a_paused_type_says_nothing() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&C, "*", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, delta(&C, "1", &["a"]), now);
    session.pause(&C);
    session.pause(&C);
    session.subscribe(&E, "a", FOREVER, now);
    session.verdict(vec![], now);
    assert_eq!(drain(&mut session, now).iter().map(Request::type_url).collect::<Vec<_>>(), [E.as_str()]);
    session.resume(&C);
    assert!(session.poll_request(now).is_none(), "two reasons, one gone");
    session.resume(&C);
    assert_eq!(next_delta(&mut session, now).response_nonce, "1");
}

#[test]
fn what_contradicts_itself_is_refused_before_the_handler_sees_it() {
    let mut mixed = delta(&C, "1", &["a"]);
    mixed.resources.push(wrapper(&E, "b", "1"));
    let mut bodiless = delta(&C, "1", &[]);
    bodiless.resources.push(Wrapper { name: "a".into(), version: "7".into(), ..Wrapper::default() });
    let mut nameless = delta(&C, "1", &[]);
    nameless.resources.push(Wrapper { resource: Some(any(&C, "")), ..Wrapper::default() });
    for (response, reason) in [
        (delta(&C, "1", &["a", "a"]), "duplicate name a found among added/updated resources"),
        (delta(&C, "1", &["a", "-a"]), "duplicate name a found in the union of added+removed resources"),
        (delta(&C, "1", &["-a", "-a"]), "duplicate name a found in the union of added+removed resources"),
        (
            mixed,
            "type URL type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment embedded in an individual \
                 Any does not match the message-wide type URL type.googleapis.com/envoy.config.cluster.v3.Cluster in \
                 DeltaDiscoveryResponse v1",
        ),
        (bodiless, "resource a has no body, and renews nothing that is in force"),
        (
            nameless,
            "a resource of type type.googleapis.com/envoy.config.cluster.v3.Cluster cannot be decoded, or has no name",
        ),
    ] {
        let (mut session, now) = start(Variant::Delta);
        session.subscribe(&C, "*", FOREVER, now);
        session.connected(now);
        drain(&mut session, now);
        let events = give(&mut session, response, now);
        let version = "v1".to_owned();
        let expected = StreamEvent::Refused { type_url: C, version, reason: reason.to_owned() };
        assert_eq!(events, [Event::Stream(expected)]);
        let nack = next_delta(&mut session, now);
        assert_eq!((&*nack.response_nonce, &*nack.error_detail.unwrap().message), ("1", reason));
        assert_eq!(session.known(&C).count(), 0);
    }
}

#[test]
fn sotw_refuses_the_same_and_takes_wrapped_resources() {
    let wrap = |wrapper: Wrapper| {
        let type_url = "type.googleapis.com/envoy.service.discovery.v3.Resource".to_owned();
        prost_types::Any { type_url, value: wrapper.encode_to_vec() }
    };
    let session = || {
        let (mut session, now) = start(Variant::Sotw);
        session.subscribe(&L, "*", FOREVER, now);
        session.connected(now);
        drain(&mut session, now);
        (session, now)
    };
    let (mut good, now) = session();
    let mut response = sotw(&L, "1", &["bare"]);
    let mut wrapped = wrapper(&L, "inner", "ignored");
    wrapped.name = "outer".into();
    response.resources.push(wrap(wrapped));
    let update = update(give(&mut good, response, now));
    assert_eq!(names(&update), ["bare", "outer"]);
    assert_eq!(update.added[1].version, "v1", "the version is the response's");
    assert_eq!(update.added[1].any.value, body("inner"));

    let mut other = sotw(&L, "1", &[]);
    other.resources.push(wrap(wrapper(&C, "x", "")));
    let mut broken = sotw(&L, "1", &[]);
    broken.resources.push(prost_types::Any { value: vec![0xff], ..wrap(Wrapper::default()) });
    let mut garbage = sotw(&L, "1", &[]);
    garbage.resources.push(prost_types::Any { type_url: L.as_str().into(), value: vec![0x0a, 200] });
    for (response, reason) in [
        (sotw(&L, "1", &["a", "a"]), "duplicate name a"),
        (other, "does not match the message-wide type URL"),
        (broken, "a wrapped resource cannot be decoded"),
        (garbage, "cannot be decoded, or has no name"),
    ] {
        let (mut session, now) = session();
        let events = give(&mut session, response, now);
        assert!(matches!(&events[..], [Event::Stream(StreamEvent::Refused { .. })]));
        let nack = next_sotw(&mut session, now);
        assert_eq!((&*nack.response_nonce, &*nack.version_info), ("1", ""));
        let message = nack.error_detail.unwrap().message;
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn a_type_that_nobody_asked_for_is_ignored() {
    for variant in [Variant::Delta, Variant::Sotw] {
        let (mut session, now) = start(variant);
        session.subscribe(&C, "*", FOREVER, now);
        session.connected(now);
        drain(&mut session, now);
        let events = match variant {
            Variant::Delta => give(&mut session, delta(&R, "1", &["r"]), now),
            Variant::Sotw => give(&mut session, sotw(&R, "1", &["r"]), now),
        };
        assert_eq!(events, [Event::Stream(StreamEvent::Unasked(R))]);
        assert!(session.poll_request(now).is_none(), "not even a NACK");
    }
}

#[test]
fn an_alias_is_a_name() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&TypeUrl::VIRTUAL_HOST, "routes/host", Duration::from_secs(1), now);
    session.connected(now);
    drain(&mut session, now);
    let mut response = delta(&TypeUrl::VIRTUAL_HOST, "1", &["vhost"]);
    response.resources[0].aliases = vec!["routes/host".into()];
    assert_eq!(names(&update(give(&mut session, response, now))), ["vhost"]);
    session.verdict(vec![], now);
    assert!(session.expired(now + Duration::from_secs(2)).is_empty(), "it was answered");
}

#[test]
fn the_initial_fetch_timeout_runs_from_the_subscription_until_the_first_word() {
    let second = Duration::from_secs(1);
    let (mut session, now) = start(Variant::Delta);
    for (name, timeout) in [("a", second), ("b", second), ("c", 2 * second), ("never", FOREVER)] {
        session.subscribe(&E, name, timeout, now);
    }
    session.subscribe(&C, "*", second, now);
    assert_eq!(session.deadline(), Some(now + second), "without a connection, too");
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, delta(&C, "1", &[]), now);
    session.verdict(vec![], now);
    give(&mut session, delta(&E, "1", &["b"]), now);
    session.verdict(rejected("b"), now);
    assert!(session.expired(now).is_empty());
    assert_eq!(session.expired(now + second), [Event::FetchTimedOut(E, vec!["a".into()])]);
    assert_eq!(session.expired(now + second), []);
    give(&mut session, delta(&E, "2", &["-c"]), now);
    session.verdict(vec![], now);
    assert_eq!(session.expired(now + 60 * second), [], "that there is none is a word, and zero waits for ever");
    assert_eq!(session.deadline(), None);
    let late = update(give(&mut session, delta(&E, "3", &["a"]), now));
    assert_eq!(names(&late), ["a"], "still subscribed");
}

#[test]
fn silence_on_a_stream_means_that_it_does_not_exist_if_one_says_so() {
    let timeout = Duration::from_secs(15);
    let mut options = options(Variant::Sotw);
    options.does_not_exist_timeout = Some(timeout);
    let (mut session, now) = (Session::new(&options), Instant::now());
    session.subscribe(&R, "a", FOREVER, now);
    session.subscribe(&R, "b", FOREVER, now);
    assert_eq!(session.deadline(), None, "not before it was asked for");
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, sotw(&R, "1", &["b"]), now);
    session.verdict(vec![], now);
    let later = now + timeout / 2;
    session.connected(later);
    drain(&mut session, later);
    assert_eq!(session.expired(now + timeout), [], "the clock starts anew with the stream");
    assert_eq!(session.expired(later + timeout), [Event::Missing(R, "a".into(), Missing::TimedOut)]);
    assert_eq!(session.expired(later + 9 * timeout), []);
}

#[test]
fn resource_errors_are_told_by_name() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&R, "a", Duration::from_secs(1), now);
    session.connected(now);
    drain(&mut session, now);
    let mut response = delta(&R, "1", &[]);
    let error = |name: &str| ResourceError {
        resource_name: Some(ResourceName { name: name.into(), ..ResourceName::default() }),
        error_detail: Some(Status { code: 7, message: "not yours".into(), details: vec![] }),
    };
    response.resource_errors = vec![error("a"), error("unasked")];
    let why = Missing::Error { code: 7, message: "not yours".into() };
    assert_eq!(give(&mut session, response, now), [Event::Missing(R, "a".into(), why)]);
    assert!(session.expired(now + Duration::from_secs(2)).is_empty());
}

#[test]
fn a_resource_lives_as_long_as_its_ttl_is_renewed() {
    let second = Duration::from_secs(1);
    let with_ttl = |mut response: DeltaDiscoveryResponse, seconds: i64| {
        response.resources[0].ttl = Some(prost_types::Duration { seconds, nanos: 0 });
        response
    };
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&C, "*", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    let first = update(give(&mut session, with_ttl(delta(&C, "1", &["a"]), 3), now));
    assert_eq!(first.added[0].ttl, Some(3 * second));
    session.verdict(vec![], now);
    drain(&mut session, now);

    let mut heartbeat = with_ttl(delta(&C, "2", &["a"]), 3);
    (heartbeat.resources[0].resource, heartbeat.resources[0].version) = (None, "1".into());
    assert!(give(&mut session, heartbeat, now + 2 * second).is_empty(), "a heartbeat is no update");
    assert_eq!(next_delta(&mut session, now).response_nonce, "2");
    assert!(session.expired(now + 4 * second).is_empty());
    let gone = update(session.expired(now + 5 * second));
    assert!(gone.expired && gone.added.is_empty());
    assert_eq!((gone.removed, session.known(&C).count()), (vec!["a".to_owned()], 0));
    assert!(session.poll_request(now).is_none(), "no response, no answer");
}

#[test]
fn a_rate_limit_holds_requests_back_and_says_when() {
    let mut options = options(Variant::Delta);
    options.rate_limit = Some(RateLimit { max_tokens: 1, fill_rate: 2.0 });
    let (mut session, now) = (Session::new(&options), Instant::now());
    session.subscribe(&C, "*", FOREVER, now);
    session.subscribe(&E, "e", FOREVER, now);
    session.connected(now);
    assert!(session.poll_request(now).is_some() && session.throttled().is_none());
    assert!(session.poll_request(now).is_none());
    assert_eq!(session.throttled(), Some(1));
    let at = session.deadline().unwrap();
    assert_eq!(at - now, Duration::from_millis(500));
    assert_eq!(session.poll_request(at).unwrap().type_url(), E.as_str());
}

#[test]
fn the_identifier_is_told_when_it_changes() {
    let (mut session, now) = start(Variant::Sotw);
    session.subscribe(&C, "*", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    for (identifier, told) in [("one", true), ("one", false), ("two", true)] {
        let control_plane = Some(ControlPlane { identifier: identifier.into() });
        let response = DiscoveryResponse { control_plane, ..sotw(&C, "1", &[]) };
        let events = give(&mut session, response, now);
        session.verdict(vec![], now);
        let event = Event::Stream(StreamEvent::Identifier(identifier.into()));
        assert_eq!(events.contains(&event), told);
    }
}

#[test]
fn a_verdict_that_comes_after_the_stream_ended_is_kept_and_not_sent() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&C, "*", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, delta(&C, "1", &["a"]), now);
    session.connected(now);
    session.verdict(vec![], now);
    let requests = drain(&mut session, now);
    assert_eq!(requests.len(), 1);
    let Request::Delta(first) = &requests[0] else { panic!() };
    assert_eq!((first.initial_resource_versions.len(), &*first.response_nonce), (1, ""));
}

#[test]
fn on_a_stream_of_one_type_the_server_may_leave_it_out() {
    let mut options = options(Variant::Delta);
    options.service = Service::Single(TypeUrl::SECRET);
    let (mut session, now) = (Session::new(&options), Instant::now());
    session.subscribe(&TypeUrl::SECRET, "default", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    let mut response = delta(&TypeUrl::SECRET, "1", &["default"]);
    response.type_url.clear();
    assert_eq!(update(give(&mut session, response, now)).type_url, TypeUrl::SECRET);
}

#[test]
fn a_caller_who_gives_no_verdict_is_not_believed() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&C, "*", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, delta(&C, "1", &["a"]), now);
    give(&mut session, delta(&C, "2", &["b"]), now);
    session.verdict(vec![], now);
    assert!(next_delta(&mut session, now).error_detail.is_some());
    assert!(next_delta(&mut session, now).error_detail.is_none());
    assert_eq!(session.known(&C).collect::<Vec<_>>(), [("b", "2")]);
}

#[test]
fn what_was_let_go_of_while_it_was_applied_is_not_in_force() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&E, "a", FOREVER, now);
    session.subscribe(&E, "b", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    give(&mut session, delta(&E, "1", &["a", "b"]), now);
    session.unsubscribe(&E, "a");
    session.verdict(vec![], now);
    assert_eq!(session.known(&E).collect::<Vec<_>>(), [("b", "1")]);
}
