use std::fs;
use std::os::unix::fs::symlink;

use xds_protos::envoy::r#type::v3 as type_v3;

use super::*;
use crate::config::percent::Denominator;

fn runtime() -> Runtime {
    let text = |text: &str| Value::Text(text.into());
    let values = [
        ("half", Value::Number(50.0)),
        ("half_text", text("50")),
        ("big", Value::Number(4_294_967_296.0)),
        ("part", Value::Number(0.5)),
        ("negative", Value::Number(-1.0)),
        ("yes", Value::Bool(true)),
        ("no_text", text("False")),
        ("word", text("word")),
        ("tiny", Value::Fraction { numerator: 5, denominator: 1_000_000 }),
    ];
    Runtime::new(values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

const DEFAULT: FractionalPercent = FractionalPercent { numerator: 7, denominator: Denominator::TenThousand };

fn fraction(runtime: &Runtime, key: &str) -> Live<FractionalPercent> {
    let default_value = Some(type_v3::FractionalPercent { numerator: 7, denominator: 1 });
    let proto = core::RuntimeFractionalPercent { default_value, runtime_key: key.into() };
    runtime.fractional_percent(&proto, &Path::root("f")).unwrap()
}

fn of_hundred(numerator: u32) -> FractionalPercent {
    FractionalPercent { numerator, denominator: Denominator::Hundred }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_fraction_is_an_integer_percentage_or_a_struct() {
    let runtime = runtime();
    let fraction = |key| fraction(&runtime, key).get();
    assert_eq!(fraction("half"), of_hundred(50));
    assert_eq!(fraction("half_text"), of_hundred(50));
    assert!(fraction("big").is_always());
    assert_eq!(fraction("tiny"), FractionalPercent { numerator: 5, denominator: Denominator::Million });
    assert_eq!(fraction("part"), of_hundred(0), "only the whole part counts");
    for key in ["", "absent", "negative", "word", "yes"] {
        assert_eq!(fraction(key), DEFAULT, "{key:?}");
    }
}

#[test]
fn a_key_of_another_kind_leaves_the_default() {
    let runtime = runtime();
    let uint32 = |key: &str| runtime.uint32(&core::RuntimeUInt32 { default_value: 9, runtime_key: key.into() }).get();
    assert_eq!([uint32("half"), uint32("big"), uint32("yes"), uint32("absent")], [50, 9, 9, 9]);
    let flag = |key: &str| {
        let proto = core::RuntimeFeatureFlag { default_value: Some(true), runtime_key: key.into() };
        runtime.feature_flag(&proto, &Path::root("f")).unwrap().get()
    };
    assert_eq!([flag("no_text"), flag("yes"), flag("half"), flag("absent")], [false, true, true, true]);
    let double = core::RuntimeDouble { default_value: 1.0, runtime_key: "part".into() };
    assert_eq!(runtime.runtime_double(&double).get(), 0.5);
}

#[test]
fn a_default_is_required() {
    let path = Path::root("f");
    let fraction = core::RuntimeFractionalPercent { default_value: None, runtime_key: "half".into() };
    assert_eq!(runtime().fractional_percent(&fraction, &path).unwrap_err().path, "f.default_value");
    let flag = core::RuntimeFeatureFlag { default_value: None, runtime_key: "yes".into() };
    assert_eq!(runtime().feature_flag(&flag, &path).unwrap_err().path, "f.default_value");
}

#[test]
fn what_the_admin_layer_sets_is_followed_until_it_is_taken_back() {
    let stats = Stats::new(0);
    let fixed = Entries::from([("k".to_owned(), Value::Number(10.0).into())]);
    let layers = vec![
        Layer { name: "fixed".into(), source: Source::Static(fixed) },
        Layer { name: "admin".into(), source: Source::Admin },
    ];
    let runtime = Runtime::load(layers, "", Some(&stats));
    let (k, other) = (fraction(&runtime, "k"), runtime.live_boolean("other", false));
    assert_eq!((k.get(), other.get()), (of_hundred(10), false));

    runtime.modify(&pairs(&[("k", "numerator: 3\ndenominator: MILLION"), ("other", "true")])).unwrap();
    assert_eq!(k.get(), FractionalPercent { numerator: 3, denominator: Denominator::Million });
    assert!(other.get());
    let block = stats.block::<RuntimeStats>("runtime");
    let gauges = [RuntimeStats::NUM_KEYS, RuntimeStats::NUM_LAYERS, RuntimeStats::ADMIN_OVERRIDES_ACTIVE];
    assert_eq!(gauges.map(|gauge| block.read_gauge(gauge)), [2, 2, 1]);

    runtime.modify(&pairs(&[("k", ""), ("other", "")])).unwrap();
    assert_eq!((k.get(), other.get()), (of_hundred(10), false));
    assert_eq!(gauges.map(|gauge| block.read_gauge(gauge)), [1, 2, 0]);
    assert_eq!(block.read(RuntimeStats::LOAD_SUCCESS), 3);
}

#[test]
fn without_an_admin_layer_nothing_can_be_set() {
    assert_eq!(runtime().modify(&pairs(&[("half", "1")])), Err(NoAdminLayer));
    assert!(!runtime().is_live());
}

#[test]
fn values_that_are_dropped_are_forgotten() {
    let runtime = Runtime::load(vec![Layer { name: "a".into(), source: Source::Admin }], "", None);
    let kept = runtime.live_integer("k", 1);
    for _ in 0..1000 {
        drop(runtime.live_integer("k", 1));
    }
    assert!(runtime.state.lock().watched.len() < 10);
    runtime.modify(&pairs(&[("k", "2")])).unwrap();
    assert_eq!(kept.get(), 2);
}

#[test]
fn a_disk_layer_is_a_tree_of_files_that_is_replaced_as_a_whole() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    let write = |path: &str, text: &str| {
        fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        fs::write(at(path), text).unwrap();
    };
    write("v1/envoy/num", "7\n");
    write("v1/envoy/sub/word", "# why\nhello  \n");
    write("v1/envoy/part", "numerator: 5\ndenominator: TEN_THOUSAND\n");
    write("v1/over/mine/num", "9");
    write("v2/envoy/num", "8");
    symlink("v1", at("current")).unwrap();
    let layer = |subdirectory: &str, append_service_cluster| Layer {
        name: subdirectory.to_owned(),
        source: Source::Disk(DiskLayer {
            symlink_root: at("current"),
            subdirectory: subdirectory.into(),
            append_service_cluster,
        }),
    };
    let layers = vec![layer("envoy", false), layer("over", true), layer("absent", false)];
    let stats = Stats::new(0);
    let runtime = Runtime::load(layers, "mine", Some(&stats));
    let num = runtime.live_integer("num", 0);
    assert_eq!(num.get(), 9);
    assert_eq!(runtime.get("sub.word"), Some(Value::Text("hello".into())));
    assert_eq!(runtime.get("part"), Some(Value::Fraction { numerator: 5, denominator: 10_000 }));
    let names: Vec<_> = runtime.layers().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["envoy", "over"], "what is not there is no layer");

    runtime.reread();
    symlink("v2", at("next")).unwrap();
    fs::rename(at("next"), at("current")).unwrap();
    assert_eq!(num.get(), 9, "until it is read");
    runtime.reread();
    assert_eq!(num.get(), 8);
    assert_eq!(runtime.get("part"), None);
    let block = stats.block::<RuntimeStats>("runtime");
    let counters =
        [RuntimeStats::LOAD_SUCCESS, RuntimeStats::OVERRIDE_DIR_EXISTS, RuntimeStats::OVERRIDE_DIR_NOT_EXISTS];
    assert_eq!(counters.map(|counter| block.read(counter)), [2, 1, 1]);
}

#[test]
fn a_tree_that_cannot_be_read_is_left_out() {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for (tree, bytes) in [("v1", &b"1"[..]), ("v2", &[0xff][..])] {
        fs::create_dir(at(tree)).unwrap();
        fs::write(at(tree).join("k"), bytes).unwrap();
    }
    symlink("v1", at("current")).unwrap();
    let disk = DiskLayer { symlink_root: at("current"), subdirectory: PathBuf::new(), append_service_cluster: false };
    let fixed = Entries::from([("k".to_owned(), Value::Number(2.0).into())]);
    let layers = vec![
        Layer { name: "fixed".into(), source: Source::Static(fixed) },
        Layer { name: "disk".into(), source: Source::Disk(disk) },
    ];
    let stats = Stats::new(0);
    let runtime = Runtime::load(layers, "", Some(&stats));
    assert_eq!(runtime.integer("k", 0), 1);
    fs::remove_file(at("current")).unwrap();
    symlink("v2", at("current")).unwrap();
    runtime.reread();
    assert_eq!(runtime.integer("k", 0), 2);
    assert_eq!(stats.block::<RuntimeStats>("runtime").read(RuntimeStats::LOAD_ERROR), 1);
}
