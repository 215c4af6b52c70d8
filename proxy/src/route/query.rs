//! Query parameters and cookies of a request, as route matchers see them.

use crate::http::RequestHead;

/// The value of the first parameter of this name, not percent-decoded. A parameter without `=` has an empty value.
pub fn query_parameter<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let (_, query) = path.split_once('?')?;
    query.split('&').find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (key == name).then_some(value)
    })
}

/// The value of the first cookie of this name, without its quotes.
pub fn cookie<'h>(head: &'h RequestHead, name: &str) -> Option<&'h [u8]> {
    let lines = head.headers.get_all(http::header::COOKIE).iter();
    lines.flat_map(|line| line.as_bytes().split(|b| *b == b';')).find_map(|pair| {
        let pair = pair.trim_ascii_start();
        let at = pair.iter().position(|b| *b == b'=')?;
        let (key, value) = pair.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (key == name.as_bytes()).then(|| unquoted.unwrap_or(value))
    })
}
