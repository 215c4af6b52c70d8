use std::fmt;

use xds_protos::envoy::config::core::v3::HealthStatus;

/// Reasons for which a host is not used, as a set. Names as in Envoy's `/clusters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HealthFlags(pub u32);

/// What the reasons come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Healthy,
    Degraded,
    Unhealthy,
}

impl HealthFlags {
    pub const FAILED_ACTIVE_HC: u32 = 1;
    pub const FAILED_OUTLIER_CHECK: u32 = 1 << 1;
    pub const FAILED_EDS_HEALTH: u32 = 1 << 2;
    pub const DEGRADED_ACTIVE_HC: u32 = 1 << 3;
    pub const DEGRADED_EDS_HEALTH: u32 = 1 << 4;
    pub const PENDING_DYNAMIC_REMOVAL: u32 = 1 << 5;
    pub const PENDING_ACTIVE_HC: u32 = 1 << 6;
    pub const EXCLUDED_VIA_IMMEDIATE_HC_FAIL: u32 = 1 << 7;
    pub const ACTIVE_HC_TIMEOUT: u32 = 1 << 8;
    pub const EDS_STATUS_DRAINING: u32 = 1 << 9;

    /// Those that discovery sets.
    pub const OF_EDS: u32 = Self::FAILED_EDS_HEALTH | Self::DEGRADED_EDS_HEALTH | Self::EDS_STATUS_DRAINING;

    const NAMES: [(u32, &'static str); 10] = [
        (Self::FAILED_ACTIVE_HC, "/failed_active_hc"),
        (Self::FAILED_OUTLIER_CHECK, "/failed_outlier_check"),
        (Self::FAILED_EDS_HEALTH, "/failed_eds_health"),
        (Self::DEGRADED_ACTIVE_HC, "/degraded_active_hc"),
        (Self::DEGRADED_EDS_HEALTH, "/degraded_eds_health"),
        (Self::PENDING_DYNAMIC_REMOVAL, "/pending_dynamic_removal"),
        (Self::PENDING_ACTIVE_HC, "/pending_active_hc"),
        (Self::EXCLUDED_VIA_IMMEDIATE_HC_FAIL, "/excluded_via_immediate_hc_fail"),
        (Self::ACTIVE_HC_TIMEOUT, "/active_hc_timeout"),
        (Self::EDS_STATUS_DRAINING, "/eds_status_draining"),
    ];

    /// What `LbEndpoint.health_status` says of a host.
    pub fn from_eds(status: HealthStatus) -> Self {
        HealthFlags(match status {
            HealthStatus::Unknown | HealthStatus::Healthy => 0,
            HealthStatus::Unhealthy | HealthStatus::Timeout => Self::FAILED_EDS_HEALTH,
            HealthStatus::Draining => Self::EDS_STATUS_DRAINING,
            HealthStatus::Degraded => Self::DEGRADED_EDS_HEALTH,
        })
    }

    pub fn health(self) -> Health {
        if self.is_unhealthy() {
            Health::Unhealthy
        } else if self.is_degraded() {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }

    pub fn is_unhealthy(self) -> bool {
        const UNHEALTHY: u32 = HealthFlags::FAILED_ACTIVE_HC
            | HealthFlags::FAILED_OUTLIER_CHECK
            | HealthFlags::FAILED_EDS_HEALTH
            | HealthFlags::EDS_STATUS_DRAINING;
        self.0 & UNHEALTHY != 0
    }

    pub fn is_degraded(self) -> bool {
        !self.is_unhealthy() && self.0 & (Self::DEGRADED_ACTIVE_HC | Self::DEGRADED_EDS_HEALTH) != 0
    }

    /// Does not count when the share of healthy hosts is reckoned: nobody expects it to serve.
    pub fn is_excluded(self) -> bool {
        const EXCLUDED: u32 = HealthFlags::PENDING_ACTIVE_HC
            | HealthFlags::EXCLUDED_VIA_IMMEDIATE_HC_FAIL
            | HealthFlags::EDS_STATUS_DRAINING;
        self.0 & EXCLUDED != 0
    }

    pub fn contains(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    /// `eds_health_status` as `/clusters?format=json` shows it.
    pub fn eds_status(self) -> HealthStatus {
        if self.contains(Self::EDS_STATUS_DRAINING) {
            HealthStatus::Draining
        } else if self.contains(Self::FAILED_EDS_HEALTH) {
            HealthStatus::Unhealthy
        } else if self.contains(Self::DEGRADED_EDS_HEALTH) {
            HealthStatus::Degraded
        } else {
            HealthStatus::Healthy
        }
    }
}

impl fmt::Display for HealthFlags {
    /// As `/clusters` prints it: `healthy`, or names such as `/failed_eds_health` one after the other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Self::NAMES.iter().filter(|(flag, _)| self.contains(*flag)).peekable();
        if names.peek().is_none() {
            return f.write_str("healthy");
        }
        names.try_for_each(|(_, name)| f.write_str(name))
    }
}
