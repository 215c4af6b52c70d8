//! `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`, and the deprecated fields of the cluster that it replaced.

use std::time::Duration;

use http::HeaderName;
use prost_types::Any;
use xds_protos::envoy::config::cluster::v3 as pb;
use xds_protos::envoy::config::cluster::v3::cluster::ClusterProtocolSelection;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::extensions::upstreams::http::v3 as http_v3;
use xds_protos::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use xds_protos::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;

use super::fields::refuse;
use crate::cluster::{AutoSni, HttpProtocolOptions, UpstreamProtocol};
use crate::config::{Path, Reject, values};
use crate::http::http2::Http2Options;
use crate::http::http2::flood::Side;
use crate::network::http_connection_manager::header_key_format;

const EXTENSION: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The options of a cluster; none when it says nothing, and then the defaults are shared.
#[allow(deprecated, reason = "the fields still count where there is no HttpProtocolOptions")]
pub(super) fn build(proto: &pb::Cluster, path: &Path<'_>) -> Result<Option<HttpProtocolOptions>, Reject> {
    let mut typed = None;
    for (key, config) in &proto.typed_extension_protocol_options {
        let path = path.field("typed_extension_protocol_options");
        let path = path.key(key);
        if key != EXTENSION {
            return Err(path.reject(format_args!("unsupported extension; supported here: {EXTENSION}")));
        }
        typed = Some(from_extension(config, &path)?);
    }
    let mut options = match typed {
        // The deprecated fields have no effect beside it, in Envoy neither.
        Some(options) => options,
        None => match from_fields(proto, path)? {
            Some(options) => options,
            None if proto.max_requests_per_connection.is_none() => return Ok(None),
            None => HttpProtocolOptions::default(),
        },
    };
    if options.max_requests_per_connection.is_none() {
        options.max_requests_per_connection = proto.max_requests_per_connection.filter(|max| *max > 0);
    }
    Ok(Some(options))
}

fn from_extension(config: &Any, path: &Path<'_>) -> Result<HttpProtocolOptions, Reject> {
    if config.type_url.rsplit('/').next() != Some(EXTENSION) {
        return Err(path.reject(format_args!("expected {EXTENSION}, got {}", config.type_url)));
    }
    let http_v3::HttpProtocolOptions {
        common_http_protocol_options,
        upstream_http_protocol_options,
        http_filters,
        header_validation_config,
        outlier_detection,
        request_mirror_policies,
        hash_policy,
        retry_policy,
        upstream_protocol_options,
    } = values::decode(config, path)?;
    let refused = [
        (!http_filters.is_empty(), "http_filters"),
        (header_validation_config.is_some(), "header_validation_config"),
        (outlier_detection.is_some(), "outlier_detection"),
        (!request_mirror_policies.is_empty(), "request_mirror_policies"),
        (!hash_policy.is_empty(), "hash_policy"),
        (retry_policy.is_some(), "retry_policy"),
    ];
    refuse(&refused, path)?;
    let mut options = HttpProtocolOptions::default();
    protocol(upstream_protocol_options.as_ref(), &mut options, path)?;
    let at = path.field("common_http_protocol_options");
    common(common_http_protocol_options.as_ref(), &mut options, &at)?;
    let at = path.field("upstream_http_protocol_options");
    options.auto_sni = auto_sni(upstream_http_protocol_options.as_ref(), &at)?;
    Ok(options)
}

