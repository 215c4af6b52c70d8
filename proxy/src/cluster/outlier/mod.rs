//! `envoy.config.cluster.v3.OutlierDetection`: hosts that fail more than others are not used for a while.
//!
//! Workers say how requests went ([`Detector::report`]); that touches nothing but the host's own [`Monitor`]. When failures
//! in a row reach their limit the control thread is told, which ejects ([`Detector::consecutive`]); rates are judged there
//! once an interval ([`Detector::sweep`]). Both take the time and random numbers as arguments and say whether hosts changed, so
//! that the caller publishes them.
//!
//! An ejected host has the flag `/failed_outlier_check`. Never more than `max_ejection_percent` of a cluster's hosts have it,
//! whatever their priorities.
//!
//! Deliberately missing, and refused: `monitors`, `detect_degraded_hosts`, the event service.

mod config;
mod detector;
mod event_log;
mod monitor;
#[cfg(test)]
mod tests;

pub use config::OutlierConfig;
pub use detector::{Detector, run};
pub use event_log::EventLog;
pub use monitor::{Monitor, Outcome};

/// `envoy.data.cluster.v3.OutlierEjectionType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ejection {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate(Origin),
    FailurePercentage(Origin),
}

/// Who failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The host, by its answers; and the way to it, unless `split_external_local_origin_errors`.
    External,
    /// The way to it.
    Local,
}

/// In percent; none where there were too few hosts or requests.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Threshold {
    pub average: Option<f64>,
    pub ejection: Option<f64>,
}
