use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::connect::{self, ConnectError};
use super::connection::{Connection, Lease, LeaseH1, LeaseH2, SharedH2};
use crate::cluster::{Cluster, Permit, Priority, WantedProtocol};
use crate::endpoint::Host;
use crate::http::ResetReason;
use crate::http::http1::{self, H1Client, IdleEnd};
use crate::http::http2::client::ClientEvent;
use crate::http::http2::{self, client};
use crate::stats::names::ClusterStats;
use crate::transport_socket::ConnectOptions;

/// Why there is no connection.
#[derive(Debug, Clone)]
pub enum LeaseError {
    /// A circuit breaker is full.
    Overflow,
    /// The connection could not be made.
    Connect { reason: ResetReason, transport_failure: Option<Cow<'static, str>> },
}

impl From<&ConnectError> for LeaseError {
    fn from(error: &ConnectError) -> Self {
        let reason = match error {
            ConnectError::Timeout => ResetReason::ConnectionTimeout,
            ConnectError::Local(_) => ResetReason::LocalConnectionFailure,
            ConnectError::Remote(_) | ConnectError::Transport(_) => ResetReason::RemoteConnectionFailure,
        };
        LeaseError::Connect { reason, transport_failure: error.transport_failure_reason() }
    }
}

/// Connections of one worker to one host with one set of handshake options.
pub struct HostPool {
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    options: ConnectOptions,
    wanted: WantedProtocol,
    priority: Priority,
    state: RefCell<State>,
    watcher: RefCell<Option<Waker>>,
    watcher_armed: Cell<bool>,
    retired: Cell<bool>,
    /// Made with the first connection of the codec, because the codec's stats come into being with them.
    http1: OnceCell<Arc<http1::ClientSettings>>,
    http2: OnceCell<Rc<http2::ClientSettings>>,
    this: Weak<HostPool>,
}

#[derive(Default)]
struct State {
    /// Last in, first out: the warmest connection serves, the others may age out.
    idle: Vec<Idle>,
    h2: Vec<Rc<SharedH2>>,
    waiters: VecDeque<Rc<Waiter>>,
    connecting: usize,
    /// Leased HTTP/1 connections.
    busy: usize,
}

struct Idle {
    client: H1Client,
    connection: Rc<Connection>,
    since: Instant,
}

#[derive(Default)]
struct Waiter {
    outcome: RefCell<Option<Result<Lease, LeaseError>>>,
    waker: RefCell<Option<Waker>>,
}

impl HostPool {
    pub fn new(
        cluster: Arc<Cluster>,
        host: Arc<Host>,
        options: ConnectOptions,
        wanted: WantedProtocol,
        priority: Priority,
    ) -> Rc<Self> {
        Rc::new_cyclic(|this| HostPool {
            host,
            options,
            wanted,
            priority,
            state: RefCell::default(),
            watcher: RefCell::default(),
            watcher_armed: Cell::new(false),
            retired: Cell::new(false),
            http1: OnceCell::new(),
            http2: OnceCell::new(),
            cluster,
            this: this.clone(),
        })
    }

    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub fn host(&self) -> &Host {
        &self.host
    }

    pub fn is_unused(&self) -> bool {
        let state = self.state.borrow();
        state.idle.is_empty()
            && state.h2.is_empty()
            && state.waiters.is_empty()
            && state.connecting == 0
            && state.busy == 0
    }

    /// The host is gone: idle connections close now, the others when they are given back.
    pub fn retire(&self) {
        self.retired.set(true);
        let (idle, h2) = {
            let mut state = self.state.borrow_mut();
            (std::mem::take(&mut state.idle), std::mem::take(&mut state.h2))
        };
        idle.iter().for_each(|idle| idle.connection.closed_by_us(false));
        drop(h2); // their drivers end when the last stream is done
    }

