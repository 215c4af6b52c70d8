//! The task of a downstream connection: drives `h2`, accepts streams, and decides when the connection ends.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use tokio::time::{Instant, Sleep};

use super::stream;
use crate::http::CodecService;
use crate::http::http2::guard::{Guard, Wire};
use crate::http::http2::keepalive::{Action, KeepaliveTimer};
use crate::http::http2::send::{Chunk, SendBudget};
use crate::http::http2::settings::{ServerSettings, deadline, jittered};
use crate::http::http2::stats::Http2Stats;
use crate::server::drain::{Drain, DrainState};

/// A connection whose socket has taken nothing for so long while something waited is given up.
const WRITE_STALL: Duration = Duration::from_secs(300);
/// How long a connection that ends at once may take to write its GOAWAY.
const ABRUPT_LIMIT: Duration = Duration::from_secs(1);
/// Octets of request heads that the streams of one connection may hold in memory; more streams are refused.
const HEADS_LIMIT: usize = 4 << 20;

/// What the streams of a connection share with its task.
pub struct ConnectionShared<S> {
    pub service: Rc<S>,
    pub settings: Rc<ServerSettings>,
    pub wire: Wire,
    pub budget: Rc<SendBudget>,
    pub is_tls: bool,
    pub active: Cell<usize>,
    pub head_bytes: Cell<usize>,
    /// When the last stream ended; only meaningful while none is active.
    pub idle_since: Cell<Instant>,
    /// A reply asked for the end of the connection.
    pub close_requested: Cell<bool>,
    /// We end the connection at once, whatever its streams still do.
    pub is_closing: Cell<bool>,
}

impl<S: CodecService> ConnectionShared<S> {
    pub fn new(service: Rc<S>, settings: Rc<ServerSettings>, wire: Wire) -> Self {
        ConnectionShared {
            is_tls: service.connection().tls.get().is_some(),
            service,
            budget: Rc::new(SendBudget::new(settings.stats.clone())),
            settings,
            wire,
            active: Cell::new(0),
            head_bytes: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            close_requested: Cell::new(false),
            is_closing: Cell::new(false),
        }
    }

    pub fn record_bytes(&self) {
        let connection = self.service.connection();
        connection.bytes_received.set(self.wire.bytes_received());
        connection.bytes_sent.set(self.wire.bytes_sent());
    }
}

/// How far the end of the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Not,
    /// The first GOAWAY is out; streams are still accepted. At this instant the last one is due.
    Announced(Instant),
    /// `h2` sends the last GOAWAY when the peer has answered a PING, and closes when no stream is left. If that answer has
    /// not come by this instant, it is not waited for.
    Graceful(Instant),
    /// GOAWAY with an error or the end of draining; the socket closes at this instant at the latest.
    Abrupt(Instant),
}

pub struct Connection<S: CodecService> {
    h2: h2::server::Connection<Guard, Chunk>,
    shared: Rc<ConnectionShared<S>>,
    drain: Drain,
    draining: Pin<Box<dyn Future<Output = DrainState>>>,
    ending: Ending,
    accepted: u32,
    duration_end: Option<Instant>,
    drain_timeout: Duration,
    keepalive: Option<KeepaliveTimer>,
    timer: Option<Pin<Box<Sleep>>>,
    ended_by_us: bool,
}

impl<S: CodecService> Connection<S> {
    pub fn new(mut h2: h2::server::Connection<Guard, Chunk>, shared: Rc<ConnectionShared<S>>, drain: Drain) -> Self {
        let now = Instant::now();
        let settings = &shared.settings;
        let keepalive = settings.options.connection_keepalive;
        let keepalive = keepalive.and_then(|config| Some(KeepaliveTimer::new(config, h2.ping_pong()?, now)));
        Connection {
            keepalive,
            duration_end: settings
                .max_connection_duration
                .map(|most| deadline(now, jittered(most, settings.max_connection_duration_jitter, fastrand::f64()))),
            drain_timeout: jittered(settings.drain_timeout, settings.drain_timeout_jitter, fastrand::f64()),
            timer: None,
            draining: Box::pin(next_drain_state(drain.clone(), DrainState::Draining)),
            drain,
            ending: Ending::Not,
            accepted: 0,
            ended_by_us: false,
            h2,
            shared,
        }
    }

