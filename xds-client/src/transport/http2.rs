//! HTTP/2 over any byte stream: [`Connector`], [`handshake`].

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;

use super::{BoxError, Transport};

/// `http2_protocol_options` as far as a stream of discovery needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Options {
    /// Ping this often (`connection_keepalive.interval`); `None` never.
    pub keepalive_interval: Option<Duration>,
    /// The connection is dead if a ping is not answered by then (`connection_keepalive.timeout`).
    pub keepalive_timeout: Duration,
    /// `initial_stream_window_size`.
    pub initial_stream_window_size: u32,
    /// `initial_connection_window_size`.
    pub initial_connection_window_size: u32,
}

impl Default for Http2Options {
    /// No keepalive, as in Envoy; windows of 1 MiB, for pushes are large and the server is trusted with the configuration.
    fn default() -> Self {
        Self {
            keepalive_interval: None,
            keepalive_timeout: Duration::from_secs(10),
            initial_stream_window_size: 1 << 20,
            initial_connection_window_size: 1 << 20,
        }
    }
}

/// A [`Transport`] from a function that opens a byte stream. Must run inside a [`tokio::task::LocalSet`].
///
/// ```no_run
/// use xds_client::transport::http2::{Connector, Http2Options};
///
/// let over_unix = Connector::new(Http2Options::default(), || tokio::net::UnixStream::connect("./etc/istio/proxy/XDS"));
/// ```
pub struct Connector<F> {
    options: Http2Options,
    open: F,
}

impl<F> Connector<F> {
    /// `open` is called for each connection.
    pub fn new(options: Http2Options, open: F) -> Self {
        Self { options, open }
    }
}

impl<F, Fut, Io, E> Transport for Connector<F>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<Io, E>>,
    Io: AsyncRead + AsyncWrite + Unpin + 'static,
    E: Into<BoxError>,
{
    type Body = Incoming;
    type Service = Connection;

    async fn connect(&self) -> Result<Connection, BoxError> {
        let io = (self.open)().await.map_err(Into::into)?;
        handshake(io, &self.options).await
    }
}

/// Starts HTTP/2 on a byte stream. A local task drives the connection until the last call on it ended and the returned
/// service is dropped.
///
/// # Panics
/// Outside of a [`tokio::task::LocalSet`].
pub async fn handshake<Io>(io: Io, options: &Http2Options) -> Result<Connection, BoxError>
where
    Io: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .initial_stream_window_size(options.initial_stream_window_size)
        .initial_connection_window_size(options.initial_connection_window_size);
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await?;
    let driver = tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to the management server ended");
        }
    });
    Ok(Connection { sender, _driver: Rc::new(AbortOnDrop(driver)) })
}

/// One HTTP/2 connection as a service. When the last clone is dropped the connection is cut, with the calls on it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Body>,
    _driver: Rc<AbortOnDrop>,
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl tower::Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

/// Runs hyper's tasks on the current thread.
#[derive(Clone)]
struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
