//! The load: closed loops, as many as a case asks for, on one thread on the core of the load.

pub mod bulk;
pub mod handshake;
pub mod http1;
pub mod http2;
pub mod paced;

use std::future::Future;
use std::time::{Duration, Instant};

use super::machine::{Cores, pin};

/// What a round of load came to.
#[derive(Debug, Default)]
pub struct Load {
    /// Units of work that were done as they should: requests answered, MiB moved.
    pub done: f64,
    pub failed: u64,
    pub seconds: f64,
    /// How long each took, in microseconds, in order.
    pub micros: Vec<u32>,
}

impl Load {
    /// The latency that this share of the requests did not exceed, in milliseconds.
    pub fn percentile(&self, share: f64) -> Option<f64> {
        let last = self.micros.len().checked_sub(1)?;
        let at = (last as f64 * share).round() as usize;
        Some(f64::from(*self.micros.get(at)?) / 1000.0)
    }
}

/// What one of the loops did.
#[derive(Debug, Default)]
pub struct Tally {
    failed: u64,
    micros: Vec<u32>,
}

impl Tally {
    fn record(&mut self, since: Instant) {
        self.micros.push(u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Runs loops until `time` is over.
fn run<F>(cores: Cores, time: Duration, loops: impl IntoIterator<Item = F>, until: Instant) -> Load
where
    F: Future<Output = Tally> + 'static,
{
    pin(cores.load);
    let started = until - time;
    let tasks = tokio::task::LocalSet::new();
    let running: Vec<_> = loops.into_iter().map(|one| tasks.spawn_local(one)).collect();
    let mut load = Load::default();
    tasks.block_on(&runtime(), async {
        for one in running {
            match one.await {
                Ok(tally) => {
                    load.failed += tally.failed;
                    load.micros.extend(tally.micros);
                }
                Err(_) => load.failed += 1,
            }
        }
    });
    load.seconds = started.elapsed().as_secs_f64();
    load.done = load.micros.len() as f64;
    load.micros.sort_unstable();
    load
}
