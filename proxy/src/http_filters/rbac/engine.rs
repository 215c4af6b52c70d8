//! `envoy.config.rbac.v3.RBAC`: policies, and what comes of the first that matches.

use std::sync::Arc;

use xds_protos::envoy::config::rbac::v3 as pb;

use super::rule::{self, Rule, Subject};
use super::stats::{RbacShadowStats, RbacStats};
use crate::config::{Path, Reject};
use crate::stats::{StatBlock, Stats};

/// Rules as built: an action and policies in the order of their names.
pub struct Rules {
    action: Action,
    policies: Box<[Policy]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// What matches no policy is denied.
    Allow,
    Deny,
    /// Everything is allowed; whether it matched is noted for the access log.
    Log,
}

struct Policy {
    name: Arc<str>,
    permissions: Vec<Rule>,
    principals: Vec<Rule>,
}

/// The outcome for one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'r> {
    pub allowed: bool,
    /// The first policy that matched.
    pub policy: Option<&'r Arc<str>>,
    /// What `LOG` rules say: whether to log.
    pub log_hint: Option<bool>,
}

impl Rules {
    /// # Errors
    /// For an unknown action, conditions, audit loggers, and whatever is wrong with a permission or principal.
    pub fn build(proto: &pb::Rbac, path: &Path<'_>) -> Result<Self, Reject> {
        let pb::Rbac { action, policies, audit_logging_options } = proto;
        let action = match pb::rbac::Action::try_from(*action) {
            Ok(pb::rbac::Action::Allow) => Action::Allow,
            Ok(pb::rbac::Action::Deny) => Action::Deny,
            Ok(pb::rbac::Action::Log) => Action::Log,
            Err(_) => {
                return Err(path.field("action").reject(format_args!("expected ALLOW, DENY or LOG, got {action}")));
            }
        };
        if audit_logging_options.as_ref().is_some_and(|o| o.logger_configs.iter().any(|logger| !logger.is_optional)) {
            return Err(path.field("audit_logging_options").reject("audit loggers are not supported"));
        }
        let path = path.field("policies");
        let policies = policies.iter().map(|(name, policy)| Policy::build(name, policy, &path.key(name)));
        Ok(Rules { action, policies: policies.collect::<Result<_, _>>()? })
    }

    pub fn judge(&self, subject: &Subject<'_>) -> Verdict<'_> {
        let policy = self.policies.iter().find(|policy| policy.matches(subject)).map(|policy| &policy.name);
        let matched = policy.is_some();
        let (allowed, log_hint) = match self.action {
            Action::Allow => (matched, None),
            Action::Deny => (!matched, None),
            Action::Log => (true, Some(matched)),
        };
        Verdict { allowed, policy, log_hint }
    }
}

impl Verdict<'_> {
    /// Envoy's detail string of a refusal. White space would break the columns of a log.
    pub fn denied_details(&self) -> String {
        let policy = self.policy.map_or("none", |name| name);
        format!("rbac_access_denied_matched_policy[{}]", policy.replace([' ', '\t', '\n', '\r', '\x0b', '\x0c'], "_"))
    }
}

impl Policy {
    fn build(name: &str, proto: &pb::Policy, path: &Path<'_>) -> Result<Self, Reject> {
        let pb::Policy { permissions, principals, condition, checked_condition, cel_config } = proto;
        let refused = [
            ("condition", condition.is_some()),
            ("checked_condition", checked_condition.is_some()),
            ("cel_config", cel_config.is_some()),
        ];
        if let Some((field, _)) = refused.iter().find(|(_, set)| *set) {
            return Err(path.field(field).reject("CEL conditions are not supported"));
        }
        Ok(Policy {
            name: name.into(),
            permissions: rule::list(permissions, &path.field("permissions"), Rule::permission)?,
            principals: rule::list(principals, &path.field("principals"), Rule::principal)?,
        })
    }

    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.permissions.iter().any(|rule| rule.matches(subject))
            && self.principals.iter().any(|rule| rule.matches(subject))
    }
}

/// The counters of one filter.
pub struct RbacCounters {
    rules: StatBlock<RbacStats>,
    shadow: StatBlock<RbacShadowStats>,
}

impl RbacCounters {
    /// `scope` is the filter's: the connection manager's, or what the network filter's configuration says.
    pub fn new(stats: &Stats, scope: &str, rules_prefix: &str, shadow_prefix: &str) -> Self {
        let scope = if scope.is_empty() || scope.ends_with('.') { scope.to_owned() } else { format!("{scope}.") };
        RbacCounters {
            rules: stats.block_verbatim(&format!("{scope}rbac.{rules_prefix}")),
            shadow: stats.block_verbatim(&format!("{scope}rbac.{shadow_prefix}")),
        }
    }

    /// Counts what rules said; `per_policy` counts the policy too, which takes a lock.
    pub fn rules(&self, verdict: &Verdict<'_>, per_policy: bool) {
        self.rules.inc(if verdict.allowed { RbacStats::ALLOWED } else { RbacStats::DENIED });
        if let Some(name) = verdict.policy.filter(|_| per_policy) {
            let outcome = if verdict.allowed { "allowed" } else { "denied" };
            self.rules.inc_named(&format!("policy.{name}.{outcome}"));
        }
    }

    /// Counts what shadow rules said.
    pub fn shadow(&self, verdict: &Verdict<'_>, per_policy: bool) {
        let (allowed, denied) = (RbacShadowStats::SHADOW_ALLOWED, RbacShadowStats::SHADOW_DENIED);
        self.shadow.inc(if verdict.allowed { allowed } else { denied });
        if let Some(name) = verdict.policy.filter(|_| per_policy) {
            let outcome = if verdict.allowed { "shadow_allowed" } else { "shadow_denied" };
            self.shadow.inc_named(&format!("policy.{name}.{outcome}"));
        }
    }
}
