//! `/hot_restart_version`: which processes this one could take over from, which is none.

use http::StatusCode;

use crate::admin::{Endpoint, Reply, Request};

/// There is no hot restart here.
pub const VERSION: &str = "disabled";

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/hot_restart_version",
    mutates: false,
    help: "version of the hot restart protocol (none)",
    params: &[],
    respond,
};

fn respond(_: &Request<'_>) -> Reply {
    Reply::text(StatusCode::OK, VERSION)
}
