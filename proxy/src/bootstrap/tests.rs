use super::*;
use crate::runtime::{Runtime, Source, Value};

fn build(yaml: &str) -> Result<Bootstrap, String> {
    let loaded = load(None, Some(yaml), false).map_err(|e| e.to_string())?;
    Bootstrap::build(loaded.message.clone(), loaded.wire.clone()).map_err(|reject| loaded.describe(&reject))
}

#[test]
fn static_runtime_layers_are_merged_and_the_last_wins() {
    let bootstrap = build(
        "layered_runtime:\n  layers:\n  - name: a\n    static_layer: { k: 1, nested: { deep: true, pct: { numerator: 5, denominator: TEN_THOUSAND } } }\n  - name: b\n    static_layer: { k: '2' }\n",
    )
    .expect("builds");
    assert_eq!(bootstrap.runtime_layers.iter().map(|layer| &*layer.name).collect::<Vec<_>>(), ["a", "b"]);
    let runtime = Runtime::load(bootstrap.runtime_layers, "", None);
    assert_eq!(runtime.get("k"), Some(Value::Number(2.0)));
    assert_eq!(runtime.get("nested.deep"), Some(Value::Bool(true)));
    assert_eq!(runtime.get("nested.pct"), Some(Value::Fraction { numerator: 5, denominator: 10_000 }));
}

#[test]
fn runtime_layers_are_static_on_disk_or_set_by_the_admin() {
    let bootstrap = build(
        "layered_runtime: { layers: [ { name: d, disk_layer: { symlink_root: /r, subdirectory: s, append_service_cluster: true } }, { name: a, admin_layer: {} } ] }",
    )
    .expect("builds");
    let [disk, admin] = &*bootstrap.runtime_layers else { panic!("two layers") };
    let Source::Disk(disk) = &disk.source else { panic!("a disk layer") };
    assert_eq!((disk.symlink_root.to_str(), disk.append_service_cluster), (Some("/r"), true));
    assert_eq!(admin.source, Source::Admin);
    for (layers, place) in [
        ("{ name: a, admin_layer: {} }, { name: b, admin_layer: {} }", "layers[1].admin_layer"),
        ("{ name: a, admin_layer: {} }, { name: a, static_layer: {} }", "layers[1].name"),
        ("{ name: a, static_layer: { k: [ 1 ] } }", "layers[0].static_layer"),
        ("{ name: a, disk_layer: {} }", "layers[0].disk_layer.symlink_root"),
    ] {
        let error = build(&format!("layered_runtime: {{ layers: [ {layers} ] }}")).err().expect("is refused");
        assert!(error.contains(place), "{error}");
    }
}

#[test]
fn what_is_not_supported_is_refused_with_its_place() {
    let error = build("admin:\n  address: { socket_address: { address: 127.0.0.1, port_value: 1 } }\nflags_path: /x\n")
        .err()
        .expect("is refused");
    assert!(error.contains("--config-yaml:3:") && error.contains("flags_path"), "{error}");
    let error = build("layered_runtime: { layers: [ { name: a, rtds_layer: { name: r } } ] }").err().expect("refused");
    assert!(error.contains("layered_runtime.layers[0].rtds_layer"), "{error}");
}

#[test]
fn a_typo_is_told_with_the_field_that_was_meant() {
    let error = build("static_resources: { listners: [] }").err().expect("is refused");
    assert!(error.contains("listners") && error.contains("listeners"), "{error}");
}

#[test]
fn the_connection_limit_is_taken_from_the_overload_manager() {
    let yaml = |max: i64| {
        format!(
            "overload_manager:\n  resource_monitors:\n  - name: envoy.resource_monitors.global_downstream_max_connections\n    typed_config:\n      \"@type\": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig\n      max_active_downstream_connections: {max}\n"
        )
    };
    assert_eq!(build(&yaml(1000)).expect("builds").max_downstream_connections, Some(1000));
    assert!(build(&yaml(0)).is_err());
}
