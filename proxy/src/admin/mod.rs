//! The admin interface (`envoy.config.bootstrap.v3.Admin`): what operators, istioctl, Kiali and pilot-agent ask the process.
//!
//! ```text
//! server (hyper, control thread) -> respond -> endpoints/<path>.rs -> context (traits of the other modules)
//! ```
//!
//! An endpoint is a synchronous function from a [`Request`] to a [`Reply`]; [`ENDPOINTS`] lists them, and `/help`, `/` and the
//! choice of endpoint are made from that list. Bodies that may grow with the number of clusters are made piece by piece while
//! they are sent, so neither a large dump nor a slow reader holds up the control thread or fills memory.
//!
//! Paths, parameters, methods, status codes, headers and formats are Envoy's. There is no authentication, as in Envoy: bind
//! it to loopback or to a pipe.
//!
//! Queries are taken with whatever characters they have, so that regular expressions need no escaping; only `#`, `<`, `>`, `"` and
//! what is not printable must be escaped.
//!
//! Deliberately missing: profilers and heap dumps (refused), `/tap`, `/hystrix_event_stream`, the protobuf form of
//! `/stats/prometheus`, colours and live update of the HTML pages.

mod context;
mod endpoints;
mod reply;
mod request;
mod server;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use http::{Method, StatusCode};

pub use context::{
    AdminContext, Certificates, Cluster, Clusters, Config, DrainListeners, HostStatus, Ignored, Listener, Listeners,
    Log, Outlier, Received, Resource, ResourceKind, Resources, Runtime, Server, UpdateFailure,
};
pub use endpoints::logging::ProcessLog;
pub use endpoints::memory::read as read_memory;
pub use reply::{Content, Reply};
pub use request::{Query, Request};
pub use server::{AdminListener, serve};

use endpoints::ENDPOINTS;

/// One path.
struct Endpoint {
    path: &'static str,
    /// Changes something: takes POST only.
    mutates: bool,
    help: &'static str,
    params: &'static [Param],
    respond: fn(&Request<'_>) -> Reply,
}

/// A query parameter, for the help and the home page.
struct Param {
    id: &'static str,
    kind: ParamKind,
    help: &'static str,
}

enum ParamKind {
    /// There or not there; a value does not count.
    Flag,
    Text,
    OneOf(&'static [&'static str]),
}

/// Answers a request.
pub fn respond(request: &Request<'_>) -> Reply {
    let allow = &request.cx.allow_paths;
    if !allow.is_empty() && !allow.iter().any(|matcher| matcher.matches(request.target.as_bytes())) {
        return Reply::text(StatusCode::FORBIDDEN, format!("request to path {} not allowed", request.target));
    }
    let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.path == request.path) else {
        let help = endpoints::help::listing();
        return Reply::text(StatusCode::NOT_FOUND, format!("invalid path. {help}"));
    };
    if endpoint.mutates && request.method != Method::POST {
        let why = format!("Method {} not allowed, POST required.", request.method);
        return Reply::text(StatusCode::METHOD_NOT_ALLOWED, why);
    }
    (endpoint.respond)(request)
}
