//! What the end-to-end tests share: starting a proxy (this one or a real Envoy) with a configuration, upstreams that do as
//! they are told, and clients that see every byte.
//!
//! Everything is blocking, on loopback, on ports that the system chose. Waits are bounded and wait for a fact, never for
//! time to pass.

pub mod cases;
pub mod certificates;
pub mod client;
pub mod config;
pub mod control_plane;
pub mod frames;
pub mod fuzz;
pub mod http2;
pub mod proxy;
pub mod tls;
pub mod upstream;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// No step of a test may take longer.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The real Envoy to compare with, when there is one: `ENVOY_BIN`.
pub fn envoy() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("ENVOY_BIN").filter(|path| !path.is_empty())?);
    assert!(path.is_file(), "ENVOY_BIN is {}, which is not a file", path.display());
    Some(path)
}

/// The binary to test: `built`, unless `PROXY_BIN` names another (a release build, or an Envoy to check the tests with).
pub fn proxy_under_test(built: &str) -> PathBuf {
    std::env::var_os("PROXY_BIN").filter(|path| !path.is_empty()).map_or_else(|| PathBuf::from(built), PathBuf::from)
}

/// Says once, in one line, what was not tested and how to have it tested. Not captured by the test runner.
pub fn skipped(what: &str, how: &str) {
    static SAID: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    let line = format!("skipped: {what}; {how}\n");
    let mut said = SAID.lock().expect("unpoisoned");
    if !said.contains(&line) {
        let _ = std::io::stderr().write_all(line.as_bytes());
        said.push(line);
    }
}

/// Asks again until `probe` has an answer; `None` after `patience`.
pub fn wait_for<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}
