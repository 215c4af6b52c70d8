//! Reading from a socket into a buffer that is as large as what came.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::net::Io;

/// What is read on the stack and copied: heads and small bodies. Larger bodies are read where they stay.
pub const SMALL_READ: usize = 8 * 1024;
const MAX_READ: usize = 64 * 1024;

/// Reads once. `want` says how much may be of use. `Ready(0)` is the end, also one that TLS was not told of: too many peers
/// close without a word for it to be an error.
pub fn poll_fill(io: &mut Io, buf: &mut BytesMut, want: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    match ready!(poll_read(io, buf, want, cx)) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
        read => Poll::Ready(read),
    }
}

fn poll_read(io: &mut Io, buf: &mut BytesMut, want: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    if want <= SMALL_READ {
        let mut scratch = [MaybeUninit::uninit(); SMALL_READ];
        let mut scratch = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(io).poll_read(cx, &mut scratch))?;
        buf.extend_from_slice(scratch.filled());
        return Poll::Ready(Ok(scratch.filled().len()));
    }
    if buf.capacity() - buf.len() < SMALL_READ {
        buf.reserve(want.min(MAX_READ));
    }
    pin!(io.read_buf(buf)).poll(cx)
}

/// Reads once and forgets what came.
pub fn poll_discard(io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut scratch = [MaybeUninit::uninit(); SMALL_READ];
    let mut scratch = ReadBuf::uninit(&mut scratch);
    ready!(Pin::new(io).poll_read(cx, &mut scratch))?;
    Poll::Ready(Ok(scratch.filled().len()))
}
