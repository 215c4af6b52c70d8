//! `envoy.filters.http.rbac`: who may do what, as policies of permissions and principals.
//!
//! [`Rules`] are the engine, which the network filter shares: pure, from a [`Subject`] to a [`Verdict`]. Shadow rules are
//! judged first and change nothing but counters and dynamic metadata, which other filters (`ext_authz`) and logs read.
//! An override of a route (`RBACPerRoute`) replaces both; an empty one lets everything pass, as in Envoy.
//!
//! What is not understood is refused when it is configured, never skipped: the matcher API, CEL conditions, custom
//! permissions and principals, filter state (which nothing sets yet), audit loggers.

use std::sync::Arc;

use http::StatusCode;
use prost_types::Any;
use prost_types::value::Kind;
use xds_protos::envoy::extensions::filters::http::rbac::v3 as pb;

use super::{FilterCx, FilterPlace, HttpFilter, LocalReply, Step, StreamCx};
use crate::config::{BuildCx, Path, Reject, values};
use crate::http::{Body, RequestHead};
use crate::route::FilterConfig;
use crate::stream_info::StreamInfo;

mod engine;
mod rule;
mod stats;
#[cfg(test)]
mod tests;

pub use engine::{RbacCounters, Rules, Verdict};
pub use rule::Subject;

/// The namespace of dynamic metadata, whatever the filter is called.
const NAMESPACE: &str = "envoy.filters.http.rbac";

struct Rbac {
    place: FilterPlace,
    engines: Engines,
    counters: RbacCounters,
}

/// What a filter or a route enforces.
pub struct Engines {
    pub rules: Option<Rules>,
    pub shadow_rules: Option<Rules>,
    /// Before the keys of dynamic metadata.
    pub rules_prefix: Box<str>,
    pub shadow_prefix: Box<str>,
    track_per_rule_stats: bool,
}

/// # Errors
/// See [`Rules::build`].
pub fn build(config: &Any, path: &Path<'_>, cx: &FilterCx<'_>) -> Result<Arc<dyn HttpFilter>, Reject> {
    let proto: pb::Rbac = values::decode(config, path)?;
    let engines = Engines::build(&proto, path)?;
    let counters = RbacCounters::new(&cx.build.stats, cx.scope, &engines.rules_prefix, &engines.shadow_prefix);
    Ok(Arc::new(Rbac { place: cx.place.clone(), engines, counters }))
}

/// `RBACPerRoute`.
///
/// # Errors
/// See [`Rules::build`].
pub fn build_route(config: &Any, path: &Path<'_>, _: &BuildCx) -> Result<FilterConfig, Reject> {
    let pb::RbacPerRoute { rbac } = values::decode(config, path)?;
    Ok(Arc::new(Engines::build(&rbac.unwrap_or_default(), &path.field("rbac"))?))
}

impl Engines {
    fn build(proto: &pb::Rbac, path: &Path<'_>) -> Result<Self, Reject> {
        let pb::Rbac {
            rules,
            rules_stat_prefix,
            matcher,
            shadow_rules,
            shadow_matcher,
            shadow_rules_stat_prefix,
            track_per_rule_stats,
        } = proto;
        for (field, set) in [("matcher", matcher.is_some()), ("shadow_matcher", shadow_matcher.is_some())] {
            if set {
                return Err(path.field(field).reject("the matcher API is not supported; use rules"));
            }
        }
        let rules = rules.as_ref().map(|rules| Rules::build(rules, &path.field("rules")));
        let shadow_rules = shadow_rules.as_ref().map(|rules| Rules::build(rules, &path.field("shadow_rules")));
        Ok(Engines {
            rules: rules.transpose()?,
            shadow_rules: shadow_rules.transpose()?,
            rules_prefix: rules_stat_prefix.as_str().into(),
            shadow_prefix: shadow_rules_stat_prefix.as_str().into(),
            track_per_rule_stats: *track_per_rule_stats,
        })
    }
}

impl HttpFilter for Rbac {
    fn request(&self, head: &mut RequestHead, _: &mut Body, cx: &mut StreamCx) -> Step {
        let StreamCx { info, route, .. } = cx;
        let route = route.as_ref();
        let engines = self.place.route_config::<Engines>(route).unwrap_or(&self.engines);
        let connection = info.connection.clone();
        let per_policy = engines.track_per_rule_stats;
        if let Some(rules) = &engines.shadow_rules {
            let verdict = rules.judge(&Subject { connection: &connection, head: Some(head), info: Some(info), route });
            self.counters.shadow(&verdict, per_policy);
            tell(info, &engines.shadow_prefix, "shadow", &verdict);
        }
        let Some(rules) = &engines.rules else { return Step::Continue };
        let verdict = rules.judge(&Subject { connection: &connection, head: Some(head), info: Some(info), route });
        self.counters.rules(&verdict, per_policy);
        tell(info, &engines.rules_prefix, "enforced", &verdict);
        if let Some(hint) = verdict.log_hint {
            info.set_dynamic_metadata("envoy.common", [("access_log_hint".to_owned(), Kind::BoolValue(hint))]);
        }
        if verdict.allowed {
            return Step::Continue;
        }
        let details = verdict.denied_details();
        Step::Reply(Box::new(LocalReply::new(StatusCode::FORBIDDEN, "RBAC: access denied", details)))
    }
}

/// Notes what was found as dynamic metadata.
fn tell(info: &mut StreamInfo, prefix: &str, mode: &str, verdict: &Verdict<'_>) {
    let text = |text: &str| Kind::StringValue(text.to_owned());
    let result = if verdict.allowed { "allowed" } else { "denied" };
    let result = (format!("{prefix}{mode}_engine_result"), text(result));
    let policy = verdict.policy.map(|name| (format!("{prefix}{mode}_effective_policy_id"), text(name)));
    info.set_dynamic_metadata(NAMESPACE, policy.into_iter().chain([result]));
}
