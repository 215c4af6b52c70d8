//! One connection to an upstream host (Envoy's `Http1::ClientConnectionImpl`).
//!
//! A pool holds idle [`H1Client`]s. [`H1Client::start`] turns one into an [`H1Exchange`], which sends the request's body while
//! it reads the answer: everything happens when the exchange is polled, on the caller's task. When both directions are
//! cleanly over, [`H1Exchange::into_client`] gives the connection back; dropping an exchange before that closes it.
//!
//! Invariants:
//! - a connection is reusable only if the request was sent to its end, the answer ended by its own framing, both sides may
//!   keep alive and nothing came behind the answer;
//! - bytes that come before the request is sent are never taken for its answer;
//! - an answer that is cut is an error, never an end;
//! - what is sent has passed [`check::request`].
//!
//! Deliberately missing: pipelining, timeouts (the router's and the pool's).

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::{Method, StatusCode};
use tokio::io::AsyncWrite;

use super::ClientSettings;
use super::chunked::ChunkedOptions;
use super::decode::{BodyDecoder, Piece};
use super::encode::{self, BodyEncoder, RequestOptions};
use super::head::{Asked, Parse, ParsedResponse, Scan, parse_response};
use super::out::OutBuf;
use super::read::{SMALL_READ, poll_discard, poll_fill};
use crate::http::check::{self, UnderscoreAction, details};
use crate::http::{Body, BodyError, BodySource, ExchangeError, Frame, RequestHead, ResetReason, ResponseHead};
use crate::net::Io;

#[cfg(test)]
mod tests;

/// So many interim responses are handed on; a client has no use for more.
const MAX_INTERIM: u32 = 8;
/// And so many are read before the upstream is taken for broken.
const MAX_INTERIM_READ: u32 = 10_000;

/// Why an idle connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleEnd {
    Closed,
    /// The peer sent what is no answer to anything.
    Unasked,
}

/// An idle connection.
pub struct H1Client {
    io: Io,
    buf: BytesMut,
    out: OutBuf,
    settings: Arc<ClientSettings>,
    high_water: usize,
}

impl H1Client {
    pub fn new(io: Io, settings: Arc<ClientSettings>) -> Self {
        let high_water = settings.buffer_limit.clamp(16 * 1024, 128 * 1024);
        H1Client { io, buf: BytesMut::new(), out: OutBuf::default(), settings, high_water }
    }

    pub fn io(&self) -> &Io {
        &self.io
    }

    /// Ready when the peer has closed the connection or sent what nobody asked for: it is of no use any more.
    pub fn poll_idle_closed(&mut self, cx: &mut Context<'_>) -> Poll<IdleEnd> {
        if !self.buf.is_empty() {
            return Poll::Ready(IdleEnd::Unasked);
        }
        ready!(self.io.poll_read_ready(cx)).ok();
        poll_discard(&mut self.io, cx).map(|read| match read {
            Ok(n) if n > 0 => IdleEnd::Unasked,
            _ => IdleEnd::Closed,
        })
    }

    /// Begins an exchange. Nothing is written before it is polled.
    ///
    /// # Errors
    /// The head is not canonical: a filter or a route made of it what cannot be sent.
    pub fn start(mut self, head: &RequestHead, body: Body) -> Result<H1Exchange, ExchangeError> {
        if let Err(violation) = check::request(head) {
            return Err(ExchangeError {
                reason: ResetReason::ProtocolError,
                details: Cow::Borrowed(violation.details),
                request_written: false,
                response_started: false,
                refused: false,
            });
        }
        let asked = Asked {
            head_request: head.method == Method::HEAD,
            connect: head.method == Method::CONNECT,
            upgrade: head.upgrade.clone(),
        };
        let options =
            RequestOptions { enable_trailers: self.settings.enable_trailers, format: self.settings.header_key_format };
        let (encoder, header_bytes_sent) = encode::request(self.out.tail(), head, &body, &options);
        Ok(H1Exchange {
            sending: if asked.tunnel() { Sending::Held } else { Sending::Body },
            client: self,
            asked,
            body,
            encoder,
            decoder: BodyDecoder::Done,
            stage: Stage::Fresh,
            scan: Scan::response(),
            interim: 0,
            keep_alive: true,
            close_announced: false,
            has_data: false,
            refused: false,
            closed: false,
            sent: 0,
            received: 0,
            header_bytes_sent: header_bytes_sent as u64,
        })
    }
}

/// One request and its answer. After its head it is the [`BodySource`] of the answer.
pub struct H1Exchange {
    client: H1Client,
    asked: Asked,
    body: Body,
    encoder: BodyEncoder,
    sending: Sending,
    decoder: BodyDecoder,
    stage: Stage,
    scan: Scan,
    interim: u32,
    keep_alive: bool,
    /// The answer says that the connection closes after it.
    close_announced: bool,
    /// Some of the body is encoded.
    has_data: bool,
    /// The connection turned out to be closed before anything was written.
    refused: bool,
    /// The peer will send no more.
    closed: bool,
    sent: u64,
    received: u64,
    header_bytes_sent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is written yet.
    Fresh,
    /// Waiting for the final head.
    Head,
    Body,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    /// Bytes behind the head of an upgrade or CONNECT. An upstream that does not agree would take them for a request.
    Held,
    Body,
    /// Encoded to its end, which for a tunnel still has to be told.
    Encoded,
    Done,
    /// The peer does not take the rest. It may have answered all the same.
    Broken,
}

