//! `/stats/recentlookups`: scopes that were looked up by name, which costs a lock that nobody should take per request.

use std::fmt::Write;

use http::StatusCode;

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/stats/recentlookups",
    mutates: false,
    help: "scopes of statistics that were looked up by name",
    params: &[],
    respond,
};

pub const CLEAR: Endpoint = Endpoint {
    path: "/stats/recentlookups/clear",
    mutates: true,
    help: "forget the look-ups",
    params: &[],
    respond: clear,
};

pub const DISABLE: Endpoint = Endpoint {
    path: "/stats/recentlookups/disable",
    mutates: true,
    help: "end to track look-ups",
    params: &[],
    respond: disable,
};

pub const ENABLE: Endpoint = Endpoint {
    path: "/stats/recentlookups/enable",
    mutates: true,
    help: "begin to track look-ups",
    params: &[],
    respond: enable,
};

fn respond(request: &Request<'_>) -> Reply {
    let (total, recent) = request.cx.stats.lookups();
    let mut out = match recent {
        None => "Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n".to_owned(),
        Some(recent) => {
            let mut out = String::from("   Count Lookup\n");
            for (name, count) in recent {
                // Writing to a string cannot fail.
                let _ = writeln!(out, "{count:>8} {name}");
            }
            out
        }
    };
    let _ = writeln!(out, "\ntotal: {total}");
    Reply::text(StatusCode::OK, out)
}

fn clear(request: &Request<'_>) -> Reply {
    request.cx.stats.clear_lookups();
    Reply::ok()
}

fn disable(request: &Request<'_>) -> Reply {
    request.cx.stats.track_lookups(false);
    Reply::ok()
}

fn enable(request: &Request<'_>) -> Reply {
    request.cx.stats.track_lookups(true);
    Reply::ok()
}
