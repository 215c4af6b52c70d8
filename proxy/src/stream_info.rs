//! Facts about a connection and a request: what access logs, header formatters and filters may ask for.
//!
//! One [`ConnectionInfo`] lives as long as a downstream connection and is shared by its streams; a [`StreamInfo`] belongs
//! to one request (or to one TCP-proxied connection). Both stay on one thread. Response flags and detail strings are
//! Envoy's (`envoy/stream_info`), because operators grep for them.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use prost_types::Value;
use prost_types::value::Kind;
use xds_protos::envoy::config::core::v3::Metadata;

use crate::cluster::Cluster;
use crate::endpoint::Host;
use crate::http::Protocol;
use crate::net::Address;
use crate::network::local_ratelimit::TokenBucket;
use crate::route::{Counted, RouteMatch};
use crate::transport_socket::UpstreamSource;

/// What ended a request early, as a set that knows the order in which it was made. Names as in Envoy's `%RESPONSE_FLAGS%`.
#[derive(Clone, Copy, Default)]
pub struct ResponseFlags {
    bits: u32,
    /// The flags' numbers plus one, five bits each, the first one lowest. Beyond twelve the order is forgotten.
    order: u64,
}

/// The order is for readers: two sets with the same flags are the same.
impl PartialEq for ResponseFlags {
    fn eq(&self, other: &Self) -> bool {
        self.bits == other.bits
    }
}

impl Eq for ResponseFlags {}

macro_rules! response_flags {
    ($($name:ident = $bit:literal, $short:literal, $long:literal;)*) => {
        impl ResponseFlags {
            $(pub const $name: ResponseFlags = ResponseFlags { bits: 1 << $bit, order: $bit + 1 };)*
            /// Every flag with its short and long name, by number.
            pub const ALL: &'static [(ResponseFlags, &'static str, &'static str)] =
                &[$((ResponseFlags::$name, $short, $long),)*];
        }
    };
}

response_flags! {
    FAILED_LOCAL_HEALTH_CHECK = 0, "LH", "FailedLocalHealthCheck";
    NO_HEALTHY_UPSTREAM = 1, "UH", "NoHealthyUpstream";
    UPSTREAM_REQUEST_TIMEOUT = 2, "UT", "UpstreamRequestTimeout";
    LOCAL_RESET = 3, "LR", "LocalReset";
    UPSTREAM_REMOTE_RESET = 4, "UR", "UpstreamRemoteReset";
    UPSTREAM_CONNECTION_FAILURE = 5, "UF", "UpstreamConnectionFailure";
    UPSTREAM_CONNECTION_TERMINATION = 6, "UC", "UpstreamConnectionTermination";
    UPSTREAM_OVERFLOW = 7, "UO", "UpstreamOverflow";
    NO_ROUTE_FOUND = 8, "NR", "NoRouteFound";
    DELAY_INJECTED = 9, "DI", "DelayInjected";
    FAULT_INJECTED = 10, "FI", "FaultInjected";
    RATE_LIMITED = 11, "RL", "RateLimited";
    UNAUTHORIZED_EXTERNAL_SERVICE = 12, "UAEX", "UnauthorizedExternalService";
    RATE_LIMIT_SERVICE_ERROR = 13, "RLSE", "RateLimitServiceError";
    DOWNSTREAM_CONNECTION_TERMINATION = 14, "DC", "DownstreamConnectionTermination";
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 15, "URX", "UpstreamRetryLimitExceeded";
    STREAM_IDLE_TIMEOUT = 16, "SI", "StreamIdleTimeout";
    INVALID_ENVOY_REQUEST_HEADERS = 17, "IH", "InvalidEnvoyRequestHeaders";
    DOWNSTREAM_PROTOCOL_ERROR = 18, "DPE", "DownstreamProtocolError";
    UPSTREAM_MAX_STREAM_DURATION_REACHED = 19, "UMSDR", "UpstreamMaxStreamDurationReached";
    RESPONSE_FROM_CACHE_FILTER = 20, "RFCF", "ResponseFromCacheFilter";
    NO_FILTER_CONFIG_FOUND = 21, "NFCF", "NoFilterConfigFound";
    DURATION_TIMEOUT = 22, "DT", "DurationTimeout";
    UPSTREAM_PROTOCOL_ERROR = 23, "UPE", "UpstreamProtocolError";
    NO_CLUSTER_FOUND = 24, "NC", "NoClusterFound";
    OVERLOAD_MANAGER = 25, "OM", "OverloadManagerTerminated";
    DNS_RESOLUTION_FAILED = 26, "DF", "DnsResolutionFailed";
    DROP_OVERLOAD = 27, "DO", "DropOverload";
    DOWNSTREAM_REMOTE_RESET = 28, "DR", "DownstreamRemoteReset";
    UNCONDITIONAL_DROP_OVERLOAD = 29, "UDO", "UnconditionalDropOverload";
}

