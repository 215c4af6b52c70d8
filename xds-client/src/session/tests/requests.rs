//! What is asked, when, and in which order.

use super::*;

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
fn sotw_spells_a_wildcard_as_a_star_once_names_were_listed() {
    let (mut session, now) = start(Variant::Sotw);
    session.subscribe(&C, "*", FOREVER, now);
    session.connected(now);
    assert!(next_sotw(&mut session, now).resource_names.is_empty());
    session.subscribe(&C, "a", FOREVER, now);
    assert_eq!(next_sotw(&mut session, now).resource_names, ["*", "a"]);
    session.unsubscribe(&C, "a");
    assert_eq!(next_sotw(&mut session, now).resource_names, ["*"], "an empty list would mean none");
    session.connected(now);
    assert!(next_sotw(&mut session, now).resource_names.is_empty());
}
