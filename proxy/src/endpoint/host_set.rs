use std::sync::Arc;

use super::{Health, Host};

/// Some hosts of one priority, and whether their weights differ. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HostList {
    hosts: Arc<[Arc<Host>]>,
    /// At least two weights differ, so that a picker has to look at them.
    pub weighted: bool,
}

impl HostList {
    pub fn new(hosts: Vec<Arc<Host>>) -> Self {
        let first = hosts.first().map(|host| host.weight());
        let weighted = hosts.iter().any(|host| Some(host.weight()) != first);
        // Empty ones share an allocation, and most lists of degraded hosts are empty.
        let hosts = if hosts.is_empty() { Arc::default() } else { hosts.into() };
        HostList { weighted, hosts }
    }
}

impl std::ops::Deref for HostList {
    type Target = [Arc<Host>];

    fn deref(&self) -> &Self::Target {
        &self.hosts
    }
}

/// The hosts of one priority as they were at one moment, sorted out by health.
#[derive(Debug, Clone)]
pub struct HostSet {
    pub hosts: HostList,
    pub healthy: HostList,
    pub degraded: HostList,
    /// How many of `hosts` do not count in the share of healthy ones.
    pub excluded: usize,
}

impl HostSet {
    pub fn new(hosts: HostList) -> Self {
        let of = |health: Health| -> HostList {
            if hosts.iter().all(|host| host.health() == health) {
                return hosts.clone();
            }
            HostList::new(hosts.iter().filter(|host| host.health() == health).cloned().collect())
        };
        let excluded = hosts.iter().filter(|host| host.health_flags().is_excluded()).count();
        HostSet { healthy: of(Health::Healthy), degraded: of(Health::Degraded), excluded, hosts }
    }
}
