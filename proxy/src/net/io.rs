use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// A connected socket.
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A pipe inside the process, for tests and benches.
    Memory(DuplexStream),
}

/// A socket with the bytes that listener filters have already taken from it. Reads give those first.
pub struct RawIo {
    pub prefix: BytesMut,
    pub socket: Socket,
}

impl RawIo {
    pub fn new(socket: Socket) -> Self {
        RawIo { prefix: BytesMut::new(), socket }
    }
}

/// What network filters read and write: plain bytes, or the inside of TLS.
pub enum Io {
    Raw(RawIo),
    Tls(Box<TlsStream<RawIo>>),
    /// TLS from which bytes were read and put back.
    TlsAfter(BytesMut, Box<TlsStream<RawIo>>),
}

impl Io {
    pub fn raw(&self) -> &RawIo {
        match self {
            Io::Raw(raw) => raw,
            Io::Tls(tls) | Io::TlsAfter(_, tls) => tls.get_ref().0,
        }
    }

    /// Puts back bytes that were read from this stream: the next reads give them again.
    pub fn unread(&mut self, mut bytes: BytesMut) {
        match self {
            Io::Raw(raw) => {
                bytes.extend_from_slice(&raw.prefix);
                raw.prefix = bytes;
            }
            Io::TlsAfter(prefix, _) => {
                bytes.extend_from_slice(prefix);
                *prefix = bytes;
            }
            Io::Tls(_) => {
                let closed = Io::Raw(RawIo::new(Socket::Memory(tokio::io::duplex(1).0)));
                if let Io::Tls(tls) = std::mem::replace(self, closed) {
                    *self = Io::TlsAfter(bytes, tls);
                }
            }
        }
    }

    /// Readiness to read without holding a buffer, so that an idle connection owns none. `Ready` means "try": what came
    /// may be of no use to the reader, like a session ticket.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Io::Raw(raw) => raw.poll_read_ready(cx),
            Io::TlsAfter(prefix, _) if !prefix.is_empty() => Poll::Ready(Ok(())),
            Io::Tls(tls) | Io::TlsAfter(_, tls) => match tls.get_ref() {
                // All that was received is decrypted and read: only the socket has more.
                (raw, session) if session.wants_read() => raw.poll_read_ready(cx),
                _ => Poll::Ready(Ok(())),
            },
        }
    }
}

impl RawIo {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            _ if !self.prefix.is_empty() => Poll::Ready(Ok(())),
            Socket::Tcp(tcp) => tcp.poll_read_ready(cx),
            Socket::Unix(unix) => unix.poll_read_ready(cx),
            Socket::Memory(_) => Poll::Ready(Ok(())),
        }
    }
}

/// Moves bytes from `prefix` to `buf`; an emptied prefix gives its memory back.
fn take_prefix(prefix: &mut BytesMut, buf: &mut ReadBuf<'_>) {
    let n = prefix.len().min(buf.remaining());
    buf.put_slice(prefix.get(..n).unwrap_or_default());
    prefix.advance(n);
    if prefix.is_empty() {
        *prefix = BytesMut::new();
    }
}

impl AsyncRead for RawIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            take_prefix(&mut self.prefix, buf);
            return Poll::Ready(Ok(()));
        }
        match &mut self.socket {
            Socket::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Socket::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Socket::Memory(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

macro_rules! each_socket {
    ($self:ident, $s:ident => $e:expr) => {
        match &mut $self.socket {
            Socket::Tcp($s) => $e,
            Socket::Unix($s) => $e,
            Socket::Memory($s) => $e,
        }
    };
}

impl AsyncWrite for RawIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each_socket!(self, s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each_socket!(self, s => Pin::new(s).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_socket!(self, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_socket!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Io::Raw(raw) => Pin::new(raw).poll_read(cx, buf),
            Io::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Io::TlsAfter(prefix, tls) if prefix.is_empty() => Pin::new(tls).poll_read(cx, buf),
            Io::TlsAfter(prefix, _) => {
                take_prefix(prefix, buf);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Io::Raw(raw) => Pin::new(raw).poll_write(cx, buf),
            Io::Tls(tls) | Io::TlsAfter(_, tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Io::Raw(raw) => Pin::new(raw).poll_write_vectored(cx, bufs),
            Io::Tls(tls) | Io::TlsAfter(_, tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Io::Raw(raw) => Pin::new(raw).poll_flush(cx),
            Io::Tls(tls) | Io::TlsAfter(_, tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Io::Raw(raw) => Pin::new(raw).poll_shutdown(cx),
            Io::Tls(tls) | Io::TlsAfter(_, tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
