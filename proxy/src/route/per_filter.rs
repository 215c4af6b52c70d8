//! `typed_per_filter_config`: what a route table, virtual host, route or weighted cluster says to one HTTP filter.
//!
//! Entries are built when the route table is, by the filter they are for, so that a request looks up a name in a short
//! list and nothing else.

use std::any::Any;
use std::sync::Arc;

/// The overrides of one level, by the filter's name in the connection manager.
#[derive(Default)]
pub struct PerFilterConfigs(pub(super) Option<Box<[PerFilterConfig]>>);

pub struct PerFilterConfig {
    pub name: Arc<str>,
    /// `FilterConfig.disabled`. An entry that is there and does not disable its filter enables it.
    pub disabled: bool,
    /// What the filter's builder made; the filter knows its type.
    pub config: Option<FilterConfig>,
}

pub type FilterConfig = Arc<dyn Any + Send + Sync>;

impl PerFilterConfigs {
    pub fn get(&self, name: &str) -> Option<&PerFilterConfig> {
        self.0.as_deref()?.iter().find(|entry| *entry.name == *name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &PerFilterConfig> {
        self.0.as_deref().unwrap_or_default().iter()
    }
}