#[allow(deprecated, reason = "this is what reads them")]
fn from_fields(proto: &pb::Cluster, path: &Path<'_>) -> Result<Option<HttpProtocolOptions>, Reject> {
    let at = path.field("protocol_selection");
    let as_downstream = match ClusterProtocolSelection::try_from(proto.protocol_selection) {
        Ok(selection) => selection == ClusterProtocolSelection::UseDownstreamProtocol,
        Err(_) => return Err(at.reject(format_args!("unknown selection {}", proto.protocol_selection))),
    };
    if !as_downstream
        && proto.upstream_http_protocol_options.is_none()
        && proto.common_http_protocol_options.is_none()
        && proto.http_protocol_options.is_none()
        && proto.http2_protocol_options.is_none()
    {
        return Ok(None);
    }
    let protocol = match proto.http2_protocol_options {
        _ if as_downstream => UpstreamProtocol::UseDownstream,
        Some(_) => UpstreamProtocol::Http2,
        None => UpstreamProtocol::Http1,
    };
    let mut options = HttpProtocolOptions { protocol, ..HttpProtocolOptions::default() };
    http1(proto.http_protocol_options.as_ref(), &mut options, &path.field("http_protocol_options"))?;
    http2(proto.http2_protocol_options.as_ref(), &mut options, &path.field("http2_protocol_options"))?;
    let at = path.field("common_http_protocol_options");
    common(proto.common_http_protocol_options.as_ref(), &mut options, &at)?;
    let at = path.field("upstream_http_protocol_options");
    options.auto_sni = auto_sni(proto.upstream_http_protocol_options.as_ref(), &at)?;
    Ok(Some(options))
}

fn protocol(
    proto: Option<&UpstreamProtocolOptions>,
    options: &mut HttpProtocolOptions,
    path: &Path<'_>,
) -> Result<(), Reject> {
    let (settings1, settings2, settings3, path) = match proto {
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            let path = path.field("explicit_http_config");
            return match &explicit.protocol_config {
                Some(ProtocolConfig::HttpProtocolOptions(settings)) => {
                    options.protocol = UpstreamProtocol::Http1;
                    http1(Some(settings), options, &path.field("http_protocol_options"))
                }
                Some(ProtocolConfig::Http2ProtocolOptions(settings)) => {
                    options.protocol = UpstreamProtocol::Http2;
                    http2(Some(settings), options, &path.field("http2_protocol_options"))
                }
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    Err(path.field("http3_protocol_options").reject("HTTP/3 is not supported"))
                }
                None => Err(path.reject("expected http_protocol_options or http2_protocol_options, got none")),
            };
        }
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            options.protocol = UpstreamProtocol::UseDownstream;
            let http_v3::http_protocol_options::UseDownstreamHttpConfig {
                http_protocol_options,
                http2_protocol_options,
                http3_protocol_options,
            } = config;
            let path = path.field("use_downstream_protocol_config");
            (http_protocol_options, http2_protocol_options, http3_protocol_options, path)
        }
        Some(UpstreamProtocolOptions::AutoConfig(config)) => {
            options.protocol = UpstreamProtocol::Auto;
            let http_v3::http_protocol_options::AutoHttpConfig {
                http_protocol_options,
                http2_protocol_options,
                http3_protocol_options,
                alternate_protocols_cache_options,
            } = config;
            let path = path.field("auto_config");
            refuse(&[(alternate_protocols_cache_options.is_some(), "alternate_protocols_cache_options")], &path)?;
            (http_protocol_options, http2_protocol_options, http3_protocol_options, path)
        }
        None => {
            let why = "expected explicit_http_config, use_downstream_protocol_config or auto_config, got none";
            return Err(path.reject(why));
        }
    };
    refuse(&[(settings3.is_some(), "http3_protocol_options")], &path)?;
    http1(settings1.as_ref(), options, &path.field("http_protocol_options"))?;
    http2(settings2.as_ref(), options, &path.field("http2_protocol_options"))
}

