//! `envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Random, below};
use crate::endpoint::Host;

/// With equal weights the least busy of some random hosts; with different ones a turn by weights that shrink while a host
/// is busy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeastRequest {
    /// How many random hosts are compared, at least 2.
    pub choice_count: u32,
    /// How much requests under way weigh against a host's weight: 0 not at all, 1 as their number.
    pub active_request_bias: f64,
    /// `FULL_SCAN`: compare all hosts.
    pub full_scan: bool,
}

impl Default for LeastRequest {
    fn default() -> Self {
        LeastRequest { choice_count: 2, active_request_bias: 1.0, full_scan: false }
    }
}

fn active(host: &Host) -> u64 {
    host.stats.rq_active.load(Ordering::Relaxed)
}

impl LeastRequest {
    /// Among hosts of equal weight; there must be one.
    pub(super) fn pick(&self, hosts: &[Arc<Host>], random: Random<'_>) -> usize {
        if self.full_scan {
            return least_of_all(hosts, random);
        }
        let mut best = (usize::MAX, u64::MAX);
        for _ in 0..self.choice_count {
            let index = below(random(), hosts.len());
            let load = hosts.get(index).map_or(u64::MAX, |host| active(host));
            if load < best.1 || best.0 == usize::MAX {
                best = (index, load);
            }
        }
        best.0
    }

    /// Among hosts of different weights: a host's weight now.
    pub(super) fn weight(&self, host: &Host) -> f64 {
        let weight = f64::from(host.weight());
        let load = (active(host) as f64) + 1.0;
        match self.active_request_bias {
            0.0 => weight,
            1.0 => weight / load,
            bias => weight / load.powf(bias),
        }
    }
}

/// One of the least busy hosts, each with the same chance.
fn least_of_all(hosts: &[Arc<Host>], random: Random<'_>) -> usize {
    let (mut best, mut least, mut tied) = (0, u64::MAX, 0);
    for (index, host) in hosts.iter().enumerate() {
        let load = active(host);
        if load < least || tied == 0 {
            (best, least, tied) = (index, load, 1);
        } else if load == least {
            tied += 1;
            if below(random(), tied) == 0 {
                best = index;
            }
        }
    }
    best
}
