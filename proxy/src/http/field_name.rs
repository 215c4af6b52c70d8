//! A header's name as configuration writes it, with the pseudo-headers, which a canonical head has as fields.

use http::{HeaderMap, HeaderName, Method};

use super::{RequestHead, ResponseHead};

/// What `headers[].name` of a matcher, or the argument of `%REQ()%`, names. `host` is `:authority`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldName {
    Header(HeaderName),
    Method,
    Scheme,
    Authority,
    Path,
    /// `:protocol` in HTTP/2, `upgrade` in HTTP/1. The former appears as the latter, as in Envoy, where an extended CONNECT
    /// is turned into an upgrade before anything looks at it.
    Upgrade,
    /// `:status`, of a response.
    Status,
    /// A pseudo-header that no head has.
    Absent,
}

impl FieldName {
    /// `None` when it is not a header name.
    pub fn parse(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        Some(match lower.as_str() {
            ":method" => FieldName::Method,
            ":scheme" => FieldName::Scheme,
            ":authority" | "host" => FieldName::Authority,
            ":path" => FieldName::Path,
            ":status" => FieldName::Status,
            "upgrade" => FieldName::Upgrade,
            pseudo if pseudo.starts_with(':') => FieldName::Absent,
            _ => FieldName::Header(HeaderName::from_bytes(lower.as_bytes()).ok()?),
        })
    }

    /// The values in a request, in their order.
    pub fn request<'h>(&self, head: &'h RequestHead) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        let pseudo: Option<&[u8]> = match self {
            FieldName::Header(_) | FieldName::Status | FieldName::Absent => None,
            FieldName::Method if head.method == Method::CONNECT && head.upgrade.is_some() => Some(b"GET"),
            FieldName::Method => Some(head.method.as_str().as_bytes()),
            FieldName::Scheme => Some(head.scheme.as_str().as_bytes()),
            FieldName::Authority => Some(head.authority.as_bytes()),
            FieldName::Path if head.path.is_empty() => None,
            FieldName::Path => Some(head.path.as_bytes()),
            FieldName::Upgrade => head.upgrade.as_ref().map(|token| token.as_bytes().as_ref()),
        };
        pseudo.into_iter().chain(self.map(&head.headers))
    }

    /// The values in a response, in their order.
    pub fn response<'h>(&self, head: &'h ResponseHead) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        let pseudo: Option<&[u8]> = match self {
            FieldName::Status => Some(head.status.as_str().as_bytes()),
            FieldName::Upgrade => head.upgrade.as_ref().map(|token| token.as_bytes().as_ref()),
            _ => None,
        };
        pseudo.into_iter().chain(self.map(&head.headers))
    }

    /// The values in a map without pseudo-headers: trailers.
    pub fn map<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h [u8]> + use<'h> {
        let name = match self {
            FieldName::Header(name) => Some(name),
            _ => None,
        };
        name.map(|name| headers.get_all(name)).into_iter().flatten().map(|value| value.as_bytes())
    }
}
