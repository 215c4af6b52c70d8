//! The route table, its virtual hosts and routes, and the search through them.

use std::sync::Arc;

use http::HeaderName;

use super::action::{Action, ClusterSpecifier, ClusterTarget, WeightedCluster};
use super::domains::{DomainMatch, Domains};
use super::matcher::{Mismatch, RouteMatcher};
use super::per_filter::{FilterConfig, PerFilterConfigs};
use super::virtual_cluster::VirtualClusters;
use crate::cluster::{ClusterManager, ClusterSlot};
use crate::config::metadata::LazyMetadata;
use crate::formatter::HeaderMutations;
use crate::http::RequestHead;
use crate::stats::StatBlock;
use crate::stats::names::RouteStats;
use crate::stream_info::StreamInfo;

/// `envoy.config.route.v3.RouteConfiguration` as built.
pub struct RouteTable {
    pub name: Arc<str>,
    pub virtual_hosts: Box<[VirtualHost]>,
    pub(super) domains: Domains,
    /// `vhost_header`: its first value instead of the host.
    pub(super) vhost_header: Option<HeaderName>,
    pub(super) ignore_port_in_host_matching: bool,
    pub(super) ignore_path_parameters_in_path_matching: bool,
    pub(super) most_specific_header_mutations_wins: bool,
    pub(super) headers: HeaderOps,
    pub(super) per_filter: PerFilterConfigs,
    pub metadata: Option<Arc<LazyMetadata>>,
    /// Taken off requests that do not come from inside, by the connection manager.
    pub internal_only_headers: Box<[HeaderName]>,
    /// What a request gets that `require_tls` sends to HTTPS.
    pub(super) tls_redirect: RouteEntry,
}

/// `envoy.config.route.v3.VirtualHost` as built.
pub struct VirtualHost {
    pub name: Arc<str>,
    pub routes: Box<[RouteEntry]>,
    pub require_tls: TlsRequirement,
    pub include_request_attempt_count: bool,
    pub include_attempt_count_in_response: bool,
    pub metadata: Option<Arc<LazyMetadata>>,
    pub virtual_clusters: Option<Box<VirtualClusters>>,
    pub(super) headers: HeaderOps,
    pub(super) per_filter: PerFilterConfigs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsRequirement {
    #[default]
    None,
    /// Of requests that do not come from inside (`x-envoy-internal`).
    ExternalOnly,
    All,
}

/// `envoy.config.route.v3.Route` as built.
pub struct RouteEntry {
    pub name: Arc<str>,
    pub(super) matcher: RouteMatcher,
    pub action: Action,
    pub metadata: Option<Arc<LazyMetadata>>,
    /// For the trace of a request.
    pub decorator: Option<Box<Decorator>>,
    /// Made by `stat_prefix`.
    pub stats: Option<StatBlock<RouteStats>>,
    /// How much of a request may be kept for sending it again; `request_body_buffer_limit` of route or virtual host.
    pub request_body_buffer_limit: Option<u64>,
    pub(super) headers: HeaderOps,
    pub(super) per_filter: PerFilterConfigs,
}

/// `envoy.config.route.v3.Decorator`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decorator {
    pub operation: Box<str>,
    /// Whether to tell the other side (`x-envoy-decorator-operation`).
    pub propagate: bool,
}

/// Header mutations of one level; most levels have none.
#[derive(Default)]
pub(super) struct HeaderOps(pub(super) Option<Box<(HeaderMutations, HeaderMutations)>>);

impl HeaderOps {
    pub(super) fn request(&self) -> Option<&HeaderMutations> {
        self.0.as_deref().map(|(request, _)| request)
    }

    pub(super) fn response(&self) -> Option<&HeaderMutations> {
        self.0.as_deref().map(|(_, response)| response)
    }
}

/// The route of one request, with the choice among weighted clusters made. Keeps the table alive; cheap to clone.
#[derive(Clone)]
pub struct RouteMatch {
    table: Arc<RouteTable>,
    virtual_host: u32,
    route: u32,
    weighted: u32,
}

const TLS_REDIRECT: u32 = u32::MAX;

