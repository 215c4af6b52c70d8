use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;
use std::task::Waker;

use http::{HeaderMap, Method, StatusCode};

use super::{Body, ByteStr};
use crate::stream_info::ConnectionInfo;

/// The version a message was received or is sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    Http10,
    Http11,
    Http2,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http10 => "HTTP/1.0",
            Protocol::Http11 => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
        }
    }
}

/// `:scheme`. Others than these are kept as they came, lower-case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scheme {
    #[default]
    Http,
    Https,
    Other(ByteStr),
}

impl Scheme {
    pub fn as_str(&self) -> &str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Other(s) => s,
        }
    }
}

/// Spelling of header names as received, for `preserve_case`: one for each name, in order of arrival. A name is looked up
/// without regard to case; one that is absent was added on the way.
#[derive(Debug, Default, Clone)]
pub struct HeaderCase(pub Vec<ByteStr>);

/// A canonical request head. Pseudo-headers are fields; `headers` never holds `host`, `connection`,
/// `transfer-encoding`, `keep-alive`, `proxy-connection` or `upgrade`; `content-length`, if there, is one decimal that
/// agrees with the framing.
#[derive(Debug, Clone)]
pub struct RequestHead {
    pub method: Method,
    pub scheme: Scheme,
    /// `Host` or `:authority`; empty only where Envoy allows that (HTTP/1.0 without host is given the default host).
    pub authority: ByteStr,
    /// `:path`: origin form with the query; empty for a plain CONNECT; `*` for `OPTIONS *`.
    pub path: ByteStr,
    /// `:protocol` of an extended CONNECT, or the `Upgrade` token of an HTTP/1 upgrade, as it was written: compare without
    /// regard to case.
    pub upgrade: Option<ByteStr>,
    pub headers: HeaderMap,
    pub protocol: Protocol,
    pub case: Option<Box<HeaderCase>>,
    /// Size of the header fields as Envoy counts them for `%DOWNSTREAM_HEADER_BYTES_RECEIVED%`: HTTP/1, names and values
    /// and three for each line; HTTP/2, as decoded.
    pub wire_size: usize,
}

/// A canonical response head; `headers` obeys the same rules as in [`RequestHead`].
#[derive(Debug, Clone)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub protocol: Protocol,
    /// The `Upgrade` token of a 101, or what an extended CONNECT was answered for.
    pub upgrade: Option<ByteStr>,
    pub case: Option<Box<HeaderCase>>,
    pub wire_size: usize,
}

impl ResponseHead {
    pub fn new(status: StatusCode) -> Self {
        ResponseHead {
            status,
            headers: HeaderMap::new(),
            protocol: Protocol::Http11,
            upgrade: None,
            case: None,
            wire_size: 0,
        }
    }
}

/// Why a stream ended before both sides finished. Used for both directions; names follow Envoy's `StreamResetReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetReason {
    /// The TCP connection could not be made (refused, unreachable).
    LocalConnectionFailure,
    RemoteConnectionFailure,
    ConnectionTimeout,
    /// The connection closed under the stream.
    ConnectionTermination,
    LocalReset,
    RemoteReset,
    /// REFUSED_STREAM, or GOAWAY with a lower stream id: provably unprocessed.
    LocalRefusedStreamReset,
    RemoteRefusedStreamReset,
    Overflow,
    ProtocolError,
    ConnectError,
    OverloadManager,
}

/// A request as the codec hands it over.
pub struct Request {
    pub head: RequestHead,
    pub body: Body,
    pub ctl: Rc<StreamCtl>,
}

/// The answer. The codec writes it, then drops `stream`, whose `Drop` finishes the request (access log, stats).
pub struct Reply {
    pub head: ResponseHead,
    pub body: Body,
    /// Ask the codec to close the connection after this reply (`connection: close`; HTTP/2: GOAWAY).
    pub close_connection: bool,
    /// Keeps the request's state alive until the reply is written or the stream is reset: its `Drop` finishes the request.
    pub stream: Rc<dyn std::any::Any>,
}

