use xds_protos::envoy::config::metrics::v3 as pb;
use xds_protos::envoy::r#type::matcher::v3 as matcher;

use super::number::{general_6, general_32, shortest};
use super::*;
use crate::config::Path;
use crate::stats::StatsConfig;
use crate::stats::names::{ClusterStats, ServerStats, SslStats};

crate::stat_block! {
    struct Demo {
        counter TOTAL,
        gauge ACTIVE,
        histogram TIME(Milliseconds),
        lazy_histogram LATE_TIME(Milliseconds),
        text VERSION_TEXT,
        codes DS_RQ = "ds_rq_",
        lazy_codes EXTERNAL_RQ = "external.ds_rq_",
        lazy_counter LATE,
    }
}

crate::stat_block! {
    struct Custom {
        lazy_counter UNUSED,
    }
}

fn all(pieces: impl Iterator<Item = Bytes>) -> String {
    String::from_utf8(pieces.flat_map(|piece| piece.to_vec()).collect()).unwrap()
}

fn filter(regex: &str) -> Query {
    Query { filter: Some(Regex::partial(regex).unwrap()), ..Query::default() }
}

/// A block with everything in it.
fn demo(stats: &Stats) -> crate::stats::StatBlock<Demo> {
    let demo = stats.block::<Demo>("cluster.a");
    demo.add(Demo::TOTAL, 3);
    demo.set(Demo::ACTIVE, 0);
    [0, 42, 43, 43, 43, 47].iter().for_each(|&ms| demo.record(Demo::TIME, ms));
    demo.set_text(Demo::VERSION_TEXT, "v\"1");
    demo.code(Demo::DS_RQ, 200);
    demo.code(Demo::EXTERNAL_RQ, 503);
    demo.code(Demo::EXTERNAL_RQ, 999);
    demo
}

#[test]
fn text_has_readouts_then_numbers_then_histograms() {
    let stats = Stats::new(1);
    let _demo = demo(&stats);
    stats.flush();
    let expected = "\
cluster.a.version_text: \"v\"1\"
cluster.a.active: 0
cluster.a.ds_rq_200: 1
cluster.a.ds_rq_2xx: 1
cluster.a.ds_rq_completed: 1
cluster.a.external.ds_rq_503: 1
cluster.a.external.ds_rq_5xx: 1
cluster.a.external.ds_rq_completed: 2
cluster.a.external.ds_rq_unknown: 1
cluster.a.total: 3
cluster.a.time: P0(0,0) P25(42.5,42.5) P50(43.25,43.25) P75(43.75,43.75) P90(47.5,47.5) P95(47.5,47.5) P99(47.5,47.5) \
P99.5(47.5,47.5) P99.9(47.5,47.5) P100(47.5,47.5)
";
    assert_eq!(all(stats.text(Query::default())), expected);
}

#[test]
fn histograms_in_text() {
    let stats = Stats::new(1);
    let demo = demo(&stats);
    let show =
        |buckets| all(stats.text(Query { buckets: Some(buckets), kinds: Kinds::Histograms, ..filter("a.time") }));
    assert!(
        show(Buckets::Cumulative).starts_with("cluster.a.time: B0.5(0,1) B1(0,1)"),
        "{}",
        show(Buckets::Cumulative)
    );
    assert!(show(Buckets::Cumulative).ends_with(" B1.8e+06(0,6) B3.6e+06(0,6)\n"), "{}", show(Buckets::Cumulative));
    assert!(show(Buckets::Disjoint).contains(" B25(0,0) B50(0,5) B100(0,0)"), "{}", show(Buckets::Disjoint));
    stats.flush();
    demo.record(Demo::TIME, 5);
    let expected = "\
cluster.a.time:
  totals=0,0:1, 5,0.1:1, 42,1:1, 43,1:3, 47,1:1
  intervals=0,0:1, 42,1:1, 43,1:3, 47,1:1
  summary=P0(0,0) P25(42.5,5.05)";
    assert!(show(Buckets::Detailed).starts_with(expected), "{}", show(Buckets::Detailed));
}

