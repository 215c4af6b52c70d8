//! What a group of cases consists of.

use tests::http2::Request;
use tests::tls::Offer;
use tests::upstream::{Answer, Seen};

/// A configuration, its upstreams and the cases that run in it.
#[derive(Default)]
pub struct Group {
    pub name: &'static str,
    /// Bootstrap with `{up:NAME}` for the ports of upstreams, `{certs}` and `{tmp}`.
    pub config: String,
    pub upstreams: Vec<(&'static str, Kind)>,
    pub cases: Vec<Case>,
    /// The only fields to compare (`*` at either end); all when there are none.
    pub fields: &'static [&'static str],
    /// Counters and gauges to compare at the end: regular expressions of names.
    pub stats: &'static [&'static str],
    /// Access log files to compare at the end.
    pub logs: &'static [&'static str],
}

/// An upstream.
#[derive(Clone, Copy)]
pub enum Kind {
    Http1(fn(&Seen) -> Reply),
    Http2(fn(&Seen) -> Answer),
    /// Shows certificate `.0`; asks for a client certificate of authority `.1`.
    Tls(&'static str, Option<&'static str>, fn(&Seen) -> Reply),
    Http2Tls(&'static str, fn(&Seen) -> Answer),
    /// Sends back what comes, and says `bye` when the peer has finished.
    TcpEcho,
    /// Accepts and says this, without waiting for the peer; then closes.
    TcpSays(&'static str),
    /// Refuses connections.
    Refusing,
}

/// What an HTTP/1 upstream does with a request.
pub enum Reply {
    Bytes(Vec<u8>),
    /// Answers and closes.
    Last(Vec<u8>),
    /// Answers and resets the connection.
    ThenReset(Vec<u8>),
    /// Closes without an answer.
    Close,
    Reset,
    /// Leaves the request without an answer until the proxy gives up.
    Silent,
    /// Answers with these bytes, then sends back what comes.
    Tunnel(Vec<u8>),
}

/// A 200 that says what was asked for.
pub fn plain(request: &Seen) -> Reply {
    let body = format!("{} {}", request.line, request.body.len());
    Reply::Bytes(
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-up: 1\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

/// The same for HTTP/2.
pub fn plain_http2(request: &Seen) -> Answer {
    let mut answer = Answer::ok(&format!("{} {}", request.line, request.body.len()));
    answer.headers.push(("x-up".to_owned(), "1".to_owned()));
    answer
}

/// One exchange with the proxy.
pub struct Case {
    pub id: String,
    /// The listener to connect to.
    pub listener: &'static str,
    pub action: Action,
    /// How many requests upstreams get; by default as many as responses say `x-up`.
    pub requests: Option<usize>,
    /// Fields that are not compared (`*` at either end), because Envoy's own answer varies.
    pub ignore: Vec<&'static str>,
    /// What Envoy itself must do, or the case does not test what it was written for.
    pub expect: Vec<(&'static str, String)>,
    /// Waits until these stats have these values before the case ends.
    pub settle: Vec<(&'static str, u64)>,
}

pub enum Action {
    Http1 { pieces: Vec<Piece>, tls: Option<Offer<'static>>, responses: usize, end: EndCheck },
    Http2 { requests: Vec<Request>, tls: Option<Offer<'static>> },
    Admin { method: &'static str, path: String, view: View },
}

/// What of an admin answer is compared.
#[derive(Clone, Copy)]
pub enum View {
    Whole,
    /// Status and headers.
    Head,
    /// The body's JSON paths, without the values.
    JsonPaths,
    /// The sorted lines, up to the first of these characters in each.
    Lines(char),
}

/// A step of a client.
#[derive(Clone)]
pub enum Piece {
    Send(Vec<u8>),
    /// Reads one final response and what came before it.
    Response,
    /// Reads so many raw bytes.
    Read(usize),
    /// Reads until the peer has finished.
    ReadToEnd,
    /// Waits until an upstream has got a request.
    Arrive,
    Finish,
    Abort,
}

/// How the end of a connection is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum EndCheck {
    /// Waits for the end if the last response says `connection: close` or ends with the connection; otherwise sends one
    /// more request, which a kept connection answers.
    Auto,
    /// Waits for the end.
    Wait,
    /// Does not look.
    Skip,
}

impl Case {
    fn new(id: impl Into<String>, action: Action) -> Case {
        Case {
            id: id.into(),
            listener: "main",
            action,
            requests: None,
            ignore: Vec::new(),
            expect: Vec::new(),
            settle: Vec::new(),
        }
    }

    /// To this listener instead of `main`.
    pub fn on(mut self, listener: &'static str) -> Case {
        self.listener = listener;
        self
    }

    /// So many requests reach upstreams.
    pub fn requests(mut self, count: usize) -> Case {
        self.requests = Some(count);
        self
    }

    /// This is not compared.
    pub fn ignore(mut self, field: &'static str) -> Case {
        self.ignore.push(field);
        self
    }

    /// Envoy must show this.
    pub fn expect(mut self, field: &'static str, value: impl Into<String>) -> Case {
        self.expect.push((field, value.into()));
        self
    }

    /// Envoy's first response must have this status.
    pub fn status(self, status: u16) -> Case {
        self.expect("0.status", status.to_string())
    }

    /// The case ends when the stat has this value.
    pub fn settle(mut self, stat: &'static str, value: u64) -> Case {
        self.settle.push((stat, value));
        self
    }

    /// Reads so many responses.
    pub fn responses(mut self, count: usize) -> Case {
        if let Action::Http1 { responses, .. } = &mut self.action {
            *responses = count;
        }
        self
    }

    pub fn end(mut self, check: EndCheck) -> Case {
        if let Action::Http1 { end, .. } = &mut self.action {
            *end = check;
        }
        self
    }

    /// Over TLS.
    pub fn tls(mut self, offer: Offer<'static>) -> Case {
        match &mut self.action {
            Action::Http1 { tls, .. } | Action::Http2 { tls, .. } => *tls = Some(offer),
            Action::Admin { .. } => {}
        }
        self
    }
}

/// Raw bytes on a connection of their own, and one response.
pub fn raw(id: impl Into<String>, bytes: impl AsRef<[u8]>) -> Case {
    steps(id, vec![Piece::Send(bytes.as_ref().to_vec())]).responses(1)
}

/// Steps on a connection, with no response read but those that the steps read.
pub fn steps(id: impl Into<String>, pieces: Vec<Piece>) -> Case {
    Case::new(id, Action::Http1 { pieces, tls: None, responses: 0, end: EndCheck::Auto })
}

/// A GET with further header lines (`name: value`).
pub fn get(id: impl Into<String>, target: &str, headers: &[&str]) -> Case {
    raw(id, request("GET", target, headers, ""))
}

/// The bytes of a request; a body gets a Content-Length.
pub fn request(method: &str, target: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:")) {
        text.push_str("Host: test.local\r\n");
    }
    for line in headers {
        text.push_str(line);
        text.push_str("\r\n");
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

pub fn http2(id: impl Into<String>, requests: Vec<Request>) -> Case {
    Case::new(id, Action::Http2 { requests, tls: None })
}

pub fn admin(id: impl Into<String>, method: &'static str, path: &str, view: View) -> Case {
    Case::new(id, Action::Admin { method, path: path.to_owned(), view })
}

pub fn send(bytes: impl AsRef<[u8]>) -> Piece {
    Piece::Send(bytes.as_ref().to_vec())
}
