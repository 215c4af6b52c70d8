//! From protobuf to contexts. What they are made of is loaded by [`certificate`] and [`rules`].

#![expect(
    deprecated,
    reason = "deprecated fields are read to be refused, and istiod still sends match_subject_alt_names"
)]

use std::sync::Arc;

use certs::client::{ClientTlsBuilder, ContextError};
use certs::material::TlsCertificate;
use certs::params::{TlsParams, TlsVersion};
use certs::server::{OcspStaplePolicy, ServerTlsBuilder, SessionResumption, TicketKeys, Validation};
use certs::slot::SecretSlot;
use prost_types::Any;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as proto;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{self, ValidationContextType};
use xds_protos::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::{self, SessionTicketKeysType};
use xds_protos::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;

use super::count::Counters;
use super::{DownstreamTls, UpstreamTls};
use crate::config::{DataSource, Path, Reject, values};
use crate::transport_socket::secrets::Awaited;
use crate::transport_socket::{Downstream, TransportCx, Upstream};

mod certificate;
mod rules;
mod spiffe;

pub use certificate::tls_certificate;
pub use rules::validation_context;

/// Where a secret stands. Files are followed only for those that were delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// In a context, or in `static_resources.secrets`.
    Configured,
    /// In an answer of a secret discovery service.
    Delivered,
}

impl Origin {
    fn check_watched(self, given: bool, path: &Path<'_>) -> Result<(), Reject> {
        if given && self == Origin::Configured {
            let why =
                "files are followed only for secrets from a secret discovery service (path_config_source, for example)";
            return Err(path.field("watched_directory").reject(why));
        }
        Ok(())
    }
}

/// `DownstreamTlsContext`
///
/// # Errors
/// What Envoy refuses, what we cannot do, and what would check nobody.
pub fn build_downstream(config: &Any, path: &Path<'_>, cx: TransportCx<'_>) -> Result<Downstream, Reject> {
    let proto::DownstreamTlsContext {
        common_tls_context,
        require_client_certificate,
        require_sni,
        disable_stateful_session_resumption,
        session_timeout,
        ocsp_staple_policy,
        full_scan_certs_on_sni_mismatch,
        prefer_client_ciphers,
        session_ticket_keys_type,
    } = values::decode(config, path)?;
    if require_sni == Some(true) {
        return Err(path.field("require_sni").reject("not supported; Envoy accepts it and does nothing"));
    }
    let common = common(common_tls_context.unwrap_or_default(), &path.field("common_tls_context"), cx)?;
    let policy = downstream_tls_context::OcspStaplePolicy::try_from(ocsp_staple_policy);
    let builder = ServerTlsBuilder {
        tls_params: common.params,
        alpn_protocols: common.alpn.clone(),
        tls_certificates: common.certificates,
        validation: common.validation,
        require_client_certificate: require_client_certificate.unwrap_or_default(),
        ocsp_staple_policy: match policy {
            Ok(downstream_tls_context::OcspStaplePolicy::LenientStapling) => OcspStaplePolicy::LenientStapling,
            Ok(downstream_tls_context::OcspStaplePolicy::StrictStapling) => OcspStaplePolicy::StrictStapling,
            Ok(downstream_tls_context::OcspStaplePolicy::MustStaple) => OcspStaplePolicy::MustStaple,
            Err(_) => return Err(path.field("ocsp_staple_policy").reject("not a known policy")),
        },
        full_scan_certs_on_sni_mismatch: full_scan_certs_on_sni_mismatch.unwrap_or_default(),
        prefer_client_ciphers,
        session_resumption: SessionResumption {
            disable_stateless: session_ticket_keys_type
                == Some(SessionTicketKeysType::DisableStatelessSessionResumption(true)),
            keys: match &session_ticket_keys_type {
                Some(SessionTicketKeysType::SessionTicketKeys(keys)) => {
                    Some(Arc::new(ticket_keys(keys, &path.field("session_ticket_keys"))?))
                }
                Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(_)) => {
                    let field = path.field("session_ticket_keys_sds_secret_config");
                    return Err(field.reject("session ticket keys are taken inline or from files only"));
                }
                Some(SessionTicketKeysType::DisableStatelessSessionResumption(_)) | None => None,
            },
            disable_stateful: disable_stateful_session_resumption,
            timeout: values::optional_duration(session_timeout.as_ref(), &path.field("session_timeout"))?,
        },
        time: None,
    };
    let context = builder.build().map_err(|error| refuse(&error, path))?;
    warn_of_dropped(context.dropped_params(), cx.scope);
    let counters = Counters::of_server(&cx.build.stats, cx.scope);
    let context = Arc::new(DownstreamTls::new(context, &common.alpn, counters));
    cx.build.secrets.add_server(&context);
    Ok(Downstream::Tls(context))
}

