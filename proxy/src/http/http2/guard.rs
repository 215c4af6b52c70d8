//! What stands between the `h2` crate and the socket of one connection.
//!
//! [`Guard`] is the `AsyncRead + AsyncWrite` that `h2` owns; [`Wire`] is the same connection in the hands of the task that
//! drives it. Every frame header that passes is shown to [`Flood`]; after a [`Violation`] nothing more is read, and the
//! driver ends the connection. Small writes are gathered and leave with [`Wire::poll_flush`], once for each time the driver
//! runs: `h2` flushes after each larger DATA frame, which on a busy connection would be one system call for each response.
//!
//! Invariants:
//! - the driver calls [`Wire::begin`] before it polls `h2` and [`Wire::poll_flush`] afterwards, and then looks at
//!   [`Wire::violation`];
//! - a connection with nothing to write holds no write buffer: it comes from the thread's spare one and goes back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::flood::{Flood, FloodLimits, Side, Violation};
use super::frames::{Event, PREFACE, Walker, flag, kind};
use super::stats::Http2Stats;
use crate::net::Io;
use crate::stats::StatBlock;

/// Writes are copied together up to this size; what is larger goes to the socket from where it lies.
const GATHER: usize = 16 * 1024;
/// Bytes read each time the driver runs. What frames cost beyond their bytes (a head of a thousand tiny fields) is bounded by
/// this until the driver has looked, and other connections of the thread get their turn.
const READ_BUDGET: usize = 64 * 1024;
/// Streams opened by the peer each time the driver runs: `h2` tells of those that it had to reset only afterwards, and each has
/// begun to cost something by then.
const OPEN_BUDGET: u32 = 64;
/// Heads whose size nobody has asked for yet; more than streams can wait to be accepted.
const HEADS: usize = 4096;

thread_local! {
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A peer's GOAWAY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoAway {
    pub last_stream_id: u32,
    pub code: u32,
}

struct Shared {
    io: RefCell<Io>,
    out: RefCell<Out>,
    frames: RefCell<Frames>,
    violation: Cell<Option<Violation>>,
    goaway: Cell<Option<GoAway>>,
    settings_applied: Cell<u32>,
    /// A GOAWAY that announces the end waits to be written.
    announce: Cell<bool>,
    /// Bytes that may still be read before the driver runs again.
    read_budget: Cell<usize>,
    /// Streams that may still be opened before then.
    open_budget: Cell<u32>,
    bytes_received: Cell<u64>,
    bytes_sent: Cell<u64>,
    last_read: Cell<Instant>,
    stats: StatBlock<Http2Stats>,
}

/// Both directions as frames.
struct Frames {
    side: Side,
    inbound: Walker,
    outbound: Walker,
    flood: Flood,
    /// Stream ids and wire sizes of request heads, received by a server or sent by a client, in order.
    heads: VecDeque<(u32, u64)>,
}

impl Frames {
    fn note_head(&mut self, stream_id: u32, size: u64) {
        if self.heads.len() >= HEADS {
            self.heads.pop_front();
        }
        self.heads.push_back((stream_id, size));
    }

    fn note_continuation(&mut self, stream_id: u32, size: u64) {
        if let Some((_, total)) = self.heads.back_mut().filter(|(id, _)| *id == stream_id) {
            *total += size;
        }
    }
}

/// Bytes that wait for the socket.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    written: usize,
    /// Something was written since the socket (that is, TLS) was flushed.
    is_dirty: bool,
    blocked_since: Option<Instant>,
}

/// The driver's handle.
#[derive(Clone)]
pub struct Wire(Rc<Shared>);

/// `h2`'s handle.
pub struct Guard(Rc<Shared>);

