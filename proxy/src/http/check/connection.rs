//! The `Connection` field: what it says about this hop, and which other fields it takes out of the message.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, UPGRADE};
use http::{HeaderMap, HeaderName};

use super::{Violation, details};
use crate::http::lookup;

/// Envoy refuses a `Connection` with this many elements: naming fields costs the receiver more than the sender.
const MAX_ELEMENTS: usize = 10;

/// What the connection-level fields of one message said. They are gone from the map afterwards.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// `close`, also as `proxy-connection: close`.
    pub close: bool,
    pub keep_alive: bool,
    /// `upgrade` was named; only then does an `Upgrade` field mean anything.
    pub upgrade: bool,
}

/// Who sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Request,
    Response,
}

/// Reads `Connection` and `Proxy-Connection`, and removes them, `Keep-Alive` and every field that `Connection` names.
///
/// `te` is not removed by being named: [`super::sanitize_te`] judges it by its value.
///
/// # Errors
/// In a request: too many elements, or one that names a field the message cannot do without or that tells the next hop who
/// the client is. In a response such a field just stays.
pub fn connection(headers: &mut HeaderMap, side: Side) -> Result<Connection, Violation> {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    let mut said = Connection::default();
    nominated(headers, &mut said, side)?;
    headers.remove(CONNECTION);
    if lookup::has(headers, &PROXY_CONNECTION)
        && let Some(value) = headers.remove(PROXY_CONNECTION)
    {
        said.close |= value.as_bytes().eq_ignore_ascii_case(b"close");
    }
    if lookup::has(headers, &KEEP_ALIVE) {
        headers.remove(KEEP_ALIVE);
    }
    Ok(said)
}

fn nominated(headers: &mut HeaderMap, said: &mut Connection, side: Side) -> Result<(), Violation> {
    let refused = Violation::bad_request(details::CONNECTION_HEADER_REJECTED);
    let mut elements = 0;
    let mut named: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for element in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|e| !e.is_empty()) {
            elements += 1;
            if elements >= MAX_ELEMENTS && side == Side::Request {
                return Err(refused);
            }
            if element.eq_ignore_ascii_case(b"close") {
                said.close = true;
            } else if element.eq_ignore_ascii_case(b"keep-alive") {
                said.keep_alive = true;
            } else if element.eq_ignore_ascii_case(b"upgrade") {
                said.upgrade = true;
            } else if let Ok(name) = HeaderName::from_bytes(element) {
                // An element that is no field name names nothing.
                named.push(name);
            }
        }
    }
    for name in named {
        if is_indispensable(&name) {
            match side {
                Side::Request => return Err(refused),
                Side::Response => continue,
            }
        }
        if name != TE && name != UPGRADE && name != http::header::TRANSFER_ENCODING {
            headers.remove(name);
        }
    }
    Ok(())
}

/// Envoy refuses the three forwarding fields; without `Host` or `Content-Length` the message would read differently behind
/// us.
fn is_indispensable(name: &HeaderName) -> bool {
    *name == HOST
        || *name == CONTENT_LENGTH
        || matches!(name.as_str(), "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-proto")
}
