//! What a route changes in a request's path and authority before it is forwarded.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::uri_template::UriTemplateRewrite;
use crate::access_log::{AccessLogType, LogContext};
use crate::config::matcher::RegexSubstitution;
use crate::formatter::Formatter;
use crate::http::{ByteStr, RequestHead};
use crate::stream_info::StreamInfo;

/// `prefix_rewrite`, `regex_rewrite`, `path_rewrite_policy`, `path_rewrite`. The query always stays.
pub enum PathRewrite {
    /// What the route matched becomes this.
    Prefix(Box<str>),
    /// Every match of a pattern in the whole path becomes something else.
    Regex(Box<RegexSubstitution>),
    UriTemplate(Box<UriTemplateRewrite>),
    /// `path_rewrite`: the path becomes what a format makes of the request.
    Format(Box<Formatter>),
}

/// `host_rewrite_literal`, `auto_host_rewrite`, `host_rewrite_header`, `host_rewrite_path_regex`, `host_rewrite`.
pub enum HostRewrite {
    Literal(ByteStr),
    /// The hostname of the upstream host that was picked; the router does it.
    Auto,
    Header(HeaderName),
    /// What a substitution makes of the path.
    PathRegex(Box<RegexSubstitution>),
    /// `host_rewrite`: what a format makes of the request.
    Format(Box<Formatter>),
}

impl PathRewrite {
    /// The new path with its query, or `None` when it stays.
    pub(super) fn apply(&self, head: &RequestHead, matched: usize, info: &StreamInfo) -> Option<String> {
        let path: &str = &head.path;
        match self {
            PathRewrite::Prefix(prefix) => Some(replace_start(path, matched, prefix)),
            PathRewrite::Regex(substitution) => {
                let only = path_only(path);
                Some(replace_start(path, only.len(), &replace_all(substitution, only)?))
            }
            PathRewrite::UriTemplate(rewrite) => {
                let only = path_only(path);
                // A filter may have changed the path so that it is not of the template's form any more.
                let new = rewrite.apply(only);
                Some(new.map_or_else(|| path.to_owned(), |new| replace_start(path, only.len(), &new)))
            }
            PathRewrite::Format(format) => {
                let new = formatted(format, "", head, info)?;
                Some(replace_start(path, path_only(path).len(), &new))
            }
        }
    }
}

impl HostRewrite {
    /// The new authority, unless it stays or is not known before a host is picked.
    pub(super) fn host(&self, head: &RequestHead, info: &StreamInfo) -> Option<ByteStr> {
        match self {
            HostRewrite::Literal(host) => Some(host.clone()),
            HostRewrite::Auto => None,
            HostRewrite::Header(name) => {
                let value = head.headers.get(name).filter(|value| !value.is_empty())?;
                ByteStr::from_utf8(Bytes::copy_from_slice(value.as_bytes())).ok()
            }
            HostRewrite::PathRegex(substitution) => {
                replace_all(substitution, path_only(&head.path)).filter(|host| !host.is_empty()).map(ByteStr::from)
            }
            HostRewrite::Format(format) => formatted(format, "-", head, info).map(ByteStr::from),
        }
    }
}

/// What a format makes of a request; `None` for nothing. Whether it can stand where it goes is checked when it is sent.
pub(super) fn formatted(format: &Formatter, empty: &str, head: &RequestHead, info: &StreamInfo) -> Option<String> {
    let cx = LogContext { request: Some(head), response: None, trailers: None, info, kind: AccessLogType::NotSet };
    let mut out = Vec::new();
    format.write(&cx, empty, &mut out);
    String::from_utf8(out).ok().filter(|text| !text.is_empty())
}

/// `path` with its first `len` bytes replaced.
pub(super) fn replace_start(path: &str, len: usize, with: &str) -> String {
    [with, path.get(len.min(path.len())..).unwrap_or_default()].concat()
}

/// `None` when the result is not text, which a substitution that cuts a character in two can make.
pub(super) fn replace_all(substitution: &RegexSubstitution, text: &str) -> Option<String> {
    String::from_utf8(substitution.replace_all(text.as_bytes()).into_owned()).ok()
}

/// The path without query and fragment.
pub fn path_only(path: &str) -> &str {
    let end = path.bytes().position(|b| b == b'?' || b == b'#').unwrap_or(path.len());
    path.get(..end).unwrap_or_default()
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
                let is_new = last.is_some_and(|last| last != old.as_bytes().as_ref());
                is_new.then(|| Bytes::from([had, b",", old.as_bytes()].concat()))
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
