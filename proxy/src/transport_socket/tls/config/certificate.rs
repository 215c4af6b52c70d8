//! `TlsCertificate`: a chain with its key.

use certs::material::{MaterialError, TlsCertificate};
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as proto;

use super::{Origin, refuse_if};
use crate::config::{DataSource, Path, Reject};

/// `TlsCertificate`
///
/// # Errors
/// Material that cannot be read or does not fit, and sources that are not supported.
pub fn tls_certificate(
    certificate: &proto::TlsCertificate,
    origin: Origin,
    path: &Path<'_>,
) -> Result<TlsCertificate, Reject> {
    let proto::TlsCertificate {
        certificate_chain,
        private_key,
        pkcs12,
        watched_directory,
        private_key_provider,
        password,
        ocsp_staple,
        signed_certificate_timestamp,
        tls_params,
    } = certificate;
    refuse_if(pkcs12.is_some(), path, "pkcs12")?;
    origin.check_watched(watched_directory.is_some(), path)?;
    refuse_if(private_key_provider.is_some(), path, "private_key_provider")?;
    refuse_if(password.is_some(), path, "password")?;
    refuse_if(!signed_certificate_timestamp.is_empty(), path, "signed_certificate_timestamp")?;
    refuse_if(tls_params.is_some(), path, "tls_params")?;
    let load = |source: &Option<core::DataSource>, field: &str| match source {
        Some(source) => DataSource::load(source, &path.field(field)),
        None => Err(path.field(field).reject("expected a data source, got none")),
    };
    let chain = load(certificate_chain, "certificate_chain")?;
    let key = load(private_key, "private_key")?;
    let blamed = |error: &MaterialError| match error {
        MaterialError::NoKey | MaterialError::Key(_) | MaterialError::EncryptedKey => "private_key",
        MaterialError::KeyMismatch { .. } => "private_key",
        _ => "certificate_chain",
    };
    let loaded = TlsCertificate::from_pem(&chain, &key, source_name(certificate_chain.as_ref()))
        .map_err(|error| path.field(blamed(&error)).reject(error))?;
    match ocsp_staple {
        Some(source) => {
            let path = path.field("ocsp_staple");
            let response = DataSource::load(source, &path)?;
            loaded.with_ocsp_staple(&response).map_err(|error| path.reject(error))
        }
        None => Ok(loaded),
    }
}

/// What `/certs` calls the path of a certificate.
pub(super) fn source_name(source: Option<&core::DataSource>) -> String {
    use core::data_source::Specifier;
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::Filename(name)) => name.clone(),
        _ => "<inline>".to_owned(),
    }
}
