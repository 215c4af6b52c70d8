//! `envoy.type.matcher.v3`: matchers of text, used by routes, header matches, RBAC, certificates and CORS alike.
//!
//! Values are bytes: header values and paths need not be UTF-8. Regular expressions are RE2's, see [`regex`].
//! Deliberately missing: `custom` (an extension), which is refused.

use xds_protos::envoy::r#type::matcher::v3 as pb;
use xds_protos::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

pub use self::regex::{Regex, RegexSubstitution};
pub use self::value::{MetadataMatcher, ValueMatcher};
use super::{Path, Reject};

mod re2;
pub mod regex;
#[cfg(test)]
mod tests;
mod value;

/// `envoy.type.matcher.v3.StringMatcher`.
#[derive(Debug, Clone)]
pub struct StringMatcher {
    kind: Kind,
    /// ASCII only, as in Envoy; without effect on `safe_regex`.
    ignore_case: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    Regex(Regex),
}

impl StringMatcher {
    /// # Errors
    /// An absent pattern, an empty `prefix`, `suffix` or `contains`, a regex we cannot take, `custom`.
    pub fn build(proto: &pb::StringMatcher, path: &Path) -> Result<Self, Reject> {
        let pb::StringMatcher { ignore_case, match_pattern } = proto;
        let non_empty = |field: &str, text: &str| match text {
            "" => Err(path.field(field).reject("expected at least one character")),
            text => Ok(text.as_bytes().into()),
        };
        let kind = match match_pattern {
            Some(MatchPattern::Exact(text)) => Kind::Exact(text.as_bytes().into()),
            Some(MatchPattern::Prefix(text)) => Kind::Prefix(non_empty("prefix", text)?),
            Some(MatchPattern::Suffix(text)) => Kind::Suffix(non_empty("suffix", text)?),
            Some(MatchPattern::Contains(text)) => Kind::Contains(non_empty("contains", text)?),
            Some(MatchPattern::SafeRegex(regex)) => Kind::Regex(Regex::build(regex, &path.field("safe_regex"))?),
            Some(MatchPattern::Custom(extension)) => {
                let name = &extension.name;
                return Err(path
                    .field("custom")
                    .reject(format_args!("string matcher extension {name:?} is not known")));
            }
            None => return Err(path.reject("expected one of exact, prefix, suffix, contains, safe_regex")),
        };
        Ok(StringMatcher { kind, ignore_case: *ignore_case })
    }

    /// `envoy.type.matcher.v3.ListStringMatcher`, or any repeated field of matchers.
    ///
    /// # Errors
    /// Those of [`StringMatcher::build`], for the first bad element.
    pub fn build_all(protos: &[pb::StringMatcher], path: &Path) -> Result<Vec<Self>, Reject> {
        protos.iter().enumerate().map(|(i, proto)| Self::build(proto, &path.index(i))).collect()
    }

    /// A matcher of exactly this text, for fields that came before `StringMatcher`.
    pub fn exact(text: &str) -> Self {
        StringMatcher { kind: Kind::Exact(text.as_bytes().into()), ignore_case: false }
    }

    pub fn prefix(text: &str) -> Self {
        StringMatcher { kind: Kind::Prefix(text.as_bytes().into()), ignore_case: false }
    }

    pub fn suffix(text: &str) -> Self {
        StringMatcher { kind: Kind::Suffix(text.as_bytes().into()), ignore_case: false }
    }

    pub fn contains(text: &str) -> Self {
        StringMatcher { kind: Kind::Contains(text.as_bytes().into()), ignore_case: false }
    }

    pub fn regex(regex: Regex) -> Self {
        StringMatcher { kind: Kind::Regex(regex), ignore_case: false }
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        let eq = |part: Option<&[u8]>, text: &[u8]| {
            part.is_some_and(|part| if self.ignore_case { part.eq_ignore_ascii_case(text) } else { part == text })
        };
        match &self.kind {
            Kind::Exact(text) => eq(Some(value), text),
            Kind::Prefix(text) => eq(value.get(..text.len()), text),
            Kind::Suffix(text) => eq(value.len().checked_sub(text.len()).and_then(|at| value.get(at..)), text),
            Kind::Contains(text) if self.ignore_case => {
                value.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text))
            }
            Kind::Contains(text) => memchr::memmem::find(value, text).is_some(),
            Kind::Regex(regex) => regex.matches(value),
        }
    }

    /// The text of an `exact` matcher that minds case; lets callers use a table instead of asking each matcher.
    pub fn as_exact(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Exact(text) if !self.ignore_case => Some(text),
            _ => None,
        }
    }
}
