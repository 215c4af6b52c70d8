//! `/healthcheck/fail` and `/healthcheck/ok`: whether the process calls itself healthy.

use crate::admin::{Endpoint, Reply, Request};

pub const FAIL: Endpoint = Endpoint {
    path: "/healthcheck/fail",
    mutates: true,
    help: "fail health checks and drain",
    params: &[],
    respond: fail,
};

pub const OK: Endpoint =
    Endpoint { path: "/healthcheck/ok", mutates: true, help: "pass health checks again", params: &[], respond: ok };

fn fail(request: &Request<'_>) -> Reply {
    request.cx.server.fail_health_check(true);
    Reply::ok()
}

fn ok(request: &Request<'_>) -> Reply {
    request.cx.server.fail_health_check(false);
    Reply::ok()
}
