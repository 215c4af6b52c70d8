//! `/server_info`: version, state, uptime, command line and node.

use std::time::Duration;

use xds_protos::envoy::admin::v3 as pb;

use super::hot_restart_version;
use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/server_info",
    mutates: false,
    help: "version, state, uptime, command line and node",
    params: &[],
    respond,
};

fn respond(request: &Request<'_>) -> Reply {
    let server = &request.cx.server;
    // Whole seconds, as Envoy tells it.
    let uptime = prost_types::Duration::try_from(Duration::from_secs(server.uptime().as_secs())).ok();
    let info = pb::ServerInfo {
        version: server.version(),
        state: server.state().into(),
        uptime_current_epoch: uptime,
        uptime_all_epochs: uptime,
        hot_restart_version: hot_restart_version::VERSION.to_owned(),
        command_line_options: Some(server.command_line_options()),
        node: Some(server.node()),
        hot_restart_initializing: false,
    };
    Reply::message(&info, true)
}
