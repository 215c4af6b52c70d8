//! What the micro benches are made of: messages from JSON, requests, connections over pipes in memory.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use outrigger::config::BuildCx;
use outrigger::http::{Protocol, RequestHead, Scheme};
use outrigger::net::{Address, Io, RawIo, Socket};
use outrigger::network::{self, BuiltFilter, Connection, ListenerCx, TerminalFilter};
use outrigger::server::ServerOptions;
use outrigger::server::drain::DrainSource;
use outrigger::stream_info::{ConnectionInfo, StreamInfo, TrafficDirection};
use prost::{Message, Name};
use serde_json::Value;
use tokio::io::DuplexStream;
use xds_protos::envoy::config::listener::v3::Listener;
use xds_protos::envoy::config::listener::v3::filter::ConfigType;
use xds_protos::{encode, text};

/// A process without clusters.
pub fn process() -> BuildCx {
    BuildCx::new(ServerOptions { concurrency: 1, ..ServerOptions::default() })
}

/// The wire bytes of the message that this JSON describes, as a control plane would send them.
pub fn wire<M: Name>(json: &Value) -> Vec<u8> {
    let json = json.to_string();
    let tree = text::parse(&json, text::Format::Json).expect("JSON");
    encode::to_wire(tree.root(), &M::full_name(), &encode::Options::default()).expect("a message").0
}

pub fn message<M: Message + Name + Default>(json: &Value) -> M {
    M::decode(wire::<M>(json).as_slice()).expect("bytes that were just encoded")
}

/// A GET with a browser's headers.
pub fn get(authority: &str, path: &str) -> RequestHead {
    let mut head = RequestHead {
        method: Method::GET,
        scheme: Scheme::Http,
        authority: authority.into(),
        path: path.into(),
        upgrade: None,
        headers: http::HeaderMap::new(),
        protocol: Protocol::Http11,
        case: None,
        wire_size: 200,
    };
    for (name, value) in [
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-GB,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("cookie", "session=0123456789abcdef0123456789abcdef"),
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "5b0c1d2e-3f40-4152-8364-75869788a9ba"),
    ] {
        head.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    head
}

/// A connection to `local`, which counts on `remote`.
pub fn connection_info(local: &str, remote: &str) -> ConnectionInfo {
    let address = |text: &str| Address::from(text.parse::<SocketAddr>().expect("an address"));
    ConnectionInfo::new("bench".into(), address(local), address(remote), TrafficDirection::Inbound)
}

pub fn stream_info() -> StreamInfo {
    let connection = connection_info("10.0.0.1:8080", "10.0.0.2:40000");
    StreamInfo::new(Rc::new(connection), Some(Protocol::Http11))
}

/// The terminal filter of a listener's one chain.
pub fn terminal(cx: &BuildCx, listener: &Value) -> Arc<dyn TerminalFilter> {
    let listener: Listener = message(listener);
    let filter = &listener.filter_chains[0].filters[0];
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else { panic!("a filter without configuration") };
    let cx = ListenerCx {
        build: cx,
        listener_name: &Arc::from("bench"),
        stat_scope: "listener.bench",
        direction: TrafficDirection::Inbound,
    };
    let path = outrigger::config::Path::root("bench");
    match network::http_connection_manager::build(any, &path, &cx).expect("a connection manager") {
        BuiltFilter::Terminal(terminal) => terminal,
        BuiltFilter::Network(_) => panic!("not a terminal filter"),
    }
}

/// Serves one connection over a pipe in memory on the current `LocalSet`; the client's end of the pipe.
pub fn serve(terminal: &Arc<dyn TerminalFilter>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let info = Rc::new(connection_info("10.0.0.1:8080", "10.0.0.2:40000"));
    // The source must outlive the connection, or draining would begin.
    let source = Rc::new(DrainSource::default());
    let connection = Connection {
        io: Io::Raw(RawIo::new(Socket::Memory(server))),
        stream_info: Some(Rc::new(RefCell::new(StreamInfo::new(Rc::clone(&info), None)))),
        info,
        drain: source.subscribe(),
        buffer_limit: 1 << 20,
        guard: Box::new(source),
    };
    tokio::task::spawn_local(Arc::clone(terminal).serve(connection));
    client
}
