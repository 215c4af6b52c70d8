//! The init manager: what the process waits for before it accepts connections (`/init_dump`).
//!
//! Clusters that resolve their first addresses, and later resources that are still to arrive, each hold an [`InitTarget`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;

/// What is not ready yet, by name. Lives on the control thread.
#[derive(Default)]
pub struct InitManager {
    unready: RefCell<BTreeMap<u64, String>>,
    next: RefCell<u64>,
    done: Notify,
}

/// Something that is waited for; ready when it is dropped.
#[must_use = "dropping it says that it is ready"]
pub struct InitTarget {
    manager: Rc<InitManager>,
    key: u64,
}

impl InitManager {
    /// Waits for one more, e.g. `Cluster store-front`.
    pub fn target(self: &Rc<Self>, name: impl Into<String>) -> InitTarget {
        let mut next = self.next.borrow_mut();
        *next += 1;
        self.unready.borrow_mut().insert(*next, name.into());
        InitTarget { manager: self.clone(), key: *next }
    }

    /// Names of what is not ready, in the order in which it was added.
    pub fn unready(&self) -> Vec<String> {
        self.unready.borrow().values().cloned().collect()
    }

    /// Resolves when nothing is waited for. Cancel safe.
    pub async fn ready(&self) {
        loop {
            let done = self.done.notified();
            if self.unready.borrow().is_empty() {
                return;
            }
            done.await;
        }
    }
}

impl Drop for InitTarget {
    fn drop(&mut self) {
        self.manager.unready.borrow_mut().remove(&self.key);
        if self.manager.unready.borrow().is_empty() {
            self.manager.done.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn ready_waits_for_every_target() {
        let init = Rc::new(InitManager::default());
        init.ready().await;
        let (first, second) = (init.target("Cluster a"), init.target("Cluster b"));
        drop(first);
        assert_eq!(init.unready(), ["Cluster b"]);
        assert!(init.ready().now_or_never().is_none());
        tokio::join!(init.ready(), async { drop(second) });
    }
}
