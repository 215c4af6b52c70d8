//! HTTP/2 as frames: what a hostile peer writes, and as much of the answers as tells what became of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::cases::{Case, unescape};
use crate::client::Stream;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

const NAMES: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];

const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// No peer takes larger frames before it has said so.
const LARGEST: usize = 16_384;

/// A GET in pseudo-headers.
pub const GET: [(&[u8], &[u8]); 4] =
    [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.test"), (b":path", b"/")];

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame's length");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literals that touch no table.
pub fn block(fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_ref());
        string(&mut block, value.as_ref());
    }
    block
}

fn string(to: &mut Vec<u8>, text: &[u8]) {
    let mut left = text.len();
    if left < 127 {
        to.push(left as u8);
    } else {
        to.push(127);
        left -= 127;
        while left >= 128 {
            to.push(left as u8 | 0x80);
            left >>= 7;
        }
        to.push(left as u8);
    }
    to.extend_from_slice(text);
}

/// A header block as HEADERS and as many CONTINUATION frames as it takes.
pub fn headers(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    let mut pieces = block.chunks(LARGEST).peekable();
    let first = pieces.next().unwrap_or_default();
    let last = |more: bool| if more { 0 } else { END_HEADERS };
    let mut bytes = frame(HEADERS, flags | last(pieces.peek().is_some()), stream, first);
    while let Some(piece) = pieces.next() {
        bytes.extend(frame(CONTINUATION, last(pieces.peek().is_some()), stream, piece));
    }
    bytes
}

/// The bytes of a case whose lines are frames:
///
/// - `field = NAME: VALUE` adds to the block being made, `field = GET` a whole request's pseudo-headers, and a pseudo-header
///   that `GET` brought is replaced; `drop = NAME` takes one out;
/// - `headers = FLAGS STREAM` sends the block, in CONTINUATION frames where it is long;
/// - `frame = KIND FLAGS STREAM PAYLOAD` is any frame, and `send = BYTES` any bytes.
pub fn bytes(case: &Case) -> Vec<u8> {
    let mut out = Vec::new();
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (key, value) in case.lines() {
        match key {
            "field" if value == "GET" => fields.extend(GET.map(|(name, value)| (name.to_vec(), value.to_vec()))),
            "field" => {
                for field in expand(value) {
                    let from_get = field.0.first() == Some(&b':') && value.starts_with(':');
                    match fields.iter_mut().find(|(name, _)| from_get && *name == field.0) {
                        Some(old) => *old = field,
                        None => fields.push(field),
                    }
                }
            }
            "again" => fields.extend(expand(value)),
            "first" => fields.splice(0..0, expand(value)).for_each(drop),
            "drop" => fields.retain(|(name, _)| name != value.as_bytes()),
            "headers" => {
                let (flags, stream) = value.split_once(' ').expect("FLAGS STREAM");
                let (flags, stream) = (flags.parse().expect("flags"), stream.parse().expect("a stream"));
                out.extend(headers(flags, stream, &block(&std::mem::take(&mut fields))));
            }
            "frame" => {
                let mut words = value.splitn(4, ' ');
                let mut word = || words.next().unwrap_or_default();
                let (kind, flags, stream, payload) = (word(), word(), word(), word());
                let kind = NAMES.iter().position(|name| *name == kind).map_or_else(
                    || kind.parse().unwrap_or_else(|_| panic!("{}: no frame {kind}", case.id)),
                    |at| at as u8,
                );
                let (flags, stream) = (flags.parse().expect("flags"), stream.parse().expect("a stream"));
                out.extend(frame(kind, flags, stream, &unescape(payload)));
            }
            "send" => out.extend(unescape(value)),
            _ => {}
        }
    }
    out
}

/// `N* NAME: VALUE` is that field N times.
fn expand(line: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (count, line) = match line.split_once("* ") {
        Some((count, rest)) if count.bytes().all(|b| b.is_ascii_digit()) => (count.parse().expect("a count"), rest),
        _ => (1, line),
    };
    let at = match line.get(1..).and_then(|rest| rest.find(": ")) {
        _ if line.starts_with(": ") => 0,
        Some(at) => at + 1,
        None if line.ends_with(':') => line.len() - 1,
        None => panic!("no `: ` in {line:?}"),
    };
    let value = line.get(at + 1..).map_or("", |value| value.strip_prefix(' ').unwrap_or(value));
    vec![(unescape(&line[..at]), unescape(value)); count]
}

/// A frame as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let bytes = self.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or([0xff; 4]))
    }

    /// The status of a response's HEADERS; 0 when it does not begin with one. Encoders put `:status` first, with its name
    /// from the static table.
    pub fn status(&self) -> u16 {
        const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        match self.payload[..] {
            [at @ 0x88..=0x8e, ..] => INDEXED[usize::from(at - 0x88)],
            [0x08 | 0x18 | 0x48, length, ref rest @ ..] => {
                let text = rest.get(..usize::from(length & 0x7f)).unwrap_or_default();
                if length & 0x80 == 0 { decimal(text) } else { decimal(&huffman_digits(text)) }
            }
            _ => 0,
        }
    }
}

