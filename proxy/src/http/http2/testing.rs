//! Two kinds of peers for tests: `h2` itself as the good one, and [`Raw`], which writes any frames it likes.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::flood::Side;
use super::frames::{FrameHeader, HEADER_LEN, PREFACE, flag, kind};
use super::settings::{ClientSettings, Http2Options, ServerSettings};
use crate::config::Path;
use crate::http::{BadRequest, Body, BodyError, BodySource, CodecService, Frame, Reply, Request, ResponseHead};
use crate::net::{Address, Io, RawIo, Socket};
use crate::server::drain::{DrainSource, DrainState};
use crate::stats::Stats;
use crate::stream_info::{ConnectionInfo, TrafficDirection};

/// Runs a test on the kind of runtime that workers are.
pub fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

pub fn pipe(size: usize) -> (Io, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(size);
    (Io::Raw(RawIo::new(Socket::Memory(ours))), theirs)
}

pub fn server_settings() -> ServerSettings {
    let options = Http2Options::build(None, Side::Server, &Path::root("")).unwrap();
    ServerSettings::new(options, Stats::new(0).block("http2"))
}

pub fn client_settings() -> ClientSettings {
    let options = Http2Options::build(None, Side::Client, &Path::root("")).unwrap();
    ClientSettings::new(options, Stats::new(0).block("cluster.up.http2"))
}

type Answer = Pin<Box<dyn Future<Output = Reply>>>;

/// A service made of a closure.
pub struct Service {
    answer: Box<dyn Fn(Request) -> Answer>,
    connection: Rc<ConnectionInfo>,
    pub bad: RefCell<Vec<BadRequest>>,
    pub called: Cell<usize>,
}

impl Service {
    pub fn new<F: Future<Output = Reply> + 'static>(answer: impl Fn(Request) -> F + 'static) -> Rc<Self> {
        let address = Address::Pipe("/test".into());
        let direction = TrafficDirection::Unspecified;
        Rc::new(Service {
            answer: Box::new(move |request| Box::pin(answer(request))),
            connection: Rc::new(ConnectionInfo::new(Arc::from("test"), address.clone(), address, direction)),
            bad: RefCell::default(),
            called: Cell::new(0),
        })
    }

    /// Answers everything with 200 and no body.
    pub fn ok() -> Rc<Self> {
        Service::new(|_| async { reply(200, Body::Empty) })
    }

    /// Why we closed the connection, if we said.
    pub fn connection_closed_for(&self) -> Option<String> {
        self.connection.local_close_reason.borrow().as_ref().map(ToString::to_string)
    }
}

impl CodecService for Service {
    fn call(self: Rc<Self>, request: Request) -> impl Future<Output = Reply> {
        self.called.set(self.called.get() + 1);
        (self.answer)(request)
    }

    fn bad_request(self: Rc<Self>, bad: BadRequest) -> Reply {
        let status = bad.status.as_u16();
        self.bad.borrow_mut().push(bad);
        reply(status, Body::Empty)
    }

    fn connection(&self) -> &Rc<ConnectionInfo> {
        &self.connection
    }
}

pub fn reply(status: u16, body: Body) -> Reply {
    let head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
    Reply { head, body, close_connection: false, stream: Rc::new(()) }
}

/// A body made of frames, each after a wait.
pub struct Frames {
    pub frames: std::collections::VecDeque<Result<Frame, BodyError>>,
    /// Frames handed out.
    pub pulled: Rc<Cell<usize>>,
}

impl Frames {
    pub fn body(frames: impl IntoIterator<Item = Frame>) -> Body {
        Body::Stream(Box::new(Frames { frames: frames.into_iter().map(Ok).collect(), pulled: Rc::default() }))
    }
}

impl BodySource for Frames {
    fn poll_frame(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Frame, BodyError>>> {
        self.pulled.set(self.pulled.get() + 1);
        std::task::Poll::Ready(self.frames.pop_front())
    }
}

/// Reads a body to its end: data and trailers.
pub async fn collect(body: &mut Body) -> Result<(Vec<u8>, Option<http::HeaderMap>), BodyError> {
    let (mut data, mut trailers) = (Vec::new(), None);
    while let Some(frame) = std::future::poll_fn(|cx| body.poll_frame(cx)).await {
        match frame? {
            Frame::Data(bytes) => data.extend_from_slice(&bytes),
            Frame::Trailers(map) => trailers = Some(map),
        }
    }
    Ok((data, trailers))
}

/// A connection being served, and what can be done to it.
pub struct Served {
    pub service: Rc<Service>,
    pub settings: Rc<ServerSettings>,
    pub drain: DrainSource,
    pub task: tokio::task::JoinHandle<()>,
}

pub fn serve(service: Rc<Service>, settings: ServerSettings) -> (Served, DuplexStream) {
    serve_through(service, settings, 1 << 20)
}

/// `size`: what fits into the "socket" each way.
pub fn serve_through(service: Rc<Service>, settings: ServerSettings, size: usize) -> (Served, DuplexStream) {
    let (io, peer) = pipe(size);
    let (settings, drain) = (Rc::new(settings), DrainSource::default());
    let serving = super::server::serve(io, Rc::clone(&service), Rc::clone(&settings), drain.subscribe());
    let task = tokio::task::spawn_local(serving);
    (Served { service, settings, drain, task }, peer)
}

impl Served {
    pub fn drain(&self, state: DrainState) {
        self.drain.set(state);
    }

