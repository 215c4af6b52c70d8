//! `envoy.config.route.v3.RedirectAction`: where a redirected client is sent.

use http::StatusCode;

use super::rewrite::{formatted, path_only, replace_all, replace_start};
use crate::config::matcher::RegexSubstitution;
use crate::formatter::Formatter;
use crate::http::RequestHead;
use crate::stream_info::StreamInfo;

pub struct RedirectAction {
    pub response_code: StatusCode,
    pub scheme: Option<Box<str>>,
    pub host: Option<Box<str>>,
    pub port: Option<u32>,
    pub path: PathRedirect,
    pub strip_query: bool,
}

pub enum PathRedirect {
    Keep,
    /// `path_redirect`. The request's query is kept unless this has its own.
    Path(Box<str>),
    /// `prefix_rewrite`: what the route matched becomes this.
    Prefix(Box<str>),
    /// `regex_rewrite`, on the whole path.
    Regex(Box<RegexSubstitution>),
    /// `path_rewrite`: as [`Path`](Self::Path), made by a format; nothing leaves the path as it is.
    Format(Box<Formatter>),
}

impl RedirectAction {
    /// Changes nothing: what the `location` of a direct response with a redirecting status is made by.
    pub(super) const NOWHERE: RedirectAction = RedirectAction {
        response_code: StatusCode::FOUND,
        scheme: None,
        host: None,
        port: None,
        path: PathRedirect::Keep,
        strip_query: false,
    };

    /// `require_tls`. Where it leads is made by [`tls_location`].
    pub(super) const TO_TLS: RedirectAction =
        RedirectAction { response_code: StatusCode::MOVED_PERMANENTLY, ..RedirectAction::NOWHERE };

    /// The `location` for a request whose path has been rewritten already.
    pub(super) fn location(&self, head: &RequestHead, info: &StreamInfo, forwarded_proto: &str) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(head.scheme.as_str());
        let host = match &self.host {
            Some(host) => host,
            None => without_port_of_the_old_scheme(&head.authority, scheme, forwarded_proto, self.port.is_some()),
        };
        let (request_path, request_query) = head.path.split_at(head.path.find('?').unwrap_or(head.path.len()));
        let formatted = match &self.path {
            PathRedirect::Format(format) => formatted(format, "", head, info),
            _ => None,
        };
        let redirect_path = match &self.path {
            PathRedirect::Path(path) => Some(&**path),
            _ => formatted.as_deref(),
        };
        let (path, query) = match redirect_path {
            // Its own query counts, even when queries are to be stripped.
            Some(path) if path.contains('?') => (path, ""),
            Some(path) => (path, request_query),
            None => (request_path, request_query),
        };
        let query = if self.strip_query { "" } else { query };
        match self.port {
            Some(port) => format!("{scheme}://{host}:{port}{path}{query}"),
            None => format!("{scheme}://{host}{path}{query}"),
        }
    }

    /// What the redirect writes over the path before the location is made, given how much of it the route matched.
    pub(super) fn rewrite(&self, path: &str, matched: usize) -> Option<String> {
        match &self.path {
            PathRedirect::Prefix(prefix) => Some(replace_start(path, matched, prefix)),
            PathRedirect::Regex(substitution) => {
                let only = path_only(path);
                // A substitution that leaves nothing is none.
                let new = replace_all(substitution, only).filter(|new| !new.is_empty())?;
                Some(replace_start(path, only.len(), &new))
            }
            PathRedirect::Keep | PathRedirect::Path(_) | PathRedirect::Format(_) => None,
        }
    }
}

/// The request's host. A port goes if the redirect brings another one, or if the scheme changes and the port is the
/// default of the protocol that the client used (`x-forwarded-proto`, not `:scheme`).
fn without_port_of_the_old_scheme<'a>(
    host: &'a str,
    scheme: &str,
    forwarded_proto: &str,
    port_is_replaced: bool,
) -> &'a str {
    let at = if host.starts_with('[') { host.rfind("]:").map(|at| at + 1) } else { host.rfind(':') };
    let Some((bare, port)) = at.and_then(|at| host.split_at_checked(at)) else { return host };
    let default_port = matches!((forwarded_proto, port), ("https", ":443") | ("http", ":80"));
    if port_is_replaced || (scheme != forwarded_proto && default_port) { bare } else { host }
}

/// The `location` for `require_tls`: the same on HTTPS, with the port that the client named.
pub(super) fn tls_location(head: &RequestHead) -> String {
    format!("https://{}{}", head.authority, head.path)
}
