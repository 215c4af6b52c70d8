//! An HTTP/1 client that hides nothing.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::PATIENCE;

/// A response as it came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub reason: String,
    /// Names and values as they came, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    pub framing: Framing,
    /// How many bytes the response took.
    pub length: usize,
}

/// What told the end of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    #[default]
    None,
    Length,
    Chunked,
    UntilClose,
}

impl Response {
    /// Parses one response to a request of this method from the front of `bytes`; `None` if it is incomplete or not a
    /// response. A body without a length is complete when the connection has `ended`.
    pub fn parse(bytes: &[u8], method: &str, ended: bool) -> Option<Response> {
        let end = position(bytes, b"\r\n\r\n")? + 4;
        let head: String = bytes[..end - 4].iter().map(|b| char::from(*b)).collect();
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.splitn(3, ' ');
        let version = words.next()?.to_owned();
        let status = words.next()?.parse().ok()?;
        let reason = words.next().unwrap_or_default().to_owned();
        let mut response = Response { version, status, reason, ..Response::default() };
        response.headers = lines.map(header_line).collect::<Option<_>>()?;
        let rest = &bytes[end..];
        let tunnel = method == "CONNECT" && status / 100 == 2;
        if method == "HEAD" || tunnel || status / 100 == 1 || status == 204 || status == 304 {
            response.length = end;
        } else if response.header("transfer-encoding").is_some() {
            response.framing = Framing::Chunked;
            let (body, trailers, used) = dechunk(rest)?;
            (response.body, response.trailers) = (body, trailers);
            response.length = end + used;
        } else if let Some(length) = response.header("content-length") {
            let length: usize = length.parse().ok()?;
            response.framing = Framing::Length;
            response.body = rest.get(..length)?.to_vec();
            response.length = end + length;
        } else {
            response.framing = Framing::UntilClose;
            response.body = rest.to_vec();
            response.length = bytes.len();
            return ended.then_some(response);
        }
        Some(response)
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn is_interim(&self) -> bool {
        self.status / 100 == 1 && self.status != 101
    }
}

pub(crate) fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn header_line(line: &str) -> Option<(String, String)> {
    line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// Body, trailers and the number of bytes they took.
type Dechunked = (Vec<u8>, Vec<(String, String)>, usize);

/// Decodes a chunked body; `None` if it is incomplete or wrong.
pub fn dechunk(all: &[u8]) -> Option<Dechunked> {
    let mut at = 0;
    let mut body = Vec::new();
    let line = |at: &mut usize| -> Option<String> {
        let length = position(&all[*at..], b"\r\n")?;
        let line = all[*at..*at + length].iter().map(|b| char::from(*b)).collect();
        *at += length + 2;
        Some(line)
    };
    loop {
        let size = line(&mut at)?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(all.get(at..at + size)?);
        at += size + 2;
        if all.get(at - 2..at)? != b"\r\n" {
            return None;
        }
    }
    let mut trailers = Vec::new();
    loop {
        let line = line(&mut at)?;
        if line.is_empty() {
            return Some((body, trailers, at));
        }
        trailers.push(header_line(&line)?);
    }
}

/// How a connection was found after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Open, after the time that was given to it.
    Open,
    Closed,
    Reset,
}

/// What a client or an upstream reads from and writes to.
pub trait Stream: Read + Write + Send {
    fn set_patience(&self, patience: Duration);
    /// The end of what this side sends.
    fn finish(&mut self);
    /// Ends the connection so that the peer gets a reset.
    fn abort(&mut self);
}

impl Stream for TcpStream {
    fn set_patience(&self, patience: Duration) {
        let _ = self.set_read_timeout(Some(patience));
    }

    fn finish(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
    }

    fn abort(&mut self) {
        let _ = socket2::SockRef::from(&*self).set_linger(Some(Duration::ZERO));
    }
}

/// A connection of a client.
pub struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Client {
    pub fn connect(port: u16) -> Client {
        Client::over(tcp(port))
    }

    pub fn over(stream: impl Stream + 'static) -> Client {
        Client { stream: Box::new(stream), buffer: Vec::new() }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The proxy may answer and close before all is written: what it answered is what counts.
        let _ = self.stream.write_all(bytes.as_ref()).and_then(|()| self.stream.flush());
    }

    /// The end of what this side sends.
    pub fn finish(&mut self) {
        self.stream.finish();
    }

    /// Ends the connection with a reset.
    pub fn abort(mut self) {
        self.stream.abort();
    }

    /// The next response, interim ones included; `None` when the connection ends, or time is up, before one is complete.
    pub fn response(&mut self, method: &str) -> Option<Response> {
        loop {
            if let Some(response) = self.take(method, false) {
                return Some(response);
            }
            match self.fill() {
                Ok(0) => return self.take(method, true),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    fn take(&mut self, method: &str, ended: bool) -> Option<Response> {
        let response = Response::parse(&self.buffer, method, ended)?;
        self.buffer.drain(..response.length);
        Some(response)
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let n = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    /// How long a read may take.
    pub fn set_patience(&self, patience: Duration) {
        self.stream.set_patience(patience);
    }

    /// Reads `n` raw bytes; fewer when no more come.
    pub fn read(&mut self, n: usize) -> Vec<u8> {
        while self.buffer.len() < n && matches!(self.fill(), Ok(1..)) {}
        let n = n.min(self.buffer.len());
        self.buffer.drain(..n).collect()
    }

    /// Everything until the peer ends, and how it ended.
    pub fn read_to_end(&mut self, patience: Duration) -> (Vec<u8>, End) {
        self.stream.set_patience(patience);
        let end = loop {
            match self.fill() {
                Ok(0) => break End::Closed,
                Ok(_) => {}
                Err(e) => break how_it_ended(&e),
            }
        };
        self.stream.set_patience(PATIENCE);
        (std::mem::take(&mut self.buffer), end)
    }

    /// A request on this connection, and its final response.
    pub fn request(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        let bytes = bytes.as_ref();
        self.send(bytes);
        loop {
            let response = self.response(method_of(bytes)).expect("a response");
            if !response.is_interim() {
                return response;
            }
        }
    }

    pub fn get(&mut self, path: &str) -> Response {
        self.request(format!("GET {path} HTTP/1.1\r\nHost: test.local\r\n\r\n"))
    }

    /// Whether and how the peer ends the connection, waiting at most `patience`. What it sends until then is thrown away.
    pub fn end(&mut self, patience: Duration) -> End {
        self.read_to_end(patience).1
    }
}

/// The method of a request head.
pub fn method_of(request: &[u8]) -> &str {
    let end = request.iter().position(|b| *b == b' ').unwrap_or(0);
    std::str::from_utf8(&request[..end]).unwrap_or_default()
}

fn how_it_ended(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => End::Open,
        // A TLS peer that closes without close_notify has closed.
        io::ErrorKind::UnexpectedEof => End::Closed,
        _ => End::Reset,
    }
}

/// A connection to a port of this machine.
pub fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.set_patience(PATIENCE);
    stream.set_write_timeout(Some(PATIENCE)).expect("set");
    stream.set_nodelay(true).expect("set");
    stream
}

/// One request on a connection of its own.
pub fn request(port: u16, bytes: impl AsRef<[u8]>) -> Response {
    Client::connect(port).request(bytes)
}

pub fn get(port: u16, path: &str) -> Response {
    Client::connect(port).get(path)
}
