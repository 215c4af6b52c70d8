//! `envoy.config.listener.v3.Listener`: bound sockets, listener filters, and the hand-off to a filter chain.
//!
//! A [`Listener`] is built from its protobuf on the control thread and shared by all workers. [`bind`] makes its sockets,
//! one per worker; [`worker`] accepts on them and sees a connection through its listener filters, to the listener that its
//! original destination belongs to, through the filter chain's handshake and to the chain's terminal filter.
//!
//! Invariants: a connection lives and dies on one worker; whatever was counted for it is given back in one `Drop`; a panic
//! ends one connection; the sockets that listen are exactly those of listeners that bind.
//!
//! Deliberately missing, and refused: UDP and QUIC, internal and API listeners, FCDS, `filter_chain_matcher`,
//! `stats_matcher`, other balancers than `exact_balance`.

mod balance;
pub mod bind;
mod build;
pub mod connections;
pub mod filters;
#[cfg(test)]
mod tests;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use xds_protos::envoy::config::listener::v3 as proto;

use crate::access_log::AccessLog;
use crate::config::{BuildCx, Path, Reject};
use crate::filter_chain::{FilterChain, FilterChains};
use crate::net::{Address, SocketOptions};
use crate::stats::StatBlock;
use crate::stats::names::{ListenerExtensionStats, ListenerStats, WorkerListenerStats};
use crate::stream_info::TrafficDirection;

use balance::ExactBalance;
use connections::Connections;
use filters::ListenerFilter;
use filters::predicate::Predicate;

/// A listener as built.
pub struct Listener {
    pub name: Arc<str>,
    /// `address`, then `additional_addresses`.
    pub addresses: Vec<ListenAddress>,
    /// Else it only has a place in the table for connections that other listeners hand over.
    pub bind_to_port: bool,
    pub direction: TrafficDirection,
    pub drain_type: DrainType,
    pub stats: StatBlock<ListenerStats>,
    /// Connections from accept to end, on all workers. Their limit is the runtime key
    /// `envoy.resource_limits.listener.<name>.connection_limit`.
    pub open: Arc<Connections>,
    socket: SocketSettings,
    /// `use_original_dst`.
    hand_off_restored_destination_connections: bool,
    exact_balance: Option<Arc<ExactBalance>>,
    per_connection_buffer_limit_bytes: usize,
    filters: Vec<ConfiguredFilter>,
    /// `None` for a timeout of zero: only our own bound.
    listener_filters_timeout: Option<Duration>,
    continue_on_listener_filters_timeout: bool,
    chains: FilterChains,
    access_log: Vec<AccessLog>,
    of_process: Arc<Connections>,
    ignore_global_conn_limit: bool,
    max_connections_to_accept_per_socket_event: usize,
    worker_stats: Vec<StatBlock<WorkerListenerStats>>,
    _extension_stats: StatBlock<ListenerExtensionStats>,
}

/// One address of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    pub address: Address,
    /// Permissions of a pipe; 0 leaves them to the umask.
    mode: u32,
    /// An IPv6 wildcard that takes IPv4 connections too.
    ipv4_compat: bool,
    options: SocketOptions,
}

/// What all sockets of a listener have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SocketSettings {
    reuse_port: bool,
    backlog: i32,
    tcp_fast_open_queue_length: Option<u32>,
    mptcp: bool,
}

/// `Listener.DrainType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainType {
    Default,
    /// Draining of the process does not concern it, only its own removal.
    ModifyOnly,
}

struct ConfiguredFilter {
    filter: Arc<dyn ListenerFilter>,
    disabled: Option<Predicate>,
}

impl Listener {
    /// # Errors
    /// For what is not supported, and for chains or filters that cannot be built.
    pub fn build(proto: &proto::Listener, path: &Path<'_>, cx: &BuildCx) -> Result<Arc<Self>, Reject> {
        build::listener(proto, None, path, cx).map(Arc::new)
    }

    /// A new version of `old`, which was built of `old_proto`. When only filter chains differ, those that are equal are
    /// shared with the old one, as are its connection limit and balance.
    ///
    /// # Errors
    /// As [`build`](Self::build); nothing has changed then.
    pub fn update(
        proto: &proto::Listener,
        old: &Listener,
        old_proto: &proto::Listener,
        path: &Path<'_>,
        cx: &BuildCx,
    ) -> Result<Arc<Self>, Reject> {
        build::listener(proto, Some((old, old_proto)), path, cx).map(Arc::new)
    }

    /// Its filter chains.
    pub fn chains(&self) -> impl Iterator<Item = &Arc<FilterChain>> {
        self.chains.iter()
    }

    /// Whether another listener's sockets would be the same.
    pub fn binds_like(&self, other: &Listener) -> bool {
        self.bind_to_port == other.bind_to_port && self.addresses == other.addresses && self.socket == other.socket
    }

    /// Whether connections may have other local addresses than its own.
    fn is_transparent(&self) -> bool {
        self.addresses.iter().any(|address| address.options.transparent == Some(true))
    }

    /// The same listener with one chain that ends in `terminal`.
    #[cfg(test)]
    pub fn with_terminal(mut self: Arc<Self>, terminal: Arc<dyn crate::network::TerminalFilter>) -> Arc<Self> {
        Arc::get_mut(&mut self).expect("nobody else has it yet").chains = FilterChains::of_terminal(terminal);
        self
    }
}
