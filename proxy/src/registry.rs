//! THE table of extensions: which Envoy extensions there are, what builds them, and how much of them works.
//!
//! An extension is looked up by the type URL of its `typed_config`, after a `TypedStruct` around it is taken off. The README's
//! status table, `--version` and the admin page are rendered from here. Adding an extension is one folder and one line.

use std::borrow::Cow;
use std::sync::Arc;

use prost_types::Any;
use xds_protos::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter as HttpFilterProto, http_filter,
};

use crate::access_log;
use crate::config::{BuildCx, Path, Reject};
use crate::formatter::LineFormat;
use crate::http_filters::router::RouterConfig;
use crate::http_filters::{self, FilterCx, HttpFilter};
use crate::listener::filters::{self, ListenerFilter};
use crate::network::{
    BuiltFilter, ListenerCx, direct_response, echo, http_connection_manager, local_ratelimit, rbac, tcp_proxy,
};
use crate::route::FilterConfig;
use crate::transport_socket::{Downstream, TransportCx, Upstream, raw_buffer, tls};

/// How much of an extension's API works; `note` says what does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Everything, or everything that makes sense outside Envoy.
    Full,
    /// Some fields are refused.
    Partial,
    /// Accepted and without effect, because it changes nothing that can be observed.
    Ignored,
}

/// One extension of a category; `B` is the category's build function.
pub struct Extension<B: 'static> {
    pub type_url: &'static str,
    /// Envoy's name of it, e.g. `envoy.filters.network.tcp_proxy`.
    pub name: &'static str,
    pub build: B,
    pub level: Level,
    pub note: &'static str,
}

pub type BuildListenerFilter = fn(&Any, &Path<'_>, &BuildCx) -> Result<Arc<dyn ListenerFilter>, Reject>;
pub type BuildDownstreamTransportSocket = fn(&Any, &Path<'_>, TransportCx<'_>) -> Result<Downstream, Reject>;
pub type BuildUpstreamTransportSocket = fn(&Any, &Path<'_>, TransportCx<'_>) -> Result<Upstream, Reject>;
pub type BuildNetworkFilter = fn(&Any, &Path<'_>, &ListenerCx<'_>) -> Result<BuiltFilter, Reject>;

pub static LISTENER_FILTERS: &[Extension<BuildListenerFilter>] = &[
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
        name: "envoy.filters.listener.http_inspector",
        build: filters::http_inspector::build,
        level: Level::Full,
        note: "",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
        name: "envoy.filters.listener.original_dst",
        build: filters::original_dst::build,
        level: Level::Full,
        note: "",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.listener.original_src.v3.OriginalSrc",
        name: "envoy.filters.listener.original_src",
        build: filters::original_src::build,
        level: Level::Full,
        note: "",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        name: "envoy.filters.listener.proxy_protocol",
        build: filters::proxy_protocol::build,
        level: Level::Partial,
        note: "no rules, no pass_through_tlvs",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        name: "envoy.filters.listener.tls_inspector",
        build: filters::tls_inspector::build,
        level: Level::Partial,
        note: "no JA3 and JA4 fingerprints",
    },
];

pub static NETWORK_FILTERS: &[Extension<BuildNetworkFilter>] = &[
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
        name: "envoy.filters.network.direct_response",
        build: direct_response::build,
        level: Level::Full,
        note: "",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo",
        name: "envoy.filters.network.echo",
        build: echo::build,
        level: Level::Full,
        note: "",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        name: "envoy.filters.network.http_connection_manager",
        build: http_connection_manager::build,
        level: Level::Partial,
        note: "no HTTP/3, no tracers, no scoped routes",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
        name: "envoy.filters.network.local_ratelimit",
        build: local_ratelimit::build,
        level: Level::Partial,
        note: "no share_key",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC",
        name: "envoy.filters.network.rbac",
        build: rbac::build,
        level: Level::Partial,
        note: "decides before the first byte; no CONTINUOUS, and what the HTTP filter has not",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        name: "envoy.filters.network.tcp_proxy",
        build: tcp_proxy::build,
        level: Level::Partial,
        note: "no tunneling, hash policies, metadata matches, on-demand clusters and early data",
    },
];

const TLS_NOTE: &str = "TLS 1.2 and 1.3 with AEAD suites; no session ticket keys by SDS, key log, PKCS #12, private key providers, \
                        validators other than SPIFFE's, selectors, handshakers, compliance policies";

