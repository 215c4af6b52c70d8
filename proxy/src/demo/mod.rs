//! `outrigger demo`: a small mesh on loopback, to see requests pass through it. Not on any production path.
//!
//! An ingress gateway and two workloads, `store-front` and `order-service`, each behind a sidecar of its own; mTLS with SPIFFE
//! identities between the proxies. Each proxy is a process of this binary that gets all its configuration, and its certificates,
//! from a control plane inside the demo's process ([`control_plane`]). What that delivers is made of the ordinary configuration files
//! of `proxy/demo/`, which are also written into a temporary folder with free ports and fresh certificates; a real Envoy runs them.

mod apps;
mod checks;
mod control_plane;
mod identities;
mod mesh;
mod orders;
mod page;
mod scenes;
mod topology;
mod websocket;

use std::process::ExitCode;
use std::time::Duration;

use tokio::task::LocalSet;

use topology::Topology;

/// Runs the demo: until Ctrl-C, or once through its own checks.
pub fn main(once: bool) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("demo: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = LocalSet::new().block_on(&runtime, run(once));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("demo: {why}");
            ExitCode::FAILURE
        }
    }
}

async fn run(once: bool) -> Result<bool, String> {
    let mut topology = Topology::start().await?;
    if once {
        let passed = checks::run(&mut topology).await;
        return Ok(topology.stop(Duration::from_secs(10)).await && passed);
    }
    topology.describe();
    let shown = tokio::select! {
        _ = tokio::signal::ctrl_c() => None,
        shown = scenes::show(&mut topology) => Some(shown?),
    };
    if shown.is_none() {
        println!("\ndraining ...");
        return Ok(topology.stop(Duration::from_secs(10)).await);
    }
    println!("\n  From here on, one line per request and hop; Ctrl-C drains and ends.\n");
    topology.echo.set(true);
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        name = topology.unexpected_exit() => {
            return Err(format!("{name} ended unexpectedly"));
        }
    }
    println!("\ndraining ...");
    Ok(topology.stop(Duration::from_secs(10)).await)
}
