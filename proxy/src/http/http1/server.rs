//! One downstream connection of a connection manager whose codec is HTTP/1 (Envoy's `Http1::ServerConnectionImpl` and the
//! parts of `ConnectionManagerImpl` that close connections).
//!
//! [`serve`] is one hand-written state machine: head, call, response, and again. The body of a request is pulled by whoever
//! has it and shares the reading side with the driver; while a request is in work the driver watches for the peer to go
//! away. A request is answered before the next one is read, so pipelining costs no memory beyond the read-ahead.
//!
//! Invariants:
//! - a connection between requests owns no buffer;
//! - at most the high-water mark, one piece and the read-ahead are held in memory, whatever the peer does;
//! - everything that waits for the peer has a deadline: idle, head, a write without progress, the close;
//! - after a message that cannot be ended cleanly the connection ends, never with what looks like an end of the message.
//!
//! As in Envoy: a peer that closes its sending side has gone away, except in a tunnel; a response that begins before its
//! request is complete closes the connection; a connection closed under a request waits `delayed_close_timeout` for the peer
//! to close first, so that what was written is not lost to a reset. Different from Envoy: in that time what comes is read and
//! dropped, and a tunnel is half-closed.

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use http::{Method, StatusCode};
use tokio::time::Instant;

use super::ServerSettings;
use super::chunked::ChunkedOptions;
use super::decode::BodyDecoder;
use super::head::{Parse, ParsedRequest, Scan, parse_request};
use super::out::OutBuf;
use super::read::SMALL_READ;
use super::timer::Timer;
use crate::http::check::{Violation, details};
use crate::http::http2::settings::jittered;
use crate::http::{BadRequest, BadRequestKind, Body, CodecService, Protocol, Reply, Request, ResetReason, StreamCtl};
use crate::net::Io;
use crate::server::drain::{Drain, DrainState};
use closing::{Closing, Phase};
use respond::Responding;
use wire::{RequestBody, Watched, Wire};

mod closing;
mod respond;
#[cfg(test)]
mod tests;
mod wire;

/// A peer that has taken nothing for so long is not slow but gone.
const WRITE_STALL: Duration = Duration::from_secs(300);
/// How long the closing of TLS may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// The peer closed or reset it.
    Peer,
    /// A message said so: `connection: close`, HTTP/1.0, a response without length, an early response.
    Message,
    /// A head or a body that is no HTTP.
    ProtocolError,
    /// The upstream failed after the response's head; the message could not be ended.
    CutResponse,
    HeadTimeout,
    IdleTimeout,
    MaxDuration,
    MaxRequests,
    Drain,
    /// The peer read nothing for five minutes.
    WriteStall,
    Tunnel,
}

/// How a connection ended, for the connection manager's statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionEnd {
    pub cause: EndCause,
    /// A request was in work.
    pub active_request: bool,
    /// `delayed_close_timeout` ran out before the peer closed.
    pub delayed_close_timeout: bool,
}

/// Serves one connection to its end. `buffer_limit` is the listener's `per_connection_buffer_limit_bytes`.
///
/// Dropping the future closes the connection at once and cancels the request in work.
pub async fn serve<S: CodecService>(
    io: Io,
    service: Rc<S>,
    settings: Arc<ServerSettings>,
    drain: Drain,
    buffer_limit: usize,
) -> ConnectionEnd {
    let mut waiting = drain.clone();
    // Never completes: it is only there to have this task woken.
    let mut drain_wakes = pin!(async move {
        loop {
            waiting.published().await;
        }
    });
    let mut connection = Connection::new(io, service, settings, drain, buffer_limit);
    poll_fn(|cx| {
        if connection.drain_news() {
            let _: Poll<()> = drain_wakes.as_mut().poll(cx);
        }
        connection.poll(cx)
    })
    .await
}

struct Connection<S> {
    wire: Rc<RefCell<Wire>>,
    out: OutBuf,
    state: State,
    timer: Timer,
    service: Rc<S>,
    settings: Arc<ServerSettings>,
    drain: Drain,
    drain_state: Option<DrainState>,
    /// It is older than `max_connection_duration`, and waits for a request to be told so in the response.
    too_old: bool,
    /// `max_connection_duration` and `drain_timeout` with this connection's share of jitter.
    max_duration: Option<Duration>,
    drain_timeout: Duration,
    high_water: usize,
    https: bool,
    requests: u32,
    since: Instant,
}

enum State {
    Head(HeadState),
    Call(Calling),
    Respond(Responding),
    Close(Closing),
}

struct HeadState {
    scan: Scan,
    blank_lines: u8,
    /// When the head began or, before its first byte, when the connection became idle.
    since: Instant,
    begun: bool,
}

