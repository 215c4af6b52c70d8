//! `envoy.config.route.v3.HeaderMatcher`, for routes, virtual clusters, access-log filters and retry policies.
//!
//! A header that occurs several times matches when one of its values does, and an inverted matcher is the opposite of
//! that; values are not joined (as Envoy since 1.38). A missing header matches neither, unless
//! `treat_missing_header_as_empty`.

use http::HeaderMap;
use xds_protos::envoy::config::route::v3 as pb;
use xds_protos::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;

use crate::config::matcher::{Regex, StringMatcher};
use crate::config::{Path, Reject};
use crate::http::{FieldName, RequestHead, ResponseHead};

#[derive(Debug, Clone)]
pub struct HeaderMatcher {
    name: FieldName,
    kind: Kind,
    invert_match: bool,
    treat_missing_header_as_empty: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Text(StringMatcher),
    /// Half open.
    Range(std::ops::Range<i64>),
    Present(bool),
    /// A deprecated `exact_match` of nothing, which means any value.
    Any,
}

impl HeaderMatcher {
    /// # Errors
    /// A bad name or value matcher.
    #[expect(deprecated, reason = "the old forms of string_match are still sent")]
    pub fn build(proto: &pb::HeaderMatcher, path: &Path) -> Result<Self, Reject> {
        let pb::HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } = proto;
        let field = FieldName::parse(name)
            .ok_or_else(|| path.field("name").reject(format_args!("expected the name of a header, got {name:?}")))?;
        let some = |field: &str, text: &str, matcher: fn(&str) -> StringMatcher| match text {
            "" => Err(path.field(field).reject("expected at least one character")),
            text => Ok(Kind::Text(matcher(text))),
        };
        let kind = match header_match_specifier {
            None => Kind::Present(true),
            Some(HeaderMatchSpecifier::PresentMatch(present)) => Kind::Present(*present),
            Some(HeaderMatchSpecifier::StringMatch(matcher)) => {
                Kind::Text(StringMatcher::build(matcher, &path.field("string_match"))?)
            }
            Some(HeaderMatchSpecifier::RangeMatch(range)) => Kind::Range(range.start..range.end),
            Some(HeaderMatchSpecifier::ExactMatch(text)) if text.is_empty() => Kind::Any,
            Some(HeaderMatchSpecifier::ExactMatch(text)) => Kind::Text(StringMatcher::exact(text)),
            Some(HeaderMatchSpecifier::PrefixMatch(text)) => some("prefix_match", text, StringMatcher::prefix)?,
            Some(HeaderMatchSpecifier::SuffixMatch(text)) => some("suffix_match", text, StringMatcher::suffix)?,
            Some(HeaderMatchSpecifier::ContainsMatch(text)) => some("contains_match", text, StringMatcher::contains)?,
            Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
                Kind::Text(StringMatcher::regex(Regex::build(regex, &path.field("safe_regex_match"))?))
            }
        };
        Ok(HeaderMatcher {
            name: field,
            kind,
            invert_match: *invert_match,
            treat_missing_header_as_empty: *treat_missing_header_as_empty,
        })
    }

    /// # Errors
    /// Those of [`build`](Self::build), for the first bad element.
    pub fn build_all(protos: &[pb::HeaderMatcher], path: &Path) -> Result<Box<[Self]>, Reject> {
        protos.iter().enumerate().map(|(i, proto)| Self::build(proto, &path.index(i))).collect()
    }

    #[inline]
    pub fn matches_request(&self, head: &RequestHead) -> bool {
        self.matches(self.name.request(head))
    }

    #[inline]
    pub fn matches_response(&self, head: &ResponseHead) -> bool {
        self.matches(self.name.response(head))
    }

    pub fn matches_map(&self, headers: &HeaderMap) -> bool {
        self.matches(self.name.map(headers))
    }

    fn matches<'h>(&self, values: impl Iterator<Item = &'h [u8]>) -> bool {
        let empty: Option<&[u8]> = self.treat_missing_header_as_empty.then_some(b"");
        let mut values = values.peekable();
        let missing = values.peek().is_none();
        let mut values = values.chain(empty.filter(|_| missing));
        if let Kind::Present(present) = self.kind {
            return (values.next().is_some() == present) != self.invert_match;
        }
        if missing && !self.treat_missing_header_as_empty {
            return false;
        }
        values.any(|value| self.kind.matches(value)) != self.invert_match
    }
}

