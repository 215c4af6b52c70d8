//! One request and its answer on an upstream connection, whichever codec carries it, and the body that is left of it
//! after the head.

use std::borrow::Cow;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::accounting::Accounting;
use super::replies;
use super::replies::TRY_IDLED;
use super::tcp::TcpExchange;
use super::tries::TryTimer;
use crate::http::http1::H1Exchange;
use crate::http::http2::client::H2Exchange;
use crate::http::{
    Body, BodyError, BodySource, ExchangeError, Frame, RequestHead, ResetReason, ResponseHead, StreamCtl,
};
use crate::http_filters::LocalReply;
use crate::pool::{Lease, LeaseH1, LeaseH2};
use crate::stats::names::ClusterStats;

/// An exchange under way. Dropping it before the end resets the upstream stream (HTTP/1: closes the connection).
pub struct Exchange {
    wire: Wire,
    accounting: Accounting,
    ctl: Rc<StreamCtl>,
}

#[expect(clippy::large_enum_variant, reason = "one for each request, which would cost an allocation to shrink")]
enum Wire {
    H1 {
        exchange: H1Exchange,
        lease: LeaseH1,
    },
    H2 {
        exchange: H2Exchange,
        lease: LeaseH2,
    },
    /// A CONNECT that ends here.
    Tcp(Box<TcpExchange>),
    /// Ended; the connection went where it belongs.
    Done,
}

impl Exchange {
    /// Hands the request to the connection.
    ///
    /// # Errors
    /// When the request cannot be written in the connection's protocol, or the connection is gone.
    pub fn start(
        lease: Lease,
        head: &RequestHead,
        body: Body,
        accounting: Accounting,
        ctl: Rc<StreamCtl>,
    ) -> Result<Self, Box<LocalReply>> {
        let wire = match lease {
            Lease::H1(mut lease) => {
                let Some(client) = lease.take() else { return Err(Box::new(gone())) };
                match client.start(head, body) {
                    Ok(exchange) => Wire::H1 { exchange, lease },
                    Err(error) => return Err(Box::new(replies::reset_before_response(&error, false))),
                }
            }
            Lease::H2(lease) => match lease.shared.client.start(head, body) {
                Ok(exchange) => Wire::H2 { exchange, lease },
                Err(error) => return Err(Box::new(replies::reset_before_response(&error, false))),
            },
            Lease::Tcp(lease) => Wire::Tcp(Box::new(TcpExchange::new(lease, body))),
        };
        Ok(Exchange { wire, accounting, ctl })
    }

