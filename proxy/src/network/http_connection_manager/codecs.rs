//! The codecs' settings out of the connection manager's message.

use std::time::Duration;

use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use xds_protos::envoy::extensions::filters::network::http_connection_manager::v3 as proto;

use super::config::limit;
use crate::config::{BuildCx, Path, Reject};
use crate::http::check::UnderscoreAction;
use crate::http::http1::{self, HeadLimits, HeaderKeyFormat, OwnHeaders};
use crate::http::http2;
use crate::http::http2::flood::Side;

/// The limits of streams, as far as they also hold for a request's head.
pub struct StreamLimits {
    pub stream_idle_timeout: Option<Duration>,
    pub request_timeout: Option<Duration>,
    pub max_stream_duration: Option<Duration>,
}

/// Settings of both codecs.
pub fn build(
    p: &proto::HttpConnectionManager,
    limits: &StreamLimits,
    path: &Path<'_>,
    cx: &BuildCx,
) -> Result<(http1::ServerSettings, http2::ServerSettings), Reject> {
    let common = p.common_http_protocol_options.unwrap_or_default();
    let common_path = path.field("common_http_protocol_options");
    let jitter_path = common_path.field("max_connection_duration_jitter");
    let duration_jitter = jitter(common.max_connection_duration_jitter.as_ref(), &jitter_path)?;
    let drain_jitter = jitter(p.drain_timeout_jitter.as_ref(), &path.field("drain_timeout_jitter"))?;
    let kilobytes = bounded(p.max_request_headers_kb, 60, 1..=8192, &path.field("max_request_headers_kb"))?;
    let headers = bounded(common.max_headers_count, 100, 1..=u32::MAX, &common_path.field("max_headers_count"))?;
    let underscores = match common.headers_with_underscores_action() {
        HeadersWithUnderscoresAction::Allow => UnderscoreAction::Allow,
        HeadersWithUnderscoresAction::RejectRequest => UnderscoreAction::RejectRequest,
        HeadersWithUnderscoresAction::DropHeader => UnderscoreAction::DropHeader,
    };
    let seconds = Duration::from_secs;
    let idle_timeout = limit(common.idle_timeout.as_ref(), Some(seconds(3600)), &common_path.field("idle_timeout"))?;
    let max_connection_duration =
        limit(common.max_connection_duration.as_ref(), None, &common_path.field("max_connection_duration"))?;
    let delayed_close =
        limit(p.delayed_close_timeout.as_ref(), Some(seconds(1)), &path.field("delayed_close_timeout"))?;
    let drain = limit(p.drain_timeout.as_ref(), Some(seconds(5)), &path.field("drain_timeout"))?;
    let headers_timeout = limit(p.request_headers_timeout.as_ref(), None, &path.field("request_headers_timeout"))?;
    let stream_error = p.stream_error_on_invalid_http_message;
    let max_requests = common.max_requests_per_connection.unwrap_or(0);

    let http1_options = p.http_protocol_options.clone().unwrap_or_default();
    let http1_path = path.field("http_protocol_options");
    let mut h1 = http1::ServerSettings {
        limits: HeadLimits { max_bytes: kilobytes as usize * 1024, max_headers: headers as usize },
        headers_with_underscores_action: underscores,
        stream_error_on_invalid_http_message: stream_error.unwrap_or(false),
        idle_timeout,
        max_connection_duration,
        max_connection_duration_jitter: duration_jitter,
        drain_timeout_jitter: drain_jitter,
        safe_max_connection_duration: p.http1_safe_max_connection_duration,
        max_requests_per_connection: max_requests,
        request_headers_timeout: headers_timeout,
        stream_idle_timeout: limits.stream_idle_timeout,
        request_timeout: limits.request_timeout,
        max_stream_duration: limits.max_stream_duration,
        delayed_close_timeout: delayed_close.unwrap_or_default(),
        drain_timeout: drain.unwrap_or_default(),
        stats: Some(cx.stats.block("http1")),
        ..http1::ServerSettings::default()
    };
    http1_server(&http1_options, &http1_path, &mut h1)?;

    let http2_path = path.field("http2_protocol_options");
    let options = http2::Http2Options::build(p.http2_protocol_options.as_ref(), Side::Server, &http2_path)?;
    let mut h2 = http2::ServerSettings::new(options, cx.stats.block("http2"));
    h2.max_request_headers_kb = kilobytes;
    h2.max_headers_count = headers;
    h2.headers_with_underscores_action = underscores;
    h2.idle_timeout = idle_timeout;
    h2.max_connection_duration = max_connection_duration;
    h2.max_connection_duration_jitter = duration_jitter;
    h2.drain_timeout_jitter = drain_jitter;
    h2.max_requests_per_connection = (max_requests > 0).then_some(max_requests);
    h2.drain_timeout = drain.unwrap_or_default();
    h2.delayed_close_timeout = delayed_close.unwrap_or_default();
    if let Some(flush) = limit(p.stream_flush_timeout.as_ref(), None, &path.field("stream_flush_timeout"))? {
        h2.stream_flush_timeout = flush;
    }
    Ok((h1, h2))
}

