//! `ListenerFilterChainMatchPredicate`: for which connections a listener filter is not run (`filter_disabled`).

use xds_protos::envoy::config::listener::v3 as proto;
use xds_protos::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;

use crate::config::{Path, Reject};

/// A predicate over the destination port of a connection, as far as earlier filters restored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::listener) enum Predicate {
    Or(Vec<Predicate>),
    And(Vec<Predicate>),
    Not(Box<Predicate>),
    Any,
    /// From the first to before the last.
    DestinationPort {
        start: i32,
        end: i32,
    },
}

impl Predicate {
    pub fn build(proto: &proto::ListenerFilterChainMatchPredicate, path: &Path<'_>) -> Result<Self, Reject> {
        let set = |set: &proto::listener_filter_chain_match_predicate::MatchSet, field: &str| {
            let path = path.field(field);
            let path = path.field("rules");
            // The API asks for two at least, as Envoy does.
            if set.rules.len() < 2 {
                return Err(path.reject(format_args!("expected at least 2 rules, got {}", set.rules.len())));
            }
            set.rules.iter().enumerate().map(|(i, rule)| Self::build(rule, &path.index(i))).collect()
        };
        Ok(match &proto.rule {
            Some(Rule::OrMatch(rules)) => Predicate::Or(set(rules, "or_match")?),
            Some(Rule::AndMatch(rules)) => Predicate::And(set(rules, "and_match")?),
            Some(Rule::NotMatch(rule)) => Predicate::Not(Box::new(Self::build(rule, &path.field("not_match"))?)),
            Some(Rule::AnyMatch(true)) => Predicate::Any,
            Some(Rule::AnyMatch(false)) => return Err(path.field("any_match").reject("expected true, got false")),
            Some(Rule::DestinationPortRange(range)) => {
                Predicate::DestinationPort { start: range.start, end: range.end }
            }
            None => return Err(path.reject("expected a rule, got none")),
        })
    }

    /// `port` is `None` for pipes.
    pub fn matches(&self, port: Option<u16>) -> bool {
        match self {
            Predicate::Or(rules) => rules.iter().any(|rule| rule.matches(port)),
            Predicate::And(rules) => rules.iter().all(|rule| rule.matches(port)),
            Predicate::Not(rule) => !rule.matches(port),
            Predicate::Any => true,
            Predicate::DestinationPort { start, end } => {
                port.is_some_and(|port| (*start..*end).contains(&i32::from(port)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(rule: Rule) -> proto::ListenerFilterChainMatchPredicate {
        proto::ListenerFilterChainMatchPredicate { rule: Some(rule) }
    }

    fn ports(start: i32, end: i32) -> proto::ListenerFilterChainMatchPredicate {
        rule(Rule::DestinationPortRange(xds_protos::envoy::r#type::v3::Int32Range { start, end }))
    }

    fn set(
        rules: Vec<proto::ListenerFilterChainMatchPredicate>,
    ) -> proto::listener_filter_chain_match_predicate::MatchSet {
        proto::listener_filter_chain_match_predicate::MatchSet { rules }
    }

    fn build(proto: &proto::ListenerFilterChainMatchPredicate) -> Result<Predicate, String> {
        Predicate::build(proto, &Path::root("p")).map_err(|e| e.path)
    }

    #[test]
    fn ports_combine() {
        let odd_one_out = rule(Rule::AndMatch(set(vec![
            rule(Rule::OrMatch(set(vec![ports(80, 81), ports(8000, 9000)]))),
            rule(Rule::NotMatch(Box::new(ports(8080, 8081)))),
        ])));
        let predicate = build(&odd_one_out).unwrap();
        let matching: Vec<u16> = [79, 80, 81, 7999, 8000, 8080, 8081, 8999, 9000]
            .into_iter()
            .filter(|&p| predicate.matches(Some(p)))
            .collect();
        assert_eq!(matching, [80, 8000, 8081, 8999]);
        assert!(!predicate.matches(None));
        assert!(build(&rule(Rule::AnyMatch(true))).unwrap().matches(None));
    }

    #[test]
    fn half_rules_are_refused() {
        assert_eq!(build(&rule(Rule::AnyMatch(false))), Err("p.any_match".into()));
        assert_eq!(build(&rule(Rule::OrMatch(set(vec![ports(1, 2)])))), Err("p.or_match.rules".into()));
        let nested = rule(Rule::NotMatch(Box::new(proto::ListenerFilterChainMatchPredicate { rule: None })));
        assert_eq!(build(&nested), Err("p.not_match".into()));
    }
}
