use std::sync::Arc;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use xds_protos::envoy::config::core::v3::HealthStatus;

use super::*;
use crate::endpoint::{Health, HealthFlags};
use crate::net::Address;

/// A host whose port is its number in the test.
fn host(port: u16, weight: u32, status: HealthStatus) -> Arc<Host> {
    let host = Host::new(Address::Ip(([127, 0, 0, 1], port).into()), "".into(), weight);
    host.set_health(HealthFlags::from_eds(status));
    Arc::new(host)
}

fn weights(weights: &[u32]) -> Vec<Arc<Host>> {
    weights.iter().enumerate().map(|(i, w)| host(i as u16, *w, HealthStatus::Healthy)).collect()
}

fn set(priorities: Vec<Vec<Arc<Host>>>, config: &PriorityConfig) -> PrioritySet {
    let sets: Box<[HostSet]> = priorities.into_iter().map(|hosts| HostSet::new(HostList::new(hosts))).collect();
    PrioritySet::new(1, sets, config, &Policy::Random, None)
}

fn one(hosts: Vec<Arc<Host>>) -> PrioritySet {
    set(vec![hosts], &PriorityConfig::default())
}

/// Ports of `n` picks with these random numbers, which repeat.
fn picks(policy: Policy, set: &PrioritySet, state: &mut State, random: &[u64], n: usize) -> Vec<u16> {
    let mut numbers = random.iter().copied().cycle();
    let mut next = move || numbers.next().unwrap();
    (0..n).filter_map(|_| policy.pick(set, state, Wish::default(), &mut next)?.host.address.port()).collect()
}

#[test]
fn round_robin_goes_in_turn_from_a_random_start() {
    let set = one(weights(&[1, 1, 1]));
    let mut state = State::default();
    assert_eq!(picks(Policy::RoundRobin, &set, &mut state, &[2], 7), [2, 0, 1, 2, 0, 1, 2]);
    let mut other = State::default();
    assert_eq!(picks(Policy::RoundRobin, &set, &mut other, &[1], 2), [1, 2]);
}

#[test]
fn round_robin_keeps_its_turn_when_hosts_change() {
    let mut state = State::default();
    assert_eq!(picks(Policy::RoundRobin, &one(weights(&[1, 1])), &mut state, &[0], 1), [0]);
    let changed = PrioritySet { generation: 2, ..one(weights(&[1, 1, 1])) };
    assert_eq!(picks(Policy::RoundRobin, &changed, &mut state, &[0], 3), [1, 2, 0]);
}

#[test]
fn weighted_round_robin_spreads_turns_by_weight() {
    let set = one(weights(&[1, 2, 3]));
    let mut state = State::default();
    let turns = picks(Policy::RoundRobin, &set, &mut state, &[0], 6);
    assert_eq!(turns, [2, 1, 2, 0, 1, 2]);
}

#[test]
fn a_change_of_weights_starts_the_weighted_turn_anew() {
    let mut state = State::default();
    let first = picks(Policy::RoundRobin, &one(weights(&[1, 9])), &mut state, &[0], 10);
    assert_eq!(first.iter().filter(|port| **port == 1).count(), 9);
    let turned = PrioritySet { generation: 2, ..one(weights(&[9, 1])) };
    let second = picks(Policy::RoundRobin, &turned, &mut state, &[0], 10);
    assert_eq!(second.iter().filter(|port| **port == 0).count(), 9);
}

#[test]
fn random_picks_what_the_number_says() {
    let set = one(weights(&[1, 5, 1]));
    // Two numbers a pick: for the priority, and for the host.
    let ports = picks(Policy::Random, &set, &mut State::default(), &[0, 4, 0, 2, 0, 3], 3);
    assert_eq!(ports, [1, 2, 0]);
}

fn busy(hosts: &[Arc<Host>], active: &[u64]) {
    for (host, active) in hosts.iter().zip(active) {
        host.stats.rq_active.store(*active, Ordering::Relaxed);
    }
}

