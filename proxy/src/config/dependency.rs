//! What a resource waits for before it may be used: routes, secrets and extension configurations that are named in it and
//! come from elsewhere. Envoy's init manager and its targets.

use std::sync::Arc;

use parking_lot::Mutex;

/// Something named in a resource that may not have come yet.
pub trait Dependency: Send + Sync {
    /// As `/init_dump` shows it, e.g. `RdsRouteConfigSubscription RDS init 80`.
    fn name(&self) -> String;

    /// It has come, or was given up.
    fn is_ready(&self) -> bool;
}

/// What one resource waits for, collected while it is built.
#[derive(Clone, Default)]
pub struct Dependencies(Arc<Mutex<Vec<Arc<dyn Dependency>>>>);

impl Dependencies {
    pub fn add(&self, dependency: Arc<dyn Dependency>) {
        self.0.lock().push(dependency);
    }

    pub fn are_ready(&self) -> bool {
        self.0.lock().iter().all(|dependency| dependency.is_ready())
    }

    /// The names of those that are not ready.
    pub fn unready(&self) -> Vec<String> {
        self.0.lock().iter().filter(|dependency| !dependency.is_ready()).map(|dependency| dependency.name()).collect()
    }
}