pub static DOWNSTREAM_TRANSPORT_SOCKETS: &[Extension<BuildDownstreamTransportSocket>] = &[
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
        name: "envoy.transport_sockets.raw_buffer",
        build: raw_buffer::build_downstream,
        level: Level::Full,
        note: "",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        name: "envoy.transport_sockets.tls",
        build: tls::config::build_downstream,
        level: Level::Partial,
        note: TLS_NOTE,
    },
];

pub static UPSTREAM_TRANSPORT_SOCKETS: &[Extension<BuildUpstreamTransportSocket>] = &[
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
        name: "envoy.transport_sockets.raw_buffer",
        build: raw_buffer::build_upstream,
        level: Level::Full,
        note: "",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        name: "envoy.transport_sockets.tls",
        build: tls::config::build_upstream,
        level: Level::Partial,
        note: TLS_NOTE,
    },
];

/// The entry for `typed_config`, and the configuration without a `TypedStruct` around it.
///
/// # Errors
/// When there is no configuration, no such extension, or the `TypedStruct` does not convert.
pub fn find<'c, B>(
    table: &'static [Extension<B>],
    typed_config: Option<&'c Any>,
    path: &Path<'_>,
) -> Result<(&'static Extension<B>, Cow<'c, Any>), Reject> {
    let config = typed_config.ok_or_else(|| path.reject("expected a typed_config, got none"))?;
    let config = unwrap_typed_struct(config, path)?;
    match table.iter().find(|entry| same_message(entry.type_url, &config.type_url)) {
        Some(entry) => Ok((entry, config)),
        None => {
            let known: Vec<&str> = table.iter().map(|entry| entry.name).collect();
            let known = known.join(", ");
            Err(path.reject(format_args!("unsupported extension {}; supported here: {known}", config.type_url)))
        }
    }
}

/// A `typed_config` without a `TypedStruct` around it, for extension points whose extensions are no table.
///
/// # Errors
/// When there is none, or the `TypedStruct` does not convert.
pub fn typed_config<'c>(typed_config: Option<&'c Any>, path: &Path<'_>) -> Result<Cow<'c, Any>, Reject> {
    unwrap_typed_struct(typed_config.ok_or_else(|| path.reject("expected a typed_config, got none"))?, path)
}

/// Type URLs name the same message when what follows the last slash is equal.
fn same_message(a: &str, b: &str) -> bool {
    a.rsplit('/').next() == b.rsplit('/').next()
}

/// Takes `udpa.type.v1.TypedStruct` or `xds.type.v3.TypedStruct` off a configuration.
fn unwrap_typed_struct<'c>(config: &'c Any, path: &Path<'_>) -> Result<Cow<'c, Any>, Reject> {
    xds_protos::typed_struct::unwrap_typed_struct(config).map_err(|problems| match problems.first() {
        Some(problem) if problem.path.is_empty() => {
            path.reject(format_args!("expected {}, got {}", problem.expected, problem.got))
        }
        Some(problem) => {
            path.field(&problem.path).reject(format_args!("expected {}, got {}", problem.expected, problem.got))
        }
        None => path.reject("expected a TypedStruct that holds a known message"),
    })
}

/// A filter of an HTTP chain: one before the router, or the router.
pub enum HttpFilterKind {
    Filter(Arc<dyn HttpFilter>),
    Router(Arc<RouterConfig>),
}

pub type BuildHttpFilter = fn(&Any, &Path<'_>, &FilterCx<'_>) -> Result<HttpFilterKind, Reject>;

/// What builds the override of a route for a filter.
pub type BuildRouteConfig = fn(&Any, &Path<'_>, &BuildCx) -> Result<FilterConfig, Reject>;

pub static HTTP_FILTERS: &[Extension<BuildHttpFilter>] = &[
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors",
        name: "envoy.filters.http.cors",
        build: |config, path, cx| Ok(HttpFilterKind::Filter(http_filters::cors::build(config, path, cx)?)),
        level: Level::Full,
        note: "",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        name: "envoy.filters.http.local_ratelimit",
        build: |config, path, cx| Ok(HttpFilterKind::Filter(http_filters::local_ratelimit::build(config, path, cx)?)),
        level: Level::Partial,
        note: "no descriptors, shares of a cluster's limit and retry-after",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        name: "envoy.filters.http.rbac",
        build: |config, path, cx| Ok(HttpFilterKind::Filter(http_filters::rbac::build(config, path, cx)?)),
        level: Level::Partial,
        note: "no matcher API, CEL conditions, filter state, audit loggers, custom principals and permissions",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        name: "envoy.filters.http.router",
        build: |config, path, cx| {
            let message = crate::config::values::decode(config, path)?;
            Ok(HttpFilterKind::Router(Arc::new(RouterConfig::build(&message, path, cx.scope, cx.build)?)))
        },
        level: Level::Partial,
        note: "no hedging and retry priorities; no upstream HTTP filters, no upstream access log",
    },
];