/// Why there is an answer to what never became a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadRequestKind {
    /// It is no HTTP, or more of it than is allowed.
    Protocol,
    /// `request_headers_timeout`, or the codec's own limit.
    HeadTimeout,
    /// `stream_idle_timeout`, which runs from the head's first byte.
    StreamIdleTimeout,
    /// `request_timeout`.
    RequestTimeout,
    /// `max_stream_duration`.
    MaxDuration,
}

/// A head that the codec refused before there was a request. The connection manager answers it with a local reply and
/// an access-log line.
#[derive(Debug, Clone)]
pub struct BadRequest {
    pub kind: BadRequestKind,
    pub status: StatusCode,
    /// Envoy's detail string, e.g. `http1.codec_error`.
    pub details: Cow<'static, str>,
    pub protocol: Protocol,
    /// The head, as far as there is one, for the access log, which otherwise has no method or path.
    pub head: Option<Box<RequestHead>>,
    /// Bytes of it that were read.
    pub wire_received: u64,
}

/// What codec and connection manager tell each other about one stream while it runs.
#[derive(Default)]
pub struct StreamCtl {
    /// Interim responses (1xx) that wait to be written; the codec takes them while it waits for the reply.
    pub informational: RefCell<VecDeque<ResponseHead>>,
    /// The codec's task, to be woken when `informational` or `reset` changes.
    pub waker: RefCell<Option<Waker>>,
    /// Set by the codec because the peer went away or broke the protocol. After anything but `ProtocolError` the call is
    /// dropped at once. After `ProtocolError` before the reply's head it is polled one more time, so that the service can
    /// answer with `reset_status` and write one access-log line; if it does not, the codec drops it and asks
    /// [`CodecService::bad_request`].
    pub reset: Cell<Option<ResetReason>>,
    /// The status owed to a request whose body broke the protocol: 400, or 431 for its trailers.
    pub reset_status: Cell<Option<StatusCode>>,
    /// The codec's detail string for `reset`.
    pub reset_details: RefCell<Option<Cow<'static, str>>>,
    /// Wire bytes of this stream, counted by the codec.
    pub wire_received: Cell<u64>,
    pub wire_sent: Cell<u64>,
    pub header_bytes_sent: Cell<u64>,
    /// Body bytes handed to the peer.
    pub body_sent: Cell<u64>,
    pub body_received: Cell<u64>,
    /// When the last byte of the request was read.
    pub request_complete: Cell<Option<std::time::Instant>>,
    /// What the router's exchange counted on the upstream side.
    pub upstream: UpstreamWire,
    /// When the first byte of the final response was handed to the socket.
    pub first_tx: Cell<Option<std::time::Instant>>,
}

/// Bytes and moments of the last upstream exchange; headers count as they were written and read.
#[derive(Default)]
pub struct UpstreamWire {
    pub sent: Cell<u64>,
    pub received: Cell<u64>,
    pub header_sent: Cell<u64>,
    pub header_received: Cell<u64>,
    pub first_rx_body: Cell<Option<std::time::Instant>>,
    pub last_rx: Cell<Option<std::time::Instant>>,
}

impl StreamCtl {
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// What a server codec calls: the connection manager of one connection, or a fake in tests.
pub trait CodecService: 'static {
    /// Answers a request. Dropping the future cancels the request; `request.ctl.reset` says why.
    fn call(self: Rc<Self>, request: Request) -> impl Future<Output = Reply>;

    /// Answers a head that is not a request.
    fn bad_request(self: Rc<Self>, bad: BadRequest) -> Reply;

    /// The peer closed the connection in the middle of a head, of which it sent so many bytes.
    fn abandoned(self: Rc<Self>, _wire_received: u64) {}

    /// Called once a new stream's head is complete or its first byte came, and when none is left: drives idle timers.
    fn connection(&self) -> &Rc<ConnectionInfo>;
}
