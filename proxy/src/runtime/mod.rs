//! `layered_runtime`: named values that configuration refers to by `runtime_key`, and fractions drawn from them.
//!
//! Layers are static, read from disk, or set by `/runtime_modify`; a later layer wins. Builders ask with the key and the
//! default: [`Runtime::fractional_percent`] and the like give a [`Live`] value, which follows the layers. A runtime whose
//! layers are all static has nothing to follow, and its values are plain numbers.
//!
//! A value is what Envoy makes of it: text that spells a number or a boolean is one, because Istio writes all its runtime
//! values as strings.
//!
//! Changes come from the control thread: [`Runtime::modify`] and [`Runtime::reread`].
//!
//! Deliberately missing: RTDS, refused by the bootstrap; `envoy.reloadable_features.*`, which name decisions of another
//! program.

mod layer;
mod live;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use xds_protos::envoy::config::core::v3 as core;

use crate::config::percent::FractionalPercent;
use crate::config::{Path, Reject};
use crate::stats::names::RuntimeStats;
use crate::stats::{StatBlock, Stats};

pub use layer::{DiskLayer, Entries, Layer, Source};
pub use live::{Live, Scalar};
pub use value::{Entry, Value, denominator_named, denominator_numbered};

/// The layers and the merged value of each key.
#[derive(Debug, Default)]
pub struct Runtime {
    layers: Vec<Layer>,
    service_cluster: String,
    stats: Option<StatBlock<RuntimeStats>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of the layers that exist: a disk layer whose directory is missing does not.
    loaded: Vec<(String, Entries)>,
    /// What `/runtime_modify` has set.
    admin: Entries,
    merged: BTreeMap<String, Value>,
    watched: Vec<Watched>,
    /// As each disk layer was when it was read.
    marks: Vec<Option<(PathBuf, u64)>>,
}

/// From the value of a key to the bits of a cell.
type Resolve = Box<dyn Fn(Option<&Value>) -> u64 + Send>;

struct Watched {
    key: String,
    cell: Weak<AtomicU64>,
    resolve: Resolve,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

/// Why `/runtime_modify` changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("No admin layer specified")]
pub struct NoAdminLayer;

impl Runtime {
    /// One static layer.
    pub fn new(values: BTreeMap<String, Value>) -> Self {
        let entries = values.into_iter().map(|(key, value)| (key, value.into())).collect();
        Self::load(vec![Layer { name: "static".to_owned(), source: Source::Static(entries) }], "", None)
    }

    /// Reads the layers. What of a disk layer cannot be read is told in the log and left out, as in Envoy.
    pub fn load(layers: Vec<Layer>, service_cluster: &str, stats: Option<&Stats>) -> Self {
        let runtime = Runtime {
            layers,
            service_cluster: service_cluster.to_owned(),
            stats: stats.map(|stats| stats.block("runtime")),
            state: Mutex::default(),
        };
        runtime.read_layers(&mut runtime.state.lock());
        runtime
    }

    /// Something may change while the process runs.
    pub fn is_live(&self) -> bool {
        self.layers.iter().any(|layer| !matches!(layer.source, Source::Static(_)))
    }

    /// Some layers are on disk: [`reread`](Self::reread) is to be called now and then.
    pub fn has_disk_layers(&self) -> bool {
        self.disk_layers().next().is_some()
    }

    fn disk_layers(&self) -> impl Iterator<Item = &DiskLayer> {
        self.layers.iter().filter_map(|layer| match &layer.source {
            Source::Disk(disk) => Some(disk),
            Source::Static(_) | Source::Admin => None,
        })
    }

    /// Reads the layers anew if another tree was put in the place of one on disk.
    pub fn reread(&self) {
        let mut state = self.state.lock();
        if self.disk_layers().map(DiskLayer::mark).ne(state.marks.iter().cloned()) {
            self.read_layers(&mut state);
        }
    }

    /// Sets values in the admin layer; an empty one takes back what was set there before.
    ///
    /// # Errors
    /// [`NoAdminLayer`] when no layer is an `admin_layer`.
    pub fn modify(&self, values: &[(String, String)]) -> Result<(), NoAdminLayer> {
        if !self.layers.iter().any(|layer| layer.source == Source::Admin) {
            return Err(NoAdminLayer);
        }
        if values.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock();
        for (key, value) in values {
            match value.as_str() {
                "" => state.admin.remove(key),
                value => state.admin.insert(key.clone(), Entry::parse(value)),
            };
        }
        self.read_layers(&mut state);
        Ok(())
    }

    fn read_layers(&self, state: &mut State) {
        state.marks = self.disk_layers().map(DiskLayer::mark).collect();
        state.loaded.clear();
        let (mut failed, mut overridden) = (false, false);
        for Layer { name, source } in &self.layers {
            let entries = match source {
                Source::Static(entries) => Some(entries.clone()),
                Source::Admin => Some(state.admin.clone()),
                Source::Disk(disk) => disk.read(&self.service_cluster).unwrap_or_else(|error| {
                    tracing::error!("runtime layer {name}: {error}");
                    failed = true;
                    None
                }),
            };
            overridden |=
                entries.is_some() && matches!(source, Source::Disk(DiskLayer { append_service_cluster: true, .. }));
            state.loaded.extend(entries.map(|entries| (name.clone(), entries)));
        }
        state.merged = merge(&state.loaded);
        self.show(state, failed, overridden);
        let merged = &state.merged;
        state.watched.retain(|watched| {
            let Some(cell) = watched.cell.upgrade() else { return false };
            cell.store((watched.resolve)(merged.get(&watched.key)), Relaxed);
            true
        });
    }