/// `UpstreamTlsContext`
///
/// # Errors
/// What Envoy refuses, and what we cannot do.
pub fn build_upstream(config: &Any, path: &Path<'_>, cx: TransportCx<'_>) -> Result<Upstream, Reject> {
    let proto::UpstreamTlsContext {
        common_tls_context,
        sni,
        auto_host_sni,
        auto_sni_san_validation,
        allow_renegotiation,
        max_session_keys,
        enforce_rsa_key_usage: _, // the key usage of every leaf is enforced
    } = values::decode(config, path)?;
    if allow_renegotiation {
        return Err(path.field("allow_renegotiation").reject("renegotiation is not supported"));
    }
    let common_path = path.field("common_tls_context");
    let mut common = common(common_tls_context.unwrap_or_default(), &common_path, cx)?;
    if common.certificates.len() > 1 {
        return Err(common_path.reject("expected one TLS certificate at most in a client context"));
    }
    let builder = ClientTlsBuilder {
        tls_params: common.params,
        alpn_protocols: common.alpn.clone(),
        tls_certificate: common.certificates.pop(),
        validation: common.validation,
        sni,
        auto_sni_san_validation,
        max_session_keys: max_session_keys.map_or(1, |keys| usize::try_from(keys).unwrap_or(usize::MAX)),
        time: None,
    };
    let context = builder.build().map_err(|error| refuse(&error, path))?;
    warn_of_dropped(context.dropped_params(), cx.scope);
    let counters = Counters::of_client(&cx.build.stats, cx.scope);
    let context = Arc::new(UpstreamTls::new(context, &common.alpn, auto_host_sni, counters));
    cx.build.secrets.add_client(&context);
    Ok(Upstream::Tls(context))
}

/// What both contexts have in common.
struct Common {
    params: TlsParams,
    certificates: Vec<Arc<SecretSlot<TlsCertificate>>>,
    validation: Validation,
    alpn: Vec<String>,
}

