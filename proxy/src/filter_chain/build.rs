//! From `envoy.config.listener.v3.FilterChain` to a [`FilterChain`].

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use xds_protos::envoy::config::listener::v3 as proto;
use xds_protos::envoy::config::listener::v3::filter::ConfigType;

use super::FilterChain;
use crate::config::{Path, Reject, values};
use crate::network::{BuiltFilter, Connection, ListenerCx, NetworkFilter, TerminalFilter};
use crate::registry;
use crate::server::drain::DrainSource;
use crate::transport_socket::{Downstream, TransportCx};

pub(super) fn filter_chain(
    chain: &proto::FilterChain,
    path: &Path<'_>,
    cx: &ListenerCx<'_>,
) -> Result<FilterChain, Reject> {
    let proto::FilterChain {
        filter_chain_match: _, // read by the matcher
        filters,
        use_proxy_proto,
        metadata: _, // for those who read the configuration
        transport_socket,
        transport_socket_connect_timeout,
        name,
    } = chain;
    if *use_proxy_proto == Some(true) {
        let why = "deprecated: use the listener filter envoy.filters.listener.proxy_protocol";
        return Err(path.field("use_proxy_proto").reject(why));
    }
    let timeout_path = path.field("transport_socket_connect_timeout");
    let timeout = values::optional_duration(transport_socket_connect_timeout.as_ref(), &timeout_path)?;
    let (filters, terminal) = network_filters(filters, &path.field("filters"), cx)?;
    Ok(FilterChain {
        name: name.as_str().into(),
        transport: Downstream::build(
            transport_socket.as_ref(),
            &path.field("transport_socket"),
            TransportCx { build: cx.build, scope: cx.stat_scope },
        )?,
        // Zero turns Envoy's off, which leaves ours.
        transport_connect_timeout: timeout.filter(|timeout| !timeout.is_zero()),
        filters,
        terminal,
        drain: DrainSource::default(),
        open: Arc::default(),
    })
}

type Filters = (Vec<Arc<dyn NetworkFilter>>, Arc<dyn TerminalFilter>);

fn network_filters(protos: &[proto::Filter], path: &Path<'_>, cx: &ListenerCx<'_>) -> Result<Filters, Reject> {
    let mut filters = Vec::new();
    let Some(last) = protos.len().checked_sub(1) else { return Ok((filters, Arc::new(NoFilters))) };
    for (index, proto) in protos.iter().enumerate() {
        let path = path.index(index);
        let config = match &proto.config_type {
            Some(ConfigType::TypedConfig(config)) => Some(config),
            Some(ConfigType::ConfigDiscovery(_)) => {
                return Err(path.field("config_discovery").reject("discovery of filters is not supported"));
            }
            None => None,
        };
        let config_path = path.field("typed_config");
        let (entry, config) = registry::find(registry::NETWORK_FILTERS, config, &config_path)?;
        match (entry.build)(&config, &config_path, cx)? {
            BuiltFilter::Terminal(terminal) if index == last => return Ok((filters, terminal)),
            BuiltFilter::Terminal(_) => {
                let why = format_args!("{} is a terminal filter and must be the last, but more follow", entry.name);
                return Err(path.reject(why));
            }
            BuiltFilter::Network(filter) => filters.push(filter),
        }
    }
    let why = "expected a terminal filter (http_connection_manager, tcp_proxy) at the end of the chain";
    Err(path.index(last).reject(why))
}

/// A chain without filters closes what it gets.
struct NoFilters;

impl TerminalFilter for NoFilters {
    fn serve(self: Arc<Self>, connection: Connection) -> LocalBoxFuture<'static, ()> {
        *connection.info.local_close_reason.borrow_mut() = Some("no_filters".into());
        Box::pin(std::future::ready(()))
    }
}
