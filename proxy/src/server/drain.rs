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
        Drain(self.0.subscribe())
    }
}

/// The side that is told. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Drain(watch::Receiver<DrainState>);

impl Drain {
    pub fn state(&self) -> DrainState {
        *self.0.borrow()
    }

    /// Resolves once the state is at least `state`. Cancel safe. Never resolves if the source is gone before that.
    pub async fn reached(&mut self, state: DrainState) {
        if self.0.wait_for(|s| *s >= state).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