    /// The final response's head. Interim heads go to `interim`.
    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        interim: &mut dyn FnMut(ResponseHead),
    ) -> Poll<Result<ResponseHead, ExchangeError>> {
        loop {
            let head = match &mut self.wire {
                Wire::H1 { exchange, .. } => exchange.poll_head(cx),
                Wire::H2 { exchange, .. } => exchange.poll_head(cx),
                Wire::Tcp(exchange) => return Poll::Ready(Ok(exchange.head())),
                Wire::Done => return Poll::Pending,
            };
            match head {
                Poll::Ready(Ok(head)) if is_interim(&head) => interim(head),
                // The client broke off or broke the rules: its codec answers and drops this stream.
                Poll::Ready(Err(_)) if self.ctl.reset.get().is_some() => return Poll::Pending,
                other => return other,
            }
        }
    }

    /// The exchange failed before its response.
    pub fn failed(&mut self, error: &ExchangeError) {
        self.accounting.reset(error.reason);
        self.close(true);
    }

    /// `per_try_idle_timeout` ran out.
    pub fn idled(&mut self) {
        self.accounting.timed_out();
        self.close(false);
    }

    /// The response is thrown away for another attempt's.
    pub fn retire(mut self, head: &ResponseHead, request_complete: bool) {
        self.accounting.retried(head);
        if self.is_end_stream() && request_complete {
            self.accounting.abandon();
            self.complete(Instant::now());
        }
    }

    /// The request's body, if nothing of the request was sent.
    pub fn untouched_body(&mut self) -> Option<Body> {
        match &mut self.wire {
            Wire::H1 { exchange, .. } => exchange.untouched_body(),
            Wire::H2 { .. } | Wire::Tcp(_) | Wire::Done => None,
        }
    }

    /// Octets sent and received so far.
    pub fn bytes(&self) -> (u64, u64) {
        match &self.wire {
            Wire::H1 { exchange, .. } => exchange.bytes(),
            Wire::H2 { exchange, .. } => exchange.bytes(),
            Wire::Tcp(exchange) => exchange.bytes(),
            Wire::Done => (0, 0),
        }
    }

    /// The response is of no use.
    pub fn abandon(&mut self) {
        self.accounting.abandon();
        self.close(false);
    }

    pub fn response_head(&mut self, head: &ResponseHead, request: &RequestHead, request_complete: Option<Instant>) {
        self.ctl.upstream.header_received.set(head.wire_size as u64);
        self.accounting.response(head, request, request_complete);
    }

    /// Tells the stream what this exchange cost on the wire.
    fn note_wire(&self) {
        let wire = &self.ctl.upstream;
        let (bytes, header_sent) = match &self.wire {
            Wire::H1 { exchange, .. } => (exchange.bytes(), exchange.header_bytes_sent()),
            Wire::H2 { exchange, .. } => (exchange.bytes(), exchange.header_bytes_sent()),
            Wire::Tcp(exchange) => (exchange.bytes(), 0),
            Wire::Done => return,
        };
        match &self.wire {
            Wire::H1 { lease, .. } => lease.connection.count_bytes(bytes),
            Wire::Tcp(exchange) => exchange.lease().connection.count_bytes(bytes),
            Wire::H2 { lease, .. } => {
                let (received, sent) = lease.shared.client.bytes();
                lease.shared.connection.note_bytes((sent, received));
            }
            Wire::Done => {}
        }
        wire.sent.set(bytes.0);
        wire.received.set(bytes.1);
        wire.header_sent.set(header_sent);
    }

    /// What follows the head. A response that is complete with its head gives its connection back here.
    pub fn into_body(mut self, idle: Option<Box<TryTimer>>) -> Body {
        if self.is_end_stream() {
            self.complete(Instant::now());
            return Body::Empty;
        }
        Body::Stream(Box::new(ResponseBody { exchange: self, idle }))
    }

    fn is_end_stream(&self) -> bool {
        match &self.wire {
            Wire::H1 { exchange, .. } => exchange.is_end_stream(),
            Wire::H2 { exchange, .. } => exchange.is_end_stream(),
            Wire::Tcp(exchange) => exchange.is_end_stream(),
            Wire::Done => true,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match &mut self.wire {
            Wire::H1 { exchange, .. } => exchange.poll_frame(cx),
            Wire::H2 { exchange, .. } => exchange.poll_frame(cx),
            Wire::Tcp(exchange) => exchange.poll_frame(cx),
            Wire::Done => Poll::Ready(None),
        }
    }

    /// The response ended cleanly: a connection that can serve again goes back to its pool.
    fn complete(&mut self, now: Instant) {
        self.accounting.complete(now);
        self.ctl.upstream.last_rx.set(Some(now));
        self.note_wire();
        match std::mem::replace(&mut self.wire, Wire::Done) {
            Wire::H1 { exchange, lease } => {
                if exchange.has_excess() {
                    self.accounting.cluster.stats.inc(ClusterStats::UPSTREAM_CX_PROTOCOL_ERROR);
                }
                if exchange.close_announced() {
                    self.accounting.cluster.stats.inc(ClusterStats::UPSTREAM_CX_CLOSE_NOTIFY);
                }
                match exchange.into_client() {
                    Some(client) => lease.give_back(client),
                    None => lease.connection.closed_by_us(false),
                }
            }
            Wire::Tcp(exchange) => exchange.lease().connection.closed_by_peer(false),
            Wire::H2 { .. } | Wire::Done => {}
        }
    }

    fn close(&mut self, by_peer: bool) {
        self.note_wire();
        let connection = match &self.wire {
            Wire::H1 { lease, .. } => Some(&lease.connection),
            Wire::Tcp(exchange) => Some(&exchange.lease().connection),
            Wire::H2 { .. } | Wire::Done => None,
        };
        if let Some(connection) = connection {
            if by_peer { connection.closed_by_peer(true) } else { connection.closed_by_us(true) }
        }
        self.wire = Wire::Done;
    }
}

fn is_interim(head: &ResponseHead) -> bool {
    head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS
}

fn gone() -> LocalReply {
    replies::reset_before_response(
        &ExchangeError {
            reason: ResetReason::ConnectionTermination,
            details: "".into(),
            request_written: false,
            response_started: false,
            refused: true,
        },
        false,
    )
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !matches!(self.wire, Wire::Done) {
            self.close(false);
        }
    }
}

/// What follows a response's head, with the exchange it comes from.
pub struct ResponseBody {
    exchange: Exchange,
    /// `per_try_idle_timeout`.
    idle: Option<Box<TryTimer>>,
}

impl BodySource for ResponseBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = match self.exchange.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some(timer) = &mut self.idle else { return Poll::Pending };
                std::task::ready!(timer.poll(cx, None, self.exchange.bytes()));
                self.exchange.idled();
                let details = Cow::Borrowed(TRY_IDLED);
                return Poll::Ready(Some(Err(BodyError { reason: ResetReason::LocalReset, details })));
            }
        };
        let now = Instant::now();
        match &frame {
            None => self.exchange.complete(now),
            Some(Ok(_)) => {
                let wire = &self.exchange.ctl.upstream;
                if wire.first_rx_body.get().is_none() {
                    wire.first_rx_body.set(Some(now));
                }
                if self.is_end_stream() {
                    self.exchange.complete(now);
                }
            }
            Some(Err(error)) => {
                self.exchange.accounting.reset(error.reason);
                self.exchange.close(true);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.exchange.is_end_stream()
    }

    fn exact_len(&self) -> Option<u64> {
        match &self.exchange.wire {
            Wire::H1 { exchange, .. } => exchange.exact_len(),
            Wire::H2 { exchange, .. } => exchange.exact_len(),
            Wire::Tcp(_) => None,
            Wire::Done => Some(0),
        }
    }
}
