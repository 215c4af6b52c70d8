//! `%GRPC_STATUS%`: the status of a gRPC answer, from its trailers, else its headers, else what its HTTP status stands for.

use super::write::{Written, number, text};
use crate::access_log::LogContext;
use crate::route::is_grpc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GrpcFormat {
    Camel,
    Snake,
    Number,
}

impl GrpcFormat {
    pub fn parse(argument: &str) -> Result<Self, String> {
        match argument {
            "" | "CAMEL_STRING" => Ok(GrpcFormat::Camel),
            "SNAKE_STRING" => Ok(GrpcFormat::Snake),
            "NUMBER" => Ok(GrpcFormat::Number),
            other => {
                Err(format!("GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: {other}"))
            }
        }
    }
}

/// Names of the codes from 0.
const NAMES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// The status of the answer to a gRPC request; `None` for other requests and when nothing says one.
pub fn grpc_status(cx: &LogContext<'_>) -> Option<u32> {
    let header = |map: Option<&http::HeaderMap>| map?.get("grpc-status")?.to_str().ok()?.parse::<u32>().ok();
    header(cx.trailers).or_else(|| header(cx.response.map(|head| &head.headers))).or_else(|| {
        Some(match cx.info.response_code {
            0 => return None,
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502 | 503 | 504 => 14,
            _ => 2,
        })
    })
}

pub(super) fn write(cx: &LogContext<'_>, format: GrpcFormat, out: &mut Vec<u8>) -> Written {
    if !cx.request.is_some_and(|head| is_grpc(&head.headers)) {
        return Written::Missing;
    }
    let Some(status) = grpc_status(cx) else { return Written::Missing };
    let name = NAMES.get(status as usize);
    match (format, name) {
        (GrpcFormat::Camel, Some((camel, _))) => text(out, camel),
        (GrpcFormat::Snake, Some((_, snake))) => text(out, snake),
        (GrpcFormat::Number, _) => number(out, status),
        (_, None) => {
            number(out, status);
            Written::Text
        }
    }
}
