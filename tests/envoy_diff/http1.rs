//! The upstreams of a group, and clients that take a case's steps.

use std::sync::Arc;
use std::time::Duration;

use tests::client::{Client, End, Framing, Response, method_of, tcp};
use tests::tls::{Offer, Tls, server_config};
use tests::upstream::{Conversation, Http2Upstream, Refusing, Secured, Seen, Upstream};

use crate::certificates::Certificates;
use crate::group::{EndCheck, Kind, Piece, Reply};
use crate::normalize::{Normalizer, show};
use crate::observe::{self, Observation, latin1};

/// How long an answer may take; also how long an upstream is waited for that should get a request.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A running upstream.
pub enum Running {
    Raw(Upstream),
    Http2(Http2Upstream),
    Refusing(Refusing),
}

impl Running {
    pub fn start(kind: Kind, certificates: &Certificates) -> Running {
        let folder = certificates.folder.path();
        match kind {
            Kind::Http1(answer) => Running::Raw(Upstream::scripted(move |c| serve(c, answer))),
            Kind::Tls(certificate, client_ca, answer) => {
                let config = server_config(folder, certificate, client_ca, &[]);
                let tls = Secured { config, folder: folder.to_owned() };
                Running::Raw(Upstream::secured(tls, move |c| serve(c, answer)))
            }
            Kind::Http2(answer) => Running::Http2(Http2Upstream::start(None, answer)),
            Kind::Http2Tls(certificate, answer) => {
                let config = server_config(folder, certificate, None, &["h2"]);
                let tls = Secured { config: Arc::clone(&config), folder: folder.to_owned() };
                Running::Http2(Http2Upstream::start(Some(tls), answer))
            }
            Kind::TcpEcho => Running::Raw(Upstream::scripted(|c| {
                while let Some(bytes) = c.some() {
                    if c.send(&bytes).is_err() {
                        return;
                    }
                }
                let _ = c.send(b"bye");
            })),
            Kind::TcpSays(text) => Running::Raw(Upstream::scripted(move |c| {
                let _ = c.send(text.as_bytes());
            })),
            Kind::Refusing => Running::Refusing(Refusing::new()),
        }
    }

    pub fn port(&self) -> u16 {
        match self {
            Running::Raw(upstream) => upstream.port,
            Running::Http2(upstream) => upstream.port,
            Running::Refusing(port) => port.port,
        }
    }

    /// The next request it got, if there is one.
    pub fn next_within(&self, patience: Duration) -> Option<Seen> {
        match self {
            Running::Raw(upstream) => upstream.next_within(patience),
            Running::Http2(upstream) => upstream.next_within(patience),
            Running::Refusing(_) => None,
        }
    }
}

fn serve(conversation: &mut Conversation, answer: fn(&Seen) -> Reply) {
    while let Some(request) = conversation.request() {
        match answer(&request) {
            Reply::Bytes(bytes) => {
                if conversation.send(&bytes).is_err() {
                    return;
                }
            }
            Reply::Last(bytes) => {
                let _ = conversation.send(&bytes);
                return;
            }
            Reply::ThenReset(bytes) => {
                let _ = conversation.send(&bytes);
                conversation.stream.abort();
                return;
            }
            Reply::Close => return,
            Reply::Reset => {
                conversation.stream.abort();
                return;
            }
            Reply::Silent => {
                conversation.ended();
                return;
            }
            Reply::Tunnel(bytes) => {
                let _ = conversation.send(&bytes);
                while let Some(bytes) = conversation.some() {
                    if conversation.send(&bytes).is_err() {
                        return;
                    }
                }
                return;
            }
        }
    }
}

/// Notes what an upstream saw.
pub fn note_seen(into: &mut Observation, prefix: &str, seen: &Seen, normalizer: &Normalizer) {
    into.insert(format!("{prefix}.line"), normalizer.text(&show(&latin1(&seen.line))));
    if !seen.body.is_empty() {
        into.insert(format!("{prefix}.body"), normalizer.text(&show(&seen.body)));
    }
    if seen.framing != Framing::None {
        into.insert(format!("{prefix}.framing"), format!("{:?}", seen.framing));
    }
    observe::headers(into, &format!("{prefix}.header"), &seen.headers, normalizer);
    observe::headers(into, &format!("{prefix}.trailer"), &seen.trailers, normalizer);
    if let Some(tls) = &seen.tls {
        into.insert(format!("{prefix}.tls"), format!("{tls:?}"));
    }
}

