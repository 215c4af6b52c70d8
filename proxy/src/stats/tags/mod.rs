//! Tags: parts of a stat's name that Prometheus shows as labels (`StatsConfig.stats_tags`, `use_all_default_tags`).
//!
//! An extractor finds its value in a full name and says which part of the name to take out. All extractors look at the full
//! name; what they found is taken out afterwards. Extractors that can only match names of a certain first token are kept by
//! that token and come after all others, which decides the order of labels.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

mod cache;
mod default;
mod ecma;

pub(super) use cache::{BlockTags, Families, FamilyCache};
use ecma::EcmaRegex;

/// What a name gives: the name without its tags, and the tags in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tagged {
    pub name: String,
    pub tags: Vec<(Box<str>, String)>,
}

/// One way to find one tag.
#[derive(Debug)]
pub(super) struct Extractor {
    tag: Box<str>,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Fixed(Box<str>),
    Default(&'static default::Default, OnceLock<Option<regex::bytes::Regex>>),
    Regex(EcmaRegex),
}

/// Where the value of a tag is, and what to remove.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    value: Range<usize>,
    remove: Range<usize>,
}

impl Extractor {
    /// The same value on every stat.
    pub fn fixed(tag: &str, value: &str) -> Self {
        Self { tag: tag.into(), rule: Rule::Fixed(value.into()) }
    }

    /// The first group of the regular expression, an ECMAScript one, is removed from the name; the second, if there is one,
    /// is the value.
    ///
    /// # Errors
    /// What is wrong with the expression.
    pub fn regex(tag: &str, regex: &str) -> Result<Self, String> {
        Ok(Self { tag: tag.into(), rule: Rule::Regex(EcmaRegex::new(regex)?) })
    }

    /// Envoy's own extractors of this tag; empty if it has none.
    pub fn defaults(tag: &str) -> Vec<Self> {
        default::ALL.iter().filter(|d| d.tag == tag).map(Self::default).collect()
    }

    fn default(of: &'static default::Default) -> Self {
        Self { tag: of.tag.into(), rule: Rule::Default(of, OnceLock::new()) }
    }

    /// The first token of all names this can match.
    fn first_token(&self) -> Option<&str> {
        match &self.rule {
            Rule::Fixed(_) => None,
            Rule::Default(of, _) => of.first_token(),
            Rule::Regex(regex) => regex.first_token(),
        }
    }

    /// The value, and the part of `name` to take out.
    fn extract<'a>(&'a self, name: &'a str) -> Option<(&'a str, Range<usize>)> {
        let found = match &self.rule {
            Rule::Fixed(value) => return Some((value, 0..0)),
            Rule::Default(of, compiled) => of.find(name, compiled)?,
            Rule::Regex(regex) => regex.find(name)?,
        };
        Some((name.get(found.value)?, found.remove))
    }
}

/// All extractors of a process.
#[derive(Debug, Default)]
pub(super) struct TagProducer {
    any: Vec<Extractor>,
    by_first_token: HashMap<Box<str>, Vec<Extractor>>,
}

impl TagProducer {
    /// Envoy's default tags, without those that `overridden` names.
    pub fn with_defaults(overridden: impl Fn(&str) -> bool) -> Self {
        let mut all = Self::default();
        default::ALL.iter().filter(|d| !overridden(d.tag)).map(Extractor::default).for_each(|e| all.add(e));
        all
    }

    pub fn add(&mut self, extractor: Extractor) {
        match extractor.first_token() {
            None => self.any.push(extractor),
            Some(token) => self.by_first_token.entry(token.into()).or_default().push(extractor),
        }
    }

    pub fn produce(&self, name: &str) -> Tagged {
        let first_token = name.split('.').next().unwrap_or(name);
        let ours = self.by_first_token.get(first_token);
        let mut tags: Vec<(Box<str>, String)> = Vec::new();
        let mut removed: Vec<Range<usize>> = Vec::new();
        for extractor in self.any.iter().chain(ours.into_iter().flatten()) {
            // The first to find a tag wins.
            if tags.iter().any(|(tag, _)| *tag == extractor.tag) {
                continue;
            }
            if let Some((value, remove)) = extractor.extract(name) {
                tags.push((extractor.tag.clone(), value.to_owned()));
                removed.push(remove);
            }
        }
        Tagged { name: without(name, removed), tags }
    }
}

fn without(name: &str, mut parts: Vec<Range<usize>>) -> String {
    parts.sort_by_key(|part| part.start);
    let (mut out, mut at) = (String::with_capacity(name.len()), 0);
    for part in parts {
        out.push_str(name.get(at..part.start.max(at)).unwrap_or_default());
        at = at.max(part.end);
    }
    out.push_str(name.get(at..).unwrap_or_default());
    out
}

/// A name as Prometheus allows it: letters, digits, underscores and colons, not beginning with a digit.
pub(super) fn prometheus_name(name: &str) -> Cow<'_, str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
    if name.bytes().all(allowed) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return Cow::Borrowed(name);
    }
    let lead = if name.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
    let rest = name.bytes().map(|b| if allowed(b) { char::from(b) } else { '_' });
    Cow::Owned(lead.chars().chain(rest).collect())
}

/// The tags as the inside of a Prometheus label set: `envoy_response_code="200",envoy_cluster_name="a"`.
pub(super) fn labels(tags: &[(Box<str>, String)]) -> String {
    let mut out = String::new();
    for (tag, value) in tags {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&prometheus_name(tag).replace(':', "_"));
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out
}

#[cfg(test)]
mod tests;
