use super::*;

crate::stat_block! {
    struct Demo {
        counter CX_TOTAL,
        gauge CX_ACTIVE,
        counter DOTTED = "a.Dotted.name",
        histogram CX_LENGTH_MS(Milliseconds),
        text VERSION_TEXT,
        codes RQ = "rq_",
        codes EXTERNAL_RQ = "external.rq_",
        lazy_counter LATE,
        histogram RQ_TIME(Milliseconds),
    }
}

/// Runs `f` as worker `index` on a thread of its own.
fn on_worker<R: Send>(index: usize, f: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|s| {
        s.spawn(|| {
            set_shard(index + 1);
            f()
        })
        .join()
        .unwrap()
    })
}

#[test]
fn places_agree_with_constants() {
    let places: Vec<_> = Demo::table().places().map(|(_, at)| at).collect();
    for at in [Demo::CX_TOTAL.0, Demo::CX_ACTIVE.0, Demo::DOTTED.0, Demo::CX_LENGTH_MS.0, Demo::LATE.0, Demo::RQ_TIME.0]
    {
        assert_eq!(places[usize::from(at.index)], at);
    }
}

#[test]
fn names_come_from_constants_or_literals() {
    assert_eq!(Demo::CX_TOTAL.name(), "cx_total");
    assert_eq!(Demo::DOTTED.name(), "a.Dotted.name");
    let sorted: Vec<_> = Demo::table().sorted().iter().map(|at| Demo::table().field(at.index).name).collect();
    assert!(sorted.is_sorted());
}

#[test]
fn counters_sum_over_control_and_workers() {
    let stats = Stats::new(2);
    let demo = stats.block::<Demo>("x");
    demo.add(Demo::CX_TOTAL, 5);
    for worker in 0..2 {
        on_worker(worker, || (0..3).for_each(|_| demo.inc(Demo::CX_TOTAL)));
    }
    // A thread beyond the registry's workers still counts.
    on_worker(9, || demo.inc(Demo::CX_TOTAL));
    assert_eq!(demo.read(Demo::CX_TOTAL), 12);
    assert_eq!(demo.read(Demo::DOTTED), 0);
}

#[test]
fn a_gauge_may_go_down_on_another_thread() {
    let stats = Stats::new(2);
    let demo = stats.block::<Demo>("x");
    let guards = on_worker(0, || [demo.gauge_guard(Demo::CX_ACTIVE), demo.gauge_guard(Demo::CX_ACTIVE)]);
    assert_eq!(demo.read_gauge(Demo::CX_ACTIVE), 2);
    let [first, second] = guards;
    on_worker(1, || drop(first));
    assert_eq!(demo.read_gauge(Demo::CX_ACTIVE), 1);
    drop(second);
    assert_eq!(demo.read_gauge(Demo::CX_ACTIVE), 0);
}

#[test]
fn set_replaces_the_sum_and_keeps_64_bits() {
    let stats = Stats::new(1);
    let demo = stats.block::<Demo>("x");
    demo.set(Demo::CX_ACTIVE, u64::MAX - 1);
    assert_eq!(demo.read_gauge(Demo::CX_ACTIVE), u64::MAX - 1);
    on_worker(0, || demo.gauge_add(Demo::CX_ACTIVE, 7));
    demo.set(Demo::CX_ACTIVE, 3);
    on_worker(0, || demo.gauge_sub(Demo::CX_ACTIVE, 1));
    assert_eq!(demo.read_gauge(Demo::CX_ACTIVE), 2);
}

#[test]
fn codes_are_counted_per_group() {
    let stats = Stats::new(1);
    let demo = stats.block::<Demo>("x");
    on_worker(0, || {
        for code in 200..220 {
            demo.code(Demo::RQ, code);
            demo.code(Demo::RQ, 200);
        }
        demo.code(Demo::EXTERNAL_RQ, 200);
    });
    demo.code(Demo::RQ, 200);
    assert_eq!(demo.read_code(Demo::RQ, 200), 22);
    assert_eq!(demo.read_code(Demo::RQ, 219), 1);
    assert_eq!(demo.read_codes(Demo::RQ), 41);
    assert_eq!(demo.read_codes(Demo::EXTERNAL_RQ), 1);
}

#[test]
fn one_scope_and_family_is_one_block_while_a_handle_lives() {
    let stats = Stats::new(1);
    let a = stats.block::<Demo>("cluster.a:b.");
    assert_eq!(a.prefix(), "cluster.a_b.");
    stats.block::<Demo>("cluster.a_b").inc(Demo::CX_TOTAL);
    assert_eq!(a.read(Demo::CX_TOTAL), 1);
    assert_eq!(stats.blocks().len(), 1);
    drop(a);
    assert_eq!(stats.blocks().len(), 0);
    assert_eq!(stats.block::<Demo>("cluster.a:b").read(Demo::CX_TOTAL), 0);
}

