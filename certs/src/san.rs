//! Subject alternative name matchers: `SubjectAltNameMatcher` of Envoy's `CertificateValidationContext`.
//!
//! A matcher looks at names of one kind only, so that no DNS name ever passes for a URI (CVE-2022-21656). Names are compared as
//! the bytes of the certificate with their full length; a name that holds a control character (a NUL, as in
//! CVE-2025-66220) matches nothing. An exact DNS matcher follows Envoy's wildcard rule: the *certificate's* name may carry one `*` in
//! its leftmost label, which stands for one label and never for more (CVE-2020-15104).
//!
//! Stricter than Envoy on purpose: a URI matcher whose text begins with `spiffe://` is a SPIFFE rule, and by X.509-SVID section 2
//! the certificate must then carry exactly one URI name, which must be a SPIFFE ID.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use regex::Regex;

use crate::der::GeneralName;
use crate::info::ip_text;
use crate::spiffe::SpiffeId;

/// Kinds of subject alternative names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SanType {
    /// rfc822Name
    Email,
    /// dNSName
    Dns,
    /// uniformResourceIdentifier
    Uri,
    /// iPAddress, compared in its usual text form.
    IpAddress,
    /// otherName: shown, never matched.
    OtherName,
}

/// How a text is compared (`envoy.type.matcher.v3.StringMatcher`).
#[derive(Debug, Clone)]
pub enum TextMatch {
    /// The whole text; for DNS names with the wildcard rule, and always without regard to case.
    Exact(String),
    /// Its beginning.
    Prefix(String),
    /// Its end.
    Suffix(String),
    /// Anywhere in it.
    Contains(String),
    /// The whole text, as RE2's `FullMatch`. Built by [`TextMatch::regex`]. Case is the expression's own business.
    Regex(Regex),
    /// A matcher of the caller's own, which judges the whole name.
    Own(Own),
}

/// A matcher that comes from elsewhere, with the text that it shows in messages.
#[derive(Clone)]
pub struct Own {
    shown: Arc<str>,
    test: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl Own {
    /// `shown` describes the matcher to operators.
    pub fn new(shown: &str, test: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { shown: shown.into(), test: Arc::new(test) }
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown, f)
    }
}

impl TextMatch {
    /// An expression that has to match the whole name.
    pub fn regex(expression: &str) -> Result<Self, Box<regex::Error>> {
        // Checked by itself first: `)(` must not become valid by the brackets put around it.
        Regex::new(expression).map_err(Box::new)?;
        Ok(Self::Regex(Regex::new(&format!(r"\A(?:{expression})\z")).map_err(Box::new)?))
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) | Self::Contains(text) => Some(text),
            Self::Regex(_) | Self::Own(_) => None,
        }
    }

    fn map_text(self, map: impl Fn(String) -> String) -> Self {
        match self {
            Self::Exact(text) => Self::Exact(map(text)),
            Self::Prefix(text) => Self::Prefix(map(text)),
            Self::Suffix(text) => Self::Suffix(map(text)),
            Self::Contains(text) => Self::Contains(map(text)),
            Self::Regex(_) | Self::Own(_) => self,
        }
    }
}

/// A matcher cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SanMatcherError {
    /// OTHER_NAME needs the value's ASN.1 type and OID compared; nothing in a mesh uses it.
    #[error("matching OTHER_NAME subject alternative names is not supported (EMAIL, DNS, URI and IP_ADDRESS are)")]
    OtherName,
}

/// One matcher for names of one kind.
#[derive(Debug, Clone)]
pub struct SanMatcher {
    kind: SanType,
    text: TextMatch,
    ignore_case: bool,
    spiffe: bool,
}

impl SanMatcher {
    /// `ignore_case` has no effect on regular expressions and the caller's own matchers.
    pub fn new(kind: SanType, text: TextMatch, ignore_case: bool) -> Result<Self, SanMatcherError> {
        if kind == SanType::OtherName {
            return Err(SanMatcherError::OtherName);
        }
        let spiffe = kind == SanType::Uri && text.text().is_some_and(|t| t.starts_with("spiffe://"));
        let text = if ignore_case { text.map_text(|t| t.to_ascii_lowercase()) } else { text };
        Ok(Self { kind, text, ignore_case, spiffe })
    }

    /// A DNS name by Envoy's exact rule: what `auto_sni_san_validation` and `auto_san_validation` ask for.
    pub fn dns(name: &str) -> Self {
        Self { kind: SanType::Dns, text: TextMatch::Exact(name.to_owned()), ignore_case: false, spiffe: false }
    }

    /// Whether it speaks of SPIFFE IDs, and so of certificates that are X.509-SVIDs.
    pub(crate) fn is_spiffe(&self) -> bool {
        self.spiffe
    }

