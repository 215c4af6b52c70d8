use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::{Health, HealthFlags};
use crate::cluster::outlier::Monitor;
use crate::config::metadata::LazyMetadata;
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
    pub additional_addresses: Box<[Address]>,
    /// `endpoint.hostname`, or for DNS clusters the name that was resolved.
    pub hostname: Arc<str>,
    pub locality: Arc<Locality>,
    pub priority: u32,
    pub canary: bool,
    /// `load_balancing_weight`, at least 1.
    pub weight: AtomicU32,
    health: AtomicU32,
    /// Which of the cluster's `transport_socket_matches` this host uses; `None`: the cluster's `transport_socket`.
    pub transport_socket_match: Option<u16>,
    pub metadata: Option<Arc<LazyMetadata>>,
    pub stats: HostStats,
    /// What outlier detection knows of this host, from the first report on.
    pub outlier: OnceLock<Box<Monitor>>,
    /// Only of the host of a LOGICAL_DNS cluster: where it is now.
    moves: Option<Box<ArcSwap<Addresses>>>,
}

/// The addresses of a host, in the order in which they are preferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    pub first: Address,
    pub others: Box<[Address]>,
}

/// Per-host counters as `/clusters` shows them; shared by workers, relaxed.
#[derive(Default)]
pub struct HostStats {
    pub cx_active: AtomicU64,
    pub cx_connect_fail: AtomicU64,
    pub cx_total: AtomicU64,
    pub rq_active: AtomicU64,
    pub rq_error: AtomicU64,
    pub rq_pending_active: AtomicU64,
    pub rq_success: AtomicU64,
    pub rq_timeout: AtomicU64,
    pub rq_total: AtomicU64,
}

impl Host {
    pub fn new(address: Address, hostname: Arc<str>, weight: u32) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Host {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address,
            additional_addresses: Box::default(),
            hostname,
            locality: Arc::default(),
            priority: 0,
            canary: false,
            weight: AtomicU32::new(weight.max(1)),
            health: AtomicU32::new(0),
            transport_socket_match: None,
            metadata: None,
            stats: HostStats::default(),
            outlier: OnceLock::new(),
            moves: None,
        }
    }

    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }

    /// The reasons against this host. A change by [`set_health`](Self::set_health) reaches the load balancer when the
    /// cluster's host sets are published anew.
    pub fn health_flags(&self) -> HealthFlags {
        HealthFlags(self.health.load(Ordering::Relaxed))
    }

    pub fn health(&self) -> Health {
        self.health_flags().health()
    }

    pub fn set_health(&self, flags: HealthFlags) {
        self.health.store(flags.0, Ordering::Relaxed);
    }

    /// What discovery says of this host; what was found out about it otherwise stays.
    pub fn set_eds_health(&self, flags: HealthFlags) {
        let found_out = self.health_flags().0 & !HealthFlags::OF_EDS;
        self.set_health(HealthFlags(found_out | flags.0 & HealthFlags::OF_EDS));
    }

    pub fn set_flag(&self, flag: u32) {
        self.health.fetch_or(flag, Ordering::Relaxed);
    }

    pub fn clear_flag(&self, flag: u32) {
        self.health.fetch_and(!flag, Ordering::Relaxed);
    }

    /// Where to connect to now.
    pub fn addresses(&self) -> Addresses {
        match &self.moves {
            Some(now) => Addresses::clone(&now.load()),
            None => Addresses { first: self.address.clone(), others: self.additional_addresses.clone() },
        }
    }

    /// The first of [`addresses`](Self::addresses): what `/clusters` shows.
    pub fn current_address(&self) -> Address {
        match &self.moves {
            Some(now) => now.load().first.clone(),
            None => self.address.clone(),
        }
    }

    /// Makes this a host that can move; it is at `now`.
    pub fn movable(mut self, now: Addresses) -> Self {
        self.moves = Some(Box::new(ArcSwap::from_pointee(now)));
        self
    }

    /// From now on connections go to these addresses; those that are there stay. Without effect unless
    /// [`movable`](Self::movable).
    pub fn move_to(&self, now: Addresses) {
        if let Some(moves) = self.moves.as_ref().filter(|moves| **moves.load() != now) {
            moves.store(Arc::new(now));
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Host({})", self.address)
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
