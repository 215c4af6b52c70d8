//! `envoy.config.route.v3.RouteMatch`: does a request belong to a route?

use std::fmt;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};

use super::header_matcher::HeaderMatcher;
use super::query::{cookie, query_parameter};
use super::rewrite::path_only;
use super::uri_template::UriTemplate;
use crate::config::matcher::{Regex, StringMatcher};
use crate::config::percent::FractionalPercent;
use crate::http::RequestHead;
use crate::runtime::Live;
use crate::stream_info::StreamInfo;

pub struct RouteMatcher {
    pub(super) path: PathMatcher,
    pub(super) case_sensitive: bool,
    /// What most routes have not.
    pub(super) conditions: Option<Box<Conditions>>,
}

pub(super) enum PathMatcher {
    Prefix(Box<str>),
    Path(Box<str>),
    SafeRegex(Regex),
    PathSeparatedPrefix(Box<str>),
    /// `connect_matcher`: any CONNECT that is not an upgrade.
    Connect,
    UriTemplate(Box<UriTemplate>),
}

#[derive(Default)]
pub(super) struct Conditions {
    pub runtime_fraction: Option<Live<FractionalPercent>>,
    pub grpc: bool,
    pub headers: Box<[HeaderMatcher]>,
    pub query_parameters: Box<[QueryParameterMatcher]>,
    pub cookies: Box<[CookieMatcher]>,
    pub tls_context: Option<TlsContext>,
}

pub(super) struct QueryParameterMatcher {
    pub name: Box<str>,
    pub value: QueryParameterValue,
}

pub(super) enum QueryParameterValue {
    Present(bool),
    Text(StringMatcher),
}

pub(super) struct CookieMatcher {
    pub name: Box<str>,
    pub value: StringMatcher,
    pub invert_match: bool,
}

/// Whether the client presented a certificate, and whether it was verified against a trust root.
pub(super) struct TlsContext {
    pub presented: Option<bool>,
    pub validated: Option<bool>,
}

/// The first part of a route's match that said no; numbers are positions in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    RuntimeFraction,
    Grpc,
    Header(usize),
    Cookie(usize),
    QueryParameter(usize),
    TlsContext,
    Path,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::RuntimeFraction => f.write_str("runtime_fraction"),
            Mismatch::Grpc => f.write_str("grpc"),
            Mismatch::Header(i) => write!(f, "headers[{i}]"),
            Mismatch::Cookie(i) => write!(f, "cookies[{i}]"),
            Mismatch::QueryParameter(i) => write!(f, "query_parameters[{i}]"),
            Mismatch::TlsContext => f.write_str("tls_context"),
            Mismatch::Path => f.write_str("the path"),
        }
    }
}

impl RouteMatcher {
    pub(super) fn matches(
        &self,
        head: &RequestHead,
        info: &StreamInfo,
        random: u64,
        ignore_path_parameters: bool,
    ) -> Result<(), Mismatch> {
        // The path says no most often, and asking is cheap; nothing observable depends on the order.
        if !self.path_matches(head, ignore_path_parameters) {
            return Err(Mismatch::Path);
        }
        match &self.conditions {
            None => Ok(()),
            Some(conditions) => conditions.hold(head, info, random),
        }
    }

    fn path_matches(&self, head: &RequestHead, ignore_path_parameters: bool) -> bool {
        if let PathMatcher::Connect = self.path {
            return head.method == Method::CONNECT && head.upgrade.is_none();
        }
        // A plain CONNECT has no path, and then no other matcher is asked.
        if head.path.is_empty() {
            return false;
        }
        let mut path = path_only(&head.path);
        if ignore_path_parameters && !matches!(self.path, PathMatcher::UriTemplate(_)) {
            path = path.split(';').next().unwrap_or_default();
        }
        match &self.path {
            PathMatcher::Prefix(prefix) => self.starts_with(path, prefix),
            PathMatcher::Path(exact) => path.len() == exact.len() && self.starts_with(path, exact),
            PathMatcher::PathSeparatedPrefix(prefix) => {
                self.starts_with(path, prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
            PathMatcher::SafeRegex(regex) => regex.matches(path.as_bytes()),
            PathMatcher::UriTemplate(template) => template.matches(path),
            PathMatcher::Connect => true,
        }
    }

    fn starts_with(&self, path: &str, prefix: &str) -> bool {
        let Some(start) = path.as_bytes().get(..prefix.len()) else { return false };
        if self.case_sensitive { start == prefix.as_bytes() } else { start.eq_ignore_ascii_case(prefix.as_bytes()) }
    }

    /// How many bytes of the path the route matched, for `prefix_rewrite`.
    pub(super) fn matched_len(&self, path: &str) -> usize {
        match &self.path {
            PathMatcher::Prefix(matched) | PathMatcher::Path(matched) | PathMatcher::PathSeparatedPrefix(matched) => {
                matched.len()
            }
            // As odd as in Envoy, where only a redirect can ask this: the length of the template's text.
            PathMatcher::UriTemplate(template) => template.text.len(),
            PathMatcher::SafeRegex(_) | PathMatcher::Connect => path_only(path).len(),
        }
    }
}

impl Conditions {
    pub(super) fn is_none(&self) -> bool {
        let Conditions { runtime_fraction, grpc, headers, query_parameters, cookies, tls_context } = self;
        let lists_empty = headers.is_empty() && query_parameters.is_empty() && cookies.is_empty();
        runtime_fraction.is_none() && !grpc && lists_empty && tls_context.is_none()
    }

    fn hold(&self, head: &RequestHead, info: &StreamInfo, random: u64) -> Result<(), Mismatch> {
        if self.runtime_fraction.as_ref().is_some_and(|fraction| !fraction.get().hit(random)) {
            return Err(Mismatch::RuntimeFraction);
        }
        if self.grpc && !is_grpc(&head.headers) {
            return Err(Mismatch::Grpc);
        }
        if let Some(at) = self.headers.iter().position(|matcher| !matcher.matches_request(head)) {
            return Err(Mismatch::Header(at));
        }
        if let Some(at) = self.cookies.iter().position(|matcher| !matcher.matches(head)) {
            return Err(Mismatch::Cookie(at));
        }
        if let Some(at) = self.query_parameters.iter().position(|matcher| !matcher.matches(&head.path)) {
            return Err(Mismatch::QueryParameter(at));
        }
        match &self.tls_context {
            Some(tls) if !tls.matches(info) => Err(Mismatch::TlsContext),
            _ => Ok(()),
        }
    }
}

impl QueryParameterMatcher {
    fn matches(&self, path: &str) -> bool {
        let value = query_parameter(path, &self.name);
        match &self.value {
            QueryParameterValue::Present(present) => value.is_some() == *present,
            QueryParameterValue::Text(matcher) => value.is_some_and(|value| matcher.matches(value.as_bytes())),
        }
    }
}

impl CookieMatcher {
    fn matches(&self, head: &RequestHead) -> bool {
        cookie(head, &self.name).is_some_and(|value| self.value.matches(value)) != self.invert_match
    }
}

impl TlsContext {
    fn matches(&self, info: &StreamInfo) -> bool {
        let tls = info.connection.tls.get();
        let presented = tls.is_some_and(|tls| tls.peer.is_some());
        let validated = tls.is_some_and(|tls| tls.peer.is_some() && tls.verified);
        self.presented.is_none_or(|want| want == presented) && self.validated.is_none_or(|want| want == validated)
    }
}

/// `content-type: application/grpc` or `application/grpc+…`, but not `application/grpc-web`.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let rest = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}
