//! The time limits of one stream, kept as numbers and watched by one timer.
//!
//! Arming a timer for each limit of each request costs more than routing it. Here a limit is a cell; the timer sleeps to
//! the earliest, and is left alone when limits move further away: it wakes, finds nothing due and sleeps on.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// Which limit ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// `stream_idle_timeout`, or the route's `idle_timeout`.
    Idle,
    /// `request_timeout`: the request did not arrive whole in time.
    Request,
    /// `max_stream_duration` of the connection manager.
    MaxDuration,
    /// The route's `timeout`, counted from the end of the request.
    Route,
    /// `max_stream_duration` of the route.
    RouteMaxDuration,
}

/// What a moment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Limit(Expired),
    /// `access_log_flush_interval`: a line of the access log. Nothing ends.
    Log,
}

/// The limits. All are off until set.
pub struct Deadlines {
    idle_timeout: Cell<Option<Duration>>,
    last_activity: Cell<Instant>,
    request: Cell<Option<Instant>>,
    max_duration: Cell<Option<Instant>>,
    route_timeout: Cell<Option<Duration>>,
    route: Cell<Option<Instant>>,
    route_max_duration: Cell<Option<Instant>>,
    log: Cell<Option<Instant>>,
}

impl Deadlines {
    pub fn new(now: Instant) -> Self {
        Deadlines {
            idle_timeout: Cell::new(None),
            last_activity: Cell::new(now),
            request: Cell::new(None),
            max_duration: Cell::new(None),
            route_timeout: Cell::new(None),
            route: Cell::new(None),
            route_max_duration: Cell::new(None),
            log: Cell::new(None),
        }
    }

    pub fn set_idle(&self, timeout: Option<Duration>) {
        self.idle_timeout.set(timeout);
    }

    /// Something moved in either direction.
    pub fn touch(&self, now: Instant) {
        self.last_activity.set(now);
    }

    pub fn set_request(&self, at: Option<Instant>) {
        self.request.set(at);
    }

    pub fn set_max_duration(&self, at: Option<Instant>) {
        self.max_duration.set(at);
    }

    /// The route's timeout starts when the request is complete.
    pub fn set_route_timeout(&self, timeout: Option<Duration>) {
        self.route_timeout.set(timeout);
        self.route.set(None);
    }

    pub fn set_route_max_duration(&self, at: Option<Instant>) {
        self.route_max_duration.set(at);
    }

    /// When the next line of the access log is due.
    pub fn set_log(&self, at: Option<Instant>) {
        self.log.set(at);
    }

    /// The request has arrived whole.
    pub fn request_complete(&self, at: Instant) {
        self.request.set(None);
        if self.route.get().is_none()
            && let Some(timeout) = self.route_timeout.get()
        {
            self.route.set(at.checked_add(timeout));
        }
    }

    /// The earliest limit and which it is.
    pub fn next(&self) -> Option<(Instant, Due)> {
        let idle = self.idle_timeout.get().and_then(|timeout| self.last_activity.get().checked_add(timeout));
        [
            (self.route.get(), Expired::Route),
            (self.route_max_duration.get(), Expired::RouteMaxDuration),
            (self.request.get(), Expired::Request),
            (self.max_duration.get(), Expired::MaxDuration),
            (idle, Expired::Idle),
        ]
        .into_iter()
        .filter_map(|(at, which)| Some((at?, Due::Limit(which))))
        .chain(self.log.get().map(|at| (at, Due::Log)))
        .min_by_key(|(at, _)| *at)
    }
}

/// A timer that is moved only when it must fire earlier than it is armed for.
#[derive(Default)]
pub struct LazyTimer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl LazyTimer {
    /// `Ready` when the earliest of `deadlines` is due at `now`.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadlines: &Deadlines) -> Poll<Due> {
        loop {
            let Some((at, which)) = deadlines.next() else { return Poll::Pending };
            let at = tokio::time::Instant::from_std(at);
            let sleep = match &mut self.sleep {
                Some(sleep) => {
                    if sleep.deadline() > at || sleep.is_elapsed() {
                        sleep.as_mut().reset(at);
                    }
                    sleep
                }
                None => self.sleep.insert(Box::pin(tokio::time::sleep_until(at))),
            };
            match sleep.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) if sleep.deadline() >= at => return Poll::Ready(which),
                // Armed for an earlier limit that has moved: sleep on.
                Poll::Ready(()) => sleep.as_mut().reset(at),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_limit_comes_first_and_the_route_starts_with_the_end_of_the_request() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let limits = Deadlines::new(start);
        assert_eq!(limits.next(), None);
        limits.set_idle(Some(5 * second));
        assert_eq!(limits.next(), Some((start + 5 * second, Due::Limit(Expired::Idle))));
        limits.set_request(Some(start + 2 * second));
        assert_eq!(limits.next(), Some((start + 2 * second, Due::Limit(Expired::Request))));
        limits.set_route_timeout(Some(second));
        assert_eq!(
            limits.next(),
            Some((start + 2 * second, Due::Limit(Expired::Request))),
            "the request is not complete"
        );
        limits.request_complete(start + second);
        assert_eq!(limits.next(), Some((start + 2 * second, Due::Limit(Expired::Route))));
        limits.set_route_timeout(None);
        limits.touch(start + 3 * second);
        assert_eq!(limits.next(), Some((start + 8 * second, Due::Limit(Expired::Idle))));
        limits.set_log(Some(start + 4 * second));
        assert_eq!(limits.next(), Some((start + 4 * second, Due::Log)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_moves_away_does_not_fire_early() {
        let start = tokio::time::Instant::now().into_std();
        let limits = Deadlines::new(start);
        limits.set_idle(Some(Duration::from_secs(10)));
        let mut timer = LazyTimer::default();
        let first = std::future::poll_fn(|cx| Poll::Ready(timer.poll(cx, &limits).is_pending())).await;
        assert!(first);
        tokio::time::advance(Duration::from_secs(9)).await;
        limits.touch(tokio::time::Instant::now().into_std());
        let fired = std::future::poll_fn(|cx| timer.poll(cx, &limits)).await;
        assert_eq!(fired, Due::Limit(Expired::Idle));
        assert_eq!(tokio::time::Instant::now().into_std() - start, Duration::from_secs(19));
    }
}
