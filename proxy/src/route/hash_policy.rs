//! `envoy.config.route.v3.RouteAction.HashPolicy`, and the hash that they make of a request, for load
//! balancers that hash.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use twox_hash::XxHash64;
use xds_protos::envoy::config::route::v3::route_action::{HashPolicy as Proto, hash_policy as pb};

use super::unsupported;
use crate::config::matcher::RegexSubstitution;
use crate::config::values::optional_duration;
use crate::config::{Path, Reject};
use crate::http::{FieldName, RequestHead};

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

/// What the hash policies of a route come to for one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RequestHash {
    pub hash: Option<u64>,
    /// Cookies that were made up, each the value of a `set-cookie`.
    pub cookies: Vec<String>,
}

impl RequestHash {
    /// `remote` is where the client is, and `connection` names its connection: the addresses of both its ends.
    pub fn of(
        policies: &[HashPolicy],
        head: &RequestHead,
        remote: Option<IpAddr>,
        connection: impl Fn() -> String,
    ) -> Self {
        let mut found = RequestHash::default();
        for policy in policies {
            let new = match &policy.source {
                HashSource::Header { name, rewrite } => header(head, name, rewrite.as_deref()),
                HashSource::Cookie(cookie) => match super::cookie(head, &cookie.name).filter(|value| !value.is_empty())
                {
                    Some(value) => Some(XxHash64::oneshot(0, value)),
                    None => cookie.ttl.map(|ttl| {
                        // The same on all streams of a connection, whichever of them is first.
                        let value = format!("{:016x}", XxHash64::oneshot(0, connection().as_bytes()));
                        found.cookies.push(cookie.set_cookie(&value, ttl));
                        XxHash64::oneshot(0, value.as_bytes())
                    }),
                },
                HashSource::ConnectionProperties { source_ip } => {
                    remote.filter(|_| *source_ip).map(|ip| XxHash64::oneshot(0, ip.to_string().as_bytes()))
                }
                HashSource::QueryParameter(name) => {
                    super::query_parameter(&head.path, name).map(|value| XxHash64::oneshot(0, value.as_bytes()))
                }
            };
            if let Some(new) = new {
                // Turned, or two equal sources would cancel each other out.
                found.hash = Some(found.hash.map_or(0, |old| old.rotate_left(1)) ^ new);
            }
            if policy.terminal && found.hash.is_some() {
                break;
            }
        }
        found
    }
}

/// All values of the header, whatever their order.
fn header(head: &RequestHead, name: &FieldName, rewrite: Option<&RegexSubstitution>) -> Option<u64> {
    let mut values: Vec<Cow<'_, [u8]>> = name.request(head).map(Cow::Borrowed).collect();
    if let Some(rewrite) = rewrite {
        values = values.iter().map(|value| Cow::Owned(rewrite.replace_all(value).into_owned())).collect();
    }
    values.sort();
    (!values.is_empty()).then(|| XxHash64::oneshot(0, &values.concat()))
}

impl HashCookie {
    fn set_cookie(&self, value: &str, ttl: Duration) -> String {
        let mut out = format!("{}=\"{value}\"", self.name);
        if ttl.as_secs() > 0 {
            out += &format!("; Max-Age={}", ttl.as_secs());
        }
        if !self.path.is_empty() {
            out += &format!("; Path={}", self.path);
        }
        for (name, value) in &self.attributes {
            out += &if value.is_empty() { format!("; {name}") } else { format!("; {name}={value}") };
        }
        out + "; HttpOnly"
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
