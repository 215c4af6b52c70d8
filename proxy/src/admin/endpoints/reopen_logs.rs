//! `/reopen_logs`: open access logs anew, after they were moved away.

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint =
    Endpoint { path: "/reopen_logs", mutates: true, help: "open log files anew", params: &[], respond };

fn respond(request: &Request<'_>) -> Reply {
    request.cx.server.reopen_logs();
    Reply::ok()
}
