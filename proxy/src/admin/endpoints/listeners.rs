//! `/listeners`: names and bound addresses.

use http::StatusCode;
use xds_protos::envoy::admin::v3 as pb;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::socket_address::PortSpecifier;

use crate::admin::{Endpoint, Listener, Param, ParamKind, Reply, Request};
use crate::net::Address;

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/listeners",
    mutates: false,
    help: "listeners and their addresses",
    params: &[Param { id: "format", kind: ParamKind::OneOf(&["text", "json"]), help: "format" }],
    respond,
};

fn respond(request: &Request<'_>) -> Reply {
    let listeners = request.cx.listeners.listeners();
    if request.query.get("format") == Some("json") {
        let listener_statuses = listeners.into_iter().map(status).collect();
        return Reply::message(&pb::Listeners { listener_statuses }, false);
    }
    let line = |listener: &Listener, address: &Address| format!("{}::{address}\n", listener.name);
    let lines = listeners.iter().flat_map(|listener| listener.addresses.iter().map(move |a| line(listener, a)));
    Reply::text(StatusCode::OK, lines.collect::<String>())
}

fn status(listener: Listener) -> pb::ListenerStatus {
    let mut addresses = listener.addresses.iter().map(address);
    let local_address = addresses.next();
    pb::ListenerStatus { name: listener.name, local_address, additional_local_addresses: addresses.collect() }
}

/// An address as protobuf.
pub fn address(address: &Address) -> core::Address {
    use core::address::Address as Kind;
    let kind = match address {
        Address::Ip(ip) => Kind::SocketAddress(core::SocketAddress {
            address: ip.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(ip.port().into())),
            ..Default::default()
        }),
        Address::Pipe(path) => Kind::Pipe(core::Pipe { path: path.to_string(), mode: 0 }),
    };
    core::Address { address: Some(kind) }
}
