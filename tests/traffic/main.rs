//! End-to-end: the real binary, real sockets, upstreams and clients that see every byte.

mod http1;

use std::path::Path;

use tests::proxy::Proxy;

/// The binary under test with a configuration.
fn start(config: &str) -> Proxy {
    Proxy::start(Path::new(env!("CARGO_BIN_EXE_proxy-under-test")), config)
}