    /// Whether any of a certificate's names satisfies it.
    pub(crate) fn matches_any<'a>(&self, names: impl Iterator<Item = GeneralName<'a>> + Clone) -> bool {
        if self.spiffe && !is_one_spiffe_id(names.clone()) {
            return false;
        }
        names.into_iter().any(|name| self.matches(name))
    }

    fn matches(&self, name: GeneralName<'_>) -> bool {
        let Some(value) = typed_text(name).filter(|(kind, _)| *kind == self.kind).map(|(_, text)| text) else {
            return false;
        };
        if let (SanType::Dns, TextMatch::Exact(wanted)) = (self.kind, &self.text) {
            return dns_name_match(wanted, &value);
        }
        let value = match self.text.text() {
            Some(_) if self.ignore_case => Cow::Owned(value.to_ascii_lowercase()),
            _ => value,
        };
        match &self.text {
            TextMatch::Exact(text) => value == text.as_str(),
            TextMatch::Prefix(text) => value.starts_with(text.as_str()),
            TextMatch::Suffix(text) => value.ends_with(text.as_str()),
            TextMatch::Contains(text) => value.contains(text.as_str()),
            TextMatch::Regex(regex) => regex.is_match(&value),
            TextMatch::Own(own) => (own.test)(&value),
        }
    }
}

impl fmt::Display for SanMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (how, text) = match &self.text {
            TextMatch::Exact(text) => ("exact", text.as_str()),
            TextMatch::Prefix(text) => ("prefix", text.as_str()),
            TextMatch::Suffix(text) => ("suffix", text.as_str()),
            TextMatch::Contains(text) => ("contains", text.as_str()),
            TextMatch::Regex(regex) => ("safe_regex", regex.as_str()),
            TextMatch::Own(own) => ("matcher", &*own.shown),
        };
        write!(f, "{:?} {how} {text:?}", self.kind)
    }
}

/// Envoy's `verifySubjectAltNameListOverride`, which `auto_san_validation` sets to the host of the request: a name of any kind
/// that is the same text, or a DNS name by the wildcard rule.
pub(crate) fn list_matches<'a>(wanted: &[String], names: impl Iterator<Item = GeneralName<'a>>) -> bool {
    names.into_iter().filter_map(typed_text).any(|(kind, value)| {
        wanted.iter().any(|w| if kind == SanType::Dns { dns_name_match(w, &value) } else { value == w.as_str() })
    })
}

/// The text of a name, unless it holds control characters or is no UTF-8.
fn typed_text(name: GeneralName<'_>) -> Option<(SanType, Cow<'_, str>)> {
    let (kind, bytes) = match name {
        GeneralName::Email(bytes) => (SanType::Email, bytes),
        GeneralName::Dns(bytes) => (SanType::Dns, bytes),
        GeneralName::Uri(bytes) => (SanType::Uri, bytes),
        GeneralName::Ip(bytes) => return Some((SanType::IpAddress, Cow::Owned(ip_text(bytes)?))),
        GeneralName::Other(_) | GeneralName::Unknown => return None,
    };
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.bytes().any(|b| b.is_ascii_control())).then_some((kind, Cow::Borrowed(text)))
}

fn is_one_spiffe_id<'a>(names: impl Iterator<Item = GeneralName<'a>>) -> bool {
    let mut uris = names.filter(|name| matches!(name, GeneralName::Uri(_)));
    let (Some(GeneralName::Uri(uri)), None) = (uris.next(), uris.next()) else { return false };
    std::str::from_utf8(uri).is_ok_and(|uri| SpiffeId::parse(uri).is_ok())
}

/// Whether the certificate's DNS name `presented` covers `wanted`. Case does not count. `*` may stand once, in the leftmost label
/// of a name of at least two labels, which must be no A-label; it covers part or all of exactly one label.
pub(crate) fn dns_name_match(wanted: &str, presented: &str) -> bool {
    if wanted.eq_ignore_ascii_case(presented) {
        return true;
    }
    let (Some((wanted_label, wanted_rest)), Some((label, rest))) = (wanted.split_once('.'), presented.split_once('.'))
    else {
        return false;
    };
    if rest.contains('*') || !rest.eq_ignore_ascii_case(wanted_rest) || is_a_label(label) {
        return false;
    }
    let Some((before, after)) = label.split_once('*') else { return false };
    if label == "*" {
        return true;
    }
    let (before, after) = (before.to_ascii_lowercase(), after.to_ascii_lowercase());
    let wanted_label = wanted_label.to_ascii_lowercase();
    !after.contains('*')
        && before.len() + after.len() <= wanted_label.len()
        && wanted_label.starts_with(&before)
        && wanted_label.ends_with(&after)
}

