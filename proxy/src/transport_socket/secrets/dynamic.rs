//! Slots for secrets that a discovery service delivers (`SdsSecretConfig.sds_config`).
//!
//! A TLS context asks for a slot while it is built ([`SecretManager::dynamic_certificate`] and its kin) and keeps it; contexts that name the
//! same secret of the same source share it. Discovery sees what is demanded ([`SecretManager::demanded`]), delivers with
//! [`SecretManager::set`], and gives up with [`SecretManager::settle`] after `initial_fetch_timeout`. Whoever warms waits until all slots
//! of its transport sockets are settled ([`Downstream::pending_secrets`](super::super::Downstream::pending_secrets)).
//!
//! Invariants
//! - The slot belongs to its contexts: the manager holds it weakly, and when the last context goes, the demand ends.
//! - A secret that cannot be used leaves what is in the slot: the last good one, or nothing.
//! - What was delivered is remembered until [`SecretManager::demanded`] has said that nobody wants it. So a context that replaces another one
//!   never finds an empty slot that discovery believes to have filled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use certs::material::TlsCertificate;
use certs::slot::SecretSlot;
use certs::validation::ValidationContext;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as proto;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::{Context, SecretManager};
use crate::config::{Path, Reject};
use crate::transport_socket::tls::config::{self, Origin};

/// What a context expects a secret to be. One name may be demanded as several kinds; each is a demand of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretKind {
    TlsCertificate,
    ValidationContext,
}

impl SecretKind {
    /// The field of `envoy.extensions.transport_sockets.tls.v3.Secret`.
    pub fn field(self) -> &'static str {
        match self {
            SecretKind::TlsCertificate => "tls_certificate",
            SecretKind::ValidationContext => "validation_context",
        }
    }
}

/// A secret that some context uses or waits for.
#[derive(Clone)]
pub struct DemandedSecret {
    pub name: String,
    pub kind: SecretKind,
    /// The context's `sds_config`.
    pub source: Arc<core::ConfigSource>,
    /// Whether it was delivered, or given up, when this list was made.
    pub is_ready: bool,
}

/// The demands for one kind of secret.
pub(super) struct Demands<T> {
    entries: Mutex<BTreeMap<Key, Entry<T>>>,
    changed: watch::Sender<u64>,
}

/// A demand among all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    kind: SecretKind,
    key: Key,
}

impl DemandedSecret {
    pub(super) fn id(&self) -> Id {
        Id { kind: self.kind, key: Key::new(&self.name, &self.source) }
    }
}

/// Sources are compared by their bytes, as Envoy compares them by hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    name: String,
    source: Vec<u8>,
}

impl Key {
    fn new(name: &str, source: &core::ConfigSource) -> Self {
        Key { name: name.to_owned(), source: source.encode_to_vec() }
    }
}

struct Entry<T> {
    source: Arc<core::ConfigSource>,
    slot: Weak<SecretSlot<T>>,
    last_good: Option<Arc<T>>,
    settled: bool,
}

/// Goes with the last user of a slot.
struct Gone(watch::Sender<u64>);

impl Drop for Gone {
    fn drop(&mut self) {
        bump(&self.0);
    }
}

fn bump(changed: &watch::Sender<u64>) {
    changed.send_modify(|generation| *generation += 1);
}

impl<T> Demands<T> {
    pub(super) fn new(changed: watch::Sender<u64>) -> Self {
        Demands { entries: Mutex::default(), changed }
    }

    fn slot(&self, name: &str, source: &core::ConfigSource) -> Arc<SecretSlot<T>> {
        let key = Key::new(name, source);
        let mut entries = self.entries.lock();
        if let Some(slot) = entries.get(&key).and_then(|entry| entry.slot.upgrade()) {
            return slot;
        }
        let slot = SecretSlot::with_companion(name, Gone(self.changed.clone()));
        let known = entries.remove(&key);
        let mut entry = known.unwrap_or_else(|| Entry {
            source: Arc::new(source.clone()),
            slot: Weak::new(),
            last_good: None,
            settled: false,
        });
        entry.slot = Arc::downgrade(&slot);
        if let Some(secret) = &entry.last_good {
            slot.set(Some(Arc::clone(secret)));
        }
        if entry.settled {
            slot.settle();
        }
        entries.insert(key, entry);
        drop(entries);
        bump(&self.changed);
        slot
    }

