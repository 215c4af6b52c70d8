//! The secrets of the process by name, and the TLS contexts that use certificates: what `/certs` shows.
//!
//! Static secrets (`static_resources.secrets`) are put in by the bootstrap before listeners and clusters are built. Those that a
//! discovery service delivers have slots of their own ([`dynamic`]).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Weak};

use certs::CertInfo;
use certs::material::TlsCertificate;
use certs::server::{ContextError, Validation};
use certs::slot::SecretSlot;
use certs::validation::ValidationContext;
use parking_lot::Mutex;
use tokio::sync::watch;
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as proto;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::tls::config::{self, Origin};
use super::tls::{DownstreamTls, UpstreamTls};
use crate::config::{Dependency, Path, Reject};

pub mod dynamic;
mod files;
mod redact;

pub use dynamic::{DemandedSecret, SecretKind};
use dynamic::{Demands, Id};
use files::{FileBacked, FollowedBundles};
pub use redact::redacted;

/// Envoy's secret manager and context manager.
pub struct SecretManager {
    certificates: Mutex<BTreeMap<String, Arc<SecretSlot<TlsCertificate>>>>,
    validation_contexts: Mutex<BTreeMap<String, Arc<SecretSlot<ValidationContext>>>>,
    dynamic_certificates: Demands<TlsCertificate>,
    dynamic_validation_contexts: Demands<ValidationContext>,
    demands_changed: watch::Sender<u64>,
    arrived: watch::Sender<u64>,
    /// Delivered secrets that name files.
    files: Mutex<BTreeMap<Id, FileBacked>>,
    /// Bundle maps in files, of whatever origin.
    bundles: Mutex<Vec<FollowedBundles>>,
    files_changed: watch::Sender<u64>,
    contexts: Mutex<Vec<WeakContext>>,
}

impl Default for SecretManager {
    fn default() -> Self {
        let demands_changed = watch::Sender::default();
        SecretManager {
            certificates: Mutex::default(),
            validation_contexts: Mutex::default(),
            dynamic_certificates: Demands::new(demands_changed.clone()),
            dynamic_validation_contexts: Demands::new(demands_changed.clone()),
            demands_changed,
            arrived: watch::Sender::default(),
            files: Mutex::default(),
            bundles: Mutex::default(),
            files_changed: watch::Sender::default(),
            contexts: Mutex::default(),
        }
    }
}

/// A context that may use secrets: it is told when one of them changes.
enum Context {
    Server(Arc<DownstreamTls>),
    Client(Arc<UpstreamTls>),
}

enum WeakContext {
    Server(Weak<DownstreamTls>),
    Client(Weak<UpstreamTls>),
}

/// The certificates of one context, each with the place it came from: a file or `<inline>`.
#[derive(Debug, Default)]
pub struct ContextCertificates {
    /// The first trusted certificate.
    pub ca_cert: Option<(String, Arc<CertInfo>)>,
    /// The leaves that the context presents.
    pub cert_chain: Vec<(String, Arc<CertInfo>)>,
}

impl SecretManager {
    /// Takes in `static_resources.secrets`; `path` is that field's.
    ///
    /// # Errors
    /// A name that is taken already, a kind that nothing here uses, and material that cannot be loaded.
    pub fn add_static(&self, secrets: &[proto::Secret], path: &Path<'_>) -> Result<(), Reject> {
        secrets.iter().enumerate().try_for_each(|(index, secret)| self.add_one(secret, &path.index(index)))
    }

    fn add_one(&self, secret: &proto::Secret, path: &Path<'_>) -> Result<(), Reject> {
        let proto::Secret { name, r#type } = secret;
        match r#type {
            Some(Type::TlsCertificate(certificate)) => {
                let loaded = config::tls_certificate(certificate, Origin::Configured, &path.field("tls_certificate"))?;
                insert(&mut self.certificates.lock(), name, loaded, path)
            }
            Some(Type::ValidationContext(context)) => {
                let loaded =
                    config::validation_context(context, Origin::Configured, self, &path.field("validation_context"))?;
                insert(&mut self.validation_contexts.lock(), name, loaded, path)
            }
            Some(Type::SessionTicketKeys(_)) => {
                Err(path.field("session_ticket_keys").reject("session ticket keys are not supported"))
            }
            Some(Type::GenericSecret(_)) => {
                Err(path.field("generic_secret").reject("no extension here uses generic secrets"))
            }
            None => Err(path.reject("expected tls_certificate or validation_context, got none")),
        }
    }

    /// The slot of a static certificate.
    pub fn certificate(&self, name: &str) -> Option<Arc<SecretSlot<TlsCertificate>>> {
        self.certificates.lock().get(name).cloned()
    }

    /// The slot of a static validation context.
    pub fn validation_context(&self, name: &str) -> Option<Arc<SecretSlot<ValidationContext>>> {
        self.validation_contexts.lock().get(name).cloned()
    }

    pub(super) fn add_server(&self, context: &Arc<DownstreamTls>) {
        self.add(WeakContext::Server(Arc::downgrade(context)));
    }

    pub(super) fn add_client(&self, context: &Arc<UpstreamTls>) {
        self.add(WeakContext::Client(Arc::downgrade(context)));
    }

    fn add(&self, context: WeakContext) {
        let mut contexts = self.contexts.lock();
        contexts.retain(WeakContext::is_alive);
        contexts.push(context);
    }

    /// In the order in which they were made.
    fn contexts(&self) -> Vec<Context> {
        self.contexts.lock().iter().filter_map(WeakContext::upgrade).collect()
    }

    /// What the contexts present and trust now, in the order in which they were made.
    pub fn certificates_in_use(&self) -> Vec<ContextCertificates> {
        self.contexts().iter().map(Context::certificates).collect()
    }