/// The overrides that routes may have, by their type: which filter one is for is its name in the connection manager, which a
/// route table does not know.
static ROUTE_CONFIGS: &[(&str, BuildRouteConfig)] = &[
    ("envoy.extensions.filters.http.cors.v3.CorsPolicy", http_filters::cors::build_route),
    ("envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", http_filters::local_ratelimit::build_route),
    ("envoy.extensions.filters.http.rbac.v3.RBACPerRoute", http_filters::rbac::build_route),
];

/// Builds one entry of `http_filters`; `None` for an optional filter that is not known here.
///
/// # Errors
/// When the filter is not known and not optional, or its configuration is refused.
pub fn http_filter(
    filter: &HttpFilterProto,
    path: &Path<'_>,
    cx: &FilterCx<'_>,
) -> Result<Option<HttpFilterKind>, Reject> {
    let config = match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(config)) => Some(config),
        Some(http_filter::ConfigType::ConfigDiscovery(_)) => {
            return Err(path.field("config_discovery").reject("extension discovery is not supported yet"));
        }
        None => None,
    };
    let at = path.field("typed_config");
    match find(HTTP_FILTERS, config, &at) {
        Ok((entry, config)) => (entry.build)(&config, &at, cx).map(Some),
        Err(_) if filter.is_optional => Ok(None),
        Err(reject) => Err(reject),
    }
}

/// Where lines go, and their format if it is not the default.
pub type BuildAccessLogger = fn(&Any, &Path<'_>) -> Result<(access_log::Target, Option<LineFormat>), Reject>;

pub static ACCESS_LOGGERS: &[Extension<BuildAccessLogger>] = &[
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        name: "envoy.access_loggers.file",
        build: access_log::file,
        level: Level::Full,
        note: "",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        name: "envoy.access_loggers.stdout",
        build: access_log::stdout,
        level: Level::Full,
        note: "",
    },
    Extension {
        type_url: "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
        name: "envoy.access_loggers.stderr",
        build: access_log::stderr,
        level: Level::Full,
        note: "",
    },
];

/// Builds an override of `typed_per_filter_config`; `None` when no filter of ours takes one of this type.
///
/// # Errors
/// When the configuration is refused.
pub fn filter_config(config: &Any, path: &Path<'_>, cx: &BuildCx) -> Result<Option<FilterConfig>, Reject> {
    let config = unwrap_typed_struct(config, path)?;
    let known = ROUTE_CONFIGS.iter().find(|(message, _)| same_message(message, &config.type_url));
    known.map(|(_, build)| build(&config, path, cx)).transpose()
}

/// One extension as lists show it: `--version`, `/server_info`, the README.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    /// Envoy's category, e.g. `envoy.filters.network`.
    pub category: &'static str,
    pub name: &'static str,
    pub type_url: &'static str,
    pub level: Level,
    pub note: &'static str,
}

/// Every extension, by category.
pub fn all() -> Vec<Listed> {
    fn list<B>(category: &'static str, table: &'static [Extension<B>]) -> impl Iterator<Item = Listed> {
        table.iter().map(move |entry| Listed {
            category,
            name: entry.name,
            type_url: entry.type_url,
            level: entry.level,
            note: entry.note,
        })
    }
    list("envoy.filters.listener", LISTENER_FILTERS)
        .chain(list("envoy.filters.network", NETWORK_FILTERS))
        .chain(list("envoy.filters.http", HTTP_FILTERS))
        .chain(list("envoy.access_loggers", ACCESS_LOGGERS))
        .chain(list("envoy.transport_sockets.downstream", DOWNSTREAM_TRANSPORT_SOCKETS))
        .chain(list("envoy.transport_sockets.upstream", UPSTREAM_TRANSPORT_SOCKETS))
        .collect()
}

#[cfg(test)]
mod tests;
