use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::stream_info::ResponseFlags;

/// An answer that the proxy makes itself. The connection manager gives it its final form: gRPC trailers-only for gRPC
/// requests, `local_reply_config`, `content-length` and `content-type`.
#[derive(Debug, Clone)]
pub struct LocalReply {
    pub status: StatusCode,
    pub body: Bytes,
    /// Envoy's `%RESPONSE_CODE_DETAILS%`.
    pub details: Cow<'static, str>,
    pub flags: ResponseFlags,
    /// Instead of the status that `status` maps to.
    pub grpc_status: Option<u16>,
    /// Headers beside the ones every local reply has.
    pub headers: HeaderMap,
    /// The route's response header mutations apply: it is the route's own answer.
    pub on_route: bool,
}

impl LocalReply {
    pub fn new(status: StatusCode, body: impl Into<Bytes>, details: impl Into<Cow<'static, str>>) -> Self {
        LocalReply {
            status,
            body: body.into(),
            details: details.into(),
            flags: ResponseFlags::empty(),
            grpc_status: None,
            headers: HeaderMap::new(),
            on_route: false,
        }
    }

    #[must_use]
    pub fn on_route(mut self) -> Self {
        self.on_route = true;
        self
    }

    #[must_use]
    pub fn flag(mut self, flag: ResponseFlags) -> Self {
        self.flags = self.flags.with(flag);
        self
    }
}
