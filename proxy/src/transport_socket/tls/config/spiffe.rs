//! `envoy.tls.cert_validator.spiffe`: `SPIFFECertValidatorConfig`.
//!
//! Deliberately missing: `workload_trust_domain`, which chooses among domains by filter state.

use std::path::Path as FilePath;
use std::sync::Arc;

use certs::slot::SecretSlot;
use certs::trust_domains::{TrustDomains, TrustDomainsError};
use prost::Name;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::data_source::Specifier;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::SpiffeCertValidatorConfig;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::spiffe_cert_validator_config::TrustDomain;

use super::certificate::source_name;
use super::rules::bundle;
use crate::config::{DataSource, Path, Reject, values};
use crate::transport_socket::SecretManager;

/// `custom_validator_config`
///
/// # Errors
/// Another validator, and bundles that cannot be used.
pub fn trust_domains(
    config: &core::TypedExtensionConfig,
    secrets: &SecretManager,
    path: &Path<'_>,
) -> Result<Arc<SecretSlot<TrustDomains>>, Reject> {
    let core::TypedExtensionConfig { name, typed_config } = config;
    let path = path.field("typed_config");
    let expected = SpiffeCertValidatorConfig::full_name();
    let config = typed_config.as_ref().filter(|any| any.type_url.rsplit('/').next() == Some(&*expected));
    let Some(config) = config else {
        let got = typed_config.as_ref().map_or("none", |any| &any.type_url);
        return Err(path.reject(format_args!(
            "the certificate validator {name:?} is not supported: expected {expected}, got {got}"
        )));
    };
    let SpiffeCertValidatorConfig { trust_domains, trust_bundles } = values::decode(config, &path)?;
    // As in Envoy, the map takes precedence.
    let Some(source) = trust_bundles else {
        let path = path.field("trust_domains");
        let domains = named(&trust_domains, &path)?;
        return Ok(SecretSlot::filled("", Arc::new(domains)));
    };
    let path = path.field("trust_bundles");
    let json = DataSource::load(&source, &path)?;
    let domains =
        TrustDomains::from_bundle_map(&json, &source_name(Some(&source))).map_err(|error| path.reject(error))?;
    let slot = SecretSlot::filled("", Arc::new(domains));
    if let Some(Specifier::Filename(file)) = &source.specifier {
        secrets.follow_bundles(FilePath::new(file), &json, &slot);
    }
    Ok(slot)
}

fn named(domains: &[TrustDomain], path: &Path<'_>) -> Result<TrustDomains, Reject> {
    let mut bundles = Vec::new();
    for (index, domain) in domains.iter().enumerate() {
        let path = path.index(index);
        let TrustDomain { name, trust_bundle, workload_trust_domain } = domain;
        if !workload_trust_domain.is_empty() {
            return Err(path.field("workload_trust_domain").reject("not supported"));
        }
        let path = path.field("trust_bundle");
        let source = trust_bundle.as_ref().ok_or_else(|| path.reject("expected a data source, got none"))?;
        let pem = DataSource::load(source, &path)?;
        bundles.push((name.clone(), bundle(&pem, source_name(Some(source)), &path)?));
    }
    TrustDomains::new(bundles).map_err(|error: TrustDomainsError| path.reject(error))
}
