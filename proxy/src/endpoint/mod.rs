//! `envoy.config.endpoint.v3`: a host of a cluster. Hosts are stable by address, so that weights and health change in
//! place and pools, statistics and outlier records survive an update.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::net::Address;

/// `envoy.config.core.v3.Locality`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Locality {
    pub region: Arc<str>,
    pub zone: Arc<str>,
    pub sub_zone: Arc<str>,
}

/// One host. Identity is `id`, unique in the process.
pub struct Host {
    pub id: u64,
    pub address: Address,
    /// `endpoint.additional_addresses`, tried when `address` fails (happy eyeballs).
    pub additional_addresses: Vec<Address>,
    /// `endpoint.hostname`, or for DNS clusters the name that was resolved.
    pub hostname: Arc<str>,
    pub locality: Arc<Locality>,
    pub priority: u32,
    pub canary: bool,
    /// `load_balancing_weight`, at least 1.
    pub weight: AtomicU32,
    health: AtomicU32,
    /// Which of the cluster's transport sockets this host uses: an index into `transport_socket_matches`, or the default.
    pub transport_socket_match: Option<usize>,
    pub metadata: Option<Arc<xds_protos::envoy::config::core::v3::Metadata>>,
    pub stats: HostStats,
}

/// Per-host counters as `/clusters` shows them; shared by workers, relaxed.
#[derive(Default)]
pub struct HostStats {
    pub cx_active: AtomicU64,
    pub cx_connect_fail: AtomicU64,
    pub cx_total: AtomicU64,
    pub rq_active: AtomicU64,
    pub rq_error: AtomicU64,
    pub rq_success: AtomicU64,
    pub rq_timeout: AtomicU64,
    pub rq_total: AtomicU64,
}

/// Reasons for which a host is not used, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HealthFlags(pub u32);

impl HealthFlags {
    pub const FAILED_ACTIVE_HC: u32 = 1;
    pub const FAILED_OUTLIER_CHECK: u32 = 2;
    pub const FAILED_EDS_HEALTH: u32 = 4;
    pub const DEGRADED_ACTIVE_HC: u32 = 8;
    pub const DEGRADED_EDS_HEALTH: u32 = 16;
    pub const PENDING_DYNAMIC_REMOVAL: u32 = 32;
    pub const PENDING_ACTIVE_HC: u32 = 64;
    pub const EDS_STATUS_DRAINING: u32 = 128;

    pub fn is_unhealthy(self) -> bool {
        self.0 & (Self::FAILED_ACTIVE_HC | Self::FAILED_OUTLIER_CHECK | Self::FAILED_EDS_HEALTH) != 0
    }

    pub fn is_degraded(self) -> bool {
        !self.is_unhealthy() && self.0 & (Self::DEGRADED_ACTIVE_HC | Self::DEGRADED_EDS_HEALTH) != 0
    }
}

impl Host {
    pub fn new(address: Address, hostname: Arc<str>, weight: u32) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Host {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address,
            additional_addresses: Vec::new(),
            hostname,
            locality: Arc::default(),
            priority: 0,
            canary: false,
            weight: AtomicU32::new(weight.max(1)),
            health: AtomicU32::new(0),
            transport_socket_match: None,
            metadata: None,
            stats: HostStats::default(),
        }
    }

    pub fn health(&self) -> HealthFlags {
        HealthFlags(self.health.load(Ordering::Relaxed))
    }

    pub fn set_health(&self, flags: HealthFlags) {
        self.health.store(flags.0, Ordering::Relaxed);
    }
}

impl PartialEq for Host {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Host {}

impl Hash for Host {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}
