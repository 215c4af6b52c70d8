//! Configuration that comes while the process runs: xDS resources from streams and files to clusters, listeners, routes,
//! endpoints and secrets in use.
//!
//! ```text
//! xds-client -> decode, validate -> build (may refuse) -> warm -> publish -> verdict: ACK, or NACK with the reason of each
//!                    refused: the last good version stays, and /config_dump shows the failure
//! ```
//!
//! | module | what comes | where it goes |
//! |---|---|---|
//! | [`clusters`] | CDS | [`crate::cluster::ClusterManager`], once it has endpoints and secrets |
//! | [`endpoints`] | EDS | the hosts of clusters, in place |
//! | [`listeners`] | LDS | [`crate::server::listener_manager::ListenerManager`], once it has routes and secrets |
//! | [`routes`] | RDS | [`crate::route::RouteSlot`] |
//! | [`secrets`] | SDS | [`crate::transport_socket::SecretManager`] |
//! | [`sources`], [`transport`] | | streams, one for ADS and one for each subscription with a source of its own |
//!
//! Everything here runs on the control thread; the data path sees pointers change. Subscriptions follow demand: builders ask
//! for slots, and what nobody holds any more is unsubscribed.
//!
//! Invariants
//! - A resource whose bytes are what they were changes nothing.
//! - A refused resource leaves the version in force; the other resources of the same update are applied.
//! - Nothing that is in use waits: a new version of a cluster or listener takes over when it is warm, and not before.
//! - Within an update removals come last for clusters, and first for listeners, whose addresses the new ones may want.
//!
//! Deliberately missing, and refused where it is configured: scoped routes, VHDS, RTDS, LEDS, REST, Google's gRPC library,
//! `xdstp://` names.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use prost::{Message, Name};
use tokio::task::spawn_local;
use xds_client::{Rejected, Resource, TypeUrl, Update};
use xds_protos::envoy::config::bootstrap::v3 as bootstrap;
use xds_protos::envoy::config::core::v3::Node;

use crate::cluster::Warming;
use crate::config::{BuildCx, ConfigSource, GrpcSource, Origin, Path, Reject};
use crate::server::Server;
use crate::server::init::InitTarget;

mod clusters;
mod endpoints;
mod listeners;
pub mod offline;
mod origin_of;
mod routes;
mod secrets;
mod sources;
mod store;
mod subscription;
mod transport;

pub use store::{Failed, Kind, Received, State};

/// `Bootstrap.dynamic_resources` as built.
#[derive(Debug, Clone, Default)]
pub struct DynamicResources {
    pub ads: Option<Arc<GrpcSource>>,
    pub cds: Option<ConfigSource>,
    pub lds: Option<ConfigSource>,
}

impl DynamicResources {
    /// # Errors
    /// For sources that are not supported, and for ADS without `ads_config`.
    pub fn build(proto: &bootstrap::bootstrap::DynamicResources, path: &Path<'_>) -> Result<Self, Reject> {
        let bootstrap::bootstrap::DynamicResources {
            lds_config,
            lds_resources_locator,
            cds_config,
            cds_resources_locator,
            ads_config,
        } = proto;
        for (field, locator) in
            [("lds_resources_locator", lds_resources_locator), ("cds_resources_locator", cds_resources_locator)]
        {
            if !locator.is_empty() {
                return Err(path.field(field).reject("xdstp names are not supported"));
            }
        }
        let at = path.field("ads_config");
        let ads = ads_config.as_ref().map(|ads| GrpcSource::build(ads, true, &at).map(Arc::new)).transpose()?;
        let source = |proto: &Option<_>, field: &str| -> Result<Option<ConfigSource>, Reject> {
            let Some(proto) = proto else { return Ok(None) };
            let path = path.field(field);
            let source = ConfigSource::build(proto, &path)?;
            if source.origin == Origin::Ads && ads.is_none() {
                return Err(path.field("ads").reject("dynamic_resources has no ads_config to say where that is"));
            }
            Ok(Some(source))
        };
        let (cds, lds) = (source(cds_config, "cds_config")?, source(lds_config, "lds_config")?);
        Ok(DynamicResources { ads, cds, lds })
    }
}

