//! One request on a downstream connection, from its head to the last byte of the answer, in a task of its own.

use std::borrow::Cow;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, StatusCode};

use super::connection::ConnectionShared;
use crate::http::http2::error;
use crate::http::http2::frames::HEADER_LEN;
use crate::http::http2::head::{self, Refusal};
use crate::http::http2::recv::{RecvBody, RecvObserver};
use crate::http::http2::send::{Chunk, SendEnd, Sender, Sent};
use crate::http::http2::stats::Http2Stats;
use crate::http::{
    BadRequest, BadRequestKind, Body, BodyError, CodecService, Protocol, Reply, Request, ResetReason, StreamCtl, check,
};
use crate::stats::StatBlock;

/// So often the connection's task gets its turn before a stream is reset whose head was just handed over.
const FLUSH_TURNS: usize = 3;

/// Starts the task of a stream that was just accepted.
pub fn start<S: CodecService>(
    shared: &Rc<ConnectionShared<S>>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Chunk>,
) {
    let wire_size = shared.wire.take_head_size(respond.stream_id().as_u32());
    let stream = Stream::new(Rc::clone(shared), respond, head::decoded_size(request.headers()));
    // Nobody waits for it: it ends with its stream or with its connection.
    drop(tokio::task::spawn_local(stream.run(request, wire_size)));
}

/// What must be undone when the stream ends, however it ends.
struct Stream<S: CodecService> {
    shared: Rc<ConnectionShared<S>>,
    respond: SendResponse<Chunk>,
    ctl: Rc<StreamCtl>,
    head_bytes: usize,
}

