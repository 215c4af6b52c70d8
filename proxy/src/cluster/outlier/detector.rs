use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::event_log::{Action, Event};
use super::monitor::Ejections;
use super::{Ejection, EventLog, Monitor, Origin, Outcome, OutlierConfig, Threshold};
use crate::cluster::Cluster;
use crate::endpoint::{HealthFlags, Host};
use crate::lb::Random;
use crate::stats::names::OutlierDetectionStats as Stats;
use crate::stats::{Counter, StatBlock};

/// A host that failed as often in a row as is allowed.
type Report = (Arc<Host>, Ejection);

/// The outlier detection of one cluster.
pub struct Detector {
    config: OutlierConfig,
    cluster: Arc<str>,
    stats: StatBlock<Stats>,
    log: Option<Arc<EventLog>>,
    /// External, local.
    thresholds: Mutex<[Threshold; 2]>,
    reports: UnboundedSender<Report>,
    /// Until somebody [`run`]s it.
    received: Mutex<Option<UnboundedReceiver<Report>>>,
}

impl Detector {
    pub fn new(
        config: OutlierConfig,
        cluster: Arc<str>,
        stats: StatBlock<Stats>,
        log: Option<Arc<EventLog>>,
    ) -> Detector {
        let (reports, received) = unbounded_channel();
        let received = Mutex::new(Some(received));
        Detector { config, cluster, stats, log, thresholds: Mutex::default(), reports, received }
    }

    /// Notes how it went with a host. For workers.
    pub fn report(&self, host: &Arc<Host>, outcome: Outcome) {
        let reached = host.outlier.get_or_init(Box::default).note(outcome, &self.config);
        for ejection in reached.into_iter().flatten() {
            // Nobody listens any more once the cluster was replaced.
            let _ = self.reports.send((host.clone(), ejection));
        }
    }

    /// What the last sweep found.
    pub fn threshold(&self, origin: Origin) -> Threshold {
        let [external, local] = *self.thresholds.lock();
        match origin {
            Origin::External => external,
            Origin::Local => local,
        }
    }

    /// A host failed so often in a row as is allowed. Whether it was ejected. `hosts` are all of the cluster.
    pub fn consecutive(
        &self,
        hosts: &[Arc<Host>],
        host: &Arc<Host>,
        kind: Ejection,
        now: Instant,
        random: Random<'_>,
    ) -> bool {
        if is_ejected(host) || !hosts.contains(host) {
            return false;
        }
        self.count_detected(kind);
        let ejected = self.eject(hosts, host, kind, now, random);
        if kind == Ejection::Consecutive5xx {
            self.stats.inc(Stats::EJECTIONS_CONSECUTIVE_5XX);
        }
        host.outlier.get_or_init(Box::default).restart(kind);
        ejected
    }

    /// Once an interval: lets hosts return whose time is over, and judges by rates. Whether any host changed.
    pub fn sweep(&self, hosts: &[Arc<Host>], now: Instant, random: Random<'_>) -> bool {
        let mut changed = false;
        for host in hosts {
            let Some(monitor) = host.outlier.get() else { continue };
            let over = is_ejected(host) && {
                let ejections = monitor.ejections.lock();
                ejections.last.is_none_or(|last| now.saturating_duration_since(last) >= self.sentence(&ejections))
            };
            if over {
                self.readmit(hosts, host, monitor, now);
                changed = true;
            }
        }
        for origin in [Origin::External, Origin::Local] {
            changed |= self.judge(hosts, origin, now, random);
        }
        for monitor in hosts.iter().filter(|host| !is_ejected(host)).filter_map(|host| host.outlier.get()) {
            let mut ejections = monitor.ejections.lock();
            // A host that behaves is forgiven step by step.
            let since = ejections.last_return.map(|last| now.saturating_duration_since(last));
            if since.is_some_and(|since| since >= self.config.interval) {
                ejections.backoff = ejections.backoff.saturating_sub(1);
            }
        }
        changed
    }

    /// How long a host stays ejected.
    fn sentence(&self, ejections: &Ejections) -> Duration {
        let time = self.config.base_ejection_time.saturating_mul(ejections.backoff);
        time.min(self.config.max_ejection_time).saturating_add(ejections.jitter)
    }

