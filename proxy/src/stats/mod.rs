//! Statistics: Envoy's counters, gauges, histograms and text readouts (`envoy.config.metrics.v3.StatsConfig`).
//!
//! The unit is the *block*: all the stats that one scope has of one family, for example the hundred and forty stats of
//! `cluster.store-front.`. A family is a static table of field names and kinds ([`stat_block!`](crate::stat_block));
//! a block adds the scope's prefix and the cells. A full name exists only while somebody reads it: prefix and field are
//! joined when `/stats` is written, so five thousand clusters cost a few hundred bytes each and not a hundred names each.
//!
//! Cells are sharded. Each worker writes only its own shard, with a plain load and store; readers add the shards up. The
//! calling thread says which shard is its own with [`set_shard`]. Shard 0 stands for every other thread: the control
//! thread, resolvers, tests. It is a small sorted list under a lock, because the control thread touches few fields of
//! very many blocks (`membership_total` of every cluster). Worker shards are allocated at a worker's first write.
//!
//! Called by everything that counts; read by `admin/` (`/stats`, `/stats/prometheus`) through [`Stats`].
//!
//! Invariants:
//! - a worker shard has one writer thread, so relaxed load and store lose nothing;
//! - two blocks with the same prefix and family are the same block, as two Envoy scopes of one name share their stats;
//! - a stat that `stats_matcher` excludes is never written: the verdict is a bit of the block, made with the block;
//! - the last handle dropped removes the block from what is shown.
//!
//! Deliberately missing: stats sinks (statsd, metrics service), `stats_eviction_interval`, recent look-ups.

pub mod block;
pub mod config;
pub mod histogram;
pub mod names;
mod read;
pub mod registry;
pub mod render;
mod shard;
pub mod table;
mod tags;

#[cfg(test)]
mod tests;

pub use block::{GaugeGuard, StatBlock};
pub use config::StatsConfig;
pub use histogram::Snapshot;
pub use registry::Stats;
pub use shard::{current_shard, set_shard};
pub use table::{Codes, Counter, Field, Gauge, Histogram, Kind, StatTable, Table, Text, Unit};
