//! The guard dog (`envoy.config.bootstrap.v3.Watchdogs`): notices threads that do not come round any more.
//!
//! Every watched thread has a [`Heartbeat`], which a task of its own touches; a thread of the guard's looks at all of them. What
//! it does then is decided by [`Guard::look`], a state machine that knows neither clocks nor threads. A thread that is stuck
//! for longer than `kill_timeout` ends the process by abort, so that there is a core to look at.
//!
//! Deliberately missing: `actions`, refused; the Abort and profile actions of Envoy need its signal handling.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use std::{io, thread};

use xds_protos::envoy::config::bootstrap::v3 as pb;

use crate::config::{Path, Reject, percent, values};
use crate::stats::names::WatchdogStats;
use crate::stats::{StatBlock, Stats};

/// How the threads of one kind are watched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WatchdogConfig {
    pub miss_timeout: Duration,
    pub megamiss_timeout: Duration,
    /// Zero: never.
    pub kill_timeout: Duration,
    /// Zero: never.
    pub multikill_timeout: Duration,
    /// Percent of the threads that must be stuck for `multikill_timeout`; two at least.
    pub multikill_threshold: f64,
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        WatchdogConfig {
            miss_timeout: Duration::from_millis(200),
            megamiss_timeout: Duration::from_millis(1000),
            kill_timeout: Duration::ZERO,
            multikill_timeout: Duration::ZERO,
            multikill_threshold: 0.0,
        }
    }
}

/// Of the main thread and of the workers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WatchdogsConfig {
    pub main_thread: WatchdogConfig,
    pub workers: WatchdogConfig,
}

impl WatchdogsConfig {
    /// # Errors
    /// For actions, durations that are not positive and percentages that are none.
    pub fn build(proto: &pb::Watchdogs, path: &Path<'_>) -> Result<Self, Reject> {
        let pb::Watchdogs { main_thread_watchdog, worker_watchdog } = proto;
        let one = |proto: &Option<pb::Watchdog>, name: &str| match proto {
            Some(proto) => WatchdogConfig::build(proto, &path.field(name)),
            None => Ok(WatchdogConfig::default()),
        };
        Ok(WatchdogsConfig {
            main_thread: one(main_thread_watchdog, "main_thread_watchdog")?,
            workers: one(worker_watchdog, "worker_watchdog")?,
        })
    }

    /// How often to look, which is also how often a thread must touch its heartbeat.
    pub fn interval(&self) -> Duration {
        let all = [self.main_thread, self.workers];
        let timeouts =
            all.iter().flat_map(|c| [c.miss_timeout, c.megamiss_timeout, c.kill_timeout, c.multikill_timeout]);
        let least = timeouts.filter(|timeout| !timeout.is_zero()).min().unwrap_or(Duration::from_millis(200));
        (least / 2).max(Duration::from_millis(1))
    }
}

impl WatchdogConfig {
    /// # Errors
    /// As [`WatchdogsConfig::build`].
    pub fn build(proto: &pb::Watchdog, path: &Path<'_>) -> Result<Self, Reject> {
        let pb::Watchdog {
            actions,
            miss_timeout,
            megamiss_timeout,
            kill_timeout,
            max_kill_timeout_jitter,
            multikill_timeout,
            multikill_threshold,
        } = proto;
        if !actions.is_empty() {
            return Err(path.field("actions").reject("watchdog actions are not supported; remove them"));
        }
        let duration = |field: &str, proto: &Option<prost_types::Duration>| {
            values::optional_duration(proto.as_ref(), &path.field(field))
        };
        let default = WatchdogConfig::default();
        let mut kill_timeout = duration("kill_timeout", kill_timeout)?.unwrap_or_default();
        let jitter = duration("max_kill_timeout_jitter", max_kill_timeout_jitter)?.unwrap_or_default();
        if !kill_timeout.is_zero() {
            // So that the proxies of a mesh that are stuck for one reason do not all go at once.
            kill_timeout += jitter.mul_f64(fastrand::f64());
        }
        Ok(WatchdogConfig {
            miss_timeout: duration("miss_timeout", miss_timeout)?.unwrap_or(default.miss_timeout),
            megamiss_timeout: duration("megamiss_timeout", megamiss_timeout)?.unwrap_or(default.megamiss_timeout),
            kill_timeout,
            multikill_timeout: duration("multikill_timeout", multikill_timeout)?.unwrap_or_default(),
            multikill_threshold: match multikill_threshold {
                Some(threshold) => percent::percent(threshold, &path.field("multikill_threshold"))?,
                None => 0.0,
            },
        })
    }
}

