//! SDS.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use xds_client::{Rejected, Resource, TypeUrl, Update};
use xds_protos::Message;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::Secret;

use super::store::{Failed, Received, State};
use super::subscription::Subscription;
use super::{Discovery, check_name, decode};
use crate::config::{ConfigSource, Origin, Path, Reject};
use crate::stats::StatBlock;
use crate::stats::names::SecretStats;
use crate::transport_socket::secrets::{DemandedSecret, redacted};

/// The secrets that TLS contexts want.
#[derive(Default)]
pub(super) struct Secrets {
    wanted: HashMap<(Origin, Arc<str>), Wanted>,
}

struct Wanted {
    /// The same name may be wanted as a certificate and as a validation context.
    demands: Vec<DemandedSecret>,
    /// The whole secret, for demands that come later; never shown.
    value: Option<Bytes>,
    received: Option<Received>,
    failed: Option<Failed>,
    subscription: Subscription,
    _stats: StatBlock<SecretStats>,
}

impl Secrets {
    pub fn dump(&self) -> Vec<(Arc<str>, State)> {
        let state = |wanted: &Wanted| State {
            active: wanted.received.clone(),
            // Envoy shows what it still waits for by its name alone.
            warming: None,
            failed: wanted.failed.clone(),
        };
        let mut all: Vec<_> = self.wanted.iter().map(|((_, name), wanted)| (name.clone(), state(wanted))).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Counts the end of a stream.
    pub fn failed(&self, of: &Origin) {
        let wanted = self.wanted.iter().filter(|((origin, _), _)| origin == of);
        wanted.for_each(|(_, wanted)| wanted.subscription.failed());
    }
}

impl Discovery {
    /// Subscribes to what is wanted, and unsubscribes from what is not any more.
    pub(super) fn follow_secrets(self: &Rc<Self>) {
        let mut now: HashMap<(Origin, Arc<str>), (ConfigSource, Vec<DemandedSecret>)> = HashMap::new();
        for demand in self.cx.secrets.demanded() {
            match ConfigSource::build(&demand.source, &Path::root("sds_config")) {
                Ok(source) => {
                    let key = (source.origin.clone(), demand.name.as_str().into());
                    now.entry(key).or_insert_with(|| (source, Vec::new())).1.push(demand);
                }
                // Builders have refused such sources.
                Err(reject) => tracing::error!("secret {:?}: {reject}", demand.name),
            }
        }
        let mut secrets = self.secrets.borrow_mut();
        let mut gone = Vec::new();
        secrets.wanted.retain(|key, _| {
            let wanted = now.contains_key(key);
            if !wanted {
                gone.push(key.clone());
            }
            wanted
        });
        let (mut new, mut deliver) = (Vec::new(), Vec::new());
        for (key, (source, demands)) in now {
            match secrets.wanted.get_mut(&key) {
                Some(wanted) => {
                    if let Some(value) = &wanted.value {
                        let late = demands.iter().filter(|demand| !demand.is_ready).cloned();
                        deliver.extend(late.map(|demand| (demand, value.clone())));
                    }
                    wanted.demands = demands;
                }
                None => {
                    let scope = format!("sds.{}", key.1);
                    let subscription = Subscription::new(&self.cx.stats, &scope);
                    subscription.started();
                    new.push((source, key.1.clone()));
                    let wanted = Wanted {
                        demands,
                        value: None,
                        received: None,
                        failed: None,
                        subscription,
                        _stats: self.cx.stats.block(&scope),
                    };
                    secrets.wanted.insert(key, wanted);
                }
            }
        }
        drop(secrets);
        for (source, name) in new {
            self.subscribe(&source, &TypeUrl::SECRET, &name);
        }
        for (demand, value) in deliver {
            if let Ok(secret) = Secret::decode(value)
                && let Err(reject) = self.cx.secrets.set(&demand, &secret, &Path::root(""))
            {
                tracing::warn!("secret {:?} cannot be used: {reject}", demand.name);
            }
        }
        for (origin, name) in gone {
            self.unsubscribe(&origin, &TypeUrl::SECRET, &name);
        }
    }

    pub(super) fn update_secrets(self: &Rc<Self>, origin: &Origin, update: Update) -> Vec<Rejected> {
        let version: Arc<str> = update.version.as_str().into();
        let mut rejected = Vec::new();
        for resource in &update.added {
            if let Err(reject) = self.update_secret(origin, resource, &version) {
                rejected.push(Rejected { name: resource.name.clone(), reason: reject.to_string() });
            }
        }
        // What was taken away stays in force, and who waits for it need not any more, as in Envoy.
        for name in &update.removed {
            if let Some(wanted) = self.secrets.borrow().wanted.get(&(origin.clone(), name.as_str().into())) {
                wanted.subscription.updated(&version, Instant::now(), false);
            }
            self.give_up_secret(origin, name, false);
        }
        rejected
    }

    fn update_secret(&self, origin: &Origin, resource: &Resource, version: &Arc<str>) -> Result<(), Reject> {
        let start = Instant::now();
        let key = (origin.clone(), Arc::from(resource.name.as_str()));
        let mut secrets = self.secrets.borrow_mut();
        // Unsubscribed while the answer was on its way.
        let Some(wanted) = secrets.wanted.get_mut(&key) else { return Ok(()) };
        if wanted.value.as_ref().is_some_and(|known| *known == resource.any.value) {
            wanted.failed = None;
            wanted.subscription.updated(version, start, false);
            return Ok(());
        }
        let demands = wanted.demands.clone();
        drop(secrets);
        let mut shown = Bytes::new();
        let set = decode::<Secret>(resource).and_then(|secret| {
            check_name(resource, "name", &secret.name)?;
            shown = redacted(&secret).encode_to_vec().into();
            demands.iter().try_for_each(|demand| self.cx.secrets.set(demand, &secret, &Path::root("")))
        });
        if set.is_err() {
            demands.iter().for_each(|demand| self.cx.secrets.settle(demand));
        }
        let received = Received::of(shown, resource, version);
        let mut secrets = self.secrets.borrow_mut();
        let Some(wanted) = secrets.wanted.get_mut(&key) else { return set };
        wanted.subscription.updated(version, start, set.is_err());
        match &set {
            Ok(()) => {
                wanted.value = Some(Bytes::copy_from_slice(&resource.any.value));
                (wanted.received, wanted.failed) = (Some(received), None);
            }
            Err(reject) => wanted.failed = Some(Failed { received, why: reject.to_string() }),
        }
        set
    }

    /// Counts a refused response, after which nobody waits for a first secret.
    pub(super) fn refuse_secrets(&self, of: &Origin) {
        for (_, wanted) in self.secrets.borrow().wanted.iter().filter(|((origin, _), _)| origin == of) {
            wanted.subscription.refused();
            wanted.demands.iter().for_each(|demand| self.cx.secrets.settle(demand));
        }
    }

    pub(super) fn give_up_secret(&self, origin: &Origin, name: &str, timed_out: bool) {
        let secrets = self.secrets.borrow();
        let Some(wanted) = secrets.wanted.get(&(origin.clone(), name.into())) else { return };
        if timed_out {
            wanted.subscription.timed_out();
        }
        wanted.demands.iter().for_each(|demand| self.cx.secrets.settle(demand));
    }
}