/// Wraps a connection.
pub fn guard(io: Io, limits: FloodLimits, stats: StatBlock<Http2Stats>) -> (Guard, Wire) {
    let now = Instant::now();
    let side = limits.side;
    let (inbound, outbound) = match side {
        Side::Server => (PREFACE.len(), 0),
        Side::Client => (0, PREFACE.len()),
    };
    let shared = Rc::new(Shared {
        io: RefCell::new(io),
        out: RefCell::default(),
        frames: RefCell::new(Frames {
            side,
            inbound: Walker::new(inbound),
            outbound: Walker::new(outbound),
            flood: Flood::new(limits, now.into_std()),
            heads: VecDeque::new(),
        }),
        violation: Cell::new(None),
        goaway: Cell::new(None),
        settings_applied: Cell::new(0),
        announce: Cell::new(false),
        read_budget: Cell::new(READ_BUDGET),
        open_budget: Cell::new(OPEN_BUDGET),
        bytes_received: Cell::new(0),
        bytes_sent: Cell::new(0),
        last_read: Cell::new(now),
        stats,
    });
    (Guard(Rc::clone(&shared)), Wire(shared))
}

impl Wire {
    /// Why the connection must end, if it must.
    pub fn violation(&self) -> Option<Violation> {
        self.0.violation.get()
    }

    /// The peer's last GOAWAY.
    pub fn goaway(&self) -> Option<GoAway> {
        self.0.goaway.get()
    }

    /// How many SETTINGS frames of the peer are in force.
    pub fn settings_applied(&self) -> u32 {
        self.0.settings_applied.get()
    }

    pub fn bytes_received(&self) -> u64 {
        self.0.bytes_received.get()
    }

    /// Bytes that `h2` wrote; the socket may not have taken them yet.
    pub fn bytes_sent(&self) -> u64 {
        self.0.bytes_sent.get()
    }

    /// When the last byte came.
    pub fn last_read(&self) -> Instant {
        self.0.last_read.get()
    }

    /// Since when the socket has taken nothing although something waits.
    pub fn blocked_since(&self) -> Option<Instant> {
        self.0.out.borrow().blocked_since
    }

    /// Whether the HEADERS of the stream that we opened with this id have begun to leave `h2`.
    pub fn has_sent_headers(&self, stream_id: u32) -> bool {
        stream_id <= self.0.frames.borrow().flood.max_stream_id()
    }

    /// Octets on the wire of the head that opened this stream; heads of earlier streams are forgotten.
    pub fn take_head_size(&self, stream_id: u32) -> Option<u64> {
        let heads = &mut self.0.frames.borrow_mut().heads;
        while let Some((id, size)) = heads.pop_front() {
            if id == stream_id {
                return Some(size);
            }
        }
        None
    }

    /// To be called each time the driver runs, before it polls `h2`.
    pub fn begin(&self) {
        self.0.read_budget.set(READ_BUDGET);
        self.0.open_budget.set(OPEN_BUDGET);
    }

    /// Announces the end of the connection without refusing anything yet: a GOAWAY with the highest stream id, of which `h2`
    /// knows nothing. It leaves with the next [`Wire::poll_flush`] that finds `h2` between two frames.
    pub fn announce_end(&self) {
        self.0.announce.set(true);
    }

    /// Octets on the wire of the head that we opened this stream with, 0 until it has left `h2`. Asking forgets it, so that it
    /// is to be asked once, when the stream ends.
    pub fn take_sent_head_size(&self, stream_id: u32) -> u64 {
        let heads = &mut self.0.frames.borrow_mut().heads;
        let size = match heads.binary_search_by_key(&stream_id, |(id, _)| *id) {
            Ok(at) => heads.get_mut(at).map_or(0, |(_, size)| std::mem::take(size)),
            Err(_) => 0,
        };
        while heads.front().is_some_and(|(_, size)| *size == 0) {
            heads.pop_front();
        }
        size
    }