/// When a thread last came round, in milliseconds of the guard's clock.
#[derive(Debug, Default)]
pub struct Heartbeat(AtomicU64);

impl Heartbeat {
    /// Touches at every `interval` until it is dropped. For a task of the watched thread.
    pub async fn beat(self: Arc<Self>, start: Instant, interval: Duration) {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.touch(start.elapsed());
        }
    }

    fn touch(&self, now: Duration) {
        self.0.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    fn last(&self) -> Duration {
        Duration::from_millis(self.0.load(Relaxed))
    }
}

/// The threads of one kind: the main thread, or the workers.
struct Guard {
    config: WatchdogConfig,
    dogs: Vec<Dog>,
    /// `main_thread.` or `workers.`
    stats: StatBlock<WatchdogStats>,
}

struct Dog {
    name: String,
    heartbeat: Arc<Heartbeat>,
    stats: StatBlock<WatchdogStats>,
    /// The last touch that was missed, so that each miss counts once.
    missed: Option<Duration>,
    megamissed: Option<Duration>,
}

impl Guard {
    fn new(config: WatchdogConfig, group: &str, names: &[String], stats: &Stats) -> Self {
        let dog = |name: &String| Dog {
            name: name.clone(),
            heartbeat: Arc::default(),
            stats: stats.block(&format!("server.{name}")),
            missed: None,
            megamissed: None,
        };
        Guard { config, dogs: names.iter().map(dog).collect(), stats: stats.block(group) }
    }

    /// Counts what was missed. Gives the reason to end the process if there is one.
    fn look(&mut self, now: Duration) -> Option<String> {
        let Self { config, dogs, stats } = self;
        let needed = (config.multikill_threshold / 100.0 * dogs.len() as f64).ceil().max(2.0) as usize;
        let mut stuck = 0;
        for dog in dogs {
            let last = dog.heartbeat.last();
            let silent = now.saturating_sub(last);
            let counts = [
                (config.miss_timeout, &mut dog.missed, WatchdogStats::WATCHDOG_MISS),
                (config.megamiss_timeout, &mut dog.megamissed, WatchdogStats::WATCHDOG_MEGA_MISS),
            ];
            for (timeout, told, counter) in counts {
                if silent > timeout && *told != Some(last) {
                    *told = Some(last);
                    stats.inc(counter);
                    dog.stats.inc(counter);
                }
            }
            if !config.kill_timeout.is_zero() && silent > config.kill_timeout {
                return Some(format!("thread {} is stuck for {silent:?}", dog.name));
            }
            stuck += usize::from(!config.multikill_timeout.is_zero() && silent > config.multikill_timeout);
            if stuck >= needed {
                return Some(format!("{stuck} threads are stuck for more than {:?}", config.multikill_timeout));
            }
        }
        None
    }
}

