//! A CONNECT (or POST) whose payload goes to the upstream as it is: `UpgradeConfig.connect_config`, Envoy's `TcpUpstream`.
//!
//! As soon as the connection is made the request is answered with 200 by the proxy itself. The request's body is written
//! to the connection and what comes back is the response's body; an end of either is passed on as a half-close.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::StatusCode;
use tokio::io::AsyncWrite;

use crate::http::http1::out::OutBuf;
use crate::http::http1::read::poll_fill;
use crate::http::{Body, BodyError, BodySource, Frame, ResetReason, ResponseHead};
use crate::pool::LeaseTcp;

/// What is read at once.
const READ: usize = 32 * 1024;
/// So much is taken from the client before the upstream has taken it.
const HIGH_WATER: usize = 64 * 1024;

/// One stream on a connection of its own.
pub struct TcpExchange {
    lease: LeaseTcp,
    body: Body,
    out: OutBuf,
    sending: Sending,
    /// The upstream has said its last byte.
    finished: bool,
    sent: u64,
    received: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sending {
    Body,
    /// The client has said its last byte: what is left goes out, then the half-close.
    Ending,
    Done,
}

impl TcpExchange {
    pub fn new(lease: LeaseTcp, body: Body) -> Self {
        let out = OutBuf::default();
        TcpExchange { lease, body, out, sending: Sending::Body, finished: false, sent: 0, received: 0 }
    }

    /// The answer, which needs nothing of the upstream.
    pub fn head(&self) -> ResponseHead {
        ResponseHead::new(StatusCode::OK)
    }

    pub fn bytes(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    pub fn lease(&self) -> &LeaseTcp {
        &self.lease
    }

    /// Sends what there is to send.
    fn pump(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        loop {
            let mut blocked = false;
            while self.sending == Sending::Body && self.out.len() < HIGH_WATER {
                match self.body.poll_frame(cx) {
                    Poll::Pending => {
                        blocked = true;
                        break;
                    }
                    Poll::Ready(Some(Ok(Frame::Data(data)))) => self.out.push(data),
                    // Bytes have no trailers.
                    Poll::Ready(Some(Ok(Frame::Trailers(_))) | None) => self.sending = Sending::Ending,
                    Poll::Ready(Some(Err(error))) => return Err(error),
                }
            }
            let mut written = 0;
            let flushed = self.out.poll_flush(&mut self.lease.io, cx, &mut written);
            self.sent += written as u64;
            match flushed {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(terminated()),
                Poll::Ready(Ok(())) => {}
            }
            match self.sending {
                Sending::Body if blocked => return Ok(()),
                Sending::Body => {}
                Sending::Ending => {
                    if Pin::new(&mut self.lease.io).poll_shutdown(cx).is_ready() {
                        self.sending = Sending::Done;
                        self.out.release();
                    }
                    return Ok(());
                }
                Sending::Done => return Ok(()),
            }
        }
    }
}

impl BodySource for TcpExchange {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        if let Err(error) = self.pump(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        let mut buf = BytesMut::new();
        match ready!(poll_fill(&mut self.lease.io, &mut buf, READ, cx)) {
            Ok(0) => {
                self.finished = true;
                Poll::Ready(None)
            }
            Ok(n) => {
                self.received += n as u64;
                Poll::Ready(Some(Ok(Frame::Data(buf.freeze()))))
            }
            Err(_) => Poll::Ready(Some(Err(terminated()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.finished
    }
}

fn terminated() -> BodyError {
    BodyError { reason: ResetReason::ConnectionTermination, details: Cow::Borrowed("") }
}