#[test]
fn least_request_takes_the_less_busy_of_its_choices() {
    let hosts = weights(&[1, 1, 1]);
    busy(&hosts, &[2, 1, 0]);
    let set = one(hosts);
    // For the priority, the start of a turn, then two choices; later picks need no start.
    let policy = |least_request| Policy::LeastRequest(least_request);
    let two = LeastRequest::default();
    assert_eq!(picks(policy(two), &set, &mut State::default(), &[0, 0, 0, 1], 1), [1]);
    assert_eq!(picks(policy(two), &set, &mut State::default(), &[0, 0, 1, 0], 1), [1]);
    assert_eq!(picks(policy(two), &set, &mut State::default(), &[0, 0, 0, 0], 1), [0], "the same host twice");
    let three = LeastRequest { choice_count: 3, ..two };
    assert_eq!(picks(policy(three), &set, &mut State::default(), &[0, 0, 0, 1, 2], 1), [2]);
}

#[test]
fn a_full_scan_finds_the_least_busy_and_breaks_ties_at_random() {
    let hosts = weights(&[1, 1, 1, 1]);
    busy(&hosts, &[3, 1, 2, 1]);
    let set = one(hosts);
    let policy = Policy::LeastRequest(LeastRequest { full_scan: true, ..LeastRequest::default() });
    assert_eq!(picks(policy, &set, &mut State::default(), &[0, 0, 0], 1), [3]);
    assert_eq!(picks(policy, &set, &mut State::default(), &[0, 0, 1], 1), [1]);
}

#[test]
fn least_request_with_weights_shrinks_the_weight_of_busy_hosts() {
    let hosts = weights(&[1, 2]);
    busy(&hosts, &[0, 3]);
    let set = one(hosts);
    let share = |bias| {
        let policy = Policy::LeastRequest(LeastRequest { active_request_bias: bias, ..LeastRequest::default() });
        let ports = picks(policy, &set, &mut State::default(), &[0], 300);
        ports.iter().filter(|port| **port == 1).count()
    };
    assert_eq!(share(0.0), 200, "2 to 1");
    assert_eq!(share(1.0), 100, "2/4 to 1");
    assert_eq!(share(0.5), 150, "2/2 to 1");
}

#[test]
fn nothing_is_picked_from_nothing() {
    for policy in [Policy::RoundRobin, Policy::Random, Policy::LeastRequest(LeastRequest::default())] {
        assert!(picks(policy, &one(vec![]), &mut State::default(), &[7], 1).is_empty());
        let no_priority = set(vec![], &PriorityConfig::default());
        assert!(picks(policy, &no_priority, &mut State::default(), &[7], 1).is_empty());
    }
}

/// Hosts of one priority: so many healthy, degraded and unhealthy.
fn mixed((healthy, degraded, unhealthy): (usize, usize, usize)) -> Vec<Arc<Host>> {
    let of = |n, status| (0..n).map(move |i| host(i as u16, 1, status));
    of(healthy, HealthStatus::Healthy)
        .chain(of(degraded, HealthStatus::Degraded))
        .chain(of(unhealthy, HealthStatus::Unhealthy))
        .collect()
}

fn shares(priorities: &[(usize, usize, usize)], threshold: u32) -> Vec<(u32, u32, bool)> {
    let config = PriorityConfig { healthy_panic_threshold: threshold, ..PriorityConfig::default() };
    set(priorities.iter().map(|p| mixed(*p)).collect(), &config).loads.shares()
}

/// Rows of the table in Envoy's documentation of priority levels, and some more.
#[test]
fn load_spills_from_priority_to_priority() {
    let healthy = |of: &[usize]| -> Vec<u32> {
        let priorities: Vec<_> = of.iter().map(|n| (*n, 0, 100 - n)).collect();
        shares(&priorities, 0).iter().map(|share| share.0).collect()
    };
    assert_eq!(healthy(&[100, 100]), [100, 0]);
    assert_eq!(healthy(&[72, 72]), [100, 0]);
    assert_eq!(healthy(&[71, 71]), [99, 1]);
    assert_eq!(healthy(&[50, 50]), [70, 30]);
    assert_eq!(healthy(&[25, 100]), [35, 65]);
    assert_eq!(healthy(&[25, 25]), [50, 50]);
    assert_eq!(healthy(&[25, 20]), [56, 44]);
    assert_eq!(healthy(&[25, 0]), [100, 0]);
    assert_eq!(healthy(&[0, 100]), [0, 100]);
    assert_eq!(healthy(&[0, 0]), [100, 0], "to nobody");
    assert_eq!(healthy(&[50, 20, 0, 100]), [70, 28, 0, 2]);
}

