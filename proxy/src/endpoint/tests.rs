use std::sync::Arc;

use xds_protos::envoy::config::core::v3::HealthStatus;

use super::{HealthFlags, Host, HostList, HostSet};
use crate::net::Address;

fn host(port: u16, weight: u32, status: HealthStatus) -> Arc<Host> {
    let host = Host::new(Address::Ip(([127, 0, 0, 1], port).into()), "".into(), weight);
    host.set_health(HealthFlags::from_eds(status));
    Arc::new(host)
}

/// As `/clusters` of Envoy 1.40 shows the statuses of endpoints.
#[test]
fn health_flags_print_as_envoy_prints_them() {
    let shown = |status| HealthFlags::from_eds(status).to_string();
    assert_eq!(shown(HealthStatus::Unknown), "healthy");
    assert_eq!(shown(HealthStatus::Healthy), "healthy");
    assert_eq!(shown(HealthStatus::Unhealthy), "/failed_eds_health");
    assert_eq!(shown(HealthStatus::Draining), "/eds_status_draining");
    assert_eq!(shown(HealthStatus::Timeout), "/failed_eds_health");
    assert_eq!(shown(HealthStatus::Degraded), "/degraded_eds_health");
    let two = HealthFlags(HealthFlags::FAILED_EDS_HEALTH | HealthFlags::FAILED_OUTLIER_CHECK);
    assert_eq!(two.to_string(), "/failed_outlier_check/failed_eds_health");
}

#[test]
fn a_host_set_sorts_hosts_by_health() {
    use HealthStatus::{Degraded, Draining, Healthy, Timeout, Unhealthy, Unknown};
    let statuses = [Unknown, Healthy, Unhealthy, Draining, Timeout, Degraded];
    let hosts = statuses.iter().enumerate().map(|(i, status)| host(i as u16, 1, *status)).collect();
    let set = HostSet::new(HostList::new(hosts));
    let ports = |list: &HostList| list.iter().filter_map(|h| h.address.port()).collect::<Vec<_>>();
    assert_eq!(ports(&set.hosts), [0, 1, 2, 3, 4, 5]);
    assert_eq!(ports(&set.healthy), [0, 1]);
    assert_eq!(ports(&set.degraded), [5]);
    assert_eq!(set.excluded, 1, "the draining host");
}

#[test]
fn a_list_knows_whether_weights_differ() {
    let list = |weights: &[u32]| HostList::new(weights.iter().map(|w| host(1, *w, HealthStatus::Unknown)).collect());
    assert!(!list(&[]).weighted);
    assert!(!list(&[3, 3]).weighted);
    assert!(list(&[3, 3, 1]).weighted);
}