/// Told of every step of a search. The data path uses `()`, for which all of it compiles to nothing.
pub trait Recorder {
    fn virtual_host(&mut self, host: &str, found: Option<(&VirtualHost, DomainMatch)>);
    fn tls_redirect(&mut self, virtual_host: &VirtualHost);
    fn route(&mut self, index: usize, route: &RouteEntry, result: Result<(), Mismatch>);
    fn weighted_cluster(&mut self, value: u64, total: u64, index: usize, cluster: &WeightedCluster);
}

impl Recorder for () {
    #[inline]
    fn virtual_host(&mut self, _: &str, _: Option<(&VirtualHost, DomainMatch)>) {}
    #[inline]
    fn tls_redirect(&mut self, _: &VirtualHost) {}
    #[inline]
    fn route(&mut self, _: usize, _: &RouteEntry, _: Result<(), Mismatch>) {}
    #[inline]
    fn weighted_cluster(&mut self, _: u64, _: u64, _: usize, _: &WeightedCluster) {}
}

impl RouteTable {
    /// The route of a request. `random` decides runtime fractions and weighted clusters; a stream uses the same value
    /// for all its searches. No allocation, unless a matcher meets a header that occurs several times.
    pub fn find(self: &Arc<Self>, head: &RequestHead, info: &StreamInfo, random: u64) -> Option<RouteMatch> {
        self.find_recorded(head, info, random, &mut ())
    }

    /// [`find`](Self::find), telling `recorder` why.
    pub fn find_recorded<R: Recorder>(
        self: &Arc<Self>,
        head: &RequestHead,
        info: &StreamInfo,
        random: u64,
        recorder: &mut R,
    ) -> Option<RouteMatch> {
        let host = self.host_for_matching(head);
        let found = host.and_then(|host| self.domains.find(host));
        let host = host.unwrap_or_default();
        let found = found.and_then(|(at, how)| Some((at, self.virtual_hosts.get(at as usize)?, how)));
        recorder.virtual_host(host, found.map(|(_, virtual_host, how)| (virtual_host, how)));
        let (at, virtual_host, _) = found?;

        // The protocol that the client used, which may differ from `:scheme`.
        let forwarded_proto = forwarded_proto(head);
        if forwarded_proto.is_empty() {
            return None;
        }
        let matched = |route, weighted| RouteMatch { table: self.clone(), virtual_host: at, route, weighted };
        if virtual_host.require_tls != TlsRequirement::None
            && forwarded_proto != "https"
            && (virtual_host.require_tls == TlsRequirement::All || !is_internal(head))
        {
            recorder.tls_redirect(virtual_host);
            return Some(matched(TLS_REDIRECT, 0));
        }
        for (i, route) in virtual_host.routes.iter().enumerate() {
            let result = route.matcher.matches(head, info, random, self.ignore_path_parameters_in_path_matching);
            recorder.route(i, route, result);
            if result.is_ok() {
                return Some(matched(i as u32, route.weighted_choice(head, random, recorder)));
            }
        }
        None
    }

    fn host_for_matching<'a>(&self, head: &'a RequestHead) -> Option<&'a str> {
        let host = match &self.vhost_header {
            None => &head.authority,
            Some(name) => head.headers.get(name)?.to_str().ok()?,
        };
        let at = port_start(host).filter(|_| self.ignore_port_in_host_matching);
        at.map_or(Some(host), |at| host.get(..at))
    }
}

impl RouteEntry {
    fn weighted_choice<R: Recorder>(&self, head: &RequestHead, random: u64, recorder: &mut R) -> u32 {
        let Action::Route(action) = &self.action else { return 0 };
        let ClusterSpecifier::Weighted(weighted) = &action.cluster else { return 0 };
        // A header that occurs twice is not trusted to be one choice, and falls back as one that is no number does.
        let from_header = weighted.header_name.as_ref().and_then(|name| {
            let mut values = head.headers.get_all(name).iter();
            let only = values.next().filter(|_| values.next().is_none())?;
            only.to_str().ok()?.trim().parse::<u64>().ok()
        });
        let value = from_header.unwrap_or(random);
        let index = weighted.pick(value);
        if let Some(cluster) = weighted.clusters.get(index) {
            recorder.weighted_cluster(value, weighted.total(), index, cluster);
        }
        index as u32
    }
}

