//! Request targets (RFC 9112 section 3.2) and the authority.

use http::Method;

use super::{Violation, details};

/// A request target by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// `/path?query`; also an absolute form that is not to be taken apart.
    Origin(&'a [u8]),
    /// `http://authority/path?query`. The path may be empty or begin with `?`.
    Absolute { https: bool, authority: &'a [u8], path: &'a [u8] },
    /// `host:port` of a CONNECT.
    Authority(&'a [u8]),
    /// `*` of OPTIONS.
    Asterisk,
}

/// Takes a target apart. `allow_absolute` is `http_protocol_options.allow_absolute_url`: without it an absolute form is
/// handed on whole, and the connection manager answers 404.
///
/// # Errors
/// A byte outside `!`..`~`, or a form that does not fit the method.
pub fn target<'a>(method: &Method, target: &'a [u8], allow_absolute: bool) -> Result<Target<'a>, Violation> {
    if target.is_empty() || !target.iter().all(|b| matches!(b, b'!'..=b'~')) {
        return Err(Violation::bad_request(details::CODEC_ERROR));
    }
    let invalid = Violation::bad_request(details::INVALID_URL);
    if *method == Method::CONNECT {
        return if authority_form(target) { Ok(Target::Authority(target)) } else { Err(invalid) };
    }
    if target.starts_with(b"/") {
        return Ok(Target::Origin(target));
    }
    if target == b"*" {
        return if *method == Method::OPTIONS { Ok(Target::Asterisk) } else { Err(invalid) };
    }
    let Some(scheme_end) = target.windows(3).position(|w| w == b"://") else {
        return Err(Violation::bad_request(details::CODEC_ERROR));
    };
    let (scheme, rest) = target.split_at(scheme_end);
    if scheme.is_empty() || !scheme.iter().all(u8::is_ascii_alphabetic) {
        return Err(Violation::bad_request(details::CODEC_ERROR));
    }
    if !allow_absolute {
        return Ok(Target::Origin(target));
    }
    let https = scheme.eq_ignore_ascii_case(b"https");
    if !https && !scheme.eq_ignore_ascii_case(b"http") {
        return Err(Violation::bad_request(details::INVALID_SCHEME));
    }
    let rest = rest.get(3..).unwrap_or_default();
    let path_start = rest.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (host, path) = rest.split_at(path_start);
    if !authority(host) || !port_in_range(host) {
        return Err(invalid);
    }
    Ok(Target::Absolute { https, authority: host, path })
}

/// Whether this can be a `:path`: origin form without blanks, control or non-ASCII bytes.
pub fn path(path: &[u8]) -> bool {
    path.starts_with(b"/") && path.iter().all(|b| matches!(b, b'!'..=b'~'))
}

/// A host with an optional port (RFC 3986 section 3.2.2) as in `Host` and `:authority`.
///
/// Not allowed although the grammar has it: userinfo, an empty host, and `,`, which tells two joined `Host` lines from one.
pub fn authority(authority: &[u8]) -> bool {
    let (host, port) = split_port(authority);
    let host_ok = match host.strip_prefix(b"[") {
        Some(inner) => inner.strip_suffix(b"]").is_some_and(|ip| {
            !ip.is_empty()
                && ip.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'.' | b'%' | b'-' | b'_' | b'~'))
        }),
        None => !host.is_empty() && host.iter().all(|b| is_reg_name_byte(*b)),
    };
    host_ok && port.is_none_or(|port| port.iter().all(u8::is_ascii_digit))
}

/// The target of a CONNECT: a host with a port from 1 to 65535.
pub fn authority_form(target: &[u8]) -> bool {
    let (_, port) = split_port(target);
    authority(target) && port.is_some_and(|port| !port.is_empty()) && port_in_range(target)
}

fn port_in_range(authority: &[u8]) -> bool {
    match split_port(authority).1 {
        None | Some(b"") => true,
        Some(port) => super::parse_content_length(port).is_some_and(|port| (1..=65535).contains(&port)),
    }
}

/// Host and port; the `:` of an IPv6 address in brackets does not count.
fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let after_bracket = authority.iter().rposition(|b| *b == b']').map_or(0, |at| at + 1);
    match authority.get(after_bracket..).unwrap_or_default().iter().position(|b| *b == b':') {
        Some(colon) => {
            let (host, port) = authority.split_at(after_bracket + colon);
            (host, port.get(1..))
        }
        None => (authority, None),
    }
}

const fn is_reg_name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
        )
}
