//! The secrets of the process by name, and the TLS contexts that use certificates: what `/certs` shows.
//!
//! Static secrets (`static_resources.secrets`) are put in by the bootstrap before listeners and clusters are built. Secrets that come by a
//! discovery service will fill slots of their own.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Weak};

use certs::CertInfo;
use certs::client::ClientTls;
use certs::material::TlsCertificate;
use certs::server::{ServerTls, Validation};
use certs::slot::SecretSlot;
use certs::validation::ValidationContext;
use parking_lot::Mutex;
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as proto;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::tls::config;
use crate::config::{Path, Reject};

/// Envoy's secret manager and context manager.
#[derive(Default)]
pub struct SecretManager {
    certificates: Mutex<BTreeMap<String, Arc<SecretSlot<TlsCertificate>>>>,
    validation_contexts: Mutex<BTreeMap<String, Arc<SecretSlot<ValidationContext>>>>,
    contexts: Mutex<Vec<Context>>,
}

enum Context {
    Server(Weak<ServerTls>),
    Client(Weak<ClientTls>),
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
                let loaded = config::tls_certificate(certificate, &path.field("tls_certificate"))?;
                insert(&mut self.certificates.lock(), name, loaded, path)
            }
            Some(Type::ValidationContext(context)) => {
                let loaded = config::validation_context(context, &path.field("validation_context"))?;
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

    pub(super) fn add_server(&self, context: &Arc<ServerTls>) {
        self.add(Context::Server(Arc::downgrade(context)));
    }

    pub(super) fn add_client(&self, context: &Arc<ClientTls>) {
        self.add(Context::Client(Arc::downgrade(context)));
    }

    fn add(&self, context: Context) {
        let mut contexts = self.contexts.lock();
        contexts.retain(Context::is_alive);
        contexts.push(context);
    }

    /// What the contexts present and trust now, in the order in which they were made.
    pub fn certificates_in_use(&self) -> Vec<ContextCertificates> {
        self.contexts.lock().iter().filter_map(Context::certificates).collect()
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

impl Context {
    fn is_alive(&self) -> bool {
        match self {
            Context::Server(context) => context.strong_count() > 0,
            Context::Client(context) => context.strong_count() > 0,
        }
    }

    fn certificates(&self) -> Option<ContextCertificates> {
        match self {
            Context::Server(context) => {
                let context = context.upgrade()?;
                Some(of_context(context.certificate_slots(), context.validation()))
            }
            Context::Client(context) => {
                let context = context.upgrade()?;
                Some(of_context(context.certificate_slot(), context.validation()))
            }
        }
    }
}

fn of_context<'a>(
    slots: impl IntoIterator<Item = &'a Arc<SecretSlot<TlsCertificate>>>,
    validation: &Validation,
) -> ContextCertificates {
    let trusted = |context: &ValidationContext| {
        let bundle = context.trusted_ca.as_ref()?;
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