impl RouteMatch {
    pub fn table(&self) -> &Arc<RouteTable> {
        &self.table
    }

    #[expect(clippy::indexing_slicing, reason = "find() took the position from this very table")]
    pub fn virtual_host(&self) -> &VirtualHost {
        &self.table.virtual_hosts[self.virtual_host as usize]
    }

    /// The matched route; for `require_tls` a nameless one that redirects.
    pub fn entry(&self) -> &RouteEntry {
        self.virtual_host().routes.get(self.route as usize).unwrap_or(&self.table.tls_redirect)
    }

    /// Whether this is `require_tls` at work and not a route.
    pub fn is_tls_redirect(&self) -> bool {
        self.route == TLS_REDIRECT
    }

    pub fn action(&self) -> &Action {
        &self.entry().action
    }

    /// The weighted cluster that was picked.
    pub fn weighted_cluster(&self) -> Option<&WeightedCluster> {
        match self.action() {
            Action::Route(action) => match &action.cluster {
                ClusterSpecifier::Weighted(weighted) => weighted.clusters.get(self.weighted as usize),
                ClusterSpecifier::Target(_) => None,
            },
            _ => None,
        }
    }

    /// The cluster to forward to, by slot or by header; `None` unless the action is to forward.
    pub fn cluster_target(&self) -> Option<&ClusterTarget> {
        match self.action() {
            Action::Route(action) => match &action.cluster {
                ClusterSpecifier::Target(target) => Some(target),
                ClusterSpecifier::Weighted(_) => self.weighted_cluster().map(|cluster| &cluster.target),
            },
            _ => None,
        }
    }

    /// The slot of the cluster to forward to. `None`: no cluster has the name that the header gives, or it gives none.
    pub fn cluster(&self, head: &RequestHead, clusters: &ClusterManager) -> Option<Arc<ClusterSlot>> {
        match self.cluster_target()? {
            ClusterTarget::Cluster(slot) => Some(slot.clone()),
            // Of several values the first counts, because anybody may have added the others.
            ClusterTarget::Header(name) => clusters.find(head.headers.get(name)?.to_str().ok()?),
        }
    }

    /// Whether this route switches the filter of this name off (`Some(true)`) or on; `None`: as the connection manager says.
    pub fn filter_disabled(&self, filter: &str) -> Option<bool> {
        self.levels().find_map(|level| level.get(filter)).map(|entry| entry.disabled)
    }

    /// The most specific override for a filter.
    pub fn filter_config(&self, filter: &str) -> Option<&FilterConfig> {
        self.levels().find_map(|level| level.get(filter)?.config.as_ref())
    }

    /// All overrides for a filter, the most specific first.
    pub fn filter_configs<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = &'a FilterConfig> {
        self.levels().filter_map(move |level| level.get(filter)?.config.as_ref())
    }

    fn levels(&self) -> impl Iterator<Item = &PerFilterConfigs> {
        let route = (!self.is_tls_redirect()).then(|| &self.entry().per_filter);
        let outer = route.map(|_| [&self.virtual_host().per_filter, &self.table.per_filter]);
        let weighted = self.weighted_cluster().map(|cluster| &cluster.per_filter);
        weighted.into_iter().chain(route).chain(outer.into_iter().flatten())
    }
}

pub(super) fn forwarded_proto(head: &RequestHead) -> &str {
    head.headers.get("x-forwarded-proto").and_then(|v| v.to_str().ok()).unwrap_or_default()
}

fn is_internal(head: &RequestHead) -> bool {
    head.headers.get("x-envoy-internal").is_some_and(|v| v == "true")
}

/// Where `:port` starts in a host, if it has one: at the last colon that is not inside brackets. Whether digits follow is
/// not looked at.
pub(crate) fn port_start(host: &str) -> Option<usize> {
    let colon = host.rfind(':')?;
    host.rfind(']').is_none_or(|bracket| bracket < colon).then_some(colon)
}
