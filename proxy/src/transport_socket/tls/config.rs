//! From protobuf to contexts.

#![expect(
    deprecated,
    reason = "deprecated fields are read to be refused, and istiod still sends match_subject_alt_names"
)]

use std::path::Path as FilePath;
use std::sync::Arc;

use base64::Engine;
use certs::client::{ClientTlsBuilder, ContextError};
use certs::material::{Crls, MaterialError, TlsCertificate, TrustBundle};
use certs::params::{TlsParams, TlsVersion};
use certs::san::{Own, SanMatcher, SanType, TextMatch};
use certs::server::{OcspStaplePolicy, ServerTlsBuilder, SessionResumption, Validation};
use certs::slot::SecretSlot;
use certs::validation::{TrustChainVerification, ValidationContext};
use prost_types::Any;
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as proto;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context as context_proto;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{self, ValidationContextType};
use xds_protos::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::{self, SessionTicketKeysType};
use xds_protos::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType as ProtoSanType;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::tls_parameters::TlsProtocol;
use xds_protos::envoy::r#type::matcher::v3 as matcher_proto;
use xds_protos::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use super::count::Counters;
use super::{DownstreamTls, UpstreamTls};
use crate::config::matcher::Regex;
use crate::config::{DataSource, Path, Reject, values};
use crate::transport_socket::secrets::Awaited;
use crate::transport_socket::{Downstream, TransportCx, Upstream};

