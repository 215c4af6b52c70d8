//! THE table of extensions: which Envoy extensions there are, what builds them, and how much of them works.
//!
//! An extension is looked up by the type URL of its `typed_config`, after a `TypedStruct` around it is taken off. The README's
//! status table, `--version` and the admin page are rendered from here. Adding an extension is one folder and one line.

use std::borrow::Cow;
use std::sync::Arc;

use prost::Message;
use prost_types::Any;

use crate::config::{BuildCx, Path, Reject};
use crate::listener::filters::{self, ListenerFilter};
use crate::network::{BuiltFilter, ListenerCx};
use crate::transport_socket::Downstream;

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
pub type BuildDownstreamTransportSocket = fn(&Any, &Path<'_>, &ListenerCx<'_>) -> Result<Downstream, Reject>;
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

pub static NETWORK_FILTERS: &[Extension<BuildNetworkFilter>] = &[];

pub static DOWNSTREAM_TRANSPORT_SOCKETS: &[Extension<BuildDownstreamTransportSocket>] = &[Extension {
    type_url: "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    name: "envoy.transport_sockets.raw_buffer",
    build: |_, _, _| Ok(Downstream::Raw),
    level: Level::Full,
    note: "",
}];

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

/// Type URLs name the same message when what follows the last slash is equal.
fn same_message(a: &str, b: &str) -> bool {
    a.rsplit('/').next() == b.rsplit('/').next()
}

/// Takes `udpa.type.v1.TypedStruct` or `xds.type.v3.TypedStruct` off a configuration.
fn unwrap_typed_struct<'c>(config: &'c Any, path: &Path<'_>) -> Result<Cow<'c, Any>, Reject> {
    let is = |name: &str| config.type_url.rsplit('/').next() == Some(name);
    if !is("udpa.type.v1.TypedStruct") && !is("xds.type.v3.TypedStruct") {
        return Ok(Cow::Borrowed(config));
    }
    let typed = xds_protos::xds::r#type::v3::TypedStruct::decode(&*config.value)
        .map_err(|e| path.reject(format_args!("expected a TypedStruct: {e}")))?;
    Err(path.reject(format_args!("TypedStruct is not supported yet, got one for {}", typed.type_url)))
}
