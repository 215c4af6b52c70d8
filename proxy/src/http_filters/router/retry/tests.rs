use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};

use super::*;
use crate::config::Path;
use crate::http::{Protocol, Scheme};
use crate::net::Address;

fn request(headers: &[(&'static str, &'static str)]) -> RequestHead {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_static(value));
    }
    RequestHead {
        method: Method::GET,
        scheme: Scheme::Http,
        authority: "a".into(),
        path: "/".into(),
        upgrade: None,
        headers: map,
        protocol: Protocol::Http11,
        case: None,
        wire_size: 0,
    }
}

fn response(code: u16, headers: &[(&'static str, &'static str)]) -> ResponseHead {
    let mut head = ResponseHead::new(StatusCode::from_u16(code).unwrap());
    for (name, value) in headers {
        head.headers.insert(*name, HeaderValue::from_static(value));
    }
    head
}

fn policy(edit: impl FnOnce(&mut xds_protos::envoy::config::route::v3::RetryPolicy)) -> Arc<RetryPolicy> {
    let mut proto = xds_protos::envoy::config::route::v3::RetryPolicy::default();
    edit(&mut proto);
    Arc::new(RetryPolicy::build(&proto, &Path::root("")).unwrap())
}

fn on(condition: &'static str) -> RetryState {
    RetryState::new(None, &request(&[("x-envoy-retry-on", condition), ("x-envoy-retry-grpc-on", condition)])).unwrap()
}

#[test]
fn nobody_who_wants_none_gets_any() {
    assert!(RetryState::new(None, &request(&[])).is_none());
    assert!(RetryState::new(Some(&policy(|p| p.num_retries = Some(3))), &request(&[])).is_none());
    assert!(RetryState::new(None, &request(&[("x-envoy-retry-on", "bogus")])).is_none());
    // gRPC conditions have their own header.
    assert!(RetryState::new(None, &request(&[("x-envoy-retry-on", "unavailable")])).is_none());
    assert!(RetryState::new(None, &request(&[("x-envoy-retry-grpc-on", "5xx")])).is_none());
}

#[test]
fn responses_are_retried_by_condition() {
    let cases: &[(&str, u16, bool)] = &[
        ("5xx", 500, true),
        ("5xx", 499, false),
        ("gateway-error", 500, false),
        ("gateway-error", 502, true),
        ("gateway-error", 504, true),
        ("gateway-error", 505, false),
        ("retriable-4xx", 409, true),
        ("retriable-4xx", 404, false),
        ("reset", 503, false),
        ("connect-failure", 503, false),
    ];
    for (condition, code, wanted) in cases {
        let mut state = on(condition);
        assert_eq!(state.after_response(&response(*code, &[]), SystemTime::UNIX_EPOCH), *wanted, "{condition} {code}");
    }
    let limited = response(503, &[("x-envoy-ratelimited", "true")]);
    assert!(!on("5xx").after_response(&limited, SystemTime::UNIX_EPOCH), "a rate limit is not asked again");
    assert!(on("envoy-ratelimited").after_response(&limited, SystemTime::UNIX_EPOCH));
}

#[test]
fn grpc_statuses_are_read_from_headers() {
    let statuses = [
        ("cancelled", "1"),
        ("deadline-exceeded", "4"),
        ("resource-exhausted", "8"),
        ("internal", "13"),
        ("unavailable", "14"),
    ];
    for (condition, status) in statuses {
        for (_, other) in statuses {
            let got = on(condition).after_response(&response(200, &[("grpc-status", other)]), SystemTime::UNIX_EPOCH);
            assert_eq!(got, other == status, "{condition} {other}");
        }
    }
    assert!(!on("internal").after_response(&response(200, &[]), SystemTime::UNIX_EPOCH));
}

#[test]
fn resets_are_retried_by_condition() {
    use ResetReason as R;
    let cases: &[(&str, R, bool, bool)] = &[
        ("reset", R::ConnectionTermination, true, true),
        ("reset", R::Overflow, false, false),
        ("5xx", R::RemoteReset, true, true),
        ("gateway-error", R::ProtocolError, true, true),
        ("reset-before-request", R::ConnectionTermination, true, false),
        ("reset-before-request", R::RemoteConnectionFailure, false, true),
        ("refused-stream", R::RemoteRefusedStreamReset, true, true),
        ("refused-stream", R::RemoteReset, true, false),
        ("connect-failure", R::RemoteConnectionFailure, false, true),
        ("connect-failure", R::ConnectionTimeout, false, true),
        ("connect-failure", R::LocalConnectionFailure, false, true),
        ("connect-failure", R::ConnectionTermination, true, false),
        ("retriable-4xx", R::RemoteReset, true, false),
    ];
    for (condition, reason, started, wanted) in cases {
        assert_eq!(on(condition).after_reset(*reason, *started), *wanted, "{condition} {reason:?} {started}");
    }
}

#[test]
fn a_request_may_change_the_policy() {
    let of_route = policy(|p| {
        p.retry_on = "connect-failure".to_owned();
        p.num_retries = Some(5);
        p.retriable_status_codes = vec![418];
    });
    let asked = request(&[
        ("x-envoy-retry-on", "retriable-status-codes,retriable-headers"),
        ("x-envoy-max-retries", "0"),
        ("x-envoy-retriable-status-codes", "404, 405,x"),
        ("x-envoy-retriable-header-names", "x-again,  "),
    ]);
    let mut state = RetryState::new(Some(&of_route), &asked).unwrap();
    for (head, wanted) in [
        (response(404, &[]), true),
        (response(405, &[]), true),
        (response(418, &[]), true),
        (response(500, &[]), false),
        (response(200, &[("x-again", "")]), true),
    ] {
        assert_eq!(state.after_response(&head, SystemTime::UNIX_EPOCH), wanted, "{head:?}");
    }
    assert!(state.after_reset(ResetReason::RemoteConnectionFailure, false), "what the route says stays");
    assert_eq!(state.admit(true), Admission::LimitExceeded);
}

