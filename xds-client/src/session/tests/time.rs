//! Timers: waiting, absence, times to live.

use super::*;

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
fn a_heartbeat_in_sotw_renews_whatever_its_version() {
    let second = Duration::from_secs(1);
    let heartbeat = |version: &str, with_body: bool| {
        let mut wrapper = wrapper(&L, "l", "");
        wrapper.ttl = Some(prost_types::Duration { seconds: 3, nanos: 0 });
        wrapper.resource.take_if(|_| !with_body);
        let type_url = "type.googleapis.com/envoy.service.discovery.v3.Resource".to_owned();
        let resources = vec![prost_types::Any { type_url, value: wrapper.encode_to_vec() }];
        DiscoveryResponse { resources, ..sotw(&L, version, &[]) }
    };
    let (mut session, now) = start(Variant::Sotw);
    session.subscribe(&L, "*", FOREVER, now);
    session.connected(now);
    drain(&mut session, now);
    assert_eq!(update(give(&mut session, heartbeat("1", true), now)).added[0].ttl, Some(3 * second));
    session.verdict(vec![], now);
    drain(&mut session, now);
    assert_eq!(give(&mut session, heartbeat("2", false), now + 2 * second), []);
    let ack = next_sotw(&mut session, now);
    assert_eq!((&*ack.response_nonce, &*ack.version_info), ("2", "v2"));
    assert_eq!(session.expired(now + 4 * second), []);
    assert_eq!(update(session.expired(now + 5 * second)).removed, ["l"]);
}
