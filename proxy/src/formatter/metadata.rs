//! `%METADATA(TYPE:NAMESPACE:KEY…)%` and its older names, and filter state.
//!
//! There are metadata of routes, virtual hosts, clusters and hosts, and those that filters set. Nothing sets filter state or
//! metadata of listeners yet, so that these have no value, as in an Envoy without the filters that set them.

use prost_types::Value;
use prost_types::value::Kind;
use xds_protos::envoy::config::core::v3::Metadata;

use super::write::{Written, metadata_value, push_struct};
use crate::access_log::LogContext;
use crate::config::metadata::lookup;

pub(super) struct MetadataOp {
    source: Source,
    namespace: String,
    path: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Cluster,
    Route,
    VirtualHost,
    UpstreamHost,
    Dynamic,
    /// What nothing sets.
    Never,
}

impl MetadataOp {
    /// Whether an operator of this name must have an argument and may have a length.
    pub fn takes(name: &str) -> Option<(bool, bool)> {
        match name {
            "DYNAMIC_METADATA" => Some((true, true)),
            "CLUSTER_METADATA" | "UPSTREAM_METADATA" => Some((true, false)),
            "METADATA" | "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => Some((false, true)),
            _ => None,
        }
    }

    /// # Errors
    /// In Envoy's words.
    pub fn parse(name: &str, argument: &str) -> Result<Self, String> {
        let (source, argument) = match name {
            "DYNAMIC_METADATA" => (Source::Dynamic, argument),
            "CLUSTER_METADATA" => (Source::Cluster, argument),
            "UPSTREAM_METADATA" => (Source::UpstreamHost, argument),
            "FILTER_STATE" | "UPSTREAM_FILTER_STATE" => {
                check_filter_state(argument)?;
                (Source::Never, argument)
            }
            _ => {
                let (kind, rest) = argument.split_once(':').unwrap_or((argument, ""));
                let source = match kind {
                    "CLUSTER" => Source::Cluster,
                    "ROUTE" => Source::Route,
                    "VIRTUAL_HOST" => Source::VirtualHost,
                    "UPSTREAM_HOST" => Source::UpstreamHost,
                    "DYNAMIC" => Source::Dynamic,
                    "LISTENER" | "LISTENER_FILTER_CHAIN" => Source::Never,
                    other => return Err(format!("{other} is not supported type of metadata")),
                };
                (source, rest)
            }
        };
        let mut parts = argument.split(':').map(str::to_owned);
        Ok(MetadataOp { source, namespace: parts.next().unwrap_or_default(), path: parts.collect() })
    }

    pub fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> Written {
        match self.source {
            Source::Never => Written::Missing,
            Source::Dynamic => self.of(cx.info.dynamic_metadata.as_deref(), out),
            Source::Cluster => {
                self.of(cx.info.cluster.as_ref().and_then(|c| c.metadata.as_ref()).map(|m| m.get()), out)
            }
            Source::Route => {
                self.of(cx.info.route.as_ref().and_then(|r| r.entry().metadata.as_ref()).map(|m| m.get()), out)
            }
            Source::VirtualHost => {
                self.of(cx.info.route.as_ref().and_then(|r| r.virtual_host().metadata.as_ref()).map(|m| m.get()), out)
            }
            Source::UpstreamHost => {
                self.of(cx.info.upstream.host.as_ref().and_then(|h| h.metadata.as_ref()).map(|m| m.get()), out)
            }
        }
    }

    fn of(&self, metadata: Option<&Metadata>, out: &mut Vec<u8>) -> Written {
        let Some(metadata) = metadata else { return Written::Missing };
        if self.path.is_empty() {
            let Some(all) = metadata.filter_metadata.get(&self.namespace) else { return Written::Missing };
            push_struct(out, all);
            return Written::Json;
        }
        match lookup(metadata, &self.namespace, &self.path) {
            Some(Value { kind: Some(Kind::NullValue(_)) }) | None => Written::Missing,
            Some(value) => metadata_value(out, value),
        }
    }
}

fn check_filter_state(argument: &str) -> Result<(), String> {
    let mut parts = argument.split(':');
    let (key, kind, field) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if key.is_none_or(str::is_empty) {
        return Err("Invalid filter state configuration, key cannot be empty.".into());
    }
    match (kind, field) {
        ("" | "PLAIN" | "TYPED", "") => Ok(()),
        ("FIELD", field) if !field.is_empty() => Ok(()),
        ("" | "PLAIN" | "TYPED" | "FIELD", _) => {
            Err("Invalid filter state serialize type, FIELD should be used with the field name.".into())
        }
        _ => Err("Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.".into()),
    }
}
