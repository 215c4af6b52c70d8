//! An HTTP/2 client on the `h2` crate, blocking from the outside.

use std::future::poll_fn;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls::{Offer, Session, client_config, server_name, session};

/// One request of a connection.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    /// `scheme://authority/path`; for CONNECT the authority.
    pub uri: String,
    pub headers: Vec<(String, String)>,
    /// DATA frames; none ends the stream with the head.
    pub body: Vec<Vec<u8>>,
    pub trailers: Vec<(String, String)>,
    /// `:protocol` of an extended CONNECT.
    pub protocol: Option<String>,
    /// Leaves this side's half of the stream open, as a tunnel does, and resets it after so many bytes of answer.
    pub until: Option<usize>,
}

impl Request {
    pub fn get(uri: &str) -> Request {
        Request { method: "GET".to_owned(), uri: uri.to_owned(), ..Request::default() }
    }

    pub fn post(uri: &str, body: &[u8]) -> Request {
        Request { method: "POST".to_owned(), uri: uri.to_owned(), body: vec![body.to_vec()], ..Request::default() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// 0 when there was no response head.
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// `complete`, `reset CODE`, `goaway CODE`, `closed`, or `no answer in time`.
    pub end: String,
}

impl Outcome {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends the requests one after the other on one connection, over TLS with an offer.
///
/// # Errors
/// Why there was no connection.
pub fn exchange(
    port: u16,
    tls: Option<(&Path, &Offer<'_>)>,
    requests: &[Request],
) -> Result<(Vec<Outcome>, Option<Session>), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.map_err(|e| e.to_string())?;
        socket.set_nodelay(true).map_err(|e| e.to_string())?;
        match tls {
            None => Ok((run(socket, requests).await?, None)),
            Some((folder, offer)) => {
                let connector = TlsConnector::from(client_config(folder, offer));
                let stream = timeout(PATIENCE, connector.connect(server_name(offer), socket))
                    .await
                    .map_err(|e| e.to_string())?;
                let stream = stream.map_err(|e| e.to_string())?;
                let session = session(stream.get_ref().1, None, folder);
                Ok((run(stream, requests).await?, Some(session)))
            }
        }
    })
}

/// One request on a connection of its own, without TLS.
pub fn request(port: u16, request: Request) -> Outcome {
    let (mut outcomes, _) = exchange(port, None, &[request]).expect("a connection");
    outcomes.remove(0)
}

async fn run<S>(stream: S, requests: &[Request]) -> Result<Vec<Outcome>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = timeout(PATIENCE, h2::client::handshake(stream))
        .await
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())?;
    let driver = tokio::spawn(connection);
    let mut outcomes = Vec::new();
    for request in requests {
        let mut outcome = Outcome::default();
        let ended = timeout(PATIENCE, one(&mut sender, request, &mut outcome)).await;
        outcome.end = match ended {
            Ok(Ok(())) => "complete".to_owned(),
            Ok(Err(error)) => name(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        outcomes.push(outcome);
    }
    drop(sender);
    // Lets the last frames out; a connection that does not end by itself is cut.
    let _ = timeout(Duration::from_millis(200), driver).await;
    Ok(outcomes)
}

fn name(error: &h2::Error) -> String {
    let reason = error.reason().map_or_else(String::new, |reason| format!("{reason:?}"));
    if error.is_go_away() {
        format!("goaway {reason}")
    } else if error.is_reset() {
        format!("reset {reason}")
    } else {
        "closed".to_owned()
    }
}

async fn one(sender: &mut SendRequest<Bytes>, request: &Request, outcome: &mut Outcome) -> Result<(), h2::Error> {
    let mut ready = sender.clone().ready().await?;
    if request.protocol.is_some() {
        // The server must have said that it takes extended CONNECT.
        while !ready.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
    }
    let at_once = request.body.is_empty() && request.trailers.is_empty() && request.until.is_none();
    let (response, mut body) = ready.send_request(head(request), at_once)?;
    let send = async {
        if at_once {
            return Ok::<(), h2::Error>(());
        }
        let chunks = request.body.len();
        for (n, chunk) in request.body.iter().enumerate() {
            let last = n + 1 == chunks && request.trailers.is_empty() && request.until.is_none();
            send_all(&mut body, Bytes::from(chunk.clone()), last).await?;
        }
        if !request.trailers.is_empty() {
            body.send_trailers(map(&request.trailers))?;
        }
        Ok(())
    };
    let receive = async {
        let response = response.await?;
        outcome.status = response.status().as_u16();
        outcome.headers = pairs(response.headers());
        let mut incoming = response.into_body();
        while let Some(chunk) = incoming.data().await {
            let chunk = chunk?;
            let _ = incoming.flow_control().release_capacity(chunk.len());
            outcome.body.extend_from_slice(&chunk);
            if request.until.is_some_and(|enough| outcome.body.len() >= enough) {
                // Dropping what is left of the stream resets it.
                return Ok(());
            }
        }
        outcome.trailers = incoming.trailers().await?.as_ref().map(pairs).unwrap_or_default();
        Ok(())
    };
    // A response may be complete before all of the request is taken.
    tokio::pin!(send, receive);
    let mut sent = false;
    loop {
        tokio::select! {
            result = &mut receive => return result,
            _ = &mut send, if !sent => sent = true,
        }
    }
}

async fn send_all(body: &mut h2::SendStream<Bytes>, mut chunk: Bytes, last: bool) -> Result<(), h2::Error> {
    loop {
        body.reserve_capacity(chunk.len());
        let room = if chunk.is_empty() {
            0
        } else {
            match poll_fn(|cx| body.poll_capacity(cx)).await {
                Some(room) => room?.min(chunk.len()),
                None => return Ok(()),
            }
        };
        let part = chunk.split_to(room);
        let end = chunk.is_empty();
        body.send_data(part, last && end)?;
        if end {
            return Ok(());
        }
    }
}

fn head(request: &Request) -> http::Request<()> {
    let uri: Uri = request.uri.parse().expect("a URI");
    let mut head = http::Request::new(());
    *head.method_mut() = Method::from_bytes(request.method.as_bytes()).expect("a method");
    *head.uri_mut() = uri;
    *head.headers_mut() = map(&request.headers);
    if let Some(protocol) = &request.protocol {
        head.extensions_mut().insert(h2::ext::Protocol::from(protocol.as_str()));
    }
    head
}

pub(crate) fn map(headers: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        map.append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a header value"));
    }
    map
}

pub(crate) fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| value.as_bytes().iter().map(|b| char::from(*b)).collect();
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}
