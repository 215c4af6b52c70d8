//! The families of stats, with Envoy's names. A family of an extension stands beside the extension.

pub mod cluster;
pub mod codec;
pub mod discovery;
pub mod http;
pub mod listener;
pub mod route;
pub mod server;
pub mod ssl;
pub mod tcp;

pub use cluster::*;
pub use codec::*;
pub use discovery::*;
pub use http::*;
pub use listener::*;
pub use route::*;
pub use server::*;
pub use ssl::*;
pub use tcp::*;

#[cfg(test)]
mod tests;
