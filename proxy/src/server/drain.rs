//! Draining: telling connections to finish, without cutting a request.
//!
//! One [`DrainSource`] per listener (and one for the process); each connection holds a [`Drain`]. States only go forward,
//! except that `/healthcheck/ok` takes back `/healthcheck/fail`.

use tokio::sync::watch;

/// How far draining has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum DrainState {
    #[default]
    Running,
    /// New requests are answered, and the connection is told to end (`connection: close`, GOAWAY); idle ones close.
    Draining,
    /// The time is up: close now.
    Closing,
}

/// The side that decides.
#[derive(Debug)]
pub struct DrainSource(watch::Sender<DrainState>);

impl Default for DrainSource {
    fn default() -> Self {
        DrainSource(watch::Sender::new(DrainState::Running))
    }
}

impl DrainSource {
    pub fn set(&self, state: DrainState) {
        self.0.send_replace(state);
    }

    pub fn state(&self) -> DrainState {
        *self.0.borrow()
    }

    pub fn subscribe(&self) -> Drain {
        let rx = self.0.subscribe();
        let seen = *rx.borrow();
        Drain { rx, seen }
    }
}

/// The side that is told. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain {
    rx: watch::Receiver<DrainState>,
    /// What the last look at `rx` found.
    seen: DrainState,
}

impl Drain {
    pub fn state(&self) -> DrainState {
        *self.rx.borrow()
    }

    /// The state, without writing to memory that other threads use unless it changed since the last call: for every
    /// request.
    pub fn refresh(&mut self) -> DrainState {
        if self.rx.has_changed().unwrap_or(false) {
            self.seen = *self.rx.borrow_and_update();
        }
        self.seen
    }

    /// Resolves when the state is not what the last call of this, of [`refresh`](Self::refresh) or of
    /// [`reached`](Self::reached) found. Cancel safe. Never resolves if the source is gone before that.
    pub async fn changed(&mut self) -> DrainState {
        if self.rx.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.seen = *self.rx.borrow_and_update();
        self.seen
    }

    /// Resolves once the state is at least `state`. Cancel safe. Never resolves if the source is gone before that.
    pub async fn reached(&mut self, state: DrainState) {
        match self.rx.wait_for(|s| *s >= state).await.map(|s| *s) {
            Ok(reached) => self.seen = reached,
            Err(_) => std::future::pending::<()>().await,
        }
    }
}
