//! `RegexMatcher` and `RegexMatchAndSubstitute`: RE2's language on Rust's engine. Both run in linear time.
//!
//! A match is of the whole value, as Envoy calls `RE2::FullMatch`; a substitution replaces every place that matches, as
//! `RE2::GlobalReplace`. The pattern is translated by [`super::re2`] before it is compiled. As in RE2, `.` and negated
//! classes take whole UTF-8 characters: bytes that are not UTF-8 match nothing but `\C`.
//!
//! Ignored on purpose: `google_re2.max_program_size` and the runtime keys `re2.max_program_size.*`. They count RE2's
//! instructions, which we have none of; [`SIZE_LIMIT`] bounds the same thing here.

use std::borrow::Cow;

use regex::bytes::{Captures, RegexBuilder};
use xds_protos::envoy::r#type::matcher::v3 as pb;

use super::re2;
use crate::config::{Path, Reject};

/// Bound of a compiled pattern in bytes. Istio allows 32768 RE2 instructions of 16 bytes; the same pattern takes a few
/// times that here.
const SIZE_LIMIT: usize = 4 << 20;
/// Bound in bytes of the automaton that matching builds as it goes, for each pattern and thread.
const CACHE_LIMIT: usize = 512 << 10;

/// A regular expression that must match the whole value, unless made by [`Regex::partial`].
#[derive(Debug, Clone)]
pub struct Regex(regex::bytes::Regex);

impl Regex {
    /// # Errors
    /// An empty pattern, one that RE2 refuses, and one too large.
    pub fn build(proto: &pb::RegexMatcher, path: &Path) -> Result<Self, Reject> {
        let pb::RegexMatcher { regex, engine_type: _ } = proto;
        Self::new(regex).map_err(|why| path.field("regex").reject(why))
    }

    /// # Errors
    /// In words for an operator, with the pattern.
    pub fn new(pattern: &str) -> Result<Self, String> {
        compile(pattern, |inner| format!(r"\A(?:{inner})\z")).map(Regex)
    }

    /// An expression that may match any part of the value (`RE2::PartialMatch`), as in the admin interface's filters.
    ///
    /// # Errors
    /// As of [`Regex::new`].
    pub fn partial(pattern: &str) -> Result<Self, String> {
        compile(pattern, str::to_owned).map(Regex)
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        self.0.is_match(value)
    }
}

fn compile(pattern: &str, wrap: impl FnOnce(&str) -> String) -> Result<regex::bytes::Regex, String> {
    if pattern.is_empty() {
        return Err("expected a regular expression, got an empty string".into());
    }
    let refused = |why: &dyn std::fmt::Display| format!("expected a regular expression of RE2, got {pattern:?}: {why}");
    let translated = re2::translate(pattern).map_err(|why| refused(&why))?;
    RegexBuilder::new(&wrap(&translated))
        .size_limit(SIZE_LIMIT)
        .dfa_size_limit(CACHE_LIMIT)
        .nest_limit(4 * re2::MAX_NESTING + 8)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => refused(&format_args!("larger than {limit} bytes when compiled")),
            // The engine's message draws the translated pattern over several lines; its last line says what is wrong.
            error => refused(&error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ")),
        })
}

/// `envoy.type.matcher.v3.RegexMatchAndSubstitute`.
#[derive(Debug, Clone)]
pub struct RegexSubstitution {
    regex: regex::bytes::Regex,
    rewrite: Vec<Rewrite>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rewrite {
    Text(Vec<u8>),
    Group(usize),
}

impl RegexSubstitution {
    /// # Errors
    /// A pattern that [`Regex::build`] refuses; a substitution with a `\` that is not followed by `\` or the number of a
    /// group of the pattern, or with a line break.
    pub fn build(proto: &pb::RegexMatchAndSubstitute, path: &Path) -> Result<Self, Reject> {
        let pb::RegexMatchAndSubstitute { pattern, substitution } = proto;
        let at = path.field("pattern");
        let pattern = pattern.as_ref().ok_or_else(|| at.reject("expected a regular expression, got nothing"))?;
        let regex = compile(&pattern.regex, str::to_owned).map_err(|why| at.field("regex").reject(why))?;
        let rewrite = parse_rewrite(substitution, regex.captures_len())
            .map_err(|why| path.field("substitution").reject(format_args!("{why}, got {substitution:?}")))?;
        Ok(RegexSubstitution { regex, rewrite })
    }

    /// The value with every match replaced.
    pub fn replace_all<'v>(&self, value: &'v [u8]) -> Cow<'v, [u8]> {
        self.regex.replace_all(value, |captures: &Captures<'_>| {
            let mut out = Vec::new();
            for part in &self.rewrite {
                match part {
                    Rewrite::Text(text) => out.extend_from_slice(text),
                    Rewrite::Group(group) => {
                        out.extend_from_slice(captures.get(*group).map_or(&[][..], |found| found.as_bytes()));
                    }
                }
            }
            out
        })
    }
}

fn parse_rewrite(substitution: &str, groups: usize) -> Result<Vec<Rewrite>, &'static str> {
    let mut parts: Vec<Rewrite> = Vec::new();
    let mut bytes = substitution.bytes();
    let text = |parts: &mut Vec<Rewrite>, byte| match parts.last_mut() {
        Some(Rewrite::Text(text)) => text.push(byte),
        _ => parts.push(Rewrite::Text(vec![byte])),
    };
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => match bytes.next() {
                Some(b'\\') => text(&mut parts, b'\\'),
                Some(digit @ b'0'..=b'9') if usize::from(digit - b'0') < groups => {
                    parts.push(Rewrite::Group(usize::from(digit - b'0')));
                }
                Some(b'0'..=b'9') => return Err("expected the number of a group of the pattern after \\"),
                _ => return Err("expected a digit or \\ after \\"),
            },
            b'\r' | b'\n' | 0 => return Err("expected no line break and no NUL"),
            byte => text(&mut parts, byte),
        }
    }
    Ok(parts)
}
