//! Writing a response, while its request may still be coming.

use std::rc::Rc;
use std::task::{Context, Poll};

use http::StatusCode;
use tokio::time::Instant;

use super::closing::{Closing, Phase};
use super::{Connection, EndCause, Exchange, HeadState, Stall, State, Step, Watched};
use crate::http::http1::decode::BodyDecoder;
use crate::http::http1::encode::{self, BodyEncoder, ResponseOptions};
use crate::http::http1::out::OutBuf;
use crate::http::http1::{HeaderKeyFormat, ServerSettings};
use crate::http::{Body, CodecService, Frame, Reply};
use crate::server::drain::DrainState;

/// A response that is being written.
pub struct Responding {
    pub exchange: Exchange,
    pub stall: Stall,
    body: Body,
    encoder: BodyEncoder,
    /// The last byte of the response is in the output buffer.
    encoded: bool,
    /// The connection closes after it, and why.
    close: Option<EndCause>,
    /// The request has been received to its end, so that nothing of it can be in the way of a close.
    complete: bool,
    /// From here on it is a tunnel.
    tunnel: bool,
    /// The end of the connection is the end of the body.
    until_close: bool,
    /// Dropped when the response is written: the service finishes the request then.
    stream: Rc<dyn std::any::Any>,
}

/// What encoding has come to.
enum Encoded {
    All,
    /// As much as may be held.
    Full,
    /// The body has no more for now.
    Pending,
    /// The body failed, or has another length than its head says.
    Cut,
}

impl Responding {
    /// Encodes what there is of the body, up to the high-water mark.
    fn poll_encode(
        &mut self,
        out: &mut OutBuf,
        high_water: usize,
        format: HeaderKeyFormat,
        cx: &mut Context<'_>,
    ) -> Encoded {
        while !self.encoded {
            if out.len() >= high_water {
                return Encoded::Full;
            }
            let encoded = match self.body.poll_frame(cx) {
                Poll::Pending => return Encoded::Pending,
                Poll::Ready(Some(Err(_))) => return Encoded::Cut,
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    if self.encoder != BodyEncoder::None {
                        let ctl = &self.exchange.ctl;
                        ctl.body_sent.set(ctl.body_sent.get() + data.len() as u64);
                    }
                    self.encoder.data(data, out)
                }
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                    self.encoded = true;
                    self.encoder.end(Some(&trailers), format, out)
                }
                Poll::Ready(None) => {
                    self.encoded = true;
                    self.encoder.end(None, format, out)
                }
            };
            if encoded.is_err() {
                return Encoded::Cut;
            }
        }
        Encoded::All
    }
}

impl Exchange {
    /// Writes the interim responses that the service has left; not to HTTP/1.0, which knows none.
    pub fn interim(&self, out: &mut OutBuf, settings: &ServerSettings) {
        while let Some(head) = self.ctl.informational.borrow_mut().pop_front() {
            if !self.http_10 && head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                let options = self.options(false, settings);
                let written = encode::response(out.tail(), &head, &Body::Empty, &options);
                self.count_fields(written.header_bytes);
            }
        }
    }

    fn options(&self, close: bool, settings: &ServerSettings) -> ResponseOptions {
        ResponseOptions {
            head_request: self.head_request,
            connect: self.connect,
            http_10: self.http_10,
            close,
            enable_trailers: settings.enable_trailers,
            format: settings.header_key_format,
        }
    }

    fn count_fields(&self, bytes: usize) {
        self.ctl.header_bytes_sent.set(self.ctl.header_bytes_sent.get() + bytes as u64);
    }
}

impl<S: CodecService> Connection<S> {
    /// Begins to answer. Without having `waited`, the reply was there before the body could be read, and Envoy would take
    /// the request for incomplete even if its body came with the head.
    pub(super) fn respond(&mut self, reply: Reply, exchange: Exchange, waited: bool, cause: EndCause) {
        exchange.interim(&mut self.out, &self.settings);
        let status = reply.head.status;
        let tunnel =
            exchange.tunnel && (status == StatusCode::SWITCHING_PROTOCOLS || (exchange.connect && status.is_success()));
        let complete = {
            let wire = &mut *self.wire.borrow_mut();
            if tunnel {
                wire.body = BodyDecoder::UntilClose;
                wire.wake_body();
            }
            wire.body.is_done() || (waited && wire.skip_received_body())
        };
        let mut close = self.close_cause(&reply, &exchange, complete, cause);
        let Reply { head, body, stream, .. } = reply;
        let options = exchange.options(close.is_some(), &self.settings);
        let written = encode::response(self.out.tail(), &head, &body, &options);
        exchange.count_fields(written.header_bytes);
        if written.close {
            close.get_or_insert(cause);
        }
        self.state = State::Respond(Responding {
            exchange,
            stall: Stall::default(),
            body,
            encoder: written.body,
            encoded: false,
            close,
            complete,
            tunnel,
            until_close: written.body == BodyEncoder::Raw && !tunnel,
            stream,
        });
    }

