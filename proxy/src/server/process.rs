//! The process from start to end: its state, what starts when, and how it ends.
//!
//! ```text
//! PRE_INITIALIZING --run--> INITIALIZING --init manager ready, workers started--> LIVE --signal--> DRAINING --> exit
//! ```
//!
//! SIGTERM and SIGINT: stop accepting, tell connections to end, exit when the last one has, at the latest after
//! `--drain-time-s`. A second one, and `/quitquitquit`, exit at once. SIGHUP and SIGUSR1 reopen the logs. A worker that ends
//! without being told to, by a panic or a broken socket, ends the process with an error: half a proxy serves nobody.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::drain::DrainState;
use super::init::InitManager;
use super::listener_manager::ListenerManager;
use super::watchdog::WatchdogsConfig;
use super::worker::Event;
use crate::config::BuildCx;
use crate::stats::StatBlock;
use crate::stats::names::{
    OverloadStats, ResetHighMemoryStreamStats, RouterStats, ServerStats, ThreadLocalClusterManagerStats,
};
use crate::sys;

/// The workers take longer than this to stop accepting only when they are stuck.
const STOPPING_TIME: Duration = Duration::from_secs(1);
/// What is left after the drain time gets so long to notice it.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// `envoy.admin.v3.ServerInfo.State`; the numbers are those of the gauge `server.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    Live = 0,
    Draining = 1,
    PreInitializing = 2,
    Initializing = 3,
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerState::Live => "LIVE",
            ServerState::Draining => "DRAINING",
            ServerState::PreInitializing => "PRE_INITIALIZING",
            ServerState::Initializing => "INITIALIZING",
        })
    }
}

/// How `/drain_listeners` is asked.
#[derive(Debug, Clone, Copy, Default)]
pub struct DrainListeners {
    pub inbound_only: bool,
    /// Tell connections to end first, and stop accepting after the drain time.
    pub graceful: bool,
    /// Tell connections to end, and never stop accepting.
    pub skip_exit: bool,
}

/// The process, on its control thread. The admin interface calls its methods.
pub struct Server {
    pub cx: BuildCx,
    pub listeners: Rc<ListenerManager>,
    pub init: Rc<InitManager>,
    pub start: Instant,
    stats: StatBlock<ServerStats>,
    /// What nothing counts in here, kept because it is always there in Envoy.
    _unused: Unused,
    state: Cell<ServerState>,
    health_failed: Cell<bool>,
    graceful: Cell<bool>,
    /// How threads are watched; read when the workers start.
    pub watchdogs: Cell<WatchdogsConfig>,
    quit: Notify,
    reopen: RefCell<Vec<Box<dyn Fn()>>>,
}

/// Blocks that are shown and never written: asynchronous requests of the control plane's own client, clusters made at first
/// use, and overload actions are not here.
struct Unused {
    _async_client: StatBlock<RouterStats>,
    _overload: StatBlock<OverloadStats>,
    _reset_streams: StatBlock<ResetHighMemoryStreamStats>,
    _inflated: Vec<StatBlock<ThreadLocalClusterManagerStats>>,
}

impl Unused {
    fn new(cx: &BuildCx) -> Self {
        let workers = (0..cx.options.concurrency).map(|worker| format!("worker_{worker}"));
        let threads = std::iter::once("main_thread".to_owned()).chain(workers);
        Unused {
            _async_client: cx.stats.block("http.async-client"),
            _overload: cx.stats.block("overload"),
            _reset_streams: cx.stats.block("envoy.overload_actions.reset_high_memory_stream"),
            _inflated: threads
                .map(|thread| cx.stats.block(&format!("thread_local_cluster_manager.{thread}")))
                .collect(),
        }
    }
}

/// What `Server::run` waits for.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: Signal,
}

/// Why the process ends at all.
enum End {
    /// Politely: SIGTERM, SIGINT.
    Drain,
    Now,
    Failed(String),
}