    /// `server.days_until_first_cert_expiring`: of all certificates in use; 0 once one has expired, `None` without any.
    pub fn days_until_first_cert_expiring(&self, now: i64) -> Option<u32> {
        let of_context = |context: ContextCertificates| {
            context.ca_cert.into_iter().chain(context.cert_chain).map(|(_, info)| info.days_until_expiration(now))
        };
        self.certificates_in_use().into_iter().flat_map(of_context).map(|days| days.unwrap_or(0)).min()
    }
}

fn insert<T>(
    secrets: &mut BTreeMap<String, Arc<SecretSlot<T>>>,
    name: &str,
    secret: T,
    path: &Path<'_>,
) -> Result<(), Reject> {
    match secrets.entry(name.to_owned()) {
        Entry::Occupied(_) => Err(path.field("name").reject(format_args!("the name {name:?} is taken already"))),
        Entry::Vacant(place) => {
            place.insert(SecretSlot::filled(name, Arc::new(secret)));
            Ok(())
        }
    }
}

impl WeakContext {
    fn is_alive(&self) -> bool {
        match self {
            WeakContext::Server(context) => context.strong_count() > 0,
            WeakContext::Client(context) => context.strong_count() > 0,
        }
    }

    fn upgrade(&self) -> Option<Context> {
        match self {
            WeakContext::Server(context) => context.upgrade().map(Context::Server),
            WeakContext::Client(context) => context.upgrade().map(Context::Client),
        }
    }
}

impl Context {
    fn certificate_slots(&self) -> &[Arc<SecretSlot<TlsCertificate>>] {
        match self {
            Context::Server(context) => context.context().certificate_slots(),
            Context::Client(context) => context.context().certificate_slot().map_or(&[], std::slice::from_ref),
        }
    }

    fn validation(&self) -> &Validation {
        match self {
            Context::Server(context) => context.context().validation(),
            Context::Client(context) => context.context().validation(),
        }
    }

    fn certificates(&self) -> ContextCertificates {
        of_context(self.certificate_slots(), self.validation())
    }

    fn uses_certificate(&self, slot: &Arc<SecretSlot<TlsCertificate>>) -> bool {
        self.certificate_slots().iter().any(|own| Arc::ptr_eq(own, slot))
    }

    fn uses_validation(&self, slot: &Arc<SecretSlot<ValidationContext>>) -> bool {
        matches!(self.validation(), Validation::Secret { slot: own, .. } if Arc::ptr_eq(own, slot))
    }

    fn would_take_certificate(&self, candidate: &TlsCertificate) -> Result<(), ContextError> {
        match self {
            Context::Server(context) => context.context().would_take(candidate),
            Context::Client(_) => Ok(()),
        }
    }

    fn would_take_validation(
        &self,
        slot: &Arc<SecretSlot<ValidationContext>>,
        candidate: &ValidationContext,
    ) -> Result<(), ContextError> {
        self.validation().would_take(slot, candidate)
    }

    fn secret_changed(&self) {
        match self {
            Context::Server(context) => context.secret_changed(),
            Context::Client(context) => context.secret_changed(),
        }
    }
}

/// A slot that a listener or cluster waits for. Held weakly: waiting is no use of a secret.
pub(super) struct Awaited<T> {
    name: String,
    slot: Weak<SecretSlot<T>>,
}

impl<T> Awaited<T> {
    pub(super) fn new(slot: &Arc<SecretSlot<T>>) -> Self {
        Awaited { name: format!("SdsApi {}", slot.name()), slot: Arc::downgrade(slot) }
    }
}

impl<T: Send + Sync> Dependency for Awaited<T> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn is_ready(&self) -> bool {
        self.slot.upgrade().is_none_or(|slot| slot.is_settled())
    }
}

/// The names of the slots that are neither filled nor given up.
pub(super) fn pending<'a>(
    certificates: impl IntoIterator<Item = &'a Arc<SecretSlot<TlsCertificate>>>,
    validation: &Validation,
) -> Vec<String> {
    let certificates = certificates.into_iter().filter(|slot| !slot.is_settled()).map(|slot| slot.name().to_owned());
    let trust = match validation {
        Validation::Secret { slot, .. } if !slot.is_settled() => Some(slot.name().to_owned()),
        _ => None,
    };
    certificates.chain(trust).collect()
}

fn of_context<'a>(
    slots: impl IntoIterator<Item = &'a Arc<SecretSlot<TlsCertificate>>>,
    validation: &Validation,
) -> ContextCertificates {
    let trusted = |context: &ValidationContext| {
        let domains = context.trust_domains.as_ref().and_then(|slot| slot.get());
        let bundle = match &context.trusted_ca {
            Some(bundle) => Arc::clone(bundle),
            None => domains.as_ref()?.bundles().next().map(|(_, bundle)| Arc::clone(bundle))?,
        };
        bundle.certificates().first().map(|info| (bundle.source().to_owned(), Arc::clone(info)))
    };
    let ca_cert = match validation {
        Validation::None => None,
        Validation::Fixed(context) => trusted(context),
        Validation::Secret { default, slot } => {
            let secret = slot.get().and_then(|secret| trusted(&secret));
            secret.or_else(|| trusted(default.as_ref()?))
        }
    };
    let leaf = |certificate: Arc<TlsCertificate>| {
        let leaf = certificate.leaf()?;
        Some((certificate.source().to_owned(), Arc::clone(leaf)))
    };
    let cert_chain = slots.into_iter().filter_map(|slot| slot.get()).filter_map(leaf).collect();
    ContextCertificates { ca_cert, cert_chain }
}
