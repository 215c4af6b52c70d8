//! `envoy.config.route.v3.RedirectAction`: where a redirected client is sent.

use http::StatusCode;

use super::rewrite::path_only;
use crate::http::RequestHead;

pub struct RedirectAction {
    pub response_code: StatusCode,
    pub scheme: Option<Box<str>>,
    pub host: Option<Box<str>>,
    pub port: Option<u16>,
    pub path: PathRedirect,
    pub strip_query: bool,
}

pub enum PathRedirect {
    Keep,
    /// `path_redirect`. The request's query is kept unless this has its own.
    Path(Box<str>),
    /// `prefix_rewrite`: what the route matched becomes this.
    Prefix(Box<str>),
}

impl RedirectAction {
    /// The `location` for a request whose path has been rewritten already.
    pub(super) fn location(&self, head: &RequestHead, forwarded_proto: &str) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(head.scheme.as_str());
        let host = match &self.host {
            Some(host) => host,
            None => without_port_of_the_old_scheme(&head.authority, scheme, forwarded_proto, self.port.is_some()),
        };
        let request_query = head.path.find('?').and_then(|at| head.path.get(at..)).unwrap_or_default();
        let (path, query) = match &self.path {
            PathRedirect::Path(path) if path.contains('?') => (&**path, ""),
            PathRedirect::Path(path) => (&**path, request_query),
            _ => (head.path.get(..head.path.len() - request_query.len()).unwrap_or_default(), request_query),
        };
        let query = if self.strip_query { "" } else { query };
        match self.port {
            Some(port) => format!("{scheme}://{host}:{port}{path}{query}"),
            None => format!("{scheme}://{host}{path}{query}"),
        }
    }

    /// What the redirect writes over the path before the location is made, given what the route matched of it.
    pub(super) fn rewrite(&self, path: &str, matched: usize) -> Option<String> {
        match &self.path {
            PathRedirect::Prefix(prefix) => {
                Some([prefix, path.get(matched.min(path.len())..).unwrap_or_default()].concat())
            }
            PathRedirect::Keep | PathRedirect::Path(_) => None,
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

/// Length of the path in front of query and fragment.
pub(super) fn path_len(path: &str) -> usize {
    path_only(path).len()
}