impl Server {
    pub fn new(cx: BuildCx) -> Rc<Self> {
        let stats = cx.stats.block::<ServerStats>("server");
        for gauge in [
            ServerStats::COMPILATION_SETTINGS_FIPS_MODE,
            ServerStats::HOT_RESTART_EPOCH,
            ServerStats::PARENT_CONNECTIONS,
            ServerStats::SECONDS_UNTIL_FIRST_OCSP_RESPONSE_EXPIRING,
            ServerStats::VERSION,
        ] {
            stats.set(gauge, 0);
        }
        stats.set(ServerStats::CONCURRENCY, cx.options.concurrency as u64);
        stats.set(ServerStats::STATE, ServerState::PreInitializing as u64);
        Rc::new(Server {
            listeners: ListenerManager::new(&cx),
            init: Rc::default(),
            start: Instant::now(),
            stats,
            _unused: Unused::new(&cx),
            state: Cell::new(ServerState::PreInitializing),
            health_failed: Cell::new(false),
            graceful: Cell::new(false),
            watchdogs: Cell::default(),
            quit: Notify::new(),
            reopen: RefCell::default(),
            cx,
        })
    }

    /// What `/ready` and `/server_info` say: a live process that fails its health check drains.
    pub fn state(&self) -> ServerState {
        match self.state.get() {
            ServerState::Live if self.health_failed.get() => ServerState::Draining,
            state => state,
        }
    }

    /// Whether connections are accepted, or were.
    pub fn is_started(&self) -> bool {
        matches!(self.state.get(), ServerState::Live | ServerState::Draining)
    }

    fn set_state(&self, state: ServerState) {
        self.state.set(state);
        self.refresh_stats();
    }

    /// Brings the gauges of `server.` up to date: to be called before they are read.
    pub fn refresh_stats(&self) {
        let state = self.state();
        self.stats.set(ServerStats::STATE, state as u64);
        self.stats.set(ServerStats::LIVE, u64::from(state == ServerState::Live));
        self.stats.set(ServerStats::UPTIME, self.start.elapsed().as_secs());
        self.stats.set(ServerStats::TOTAL_CONNECTIONS, self.cx.connections.open());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
        let expiring = self.cx.secrets.days_until_first_cert_expiring(now).unwrap_or(u32::MAX);
        self.stats.set(ServerStats::DAYS_UNTIL_FIRST_CERT_EXPIRING, expiring.into());
        self.stats.set(ServerStats::STATS_RECENT_LOOKUPS, self.cx.stats.lookups().0);
        let memory = crate::admin::read_memory();
        self.stats.set(ServerStats::MEMORY_ALLOCATED, memory.allocated);
        self.stats.set(ServerStats::MEMORY_HEAP_SIZE, memory.heap_size);
        self.stats.set(ServerStats::MEMORY_PHYSICAL_SIZE, memory.total_physical_bytes);
    }

    /// `stats_server_version_override`; without it `server.version` is 0, since there is no revision that it could tell.
    pub fn set_version(&self, version: u64) {
        self.stats.set(ServerStats::VERSION, version);
    }

    /// `/healthcheck/fail` (true) and `/healthcheck/ok`.
    pub fn health_check(&self, failed: bool) {
        self.health_failed.set(failed);
        self.listeners.health_check(failed);
        self.refresh_stats();
    }

