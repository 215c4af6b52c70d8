//! Between `h2`'s errors and reset codes and the project's [`ResetReason`]s. Detail strings are Envoy's where it has one.

use std::borrow::Cow;

use h2::Reason;

use crate::http::{BodyError, ExchangeError, ResetReason};

/// The code we reset a stream with. Envoy sends INTERNAL_ERROR for everything that it did not find in a frame.
pub fn reset_code(reason: ResetReason) -> Reason {
    match reason {
        ResetReason::LocalRefusedStreamReset => Reason::REFUSED_STREAM,
        ResetReason::ConnectError => Reason::CONNECT_ERROR,
        _ => Reason::INTERNAL_ERROR,
    }
}

/// What a RST_STREAM of the peer means.
pub fn remote_reset(code: Reason) -> BodyError {
    let (reason, details) = match code {
        Reason::REFUSED_STREAM => (ResetReason::RemoteRefusedStreamReset, "http2.remote_refuse"),
        Reason::PROTOCOL_ERROR => (ResetReason::ProtocolError, "http2.remote_reset"),
        Reason::CONNECT_ERROR => (ResetReason::ConnectError, "http2.remote_reset"),
        _ => (ResetReason::RemoteReset, "http2.remote_reset"),
    };
    BodyError { reason, details: Cow::Borrowed(details) }
}

/// Why a stream failed after its head.
pub fn body_error(error: &h2::Error) -> BodyError {
    let code = error.reason().unwrap_or(Reason::INTERNAL_ERROR);
    let (reason, details) = if error.is_reset() && error.is_remote() {
        return remote_reset(code);
    } else if error.is_go_away() && error.is_remote() {
        // Only streams above the last stream id are told of a GOAWAY.
        (ResetReason::RemoteRefusedStreamReset, "http2.remote_refuse")
    } else if error.is_library() {
        (ResetReason::ProtocolError, "http2.violation.of.messaging.rule")
    } else if error.is_io() {
        (ResetReason::ConnectionTermination, "http2.connection_closed")
    } else {
        (ResetReason::LocalReset, "http2.local_reset")
    };
    BodyError { reason, details: Cow::Borrowed(details) }
}

/// Why an exchange failed before its head. `written` says whether its HEADERS left `h2`.
pub fn exchange_error(error: &h2::Error, written: bool) -> ExchangeError {
    let BodyError { reason, details } = body_error(error);
    ExchangeError {
        reason,
        details,
        request_written: written,
        response_started: false,
        refused: !written || reason == ResetReason::RemoteRefusedStreamReset,
    }
}
