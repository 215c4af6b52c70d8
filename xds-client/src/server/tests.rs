use super::*;
use crate::session::Request;
use xds_protos::envoy::config::cluster::v3::Cluster;

fn cluster(name: &str) -> Cluster {
    Cluster { name: name.into(), ..Cluster::default() }
}

#[test]
fn versions_are_of_the_last_change_and_a_batch_is_one() {
    let store = Store::new();
    store.set(TypeUrl::CLUSTER, "a", &cluster("a"));
    store.batch(|batch| {
        batch.set(TypeUrl::CLUSTER, "b", &cluster("b"));
        batch.remove_resource(TypeUrl::CLUSTER, "a");
    });
    assert_eq!((store.names(&TypeUrl::CLUSTER), store.version(&TypeUrl::CLUSTER)), (vec!["b".to_owned()], "2".into()));
    store.set_resource(TypeUrl::SECRET, "s", vec![]);
    store.remove_resource(TypeUrl::CLUSTER, "never there");
    assert_eq!(store.version(&TypeUrl::CLUSTER), "2", "other types and no changes leave it");
    assert_eq!(store.version(&TypeUrl::ROUTE), "0");
}

#[test]
fn methods_name_their_type_and_variant() {
    let aggregated = "/envoy.service.discovery.v3.AggregatedDiscoveryService/";
    assert_eq!(method(&format!("{aggregated}DeltaAggregatedResources")), Some((Variant::Delta, None)));
    assert_eq!(method(&format!("{aggregated}StreamAggregatedResources")), Some((Variant::Sotw, None)));
    let secrets = "/envoy.service.secret.v3.SecretDiscoveryService/";
    assert_eq!(method(&format!("{secrets}StreamSecrets")), Some((Variant::Sotw, Some(TypeUrl::SECRET))));
    assert_eq!(method(&format!("{secrets}DeltaSecrets")), Some((Variant::Delta, Some(TypeUrl::SECRET))));
    for unknown in ["", "/", "/x", "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets", aggregated] {
        assert_eq!(method(unknown), None, "{unknown}");
    }
    for type_url in [TypeUrl::CLUSTER, TypeUrl::ENDPOINT, TypeUrl::LISTENER, TypeUrl::ROUTE, TypeUrl::RUNTIME] {
        for variant in [Variant::Delta, Variant::Sotw] {
            assert_eq!(method(&type_url.method(variant).unwrap()), Some((variant, Some(type_url.clone()))));
        }
    }
    assert_eq!(TypeUrl::VIRTUAL_HOST.method(Variant::Sotw), None, "virtual hosts exist in delta only");
}

#[tokio::test(flavor = "current_thread")]
async fn the_log_wakes_whoever_waits_for_it() {
    let store = Store::new();
    let wait = store.logged(|log| log.len() == 2);
    let write = async {
        store.record(1, Request::Delta(Default::default()));
        tokio::task::yield_now().await;
        store.record(1, Request::Sotw(Default::default()));
    };
    let (log, ()) = tokio::join!(wait, write);
    assert!(!log[0].is_ack() && log[1].request.nack().is_none());
}
