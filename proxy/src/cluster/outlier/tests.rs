use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use proptest::prelude::*;

use super::event_log::{Action, Event};
use super::*;
use crate::endpoint::{HealthFlags, Host};
use crate::net::Address;
use crate::stats::names::OutlierDetectionStats as Names;
use crate::stats::{StatBlock, Stats};

fn hosts(number: u16) -> Vec<Arc<Host>> {
    let host = |port| Arc::new(Host::new(Address::Ip(([127, 0, 0, 1], port).into()), "".into(), 1));
    (1..=number).map(host).collect()
}

fn detector(config: OutlierConfig) -> (Detector, StatBlock<Names>) {
    let stats: StatBlock<Names> = Stats::new(1).block("cluster.c.outlier_detection");
    (Detector::new(config, "c".into(), stats.clone(), None), stats)
}

fn ejected(hosts: &[Arc<Host>]) -> Vec<u16> {
    let out = hosts.iter().filter(|host| host.health_flags().contains(HealthFlags::FAILED_OUTLIER_CHECK));
    out.filter_map(|host| host.address.port()).collect()
}

fn note(host: &Host, outcome: Outcome, config: &OutlierConfig) -> Vec<Ejection> {
    host.outlier.get_or_init(Box::default).note(outcome, config).into_iter().flatten().collect()
}

fn all() -> OutlierConfig {
    OutlierConfig { max_ejection_percent: 100, ..OutlierConfig::default() }
}

#[test]
fn failures_in_a_row_reach_their_limit_once() {
    let config = OutlierConfig { consecutive_5xx: 3, consecutive_gateway_failure: 2, ..all() };
    let host = &hosts(1)[0];
    let mut seen = Vec::new();
    for status in [503, 500, 200, 502, 504, 503, 503, 404, 500, 500, 500] {
        seen.push(note(host, Outcome::Response(status), &config));
    }
    let mut expected = vec![Vec::new(); 11];
    // 500 begins the gateway failures anew, 200 both, 404 is no failure.
    expected[4] = vec![Ejection::ConsecutiveGatewayFailure];
    expected[5] = vec![Ejection::Consecutive5xx];
    expected[10] = vec![Ejection::Consecutive5xx];
    assert_eq!(seen, expected);
}

#[test]
fn what_the_way_does_is_counted_with_the_host_unless_it_is_split() {
    let config = OutlierConfig { consecutive_5xx: 2, consecutive_local_origin_failure: 2, ..all() };
    let host = &hosts(1)[0];
    assert!(note(host, Outcome::Failed, &config).is_empty());
    assert!(note(host, Outcome::Connected, &config).is_empty(), "says nothing of what will follow");
    assert_eq!(note(host, Outcome::TimedOut, &config), [Ejection::Consecutive5xx]);

    let config = OutlierConfig { split_external_local_origin_errors: true, ..config };
    let host = &hosts(1)[0];
    assert!(note(host, Outcome::Failed, &config).is_empty());
    assert!(note(host, Outcome::Response(500), &config).is_empty());
    assert_eq!(note(host, Outcome::TimedOut, &config), [Ejection::ConsecutiveLocalOriginFailure]);
    assert_eq!(note(host, Outcome::Response(500), &config), [Ejection::Consecutive5xx]);
    note(host, Outcome::Connected, &config);
    assert!(note(host, Outcome::Failed, &config).is_empty(), "a connection began the row anew");
}

#[test]
fn an_ejection_takes_its_time_and_longer_each_time() {
    let config = OutlierConfig {
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(70),
        max_ejection_time_jitter: Duration::from_secs(10),
        ..all()
    };
    let (detector, stats) = detector(config);
    let hosts = hosts(2);
    let mut now = Instant::now();
    // The first number decides whether it is enforced, the second is the jitter in milliseconds.
    for (time, jitter) in [(30, 0), (60, 10_000), (70, 5), (70, 0)] {
        let mut numbers = [0, jitter].into_iter();
        let kind = Ejection::Consecutive5xx;
        assert!(detector.consecutive(&hosts, &hosts[0], kind, now, &mut || numbers.next().unwrap()));
        assert_eq!(ejected(&hosts), [1]);
        assert_eq!(stats.read_gauge(Names::EJECTIONS_ACTIVE), 1);
        now += Duration::from_secs(time) + Duration::from_millis(jitter);
        assert!(!detector.sweep(&hosts, now - Duration::from_millis(1), &mut || 0));
        assert_eq!(ejected(&hosts), [1]);
        assert!(detector.sweep(&hosts, now, &mut || 0));
        assert!(ejected(&hosts).is_empty());
    }
    assert_eq!(stats.read(Names::EJECTIONS_ENFORCED_TOTAL), 4);
    // Forgiven one step an interval.
    for _ in 0..4 {
        now += Duration::from_secs(10);
        detector.sweep(&hosts, now, &mut || 0);
    }
    assert!(detector.consecutive(&hosts, &hosts[0], Ejection::Consecutive5xx, now, &mut || 0));
    assert!(detector.sweep(&hosts, now + Duration::from_secs(30), &mut || 0));
}