    pub fn stat(&self, counter: crate::stats::Counter<super::Http2Stats>) -> u64 {
        self.settings.stats.read(counter)
    }
}

/// A frame as read from the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    pub head: FrameHeader,
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// The error code of a RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.head.kind == kind::GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status of a response's HEADERS, for those that our encoder takes from the static table, and 431.
    pub fn status(&self) -> u16 {
        match self.payload[..] {
            [0x88, ..] => 200,
            [0x8c, ..] => 400,
            [0x8d, ..] => 404,
            [0x48, 0x83, 0x69, 0x90, 0xff, ..] => 431,
            _ => panic!("unknown status in {:02x?}", self.payload),
        }
    }
}

/// A peer that says what it is told to.
pub struct Raw {
    pub io: DuplexStream,
    /// Answer SETTINGS and PING, as a good peer would.
    pub polite: bool,
}

pub fn frame(kind: u8, flags: u8, stream_id: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream_id.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals that touch no table.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    fn string(to: &mut Vec<u8>, s: &[u8]) {
        if s.len() < 127 {
            to.push(s.len() as u8);
        } else {
            to.push(127);
            let mut left = s.len() - 127;
            while left >= 128 {
                to.push(left as u8 | 0x80);
                left >>= 7;
            }
            to.push(left as u8);
        }
        to.extend_from_slice(s);
    }
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    block
}

pub const GET: [(&[u8], &[u8]); 4] =
    [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.test"), (b":path", b"/")];

impl Raw {
    /// A client: sends the preface and empty SETTINGS.
    pub async fn client(io: DuplexStream) -> Self {
        let mut raw = Raw { io, polite: true };
        raw.send(PREFACE).await;
        raw.frame(kind::SETTINGS, 0, 0, &[]).await;
        raw
    }

    /// A server: reads the preface, sends SETTINGS with this payload.
    pub async fn server(io: DuplexStream, settings: &[u8]) -> Self {
        let mut raw = Raw { io, polite: true };
        let mut preface = [0; 24];
        raw.io.read_exact(&mut preface).await.unwrap();
        assert_eq!(&preface, PREFACE);
        raw.frame(kind::SETTINGS, 0, 0, settings).await;
        raw
    }

    /// The peer may be gone.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
    }

    pub async fn frame(&mut self, kind: u8, flags: u8, stream_id: u32, payload: &[u8]) {
        self.send(&frame(kind, flags, stream_id, payload)).await;
    }

    /// HEADERS with END_HEADERS, and END_STREAM if asked.
    pub async fn headers(&mut self, stream_id: u32, fields: &[(&[u8], &[u8])], end: bool) {
        let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
        self.frame(kind::HEADERS, flags, stream_id, &block(fields)).await;
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<RawFrame> {
        let mut head = [0; HEADER_LEN];
        self.io.read_exact(&mut head).await.ok()?;
        let head = FrameHeader::parse(&head);
        let mut payload = vec![0; head.length as usize];
        self.io.read_exact(&mut payload).await.ok()?;
        if self.polite && !head.has(flag::ACK) {
            match head.kind {
                kind::SETTINGS => self.frame(kind::SETTINGS, flag::ACK, 0, &[]).await,
                kind::PING => self.frame(kind::PING, flag::ACK, 0, &payload).await,
                _ => {}
            }
        }
        Some(RawFrame { head, payload })
    }

    /// The next frame of one of these types; `None` if the connection ends, or nothing comes for ten seconds.
    pub async fn next_of(&mut self, kinds: &[u8]) -> Option<RawFrame> {
        let found = async {
            loop {
                let frame = self.next().await?;
                if kinds.contains(&frame.head.kind) {
                    return Some(frame);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found).await.ok().flatten()
    }

    /// Until the connection ends, or nothing comes for ten seconds; says whether it ended.
    pub async fn rest(&mut self) -> (Vec<RawFrame>, bool) {
        let mut frames = Vec::new();
        loop {
            match tokio::time::timeout(Duration::from_secs(10), self.next()).await {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, true),
                Err(_) => return (frames, false),
            }
        }
    }
}

/// A good client on the other end: its handle; the connection runs in a task.
pub async fn good_client(io: DuplexStream, builder: &h2::client::Builder) -> h2::client::SendRequest<Bytes> {
    let (send, connection) = builder.handshake::<_, Bytes>(io).await.unwrap();
    drop(tokio::task::spawn_local(async move {
        let _ = connection.await;
    }));
    send
}

pub fn get(path: &str) -> http::Request<()> {
    http::Request::builder().uri(format!("http://a.test{path}")).version(http::Version::HTTP_2).body(()).unwrap()
}

pub fn post(path: &str) -> http::Request<()> {
    let mut request = get(path);
    *request.method_mut() = http::Method::POST;
    request
}

/// Reads a body from `h2`, giving back what was read.
pub async fn drain_body(body: &mut h2::RecvStream) -> Result<(Vec<u8>, Option<http::HeaderMap>), h2::Error> {
    let mut data = Vec::new();
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        body.flow_control().release_capacity(bytes.len())?;
        data.extend_from_slice(&bytes);
    }
    Ok((data, body.trailers().await?))
}
