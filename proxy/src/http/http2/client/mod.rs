//! The upstream side of HTTP/2: one connection and the exchanges on it.
//!
//! Called by a connection pool: [`connect`] gives a handle and a driver; the pool spawns the driver on its own thread and
//! starts exchanges on the handle. The connection ends when the last handle is gone and its streams are done, when the
//! peer says so, or when the driver is dropped.
//!
//! Deliberately missing: server push (refused in SETTINGS), priorities, METADATA.

mod driver;
mod exchange;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use h2::client::SendRequest;
use tokio::time::Instant;

pub use exchange::H2Exchange;

use super::error;
use super::guard::{Wire, guard};
use super::send::{Chunk, STREAM_QUEUED, SendBudget};
use super::settings::ClientSettings;
use crate::http::{Body, ExchangeError, RequestHead};
use crate::net::Io;

/// Streams that may be opened before the peer's SETTINGS have come: the least that RFC 9113 §6.5.2 recommends a peer to
/// allow.
const BEFORE_SETTINGS: usize = 100;
const DATA_FRAME_BUDGET: usize = 4 << 20;

/// What a pool is told about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEvent {
    /// [`H2Client::can_open`] may have become true: a stream ended, or the peer allows more.
    Capacity,
    /// The peer sent GOAWAY: nothing new can be opened; what is open may still finish.
    GoAway,
    /// The connection is over.
    Closed,
}

/// Whom a connection tells.
pub type Observer = Rc<dyn Fn(ClientEvent)>;

/// A connection, in the hands of those who open streams on it. The connection ends once the last clone is dropped and its
/// streams are done.
#[derive(Clone)]
pub struct H2Client(Rc<Handle>);

struct Handle {
    send: RefCell<Option<SendRequest<Chunk>>>,
    shared: Rc<Shared>,
}

/// What handle, driver and exchanges share.
struct Shared {
    settings: Rc<ClientSettings>,
    wire: Wire,
    budget: Rc<SendBudget>,
    active: Cell<usize>,
    /// When the last exchange ended, while none is active.
    idle_since: Cell<Instant>,
    /// How long the connection was idle when a request was last put on it, until the driver has seen it.
    was_idle: Cell<Option<std::time::Duration>>,
    /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS once its SETTINGS have come.
    peer_max_streams: Cell<Option<usize>>,
    going_away: Cell<bool>,
    closed: Cell<bool>,
    observer: RefCell<Option<Observer>>,
    /// Exchanges that wait for the peer's SETTINGS.
    waiting: RefCell<Vec<Waker>>,
}

impl Shared {
    /// The observer may start or drop exchanges and handles.
    fn notify(&self, event: ClientEvent) {
        let observer = self.observer.borrow().clone();
        if let Some(observer) = observer {
            observer(event);
        }
    }
}

/// Starts HTTP/2 on a connection. The preface is written when the driver runs; nothing is awaited from the peer. The driver
/// must be polled on a `LocalSet` of the same thread until it ends.
///
/// # Errors
/// The connection is already broken.
pub async fn connect(
    io: Io,
    settings: Rc<ClientSettings>,
) -> Result<(H2Client, impl Future<Output = ()> + 'static), ExchangeError> {
    let mut limits = settings.options.flood.clone();
    let max_header_block = limits.max_header_block.max(settings.max_response_headers_kb.saturating_add(4) * 1024);
    limits.max_header_block = max_header_block;
    let (guard, wire) = guard(io, limits, settings.stats.clone());
    let handshake = builder(&settings, max_header_block).handshake::<_, Chunk>(guard);
    let (send, mut connection) = handshake.await.map_err(|e| error::exchange_error(&e, false))?;
    let shared = Rc::new(Shared {
        settings: Rc::clone(&settings),
        wire,
        budget: Rc::new(SendBudget::new(settings.stats.clone())),
        active: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
        was_idle: Cell::new(None),
        peer_max_streams: Cell::new(None),
        going_away: Cell::new(false),
        closed: Cell::new(false),
        observer: RefCell::default(),
        waiting: RefCell::default(),
    });
    let keepalive = settings.options.connection_keepalive;
    let ping_pong = keepalive.and_then(|config| Some((config, connection.ping_pong()?)));
    let driver = driver::Driver::new(connection, ping_pong, Rc::clone(&shared));
    Ok((H2Client(Rc::new(Handle { send: RefCell::new(Some(send)), shared })), driver.run()))
}

fn builder(settings: &ClientSettings, max_header_block: u32) -> h2::client::Builder {
    let options = &settings.options;
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(options.initial_stream_window_size)
        .initial_connection_window_size(options.initial_connection_window_size)
        // Streams that a server would push; none may.
        .max_concurrent_streams(options.max_concurrent_streams)
        .initial_max_send_streams(BEFORE_SETTINGS)
        .header_table_size(options.hpack_table_size)
        .max_header_list_size(settings.list_limits().for_h2(max_header_block))
        .max_send_buffer_size(STREAM_QUEUED)
        .data_frame_budget(DATA_FRAME_BUDGET)
        .max_local_error_reset_streams(None)
        .max_concurrent_reset_streams(256);
    builder
}

impl H2Client {
    /// Whether a stream may be opened now: by the peer's limit and by ours.
    pub fn can_open(&self) -> bool {
        let shared = &self.0.shared;
        let ours = shared.settings.options.max_concurrent_streams as usize;
        let most = shared.peer_max_streams.get().unwrap_or(BEFORE_SETTINGS).min(ours);
        !self.is_closing() && shared.active.get() < most
    }

    /// Exchanges that are open.
    pub fn active(&self) -> usize {
        self.0.shared.active.get()
    }

    /// When the last exchange ended, or the connection was made; of no meaning while one is open.
    pub fn idle_since(&self) -> Instant {
        self.0.shared.idle_since.get()
    }

    /// Nothing new can be opened: GOAWAY came, [`H2Client::close`] was called, or the connection is over.
    pub fn is_closing(&self) -> bool {
        let shared = &self.0.shared;
        shared.going_away.get() || shared.closed.get() || self.0.send.borrow().is_none()
    }

    pub fn is_closed(&self) -> bool {
        self.0.shared.closed.get()
    }

    /// Bytes received and sent, above TLS.
    pub fn bytes(&self) -> (u64, u64) {
        (self.0.shared.wire.bytes_received(), self.0.shared.wire.bytes_sent())
    }

    /// Whom to tell when the state changes. Called from the driver and from exchanges as they end.
    pub fn observe(&self, observer: Observer) {
        *self.0.shared.observer.borrow_mut() = Some(observer);
    }

    /// Ends the connection once its exchanges are done. Nothing new can be opened.
    pub fn close(&self) {
        // Dropping it wakes the driver.
        drop(self.0.send.take());
    }

    /// Opens a stream and hands over the request's head; the body goes out while the exchange is polled.
    ///
    /// # Errors
    /// The connection takes no more streams (then `refused` is set), or the head breaks the canonical check.
    pub fn start(&self, head: &RequestHead, body: Body) -> Result<H2Exchange, ExchangeError> {
        H2Exchange::start(&self.0, head, body)
    }
}
