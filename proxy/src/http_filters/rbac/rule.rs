//! Permissions and principals: `envoy.config.rbac.v3.Permission` and `Principal` are the same kind of tree over different
//! facts, and are one type here.

use std::net::IpAddr;
use std::ops::Range;

use http::HeaderMap;
use ipnet::IpNet;
use xds_protos::envoy::config::rbac::v3 as pb;
use xds_protos::envoy::config::rbac::v3::permission::Rule as Permission;
use xds_protos::envoy::config::rbac::v3::principal::Identifier as Principal;
use xds_protos::envoy::r#type::matcher::v3 as matcher;

use crate::config::matcher::{MetadataMatcher, StringMatcher};
use crate::config::values::cidr_range;
use crate::config::{Path, Reject};
use crate::http::RequestHead;
use crate::route::{HeaderMatcher, RouteMatch, UriTemplate, path_only};
use crate::stream_info::{ConnectionInfo, StreamInfo, TlsInfo};

/// What is judged: a request, or a connection before there is one.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub connection: &'a ConnectionInfo,
    /// `None`: a connection, which has no header at all.
    pub head: Option<&'a RequestHead>,
    pub info: Option<&'a StreamInfo>,
    pub route: Option<&'a RouteMatch>,
}

/// One node of a tree of permissions or principals.
pub enum Rule {
    Any,
    All(Vec<Rule>),
    AnyOf(Vec<Rule>),
    Not(Box<Rule>),
    Header(Box<HeaderMatcher>),
    /// The path without query and fragment.
    UrlPath(StringMatcher),
    UriTemplate(Box<UriTemplate>),
    DestinationIp(IpNet),
    DestinationPort(Range<u32>),
    RequestedServerName(StringMatcher),
    Metadata(Box<MetadataMatcher>, MetadataSource),
    /// `None`: any peer over TLS.
    Authenticated(Option<StringMatcher>),
    /// The connection's peer, after the PROXY protocol.
    SourceIp(IpNet),
    /// The socket's peer.
    DirectRemoteIp(IpNet),
    /// Who sent the request, after `x-forwarded-for`.
    RemoteIp(IpNet),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetadataSource {
    Dynamic,
    Route,
}

impl Rule {
    /// # Errors
    /// For a permission that is not known, and for whatever is wrong with one.
    pub fn permission(proto: &pb::Permission, path: &Path<'_>) -> Result<Self, Reject> {
        let pb::Permission { rule } = proto;
        let sets = |set: &pb::permission::Set, field: &str| {
            let path = path.field(field);
            list(&set.rules, &path.field("rules"), Self::permission)
        };
        Ok(match rule {
            None => return Err(path.reject("expected a rule, got none")),
            Some(Permission::AndRules(set)) => Rule::All(sets(set, "and_rules")?),
            Some(Permission::OrRules(set)) => Rule::AnyOf(sets(set, "or_rules")?),
            Some(Permission::NotRule(rule)) => Rule::Not(Box::new(Self::permission(rule, &path.field("not_rule"))?)),
            Some(Permission::Any(any)) => always(*any, path)?,
            Some(Permission::Header(header)) => {
                Rule::Header(Box::new(HeaderMatcher::build(header, &path.field("header"))?))
            }
            Some(Permission::UrlPath(url_path)) => Self::url_path(url_path, &path.field("url_path"))?,
            Some(Permission::DestinationIp(range)) => {
                Rule::DestinationIp(cidr_range(range, &path.field("destination_ip"))?)
            }
            Some(Permission::DestinationPort(port)) if *port > 65535 => {
                let why = format_args!("expected a port of at most 65535, got {port}");
                return Err(path.field("destination_port").reject(why));
            }
            Some(Permission::DestinationPort(port)) => Rule::DestinationPort(*port..port.saturating_add(1)),
            Some(Permission::DestinationPortRange(range)) => {
                match (u32::try_from(range.start), u32::try_from(range.end)) {
                    (Ok(start), Ok(end)) if start < end && end <= 65536 => Rule::DestinationPort(start..end),
                    _ => {
                        let (start, end) = (range.start, range.end);
                        let why = format_args!("expected a range within 0 to 65536, got [{start}, {end})");
                        return Err(path.field("destination_port_range").reject(why));
                    }
                }
            }
            Some(Permission::Metadata(metadata)) => Self::dynamic(metadata, &path.field("metadata"))?,
            Some(Permission::SourcedMetadata(metadata)) => Self::sourced(metadata, &path.field("sourced_metadata"))?,
            Some(Permission::RequestedServerName(name)) => {
                Rule::RequestedServerName(StringMatcher::build(name, &path.field("requested_server_name"))?)
            }
            Some(Permission::UriTemplate(extension)) => {
                Rule::UriTemplate(Box::new(UriTemplate::build(extension, &path.field("uri_template"))?))
            }
            Some(Permission::Matcher(extension)) => {
                let why = format_args!("the matcher {:?} is not known", extension.name);
                return Err(path.field("matcher").reject(why));
            }
        })
    }

