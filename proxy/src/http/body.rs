use std::borrow::Cow;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use super::ResetReason;

/// A piece of a message after its head.
#[derive(Debug)]
pub enum Frame {
    Data(Bytes),
    /// Always the last frame.
    Trailers(HeaderMap),
}

/// Why a body ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason:?}: {details}")]
pub struct BodyError {
    pub reason: ResetReason,
    /// Envoy's detail string, e.g. `http1.codec_error`.
    pub details: Cow<'static, str>,
}

/// Something that yields a body piece by piece. Dropping it before the end cancels the rest (resets the stream it came
/// from).
pub trait BodySource {
    /// `Ready(None)` is the clean end. After an error or the end it must not be polled again.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>;

    /// Whether the clean end is known to have been reached, without polling.
    fn is_end_stream(&self) -> bool {
        false
    }

    /// The exact number of data bytes left, when known (a `content-length`).
    fn exact_len(&self) -> Option<u64> {
        None
    }
}

/// The rest of a message after its head.
#[derive(Default)]
pub enum Body {
    #[default]
    Empty,
    Full(Bytes),
    /// From a codec or a filter.
    Stream(Box<dyn BodySource>),
}

impl Body {
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self {
            Body::Empty => Poll::Ready(None),
            Body::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Body::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(Frame::Data(bytes))))
            }
            Body::Stream(source) => source.poll_frame(cx),
        }
    }

    pub fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(bytes) => bytes.is_empty(),
            Body::Stream(source) => source.is_end_stream(),
        }
    }

    pub fn exact_len(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Full(bytes) => Some(bytes.len() as u64),
            Body::Stream(source) => source.exact_len(),
        }
    }
}