    /// Shows how many hosts are ejected.
    pub fn show_active<'h>(&self, hosts: impl Iterator<Item = &'h Arc<Host>>) {
        let active = hosts.filter(|host| is_ejected(host)).count() as u64;
        if self.stats.read_gauge(Stats::EJECTIONS_ACTIVE) != active {
            self.stats.set(Stats::EJECTIONS_ACTIVE, active);
        }
    }

    fn readmit(&self, hosts: &[Arc<Host>], host: &Arc<Host>, monitor: &Monitor, now: Instant) {
        host.clear_flag(HealthFlags::FAILED_OUTLIER_CHECK);
        for counter in
            [Ejection::Consecutive5xx, Ejection::ConsecutiveGatewayFailure, Ejection::ConsecutiveLocalOriginFailure]
        {
            monitor.restart(counter);
        }
        self.show_active(hosts.iter());
        let mut ejections = monitor.ejections.lock();
        ejections.last_return = Some(now);
        if let Some(log) = &self.log {
            log.write(&Event {
                cluster: &self.cluster,
                host,
                action: Action::Uneject,
                number: ejections.number,
                since: ejections.last.map(|last| now.saturating_duration_since(last)),
            });
        }
    }

    fn judge(&self, hosts: &[Arc<Host>], origin: Origin, now: Instant, random: Random<'_>) -> bool {
        let config = &self.config;
        let seen: Vec<(&Arc<Host>, &Monitor, u64, f64)> = hosts
            .iter()
            .filter_map(|host| {
                let monitor = host.outlier.get()?;
                monitor.show(origin, -1.0);
                let (total, rate) = monitor.take(origin);
                (total > 0 && !is_ejected(host)).then_some((host, &**monitor, total, rate))
            })
            .collect();
        let number = hosts.len() as u64;
        let mut threshold = Threshold::default();
        let mut changed = false;
        if number >= config.success_rate_minimum_hosts || number >= config.failure_percentage_minimum_hosts {
            let volume = config.success_rate_request_volume.min(config.failure_percentage_request_volume);
            seen.iter().filter(|s| s.2 >= volume).for_each(|(_, monitor, _, rate)| monitor.show(origin, *rate));
            let of = |volume: u64| seen.iter().filter(move |s| s.2 >= volume);
            let valid = of(config.success_rate_request_volume).count() as u64;
            if valid > 0 && valid >= config.success_rate_minimum_hosts {
                threshold = success_rate_threshold(
                    of(config.success_rate_request_volume).map(|s| s.3),
                    f64::from(config.success_rate_stdev_factor) / 1000.0,
                );
                // What the event log says is that of this sweep.
                self.set_threshold(origin, threshold);
                let below = |rate: f64| threshold.ejection.is_some_and(|ejection| rate < ejection);
                for (host, ..) in of(config.success_rate_request_volume).filter(|s| below(s.3)) {
                    self.stats.inc(Stats::EJECTIONS_SUCCESS_RATE);
                    changed |= self.detected(hosts, host, Ejection::SuccessRate(origin), now, random);
                }
            }
            let valid = of(config.failure_percentage_request_volume).count() as u64;
            if valid > 0 && valid >= config.failure_percentage_minimum_hosts {
                let limit = f64::from(config.failure_percentage_threshold);
                for (host, ..) in of(config.failure_percentage_request_volume).filter(|s| 100.0 - s.3 >= limit) {
                    changed |= self.detected(hosts, host, Ejection::FailurePercentage(origin), now, random);
                }
            }
        }
        self.set_threshold(origin, threshold);
        changed
    }

    fn set_threshold(&self, origin: Origin, threshold: Threshold) {
        let [external, local] = &mut *self.thresholds.lock();
        *match origin {
            Origin::External => external,
            Origin::Local => local,
        } = threshold;
    }

    fn detected(
        &self,
        hosts: &[Arc<Host>],
        host: &Arc<Host>,
        kind: Ejection,
        now: Instant,
        random: Random<'_>,
    ) -> bool {
        self.count_detected(kind);
        // By one measure it may have gone already.
        !is_ejected(host) && self.eject(hosts, host, kind, now, random)
    }

    fn eject(&self, hosts: &[Arc<Host>], host: &Arc<Host>, kind: Ejection, now: Instant, random: Random<'_>) -> bool {
        let config = &self.config;
        let active = hosts.iter().filter(|host| is_ejected(host)).count();
        let percent = (active + 1) as f64 * 100.0 / hosts.len() as f64;
        let first = active == 0 && config.always_eject_one_host;
        if percent > f64::from(config.max_ejection_percent) && !first {
            self.stats.inc(Stats::EJECTIONS_OVERFLOW);
            return false;
        }
        if matches!(kind, Ejection::Consecutive5xx | Ejection::SuccessRate(Origin::External)) {
            self.stats.inc(Stats::EJECTIONS_TOTAL);
        }
        let (enforcing, counter) = self.enforcing(kind);
        let enforced = random() % 100 < u64::from(enforcing);
        let mut ejections = host.outlier.get_or_init(Box::default).ejections.lock();
        let since = ejections.last_return.map(|last| now.saturating_duration_since(last));
        if enforced {
            self.stats.inc(Stats::EJECTIONS_ENFORCED_TOTAL);
            self.stats.inc(counter);
            host.set_flag(HealthFlags::FAILED_OUTLIER_CHECK);
            ejections.number += 1;
            ejections.last = Some(now);
            let jitter = u64::try_from(config.max_ejection_time_jitter.as_millis()).unwrap_or(u64::MAX);
            ejections.jitter = Duration::from_millis(match jitter.checked_add(1) {
                Some(bound) => random() % bound,
                None => random(),
            });
            // One step above the maximum, so that forgiving begins there.
            let limit = config.max_ejection_time.saturating_add(config.base_ejection_time);
            if config.base_ejection_time.saturating_mul(ejections.backoff) < limit {
                ejections.backoff += 1;
            }
            self.show_active(hosts.iter());
        }
        if let Some(log) = &self.log {
            let threshold = match kind {
                Ejection::SuccessRate(origin) | Ejection::FailurePercentage(origin) => self.threshold(origin),
                _ => Threshold::default(),
            };
            log.write(&Event {
                cluster: &self.cluster,
                host,
                action: Action::Eject { kind, enforced, threshold },
                number: ejections.number,
                since,
            });
        }
        enforced
    }

    fn enforcing(&self, kind: Ejection) -> (u32, Counter<Stats>) {
        let config = &self.config;
        match kind {
            Ejection::Consecutive5xx => (config.enforcing_consecutive_5xx, Stats::EJECTIONS_ENFORCED_CONSECUTIVE_5XX),
            Ejection::ConsecutiveGatewayFailure => {
                (config.enforcing_consecutive_gateway_failure, Stats::EJECTIONS_ENFORCED_CONSECUTIVE_GATEWAY_FAILURE)
            }
            Ejection::ConsecutiveLocalOriginFailure => (
                config.enforcing_consecutive_local_origin_failure,
                Stats::EJECTIONS_ENFORCED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
            ),
            Ejection::SuccessRate(Origin::External) => {
                (config.enforcing_success_rate, Stats::EJECTIONS_ENFORCED_SUCCESS_RATE)
            }
            Ejection::SuccessRate(Origin::Local) => {
                (config.enforcing_local_origin_success_rate, Stats::EJECTIONS_ENFORCED_LOCAL_ORIGIN_SUCCESS_RATE)
            }
            Ejection::FailurePercentage(Origin::External) => {
                (config.enforcing_failure_percentage, Stats::EJECTIONS_ENFORCED_FAILURE_PERCENTAGE)
            }
            Ejection::FailurePercentage(Origin::Local) => (
                config.enforcing_failure_percentage_local_origin,
                Stats::EJECTIONS_ENFORCED_LOCAL_ORIGIN_FAILURE_PERCENTAGE,
            ),
        }
    }

    fn count_detected(&self, kind: Ejection) {
        self.stats.inc(match kind {
            Ejection::Consecutive5xx => Stats::EJECTIONS_DETECTED_CONSECUTIVE_5XX,
            Ejection::ConsecutiveGatewayFailure => Stats::EJECTIONS_DETECTED_CONSECUTIVE_GATEWAY_FAILURE,
            Ejection::ConsecutiveLocalOriginFailure => Stats::EJECTIONS_DETECTED_CONSECUTIVE_LOCAL_ORIGIN_FAILURE,
            Ejection::SuccessRate(Origin::External) => Stats::EJECTIONS_DETECTED_SUCCESS_RATE,
            Ejection::SuccessRate(Origin::Local) => Stats::EJECTIONS_DETECTED_LOCAL_ORIGIN_SUCCESS_RATE,
            Ejection::FailurePercentage(Origin::External) => Stats::EJECTIONS_DETECTED_FAILURE_PERCENTAGE,
            Ejection::FailurePercentage(Origin::Local) => Stats::EJECTIONS_DETECTED_LOCAL_ORIGIN_FAILURE_PERCENTAGE,
        });
    }
}

