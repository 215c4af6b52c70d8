//! The admin interface's server: hyper on the control thread.
//!
//! What a client can hold is bounded: [`MAX_CONNECTIONS`] connections, of which the one idle for longest gives way to a new
//! one; [`IDLE_TIMEOUT`] without a byte read or written; [`MAX_BODY`] bytes of a request's body; of an answer one piece, since
//! the next is made when the last has gone out. Between two pieces other tasks of the thread have their turn.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, SERVER, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;

use super::reply::{Content, Reply};
use super::request::{Request, merge_slashes};
use super::{AdminContext, respond};
use crate::net::Address;
use crate::stats::names::{HttpStats, ListenerHttpStats, ListenerStats, WorkerListenerStats};
use crate::stats::{GaugeGuard, StatBlock, Stats};

/// More than all tools of a pod together need.
const MAX_CONNECTIONS: usize = 128;
/// Longer than the interval of any scraper, so that its connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// No request has more than a few parameters in its body.
const MAX_BODY: usize = 64 << 10;
/// How long answers may still take when the process ends.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// After an error of accept other than that the peer is gone; out of descriptors, mostly.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// The bound socket.
#[derive(Debug)]
pub enum AdminListener {
    Tcp(TcpListener),
    Pipe(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

impl AdminListener {
    /// Binds `admin.address`. A socket file that nobody listens on any more is replaced; `@name` is an abstract socket.
    ///
    /// # Errors
    /// When the address is taken or not of this machine.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Ip(ip) => Ok(Self::Tcp(TcpListener::bind(ip).await?)),
            Address::Pipe(path) => {
                let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
                if !path.starts_with('@') && UnixStream::connect(&**path).await.is_err_and(refused) {
                    std::fs::remove_file(&**path)?;
                }
                // A leading NUL is how the system spells an abstract name.
                let name = path.strip_prefix('@').map_or_else(|| path.to_string(), |name| format!("\0{name}"));
                Ok(Self::Pipe(UnixListener::bind(name)?))
            }
        }
    }

    /// Where it listens, with the port that was chosen for 0.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()).unwrap_or_default(),
            Self::Pipe(listener) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                let name = address.as_ref().and_then(|address| address.as_abstract_name());
                match (path, name) {
                    (Some(path), _) => path.display().to_string(),
                    (None, Some(name)) => format!("@{}", String::from_utf8_lossy(name)),
                    (None, None) => String::new(),
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // An answer is a few writes; a client should not wait for the last.
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Pipe(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// Serves until `shutdown` resolves, then finishes what is being answered, for a second at most. Runs within a
/// [`LocalSet`](tokio::task::LocalSet). Not cancel safe: dropping it cuts answers short.
pub async fn serve(listener: AdminListener, cx: Rc<AdminContext>, shutdown: impl Future<Output = ()>) {
    let stats = AdminStats::new(&cx.stats);
    let (draining, drain) = watch::channel(false);
    let mut connections = Connections::default();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) => connections.add(stream, &cx, &stats, drain.clone()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!("admin: cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            },
            () = connections.ended(), if !connections.tasks.is_empty() => {}
            () = &mut shutdown => break,
        }
    }
    drop(listener);
    draining.send_replace(true);
    let all = async {
        while !connections.open.is_empty() {
            connections.ended().await
        }
    };
    if tokio::time::timeout(SHUTDOWN_GRACE, all).await.is_err() {
        tracing::debug!("admin: connections were cut at the end of the process");
    }
}

/// Keeps hyper's tasks on this thread.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: HashMap<Id, (Rc<Progress>, AbortHandle)>,
}

impl Connections {
    fn add(
        &mut self,
        stream: Box<dyn Stream>,
        cx: &Rc<AdminContext>,
        stats: &AdminStats,
        drain: watch::Receiver<bool>,
    ) {
        let idle = self.open.iter().min_by_key(|(_, (progress, _))| progress.last()).map(|(id, _)| *id);
        if let Some(id) = idle.filter(|_| self.open.len() >= MAX_CONNECTIONS)
            && let Some((_, handle)) = self.open.remove(&id)
        {
            handle.abort();
        }
        let progress = Rc::new(Progress::new());
        let stream = Counted { stream, progress: Rc::clone(&progress), stats: stats.http.clone() };
        let task = connection(stream, Rc::clone(&progress), Rc::clone(cx), stats.clone(), drain);
        let handle = self.tasks.spawn_local(task);
        self.open.insert(handle.id(), (progress, handle));
    }