    /// Hands what was gathered to the socket. `Pending` wakes the caller when the socket takes more.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.write_announcement();
        let (mut out, mut io) = (self.0.out.borrow_mut(), self.0.io.borrow_mut());
        ready!(out.poll_drain(&mut io, cx))?;
        if out.is_dirty {
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
            out.is_dirty = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the peer has closed, but no longer than `limit`, and throws away what it still sends. Closing a socket
    /// with unread bytes in it makes the kernel reset the connection, and the peer may lose the GOAWAY that says why.
    pub async fn linger(&self, limit: Duration) {
        const MOST: u64 = 1 << 20;
        let mut read = 0;
        let drained = std::future::poll_fn(|cx| {
            loop {
                let mut scratch = [std::mem::MaybeUninit::uninit(); 2048];
                let mut buf = ReadBuf::uninit(&mut scratch);
                match ready!(Pin::new(&mut *self.0.io.borrow_mut()).poll_read(cx, &mut buf)) {
                    Ok(()) if !buf.filled().is_empty() => read += buf.filled().len() as u64,
                    _ => return Poll::Ready(()),
                }
                if read > MOST {
                    // Not worth more work; the rest of the time is only waited out.
                    return Poll::Pending;
                }
            }
        });
        // Over time is not an error here.
        let _ = tokio::time::timeout(limit, drained).await;
    }
}

impl Shared {
    fn received(&self, bytes: &[u8]) {
        self.bytes_received.set(self.bytes_received.get() + bytes.len() as u64);
        let now = Instant::now();
        self.last_read.set(now);
        let now = now.into_std();
        let frames = &mut *self.frames.borrow_mut();
        let mut inbound = std::mem::take(&mut frames.inbound);
        let walked = inbound.feed(bytes, &mut |event| {
            match &event {
                Event::Header(frame) => match frame.kind {
                    kind::HEADERS if frames.side == Side::Server && frame.stream_id > frames.flood.max_stream_id() => {
                        frames.note_head(frame.stream_id, frame.wire_len());
                        match self.open_budget.get() {
                            0 => self.read_budget.set(0),
                            left => self.open_budget.set(left - 1),
                        }
                    }
                    kind::CONTINUATION if frames.side == Side::Server => {
                        frames.note_continuation(frame.stream_id, frame.wire_len());
                    }
                    kind::RST_STREAM => self.stats.inc(Http2Stats::RX_RESET),
                    _ => {}
                },
                Event::Unit(frame, unit) if frame.kind == kind::GOAWAY => {
                    let last_stream_id = Event::number(unit, 0) & 0x7fff_ffff;
                    self.goaway.set(Some(GoAway { last_stream_id, code: Event::number(unit, 4) }));
                }
                Event::Unit(..) => {}
            }
            frames.flood.received(&event, now)
        });
        frames.inbound = inbound;
        self.judge(walked);
    }

    fn sent(&self, bytes: &[u8], now: Instant) {
        self.bytes_sent.set(self.bytes_sent.get() + bytes.len() as u64);
        let frames = &mut *self.frames.borrow_mut();
        let mut outbound = std::mem::take(&mut frames.outbound);
        let walked = outbound.feed(bytes, &mut |event| {
            match &event {
                Event::Header(frame) => match frame.kind {
                    kind::HEADERS if frames.side == Side::Client && frame.stream_id > frames.flood.max_stream_id() => {
                        frames.note_head(frame.stream_id, frame.wire_len());
                    }
                    kind::CONTINUATION if frames.side == Side::Client => {
                        frames.note_continuation(frame.stream_id, frame.wire_len());
                    }
                    kind::RST_STREAM => self.stats.inc(Http2Stats::TX_RESET),
                    kind::GOAWAY => self.stats.inc(Http2Stats::GOAWAY_SENT),
                    // h2 applies the peer's settings as it acknowledges them.
                    kind::SETTINGS if frame.has(flag::ACK) => {
                        self.settings_applied.set(self.settings_applied.get().wrapping_add(1));
                    }
                    _ => {}
                },
                // Most malformed messages are found, and reset, by h2 itself.
                Event::Unit(frame, unit) => {
                    let is_protocol_error =
                        frame.kind == kind::RST_STREAM && Event::number(unit, 0) == u32::from(Reason::PROTOCOL_ERROR);
                    if is_protocol_error && frames.side == Side::Server {
                        self.stats.inc(Http2Stats::RX_MESSAGING_ERROR);
                    }
                }
            }
            frames.flood.sent(&event, now.into_std())
        });
        frames.outbound = outbound;
        self.judge(walked);
    }

