//! What a route configuration may say in Envoy and is refused here for now: one table, so that what becomes possible is
//! taken out in one place. None of it is ignored: a route that mirrors, or limits rates, must not quietly stop doing so.

use crate::config::{Path, Reject};

/// Field names and what they ask for. A field of this name is refused wherever a builder meets it.
pub const UNSUPPORTED: &[(&str, &str)] = &[
    ("cluster_specifier_plugin", "choosing a cluster by an extension"),
    ("cluster_specifier_plugins", "choosing a cluster by an extension"),
    ("cors", "CORS as a route field (use typed_per_filter_config of envoy.filters.http.cors)"),
    ("dynamic_metadata", "matching dynamic metadata"),
    ("early_data_policy", "early data of TLS 1.3"),
    ("filter_action", "filter actions"),
    ("filter_state", "filter state"),
    ("hedge_policy", "request hedging"),
    ("include_is_timeout_retry_header", "x-envoy-is-timeout-retry"),
    ("include_vh_rate_limits", "rate limits"),
    ("inline_cluster_specifier_plugin", "choosing a cluster by an extension"),
    ("internal_redirect_action", "internal redirects"),
    ("internal_redirect_policy", "internal redirects"),
    ("matcher", "route matching by a match tree"),
    ("max_internal_redirects", "internal redirects"),
    ("metadata_match", "subset load balancing"),
    ("proxy_protocol_config", "the PROXY protocol in front of a CONNECT payload"),
    ("rate_limits", "rate limits"),
    ("refresh_cluster_on_retry", "choosing a cluster anew for a retry"),
    ("request_mirror_policies", "request mirroring"),
    ("retry_options_predicates", "retry options predicates"),
    ("retry_policy_typed_config", "retry policies as extensions"),
    ("route_specifiers", "route specifiers"),
    ("tracing", "tracing options of a route"),
    ("use_hash_policy", "choosing a weighted cluster by hash"),
    ("vhds", "virtual hosts on demand"),
];

/// The refusal of a field of this table.
pub(super) fn reject(path: &Path, field: &str) -> Reject {
    let what = UNSUPPORTED.iter().find(|(name, _)| *name == field).map_or("this field", |(_, what)| what);
    path.field(field).reject(format_args!("not supported yet: {what}"))
}

/// Refuses the first of these fields of `path` that is set.
pub(super) fn refuse(path: &Path, fields: &[(&str, bool)]) -> Result<(), Reject> {
    fields.iter().find(|(_, is_set)| *is_set).map_or(Ok(()), |(field, _)| Err(reject(path, field)))
}
