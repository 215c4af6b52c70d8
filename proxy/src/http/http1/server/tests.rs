//! The driver against a scripted peer and a fake connection manager, in memory and in simulated time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::Instant;

use super::*;
use crate::http::{BodyError, BodySource, Frame, ResponseHead};
use crate::net::{Address, RawIo, Socket};
use crate::server::drain::DrainSource;
use crate::stream_info::{ConnectionInfo, TrafficDirection};

mod bodies;
mod closing;
mod exchanges;
mod tunnels;

type Handler = Box<dyn Fn(Request) -> LocalBoxFuture<'static, Reply>>;

/// A connection manager that does what the test says.
struct Fake {
    info: Rc<ConnectionInfo>,
    handler: Handler,
    bad: RefCell<Vec<BadRequest>>,
    abandoned: RefCell<Vec<u64>>,
}

impl CodecService for Fake {
    fn call(self: Rc<Self>, request: Request) -> impl Future<Output = Reply> {
        (self.handler)(request)
    }

    fn bad_request(self: Rc<Self>, bad: BadRequest) -> Reply {
        let status = bad.status;
        self.bad.borrow_mut().push(bad);
        reply(status.as_u16(), status.canonical_reason().unwrap_or_default())
    }

    fn abandoned(self: Rc<Self>, wire_received: u64) {
        self.abandoned.borrow_mut().push(wire_received);
    }

    fn connection(&self) -> &Rc<ConnectionInfo> {
        &self.info
    }
}

fn reply(status: u16, body: &'static str) -> Reply {
    let body = if body.is_empty() { Body::Empty } else { Body::Full(body.into()) };
    reply_with(status, &[], body)
}

fn reply_with(status: u16, fields: &[(&'static str, &'static str)], body: Body) -> Reply {
    let mut head = ResponseHead::new(StatusCode::from_u16(status).unwrap());
    for (name, value) in fields {
        head.headers.append(*name, value.parse().unwrap());
    }
    Reply { head, body, close_connection: false, stream: Rc::new(()) }
}

/// One connection under test: the peer's end, and what the server made of it.
struct Peer {
    io: DuplexStream,
    end: JoinHandle<ConnectionEnd>,
    service: Rc<Fake>,
    drain: DrainSource,
    start: Instant,
}

fn connect_with<F>(settings: ServerSettings, handler: impl Fn(Request) -> F + 'static) -> Peer
where
    F: Future<Output = Reply> + 'static,
{
    let address: Address = "127.0.0.1:80".parse::<std::net::SocketAddr>().unwrap().into();
    let info = ConnectionInfo::new("test".into(), address.clone(), address, TrafficDirection::Inbound);
    let handler: Handler = Box::new(move |request| Box::pin(handler(request)));
    let service =
        Rc::new(Fake { info: Rc::new(info), handler, bad: RefCell::default(), abandoned: RefCell::default() });
    let (io, theirs) = tokio::io::duplex(64 * 1024);
    let theirs = Io::Raw(RawIo::new(Socket::Memory(theirs)));
    let drain = DrainSource::default();
    let end = spawn_local(serve(theirs, Rc::clone(&service), Arc::new(settings), drain.subscribe(), 1024 * 1024));
    Peer { io, end, service, drain, start: Instant::now() }
}

fn connect<F: Future<Output = Reply> + 'static>(handler: impl Fn(Request) -> F + 'static) -> Peer {
    connect_with(ServerSettings::default(), handler)
}

/// Answers with method, path and the whole body.
async fn echo(mut request: Request) -> Reply {
    let mut text = format!("{} {}", request.head.method, request.head.path);
    let mut trailers = HeaderMap::new();
    while let Some(frame) = std::future::poll_fn(|cx| request.body.poll_frame(cx)).await {
        match frame {
            Ok(Frame::Data(data)) => text += &format!(" [{}]", data.escape_ascii()),
            Ok(Frame::Trailers(map)) => trailers = map,
            Err(error) => return never(error).await,
        }
    }
    for (name, value) in &trailers {
        text += &format!(" {name}={}", value.to_str().unwrap());
    }
    reply_with(200, &[], Body::Full(text.into()))
}

/// A service that does not care about broken requests.
async fn never(_: BodyError) -> Reply {
    std::future::pending().await
}

impl Peer {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// What comes until nothing more does for a while of simulated time, escaped with `|` for line ends.
    async fn read(&mut self) -> String {
        let mut all = Vec::new();
        while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(10), self.io.read_buf(&mut all)).await
            && n > 0
        {}
        String::from_utf8_lossy(&all).replace("\r\n", "|")
    }

    async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> String {
        self.send(bytes).await;
        self.read().await
    }

    /// Waits for the server to close: what it wrote before, how it ended, and when.
    async fn closed(mut self) -> (String, ConnectionEnd, Duration) {
        let mut all = Vec::new();
        self.io.read_to_end(&mut all).await.unwrap();
        let at = self.start.elapsed();
        (String::from_utf8_lossy(&all).replace("\r\n", "|"), self.end.await.unwrap(), at)
    }

    fn bad(&self) -> Vec<(u16, String)> {
        self.service.bad.borrow().iter().map(|bad| (bad.status.as_u16(), bad.details.to_string())).collect()
    }
}

/// A body that yields what is put into it.
#[derive(Clone, Default)]
struct Tap(Rc<RefCell<TapState>>);

#[derive(Default)]
struct TapState {
    frames: VecDeque<Option<Result<Frame, BodyError>>>,
    waker: Option<Waker>,
    dropped: bool,
    polled: usize,
}

impl Tap {
    fn push(&self, data: &'static str) {
        self.frame(Some(Ok(Frame::Data(data.into()))));
    }

    fn frame(&self, frame: Option<Result<Frame, BodyError>>) {
        self.0.borrow_mut().frames.push_back(frame);
        if let Some(waker) = self.0.borrow_mut().waker.take() {
            waker.wake();
        }
    }

    fn end(&self) {
        self.frame(None);
    }

    fn fail(&self) {
        let error = BodyError { reason: ResetReason::RemoteReset, details: "upstream".into() };
        self.frame(Some(Err(error)));
    }

    fn dropped(&self) -> bool {
        self.0.borrow().dropped
    }

    fn body(&self) -> Body {
        Body::Stream(Box::new(Tapped(self.clone())))
    }
}

struct Tapped(Tap);

impl BodySource for Tapped {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut state = self.0.0.borrow_mut();
        match state.frames.pop_front() {
            Some(frame) => {
                state.polled += 1;
                Poll::Ready(frame)
            }
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        self.0.0.borrow_mut().dropped = true;
    }
}

/// Runs a test on a local task set with simulated time.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(LocalSet::new().run_until(test));
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
