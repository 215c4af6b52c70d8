//! One request and its answer on an upstream connection.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use h2::client::ResponseFuture;
use h2::{Reason, SendStream};
use http::{Method, StatusCode};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{ClientEvent, Handle, Shared};
use crate::http::http2::frames::HEADER_LEN;
use crate::http::http2::recv::{RecvBody, RecvObserver};
use crate::http::http2::send::{Chunk, SendEnd, Sender, Sent};
use crate::http::http2::stats::Http2Stats;
use crate::http::http2::{error, head};
use crate::http::{
    Body, BodyError, BodySource, ByteStr, ExchangeError, Frame, RequestHead, ResetReason, ResponseHead, check,
};

/// Interim responses handed on; a peer that sends more is heard out, but only the first ones count.
const MAX_INTERIM: u32 = 8;

/// A request on its way and its answer. [`poll_head`](H2Exchange::poll_head) until the final head, then it is the
/// [`BodySource`] of the answer's body. Dropping it early resets the stream, with INTERNAL_ERROR as Envoy does.
pub struct H2Exchange {
    stage: Stage,
    request: RequestSide,
    active: Option<Active>,
    shared: Rc<Shared>,
    stream_id: u32,
    /// What the request asked to upgrade to.
    upgrade: Option<ByteStr>,
    is_head: bool,
    interim: u32,
    /// Of the request's body, if it has one.
    sent: Option<Rc<Cell<Sent>>>,
    received: u64,
    head_size: Cell<Option<u64>>,
}

enum Stage {
    /// An extended CONNECT may be sent only once the peer has said that it understands it; or at once where `allow_connect`
    /// says so in its place, as in Envoy.
    AwaitSettings(Box<(Rc<Handle>, RequestHead, Body)>),
    AwaitHead(ResponseFuture),
    Body(RecvBody<Ignore>),
    Done,
}

enum RequestSide {
    /// Driven by [`H2Exchange::poll_head`].
    Sending(Box<(Sender, SendStream<Chunk>)>),
    /// The answer came first: sending goes on by itself, because nobody need poll the answer while its reader is slow.
    Task(AbortOnDrop, Rc<RefCell<SendStream<Chunk>>>),
    /// Everything is sent, or nothing more can be; kept to reset the stream with.
    Sent(SendStream<Chunk>),
    Done,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts one exchange as open.
struct Active(Rc<Shared>);

impl Active {
    fn new(shared: &Rc<Shared>) -> Self {
        let now = Instant::now();
        if shared.active.get() == 0 {
            shared.was_idle.set(Some(now.saturating_duration_since(shared.idle_since.get())));
        }
        shared.active.set(shared.active.get() + 1);
        shared.settings.stats.gauge_inc(Http2Stats::STREAMS_ACTIVE);
        Active(Rc::clone(shared))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        self.0.idle_since.set(Instant::now());
        self.0.settings.stats.gauge_dec(Http2Stats::STREAMS_ACTIVE);
        if !self.0.closed.get() {
            self.0.notify(ClientEvent::Capacity);
        }
    }
}

impl H2Exchange {
    pub(super) fn start(handle: &Rc<Handle>, head: &RequestHead, body: Body) -> Result<Self, ExchangeError> {
        let shared = &handle.shared;
        let mut exchange = H2Exchange {
            stage: Stage::Done,
            request: RequestSide::Done,
            active: None,
            shared: Rc::clone(shared),
            stream_id: u32::MAX,
            upgrade: head.upgrade.clone(),
            is_head: head.method == Method::HEAD,
            interim: 0,
            sent: None,
            received: 0,
            head_size: Cell::new(None),
        };
        let ask_peer = head.upgrade.is_some() && !shared.settings.options.allow_connect;
        if ask_peer && shared.peer_max_streams.get().is_none() {
            exchange.stage = Stage::AwaitSettings(Box::new((Rc::clone(handle), head.clone(), body)));
        } else {
            exchange.send(handle, head, body)?;
        }
        exchange.active = Some(Active::new(shared));
        Ok(exchange)
    }

    fn send(&mut self, handle: &Handle, head: &RequestHead, body: Body) -> Result<(), ExchangeError> {
        let Some(mut send) = handle.send.borrow().clone() else {
            return Err(local(ResetReason::ConnectionTermination, "http2.connection_closed"));
        };
        let allowed = self.shared.settings.options.allow_connect || send.is_extended_connect_protocol_enabled();
        if head.upgrade.is_some() && !allowed {
            return Err(local(ResetReason::ProtocolError, "http2.extended_connect_not_supported"));
        }
        let request = head::request_to_send(head).map_err(|details| local(ResetReason::ProtocolError, details))?;
        let end = body.is_end_stream();
        let (response, stream) = send.send_request(request, end).map_err(|e| error::exchange_error(&e, false))?;
        self.stream_id = response.stream_id().as_u32();
        self.stage = Stage::AwaitHead(response);
        if !end {
            let shared = &self.shared;
            let sent = Rc::clone(self.sent.get_or_insert_default());
            let sender = Sender::new(body, Rc::clone(&shared.budget), shared.settings.stream_flush_timeout, sent);
            self.request = RequestSide::Sending(Box::new((sender, stream)));
        } else {
            self.request = RequestSide::Sent(stream);
        }
        Ok(())
    }