    fn show(&self, state: &State, failed: bool, overridden: bool) {
        let Some(stats) = &self.stats else { return };
        stats.inc(if failed { RuntimeStats::LOAD_ERROR } else { RuntimeStats::LOAD_SUCCESS });
        stats.inc(if overridden { RuntimeStats::OVERRIDE_DIR_EXISTS } else { RuntimeStats::OVERRIDE_DIR_NOT_EXISTS });
        stats.set(RuntimeStats::NUM_KEYS, state.merged.len() as u64);
        stats.set(RuntimeStats::NUM_LAYERS, state.loaded.len() as u64);
        stats.set(RuntimeStats::ADMIN_OVERRIDES_ACTIVE, u64::from(!state.admin.is_empty()));
    }

    /// Names and values of the layers, the weakest first.
    pub fn layers(&self) -> Vec<(String, Entries)> {
        self.state.lock().loaded.clone()
    }

    pub fn get(&self, key: &str) -> Option<Value> {
        self.state.lock().merged.get(key).cloned()
    }

    /// What `resolve` makes of the value of a key, now and whenever it changes.
    pub fn follow<T: Scalar>(&self, key: &str, resolve: impl Fn(Option<&Value>) -> T + Send + 'static) -> Live<T> {
        let mut state = self.state.lock();
        let now = resolve(state.merged.get(key));
        if key.is_empty() || !self.is_live() {
            return Live::fixed(now);
        }
        if state.watched.len() == state.watched.capacity() {
            state.watched.retain(|watched| watched.cell.strong_count() > 0);
        }
        let cell = Arc::new(AtomicU64::new(now.pack()));
        let resolve = Box::new(move |value: Option<&Value>| resolve(value).pack());
        state.watched.push(Watched { key: key.to_owned(), cell: Arc::downgrade(&cell), resolve });
        Live::followed(cell)
    }

    /// The number that a key has now, for what is decided once.
    pub fn integer(&self, key: &str, default: u64) -> u64 {
        self.get(key).and_then(|value| value.integer()).unwrap_or(default)
    }

    pub fn live_integer(&self, key: &str, default: u64) -> Live<u64> {
        self.follow(key, move |value| value.and_then(Value::integer).unwrap_or(default))
    }

    pub fn live_boolean(&self, key: &str, default: bool) -> Live<bool> {
        self.follow(key, move |value| value.and_then(Value::boolean).unwrap_or(default))
    }

    /// A fraction, or an integer that is a percentage; above a hundred it is always.
    pub fn live_fraction(&self, key: &str, default: FractionalPercent) -> Live<FractionalPercent> {
        self.follow(key, move |value| value.and_then(Value::fraction).unwrap_or(default))
    }

    /// `envoy.config.core.v3.RuntimeFractionalPercent`.
    ///
    /// # Errors
    /// Without a default, or when that is none.
    pub fn fractional_percent(
        &self,
        proto: &core::RuntimeFractionalPercent,
        path: &Path<'_>,
    ) -> Result<Live<FractionalPercent>, Reject> {
        let core::RuntimeFractionalPercent { default_value, runtime_key } = proto;
        let path = path.field("default_value");
        let default = default_value.as_ref().ok_or_else(|| path.reject("expected a FractionalPercent, got none"))?;
        let default = FractionalPercent::build(default, &path)?;
        Ok(self.live_fraction(runtime_key, default))
    }

    /// `envoy.config.core.v3.RuntimeFeatureFlag`.
    ///
    /// # Errors
    /// Without a default.
    pub fn feature_flag(&self, proto: &core::RuntimeFeatureFlag, path: &Path<'_>) -> Result<Live<bool>, Reject> {
        let core::RuntimeFeatureFlag { default_value, runtime_key } = proto;
        let default =
            default_value.ok_or_else(|| path.field("default_value").reject("expected true or false, got nothing"))?;
        Ok(self.live_boolean(runtime_key, default))
    }

    /// `envoy.config.core.v3.RuntimeUInt32`. A value that does not fit leaves the default.
    pub fn uint32(&self, proto: &core::RuntimeUInt32) -> Live<u32> {
        let core::RuntimeUInt32 { default_value, runtime_key } = proto;
        let default = *default_value;
        self.follow(runtime_key, move |value| {
            value.and_then(Value::integer).and_then(|number| number.try_into().ok()).unwrap_or(default)
        })
    }

    /// `envoy.config.core.v3.RuntimeDouble`.
    pub fn runtime_double(&self, proto: &core::RuntimeDouble) -> Live<f64> {
        let core::RuntimeDouble { default_value, runtime_key } = proto;
        let default = *default_value;
        self.follow(runtime_key, move |value| value.and_then(Value::double).unwrap_or(default))
    }
}

fn merge(layers: &[(String, Entries)]) -> BTreeMap<String, Value> {
    let entries = layers.iter().flat_map(|(_, entries)| entries);
    entries.map(|(key, entry)| (key.clone(), entry.value.clone())).collect()
}