/// All discovery of the process.
pub struct Discovery {
    server: Rc<Server>,
    cx: BuildCx,
    /// As management servers see it.
    node: Node,
    dynamic: DynamicResources,
    sources: sources::Sources,
    clusters: RefCell<clusters::Clusters>,
    endpoints: RefCell<endpoints::Endpoints>,
    listeners: RefCell<listeners::Listeners>,
    routes: RefCell<routes::Routes>,
    secrets: RefCell<secrets::Secrets>,
    /// Until the first answer of CDS and of LDS.
    first_clusters: RefCell<Option<Warming>>,
    first_listeners: RefCell<Option<InitTarget>>,
    /// LDS is asked only once there are clusters.
    initialized: Cell<bool>,
}

impl Discovery {
    /// Begins, on the control thread, what the bootstrap asks for. The server is initialised when the first clusters and
    /// listeners have come and are warm.
    pub fn start(server: &Rc<Server>, node: Node, dynamic: DynamicResources) -> Rc<Self> {
        let cx = server.cx.clone();
        let init = &server.init;
        let discovery = Rc::new(Discovery {
            sources: sources::Sources::default(),
            clusters: RefCell::new(clusters::Clusters::new(&cx, dynamic.cds.is_some())),
            endpoints: RefCell::default(),
            listeners: RefCell::new(listeners::Listeners::new(&cx, dynamic.lds.is_some())),
            routes: RefCell::default(),
            secrets: RefCell::default(),
            first_clusters: RefCell::new(dynamic.cds.as_ref().map(|_| cx.clusters.wait_for("CDS"))),
            first_listeners: RefCell::new(dynamic.lds.as_ref().map(|_| init.target("LDS"))),
            initialized: Cell::new(false),
            server: server.clone(),
            cx,
            node,
            dynamic,
        });
        spawn_local(discovery.clone().begin());
        discovery
    }

    /// The order of Envoy: clusters that need nobody, then CDS and what the bootstrap's own resources wait for, then LDS.
    async fn begin(self: Rc<Self>) {
        let clusters = self.cx.clusters.clone();
        clusters.primaries_initialized().await;
        self.start_ads();
        if let Some(cds) = &self.dynamic.cds {
            self.clusters.borrow().subscription.started();
            self.subscribe(cds, &TypeUrl::CLUSTER, xds_client::WILDCARD);
        }
        for (cluster, eds) in clusters.discovered() {
            self.want_endpoints(&cluster, &eds);
        }
        self.follow_demand();
        spawn_local(self.clone().follow());
        // Also for the first answer of CDS, and for the clusters that it brings.
        clusters.initialized().await;
        tracing::info!("cm init: all clusters initialized");
        self.initialized.set(true);
        if let Some(lds) = &self.dynamic.lds {
            self.listeners.borrow().subscription.started();
            self.subscribe(lds, &TypeUrl::LISTENER, xds_client::WILDCARD);
        }
    }

    /// Subscriptions come and go with slots, also between updates: when a connection ends that held the last one.
    async fn follow(self: Rc<Self>) {
        let (mut demands, mut arrivals) = (self.cx.secrets.demands(), self.cx.secrets.arrivals());
        loop {
            tokio::select! {
                () = self.cx.routes.changed() => {}
                _ = demands.changed() => {}
                _ = arrivals.changed() => {}
            }
            self.follow_demand();
            self.commit_warm();
        }
    }

    fn follow_demand(self: &Rc<Self>) {
        self.follow_routes();
        self.follow_secrets();
    }

    /// Puts to use what waited for something that has come.
    fn commit_warm(self: &Rc<Self>) {
        self.commit_warm_clusters();
        self.commit_warm_listeners();
    }