fn http1_server(
    p: &core::Http1ProtocolOptions,
    path: &Path<'_>,
    settings: &mut http1::ServerSettings,
) -> Result<(), Reject> {
    let core::Http1ProtocolOptions {
        allow_absolute_url,
        accept_http_10,
        default_host_for_http_10,
        header_key_format: _,
        enable_trailers,
        allow_chunked_length,
        override_stream_error_on_invalid_http_message,
        send_fully_qualified_url,
        use_balsa_parser: _, // which of Envoy's parsers: there is one here
        allow_custom_methods,
        ignore_http_11_upgrade,
    } = p;
    if *send_fully_qualified_url {
        return Err(path.field("send_fully_qualified_url").reject("only for upstreams, and not supported yet"));
    }
    if !ignore_http_11_upgrade.is_empty() {
        return Err(path.field("ignore_http_11_upgrade").reject("not supported yet; remove it"));
    }
    settings.allow_absolute_url = allow_absolute_url.unwrap_or(true);
    settings.accept_http_10 = *accept_http_10;
    settings.default_host_for_http_10.clone_from(default_host_for_http_10);
    settings.enable_trailers = *enable_trailers;
    settings.allow_chunked_length = *allow_chunked_length;
    settings.allow_custom_methods = *allow_custom_methods;
    settings.header_key_format = header_key_format(p, path)?;
    if let Some(keep_open) = override_stream_error_on_invalid_http_message {
        settings.stream_error_on_invalid_http_message = *keep_open;
    }
    Ok(())
}

/// `header_key_format` of either side.
pub fn header_key_format(p: &core::Http1ProtocolOptions, path: &Path<'_>) -> Result<HeaderKeyFormat, Reject> {
    use core::http1_protocol_options::header_key_format::HeaderFormat;
    use prost::Message;
    use xds_protos::envoy::extensions::http::header_formatters::preserve_case::v3 as preserve_case;
    let path = path.field("header_key_format");
    let Some(format) = p.header_key_format.as_ref().and_then(|f| f.header_format.as_ref()) else {
        return Ok(HeaderKeyFormat::LowerCase);
    };
    match format {
        HeaderFormat::ProperCaseWords(_) => Ok(HeaderKeyFormat::ProperCase),
        HeaderFormat::StatefulFormatter(extension) => {
            let path = path.field("stateful_formatter");
            let path = path.field("typed_config");
            let Some(any) = &extension.typed_config else { return Err(path.reject("expected a formatter, got none")) };
            if any.type_url.rsplit('/').next()
                != Some("envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig")
            {
                return Err(path.reject(format_args!("expected PreserveCaseFormatterConfig, got {}", any.type_url)));
            }
            let config = preserve_case::PreserveCaseFormatterConfig::decode(&*any.value).map_err(|e| path.reject(e))?;
            if config.forward_reason_phrase {
                return Err(path.field("forward_reason_phrase").reject("not supported yet; remove it"));
            }
            Ok(HeaderKeyFormat::PreserveCase(if config.formatter_type_on_envoy_headers == 1 {
                OwnHeaders::ProperCase
            } else {
                OwnHeaders::LowerCase
            }))
        }
    }
}

/// So many percent at most are added to a duration.
fn jitter(percent: Option<&xds_protos::envoy::r#type::v3::Percent>, path: &Path<'_>) -> Result<f64, Reject> {
    let percent = percent.map_or(0.0, |percent| percent.value);
    if (0.0..=100.0).contains(&percent) {
        return Ok(percent);
    }
    Err(path.field("value").reject(format_args!("expected 0 to 100, got {percent}")))
}

fn bounded(
    value: Option<u32>,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
    path: &Path<'_>,
) -> Result<u32, Reject> {
    match value {
        None => Ok(default),
        Some(value) if range.contains(&value) => Ok(value),
        Some(value) => Err(path.reject(format_args!("expected {} to {}, got {value}", range.start(), range.end()))),
    }
}