    /// See [`super::lease`].
    pub async fn lease(self: &Rc<Self>) -> Result<Lease, LeaseError> {
        if let Some(lease) = self.ready() {
            return Ok(lease);
        }
        let breaker = self.cluster.breaker(self.priority);
        let Some(_pending) = breaker.try_pending() else {
            self.cluster.stats.inc(ClusterStats::UPSTREAM_RQ_PENDING_OVERFLOW);
            return Err(LeaseError::Overflow);
        };
        self.cluster.stats.inc(ClusterStats::UPSTREAM_RQ_PENDING_TOTAL);
        let waiter = Rc::new(Waiter::default());
        self.state.borrow_mut().waiters.push_back(waiter.clone());
        let place = Place { pool: self, waiter };
        if !self.connect_if_needed() {
            return Err(LeaseError::Overflow);
        }
        poll_fn(|cx| match place.waiter.outcome.borrow_mut().take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                *place.waiter.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// A connection that can take a request now.
    fn ready(self: &Rc<Self>) -> Option<Lease> {
        if let Some(h2) = self.h2_with_room() {
            return Some(h2);
        }
        loop {
            let mut idle = self.state.borrow_mut().idle.pop()?;
            let mut cx = Context::from_waker(Waker::noop());
            if let Poll::Ready(end) = idle.client.poll_idle_closed(&mut cx) {
                self.ended_idle(&idle.connection, end);
                continue;
            }
            if idle.connection.expires().is_some_and(|at| at <= Instant::now()) {
                self.cluster.stats.inc(ClusterStats::UPSTREAM_CX_MAX_DURATION_REACHED);
                idle.connection.closed_by_us(false);
                continue;
            }
            self.state.borrow_mut().busy += 1;
            return Some(Lease::H1(LeaseH1::new(idle.client, idle.connection, self.clone())));
        }
    }

    /// An idle connection turned out to be of no use.
    fn ended_idle(&self, connection: &Connection, end: IdleEnd) {
        match end {
            IdleEnd::Closed => connection.closed_by_peer(false),
            IdleEnd::Unasked => {
                self.cluster.stats.inc(ClusterStats::UPSTREAM_CX_PROTOCOL_ERROR);
                connection.closed_by_us(false);
            }
        }
    }

    /// An HTTP/2 connection has room, takes no more, or is over.
    fn h2_changed(self: &Rc<Self>, event: ClientEvent) {
        if event == ClientEvent::GoAway {
            self.cluster.stats.inc(ClusterStats::UPSTREAM_CX_CLOSE_NOTIFY);
        }
        if event != ClientEvent::Capacity {
            let gone: Vec<_> = self.state.borrow_mut().h2.extract_if(.., |h2| h2.client.is_closing()).collect();
            for h2 in gone {
                let active = h2.client.active() > 0;
                h2.connection.closed_by_peer(active && event == ClientEvent::Closed);
            }
        }
        self.serve_waiters();
    }

    fn h2_with_room(self: &Rc<Self>) -> Option<Lease> {
        let state = self.state.borrow();
        if state.h2.is_empty() {
            return None;
        }
        let h2 = state.h2.iter().find(|h2| h2.is_usable() && h2.client.can_open())?;
        Some(Lease::H2(LeaseH2::new(h2.clone())))
    }

    /// Starts a connection unless those under way will serve all waiters. False when a circuit breaker forbids it and
    /// there is nothing to wait for.
    fn connect_if_needed(self: &Rc<Self>) -> bool {
        let (wanting, connecting, others) = {
            let state = self.state.borrow();
            (state.waiters.len(), state.connecting, state.busy + state.h2.len())
        };
        let capacity =
            if self.wanted == WantedProtocol::Http2 { connecting * self.streams_per_connection() } else { connecting };
        if capacity >= wanting {
            return true;
        }
        let breaker = self.cluster.breaker(self.priority);
        let Some(permit) = breaker.try_connection() else {
            self.cluster.stats.inc(ClusterStats::UPSTREAM_CX_OVERFLOW);
            if connecting + others > 0 {
                return true;
            }
            // Nothing of ours would ever free this waiter, and Envoy allows a pool its first connection.
            return self.start(breaker.force_connection());
        };
        self.start(permit)
    }

    fn start(self: &Rc<Self>, permit: Permit) -> bool {
        self.state.borrow_mut().connecting += 1;
        match self.wanted {
            WantedProtocol::Http1 => self.cluster.stats.inc(ClusterStats::UPSTREAM_CX_HTTP1_TOTAL),
            WantedProtocol::Http2 => self.cluster.stats.inc(ClusterStats::UPSTREAM_CX_HTTP2_TOTAL),
            // Known only after the handshake.
            WantedProtocol::Alpn => {}
        }
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            let outcome = connect::connect(&pool.cluster, &pool.host, &pool.options).await;
            pool.state.borrow_mut().connecting -= 1;
            match outcome {
                Ok(connected) => pool.adopt(connected, permit).await,
                Err(error) => pool.fail_waiters(&LeaseError::from(&error)),
            }
        });
        true
    }

