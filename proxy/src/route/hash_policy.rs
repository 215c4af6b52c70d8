//! `envoy.config.route.v3.RouteAction.HashPolicy`, as data: read and checked in full with the route, for load balancers that
//! hash.

use std::time::Duration;

use xds_protos::envoy::config::route::v3::route_action::{HashPolicy as Proto, hash_policy as pb};

use super::unsupported;
use crate::config::matcher::RegexSubstitution;
use crate::config::values::optional_duration;
use crate::config::{Path, Reject};
use crate::http::FieldName;

/// One source of a hash. Sources are combined in order; `terminal` ends the list once there is a hash.
#[derive(Debug, Clone)]
pub struct HashPolicy {
    pub source: HashSource,
    pub terminal: bool,
}

#[derive(Debug, Clone)]
pub enum HashSource {
    Header {
        name: FieldName,
        rewrite: Option<Box<RegexSubstitution>>,
    },
    Cookie(Box<HashCookie>),
    /// `connection_properties`; without `source_ip` it contributes nothing.
    ConnectionProperties {
        source_ip: bool,
    },
    QueryParameter(Box<str>),
}

/// A cookie that is made when the request has none, if it has a lifetime; zero is a session cookie.
#[derive(Debug, Clone)]
pub struct HashCookie {
    pub name: String,
    pub ttl: Option<Duration>,
    pub path: String,
    pub attributes: Vec<(String, String)>,
}

impl HashPolicy {
    /// # Errors
    /// A policy without a source, without a name, or one that hashes filter state.
    pub fn build(proto: &Proto, path: &Path) -> Result<Self, Reject> {
        let Proto { terminal, policy_specifier } = proto;
        let source = match policy_specifier {
            Some(pb::PolicySpecifier::Header(header)) => {
                let pb::Header { header_name, regex_rewrite } = header;
                let path = path.field("header");
                let name = FieldName::parse(header_name).ok_or_else(|| {
                    path.field("header_name").reject(format_args!("expected a header name, got {header_name:?}"))
                })?;
                let rewrite_path = path.field("regex_rewrite");
                let rewrite = regex_rewrite.as_ref().map(|r| RegexSubstitution::build(r, &rewrite_path)).transpose()?;
                HashSource::Header { name, rewrite: rewrite.map(Box::new) }
            }
            Some(pb::PolicySpecifier::Cookie(cookie)) => {
                HashSource::Cookie(Box::new(build_cookie(cookie, &path.field("cookie"))?))
            }
            Some(pb::PolicySpecifier::ConnectionProperties(pb::ConnectionProperties { source_ip })) => {
                HashSource::ConnectionProperties { source_ip: *source_ip }
            }
            Some(pb::PolicySpecifier::QueryParameter(pb::QueryParameter { name })) => {
                let path = path.field("query_parameter");
                HashSource::QueryParameter(non_empty(name, &path.field("name"))?.into())
            }
            Some(pb::PolicySpecifier::FilterState(_)) => return Err(unsupported::reject(path, "filter_state")),
            None => {
                let why = "expected one of header, cookie, connection_properties, query_parameter";
                return Err(path.reject(why));
            }
        };
        Ok(HashPolicy { source, terminal: *terminal })
    }
}

fn build_cookie(proto: &pb::Cookie, path: &Path) -> Result<HashCookie, Reject> {
    let pb::Cookie { name, ttl, path: cookie_path, attributes } = proto;
    let attributes = attributes.iter().enumerate().map(|(i, attribute)| {
        let at = path.field("attributes");
        Ok((non_empty(&attribute.name, &at.index(i).field("name"))?.to_owned(), attribute.value.clone()))
    });
    Ok(HashCookie {
        name: non_empty(name, &path.field("name"))?.to_owned(),
        ttl: optional_duration(ttl.as_ref(), &path.field("ttl"))?,
        path: cookie_path.clone(),
        attributes: attributes.collect::<Result<_, _>>()?,
    })
}

fn non_empty<'t>(text: &'t str, path: &Path) -> Result<&'t str, Reject> {
    if text.is_empty() { Err(path.reject("expected at least one character")) } else { Ok(text) }
}
