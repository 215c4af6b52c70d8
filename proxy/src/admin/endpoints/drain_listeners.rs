//! `/drain_listeners`: stop accepting, let connections finish.

use crate::admin::{DrainListeners, Endpoint, Param, ParamKind, Reply, Request};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/drain_listeners",
    mutates: true,
    help: "drain listeners",
    params: &[
        Param { id: "graceful", kind: ParamKind::Flag, help: "stop listening only when the drain time is over" },
        Param { id: "skip_exit", kind: ParamKind::Flag, help: "drain connections but never stop listening" },
        Param { id: "inboundonly", kind: ParamKind::Flag, help: "only listeners whose traffic_direction is INBOUND" },
    ],
    respond,
};

fn respond(request: &Request<'_>) -> Reply {
    let has = |name| request.query.has(name);
    let (inbound_only, graceful, skip_exit) = (has("inboundonly"), has("graceful"), has("skip_exit"));
    request.cx.server.drain_listeners(DrainListeners { inbound_only, graceful, skip_exit });
    Reply::ok()
}
