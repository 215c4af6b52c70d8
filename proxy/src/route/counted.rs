//! What requests are counted for besides their cluster: the virtual cluster they belong to, and a route with a `stat_prefix`.

use super::table::RouteMatch;
use crate::http::RequestHead;
use crate::stats::StatBlock;
use crate::stats::names::{RouteStats, VirtualClusterStats};

/// Found once for each request, before its head is changed for the upstream. Most have neither.
#[derive(Clone, Default)]
pub struct Counted {
    virtual_cluster: Option<StatBlock<VirtualClusterStats>>,
    route: Option<StatBlock<RouteStats>>,
}

/// The counters that both have, by the name that they have in common.
macro_rules! count {
    ($($(#[$doc:meta])* $method:ident => $field:ident,)*) => {
        impl Counted {
            $($(#[$doc])* pub fn $method(&self) {
                if let Some(stats) = &self.virtual_cluster {
                    stats.inc(VirtualClusterStats::$field);
                }
                if let Some(stats) = &self.route {
                    stats.inc(RouteStats::$field);
                }
            })*
        }
    };
}

count! {
    /// A request goes to a host.
    sent => UPSTREAM_RQ_TOTAL,
    timed_out => UPSTREAM_RQ_TIMEOUT,
    retried => UPSTREAM_RQ_RETRY,
    retry_succeeded => UPSTREAM_RQ_RETRY_SUCCESS,
    retries_exceeded => UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED,
    retry_overflowed => UPSTREAM_RQ_RETRY_OVERFLOW,
}

impl Counted {
    pub fn of(route: &RouteMatch, head: &RequestHead) -> Self {
        let clusters = route.virtual_host().virtual_clusters.as_ref();
        Counted {
            virtual_cluster: clusters.map(|clusters| clusters.find(head).stats.clone()),
            route: route.entry().stats.clone(),
        }
    }

    pub fn code(&self, code: u16) {
        if let Some(stats) = &self.virtual_cluster {
            stats.code(VirtualClusterStats::UPSTREAM_RQ, code);
        }
        if let Some(stats) = &self.route {
            stats.code(RouteStats::UPSTREAM_RQ, code);
        }
    }

    pub fn time(&self, ms: u64) {
        if let Some(stats) = &self.virtual_cluster {
            stats.record(VirtualClusterStats::UPSTREAM_RQ_TIME, ms);
        }
        if let Some(stats) = &self.route {
            stats.record(RouteStats::UPSTREAM_RQ_TIME, ms);
        }
    }
}
