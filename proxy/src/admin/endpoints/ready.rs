//! `/ready`: the state of the process, 200 if it is `LIVE`.

use http::StatusCode;
use xds_protos::envoy::admin::v3::server_info::State;

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/ready",
    mutates: false,
    help: "state of the process; status 200 if LIVE, else 503",
    params: &[],
    respond,
};

fn respond(request: &Request<'_>) -> Reply {
    let state = request.cx.server.state();
    let status = if state == State::Live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Reply::text(status, format!("{}\n", state.as_str_name()))
}
