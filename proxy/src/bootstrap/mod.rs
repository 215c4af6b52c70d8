//! `envoy.config.bootstrap.v3.Bootstrap`: the configuration a process starts with.
//!
//! [`load`] reads the files into one message and says where every mistake is; [`Bootstrap`] is the part of the message
//! that describes the process (node, runtime, statistics, admin, limits), built. Static clusters and listeners stay
//! messages until [`crate::server`] builds them in order.
//!
//! Invariant: nothing half-starts. Everything is built before the first socket is opened, and any [`Reject`] ends the start.
//!
//! Deliberately missing: `hds_config`, statistics sinks, bootstrap extensions, RTDS (refused by name).

mod load;
mod runtime_layers;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use xds_protos::envoy::config::bootstrap::v3 as pb;
use xds_protos::envoy::config::cluster::v3::Cluster;
use xds_protos::envoy::config::core::v3::{Node, TypedExtensionConfig};
use xds_protos::envoy::config::listener::v3::Listener;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::Secret;

use crate::config::matcher::StringMatcher;
use crate::config::{Path, Reject, values};
use crate::discovery::DynamicResources;
use crate::net::Address;
use crate::runtime::Layer;
use crate::server::watchdog::{WatchdogConfig, WatchdogsConfig};
use crate::stats::StatsConfig;

pub use load::{LoadError, Loaded, load};

/// The process-wide part of a bootstrap, and the static resources as they came.
pub struct Bootstrap {
    pub node: Node,
    pub admin: Option<Admin>,
    pub runtime_layers: Vec<Layer>,
    pub stats: StatsConfig,
    /// How often interval histograms turn over.
    pub stats_flush_interval: Duration,
    pub header_prefix: String,
    pub watchdogs: WatchdogsConfig,
    pub stats_server_version_override: Option<u64>,
    /// `envoy.resource_monitors.global_downstream_max_connections`.
    pub max_downstream_connections: Option<u64>,
    /// Where the rest of the configuration comes from.
    pub dynamic: DynamicResources,
    pub cluster_manager: Option<pb::ClusterManager>,
    /// How clusters that do not say resolve names.
    pub typed_dns_resolver_config: Option<TypedExtensionConfig>,
    pub clusters: Vec<Cluster>,
    pub listeners: Vec<Listener>,
    pub secrets: Vec<Secret>,
    /// Settings that are read but not acted on yet, one line each, for the log and `/unsupported`.
    pub unused: Vec<String>,
    /// The whole message as protobuf bytes, for `/config_dump`.
    pub wire: Bytes,
}

/// `Bootstrap.admin`.
#[derive(Debug, Clone)]
pub struct Admin {
    pub address: Address,
    /// `access_log` and deprecated `access_log_path` write nothing: admin requests are in the process's log.
    pub profile_path: String,
    /// Paths that may be asked for; empty: all.
    pub allow_paths: Vec<StringMatcher>,
}