struct Calling {
    call: Pin<Box<dyn Future<Output = Reply>>>,
    exchange: Exchange,
    /// The call has returned without a reply before, so the request could come in meanwhile.
    waited: bool,
    /// It was polled after the request broke the protocol.
    told: bool,
    stall: Stall,
}

/// What is known of the request in work until the response is written.
#[derive(Default)]
struct Exchange {
    ctl: Rc<StreamCtl>,
    head_request: bool,
    connect: bool,
    http_10: bool,
    keep_alive: bool,
    /// It asks for a tunnel.
    tunnel: bool,
}

/// Since when a write has made no progress.
#[derive(Default, Clone, Copy)]
struct Stall(Option<Instant>);

/// What a step of the state machine leaves to do.
enum Step {
    Again,
    Pending,
    End(ConnectionEnd),
}

impl<S: CodecService> Connection<S> {
    fn new(io: Io, service: Rc<S>, settings: Arc<ServerSettings>, drain: Drain, buffer_limit: usize) -> Self {
        let now = Instant::now();
        let info = Rc::clone(service.connection());
        Connection {
            https: matches!(io, Io::Tls(_)),
            wire: Rc::new(RefCell::new(Wire::new(io, info))),
            out: OutBuf::default(),
            state: State::Head(HeadState::new(now)),
            timer: Timer::default(),
            service,
            drain,
            drain_state: None,
            too_old: false,
            max_duration: settings
                .max_connection_duration
                .map(|max| jittered(max, settings.max_connection_duration_jitter, fastrand::f64())),
            drain_timeout: jittered(settings.drain_timeout, settings.drain_timeout_jitter, fastrand::f64()),
            settings,
            high_water: buffer_limit.clamp(16 * 1024, 128 * 1024),
            requests: 0,
            since: now,
        }
    }