impl H1Exchange {
    /// The next head of the answer: interim ones (at most eight), then the final one. Sends the request meanwhile.
    ///
    /// # Errors
    /// The exchange failed, and the connection is of no use any more. If the request's own body failed the reason is
    /// `LocalReset` with the body's details.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ExchangeError>> {
        if matches!(self.stage, Stage::Body | Stage::Failed) {
            return Poll::Ready(Err(self.fail(ResetReason::LocalReset, details::CODEC_ERROR)));
        }
        loop {
            if self.stage == Stage::Fresh {
                ready!(self.poll_first_write(cx))?;
            } else if let Err(failed) = self.pump(cx) {
                return Poll::Ready(Err(self.fail(ResetReason::LocalReset, failed)));
            }
            while !self.client.buf.is_empty() {
                match self.parse_head() {
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) if self.client.buf.is_empty() => {}
                    Ok(None) if !self.scan.has_begun() => continue,
                    Ok(None) => break,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if let Err(error) = ready!(self.poll_fill(SMALL_READ, cx)) {
                return Poll::Ready(Err(error));
            }
            if self.closed {
                return Poll::Ready(Err(match self.client.buf.is_empty() {
                    true => self.fail(ResetReason::ConnectionTermination, details::CONNECTION_TERMINATION),
                    false => self.fail(ResetReason::ProtocolError, details::CODEC_ERROR),
                }));
            }
        }
    }

    /// Whether the answer is over and the connection can serve another request.
    pub fn is_reusable(&self) -> bool {
        self.is_end_stream()
            && self.sending == Sending::Done
            && self.keep_alive
            && !self.closed
            && !self.asked.tunnel()
            && self.client.out.is_empty()
            && self.client.buf.is_empty()
    }

    /// The connection, for another request, if it can serve one; else it is closed.
    pub fn into_client(self) -> Option<H1Client> {
        let reusable = self.is_reusable();
        let mut client = self.client;
        client.out.release();
        client.buf = BytesMut::new();
        reusable.then_some(client)
    }

    /// Bytes on the wire so far: sent, received.
    pub fn bytes(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// Size of the request's field lines.
    pub fn header_bytes_sent(&self) -> u64 {
        self.header_bytes_sent
    }

    /// The last byte of the request was handed to the connection.
    pub fn request_complete(&self) -> bool {
        self.sending == Sending::Done
    }

    pub fn io(&self) -> &Io {
        &self.client.io
    }

    /// Behind the whole answer came more, which is an answer to nothing.
    pub fn has_excess(&self) -> bool {
        self.is_end_stream() && !self.asked.tunnel() && !self.client.buf.is_empty()
    }

    /// The answer said `connection: close`, or is of a version where that is the rule.
    pub fn close_announced(&self) -> bool {
        self.close_announced
    }

    /// The request's body, if none of it was asked for yet: after an error before the first byte was written, all of it.
    pub fn untouched_body(&mut self) -> Option<Body> {
        (self.sent == 0 && self.refused).then(|| std::mem::take(&mut self.body))
    }

    /// Writes the first byte. What can be read before that is no answer to it.
    fn poll_first_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        if poll_discard(&mut self.client.io, cx).is_ready() {
            let error = self.fail(ResetReason::ConnectionTermination, details::CONNECTION_TERMINATION);
            self.refused = true;
            return Poll::Ready(Err(ExchangeError { refused: true, ..error }));
        }
        if let Err(failed) = self.pump(cx) {
            return Poll::Ready(Err(self.fail(ResetReason::LocalReset, failed)));
        }
        if self.sent == 0 && self.sending != Sending::Broken {
            return Poll::Pending;
        }
        self.stage = Stage::Head;
        Poll::Ready(Ok(()))
    }

    /// Sends what there is of the request. The error is the detail string of a body that failed.
    fn pump(&mut self, cx: &mut Context<'_>) -> Result<(), Cow<'static, str>> {
        loop {
            if matches!(self.sending, Sending::Done | Sending::Broken) {
                return Ok(());
            }
            let encoded = self.encode(cx);
            if !self.has_data {
                encoded.clone()?;
            }
            let mut written = 0;
            let flushed = self.client.out.poll_flush(&mut self.client.io, cx, &mut written);
            self.sent += written as u64;
            // What was good of a body goes out before its failure counts, as it would have if that had come a moment later.
            let blocked = encoded?;
            match flushed {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => {
                    self.sending = Sending::Broken;
                    self.body = Body::Empty;
                    self.client.out.release();
                }
                Poll::Ready(Ok(())) if self.sending == Sending::Encoded => {
                    // Only a tunnel tells its end with the connection's.
                    if self.asked.tunnel() && Pin::new(&mut self.client.io).poll_shutdown(cx).is_pending() {
                        return Ok(());
                    }
                    self.sending = Sending::Done;
                }
                Poll::Ready(Ok(())) if blocked => return Ok(()),
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Encodes what there is of the body. Whether it has no more for now.
    fn encode(&mut self, cx: &mut Context<'_>) -> Result<bool, Cow<'static, str>> {
        let format = self.client.settings.header_key_format;
        if self.sending == Sending::Held {
            return Ok(true);
        }
        while self.sending == Sending::Body && self.client.out.len() < self.client.high_water {
            let out = &mut self.client.out;
            let encoded = match self.body.poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(error))) => return Err(error.details),
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    self.has_data = true;
                    self.encoder.data(data, out)
                }
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                    self.sending = Sending::Encoded;
                    self.encoder.end(Some(&trailers), format, out)
                }
                Poll::Ready(None) => {
                    self.sending = Sending::Encoded;
                    self.encoder.end(None, format, out)
                }
            };
            if encoded.is_err() {
                return Err(Cow::Borrowed(details::CODEC_ERROR));
            }
        }
        Ok(false)
    }