#[test]
fn reset_zeroes_counters_and_codes_but_not_gauges_and_histograms() {
    let stats = Stats::new(1);
    let demo = stats.block::<Demo>("x");
    let write = || {
        demo.inc(Demo::CX_TOTAL);
        demo.gauge_inc(Demo::CX_ACTIVE);
        demo.record(Demo::RQ_TIME, 17);
        demo.code(Demo::RQ, 200);
        demo.inc_named("n");
    };
    on_worker(0, write);
    write();
    stats.reset_counters();
    assert_eq!(demo.read(Demo::CX_TOTAL), 0);
    assert_eq!(demo.read_gauge(Demo::CX_ACTIVE), 2);
    assert_eq!(demo.read_histogram(Demo::RQ_TIME).count(), 2);
    assert_eq!(demo.read_codes(Demo::RQ), 0);
    assert_eq!(demo.read_named("n"), 0);
    on_worker(0, write);
    assert_eq!(demo.read(Demo::CX_TOTAL), 1);
    assert_eq!(demo.read_histogram(Demo::RQ_TIME).count(), 3);
    assert_eq!(demo.read_code(Demo::RQ, 200), 1);
}

#[test]
fn quantiles_divide_a_bin_evenly() {
    let mut h = Snapshot::default();
    for v in [0, 6, 41, 41, 43] {
        h.record(v);
    }
    let got: Vec<f64> = [0.0, 0.25, 0.5, 0.75, 0.9, 1.0].iter().map(|&q| h.quantile(q)).collect();
    assert_eq!(got, [0.0, 6.05, 41.333_333_333_333_336, 41.666_666_666_666_664, 43.5, 43.5]);
    assert!(Snapshot::default().quantile(0.5).is_nan());
}

#[test]
fn interval_is_what_the_last_flush_added() {
    let stats = Stats::new(1);
    let demo = stats.block::<Demo>("x");
    let at = Demo::RQ_TIME.0;
    on_worker(0, || demo.record(Demo::RQ_TIME, 5));
    assert!(demo.core.interval(at).is_empty());
    stats.flush();
    assert_eq!(demo.core.interval(at).count(), 1);
    demo.record(Demo::RQ_TIME, 1_000_000);
    demo.record(Demo::RQ_TIME, u64::MAX);
    stats.flush();
    assert_eq!(demo.core.interval(at).count(), 2);
    stats.flush();
    assert!(demo.core.interval(at).is_empty());
    assert_eq!(demo.core.total(at).count(), 3);
}

proptest::proptest! {
    /// Whoever writes what in which order: the sums are right.
    #[test]
    fn sums_over_shards(writes in proptest::collection::vec((0usize..4, 0u64..200_000), 0..60)) {
        let stats = Stats::new(3);
        let demo = stats.block::<Demo>("x");
        for shard in 0..4 {
            let own = writes.iter().filter(|w| w.0 == shard);
            let write = || for (_, v) in own {
                demo.add(Demo::CX_TOTAL, *v);
                demo.gauge_add(Demo::CX_ACTIVE, *v);
                demo.record(Demo::RQ_TIME, *v);
                demo.code(Demo::RQ, (*v % 700) as u16);
            };
            std::thread::scope(|s| { s.spawn(|| { set_shard(shard); write() }); });
        }
        let sum: u64 = writes.iter().map(|w| w.1).sum();
        proptest::prop_assert_eq!(demo.read(Demo::CX_TOTAL), sum);
        proptest::prop_assert_eq!(demo.read_gauge(Demo::CX_ACTIVE), sum);
        let h = demo.read_histogram(Demo::RQ_TIME);
        proptest::prop_assert_eq!(h.count(), writes.len() as u64);
        proptest::prop_assert_eq!(demo.read_codes(Demo::RQ), writes.len() as u64);
        if let Some(max) = writes.iter().map(|w| w.1).max() {
            let top = h.quantile(1.0);
            proptest::prop_assert!(top >= max as f64 * 0.9 && top <= max as f64 * 1.1 + 0.1, "{} for {}", top, max);
        }
    }
}

/// Five thousand clusters that nobody uses must fit in a few megabytes: prefix, registry entry and this.
#[test]
fn an_unused_block_is_small() {
    assert!(size_of::<block::BlockCore>() <= 96, "{}", size_of::<block::BlockCore>());
}

#[test]
fn lookups_are_counted_and_tracked_on_request() {
    let stats = Stats::new(0);
    let _demo = stats.block::<Demo>("x");
    assert_eq!(stats.lookups(), (1, None));
    stats.track_lookups(true);
    for scope in ["b", "a", "b"] {
        stats.block::<Demo>(scope);
    }
    assert_eq!(stats.lookups(), (4, Some(vec![("b".to_owned(), 2), ("a".to_owned(), 1)])));
    (0..200).for_each(|_| drop(stats.block::<Demo>("c")));
    assert_eq!(stats.lookups(), (204, Some(vec![("c".to_owned(), 100)])));
    stats.clear_lookups();
    assert_eq!(stats.lookups(), (0, Some(vec![])));
    stats.track_lookups(false);
    assert_eq!(stats.lookups().1, None);
}
