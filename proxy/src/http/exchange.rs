use std::borrow::Cow;

use super::{BodyError, ResetReason};

/// Why an exchange with an upstream failed before its response head was complete, with what a retry policy must know.
///
/// Both client codecs use it. What goes wrong after the head is a [`BodyError`] of the response body.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason:?}: {details}")]
pub struct ExchangeError {
    pub reason: ResetReason,
    /// Envoy's detail string where it has one, e.g. `http1.codec_error` or `http2.remote_reset`.
    pub details: Cow<'static, str>,
    /// At least one byte of the request was handed to the connection.
    pub request_written: bool,
    /// At least one byte of an answer to this request came.
    pub response_started: bool,
    /// The peer said that it has not processed the request (REFUSED_STREAM, GOAWAY with a lower last stream id), or it
    /// never left this process: sending it again is safe whatever its method.
    pub refused: bool,
}

impl From<ExchangeError> for BodyError {
    fn from(error: ExchangeError) -> Self {
        BodyError { reason: error.reason, details: error.details }
    }
}