impl ResponseFlags {
    pub const fn empty() -> Self {
        ResponseFlags { bits: 0, order: 0 }
    }

    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    pub const fn contains(self, other: ResponseFlags) -> bool {
        self.bits & other.bits == other.bits
    }

    pub const fn intersects(self, other: ResponseFlags) -> bool {
        self.bits & other.bits != 0
    }

    #[must_use]
    pub const fn with(self, other: ResponseFlags) -> Self {
        let mut all = self;
        let mut rest = other.order;
        while rest != 0 {
            let number = rest & 31;
            if all.bits & (1 << (number - 1)) == 0 {
                let used = (64 - all.order.leading_zeros()).div_ceil(5);
                if used < 12 {
                    all.order |= number << (5 * used);
                }
            }
            rest >>= 5;
        }
        all.bits |= other.bits;
        all
    }

    /// The flags with their names, as Envoy prints them: in the order in which they were set.
    pub fn iter(self) -> impl Iterator<Item = (ResponseFlags, &'static str, &'static str)> {
        let mut rest = self.order;
        let ordered = std::iter::from_fn(move || {
            let number = rest & 31;
            rest >>= 5;
            Self::ALL.iter().find(|(flag, ..)| number != 0 && flag.order == number).copied()
        });
        let mut unordered = Self::ALL.iter().filter(move |(flag, ..)| self.contains(*flag)).copied();
        let by_number = std::iter::from_fn(move || unordered.next());
        // More than twelve have no order.
        let (in_order, all) = if self.bits.count_ones() <= 12 { (usize::MAX, 0) } else { (0, usize::MAX) };
        ordered.take(in_order).chain(by_number.take(all))
    }

    /// The flag of a short name such as `UH`.
    pub fn from_short(short: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, s, _)| *s == short).map(|(flag, _, _)| *flag)
    }
}

impl fmt::Display for ResponseFlags {
    /// Short names joined with `,`; `-` for none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, short, _) in self.iter() {
            write!(f, "{separator}{short}")?;
            separator = ",";
        }
        if self.is_empty() { f.write_str("-") } else { Ok(()) }
    }
}

