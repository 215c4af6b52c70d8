//! The same sequence of requests as Envoy 1.40's. `recorded/*.txt` is what Envoy said to the server of this crate when
//! it played `recorded/steps.txt` (see `examples/record.rs`); here a handler that subscribes as Envoy's managers do
//! plays the same steps.
//!
//! What the recordings show
//! - CDS first; LDS once all clusters are warm; the EDS and RDS requests that an update causes leave before its ACK.
//! - While clusters warm, once the server has started, CDS is held back: its ACK comes when the endpoints are there.
//! - In state of the world a cluster that is made anew has its endpoints asked for again, with the nonce last seen.
//! - A reconnect asks in the order CDS, EDS, LDS, RDS, with the versions in force.

mod common;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use common::script;
use common::{Server, connector, options, run};
use xds_client::{Handler, Rejected, Subscriptions, TypeUrl, Update, Variant};
use xds_protos::Message as _;
use xds_protos::envoy::config::cluster::v3::Cluster;
use xds_protos::envoy::config::listener::v3::{Listener, filter};
use xds_protos::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};

/// Envoy's cluster manager and listener manager, as far as subscriptions go.
struct Managers {
    subscriptions: Subscriptions,
    clusters: BTreeMap<String, bytes::Bytes>,
    warming: BTreeSet<String>,
    started: bool,
    held: bool,
    /// Listener to route.
    listeners: BTreeMap<String, String>,
    routes: BTreeSet<String>,
}

impl Managers {
    fn new(subscriptions: Subscriptions) -> Self {
        subscriptions.wildcard(TypeUrl::CLUSTER, Duration::ZERO);
        Self {
            subscriptions,
            clusters: BTreeMap::new(),
            warming: BTreeSet::new(),
            started: false,
            held: false,
            listeners: BTreeMap::new(),
            routes: BTreeSet::new(),
        }
    }

    fn cds(&mut self, update: &Update) -> Vec<Rejected> {
        let mut rejected = Vec::new();
        for resource in &update.added {
            let cluster = Cluster::decode(&*resource.any.value).unwrap();
            if cluster.eds_cluster_config.is_none() {
                let reason = "cannot create an EDS cluster without an EDS config".to_owned();
                rejected.push(Rejected { name: resource.name.clone(), reason });
                continue;
            }
            let value = resource.any.value.clone();
            if self.clusters.insert(resource.name.clone(), value.clone()).as_ref() != Some(&value) {
                self.subscriptions.subscribe(TypeUrl::ENDPOINT, &resource.name, Duration::ZERO);
                self.subscriptions.refresh(TypeUrl::ENDPOINT);
                self.warming.insert(resource.name.clone());
            }
        }
        let mut gone = update.removed.clone();
        if update.full {
            let listed = |name: &String| update.added.iter().any(|it| it.name == *name);
            gone.extend(self.clusters.keys().filter(|name| !listed(name)).cloned());
        }
        for name in gone {
            self.clusters.remove(&name);
            self.warming.remove(&name);
            self.subscriptions.unsubscribe(TypeUrl::ENDPOINT, &name);
        }
        if self.started && !self.warming.is_empty() && !self.held {
            self.held = true;
            self.subscriptions.pause(TypeUrl::CLUSTER);
        }
        rejected
    }

    fn eds(&mut self, update: &Update) {
        for resource in &update.added {
            self.warming.remove(&resource.name);
        }
        if !self.warming.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.started, true) {
            self.subscriptions.wildcard(TypeUrl::LISTENER, Duration::ZERO);
        }
        if std::mem::take(&mut self.held) {
            self.subscriptions.resume(TypeUrl::CLUSTER);
        }
    }

    fn lds(&mut self, update: &Update) {
        for resource in &update.added {
            let route = route_of(&Listener::decode(&*resource.any.value).unwrap());
            self.subscriptions.subscribe(TypeUrl::ROUTE, &route, Duration::ZERO);
            self.listeners.insert(resource.name.clone(), route);
        }
        let mut gone = update.removed.clone();
        if update.full {
            let listed = |name: &String| update.added.iter().any(|it| it.name == *name);
            gone.extend(self.listeners.keys().filter(|name| !listed(name)).cloned());
        }
        for name in gone {
            // A listener that is in use drains, and holds its routes meanwhile; one that still warms goes at once.
            if let Some(route) = self.listeners.remove(&name).filter(|route| !self.routes.contains(route)) {
                self.subscriptions.unsubscribe(TypeUrl::ROUTE, route);
            }
        }
    }
}

impl Handler for Managers {
    fn update(&mut self, update: Update) -> Vec<Rejected> {
        match &update.type_url {
            url if *url == TypeUrl::CLUSTER => return self.cds(&update),
            url if *url == TypeUrl::ENDPOINT => self.eds(&update),
            url if *url == TypeUrl::LISTENER => self.lds(&update),
            _ => self.routes.extend(update.added.into_iter().map(|it| it.name)),
        }
        Vec::new()
    }
}

fn route_of(listener: &Listener) -> String {
    let Some(filter::ConfigType::TypedConfig(any)) = &listener.filter_chains[0].filters[0].config_type else {
        panic!()
    };
    let manager = HttpConnectionManager::decode(&*any.value).unwrap();
    let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier else { panic!() };
    rds.route_config_name
}

/// Plays the script and compares step by step.
async fn play(variant: Variant, recorded: &str) {
    let mut server = Server::start().await;
    let (subscriptions, commands) = Subscriptions::new();
    let handler = Managers::new(subscriptions);
    let (port, options) = (server.port, options(variant));
    let seen = Rc::new(RefCell::new(0));
    let client = async move {
        xds_client::run(options, commands, connector(port), handler).await;
    };
    let script = async {
        let steps = include_str!("recorded/steps.txt").split("---\n");
        for (number, (step, expected)) in steps.zip(recorded.split("== step\n").skip(1)).enumerate() {
            let expected: Vec<&str> = expected.lines().collect();
            match step.trim() {
                "wait" => {}
                "restart" => {
                    server.stop().await;
                    server.start_again().await;
                }
                step => script::apply(&server.store, step).unwrap(),
            }
            let start = *seen.borrow();
            let log = server.store.logged(|log| log.len() >= start + expected.len()).await;
            let said: Vec<String> = log[start..].iter().map(script::line).collect();
            assert_eq!(said, expected, "{variant:?}, step {number}");
            *seen.borrow_mut() = log.len();
        }
    };
    tokio::select! {
        () = client => unreachable!("the client runs for ever"),
        () = script => {}
    }
}

#[test]
fn delta_as_envoy() {
    // The one difference: Envoy forgets the good part of a push that it refused in part, and is sent it again.
    let recorded = include_str!("recorded/delta.txt");
    let envoy = "2 Cluster +[] -[] init={\"a\": \"2\"} ";
    assert!(recorded.contains(envoy));
    let ours = recorded.replace(envoy, "2 Cluster +[] -[] init={\"a\": \"2\", \"c\": \"4\"} ");
    run(play(Variant::Delta, &ours));
}

#[test]
fn state_of_the_world_as_envoy() {
    run(play(Variant::Sotw, include_str!("recorded/sotw.txt")));
}
