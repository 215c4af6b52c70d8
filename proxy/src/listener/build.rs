//! From `envoy.config.listener.v3.Listener` to a [`Listener`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::listener::v3 as proto;
use xds_protos::envoy::config::listener::v3::listener::connection_balance_config::BalanceType;
use xds_protos::envoy::config::listener::v3::listener_filter::ConfigType;

use super::balance::ExactBalance;
use super::connections::Connections;
use super::filters::{original_dst, predicate::Predicate};
use super::{ConfiguredFilter, DrainType, ListenAddress, Listener, SocketSettings};
use crate::access_log::AccessLog;
use crate::config::{BuildCx, Path, Reject, values};
use crate::filter_chain::FilterChains;
use crate::net::{Address, SocketOptions, TcpKeepalive};
use crate::network::ListenerCx;
use crate::registry;
use crate::stream_info::TrafficDirection;

const DEFAULT_LISTENER_FILTERS_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_BUFFER_LIMIT: u32 = 1024 * 1024;
/// Then other work gets its turn.
const DEFAULT_ACCEPT_BATCH: usize = 64;

pub(super) fn listener(
    proto: &proto::Listener,
    old: Option<(&Listener, &proto::Listener)>,
    path: &Path<'_>,
    cx: &BuildCx,
) -> Result<Listener, Reject> {
    refuse_unsupported(proto, path)?;
    let proto::Listener {
        name,
        stat_prefix,
        filter_chains,
        default_filter_chain,
        use_original_dst,
        per_connection_buffer_limit_bytes,
        listener_filters_timeout,
        continue_on_listener_filters_timeout,
        traffic_direction,
        drain_type,
        ignore_global_conn_limit,
        bypass_overload_manager,
        max_connections_to_accept_per_socket_event,
        ..
    } = proto;
    let addresses = addresses(proto, path)?;
    let name: Arc<str> = if name.is_empty() { random_name().into() } else { name.as_str().into() };
    let scope = match (stat_prefix.as_str(), addresses.first()) {
        ("", Some(first)) => format!("listener.{}", first.address),
        (prefix, _) => format!("listener.{prefix}"),
    };
    let direction = direction(*traffic_direction, &path.field("traffic_direction"))?;
    let listener_cx = ListenerCx { build: cx, listener_name: &name, stat_scope: &scope, direction };
    let old = old.filter(|(_, old)| differ_in_chains_only(old, proto));
    let known = old.map(|(built, proto)| built.chains.known(&proto.filter_chains, proto.default_filter_chain.as_ref()));
    let known = known.unwrap_or_default();
    let chains = FilterChains::build(filter_chains, default_filter_chain.as_ref(), &known, path, &listener_cx)?;
    if chains.is_empty() {
        return Err(path.field("filter_chains").reject("expected a filter chain, got none"));
    }
    let timeout_path = path.field("listener_filters_timeout");
    let timeout = values::optional_duration(listener_filters_timeout.as_ref(), &timeout_path)?;
    let limit_key = format!("envoy.resource_limits.listener.{name}.connection_limit");
    let batch_path = path.field("max_connections_to_accept_per_socket_event");
    Ok(Listener {
        bind_to_port: bind_to_port(proto),
        direction,
        drain_type: match proto::listener::DrainType::try_from(*drain_type) {
            Ok(proto::listener::DrainType::Default) => DrainType::Default,
            Ok(proto::listener::DrainType::ModifyOnly) => DrainType::ModifyOnly,
            Err(_) => return Err(path.field("drain_type").reject(format_args!("unknown type {drain_type}"))),
        },
        stats: cx.stats.block(&scope),
        open: match old {
            Some((old, _)) => old.open.clone(),
            None => Arc::new(Connections::new(cx.runtime.live_integer(&limit_key, u64::MAX))),
        },
        socket: socket_settings(proto, &addresses, path)?,
        hand_off_restored_destination_connections: use_original_dst.unwrap_or(false),
        exact_balance: match old {
            Some((old, _)) => old.exact_balance.clone(),
            None => exact_balance(proto, path)?.then(|| Arc::new(ExactBalance::new(cx.options.concurrency))),
        },
        per_connection_buffer_limit_bytes: per_connection_buffer_limit_bytes.unwrap_or(DEFAULT_BUFFER_LIMIT) as usize,
        filters: listener_filters(proto, path, cx)?,
        listener_filters_timeout: Some(timeout.unwrap_or(DEFAULT_LISTENER_FILTERS_TIMEOUT)).filter(|t| !t.is_zero()),
        continue_on_listener_filters_timeout: *continue_on_listener_filters_timeout,
        chains,
        access_log: access_logs(&proto.access_log, path, cx)?,
        of_process: cx.connections.clone(),
        ignore_global_conn_limit: *ignore_global_conn_limit || *bypass_overload_manager,
        max_connections_to_accept_per_socket_event: match max_connections_to_accept_per_socket_event {
            None => DEFAULT_ACCEPT_BATCH,
            Some(0) => return Err(batch_path.reject("expected at least 1, got 0")),
            Some(n) => *n as usize,
        },
        worker_stats: (0..cx.options.concurrency).map(|n| cx.stats.block(&format!("{scope}.worker_{n}"))).collect(),
        _extension_stats: cx.stats.block(&scope),
        addresses,
        name,
    })
}