    /// The next interim response, or the final head. After the final head or an error it must not be polled again.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ExchangeError>> {
        let polled = self.poll_next_head(cx);
        if let Poll::Ready(Err(_)) = &polled {
            // The stream is over, or about to be: what h2 still holds of it is let go.
            self.reset(Reason::INTERNAL_ERROR);
            self.stage = Stage::Done;
            self.request = RequestSide::Done;
            self.active = None;
        }
        polled
    }

    fn poll_next_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ExchangeError>> {
        if let Stage::AwaitSettings(_) = &self.stage {
            ready!(self.poll_settings(cx))?;
        }
        self.poll_request(cx)?;
        let Stage::AwaitHead(response) = &mut self.stage else {
            return Poll::Ready(Err(local(ResetReason::LocalReset, "http2.local_reset")));
        };
        loop {
            match ready!(response.poll_informational(cx)) {
                Some(Ok(interim)) => {
                    self.interim += 1;
                    let (parts, ()) = interim.into_parts();
                    self.received += (head::decoded_size(&parts.headers) + HEADER_LEN) as u64;
                    match head::response(parts, None, self.shared.settings.list_limits()) {
                        Ok(head) if self.interim <= MAX_INTERIM => return Poll::Ready(Ok(head)),
                        Ok(_) => {}
                        Err(details) => return Poll::Ready(Err(self.refuse(details))),
                    }
                }
                Some(Err(failed)) => return Poll::Ready(Err(self.failed(&failed))),
                None => break,
            }
        }
        match ready!(Pin::new(response).poll(cx)) {
            Ok(response) => Poll::Ready(self.final_head(response)),
            Err(failed) => Poll::Ready(Err(self.failed(&failed))),
        }
    }

    /// Octets of this exchange on the wire, sent and received; received heads and all trailers count as they are
    /// uncompressed.
    pub fn bytes(&self) -> (u64, u64) {
        let body = self.sent.as_ref().map_or(0, |sent| sent.get().wire);
        (self.header_bytes_sent() + body, self.received)
    }

    /// Octets of the request's head on the wire; 0 before it has left. To be asked when the exchange is over.
    pub fn header_bytes_sent(&self) -> u64 {
        if let Some(size) = self.head_size.get() {
            return size;
        }
        let size = self.shared.wire.take_sent_head_size(self.stream_id);
        self.head_size.set((size > 0).then_some(size));
        size
    }

