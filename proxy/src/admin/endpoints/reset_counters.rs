//! `/reset_counters`: counters and histograms begin at zero again.

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/reset_counters",
    mutates: true,
    help: "set counters and histograms to zero",
    params: &[],
    respond,
};

fn respond(request: &Request<'_>) -> Reply {
    request.cx.stats.reset_counters();
    Reply::ok()
}