/// Whether only filter chains changed, so that what else belongs to the listener, and equal chains, can stay (Envoy's
/// in-place update).
fn differ_in_chains_only(old: &proto::Listener, new: &proto::Listener) -> bool {
    let without = |listener: &proto::Listener| proto::Listener {
        filter_chains: Vec::new(),
        default_filter_chain: None,
        ..listener.clone()
    };
    without(old) == without(new)
}

/// Each field that is not read elsewhere, so that one which a later API adds does not pass unseen.
fn refuse_unsupported(proto: &proto::Listener, path: &Path<'_>) -> Result<(), Reject> {
    let proto::Listener {
        name: _,
        address: _,
        additional_addresses: _,
        stat_prefix: _,
        stats_matcher,
        filter_chains: _,
        fcds_config,
        filter_chain_matcher,
        use_original_dst: _,
        default_filter_chain: _,
        per_connection_buffer_limit_bytes: _,
        per_connection_buffer_high_watermark_timeout,
        metadata: _, // for those who read the configuration
        deprecated_v1: _,
        drain_type: _,
        listener_filters: _,
        listener_filters_timeout: _,
        continue_on_listener_filters_timeout: _,
        transparent: _,
        freebind: _,
        socket_options: _,
        tcp_fast_open_queue_length: _,
        traffic_direction: _,
        udp_listener_config,
        api_listener,
        connection_balance_config: _,
        reuse_port: _,
        enable_reuse_port: _,
        access_log: _,
        tcp_backlog_size: _,
        max_connections_to_accept_per_socket_event: _,
        bind_to_port: _,
        enable_mptcp: _,
        ignore_global_conn_limit: _,
        bypass_overload_manager: _,
        tcp_keepalive: _,
        listener_specifier,
    } = proto;
    let unsupported = [
        ("stats_matcher", stats_matcher.is_some()),
        ("fcds_config", fcds_config.is_some()),
        ("filter_chain_matcher", filter_chain_matcher.is_some()),
        ("per_connection_buffer_high_watermark_timeout", per_connection_buffer_high_watermark_timeout.is_some()),
        ("udp_listener_config", udp_listener_config.is_some()),
        ("api_listener", api_listener.is_some()),
        ("internal_listener", listener_specifier.is_some()),
    ];
    match unsupported.into_iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(path.field(field).reject("not supported")),
        None => Ok(()),
    }
}

fn access_logs(
    protos: &[xds_protos::envoy::config::accesslog::v3::AccessLog],
    path: &Path<'_>,
    cx: &BuildCx,
) -> Result<Vec<AccessLog>, Reject> {
    let path = path.field("access_log");
    protos.iter().enumerate().map(|(index, log)| AccessLog::build(log, &path.index(index), cx)).collect()
}

fn bind_to_port(proto: &proto::Listener) -> bool {
    let deprecated = proto.deprecated_v1.as_ref().and_then(|v1| v1.bind_to_port);
    proto.bind_to_port.or(deprecated).unwrap_or(true)
}

fn direction(value: i32, path: &Path<'_>) -> Result<TrafficDirection, Reject> {
    match core::TrafficDirection::try_from(value) {
        Ok(core::TrafficDirection::Unspecified) => Ok(TrafficDirection::Unspecified),
        Ok(core::TrafficDirection::Inbound) => Ok(TrafficDirection::Inbound),
        Ok(core::TrafficDirection::Outbound) => Ok(TrafficDirection::Outbound),
        Err(_) => Err(path.reject(format_args!("unknown direction {value}"))),
    }
}

/// A version 4 UUID, as Envoy names listeners that have no name.
fn random_name() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let part = |range| hex.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

