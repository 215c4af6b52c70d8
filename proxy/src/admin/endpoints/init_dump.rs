//! `/init_dump`: what initialisation still waits for.

use xds_protos::envoy::admin::v3 as pb;
use xds_protos::envoy::admin::v3::unready_targets_dumps::UnreadyTargetsDump;

use crate::admin::{Endpoint, Param, ParamKind, Reply, Request};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/init_dump",
    mutates: false,
    help: "what initialisation still waits for",
    params: &[Param {
        id: "mask",
        kind: ParamKind::Text,
        help: "only components whose name begins so, such as listener",
    }],
    respond,
};

fn respond(request: &Request<'_>) -> Reply {
    let mask = request.query.get("mask").unwrap_or_default();
    let unready = request.cx.server.unready_targets().into_iter().filter(|(name, _)| name.starts_with(mask));
    let unready_targets_dumps = unready.map(|(name, target_names)| UnreadyTargetsDump { name, target_names }).collect();
    Reply::message(&pb::UnreadyTargetsDumps { unready_targets_dumps }, false)
}
