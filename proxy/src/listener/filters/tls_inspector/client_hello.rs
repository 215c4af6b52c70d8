//! The ClientHello of RFC 8446 (section 4.1.2) and its predecessors inside TLS records, read as far as a proxy needs it.

use std::borrow::Cow;
use std::sync::Arc;

const RECORD_HEADER: usize = 5;
const HANDSHAKE: u8 = 22;
/// What BoringSSL takes for the length of a record: 2^14 and the room it leaves for a cipher's overhead.
const MAX_RECORD: usize = 16_384 + 320;
/// Records without content in a row.
const MAX_EMPTY_RECORDS: usize = 32;
const MESSAGE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;
const MAX_MESSAGE: usize = 16_384;
const SERVER_NAME: u16 = 0;
const APPLICATION_LAYER_PROTOCOL_NEGOTIATION: u16 = 16;

/// What some bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// So far a ClientHello, but not all of it.
    Need,
    Found(ClientHello),
    /// A well-formed ClientHello that asks for less than TLS 1.0 or for something unheard of.
    UnsupportedVersion,
    NotTls,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClientHello {
    /// Lower-case.
    pub server_name: Option<Arc<str>>,
    pub application_protocols: Option<Vec<Arc<str>>>,
    /// Bytes up to the end of its last record.
    pub size: usize,
}

/// Reads a ClientHello at the start of `buffer`. For every continuation of `buffer` the answer is the same, unless it is
/// `Need`.
pub(super) fn parse(buffer: &[u8]) -> Hello {
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = Reader(buffer);
    let mut empty_records = 0;
    loop {
        // Garbage shows in the first two bytes.
        match rest.0 {
            [] => return Hello::Need,
            [HANDSHAKE] | [HANDSHAKE, 3, ..] => {}
            _ => return Hello::NotTls,
        }
        let Some(&[_, _, _, high, low]) = rest.0.first_chunk::<RECORD_HEADER>() else { return Hello::Need };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > MAX_RECORD {
            return Hello::NotTls;
        }
        rest.skip(RECORD_HEADER);
        let Some(payload) = rest.take(length) else { return Hello::Need };
        if payload.is_empty() {
            empty_records += 1;
            if empty_records > MAX_EMPTY_RECORDS {
                return Hello::NotTls;
            }
            continue;
        }
        empty_records = 0;
        if message.is_empty() {
            message = Cow::Borrowed(payload);
        } else {
            message.to_mut().extend_from_slice(payload);
        }
        let size = buffer.len() - rest.0.len();
        match whole_message(&message) {
            Message::Need => {}
            Message::Body(body) => return client_hello(body, size),
            Message::Bad => return Hello::NotTls,
        }
    }
}

enum Message<'a> {
    Need,
    Body(&'a [u8]),
    Bad,
}

/// The body of a handshake message that fills `bytes` exactly: nothing may follow a ClientHello in its record.
fn whole_message(bytes: &[u8]) -> Message<'_> {
    let Some(&[kind, a, b, c]) = bytes.first_chunk::<MESSAGE_HEADER>() else { return Message::Need };
    let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
    if kind != CLIENT_HELLO || length > MAX_MESSAGE {
        return Message::Bad;
    }
    match bytes.get(MESSAGE_HEADER..) {
        Some(body) if body.len() < length => Message::Need,
        Some(body) if body.len() == length => Message::Body(body),
        _ => Message::Bad,
    }
}

fn client_hello(body: &[u8], size: usize) -> Hello {
    match read_client_hello(body) {
        None => Hello::NotTls,
        Some((version, _)) if !(0x0301..=0x0304).contains(&version) => Hello::UnsupportedVersion,
        Some((_, Names { server_name, application_protocols })) => {
            Hello::Found(ClientHello { server_name, application_protocols, size })
        }
    }
}

#[derive(Default)]
struct Names {
    server_name: Option<Arc<str>>,
    application_protocols: Option<Vec<Arc<str>>>,
}

/// The legacy version and the names; `None` when malformed.
fn read_client_hello(body: &[u8]) -> Option<(u16, Names)> {
    let mut rest = Reader(body);
    let version = rest.u16()?;
    rest.take(32)?;
    let session_id = rest.u8_prefixed()?;
    let cipher_suites = rest.u16_prefixed()?;
    let compression_methods = rest.u8_prefixed()?;
    if session_id.len() > 32
        || cipher_suites.is_empty()
        || !cipher_suites.len().is_multiple_of(2)
        || compression_methods.is_empty()
    {
        return None;
    }
    // TLS 1.0 and 1.1 clients may send no extensions at all.
    let extensions = if rest.0.is_empty() { &[] } else { rest.u16_prefixed()? };
    rest.0.is_empty().then_some(())?;
    Some((version, read_extensions(extensions)?))
}

fn read_extensions(extensions: &[u8]) -> Option<Names> {
    let mut names = Names::default();
    let mut seen: Vec<u16> = Vec::new();
    let mut rest = Reader(extensions);
    while !rest.0.is_empty() {
        let (kind, data) = (rest.u16()?, rest.u16_prefixed()?);
        seen.push(kind);
        match kind {
            SERVER_NAME => names.server_name = Some(server_name(data)?),
            APPLICATION_LAYER_PROTOCOL_NEGOTIATION => names.application_protocols = application_protocols(data),
            _ => {}
        }
    }
    seen.sort_unstable();
    let duplicate = seen.windows(2).any(|pair| matches!(pair, [a, b] if a == b));
    (!duplicate).then_some(names)
}

/// RFC 6066, section 3: exactly one name, of type host_name.
fn server_name(data: &[u8]) -> Option<Arc<str>> {
    let mut rest = Reader(data);
    let mut list = Reader(rest.u16_prefixed()?);
    let (kind, name) = (list.u8()?, list.u16_prefixed()?);
    let whole = rest.0.is_empty() && list.0.is_empty();
    if !whole || kind != 0 || name.is_empty() || name.len() > 255 || name.contains(&0) {
        return None;
    }
    Some(String::from_utf8_lossy(name).to_ascii_lowercase().into())
}

/// RFC 7301, section 3.1. A malformed list counts as none: the handshake will refuse it.
fn application_protocols(data: &[u8]) -> Option<Vec<Arc<str>>> {
    let mut rest = Reader(data);
    let mut list = Reader(rest.u16_prefixed()?);
    if !rest.0.is_empty() || list.0.len() < 2 {
        return None;
    }
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let name = list.u8_prefixed().filter(|name| !name.is_empty())?;
        protocols.push(String::from_utf8_lossy(name).into());
    }
    Some(protocols)
}

/// Takes from the front; `None` when there is not enough.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, n: usize) {
        self.take(n);
    }

    fn u8(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn u8_prefixed(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    fn u16_prefixed(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}