impl Bootstrap {
    /// # Errors
    /// When a field has a bad value or asks for what this proxy does not do.
    pub fn build(message: pb::Bootstrap, wire: Bytes) -> Result<Self, Reject> {
        let path = Path::root("");
        let unused = Vec::new();
        let pb::Bootstrap {
            node,
            node_context_params: _, // only xDS sends them
            static_resources,
            dynamic_resources,
            cluster_manager,
            hds_config,
            flags_path,
            stats_sinks,
            deferred_stat_options: _, // statistics are always made at first use
            stats_config,
            stats_flush_interval,
            watchdog,
            watchdogs,
            tracing,
            layered_runtime,
            admin,
            overload_manager,
            enable_dispatcher_stats: _, // there are no dispatchers to count
            header_prefix,
            stats_server_version_override,
            use_tcp_for_dns_lookups,
            dns_resolution_config,
            typed_dns_resolver_config,
            bootstrap_extensions,
            fatal_actions,
            config_sources,
            default_config_source,
            default_socket_interface,
            certificate_provider_instances,
            inline_headers: _, // a hint for a layout that this proxy does not have
            perf_tracing_file_path: _,
            default_regex_engine,
            xds_delegate_extension,
            xds_config_tracker_extension,
            listener_manager,
            application_log_config: _, // the command line's --log-format decides
            grpc_async_client_manager_config: _,
            memory_allocator_manager: _,
            enable_worker_cpu_affinity,
            stats_flush,
            stats_eviction: _,
        } = message;
        let refused: [(&str, bool); 15] = [
            ("hds_config", hds_config.is_some()),
            ("flags_path", !flags_path.is_empty()),
            ("stats_sinks", !stats_sinks.is_empty()),
            ("tracing", tracing.is_some()),
            ("dns_resolution_config", dns_resolution_config.is_some()),
            ("use_tcp_for_dns_lookups", use_tcp_for_dns_lookups),
            ("bootstrap_extensions", !bootstrap_extensions.is_empty()),
            ("fatal_actions", !fatal_actions.is_empty()),
            ("config_sources", !config_sources.is_empty()),
            ("default_config_source", default_config_source.is_some()),
            ("default_socket_interface", !default_socket_interface.is_empty()),
            ("certificate_provider_instances", !certificate_provider_instances.is_empty()),
            ("xds_delegate_extension", xds_delegate_extension.is_some()),
            ("xds_config_tracker_extension", xds_config_tracker_extension.is_some()),
            ("enable_worker_cpu_affinity", enable_worker_cpu_affinity),
        ];
        if let Some((field, _)) = refused.iter().find(|(_, set)| *set) {
            return Err(path.field(field).reject("this field is not supported yet; remove it"));
        }
        for (field, extension) in
            [("default_regex_engine", &default_regex_engine), ("listener_manager", &listener_manager)]
        {
            let url = extension.as_ref().and_then(|e| e.typed_config.as_ref()).map(|any| any.type_url.as_str());
            let own = url.is_none_or(|url| {
                url.ends_with("envoy.extensions.regex_engines.v3.GoogleRE2")
                    || url.ends_with("envoy.config.listener.v3.ListenerManager")
            });
            if !own {
                return Err(path
                    .field(field)
                    .reject(format_args!("unsupported extension {}", url.unwrap_or_default())));
            }
        }
        let dynamic = dynamic_resources.as_ref();
        let dynamic = dynamic.map(|dynamic| DynamicResources::build(dynamic, &path.field("dynamic_resources")));
        let watchdogs = match (&watchdogs, &watchdog) {
            (Some(_), Some(_)) => {
                return Err(path.field("watchdog").reject("Only one of watchdog or watchdogs should be set!"));
            }
            (Some(watchdogs), None) => WatchdogsConfig::build(watchdogs, &path.field("watchdogs"))?,
            (None, Some(watchdog)) => {
                let both = WatchdogConfig::build(watchdog, &path.field("watchdog"))?;
                WatchdogsConfig { main_thread: both, workers: both }
            }
            (None, None) => WatchdogsConfig::default(),
        };
        let static_resources = static_resources.unwrap_or_default();
        Ok(Bootstrap {
            node: node.unwrap_or_default(),
            admin: admin.map(|admin| build_admin(&admin, &path.field("admin"))).transpose()?.flatten(),
            runtime_layers: runtime_layers::build(layered_runtime.as_ref(), &path.field("layered_runtime"))?,
            stats: match &stats_config {
                Some(config) => StatsConfig::build(config, &path.field("stats_config"))?,
                None => StatsConfig::default(),
            },
            stats_flush_interval: flush_interval(stats_flush_interval.as_ref(), stats_flush.is_some(), &path)?,
            header_prefix: header_prefix_checked(header_prefix, &path.field("header_prefix"))?,
            max_downstream_connections: match &overload_manager {
                Some(overload) => max_connections(overload, &path.field("overload_manager"))?,
                None => None,
            },
            dynamic: dynamic.transpose()?.unwrap_or_default(),
            watchdogs,
            stats_server_version_override,
            cluster_manager,
            typed_dns_resolver_config,
            clusters: static_resources.clusters,
            listeners: static_resources.listeners,
            secrets: static_resources.secrets,
            unused,
            wire,
        })
    }
}

