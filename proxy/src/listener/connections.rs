//! All downstream connections of the process: how many there are, and how many there may be.
//!
//! The limit is the resource monitor `envoy.resource_monitors.global_downstream_max_connections`, or the older runtime key
//! `overload.global_downstream_max_connections`, which counts only without the monitor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::runtime::Live;

/// Counts downstream connections from accept to end.
#[derive(Debug)]
pub struct Connections {
    max: Live<u64>,
    open: AtomicU64,
    ended: Notify,
}

impl Default for Connections {
    fn default() -> Self {
        Connections::new(Live::fixed(u64::MAX))
    }
}

impl Connections {
    pub fn new(max: Live<u64>) -> Self {
        Connections { max, open: AtomicU64::new(0), ended: Notify::new() }
    }

    /// A place for one more connection, given back on drop; none when all are taken and `limited`.
    pub fn acquire(self: &Arc<Self>, limited: bool) -> Option<ConnectionPlace> {
        let max = if limited { self.max.get() } else { u64::MAX };
        let one_more = |open: u64| (open < max).then_some(open + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(ConnectionPlace(Arc::clone(self)))
    }

    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// Resolves when there is none. Cancel safe.
    pub async fn none_left(&self) {
        loop {
            let ended = self.ended.notified();
            if self.open() == 0 {
                return;
            }
            ended.await;
        }
    }
}

#[derive(Debug)]
pub struct ConnectionPlace(Arc<Connections>);

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::Release) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn places_are_given_back() {
        let connections = Arc::new(Connections::new(Live::fixed(2)));
        let (first, second) = (connections.acquire(true), connections.acquire(true));
        assert!(first.is_some() && second.is_some());
        assert!(connections.acquire(true).is_none());
        let beyond = connections.acquire(false);
        assert_eq!(connections.open(), 3);
        drop((first, beyond));
        assert!(connections.acquire(true).is_some());
    }

    #[tokio::test]
    async fn the_last_end_is_noticed() {
        let connections = Arc::new(Connections::default());
        connections.none_left().await;
        let (first, second) = (connections.acquire(true), connections.acquire(true));
        drop(first);
        assert!(connections.none_left().now_or_never().is_none());
        tokio::join!(connections.none_left(), async { drop(second) });
    }
}