impl fmt::Debug for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a request is traced, as its request id says (`envoy.request_id.uuid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TraceReason {
    #[default]
    NotTraceable,
    Sampling,
    ServiceForced,
    ClientForced,
}

/// What the TLS handshake of a connection established.
#[derive(Debug, Clone, Default)]
pub struct TlsInfo {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// OpenSSL's name of the suite.
    pub cipher: &'static str,
    pub group: &'static str,
    pub alpn: Option<Arc<str>>,
    pub resumed: bool,
    pub session_id: Option<Arc<str>>,
    /// The peer's chain, leaf first, when it presented one. `verified` says whether it was checked against a trust root.
    pub peer: Option<Arc<PeerCertificate>>,
    pub verified: bool,
    /// Our own certificate in this handshake.
    pub local: Option<Arc<certs::CertInfo>>,
}

/// A peer's leaf with the chain it sent.
#[derive(Debug, Clone)]
pub struct PeerCertificate {
    pub leaf: certs::CertInfo,
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
}

/// Facts about a downstream connection. Fields that change after accept are cells.
pub struct ConnectionInfo {
    pub id: u64,
    pub start: Instant,
    pub start_time: SystemTime,
    pub listener_name: Arc<str>,
    /// Where the connection was addressed to: the socket's address, or the original destination when a listener filter
    /// restored it.
    pub local_address: RefCell<Address>,
    pub local_address_restored: Cell<bool>,
    pub direct_local_address: Address,
    /// Who connected, after the PROXY protocol.
    pub remote_address: RefCell<Address>,
    /// The socket's peer.
    pub direct_remote_address: Address,
    pub requested_server_name: RefCell<Option<Arc<str>>>,
    /// ALPN as the client offered it, or what the HTTP inspector detected (`http/1.0`, `http/1.1`, `h2c`).
    pub application_protocols: RefCell<Vec<Arc<str>>>,
    /// `tls`, `raw_buffer` or empty when no inspector ran.
    pub transport_protocol: Cell<&'static str>,
    pub filter_chain_name: RefCell<Option<Arc<str>>>,
    pub tls: OnceCell<TlsInfo>,
    pub handshake_done: Cell<Option<Instant>>,
    pub transport_failure_reason: RefCell<Option<Cow<'static, str>>>,
    pub termination_details: RefCell<Option<Cow<'static, str>>>,
    pub local_close_reason: RefCell<Option<Cow<'static, str>>>,
    pub detected_close: Cell<DetectedClose>,
    /// Bytes on the wire, above TLS.
    pub bytes_received: Cell<u64>,
    pub bytes_sent: Cell<u64>,
    /// The listener's `traffic_direction`.
    pub direction: TrafficDirection,
    /// What upstream connections made for this one are bound to (`original_src`).
    pub upstream_source: Cell<Option<UpstreamSource>>,
    /// The connection's own bucket (`local_rate_limit_per_downstream_connection`), once a request asked for it.
    pub rate_limit: OnceCell<TokenBucket>,
}

/// How a connection ended on the wire (`%DOWNSTREAM_DETECTED_CLOSE_TYPE%`, `%UPSTREAM_DETECTED_CLOSE_TYPE%`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DetectedClose {
    #[default]
    Normal,
    LocalReset,
    RemoteReset,
}

impl DetectedClose {
    pub fn as_str(self) -> &'static str {
        match self {
            DetectedClose::Normal => "Normal",
            DetectedClose::LocalReset => "LocalReset",
            DetectedClose::RemoteReset => "RemoteReset",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficDirection {
    #[default]
    Unspecified,
    Inbound,
    Outbound,
}

impl ConnectionInfo {
    pub fn new(listener_name: Arc<str>, local: Address, remote: Address, direction: TrafficDirection) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        ConnectionInfo {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            start: Instant::now(),
            start_time: SystemTime::now(),
            listener_name,
            direct_local_address: local.clone(),
            local_address: RefCell::new(local),
            local_address_restored: Cell::new(false),
            direct_remote_address: remote.clone(),
            remote_address: RefCell::new(remote),
            requested_server_name: RefCell::default(),
            application_protocols: RefCell::default(),
            transport_protocol: Cell::new(""),
            filter_chain_name: RefCell::default(),
            tls: OnceCell::new(),
            handshake_done: Cell::new(None),
            transport_failure_reason: RefCell::default(),
            termination_details: RefCell::default(),
            local_close_reason: RefCell::default(),
            detected_close: Cell::default(),
            bytes_received: Cell::new(0),
            bytes_sent: Cell::new(0),
            direction,
            upstream_source: Cell::new(None),
            rate_limit: OnceCell::new(),
        }
    }
}

/// Facts about one attempt at an upstream.
#[derive(Default)]
pub struct UpstreamInfo {
    pub host: Option<Arc<Host>>,
    pub connection_id: Option<u64>,
    pub local_address: Option<Address>,
    pub remote_address: Option<Address>,
    pub tls: Option<Rc<TlsInfo>>,
    pub sni: Option<Arc<str>>,
    pub protocol: Option<Protocol>,
    pub transport_failure_reason: Option<Cow<'static, str>>,
    pub local_close_reason: Option<Cow<'static, str>>,
    pub detected_close: DetectedClose,
    pub attempts: u32,
    /// What the request is counted for besides its cluster.
    pub counted: Counted,
    pub hosts_attempted: Vec<Arc<Host>>,
    pub wire_bytes_sent: u64,
    pub wire_bytes_received: u64,
    pub header_bytes_sent: u64,
    pub header_bytes_received: u64,
    pub timing: UpstreamTiming,
}

/// Points in the life of the last upstream attempt.
#[derive(Default, Clone, Copy)]
pub struct UpstreamTiming {
    /// When a connection was first asked for.
    pub started: Option<Instant>,
    pub connect_start: Option<Instant>,
    pub connect_end: Option<Instant>,
    pub handshake_end: Option<Instant>,
    pub pool_ready: Option<Instant>,
    pub first_tx: Option<Instant>,
    pub last_tx: Option<Instant>,
    pub first_rx: Option<Instant>,
    pub first_rx_body: Option<Instant>,
    pub last_rx: Option<Instant>,
}

/// Facts about one request, or about one proxied TCP connection.
pub struct StreamInfo {
    pub connection: Rc<ConnectionInfo>,
    pub protocol: Option<Protocol>,
    pub start: Instant,
    pub start_time: SystemTime,
    /// When the last request byte arrived.
    pub request_complete: Option<Instant>,
    pub first_downstream_tx: Option<Instant>,
    pub last_downstream_tx: Option<Instant>,
    pub end: Option<Instant>,
    /// The remote address after `x-forwarded-for` (`use_remote_address`, `xff_num_trusted_hops`).
    pub remote_address: Option<Address>,
    pub route_name: Option<Arc<str>>,
    pub virtual_host_name: Option<Arc<str>>,
    /// The route that the request has, for what else of it may be logged.
    pub route: Option<RouteMatch>,
    pub cluster: Option<Arc<Cluster>>,
    pub response_code: u16,
    pub response_code_details: Option<Cow<'static, str>>,
    pub flags: ResponseFlags,
    /// Body bytes (TCP: all bytes) from and to the downstream.
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub downstream_header_bytes_received: u64,
    pub downstream_header_bytes_sent: u64,
    pub downstream_wire_bytes_received: u64,
    pub downstream_wire_bytes_sent: u64,
    /// The request id, when one was made or kept.
    pub request_id: Option<Arc<str>>,
    pub upstream: UpstreamInfo,
    pub local_reply_body: Option<bytes::Bytes>,
    pub is_health_check: bool,
    pub trace_reason: TraceReason,
    /// What filters say about the request, by their names.
    pub dynamic_metadata: Option<Box<Metadata>>,
}

impl StreamInfo {
    pub fn new(connection: Rc<ConnectionInfo>, protocol: Option<Protocol>) -> Self {
        StreamInfo {
            connection,
            protocol,
            start: Instant::now(),
            start_time: SystemTime::now(),
            request_complete: None,
            first_downstream_tx: None,
            last_downstream_tx: None,
            end: None,
            remote_address: None,
            route_name: None,
            virtual_host_name: None,
            route: None,
            cluster: None,
            response_code: 0,
            response_code_details: None,
            flags: ResponseFlags::empty(),
            bytes_received: 0,
            bytes_sent: 0,
            downstream_header_bytes_received: 0,
            downstream_header_bytes_sent: 0,
            downstream_wire_bytes_received: 0,
            downstream_wire_bytes_sent: 0,
            request_id: None,
            upstream: UpstreamInfo::default(),
            local_reply_body: None,
            is_health_check: false,
            trace_reason: TraceReason::default(),
            dynamic_metadata: None,
        }
    }

    /// Sets fields of the dynamic metadata of one namespace; the others stay.
    pub fn set_dynamic_metadata(&mut self, namespace: &str, fields: impl IntoIterator<Item = (String, Kind)>) {
        let metadata = self.dynamic_metadata.get_or_insert_default();
        let held = metadata.filter_metadata.entry(namespace.to_owned()).or_default();
        held.fields.extend(fields.into_iter().map(|(key, kind)| (key, Value { kind: Some(kind) })));
    }

    pub fn set_flag(&mut self, flag: ResponseFlags) {
        self.flags = self.flags.with(flag);
    }

    /// Who sent the request: after `x-forwarded-for` if that was trusted, else the connection's peer.
    pub fn remote_address(&self) -> Address {
        match &self.remote_address {
            Some(address) => address.clone(),
            None => self.connection.remote_address.borrow().clone(),
        }
    }

    /// Milliseconds from the first request byte to `at`.
    pub fn since_start(&self, at: Option<Instant>) -> Option<Duration> {
        at.map(|at| at.saturating_duration_since(self.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_printed_in_the_order_they_were_set() {
        let (retries, reset) =
            (ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED, ResponseFlags::UPSTREAM_CONNECTION_TERMINATION);
        assert_eq!(retries.with(reset).with(retries).to_string(), "URX,UC");
        assert_eq!(reset.with(retries).to_string(), "UC,URX");
        assert_eq!(reset.with(retries), retries.with(reset));
        assert_eq!(reset.with(ResponseFlags::LOCAL_RESET.with(retries)).to_string(), "UC,LR,URX");
        assert_eq!(ResponseFlags::empty().to_string(), "-");
        assert_eq!(ResponseFlags::UNCONDITIONAL_DROP_OVERLOAD.to_string(), "UDO");
        let all = ResponseFlags::ALL.iter().rev().fold(ResponseFlags::empty(), |all, (flag, ..)| all.with(*flag));
        assert_eq!(all.iter().count(), ResponseFlags::ALL.len());
    }
}
