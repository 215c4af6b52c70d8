//! Keeps the identity of a workload fresh.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

use super::renewal::{Renewal, RenewalOptions};
use super::{CaError, CertificateAuthority, Issued, KeySpec, SigningRequest};
use crate::slot::SecretSlot;
use crate::spiffe::SpiffeId;

/// Timers stand still while a machine sleeps, and certificates do not: no wait is longer than this at a stretch.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What to ask for.
#[derive(Debug, Clone)]
pub struct WorkloadOptions {
    /// Who the workload is.
    pub id: SpiffeId,
    /// The kind of key.
    pub key: KeySpec,
    /// `SECRET_TTL`
    pub validity: Duration,
    /// When to ask.
    pub renewal: RenewalOptions,
}

/// An identity that is kept fresh by [`Workload::run`].
pub struct Workload {
    options: WorkloadOptions,
    issued: Arc<SecretSlot<Issued>>,
    last_error: Mutex<Option<CaError>>,
    renewal: Mutex<Renewal>,
}

impl Workload {
    /// Without a certificate yet.
    pub fn new(options: WorkloadOptions) -> Self {
        let issued = SecretSlot::empty(options.id.as_str());
        let renewal = Mutex::new(Renewal::new(options.renewal));
        Self { options, issued, last_error: Mutex::default(), renewal }
    }

    /// What was issued last, also when it has expired meanwhile: TLS refuses that by itself. The slot's version changes with each.
    pub fn issued(&self) -> &Arc<SecretSlot<Issued>> {
        &self.issued
    }

    /// Why the last request failed; none after one that did not.
    pub fn last_error(&self) -> Option<CaError> {
        locked(&self.last_error).clone()
    }

    /// Asks `ca` for certificates, for ever; `changed` is called after each success and failure. Needs a tokio runtime with
    /// time. Dropping the future stops it, at any time; another one goes on from there.
    pub async fn run(
        &self,
        ca: &impl CertificateAuthority,
        time: &dyn TimeProvider,
        mut changed: impl FnMut(),
    ) -> Infallible {
        let mut random = fastrand::Rng::new();
        loop {
            let wait = locked(&self.renewal).wait(now(time));
            if !wait.is_zero() {
                tokio::time::sleep(wait.min(LONGEST_SLEEP)).await;
                continue;
            }
            let result = self.request(ca, time).await;
            let error = match result {
                Ok(issued) => {
                    let (from, until) = issued.validity();
                    let life = (since_1970(from), since_1970(until));
                    locked(&self.renewal).issued(now(time), life, || random.f64());
                    self.issued.set(Some(Arc::new(issued)));
                    None
                }
                Err(error) => {
                    locked(&self.renewal).failed(now(time), error.is_retriable(), || random.f64());
                    Some(error)
                }
            };
            *locked(&self.last_error) = error;
            changed();
        }
    }

    async fn request(&self, ca: &impl CertificateAuthority, time: &dyn TimeProvider) -> Result<Issued, CaError> {
        let request = SigningRequest::new(self.options.key, &self.options.id)?;
        let answer = ca.sign(&request.csr_pem, self.options.validity).await?;
        Issued::check(&request, &self.options.id, &answer, UnixTime::since_unix_epoch(now(time)))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now(time: &dyn TimeProvider) -> Duration {
    time.current_time().map_or(Duration::ZERO, |now| Duration::from_secs(now.as_secs()))
}

fn since_1970(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests;