fn addresses(proto: &proto::Listener, path: &Path<'_>) -> Result<Vec<ListenAddress>, Reject> {
    let proto::Listener { address, additional_addresses, socket_options, transparent, freebind, tcp_keepalive, .. } =
        proto;
    let mut base = SocketOptions::build(socket_options, &path.field("socket_options"))?;
    base.transparent = *transparent;
    base.freebind = freebind.unwrap_or(false);
    base.keepalive = tcp_keepalive.as_ref().map(TcpKeepalive::build);
    let mut addresses = vec![listen_address(address.as_ref(), base.clone(), &path.field("address"))?];
    for (index, additional) in additional_addresses.iter().enumerate() {
        let path = path.field("additional_addresses");
        let path = path.index(index);
        let proto::AdditionalAddress { address, socket_options, tcp_keepalive } = additional;
        let mut options = base.clone();
        if let Some(own) = socket_options {
            options = SocketOptions::build(&own.socket_options, &path.field("socket_options"))?;
            options.transparent = base.transparent;
            options.freebind = base.freebind;
            options.keepalive = base.keepalive.clone();
        }
        if let Some(own) = tcp_keepalive {
            options.keepalive = Some(TcpKeepalive::build(own));
        }
        addresses.push(listen_address(address.as_ref(), options, &path.field("address"))?);
    }
    Ok(addresses)
}

fn listen_address(
    proto: Option<&core::Address>,
    options: SocketOptions,
    path: &Path<'_>,
) -> Result<ListenAddress, Reject> {
    let proto = proto.ok_or_else(|| path.reject("expected an address, got none"))?;
    let address = values::address(proto, path)?;
    let (mut mode, mut ipv4_compat) = (0, false);
    match &proto.address {
        Some(core::address::Address::SocketAddress(socket)) => ipv4_compat = socket.ipv4_compat,
        Some(core::address::Address::Pipe(pipe)) => mode = pipe.mode,
        _ => {}
    }
    if mode > 0o777 {
        return Err(path.field("pipe").field("mode").reject(format_args!("expected at most 0777, got {mode:#o}")));
    }
    let is_v6 = matches!(address.ip(), Some(IpAddr::V6(_)));
    if ipv4_compat && !is_v6 {
        let path = path.field("socket_address");
        return Err(path.field("ipv4_compat").reject(format_args!("expected an IPv6 address, got {address}")));
    }
    Ok(ListenAddress { address, mode, ipv4_compat, options })
}

fn socket_settings(
    proto: &proto::Listener,
    addresses: &[ListenAddress],
    path: &Path<'_>,
) -> Result<SocketSettings, Reject> {
    let has_pipe = addresses.iter().any(|a| matches!(a.address, Address::Pipe(_)));
    if proto.enable_mptcp && has_pipe {
        return Err(path.field("enable_mptcp").reject("expected IP addresses only, got a pipe"));
    }
    let backlog = match proto.tcp_backlog_size {
        // The kernel cuts it to `net.core.somaxconn`.
        None => i32::MAX,
        Some(size) => i32::try_from(size).unwrap_or(i32::MAX),
    };
    Ok(SocketSettings {
        reuse_port: proto.enable_reuse_port.unwrap_or(true),
        backlog,
        tcp_fast_open_queue_length: proto.tcp_fast_open_queue_length,
        mptcp: proto.enable_mptcp,
    })
}

fn exact_balance(proto: &proto::Listener, path: &Path<'_>) -> Result<bool, Reject> {
    let Some(config) = &proto.connection_balance_config else { return Ok(false) };
    let path = path.field("connection_balance_config");
    match &config.balance_type {
        Some(BalanceType::ExactBalance(_)) => Ok(true),
        Some(BalanceType::ExtendBalance(_)) => Err(path.field("extend_balance").reject("not supported")),
        Some(BalanceType::CpuLocalityBalance(_)) => Err(path.field("cpu_locality_balance").reject("not supported")),
        None => Err(path.reject("expected exact_balance, got nothing")),
    }
}

fn listener_filters(proto: &proto::Listener, path: &Path<'_>, cx: &BuildCx) -> Result<Vec<ConfiguredFilter>, Reject> {
    let mut filters = Vec::with_capacity(proto.listener_filters.len());
    for (index, filter) in proto.listener_filters.iter().enumerate() {
        let path = path.field("listener_filters");
        let path = path.index(index);
        let proto::ListenerFilter { name: _, filter_disabled, config_type } = filter;
        let config = match config_type {
            Some(ConfigType::TypedConfig(config)) => Some(config),
            Some(ConfigType::ConfigDiscovery(_)) => {
                return Err(path.field("config_discovery").reject("discovery of filters is not supported"));
            }
            None => None,
        };
        let config_path = path.field("typed_config");
        let (entry, config) = registry::find(registry::LISTENER_FILTERS, config, &config_path)?;
        let disabled = filter_disabled.as_ref().map(|p| Predicate::build(p, &path.field("filter_disabled")));
        filters.push(ConfiguredFilter {
            filter: (entry.build)(&config, &config_path, cx)?,
            disabled: disabled.transpose()?,
        });
    }
    if proto.use_original_dst == Some(true) {
        filters.push(ConfiguredFilter { filter: original_dst::implied(), disabled: None });
    }
    Ok(filters)
}