    fn close_cause(&self, reply: &Reply, exchange: &Exchange, complete: bool, cause: EndCause) -> Option<EndCause> {
        if reply.close_connection || !exchange.keep_alive || !complete {
            return Some(cause);
        }
        if self.drain_state >= Some(DrainState::Draining) {
            return Some(EndCause::Drain);
        }
        let settings = &self.settings;
        if settings.max_requests_per_connection != 0 && self.requests >= settings.max_requests_per_connection {
            return Some(EndCause::MaxRequests);
        }
        if self.max_duration.is_some_and(|max| self.too_old || self.since + max <= Instant::now()) {
            return Some(EndCause::MaxDuration);
        }
        self.wire.borrow().closed.then_some(EndCause::Peer)
    }

    pub(super) fn poll_respond(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            let State::Respond(responding) = &mut self.state else { return Step::Again };
            let format = self.settings.header_key_format;
            let encoded = responding.poll_encode(&mut self.out, self.high_water, format, cx);
            if matches!(encoded, Encoded::Cut) {
                self.cut_response();
                return Step::Again;
            }
            // The end of the message, and an end of the peer, need nobody's attention while the rest is written.
            let only_writes = responding.encoded || responding.tunnel;
            match self.flush(cx) {
                Ok(Poll::Ready(())) if matches!(encoded, Encoded::All) => {
                    self.responded();
                    return Step::Again;
                }
                Ok(Poll::Ready(())) if matches!(encoded, Encoded::Full) => continue,
                Ok(Poll::Ready(())) => {}
                Ok(Poll::Pending) if self.write_stalled(cx) => {
                    self.cut(EndCause::WriteStall);
                    return Step::Again;
                }
                Ok(Poll::Pending) => {}
                Err(_) => {
                    self.cut(EndCause::Peer);
                    return Step::Again;
                }
            }
            if only_writes {
                return Step::Pending;
            }
            let watched = self.wire.borrow_mut().watch(cx);
            match watched {
                Watched::Nothing => return Step::Pending,
                Watched::Bytes => {}
                Watched::Closed => {
                    self.cut(EndCause::Peer);
                    return Step::Again;
                }
            }
        }
    }

    /// The response cannot be completed: what was encoded is written, the rest is not feigned.
    fn cut_response(&mut self) {
        let State::Respond(responding) = self.take_state() else { return };
        let (cause, phase) = match responding.tunnel {
            true => (self.tunnel_end(), Phase::HalfClose),
            false => (EndCause::CutResponse, Phase::Linger),
        };
        self.state = State::Close(Closing {
            cause,
            // As in Envoy, which resets the stream before it closes the connection.
            active_request: responding.tunnel && cause == EndCause::Peer,
            phase,
            stall: Stall::default(),
            since: None,
            reset: responding.until_close,
        });
    }

    /// Who ended a tunnel.
    fn tunnel_end(&self) -> EndCause {
        if self.wire.borrow().closed { EndCause::Peer } else { EndCause::Tunnel }
    }

    /// The response is written: the next request, or the end of the connection.
    fn responded(&mut self) {
        let State::Respond(responding) = self.take_state() else { return };
        let Responding { close, complete, tunnel, until_close, stream, body, .. } = responding;
        self.out.release();
        let (begun, closed) = {
            let wire = &mut *self.wire.borrow_mut();
            wire.finish();
            (!wire.buf.is_empty(), wire.closed)
        };
        drop(body);
        drop(stream);
        match close {
            _ if tunnel => self.close(self.tunnel_end(), closed, Phase::HalfClose),
            Some(cause) if complete || closed => self.close(cause, false, Phase::Close),
            Some(cause) if until_close => self.close(cause, false, Phase::HalfClose),
            Some(cause) => self.close(cause, false, Phase::Linger),
            None => self.state = State::Head(HeadState { begun, ..HeadState::new(Instant::now()) }),
        }
    }
}
