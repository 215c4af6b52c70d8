//! `connection_balance_config.exact_balance`: every connection goes to the worker that has the fewest of this listener.
//!
//! Without it the kernel spreads connections by hash, which is uneven for a few long ones.

use parking_lot::Mutex;

/// Open connections of one listener by worker. A lock is held for a look at a handful of numbers, once per connection; the
/// look and the count must be one step to be exact.
#[derive(Debug)]
pub(super) struct ExactBalance(Mutex<Vec<u64>>);

impl ExactBalance {
    pub fn new(workers: usize) -> Self {
        ExactBalance(Mutex::new(vec![0; workers]))
    }

    /// Counts a connection for the worker with the fewest, and says which. Among equals the asking one keeps it.
    pub fn pick(&self, current: usize) -> usize {
        let mut open = self.0.lock();
        let fewest = open.iter().copied().min().unwrap_or(0);
        let chosen = match open.get(current) {
            Some(own) if *own == fewest => current,
            _ => open.iter().position(|n| *n == fewest).unwrap_or(current),
        };
        if let Some(count) = open.get_mut(chosen) {
            *count += 1;
        }
        chosen
    }

    pub fn ended(&self, worker: usize) {
        if let Some(count) = self.0.lock().get_mut(worker) {
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_evenly_whoever_accepts() {
        let balance = ExactBalance::new(3);
        let picked: Vec<usize> = (0..6).map(|_| balance.pick(1)).collect();
        assert_eq!(picked, [1, 0, 2, 1, 0, 2]);
        balance.ended(2);
        balance.ended(2);
        assert_eq!([balance.pick(0), balance.pick(0), balance.pick(0)], [2, 2, 0]);
    }
}
