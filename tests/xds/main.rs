//! Configuration from a management server that is not ours: one script of updates while traffic flows, once by state of the
//! world and once by delta, and what the server got to see. With `ENVOY_BIN` a real Envoy goes through the same script, and
//! the server must not be able to tell the two apart.

mod istio;
mod resources;
mod script;
mod server;

use script::{Story, run};
use tests::proxy_under_test;

fn ours(delta: bool) -> Option<Story> {
    let server = server::binary()?;
    Some(run(&proxy_under_test(env!("CARGO_BIN_EXE_proxy-under-test")), server, delta))
}

#[test]
fn state_of_the_world() {
    ours(false);
}

#[test]
fn delta() {
    ours(true);
}

fn compare(delta: bool) {
    let Some(server) = server::binary() else { return };
    let Some(envoy) = tests::envoy() else {
        tests::skipped("what a management server sees of Envoy", "set ENVOY_BIN to a real Envoy");
        return;
    };
    let theirs = run(&envoy, server, delta);
    let ours = ours(delta).unwrap_or_default();
    assert_eq!(ours.render(), theirs.render(), "what the server saw: ours, and Envoy's");
}

#[test]
fn state_of_the_world_looks_like_envoys() {
    compare(false);
}

#[test]
fn delta_looks_like_envoys() {
    compare(true);
}