/// RFC 5890 2.3.2.5
fn is_a_label(label: &str) -> bool {
    label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(kind: SanType, text: TextMatch) -> SanMatcher {
        SanMatcher::new(kind, text, false).unwrap()
    }

    fn exact(kind: SanType, text: &str) -> SanMatcher {
        matcher(kind, TextMatch::Exact(text.to_owned()))
    }

    fn hits(matcher: &SanMatcher, names: &[GeneralName<'_>]) -> bool {
        matcher.matches_any(names.iter().copied())
    }

    #[test]
    fn kinds_do_not_stand_in_for_each_other() {
        let names = [GeneralName::Dns(b"a.example"), GeneralName::Email(b"x@y"), GeneralName::Ip(&[127, 0, 0, 1])];
        assert!(hits(&exact(SanType::Dns, "a.example"), &names));
        assert!(!hits(&exact(SanType::Uri, "a.example"), &names));
        assert!(hits(&exact(SanType::Email, "x@y"), &names));
        assert!(hits(&exact(SanType::IpAddress, "127.0.0.1"), &names));
        assert!(!hits(&exact(SanType::Dns, "127.0.0.1"), &names));
        assert!(SanMatcher::new(SanType::OtherName, TextMatch::Exact(String::new()), false).is_err());
    }

    #[test]
    fn every_way_of_comparing() {
        let uri = [GeneralName::Uri(b"https://a.example/Path")];
        let m = |text| hits(&matcher(SanType::Uri, text), &uri);
        assert!(m(TextMatch::Prefix("https://a".into())));
        assert!(!m(TextMatch::Prefix("a.example".into())));
        assert!(m(TextMatch::Suffix("/Path".into())));
        assert!(m(TextMatch::Contains("a.ex".into())));
        assert!(m(TextMatch::regex("https://.*/Path").unwrap()));
        assert!(!m(TextMatch::regex("a.example").unwrap()), "a part is not the whole");
        assert!(!m(TextMatch::regex("x|https").unwrap()), "anchors hold for every branch");
        assert!(TextMatch::regex(")(").is_err());
        assert!(m(TextMatch::Own(Own::new("ends in th", |name| name.ends_with("th")))));
        assert!(!m(TextMatch::Own(Own::new("ends in TH", |name| name.ends_with("TH")))));
        assert!(!m(TextMatch::Suffix("/path".into())));
        let ci = SanMatcher::new(SanType::Uri, TextMatch::Suffix("/PATH".into()), true).unwrap();
        assert!(hits(&ci, &uri));
    }

    #[test]
    fn control_characters_match_nothing() {
        let names =
            [GeneralName::Uri(b"https://good\0.evil"), GeneralName::Dns(b"good.example\0"), GeneralName::Uri(b"\xff")];
        assert!(!hits(&matcher(SanType::Uri, TextMatch::Prefix("https://good".into())), &names));
        assert!(!hits(&matcher(SanType::Uri, TextMatch::Prefix(String::new())), &names));
        assert!(!hits(&exact(SanType::Dns, "good.example"), &names));
        assert!(!list_matches(&["good.example".into()], names.iter().copied()));
    }

    #[test]
    fn a_spiffe_matcher_wants_exactly_one_spiffe_id() {
        const A: GeneralName<'_> = GeneralName::Uri(b"spiffe://td/ns/a");
        let rule = matcher(SanType::Uri, TextMatch::Prefix("spiffe://td/".into()));
        assert!(hits(&rule, &[A, GeneralName::Dns(b"a.example")]));
        assert!(!hits(&rule, &[A, GeneralName::Uri(b"spiffe://td/ns/b")]));
        assert!(!hits(&rule, &[A, GeneralName::Uri(b"https://x")]));
        assert!(!hits(&rule, &[GeneralName::Uri(b"spiffe://td/ns/%61")]));
        assert!(!hits(&rule, &[GeneralName::Dns(b"spiffe://td/ns/a")]));
        assert!(!hits(&rule, &[]));
        let exact_id = exact(SanType::Uri, "spiffe://td/ns/a");
        assert!(hits(&exact_id, &[A]) && !hits(&exact_id, &[GeneralName::Uri(b"spiffe://TD/ns/a")]));
    }

    #[test]
    fn wildcards_cover_one_label() {
        for (wanted, presented, want) in [
            ("a.example", "A.EXAMPLE", true),
            ("x.a.example", "*.a.example", true),
            ("x.y.a.example", "*.a.example", false),
            ("a.example", "*.a.example", false),
            ("api.a.example", "a*.a.example", true),
            ("api.a.example", "*i.a.example", true),
            ("api.a.example", "a*i.a.example", true),
            ("ai.a.example", "a*i.a.example", true),
            ("a.a.example", "a*a.a.example", false),
            ("api.a.example", "a**.a.example", false),
            ("xn--x.example", "xn--*.example", false),
            ("x.a.example", "*.*.example", false),
            ("x.a.example", "x.*.example", false),
            ("example", "*", false),
            ("*.a.example", "x.a.example", false),
            (".a.example", "*.a.example", true),
            ("", "", true),
        ] {
            assert_eq!(dns_name_match(wanted, presented), want, "{wanted:?} by {presented:?}");
        }
    }

    #[test]
    fn the_list_takes_any_kind() {
        let names =
            [GeneralName::Dns(b"*.a.example"), GeneralName::Ip(&[10, 0, 0, 1]), GeneralName::Uri(b"spiffe://a/b")];
        let m = |w: &str| list_matches(&[w.to_owned()], names.iter().copied());
        assert!(m("x.a.example") && m("10.0.0.1") && m("spiffe://a/b") && !m("a.example"));
    }
}
