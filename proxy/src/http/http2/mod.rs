//! HTTP/2: the downstream codec (`envoy.extensions…http_connection_manager.v3.HttpConnectionManager.codec_type: HTTP2`)
//! and the upstream connection, on the `h2` crate.
//!
//! `h2` keeps the protocol's state; here stand what it leaves open: the canonical check on both sides of it, bounds on
//! memory ([`send`], [`recv`]) and on abuse ([`flood`]), timers, and the gathering of writes ([`guard`]).

pub mod client;
pub mod flood;
pub mod frames;
pub mod server;
pub mod settings;
pub mod stats;

mod error;
mod guard;
mod head;
mod keepalive;
mod recv;
mod send;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use flood::Side;
pub use settings::{ClientSettings, Http2Options, ServerSettings};
pub use stats::Http2Stats;