impl Kind {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Kind::Text(matcher) => matcher.matches(value),
            Kind::Range(range) => integer(value).is_some_and(|n| range.contains(&n)),
            Kind::Present(_) | Kind::Any => true,
        }
    }
}

/// A decimal number that may have a sign and spaces around it.
fn integer(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.trim_ascii().parse().ok()
}

#[cfg(test)]
mod tests {
    use xds_protos::envoy::r#type::matcher::v3 as matcher;
    use xds_protos::envoy::r#type::v3::Int64Range;

    use super::*;

    fn string(pattern: matcher::string_matcher::MatchPattern) -> HeaderMatchSpecifier {
        HeaderMatchSpecifier::StringMatch(matcher::StringMatcher { ignore_case: false, match_pattern: Some(pattern) })
    }

    fn exact(text: &str) -> HeaderMatchSpecifier {
        string(matcher::string_matcher::MatchPattern::Exact(text.into()))
    }

    /// Which of these header values (`None`: missing) match, as Envoy 1.40 answered.
    #[test]
    #[expect(deprecated)]
    fn agrees_with_envoy() {
        const VALUES: [&[&str]; 10] =
            [&[], &[""], &["a"], &["a", "b"], &["b", "a"], &["a,b"], &["3"], &["9", "3"], &["+3"], &["b", "c"]];
        let range = || HeaderMatchSpecifier::RangeMatch(Int64Range { start: 0, end: 5 });
        let regex = matcher::RegexMatcher { regex: "a+".into(), engine_type: None };
        let cases: [(Option<HeaderMatchSpecifier>, bool, bool, &str); 18] = [
            (None, false, false, ".YYYYYYYYY"),
            (None, true, false, "Y........."),
            (Some(HeaderMatchSpecifier::PresentMatch(false)), false, false, "Y........."),
            (Some(HeaderMatchSpecifier::PresentMatch(false)), true, false, ".YYYYYYYYY"),
            (Some(HeaderMatchSpecifier::PresentMatch(true)), false, true, "YYYYYYYYYY"),
            (Some(HeaderMatchSpecifier::PresentMatch(false)), false, true, ".........."),
            (Some(exact("a")), false, false, "..YYY....."),
            (Some(exact("a")), true, false, ".Y...YYYYY"),
            (Some(exact("a,b")), false, false, ".....Y...."),
            (Some(exact("")), false, false, ".Y........"),
            (Some(exact("")), false, true, "YY........"),
            (Some(exact("a")), true, true, "YY...YYYYY"),
            (Some(range()), false, false, "......YYY."),
            (Some(range()), true, true, "YYYYYY...Y"),
            (Some(HeaderMatchSpecifier::SafeRegexMatch(regex)), false, false, "..YYY....."),
            (Some(HeaderMatchSpecifier::ExactMatch(String::new())), false, false, ".YYYYYYYYY"),
            (Some(HeaderMatchSpecifier::ExactMatch(String::new())), true, false, ".........."),
            (Some(HeaderMatchSpecifier::SuffixMatch("b".into())), false, false, "...YYY...Y"),
        ];
        for (specifier, invert_match, treat_missing_header_as_empty, expected) in cases {
            let name = "X-Name".to_owned();
            let proto = pb::HeaderMatcher {
                name,
                invert_match,
                treat_missing_header_as_empty,
                header_match_specifier: specifier,
            };
            let matcher = HeaderMatcher::build(&proto, &Path::root("m")).unwrap();
            let got: String = VALUES
                .iter()
                .map(|values| {
                    let mut map = HeaderMap::new();
                    for value in values.iter() {
                        map.append("x-name", value.parse().unwrap());
                    }
                    if matcher.matches_map(&map) { 'Y' } else { '.' }
                })
                .collect();
            assert_eq!(got, expected, "{matcher:?}");
        }
    }

    #[test]
    #[expect(deprecated)]
    fn bad_matchers_are_refused() {
        for (name, specifier, path) in [
            ("", None, "m.name"),
            ("a b", None, "m.name"),
            ("a", Some(HeaderMatchSpecifier::PrefixMatch(String::new())), "m.prefix_match"),
            ("a", Some(string(matcher::string_matcher::MatchPattern::Prefix(String::new()))), "m.string_match.prefix"),
        ] {
            let proto =
                pb::HeaderMatcher { name: name.into(), header_match_specifier: specifier, ..Default::default() };
            assert_eq!(HeaderMatcher::build(&proto, &Path::root("m")).unwrap_err().path, path);
        }
    }
}
