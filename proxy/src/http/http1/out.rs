//! Bytes on their way to a socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::net::Io;

/// Pieces up to this size are copied behind what is there: one more `iovec` and a reference count cost more. It is also how
/// much a head and the piece behind it may come to before they are two slices of one write.
const COPY_UP_TO: usize = 4096;
const MAX_SLICES: usize = 16;

/// What is to be written: large pieces as they came, and small ones, copied together, behind them.
#[derive(Default)]
pub struct OutBuf {
    queue: VecDeque<Bytes>,
    queued: usize,
    tail: BytesMut,
}

impl OutBuf {
    pub fn len(&self) -> usize {
        self.queued + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queued == 0 && self.tail.is_empty()
    }

    /// Where small things are written.
    pub fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    pub fn push(&mut self, piece: Bytes) {
        if piece.len() <= COPY_UP_TO {
            self.tail.extend_from_slice(&piece);
            return;
        }
        if !self.tail.is_empty() {
            let small = self.tail.split().freeze();
            self.queued += small.len();
            self.queue.push_back(small);
        }
        self.queued += piece.len();
        self.queue.push_back(piece);
    }

    /// Drops what has not been written, and all memory.
    pub fn release(&mut self) {
        *self = OutBuf::default();
    }

    /// Writes all of it. `written` counts what the socket took, also when it takes no more for now.
    pub fn poll_flush(&mut self, io: &mut Io, cx: &mut Context<'_>, written: &mut usize) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let n = ready!(self.poll_write(io, cx))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *written += n;
            self.consume(n);
        }
        Pin::new(io).poll_flush(cx)
    }

    fn poll_write(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.queue.is_empty() {
            return Pin::new(io).poll_write(cx, &self.tail);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let pieces = self.queue.iter().map(|piece| &piece[..]).chain([&self.tail[..]]);
        let mut used = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            used += 1;
        }
        Pin::new(io).poll_write_vectored(cx, slices.get(..used).unwrap_or_default())
    }

    fn consume(&mut self, mut n: usize) {
        while n > 0 {
            match self.queue.front_mut() {
                Some(piece) if piece.len() > n => {
                    piece.advance(n);
                    self.queued -= n;
                    return;
                }
                Some(piece) => {
                    n -= piece.len();
                    self.queued -= piece.len();
                    self.queue.pop_front();
                }
                None => {
                    self.tail.advance(n.min(self.tail.len()));
                    return;
                }
            }
        }
    }
}