/// Takes the steps, notes what came, and returns how many responses upstreams sent. `arrive` waits for an upstream to get a
/// request.
pub fn client(
    port: u16,
    offer: Option<&Offer<'_>>,
    certificates: &Certificates,
    steps: (&[Piece], usize, EndCheck),
    arrive: &mut dyn FnMut(),
    (into, normalizer): (&mut Observation, &Normalizer),
) -> usize {
    let mut client = match offer {
        None => Client::over(tcp(port)),
        Some(offer) => match Tls::connect(port, certificates.folder.path(), offer) {
            Ok((stream, session)) => {
                into.insert("tls".to_owned(), format!("{session:?}"));
                Client::over(stream)
            }
            Err(why) => {
                into.insert("tls".to_owned(), handshake_failure(&why));
                return 0;
            }
        },
    };
    client.set_patience(PATIENCE);
    let (pieces, count, check) = steps;
    let mut exchange = Exchange { responses: 0, from_upstream: 0, last: None, into, normalizer };
    let first = pieces.iter().find_map(|piece| if let Piece::Send(bytes) = piece { Some(bytes) } else { None });
    let method = first.map_or("", |bytes| method_of(bytes));
    let mut raw = 0;
    for piece in pieces {
        match piece {
            Piece::Send(bytes) => client.send(bytes),
            Piece::Response => exchange.response(&mut client, method),
            Piece::Read(n) => {
                exchange.into.insert(format!("raw.{raw}"), show(&client.read(*n)));
                raw += 1;
            }
            Piece::ReadToEnd => {
                let (bytes, end) = client.read_to_end(PATIENCE);
                exchange.into.insert(format!("raw.{raw}"), format!("{} then {end:?}", show(&bytes)));
                raw += 1;
            }
            Piece::Arrive => arrive(),
            Piece::Finish => client.finish(),
            Piece::Abort => {
                client.abort();
                return exchange.from_upstream;
            }
        }
    }
    for _ in 0..count {
        exchange.response(&mut client, method);
    }
    let last = exchange.last.take();
    let from_upstream = exchange.from_upstream;
    if check != EndCheck::Skip {
        into.insert("end".to_owned(), how_it_ends(&mut client, check, last.as_ref()));
    }
    from_upstream
}

/// The responses of a connection so far.
struct Exchange<'a> {
    responses: usize,
    from_upstream: usize,
    last: Option<Response>,
    into: &'a mut Observation,
    normalizer: &'a Normalizer,
}

impl Exchange<'_> {
    /// Reads and notes one final response and the interim ones before it.
    fn response(&mut self, client: &mut Client, method: &str) {
        loop {
            let n = self.responses;
            let Some(response) = client.response(method) else {
                let (rest, end) = client.read_to_end(PATIENCE);
                self.into.insert(format!("{n}.status"), "none".to_owned());
                let rest = self.normalizer.text(&show(&rest));
                self.into.insert(format!("{n}.instead"), format!("{rest} then {end:?}"));
                return;
            };
            self.responses += 1;
            self.from_upstream += usize::from(response.header("x-up").is_some());
            self.into.insert(format!("{n}.status"), response.status.to_string());
            self.into.insert(format!("{n}.reason"), response.reason.clone());
            self.into.insert(format!("{n}.body"), self.normalizer.text(&show(&response.body)));
            if response.framing != Framing::Length {
                self.into.insert(format!("{n}.framing"), format!("{:?}", response.framing));
            }
            observe::headers(self.into, &format!("{n}.header"), &response.headers, self.normalizer);
            observe::headers(self.into, &format!("{n}.trailer"), &response.trailers, self.normalizer);
            let interim = response.is_interim();
            self.last = Some(response);
            if !interim {
                return;
            }
        }
    }
}

fn how_it_ends(client: &mut Client, check: EndCheck, last: Option<&Response>) -> String {
    let announced = last.is_none_or(|response| {
        response.framing == Framing::UntilClose
            || response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    });
    if check == EndCheck::Wait || announced {
        let (rest, end) = client.read_to_end(PATIENCE);
        if check == EndCheck::Auto && end != End::Open {
            // With bytes unread on the other side, the system makes a reset of a close or not, as it happens.
            return if rest.is_empty() { "ended".to_owned() } else { format!("ended after {}", show(&rest)) };
        }
        let rest = if rest.is_empty() { String::new() } else { format!(" after {}", show(&rest)) };
        return format!("{end:?}{rest}");
    }
    client.send("GET /still-there HTTP/1.1\r\nHost: test.local\r\nConnection: close\r\n\r\n");
    match client.response("GET") {
        Some(_) => "kept".to_owned(),
        None => match client.end(PATIENCE) {
            End::Open => "no answer to another request".to_owned(),
            End::Closed | End::Reset => "ended".to_owned(),
        },
    }
}

/// The alert, without what our own TLS library says around it.
fn handshake_failure(why: &str) -> String {
    match why.split_once("received fatal alert: ") {
        Some((_, alert)) => format!("refused: {alert}"),
        None => "refused".to_owned(),
    }
}