fn common(context: proto::CommonTlsContext, path: &Path<'_>, cx: TransportCx<'_>) -> Result<Common, Reject> {
    let proto::CommonTlsContext {
        tls_params,
        tls_certificates,
        tls_certificate_sds_secret_configs,
        tls_certificate_provider_instance,
        custom_tls_certificate_selector,
        tls_certificate_certificate_provider,
        tls_certificate_certificate_provider_instance,
        alpn_protocols,
        custom_handshaker,
        key_log,
        validation_context_type,
    } = context;
    refuse_if(tls_certificate_provider_instance.is_some(), path, "tls_certificate_provider_instance")?;
    refuse_if(custom_tls_certificate_selector.is_some(), path, "custom_tls_certificate_selector")?;
    refuse_if(tls_certificate_certificate_provider.is_some(), path, "tls_certificate_certificate_provider")?;
    let field = "tls_certificate_certificate_provider_instance";
    refuse_if(tls_certificate_certificate_provider_instance.is_some(), path, field)?;
    refuse_if(custom_handshaker.is_some(), path, "custom_handshaker")?;
    refuse_if(key_log.is_some(), path, "key_log")?;
    if !tls_certificates.is_empty() && !tls_certificate_sds_secret_configs.is_empty() {
        return Err(path.reject("expected tls_certificates or tls_certificate_sds_secret_configs, got both"));
    }
    let mut certificates = Vec::new();
    for (index, certificate) in tls_certificates.iter().enumerate() {
        let loaded = tls_certificate(certificate, Origin::Configured, &path.field("tls_certificates").index(index))?;
        certificates.push(SecretSlot::filled("", Arc::new(loaded)));
    }
    for (index, config) in tls_certificate_sds_secret_configs.iter().enumerate() {
        let path = path.field("tls_certificate_sds_secret_configs");
        let secrets = &cx.build.secrets;
        let slot = secret(config, &path.index(index), |name, source| match source {
            Some(source) => {
                let slot = secrets.dynamic_certificate(name, source);
                cx.build.dependencies.add(Arc::new(Awaited::new(&slot)));
                Some(slot)
            }
            None => secrets.certificate(name),
        })?;
        certificates.push(slot);
    }
    let params = tls_params.map_or_else(|| Ok(TlsParams::default()), |p| params(p, &path.field("tls_params")))?;
    let validation = validation(validation_context_type, path, cx)?;
    Ok(Common { params, certificates, validation, alpn: alpn_protocols })
}

fn validation(
    context: Option<ValidationContextType>,
    path: &Path<'_>,
    cx: TransportCx<'_>,
) -> Result<Validation, Reject> {
    let from_secret = |config: &proto::SdsSecretConfig, path: &Path<'_>| {
        let secrets = &cx.build.secrets;
        secret(config, path, |name, source| match source {
            Some(source) => {
                let slot = secrets.dynamic_validation_context(name, source);
                cx.build.dependencies.add(Arc::new(Awaited::new(&slot)));
                Some(slot)
            }
            None => secrets.validation_context(name),
        })
    };
    match context {
        None => Ok(Validation::None),
        Some(ValidationContextType::ValidationContext(context)) => {
            let context =
                validation_context(&context, Origin::Configured, &cx.build.secrets, &path.field("validation_context"))?;
            Ok(Validation::Fixed(Arc::new(context)))
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => {
            let slot = from_secret(&config, &path.field("validation_context_sds_secret_config"))?;
            Ok(Validation::Secret { default: None, slot })
        }
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            let path = path.field("combined_validation_context");
            let common_tls_context::CombinedCertificateValidationContext {
                default_validation_context,
                validation_context_sds_secret_config,
                validation_context_certificate_provider,
                validation_context_certificate_provider_instance,
            } = combined;
            let field = "validation_context_certificate_provider";
            refuse_if(validation_context_certificate_provider.is_some(), &path, field)?;
            let field = "validation_context_certificate_provider_instance";
            refuse_if(validation_context_certificate_provider_instance.is_some(), &path, field)?;
            let (Some(default), Some(config)) = (default_validation_context, validation_context_sds_secret_config)
            else {
                let wanted = "expected default_validation_context and validation_context_sds_secret_config";
                return Err(path.reject(wanted));
            };
            let default = validation_context(
                &default,
                Origin::Configured,
                &cx.build.secrets,
                &path.field("default_validation_context"),
            )?;
            let slot = from_secret(&config, &path.field("validation_context_sds_secret_config"))?;
            Ok(Validation::Secret { default: Some(Arc::new(default)), slot })
        }
        // Two deprecated kinds of certificate providers.
        Some(_) => {
            Err(path.reject("expected a validation context or a secret, certificate providers are not supported"))
        }
    }
}

