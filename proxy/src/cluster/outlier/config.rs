use std::time::Duration;

use xds_protos::envoy::config::cluster::v3 as pb;

use crate::cluster::build::refuse;
use crate::config::{BuildCx, Path, Reject, values};

/// `OutlierDetection` with its defaults; percentages from 0 to 100.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierConfig {
    pub interval: Duration,
    pub base_ejection_time: Duration,
    pub max_ejection_time: Duration,
    pub max_ejection_time_jitter: Duration,
    pub max_ejection_percent: u32,
    pub always_eject_one_host: bool,
    pub split_external_local_origin_errors: bool,
    pub consecutive_5xx: u32,
    pub consecutive_gateway_failure: u32,
    pub consecutive_local_origin_failure: u32,
    pub success_rate_minimum_hosts: u64,
    pub success_rate_request_volume: u64,
    /// In thousandths.
    pub success_rate_stdev_factor: u32,
    pub failure_percentage_threshold: u32,
    pub failure_percentage_minimum_hosts: u64,
    pub failure_percentage_request_volume: u64,
    pub enforcing_consecutive_5xx: u32,
    pub enforcing_consecutive_gateway_failure: u32,
    pub enforcing_consecutive_local_origin_failure: u32,
    pub enforcing_success_rate: u32,
    pub enforcing_local_origin_success_rate: u32,
    pub enforcing_failure_percentage: u32,
    pub enforcing_failure_percentage_local_origin: u32,
}

const DEFAULT_MAX_EJECTION_TIME: Duration = Duration::from_secs(300);

impl Default for OutlierConfig {
    fn default() -> Self {
        OutlierConfig {
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: DEFAULT_MAX_EJECTION_TIME,
            max_ejection_time_jitter: Duration::ZERO,
            max_ejection_percent: 10,
            always_eject_one_host: false,
            split_external_local_origin_errors: false,
            consecutive_5xx: 5,
            consecutive_gateway_failure: 5,
            consecutive_local_origin_failure: 5,
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            success_rate_stdev_factor: 1900,
            failure_percentage_threshold: 85,
            failure_percentage_minimum_hosts: 5,
            failure_percentage_request_volume: 50,
            enforcing_consecutive_5xx: 100,
            enforcing_consecutive_gateway_failure: 0,
            enforcing_consecutive_local_origin_failure: 100,
            enforcing_success_rate: 100,
            enforcing_local_origin_success_rate: 100,
            enforcing_failure_percentage: 0,
            enforcing_failure_percentage_local_origin: 0,
        }
    }
}

