//! The control plane of the demo, inside its process: ADS with secrets for each proxy, and a certificate authority. For the demo
//! alone: it trusts whoever reaches its sockets.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::net::UnixListener;
use xds_client::TypeUrl;
use xds_client::server::{Store, serve_unix};
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::listener::v3 as listener;
use xds_protos::envoy::config::route::v3::{WeightedCluster, route, route_action, weighted_cluster};
use xds_protos::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;

use prost::{Message, Name};

use super::identities::Authority;
use super::mesh::{self, Resources};

/// What each proxy gets.
pub struct ControlPlane {
    pub authority: Authority,
    proxies: BTreeMap<&'static str, (Resources, Store)>,
}

impl ControlPlane {
    pub fn new(authority: Authority) -> Self {
        ControlPlane { authority, proxies: BTreeMap::new() }
    }

    /// Serves the resources of a configuration file to the proxy of this name, at a socket.
    pub fn serve(&mut self, name: &'static str, configuration: &Path, socket: &Path) -> Result<(), String> {
        let resources = Resources::read(configuration)?;
        let store = Store::new();
        resources.publish(&store);
        let listener = UnixListener::bind(socket).map_err(|error| format!("{}: {error}", socket.display()))?;
        let served = store.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = serve_unix(listener, served).await {
                eprintln!("demo: the control plane of {name} ended: {error}");
            }
        });
        self.proxies.insert(name, (resources, store));
        self.rotate(name)
    }

    /// Issues a new certificate to a proxy.
    pub fn rotate(&self, name: &str) -> Result<(), String> {
        let (_, store) = self.proxies.get(name).ok_or_else(|| format!("no proxy {name}"))?;
        let (chain, key) = self.authority.issue(name)?;
        store.batch(|batch| {
            batch.set(TypeUrl::SECRET, "default", &mesh::certificate("default", &chain, &key));
            batch.set(TypeUrl::SECRET, "ROOTCA", &mesh::root("ROOTCA", self.authority.root()));
        });
        Ok(())
    }

    fn change(&mut self, name: &str, with: impl FnOnce(&mut Resources) -> Result<(), String>) -> Result<(), String> {
        let (resources, store) = self.proxies.get_mut(name).ok_or_else(|| format!("no proxy {name}"))?;
        with(resources)?;
        resources.publish(store);
        Ok(())
    }

    /// Deploys a second version of order-service, whose sidecar listens at `inbound` for the application at `app`; nobody is
    /// sent there yet.
    pub fn deploy_canary(&mut self, inbound: u16, app: u16) -> Result<(), String> {
        const APP: &str = "inbound|8080|v2|";
        self.change("order-service", |resources| {
            let mut cluster = resources.cluster("inbound|8080||")?.clone();
            APP.clone_into(&mut cluster.name);
            resources.copy_endpoints("inbound|8080||", APP, app)?;
            resources.clusters.push(cluster);
            let mut routes = resources.routes("inbound|8080||")?.clone();
            APP.clone_into(&mut routes.name);
            for action in routes.virtual_hosts.iter_mut().flat_map(|host| &mut host.routes) {
                if let Some(route::Action::Route(action)) = &mut action.action {
                    action.cluster_specifier = Some(route_action::ClusterSpecifier::Cluster(APP.to_owned()));
                }
            }
            resources.routes.push(routes);
            let mut listener = resources.listener("inbound-http")?.clone();
            "inbound-http-v2".clone_into(&mut listener.name);
            set_port(listener.address.as_mut(), inbound);
            mesh::name_routes(&mut listener, APP)?;
            resources.listeners.push(listener);
            Ok(())
        })?;
        self.change("gateway", |resources| {
            let mut cluster = resources.cluster("order-service")?.clone();
            "order-service-v2".clone_into(&mut cluster.name);
            resources.copy_endpoints("order-service", "order-service-v2", inbound)?;
            resources.clusters.push(cluster);
            Ok(())
        })
    }

    /// Sends so many of a hundred requests for orders to the second version.
    pub fn shift(&mut self, percent: u32) -> Result<(), String> {
        self.change("gateway", |resources| {
            let routes = resources.routes("shop")?.virtual_hosts.iter_mut().flat_map(|host| &mut host.routes);
            for route in routes.filter(|route| prefix(route) == Some("/orders")) {
                if let Some(route::Action::Route(action)) = &mut route.action {
                    let weight = |name: &str, weight| weighted_cluster::ClusterWeight {
                        name: name.to_owned(),
                        weight: Some(weight),
                        ..Default::default()
                    };
                    let clusters = vec![weight("order-service", 100 - percent), weight("order-service-v2", percent)];
                    let weighted = WeightedCluster { clusters, ..Default::default() };
                    action.cluster_specifier = Some(route_action::ClusterSpecifier::WeightedClusters(weighted));
                }
            }
            Ok(())
        })
    }

    /// Lets the sidecar of store-front take plaintext beside mTLS, or no longer (`PeerAuthentication` PERMISSIVE and STRICT).
    pub fn permissive(&mut self, permissive: bool) -> Result<(), String> {
        const PLAIN: &str = "plaintext";
        self.change("store-front", |resources| {
            let listener = resources.listener("inbound")?;
            listener.filter_chains.retain(|chain| chain.name != PLAIN);
            listener.listener_filters = vec![tls_inspector()];
            for chain in &mut listener.filter_chains {
                chain.filter_chain_match.get_or_insert_default().transport_protocol = "tls".to_owned();
            }
            if permissive && let Some(mut plain) = listener.filter_chains.first().cloned() {
                PLAIN.clone_into(&mut plain.name);
                plain.transport_socket = None;
                plain.filter_chain_match.get_or_insert_default().transport_protocol = "raw_buffer".to_owned();
                listener.filter_chains.push(plain);
            }
            Ok(())
        })
    }
}

impl Resources {
    /// The endpoints of one cluster as another's, at a port.
    fn copy_endpoints(&mut self, from: &str, to: &str, port: u16) -> Result<(), String> {
        let known = self.endpoints.iter().find(|it| it.cluster_name == from);
        let mut assignment = known.ok_or_else(|| format!("no endpoints of {from}"))?.clone();
        to.clone_into(&mut assignment.cluster_name);
        for endpoint in assignment.endpoints.iter_mut().flat_map(|group| &mut group.lb_endpoints) {
            use xds_protos::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
            if let Some(HostIdentifier::Endpoint(endpoint)) = &mut endpoint.host_identifier {
                set_port(endpoint.address.as_mut(), port);
            }
        }
        self.endpoints.push(assignment);
        Ok(())
    }
}

fn set_port(address: Option<&mut core::Address>, port: u16) {
    use core::address::Address;
    use core::socket_address::PortSpecifier;
    if let Some(Address::SocketAddress(socket)) = address.and_then(|address| address.address.as_mut()) {
        socket.port_specifier = Some(PortSpecifier::PortValue(port.into()));
    }
}

fn prefix(route: &xds_protos::envoy::config::route::v3::Route) -> Option<&str> {
    use xds_protos::envoy::config::route::v3::route_match::PathSpecifier;
    match route.r#match.as_ref()?.path_specifier.as_ref()? {
        PathSpecifier::Prefix(prefix) => Some(prefix),
        _ => None,
    }
}

fn tls_inspector() -> listener::ListenerFilter {
    let config =
        prost_types::Any { type_url: TlsInspector::type_url(), value: TlsInspector::default().encode_to_vec() };
    listener::ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener::listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}
