//! What a cluster's configuration says about the sockets of its upstream connections.

use std::net::{IpAddr, SocketAddr};

use xds_protos::envoy::config::cluster::v3 as cluster_v3;
use xds_protos::envoy::config::core::v3 as core;

use crate::config::{Path, Reject, values};
use crate::net::{Address, SocketOptions, TcpKeepalive};

/// `upstream_bind_config` and `upstream_connection_options`, of the cluster or else of the cluster manager.
#[derive(Debug, Clone, Default)]
pub struct UpstreamSockets {
    /// Candidates for the source address: at most one of each family.
    pub(super) sources: Vec<Source>,
    /// Without a source address.
    pub(super) unbound: SocketOptions,
    pub(super) happy_eyeballs: HappyEyeballs,
}

#[derive(Debug, Clone)]
pub(super) struct Source {
    pub address: SocketAddr,
    pub options: SocketOptions,
}

/// In which order the addresses of a host are tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct HappyEyeballs {
    /// `None`: the family of the host's first address.
    pub first_is_v4: Option<bool>,
    /// So many of the first family before one of the other.
    pub first_count: usize,
}

impl Default for HappyEyeballs {
    fn default() -> Self {
        HappyEyeballs { first_is_v4: None, first_count: 1 }
    }
}

impl UpstreamSockets {
    /// From a cluster, and from `cluster_manager.upstream_bind_config` of the bootstrap for what the cluster leaves out.
    /// `path` is the cluster's.
    ///
    /// # Errors
    /// For unsupported fields, and for source addresses that could not be chosen between.
    pub fn build(
        bind: Option<&core::BindConfig>,
        options: Option<&cluster_v3::UpstreamConnectionOptions>,
        manager_bind: Option<&core::BindConfig>,
        path: &Path<'_>,
    ) -> Result<Self, Reject> {
        let bind_path = path.field("upstream_bind_config");
        let mut base = SocketOptions::default();
        let of = |bind: Option<&core::BindConfig>| {
            let protos = bind.map(|b| b.socket_options.as_slice()).unwrap_or_default();
            SocketOptions::build(protos, &bind_path.field("socket_options"))
        };
        let has_options = |bind: Option<&core::BindConfig>| bind.is_some_and(|b| !b.socket_options.is_empty());
        if has_options(bind) {
            base = of(bind)?;
        } else if has_options(manager_bind) {
            base = of(manager_bind)?;
        }
        let freebind = bind.and_then(|b| b.freebind).or(manager_bind.and_then(|b| b.freebind));
        base.freebind = freebind.unwrap_or(false);
        let mut happy_eyeballs = HappyEyeballs::default();
        if let Some(options) = options {
            let path = path.field("upstream_connection_options");
            base.keepalive = options.tcp_keepalive.as_ref().map(TcpKeepalive::build);
            happy_eyeballs = build_options(options, &path)?;
        }
        let sources = match bind.or(manager_bind) {
            Some(bind) => build_sources(bind, &base, &bind_path)?,
            None => Vec::new(),
        };
        Ok(UpstreamSockets { sources, unbound: base, happy_eyeballs })
    }

    /// The source for a connection to `to`: the one of its family, or else the first, whose bind will then fail.
    pub(super) fn source(&self, to: IpAddr) -> Option<&Source> {
        let same_family = self.sources.iter().find(|s| s.address.is_ipv4() == to.is_ipv4());
        same_family.or(self.sources.first())
    }
}

impl HappyEyeballs {
    /// A host's addresses in the order in which they are tried (RFC 8305, section 4). Of every family each keeps its own
    /// order.
    pub(super) fn order<'a>(&self, first: &'a Address, others: &'a [Address]) -> Vec<&'a Address> {
        let is_v4 = |address: &Address| address.ip().is_some_and(|ip| ip.is_ipv4());
        let lead_v4 = match self.first_is_v4 {
            Some(v4) if std::iter::once(first).chain(others).any(|a| is_v4(a) == v4) => v4,
            _ => is_v4(first),
        };
        let (lead, follow): (Vec<_>, Vec<_>) = std::iter::once(first).chain(others).partition(|a| is_v4(a) == lead_v4);
        let (mut lead, mut follow) = (lead.into_iter(), follow.into_iter());
        let mut order = Vec::with_capacity(1 + others.len());
        loop {
            let before = order.len();
            order.extend(lead.by_ref().take(self.first_count));
            order.extend(follow.next());
            if order.len() == before {
                return order;
            }
        }
    }
}