impl OutlierConfig {
    /// Values of the runtime (`outlier_detection.*`) count as they are now.
    ///
    /// # Errors
    /// Percentages above 100, durations that are not positive, a maximum below the base, and what is not supported.
    pub fn build(proto: &pb::OutlierDetection, path: &Path<'_>, cx: &BuildCx) -> Result<Self, Reject> {
        let default = OutlierConfig::default();
        let read = Read { path, cx };
        let refused = [
            (!proto.monitors.is_empty(), "monitors"),
            (proto.detect_degraded_hosts == Some(true), "detect_degraded_hosts"),
        ];
        refuse(&refused, path)?;
        // Ignored: `successful_active_health_check_uneject_host` says what an active health check does, and there is none.
        let base_ejection_time =
            read.positive(proto.base_ejection_time.as_ref(), "base_ejection_time", default.base_ejection_time)?;
        let at_least = DEFAULT_MAX_EJECTION_TIME.max(base_ejection_time);
        let max_ejection_time = read.positive(proto.max_ejection_time.as_ref(), "max_ejection_time", at_least)?;
        if max_ejection_time < base_ejection_time {
            return Err(path.field("max_ejection_time").reject("expected no less than base_ejection_time"));
        }
        Ok(OutlierConfig {
            interval: read.positive(proto.interval.as_ref(), "interval", default.interval)?,
            base_ejection_time,
            max_ejection_time,
            max_ejection_time_jitter: read.duration(
                proto.max_ejection_time_jitter.as_ref(),
                "max_ejection_time_jitter",
                default.max_ejection_time_jitter,
            )?,
            max_ejection_percent: read.percent(proto.max_ejection_percent, "max_ejection_percent", 10)?,
            always_eject_one_host: proto.always_eject_one_host.unwrap_or(false),
            split_external_local_origin_errors: proto.split_external_local_origin_errors,
            consecutive_5xx: read.number(proto.consecutive_5xx, "consecutive_5xx", 5),
            consecutive_gateway_failure: read.number(
                proto.consecutive_gateway_failure,
                "consecutive_gateway_failure",
                5,
            ),
            consecutive_local_origin_failure: read.number(
                proto.consecutive_local_origin_failure,
                "consecutive_local_origin_failure",
                5,
            ),
            success_rate_minimum_hosts: read
                .number(proto.success_rate_minimum_hosts, "success_rate_minimum_hosts", 5)
                .into(),
            success_rate_request_volume: read
                .number(proto.success_rate_request_volume, "success_rate_request_volume", 100)
                .into(),
            success_rate_stdev_factor: read.number(
                proto.success_rate_stdev_factor,
                "success_rate_stdev_factor",
                default.success_rate_stdev_factor,
            ),
            failure_percentage_threshold: read.percent(
                proto.failure_percentage_threshold,
                "failure_percentage_threshold",
                85,
            )?,
            failure_percentage_minimum_hosts: read
                .number(proto.failure_percentage_minimum_hosts, "failure_percentage_minimum_hosts", 5)
                .into(),
            failure_percentage_request_volume: read
                .number(proto.failure_percentage_request_volume, "failure_percentage_request_volume", 50)
                .into(),
            enforcing_consecutive_5xx: read.percent(
                proto.enforcing_consecutive_5xx,
                "enforcing_consecutive_5xx",
                100,
            )?,
            enforcing_consecutive_gateway_failure: read.percent(
                proto.enforcing_consecutive_gateway_failure,
                "enforcing_consecutive_gateway_failure",
                0,
            )?,
            enforcing_consecutive_local_origin_failure: read.percent(
                proto.enforcing_consecutive_local_origin_failure,
                "enforcing_consecutive_local_origin_failure",
                100,
            )?,
            enforcing_success_rate: read.percent(proto.enforcing_success_rate, "enforcing_success_rate", 100)?,
            enforcing_local_origin_success_rate: read.percent(
                proto.enforcing_local_origin_success_rate,
                "enforcing_local_origin_success_rate",
                100,
            )?,
            enforcing_failure_percentage: read.percent(
                proto.enforcing_failure_percentage,
                "enforcing_failure_percentage",
                0,
            )?,
            enforcing_failure_percentage_local_origin: read.percent(
                proto.enforcing_failure_percentage_local_origin,
                "enforcing_failure_percentage_local_origin",
                0,
            )?,
        })
    }
}

struct Read<'a> {
    path: &'a Path<'a>,
    cx: &'a BuildCx,
}

impl Read<'_> {
    fn number(&self, value: Option<u32>, field: &str, default: u32) -> u32 {
        let value = value.unwrap_or(default);
        let runtime = self.cx.runtime.integer(&format!("outlier_detection.{field}"), value.into());
        u32::try_from(runtime).unwrap_or(u32::MAX)
    }

    fn percent(&self, value: Option<u32>, field: &str, default: u32) -> Result<u32, Reject> {
        match value {
            Some(value @ 101..) => {
                Err(self.path.field(field).reject(format_args!("expected a percentage up to 100, got {value}")))
            }
            value => Ok(self.number(value, field, default).min(100)),
        }
    }

    fn duration(
        &self,
        value: Option<&prost_types::Duration>,
        field: &str,
        default: Duration,
    ) -> Result<Duration, Reject> {
        let value = values::optional_duration(value, &self.path.field(field))?.unwrap_or(default);
        let key = format!("outlier_detection.{field}_ms");
        let ms = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        let runtime = self.cx.runtime.integer(&key, ms);
        Ok(if runtime == ms { value } else { Duration::from_millis(runtime) })
    }

    fn positive(
        &self,
        value: Option<&prost_types::Duration>,
        field: &str,
        default: Duration,
    ) -> Result<Duration, Reject> {
        match self.duration(value, field, default)? {
            Duration::ZERO => Err(self.path.field(field).reject("expected more than 0s")),
            duration => Ok(duration),
        }
    }
}
