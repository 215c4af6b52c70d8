//! What a route changes in a request's path and authority before it is forwarded.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::http::{ByteStr, RequestHead};

/// `prefix_rewrite`.
pub enum PathRewrite {
    /// What the route matched becomes this.
    Prefix(Box<str>),
}

/// `host_rewrite_literal`, `auto_host_rewrite`, `host_rewrite_header`.
pub enum HostRewrite {
    Literal(ByteStr),
    /// The hostname of the upstream host that was picked; the router does it.
    Auto,
    Header(HeaderName),
}

/// The path without query and fragment.
pub fn path_only(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

/// Replaces the authority as Envoy does. `append_x_forwarded_host` keeps the old one in `x-forwarded-host`, unless it is
/// the last there already; `keep_original` in `x-envoy-original-host`.
pub fn update_authority(head: &mut RequestHead, host: ByteStr, append_x_forwarded_host: bool, keep_original: bool) {
    const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
    const X_ENVOY_ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
    let old = std::mem::replace(&mut head.authority, host);
    if append_x_forwarded_host && !old.is_empty() {
        let had = head.headers.get(X_FORWARDED_HOST).map(HeaderValue::as_bytes).filter(|v| !v.is_empty());
        let value = match had {
            None => Some(old.as_bytes().clone()),
            Some(had) => {
                let last = had.split(|b| *b == b',').rfind(|host| !host.is_empty());
                let same = last.is_none_or(|last| last == old.as_bytes().as_ref());
                (!same).then(|| Bytes::from([had, b",", old.as_bytes()].concat()))
            }
        };
        if let Some(value) = value.and_then(|v| HeaderValue::from_maybe_shared(v).ok()) {
            head.headers.insert(X_FORWARDED_HOST, value);
        }
    }
    if keep_original && let Ok(value) = HeaderValue::from_maybe_shared(old.into_bytes()) {
        head.headers.insert(X_ENVOY_ORIGINAL_HOST, value);
    }
}
