//! `envoy.filters.network.rbac`: the policies of [`http_filters::rbac`](crate::http_filters::rbac) for connections.
//!
//! Envoy decides when the first byte comes, and until then lets the server speak; here a connection is judged as soon as
//! its handshake is done, and one that is denied reaches nobody. Nothing that a rule may ask about changes in between.
//! Deliberately missing: `CONTINUOUS`, which judges every chunk of data, is refused.

use std::sync::Arc;
use std::time::Duration;

use prost_types::Any;
use xds_protos::envoy::extensions::filters::network::rbac::v3 as pb;

use super::{BuiltFilter, Close, ListenerCx, NetworkFilter, NetworkStep};
use crate::config::{Path, Reject, values};
use crate::http_filters::rbac::{RbacCounters, Rules, Subject};
use crate::stream_info::ConnectionInfo;

struct Rbac {
    rules: Option<Rules>,
    shadow_rules: Option<Rules>,
    counters: RbacCounters,
    delay_deny: Option<Duration>,
}

/// # Errors
/// For `CONTINUOUS` and the matcher API, without a `stat_prefix`, and those of [`Rules::build`].
pub fn build(config: &Any, path: &Path<'_>, cx: &ListenerCx<'_>) -> Result<BuiltFilter, Reject> {
    let pb::Rbac {
        rules,
        matcher,
        shadow_rules,
        shadow_matcher,
        shadow_rules_stat_prefix,
        stat_prefix,
        enforcement_type,
        delay_deny,
    } = values::decode(config, path)?;
    for (field, set) in [("matcher", matcher.is_some()), ("shadow_matcher", shadow_matcher.is_some())] {
        if set {
            return Err(path.field(field).reject("the matcher API is not supported; use rules"));
        }
    }
    if stat_prefix.is_empty() {
        return Err(path.field("stat_prefix").reject("expected at least one character"));
    }
    if enforcement_type != pb::rbac::EnforcementType::OneTimeOnFirstByte as i32 {
        return Err(path.field("enforcement_type").reject("only ONE_TIME_ON_FIRST_BYTE is supported"));
    }
    let rules = rules.as_ref().map(|rules| Rules::build(rules, &path.field("rules")));
    let shadow_rules = shadow_rules.as_ref().map(|rules| Rules::build(rules, &path.field("shadow_rules")));
    let delay = values::optional_duration(delay_deny.as_ref(), &path.field("delay_deny"))?;
    Ok(BuiltFilter::Network(Arc::new(Rbac {
        rules: rules.transpose()?,
        shadow_rules: shadow_rules.transpose()?,
        counters: RbacCounters::new(&cx.build.stats, &stat_prefix, "", &shadow_rules_stat_prefix),
        delay_deny: delay.filter(|delay| !delay.is_zero()),
    })))
}

impl NetworkFilter for Rbac {
    fn on_new_connection(&self, connection: &ConnectionInfo) -> NetworkStep {
        let subject = Subject { connection, head: None, info: None, route: None };
        if let Some(rules) = &self.shadow_rules {
            self.counters.shadow(&rules.judge(&subject), false);
        }
        let Some(rules) = &self.rules else { return NetworkStep::Continue };
        let verdict = rules.judge(&subject);
        self.counters.rules(&verdict, false);
        if verdict.allowed {
            return NetworkStep::Continue;
        }
        NetworkStep::Close(Close {
            termination_details: Some(verdict.denied_details().into()),
            local_close_reason: Some("rbac_deny_close".into()),
            delay: self.delay_deny,
            ..Close::default()
        })
    }
}