    /// # Errors
    /// For a principal that is not known, and for whatever is wrong with one.
    pub fn principal(proto: &pb::Principal, path: &Path<'_>) -> Result<Self, Reject> {
        let pb::Principal { identifier } = proto;
        let sets = |set: &pb::principal::Set, field: &str| {
            let path = path.field(field);
            list(&set.ids, &path.field("ids"), Self::principal)
        };
        Ok(match identifier {
            None => return Err(path.reject("expected an identifier, got none")),
            Some(Principal::AndIds(set)) => Rule::All(sets(set, "and_ids")?),
            Some(Principal::OrIds(set)) => Rule::AnyOf(sets(set, "or_ids")?),
            Some(Principal::NotId(id)) => Rule::Not(Box::new(Self::principal(id, &path.field("not_id"))?)),
            Some(Principal::Any(any)) => always(*any, path)?,
            Some(Principal::Authenticated(authenticated)) => {
                let path = path.field("authenticated");
                let name = authenticated.principal_name.as_ref();
                let name = name.map(|name| StringMatcher::build(name, &path.field("principal_name")));
                Rule::Authenticated(name.transpose()?)
            }
            Some(Principal::SourceIp(range)) => Rule::SourceIp(cidr_range(range, &path.field("source_ip"))?),
            Some(Principal::DirectRemoteIp(range)) => {
                Rule::DirectRemoteIp(cidr_range(range, &path.field("direct_remote_ip"))?)
            }
            Some(Principal::RemoteIp(range)) => Rule::RemoteIp(cidr_range(range, &path.field("remote_ip"))?),
            Some(Principal::Header(header)) => {
                Rule::Header(Box::new(HeaderMatcher::build(header, &path.field("header"))?))
            }
            Some(Principal::UrlPath(url_path)) => Self::url_path(url_path, &path.field("url_path"))?,
            Some(Principal::Metadata(metadata)) => Self::dynamic(metadata, &path.field("metadata"))?,
            Some(Principal::SourcedMetadata(metadata)) => Self::sourced(metadata, &path.field("sourced_metadata"))?,
            Some(Principal::FilterState(state)) => {
                let why = format_args!("not supported yet: nothing sets the filter state {:?} here", state.key);
                return Err(path.field("filter_state").reject(why));
            }
            Some(Principal::Custom(extension)) => {
                let why = format_args!("the principal {:?} is not known", extension.name);
                return Err(path.field("custom").reject(why));
            }
        })
    }

    fn url_path(proto: &matcher::PathMatcher, path: &Path<'_>) -> Result<Self, Reject> {
        match &proto.rule {
            Some(matcher::path_matcher::Rule::Path(text)) => {
                Ok(Rule::UrlPath(StringMatcher::build(text, &path.field("path"))?))
            }
            None => Err(path.reject("expected a path, got none")),
        }
    }

    fn dynamic(proto: &matcher::MetadataMatcher, path: &Path<'_>) -> Result<Self, Reject> {
        Ok(Rule::Metadata(Box::new(MetadataMatcher::build(proto, path)?), MetadataSource::Dynamic))
    }