#[allow(deprecated, reason = "deprecated fields are fields")]
fn http1(
    proto: Option<&core::Http1ProtocolOptions>,
    options: &mut HttpProtocolOptions,
    path: &Path<'_>,
) -> Result<(), Reject> {
    let Some(proto) = proto else { return Ok(()) };
    let core::Http1ProtocolOptions {
        header_key_format: _, // read as a whole below
        enable_trailers,
        allow_chunked_length,
        send_fully_qualified_url,
        // Ignored: they say what is accepted of a downstream.
        allow_absolute_url: _,
        accept_http_10: _,
        default_host_for_http_10: _,
        override_stream_error_on_invalid_http_message: _,
        allow_custom_methods: _,
        ignore_http_11_upgrade: _,
        // Ignored: which parser Envoy uses.
        use_balsa_parser: _,
    } = proto;
    refuse(&[(*send_fully_qualified_url, "send_fully_qualified_url")], path)?;
    options.http1.enable_trailers = *enable_trailers;
    options.http1.allow_chunked_length = *allow_chunked_length;
    options.http1.header_key_format = header_key_format(proto, path)?;
    Ok(())
}

fn http2(
    proto: Option<&core::Http2ProtocolOptions>,
    options: &mut HttpProtocolOptions,
    path: &Path<'_>,
) -> Result<(), Reject> {
    if let Some(proto) = proto {
        options.http2 = Http2Options::build(Some(proto), Side::Client, path)?;
    }
    Ok(())
}

fn common(
    proto: Option<&core::HttpProtocolOptions>,
    options: &mut HttpProtocolOptions,
    path: &Path<'_>,
) -> Result<(), Reject> {
    let Some(core::HttpProtocolOptions {
        idle_timeout,
        max_connection_duration,
        max_connection_duration_jitter,
        max_headers_count,
        max_response_headers_kb,
        max_stream_duration,
        // Ignored: Envoy documents that it has no effect on a cluster.
        headers_with_underscores_action: _,
        max_requests_per_connection,
    }) = proto
    else {
        return Ok(());
    };
    refuse(&[(max_connection_duration_jitter.is_some(), "max_connection_duration_jitter")], path)?;
    // Zero switches each of these off.
    let duration = |field: &str, value: &Option<prost_types::Duration>| -> Result<Option<Option<Duration>>, Reject> {
        let value = values::optional_duration(value.as_ref(), &path.field(field))?;
        Ok(value.map(|value| Some(value).filter(|value| !value.is_zero())))
    };
    if let Some(idle_timeout) = duration("idle_timeout", idle_timeout)? {
        options.idle_timeout = idle_timeout;
    }
    options.max_connection_duration = duration("max_connection_duration", max_connection_duration)?.flatten();
    options.max_stream_duration = duration("max_stream_duration", max_stream_duration)?.flatten();
    options.max_requests_per_connection = max_requests_per_connection.filter(|max| *max > 0);
    if let Some(max) = max_headers_count {
        if *max == 0 {
            return Err(path.field("max_headers_count").reject("expected at least 1, got 0"));
        }
        options.max_headers_count = Some(*max);
        options.http1.limits.max_headers = *max as usize;
    }
    if let Some(max) = max_response_headers_kb {
        if !(1..=8192).contains(max) {
            return Err(path.field("max_response_headers_kb").reject(format_args!("expected 1 to 8192, got {max}")));
        }
        options.max_response_headers_kb = Some(*max);
        options.http1.limits.max_bytes = *max as usize * 1024;
    }
    Ok(())
}

fn auto_sni(proto: Option<&core::UpstreamHttpProtocolOptions>, path: &Path<'_>) -> Result<Option<AutoSni>, Reject> {
    let Some(core::UpstreamHttpProtocolOptions { auto_sni, auto_san_validation, override_auto_sni_header }) = proto
    else {
        return Ok(None);
    };
    let header = match override_auto_sni_header.as_str() {
        "" | ":authority" => None,
        name => Some(HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            path.field("override_auto_sni_header").reject(format_args!("expected the name of a header, got {name:?}"))
        })?),
    };
    let wanted = *auto_sni || *auto_san_validation;
    Ok(wanted.then_some(AutoSni { sni: *auto_sni, validate_san: *auto_san_validation, header }))
}