/// Starts to watch: the calling thread, which must be within a `LocalSet`, and the workers, to which `hand_out` brings their
/// heartbeats with the clock and the interval at which to touch them.
///
/// # Errors
/// When the system gives no thread.
pub fn watch(
    config: WatchdogsConfig,
    workers: usize,
    stats: &Stats,
    hand_out: impl Fn(usize, Arc<Heartbeat>, Instant, Duration),
) -> io::Result<()> {
    let names: Vec<String> = (0..workers).map(|worker| format!("worker_{worker}")).collect();
    let main = Guard::new(config.main_thread, "main_thread", &["main_thread".to_owned()], stats);
    let of_workers = Guard::new(config.workers, "workers", &names, stats);
    let (start, interval) = (Instant::now(), config.interval());
    for dog in &main.dogs {
        tokio::task::spawn_local(Arc::clone(&dog.heartbeat).beat(start, interval));
    }
    for (worker, dog) in of_workers.dogs.iter().enumerate() {
        hand_out(worker, Arc::clone(&dog.heartbeat), start, interval);
    }
    let mut guards = [main, of_workers];
    thread::Builder::new().name("guarddog".to_owned()).stack_size(64 << 10).spawn(move || {
        loop {
            #[expect(clippy::disallowed_methods, reason = "a thread of its own, which serves nobody")]
            thread::sleep(interval);
            // Threads end by and by when the process does; they are not missed.
            guards.iter_mut().for_each(|guard| guard.dogs.retain(|dog| Arc::strong_count(&dog.heartbeat) > 1));
            if guards.iter().all(|guard| guard.dogs.is_empty()) {
                return;
            }
            let now = start.elapsed();
            if let Some(why) = guards.iter_mut().find_map(|guard| guard.look(now)) {
                tracing::error!("watchdog: {why}");
                std::process::abort();
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn guard(config: WatchdogConfig, threads: usize) -> (Guard, Stats) {
        let stats = Stats::new(0);
        let names: Vec<_> = (0..threads).map(|i| format!("worker_{i}")).collect();
        (Guard::new(config, "workers", &names, &stats), stats)
    }

    fn misses(stats: &Stats, scope: &str) -> [u64; 2] {
        let block = stats.block::<WatchdogStats>(scope);
        [WatchdogStats::WATCHDOG_MISS, WatchdogStats::WATCHDOG_MEGA_MISS].map(|counter| block.read(counter))
    }

    #[test]
    fn a_silence_counts_once_and_a_longer_one_twice() {
        let (mut guard, stats) = guard(WatchdogConfig::default(), 2);
        guard.dogs[0].heartbeat.touch(SECOND);
        guard.dogs[1].heartbeat.touch(SECOND);
        assert_eq!(guard.look(SECOND + Duration::from_millis(200)), None);
        assert_eq!(misses(&stats, "workers"), [0, 0]);
        guard.dogs[1].heartbeat.touch(SECOND + Duration::from_millis(100));
        guard.look(SECOND + Duration::from_millis(250));
        guard.look(SECOND + Duration::from_millis(300));
        assert_eq!(misses(&stats, "workers"), [1, 0]);
        guard.dogs[1].heartbeat.touch(3 * SECOND);
        guard.look(3 * SECOND);
        assert_eq!(misses(&stats, "server.worker_0"), [1, 1]);
        assert_eq!(misses(&stats, "server.worker_1"), [0, 0]);
        guard.dogs[0].heartbeat.touch(3 * SECOND);
        guard.dogs[1].heartbeat.touch(4 * SECOND);
        guard.look(4 * SECOND);
        assert_eq!(misses(&stats, "workers"), [2, 1], "a new silence counts anew");
    }

    #[test]
    fn one_thread_is_enough_to_kill_and_many_for_a_multikill() {
        let (mut one, _) = guard(WatchdogConfig { kill_timeout: 5 * SECOND, ..WatchdogConfig::default() }, 3);
        assert_eq!(one.look(5 * SECOND), None);
        assert!(one.look(6 * SECOND).is_some_and(|why| why.contains("worker_0")));

        let config =
            WatchdogConfig { multikill_timeout: 5 * SECOND, multikill_threshold: 60.0, ..WatchdogConfig::default() };
        let (mut many, _) = guard(config, 4);
        many.dogs[0].heartbeat.touch(9 * SECOND);
        many.dogs[1].heartbeat.touch(9 * SECOND);
        assert_eq!(many.look(10 * SECOND), None, "two of the three that are needed");
        assert!(many.look(20 * SECOND).is_some());
        let (mut two, _) = guard(WatchdogConfig { multikill_threshold: 0.0, ..config }, 4);
        two.dogs[0].heartbeat.touch(9 * SECOND);
        two.dogs[1].heartbeat.touch(9 * SECOND);
        two.dogs[2].heartbeat.touch(9 * SECOND);
        assert_eq!(two.look(10 * SECOND), None, "one is not many");
    }

    #[test]
    fn without_timeouts_nothing_is_killed() {
        let (mut guard, stats) = guard(WatchdogConfig::default(), 2);
        assert_eq!(guard.look(1000 * SECOND), None);
        assert_eq!(misses(&stats, "workers"), [2, 2]);
    }

    #[test]
    fn actions_are_refused_and_jitter_only_adds() {
        let action = pb::watchdog::WatchdogAction::default();
        let refused = pb::Watchdog { actions: vec![action], ..pb::Watchdog::default() };
        let proto = pb::Watchdogs { worker_watchdog: Some(refused), ..pb::Watchdogs::default() };
        let why = WatchdogsConfig::build(&proto, &Path::root("w")).unwrap_err();
        assert_eq!(why.path, "w.worker_watchdog.actions");
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let proto =
            pb::Watchdog { kill_timeout: seconds(5), max_kill_timeout_jitter: seconds(2), ..pb::Watchdog::default() };
        let built = WatchdogConfig::build(&proto, &Path::root("w")).unwrap();
        assert!((5 * SECOND..=7 * SECOND).contains(&built.kill_timeout));
        let config = WatchdogsConfig { workers: built, ..WatchdogsConfig::default() };
        assert_eq!(config.interval(), Duration::from_millis(100));
    }
}