impl<S: CodecService> Drop for Stream<S> {
    fn drop(&mut self) {
        let (shared, stats) = (&self.shared, &self.shared.settings.stats);
        stats.gauge_dec(Http2Stats::STREAMS_ACTIVE);
        shared.head_bytes.set(shared.head_bytes.get() - self.head_bytes);
        shared.active.set(shared.active.get() - 1);
        shared.idle_since.set(tokio::time::Instant::now());
        if std::thread::panicking() {
            stats.inc(Http2Stats::STREAM_PANICS);
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

/// What the answer depends on of the request.
#[derive(Clone, Copy)]
struct Asked {
    is_head: bool,
    is_extended_connect: bool,
}

impl<S: CodecService> Stream<S> {
    fn new(shared: Rc<ConnectionShared<S>>, respond: SendResponse<Chunk>, head_bytes: usize) -> Self {
        shared.settings.stats.gauge_inc(Http2Stats::STREAMS_ACTIVE);
        shared.active.set(shared.active.get() + 1);
        shared.head_bytes.set(shared.head_bytes.get() + head_bytes);
        Stream { shared, respond, ctl: Rc::default(), head_bytes }
    }

    async fn run(mut self, request: http::Request<RecvStream>, wire_size: Option<u64>) {
        let (parts, recv) = request.into_parts();
        let settings = &self.shared.settings;
        let head = match head::request(parts, wire_size, self.shared.is_tls, settings) {
            Ok(head) => head,
            Err(Refusal::Reset(details)) => {
                tracing::debug!(details, "request refused");
                return self.respond.send_reset(Reason::PROTOCOL_ERROR);
            }
            Err(Refusal::Answer(bad)) => {
                let mut reply = Rc::clone(&self.shared.service).bad_request(bad);
                // Unlike in HTTP/1, where the next request begins is known.
                reply.close_connection = false;
                return self.answer(reply, Asked { is_head: false, is_extended_connect: false }).await;
            }
        };
        let asked = Asked {
            is_head: head.method == Method::HEAD,
            is_extended_connect: head.method == Method::CONNECT && head.upgrade.is_some(),
        };
        self.ctl.wire_received.set(head.wire_size as u64);
        let body = self.body(recv, &head);
        let request = Request { head, body, ctl: Rc::clone(&self.ctl) };
        let replied = {
            let mut call = pin!(Rc::clone(&self.shared.service).call(request));
            poll_fn(|cx| {
                self.poll_interim(cx);
                if self.poll_lost(cx).is_ready() {
                    return Poll::Ready(None);
                }
                let owed = self.ctl.reset_status.get();
                let polled = call.as_mut().poll(cx).map(Some);
                match owed {
                    // The service knew of the broken body and has nothing to say.
                    Some(status) if polled.is_pending() => Poll::Ready(Some(self.bad_request(status))),
                    _ => polled,
                }
            })
            .await
        };
        if let Some(reply) = replied {
            self.answer(reply, asked).await;
        }
    }

    fn bad_request(&self, status: StatusCode) -> Reply {
        let details = self.ctl.reset_details.borrow().clone().unwrap_or(Cow::Borrowed(head::details::MESSAGING));
        let (kind, protocol) = (BadRequestKind::Protocol, Protocol::Http2);
        let wire_received = self.ctl.wire_received.get();
        let bad = BadRequest { kind, status, details, protocol, head: None, wire_received };
        let mut reply = Rc::clone(&self.shared.service).bad_request(bad);
        reply.close_connection = false;
        reply
    }

    fn body(&self, recv: RecvStream, head: &crate::http::RequestHead) -> Body {
        let observer = Observer { ctl: Rc::clone(&self.ctl), stats: self.shared.settings.stats.clone() };
        if recv.is_end_stream() {
            observer.end(false);
            return Body::Empty;
        }
        let content_length = check::content_length(&head.headers).unwrap_or_default();
        Body::Stream(Box::new(RecvBody::new(recv, content_length, self.shared.settings.list_limits(), observer)))
    }

    /// Sends the interim responses that wait.
    fn poll_interim(&mut self, cx: &mut Context<'_>) {
        let mut waker = self.ctl.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        self.send_interim();
    }

    fn send_interim(&mut self) {
        while let Some(interim) = self.ctl.informational.borrow_mut().pop_front() {
            if interim.status == StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            // Fails when the stream is gone, which is noticed elsewhere.
            let _ = self.respond.send_informational(head::response_to_send(interim, false));
        }
    }

    /// Ready when the peer has reset the stream or the connection is gone before the answer; says so to the service.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lost = match self.respond.poll_reset(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(code)) => error::remote_reset(code),
            Poll::Ready(Err(error)) => error::body_error(&error),
        };
        self.note_reset(lost);
        Poll::Ready(())
    }

    fn note_reset(&self, mut why: BodyError) {
        if self.shared.is_closing.get() {
            why = BodyError {
                reason: ResetReason::ConnectionTermination,
                details: Cow::Borrowed("http2.connection_closed"),
            };
        }
        self.ctl.reset.set(Some(why.reason));
        *self.ctl.reset_details.borrow_mut() = Some(why.details);
    }

    async fn answer(&mut self, reply: Reply, asked: Asked) {
        let Reply { head, body, close_connection, stream } = reply;
        self.send_interim();
        // Sending wakes the connection's task, which then finds the flag.
        if close_connection {
            self.shared.close_requested.set(true);
        }
        // To an extended CONNECT success says "the tunnel is open", which without 101 it is not: it is closed at once.
        let no_tunnel = asked.is_extended_connect && head.status.is_success();
        let bodiless =
            asked.is_head || no_tunnel || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let end = bodiless || body.is_end_stream();
        let response = head::response_to_send(head, asked.is_extended_connect);
        let head_bytes = (head::decoded_size(response.headers()) + HEADER_LEN) as u64;
        let mut send = match self.respond.send_response(response, end) {
            Ok(send) => send,
            Err(error) => {
                self.note_reset(error::body_error(&error));
                return self.respond.send_reset(Reason::INTERNAL_ERROR);
            }
        };
        self.ctl.first_tx.set(Some(Instant::now()));
        self.ctl.header_bytes_sent.set(head_bytes);
        self.ctl.wire_sent.set(head_bytes);
        if !end {
            let shared = &self.shared;
            let (budget, sent) = (Rc::clone(&shared.budget), Rc::new(Cell::new(Sent::default())));
            let mut sender = Sender::new(body, budget, shared.settings.stream_flush_timeout, Rc::clone(&sent));
            let ended = poll_fn(|cx| {
                let polled = sender.poll(&mut send, cx);
                self.ctl.body_sent.set(sent.get().body);
                self.ctl.wire_sent.set(head_bytes + sent.get().wire);
                polled
            })
            .await;
            match ended {
                SendEnd::Done => {}
                SendEnd::BodyFailed(failed) => {
                    // With a reset goes what `h2` still holds: what is good of the answer leaves first.
                    for _ in 0..FLUSH_TURNS {
                        tokio::task::yield_now().await;
                    }
                    send.send_reset(error::reset_code(failed.reason));
                }
                SendEnd::Reset(why) => self.note_reset(why),
                SendEnd::Stalled => {
                    shared.settings.stats.inc(Http2Stats::TX_FLUSH_TIMEOUT);
                    self.note_reset(BodyError {
                        reason: ResetReason::LocalReset,
                        details: Cow::Borrowed("http2.stream_flush_timeout"),
                    });
                }
            }
        }
        // Finishes the request: access log and stats, with what `ctl` now says.
        drop(stream);
    }
}

/// Writes down what came of the request's body.
struct Observer {
    ctl: Rc<StreamCtl>,
    stats: StatBlock<Http2Stats>,
}

impl RecvObserver for Observer {
    fn data(&self, len: usize) {
        let ctl = &self.ctl;
        ctl.body_received.set(ctl.body_received.get() + len as u64);
        ctl.wire_received.set(ctl.wire_received.get() + (len + HEADER_LEN) as u64);
    }

    fn end(&self, trailers: bool) {
        self.ctl.request_complete.set(Some(Instant::now()));
        if trailers {
            self.stats.inc(Http2Stats::TRAILERS);
        }
    }

    fn failed(&self, error: &BodyError) {
        if matches!(error.reason, ResetReason::RemoteReset | ResetReason::ConnectionTermination) {
            // Before anybody takes the broken body for a failure of the upstream.
            self.ctl.reset.set(Some(error.reason));
            *self.ctl.reset_details.borrow_mut() = Some(error.details.clone());
        }
        // Only of trailers beyond the limits does h2 not know, so that the stream can still be answered.
        if matches!(&*error.details, head::details::LIST_TOO_LARGE | head::details::TOO_MANY_HEADERS) {
            let ctl = &self.ctl;
            ctl.reset.set(Some(error.reason));
            *ctl.reset_details.borrow_mut() = Some(error.details.clone());
            ctl.reset_status.set(Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
            ctl.wake();
            self.stats.inc(Http2Stats::HEADER_OVERFLOW);
        }
    }
}
