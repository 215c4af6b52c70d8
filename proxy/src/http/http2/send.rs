//! Sending a body on a stream: pulls from a [`Body`] what the peer's windows and this connection's memory allow.
//!
//! `h2` would take any amount and keep it until the peer's window opens. The rule here: bytes go to `h2` only when stream
//! and connection window have room for them, and a connection holds at most [`QUEUED`] bytes in `h2` (they wait for the
//! socket) and about [`HELD`] bytes that were pulled from a body and wait for a window. Beyond that a body is pulled only
//! when its stream has window, so a stalled stream never keeps another from flowing, and the source behind the body feels
//! the back-pressure.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::{Reason, SendStream};
use http::HeaderMap;
use tokio::time::{Instant, Sleep};

use super::error;
use super::settings;
use super::stats::Http2Stats;
use crate::http::{Body, BodyError, Frame, ResetReason, check};
use crate::stats::StatBlock;

/// Bytes of one connection that may wait in `h2` for the socket.
pub const QUEUED: usize = 1 << 20;
/// Bytes of one connection that may be pulled from bodies before their streams have window for them.
pub const HELD: usize = 256 * 1024;
/// Bytes of one stream that may wait in `h2` for the socket.
pub const STREAM_QUEUED: usize = 64 * 1024;

/// What the streams of one connection hold in memory on their way out.
pub struct SendBudget {
    stats: StatBlock<Http2Stats>,
    queued: Cell<usize>,
    held: Cell<usize>,
    /// Streams that wait for `queued` to fall.
    waiting: RefCell<Vec<Waker>>,
}

impl SendBudget {
    pub fn new(stats: StatBlock<Http2Stats>) -> Self {
        SendBudget { stats, queued: Cell::new(0), held: Cell::new(0), waiting: RefCell::default() }
    }

    fn queue(&self, n: usize) {
        self.queued.set(self.queued.get() + n);
        self.stats.gauge_add(Http2Stats::PENDING_SEND_BYTES, n as u64);
    }

    fn release_queued(&self, n: usize) {
        self.stats.gauge_sub(Http2Stats::PENDING_SEND_BYTES, n as u64);
        let left = self.queued.get() - n;
        self.queued.set(left);
        if left < QUEUED / 2 && !self.waiting.borrow().is_empty() {
            for waker in self.waiting.take() {
                waker.wake();
            }
        }
    }

    fn wait(&self, cx: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
    }
}

/// A piece of a body in the hands of `h2`; counts against the budget until it is written or thrown away.
pub struct Chunk {
    bytes: Bytes,
    counted: usize,
    budget: Rc<SendBudget>,
}

impl Chunk {
    fn new(bytes: Bytes, budget: &Rc<SendBudget>) -> Self {
        budget.queue(bytes.len());
        Chunk { counted: bytes.len(), bytes, budget: Rc::clone(budget) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.budget.release_queued(self.counted);
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, n: usize) {
        self.bytes.advance(n);
    }
}

/// How sending ended.
#[derive(Debug)]
pub enum SendEnd {
    /// END_STREAM was handed over.
    Done,
    /// The body failed; the stream is to be reset.
    BodyFailed(BodyError),
    /// The stream was reset or its connection lost.
    Reset(BodyError),
    /// The peer did not open its window in time; the stream was reset.
    Stalled,
}

/// What was sent so far.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sent {
    pub body: u64,
    /// With frame headers; trailers as they are uncompressed.
    pub wire: u64,
}

/// Sends one body.
pub struct Sender {
    body: Body,
    /// Pulled, but not yet sent; counts as `held`.
    chunk: Bytes,
    budget: Rc<SendBudget>,
    stall_timeout: Duration,
    blocked_since: Option<Instant>,
    stall: Option<Pin<Box<Sleep>>>,
    sent: Rc<Cell<Sent>>,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.budget.held.set(self.budget.held.get() - self.chunk.len());
    }
}

impl Sender {
    /// `sent` is kept up to date as bytes go to `h2`.
    pub fn new(body: Body, budget: Rc<SendBudget>, stall_timeout: Duration, sent: Rc<Cell<Sent>>) -> Self {
        Sender { body, chunk: Bytes::new(), budget, stall_timeout, blocked_since: None, stall: None, sent }
    }

