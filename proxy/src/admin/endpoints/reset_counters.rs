//! `/reset_counters`: counters begin at zero again, and no stat was looked up. Histograms stay, as in Envoy.

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint =
    Endpoint { path: "/reset_counters", mutates: true, help: "set counters to zero", params: &[], respond };

fn respond(request: &Request<'_>) -> Reply {
    request.cx.stats.reset_counters();
    Reply::ok()
}
