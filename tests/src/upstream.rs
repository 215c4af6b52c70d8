//! Upstreams that do as they are told and remember what they got.

mod http2;

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;

use crate::PATIENCE;
use crate::client::{Framing, Stream, dechunk, position};
use crate::tls::{Session, Tls};
pub use http2::{Answer, Http2Upstream};

/// A request as an upstream saw it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The request line; for HTTP/2 one that is made of the pseudo-headers.
    pub line: String,
    /// Names as they came, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub framing: Framing,
    /// Which of the upstream's connections, from 0.
    pub connection: usize,
    /// What the TLS handshake came to, where there was one.
    pub tls: Option<Session>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The request target.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// A raw TCP server; each connection runs a script of its own.
pub struct Upstream {
    pub port: u16,
    seen: Receiver<Seen>,
}

/// TLS for an upstream.
#[derive(Clone)]
pub struct Secured {
    pub config: Arc<ServerConfig>,
    /// Where the certificates are, to name the client's.
    pub folder: PathBuf,
}

/// What a script gets to work with.
pub struct Conversation {
    pub stream: Box<dyn Stream>,
    pub connection: usize,
    tls: Option<Session>,
    buffer: Vec<u8>,
    report: Sender<Seen>,
}

impl Upstream {
    /// Runs `script` for every connection, on a thread of its own.
    pub fn scripted(script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Upstream {
        Upstream::start(None, script)
    }

    /// The same over TLS.
    pub fn secured(tls: Secured, script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Upstream {
        Upstream::start(Some(tls), script)
    }

    fn start(tls: Option<Secured>, script: impl Fn(&mut Conversation) + Send + Sync + 'static) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let (report, seen) = channel();
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let (script, report, tls) = (script.clone(), report.clone(), tls.clone());
                std::thread::spawn(move || {
                    let conversation = Conversation::open(stream, connection, tls, report);
                    if let Some(mut conversation) = conversation {
                        script(&mut conversation);
                    }
                });
            }
        });
        Upstream { port, seen }
    }

    /// Answers every request with `answer(request)`, keeping connections alive.
    pub fn http(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Upstream {
        Upstream::scripted(move |conversation| {
            while let Some(request) = conversation.request() {
                let bytes = answer(&request);
                if conversation.send(&bytes).is_err() {
                    return;
                }
            }
        })
    }

    /// Answers 200 with the request line as body.
    pub fn echo_line() -> Upstream {
        Upstream::http(|request| ok(&request.line))
    }

    /// The next request that the upstream got.
    pub fn next(&self) -> Seen {
        self.next_within(PATIENCE).expect("the upstream got a request")
    }

    pub fn next_within(&self, patience: Duration) -> Option<Seen> {
        self.seen.recv_timeout(patience).ok()
    }

    /// Whether it got none so far.
    pub fn got_nothing(&self) -> bool {
        self.seen.try_recv().is_err()
    }
}

/// A port that refuses connections for as long as the value lives: bound, and nobody listens.
pub struct Refusing {
    pub port: u16,
    _socket: socket2::Socket,
}

impl Refusing {
    pub fn new() -> Refusing {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.bind(&any.into()).expect("bound");
        let port = socket.local_addr().expect("bound").as_socket().expect("an IP address").port();
        Refusing { port, _socket: socket }
    }
}

impl Default for Refusing {
    fn default() -> Self {
        Refusing::new()
    }
}

/// A 200 with a text body.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

impl Conversation {
    fn open(stream: TcpStream, connection: usize, tls: Option<Secured>, report: Sender<Seen>) -> Option<Conversation> {
        stream.set_patience(3 * PATIENCE);
        let _ = stream.set_nodelay(true);
        let (stream, tls): (Box<dyn Stream>, _) = match tls {
            None => (Box::new(stream), None),
            Some(tls) => {
                let (stream, session) = Tls::accept(stream, tls.config, &tls.folder).ok()?;
                (Box::new(stream), Some(session))
            }
        };
        Some(Conversation { stream, connection, tls, buffer: Vec::new(), report })
    }

    /// The next request with its body, reported when it is there; `None` at the end of the connection.
    pub fn request(&mut self) -> Option<Seen> {
        self.request_raw(|_| {})
    }

    /// The same; `head` gets the bytes of the head, as Latin-1 and without the empty line, before the body is there.
    pub fn request_raw(&mut self, head: impl FnOnce(&str)) -> Option<Seen> {
        let text = self.head()?;
        head(&text);
        let mut seen = self.parse(&text)?;
        if seen.framing == Framing::Chunked {
            let (body, trailers, used) = loop {
                match dechunk(&self.buffer) {
                    Some(found) => break found,
                    None => self.fill()?,
                }
            };
            self.buffer.drain(..used);
            (seen.body, seen.trailers) = (body, trailers);
        } else if let Some(length) = seen.header("content-length").and_then(|v| v.parse().ok()) {
            seen.body = self.take(length)?;
        }
        self.report(seen.clone());
        Some(seen)
    }

    /// Puts a request on record.
    pub fn report(&self, seen: Seen) {
        let _ = self.report.send(seen);
    }

    /// The next request's head, not yet reported.
    pub fn request_head(&mut self) -> Option<Seen> {
        let head = self.head()?;
        self.parse(&head)
    }

    fn parse(&self, head: &str) -> Option<Seen> {
        let mut lines = head.split("\r\n");
        let line = lines.next()?.to_owned();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap_or((line, "<no colon>")))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut seen = Seen { line, headers, connection: self.connection, tls: self.tls.clone(), ..Seen::default() };
        if seen.header("transfer-encoding").is_some() {
            seen.framing = Framing::Chunked;
        } else if seen.header("content-length").is_some() {
            seen.framing = Framing::Length;
        }
        Some(seen)
    }

    /// Everything up to the empty line.
    pub fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = position(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return Some(head[..at].iter().map(|b| char::from(*b)).collect());
            }
            self.fill()?;
        }
    }

    pub fn take(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < n {
            self.fill()?;
        }
        Some(self.buffer.drain(..n).collect())
    }

    /// Whatever comes next; `None` at the end of what the peer sends.
    pub fn some(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    fn fill(&mut self) -> Option<()> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(n @ 1..) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                Some(())
            }
            _ => None,
        }
    }

    /// # Errors
    /// When the proxy has closed the connection.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Waits for the proxy to end the connection; true if it did.
    pub fn ended(&mut self) -> bool {
        while self.fill().is_some() {}
        true
    }
}

/// A value that a test thread hands to another.
pub fn shared<T>(value: T) -> Arc<Mutex<T>> {
    Arc::new(Mutex::new(value))
}