    async fn adopt(self: &Rc<Self>, connected: connect::Connected, permit: Permit) {
        let http2 = match self.wanted {
            WantedProtocol::Http2 => true,
            WantedProtocol::Http1 => false,
            WantedProtocol::Alpn => connected.tls.as_ref().and_then(|tls| tls.alpn.as_deref()) == Some("h2"),
        };
        if self.wanted == WantedProtocol::Alpn {
            self.cluster.stats.inc(match http2 {
                true => ClusterStats::UPSTREAM_CX_HTTP2_TOTAL,
                false => ClusterStats::UPSTREAM_CX_HTTP1_TOTAL,
            });
        }
        if !http2 {
            let (io, connection) = Connection::new(connected, permit, &self.cluster, self.options.sni.clone());
            let settings = self.http1.get_or_init(|| Arc::new(self.cluster.http1_settings()));
            let client = H1Client::new(io, settings.clone());
            self.state.borrow_mut().busy += 1;
            self.release(client, connection);
            return;
        }
        let (io, connection) = Connection::new(connected, permit, &self.cluster, self.options.sni.clone());
        let settings = self.http2.get_or_init(|| Rc::new(self.cluster.http2_settings()));
        let (client, driver) = match client::connect(io, settings.clone()).await {
            Ok(made) => made,
            Err(error) => {
                connection.closed_by_peer(true);
                self.fail_waiters(&LeaseError::Connect { reason: error.reason, transport_failure: None });
                return;
            }
        };
        let pool = self.this.clone();
        client.observe(Rc::new(move |event| {
            if let Some(pool) = pool.upgrade() {
                pool.h2_changed(event);
            }
        }));
        tokio::task::spawn_local(driver);
        self.state.borrow_mut().h2.push(Rc::new(SharedH2::new(client, connection)));
        self.watch();
        self.serve_waiters();
    }

    /// Takes back a connection whose exchange ended cleanly: the longest waiter gets it, or it waits itself.
    pub fn release(self: &Rc<Self>, mut client: H1Client, connection: Rc<Connection>) {
        self.state.borrow_mut().busy -= 1;
        if connection.is_used_up() {
            self.cluster.stats.inc(ClusterStats::UPSTREAM_CX_MAX_REQUESTS);
            connection.closed_by_us(false);
            drop(client);
            self.connect_if_needed();
            return;
        }
        if let Some(waiter) = self.next_waiter() {
            self.state.borrow_mut().busy += 1;
            waiter.give(Ok(Lease::H1(LeaseH1::new(client, connection, self.clone()))));
            return;
        }
        if self.retired.get() {
            connection.closed_by_us(false);
            return;
        }
        if let Some(waker) = self.watcher.borrow().as_ref() {
            let mut cx = Context::from_waker(waker);
            if let Poll::Ready(end) = client.poll_idle_closed(&mut cx) {
                self.ended_idle(&connection, end);
                return;
            }
        }
        self.state.borrow_mut().idle.push(Idle { client, connection, since: Instant::now() });
        self.watch();
    }

    /// A leased connection is gone (reset, closed, upgraded): another may be made in its place.
    pub fn lost(self: &Rc<Self>) {
        self.state.borrow_mut().busy -= 1;
        self.connect_if_needed();
    }

    /// A stream of an HTTP/2 connection ended: its room may serve a waiter.
    pub fn serve_waiters(self: &Rc<Self>) {
        loop {
            if self.state.borrow().waiters.is_empty() {
                return;
            }
            let Some(lease) = self.h2_with_room() else {
                self.connect_if_needed();
                return;
            };
            match self.next_waiter() {
                Some(waiter) => waiter.give(Ok(lease)),
                None => return,
            }
        }
    }

