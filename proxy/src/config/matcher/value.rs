//! `envoy.type.matcher.v3.ValueMatcher` and `MetadataMatcher`: values of metadata.

use prost_types::Value;
use prost_types::value::Kind;
use xds_protos::envoy::config::core::v3::Metadata;
use xds_protos::envoy::r#type::matcher::v3 as pb;
use xds_protos::envoy::r#type::matcher::v3::value_matcher::MatchPattern;

use super::StringMatcher;
use crate::config::metadata::lookup;
use crate::config::{Path, Reject};

/// `envoy.type.matcher.v3.ValueMatcher`.
#[derive(Debug, Clone)]
pub enum ValueMatcher {
    Null,
    /// Half open.
    Range(std::ops::Range<f64>),
    Exact(f64),
    String(StringMatcher),
    Bool(bool),
    /// A value that is there; false never matches, as in Envoy.
    Present(bool),
    OneOf(Box<ValueMatcher>),
    Or(Vec<ValueMatcher>),
}

impl ValueMatcher {
    /// # Errors
    /// An absent pattern, or one that is refused.
    pub fn build(proto: &pb::ValueMatcher, path: &Path<'_>) -> Result<Self, Reject> {
        let pb::ValueMatcher { match_pattern } = proto;
        let names = "null_match, double_match, string_match, bool_match, present_match, list_match, or_match";
        Ok(match match_pattern {
            None => return Err(path.reject(format_args!("expected one of {names}"))),
            Some(MatchPattern::NullMatch(_)) => ValueMatcher::Null,
            Some(MatchPattern::DoubleMatch(double)) => match &double.match_pattern {
                Some(pb::double_matcher::MatchPattern::Range(range)) => ValueMatcher::Range(range.start..range.end),
                Some(pb::double_matcher::MatchPattern::Exact(value)) => ValueMatcher::Exact(*value),
                None => return Err(path.field("double_match").reject("expected range or exact")),
            },
            Some(MatchPattern::StringMatch(matcher)) => {
                ValueMatcher::String(StringMatcher::build(matcher, &path.field("string_match"))?)
            }
            Some(MatchPattern::BoolMatch(value)) => ValueMatcher::Bool(*value),
            Some(MatchPattern::PresentMatch(value)) => ValueMatcher::Present(*value),
            Some(MatchPattern::ListMatch(list)) => {
                let path = path.field("list_match");
                let Some(pb::list_matcher::MatchPattern::OneOf(matcher)) = &list.match_pattern else {
                    return Err(path.reject("expected one_of"));
                };
                ValueMatcher::OneOf(Box::new(Self::build(matcher, &path.field("one_of"))?))
            }
            Some(MatchPattern::OrMatch(or)) => {
                let path = path.field("or_match");
                let path = path.field("value_matchers");
                if or.value_matchers.len() < 2 {
                    return Err(path.reject("expected at least two"));
                }
                let all = or.value_matchers.iter().enumerate();
                ValueMatcher::Or(
                    all.map(|(i, matcher)| Self::build(matcher, &path.index(i))).collect::<Result<_, _>>()?,
                )
            }
        })
    }

    /// `None` stands for a value that is not there.
    pub fn matches(&self, value: Option<&Value>) -> bool {
        let kind = value.and_then(|value| value.kind.as_ref());
        match (self, kind) {
            (ValueMatcher::Or(matchers), _) => matchers.iter().any(|matcher| matcher.matches(value)),
            (ValueMatcher::Present(wanted), kind) => kind.is_some() && *wanted,
            (ValueMatcher::Null, Some(Kind::NullValue(_))) => true,
            (ValueMatcher::Range(range), Some(Kind::NumberValue(number))) => range.contains(number),
            (ValueMatcher::Exact(wanted), Some(Kind::NumberValue(number))) => wanted == number,
            (ValueMatcher::String(matcher), Some(Kind::StringValue(text))) => matcher.matches(text.as_bytes()),
            (ValueMatcher::Bool(wanted), Some(Kind::BoolValue(value))) => wanted == value,
            (ValueMatcher::OneOf(matcher), Some(Kind::ListValue(list))) => {
                list.values.iter().any(|value| matcher.matches(Some(value)))
            }
            _ => false,
        }
    }
}

/// `envoy.type.matcher.v3.MetadataMatcher`.
#[derive(Debug, Clone)]
pub struct MetadataMatcher {
    filter: Box<str>,
    path: Vec<String>,
    value: ValueMatcher,
    invert: bool,
}

impl MetadataMatcher {
    /// # Errors
    /// Without a filter, a path or a value, or when the value's matcher is refused.
    pub fn build(proto: &pb::MetadataMatcher, path: &Path<'_>) -> Result<Self, Reject> {
        let pb::MetadataMatcher { filter, path: segments, value, invert } = proto;
        if filter.is_empty() {
            return Err(path.field("filter").reject("expected at least one character"));
        }
        let at = path.field("path");
        if segments.is_empty() {
            return Err(at.reject("expected at least one segment"));
        }
        let keys = segments.iter().enumerate().map(|(i, segment)| match &segment.segment {
            Some(pb::metadata_matcher::path_segment::Segment::Key(key)) if !key.is_empty() => Ok(key.clone()),
            _ => Err(at.index(i).reject("expected a key")),
        });
        let value_path = path.field("value");
        let value = value.as_ref().ok_or_else(|| value_path.reject("expected a value, got none"))?;
        Ok(MetadataMatcher {
            filter: filter.as_str().into(),
            path: keys.collect::<Result<_, _>>()?,
            value: ValueMatcher::build(value, &value_path)?,
            invert: *invert,
        })
    }

    pub fn matches(&self, metadata: Option<&Metadata>) -> bool {
        let value = metadata.and_then(|metadata| lookup(metadata, &self.filter, &self.path));
        self.value.matches(value) != self.invert
    }
}
