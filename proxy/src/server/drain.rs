//! Draining: telling connections to finish, without cutting a request.
//!
//! One [`DrainSource`] per listener; each of its connections holds a [`Drain`]. States only go forward, except that
//! `/healthcheck/ok` takes back `/healthcheck/fail`. With [`DrainSource::begin`] the connections are told one after the other,
//! spread evenly over a time (`--drain-strategy gradual`), so that their clients do not all come back at once.

use std::future::pending;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How far draining has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum DrainState {
    #[default]
    Running,
    /// New requests are answered, and the connection is told to end with it (`connection: close`; GOAWAY at once). An idle
    /// HTTP/1 connection stays open for one more request. (`/healthcheck/fail`, `/drain_listeners?graceful`)
    Draining,
    /// The process ends: as `Draining`, and idle connections are closed.
    Stopping,
    /// The time is up: close now.
    Closing,
}

/// What is published: the state, and for `Draining` since when and over which time connections are told.
#[derive(Debug, Clone, Copy, Default)]
struct Signal {
    state: DrainState,
    spread: Option<(Instant, Duration)>,
}

/// The side that decides.
#[derive(Debug)]
pub struct DrainSource(watch::Sender<Signal>);

impl Default for DrainSource {
    fn default() -> Self {
        DrainSource(watch::Sender::new(Signal::default()))
    }
}

impl DrainSource {
    /// All connections are told now.
    pub fn set(&self, state: DrainState) {
        self.0.send_replace(Signal { state, spread: None });
    }

    /// Begins to drain: each connection is told at its own random moment within `over` from now.
    pub fn begin(&self, over: Duration) {
        self.0.send_replace(Signal { state: DrainState::Draining, spread: Some((Instant::now(), over)) });
    }

    /// How far it has come for the last connection to be told.
    pub fn state(&self) -> DrainState {
        self.0.borrow().state
    }

    pub fn subscribe(&self) -> Drain {
        let signal = self.0.subscribe();
        let seen = *signal.borrow();
        Drain { signal, turn: fastrand::f64(), seen }
    }
}

/// The side that is told. Cheap to clone; a clone is told at the same moment.
#[derive(Debug, Clone)]
pub struct Drain {
    signal: watch::Receiver<Signal>,
    /// When this connection is told, as a part of the whole time.
    turn: f64,
    /// What the last call of `refresh` found.
    seen: Signal,
}

impl Drain {
    pub fn state(&self) -> DrainState {
        self.state_in(*self.signal.borrow())
    }

    /// The state, for every request: without writing to memory that other threads use, unless it changed since the last
    /// call.
    pub fn refresh(&mut self) -> DrainState {
        if self.has_news() {
            self.seen = *self.signal.borrow_and_update();
        }
        self.state_in(self.seen)
    }

    /// Whether something was published since the last [`refresh`](Self::refresh).
    pub fn has_news(&self) -> bool {
        self.signal.has_changed().unwrap_or(false)
    }

    /// Resolves when something other is published than the last call knew of: time to [`refresh`](Self::refresh). Cancel
    /// safe. Never resolves if the source is gone before that.
    pub async fn published(&mut self) {
        if self.signal.changed().await.is_err() {
            pending().await
        }
    }

    fn state_in(&self, signal: Signal) -> DrainState {
        match self.turn_of(signal) {
            Some(at) if Instant::now() < at => DrainState::Running,
            _ => signal.state,
        }
    }

    fn turn_of(&self, signal: Signal) -> Option<Instant> {
        signal.spread.map(|(start, over)| start + over.mul_f64(self.turn))
    }

    /// Resolves once the state is at least `state`. Cancel safe. Never resolves if the source is gone before that.
    pub async fn reached(&mut self, state: DrainState) {
        loop {
            let signal = match self.signal.wait_for(|signal| signal.state >= state).await {
                Ok(signal) => *signal,
                Err(_) => return pending().await,
            };
            let Some(at) = self.turn_of(signal) else { return };
            // The rest may be told while this one waits for its turn, or draining may be taken back.
            tokio::select! {
                () = tokio::time::sleep_until(at) => return,
                changed = self.signal.changed() => if changed.is_err() {
                    return pending().await;
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn everybody_is_told_at_once() {
        let source = DrainSource::default();
        let mut drain = source.subscribe();
        assert_eq!(drain.state(), DrainState::Running);
        assert!(drain.reached(DrainState::Draining).now_or_never().is_none());
        source.set(DrainState::Draining);
        assert_eq!(drain.state(), DrainState::Draining);
        assert!(drain.reached(DrainState::Draining).now_or_never().is_some());
        assert!(drain.reached(DrainState::Stopping).now_or_never().is_none());
        source.set(DrainState::Running);
        assert_eq!(drain.state(), DrainState::Running);
        source.set(DrainState::Closing);
        assert!(drain.reached(DrainState::Stopping).now_or_never().is_some());
    }

    #[test]
    fn refresh_sees_what_state_sees() {
        let source = DrainSource::default();
        let mut drain = source.subscribe();
        let mut other = drain.clone();
        assert!(other.published().now_or_never().is_none());
        for state in [DrainState::Draining, DrainState::Running, DrainState::Stopping, DrainState::Closing] {
            source.set(state);
            assert_eq!((drain.refresh(), drain.refresh()), (state, state));
            assert!(other.published().now_or_never().is_some());
            assert!(other.published().now_or_never().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn gradual_draining_is_spread_evenly() {
        let source = DrainSource::default();
        let drains: Vec<Drain> = (0..1000).map(|_| source.subscribe()).collect();
        let told = || drains.iter().filter(|d| d.state() == DrainState::Draining).count();
        source.begin(Duration::from_secs(100));
        for (after, about) in [(0, 0), (25, 250), (50, 500), (100, 1000)] {
            tokio::time::sleep_until(Instant::now() + Duration::from_secs(after) - tokio_elapsed(&source)).await;
            let told = told();
            assert!(told.abs_diff(about) < 100, "{told} after {after} s");
        }
        assert_eq!(told(), 1000);
    }

    fn tokio_elapsed(source: &DrainSource) -> Duration {
        source.0.borrow().spread.map_or(Duration::ZERO, |(start, _)| start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_its_turn_hears_of_the_end() {
        let source = DrainSource::default();
        let mut drain = Drain { turn: 0.5, ..source.subscribe() };
        source.begin(Duration::from_secs(100));
        let start = Instant::now();
        drain.reached(DrainState::Draining).await;
        assert_eq!(start.elapsed(), Duration::from_secs(50));
        let mut late = Drain { turn: 0.9, ..source.subscribe() };
        let (told, ()) = tokio::join!(
            async {
                late.reached(DrainState::Draining).await;
                start.elapsed()
            },
            async { source.set(DrainState::Stopping) }
        );
        assert_eq!(told, Duration::from_secs(50));
    }
}
