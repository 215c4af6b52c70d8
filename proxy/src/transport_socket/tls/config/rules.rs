//! `CertificateValidationContext`: what a peer has to satisfy.

#![expect(deprecated, reason = "istiod still sends match_subject_alt_names")]

use std::path::Path as FilePath;
use std::sync::Arc;

use base64::Engine;
use certs::material::{Crls, TrustBundle};
use certs::san::{Own, SanMatcher, SanType, TextMatch};
use certs::validation::{TrustChainVerification, ValidationContext};
use xds_protos::envoy::extensions::transport_sockets::tls::v3 as proto;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::certificate_validation_context as context_proto;
use xds_protos::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType as ProtoSanType;
use xds_protos::envoy::r#type::matcher::v3 as matcher_proto;
use xds_protos::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

use super::certificate::source_name;
use super::{Origin, refuse_if, spiffe, unsupported};
use crate::config::matcher::Regex;
use crate::config::{DataSource, Path, Reject};
use crate::transport_socket::SecretManager;

/// Where distributions keep the authorities they trust, in Envoy's order.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// `CertificateValidationContext`, which may be half of a combined one.
///
/// # Errors
/// Material that cannot be read, and rules that are not supported.
pub fn validation_context(
    context: &proto::CertificateValidationContext,
    origin: Origin,
    secrets: &SecretManager,
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
    origin.check_watched(watched_directory.is_some(), path)?;
    let timestamps = require_signed_certificate_timestamp.unwrap_or_default();
    refuse_if(timestamps, path, "require_signed_certificate_timestamp")?;
    let trust_domains = match custom_validator_config {
        Some(config) => Some(spiffe::trust_domains(config, secrets, &path.field("custom_validator_config"))?),
        None => None,
    };
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
        trust_domains,
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

pub(super) fn bundle(pem: &[u8], source: String, path: &Path<'_>) -> Result<Arc<TrustBundle>, Reject> {
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