    /// What is demanded; forgets the rest.
    fn list(&self, kind: SecretKind, into: &mut Vec<DemandedSecret>) {
        self.entries.lock().retain(|key, entry| {
            let Some(slot) = entry.slot.upgrade() else { return false };
            let (name, source) = (key.name.clone(), Arc::clone(&entry.source));
            into.push(DemandedSecret { name, kind, source, is_ready: slot.is_settled() });
            true
        });
    }

    fn names(&self, into: &mut BTreeSet<String>) {
        let entries = self.entries.lock();
        let used = entries.iter().filter(|(_, entry)| entry.slot.strong_count() > 0);
        into.extend(used.map(|(key, _)| key.name.clone()));
    }

    /// The slot, if anybody uses it.
    fn find(&self, demanded: &DemandedSecret) -> Option<Arc<SecretSlot<T>>> {
        self.entries.lock().get(&Key::new(&demanded.name, &demanded.source))?.slot.upgrade()
    }

    fn publish(&self, demanded: &DemandedSecret, secret: Arc<T>) {
        if let Some(entry) = self.entries.lock().get_mut(&Key::new(&demanded.name, &demanded.source)) {
            entry.last_good = Some(Arc::clone(&secret));
            if let Some(slot) = entry.slot.upgrade() {
                slot.set(Some(secret));
            }
        }
    }

    fn settle(&self, demanded: &DemandedSecret) {
        if let Some(entry) = self.entries.lock().get_mut(&Key::new(&demanded.name, &demanded.source)) {
            entry.settled = true;
            if let Some(slot) = entry.slot.upgrade() {
                slot.settle();
            }
        }
    }
}

impl SecretManager {
    /// The slot of a certificate that `source` delivers under this name.
    pub fn dynamic_certificate(&self, name: &str, source: &core::ConfigSource) -> Arc<SecretSlot<TlsCertificate>> {
        self.dynamic_certificates.slot(name, source)
    }

    /// The slot of a validation context that `source` delivers under this name.
    pub fn dynamic_validation_context(
        &self,
        name: &str,
        source: &core::ConfigSource,
    ) -> Arc<SecretSlot<ValidationContext>> {
        self.dynamic_validation_contexts.slot(name, source)
    }

    /// All that is demanded now: what to be subscribed to. What was in the last list and is not in this one has no user left.
    pub fn demanded(&self) -> Vec<DemandedSecret> {
        let mut list = Vec::new();
        self.dynamic_certificates.list(SecretKind::TlsCertificate, &mut list);
        self.dynamic_validation_contexts.list(SecretKind::ValidationContext, &mut list);
        list
    }

    /// Changes when [`SecretManager::demanded`] does: a slot is new, or its last user is gone (on whatever thread).
    pub fn demands(&self) -> watch::Receiver<u64> {
        self.demands_changed.subscribe()
    }

