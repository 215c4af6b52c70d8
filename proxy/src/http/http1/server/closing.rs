//! The end of a connection.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::{Connection, ConnectionEnd, EndCause, SHUTDOWN_TIMEOUT, Stall, State, Step};
use crate::http::CodecService;

/// The end of a connection, when nothing new is written any more.
pub struct Closing {
    pub cause: EndCause,
    pub active_request: bool,
    pub phase: Phase,
    pub stall: Stall,
    /// Since when there is nothing left to write.
    pub since: Option<Instant>,
    /// Only a reset tells the peer that the response is cut.
    pub reset: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Write the rest, then wait for the peer to close.
    Linger,
    /// Write the rest, close the sending side, then wait for the peer to close: the end of a tunnel.
    HalfClose,
    /// Write the rest, then close.
    Close,
}

impl<S: CodecService> Connection<S> {
    /// Ends the connection under whatever it does: the call or the response is cancelled.
    pub(super) fn cut(&mut self, cause: EndCause) {
        let state = self.take_state();
        let exchange = state.exchange();
        if let Some(exchange) = exchange {
            exchange.reset(cause);
        }
        let active_request = exchange.is_some();
        drop(state);
        self.out.release();
        self.close(cause, active_request, Phase::Close);
    }

    pub(super) fn close(&mut self, cause: EndCause, active_request: bool, phase: Phase) {
        let stall = Stall::default();
        self.state = State::Close(Closing { cause, active_request, phase, stall, since: None, reset: false });
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Step {
        if !self.out.is_empty() {
            match self.flush(cx) {
                Ok(Poll::Ready(())) => self.out.release(),
                Ok(Poll::Pending) if !self.write_stalled(cx) => return Step::Pending,
                _ => self.out.release(),
            }
        }
        let State::Close(closing) = &mut self.state else { return Step::Again };
        let wire = &mut *self.wire.borrow_mut();
        wire.buf = BytesMut::new();
        let since = *closing.since.get_or_insert_with(Instant::now);
        let end = ConnectionEnd::new(closing.cause, closing.active_request);
        if closing.phase != Phase::Linger {
            let shut = Pin::new(&mut wire.io).poll_shutdown(cx).is_ready();
            match closing.phase {
                Phase::HalfClose if shut => closing.phase = Phase::Linger,
                Phase::Close if shut || self.timer.poll(cx, since + SHUTDOWN_TIMEOUT).is_ready() => {
                    wire.discard_received(cx);
                    return Step::End(end);
                }
                Phase::Close => return Step::Pending,
                _ => {}
            }
        }
        let Some(timed_out) = wire.drain(cx, &mut self.timer, since + self.settings.delayed_close_timeout) else {
            return Step::Pending;
        };
        wire.finish_close(closing.reset, cx);
        let delayed_close_timeout = timed_out && !self.settings.delayed_close_timeout.is_zero();
        Step::End(ConnectionEnd { delayed_close_timeout, ..end })
    }
}
