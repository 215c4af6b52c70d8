use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Answer, DnsSpec, Failure, Refresh};
use crate::cluster::spec::{EndpointSpec, Known, Target, by_priority};
use crate::endpoint::{Addresses, Host};
use crate::lb::Random;
use crate::net::Address;

/// What the names of one cluster resolve to.
pub struct Discovery {
    pub spec: DnsSpec,
    names: Vec<Name>,
    /// As published last.
    hosts: Vec<Arc<Host>>,
}

/// The state of the endpoint with the same index.
struct Name {
    /// None before the first answer.
    addresses: Option<Vec<IpAddr>>,
    refresh: Refresh,
}

/// What follows from an answer.
pub struct Step {
    /// When to ask again.
    pub wait: Duration,
    pub outcome: Outcome,
}

pub enum Outcome {
    /// These are the hosts now, by priority.
    Changed(Vec<Vec<Arc<Host>>>),
    Unchanged,
    Failed,
}

impl Discovery {
    pub fn new(spec: DnsSpec) -> Self {
        let name = |_: &EndpointSpec| Name { addresses: None, refresh: Refresh::new(&spec.refresh) };
        let names = spec.endpoints.iter().map(name).collect();
        Discovery { spec, names, hosts: Vec::new() }
    }

    /// Endpoints that have to be resolved: index and name.
    pub fn names(&self) -> Vec<(usize, Arc<str>)> {
        let name = |(index, spec): (usize, &EndpointSpec)| match &spec.target {
            Target::Name { host, .. } => Some((index, host.clone())),
            Target::Address(_) => None,
        };
        self.spec.endpoints.iter().enumerate().filter_map(name).collect()
    }

    /// The hosts known without asking, if there are any.
    pub fn start(&mut self) -> Option<Vec<Vec<Arc<Host>>>> {
        self.update()
    }

    /// Takes what the resolver said of the endpoint `index`.
    pub fn answered(&mut self, index: usize, answer: Result<Answer, Failure>, random: Random<'_>) -> Option<Step> {
        let name = self.names.get_mut(index)?;
        let options = &self.spec.refresh;
        let Ok(answer) = answer else {
            return Some(Step { wait: name.refresh.after_failure(options, random), outcome: Outcome::Failed });
        };
        let ttl = answer.ttl.filter(|_| !answer.addresses.is_empty());
        let wait = name.refresh.after_answer(options, ttl, random);
        // A logical host stays where it is when its name has no address any more.
        if !(self.spec.logical && answer.addresses.is_empty()) {
            name.addresses = Some(answer.addresses);
        }
        let outcome = self.update().map_or(Outcome::Unchanged, Outcome::Changed);
        Some(Step { wait, outcome })
    }

    fn update(&mut self) -> Option<Vec<Vec<Arc<Host>>>> {
        if self.spec.logical {
            return self.update_logical();
        }
        let mut known = Known::default();
        self.hosts.iter().for_each(|host| known.insert(host));
        // Names may share addresses; each address is one host.
        let mut seen = HashSet::new();
        let mut hosts = Vec::new();
        for (spec, name) in self.spec.endpoints.iter().zip(&self.names) {
            for address in addresses(spec, name) {
                if seen.insert(address.clone()) {
                    hosts.push(known.host(spec, address));
                }
            }
        }
        // Servers give addresses in a different order each time; that is no change.
        let before: HashSet<u64> = self.hosts.iter().map(|host| host.id).collect();
        if before.len() == hosts.len() && hosts.iter().all(|host| before.contains(&host.id)) {
            return None;
        }
        self.hosts.clone_from(&hosts);
        Some(by_priority(hosts))
    }

    /// One host, which goes where the latest answer says. Its connections stay.
    fn update_logical(&mut self) -> Option<Vec<Vec<Arc<Host>>>> {
        let (spec, name) = (self.spec.endpoints.first()?, self.names.first()?);
        let mut addresses = addresses(spec, name).into_iter();
        let first = addresses.next()?;
        let now = Addresses { first, others: addresses.collect() };
        match self.hosts.first() {
            Some(host) => {
                host.move_to(now);
                None
            }
            None => {
                let host = Arc::new(spec.host(now.first.clone()).movable(now));
                self.hosts.push(host.clone());
                Some(by_priority([host]))
            }
        }
    }
}

fn addresses(spec: &EndpointSpec, name: &Name) -> Vec<Address> {
    match &spec.target {
        Target::Address(address) => vec![address.clone()],
        target => name.addresses.iter().flatten().map(|ip| target.resolved(*ip)).collect(),
    }
}