    fn sourced(proto: &pb::SourcedMetadata, path: &Path<'_>) -> Result<Self, Reject> {
        let pb::SourcedMetadata { metadata_matcher, metadata_source } = proto;
        let at = path.field("metadata_matcher");
        let matcher = metadata_matcher.as_ref().ok_or_else(|| at.reject("expected a matcher, got none"))?;
        let source = match pb::MetadataSource::try_from(*metadata_source) {
            Ok(pb::MetadataSource::Dynamic) => MetadataSource::Dynamic,
            Ok(pb::MetadataSource::Route) => MetadataSource::Route,
            Err(_) => {
                let why = format_args!("expected DYNAMIC or ROUTE, got {metadata_source}");
                return Err(path.field("metadata_source").reject(why));
            }
        };
        Ok(Rule::Metadata(Box::new(MetadataMatcher::build(matcher, &at)?), source))
    }

    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let connection = subject.connection;
        let within = |range: &IpNet, ip: Option<IpAddr>| ip.is_some_and(|ip| range.contains(&ip.to_canonical()));
        match self {
            Rule::Any => true,
            Rule::All(rules) => rules.iter().all(|rule| rule.matches(subject)),
            Rule::AnyOf(rules) => rules.iter().any(|rule| rule.matches(subject)),
            Rule::Not(rule) => !rule.matches(subject),
            Rule::Header(header) => match subject.head {
                Some(head) => header.matches_request(head),
                None => header.matches_map(&HeaderMap::new()),
            },
            Rule::UrlPath(matcher) => {
                let path = subject.head.map(|head| &*head.path).filter(|path| !path.is_empty());
                path.is_some_and(|path| matcher.matches(path_only(path).as_bytes()))
            }
            Rule::UriTemplate(template) => {
                template.matches(path_only(subject.head.map(|head| &*head.path).unwrap_or_default()))
            }
            Rule::DestinationIp(range) => within(range, connection.local_address.borrow().ip()),
            Rule::DestinationPort(range) => {
                connection.local_address.borrow().port().is_some_and(|port| range.contains(&u32::from(port)))
            }
            Rule::RequestedServerName(matcher) => {
                matcher.matches(connection.requested_server_name.borrow().as_deref().unwrap_or_default().as_bytes())
            }
            Rule::Metadata(matcher, MetadataSource::Dynamic) => {
                matcher.matches(subject.info.and_then(|info| info.dynamic_metadata.as_deref()))
            }
            // Without a route not even an inverted matcher matches.
            Rule::Metadata(matcher, MetadataSource::Route) => subject
                .route
                .is_some_and(|route| matcher.matches(route.entry().metadata.as_ref().map(|metadata| metadata.get()))),
            Rule::Authenticated(name) => connection.tls.get().is_some_and(|tls| authenticated(tls, name.as_ref())),
            Rule::SourceIp(range) => within(range, connection.remote_address.borrow().ip()),
            Rule::DirectRemoteIp(range) => within(range, connection.direct_remote_address.ip()),
            Rule::RemoteIp(range) => match subject.info {
                Some(info) => within(range, info.remote_address().ip()),
                None => within(range, connection.remote_address.borrow().ip()),
            },
        }
    }
}

/// Any of the names of the peer's certificate: URIs, DNS names, the subject. A peer without a certificate has the empty one.
fn authenticated(tls: &TlsInfo, name: Option<&StringMatcher>) -> bool {
    let Some(name) = name else { return true };
    let Some(peer) = &tls.peer else { return name.matches(b"") };
    let mut sans = peer.leaf.uri_sans().chain(peer.leaf.dns_sans());
    sans.any(|san| name.matches(san.as_bytes())) || name.matches(peer.leaf.subject().as_bytes())
}

fn always(any: bool, path: &Path<'_>) -> Result<Rule, Reject> {
    any.then_some(Rule::Any).ok_or_else(|| path.field("any").reject("expected true, got false"))
}

/// A list of rules that must not be empty: an empty one would be always or never, and nobody writes that on purpose.
pub fn list<P>(
    protos: &[P],
    path: &Path<'_>,
    build: fn(&P, &Path<'_>) -> Result<Rule, Reject>,
) -> Result<Vec<Rule>, Reject> {
    if protos.is_empty() {
        return Err(path.reject("expected at least one"));
    }
    protos.iter().enumerate().map(|(i, proto)| build(proto, &path.index(i))).collect()
}
