//! `request_headers_to_add`, `request_headers_to_remove` and their likes: `envoy.config.core.v3.HeaderValueOption`.

use http::header::Entry;
use http::{HeaderMap, HeaderName, HeaderValue};
use xds_protos::envoy::config::core::v3::HeaderValueOption;
use xds_protos::envoy::config::core::v3::header_value_option::HeaderAppendAction;

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
    value: HeaderValue,
    action: HeaderAppendAction,
    keep_empty_value: bool,
}

impl HeaderMutations {
    /// `add` and `remove` with the paths of their fields.
    ///
    /// # Errors
    /// When a name is a pseudo-header, `host`, or no header name; when a value is no header value.
    pub fn build(
        (add, add_path): (&[HeaderValueOption], &Path),
        (remove, remove_path): (&[String], &Path),
    ) -> Result<HeaderMutations, Reject> {
        let remove = remove.iter().enumerate().map(|(i, name)| {
            let path = remove_path.index(i);
            modifiable(name).ok_or_else(|| path.reject(":-prefixed or host headers may not be removed"))?;
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| path.reject(format!("expected a header name, got {name:?}")))
        });
        let remove = remove.collect::<Result<_, _>>()?;
        let add = add.iter().enumerate().map(|(i, option)| build_add(option, &add_path.index(i)));
        Ok(HeaderMutations { remove, add: add.collect::<Result<_, _>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    pub fn apply_to_request(&self, head: &mut RequestHead, _info: &StreamInfo) {
        self.apply(&mut head.headers);
    }

    pub fn apply_to_response(&self, head: &mut ResponseHead, _request: &RequestHead, _info: &StreamInfo) {
        self.apply(&mut head.headers);
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for add in &self.add {
            if add.value.is_empty() && !add.keep_empty_value {
                continue;
            }
            match (headers.entry(&add.name), add.action) {
                (Entry::Occupied(_), HeaderAppendAction::AddIfAbsent) => {}
                (Entry::Occupied(mut entry), HeaderAppendAction::AppendIfExistsOrAdd) => {
                    entry.append(add.value.clone())
                }
                (Entry::Occupied(mut entry), _) => {
                    entry.insert(add.value.clone());
                }
                (Entry::Vacant(_), HeaderAppendAction::OverwriteIfExists) => {}
                (Entry::Vacant(entry), _) => {
                    entry.insert(add.value.clone());
                }
            }
        }
    }
}

fn modifiable(name: &str) -> Option<()> {
    (!name.starts_with(':') && !name.eq_ignore_ascii_case("host")).then_some(())
}

fn build_add(option: &HeaderValueOption, path: &Path) -> Result<Add, Reject> {
    let header_path = path.field("header");
    let header = option.header.as_ref().ok_or_else(|| header_path.reject("required"))?;
    let key = header_path.field("key");
    modifiable(&header.key).ok_or_else(|| key.reject(":-prefixed or host headers may not be modified"))?;
    let name = HeaderName::from_bytes(header.key.as_bytes())
        .map_err(|_| key.reject(format!("expected a header name, got {:?}", header.key)))?;
    let value_path = header_path.field("value");
    if header.value.contains('%') {
        return Err(value_path.reject("format operators are not supported yet"));
    }
    let value = HeaderValue::from_str(&header.value)
        .map_err(|_| value_path.reject(format!("expected a header value, got {:?}", header.value)))?;
    let action = HeaderAppendAction::try_from(option.append_action)
        .map_err(|_| path.field("append_action").reject("unknown"))?;
    Ok(Add { name, value, action, keep_empty_value: option.keep_empty_value })
}