fn decimal(text: &[u8]) -> u16 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The digits of RFC 7541 appendix B; nothing else.
fn huffman_digits(coded: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = coded.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect();
    let number = |bits: &[u8]| bits.iter().fold(0u8, |n, bit| n << 1 | bit);
    let mut digits = Vec::new();
    let mut rest = &bits[..];
    while rest.len() >= 5 {
        let (short, long) = (number(&rest[..5]), rest.get(..6).map_or(0xff, number));
        match (short, long) {
            (0..=2, _) => {
                digits.push(b'0' + short);
                rest = &rest[5..];
            }
            (_, 0x19..=0x1f) => {
                digits.push(b'3' + long - 0x19);
                rest = &rest[6..];
            }
            _ => break,
        }
    }
    digits
}

/// A connection on which frames are written and read.
pub struct Frames {
    pub stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// Answers SETTINGS and PING, as a good peer does.
    pub polite: bool,
}

impl Frames {
    /// A client's side: sends the preface and empty SETTINGS.
    pub fn connect(port: u16) -> Frames {
        Self::connect_with(port, &[])
    }

    /// The same with a SETTINGS payload.
    pub fn connect_with(port: u16, settings: &[u8]) -> Frames {
        let mut frames = Frames::over(Box::new(crate::client::tcp(port)));
        frames.send(PREFACE);
        frames.send(&frame(SETTINGS, 0, 0, settings));
        frames
    }

    pub fn over(stream: Box<dyn Stream>) -> Frames {
        Frames { stream, buffer: Vec::new(), polite: true }
    }

    /// A server's side on an accepted connection: reads the preface and sends empty SETTINGS.
    pub fn accept(stream: TcpStream) -> Option<Frames> {
        stream.set_patience(3 * PATIENCE);
        let _ = stream.set_nodelay(true);
        let mut frames = Frames::over(Box::new(stream));
        while frames.buffer.len() < PREFACE.len() {
            frames.fill()?;
        }
        let preface: Vec<u8> = frames.buffer.drain(..PREFACE.len()).collect();
        frames.send(&frame(SETTINGS, 0, 0, &[]));
        (preface == PREFACE).then_some(frames)
    }

    /// False when the peer is gone.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).and_then(|()| self.stream.flush()).is_ok()
    }

    pub fn get(&mut self, stream: u32, path: &str) -> bool {
        let fields = GET.map(|(name, value)| (name, if name == b":path" { path.as_bytes() } else { value }));
        self.send(&headers(END_STREAM, stream, &block(&fields)))
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

    /// The next frame; `None` at the end of the connection or when nothing comes in time.
    pub fn read(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<9>() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let (kind, flags) = (head[3], head[4]);
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
                if self.buffer.len() >= 9 + length {
                    let payload = self.buffer.drain(..9 + length).skip(9).collect::<Vec<u8>>();
                    if self.polite && flags & ACK == 0 {
                        match kind {
                            SETTINGS => drop(self.send(&frame(SETTINGS, ACK, 0, &[]))),
                            PING => drop(self.send(&frame(PING, ACK, 0, &payload))),
                            _ => {}
                        }
                    }
                    return Some(Frame { kind, flags, stream, payload });
                }
            }
            self.fill()?;
        }
    }

    /// The next frame that `wanted` takes.
    pub fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.read()?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Whether the peer ends the connection within `patience`; what it sends until then comes along.
    pub fn ends_within(&mut self, patience: Duration) -> (Vec<Frame>, bool) {
        let deadline = Instant::now() + patience;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return (seen, false);
            }
            self.stream.set_patience(left);
            match self.read() {
                Some(frame) => seen.push(frame),
                None if Instant::now() < deadline => return (seen, true),
                None => return (seen, false),
            }
        }
    }
}

#[test]
fn statuses_are_read_in_every_form() {
    let status = |payload: &[u8]| Frame { kind: HEADERS, flags: 4, stream: 1, payload: payload.to_vec() }.status();
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x8e, 0x40]), 500);
    assert_eq!(status(b"\x48\x03302"), 302);
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
    assert_eq!(status(&[0x48, 0x83, 0x69, 0x90, 0xff]), 431);
    assert_eq!(status(b"\x40\x01a\x01b"), 0);
}

#[test]
fn fields_are_read_from_lines() {
    let of = |line: &str| expand(line).remove(0);
    assert_eq!(of(":path: /x"), (b":path".to_vec(), b"/x".to_vec()));
    assert_eq!(of("a: b: c"), (b"a".to_vec(), b"b: c".to_vec()));
    assert_eq!(of("a:"), (b"a".to_vec(), Vec::new()));
    assert_eq!(of(": x"), (Vec::new(), b"x".to_vec()));
    assert_eq!(expand("3* a: b").len(), 3);
}