fn is_ejected(host: &Host) -> bool {
    host.health_flags().contains(HealthFlags::FAILED_OUTLIER_CHECK)
}

/// The mean of the rates, and what is so many standard deviations below it.
fn success_rate_threshold(rates: impl Iterator<Item = f64> + Clone, factor: f64) -> Threshold {
    let number = rates.clone().count() as f64;
    let mean = rates.clone().sum::<f64>() / number;
    let variance = rates.map(|rate| (rate - mean).powi(2)).sum::<f64>() / number;
    Threshold { average: Some(mean), ejection: Some(mean - factor * variance.sqrt()) }
}

/// Ejects and readmits the hosts of a cluster, on the thread that publishes them. Ends with the task it runs in.
pub async fn run(cluster: Arc<Cluster>) {
    let Some(detector) = cluster.outlier() else { return };
    let Some(mut received) = detector.received.lock().take() else { return };
    let mut next = tokio::time::Instant::now() + detector.config.interval;
    loop {
        let report = tokio::select! {
            report = received.recv() => report,
            () = tokio::time::sleep_until(next) => None,
        };
        let mut hosts = Vec::new();
        cluster.for_each_host(|host| hosts.push(host.clone()));
        let (now, random) = (Instant::now(), &mut || fastrand::u64(..));
        let changed = match report {
            Some((host, kind)) => detector.consecutive(&hosts, &host, kind, now, random),
            None => {
                next = tokio::time::Instant::now() + detector.config.interval;
                detector.sweep(&hosts, now, random)
            }
        };
        if changed {
            cluster.publish_health();
        }
    }
}
