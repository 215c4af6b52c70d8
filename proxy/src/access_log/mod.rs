//! `envoy.config.accesslog.v3.AccessLog`: a line for each request or connection.

use http::HeaderMap;
use xds_protos::envoy::config::accesslog::v3 as pb;

use crate::config::{BuildCx, Path, Reject};
use crate::http::{RequestHead, ResponseHead};
use crate::stream_info::StreamInfo;

/// `envoy.data.accesslog.v3.AccessLogType`: at which point of a stream's life a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogType {
    NotSet,
    TcpUpstreamConnected,
    TcpPeriodic,
    TcpConnectionStart,
    TcpConnectionEnd,
    DownstreamStart,
    DownstreamPeriodic,
    DownstreamEnd,
    UpstreamPoolReady,
    UpstreamPeriodic,
    UpstreamEnd,
    DownstreamTunnelSuccessfullyEstablished,
}

impl AccessLogType {
    pub const ALL: [(AccessLogType, &'static str); 12] = [
        (AccessLogType::NotSet, "NotSet"),
        (AccessLogType::TcpUpstreamConnected, "TcpUpstreamConnected"),
        (AccessLogType::TcpPeriodic, "TcpPeriodic"),
        (AccessLogType::UpstreamEnd, "UpstreamEnd"),
        (AccessLogType::DownstreamStart, "DownstreamStart"),
        (AccessLogType::DownstreamPeriodic, "DownstreamPeriodic"),
        (AccessLogType::DownstreamEnd, "DownstreamEnd"),
        (AccessLogType::UpstreamPoolReady, "UpstreamPoolReady"),
        (AccessLogType::UpstreamPeriodic, "UpstreamPeriodic"),
        (AccessLogType::TcpConnectionEnd, "TcpConnectionEnd"),
        (AccessLogType::TcpConnectionStart, "TcpConnectionStart"),
        (AccessLogType::DownstreamTunnelSuccessfullyEstablished, "DownstreamTunnelSuccessfullyEstablished"),
    ];

    /// As `%ACCESS_LOG_TYPE%` prints it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("NotSet", |(_, name)| name)
    }
}

/// What a line, a filter or a formatter may speak of.
#[derive(Clone, Copy)]
pub struct LogContext<'a> {
    pub request: Option<&'a RequestHead>,
    pub response: Option<&'a ResponseHead>,
    pub trailers: Option<&'a HeaderMap>,
    pub info: &'a StreamInfo,
    pub kind: AccessLogType,
}

/// One access log as built: a filter, a format and a sink.
pub struct AccessLog {}

impl AccessLog {
    /// # Errors
    /// When the logger, its filter or its format is not understood.
    pub fn build(_proto: &pb::AccessLog, path: &Path<'_>, _cx: &BuildCx) -> Result<Self, Reject> {
        Err(path.reject("access logs are not supported yet"))
    }

    /// Writes a line if the filter says so.
    pub fn log(&self, _context: &LogContext<'_>) {}
}

/// Opens the files anew, after they were moved away.
pub fn reopen() {}

/// Writes out what waits; for the end of the process.
pub fn flush_all() {}
