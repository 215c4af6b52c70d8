//! The reading side of a connection, which the driver and the body of the request in work share.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::http::check::{Violation, details};
use crate::http::http1::decode::{BodyDecoder, Piece};
use crate::http::http1::read::{SMALL_READ, poll_discard, poll_fill};
use crate::http::http1::timer::Timer;
use crate::http::{BodyError, BodySource, Frame, ResetReason, StreamCtl};
use crate::net::{Io, Socket};
use crate::stream_info::ConnectionInfo;

/// How much is read ahead of whoever takes the body, or of the request in work, to see the peer go away.
const READ_AHEAD: usize = 16 * 1024;

pub struct Wire {
    pub io: Io,
    pub buf: BytesMut,
    pub body: BodyDecoder,
    /// Which request `body` belongs to. The body object of an earlier one finds out that it is over.
    serial: u32,
    /// The peer will send no more, or the connection is broken.
    pub closed: bool,
    /// What the body of the current request broke.
    pub violation: Option<Violation>,
    ctl: Option<Rc<StreamCtl>>,
    info: Rc<ConnectionInfo>,
    /// The connection's task: the only one that the socket wakes.
    task: Option<Waker>,
    /// The object that reads the body is gone.
    abandoned: bool,
    /// Another task that waits for the body.
    body_task: Option<Waker>,
}

/// What a look at the socket brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    Nothing,
    Bytes,
    Closed,
}

impl Wire {
    pub fn new(io: Io, info: Rc<ConnectionInfo>) -> Self {
        Wire {
            io,
            buf: BytesMut::new(),
            body: BodyDecoder::Done,
            serial: 0,
            closed: false,
            violation: None,
            ctl: None,
            info,
            task: None,
            abandoned: false,
            body_task: None,
        }
    }