/// Where distributions keep the authorities they trust, in Envoy's order.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

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
            disable_stateless: match session_ticket_keys_type {
                Some(SessionTicketKeysType::DisableStatelessSessionResumption(disable)) => disable,
                Some(SessionTicketKeysType::SessionTicketKeys(_)) => {
                    return Err(path.field("session_ticket_keys").reject("session ticket keys are not supported"));
                }
                Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(_)) => {
                    let field = path.field("session_ticket_keys_sds_secret_config");
                    return Err(field.reject("session ticket keys are not supported"));
                }
                None => false,
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
        let loaded = tls_certificate(certificate, &path.field("tls_certificates").index(index))?;
        certificates.push(SecretSlot::filled("", Arc::new(loaded)));
    }
    for (index, config) in tls_certificate_sds_secret_configs.iter().enumerate() {
        let path = path.field("tls_certificate_sds_secret_configs");
        let secrets = &cx.build.secrets;
        let slot = secret(config, &path.index(index), |name, source| match source {
            Some(source) => {
                let slot = secrets.dynamic_certificate(name, source);
                cx.build.dependencies.add(Arc::new(Awaited(slot.clone())));
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
                cx.build.dependencies.add(Arc::new(Awaited(slot.clone())));
                Some(slot)
            }
            None => secrets.validation_context(name),
        })
    };
    match context {
        None => Ok(Validation::None),
        Some(ValidationContextType::ValidationContext(context)) => {
            let context = validation_context(&context, &path.field("validation_context"))?;
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
            let default = validation_context(&default, &path.field("default_validation_context"))?;
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

/// `TlsCertificate`
///
/// # Errors
/// Material that cannot be read or does not fit, and sources that are not supported.
pub fn tls_certificate(certificate: &proto::TlsCertificate, path: &Path<'_>) -> Result<TlsCertificate, Reject> {
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
    refuse_if(watched_directory.is_some(), path, "watched_directory")?;
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

/// `CertificateValidationContext`, which may be half of a combined one.
///
/// # Errors
/// Material that cannot be read, and rules that are not supported.
pub fn validation_context(
    context: &proto::CertificateValidationContext,
    path: &Path<'_>,
) -> Result<ValidationContext, Reject> {
    let proto::CertificateValidationContext {
        trusted_ca,
        ca_certificate_provider_instance,
        system_root_certs,
        watched_directory,
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names,
        match_subject_alt_names,
        require_signed_certificate_timestamp,
        crl,
        allow_expired_certificate,
        trust_chain_verification,
        custom_validator_config,
        only_verify_leaf_cert_crl,
        max_verify_depth,
        suppress_client_ca_list,
    } = context;
    refuse_if(ca_certificate_provider_instance.is_some(), path, "ca_certificate_provider_instance")?;
    refuse_if(watched_directory.is_some(), path, "watched_directory")?;
    let timestamps = require_signed_certificate_timestamp.unwrap_or_default();
    refuse_if(timestamps, path, "require_signed_certificate_timestamp")?;
    refuse_if(custom_validator_config.is_some(), path, "custom_validator_config")?;
    let trusted_ca = match (trusted_ca, system_root_certs) {
        (Some(source), _) => {
            let path = path.field("trusted_ca");
            let pem = DataSource::load(source, &path)?;
            Some(bundle(&pem, source_name(Some(source)), &path)?)
        }
        (None, Some(context_proto::SystemRootCerts {})) => Some(system_roots(&path.field("system_root_certs"))?),
        (None, None) => None,
    };
    let crls = match crl {
        Some(source) => {
            let path = path.field("crl");
            let lists = Crls::from_pem(&DataSource::load(source, &path)?).map_err(|error| path.reject(error))?;
            Some(Arc::new(lists))
        }
        None => None,
    };
    // As in Envoy, the typed matchers stand in for the deprecated ones where both are given.
    let match_subject_alt_names = if match_typed_subject_alt_names.is_empty() {
        untyped_names(match_subject_alt_names, &path.field("match_subject_alt_names"))?
    } else {
        typed_names(match_typed_subject_alt_names, &path.field("match_typed_subject_alt_names"))?
    };
    Ok(ValidationContext {
        trusted_ca,
        crls,
        match_subject_alt_names,
        verify_certificate_hash: digests(verify_certificate_hash, &path.field("verify_certificate_hash"), from_hex)?,
        verify_certificate_spki: digests(verify_certificate_spki, &path.field("verify_certificate_spki"), from_base64)?,
        trust_chain_verification: match context_proto::TrustChainVerification::try_from(*trust_chain_verification) {
            Ok(context_proto::TrustChainVerification::VerifyTrustChain) => TrustChainVerification::VerifyTrustChain,
            Ok(context_proto::TrustChainVerification::AcceptUntrusted) => TrustChainVerification::AcceptUntrusted,
            Err(_) => return Err(path.field("trust_chain_verification").reject("not a known value")),
        },
        allow_expired_certificate: *allow_expired_certificate,
        only_verify_leaf_cert_crl: *only_verify_leaf_cert_crl,
        max_verify_depth: *max_verify_depth,
        suppress_client_ca_list: *suppress_client_ca_list,
    })
}

fn bundle(pem: &[u8], source: String, path: &Path<'_>) -> Result<Arc<TrustBundle>, Reject> {
    let bundle = TrustBundle::from_pem(pem, source).map_err(|error| path.reject(error))?;
    for skipped in bundle.skipped() {
        tracing::warn!("{path}: left out of the trusted CAs: {skipped}");
    }
    Ok(Arc::new(bundle))
}

fn system_roots(path: &Path<'_>) -> Result<Arc<TrustBundle>, Reject> {
    let Some(file) = SYSTEM_ROOTS.iter().find(|file| FilePath::new(file).exists()) else {
        return Err(path.reject(format_args!("none of these files exists: {}", SYSTEM_ROOTS.join(", "))));
    };
    let pem = std::fs::read(file).map_err(|error| path.reject(format_args!("cannot read {file}: {error}")))?;
    bundle(&pem, (*file).to_owned(), path)
}

fn typed_names(matchers: &[proto::SubjectAltNameMatcher], path: &Path<'_>) -> Result<Vec<SanMatcher>, Reject> {
    let build = |(index, matcher): (usize, &proto::SubjectAltNameMatcher)| {
        let path = path.index(index);
        let proto::SubjectAltNameMatcher { san_type, matcher, oid: _ } = matcher;
        let kind = match ProtoSanType::try_from(*san_type) {
            Ok(ProtoSanType::Email) => SanType::Email,
            Ok(ProtoSanType::Dns) => SanType::Dns,
            Ok(ProtoSanType::Uri) => SanType::Uri,
            Ok(ProtoSanType::IpAddress) => SanType::IpAddress,
            Ok(ProtoSanType::OtherName) => SanType::OtherName,
            Ok(ProtoSanType::Unspecified) | Err(_) => {
                return Err(path.field("san_type").reject("expected EMAIL, DNS, URI or IP_ADDRESS"));
            }
        };
        let path = path.field("matcher");
        let matcher = matcher.as_ref().ok_or_else(|| path.reject("expected a matcher, got none"))?;
        name_matcher(kind, matcher, &path)
    };
    matchers.iter().enumerate().map(build).collect()
}

/// `match_subject_alt_names` speaks of names of every kind.
fn untyped_names(matchers: &[matcher_proto::StringMatcher], path: &Path<'_>) -> Result<Vec<SanMatcher>, Reject> {
    let mut names = Vec::new();
    for (index, matcher) in matchers.iter().enumerate() {
        for kind in [SanType::Dns, SanType::Uri, SanType::Email, SanType::IpAddress] {
            names.push(name_matcher(kind, matcher, &path.index(index))?);
        }
    }
    Ok(names)
}

fn name_matcher(kind: SanType, matcher: &matcher_proto::StringMatcher, path: &Path<'_>) -> Result<SanMatcher, Reject> {
    let matcher_proto::StringMatcher { ignore_case, match_pattern } = matcher;
    let text = match match_pattern {
        Some(MatchPattern::Exact(text)) => TextMatch::Exact(text.clone()),
        Some(MatchPattern::Prefix(text)) => TextMatch::Prefix(non_empty(text, path, "prefix")?),
        Some(MatchPattern::Suffix(text)) => TextMatch::Suffix(non_empty(text, path, "suffix")?),
        Some(MatchPattern::Contains(text)) => TextMatch::Contains(non_empty(text, path, "contains")?),
        Some(MatchPattern::SafeRegex(proto)) => {
            let regex = Regex::build(proto, &path.field("safe_regex"))?;
            TextMatch::Own(Own::new(&proto.regex, move |name| regex.matches(name.as_bytes())))
        }
        Some(MatchPattern::Custom(_)) => return Err(unsupported(&path.field("custom"))),
        None => return Err(path.reject("expected one of exact, prefix, suffix, contains, safe_regex")),
    };
    SanMatcher::new(kind, text, *ignore_case).map_err(|error| path.reject(error))
}

fn non_empty(text: &str, path: &Path<'_>, field: &str) -> Result<String, Reject> {
    match text {
        "" => Err(path.field(field).reject("expected at least one character")),
        text => Ok(text.to_owned()),
    }
}

fn digests(
    texts: &[String],
    path: &Path<'_>,
    parse: impl Fn(&str) -> Option<[u8; 32]>,
) -> Result<Vec<[u8; 32]>, Reject> {
    let one = |(index, text): (usize, &String)| {
        parse(text).ok_or_else(|| path.index(index).reject(format_args!("expected a SHA-256 digest, got {text:?}")))
    };
    texts.iter().enumerate().map(one).collect()
}

/// 64 hexadecimal digits, or 32 pairs of them joined by colons.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = if text.len() == 95 { text.replace(':', "") } else { text.to_owned() };
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let digit = |c: &u8| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let byte = |[high, low]: &[u8; 2]| Some(digit(high)? << 4 | digit(low)?);
    let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

fn from_base64(text: &str) -> Option<[u8; 32]> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok()
}

/// What `/certs` calls the path of a certificate.
fn source_name(source: Option<&core::DataSource>) -> String {
    use core::data_source::Specifier;
    match source.and_then(|source| source.specifier.as_ref()) {
        Some(Specifier::Filename(name)) => name.clone(),
        _ => "<inline>".to_owned(),
    }
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
