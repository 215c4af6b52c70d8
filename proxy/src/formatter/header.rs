//! `request_headers_to_add`, `request_headers_to_remove` and their likes: `envoy.config.core.v3.HeaderValueOption`.
//!
//! Headers are removed first; then all values are computed from what is left, then headers are overwritten, then appended. A
//! value that comes out empty changes nothing, unless `keep_empty_value`.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use xds_protos::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use xds_protos::envoy::config::core::v3::{HeaderValue as ProtoHeaderValue, HeaderValueOption};

use super::command::Extensions;
use super::text::Formatter;
use crate::access_log::{AccessLogType, LogContext};
use crate::config::{Path, Reject};
use crate::http::{RequestHead, ResponseHead};
use crate::stream_info::StreamInfo;

/// Headers to remove, then headers to set and to add.
#[derive(Default)]
pub struct HeaderMutations {
    remove: Box<[HeaderName]>,
    add: Box<[Add]>,
}

struct Add {
    name: HeaderName,
    value: Value,
    action: HeaderAppendAction,
    keep_empty_value: bool,
}

enum Value {
    Literal(HeaderValue),
    Format(Formatter),
}

impl HeaderMutations {
    /// `add` and `remove` with the paths of their fields.
    ///
    /// # Errors
    /// When a name is a pseudo-header, `host`, or no header name; when a value is no header value or a bad format.
    pub fn build(
        (add, add_path): (&[HeaderValueOption], &Path),
        (remove, remove_path): (&[String], &Path),
    ) -> Result<HeaderMutations, Reject> {
        let remove = remove.iter().enumerate().map(|(i, name)| {
            let path = remove_path.index(i);
            header_name(name, &path, ":-prefixed or host headers may not be removed")
        });
        let remove = remove.collect::<Result<_, _>>()?;
        let add = add.iter().enumerate().map(|(i, option)| Add::build(option, &add_path.index(i)));
        Ok(HeaderMutations { remove, add: add.collect::<Result<_, _>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    pub fn apply_to_request(&self, head: &mut RequestHead, info: &StreamInfo) {
        remove(&mut head.headers, &self.remove);
        let changes = self.changes(&head.headers, &context(Some(head), None, info));
        changes.apply(&mut head.headers);
    }

    pub fn apply_to_response(&self, head: &mut ResponseHead, request: &RequestHead, info: &StreamInfo) {
        remove(&mut head.headers, &self.remove);
        let changes = self.changes(&head.headers, &context(Some(request), Some(head), info));
        changes.apply(&mut head.headers);
    }

    /// The same for a reply of the proxy's own, to what may be no request.
    pub fn apply_to_local_reply(&self, head: &mut ResponseHead, request: Option<&RequestHead>, info: &StreamInfo) {
        remove(&mut head.headers, &self.remove);
        let changes = self.changes(&head.headers, &context(request, Some(head), info));
        changes.apply(&mut head.headers);
    }

    fn changes(&self, headers: &HeaderMap, cx: &LogContext<'_>) -> Changes<'_> {
        let mut changes = Changes::default();
        for add in &self.add {
            let Some(value) = add.value.of(cx) else { continue };
            if value.is_empty() && !add.keep_empty_value {
                continue;
            }
            let has = || headers.contains_key(&add.name);
            match add.action {
                HeaderAppendAction::AppendIfExistsOrAdd => changes.append.push((&add.name, value)),
                HeaderAppendAction::AddIfAbsent if !has() => changes.append.push((&add.name, value)),
                HeaderAppendAction::OverwriteIfExistsOrAdd => changes.overwrite.push((&add.name, value)),
                HeaderAppendAction::OverwriteIfExists if has() => changes.overwrite.push((&add.name, value)),
                HeaderAppendAction::AddIfAbsent | HeaderAppendAction::OverwriteIfExists => {}
            }
        }
        changes
    }
}

#[derive(Default)]
struct Changes<'m> {
    overwrite: SmallVec<[(&'m HeaderName, HeaderValue); 4]>,
    append: SmallVec<[(&'m HeaderName, HeaderValue); 4]>,
}

impl Changes<'_> {
    fn apply(self, headers: &mut HeaderMap) {
        for (name, value) in self.overwrite {
            headers.insert(name, value);
        }
        for (name, value) in self.append {
            headers.append(name, value);
        }
    }
}

fn remove(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
}

fn context<'a>(
    request: Option<&'a RequestHead>,
    response: Option<&'a ResponseHead>,
    info: &'a StreamInfo,
) -> LogContext<'a> {
    LogContext { request, response, trailers: None, info, kind: AccessLogType::NotSet }
}

impl Value {
    /// `None` when the value cannot stand in a header.
    fn of(&self, cx: &LogContext<'_>) -> Option<HeaderValue> {
        match self {
            Value::Literal(value) => Some(value.clone()),
            Value::Format(format) => {
                let mut out = Vec::with_capacity(64);
                format.write(cx, "", &mut out);
                HeaderValue::from_maybe_shared(Bytes::from(out)).ok()
            }
        }
    }
}

impl Add {
    #[expect(deprecated, reason = "append is still sent")]
    fn build(option: &HeaderValueOption, path: &Path) -> Result<Add, Reject> {
        let HeaderValueOption { header, append, append_action, keep_empty_value } = option;
        let header_path = path.field("header");
        let ProtoHeaderValue { key, value, raw_value } =
            header.as_ref().ok_or_else(|| header_path.reject("expected a header, got none"))?;
        let name = header_name(key, &header_path.field("key"), ":-prefixed or host headers may not be modified")?;
        let action_path = path.field("append_action");
        let action = HeaderAppendAction::try_from(*append_action)
            .map_err(|_| action_path.reject(format_args!("{append_action} is not known")))?;
        let action = match append {
            None => action,
            Some(_) if action != HeaderAppendAction::AppendIfExistsOrAdd => {
                return Err(path.reject("Both append and append_action are set and it's not allowed"));
            }
            Some(true) => HeaderAppendAction::AppendIfExistsOrAdd,
            Some(false) => HeaderAppendAction::OverwriteIfExistsOrAdd,
        };
        let value = if value.is_empty() && !raw_value.is_empty() {
            let raw_path = header_path.field("raw_value");
            let text = std::str::from_utf8(raw_value).map_err(|_| raw_path.reject("expected text in UTF-8"))?;
            build_value(text, &raw_path)?
        } else {
            build_value(value, &header_path.field("value"))?
        };
        Ok(Add { name, value, action, keep_empty_value: *keep_empty_value })
    }
}

fn build_value(format: &str, path: &Path) -> Result<Value, Reject> {
    let format = translate_old_forms(format);
    let format = Formatter::parse(&format, Extensions::default()).map_err(|why| path.reject(why))?;
    match format.as_literal() {
        None => Ok(Value::Format(format)),
        Some(literal) => HeaderValue::from_bytes(&literal).map(Value::Literal).map_err(|_| {
            path.reject(format_args!("expected a header value, got {:?}", String::from_utf8_lossy(&literal)))
        }),
    }
}

fn header_name(name: &str, path: &Path, pseudo: &str) -> Result<HeaderName, Reject> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return Err(path.reject(pseudo));
    }
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| path.reject(format_args!("expected a header name, got {name:?}")))
}

/// `%UPSTREAM_METADATA(["a", "b"])%` and `%DYNAMIC_METADATA(["a", "b"])%` to `(a:b)`, and `%PER_REQUEST_STATE(k)%` to
/// `%FILTER_STATE(k:PLAIN)%`: what header formats had before there was one formatter for all.
fn translate_old_forms(format: &str) -> Cow<'_, str> {
    if !format.contains("METADATA([") && !format.contains("%PER_REQUEST_STATE(") {
        return Cow::Borrowed(format);
    }
    let mut out = String::with_capacity(format.len());
    let mut rest = format;
    while let Some((before, from)) = rest.split_once('%') {
        out.push_str(before);
        out.push('%');
        let translated = [("UPSTREAM_METADATA([", "UPSTREAM_METADATA("), ("DYNAMIC_METADATA([", "DYNAMIC_METADATA(")]
            .iter()
            .find_map(|(old, new)| {
                let (list, after) = from.strip_prefix(old)?.split_once("])%")?;
                let keys: Option<Vec<&str>> =
                    list.split(',').map(|key| key.trim_ascii().strip_prefix('"')?.strip_suffix('"')).collect();
                Some((format!("{new}{})%", keys?.join(":")), after))
            })
            .or_else(|| {
                let (key, after) = from.strip_prefix("PER_REQUEST_STATE(")?.split_once(")%")?;
                Some((format!("FILTER_STATE({key}:PLAIN)%"), after))
            });
        match translated {
            Some((new, after)) => {
                out.push_str(&new);
                rest = after;
            }
            None => rest = from,
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}
