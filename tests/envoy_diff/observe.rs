//! What was observed, as a flat map from field to text, and how two of them differ.

use std::collections::BTreeMap;

use crate::normalize::{Normalizer, show};

/// Fields and what they were, e.g. `0.status` → `200`, `up.0.header.host` → `test.local`.
pub type Observation = BTreeMap<String, String>;

/// By case; `log FILE` and `stats` stand for what is looked at after the last case.
pub type Observations = BTreeMap<String, Observation>;

/// Notes headers by their lower-case names; values of one name are joined in order.
pub fn headers(into: &mut Observation, prefix: &str, headers: &[(String, String)], normalizer: &Normalizer) {
    for (name, value) in headers {
        let key = format!("{prefix}.{}", name.to_ascii_lowercase());
        let value = normalizer.header(name, &show(&latin1(value)));
        into.entry(key).and_modify(|old| *old = format!("{old} | {value}")).or_insert(value);
    }
}

/// The bytes of text that was read byte for byte.
pub fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

/// A field in which two proxies differ.
#[derive(Debug, Clone)]
pub struct Differing {
    pub case: String,
    pub field: String,
    pub envoy: Option<String>,
    pub ours: Option<String>,
}

impl std::fmt::Display for Differing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let brief = |value: &Option<String>| match value {
            None => "(absent)".to_owned(),
            Some(value) if value.chars().count() > 300 => {
                format!("{:?}…", value.chars().take(300).collect::<String>())
            }
            Some(value) => format!("{value:?}"),
        };
        write!(
            f,
            "{} {}:\n      envoy {}\n      ours  {}",
            self.case,
            self.field,
            brief(&self.envoy),
            brief(&self.ours)
        )
    }
}

/// Every field in which they differ, most telling ones first.
pub fn differing(case: &str, envoy: &Observation, ours: &Observation) -> Vec<Differing> {
    let mut fields: Vec<&String> = envoy.keys().chain(ours.keys()).collect();
    fields.sort_by_key(|field| (!field.ends_with(".status"), !field.ends_with("end"), field.as_str()));
    fields.dedup();
    fields
        .into_iter()
        .filter(|field| envoy.get(*field) != ours.get(*field))
        .map(|field| Differing {
            case: case.to_owned(),
            field: field.clone(),
            envoy: envoy.get(field).cloned(),
            ours: ours.get(field).cloned(),
        })
        .collect()
}

/// The lines that only one of two ordered lists has; keys are positions.
pub fn lines(name: &str, envoy: &Observation, ours: &Observation) -> Vec<Differing> {
    let (a, b): (Vec<_>, Vec<_>) = (envoy.iter().collect(), ours.iter().collect());
    // The length of the longest common subsequence of what begins at i and j.
    let mut common = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] =
                if a[i].1 == b[j].1 { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut found) = (0, 0, Vec::new());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i].1 == b[j].1 {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        let envoys = j == b.len() || (i < a.len() && common[i + 1][j] >= common[i][j + 1]);
        let (key, line) = if envoys { a[i] } else { b[j] };
        let (line, none) = (Some(line.clone()), None);
        let (envoy, ours) = if envoys { (line, none) } else { (none, line) };
        found.push(Differing { case: name.to_owned(), field: format!("line {key}"), envoy, ours });
        if envoys { i += 1 } else { j += 1 }
    }
    found
}

/// Whether a field is meant by a pattern with `*` at either end.
pub fn is_meant(pattern: &str, field: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) if pattern.len() > 1 => field.contains(&pattern[1..pattern.len() - 1]),
        (_, Some(start)) => field.starts_with(start),
        (Some(end), _) => field.ends_with(end),
        _ => field == pattern,
    }
}