#[test]
fn degraded_hosts_come_after_healthy_ones_of_all_priorities() {
    let of = |priorities: &[(usize, usize, usize)]| -> Vec<(u32, u32)> {
        shares(priorities, 0).iter().map(|share| (share.0, share.1)).collect()
    };
    assert_eq!(of(&[(100, 0, 0)]), [(100, 0)]);
    assert_eq!(of(&[(25, 75, 0)]), [(35, 65)]);
    assert_eq!(of(&[(0, 100, 0)]), [(0, 100)]);
    assert_eq!(of(&[(25, 75, 0), (25, 75, 0)]), [(35, 30), (35, 0)]);
}

#[test]
fn a_priority_with_few_healthy_hosts_panics_unless_others_make_up_for_it() {
    let panic = |of: &[usize]| -> Vec<(u32, bool)> {
        let priorities: Vec<_> = of.iter().map(|n| (*n, 0, 100 - n)).collect();
        shares(&priorities, 50).iter().map(|share| (share.0, share.2)).collect()
    };
    assert_eq!(panic(&[72, 72]), [(100, false), (0, false)]);
    assert_eq!(panic(&[50, 60]), [(70, false), (30, false)]);
    assert_eq!(panic(&[25, 100]), [(35, false), (65, false)]);
    assert_eq!(panic(&[25, 25]), [(50, true), (50, true)]);
    assert_eq!(panic(&[5, 65]), [(8, true), (92, false)]);
    assert_eq!(panic(&[0, 0]), [(50, true), (50, true)]);
    assert_eq!(shares(&[(0, 0, 1), (0, 0, 3)], 50), [(25, 0, true), (75, 0, true)], "by number of hosts");
    assert_eq!(shares(&[(0, 0, 0)], 50), [(100, 0, true)]);
}

#[test]
fn draining_hosts_do_not_count() {
    let mut hosts = mixed((1, 0, 0));
    hosts.extend((0..9).map(|i| host(10 + i, 1, HealthStatus::Draining)));
    let set = one(hosts);
    assert_eq!(set.loads.shares(), [(100, 0, false)]);
    assert_eq!(picks(Policy::RoundRobin, &set, &mut State::default(), &[0], 3), [0, 0, 0]);
}

#[test]
fn weights_count_in_weighted_priority_health() {
    let hosts = || vec![host(0, 9, HealthStatus::Unhealthy), host(1, 1, HealthStatus::Healthy)];
    let config = |weighted| PriorityConfig {
        weighted_priority_health: weighted,
        healthy_panic_threshold: 0,
        ..PriorityConfig::default()
    };
    let loads = |weighted| set(vec![hosts(), mixed((1, 0, 0))], &config(weighted)).loads.shares();
    assert_eq!(loads(false), [(70, 0, false), (30, 0, false)]);
    assert_eq!(loads(true), [(14, 0, false), (86, 0, false)]);
}

#[test]
fn panic_uses_all_hosts_and_says_so() {
    let set = one(mixed((1, 0, 3)));
    let mut state = State::default();
    let pick = Policy::RoundRobin.pick(&set, &mut state, Wish::default(), &mut || 3).unwrap();
    assert!(pick.panic);
    assert_eq!(pick.host.health(), Health::Unhealthy);
    let calm = set_without_panic(mixed((1, 0, 3)));
    let pick = Policy::RoundRobin.pick(&calm, &mut state, Wish::default(), &mut || 3).unwrap();
    assert!(!pick.panic);
    assert_eq!(pick.host.health(), Health::Healthy);
}

