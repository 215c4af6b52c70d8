//! Streams and files: which there are, who is asked for what, and what happens to them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::task::{AbortHandle, spawn_local};
use xds_client::watch::Watcher;
use xds_client::{
    BackOffOptions, FileSource, Handler, Missing, Options, RateLimit, Rejected, Service, StreamEvent, Subscriptions,
    TypeUrl, Update, Variant,
};

use super::Discovery;
use super::transport::ClusterTransport;
use crate::config::{ConfigSource, GrpcSource, Origin};
use crate::stats::StatBlock;
use crate::stats::names::ControlPlaneStats;

/// The running streams.
#[derive(Default)]
pub(super) struct Sources {
    ads: RefCell<Option<Stream>>,
    /// As in Envoy, each subscription with a source of its own has a stream of its own.
    own: RefCell<HashMap<Key, Stream>>,
    /// Of all files; a user may have few such instances.
    files: RefCell<Option<Files>>,
}

/// A watcher, and the task that drives it.
struct Files {
    watcher: Watcher,
    task: AbortHandle,
}

impl Drop for Files {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sources {
    /// `None` when there are too many of them already: then a source tries by itself, and says why it cannot.
    fn watcher(&self) -> Option<Watcher> {
        let mut files = self.files.borrow_mut();
        // It ends when reading events fails, which nobody expects; what is asked for after that gets a new one.
        if files.as_ref().is_none_or(|files| files.task.is_finished()) {
            let watcher = Watcher::new().ok()?;
            let driven = watcher.clone();
            let task = spawn_local(async move {
                let Err(error) = driven.run().await;
                tracing::error!("files are watched no more: {error}");
            });
            *files = Some(Files { watcher, task: task.abort_handle() });
        }
        files.as_ref().map(|files| files.watcher.clone())
    }
}

type Key = (Origin, TypeUrl, String);

struct Stream {
    subscriptions: Subscriptions,
    task: AbortHandle,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Discovery {
    pub(super) fn start_ads(self: &Rc<Self>) {
        let Some(ads) = &self.dynamic.ads else { return };
        let stats = self.cx.stats.block::<ControlPlaneStats>("control_plane");
        let stream = self.grpc(ads, Origin::Ads, Service::Aggregated, stats);
        *self.sources.ads.borrow_mut() = Some(stream);
    }

    fn grpc(
        self: &Rc<Self>,
        source: &GrpcSource,
        origin: Origin,
        service: Service,
        stats: StatBlock<ControlPlaneStats>,
    ) -> Stream {
        let variant = if source.delta { Variant::Delta } else { Variant::Sotw };
        let mut options = Options::new(self.node.clone(), variant);
        options.service = service;
        options.set_node_on_first_message_only = source.set_node_on_first_message_only;
        if let Some((base, max)) = source.back_off {
            options.back_off = BackOffOptions { base, max };
        }
        options.rate_limit = source
            .rate_limit
            .map(|(max_tokens, thousandths)| RateLimit { max_tokens, fill_rate: thousandths as f64 / 1000.0 });
        let authority = if source.authority.is_empty() { &*source.cluster } else { &source.authority };
        // A cluster may have a name that is no host; then it is not sent as one.
        if let Ok(uri) = format!("http://{authority}").parse() {
            options.origin = uri;
        }
        options.initial_metadata = source.initial_metadata.iter().cloned().collect::<HeaderMap>();
        let transport = ClusterTransport(self.cx.clusters.slot(&source.cluster));
        let (subscriptions, commands) = Subscriptions::new();
        let handler = StreamHandler { discovery: Rc::downgrade(self), origin, stats, server: source.cluster.clone() };
        let task = spawn_local(async move {
            xds_client::run(options, commands, transport, handler).await;
        });
        Stream { subscriptions, task: task.abort_handle() }
    }

    fn own_stream(self: &Rc<Self>, origin: &Origin, type_url: &TypeUrl) -> Option<Stream> {
        match origin {
            Origin::Ads => None,
            Origin::Grpc(source) => {
                let scope = format!("cluster.{}.control_plane", source.cluster);
                let service = Service::Single(type_url.clone());
                Some(self.grpc(source, origin.clone(), service, self.cx.stats.block(&scope)))
            }
            Origin::Path(source) => {
                let mut file = FileSource::new(type_url.clone(), &source.path);
                if let Some(directory) = &source.watched_directory {
                    file = file.watched_directory(directory);
                }
                if let Some(watcher) = self.sources.watcher() {
                    file = file.watcher(watcher);
                }
                let (subscriptions, commands) = Subscriptions::new();
                let handler = StreamHandler {
                    discovery: Rc::downgrade(self),
                    origin: origin.clone(),
                    stats: self.cx.stats.block("control_plane"),
                    server: source.path.as_str().into(),
                };
                let task = spawn_local(async move {
                    file.run(commands, handler).await;
                });
                Some(Stream { subscriptions, task: task.abort_handle() })
            }
        }
    }

    /// Asks for a resource, or with `*` for all of a type.
    pub(super) fn subscribe(self: &Rc<Self>, source: &ConfigSource, type_url: &TypeUrl, name: &str) {
        let timeout = source.initial_fetch_timeout.unwrap_or(Duration::ZERO);
        if source.origin == Origin::Ads {
            if let Some(ads) = &*self.sources.ads.borrow() {
                return ads.subscriptions.subscribe(type_url.clone(), name, timeout);
            }
            tracing::warn!("{name:?} is to come by ADS, and the bootstrap has no ads_config: it never will");
            let (discovery, type_url, name) = (self.clone(), type_url.clone(), name.to_owned());
            spawn_local(async move { discovery.fetch_timed_out(&Origin::Ads, &type_url, &[name]) });
            return;
        }
        let key = (source.origin.clone(), type_url.clone(), name.to_owned());
        let mut own = self.sources.own.borrow_mut();
        if !own.contains_key(&key)
            && let Some(stream) = self.own_stream(&source.origin, type_url)
        {
            stream.subscriptions.subscribe(type_url.clone(), name, timeout);
            own.insert(key, stream);
        }
    }

    pub(super) fn unsubscribe(&self, origin: &Origin, type_url: &TypeUrl, name: &str) {
        match origin {
            Origin::Ads => {
                if let Some(ads) = &*self.sources.ads.borrow() {
                    ads.subscriptions.unsubscribe(type_url.clone(), name);
                }
            }
            _ => {
                let stream = self.sources.own.borrow_mut().remove(&(origin.clone(), type_url.clone(), name.to_owned()));
                // Dropping it inside one of its own calls is safe: its task ends at its next wait.
                drop(stream);
            }
        }
    }
}

/// What a stream tells discovery.
struct StreamHandler {
    discovery: Weak<Discovery>,
    origin: Origin,
    stats: StatBlock<ControlPlaneStats>,
    /// Cluster or file, for the log.
    server: Arc<str>,
}

impl Handler for StreamHandler {
    fn update(&mut self, update: Update) -> Vec<Rejected> {
        let Some(discovery) = self.discovery.upgrade() else { return Vec::new() };
        let (kind, version) = (update.type_url.clone(), update.version.clone());
        let (added, removed) = (update.added.len(), update.removed.len());
        let rejected = discovery.update(&self.origin, update);
        let kind = kind.message_name();
        tracing::debug!("{kind}: version {version:?}, {added} added, {removed} removed, {} refused", rejected.len());
        for rejected in &rejected {
            tracing::warn!("{kind} {:?} was refused: {}", rejected.name, rejected.reason);
        }
        rejected
    }

