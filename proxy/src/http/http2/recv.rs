//! The body of a message received: a [`BodySource`] over `h2`'s `RecvStream`.
//!
//! The peer gets its window back as frames are handed on, so what waits in memory is what the consumer has not asked for,
//! at most the windows of [`super::settings`].

use std::borrow::Cow;
use std::cell::Cell;
use std::task::{Context, Poll, ready};

use h2::RecvStream;

use super::error;
use super::head::ListLimits;
use crate::http::{BodyError, BodySource, Frame, ResetReason, check};

/// What is told about a body as it passes.
pub trait RecvObserver {
    fn data(&self, len: usize);
    /// The clean end, and whether there were trailers.
    fn end(&self, trailers: bool);
    fn failed(&self, error: &BodyError);
}

/// The rest of a message on a stream. Dropping it before the end lets `h2` reset the stream once nobody else holds it.
pub struct RecvBody<O> {
    stream: RecvStream,
    /// Bytes to come, when announced. `h2` holds the peer to it.
    left: Option<u64>,
    limits: ListLimits,
    ended: Cell<bool>,
    observer: O,
}

impl<O: RecvObserver> RecvBody<O> {
    pub fn new(stream: RecvStream, content_length: Option<u64>, limits: ListLimits, observer: O) -> Self {
        RecvBody { stream, left: content_length, limits, ended: Cell::new(false), observer }
    }

    fn end(&self, trailers: bool) {
        if !self.ended.replace(true) {
            self.observer.end(trailers);
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame, BodyError>>> {
        self.ended.set(true);
        self.observer.failed(&error);
        Poll::Ready(Some(Err(error)))
    }
}

impl<O: RecvObserver> BodySource for RecvBody<O> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        while !self.ended.get() {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // Fails only for more than was received.
                    let _ = self.stream.flow_control().release_capacity(bytes.len());
                    self.observer.data(bytes.len());
                    self.left = self.left.map(|left| left.saturating_sub(bytes.len() as u64));
                    if self.stream.is_end_stream() {
                        self.end(false);
                    }
                    if !bytes.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::Data(bytes))));
                    }
                }
                Some(Err(failed)) => return self.fail(error::body_error(&failed)),
                None => match ready!(self.stream.poll_trailers(cx)) {
                    Ok(Some(mut trailers)) => {
                        if let Err(details) = self.limits.check(&trailers, 0, 0) {
                            let (reason, details) = (ResetReason::ProtocolError, Cow::Borrowed(details));
                            return self.fail(BodyError { reason, details });
                        }
                        check::trailers(&mut trailers);
                        self.end(true);
                        return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
                    }
                    Ok(None) => self.end(false),
                    Err(failed) => return self.fail(error::body_error(&failed)),
                },
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        if !self.ended.get() && self.stream.is_end_stream() {
            self.end(false);
        }
        self.ended.get()
    }

    fn exact_len(&self) -> Option<u64> {
        self.left
    }
}
