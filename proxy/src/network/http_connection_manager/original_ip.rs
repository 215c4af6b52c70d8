//! `original_ip_detection_extensions`: who sent a request, by a header that a trusted proxy wrote.
//!
//! The extensions are asked in order; the first that finds an address, or refuses the request, decides. They take the
//! place of `use_remote_address` and `xff_num_trusted_hops`, with which they cannot be mixed.

use std::net::IpAddr;

use http::header::HeaderName;
use http::{HeaderMap, StatusCode};
use ipnet::IpNet;
use xds_protos::envoy::config::core::v3::TypedExtensionConfig;
use xds_protos::envoy::extensions::http::original_ip_detection::custom_header::v3::CustomHeaderConfig;
use xds_protos::envoy::extensions::http::original_ip_detection::xff::v3::XffConfig;

use super::request_headers::{last_address, last_untrusted_address, parse_address};
use crate::config::{Path, Reject, values};
use crate::net::Address;
use crate::registry;

/// One extension as built.
pub enum Detection {
    CustomHeader { name: HeaderName, trusted: bool, reject_with: Option<StatusCode> },
    Xff { hops: u32, trusted_cidrs: Option<Vec<IpNet>>, skip_append: bool },
}

/// What an extension found.
pub struct Detected {
    pub address: Option<Address>,
    /// The address may make the request internal.
    pub trusted: bool,
    /// The peer is not added to `x-forwarded-for`; asked even where there is no address.
    pub skip_append: bool,
}

impl Detection {
    /// # Errors
    /// For an extension that is not known, and for what Envoy does not accept of the known ones.
    pub fn build_all(list: &[TypedExtensionConfig], path: &Path<'_>) -> Result<Vec<Self>, Reject> {
        list.iter().enumerate().map(|(i, extension)| Detection::build(extension, &path.index(i))).collect()
    }

    fn build(extension: &TypedExtensionConfig, path: &Path<'_>) -> Result<Self, Reject> {
        let path = path.field("typed_config");
        let config = registry::typed_config(extension.typed_config.as_ref(), &path)?;
        match config.type_url.rsplit('/').next().unwrap_or_default() {
            "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig" => {
                Detection::custom_header(&values::decode(&config, &path)?, &path)
            }
            "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig" => {
                Detection::xff(&values::decode(&config, &path)?, &path)
            }
            _ => Err(path.reject(format_args!(
                "expected envoy.http.original_ip_detection.custom_header or .xff, got {}",
                config.type_url
            ))),
        }
    }

    fn custom_header(p: &CustomHeaderConfig, path: &Path<'_>) -> Result<Self, Reject> {
        let CustomHeaderConfig { header_name, allow_extension_to_set_address_as_trusted, reject_with_status } = p;
        let name = HeaderName::try_from(header_name.as_str())
            .map_err(|_| path.field("header_name").reject(format_args!("expected a header, got {header_name:?}")))?;
        // As in Envoy only errors are statuses to refuse with; anything else means 403.
        let reject_with = reject_with_status.as_ref().map(|status| {
            let code = u16::try_from(status.code).ok().filter(|code| (400..600).contains(code));
            code.and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(StatusCode::FORBIDDEN)
        });
        Ok(Detection::CustomHeader { name, trusted: *allow_extension_to_set_address_as_trusted, reject_with })
    }

    fn xff(p: &XffConfig, path: &Path<'_>) -> Result<Self, Reject> {
        let XffConfig { xff_num_trusted_hops, xff_trusted_cidrs, skip_xff_append } = p;
        if xff_trusted_cidrs.is_some() && *xff_num_trusted_hops > 0 {
            return Err(path.reject("expected either xff_num_trusted_hops or xff_trusted_cidrs, got both"));
        }
        let at = path.field("xff_trusted_cidrs");
        let at = at.field("cidrs");
        let trusted_cidrs = xff_trusted_cidrs.as_ref().map(|trusted| {
            trusted.cidrs.iter().enumerate().map(|(i, cidr)| values::cidr_range(cidr, &at.index(i))).collect()
        });
        Ok(Detection::Xff {
            hops: *xff_num_trusted_hops,
            trusted_cidrs: trusted_cidrs.transpose()?,
            skip_append: skip_xff_append.unwrap_or(true),
        })
    }

    /// `peer` is who sent the request to us.
    ///
    /// # Errors
    /// The status that a request without an address is refused with.
    pub fn detect(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Result<Detected, StatusCode> {
        match self {
            Detection::CustomHeader { name, trusted, reject_with } => {
                let address = headers.get(name).and_then(|value| parse_address(value.to_str().ok()?));
                match (&address, reject_with) {
                    (None, Some(status)) => Err(*status),
                    _ => Ok(Detected { address, trusted: *trusted, skip_append: true }),
                }
            }
            Detection::Xff { hops, trusted_cidrs: None, skip_append } => {
                let (address, trusted) = last_address(headers, *hops);
                Ok(Detected { address, trusted, skip_append: *skip_append })
            }
            Detection::Xff { trusted_cidrs: Some(cidrs), skip_append, .. } => {
                let is_trusted = |ip: IpAddr| cidrs.iter().any(|cidr| cidr.contains(&ip));
                if !peer.is_some_and(is_trusted) {
                    // A stranger's header says nothing, and the stranger is part of the way.
                    return Ok(Detected { address: None, trusted: false, skip_append: false });
                }
                let (address, trusted) = last_untrusted_address(headers, is_trusted);
                Ok(Detected { address, trusted, skip_append: *skip_append })
            }
        }
    }
}