/// The slot of a secret: without `sds_config`, one of the bootstrap's.
fn secret<T>(
    config: &proto::SdsSecretConfig,
    path: &Path<'_>,
    find: impl FnOnce(&str, Option<&core::ConfigSource>) -> Option<Arc<SecretSlot<T>>>,
) -> Result<Arc<SecretSlot<T>>, Reject> {
    let proto::SdsSecretConfig { name, sds_config } = config;
    if let Some(source) = sds_config {
        let path = path.field("sds_config");
        match &source.config_source_specifier {
            Some(ConfigSourceSpecifier::Self_(_)) => return Err(unsupported(&path.field("self"))),
            Some(_) => {}
            None => return Err(path.reject("expected ads, api_config_source or path_config_source, got none")),
        }
    }
    let unknown = || path.field("name").reject(format_args!("unknown static secret {name:?}"));
    find(name, sds_config.as_ref()).ok_or_else(unknown)
}

/// `TlsSessionTicketKeys`
fn ticket_keys(keys: &proto::TlsSessionTicketKeys, path: &Path<'_>) -> Result<TicketKeys, Reject> {
    let path = path.field("keys");
    let load = |(index, source)| DataSource::load(source, &path.index(index));
    let keys = keys.keys.iter().enumerate().map(load).collect::<Result<Vec<_>, _>>()?;
    TicketKeys::new(&keys).map_err(|error| path.reject(error))
}

fn params(params: proto::TlsParameters, path: &Path<'_>) -> Result<TlsParams, Reject> {
    let proto::TlsParameters {
        tls_minimum_protocol_version,
        tls_maximum_protocol_version,
        cipher_suites,
        ecdh_curves,
        signature_algorithms,
        compliance_policies,
    } = params;
    refuse_if(!compliance_policies.is_empty(), path, "compliance_policies")?;
    let version = |value: i32, field: &str| match TlsProtocol::try_from(value) {
        Ok(TlsProtocol::TlsAuto) => Ok(None),
        Ok(TlsProtocol::TlSv12) => Ok(Some(TlsVersion::V1_2)),
        Ok(TlsProtocol::TlSv13) => Ok(Some(TlsVersion::V1_3)),
        Ok(TlsProtocol::TlSv10 | TlsProtocol::TlSv11) => {
            Err(path.field(field).reject("TLS 1.0 and 1.1 are not supported, expected TLSv1_2 or TLSv1_3"))
        }
        Err(_) => Err(path.field(field).reject(format_args!("{value} is no protocol version"))),
    };
    Ok(TlsParams {
        min: version(tls_minimum_protocol_version, "tls_minimum_protocol_version")?,
        max: version(tls_maximum_protocol_version, "tls_maximum_protocol_version")?,
        cipher_suites,
        ecdh_curves,
        signature_algorithms,
    })
}

/// Says which field a context was refused for.
fn refuse(error: &ContextError, path: &Path<'_>) -> Reject {
    let common = path.field("common_tls_context");
    match error {
        ContextError::Params(_) | ContextError::Unusable(_) => common.field("tls_params").reject(error),
        ContextError::Validation(_) => common.field("validation_context").reject(error),
        ContextError::NoCertificate => common.field("tls_certificates").reject(error),
        ContextError::NothingToVerifyClientsBy => path.field("require_client_certificate").reject(error),
        ContextError::Alpn(_) => common.field("alpn_protocols").reject(error),
        ContextError::Sni(_) => path.field("sni").reject(error),
        ContextError::MustStaple(_) => path.field("ocsp_staple_policy").reject(error),
        _ => path.reject(error),
    }
}

fn unsupported(path: &Path<'_>) -> Reject {
    path.reject("not supported")
}

fn refuse_if(given: bool, path: &Path<'_>, field: &str) -> Result<(), Reject> {
    if given { Err(unsupported(&path.field(field))) } else { Ok(()) }
}

fn warn_of_dropped(dropped: &[String], scope: &str) {
    if !dropped.is_empty() {
        tracing::info!("{scope}: these TLS parameters are not supported and are left out: {}", dropped.join(", "));
    }
}