    /// Sends what may be sent. After `Ready` it must not be polled again. A reset by the peer is noticed here.
    pub fn poll(&mut self, stream: &mut SendStream<Chunk>, cx: &mut Context<'_>) -> Poll<SendEnd> {
        loop {
            let step = if self.chunk.is_empty() { self.pull(stream, cx) } else { self.push(stream, cx) };
            match step {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(end))) => return Poll::Ready(end),
                Poll::Ready(Err(error)) => return Poll::Ready(self.why(stream, cx, &error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// What `h2` refuses to take on a stream that is gone, it refuses without saying why.
    fn why(&self, stream: &mut SendStream<Chunk>, cx: &mut Context<'_>, error: &h2::Error) -> SendEnd {
        match stream.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => SendEnd::Reset(error::remote_reset(reason)),
            Poll::Ready(Err(error)) => SendEnd::Reset(error::body_error(&error)),
            Poll::Pending => SendEnd::Reset(error::body_error(error)),
        }
    }

    /// Nothing is in hand: take the next frame from the body.
    fn pull(
        &mut self,
        stream: &mut SendStream<Chunk>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<SendEnd>, h2::Error>> {
        if self.budget.queued.get() >= QUEUED {
            self.budget.wait(cx);
            return self.poll_reset(stream, cx);
        }
        if self.budget.held.get() >= HELD && self.room(stream, 1) == 0 {
            return self.poll_window(stream, cx);
        }
        match self.body.poll_frame(cx) {
            Poll::Pending => self.poll_reset(stream, cx),
            Poll::Ready(Some(Ok(Frame::Data(bytes)))) => {
                self.budget.held.set(self.budget.held.get() + bytes.len());
                self.chunk = bytes;
                Poll::Ready(Ok(None))
            }
            Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => self.trailers(stream, trailers),
            Poll::Ready(Some(Err(failed))) => Poll::Ready(Ok(Some(SendEnd::BodyFailed(failed)))),
            Poll::Ready(None) => self.data(stream, Bytes::new(), true),
        }
    }

    /// Something is in hand: send as much of it as the windows take.
    fn push(
        &mut self,
        stream: &mut SendStream<Chunk>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<SendEnd>, h2::Error>> {
        let room = self.room(stream, self.chunk.len().min(STREAM_QUEUED));
        if room == 0 {
            return self.poll_window(stream, cx);
        }
        self.blocked_since = None;
        let piece = self.chunk.split_to(room.min(self.chunk.len()));
        self.budget.held.set(self.budget.held.get() - piece.len());
        let end = self.chunk.is_empty() && self.body.is_end_stream();
        self.data(stream, piece, end)
    }

    fn data(
        &mut self,
        stream: &mut SendStream<Chunk>,
        bytes: Bytes,
        end: bool,
    ) -> Poll<Result<Option<SendEnd>, h2::Error>> {
        self.count(bytes.len(), bytes.len());
        stream.send_data(Chunk::new(bytes, &self.budget), end)?;
        Poll::Ready(Ok(end.then_some(SendEnd::Done)))
    }

    fn trailers(
        &mut self,
        stream: &mut SendStream<Chunk>,
        mut trailers: HeaderMap,
    ) -> Poll<Result<Option<SendEnd>, h2::Error>> {
        check::trailers(&mut trailers);
        if trailers.is_empty() {
            return self.data(stream, Bytes::new(), true);
        }
        self.count(0, super::head::decoded_size(&trailers));
        stream.send_trailers(trailers)?;
        Poll::Ready(Ok(Some(SendEnd::Done)))
    }

    fn count(&self, body: usize, payload: usize) {
        let Sent { body: so_far, wire } = self.sent.get();
        let wire = wire + (payload + super::frames::HEADER_LEN) as u64;
        self.sent.set(Sent { body: so_far + body as u64, wire });
    }

    /// How much the windows take now, at most `want` and what is already granted.
    fn room(&self, stream: &mut SendStream<Chunk>, want: usize) -> usize {
        let room = stream.capacity();
        if room >= want {
            return room;
        }
        stream.reserve_capacity(want);
        stream.capacity()
    }

    fn poll_window(
        &mut self,
        stream: &mut SendStream<Chunk>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<SendEnd>, h2::Error>> {
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(_))) => Poll::Ready(Ok(None)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error)),
            // Not sendable any more: the stream was reset.
            Poll::Ready(None) => match self.poll_reset(stream, cx) {
                Poll::Pending => Poll::Ready(Ok(Some(SendEnd::Reset(closed())))),
                ready => ready,
            },
            Poll::Pending => self.poll_stall(stream, cx),
        }
    }

    fn poll_reset(
        &self,
        stream: &mut SendStream<Chunk>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<SendEnd>, h2::Error>> {
        stream.poll_reset(cx).map_ok(|reason| Some(SendEnd::Reset(error::remote_reset(reason))))
    }

    /// Bounds how long the peer may keep its window shut. The timer is set when that first happens and looks at how long
    /// the current wait has been when it fires, so that a stream that crawls costs no timer work.
    fn poll_stall(
        &mut self,
        stream: &mut SendStream<Chunk>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<SendEnd>, h2::Error>> {
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        let deadline = settings::deadline(since, self.stall_timeout);
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while stall.as_mut().poll(cx).is_ready() {
            if deadline <= Instant::now() {
                stream.send_reset(Reason::CANCEL);
                return Poll::Ready(Ok(Some(SendEnd::Stalled)));
            }
            stall.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

fn closed() -> BodyError {
    BodyError { reason: ResetReason::ConnectionTermination, details: Cow::Borrowed("http2.connection_closed") }
}