#[test]
fn used_only_shows_what_was_written() {
    let stats = Stats::new(1);
    let demo = stats.block::<Demo>("x");
    let used = || all(stats.text(Query { used_only: true, ..Query::default() }));
    assert_eq!(used(), "");
    assert_eq!(
        all(stats.text(Query::default())),
        "x.version_text: \"\"\nx.active: 0\nx.ds_rq_completed: 0\nx.total: 0\nx.time: No recorded values\n"
    );
    demo.set(Demo::ACTIVE, 0);
    demo.inc(Demo::TOTAL);
    stats.reset_counters();
    demo.inc(Demo::LATE);
    assert_eq!(used(), "x.active: 0\nx.late: 1\nx.total: 0\n");
}

#[test]
fn names_of_nested_scopes_interleave() {
    let stats = Stats::new(1);
    let outer = stats.block::<ClusterStats>("cluster.a");
    let inner = stats.block::<SslStats>("cluster.a.ssl");
    inner.inc_named("ciphers.X");
    let _other = stats.block::<ClusterStats>("cluster.a-b");
    let _server = stats.block::<ServerStats>("server");
    outer.inc(ClusterStats::UPSTREAM_CX_TOTAL);
    let text = all(stats.text(Query { kinds: Kinds::Counters, ..Query::default() }));
    let names: Vec<&str> = text.lines().collect();
    assert!(names.is_sorted(), "{text}");
    assert!(names.contains(&"cluster.a.ssl.ciphers.X: 1"));
    assert_eq!(all(stats.text(Query { invert_filter: true, ..filter("^cluster|_") })).lines().count(), 5);
    assert_eq!(all(stats.text(filter("^server.live$"))), "server.live: 0\n");
}