    /// Until the connection has ended; true if it was our decision, so that the peer should be let read why.
    pub async fn run(mut self) -> bool {
        poll_fn(|cx| self.poll(cx)).await;
        self.ended_by_us
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.wire.begin();
        self.poll_drain(cx);
        if self.shared.close_requested.take() {
            self.end_gracefully();
        }
        loop {
            let polled = self.poll_h2(cx);
            let flushed = self.shared.wire.poll_flush(cx);
            if polled.is_ready() || matches!(flushed, Poll::Ready(Err(_))) {
                return Poll::Ready(());
            }
            if let (Some(violation), false) = (self.shared.wire.violation(), self.is_abrupt()) {
                let details = violation.details();
                *self.shared.service.connection().local_close_reason.borrow_mut() = Some(details.into());
                self.end_abruptly(violation.reason());
                continue;
            }
            if let Some(keepalive) = &mut self.keepalive {
                keepalive.poll_pong(cx, Instant::now());
            }
            match self.poll_timer(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Ready when the connection is over.
    fn poll_h2(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.h2.poll_accept(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Ready(Some(Err(error))) => {
                    // h2 has written its GOAWAY if the peer broke the protocol.
                    self.ended_by_us |= error.is_library();
                    if error.is_library() {
                        self.shared.settings.stats.inc(Http2Stats::RX_MESSAGING_ERROR);
                    }
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Ok((request, respond)))) => self.accept(request, respond),
            }
        }
    }

    fn accept(&mut self, request: http::Request<RecvStream>, mut respond: SendResponse<Chunk>) {
        self.accepted = self.accepted.saturating_add(1);
        let most = self.shared.settings.max_requests_per_connection;
        if most.is_some_and(|most| self.accepted >= most) {
            self.end_gracefully();
        }
        if self.is_abrupt() || self.shared.head_bytes.get() > HEADS_LIMIT {
            self.shared.settings.stats.inc(Http2Stats::STREAM_REFUSED_ERRORS);
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        stream::start(&self.shared, request, respond);
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(state) = self.draining.as_mut().poll(cx) {
            if state == DrainState::Closing {
                self.draining = Box::pin(std::future::pending());
                self.end_abruptly(Reason::NO_ERROR);
                return;
            }
            self.draining = Box::pin(next_drain_state(self.drain.clone(), DrainState::Closing));
            self.end_gracefully();
        }
    }

    fn end_gracefully(&mut self) {
        if self.ending == Ending::Not {
            self.ended_by_us = true;
            self.ending = Ending::Announced(deadline(Instant::now(), self.drain_timeout));
            self.shared.wire.announce_end();
        }
    }

    fn end_abruptly(&mut self, reason: Reason) {
        if !self.is_abrupt() {
            self.ended_by_us = true;
            self.ending = Ending::Abrupt(Instant::now() + ABRUPT_LIMIT);
            self.shared.is_closing.set(true);
            self.h2.abrupt_shutdown(reason);
        }
    }

    fn is_abrupt(&self) -> bool {
        matches!(self.ending, Ending::Abrupt(_))
    }

    /// Acts on deadlines that have passed and sees to it that the next one wakes this task. Ready with true when `h2` must
    /// be polled again, with false when the connection is over.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            let now = Instant::now();
            if let Some(again) = self.act(now) {
                return Poll::Ready(again);
            }
            let Some(next) = self.next_deadline(now) else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            // One that fires early only looks again; moving it at each wake would cost more.
            if timer.deadline() > next || timer.is_elapsed() {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Acts on one deadline that has passed, if any has.
    fn act(&mut self, now: Instant) -> Option<bool> {
        let is_idle = self.shared.active.get() == 0;
        match self.ending {
            Ending::Abrupt(limit) if now >= limit => return Some(false),
            Ending::Announced(at) if now >= at => {
                self.ending = Ending::Graceful(deadline(now, self.drain_timeout));
                self.h2.graceful_shutdown();
                return Some(true);
            }
            Ending::Graceful(limit) if now >= limit && is_idle => {
                self.end_abruptly(Reason::NO_ERROR);
                return Some(true);
            }
            _ => {}
        }
        if self.shared.wire.blocked_since().is_some_and(|since| now >= since + WRITE_STALL) {
            self.shared.settings.stats.inc(Http2Stats::TX_FLUSH_TIMEOUT);
            return Some(false);
        }
        if self.ending == Ending::Not {
            let idle_end = self.idle_end();
            if self.duration_end.is_some_and(|end| now >= end) || (is_idle && idle_end.is_some_and(|end| now >= end)) {
                self.end_gracefully();
                return Some(true);
            }
        }
        match self.keepalive.as_mut()?.act(now, self.shared.wire.last_read())? {
            Action::Sent => Some(true),
            Action::TimedOut => {
                self.shared.settings.stats.inc(Http2Stats::KEEPALIVE_TIMEOUT);
                *self.shared.service.connection().local_close_reason.borrow_mut() = Some("http2_ping_timeout".into());
                Some(false)
            }
        }
    }

    fn idle_end(&self) -> Option<Instant> {
        self.shared.settings.idle_timeout.map(|timeout| deadline(self.shared.idle_since.get(), timeout))
    }

    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let is_idle = self.shared.active.get() == 0;
        let ending = match self.ending {
            Ending::Announced(at) => Some(at),
            Ending::Abrupt(limit) => Some(limit),
            Ending::Graceful(limit) if limit > now => Some(limit),
            _ => None,
        };
        let (idle, duration) = match self.ending {
            Ending::Not if is_idle => (self.idle_end(), self.duration_end),
            // A stream may end, and the connection become idle, without waking this task.
            Ending::Not => (self.shared.settings.idle_timeout.map(|t| deadline(now, t)), self.duration_end),
            _ => (None, None),
        };
        let ping = self.keepalive.as_ref().and_then(KeepaliveTimer::deadline);
        let stall = self.shared.wire.blocked_since().map(|since| since + WRITE_STALL);
        [ending, idle, duration, ping, stall].into_iter().flatten().min()
    }
}

async fn next_drain_state(mut drain: Drain, state: DrainState) -> DrainState {
    drain.reached(state).await;
    // A process that is told to close at once skips the state in between.
    drain.state().max(state)
}
