//! The families against what a running Envoy 1.40 lists before any traffic (`envoy_1_40.txt`: name and kind).

use std::collections::BTreeSet;

use super::*;
use crate::stats::block::BlockCore;
use crate::stats::read::{Selection, Value};
use crate::stats::{StatBlock, StatTable, Stats};

#[test]
fn families_have_envoys_names_and_kinds() {
    let stats = Stats::new(1);
    let mut found = BTreeSet::new();
    let mut take = |core: &BlockCore| {
        let all = Selection { counters: true, gauges: true, texts: true, histograms: true, used_only: false };
        for item in core.items(all) {
            let kind = match item.value {
                Value::Counter(_) => "counter",
                Value::Gauge(_) => "gauge",
                Value::Text(_) => "text",
                Value::Histogram(_) => "histogram",
            };
            assert!(found.insert(format!("{}{} {kind}", core.prefix, item.name)), "{} twice", item.name);
        }
    };
    fn core<T: StatTable>(block: StatBlock<T>) -> std::sync::Arc<BlockCore> {
        block.core
    }
    macro_rules! scopes {
        ($($family:ident: $($scope:literal),+;)*) => {
            $($( take(&core(stats.block::<$family>($scope))); )+)*
        };
    }
    scopes! {
        ClusterStats: "cluster.od";
        CircuitBreakerRemainingStats: "cluster.a.circuit_breakers.default";
        OutlierDetectionStats: "cluster.a.outlier_detection";
        HealthCheckStats: "cluster.a.health_check";
        TimeoutBudgetStats: "cluster.a";
        RequestResponseSizeStats: "cluster.a";
        RingHashStats: "cluster.tlsc.ring_hash_lb";
        MaglevStats: "cluster.mg.maglev_lb";
        SslStats: "cluster.tlsc.ssl";
        SslSocketFactoryStats: "cluster.tlsc.client_ssl_socket_factory";
        Http1Stats: "http1", "cluster.a.http1";
        Http2Stats: "http2";
        HttpStats: "http.ing";
        HttpTracingStats: "http.ing.tracing";
        RouterStats: "http.ing";
        ListenerStats: "listener.127.0.0.1_8080", "listener.admin";
        ListenerExtensionStats: "listener.127.0.0.1_8080";
        WorkerListenerStats: "listener.127.0.0.1_8080.worker_0", "listener.admin.main_thread";
        ListenerHttpStats: "listener.127.0.0.1_8080.http.ing", "listener.admin.http.admin";
        TlsInspectorStats: "tls_inspector";
        HttpInspectorStats: "http_inspector";
        TcpProxyStats: "tcp.tt";
        VirtualClusterStats: "vhost.vh.vcluster.vc", "vhost.vh.vcluster.other";
        RouteStats: "vhost.vh.route.rsp";
        ServerStats: "server";
        WatchdogStats: "workers", "main_thread", "server.worker_0", "server.main_thread";
        ListenerManagerStats: "listener_manager";
        ClusterManagerStats: "cluster_manager";
        ThreadLocalClusterManagerStats: "thread_local_cluster_manager.main_thread", "thread_local_cluster_manager.worker_0";
        RuntimeStats: "runtime";
        FilesystemStats: "filesystem";
        OverloadStats: "overload";
        ControlPlaneStats: "control_plane";
        SubscriptionStats: "cluster_manager.cds", "listener_manager.lds", "http.ing.rds.rr", "sds.sec",
            "extension_config_discovery.http_filter.ecf";
        ConfigReloadStats: "cluster_manager.cds", "http.ing.rds.rr";
        RdsStats: "http.ing.rds.rr";
        ExtensionConfigStats: "extension_config_discovery.http_filter.ecf";
        EdsStats: "cluster.e";
        SecretStats: "sds.sec";
    }
    let expected: BTreeSet<String> = include_str!("envoy_1_40.txt").lines().map(Into::into).collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    let extra: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:#?}, extra {extra:#?}");
}