    fn missing(&mut self, type_url: &TypeUrl, name: &str, why: Missing) {
        tracing::warn!("{} {name:?} does not exist: {why:?}", type_url.message_name());
        if let Some(discovery) = self.discovery.upgrade() {
            discovery.missing(&self.origin, type_url, name);
        }
    }

    fn fetch_timed_out(&mut self, type_url: &TypeUrl, names: Vec<String>) {
        if let Some(discovery) = self.discovery.upgrade() {
            discovery.fetch_timed_out(&self.origin, type_url, &names);
        }
    }

    fn stream(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Connected => {
                self.stats.set(ControlPlaneStats::CONNECTED_STATE, 1);
                tracing::info!("connected to the management server at {:?}", self.server);
            }
            StreamEvent::Disconnected { code, reason, retry_in } => {
                self.stats.set(ControlPlaneStats::CONNECTED_STATE, 0);
                let server = &self.server;
                tracing::warn!(
                    "gRPC config stream to {server:?} closed: {code}, {reason}; connecting again in {retry_in:?}"
                );
                if let Some(discovery) = self.discovery.upgrade() {
                    discovery.stream_failed(&self.origin);
                }
            }
            StreamEvent::Identifier(identifier) => self.stats.set_text(ControlPlaneStats::IDENTIFIER, &identifier),
            StreamEvent::RateLimited { waiting } => {
                self.stats.inc(ControlPlaneStats::RATE_LIMIT_ENFORCED);
                self.stats.set(ControlPlaneStats::PENDING_REQUESTS, waiting as u64);
            }
            StreamEvent::Refused { type_url, version, reason } => {
                tracing::warn!("{} of version {version:?} was refused: {reason}", type_url.message_name());
                if let Some(discovery) = self.discovery.upgrade() {
                    discovery.response_refused(&self.origin, &type_url);
                }
            }
            StreamEvent::Unasked(type_url) => tracing::debug!("nobody asked for {type_url}"),
            _ => {}
        }
    }
}

impl Discovery {
    /// Counts the end of a stream for the subscriptions on it.
    fn stream_failed(&self, origin: &Origin) {
        for (source, subscription) in [
            (&self.dynamic.cds, &self.clusters.borrow().subscription),
            (&self.dynamic.lds, &self.listeners.borrow().subscription),
        ] {
            let is_asked = std::ptr::eq(source, &self.dynamic.cds) || self.initialized.get();
            if is_asked && source.as_ref().is_some_and(|source| source.origin == *origin) {
                subscription.failed();
            }
        }
        self.routes.borrow().failed(origin);
        self.secrets.borrow().failed(origin);
    }

