//! How load is shared between priorities, as Envoy's architecture page "priority levels" has it.
//!
//! A priority counts as whole while 1 in 1.4 of its hosts (`overprovisioning_factor`) is healthy; what it cannot take spills
//! to the next one. Healthy hosts of all priorities come before degraded ones. A priority where too few hosts are left is in
//! panic, and then all of its hosts are used, because the few would break under the load.

use smallvec::SmallVec;

use super::Eligible;
use crate::endpoint::HostSet;

/// What decides how much a priority can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorityConfig {
    /// `ClusterLoadAssignment.policy.overprovisioning_factor`, a percentage.
    pub overprovisioning_factor: u32,
    /// `ClusterLoadAssignment.policy.weighted_priority_health`: hosts count with their weights.
    pub weighted_priority_health: bool,
    /// `common_lb_config.healthy_panic_threshold`, 0 to 100; 0 is never.
    pub healthy_panic_threshold: u32,
}

impl Default for PriorityConfig {
    fn default() -> Self {
        PriorityConfig { overprovisioning_factor: 140, weighted_priority_health: false, healthy_panic_threshold: 50 }
    }
}

/// The share of each priority, in percent; all together are 100.
#[derive(Debug, PartialEq, Eq)]
pub struct PriorityLoads(SmallVec<[Load; 1]>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Load {
    healthy: u32,
    degraded: u32,
    panic: bool,
}

/// What a priority can take, in percent of the load.
struct Availability {
    healthy: u32,
    degraded: u32,
}

impl PriorityLoads {
    pub fn new(sets: &[HostSet], config: &PriorityConfig) -> Self {
        let available: SmallVec<[Availability; 1]> = sets.iter().map(|set| availability(set, config)).collect();
        let total = available.iter().map(|a| a.healthy + a.degraded).sum::<u32>().min(100);
        let mut loads: SmallVec<[Load; 1]> = sets.iter().map(|_| Load::default()).collect();
        if loads.is_empty() {
            loads.push(Load::default());
        }
        share(&mut loads, &available, total);

        let threshold = config.healthy_panic_threshold.min(100);
        if threshold == 0 && total == 0 {
            // Nothing is there to take it and panic is switched off: the first priority, which has no eligible host.
            first(&mut loads, |load| load.healthy = 100);
            return PriorityLoads(loads);
        }
        // While the priorities together can take everything, none of them panics.
        for (load, set) in loads.iter_mut().zip(sets) {
            load.panic = total < 100 && in_panic(set, threshold);
        }
        if total < 100 && loads.iter().zip(sets).all(|(load, _)| load.panic) {
            share_in_total_panic(&mut loads, sets);
        }
        PriorityLoads(loads)
    }

    /// All hosts of this priority are used, whatever their health.
    pub fn in_panic(&self, priority: usize) -> bool {
        self.0.get(priority).is_some_and(|load| load.panic)
    }

    /// The priority of a request, and which of its hosts may serve it.
    pub fn choose(&self, random: u64) -> (usize, Eligible) {
        let mut left = (random % 100) as u32;
        let shares =
            |of: fn(&Load) -> u32| self.0.iter().enumerate().map(move |(priority, load)| (priority, load, of(load)));
        let healthy = shares(|load| load.healthy).map(|share| (share, Eligible::Healthy));
        let degraded = shares(|load| load.degraded).map(|share| (share, Eligible::Degraded));
        for ((priority, load, share), eligible) in healthy.chain(degraded) {
            match left.checked_sub(share) {
                Some(rest) => left = rest,
                None => return (priority, if load.panic { Eligible::All } else { eligible }),
            }
        }
        (0, Eligible::Healthy)
    }
}

fn availability(set: &HostSet, config: &PriorityConfig) -> Availability {
    let counted = |hosts: &[std::sync::Arc<crate::endpoint::Host>]| -> u64 {
        if config.weighted_priority_health {
            hosts.iter().map(|host| u64::from(host.weight())).sum()
        } else {
            hosts.len() as u64
        }
    };
    let all = if config.weighted_priority_health {
        set.hosts.iter().filter(|h| !h.health_flags().is_excluded()).map(|h| u64::from(h.weight())).sum()
    } else {
        set.hosts.len().saturating_sub(set.excluded) as u64
    };
    let percent = |some: u64| {
        let scaled = u64::from(config.overprovisioning_factor).saturating_mul(some);
        scaled.checked_div(all).unwrap_or_default().min(100) as u32
    };
    Availability { healthy: percent(counted(&set.healthy)), degraded: percent(counted(&set.degraded)) }
}

/// Gives the load to healthy hosts, priority by priority, and the rest to degraded ones in the same order.
fn share(loads: &mut [Load], available: &[Availability], total: u32) {
    if total == 0 {
        return;
    }
    let mut left = 100;
    for (load, available) in loads.iter_mut().zip(available) {
        load.healthy = (available.healthy * 100 / total).min(left);
        left -= load.healthy;
    }
    for (load, available) in loads.iter_mut().zip(available) {
        load.degraded = (available.degraded * 100 / total).min(left);
        left -= load.degraded;
    }
    // Rounding leaves a rest: for the first priority that is there at all.
    let healthy = available.iter().position(|a| a.healthy > 0);
    let degraded = available.iter().position(|a| a.degraded > 0);
    if let Some(load) = healthy.and_then(|first| loads.get_mut(first)) {
        load.healthy += left;
    } else if let Some(load) = degraded.and_then(|first| loads.get_mut(first)) {
        load.degraded += left;
    }
}

fn in_panic(set: &HostSet, threshold: u32) -> bool {
    let counted = set.hosts.len().saturating_sub(set.excluded);
    if counted == 0 {
        return threshold > 0;
    }
    let usable = set.healthy.len() + set.degraded.len();
    usable as f64 * 100.0 / (counted as f64) < f64::from(threshold)
}

/// When all priorities are in panic, each takes load by its number of hosts.
fn share_in_total_panic(loads: &mut [Load], sets: &[HostSet]) {
    let hosts: usize = sets.iter().map(|set| set.hosts.len()).sum();
    if hosts == 0 {
        first(loads, |load| load.healthy = 100);
        return;
    }
    let mut left = 100;
    for (load, set) in loads.iter_mut().zip(sets) {
        let share = (100 * set.hosts.len() / hosts) as u32;
        (load.healthy, load.degraded) = (share, 0);
        left -= share;
    }
    if let Some((load, _)) = loads.iter_mut().zip(sets).find(|(_, set)| !set.hosts.is_empty()) {
        load.healthy += left;
    }
}

fn first(loads: &mut [Load], change: impl FnOnce(&mut Load)) {
    if let Some(load) = loads.first_mut() {
        change(load);
    }
}

#[cfg(test)]
impl PriorityLoads {
    /// Healthy share, degraded share and panic of each priority.
    pub fn shares(&self) -> Vec<(u32, u32, bool)> {
        self.0.iter().map(|load| (load.healthy, load.degraded, load.panic)).collect()
    }
}
