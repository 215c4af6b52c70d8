//! Operators that take a request's path, query or host apart.

use super::write::{Written, optional, text};
use crate::access_log::LogContext;
use crate::route::{path_only, port_start};

/// Which path: the one that is forwarded, or the one that came (`x-envoy-original-path`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathSource {
    Original,
    Path,
    OriginalOrPath,
}

impl PathSource {
    fn of<'c>(self, cx: &LogContext<'c>) -> Option<&'c str> {
        let head = cx.request?;
        let original = || head.headers.get("x-envoy-original-path").and_then(|value| value.to_str().ok());
        let path = || Some(&*head.path).filter(|path| !path.is_empty());
        match self {
            PathSource::Original => original(),
            PathSource::Path => path(),
            PathSource::OriginalOrPath => original().or_else(path),
        }
    }
}

/// `PATH(WQ|NQ:ORIG|PATH|ORIG_OR_PATH)`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PathOp {
    with_query: bool,
    source: PathSource,
}

impl PathOp {
    pub fn parse(argument: &str) -> Result<Self, String> {
        let mut options = argument.split(':');
        let with_query = match options.next().unwrap_or_default() {
            "" | "WQ" => true,
            "NQ" => false,
            other => return Err(format!("Invalid PATH option: '{other}', only 'WQ'/'NQ' are allowed")),
        };
        let source = match options.next().unwrap_or_default() {
            "" | "ORIG_OR_PATH" => PathSource::OriginalOrPath,
            "ORIG" => PathSource::Original,
            "PATH" => PathSource::Path,
            other => {
                return Err(format!("Invalid PATH option: '{other}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"));
            }
        };
        Ok(PathOp { with_query, source })
    }

    pub fn write(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> Written {
        optional(out, self.source.of(cx).map(|path| if self.with_query { path } else { path_only(path) }))
    }
}

/// `QUERY_PARAM(name)`: percent-decoded.
pub(super) fn write_query_parameter(cx: &LogContext<'_>, name: &str, out: &mut Vec<u8>) -> Written {
    let Some(value) = cx.request.and_then(|head| decoded_parameter(&head.path, name)) else { return Written::Missing };
    decode(value, out, |_| true, Invalid::Keep);
    Written::Text
}

/// The first parameter whose decoded name is this.
fn decoded_parameter<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let (_, query) = path.split_once('?')?;
    query.split('&').find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let found = if key.contains('%') {
            let mut decoded = Vec::new();
            decode(key, &mut decoded, |_| true, Invalid::Keep);
            decoded == name.as_bytes()
        } else {
            key == name
        };
        found.then_some(value)
    })
}

/// `QUERY_PARAMS(ORIG|DECODED)`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryParams {
    Original,
    /// Escapes of what may stand in a query are undone, others stay.
    Decoded,
}

impl QueryParams {
    pub fn parse(argument: &str) -> Result<Self, String> {
        match argument {
            "" | "ORIG" => Ok(QueryParams::Original),
            "DECODED" => Ok(QueryParams::Decoded),
            other => Err(format!("Invalid QUERY_PARAMS option: '{other}', only 'ORIG'/'DECODED' are allowed")),
        }
    }

    pub fn write(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> Written {
        let query = cx.request.and_then(|head| head.path.split_once('?')).map(|(_, query)| query);
        let Some(query) = query else { return Written::Missing };
        match self {
            QueryParams::Original => text(out, query),
            QueryParams::Decoded => {
                let may_stand = |b: u8| b.is_ascii_alphanumeric() || b"-._~%:/?#[]@!$&'()*+,;=".contains(&b);
                decode(query, out, may_stand, Invalid::DropPercent);
                Written::Text
            }
        }
    }
}

/// What happens to a `%` that begins no escape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Invalid {
    Keep,
    /// As Envoy does, unless fewer than two characters follow.
    DropPercent,
}

fn decode(value: &str, out: &mut Vec<u8>, decodes: impl Fn(u8) -> bool, invalid: Invalid) {
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |i: usize| char::from(*after.get(i)?).to_digit(16);
        match digit(0).zip(digit(1)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(decoded) if decodes(decoded) => {
                out.push(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            None if invalid == Invalid::DropPercent && after.len() >= 2 => {}
            Some(_) | None => out.push(b'%'),
        }
    }
}

/// `REQUESTED_SERVER_NAME(SNI_ONLY|SNI_FIRST|HOST_FIRST:ORIG|HOST|ORIG_OR_HOST)`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ServerName {
    order: NameOrder,
    host: HostSource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameOrder {
    SniOnly,
    SniFirst,
    HostFirst,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HostSource {
    Original,
    Host,
    OriginalOrHost,
}

impl ServerName {
    pub fn parse(argument: &str) -> Result<Self, String> {
        let mut options = argument.split(':');
        let order = match options.next().unwrap_or_default() {
            "" | "SNI_ONLY" => NameOrder::SniOnly,
            "SNI_FIRST" => NameOrder::SniFirst,
            "HOST_FIRST" => NameOrder::HostFirst,
            other => {
                let allowed = "'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed";
                return Err(format!("Invalid REQUESTED_SERVER_NAME option: '{other}', only {allowed}"));
            }
        };
        let host = match options.next().unwrap_or_default() {
            "" | "ORIG_OR_HOST" => HostSource::OriginalOrHost,
            "HOST" => HostSource::Host,
            "ORIG" => HostSource::Original,
            other => {
                let allowed = "'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed";
                return Err(format!("Invalid REQUESTED_SERVER_NAME option: '{other}', only {allowed}"));
            }
        };
        Ok(ServerName { order, host })
    }

    pub fn write(self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> Written {
        let sni = cx.info.connection.requested_server_name.borrow();
        let sni = sni.as_deref().filter(|name| !name.is_empty());
        optional(
            out,
            match self.order {
                NameOrder::SniOnly => sni,
                NameOrder::SniFirst => sni.or_else(|| self.host(cx)),
                NameOrder::HostFirst => self.host(cx).or(sni),
            },
        )
    }

    fn host<'c>(self, cx: &LogContext<'c>) -> Option<&'c str> {
        let head = cx.request?;
        let original = || head.headers.get("x-envoy-original-host").and_then(|value| value.to_str().ok());
        let host = || Some(&*head.authority);
        let host = match self.host {
            HostSource::Original => original(),
            HostSource::Host => host(),
            HostSource::OriginalOrHost => original().or_else(host),
        };
        host.map(|host| port_start(host).and_then(|at| host.get(..at)).unwrap_or(host)).filter(|host| !host.is_empty())
    }
}
