//! Named places for secrets. A TLS context holds slots, not secrets: it reads them at each handshake, so that a rotated
//! certificate or trust bundle is used by the next handshake and nothing that refers to it has to be rebuilt.
//!
//! An empty slot is a state of waiting. Whoever needs its content refuses the handshake.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

/// One secret, by the name under which a secret discovery service knows it.
pub struct SecretSlot<T> {
    name: String,
    version: AtomicU64,
    secret: ArcSwapOption<T>,
    settled: AtomicBool,
    /// Only there to be dropped with the slot.
    _companion: Option<Box<dyn Any + Send + Sync>>,
}

impl<T> SecretSlot<T> {
    /// An empty slot, to be filled by [`SecretSlot::set`].
    pub fn empty(name: impl Into<String>) -> Arc<Self> {
        Arc::new(Self::new(name.into(), None))
    }

    /// An empty slot that drops `companion` when the last context that uses it is gone: how whoever fills it learns that it
    /// need not be filled any more.
    pub fn with_companion(name: impl Into<String>, companion: impl Any + Send + Sync) -> Arc<Self> {
        Arc::new(Self::new(name.into(), Some(Box::new(companion))))
    }

    fn new(name: String, companion: Option<Box<dyn Any + Send + Sync>>) -> Self {
        Self {
            name,
            version: AtomicU64::new(0),
            secret: ArcSwapOption::empty(),
            settled: AtomicBool::new(false),
            _companion: companion,
        }
    }

    /// A slot for a secret that is known from the start.
    pub fn filled(name: impl Into<String>, secret: Arc<T>) -> Arc<Self> {
        let slot = Self::empty(name);
        slot.set(Some(secret));
        slot
    }

    /// The secret's name; empty for one that stands in the configuration itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a secret in, or takes it out; handshakes that begin afterwards see it.
    pub fn set(&self, secret: Option<Arc<T>>) {
        self.secret.store(secret);
        // After the secret: who reads the new version finds at least this secret.
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Ends the wait for the first secret without one: it was refused, or did not come in time. Whoever warms goes on, and
    /// handshakes are refused until a secret is there.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Whether nobody has to wait for this slot (any more): it holds a secret, or was [settled](SecretSlot::settle) without.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire) || self.secret.load().is_some()
    }

    /// What is in the slot now.
    pub fn get(&self) -> Option<Arc<T>> {
        self.secret.load_full()
    }

    /// Changes with every [`SecretSlot::set`]. Read it *before* [`SecretSlot::get`]: then what was read is at least that new.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

impl<T> fmt::Debug for SecretSlot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSlot").field("name", &self.name).field("version", &self.version()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_waited_for_until_it_is_filled_or_given_up() {
        let (filled, given_up) = (SecretSlot::<u32>::empty("a"), SecretSlot::<u32>::empty("b"));
        assert!(!filled.is_settled() && !given_up.is_settled());
        filled.set(Some(Arc::new(1)));
        given_up.settle();
        assert!(filled.is_settled() && given_up.is_settled() && given_up.get().is_none());
    }

    #[test]
    fn a_companion_goes_with_the_last_user() {
        let companion = Arc::new(());
        let slot = SecretSlot::<u32>::with_companion("a", Arc::clone(&companion));
        let user = Arc::clone(&slot);
        drop(slot);
        assert_eq!(Arc::strong_count(&companion), 2);
        drop(user);
        assert_eq!(Arc::strong_count(&companion), 1);
    }

    #[test]
    fn a_slot_is_filled_replaced_and_emptied() {
        let slot = SecretSlot::empty("default");
        assert_eq!((slot.name(), slot.get(), slot.version()), ("default", None::<Arc<u32>>, 0));
        slot.set(Some(Arc::new(7)));
        assert_eq!((slot.get().as_deref(), slot.version()), (Some(&7), 1));
        slot.set(Some(Arc::new(8)));
        assert_eq!((slot.get().as_deref(), slot.version()), (Some(&8), 2));
        slot.set(None);
        assert_eq!((slot.get(), slot.version()), (None, 3));
    }
}
