//! `connection_keepalive`: PINGs that notice a peer which is gone without saying so.

use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::Instant;

use super::settings::{Keepalive, deadline};

/// The PINGs of one connection. At most one is out.
pub struct KeepaliveTimer {
    config: Keepalive,
    ping_pong: PingPong,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No PING is due before somebody asks for one.
    Quiet,
    Due(Instant),
    /// Sent; to be answered by then.
    Out(Instant),
}

/// What a deadline that passed asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A PING was handed to `h2`.
    Sent,
    /// The peer is gone.
    TimedOut,
}

impl KeepaliveTimer {
    pub fn new(config: Keepalive, ping_pong: PingPong, now: Instant) -> Self {
        let mut timer = KeepaliveTimer { config, ping_pong, state: State::Quiet };
        timer.schedule(now);
        timer
    }

    fn schedule(&mut self, now: Instant) {
        let next = self.config.next_interval(fastrand::f64());
        self.state = next.map_or(State::Quiet, |after| State::Due(deadline(now, after)));
    }

    /// A request is about to be sent on a connection that was idle for `idle`.
    pub fn before_request(&mut self, idle: Duration, now: Instant) {
        if self.config.connection_idle_interval.is_some_and(|least| idle >= least)
            && !matches!(self.state, State::Out(_))
        {
            self.state = State::Due(now);
        }
    }

    /// Takes note of an answer. Wakes the task when one comes.
    pub fn poll_pong(&mut self, cx: &mut Context<'_>, now: Instant) {
        if !matches!(self.state, State::Out(_)) {
            return;
        }
        match self.ping_pong.poll_pong(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(_)) => self.schedule(now),
            // The connection is over, which its driver sees.
            Poll::Ready(Err(_)) => self.state = State::Quiet,
        }
    }

    /// Acts on a deadline that has passed. `last_read` is when the peer last sent anything: its answer may be stuck behind a
    /// long message, so any byte counts as a sign of life.
    pub fn act(&mut self, now: Instant, last_read: Instant) -> Option<Action> {
        match self.state {
            State::Due(at) if now >= at => {
                if self.ping_pong.send_ping(Ping::opaque()).is_err() {
                    self.state = State::Quiet;
                    return None;
                }
                self.state = State::Out(deadline(now, self.config.timeout));
                Some(Action::Sent)
            }
            State::Out(at) => {
                let at = at.max(deadline(last_read, self.config.timeout));
                self.state = State::Out(at);
                (now >= at).then_some(Action::TimedOut)
            }
            State::Due(_) | State::Quiet => None,
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Quiet => None,
            State::Due(at) | State::Out(at) => Some(at),
        }
    }
}
