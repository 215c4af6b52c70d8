//! `HttpConnectionManager` as built: every field of the message is used here, or refused with its path.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use ipnet::IpNet;
use proto::http_connection_manager as hcm;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::extensions::filters::network::http_connection_manager::v3 as proto;

use super::codecs::StreamLimits;
use super::early_header_mutation::EarlyMutation;
use super::local_reply::LocalReplyConfig;
use super::original_ip::Detection;
use super::request_id::RequestIdOptions;
use super::tracing::Tracing;
use super::xfcc::Details;
use crate::access_log::AccessLog;
use crate::config::values;
use crate::config::{BuildCx, ConfigSource, Path, Reject};
use crate::http::path::{EscapedSlashes, PathOptions};
use crate::http::{http1, http2};
use crate::http_filters::router::RouterConfig;
use crate::http_filters::{FilterCx, FilterPlace, HttpFilter};
use crate::net::Address;
use crate::registry;
use crate::route::{RouteTable, Routes};
use crate::stats::StatBlock;
use crate::stats::names::HttpStats;
use crate::stream_info::TrafficDirection;

/// Which codec a connection gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecType {
    /// By ALPN, else by the first bytes.
    Auto,
    Http1,
    Http2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerHeader {
    Overwrite,
    AppendIfAbsent,
    PassThrough,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemeTransformation {
    None,
    /// To `https` (true) or `http`.
    To(bool),
    MatchUpstream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardClientCert {
    Sanitize,
    ForwardOnly,
    AppendForward,
    SanitizeSet,
    AlwaysForwardOnly,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StripPort {
    Keep,
    Any,
    /// Only the port that the connection was addressed to.
    Matching,
}

/// One filter of the chain with the name that routes know it by.
#[derive(Clone)]
pub struct NamedFilter {
    pub name: Arc<str>,
    pub filter: Arc<dyn HttpFilter>,
    /// `disabled: true`: runs only on routes that enable it.
    pub disabled: bool,
}

/// The filters of a connection manager or of an upgrade, in order, and the router at their end.
pub struct FilterChain {
    pub filters: Vec<NamedFilter>,
    pub router: Arc<RouterConfig>,
}

/// A protocol that a request may switch to, and the filters such a request passes.
pub struct Upgrade {
    /// Lower-case, e.g. `websocket` or `connect`.
    pub kind: String,
    pub enabled: bool,
    /// `None`: the connection manager's own filters.
    pub filters: Option<FilterChain>,
}

/// Which peers count as internal.
#[derive(Debug, Default)]
pub struct InternalAddresses {
    pub unix_sockets: bool,
    pub ranges: Vec<IpNet>,
}

impl InternalAddresses {
    pub fn contains(&self, address: &Address) -> bool {
        match address.ip() {
            Some(ip) => self.ranges.iter().any(|range| range.contains(&ip)),
            None => self.unix_sockets,
        }
    }
}

pub struct HcmConfig {
    pub codec: CodecType,
    pub stat_prefix: String,
    pub stats: StatBlock<HttpStats>,
    pub routes: Routes,
    pub chain: FilterChain,
    pub upgrades: Vec<Upgrade>,
    pub access_logs: Vec<AccessLog>,
    pub flush_access_log_on_new_request: bool,
    pub flush_access_log_on_tunnel: bool,
    pub access_log_flush_interval: Option<Duration>,
    pub local_reply: LocalReplyConfig,
    pub server_name: HeaderValue,
    pub server_header: ServerHeader,
    pub scheme_transformation: SchemeTransformation,
    pub stream_idle_timeout: Option<Duration>,
    pub request_timeout: Option<Duration>,
    pub max_stream_duration: Option<Duration>,
    pub use_remote_address: bool,
    pub xff_num_trusted_hops: u32,
    pub skip_xff_append: bool,
    pub append_x_forwarded_port: bool,
    pub represent_ipv4_as_mapped: bool,
    pub https_destination_ports: Vec<u32>,
    pub http_destination_ports: Vec<u32>,
    pub internal_addresses: InternalAddresses,
    pub user_agent: Option<HeaderValue>,
    pub service_node: Option<HeaderValue>,
    pub via: Option<HeaderValue>,
    pub generate_request_id: bool,
    pub preserve_external_request_id: bool,
    pub always_set_request_id_in_response: bool,
    pub request_id: RequestIdOptions,
    pub original_ip_detection: Vec<Detection>,
    pub early_header_mutations: Vec<EarlyMutation>,
    pub tracing: Option<Tracing>,
    pub forward_client_cert: ForwardClientCert,
    pub client_cert_details: Details,
    pub proxy_100_continue: bool,
    pub path: PathOptions,
    pub strip_port: StripPort,
    pub strip_trailing_host_dot: bool,
    pub http1: Arc<http1::ServerSettings>,
    pub http2: http2::ServerSettings,
    /// This machine's address, which stands in for loopback peers in `x-forwarded-for`.
    pub local_ip: IpAddr,
}

impl HcmConfig {
    /// # Errors
    /// When a value is out of range, names something unknown, or asks for what this proxy does not do.
    pub fn build(
        p: &proto::HttpConnectionManager,
        direction: TrafficDirection,
        path: &Path<'_>,
        cx: &BuildCx,
    ) -> Result<Self, Reject> {
        refuse_unsupported(p, path)?;
        let routes = match &p.route_specifier {
            Some(hcm::RouteSpecifier::RouteConfig(routes)) => Routes::Inline(RouteTable::build(
                routes,
                &path.field("route_config"),
                cx,
                true,
                &registry::filter_config,
            )?),
            Some(hcm::RouteSpecifier::Rds(rds)) => discovered_routes(rds, &p.stat_prefix, &path.field("rds"), cx)?,
            Some(hcm::RouteSpecifier::ScopedRoutes(_)) => {
                return Err(path.field("scoped_routes").reject("scoped routes are not supported yet"));
            }
            None => return Err(path.reject("expected one of route_config, rds, scoped_routes; none is set")),
        };
        let stat_prefix = p.stat_prefix.trim_end_matches('.').to_owned();
        let scope = format!("http.{stat_prefix}");
        let limits = stream_limits(p, path)?;
        let (http1, http2) = super::codecs::build(p, &limits, path, cx)?;
        let chain = filters(&p.http_filters, &path.field("http_filters"), &scope, cx)?;
        let access_log_options = p.access_log_options.unwrap_or_default();
        Ok(HcmConfig {
            codec: codec(p, path)?,
            stats: cx.stats.block(&scope),
            routes,
            chain,
            upgrades: upgrades(p, path, &scope, cx)?,
            access_logs: access_logs(&p.access_log, &path.field("access_log"), cx)?,
            flush_access_log_on_new_request: p.flush_access_log_on_new_request
                || access_log_options.flush_access_log_on_new_request,
            flush_access_log_on_tunnel: access_log_options.flush_log_on_tunnel_successfully_established,
            access_log_flush_interval: flush_interval(p, &access_log_options, path)?,
            local_reply: LocalReplyConfig::build(p.local_reply_config.as_ref(), &path.field("local_reply_config"), cx)?,
            server_name: header_value(
                if p.server_name.is_empty() { "envoy" } else { &p.server_name },
                &path.field("server_name"),
            )?,
            server_header: match p.server_header_transformation() {
                hcm::ServerHeaderTransformation::Overwrite => ServerHeader::Overwrite,
                hcm::ServerHeaderTransformation::AppendIfAbsent => ServerHeader::AppendIfAbsent,
                hcm::ServerHeaderTransformation::PassThrough => ServerHeader::PassThrough,
            },
            scheme_transformation: scheme_transformation(p),
            stream_idle_timeout: limits.stream_idle_timeout,
            request_timeout: limits.request_timeout,
            max_stream_duration: limits.max_stream_duration,
            use_remote_address: p.use_remote_address.unwrap_or(false),
            xff_num_trusted_hops: xff_hops(p, path)?,
            skip_xff_append: p.skip_xff_append,
            append_x_forwarded_port: p.append_x_forwarded_port,
            represent_ipv4_as_mapped: p.represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
            https_destination_ports: p.forward_proto_config.clone().unwrap_or_default().https_destination_ports,
            http_destination_ports: p.forward_proto_config.clone().unwrap_or_default().http_destination_ports,
            internal_addresses: internal_addresses(p, path)?,
            user_agent: match (p.add_user_agent, cx.options.service_cluster.as_str()) {
                (Some(true), "") => None,
                (Some(true), cluster) => Some(header_value(cluster, &path.field("add_user_agent"))?),
                _ => None,
            },
            service_node: HeaderValue::from_str(&cx.options.service_node).ok().filter(|v| !v.is_empty()),
            via: match p.via.as_str() {
                "" => None,
                via => Some(header_value(via, &path.field("via"))?),
            },
            generate_request_id: p.generate_request_id.unwrap_or(true),
            preserve_external_request_id: p.preserve_external_request_id,
            always_set_request_id_in_response: p.always_set_request_id_in_response,
            request_id: request_id(p, path)?,
            original_ip_detection: original_ip_detection(p, path)?,
            early_header_mutations: EarlyMutation::build_all(
                &p.early_header_mutation_extensions,
                &path.field("early_header_mutation_extensions"),
            )?,
            tracing: tracing(p, direction, &scope, path, cx)?,
            forward_client_cert: match p.forward_client_cert_details() {
                hcm::ForwardClientCertDetails::Sanitize => ForwardClientCert::Sanitize,
                hcm::ForwardClientCertDetails::ForwardOnly => ForwardClientCert::ForwardOnly,
                hcm::ForwardClientCertDetails::AppendForward => ForwardClientCert::AppendForward,
                hcm::ForwardClientCertDetails::SanitizeSet => ForwardClientCert::SanitizeSet,
                hcm::ForwardClientCertDetails::AlwaysForwardOnly => ForwardClientCert::AlwaysForwardOnly,
            },
            client_cert_details: client_cert_details(p, path)?,
            proxy_100_continue: p.proxy_100_continue,
            path: path_options(p, path)?,
            strip_port: match &p.strip_port_mode {
                Some(hcm::StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
                _ if p.strip_matching_host_port => StripPort::Matching,
                _ => StripPort::Keep,
            },
            strip_trailing_host_dot: p.strip_trailing_host_dot,
            http1: Arc::new(http1),
            http2,
            local_ip: crate::net::local_ip(cx.options.prefer_ipv6),
            stat_prefix,
        })
    }
}

fn discovered_routes(proto: &proto::Rds, stat_prefix: &str, path: &Path<'_>, cx: &BuildCx) -> Result<Routes, Reject> {
    let proto::Rds { config_source, route_config_name } = proto;
    let at = path.field("config_source");
    let source = config_source.as_ref().ok_or_else(|| at.reject("expected a source, got none"))?;
    let source = ConfigSource::build(source, &at)?;
    if route_config_name.is_empty() {
        return Err(path.field("route_config_name").reject("expected a name, got none"));
    }
    let scope = || format!("http.{}.rds.{route_config_name}", stat_prefix.trim_end_matches('.'));
    let slot = cx.routes.slot(source, route_config_name, scope);
    cx.dependencies.add(slot.clone());
    Ok(Routes::Discovered(slot))
}

/// Fields that change what a request meets and that this proxy does not do yet. `append_local_overload` is no such field: no
/// action of the overload manager that is supported answers requests.
fn refuse_unsupported(p: &proto::HttpConnectionManager, path: &Path<'_>) -> Result<(), Reject> {
    let unsupported: [(&str, bool); 6] = [
        ("http3_protocol_options", p.http3_protocol_options.is_some()),
        ("forward_client_cert_matcher", p.forward_client_cert_matcher.is_some()),
        ("path_normalization_options", p.path_normalization_options.is_some()),
        ("proxy_status_config", p.proxy_status_config.is_some()),
        ("typed_header_validation_config", p.typed_header_validation_config.is_some()),
        ("add_proxy_protocol_connection_state", p.add_proxy_protocol_connection_state == Some(true)),
    ];
    match unsupported.iter().find(|(_, set)| *set) {
        Some((field, _)) => Err(path.field(field).reject("this field is not supported yet; remove it")),
        None => Ok(()),
    }
}

fn codec(p: &proto::HttpConnectionManager, path: &Path<'_>) -> Result<CodecType, Reject> {
    match p.codec_type() {
        hcm::CodecType::Auto => Ok(CodecType::Auto),
        hcm::CodecType::Http1 => Ok(CodecType::Http1),
        hcm::CodecType::Http2 => Ok(CodecType::Http2),
        hcm::CodecType::Http3 => {
            Err(path.field("codec_type").reject("expected AUTO, HTTP1 or HTTP2; HTTP3 is not supported"))
        }
    }
}

fn filters(list: &[proto::HttpFilter], path: &Path<'_>, scope: &str, cx: &BuildCx) -> Result<FilterChain, Reject> {
    let mut filters = Vec::with_capacity(list.len());
    for (i, filter) in list.iter().enumerate() {
        let at = path.index(i);
        let last = i + 1 == list.len();
        let place = FilterPlace { name: filter.name.as_str().into(), position: filters.len() };
        let name = place.name.clone();
        match registry::http_filter(filter, &at, &FilterCx { build: cx, scope, place })? {
            None => {}
            Some(registry::HttpFilterKind::Filter(built)) if !last => {
                filters.push(NamedFilter { name, filter: built, disabled: filter.disabled });
            }
            Some(registry::HttpFilterKind::Router(_)) if filter.disabled => {
                return Err(at.field("disabled").reject("the router cannot be disabled"));
            }
            Some(registry::HttpFilterKind::Router(router)) if last => return Ok(FilterChain { filters, router }),
            Some(registry::HttpFilterKind::Router(_)) => {
                return Err(at.reject("expected the router to be the last filter of the chain"));
            }
            Some(registry::HttpFilterKind::Filter(_)) => {
                return Err(at.reject("expected the last filter to be the router (envoy.filters.http.router)"));
            }
        }
    }
    Err(path.reject("expected the router (envoy.filters.http.router) as the last filter"))
}

fn upgrades(
    p: &proto::HttpConnectionManager,
    path: &Path<'_>,
    scope: &str,
    cx: &BuildCx,
) -> Result<Vec<Upgrade>, Reject> {
    let path = path.field("upgrade_configs");
    let mut out: Vec<Upgrade> = Vec::new();
    for (i, upgrade) in p.upgrade_configs.iter().enumerate() {
        let at = path.index(i);
        let kind = upgrade.upgrade_type.to_ascii_lowercase();
        if out.iter().any(|known| known.kind == kind) {
            return Err(at
                .field("upgrade_type")
                .reject(format_args!("{:?} is configured twice", upgrade.upgrade_type)));
        }
        let own = match upgrade.filters.as_slice() {
            [] => None,
            list => Some(filters(list, &at.field("filters"), scope, cx)?),
        };
        out.push(Upgrade { kind, enabled: upgrade.enabled.unwrap_or(true), filters: own });
    }
    Ok(out)
}

/// Access loggers of a list of `AccessLog` messages.
pub fn access_logs(
    list: &[xds_protos::envoy::config::accesslog::v3::AccessLog],
    path: &Path<'_>,
    cx: &BuildCx,
) -> Result<Vec<AccessLog>, Reject> {
    list.iter().enumerate().map(|(i, log)| AccessLog::build(log, &path.index(i), cx)).collect()
}

fn flush_interval(
    p: &proto::HttpConnectionManager,
    options: &hcm::HcmAccessLogOptions,
    path: &Path<'_>,
) -> Result<Option<Duration>, Reject> {
    if p.access_log_options.is_some() && (p.flush_access_log_on_new_request || p.access_log_flush_interval.is_some()) {
        let why = "expected either this or the older flush_access_log_on_new_request and access_log_flush_interval";
        return Err(path.field("access_log_options").reject(why));
    }
    let interval = options.access_log_flush_interval.or(p.access_log_flush_interval);
    limit(interval.as_ref(), None, &path.field("access_log_flush_interval"))
}

fn scheme_transformation(p: &proto::HttpConnectionManager) -> SchemeTransformation {
    use core::scheme_header_transformation::Transformation;
    match &p.scheme_header_transformation {
        Some(t) if t.match_upstream => SchemeTransformation::MatchUpstream,
        Some(core::SchemeHeaderTransformation {
            transformation: Some(Transformation::SchemeToOverwrite(scheme)),
            ..
        }) => SchemeTransformation::To(scheme == "https"),
        _ => SchemeTransformation::None,
    }
}

/// A time limit: absent means `default`, zero means none.
pub fn limit(
    value: Option<&prost_types::Duration>,
    default: Option<Duration>,
    path: &Path<'_>,
) -> Result<Option<Duration>, Reject> {
    match values::optional_duration(value, path)? {
        None => Ok(default),
        Some(limit) => Ok((!limit.is_zero()).then_some(limit)),
    }
}

fn stream_limits(p: &proto::HttpConnectionManager, path: &Path<'_>) -> Result<StreamLimits, Reject> {
    let common = p.common_http_protocol_options.unwrap_or_default();
    let common_path = path.field("common_http_protocol_options");
    let five_minutes = Some(Duration::from_secs(300));
    let idle_path = path.field("stream_idle_timeout");
    Ok(StreamLimits {
        stream_idle_timeout: limit(p.stream_idle_timeout.as_ref(), five_minutes, &idle_path)?,
        request_timeout: limit(p.request_timeout.as_ref(), None, &path.field("request_timeout"))?,
        max_stream_duration: limit(
            common.max_stream_duration.as_ref(),
            None,
            &common_path.field("max_stream_duration"),
        )?,
    })
}

fn xff_hops(p: &proto::HttpConnectionManager, path: &Path<'_>) -> Result<u32, Reject> {
    if p.xff_num_trusted_hops > 100 {
        return Err(path
            .field("xff_num_trusted_hops")
            .reject(format_args!("expected at most 100 hops, got {}", p.xff_num_trusted_hops)));
    }
    Ok(p.xff_num_trusted_hops)
}

fn internal_addresses(p: &proto::HttpConnectionManager, path: &Path<'_>) -> Result<InternalAddresses, Reject> {
    let Some(config) = &p.internal_address_config else { return Ok(InternalAddresses::default()) };
    let path = path.field("internal_address_config");
    let path = path.field("cidr_ranges");
    let ranges = config
        .cidr_ranges
        .iter()
        .enumerate()
        .map(|(i, range)| values::cidr_range(range, &path.index(i)))
        .collect::<Result<_, _>>()?;
    Ok(InternalAddresses { unix_sockets: config.unix_sockets, ranges })
}

fn tracing(
    p: &proto::HttpConnectionManager,
    direction: TrafficDirection,
    scope: &str,
    path: &Path<'_>,
    cx: &BuildCx,
) -> Result<Option<Tracing>, Reject> {
    p.tracing.as_ref().map(|p| Tracing::build(p, direction, scope, &path.field("tracing"), cx)).transpose()
}

fn request_id(p: &proto::HttpConnectionManager, path: &Path<'_>) -> Result<RequestIdOptions, Reject> {
    use xds_protos::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
    let Some(extension) = &p.request_id_extension else { return Ok(RequestIdOptions::default()) };
    let path = path.field("request_id_extension");
    let path = path.field("typed_config");
    let any = registry::typed_config(extension.typed_config.as_ref(), &path)?;
    if any.type_url.rsplit('/').next() != Some("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig") {
        return Err(path.reject(format_args!(
            "expected envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig, got {}",
            any.type_url
        )));
    }
    let UuidRequestIdConfig { pack_trace_reason, use_request_id_for_trace_sampling } = values::decode(&any, &path)?;
    Ok(RequestIdOptions {
        pack_trace_reason: pack_trace_reason.unwrap_or(true),
        use_for_trace_sampling: use_request_id_for_trace_sampling.unwrap_or(true),
    })
}

fn original_ip_detection(p: &proto::HttpConnectionManager, path: &Path<'_>) -> Result<Vec<Detection>, Reject> {
    let path = path.field("original_ip_detection_extensions");
    if !p.original_ip_detection_extensions.is_empty()
        && (p.use_remote_address == Some(true) || p.xff_num_trusted_hops > 0)
    {
        return Err(path.reject("expected either this or use_remote_address and xff_num_trusted_hops, got both"));
    }
    Detection::build_all(&p.original_ip_detection_extensions, &path)
}

fn client_cert_details(p: &proto::HttpConnectionManager, path: &Path<'_>) -> Result<Details, Reject> {
    let Some(set) = p.set_current_client_cert_details else { return Ok(Details::default()) };
    if set.format != hcm::ForwardClientCertFormat::Text as i32 {
        let path = path.field("set_current_client_cert_details");
        return Err(path.field("format").reject("expected TEXT; JSON is not supported yet"));
    }
    Ok(Details {
        cert: set.cert,
        chain: set.chain,
        subject: set.subject.unwrap_or(false),
        uri: set.uri,
        dns: set.dns,
        issuer: set.issuer,
    })
}

fn path_options(p: &proto::HttpConnectionManager, path: &Path<'_>) -> Result<PathOptions, Reject> {
    use hcm::PathWithEscapedSlashesAction as Action;
    let action = Action::try_from(p.path_with_escaped_slashes_action).map_err(|_| {
        path.field("path_with_escaped_slashes_action")
            .reject(format_args!("unknown value {}", p.path_with_escaped_slashes_action))
    })?;
    Ok(PathOptions {
        normalize: p.normalize_path.unwrap_or(false),
        merge_slashes: p.merge_slashes,
        escaped_slashes: match action {
            Action::ImplementationSpecificDefault | Action::KeepUnchanged => EscapedSlashes::KeepUnchanged,
            Action::RejectRequest => EscapedSlashes::Reject,
            Action::UnescapeAndRedirect => EscapedSlashes::UnescapeAndRedirect,
            Action::UnescapeAndForward => EscapedSlashes::UnescapeAndForward,
        },
    })
}

fn header_value(text: &str, path: &Path<'_>) -> Result<HeaderValue, Reject> {
    HeaderValue::from_str(text)
        .map_err(|_| path.reject(format_args!("expected a header value without control characters, got {text:?}")))
}
