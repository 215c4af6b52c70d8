//! What a matched route does to the heads of a request and its response.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::action::{Action, DirectResponse};
use super::redirect::{self, RedirectAction};
use super::rewrite::update_authority;
use super::table::{HeaderOps, RouteMatch, forwarded_proto};
use crate::access_log::{AccessLogType, LogContext};
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
            cluster.headers.request().into_iter().for_each(|mutations| mutations.apply_to_request(head, info));
            if let Some(host) = &cluster.host_rewrite_literal {
                head.authority = host.clone();
            }
        }
        for mutations in self.by_specificity(HeaderOps::request) {
            mutations.apply_to_request(head, info);
        }
        if let Action::Route(action) = self.action()
            && let Some(host) = action.host_rewrite.as_ref().and_then(|rewrite| rewrite.host(head, info))
        {
            update_authority(head, host, action.append_x_forwarded_host, keep_originals);
        }
        self.rewrite_path(head, info, keep_originals);
    }

    /// Header mutations of all levels on the final response, also when it is the route's own (redirect, direct response).
    pub fn finalize_response_headers(&self, head: &mut ResponseHead, request: &RequestHead, info: &StreamInfo) {
        if let Some(cluster) = self.weighted_cluster() {
            cluster
                .headers
                .response()
                .into_iter()
                .for_each(|mutations| mutations.apply_to_response(head, request, info));
        }
        for mutations in self.by_specificity(HeaderOps::response) {
            mutations.apply_to_response(head, request, info);
        }
    }

    /// The route's own answer, if its action is to redirect or to respond directly. Rewrites the request's path first, as
    /// access logs show it. The header mutations of [`finalize_response_headers`](Self::finalize_response_headers) are
    /// still to be applied.
    pub fn own_reply(&self, head: &mut RequestHead, info: &mut StreamInfo, keep_originals: bool) -> Option<OwnReply> {
        let (status, redirect) = match self.action() {
            Action::Redirect(redirect) => (redirect.response_code, &**redirect),
            Action::DirectResponse(response) => (response.status, &RedirectAction::NOWHERE),
            Action::Route(_) | Action::NonForwarding => return None,
        };
        self.rewrite_path(head, info, keep_originals);
        let (body, content_type) = match self.action() {
            Action::DirectResponse(response) => response.body(head, info),
            _ => (Bytes::new(), None),
        };
        let has_location = status == StatusCode::CREATED || status.is_redirection();
        let location = (has_location && !head.path.is_empty()).then(|| match self.is_tls_redirect() {
            true => redirect::tls_location(head),
            false => redirect.location(head, info, forwarded_proto(head)),
        });
        Some(OwnReply { status, location, body, content_type })
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

    fn rewrite_path(&self, head: &mut RequestHead, info: &StreamInfo, keep_original: bool) {
        let matched = self.entry().matcher.matched_len(&head.path);
        let new = match self.action() {
            Action::Route(action) => {
                action.path_rewrite.as_ref().and_then(|rewrite| rewrite.apply(head, matched, info))
            }
            Action::Redirect(redirect) => redirect.rewrite(&head.path, matched),
            Action::DirectResponse(_) | Action::NonForwarding => None,
        };
        let Some(new) = new else { return };
        let old = std::mem::replace(&mut head.path, ByteStr::from(new));
        if keep_original && let Ok(old) = HeaderValue::from_maybe_shared(old.into_bytes()) {
            head.headers.insert(HeaderName::from_static("x-envoy-original-path"), old);
        }
    }
}

impl DirectResponse {
    /// The body, and its media type if a format made it.
    fn body(&self, head: &RequestHead, info: &mut StreamInfo) -> (Bytes, Option<HeaderValue>) {
        let Some(format) = &self.body_format else { return (self.body.clone(), None) };
        // What `%LOCAL_REPLY_BODY%` stands for in the format.
        info.local_reply_body = Some(self.body.clone());
        let cx = LogContext { request: Some(head), response: None, trailers: None, info, kind: AccessLogType::NotSet };
        let mut out = Vec::new();
        format.write(&cx, &mut out);
        (out.into(), Some(format.content_type.clone()))
    }
}

/// What a redirect or a direct response answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnReply {
    pub status: StatusCode,
    /// For 201 and redirections, also those of a `direct_response`, which point to where the request went.
    pub location: Option<String>,
    pub body: Bytes,
    /// Instead of `text/plain`.
    pub content_type: Option<HeaderValue>,
}
