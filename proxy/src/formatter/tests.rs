//! Expectations are what Envoy 1.40 wrote or refused.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use xds_protos::envoy::config::core::v3 as core;
use xds_protos::envoy::config::route::v3 as route;

use super::*;
use crate::access_log::{AccessLogType, LogContext};
use crate::config::Path;
use crate::config::testing::from_yaml;
use crate::endpoint::Host;
use crate::http::{Protocol, RequestHead, ResponseHead};
use crate::net::Address;
use crate::route::tests::{get, info, table, values};
use crate::stream_info::{PeerCertificate, ResponseFlags, StreamInfo, TlsInfo};

mod headers;
mod operators;
mod refusals;

/// What a context is made of.
pub struct Stream {
    pub request: Option<RequestHead>,
    pub response: Option<ResponseHead>,
    pub trailers: Option<HeaderMap>,
    pub info: StreamInfo,
}

impl Stream {
    pub fn new(request: RequestHead) -> Stream {
        let mut response = ResponseHead::new(StatusCode::OK);
        response.headers.insert("server", HeaderValue::from_static("envoy"));
        Stream { request: Some(request), response: Some(response), trailers: None, info: info() }
    }

    pub fn cx(&self) -> LogContext<'_> {
        LogContext {
            request: self.request.as_ref(),
            response: self.response.as_ref(),
            trailers: self.trailers.as_ref(),
            info: &self.info,
            kind: AccessLogType::DownstreamEnd,
        }
    }

    pub fn text(&self, format: &str) -> String {
        let extensions = Extensions { req_without_query: true };
        let format = Formatter::parse(format, extensions).unwrap_or_else(|why| panic!("{format}: {why}"));
        let mut out = Vec::new();
        format.write(&self.cx(), "-", &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// A `SubstitutionFormatString` in YAML.
    pub fn line(&self, yaml: &str) -> String {
        let proto: core::SubstitutionFormatString = from_yaml(yaml);
        let format = LineFormat::build(&proto, &Path::root("f")).unwrap();
        let mut out = Vec::new();
        format.write(&self.cx(), &mut out);
        String::from_utf8(out).unwrap()
    }
}

pub fn address(text: &str) -> Address {
    Address::from(text.parse::<SocketAddr>().unwrap())
}