    /// Looks at the state of draining. Whether there was news, as there is at first.
    fn drain_news(&mut self) -> bool {
        let news = self.drain_state.is_none() || self.drain.has_news();
        self.drain_state = Some(self.drain.refresh());
        news
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEnd> {
        self.wire.borrow_mut().enter(cx);
        if self.drain_state == Some(DrainState::Closing) && !matches!(self.state, State::Close(_)) {
            self.cut(EndCause::Drain);
        }
        loop {
            let step = match &self.state {
                State::Head(_) => self.poll_head(cx),
                State::Call(_) => self.poll_call(cx),
                State::Respond(_) => self.poll_respond(cx),
                State::Close(_) => self.poll_close(cx),
            };
            match step {
                Step::Again => {}
                Step::Pending => return Poll::Pending,
                Step::End(end) => return Poll::Ready(end),
            }
        }
    }

    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Head(HeadState::new(self.since)))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            match self.parse() {
                Parse::Done((request, size)) => {
                    self.begin(request, size);
                    return Step::Again;
                }
                Parse::Refused(violation) => {
                    self.refuse(violation, EndCause::ProtocolError, Exchange::default());
                    return Step::Again;
                }
                Parse::Partial => {}
            }
            let read = {
                let wire = &mut *self.wire.borrow_mut();
                // A large head gets room for the largest at once: growing step by step leaves the steps behind.
                let want = match wire.buf.len() {
                    ..SMALL_READ => SMALL_READ,
                    held => self.settings.limits.max_bytes.saturating_sub(held).max(SMALL_READ + 1),
                };
                wire.poll_fill(want, cx)
            };
            match read {
                Poll::Ready(Ok(n)) if n > 0 => {
                    if let State::Head(head) = &mut self.state
                        && !head.begun
                    {
                        *head = HeadState { begun: true, since: Instant::now(), ..*head };
                    }
                }
                Poll::Ready(_) => {
                    let begun = matches!(&self.state, State::Head(HeadState { begun: true, .. }));
                    if begun {
                        Rc::clone(&self.service).abandoned(self.wire.borrow().buf.len() as u64);
                    }
                    return Step::End(ConnectionEnd::new(EndCause::Peer, begun));
                }
                Poll::Pending => return self.wait_for_head(cx),
            }
        }
    }

    /// A request from the front of the read buffer, with its size. An empty buffer is given back.
    fn parse(&mut self) -> Parse<(ParsedRequest, usize)> {
        let State::Head(head) = &mut self.state else { return Parse::Partial };
        let wire = &mut *self.wire.borrow_mut();
        let before = wire.buf.len();
        if before == 0 {
            return Parse::Partial;
        }
        let parsed = parse_request(&mut wire.buf, &mut head.scan, &mut head.blank_lines, &self.settings, self.https);
        let size = before - wire.buf.len();
        if wire.buf.is_empty() {
            wire.buf = BytesMut::new();
            // Empty lines alone begin no request.
            head.begun = false;
        }
        match parsed {
            Parse::Done(request) => Parse::Done((request, size)),
            Parse::Partial => Parse::Partial,
            Parse::Refused(violation) => Parse::Refused(violation),
        }
    }

    /// Nothing to read: looks at the deadlines.
    fn wait_for_head(&mut self, cx: &mut Context<'_>) -> Step {
        let State::Head(head) = &mut self.state else { return Step::Again };
        if head.begun {
            let (timeout, kind, details) = self.settings.head_timeout();
            if self.timer.poll(cx, head.since + timeout).is_pending() {
                return Step::Pending;
            }
            let timeout = Violation { status: StatusCode::REQUEST_TIMEOUT, details };
            self.refuse_as(kind, timeout, EndCause::HeadTimeout, Exchange::default());
            return Step::Again;
        }
        let settings = &self.settings;
        let idle = settings.idle_timeout.map(|timeout| (head.since + timeout, EndCause::IdleTimeout));
        // A peer whose connection is too old gets time for one more request, because only a response can tell it.
        let waits = self.too_old && settings.safe_max_connection_duration;
        let age = self.max_duration.filter(|_| !waits).map(|max| {
            let grace = if self.too_old { self.drain_timeout } else { Duration::ZERO };
            (self.since + max + grace, EndCause::MaxDuration)
        });
        let stopping = self.drain_state >= Some(DrainState::Stopping);
        let drain = stopping.then_some((head.since, EndCause::Drain));
        let Some((at, cause)) = [idle, age, drain].into_iter().flatten().min_by_key(|(at, _)| *at) else {
            return Step::Pending;
        };
        if self.timer.poll(cx, at).is_pending() {
            return Step::Pending;
        }
        if cause == EndCause::MaxDuration && self.requests > 0 && !self.too_old {
            self.too_old = true;
        } else {
            self.close(cause, false, Phase::Close);
        }
        Step::Again
    }

    fn begin(&mut self, request: ParsedRequest, size: usize) {
        let ParsedRequest { head, framing, keep_alive } = request;
        let connect = head.method == Method::CONNECT;
        let tunnel = connect || head.upgrade.is_some();
        let ctl = Rc::new(StreamCtl::default());
        ctl.wire_received.set(size as u64);
        let decoder = if tunnel { BodyDecoder::Held } else { BodyDecoder::new(framing, self.chunked_options()) };
        let body = if decoder.is_done() {
            ctl.request_complete.set(Some(std::time::Instant::now()));
            self.wire.borrow_mut().begin(decoder, Rc::clone(&ctl));
            Body::Empty
        } else {
            let serial = self.wire.borrow_mut().begin(decoder, Rc::clone(&ctl));
            Body::Stream(Box::new(RequestBody::new(Rc::clone(&self.wire), serial)))
        };
        let exchange = Exchange {
            ctl: Rc::clone(&ctl),
            head_request: head.method == Method::HEAD,
            connect,
            http_10: head.protocol == Protocol::Http10,
            keep_alive,
            tunnel,
        };
        self.requests = self.requests.saturating_add(1);
        let call = Box::pin(Rc::clone(&self.service).call(Request { head, body, ctl }));
        self.state = State::Call(Calling { call, exchange, waited: false, told: false, stall: Stall::default() });
    }

    fn chunked_options(&self) -> ChunkedOptions {
        ChunkedOptions {
            limits: self.settings.limits,
            enable_trailers: self.settings.enable_trailers,
            underscores: self.settings.headers_with_underscores_action,
            lenient: false,
        }
    }

    /// Answers what is no request, or what stopped being one in its body, and closes.
    fn refuse(&mut self, violation: Violation, cause: EndCause, exchange: Exchange) {
        self.refuse_as(BadRequestKind::Protocol, violation, cause, exchange);
    }

    fn refuse_as(&mut self, kind: BadRequestKind, violation: Violation, cause: EndCause, exchange: Exchange) {
        let bad = BadRequest {
            kind,
            status: violation.status,
            details: Cow::Borrowed(violation.details),
            protocol: Protocol::Http11,
            head: None,
            wire_received: exchange.ctl.wire_received.get() + self.wire.borrow().buf.len() as u64,
        };
        let mut reply = Rc::clone(&self.service).bad_request(bad);
        reply.close_connection = true;
        {
            let wire = &mut *self.wire.borrow_mut();
            let received = exchange.ctl.wire_received.get() + wire.buf.len() as u64;
            exchange.ctl.wire_received.set(received);
            // What follows is not to be read as a request.
            wire.body = BodyDecoder::UntilClose;
            wire.buf = BytesMut::new();
        }
        self.respond(reply, exchange, false, cause);
    }

    fn poll_call(&mut self, cx: &mut Context<'_>) -> Step {
        // The peer is looked at before the reply is: one that went away gets none, as in Envoy.
        let mut polled = false;
        loop {
            let State::Call(calling) = &mut self.state else { return Step::Again };
            if calling.waited {
                let watched = self.wire.borrow_mut().watch(cx);
                match watched {
                    Watched::Closed => {
                        self.cut(EndCause::Peer);
                        return Step::Again;
                    }
                    Watched::Nothing if polled => return Step::Pending,
                    Watched::Nothing | Watched::Bytes => {}
                }
                self.wire.borrow().note_received();
            }
            if let Poll::Ready(reply) = calling.call.as_mut().poll(cx) {
                if let State::Call(Calling { call, exchange, waited, .. }) = self.take_state() {
                    // With it goes the request's body, if nobody took it.
                    drop(call);
                    self.respond(reply, exchange, waited, EndCause::Message);
                }
                return Step::Again;
            }
            calling.waited = true;
            let violation = self.wire.borrow().violation;
            if let Some(violation) = violation {
                if !std::mem::replace(&mut calling.told, true) {
                    polled = false;
                    continue;
                }
                if let State::Call(Calling { call, exchange, .. }) = self.take_state() {
                    drop(call);
                    self.refuse(violation, EndCause::ProtocolError, exchange);
                }
                return Step::Again;
            }
            polled = true;
            calling.exchange.interim(&mut self.out, &self.settings);
            if !self.out.is_empty() {
                let cause = match self.flush(cx) {
                    Ok(Poll::Pending) if self.write_stalled(cx) => EndCause::WriteStall,
                    Err(_) => EndCause::Peer,
                    Ok(_) => continue,
                };
                self.cut(cause);
                return Step::Again;
            }
        }
    }

    /// Writes what there is to write, and counts it.
    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let mut written = 0;
        let flushed = {
            let wire = &mut *self.wire.borrow_mut();
            let flushed = self.out.poll_flush(&mut wire.io, cx, &mut written);
            wire.count_written(written);
            flushed
        };
        if written > 0 {
            if let Some(exchange) = self.state.exchange() {
                exchange.wrote(written, matches!(self.state, State::Respond(_)));
            }
            if let Some(stall) = self.state.stall() {
                *stall = Stall::default();
            }
        }
        match flushed {
            Poll::Ready(result) => result.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Called when a write has to wait: whether it has for too long.
    fn write_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(stall) = self.state.stall() else { return false };
        let since = *stall.0.get_or_insert_with(Instant::now);
        self.timer.poll(cx, since + WRITE_STALL).is_ready()
    }
}