    /// A response that contradicts itself was refused before anybody looked at its resources. As in Envoy everything of its
    /// type that is asked for there counts it, and waits no more.
    pub(super) fn response_refused(self: &Rc<Self>, origin: &Origin, type_url: &TypeUrl) {
        match type_url {
            url if *url == TypeUrl::CLUSTER => {
                self.clusters.borrow().subscription.refused();
                self.first_clusters.take();
            }
            url if *url == TypeUrl::LISTENER => {
                self.listeners.borrow().subscription.refused();
                self.first_listeners.take();
            }
            url if *url == TypeUrl::ENDPOINT => self.refuse_endpoints(origin),
            url if *url == TypeUrl::ROUTE => self.routes.borrow().refused(origin),
            url if *url == TypeUrl::SECRET => self.refuse_secrets(origin),
            _ => {}
        }
        self.commit_warm();
    }

    /// Holds back what is to be said of clusters to the management server, or lets it go: as in Envoy it learns that
    /// clusters were taken when they are in use.
    pub(super) fn hold_back_clusters(&self, hold: bool) {
        if let Some(ads) = &*self.sources.ads.borrow() {
            match hold {
                true => ads.subscriptions.pause(TypeUrl::CLUSTER),
                false => ads.subscriptions.resume(TypeUrl::CLUSTER),
            }
        }
    }

    /// Has the names of endpoints sent again where this is asked for.
    pub(super) fn ask_again_for_endpoints(&self, source: &ConfigSource, name: &str) {
        if source.origin == Origin::Ads {
            if let Some(ads) = &*self.sources.ads.borrow() {
                ads.subscriptions.refresh(TypeUrl::ENDPOINT);
            }
        } else if let Some(own) =
            self.sources.own.borrow().get(&(source.origin.clone(), TypeUrl::ENDPOINT, name.to_owned()))
        {
            own.subscriptions.refresh(TypeUrl::ENDPOINT);
        }
    }
}
