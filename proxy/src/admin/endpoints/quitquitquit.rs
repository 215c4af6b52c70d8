//! `/quitquitquit`: end the process.

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint =
    Endpoint { path: "/quitquitquit", mutates: true, help: "end the process", params: &[], respond };

/// The answer still goes out: the admin server finishes what it is answering before it ends.
fn respond(request: &Request<'_>) -> Reply {
    request.cx.server.quit();
    Reply::ok()
}
