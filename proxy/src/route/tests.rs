//! Searching a table and applying what was found. Expectations are what Envoy 1.40 did with the same configuration.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use xds_protos::envoy::config::route::v3 as pb;

use super::*;
use crate::config::testing::from_yaml;
use crate::config::{BuildCx, Path, Reject};
use crate::http::{ByteStr, Protocol, RequestHead, ResponseHead, Scheme};
use crate::net::Address;
use crate::server::ServerOptions;
use crate::stream_info::{ConnectionInfo, PeerCertificate, StreamInfo, TlsInfo, TrafficDirection};

mod explain;
mod matching;
mod rewriting;

pub fn cx() -> BuildCx {
    BuildCx::new(ServerOptions { concurrency: 1, ..ServerOptions::default() })
}

/// Overrides are their type URLs here; `google.protobuf.Struct` stands for a type that no filter takes.
pub fn build_with(cx: &BuildCx, yaml: &str) -> Result<Arc<RouteTable>, Reject> {
    let proto: pb::RouteConfiguration = from_yaml(yaml);
    RouteTable::build(&proto, &Path::root(""), cx, false, &|any, _, _| {
        let known = !any.type_url.ends_with("google.protobuf.Struct");
        Ok(known.then(|| Arc::new(any.type_url.clone()) as FilterConfig))
    })
}

pub fn table(yaml: &str) -> Arc<RouteTable> {
    build_with(&cx(), yaml).unwrap_or_else(|reject| panic!("{reject}"))
}

/// A table with one virtual host for everything.
pub fn routes(yaml: &str) -> Arc<RouteTable> {
    let indented: String = yaml.trim().lines().map(|line| format!("  {line}\n")).collect();
    table(&format!("virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n{indented}"))
}

pub fn info() -> StreamInfo {
    let address = Address::from("127.0.0.1:80".parse::<SocketAddr>().unwrap());
    let connection = ConnectionInfo::new("l".into(), address.clone(), address, TrafficDirection::Unspecified);
    StreamInfo::new(Rc::new(connection), Some(Protocol::Http11))
}

pub fn get(authority: &str, path: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead {
        method: Method::GET,
        scheme: Scheme::Http,
        authority: authority.into(),
        path: path.into(),
        upgrade: None,
        headers: http::HeaderMap::new(),
        protocol: Protocol::Http11,
        case: None,
        wire_size: 0,
    };
    head.headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        if name == "x-forwarded-proto" {
            head.headers.remove(&name);
        }
        head.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    head
}

/// The status of the direct response that the request finds; 404 for none.
pub fn status(table: &Arc<RouteTable>, head: &RequestHead) -> u16 {
    let found = table.find(head, &info(), 0);
    match found.as_ref().map(RouteMatch::action) {
        Some(Action::DirectResponse(response)) => response.status.as_u16(),
        Some(_) => 0,
        None => 404,
    }
}

/// A header's values, joined with a bar.
pub fn values(headers: &http::HeaderMap, name: &str) -> String {
    headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>().join("|")
}
