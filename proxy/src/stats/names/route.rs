//! Stats of virtual clusters and of routes with a `stat_prefix`.

use crate::stat_block;

stat_block! {
    /// Scope `vhost.<virtual host>.vcluster.<virtual cluster>`; every virtual host that has any also has `other`.
    pub struct VirtualClusterStats {
        lazy_codes UPSTREAM_RQ = "upstream_rq_",
        counter UPSTREAM_RQ_RETRY,
        counter UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED,
        counter UPSTREAM_RQ_RETRY_OVERFLOW,
        counter UPSTREAM_RQ_RETRY_SUCCESS,
        lazy_histogram UPSTREAM_RQ_TIME(Milliseconds),
        counter UPSTREAM_RQ_TIMEOUT,
        counter UPSTREAM_RQ_TOTAL,
    }
}

stat_block! {
    /// Scope `vhost.<virtual host>.route.<stat_prefix>`.
    pub struct RouteStats {
        lazy_codes UPSTREAM_RQ = "upstream_rq_",
        counter UPSTREAM_RQ_RETRY,
        counter UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED,
        counter UPSTREAM_RQ_RETRY_OVERFLOW,
        counter UPSTREAM_RQ_RETRY_SUCCESS,
        counter UPSTREAM_RQ_TIMEOUT,
        counter UPSTREAM_RQ_TOTAL,
        lazy_histogram UPSTREAM_RQ_TIME(Milliseconds),
    }
}
