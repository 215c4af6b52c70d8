//! An HTTP/2 upstream on the `h2` crate.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::{Secured, Seen};
use crate::PATIENCE;
use crate::http2::{map, pairs};
use crate::tls::{Session, session};

/// What an HTTP/2 upstream does with a request.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Sent after the body.
    pub trailers: Vec<(String, String)>,
    /// Resets the stream with this code instead of sending a head.
    pub reset: Option<u32>,
    /// Resets the stream with this code after the body.
    pub reset_after_body: Option<u32>,
    /// Does not answer at all.
    pub silent: bool,
    /// Answers before the request's body is read.
    pub early: bool,
    /// Answers before the request's body is read, and sends back what comes.
    pub echo: bool,
}

impl Answer {
    pub fn ok(body: &str) -> Answer {
        Answer {
            status: 200,
            headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
            body: body.as_bytes().to_vec(),
            ..Answer::default()
        }
    }

    /// A gRPC answer: one message of these bytes, and a status in the trailers.
    pub fn grpc(message: &[u8], status: &str) -> Answer {
        let mut body = vec![0];
        body.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
        body.extend_from_slice(message);
        Answer {
            status: 200,
            headers: vec![("content-type".to_owned(), "application/grpc".to_owned())],
            body,
            trailers: vec![("grpc-status".to_owned(), status.to_owned())],
            ..Answer::default()
        }
    }
}

type Answering = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

/// An HTTP/2 server with prior knowledge, or over TLS.
pub struct Http2Upstream {
    pub port: u16,
    seen: Receiver<Seen>,
}

impl Http2Upstream {
    pub fn start(tls: Option<Secured>, answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Http2Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let (report, seen) = channel();
        let answer: Answering = Arc::new(answer);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            listener.set_nonblocking(true).expect("set");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("registered");
                let mut connection = 0;
                while let Ok((socket, _)) = listener.accept().await {
                    let _ = socket.set_nodelay(true);
                    tokio::spawn(handshake(socket, connection, tls.clone(), answer.clone(), report.clone()));
                    connection += 1;
                }
            });
        });
        Http2Upstream { port, seen }
    }

    /// The next request that the upstream got.
    pub fn next(&self) -> Seen {
        self.next_within(PATIENCE).expect("the upstream got a request")
    }

    pub fn next_within(&self, patience: Duration) -> Option<Seen> {
        self.seen.recv_timeout(patience).ok()
    }
}

async fn handshake(
    socket: tokio::net::TcpStream,
    connection: usize,
    tls: Option<Secured>,
    answer: Answering,
    report: Sender<Seen>,
) {
    match tls {
        None => serve(socket, connection, None, answer, report).await,
        Some(tls) => {
            let Ok(stream) = TlsAcceptor::from(tls.config).accept(socket).await else { return };
            let session = session(stream.get_ref().1, stream.get_ref().1.server_name(), &tls.folder);
            serve(stream, connection, Some(session), answer, report).await;
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    connection: usize,
    tls: Option<Session>,
    answer: Answering,
    report: Sender<Seen>,
) {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let Ok(mut server) = builder.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, respond))) = server.accept().await {
        let seen = Seen { connection, tls: tls.clone(), ..seen(&request) };
        tokio::spawn(exchange(seen, request.into_body(), respond, answer.clone(), report.clone()));
    }
}

fn seen(request: &http::Request<h2::RecvStream>) -> Seen {
    let uri = request.uri();
    let target = uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    let mut headers = vec![
        (":scheme".to_owned(), uri.scheme_str().unwrap_or_default().to_owned()),
        (":authority".to_owned(), uri.authority().map_or("", http::uri::Authority::as_str).to_owned()),
    ];
    if let Some(protocol) = request.extensions().get::<h2::ext::Protocol>() {
        headers.push((":protocol".to_owned(), protocol.as_str().to_owned()));
    }
    headers.extend(pairs(request.headers()));
    Seen { line: format!("{} {target} HTTP/2", request.method()), headers, ..Seen::default() }
}

async fn exchange(
    mut seen: Seen,
    mut body: h2::RecvStream,
    respond: SendResponse<Bytes>,
    answer: Answering,
    report: Sender<Seen>,
) {
    let mut reply = answer(&seen);
    if seen.line.starts_with("HEAD ") {
        reply.body.clear();
    }
    if reply.echo {
        let _ = report.send(seen);
        echo(reply, body, respond).await;
        return;
    }
    while !reply.early
        && let Some(Ok(chunk)) = body.data().await
    {
        let _ = body.flow_control().release_capacity(chunk.len());
        seen.body.extend_from_slice(&chunk);
    }
    if !reply.early
        && let Ok(Some(trailers)) = body.trailers().await
    {
        seen.trailers = pairs(&trailers);
    }
    let _ = report.send(seen);
    if reply.silent {
        std::future::pending::<()>().await;
    }
    send(reply, respond).await;
}

fn head(reply: &Answer) -> http::Response<()> {
    let mut head = http::Response::new(());
    *head.status_mut() = http::StatusCode::from_u16(reply.status).expect("a status");
    *head.headers_mut() = map(&reply.headers);
    head
}

async fn send(reply: Answer, mut respond: SendResponse<Bytes>) {
    if let Some(code) = reply.reset {
        respond.send_reset(Reason::from(code));
        return;
    }
    let bare = reply.body.is_empty() && reply.trailers.is_empty() && reply.reset_after_body.is_none();
    let Ok(mut stream) = respond.send_response(head(&reply), bare) else { return };
    if bare {
        return;
    }
    let last = reply.trailers.is_empty() && reply.reset_after_body.is_none();
    if !reply.body.is_empty() {
        let _ = stream.send_data(Bytes::from(reply.body), last);
    }
    if let Some(code) = reply.reset_after_body {
        // A reset throws away what is not written; the connection's task writes when it has its turn.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        stream.send_reset(Reason::from(code));
    } else if !reply.trailers.is_empty() {
        let _ = stream.send_trailers(map(&reply.trailers));
    }
}

async fn echo(reply: Answer, mut body: h2::RecvStream, mut respond: SendResponse<Bytes>) {
    let Ok(mut stream) = respond.send_response(head(&reply), false) else { return };
    while let Some(Ok(chunk)) = body.data().await {
        let _ = body.flow_control().release_capacity(chunk.len());
        if stream.send_data(chunk, false).is_err() {
            return;
        }
    }
    let _ = stream.send_trailers(map(&reply.trailers));
}