#[test]
fn what_is_not_enforced_is_only_counted() {
    let config = OutlierConfig { enforcing_consecutive_5xx: 30, ..all() };
    let (detector, stats) = detector(config);
    let hosts = hosts(2);
    let now = Instant::now();
    assert!(!detector.consecutive(&hosts, &hosts[0], Ejection::Consecutive5xx, now, &mut || 30));
    assert_eq!(stats.read(Names::EJECTIONS_DETECTED_CONSECUTIVE_5XX), 1);
    assert_eq!(stats.read(Names::EJECTIONS_TOTAL), 1, "as in Envoy");
    assert_eq!(stats.read(Names::EJECTIONS_ENFORCED_TOTAL), 0);
    assert!(detector.consecutive(&hosts, &hosts[0], Ejection::Consecutive5xx, now, &mut || 29));
    // A host that is out, or no longer of the cluster, is not ejected again.
    assert!(!detector.consecutive(&hosts, &hosts[0], Ejection::Consecutive5xx, now, &mut || 0));
    assert!(!detector.consecutive(&hosts[..1], &hosts[1], Ejection::Consecutive5xx, now, &mut || 0));
}

#[test]
fn the_maximum_counts_the_host_to_be_ejected() {
    // Compared with Envoy: one of three hosts is more than 10 %, less than 40 %.
    for (percent, always, expected) in [(10, false, 0), (40, false, 1), (10, true, 1), (0, true, 1), (67, false, 2)] {
        let (detector, stats) =
            detector(OutlierConfig { max_ejection_percent: percent, always_eject_one_host: always, ..all() });
        let hosts = hosts(3);
        for host in &hosts {
            detector.consecutive(&hosts, host, Ejection::Consecutive5xx, Instant::now(), &mut || 0);
        }
        assert_eq!(ejected(&hosts).len(), expected, "{percent} {always}");
        assert_eq!(stats.read(Names::EJECTIONS_OVERFLOW), 3 - expected as u64);
    }
}

fn send(host: &Host, total: u64, failed: u64, config: &OutlierConfig) {
    for number in 0..total {
        // Not in a row.
        note(host, Outcome::Response(if number < failed { 500 } else { 200 }), config);
    }
}

#[test]
fn a_success_rate_far_below_the_others_ejects() {
    let config = OutlierConfig { success_rate_request_volume: 10, failure_percentage_request_volume: 1000, ..all() };
    let (detector, stats) = detector(config.clone());
    let hosts = hosts(6);
    for host in &hosts[1..5] {
        send(host, 10, 0, &config);
    }
    send(&hosts[0], 10, 5, &config);
    send(&hosts[5], 9, 9, &config);
    assert!(detector.sweep(&hosts, Instant::now(), &mut || 0));
    assert_eq!(ejected(&hosts), [1], "the last one had too few requests to be judged");
    let threshold = detector.threshold(Origin::External);
    // Rates 50, 100, 100, 100, 100: the mean is 90, the deviation 20.
    assert_eq!((threshold.average, threshold.ejection), (Some(90.0), Some(52.0)));
    assert_eq!(stats.read(Names::EJECTIONS_ENFORCED_SUCCESS_RATE), 1);
    let rate = |host: &Host| host.outlier.get().unwrap().success_rate(Origin::External);
    assert_eq!((rate(&hosts[0]), rate(&hosts[1]), rate(&hosts[5])), (50.0, 100.0, -1.0));
    // Without requests the next sweep knows nothing.
    assert!(!detector.sweep(&hosts, Instant::now(), &mut || 0));
    assert_eq!(detector.threshold(Origin::External), Threshold::default());
    assert_eq!(rate(&hosts[1]), -1.0);
}