    /// Takes note of the connection's task, and wakes the one that waits for the body, as only this one is woken by the
    /// socket.
    pub fn enter(&mut self, cx: &Context<'_>) {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
            if let Some(ctl) = &self.ctl {
                ctl.waker.borrow_mut().clone_from(&self.task);
            }
        }
        self.wake_body();
    }

    /// A new request, whose body comes as `body` says. Returns the body's number.
    pub fn begin(&mut self, body: BodyDecoder, ctl: Rc<StreamCtl>) -> u32 {
        ctl.waker.borrow_mut().clone_from(&self.task);
        self.serial = self.serial.wrapping_add(1);
        self.body = body;
        self.violation = None;
        self.abandoned = false;
        self.ctl = Some(ctl);
        self.serial
    }

    /// No request any more. What is left of its body belongs to nobody.
    pub fn finish(&mut self) {
        self.serial = self.serial.wrapping_add(1);
        self.ctl = None;
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
        }
    }

    pub fn count_written(&self, n: usize) {
        self.info.bytes_sent.set(self.info.bytes_sent.get() + n as u64);
    }

    pub fn wake_body(&mut self) {
        if let Some(waker) = self.body_task.take() {
            waker.wake();
        }
    }

    /// Reads once, for the connection's task.
    pub fn poll_fill(&mut self, want: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let read = ready!(poll_fill(&mut self.io, &mut self.buf, want, cx));
        match &read {
            Ok(n) if *n > 0 => self.info.bytes_received.set(self.info.bytes_received.get() + *n as u64),
            _ => self.closed = true,
        }
        Poll::Ready(read)
    }

    /// Looks whether the peer went away while something else is waited for, and reads a little ahead.
    pub fn watch(&mut self, cx: &mut Context<'_>) -> Watched {
        if self.closed {
            return Watched::Closed;
        }
        if self.buf.len() >= READ_AHEAD || self.io.poll_read_ready(cx).is_pending() {
            return Watched::Nothing;
        }
        match self.poll_fill(SMALL_READ, cx) {
            Poll::Pending => Watched::Nothing,
            Poll::Ready(Ok(n)) if n > 0 => {
                self.wake_body();
                Watched::Bytes
            }
            Poll::Ready(_) => Watched::Closed,
        }
    }

    /// A body of known length may have been received whole before anybody reads it.
    pub fn note_received(&self) {
        if let (BodyDecoder::Length(left), Some(ctl)) = (&self.body, &self.ctl)
            && self.buf.len() as u64 >= *left
            && ctl.request_complete.get().is_none()
        {
            ctl.request_complete.set(Some(std::time::Instant::now()));
        }
    }

    /// Reads and forgets until the peer closes, or until `at`: whether that came first. `None` is to wait.
    pub fn drain(&mut self, cx: &mut Context<'_>, timer: &mut Timer, at: Instant) -> Option<bool> {
        while !self.closed {
            match poll_discard(&mut self.io, cx) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                Poll::Ready(_) => self.closed = true,
                Poll::Pending => return timer.poll(cx, at).is_ready().then_some(true),
            }
        }
        Some(false)
    }

    /// Takes what has arrived, within bounds: a socket that is closed with unread bytes is reset, and the peer may lose what
    /// was written to it.
    pub fn discard_received(&mut self, cx: &mut Context<'_>) {
        for _ in 0..8 {
            match poll_discard(&mut self.io, cx) {
                Poll::Ready(Ok(n)) if n > 0 => {}
                _ => return,
            }
        }
    }

    /// The last thing before the socket is dropped.
    pub fn finish_close(&mut self, reset: bool, cx: &mut Context<'_>) {
        match &self.io {
            // A plain close would look like the end of the body.
            Io::Raw(raw) if reset => {
                if let Socket::Tcp(tcp) = &raw.socket {
                    let _ = tcp.set_zero_linger();
                }
            }
            Io::Tls(_) if reset => {}
            _ => {
                let _: Poll<_> = Pin::new(&mut self.io).poll_shutdown(cx);
            }
        }
    }

    /// Drops the rest of a body that nobody wants any more, as far as it has been received. Whether that was all of it.
    pub fn skip_received_body(&mut self) -> bool {
        while self.abandoned {
            if self.body.is_done() {
                return true;
            }
            match self.decode() {
                Ok(Some(Piece::Data(_))) => {}
                Ok(Some(Piece::End(_))) => return true,
                Ok(None) | Err(_) => break,
            }
        }
        false
    }

    fn decode(&mut self) -> Result<Option<Piece>, Violation> {
        let before = self.buf.len();
        let was_done = self.body.is_done();
        let decoded = self.body.decode(&mut self.buf);
        if let Some(ctl) = &self.ctl {
            let taken = (before - self.buf.len()) as u64;
            ctl.wire_received.set(ctl.wire_received.get() + taken);
            if let Ok(Some(Piece::Data(data))) = &decoded {
                ctl.body_received.set(ctl.body_received.get() + data.len() as u64);
            }
            if !was_done && self.body.is_done() && ctl.request_complete.get().is_none() {
                ctl.request_complete.set(Some(std::time::Instant::now()));
            }
        }
        decoded
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            match self.decode() {
                Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Ok(Some(Piece::End(trailers))) => return Poll::Ready(trailers.map(|t| Ok(Frame::Trailers(t)))),
                Ok(None) => {}
                Err(violation) => return Poll::Ready(Some(Err(self.broken(violation)))),
            }
            if self.closed {
                self.note_tunnel_end();
                return Poll::Ready(match self.body.end_of_stream() {
                    Ok(()) => None,
                    Err(_) => Some(Err(gone())),
                });
            }
            let want = match self.body {
                BodyDecoder::Held => READ_AHEAD.saturating_sub(self.buf.len()),
                _ => self.body.wants(),
            };
            let other_task = self.task.as_ref().filter(|task| !task.will_wake(cx.waker())).cloned();
            if other_task.is_some() {
                self.body_task = Some(cx.waker().clone());
            }
            if want == 0 {
                return Poll::Pending;
            }
            // An error is a close: what came before it has been handed out.
            let _ = match &other_task {
                Some(task) => ready!(self.poll_fill(want, &mut Context::from_waker(task))),
                None => ready!(self.poll_fill(want, cx)),
            };
        }
    }

    /// The peer ended a tunnel. What the upstream still says is passed on, but to logs and statistics it is the client who
    /// went away, as in Envoy.
    fn note_tunnel_end(&self) {
        if let (BodyDecoder::UntilClose, Some(ctl)) = (&self.body, &self.ctl) {
            ctl.reset.set(Some(ResetReason::ConnectionTermination));
            *ctl.reset_details.borrow_mut() = Some(Cow::Borrowed(details::DOWNSTREAM_REMOTE_DISCONNECT));
        }
    }

    fn broken(&mut self, violation: Violation) -> BodyError {
        self.violation = Some(violation);
        if let Some(ctl) = &self.ctl {
            ctl.reset.set(Some(ResetReason::ProtocolError));
            ctl.reset_status.set(Some(violation.status));
            *ctl.reset_details.borrow_mut() = Some(Cow::Borrowed(violation.details));
        }
        BodyError { reason: ResetReason::ProtocolError, details: Cow::Borrowed(violation.details) }
    }
}

fn gone() -> BodyError {
    let details = Cow::Borrowed(details::DOWNSTREAM_REMOTE_DISCONNECT);
    BodyError { reason: ResetReason::ConnectionTermination, details }
}

/// The body of a request, read when it is polled.
pub struct RequestBody {
    wire: Rc<RefCell<Wire>>,
    serial: u32,
}

impl RequestBody {
    pub fn new(wire: Rc<RefCell<Wire>>, serial: u32) -> Self {
        RequestBody { wire, serial }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Ok(mut wire) = self.wire.try_borrow_mut()
            && wire.serial == self.serial
        {
            wire.abandoned = true;
        }
    }
}

impl BodySource for RequestBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut wire = self.wire.borrow_mut();
        if wire.serial != self.serial {
            return Poll::Ready(Some(Err(gone())));
        }
        wire.poll_body(cx)
    }

    fn is_end_stream(&self) -> bool {
        let wire = self.wire.borrow();
        wire.serial == self.serial && wire.body.is_done()
    }

    fn exact_len(&self) -> Option<u64> {
        let wire = self.wire.borrow();
        if wire.serial == self.serial { wire.body.exact_len() } else { None }
    }
}
