//! What must be refused, answered or survived: hostile clients and hostile upstreams.
//!
//! The cases are data (`data/*.txt`, described at the top of each file), so that other tests and fuzzers can start from
//! them. Each group runs in one process of the proxy, one case after the other, because what one peer did must not be seen
//! by the next. `PROXY_BIN` tests another binary.

mod bounds;
mod canonical;
mod floods;
mod http2_requests;
mod requests;
mod responses;
mod silence;

use tests::proxy::{Options, Proxy};
use tests::proxy_under_test;

fn start(config: &str) -> Proxy {
    start_with(config, &Options::default())
}

fn start_with(config: &str, options: &Options<'_>) -> Proxy {
    Proxy::start_with(proxy_under_test(env!("CARGO_BIN_EXE_proxy-under-test")), config, options)
}