    /// Waits for a connection to end. Cancel safe.
    async fn ended(&mut self) {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => return,
        };
        self.open.remove(&id);
    }
}

async fn connection(
    stream: Counted,
    progress: Rc<Progress>,
    cx: Rc<AdminContext>,
    stats: AdminStats,
    mut drain: watch::Receiver<bool>,
) {
    let opened = stats.opened();
    let http1 = Rc::new(OnceCell::new());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        if request.version() != http::Version::HTTP_2 {
            http1.get_or_init(|| stats.http1());
        }
        answer(request, Rc::clone(&cx), stats.clone())
    });
    let mut builder = auto::Builder::new(LocalExecutor);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut idle = pin!(progress.idle_for(IDLE_TIMEOUT));
    let mut told = false;
    loop {
        tokio::select! {
            ended = &mut served => {
                if let Err(error) = ended {
                    tracing::debug!("admin: connection ended: {error}");
                }
                break;
            }
            () = &mut idle => break,
            // The sender lives as long as the server.
            _ = drain.wait_for(|draining| *draining), if !told => {
                told = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
    drop(opened);
}

async fn answer(
    request: hyper::Request<Incoming>,
    cx: Rc<AdminContext>,
    stats: AdminStats,
) -> Result<Response<Outgoing>, Infallible> {
    let exchange = stats.request(request.version());
    let (head, body) = request.into_parts();
    let reply = match read(body).await {
        Some(body) => {
            let is_form = head.headers.get(CONTENT_TYPE).is_some_and(|v| v == "application/x-www-form-urlencoded");
            let form = if is_form { String::from_utf8_lossy(&body) } else { "".into() };
            let target = merge_slashes(head.uri.path_and_query().map_or("", |target| target.as_str()));
            respond(&Request::new(&cx, &head.method, &target, &form))
        }
        None => Reply::text(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large"),
    };
    let mut response = Response::new(Outgoing { content: reply.content, turn_given: true, exchange });
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(SERVER, HeaderValue::from_static("envoy"));
    response.body().exchange.status(reply.status);
    Ok(response)
}

/// The body of a request, unless it is or says it is too large, or breaks off.
async fn read(body: Incoming) -> Option<Bytes> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return None;
    }
    Some(Limited::new(body, MAX_BODY).collect().await.ok()?.to_bytes())
}

/// The body of an answer. Its length is not told, so it goes out chunked, as Envoy's does.
struct Outgoing {
    content: Content,
    /// Other tasks ran since the last piece.
    turn_given: bool,
    exchange: Exchange,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.turn_given {
            self.turn_given = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = match &mut self.content {
            Content::Whole(whole) => Some(std::mem::take(whole)).filter(|whole| !whole.is_empty()),
            Content::Pieces(pieces) => {
                let piece = pieces.next();
                self.turn_given = false;
                piece
            }
        };
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// When a connection last moved a byte.
struct Progress {
    last: Cell<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self { last: Cell::new(Instant::now()) }
    }

    fn note(&self) {
        self.last.set(Instant::now());
    }

    fn last(&self) -> Instant {
        self.last.get()
    }

    /// Resolves when nothing has moved for `timeout`.
    async fn idle_for(&self, timeout: Duration) {
        loop {
            let until = self.last() + timeout;
            tokio::time::sleep_until(until).await;
            if self.last() + timeout <= Instant::now() {
                return;
            }
        }
    }
}

/// A connection that notes progress and counts bytes.
struct Counted {
    stream: Box<dyn Stream>,
    progress: Rc<Progress>,
    stats: StatBlock<HttpStats>,
}

impl Counted {
    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(n)) = result {
            self.progress.note();
            self.stats.add(HttpStats::DOWNSTREAM_CX_TX_BYTES_TOTAL, n as u64);
        }
        result
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.progress.note();
            self.stats.add(HttpStats::DOWNSTREAM_CX_RX_BYTES_TOTAL, read as u64);
        }
        result
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The stats of the admin listener, which are those of a listener and a connection manager named `admin`.
#[derive(Clone)]
struct AdminStats {
    http: StatBlock<HttpStats>,
    listener: StatBlock<ListenerStats>,
    listener_http: StatBlock<ListenerHttpStats>,
    thread: StatBlock<WorkerListenerStats>,
}

impl AdminStats {
    fn new(stats: &Stats) -> Self {
        Self {
            http: stats.block("http.admin"),
            listener: stats.block("listener.admin"),
            listener_http: stats.block("listener.admin.http.admin"),
            thread: stats.block("listener.admin.main_thread"),
        }
    }

    fn opened(&self) -> Opened {
        self.http.inc(HttpStats::DOWNSTREAM_CX_TOTAL);
        self.listener.inc(ListenerStats::DOWNSTREAM_CX_TOTAL);
        self.thread.inc(WorkerListenerStats::DOWNSTREAM_CX_TOTAL);
        Opened {
            _active: (
                self.http.gauge_guard(HttpStats::DOWNSTREAM_CX_ACTIVE),
                self.listener.gauge_guard(ListenerStats::DOWNSTREAM_CX_ACTIVE),
                self.thread.gauge_guard(WorkerListenerStats::DOWNSTREAM_CX_ACTIVE),
            ),
            stats: self.clone(),
            at: Instant::now(),
        }
    }

    /// A connection turned out to be HTTP/1.
    fn http1(&self) -> GaugeGuard<HttpStats> {
        self.http.inc(HttpStats::DOWNSTREAM_CX_HTTP1_TOTAL);
        self.http.gauge_guard(HttpStats::DOWNSTREAM_CX_HTTP1_ACTIVE)
    }

    fn request(&self, version: http::Version) -> Exchange {
        self.http.inc(HttpStats::DOWNSTREAM_RQ_TOTAL);
        self.http.inc(match version {
            http::Version::HTTP_2 => HttpStats::DOWNSTREAM_RQ_HTTP2_TOTAL,
            _ => HttpStats::DOWNSTREAM_RQ_HTTP1_TOTAL,
        });
        let _active = self.http.gauge_guard(HttpStats::DOWNSTREAM_RQ_ACTIVE);
        Exchange { _active, stats: self.clone(), at: Instant::now() }
    }
}

/// An open connection.
struct Opened {
    _active: (GaugeGuard<HttpStats>, GaugeGuard<ListenerStats>, GaugeGuard<WorkerListenerStats>),
    stats: AdminStats,
    at: Instant,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let length = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.stats.http.inc(HttpStats::DOWNSTREAM_CX_DESTROY);
        self.stats.http.record(HttpStats::DOWNSTREAM_CX_LENGTH_MS, length);
        self.stats.listener.inc(ListenerStats::DOWNSTREAM_CX_DESTROY);
        self.stats.listener.record(ListenerStats::DOWNSTREAM_CX_LENGTH_MS, length);
    }
}

/// A request until the end of its answer.
struct Exchange {
    _active: GaugeGuard<HttpStats>,
    stats: AdminStats,
    at: Instant,
}

impl Exchange {
    fn status(&self, status: StatusCode) {
        let Self { stats, .. } = self;
        stats.http.inc(HttpStats::DOWNSTREAM_RQ_COMPLETED);
        stats.listener_http.inc(ListenerHttpStats::DOWNSTREAM_RQ_COMPLETED);
        if let Some(class) = HttpStats::downstream_rq_class(status.as_u16()) {
            stats.http.inc(class);
        }
        if let Some(class) = ListenerHttpStats::downstream_rq_class(status.as_u16()) {
            stats.listener_http.inc(class);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let time = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.stats.http.record(HttpStats::DOWNSTREAM_RQ_TIME, time);
    }
}
