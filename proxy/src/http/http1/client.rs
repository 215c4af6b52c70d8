//! The upstream side of HTTP/1: a connection and the one exchange that it carries at a time.
//!
//! Called by a connection pool: [`H1Client::start`] takes the connection, [`H1Exchange::poll_head`] and then
//! [`BodySource::poll_frame`] drive both directions from the caller's task, and [`H1Exchange::into_client`] gives the
//! connection back if it can serve again. There is no task and no channel of its own.
//!
//! Invariants:
//! - a connection goes back only when the request was written whole, the answer read whole, nothing came after it, and
//!   both sides keep it alive;
//! - what the upstream sends is checked before anybody sees it; an answer that breaks the rules never reaches a client,
//!   and never the next request;
//! - bytes waiting in either direction are bounded: the request's body is not pulled while what was pulled is unwritten.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::chunked::ChunkedOptions;
use super::decode::{BodyDecoder, Piece};
use super::encode::{self, BodyEncoder, RequestOptions};
use super::head::{Asked, Parse, ParsedResponse, Scan, parse_response};
use super::out::OutBuf;
use super::read::poll_fill;
use super::settings::ClientSettings;
use crate::http::check::{self, UnderscoreAction, details};
use crate::http::{Body, BodyError, BodySource, ExchangeError, Frame, RequestHead, ResetReason, ResponseHead};
use crate::net::Io;

/// Interim responses that are handed on; later ones are dropped.
const MAX_INTERIM: u32 = 8;
/// An upstream that sends more interim responses than this is not going to answer.
const MAX_INTERIM_READ: u32 = 10_000;
const READ_SIZE: usize = 8 * 1024;
const LARGE_READ_SIZE: usize = 64 * 1024;
/// The request's body is not pulled while so much of it is unwritten.
const MAX_UNWRITTEN: usize = 64 * 1024;

/// An upstream connection without an exchange.
pub struct H1Client {
    io: Io,
    buf: BytesMut,
    settings: Arc<ClientSettings>,
    received: u64,
    sent: u64,
}

impl H1Client {
    pub fn new(io: Io, settings: Arc<ClientSettings>) -> Self {
        H1Client { io, buf: BytesMut::new(), settings, received: 0, sent: 0 }
    }

