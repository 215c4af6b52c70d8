//! `envoy.config.metrics.v3.StatsConfig`: which stats exist, which tags they have, which buckets histograms have.
//!
//! `histogram_bucket_settings[].bins` is ignored on purpose: it sizes an allocation of Envoy's, ours grow as needed.

use xds_protos::envoy::config::metrics::v3 as pb;
use xds_protos::envoy::config::metrics::v3::stats_matcher::StatsMatcher as Matcher;
use xds_protos::envoy::config::metrics::v3::tag_specifier::TagValue;

use super::histogram::DEFAULT_BUCKETS;
use super::tags::{Extractor, TagProducer};
use crate::config::matcher::StringMatcher;
use crate::config::{Path, Reject};

/// How a registry treats its stats.
#[derive(Debug)]
pub struct StatsConfig {
    pub(super) tags: TagProducer,
    pub(super) matcher: StatsMatcher,
    buckets: Vec<(StringMatcher, Box<[f64]>)>,
}

impl Default for StatsConfig {
    /// Every stat, Envoy's default tags and buckets.
    fn default() -> Self {
        Self { tags: TagProducer::with_defaults(|_| false), matcher: StatsMatcher::All, buckets: Vec::new() }
    }
}

impl StatsConfig {
    /// # Errors
    /// A tag without a name, an expression that cannot be used, a matcher that cannot be built, a bucket bound that is not
    /// positive or comes twice.
    pub fn build(proto: &pb::StatsConfig, path: &Path) -> Result<Self, Reject> {
        let pb::StatsConfig {
            stats_tags,
            use_all_default_tags,
            stats_matcher,
            histogram_bucket_settings,
            allow_default_tag_overrides,
        } = proto;
        let may_override = allow_default_tag_overrides.unwrap_or(false);
        let mut tags = match use_all_default_tags {
            Some(false) => TagProducer::default(),
            _ => TagProducer::with_defaults(|tag| may_override && stats_tags.iter().any(|t| t.tag_name == tag)),
        };
        let at = path.field("stats_tags");
        for (i, tag) in stats_tags.iter().enumerate() {
            build_tag(tag, &at.index(i))?.into_iter().for_each(|extractor| tags.add(extractor));
        }
        let matcher = match stats_matcher {
            Some(matcher) => StatsMatcher::build(matcher, &path.field("stats_matcher"))?,
            None => StatsMatcher::All,
        };
        let at = path.field("histogram_bucket_settings");
        let settings = histogram_bucket_settings.iter().enumerate();
        let buckets = settings.map(|(i, setting)| build_buckets(setting, &at.index(i))).collect::<Result<_, _>>()?;
        Ok(Self { tags, matcher, buckets })
    }

    /// A tag that every stat has, as `--stats-tag name:value` gives.
    pub fn add_tag(&mut self, name: &str, value: &str) {
        self.tags.add(Extractor::fixed(name, value));
    }

    /// The upper bounds of the buckets of a histogram.
    pub(super) fn buckets(&self, name: &str) -> &[f64] {
        let setting = self.buckets.iter().find(|(matcher, _)| matcher.matches(name.as_bytes()));
        setting.map_or(&DEFAULT_BUCKETS, |(_, buckets)| buckets)
    }
}

fn build_tag(proto: &pb::TagSpecifier, path: &Path) -> Result<Vec<Extractor>, Reject> {
    let pb::TagSpecifier { tag_name, tag_value } = proto;
    match tag_value {
        Some(TagValue::FixedValue(value)) => Ok(vec![Extractor::fixed(tag_name, value)]),
        Some(TagValue::Regex(regex)) if !regex.is_empty() => {
            Extractor::regex(tag_name, regex).map(|e| vec![e]).map_err(|why| path.field("regex").reject(why))
        }
        Some(TagValue::Regex(_)) | None => match Extractor::defaults(tag_name) {
            defaults if defaults.is_empty() => {
                let why = "expected a regex or fixed_value, or the name of a default tag, got";
                Err(path.field("tag_name").reject(format_args!("{why} {tag_name:?}")))
            }
            defaults => Ok(defaults),
        },
    }
}

fn build_buckets(proto: &pb::HistogramBucketSettings, path: &Path) -> Result<(StringMatcher, Box<[f64]>), Reject> {
    let pb::HistogramBucketSettings { r#match, buckets, bins: _ } = proto;
    let at = path.field("match");
    let matcher = r#match.as_ref().ok_or_else(|| at.reject("expected a matcher of names"))?;
    let matcher = StringMatcher::build(matcher, &at)?;
    let mut bounds = buckets.clone();
    bounds.sort_by(f64::total_cmp);
    let at = path.field("buckets");
    if let Some(bad) = bounds.iter().find(|bound| bound.is_nan() || **bound <= 0.0) {
        return Err(at.reject(format_args!("expected bounds greater than 0, got {bad}")));
    }
    if let Some([twice, _]) = bounds.array_windows().find(|[a, b]| a == b) {
        return Err(at.reject(format_args!("expected distinct bounds, got {twice} twice")));
    }
    Ok((matcher, if bounds.is_empty() { DEFAULT_BUCKETS.into() } else { bounds.into() }))
}

/// `envoy.config.metrics.v3.StatsMatcher`.
#[derive(Debug)]
pub(super) enum StatsMatcher {
    All,
    None,
    Except(Vec<StringMatcher>),
    Only(Vec<StringMatcher>),
}

impl StatsMatcher {
    fn build(proto: &pb::StatsMatcher, path: &Path) -> Result<Self, Reject> {
        let pb::StatsMatcher { stats_matcher } = proto;
        match stats_matcher {
            Some(Matcher::RejectAll(true)) => Ok(Self::None),
            Some(Matcher::RejectAll(false)) => Ok(Self::All),
            Some(Matcher::ExclusionList(list)) => {
                let at = path.field("exclusion_list");
                Ok(Self::Except(StringMatcher::build_all(&list.patterns, &at.field("patterns"))?))
            }
            Some(Matcher::InclusionList(list)) => {
                let at = path.field("inclusion_list");
                Ok(Self::Only(StringMatcher::build_all(&list.patterns, &at.field("patterns"))?))
            }
            None => Err(path.reject("expected one of reject_all, exclusion_list, inclusion_list")),
        }
    }

    pub fn excludes(&self, name: &str) -> bool {
        let any = |list: &[StringMatcher]| list.iter().any(|matcher| matcher.matches(name.as_bytes()));
        match self {
            Self::All => false,
            Self::None => true,
            Self::Except(list) => any(list),
            Self::Only(list) => !any(list),
        }
    }
}
