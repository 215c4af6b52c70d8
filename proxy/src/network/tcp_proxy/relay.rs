//! Copying both ways between two connections, with half-closes and resets.
//!
//! A direction owns no memory while what it reads is written on at once: it reads into a buffer of the worker. Only what the
//! other side does not take is kept, and nothing more is read until it has gone. How much is read at once grows while the
//! other side takes everything, and shrinks when it does not.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::splice::Splice;
use crate::net::{Io, RawIo, Socket};

/// At most so much is read at once at first, and later.
const FIRST_READ: usize = 16 * 1024;
const LAST_READ: usize = 256 * 1024;
/// From this on a direction counts as bulk, and is spliced if it can be.
const BULK_READ: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Downstream,
    Upstream,
}

/// How a relay came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Both sides have said all they had to; `last` said so last.
    Closed { last: Side },
    /// This side reset its connection.
    Reset(Side),
    /// This side's connection broke otherwise.
    Failed(Side),
}

impl Ended {
    fn of(side: Side, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Ended::Reset(side),
            _ => Ended::Failed(side),
        }
    }
}

/// Hears of bytes that were written on.
pub(super) trait Progress {
    fn moved(&self, from: Side, n: usize);
}

/// Copies until both directions have ended, or one side breaks.
pub(super) async fn relay(
    downstream: &mut Io,
    upstream: &mut Io,
    buffer_limit: usize,
    progress: &impl Progress,
) -> Ended {
    let mut up = Direction::new(Side::Downstream, buffer_limit);
    let mut down = Direction::new(Side::Upstream, buffer_limit);
    let mut clock = 0;
    poll_fn(|cx| {
        let upward = up.poll(cx, downstream, upstream, &mut clock, progress);
        if let Poll::Ready(Err(error)) = &upward {
            return Poll::Ready(Ended::of(Side::Downstream, error));
        }
        let downward = down.poll(cx, upstream, downstream, &mut clock, progress);
        match (upward, downward) {
            (_, Poll::Ready(Err(error))) => Poll::Ready(Ended::of(Side::Upstream, &error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(ended(&up, &down)),
            _ => Poll::Pending,
        }
    })
    .await
}

/// How a relay ended of which no side broke while it was read. A side that resets its connection may first be noticed when
/// it is written to, and then reads as ended; bytes that came from it before were passed on.
fn ended(up: &Direction, down: &Direction) -> Ended {
    for (written, read) in [(up, down), (down, up)] {
        if let Some((at, error)) = &written.failed
            && read.eof.is_none_or(|eof| eof > *at)
        {
            return Ended::of(read.from, error);
        }
    }
    Ended::Closed { last: if down.eof > up.eof { Side::Upstream } else { Side::Downstream } }
}

/// One way through the proxy.
struct Direction {
    from: Side,
    /// What the other side has not taken yet, and how much of it has gone since.
    rest: Vec<u8>,
    gone: usize,
    /// At most so much is read at once, and may come to lie in `rest`.
    read: usize,
    limit: usize,
    buffer_limit: usize,
    can_splice: bool,
    /// Bytes may wait inside the other side's TLS session.
    flush: bool,
    splice: Option<Splice>,
    /// When the end was read, and when writing failed, in the order of events.
    eof: Option<u32>,
    failed: Option<(u32, io::Error)>,
    finished: bool,
}

fn tick(clock: &mut u32) -> u32 {
    *clock += 1;
    *clock
}

impl Direction {
    fn new(from: Side, limit: usize) -> Self {
        Direction {
            from,
            rest: Vec::new(),
            gone: 0,
            read: FIRST_READ.min(limit.max(1)),
            limit: LAST_READ.min(limit.max(1)),
            buffer_limit: limit,
            can_splice: limit >= LAST_READ,
            flush: false,
            splice: None,
            eof: None,
            failed: None,
            finished: false,
        }
    }

    /// Moves what can be moved. Ready when the end was passed on or the other side takes nothing any more; an error is one
    /// of reading.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Io,
        to: &mut Io,
        clock: &mut u32,
        progress: &impl Progress,
    ) -> Poll<io::Result<()>> {
        while !self.finished {
            let step = match self.splice.as_mut().zip(plain(from).zip(plain(to))) {
                Some((splice, (from, to))) if self.rest.is_empty() => {
                    splice.poll(cx, from, to, self.buffer_limit, |n| progress.moved(self.from, n))
                }
                _ if self.eof.is_some() && self.rest.is_empty() => self.poll_shutdown(cx, to),
                _ => self.poll_copy(cx, from, to, progress),
            };
            match ready!(step) {
                Step::Moved => {}
                Step::Eof => {
                    self.eof = Some(tick(clock));
                    self.splice = None;
                }
                Step::Small => self.splice = None,
                Step::NoPipe => (self.splice, self.can_splice) = (None, false),
                Step::Finished => self.finished = true,
                Step::ReadFailed(error) => return Poll::Ready(Err(error)),
                Step::WriteFailed(error) => {
                    self.failed = Some((tick(clock), error));
                    (self.rest, self.splice, self.finished) = (Vec::new(), None, true);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>, to: &mut Io) -> Poll<Step> {
        // An error says that the other side is gone, which its own direction finds out.
        let _ = ready!(Pin::new(to).poll_shutdown(cx));
        Poll::Ready(Step::Finished)
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>, from: &mut Io, to: &mut Io, progress: &impl Progress) -> Poll<Step> {
        if let Some(rest) = self.rest.get(self.gone..).filter(|rest| !rest.is_empty()) {
            return match ready!(Pin::new(&mut *to).poll_write(cx, rest)) {
                Ok(n) => {
                    self.wrote(n, progress);
                    Poll::Ready(Step::Moved)
                }
                Err(error) => Poll::Ready(Step::WriteFailed(error)),
            };
        }
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.len() < self.read {
                scratch.resize(self.read, 0);
            }
            let mut buffer = ReadBuf::new(scratch.get_mut(..self.read).unwrap_or_default());
            match Pin::new(from).poll_read(cx, &mut buffer) {
                Poll::Pending => {
                    if let Err(error) = ready!(self.poll_flush(cx, to)) {
                        return Poll::Ready(Step::WriteFailed(error));
                    }
                    Poll::Pending
                }
                // A peer that ends TLS without saying so ends it all the same.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Step::Eof),
                Poll::Ready(Err(error)) => Poll::Ready(Step::ReadFailed(error)),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Step::Eof),
                Poll::Ready(Ok(())) => Poll::Ready(self.pass_on(cx, buffer.filled(), to, progress)),
            }
        })
    }

    /// Writes what was just read, and keeps what is not taken.
    fn pass_on(&mut self, cx: &mut Context<'_>, bytes: &[u8], to: &mut Io, progress: &impl Progress) -> Step {
        let mut taken = 0;
        while taken < bytes.len() {
            match Pin::new(&mut *to).poll_write(cx, bytes.get(taken..).unwrap_or_default()) {
                Poll::Ready(Ok(0)) => return Step::WriteFailed(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(n)) => taken += n,
                Poll::Ready(Err(error)) => return Step::WriteFailed(error),
                Poll::Pending => break,
            }
        }
        if taken > 0 {
            self.flush = true;
            progress.moved(self.from, taken);
        }
        let rest = bytes.get(taken..).unwrap_or_default();
        self.rest.extend_from_slice(rest);
        if !rest.is_empty() {
            self.read = (self.read / 2).max(FIRST_READ).min(self.limit);
        } else if bytes.len() == self.read {
            self.read = (self.read * 2).min(self.limit);
            if self.can_splice && self.read >= BULK_READ {
                self.splice.get_or_insert_default();
            }
        }
        Step::Moved
    }

    fn wrote(&mut self, n: usize, progress: &impl Progress) {
        self.flush = true;
        progress.moved(self.from, n);
        self.gone += n;
        if self.gone >= self.rest.len() {
            (self.rest, self.gone) = (Vec::new(), 0);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &mut Io) -> Poll<io::Result<()>> {
        if self.flush {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.flush = false;
        }
        Poll::Ready(Ok(()))
    }
}

/// What one round of a direction came to.
pub(super) enum Step {
    Moved,
    Eof,
    /// Too little moves for splicing.
    Small,
    /// There is no pipe to splice through.
    NoPipe,
    Finished,
    ReadFailed(io::Error),
    WriteFailed(io::Error),
}

/// The socket, if its bytes are the stream's: no TLS around it, nothing read ahead.
fn plain(io: &Io) -> Option<&TcpStream> {
    match io {
        Io::Raw(RawIo { prefix, socket: Socket::Tcp(tcp) }) if prefix.is_empty() => Some(tcp),
        _ => None,
    }
}
