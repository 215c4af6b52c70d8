//! `envoy.config.accesslog.v3.AccessLog`: a line for each request or connection.
//!
//! The connection manager, the TCP proxy and listeners call [`AccessLog::log`] when a stream or connection ends,
//! and at the other moments that their `access_log_options` name ([`AccessLogType`]). A line is
//! formatted into the worker's own buffer ([`sink`]); a thread for each file writes the buffers out.
//!
//! Deliberately missing, and refused: gRPC and OpenTelemetry loggers, filters on metadata, CEL.

mod filter;
mod sink;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::HeaderMap;
use prost_types::Any;
use xds_protos::envoy::config::accesslog::v3 as pb;

use crate::config::{BuildCx, Path, Reject, values};
use crate::formatter::LineFormat;
use crate::http::{RequestHead, ResponseHead};
use crate::registry;
use crate::stream_info::StreamInfo;

pub use filter::Filter;
pub use sink::{Sink, Target, flush_all, reopen};

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
pub struct AccessLog {
    filter: Option<Filter>,
    format: LineFormat,
    sink: Arc<Sink>,
}

/// Envoy's default line.
const DEFAULT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% ",
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" ",
    "\"%UPSTREAM_HOST%\"\n"
);

impl AccessLog {
    /// # Errors
    /// When the logger, its filter or its format is not understood, or its file cannot be opened.
    pub fn build(proto: &pb::AccessLog, path: &Path<'_>, cx: &BuildCx) -> Result<Self, Reject> {
        let pb::AccessLog { name: _, filter, config_type } = proto;
        let filter = filter.as_ref().map(|f| Filter::build(f, &path.field("filter"), cx)).transpose()?;
        let config = config_type.as_ref().map(|pb::access_log::ConfigType::TypedConfig(config)| config);
        let path = path.field("typed_config");
        let (entry, config) = registry::find(registry::ACCESS_LOGGERS, config, &path)?;
        let (target, format) = (entry.build)(&config, &path)?;
        let format = match format {
            Some(format) => format,
            None => LineFormat::text(DEFAULT_FORMAT).map_err(|why| path.reject(why))?,
        };
        let shown = format!("{target:?}");
        let sink = Sink::open(target, cx.options.file_flush_interval, &cx.stats)
            .map_err(|error| path.reject(format_args!("cannot open {shown}: {error}")))?;
        Ok(AccessLog { filter, format, sink })
    }

    /// Writes a line if the filter says so.
    pub fn log(&self, context: &LogContext<'_>) {
        if self.filter.as_ref().is_none_or(|filter| filter.matches(context)) {
            self.sink.append(|line| self.format.write(context, line));
        }
    }
}

/// Access logs of a repeated field.
///
/// # Errors
/// Those of [`AccessLog::build`], for the first bad element.
pub fn build_all(protos: &[pb::AccessLog], path: &Path<'_>, cx: &BuildCx) -> Result<Vec<AccessLog>, Reject> {
    protos.iter().enumerate().map(|(i, proto)| AccessLog::build(proto, &path.index(i), cx)).collect()
}

/// `envoy.extensions.access_loggers.file.v3.FileAccessLog`.
///
/// # Errors
/// Without a path, or with a bad format.
#[expect(deprecated, reason = "the old forms of the format are still sent")]
pub fn file(config: &Any, path: &Path<'_>) -> Result<(Target, Option<LineFormat>), Reject> {
    use xds_protos::envoy::extensions::access_loggers::file::v3::FileAccessLog;
    use xds_protos::envoy::extensions::access_loggers::file::v3::file_access_log::AccessLogFormat as Format;
    let FileAccessLog { path: file, access_log_format } = values::decode(config, path)?;
    let target = match file.as_str() {
        "" => return Err(path.field("path").reject("expected a file, got nothing")),
        "/dev/stdout" => Target::Stdout,
        "/dev/stderr" => Target::Stderr,
        file => Target::File(file.into()),
    };
    let format = match access_log_format {
        None => None,
        Some(Format::Format(text)) if text.is_empty() => None,
        Some(Format::Format(text)) => Some(LineFormat::text(&text).map_err(|why| path.field("format").reject(why))?),
        Some(Format::LogFormat(format)) => Some(LineFormat::build(&format, &path.field("log_format"))?),
        Some(Format::JsonFormat(json)) => {
            Some(LineFormat::json(&json).map_err(|why| path.field("json_format").reject(why))?)
        }
        Some(Format::TypedJsonFormat(json)) => {
            Some(LineFormat::json(&json).map_err(|why| path.field("typed_json_format").reject(why))?)
        }
    };
    Ok((target, format))
}

/// `envoy.extensions.access_loggers.stream.v3.StdoutAccessLog`.
///
/// # Errors
/// With a bad format.
pub fn stdout(config: &Any, path: &Path<'_>) -> Result<(Target, Option<LineFormat>), Reject> {
    use xds_protos::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
    use xds_protos::envoy::extensions::access_loggers::stream::v3::stdout_access_log::AccessLogFormat as Format;
    let StdoutAccessLog { access_log_format } = values::decode(config, path)?;
    let format = access_log_format
        .map(|Format::LogFormat(format)| LineFormat::build(&format, &path.field("log_format")))
        .transpose()?;
    Ok((Target::Stdout, format))
}

/// `envoy.extensions.access_loggers.stream.v3.StderrAccessLog`.
///
/// # Errors
/// With a bad format.
pub fn stderr(config: &Any, path: &Path<'_>) -> Result<(Target, Option<LineFormat>), Reject> {
    use xds_protos::envoy::extensions::access_loggers::stream::v3::StderrAccessLog;
    use xds_protos::envoy::extensions::access_loggers::stream::v3::stderr_access_log::AccessLogFormat as Format;
    let StderrAccessLog { access_log_format } = values::decode(config, path)?;
    let format = access_log_format
        .map(|Format::LogFormat(format)| LineFormat::build(&format, &path.field("log_format")))
        .transpose()?;
    Ok((Target::Stderr, format))
}