    fn next_waiter(&self) -> Option<Rc<Waiter>> {
        self.state.borrow_mut().waiters.pop_front()
    }

    /// A failed connection fails everybody who waits, as in Envoy: callers decide whether to try another host.
    fn fail_waiters(&self, error: &LeaseError) {
        let waiters = std::mem::take(&mut self.state.borrow_mut().waiters);
        for waiter in &waiters {
            self.cluster.stats.inc(ClusterStats::UPSTREAM_RQ_PENDING_FAILURE_EJECT);
            waiter.give(Err(error.clone()));
        }
    }

    fn streams_per_connection(&self) -> usize {
        self.cluster.http.http2.max_concurrent_streams.max(1) as usize
    }

    /// Makes sure that somebody watches the idle connections and their age.
    fn watch(self: &Rc<Self>) {
        if self.watcher_armed.get() {
            return;
        }
        self.watcher_armed.set(true);
        let pool = self.this.clone();
        tokio::task::spawn_local(Watcher { pool, sleep: None });
    }

    /// Drops idle connections that the peer closed or that are too old; says when to look again.
    fn check_idle(&self, cx: &mut Context<'_>, now: Instant) -> Option<Instant> {
        let limit = self.cluster.http.idle_timeout;
        let (mut gone, mut ended) = (Vec::new(), Vec::new());
        let next = {
            let mut state = self.state.borrow_mut();
            let mut i = 0;
            while let Some(idle) = state.idle.get_mut(i) {
                let old = limit.is_some_and(|limit| now.saturating_duration_since(idle.since) >= limit);
                let expired = idle.connection.is_expired(now);
                let end = if old || expired { Poll::Pending } else { idle.client.poll_idle_closed(cx) };
                match end {
                    Poll::Pending if !old && !expired => i += 1,
                    Poll::Pending => gone.push((state.idle.remove(i), old)),
                    Poll::Ready(end) => ended.push((state.idle.remove(i), end)),
                }
            }
            state.idle.iter().filter_map(|idle| idle.due(limit)).min()
        };
        for (idle, old) in gone {
            self.cluster.stats.inc(match old {
                true => ClusterStats::UPSTREAM_CX_IDLE_TIMEOUT,
                false => ClusterStats::UPSTREAM_CX_MAX_DURATION_REACHED,
            });
            idle.connection.closed_by_us(false);
        }
        ended.iter().for_each(|(idle, end)| self.ended_idle(&idle.connection, *end));
        next
    }
}

impl Idle {
    fn due(&self, limit: Option<Duration>) -> Option<Instant> {
        let by_idle = limit.and_then(|limit| self.since.checked_add(limit));
        [by_idle, self.connection.expires()].into_iter().flatten().min()
    }
}

impl Waiter {
    fn give(&self, outcome: Result<Lease, LeaseError>) {
        *self.outcome.borrow_mut() = Some(outcome);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A place in the queue. Leaving it early takes the waiter out; an unclaimed connection goes back by its own `Drop`.
struct Place<'a> {
    pool: &'a Rc<HostPool>,
    waiter: Rc<Waiter>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pool.state.borrow_mut().waiters.retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        let unclaimed = self.waiter.outcome.borrow_mut().take();
        drop(unclaimed);
    }
}

/// One task per pool that has idle connections: the peers' closes and the idle timeout reach it. It ends when the pool has
/// had no idle connection at a look, and is started again by the next one.
struct Watcher {
    pool: Weak<HostPool>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Future for Watcher {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(pool) = self.pool.upgrade() else { return Poll::Ready(()) };
        loop {
            *pool.watcher.borrow_mut() = Some(cx.waker().clone());
            let next = pool.check_idle(cx, Instant::now());
            let Some(at) = next else {
                if pool.state.borrow().idle.is_empty() {
                    pool.watcher_armed.set(false);
                    pool.watcher.borrow_mut().take();
                    return Poll::Ready(());
                }
                return Poll::Pending;
            };
            let at = tokio::time::Instant::from_std(at);
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if sleep.is_elapsed() || sleep.deadline() > at {
                sleep.as_mut().reset(at);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}
