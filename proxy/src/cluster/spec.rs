//! Endpoints as configured, and the hosts that they become.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;

use crate::config::metadata::LazyMetadata;
use crate::endpoint::{HealthFlags, Host, Locality};
use crate::net::Address;

/// One `LbEndpoint`. With DNS it stands for as many hosts as its name has addresses.
pub struct EndpointSpec {
    pub target: Target,
    pub hostname: Arc<str>,
    pub additional_addresses: Box<[Address]>,
    pub weight: u32,
    pub health: HealthFlags,
    pub locality: Arc<Locality>,
    pub priority: u32,
    pub canary: bool,
    pub transport_socket_match: Option<u16>,
    pub metadata: Option<Arc<LazyMetadata>>,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Address(Address),
    /// To be resolved.
    Name {
        host: Arc<str>,
        port: u16,
    },
}

impl Target {
    /// The address of this target when its name resolves to `ip`.
    pub fn resolved(&self, ip: IpAddr) -> Address {
        match self {
            Target::Address(address) => address.clone(),
            Target::Name { port, .. } => Address::from(std::net::SocketAddr::new(ip, *port)),
        }
    }
}

impl EndpointSpec {
    pub fn host(&self, address: Address) -> Host {
        let mut host = Host::new(address, self.hostname.clone(), self.weight);
        host.additional_addresses = self.additional_addresses.clone();
        host.locality = self.locality.clone();
        host.priority = self.priority;
        host.canary = self.canary;
        host.transport_socket_match = self.transport_socket_match;
        host.metadata = self.metadata.clone();
        host.set_health(self.health);
        host
    }

    /// The host is this endpoint apart from weight and health, which change in place.
    fn is(&self, host: &Host) -> bool {
        let bytes = |metadata: &Option<Arc<LazyMetadata>>| metadata.as_ref().map(|m| m.bytes().to_vec());
        host.hostname == self.hostname
            && host.additional_addresses == self.additional_addresses
            && host.locality == self.locality
            && host.priority == self.priority
            && host.transport_socket_match == self.transport_socket_match
            && bytes(&host.metadata) == bytes(&self.metadata)
    }
}

/// Hosts that were there before, by address, so that a host that stays is the same object.
#[derive(Default)]
pub struct Known(HashMap<Address, Vec<Arc<Host>>, foldhash::fast::RandomState>);

impl Known {
    pub fn insert(&mut self, host: &Arc<Host>) {
        self.0.entry(host.address.clone()).or_default().push(host.clone());
    }

    /// The host of this endpoint at this address: the known one with its new weight and health, else a new one.
    pub fn host(&mut self, spec: &EndpointSpec, address: Address) -> Arc<Host> {
        let known = self.0.get_mut(&address).and_then(|hosts| {
            let at = hosts.iter().position(|host| spec.is(host))?;
            Some(hosts.swap_remove(at))
        });
        match known {
            Some(host) => {
                host.weight.store(spec.weight, Ordering::Relaxed);
                host.set_eds_health(spec.health);
                host
            }
            None => Arc::new(spec.host(address)),
        }
    }
}

/// Hosts sorted into priorities, in their order; a priority that nobody has is empty.
pub fn by_priority(hosts: impl IntoIterator<Item = Arc<Host>>) -> Vec<Vec<Arc<Host>>> {
    let mut priorities: Vec<Vec<Arc<Host>>> = Vec::new();
    for host in hosts {
        let priority = host.priority as usize;
        if priorities.len() <= priority {
            priorities.resize_with(priority + 1, Vec::new);
        }
        if let Some(hosts) = priorities.get_mut(priority) {
            hosts.push(host);
        }
    }
    priorities
}