fn build_admin(admin: &pb::Admin, path: &Path<'_>) -> Result<Option<Admin>, Reject> {
    let pb::Admin {
        access_log: _,
        access_log_path: _,
        profile_path,
        address,
        socket_options,
        ignore_global_conn_limit: _, // the admin's connections never count
        allow_paths,
    } = admin;
    if !socket_options.is_empty() {
        return Err(path.field("socket_options").reject("not supported on the admin address"));
    }
    let allow_paths = StringMatcher::build_all(allow_paths, &path.field("allow_paths"))?;
    let Some(address) = address else { return Ok(None) };
    let address = values::address(address, &path.field("address"))?;
    Ok(Some(Admin { address, profile_path: profile_path.clone(), allow_paths }))
}

fn flush_interval(
    interval: Option<&prost_types::Duration>,
    on_admin: bool,
    path: &Path<'_>,
) -> Result<Duration, Reject> {
    let path = path.field("stats_flush_interval");
    match values::optional_duration(interval, &path)? {
        None => Ok(Duration::from_secs(5)),
        Some(_) if on_admin => {
            Err(path.reject("expected either stats_flush_interval or stats_flush_on_admin, got both"))
        }
        Some(interval) if (Duration::from_millis(1)..Duration::from_secs(300)).contains(&interval) => Ok(interval),
        Some(other) => Err(path.reject(format_args!("expected at least 1 ms and less than 5 minutes, got {other:?}"))),
    }
}

fn header_prefix_checked(prefix: String, path: &Path<'_>) -> Result<String, Reject> {
    if prefix.is_empty() || prefix == "x-envoy" {
        return Ok("x-envoy".to_owned());
    }
    Err(path.reject(format_args!("expected x-envoy; other prefixes are not supported yet, got {prefix:?}")))
}

fn max_connections(
    overload: &xds_protos::envoy::config::overload::v3::OverloadManager,
    path: &Path<'_>,
) -> Result<Option<u64>, Reject> {
    use xds_protos::envoy::config::overload::v3::resource_monitor::ConfigType;
    use xds_protos::envoy::extensions::resource_monitors::downstream_connections::v3::DownstreamConnectionsConfig;
    const SUPPORTED: &str = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig";
    if !overload.actions.is_empty() {
        return Err(path.field("actions").reject("overload actions are not supported yet"));
    }
    if !overload.loadshed_points.is_empty() {
        return Err(path.field("loadshed_points").reject("load shedding is not supported yet"));
    }
    if overload.buffer_factory_config.is_some() {
        return Err(path.field("buffer_factory_config").reject("not supported yet"));
    }
    let path = path.field("resource_monitors");
    let mut limit = None;
    for (i, monitor) in overload.resource_monitors.iter().enumerate() {
        let at = path.index(i);
        let at = at.field("typed_config");
        let Some(ConfigType::TypedConfig(any)) = &monitor.config_type else {
            return Err(at.reject(format_args!("expected {SUPPORTED}, got none")));
        };
        if any.type_url.rsplit('/').next() != Some(SUPPORTED) {
            return Err(at.reject(format_args!("expected {SUPPORTED}, got {}", any.type_url)));
        }
        let config: DownstreamConnectionsConfig = values::decode(any, &at)?;
        let max = u64::try_from(config.max_active_downstream_connections).unwrap_or(0);
        if max == 0 {
            let at = at.field("max_active_downstream_connections");
            return Err(
                at.reject(format_args!("expected more than 0, got {}", config.max_active_downstream_connections))
            );
        }
        limit = Some(max);
    }
    Ok(limit)
}