    /// Changes when a slot was filled, refused or given up: time to look again at what warms.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrived.subscribe()
    }

    /// Whether the slot was filled or given up; true for one that nobody uses.
    pub fn is_ready(&self, demanded: &DemandedSecret) -> bool {
        match demanded.kind {
            SecretKind::TlsCertificate => self.dynamic_certificates.find(demanded).is_none_or(|slot| slot.is_settled()),
            SecretKind::ValidationContext => {
                self.dynamic_validation_contexts.find(demanded).is_none_or(|slot| slot.is_settled())
            }
        }
    }

    /// `initial_fetch_timeout` has passed: whoever warms goes on without the secret, and refuses handshakes until it comes.
    pub fn settle(&self, demanded: &DemandedSecret) {
        match demanded.kind {
            SecretKind::TlsCertificate => self.dynamic_certificates.settle(demanded),
            SecretKind::ValidationContext => self.dynamic_validation_contexts.settle(demanded),
        }
        bump(&self.arrived);
    }

    /// Delivers a secret to all contexts that demanded it: their next handshakes use it. Blocks on the file system where the secret names files.
    ///
    /// # Errors
    /// Another name or kind than what is demanded, material that cannot be loaded, and rules that one of the contexts could not use. What was
    /// in the slot stays there; a first secret that is refused settles the slot, as in Envoy.
    pub fn set(&self, demanded: &DemandedSecret, secret: &proto::Secret, path: &Path<'_>) -> Result<(), Reject> {
        let result = self.deliver(demanded, secret, path);
        match result {
            Ok(()) => {
                self.note_files(demanded, secret);
                bump(&self.arrived);
            }
            Err(_) => self.settle(demanded),
        }
        result
    }

    /// Whether any context still has the slot.
    pub(super) fn is_used(&self, demanded: &DemandedSecret) -> bool {
        match demanded.kind {
            SecretKind::TlsCertificate => self.dynamic_certificates.find(demanded).is_some(),
            SecretKind::ValidationContext => self.dynamic_validation_contexts.find(demanded).is_some(),
        }
    }

    /// The names of all that is demanded.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.dynamic_certificates.names(&mut names);
        self.dynamic_validation_contexts.names(&mut names);
        names
    }

    /// Loads a secret and puts it into its slot.
    pub(super) fn deliver(
        &self,
        demanded: &DemandedSecret,
        secret: &proto::Secret,
        path: &Path<'_>,
    ) -> Result<(), Reject> {
        let proto::Secret { name, r#type } = secret;
        if *name != demanded.name {
            let why = format_args!("expected the secret {:?}, got {name:?}", demanded.name);
            return Err(path.field("name").reject(why));
        }
        match (demanded.kind, r#type) {
            (SecretKind::TlsCertificate, Some(Type::TlsCertificate(certificate))) => {
                let path = path.field("tls_certificate");
                let loaded = Arc::new(config::tls_certificate(certificate, Origin::Delivered, &path)?);
                let Some(slot) = self.dynamic_certificates.find(demanded) else { return Ok(()) };
                let contexts = self.contexts();
                let users = contexts.iter().filter(|context| context.uses_certificate(&slot));
                for context in users.clone() {
                    context.would_take_certificate(&loaded).map_err(|error| path.reject(error))?;
                }
                self.dynamic_certificates.publish(demanded, loaded);
                users.for_each(Context::secret_changed);
                Ok(())
            }
            (SecretKind::ValidationContext, Some(Type::ValidationContext(context))) => {
                let path = path.field("validation_context");
                let loaded = Arc::new(config::validation_context(context, Origin::Delivered, self, &path)?);
                let Some(slot) = self.dynamic_validation_contexts.find(demanded) else { return Ok(()) };
                let contexts = self.contexts();
                let users = contexts.iter().filter(|context| context.uses_validation(&slot));
                for context in users.clone() {
                    context.would_take_validation(&slot, &loaded).map_err(|error| path.reject(error))?;
                }
                self.dynamic_validation_contexts.publish(demanded, loaded);
                users.for_each(Context::secret_changed);
                Ok(())
            }
            (kind, got) => {
                let got = got.as_ref().map_or("none", field_of);
                Err(path.reject(format_args!("expected {}, got {got}", kind.field())))
            }
        }
    }
}

fn field_of(secret: &Type) -> &'static str {
    match secret {
        Type::TlsCertificate(_) => "tls_certificate",
        Type::SessionTicketKeys(_) => "session_ticket_keys",
        Type::ValidationContext(_) => "validation_context",
        Type::GenericSecret(_) => "generic_secret",
    }
}
