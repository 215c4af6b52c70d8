//! `envoy.config.route.v3.RouteMatch`: does a request belong to a route?

use http::Method;

use super::rewrite::path_only;
use crate::http::RequestHead;
use crate::stream_info::StreamInfo;

pub struct RouteMatcher {
    pub(super) path: PathMatcher,
    pub(super) case_sensitive: bool,
}

pub(super) enum PathMatcher {
    Prefix(Box<str>),
    Path(Box<str>),
    PathSeparatedPrefix(Box<str>),
    /// `connect_matcher`: any CONNECT, also one with a path.
    Connect,
}

/// The first part of a route's match that said no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    Path,
}

impl RouteMatcher {
    pub(super) fn matches(
        &self,
        head: &RequestHead,
        _info: &StreamInfo,
        _random: u64,
        ignore_path_parameters: bool,
    ) -> Result<(), Mismatch> {
        if !self.path_matches(head, ignore_path_parameters) {
            return Err(Mismatch::Path);
        }
        Ok(())
    }

    fn path_matches(&self, head: &RequestHead, ignore_path_parameters: bool) -> bool {
        if let PathMatcher::Connect = self.path {
            return head.method == Method::CONNECT;
        }
        // A plain CONNECT has no path, and then no other matcher is asked.
        if head.path.is_empty() {
            return false;
        }
        let mut path = path_only(&head.path);
        if ignore_path_parameters {
            path = path.split(';').next().unwrap_or_default();
        }
        match &self.path {
            PathMatcher::Prefix(prefix) => self.starts_with(path, prefix),
            PathMatcher::Path(exact) => path.len() == exact.len() && self.starts_with(path, exact),
            PathMatcher::PathSeparatedPrefix(prefix) => {
                self.starts_with(path, prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
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
            PathMatcher::Connect => path_only(path).len(),
        }
    }
}