    fn write_announcement(&self) {
        const GOAWAY: [u8; 17] = [0, 0, 8, kind::GOAWAY, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        if self.announce.get() && self.frames.borrow().outbound.is_between_frames() {
            self.announce.set(false);
            self.out.borrow_mut().gather(&[IoSlice::new(&GOAWAY)]);
            self.sent(&GOAWAY, Instant::now());
        }
    }

    fn judge(&self, verdict: Result<(), Violation>) {
        if let (Err(violation), None) = (verdict, self.violation.get()) {
            violation.count(&self.stats);
            self.violation.set(Some(violation));
        }
    }
}

impl Out {
    fn waiting(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    fn gather(&mut self, bufs: &[IoSlice<'_>]) {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.with_borrow_mut(std::mem::take);
        }
        for buf in bufs {
            self.bytes.extend_from_slice(buf);
        }
    }

    /// `n` bytes of what waits have left.
    fn advance(&mut self, n: usize) {
        self.is_dirty |= n > 0;
        self.blocked_since = None;
        self.written += n;
        if self.written < self.bytes.len() {
            return;
        }
        self.written = 0;
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        SPARE.with_borrow_mut(|spare| {
            if spare.capacity() < bytes.capacity() && bytes.capacity() <= 4 * GATHER {
                *spare = bytes;
            }
        });
    }

    fn poll_drain(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting().is_empty() {
            let polled = Pin::new(&mut *io).poll_write(cx, self.waiting());
            let n = ready!(self.note_blocked(polled))?;
            self.advance(n);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what waits and then `bufs`; the answer counts only bytes of `bufs`, and is never zero.
    fn poll_write_through(
        &mut self,
        io: &mut Io,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let waiting = self.waiting().len();
            let polled = if waiting == 0 {
                Pin::new(&mut *io).poll_write_vectored(cx, bufs)
            } else {
                let mut slices = [IoSlice::new(&[]); 8];
                for (to, from) in
                    slices.iter_mut().zip(std::iter::once(self.waiting()).chain(bufs.iter().map(|b| &**b)))
                {
                    *to = IoSlice::new(from);
                }
                Pin::new(&mut *io).poll_write_vectored(cx, &slices)
            };
            let n = ready!(self.note_blocked(polled))?;
            self.advance(n.min(waiting));
            if n > waiting {
                self.is_dirty = true;
                return Poll::Ready(Ok(n - waiting));
            }
        }
    }

    fn note_blocked(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Pending => {
                self.blocked_since.get_or_insert_with(Instant::now);
                Poll::Pending
            }
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            ready => ready,
        }
    }
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let shared = &*self.0;
        // The driver looks at the violation as soon as h2 returns, so nobody needs to be woken.
        if shared.violation.get().is_some() {
            return Poll::Pending;
        }
        let budget = shared.read_budget.get();
        if budget == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut *shared.io.borrow_mut()).poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        if !new.is_empty() {
            shared.read_budget.set(budget.saturating_sub(new.len()));
            shared.received(new);
        }
        if shared.violation.get().is_some() {
            buf.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guard {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let shared = &*self.0;
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let mut out = shared.out.borrow_mut();
        let taken = if total == 0 || out.waiting().len() + total <= GATHER {
            out.gather(bufs);
            total
        } else {
            ready!(out.poll_write_through(&mut shared.io.borrow_mut(), cx, bufs))?
        };
        drop(out);
        let (now, mut left) = (Instant::now(), taken);
        for buf in bufs {
            let part = buf.get(..left.min(buf.len())).unwrap_or_default();
            left -= part.len();
            if !part.is_empty() {
                shared.sent(part, now);
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the driver flushes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Wire(Rc::clone(&self.0)).poll_flush(cx))?;
        Pin::new(&mut *self.0.io.borrow_mut()).poll_shutdown(cx)
    }
}
