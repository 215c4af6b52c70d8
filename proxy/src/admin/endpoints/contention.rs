//! `/contention`: mutex contention, which is not traced here.

use http::StatusCode;

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint =
    Endpoint { path: "/contention", mutates: false, help: "mutex contention (not traced)", params: &[], respond };

fn respond(_: &Request<'_>) -> Reply {
    Reply::text(StatusCode::OK, "Mutex contention tracing is not enabled.")
}
