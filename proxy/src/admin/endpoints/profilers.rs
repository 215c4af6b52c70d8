//! `/cpuprofiler`, `/heapprofiler`, `/allocprofiler`, `/heap_dump`, `/memory/tcmalloc`: what Envoy has from its allocator and its profiler, and refuses in
//! builds that were made without them. This one is; `perf` and heap profilers from outside work on it as it is.

use http::StatusCode;

use crate::admin::{Endpoint, Param, ParamKind, Reply, Request};

const ENABLE: &[Param] = &[Param { id: "enable", kind: ParamKind::OneOf(&["y", "n"]), help: "start or stop" }];

pub const CPU: Endpoint = Endpoint {
    path: "/cpuprofiler",
    mutates: true,
    help: "CPU profiler (there is none)",
    params: ENABLE,
    respond: cpu,
};

pub const HEAP: Endpoint = Endpoint {
    path: "/heapprofiler",
    mutates: true,
    help: "heap profiler (there is none)",
    params: ENABLE,
    respond: |_| unsupported("The current build does not support heap profiler"),
};

pub const ALLOCATIONS: Endpoint = Endpoint {
    path: "/allocprofiler",
    mutates: true,
    help: "allocation profiler (there is none)",
    params: ENABLE,
    respond: |_| unsupported("The current build does not support allocation profiler"),
};

pub const HEAP_DUMP: Endpoint = Endpoint {
    path: "/heap_dump",
    mutates: false,
    help: "sampled heap (there is none)",
    params: &[],
    respond: |_| unsupported("Heap dump is not supported in current build"),
};

pub const TCMALLOC: Endpoint = Endpoint {
    path: "/memory/tcmalloc",
    mutates: false,
    help: "what tcmalloc tells of itself (it is not used)",
    params: &[],
    respond: |_| unsupported("The current build does not use tcmalloc"),
};

/// To stop what does not run succeeds, as in Envoy.
fn cpu(request: &Request<'_>) -> Reply {
    match request.query.get("enable") {
        Some("y") => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, "failure to start the profiler"),
        Some("n") => Reply::ok(),
        _ => Reply::bad_request("?enable=<y|n>\n"),
    }
}

fn unsupported(why: &str) -> Reply {
    Reply::text(StatusCode::NOT_IMPLEMENTED, format!("{why}\n"))
}
