//! `cluster_manager.outlier_detection.event_log_path`: one JSON object a line, as Envoy writes
//! `envoy.data.cluster.v3.OutlierDetectionEvent`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::{Ejection, Origin, Threshold};
use crate::endpoint::Host;
use crate::formatter::TimeFormat;

/// The file of the process. It is opened for each line, of which there are few, so that it can be moved away at any time.
pub struct EventLog(Box<std::path::Path>);

/// What happened to a host.
pub(super) struct Event<'a> {
    pub cluster: &'a str,
    pub host: &'a Arc<Host>,
    pub action: Action,
    /// How often the host was ejected so far.
    pub number: u32,
    /// The last change the other way.
    pub since: Option<Duration>,
}

pub(super) enum Action {
    Eject { kind: Ejection, enforced: bool, threshold: Threshold },
    Uneject,
}

impl EventLog {
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(path: &str) -> io::Result<Self> {
        let log = EventLog(std::path::Path::new(path).into());
        log.append(b"").map(|()| log)
    }

    pub(super) fn write(&self, event: &Event<'_>) {
        let mut line = event.line(SystemTime::now());
        line.push('\n');
        // As for every log: what cannot be written is lost, and nothing else suffers.
        let _ = self.append(line.as_bytes());
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().create(true).append(true).open(&self.0)?.write_all(bytes)
    }
}

impl Event<'_> {
    pub fn line(&self, now: SystemTime) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let (kind, action, enforced) = match self.action {
            Action::Eject { kind, enforced, .. } => (kind, "EJECT", enforced),
            // Envoy leaves the type at its default, whatever the host was ejected for.
            Action::Uneject => (Ejection::Consecutive5xx, "UNEJECT", false),
        };
        let since = self.since.map(|since| format!(r#""secs_since_last_action":"{}","#, since.as_secs()));
        let detail = match self.action {
            Action::Eject { kind, threshold, .. } => self.detail(kind, threshold),
            Action::Uneject => String::new(),
        };
        format!(
            r#"{{"type":"{}","timestamp":"{}",{}"cluster_name":{},"upstream_url":{},"action":"{action}","num_ejections":{},"enforced":{enforced}{detail}}}"#,
            name(kind),
            timestamp(now),
            since.unwrap_or_default(),
            text(self.cluster),
            text(&self.host.current_address().to_string()),
            self.number,
        )
    }

    fn detail(&self, kind: Ejection, threshold: Threshold) -> String {
        let rate = |origin: Origin| {
            let monitor = self.host.outlier.get();
            whole(monitor.map_or(0.0, |monitor| monitor.success_rate(origin)))
        };
        match kind {
            Ejection::SuccessRate(origin) => format!(
                r#","eject_success_rate_event":{{"host_success_rate":{},"cluster_average_success_rate":{},"cluster_success_rate_ejection_threshold":{}}}"#,
                rate(origin),
                whole(threshold.average.unwrap_or_default()),
                whole(threshold.ejection.unwrap_or_default()),
            ),
            Ejection::FailurePercentage(origin) => {
                format!(r#","eject_failure_percentage_event":{{"host_success_rate":{}}}"#, rate(origin))
            }
            _ => r#","eject_consecutive_event":{}"#.to_owned(),
        }
    }
}

fn timestamp(now: SystemTime) -> String {
    let mut out = Vec::new();
    if let Ok(format) = TimeFormat::parse("%Y-%m-%dT%H:%M:%E3SZ", false) {
        format.write(now, &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn whole(percent: f64) -> u32 {
    percent as u32
}

fn name(kind: Ejection) -> &'static str {
    match kind {
        Ejection::Consecutive5xx => "CONSECUTIVE_5XX",
        Ejection::ConsecutiveGatewayFailure => "CONSECUTIVE_GATEWAY_FAILURE",
        Ejection::ConsecutiveLocalOriginFailure => "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
        Ejection::SuccessRate(Origin::External) => "SUCCESS_RATE",
        Ejection::SuccessRate(Origin::Local) => "SUCCESS_RATE_LOCAL_ORIGIN",
        Ejection::FailurePercentage(Origin::External) => "FAILURE_PERCENTAGE",
        Ejection::FailurePercentage(Origin::Local) => "FAILURE_PERCENTAGE_LOCAL_ORIGIN",
    }
}