    /// Ready when the connection cannot serve a request any more: the peer closed it, or sent what nobody asked for.
    pub fn poll_idle_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.buf.is_empty() {
            return Poll::Ready(());
        }
        if self.io.poll_read_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        // A byte, an end or an error: each ends it. Pending was a false alarm, or TLS talking to itself.
        Pin::new(&mut self.io).poll_read(cx, &mut byte).map(|_| ())
    }

    /// Begins an exchange. Nothing is written before the first poll.
    ///
    /// # Errors
    /// When the head is not canonical: filters or routes made something of it that cannot be sent.
    pub fn start(self, head: &RequestHead, body: Body) -> Result<H1Exchange, ExchangeError> {
        if let Err(violation) = check::request(head) {
            return Err(ExchangeError {
                reason: ResetReason::ProtocolError,
                details: violation.details.into(),
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
        let mut out = OutBuf::default();
        let (encoder, header_bytes) = encode::request(out.tail(), head, &body, &options);
        let request = match encoder {
            BodyEncoder::Raw => Request::Held(body),
            BodyEncoder::None => Request::Done,
            _ if body.is_end_stream() => {
                let mut encoder = encoder;
                match encoder.end(None, options.format, &mut out) {
                    Ok(()) => Request::Done,
                    // The head promised a body and there is none: the poll says so.
                    Err(_) => Request::Sending { body, encoder },
                }
            }
            _ => Request::Sending { body, encoder },
        };
        Ok(H1Exchange {
            sent_at_start: self.sent,
            received_at_start: self.received,
            client: self,
            out,
            request,
            response: Response::Head(Scan::response()),
            asked,
            interim: 0,
            keep_alive: true,
            write_failed: false,
            header_bytes_sent: header_bytes as u64,
        })
    }

    /// Reads more into the buffer, which is allocated only when there is something to read. `Ok(0)` is the peer's end.
    fn poll_fill(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<usize>> {
        let n = ready!(poll_fill(&mut self.io, &mut self.buf, size, cx))?;
        self.received += n as u64;
        Poll::Ready(Ok(n))
    }
}

/// An exchange under way. Dropping it closes the connection.
pub struct H1Exchange {
    client: H1Client,
    sent_at_start: u64,
    received_at_start: u64,
    header_bytes_sent: u64,
    out: OutBuf,
    request: Request,
    response: Response,
    asked: Asked,
    interim: u32,
    keep_alive: bool,
    /// The peer takes no more bytes; its answer may still be there to read.
    write_failed: bool,
}

enum Request {
    Sending {
        body: Body,
        encoder: BodyEncoder,
    },
    /// Raw bytes, which wait for the upstream's consent to the tunnel.
    Held(Body),
    Tunnel(Body),
    /// The tunnel's end is to be told when everything is written.
    ShuttingDown,
    Done,
}

enum Response {
    Head(Scan),
    Body(BodyDecoder),
}

impl H1Exchange {
    /// The next interim response, or the final head. Drives the request at the same time. After the final head or an error
    /// it must not be polled again.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, ExchangeError>> {
        if let Err(error) = self.poll_request(cx) {
            return Poll::Ready(Err(self.failed(error.reason, error.details)));
        }
        loop {
            let Response::Head(scan) = &mut self.response else { return Poll::Pending };
            if !self.client.buf.is_empty() {
                match parse_response(&mut self.client.buf, scan, &self.asked, &self.client.settings) {
                    Parse::Partial => {}
                    Parse::Refused(violation) => {
                        return Poll::Ready(Err(self.failed(ResetReason::ProtocolError, violation.details.into())));
                    }
                    Parse::Done(parsed) if is_interim(&parsed) => {
                        *scan = Scan::response();
                        self.interim += 1;
                        match self.interim {
                            ..=MAX_INTERIM => return Poll::Ready(Ok(parsed.head)),
                            ..=MAX_INTERIM_READ => continue,
                            _ => {
                                let details = details::CODEC_ERROR.into();
                                return Poll::Ready(Err(self.failed(ResetReason::ProtocolError, details)));
                            }
                        }
                    }
                    Parse::Done(parsed) => return Poll::Ready(Ok(self.begin_body(parsed, cx))),
                }
            }
            match ready!(self.client.poll_fill(cx, READ_SIZE)) {
                Ok(1..) => {}
                // An end or an error before the answer is the same to the caller.
                Ok(0) | Err(_) => {
                    return Poll::Ready(Err(self.failed(ResetReason::ConnectionTermination, "".into())));
                }
            }
        }
    }

    fn begin_body(&mut self, parsed: ParsedResponse, cx: &mut Context<'_>) -> ResponseHead {
        self.keep_alive = parsed.keep_alive && !parsed.tunnel;
        let settings = &self.client.settings;
        let options = ChunkedOptions {
            limits: settings.limits,
            enable_trailers: settings.enable_trailers,
            underscores: UnderscoreAction::Allow,
            lenient: true,
        };
        let mut decoder = BodyDecoder::new(parsed.framing, options);
        match decoder {
            BodyDecoder::UntilClose => self.keep_alive = false,
            BodyDecoder::Length(0) => decoder = BodyDecoder::Done,
            _ => {}
        }
        self.response = Response::Body(decoder);
        if matches!(self.request, Request::Held(_))
            && let Request::Held(body) = std::mem::replace(&mut self.request, Request::Done)
            && parsed.tunnel
        {
            self.request = Request::Tunnel(body);
            // The tunnel's first bytes must not wait for the upstream to speak first; an error comes again with the body.
            let _ = self.poll_request(cx);
        }
        parsed.head
    }

    /// Moves what can be moved of the request. Only a failing body is an error: a peer that takes no more may have
    /// answered.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        if self.write_failed {
            return Ok(());
        }
        loop {
            while self.out.len() < MAX_UNWRITTEN {
                let body = match &mut self.request {
                    Request::Sending { body, .. } | Request::Tunnel(body) => body,
                    Request::Held(_) | Request::ShuttingDown | Request::Done => break,
                };
                let Poll::Ready(frame) = body.poll_frame(cx) else { break };
                self.take_frame(frame.transpose()?)?;
            }
            if self.out.is_empty() && !matches!(self.request, Request::ShuttingDown) {
                return Ok(());
            }
            let mut written = 0;
            let flushed = self.out.poll_flush(&mut self.client.io, cx, &mut written);
            self.client.sent += written as u64;
            match flushed {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => {
                    self.write_failed = true;
                    self.request = Request::Done;
                    self.out.release();
                    return Ok(());
                }
                Poll::Ready(Ok(())) if matches!(self.request, Request::ShuttingDown) => {
                    if Pin::new(&mut self.client.io).poll_shutdown(cx).is_ready() {
                        self.request = Request::Done;
                    }
                    return Ok(());
                }
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Queues a piece of the request's body, or its end.
    fn take_frame(&mut self, frame: Option<Frame>) -> Result<(), BodyError> {
        let format = self.client.settings.header_key_format;
        let wrong = |_| BodyError { reason: ResetReason::LocalReset, details: "http1.body_length".into() };
        match (&mut self.request, frame) {
            (Request::Sending { body, encoder }, Some(Frame::Data(data))) => {
                encoder.data(data, &mut self.out).map_err(wrong)?;
                if body.is_end_stream() {
                    encoder.end(None, format, &mut self.out).map_err(wrong)?;
                    self.request = Request::Done;
                }
            }
            (Request::Sending { encoder, .. }, end) => {
                let trailers = match end {
                    Some(Frame::Trailers(trailers)) => Some(trailers),
                    _ => None,
                };
                encoder.end(trailers.as_ref(), format, &mut self.out).map_err(wrong)?;
                self.request = Request::Done;
            }
            (Request::Tunnel(_), Some(Frame::Data(data))) => self.out.push(data),
            (Request::Tunnel(_), _) => self.request = Request::ShuttingDown,
            (Request::Held(_) | Request::ShuttingDown | Request::Done, _) => {}
        }
        Ok(())
    }

    fn failed(&mut self, reason: ResetReason, details: Cow<'static, str>) -> ExchangeError {
        self.keep_alive = false;
        ExchangeError {
            reason,
            details,
            request_written: self.client.sent > self.sent_at_start,
            response_started: self.client.received > self.received_at_start,
            refused: false,
        }
    }

    /// Both directions ended as they should, and the connection can serve again.
    pub fn is_reusable(&self) -> bool {
        self.keep_alive
            && !self.write_failed
            && matches!(self.request, Request::Done)
            && self.is_end_stream()
            && self.out.is_empty()
            && self.client.buf.is_empty()
    }

    /// The connection, if it can serve again; else it is closed.
    pub fn into_client(mut self) -> Option<H1Client> {
        if !self.is_reusable() {
            return None;
        }
        // An idle connection owns no buffer.
        self.client.buf = BytesMut::new();
        Some(self.client)
    }

    /// Bytes of this exchange on the wire so far: sent, received.
    pub fn bytes(&self) -> (u64, u64) {
        (self.client.sent - self.sent_at_start, self.client.received - self.received_at_start)
    }

    /// Size of the request's field lines.
    pub fn header_bytes_sent(&self) -> u64 {
        self.header_bytes_sent
    }

    fn broken(&mut self, reason: ResetReason, details: Cow<'static, str>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.keep_alive = false;
        Poll::Ready(Some(Err(BodyError { reason, details })))
    }
}

impl BodySource for H1Exchange {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Err(error) = self.poll_request(cx) {
            return self.broken(error.reason, error.details);
        }
        loop {
            let Response::Body(decoder) = &mut self.response else { return Poll::Ready(None) };
            match decoder.decode(&mut self.client.buf) {
                Ok(Some(Piece::Data(data))) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Ok(Some(Piece::End(trailers))) => {
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::Trailers(trailers))));
                }
                Ok(None) => {}
                Err(violation) => return self.broken(ResetReason::ProtocolError, violation.details.into()),
            }
            let size = if decoder.wants() > READ_SIZE { LARGE_READ_SIZE } else { READ_SIZE };
            match ready!(self.client.poll_fill(cx, size)) {
                Ok(1..) => {}
                Ok(0) => match decoder.end_of_stream() {
                    Ok(()) => return Poll::Ready(None),
                    Err(_) => return self.broken(ResetReason::ConnectionTermination, "".into()),
                },
                Err(_) => return self.broken(ResetReason::ConnectionTermination, "".into()),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.response, Response::Body(decoder) if decoder.is_done())
    }

    fn exact_len(&self) -> Option<u64> {
        match &self.response {
            Response::Body(decoder) => decoder.exact_len(),
            Response::Head(_) => None,
        }
    }
}

fn is_interim(parsed: &ParsedResponse) -> bool {
    parsed.head.status.is_informational() && !parsed.tunnel
}
