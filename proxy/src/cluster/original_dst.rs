//! `ORIGINAL_DST`: a cluster without a list of hosts. A request goes where its connection was going before it was
//! redirected to us, or where a header says; the host comes into being with its first request.
//!
//! A host that nobody picked for a whole `cleanup_interval` and that has no connection is forgotten.
//!
//! Deliberately missing: destinations from filter state or dynamic metadata (`metadata_key`, which is refused).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hashbrown::HashMap;
use http::HeaderName;
use parking_lot::RwLock;
use tokio::sync::Notify;

use super::LbContext;
use crate::endpoint::Host;
use crate::stats::{StatBlock, names::ClusterStats};

/// `original_dst_lb_config`, and the hosts that are in use.
pub struct OriginalDst {
    /// `http_header_name`, when `use_http_header` is set.
    pub header: Option<HeaderName>,
    pub upstream_port_override: Option<u16>,
    pub cleanup_interval: Duration,
    hosts: RwLock<HashMap<SocketAddr, Entry, foldhash::fast::RandomState>>,
    /// Told when the first host comes.
    populated: Notify,
}

struct Entry {
    host: Arc<Host>,
    /// Picked since the last clean-up.
    used: AtomicBool,
}

impl OriginalDst {
    pub const DEFAULT_HEADER: HeaderName = HeaderName::from_static("x-envoy-original-dst-host");
    pub const DEFAULT_CLEANUP_INTERVAL: Duration = Duration::from_secs(5);

    pub fn new(header: Option<HeaderName>, upstream_port_override: Option<u16>, cleanup_interval: Duration) -> Self {
        OriginalDst {
            header,
            upstream_port_override,
            cleanup_interval,
            hosts: RwLock::default(),
            populated: Notify::new(),
        }
    }

    /// The host that the request was sent to; none when neither header nor connection says.
    pub fn choose(&self, cluster: &str, context: &LbContext<'_>, stats: &StatBlock<ClusterStats>) -> Option<Arc<Host>> {
        let mut address = self.header_address(context, stats).or(context.original_dst)?;
        if let Some(port) = self.upstream_port_override {
            address.set_port(port);
        }
        if let Some(entry) = self.hosts.read().get(&address) {
            entry.used.store(true, Relaxed);
            return Some(entry.host.clone());
        }
        let mut hosts = self.hosts.write();
        let entry = hosts.entry(address).or_insert_with(|| {
            stats.inc(ClusterStats::MEMBERSHIP_CHANGE);
            stats.gauge_inc(ClusterStats::MEMBERSHIP_TOTAL);
            stats.gauge_inc(ClusterStats::MEMBERSHIP_HEALTHY);
            stats.inc(ClusterStats::DEFAULT_TOTAL_MATCH_COUNT);
            let host = Host::new(address.into(), format!("{cluster}{address}").into(), 1);
            Entry { host: Arc::new(host), used: AtomicBool::new(true) }
        });
        let host = entry.host.clone();
        if hosts.len() == 1 {
            self.populated.notify_one();
        }
        Some(host)
    }

    fn header_address(&self, context: &LbContext<'_>, stats: &StatBlock<ClusterStats>) -> Option<SocketAddr> {
        // Only the first value counts: who adds one after it is not trusted more than who came before.
        let value = context.headers?.get(self.header.as_ref()?)?;
        let address = value.to_str().ok().and_then(|text| text.parse().ok());
        if address.is_none() && !value.is_empty() {
            stats.inc(ClusterStats::ORIGINAL_DST_HOST_INVALID);
        }
        address
    }

    pub fn hosts(&self) -> Vec<Arc<Host>> {
        self.hosts.read().values().map(|entry| entry.host.clone()).collect()
    }

    /// Forgets hosts that were not picked since the last call and have no connection; returns them.
    pub fn clean_up(&self, stats: &StatBlock<ClusterStats>) -> Vec<Arc<Host>> {
        let unused = |entry: &mut Entry| {
            !std::mem::take(entry.used.get_mut())
                && entry.host.stats.cx_active.load(Relaxed) == 0
                && entry.host.stats.rq_active.load(Relaxed) == 0
        };
        let removed: Vec<Arc<Host>> =
            self.hosts.write().extract_if(|_, entry| unused(entry)).map(|(_, entry)| entry.host).collect();
        if !removed.is_empty() {
            stats.inc(ClusterStats::MEMBERSHIP_CHANGE);
            stats.gauge_sub(ClusterStats::MEMBERSHIP_TOTAL, removed.len() as u64);
            stats.gauge_sub(ClusterStats::MEMBERSHIP_HEALTHY, removed.len() as u64);
        }
        removed
    }

    /// Waits until there is something to clean up. An empty cluster costs no timer.
    pub async fn populated(&self) {
        while self.hosts.read().is_empty() {
            self.populated.notified().await;
        }
    }
}
