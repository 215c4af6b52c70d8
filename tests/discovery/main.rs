//! The proxy as a process, configured by a management server: delta and state of the world, what a server sees of it, and
//! that nothing which carries traffic notices more of an update than it must.

mod bad_input;
mod ends;
mod files;
mod refusals;
mod resources;
mod secrets;
mod storms;
mod updates;

use tests::control_plane::{ControlPlane, bootstrap};
use tests::proxy::{Options, Proxy};
use tests::proxy_under_test;

/// Starts the proxy without waiting for listeners, which come when they come.
fn start(server: &ControlPlane, delta: bool) -> Proxy {
    start_with(&bootstrap(server.port, delta))
}

fn start_with(bootstrap: &str) -> Proxy {
    let options = Options { without_listeners: true, ..Options::default() };
    Proxy::start_with(proxy_under_test(env!("CARGO_BIN_EXE_proxy-under-test")), bootstrap, &options)
}

/// Both variants of the protocol.
const VARIANTS: [bool; 2] = [true, false];