fn set_without_panic(hosts: Vec<Arc<Host>>) -> PrioritySet {
    set(vec![hosts], &PriorityConfig { healthy_panic_threshold: 0, ..PriorityConfig::default() })
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::RoundRobin),
        Just(Policy::Random),
        (2u32..5, 0.0f64..3.0, any::<bool>()).prop_map(|(choice_count, active_request_bias, full_scan)| {
            Policy::LeastRequest(LeastRequest { choice_count, active_request_bias, full_scan })
        }),
    ]
}

/// Numbers of [`HealthStatus`].
fn statuses() -> impl Strategy<Value = i32> {
    prop_oneof![
        4 => Just(HealthStatus::Healthy as i32),
        1 => Just(HealthStatus::Degraded as i32),
        2 => Just(HealthStatus::Unhealthy as i32),
        1 => Just(HealthStatus::Draining as i32),
    ]
}

proptest! {
    #[test]
    fn shares_make_a_hundred_and_unusable_hosts_are_never_picked(
        policy in policies(),
        priorities in prop::collection::vec(prop::collection::vec((statuses(), 1u32..20, 0u64..9), 0..6), 1..4),
        seed in any::<u64>(),
    ) {
        let build = |hosts: &Vec<(i32, u32, u64)>| -> Vec<Arc<Host>> {
            let make = |(i, (status, weight, active)): (usize, &(i32, u32, u64))| {
                let host = host(i as u16, *weight, HealthStatus::try_from(*status).unwrap());
                host.stats.rq_active.store(*active, Ordering::Relaxed);
                host
            };
            hosts.iter().enumerate().map(make).collect()
        };
        let config = PriorityConfig { healthy_panic_threshold: 0, ..PriorityConfig::default() };
        let set = set(priorities.iter().map(build).collect(), &config);
        let total: u32 = set.loads.shares().iter().map(|share| share.0 + share.1).sum();
        prop_assert_eq!(total, 100);
        let usable = set.sets.iter().any(|set| !set.healthy.is_empty() || !set.degraded.is_empty());
        let (mut state, mut rng) = (State::default(), fastrand::Rng::with_seed(seed));
        for _ in 0..50 {
            match policy.pick(&set, &mut state, Wish::default(), &mut || rng.u64(..)) {
                Some(pick) => prop_assert!(pick.host.health() != Health::Unhealthy && !pick.panic),
                None => prop_assert!(!usable),
            }
        }
    }

    #[test]
    fn turns_follow_the_weights(weight in prop::collection::vec(1u32..50, 2..8), seed in any::<u64>()) {
        let set = one(weights(&weight));
        let (mut state, mut rng) = (State::default(), fastrand::Rng::with_seed(seed));
        let sum: u32 = weight.iter().sum();
        let mut counts = vec![0u32; weight.len()];
        let rounds = 20;
        for _ in 0..sum * rounds {
            let pick = Policy::RoundRobin.pick(&set, &mut state, Wish::default(), &mut || rng.u64(..)).unwrap();
            counts[usize::from(pick.host.address.port().unwrap())] += 1;
        }
        for (count, weight) in counts.iter().zip(&weight) {
            prop_assert!(count.abs_diff(weight * rounds) <= 2, "{:?} for {:?}", counts, weight);
        }
    }

    #[test]
    fn random_and_least_request_treat_idle_hosts_alike(full_scan in any::<bool>(), seed in any::<u64>()) {
        let set = one(weights(&[1; 4]));
        let least_request = LeastRequest { full_scan, ..LeastRequest::default() };
        for policy in [Policy::Random, Policy::LeastRequest(least_request)] {
            let (mut state, mut rng) = (State::default(), fastrand::Rng::with_seed(seed));
            let mut counts = [0u32; 4];
            for _ in 0..4000 {
                let pick = policy.pick(&set, &mut state, Wish::default(), &mut || rng.u64(..)).unwrap();
                counts[usize::from(pick.host.address.port().unwrap())] += 1;
            }
            // Eight standard deviations.
            prop_assert!(counts.iter().all(|count| count.abs_diff(1000) < 220), "{:?}", counts);
        }
    }
}
