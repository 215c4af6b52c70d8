//! `ssl.certificate.<name>.expiration_unix_time_seconds`: when the certificates of a context end.

use std::sync::Arc;

use certs::material::TlsCertificate;
use certs::server::Validation;
use certs::slot::SecretSlot;
use certs::validation::ValidationContext;

use super::count::Counters;

/// Sets the gauges of what is in the slots now.
pub fn note_expirations<'a>(
    counters: &Counters,
    slots: impl IntoIterator<Item = &'a Arc<SecretSlot<TlsCertificate>>>,
    validation: &Validation,
) {
    // The digest in these names is that of nothing: Envoy takes it of a name that inline certificates do not have.
    const CERTIFICATE: &str = "unnamed_cert_e3b0c442";
    const CA: &str = "unnamed_ca_cert_e3b0c442";
    let seconds = |not_after: i64| u64::try_from(not_after).unwrap_or_default();
    for slot in slots {
        if let Some(certificate) = slot.get()
            && let Some(leaf) = certificate.leaf()
        {
            counters.expiration(slot.name(), CERTIFICATE, seconds(leaf.not_after()));
        }
    }
    let of_ca = |context: &ValidationContext, name: &str| match &context.trusted_ca {
        Some(bundle) => {
            let not_after = bundle.certificates().first().map_or(0, |ca| ca.not_after());
            counters.expiration(name, CA, seconds(not_after));
        }
        None => counters.expiration(name, "unnamed_ca_cert", i64::MAX.cast_unsigned()),
    };
    match validation {
        Validation::None => {}
        Validation::Fixed(context) => of_ca(context, ""),
        Validation::Secret { slot, .. } => {
            if let Some(context) = slot.get() {
                of_ca(&context, slot.name());
            }
        }
    }
}
