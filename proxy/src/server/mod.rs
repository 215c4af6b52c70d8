//! The process: options, start order, workers, signals, drain.

use std::time::Duration;

pub mod drain;
pub mod init;
pub mod listener_manager;
mod process;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod watchdog;
pub mod worker;

pub use process::{DrainListeners, Server, ServerState, prepare};

/// What the command line decides for the whole process; defaults are Envoy's.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    pub concurrency: usize,
    pub drain_time: Duration,
    pub drain_strategy: DrainStrategy,
    pub parent_shutdown_time: Duration,
    pub service_cluster: String,
    pub service_node: String,
    pub service_zone: String,
    pub file_flush_interval: Duration,
    /// `--local-address-ip-version v6`.
    pub prefer_ipv6: bool,
    pub allow_unknown_static_fields: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainStrategy {
    Gradual,
    Immediate,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            concurrency: std::thread::available_parallelism().map_or(1, usize::from),
            drain_time: Duration::from_secs(600),
            drain_strategy: DrainStrategy::Gradual,
            parent_shutdown_time: Duration::from_secs(900),
            service_cluster: String::new(),
            service_node: String::new(),
            service_zone: String::new(),
            file_flush_interval: Duration::from_secs(10),
            prefer_ipv6: false,
            allow_unknown_static_fields: false,
        }
    }
}