impl<S> Drop for Connection<S> {
    /// A request that is dropped with its connection learns that it was not the peer who went away.
    fn drop(&mut self) {
        if let Some(exchange) = self.state.exchange() {
            exchange.reset(EndCause::Drain);
        }
    }
}

impl State {
    fn exchange(&self) -> Option<&Exchange> {
        match self {
            State::Call(calling) => Some(&calling.exchange),
            State::Respond(responding) => Some(&responding.exchange),
            State::Head(_) | State::Close(_) => None,
        }
    }

    fn stall(&mut self) -> Option<&mut Stall> {
        match self {
            State::Call(calling) => Some(&mut calling.stall),
            State::Respond(responding) => Some(&mut responding.stall),
            State::Close(closing) => Some(&mut closing.stall),
            State::Head(_) => None,
        }
    }
}

impl HeadState {
    fn new(since: Instant) -> Self {
        HeadState { scan: Scan::request(), blank_lines: 0, since, begun: false }
    }
}

impl ConnectionEnd {
    /// It was the peer who closed.
    pub fn by_peer(&self) -> bool {
        self.cause == EndCause::Peer
    }

    fn new(cause: EndCause, active_request: bool) -> Self {
        ConnectionEnd { cause, active_request, delayed_close_timeout: false }
    }
}

impl Exchange {
    fn reset(&self, cause: EndCause) {
        self.ctl.reset.set(Some(ResetReason::ConnectionTermination));
        let details = match cause {
            EndCause::Peer => details::DOWNSTREAM_REMOTE_DISCONNECT,
            _ => details::DOWNSTREAM_LOCAL_DISCONNECT,
        };
        *self.ctl.reset_details.borrow_mut() = Some(Cow::Borrowed(details));
    }

    fn wrote(&self, n: usize, is_final: bool) {
        let ctl = &self.ctl;
        ctl.wire_sent.set(ctl.wire_sent.get() + n as u64);
        if is_final && ctl.first_tx.get().is_none() {
            ctl.first_tx.set(Some(std::time::Instant::now()));
        }
    }
}
