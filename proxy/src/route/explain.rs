//! Why a request gets the route it gets, in words: the search of [`RouteTable::find`] with a recorder that keeps every step.

use std::fmt::Write;
use std::sync::Arc;

use super::action::{ClusterTarget, WeightedCluster};
use super::domains::DomainMatch;
use super::matcher::Mismatch;
use super::table::{Recorder, RouteEntry, RouteMatch, RouteTable, VirtualHost};
use crate::http::RequestHead;
use crate::stream_info::StreamInfo;

/// The steps of a search, one line each, and its result.
pub struct Explanation {
    pub steps: Vec<String>,
    pub found: Option<RouteMatch>,
}

impl RouteTable {
    /// Explains what [`find`](Self::find) does with the same arguments.
    pub fn explain(self: &Arc<Self>, head: &RequestHead, info: &StreamInfo, random: u64) -> Explanation {
        let mut steps = Steps::default();
        let found = self.find_recorded(head, info, random, &mut steps);
        Explanation { steps: steps.0, found }
    }
}

#[derive(Default)]
struct Steps(Vec<String>);

impl Recorder for Steps {
    fn virtual_host(&mut self, host: &str, found: Option<(&VirtualHost, DomainMatch)>) {
        self.0.push(match found {
            None => format!("host {host:?}: no virtual host has such a domain"),
            Some((virtual_host, how)) => {
                let how = match how {
                    DomainMatch::Exact => "exact domain",
                    DomainMatch::Suffix => "longest *suffix",
                    DomainMatch::Prefix => "longest prefix*",
                    DomainMatch::Any => "*",
                };
                format!("host {host:?}: virtual host {:?} by {how}", virtual_host.name)
            }
        });
    }

    fn tls_redirect(&mut self, virtual_host: &VirtualHost) {
        self.0.push(format!("virtual host {:?} requires TLS: redirect to https", virtual_host.name));
    }

    fn route(&mut self, index: usize, route: &RouteEntry, result: Result<(), Mismatch>) {
        let mut line = format!("routes[{index}]");
        if !route.name.is_empty() {
            let _ = write!(line, " {:?}", route.name);
        }
        match result {
            Ok(()) => line.push_str(": matches"),
            Err(mismatch) => {
                let _ = write!(line, ": {mismatch} does not match");
            }
        }
        self.0.push(line);
    }

    fn weighted_cluster(&mut self, value: u64, total: u64, index: usize, cluster: &WeightedCluster) {
        let name = match &cluster.target {
            ClusterTarget::Cluster(slot) => format!("{:?}", slot.name),
            ClusterTarget::Header(name) => format!("what header {name} says"),
        };
        let place = value % total.max(1);
        self.0.push(format!("weighted_clusters[{index}]: {name}, for {place} of {total}"));
    }
}