fn build_options(options: &cluster_v3::UpstreamConnectionOptions, path: &Path<'_>) -> Result<HappyEyeballs, Reject> {
    let cluster_v3::UpstreamConnectionOptions {
        tcp_keepalive: _,
        set_local_interface_name_on_upstream_connections,
        happy_eyeballs_config,
    } = options;
    if *set_local_interface_name_on_upstream_connections {
        let path = path.field("set_local_interface_name_on_upstream_connections");
        return Err(path.reject("not supported"));
    }
    let Some(config) = happy_eyeballs_config else { return Ok(HappyEyeballs::default()) };
    let path = path.field("happy_eyeballs_config");
    use cluster_v3::upstream_connection_options::FirstAddressFamilyVersion as Version;
    let first_is_v4 = match Version::try_from(config.first_address_family_version) {
        Ok(Version::Default) => None,
        Ok(Version::V4) => Some(true),
        Ok(Version::V6) => Some(false),
        other => {
            let got = other.map_or_else(|e| e.to_string(), |v| v.as_str_name().to_owned());
            return Err(path
                .field("first_address_family_version")
                .reject(format_args!("expected V4 or V6, got {got}")));
        }
    };
    let first_count = config.first_address_family_count.unwrap_or(1);
    if first_count == 0 {
        return Err(path.field("first_address_family_count").reject("expected at least 1, got 0"));
    }
    Ok(HappyEyeballs { first_is_v4, first_count: first_count as usize })
}

fn build_sources(bind: &core::BindConfig, base: &SocketOptions, path: &Path<'_>) -> Result<Vec<Source>, Reject> {
    let core::BindConfig {
        source_address,
        freebind: _,
        socket_options: _,
        extra_source_addresses,
        additional_source_addresses,
        local_address_selector,
        validate_network_namespaces,
    } = bind;
    if local_address_selector.is_some() {
        return Err(path.field("local_address_selector").reject("not supported"));
    }
    if *validate_network_namespaces {
        return Err(path.field("validate_network_namespaces").reject("network namespaces are not supported"));
    }
    let mut sources: Vec<Source> = Vec::new();
    let Some(source) = source_address else {
        if !extra_source_addresses.is_empty() || !additional_source_addresses.is_empty() {
            return Err(path.reject("extra source addresses need a source_address"));
        }
        return Ok(sources);
    };
    let mut add = |address: &core::SocketAddress, options: SocketOptions, path: &Path<'_>| {
        let address = values::socket_address(address, path)?;
        if sources.iter().any(|s| s.address.is_ipv4() == address.is_ipv4()) {
            return Err(path.reject(format_args!("expected an address of the other IP version, got {address}")));
        }
        sources.push(Source { address, options });
        Ok(())
    };
    add(source, base.clone(), &path.field("source_address"))?;
    for (index, extra) in extra_source_addresses.iter().enumerate() {
        let path = path.field("extra_source_addresses");
        let path = path.index(index);
        let Some(address) = &extra.address else {
            return Err(path.field("address").reject("expected an address, got none"));
        };
        let mut options = base.clone();
        if let Some(own) = &extra.socket_options {
            options = SocketOptions::build(&own.socket_options, &path.field("socket_options"))?;
            options.freebind = base.freebind;
            options.keepalive = base.keepalive.clone();
        }
        add(address, options, &path.field("address"))?;
    }
    for (index, address) in additional_source_addresses.iter().enumerate() {
        add(address, base.clone(), &path.field("additional_source_addresses").index(index))?;
    }
    Ok(sources)
}
