//! Picking a host.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use outrigger::endpoint::{Host, HostList, HostSet};
use outrigger::lb::{LeastRequest, Policy, PriorityConfig, PrioritySet, State, Wish};
use outrigger::net::Address;

fn hosts(count: u32, weight: impl Fn(u32) -> u32) -> PrioritySet {
    let host = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        Arc::new(Host::new(Address::Ip(([10, a, b, c], 8080).into()), "".into(), weight(n)))
    };
    let sets: Box<[HostSet]> = Box::new([HostSet::new(HostList::new((0..count).map(host).collect()))]);
    PrioritySet::new(1, sets, &PriorityConfig::default(), &Policy::RoundRobin, None)
}

/// Every host is picked, and by round robin equally often.
fn check(policy: Policy, set: &PrioritySet, count: u32) {
    let mut state = State::default();
    let mut rng = fastrand::Rng::with_seed(7);
    let rounds = if policy == Policy::RoundRobin { 2 } else { 40 };
    let mut picked = vec![0_u32; count as usize];
    for _ in 0..count * rounds {
        let pick = policy.pick(set, &mut state, Wish::default(), &mut || rng.u64(..)).expect("a host");
        let ip = pick.host.address.ip().map(|ip| ip.to_string()).expect("an address");
        let octets: Vec<u32> = ip.split('.').skip(1).map(|octet| octet.parse().expect("a number")).collect();
        picked[(octets[0] << 16 | octets[1] << 8 | octets[2]) as usize] += 1;
    }
    assert!(picked.iter().all(|times| *times > 0), "{policy:?} leaves hosts out");
    assert!(policy != Policy::RoundRobin || picked.iter().all(|times| *times == rounds), "not in turn");
}

fn pick(c: &mut Criterion) {
    let policies = [
        ("round robin", Policy::RoundRobin),
        ("least request", Policy::LeastRequest(LeastRequest::default())),
        ("random", Policy::Random),
    ];
    for (name, policy) in policies {
        let mut group = c.benchmark_group(name);
        for count in [10, 1000, 100_000] {
            let set = hosts(count, |_| 1);
            if count <= 1000 {
                check(policy, &set, count);
            }
            bench(&mut group, policy, &set, count);
        }
        group.finish();
    }
    let mut group = c.benchmark_group("weighted round robin");
    for count in [10, 1000, 100_000] {
        bench(&mut group, Policy::RoundRobin, &hosts(count, |n| 1 + n % 3), count);
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn bench(group: &mut Group<'_>, policy: Policy, set: &PrioritySet, count: u32) {
    let mut state = State::default();
    let mut rng = fastrand::Rng::with_seed(7);
    group.bench_function(BenchmarkId::from_parameter(count), |b| {
        b.iter(|| policy.pick(black_box(set), &mut state, Wish::default(), &mut || rng.u64(..)).is_some());
    });
}

criterion_group! {
    name = load_balancing;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(1));
    targets = pick
}
criterion_main!(load_balancing);
