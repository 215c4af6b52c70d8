//! The task of an upstream connection: drives `h2`, watches for GOAWAY and SETTINGS, sends PINGs.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::PingPong;
use tokio::time::{Instant, Sleep};

use super::{ClientEvent, Shared};
use crate::http::http2::guard::Guard;
use crate::http::http2::keepalive::{Action, KeepaliveTimer};
use crate::http::http2::send::Chunk;
use crate::http::http2::settings::Keepalive;
use crate::http::http2::stats::Http2Stats;

/// A connection whose socket has taken nothing for so long while something waited is given up.
const WRITE_STALL: Duration = Duration::from_secs(300);

pub struct Driver {
    h2: h2::client::Connection<Guard, Chunk>,
    keepalive: Option<KeepaliveTimer>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Of the peer's SETTINGS frames, those taken note of.
    settings_seen: u32,
    shared: Rc<Shared>,
}

/// The end is announced however the driver ends, after `h2` has told the streams.
struct Announce(Rc<Shared>);

impl Drop for Announce {
    fn drop(&mut self) {
        self.0.closed.set(true);
        wake_all(&self.0);
        self.0.notify(ClientEvent::Closed);
    }
}

fn wake_all(shared: &Shared) {
    for waker in shared.waiting.take() {
        waker.wake();
    }
}

impl Driver {
    pub fn new(
        h2: h2::client::Connection<Guard, Chunk>,
        keepalive: Option<(Keepalive, PingPong)>,
        shared: Rc<Shared>,
    ) -> Self {
        let now = Instant::now();
        let keepalive = keepalive.map(|(config, ping_pong)| KeepaliveTimer::new(config, ping_pong, now));
        Driver { h2, keepalive, timer: None, settings_seen: 0, shared }
    }

    pub async fn run(self) {
        // Dropped after the driver.
        let _announce = Announce(Rc::clone(&self.shared));
        let mut driver = self;
        poll_fn(|cx| driver.poll(cx)).await;
        drop(driver);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.wire.begin();
        loop {
            if let (Some(idle), Some(keepalive)) = (self.shared.was_idle.take(), &mut self.keepalive) {
                keepalive.before_request(idle, Instant::now());
            }
            let polled = Pin::new(&mut self.h2).poll(cx);
            let flushed = self.shared.wire.poll_flush(cx);
            self.look_at_frames();
            if matches!(&polled, Poll::Ready(Err(error)) if error.is_library()) {
                self.shared.settings.stats.inc(Http2Stats::RX_MESSAGING_ERROR);
            }
            if polled.is_ready() || matches!(flushed, Poll::Ready(Err(_))) || self.shared.wire.violation().is_some() {
                return Poll::Ready(());
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

    fn look_at_frames(&mut self) {
        let (shared, seen) = (&self.shared, self.shared.wire.settings_applied());
        if seen != self.settings_seen {
            self.settings_seen = seen;
            shared.peer_max_streams.set(Some(self.h2.max_concurrent_send_streams()));
            wake_all(shared);
            shared.notify(ClientEvent::Capacity);
        }
        if shared.wire.goaway().is_some() && !shared.going_away.replace(true) {
            shared.notify(ClientEvent::GoAway);
        }
    }

    /// As that of a downstream connection.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            let now = Instant::now();
            if let Some(again) = self.act(now) {
                return Poll::Ready(again);
            }
            let ping = self.keepalive.as_ref().and_then(KeepaliveTimer::deadline);
            let stall = self.shared.wire.blocked_since().map(|since| since + WRITE_STALL);
            let Some(next) = [ping, stall].into_iter().flatten().min() else { return Poll::Pending };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            if timer.deadline() > next || timer.is_elapsed() {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn act(&mut self, now: Instant) -> Option<bool> {
        let stats = &self.shared.settings.stats;
        if self.shared.wire.blocked_since().is_some_and(|since| now >= since + WRITE_STALL) {
            stats.inc(Http2Stats::TX_FLUSH_TIMEOUT);
            return Some(false);
        }
        match self.keepalive.as_mut()?.act(now, self.shared.wire.last_read())? {
            Action::Sent => Some(true),
            Action::TimedOut => {
                stats.inc(Http2Stats::KEEPALIVE_TIMEOUT);
                Some(false)
            }
        }
    }
}
