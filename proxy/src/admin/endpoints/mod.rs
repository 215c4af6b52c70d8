//! The endpoints, one file each, and the table of them.

pub mod certs;
pub mod clusters;
pub mod config_dump;
pub mod contention;
pub mod drain_listeners;
pub mod healthcheck;
pub mod help;
pub mod home;
pub mod hot_restart_version;
pub mod init_dump;
pub mod listeners;
pub mod logging;
pub mod memory;
pub mod profilers;
pub mod prometheus;
pub mod quitquitquit;
pub mod ready;
pub mod recentlookups;
pub mod reopen_logs;
pub mod reset_counters;
pub mod runtime;
pub mod runtime_modify;
pub mod server_info;
pub mod stats;
pub mod unsupported;

use super::Endpoint;

/// All endpoints, in the order of their paths.
pub(super) static ENDPOINTS: &[Endpoint] = &[
    home::ENDPOINT,
    profilers::ALLOCATIONS,
    certs::ENDPOINT,
    clusters::ENDPOINT,
    config_dump::ENDPOINT,
    contention::ENDPOINT,
    profilers::CPU,
    drain_listeners::ENDPOINT,
    healthcheck::FAIL,
    healthcheck::OK,
    profilers::HEAP_DUMP,
    profilers::HEAP,
    help::ENDPOINT,
    hot_restart_version::ENDPOINT,
    init_dump::ENDPOINT,
    listeners::ENDPOINT,
    logging::ENDPOINT,
    memory::ENDPOINT,
    profilers::TCMALLOC,
    quitquitquit::ENDPOINT,
    ready::ENDPOINT,
    reopen_logs::ENDPOINT,
    reset_counters::ENDPOINT,
    runtime::ENDPOINT,
    runtime_modify::ENDPOINT,
    server_info::ENDPOINT,
    stats::ENDPOINT,
    prometheus::ENDPOINT,
    recentlookups::ENDPOINT,
    recentlookups::CLEAR,
    recentlookups::DISABLE,
    recentlookups::ENABLE,
    unsupported::ENDPOINT,
];
