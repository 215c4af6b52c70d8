//! The proxy as a process, configured by a management server: delta and state of the world, what a server sees of it, and
//! that nothing which carries traffic notices more of an update than it must.

mod resources;
mod storms;
mod updates;

use tests::control_plane::{ControlPlane, bootstrap};
use tests::proxy::{Options, Proxy};
use tests::proxy_under_test;

/// Starts the proxy without waiting for listeners, which come when they come.
fn start(server: &ControlPlane, delta: bool) -> Proxy {
    let options = Options { without_listeners: true, ..Options::default() };
    Proxy::start_with(
        proxy_under_test(env!("CARGO_BIN_EXE_proxy-under-test")),
        &bootstrap(server.port, delta),
        &options,
    )
}

/// Both variants of the protocol.
const VARIANTS: [bool; 2] = [true, false];