#[test]
fn json() {
    let stats = Stats::new(1);
    let _demo = demo(&stats);
    let text = all(stats.json(filter("version|total|a.time")));
    let expected = concat!(
        r#"{"stats":[{"name":"cluster.a.version_text","value":"v\"1"},{"name":"cluster.a.total","value":3},"#,
        r#"{"histograms":{"supported_quantiles":[0,25,50,75,90,95,99,99.5,99.9,100],"computed_quantiles":["#,
        r#"{"name":"cluster.a.time","values":[{"cumulative":0,"interval":null},{"cumulative":42.5,"interval":null},"#
    );
    assert!(text.starts_with(expected), "{text}");
    assert!(text.ends_with("]}]}}]}"), "{text}");
    let buckets = all(stats.json(Query { buckets: Some(Buckets::Cumulative), ..filter("a.time") }));
    let expected = r#"{"stats":[{"histograms":[{"name":"cluster.a.time","buckets":[{"upper_bound":0.5,"interval":0,"#;
    assert!(buckets.starts_with(expected), "{buckets}");
    assert!(buckets.contains(r#"{"upper_bound":3e+05,"interval":0,"cumulative":6},"#), "{buckets}");
    let detailed = all(stats.json(Query { buckets: Some(Buckets::Detailed), ..filter("a.time") }));
    let expected = r#""totals":[{"lower_bound":0,"width":0,"count":1},{"lower_bound":42,"width":1,"count":1},"#;
    assert!(detailed.contains(expected), "{detailed}");
    for text in [text, buckets, detailed, all(stats.json(filter("nothing"))), all(stats.json(Query::default()))] {
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}

#[test]
fn prometheus() {
    let stats = Stats::new(1);
    let _demo = demo(&stats);
    let _b = stats.block::<Demo>("cluster.b");
    stats.add_prometheus_namespace("istiocustom");
    let istio = stats.block::<Custom>("istiocustom");
    istio.inc_named("istio.requests-total");
    let expected = r#"# TYPE envoy_cluster_external_ds_rq counter
envoy_cluster_external_ds_rq{envoy_response_code="503",envoy_cluster_name="a"} 1
# TYPE envoy_cluster_external_ds_rq_completed counter
envoy_cluster_external_ds_rq_completed{envoy_cluster_name="a"} 2
# TYPE envoy_cluster_external_ds_rq_unknown counter
envoy_cluster_external_ds_rq_unknown{envoy_cluster_name="a"} 1
# TYPE envoy_cluster_external_ds_rq_xx counter
envoy_cluster_external_ds_rq_xx{envoy_response_code_class="5",envoy_cluster_name="a"} 1
# TYPE envoy_cluster_total counter
envoy_cluster_total{envoy_cluster_name="a"} 3
envoy_cluster_total{envoy_cluster_name="b"} 0
# TYPE istio_requests_total counter
istio_requests_total{} 1
# TYPE envoy_cluster_active gauge
envoy_cluster_active{envoy_cluster_name="a"} 0
envoy_cluster_active{envoy_cluster_name="b"} 0
# TYPE envoy_cluster_version_text gauge
envoy_cluster_version_text{envoy_cluster_name="a",text_value="v\"1"} 0
envoy_cluster_version_text{envoy_cluster_name="b",text_value=""} 0
# TYPE envoy_cluster_time histogram
envoy_cluster_time_bucket{envoy_cluster_name="a",le="0.5"} 1
"#;
    let text = all(stats.prometheus(filter("^cluster.a.ext|total|active|text|[.]time|requests"), true));
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("envoy_cluster_time_bucket{envoy_cluster_name=\"a\",le=\"50\"} 6\n"), "{text}");
    assert!(text.contains("envoy_cluster_time_bucket{envoy_cluster_name=\"a\",le=\"+Inf\"} 6\n"), "{text}");
    let sum = "envoy_cluster_time_sum{envoy_cluster_name=\"a\"} 220.47161310985373461335257161409\n";
    assert!(text.contains(sum), "{text}");
    assert!(text.ends_with("envoy_cluster_time_count{envoy_cluster_name=\"b\"} 0\n"), "{text}");
    let families: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
    assert!(families.iter().collect::<std::collections::HashSet<_>>().len() == families.len());
}

#[test]
fn prometheus_summaries_are_of_the_last_interval() {
    let stats = Stats::new(1);
    let _demo = demo(&stats);
    let show = || all(stats.prometheus(Query { buckets: Some(Buckets::Summary), ..filter("a.time") }, false));
    assert!(show().starts_with(
        "# TYPE envoy_cluster_time summary\nenvoy_cluster_time{envoy_cluster_name=\"a\",quantile=\"0\"} nan\n"
    ));
    assert!(show().ends_with("_count{envoy_cluster_name=\"a\"} 0\n"), "{}", show());
    stats.flush();
    assert!(show().contains("quantile=\"0.995\"} 47.5\n"), "{}", show());
    assert!(show().ends_with("_count{envoy_cluster_name=\"a\"} 6\n"), "{}", show());
}

fn prefix(text: &str) -> matcher::StringMatcher {
    let pattern = matcher::string_matcher::MatchPattern::Prefix(text.into());
    matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

#[test]
fn excluded_stats_are_neither_counted_nor_shown() {
    use pb::stats_matcher::StatsMatcher::InclusionList;
    let patterns = vec![prefix("cluster.a.ds_rq_2"), prefix("cluster.a.total"), prefix("cluster.a.named.x")];
    let list = matcher::ListStringMatcher { patterns };
    let config = pb::StatsConfig {
        stats_matcher: Some(pb::StatsMatcher { stats_matcher: Some(InclusionList(list)) }),
        ..Default::default()
    };
    let stats = Stats::with_config(1, StatsConfig::build(&config, &Path::root("stats_config")).unwrap());
    let demo = demo(&stats);
    demo.inc_named("named.x");
    demo.inc_named("named.y");
    let expected = "cluster.a.ds_rq_200: 1\ncluster.a.ds_rq_2xx: 1\ncluster.a.named.x: 1\ncluster.a.total: 3\n";
    assert_eq!(all(stats.text(Query::default())), expected);
    assert_eq!(demo.read_gauge(Demo::ACTIVE), 0);
    assert!(demo.read_histogram(Demo::TIME).is_empty());
    let again = stats.block::<Demo>("cluster.b");
    again.inc(Demo::TOTAL);
    assert_eq!(again.read(Demo::TOTAL), 0);
}

#[test]
fn bounds_of_buckets_follow_the_configuration() {
    let setting = |text: &str, buckets: &[f64]| pb::HistogramBucketSettings {
        r#match: Some(prefix(text)),
        buckets: buckets.to_vec(),
        ..Default::default()
    };
    let build = |settings: Vec<pb::HistogramBucketSettings>| {
        let config = pb::StatsConfig { histogram_bucket_settings: settings, ..Default::default() };
        StatsConfig::build(&config, &Path::root("stats_config"))
    };
    let config = build(vec![setting("cluster.a.", &[43.5, 1.05]), setting("cluster", &[7.0])]).unwrap();
    let stats = Stats::with_config(1, config);
    let _demo = demo(&stats);
    let text = all(stats.prometheus(filter("a.time"), false));
    assert!(text.contains(",le=\"1.0500000000000000444089209850063\"} 1\n"), "{text}");
    assert!(text.contains(",le=\"43.5\"} 5\n"), "{text}");
    for (bad, why) in [
        (vec![0.0], "stats_config.histogram_bucket_settings[0].buckets: expected bounds greater than 0, got 0"),
        (
            vec![2.0, 1.0, 2.0],
            "stats_config.histogram_bucket_settings[0].buckets: expected distinct bounds, got 2 twice",
        ),
    ] {
        assert_eq!(build(vec![setting("a", &bad)]).unwrap_err().to_string(), why);
    }
}

#[test]
fn bad_tags_are_refused_with_their_place() {
    let build = |tag_name: &str, regex: Option<&str>| {
        let tag_value = regex.map(|regex| pb::tag_specifier::TagValue::Regex(regex.into()));
        let tag = pb::TagSpecifier { tag_name: tag_name.into(), tag_value };
        let config = pb::StatsConfig { stats_tags: vec![tag], ..Default::default() };
        StatsConfig::build(&config, &Path::root("stats_config")).map_err(|reject| reject.path)
    };
    assert_eq!(build("a", Some("(")).unwrap_err(), "stats_config.stats_tags[0].regex");
    assert_eq!(build("a", None).unwrap_err(), "stats_config.stats_tags[0].tag_name");
    assert!(build("envoy.cluster_name", None).is_ok());
}

#[test]
fn numbers_print_as_in_cpp() {
    for (value, shortest_form, six) in [
        (0.0, "0", "0"),
        (0.5, "0.5", "0.5"),
        (100_000.0, "1e+05", "100000"),
        (300_000.0, "3e+05", "300000"),
        (60_000.0, "60000", "60000"),
        (1_800_000.0, "1800000", "1.8e+06"),
        (1.033_333_333_333_333_4, "1.0333333333333334", "1.03333"),
        (0.000_01, "1e-05", "1e-05"),
    ] {
        assert_eq!(shortest(value), shortest_form);
        assert_eq!(general_6(value), six);
    }
    assert_eq!(general_32(1.05), "1.0500000000000000444089209850063");
    assert_eq!(general_32(3_600_000.0), "3600000");
    assert_eq!(general_32(f64::NAN), "nan");
}

#[test]
fn large_listings_come_in_pieces() {
    let stats = Stats::new(1);
    let blocks: Vec<_> = (0..100).map(|i| stats.block::<ClusterStats>(&format!("cluster.c{i}"))).collect();
    let sizes: Vec<usize> = stats.text(Query::default()).map(|piece| piece.len()).collect();
    assert!(sizes.len() > 5 && sizes.iter().all(|&size| size < PIECE + 4096), "{sizes:?}");
    let series = all(stats.prometheus(Query::default(), false));
    assert_eq!(series.matches("envoy_cluster_upstream_cx_total{").count(), blocks.len());
}
