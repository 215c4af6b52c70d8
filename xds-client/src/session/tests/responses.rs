//! What is taken, what is refused, and how it is answered.

use super::*;

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

#[test]
fn responses_without_a_nonce_or_with_an_old_one_are_answered() {
    let (mut session, now) = start(Variant::Delta);
    session.subscribe(&C, "*", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    for nonce in ["7", "7", ""] {
        assert_eq!(names(&update(give(&mut session, delta(&C, nonce, &["a"]), now))), ["a"]);
        session.verdict(vec![], now);
        let ack = next_delta(&mut session, now);
        assert_eq!((&*ack.response_nonce, ack.error_detail.is_none()), (nonce, true));
    }
}