    /// Applies an update that came from `origin`, and says what of it was refused.
    fn update(self: &Rc<Self>, origin: &Origin, update: Update) -> Vec<Rejected> {
        let rejected = match &update.type_url {
            url if *url == TypeUrl::CLUSTER => self.update_clusters(update),
            url if *url == TypeUrl::ENDPOINT => self.update_endpoints(origin, update),
            url if *url == TypeUrl::LISTENER => self.update_listeners(update),
            url if *url == TypeUrl::ROUTE => self.update_routes(origin, update),
            url if *url == TypeUrl::SECRET => self.update_secrets(origin, update),
            other => {
                let reason = format!("nothing here uses resources of type {other}");
                update.added.into_iter().map(|r| Rejected { name: r.name, reason: reason.clone() }).collect()
            }
        };
        self.follow_demand();
        self.commit_warm();
        rejected
    }

    fn fetch_timed_out(self: &Rc<Self>, origin: &Origin, type_url: &TypeUrl, names: &[String]) {
        tracing::warn!("no answer to the subscription of {} within its initial_fetch_timeout", type_url.message_name());
        match type_url {
            url if *url == TypeUrl::CLUSTER => {
                self.clusters.borrow().subscription.timed_out();
                self.first_clusters.take();
            }
            url if *url == TypeUrl::LISTENER => {
                self.listeners.borrow().subscription.timed_out();
                self.first_listeners.take();
            }
            url if *url == TypeUrl::ENDPOINT => {
                names.iter().for_each(|name| self.give_up_endpoints(origin, name, true))
            }
            url if *url == TypeUrl::ROUTE => names.iter().for_each(|name| self.give_up_route(origin, name)),
            url if *url == TypeUrl::SECRET => names.iter().for_each(|name| self.give_up_secret(origin, name, true)),
            _ => {}
        }
        self.commit_warm();
    }

    /// A resource that does not exist, or was taken away.
    fn missing(self: &Rc<Self>, origin: &Origin, type_url: &TypeUrl, name: &str) {
        if *type_url == TypeUrl::ENDPOINT {
            self.give_up_endpoints(origin, name, false);
        } else if *type_url == TypeUrl::SECRET {
            self.give_up_secret(origin, name, false);
        }
        self.commit_warm();
    }

    /// What of this kind was received, by name.
    pub fn resources(&self, kind: Kind) -> (Arc<str>, Vec<(Arc<str>, State)>) {
        match kind {
            Kind::Cluster => self.clusters.borrow().dump(),
            Kind::Listener => self.listeners.borrow().dump(),
            Kind::Route => (Arc::default(), self.routes.borrow().dump()),
            Kind::Secret => (Arc::default(), self.secrets.borrow().dump()),
        }
    }

    /// What warming listeners wait for, each with its name.
    pub fn warming_listeners(&self) -> Vec<(Arc<str>, Vec<String>)> {
        self.listeners.borrow().waiting()
    }
}

/// Resources go by the name that the response gives them, which must be their own.
///
/// # Errors
/// When it is not.
fn check_name(resource: &Resource, field: &str, own: &str) -> Result<(), Reject> {
    match resource.name == own {
        true => Ok(()),
        false => Err(Path::root("")
            .field(field)
            .reject(format_args!("expected {:?} as in the response, got {own:?}", resource.name))),
    }
}

/// The message in a resource, checked against the rules of the API.
///
/// # Errors
/// When it is malformed or breaks a rule.
fn decode<M: Message + Default + Name>(resource: &Resource) -> Result<M, Reject> {
    let refuse = |path: &str, expected: &str, got: &str| Reject {
        path: path.to_owned(),
        why: format!("expected {expected}, got {got}"),
    };
    let name = resource.any.type_url.rsplit('/').next().unwrap_or_default();
    if let Err(problems) = xds_protos::validate::validate(name, &resource.any.value) {
        let first = problems.first();
        return Err(first.map_or_else(
            || refuse("", "a valid message", "an invalid one"),
            |problem| refuse(&problem.path, &problem.expected, &problem.got),
        ));
    }
    M::decode(resource.any.value.clone()).map_err(|error| refuse("", &format!("a {name}"), &error.to_string()))
}

#[cfg(test)]
mod tests;