#[test]
fn it_ends_when_the_retries_are_used_up() {
    let two = policy(|p| {
        p.retry_on = "5xx".to_owned();
        p.num_retries = Some(2);
    });
    let mut state = RetryState::new(Some(&two), &request(&[])).unwrap();
    assert_eq!(state.admit(true), Admission::Allowed);
    state.delay(0);
    assert_eq!(state.admit(true), Admission::Allowed);
    state.delay(0);
    assert_eq!(state.admit(true), Admission::LimitExceeded);

    let mut state = RetryState::new(Some(&two), &request(&[])).unwrap();
    assert_eq!(state.admit(false), Admission::Final { after_retry: false });
    let mut state = RetryState::new(Some(&two), &request(&[])).unwrap();
    state.admit(true);
    state.delay(0);
    assert_eq!(state.admit(false), Admission::Final { after_retry: true });
}

#[test]
fn the_back_off_doubles_up_to_its_maximum() {
    let ms = Duration::from_millis;
    let delays = |mut state: RetryState, random: u64| -> Vec<Delay> { (0..6).map(|_| state.delay(random)).collect() };
    let exponential = |all: [u64; 6]| all.map(|n| Delay::Exponential(ms(n))).to_vec();
    // The greatest remainders: 25, 50, 100, 200 and then 250 ms less one.
    let largest = (25 * 50 * 100 * 200 * 250) - 1;
    assert_eq!(delays(on("5xx"), largest), exponential([24, 49, 99, 199, 249, 249]));
    assert_eq!(delays(on("5xx"), 0), exponential([0; 6]));
    let configured = policy(|p| {
        p.retry_on = "5xx".to_owned();
        let of = |ms: i32| Some(prost_types::Duration { seconds: 0, nanos: ms * 1_000_000 });
        p.retry_back_off = Some(xds_protos::envoy::config::route::v3::retry_policy::RetryBackOff {
            base_interval: of(10),
            max_interval: of(30),
        });
    });
    let state = RetryState::new(Some(&configured), &request(&[])).unwrap();
    assert_eq!(delays(state, (10 * 20 * 30) - 1), exponential([9, 19, 29, 29, 29, 29]));
}

#[test]
fn a_response_may_say_when() {
    use xds_protos::envoy::config::route::v3::retry_policy::{RateLimitedRetryBackOff, ResetHeader};
    let limited = policy(|p| {
        p.retry_on = "5xx".to_owned();
        let header = |name: &str, format| ResetHeader { name: name.to_owned(), format };
        p.rate_limited_retry_back_off = Some(RateLimitedRetryBackOff {
            reset_headers: vec![header("retry-after", 0), header("x-reset", 1)],
            max_interval: Some(prost_types::Duration { seconds: 100, nanos: 0 }),
        });
    });
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let delay = |headers: &[(&'static str, &'static str)], random| {
        let mut state = RetryState::new(Some(&limited), &request(&[])).unwrap();
        assert!(state.after_response(&response(503, headers), now));
        (state.delay(random), state.delay(random))
    };
    let limited = |ms| Delay::RateLimited(Duration::from_millis(ms));
    let exponential = Delay::Exponential(Duration::ZERO);
    assert_eq!(delay(&[("retry-after", "2")], 0), (limited(2000), exponential), "it holds for that response alone");
    assert_eq!(delay(&[("retry-after", "2")], 999).0, limited(2999), "half as long again at most");
    assert_eq!(delay(&[("retry-after", "2")], 1000).0, limited(2000));
    assert_eq!(delay(&[("x-reset", "1003")], 0).0, limited(3000));
    assert_eq!(delay(&[("retry-after", "101"), ("x-reset", "1004")], 0).0, limited(4000), "too long: the next header");
    for bad in ["101", "x", "-1", "0", ""] {
        assert_eq!(delay(&[("retry-after", bad)], 0).0, exponential, "{bad}");
    }
    assert_eq!(delay(&[("x-reset", "999")], 0).0, exponential, "that was before now");
}

#[test]
fn hosts_are_turned_down_by_the_predicates() {
    use prost::Message;
    use xds_protos::envoy::config::route::v3::retry_policy::{RetryHostPredicate as Proto, retry_host_predicate};
    let predicate = |name: &str| Proto {
        name: name.to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(prost_types::Any {
            type_url: format!("type.googleapis.com/envoy.extensions.retry.host.{name}"),
            value: prost_types::Duration::default().encode_to_vec(),
        })),
    };
    let host = |canary| {
        let address = Address::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut host = Host::new(address, "".into(), 1);
        host.canary = canary;
        Arc::new(host)
    };
    let (plain, canary) = (host(false), host(true));
    let state = |name: &str| {
        let policy = policy(|p| {
            p.retry_on = "5xx".to_owned();
            p.retry_host_predicate = vec![predicate(name)];
            p.host_selection_retry_max_attempts = 4;
        });
        RetryState::new(Some(&policy), &request(&[])).unwrap()
    };
    let previous = state("previous_hosts.v3.PreviousHostsPredicate");
    assert_eq!((previous.host_picks(), on("5xx").host_picks()), (4, 0));
    assert!(previous.rejects_host(&plain, &[canary.clone(), plain.clone()]));
    assert!(!previous.rejects_host(&plain, std::slice::from_ref(&canary)));
    let no_canary = state("omit_canary_hosts.v3.OmitCanaryHostsPredicate");
    assert!(no_canary.rejects_host(&canary, &[]) && !no_canary.rejects_host(&plain, std::slice::from_ref(&plain)));
}