    /// `/drain_listeners`.
    pub fn drain_listeners(self: &Rc<Self>, how: DrainListeners) {
        let DrainListeners { inbound_only, graceful, skip_exit } = how;
        if !graceful && !skip_exit {
            return self.listeners.stop(inbound_only);
        }
        // A sequence that runs is not begun again.
        if self.graceful.replace(true) {
            return;
        }
        self.listeners.drain(inbound_only);
        if !skip_exit {
            let (listeners, drain_time) = (self.listeners.clone(), self.cx.options.drain_time);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(drain_time).await;
                listeners.stop(inbound_only);
            });
        }
    }

    /// `/quitquitquit`: exit now.
    pub fn quit(&self) {
        self.quit.notify_one();
    }

    /// What SIGHUP, SIGUSR1 and `/reopen_logs` call.
    pub fn on_reopen_logs(&self, hook: impl Fn() + 'static) {
        self.reopen.borrow_mut().push(Box::new(hook));
    }

    pub fn reopen_logs(&self) {
        self.reopen.borrow().iter().for_each(|hook| hook());
    }

    /// Runs until the process is to end. Must be called inside a `LocalSet`.
    ///
    /// # Errors
    /// When it cannot start, or cannot go on; the exit code is then not zero.
    pub async fn run(self: &Rc<Self>) -> Result<(), String> {
        let mut signals = Signals::new().map_err(|error| format!("cannot handle signals: {error}"))?;
        self.set_state(ServerState::Initializing);
        let before_live = tokio::select! {
            () = self.init.ready() => None,
            end = self.end(&mut signals, None) => Some(end),
        };
        if let Some(end) = before_live {
            // Nothing is accepted yet, so there is nothing to drain.
            return if let End::Failed(why) = end { Err(why) } else { Ok(()) };
        }
        let mut events = self.listeners.start().map_err(|error| format!("cannot start the workers: {error}"))?;
        self.listeners.watch(self.watchdogs.get()).map_err(|error| format!("cannot start the watchdog: {error}"))?;
        let took = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.stats.record(ServerStats::INITIALIZATION_TIME_MS, took);
        self.set_state(ServerState::Live);
        tracing::info!("all dependencies initialized. starting workers");
        let mut end = self.end(&mut signals, Some(&mut events)).await;
        if let End::Drain = end {
            tracing::info!("draining, at most {:?}", self.cx.options.drain_time);
            self.set_state(ServerState::Draining);
            end = tokio::select! {
                () = self.drain() => End::Now,
                again = self.end(&mut signals, Some(&mut events)) => match again {
                    End::Drain => End::Now,
                    other => other,
                },
            };
        }
        match end {
            End::Failed(why) => Err(why),
            _ => {
                tracing::info!("exiting");
                self.listeners.exit();
                Ok(())
            }
        }
    }

    async fn drain(&self) {
        self.listeners.stop(false);
        // What a client believes connected counts as connected.
        let _ = timeout(STOPPING_TIME, self.listeners.stopped()).await;
        self.listeners.set_all(DrainState::Stopping);
        if timeout(self.cx.options.drain_time, self.cx.connections.none_left()).await.is_err() {
            tracing::warn!("{} connections are left after the drain time", self.cx.connections.open());
            self.listeners.set_all(DrainState::Closing);
            let _ = timeout(CLOSING_TIME, self.cx.connections.none_left()).await;
        }
    }

    /// The next reason to end.
    async fn end(&self, signals: &mut Signals, mut events: Option<&mut UnboundedReceiver<Event>>) -> End {
        loop {
            let event = async {
                match events.as_mut() {
                    Some(events) => events.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = signals.terminate.recv() => return End::Drain,
                _ = signals.interrupt.recv() => return End::Drain,
                _ = signals.hangup.recv() => self.reopen_logs(),
                _ = signals.user.recv() => self.reopen_logs(),
                () = self.quit.notified() => return End::Now,
                event = event => return match event {
                    Some(Event::Fatal(why)) => End::Failed(why),
                    Some(Event::Exited(worker)) => End::Failed(format!("worker {worker} ended")),
                    None => End::Failed("all workers ended".to_owned()),
                },
            }
        }
    }
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Once, before anything else: panics go to the log, memory is counted in small pages, and the process may have as many
/// descriptors as it is allowed.
pub fn prepare() {
    if let Err(error) = sys::refuse_huge_pages() {
        tracing::debug!("huge pages stay: {error}");
    }
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        tracing::error!("panic in thread {}: {panic}", thread.name().unwrap_or("?"));
    }));
    match sys::raise_file_limit() {
        Ok(limit) => tracing::debug!("at most {} open files", limit.soft),
        Err(error) => tracing::warn!("cannot raise the limit of open files: {error}"),
    }
}