#[test]
fn too_few_hosts_are_not_compared() {
    let config = OutlierConfig { success_rate_request_volume: 1, failure_percentage_request_volume: 1, ..all() };
    let (detector, _) = detector(config.clone());
    let hosts = hosts(4);
    hosts.iter().for_each(|host| send(host, 10, 0, &config));
    send(&hosts[0], 100, 100, &config);
    assert!(!detector.sweep(&hosts, Instant::now(), &mut || 0));
    assert!(ejected(&hosts).is_empty());
}

#[test]
fn a_failure_percentage_ejects_whatever_the_others_do() {
    let config = OutlierConfig { enforcing_failure_percentage: 100, enforcing_success_rate: 0, ..all() };
    let (detector, stats) = detector(config.clone());
    let hosts = hosts(5);
    hosts.iter().take(3).for_each(|host| send(host, 100, 85, &config));
    hosts.iter().skip(3).for_each(|host| send(host, 100, 84, &config));
    assert!(detector.sweep(&hosts, Instant::now(), &mut || 0));
    assert_eq!(ejected(&hosts), [1, 2, 3]);
    assert_eq!(stats.read(Names::EJECTIONS_ENFORCED_FAILURE_PERCENTAGE), 3);
}

proptest! {
    #[test]
    fn never_more_are_ejected_than_allowed(
        percent in 0..=100_u32,
        number in 1..40_u16,
        kinds in proptest::collection::vec((0..40_usize, 0..3_u8), 0..200),
    ) {
        let (detector, _) = detector(OutlierConfig {
            max_ejection_percent: percent,
            enforcing_consecutive_gateway_failure: 100,
            ..all()
        });
        let hosts = hosts(number);
        let mut now = Instant::now();
        for (index, what) in kinds {
            let host = &hosts[index % hosts.len()];
            match what {
                0 => drop(detector.consecutive(&hosts, host, Ejection::Consecutive5xx, now, &mut || 0)),
                1 => drop(detector.consecutive(&hosts, host, Ejection::ConsecutiveGatewayFailure, now, &mut || 0)),
                _ => {
                    now += Duration::from_secs(11);
                    detector.sweep(&hosts, now, &mut || 0);
                }
            }
            prop_assert!(ejected(&hosts).len() as u32 * 100 <= percent * u32::from(number));
        }
    }
}

/// Lines of Envoy 1.40, with other times and ports.
#[test]
fn events_are_written_as_envoy_writes_them() {
    let host = &hosts(1)[0];
    let line = |action, number, since: Option<u64>| {
        let since = since.map(Duration::from_secs);
        Event { cluster: "c", host, action, number, since }.line(UNIX_EPOCH + Duration::from_millis(1_500))
    };
    let eject = |kind, threshold| Action::Eject { kind, enforced: true, threshold };
    assert_eq!(
        line(eject(Ejection::Consecutive5xx, Threshold::default()), 1, None),
        r#"{"type":"CONSECUTIVE_5XX","timestamp":"1970-01-01T00:00:01.500Z","cluster_name":"c","upstream_url":"127.0.0.1:1","action":"EJECT","num_ejections":1,"enforced":true,"eject_consecutive_event":{}}"#
    );
    assert_eq!(
        line(Action::Uneject, 1, Some(2)),
        r#"{"type":"CONSECUTIVE_5XX","timestamp":"1970-01-01T00:00:01.500Z","secs_since_last_action":"2","cluster_name":"c","upstream_url":"127.0.0.1:1","action":"UNEJECT","num_ejections":1,"enforced":false}"#
    );
    let threshold = Threshold { average: Some(90.9), ejection: Some(52.0) };
    host.outlier.get_or_init(Box::default).show(Origin::External, 50.5);
    let rate = line(eject(Ejection::SuccessRate(Origin::External), threshold), 2, Some(1));
    assert!(rate.ends_with(
        r#""eject_success_rate_event":{"host_success_rate":50,"cluster_average_success_rate":90,"cluster_success_rate_ejection_threshold":52}}"#
    ), "{rate}");
}