    fn poll_settings(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        if self.shared.peer_max_streams.get().is_none() && !self.shared.closed.get() {
            self.shared.waiting.borrow_mut().push(cx.waker().clone());
            return Poll::Pending;
        }
        if let Stage::AwaitSettings(waiting) = std::mem::replace(&mut self.stage, Stage::Done) {
            let (handle, head, body) = *waiting;
            self.send(&handle, &head, body)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends of the request's body what may be sent.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Result<(), ExchangeError> {
        let RequestSide::Sending(sending) = &mut self.request else { return Ok(()) };
        let (sender, stream) = &mut **sending;
        let Poll::Ready(end) = sender.poll(stream, cx) else { return Ok(()) };
        if let RequestSide::Sending(sending) = std::mem::replace(&mut self.request, RequestSide::Done) {
            self.request = RequestSide::Sent(sending.1);
        }
        match end {
            // A peer that resets may have answered before; its answer says more.
            SendEnd::Done | SendEnd::Reset(_) => Ok(()),
            SendEnd::BodyFailed(BodyError { reason, details }) => {
                Err(ExchangeError { refused: false, request_written: true, ..local(reason, details) })
            }
            SendEnd::Stalled => {
                self.shared.settings.stats.inc(Http2Stats::TX_FLUSH_TIMEOUT);
                let stalled = local(ResetReason::LocalReset, "http2.stream_flush_timeout");
                Err(ExchangeError { refused: false, request_written: true, ..stalled })
            }
        }
    }

    fn final_head(&mut self, response: http::Response<h2::RecvStream>) -> Result<ResponseHead, ExchangeError> {
        let (parts, recv) = response.into_parts();
        let limits = self.shared.settings.list_limits();
        let head = head::response(parts, self.upgrade.as_ref(), limits).map_err(|details| self.refuse(details))?;
        self.received += (head.wire_size + HEADER_LEN) as u64;
        if let RequestSide::Sending(_) = &self.request {
            self.detach_request();
        }
        if recv.is_end_stream() {
            self.finish();
        } else {
            let has_length = !self.is_head && head.status != StatusCode::NOT_MODIFIED;
            let content_length = check::content_length(&head.headers).unwrap_or_default().filter(|_| has_length);
            self.stage = Stage::Body(RecvBody::new(recv, content_length, limits, Ignore));
        }
        Ok(head)
    }

    /// Lets the request's body go on in a task of its own.
    fn detach_request(&mut self) {
        if let RequestSide::Sending(sending) = std::mem::replace(&mut self.request, RequestSide::Done) {
            let (mut sender, stream) = *sending;
            let stream = Rc::new(RefCell::new(stream));
            let kept = Rc::clone(&stream);
            let task = tokio::task::spawn_local(async move {
                // Whatever goes wrong resets the stream, which the reader of the answer sees.
                let end = poll_fn(|cx| sender.poll(&mut stream.borrow_mut(), cx)).await;
                if let SendEnd::BodyFailed(failed) = end {
                    stream.borrow_mut().send_reset(error::reset_code(failed.reason));
                }
            });
            self.request = RequestSide::Task(AbortOnDrop(task), kept);
        }
    }

    /// The answer is complete.
    fn finish(&mut self) {
        self.stage = Stage::Done;
        match &self.request {
            RequestSide::Task(task, _) if !task.0.is_finished() => {}
            RequestSide::Sending(_) => {}
            _ => {
                self.request = RequestSide::Done;
                self.active = None;
            }
        }
    }

    /// Refuses an answer that is not canonical.
    fn refuse(&mut self, details: &'static str) -> ExchangeError {
        let stats = &self.shared.settings.stats;
        stats.inc(Http2Stats::RX_MESSAGING_ERROR);
        match details {
            head::details::TOO_MANY_HEADERS => stats.inc(Http2Stats::HEADER_OVERFLOW),
            head::details::LIST_TOO_LARGE => stats.inc(Http2Stats::HEADER_LIST_SIZE_TOO_LARGE),
            _ => {}
        }
        self.reset(Reason::PROTOCOL_ERROR);
        ExchangeError {
            request_written: true,
            response_started: true,
            refused: false,
            ..local(ResetReason::ProtocolError, details)
        }
    }

    /// Gives up what is left of the stream; nothing if it is complete or was never opened.
    fn reset(&mut self, code: Reason) {
        match &mut self.request {
            RequestSide::Sending(sending) => sending.1.send_reset(code),
            RequestSide::Sent(stream) => stream.send_reset(code),
            RequestSide::Task(_, stream) => stream.borrow_mut().send_reset(code),
            RequestSide::Done => {}
        }
    }

    fn failed(&self, failed: &h2::Error) -> ExchangeError {
        let mut error = error::exchange_error(failed, self.shared.wire.has_sent_headers(self.stream_id));
        error.response_started = self.interim > 0;
        if let Some(violation) = self.shared.wire.violation() {
            (error.reason, error.details) = (ResetReason::ProtocolError, Cow::Borrowed(violation.details()));
            error.refused = !error.request_written;
        }
        error
    }
}

impl Drop for H2Exchange {
    fn drop(&mut self) {
        self.reset(Reason::INTERNAL_ERROR);
    }
}

impl BodySource for H2Exchange {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let Stage::Body(body) = &mut self.stage else { return Poll::Ready(None) };
        let mut frame = ready!(body.poll_frame(cx));
        self.received += match &frame {
            Some(Ok(Frame::Data(data))) => (data.len() + HEADER_LEN) as u64,
            Some(Ok(Frame::Trailers(trailers))) => (head::decoded_size(trailers) + HEADER_LEN) as u64,
            _ => 0,
        };
        if let (Some(Err(error)), Some(violation)) = (&mut frame, self.shared.wire.violation()) {
            (error.reason, error.details) = (ResetReason::ProtocolError, Cow::Borrowed(violation.details()));
        }
        if !matches!(frame, Some(Ok(Frame::Data(_)))) || body.is_end_stream() {
            self.finish();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Body(body) => body.is_end_stream(),
            Stage::Done => true,
            Stage::AwaitSettings(_) | Stage::AwaitHead(_) => false,
        }
    }

    fn exact_len(&self) -> Option<u64> {
        match &self.stage {
            Stage::Body(body) => body.exact_len(),
            _ => None,
        }
    }
}

/// An error before anything was sent.
fn local(reason: ResetReason, details: impl Into<Cow<'static, str>>) -> ExchangeError {
    ExchangeError {
        reason,
        details: details.into(),
        request_written: false,
        response_started: false,
        refused: reason != ResetReason::ProtocolError,
    }
}

/// Nobody is told about an answer's body as it passes; whoever reads it counts.
struct Ignore;

impl RecvObserver for Ignore {
    fn data(&self, _: usize) {}

    fn end(&self, _: bool) {}

    fn failed(&self, _: &BodyError) {}
}
