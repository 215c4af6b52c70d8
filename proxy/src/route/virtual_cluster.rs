//! `envoy.config.route.v3.VirtualCluster`: requests of a virtual host that are counted together.

use std::sync::Arc;

use super::header_matcher::HeaderMatcher;
use crate::http::RequestHead;
use crate::stats::StatBlock;
use crate::stats::names::VirtualClusterStats;

/// The virtual clusters of one virtual host.
pub struct VirtualClusters {
    pub(super) clusters: Box<[(Box<[HeaderMatcher]>, VirtualCluster)]>,
    /// Counts what none of the others does.
    pub(super) other: VirtualCluster,
}

pub struct VirtualCluster {
    pub name: Arc<str>,
    pub stats: StatBlock<VirtualClusterStats>,
}

impl VirtualClusters {
    pub fn find(&self, head: &RequestHead) -> &VirtualCluster {
        let matching = |headers: &[HeaderMatcher]| headers.iter().all(|matcher| matcher.matches_request(head));
        self.clusters.iter().find(|(headers, _)| matching(headers)).map_or(&self.other, |(_, cluster)| cluster)
    }
}