    /// A head from the front of the buffer. `None` if it is not complete, or was an interim one too many.
    fn parse_head(&mut self) -> Result<Option<ResponseHead>, ExchangeError> {
        let settings = &self.client.settings;
        let parsed = match parse_response(&mut self.client.buf, &mut self.scan, &self.asked, settings) {
            Parse::Partial => return Ok(None),
            Parse::Refused(violation) => return Err(self.fail(ResetReason::ProtocolError, violation.details)),
            Parse::Done(parsed) => parsed,
        };
        let ParsedResponse { head, framing, keep_alive, tunnel } = parsed;
        self.scan = Scan::response();
        if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
            self.interim += 1;
            return match self.interim {
                n if n <= MAX_INTERIM => Ok(Some(head)),
                n if n <= MAX_INTERIM_READ => Ok(None),
                _ => Err(self.fail(ResetReason::ProtocolError, details::CODEC_ERROR)),
            };
        }
        let options = ChunkedOptions {
            limits: settings.limits,
            enable_trailers: settings.enable_trailers,
            underscores: UnderscoreAction::Allow,
            lenient: true,
        };
        self.decoder = BodyDecoder::new(framing, options);
        self.close_announced = !keep_alive && !tunnel;
        self.keep_alive = keep_alive && !matches!(self.decoder, BodyDecoder::UntilClose);
        self.stage = Stage::Body;
        if self.sending == Sending::Held {
            self.sending = if tunnel { Sending::Body } else { Sending::Done };
        }
        Ok(Some(head))
    }

    /// Reads once. At the end `closed` is set.
    fn poll_fill(&mut self, want: usize, cx: &mut Context<'_>) -> Poll<Result<(), ExchangeError>> {
        let read: io::Result<usize> = ready!(poll_fill(&mut self.client.io, &mut self.client.buf, want, cx));
        match read {
            Ok(0) => self.closed = true,
            Ok(n) => self.received += n as u64,
            Err(_) => {
                self.closed = true;
                return Poll::Ready(
                    Err(self.fail(ResetReason::ConnectionTermination, details::CONNECTION_TERMINATION)),
                );
            }
        }
        Poll::Ready(Ok(()))
    }

    fn fail(&mut self, reason: ResetReason, details: impl Into<Cow<'static, str>>) -> ExchangeError {
        self.stage = Stage::Failed;
        ExchangeError {
            reason,
            details: details.into(),
            request_written: self.sent > 0,
            response_started: self.received > 0,
            refused: false,
        }
    }
}

impl BodySource for H1Exchange {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        loop {
            if let Err(failed) = self.pump(cx) {
                return Poll::Ready(Some(Err(self.fail(ResetReason::LocalReset, failed).into())));
            }
            match self.decoder.decode(&mut self.client.buf) {
                Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Ok(Some(Piece::End(trailers))) => {
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::Trailers(trailers))));
                }
                Ok(None) => {}
                Err(violation) => {
                    return Poll::Ready(Some(Err(self.fail(ResetReason::ProtocolError, violation.details).into())));
                }
            }
            if self.closed && self.asked.tunnel() && self.sending != Sending::Done {
                // A tunnel whose other half may still be in use.
                let error = self.fail(ResetReason::ConnectionTermination, details::CONNECTION_TERMINATION);
                return Poll::Ready(Some(Err(error.into())));
            }
            if self.closed {
                return Poll::Ready(match self.decoder.end_of_stream() {
                    Ok(()) => None,
                    Err(violation) => Some(Err(self.fail(ResetReason::ProtocolError, violation.details).into())),
                });
            }
            let want = self.decoder.wants();
            if let Err(error) = ready!(self.poll_fill(want, cx)) {
                // A body that tells its own end is cut whether the connection was closed or reset, as in Envoy.
                return Poll::Ready(Some(Err(match self.decoder.end_of_stream() {
                    Ok(()) => error.into(),
                    Err(violation) => self.fail(ResetReason::ProtocolError, violation.details).into(),
                })));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stage == Stage::Body && self.decoder.is_done()
    }

    fn exact_len(&self) -> Option<u64> {
        self.decoder.exact_len()
    }
}
