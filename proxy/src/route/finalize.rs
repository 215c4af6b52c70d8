//! What a matched route does to the heads of a request and its response.

use super::action::Action;
use super::redirect::{self, RedirectAction};
use super::rewrite::{HostRewrite, PathRewrite, update_authority};
use super::table::{HeaderOps, RouteMatch, forwarded_proto};
use crate::formatter::HeaderMutations;
use crate::http::{ByteStr, RequestHead, ResponseHead};
use crate::stream_info::StreamInfo;

impl RouteMatch {
    /// Header mutations of all levels, then the new authority and path; once, just before the first attempt.
    /// `auto_host_rewrite` is the router's to do when it knows the host. `keep_originals`: leave the old authority and path
    /// in `x-envoy-original-host` and `x-envoy-original-path` (not `suppress_envoy_headers`).
    pub fn finalize_request_headers(&self, head: &mut RequestHead, info: &StreamInfo, keep_originals: bool) {
        let weighted = self.weighted_cluster();
        if let Some(cluster) = weighted {
            cluster.request_headers.apply_to_request(head, info);
            if let Some(host) = &cluster.host_rewrite_literal {
                head.authority = host.clone();
            }
        }
        for mutations in self.by_specificity(HeaderOps::request) {
            mutations.apply_to_request(head, info);
        }
        if let Action::Route(action) = self.action()
            && let Some(host) = action.host_rewrite.as_ref().and_then(|rewrite| rewrite.host(head))
        {
            update_authority(head, host, action.append_x_forwarded_host, keep_originals);
        }
        self.rewrite_path(head, keep_originals);
    }

    /// Header mutations of all levels on the final response, also when it is the route's own (redirect, direct response).
    pub fn finalize_response_headers(&self, head: &mut ResponseHead, request: &RequestHead, info: &StreamInfo) {
        if let Some(cluster) = self.weighted_cluster() {
            cluster.response_headers.apply_to_response(head, request, info);
        }
        for mutations in self.by_specificity(HeaderOps::response) {
            mutations.apply_to_response(head, request, info);
        }
    }

    /// The `location` of a redirect; `None` for other actions. Rewrites the request's path first, as access logs show it.
    pub fn redirect_location(&self, head: &mut RequestHead, keep_originals: bool) -> Option<String> {
        let Action::Redirect(redirect) = self.action() else { return None };
        if self.is_tls_redirect() {
            return Some(redirect::tls_location(head));
        }
        self.rewrite_path(head, keep_originals);
        Some(redirect.location(head, forwarded_proto(head)))
    }

    /// The mutations of table, virtual host and route, the ones that win last.
    fn by_specificity<'a>(
        &'a self,
        side: fn(&'a HeaderOps) -> Option<&'a HeaderMutations>,
    ) -> impl Iterator<Item = &'a HeaderMutations> {
        let table = self.table();
        let mut levels = if self.is_tls_redirect() {
            [None; 3]
        } else {
            [side(&self.entry().headers), side(&self.virtual_host().headers), side(&table.headers)]
        };
        if table.most_specific_header_mutations_wins {
            levels.reverse();
        }
        levels.into_iter().flatten()
    }

    fn rewrite_path(&self, head: &mut RequestHead, keep_original: bool) {
        let matched = self.entry().matcher.matched_len(&head.path);
        let new = match self.action() {
            Action::Route(action) => {
                action.path_rewrite.as_ref().and_then(|rewrite| rewrite.apply(&head.path, matched))
            }
            Action::Redirect(redirect) => RedirectAction::rewrite(redirect, &head.path, matched),
            Action::DirectResponse(_) | Action::NonForwarding => None,
        };
        let Some(new) = new else { return };
        let old = std::mem::replace(&mut head.path, ByteStr::from(new));
        if keep_original && let Ok(old) = http::HeaderValue::from_maybe_shared(old.into_bytes()) {
            head.headers.insert(http::HeaderName::from_static("x-envoy-original-path"), old);
        }
    }
}

impl PathRewrite {
    /// The new path with its query, or `None` when it stays.
    fn apply(&self, path: &str, matched: usize) -> Option<String> {
        match self {
            PathRewrite::Prefix(prefix) => {
                Some([prefix, path.get(matched.min(path.len())..).unwrap_or_default()].concat())
            }
        }
    }
}

impl HostRewrite {
    /// The new authority, unless it stays or is not known before a host is picked.
    fn host(&self, head: &RequestHead) -> Option<ByteStr> {
        match self {
            HostRewrite::Literal(host) => Some(host.clone()),
            HostRewrite::Auto => None,
            HostRewrite::Header(name) => {
                let value = head.headers.get(name).filter(|value| !value.is_empty())?;
                ByteStr::from_utf8(bytes::Bytes::copy_from_slice(value.as_bytes())).ok()
            }
        }
    }
}
