//! Path normalisation of the connection manager: `normalize_path`, `merge_slashes`, `path_with_escaped_slashes_action`; and
//! what it does to the host: `strip_matching_host_port`, `strip_any_host_port`, `strip_trailing_host_dot`.
//!
//! Every filter and route judges the path that comes out of here, and that path is the one that is forwarded. The result is
//! Envoy's byte for byte, whose `normalize_path` is the canonicaliser of Chromium's URLs: dot segments are resolved (`%2e` is a
//! dot, `\` a slash, `..;x` is `..`), unreserved characters are decoded, others that cannot stand in a path are encoded, `%2F`
//! and the rest stay as they came. `path/envoy.txt` is what Envoy answered to a few thousand paths in each mode.
//!
//! One oddity of Envoy's is kept because the bytes must be the same: `%2e%2e;` becomes `..;`, so that normalising twice is not
//! the same as once.

use std::borrow::Cow;

use super::{ByteStr, RequestHead};
use crate::route::port_start;

/// What the connection manager does to paths before anything looks at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathOptions {
    pub normalize: bool,
    pub merge_slashes: bool,
    pub escaped_slashes: EscapedSlashes,
}

/// `path_with_escaped_slashes_action`: what a `%2F`, `%2f`, `%5C` or `%5c` in the path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    /// Also `IMPLEMENTATION_SPECIFIC_DEFAULT`.
    #[default]
    KeepUnchanged,
    Reject,
    UnescapeAndRedirect,
    UnescapeAndForward,
}

/// What becomes of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathVerdict {
    Unchanged,
    Changed(ByteStr),
    /// 400, `path_normalization_failed`, with the path as far as it came.
    Reject(ByteStr),
    /// 307 to this path, for `UNESCAPE_AND_REDIRECT`; details also `path_normalization_failed`.
    Redirect(ByteStr),
}

/// Judges a path with its query. The result is what is routed, judged by policy and forwarded. `*` and the empty path of a
/// CONNECT stay as they are.
pub fn normalize(path: &ByteStr, options: &PathOptions) -> PathVerdict {
    if path.is_empty() || *path == "*" {
        return PathVerdict::Unchanged;
    }
    match normalized(path, options) {
        (new, Action::Reject) => PathVerdict::Reject(ByteStr::from(new.into_owned())),
        (new, Action::Redirect) => PathVerdict::Redirect(ByteStr::from(new.into_owned())),
        (Cow::Borrowed(_), Action::Continue) => PathVerdict::Unchanged,
        (Cow::Owned(new), Action::Continue) => PathVerdict::Changed(ByteStr::from(new)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Continue,
    Redirect,
    Reject,
}

/// The new path, borrowed if it is the old one. That of a refused request is as far as it came.
fn normalized<'p>(path: &'p str, options: &PathOptions) -> (Cow<'p, str>, Action) {
    if path.contains('#') {
        return (Cow::Borrowed(path), Action::Reject);
    }
    let (before_query, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let (mut new, mut action) = (Cow::Borrowed(before_query), Action::Continue);
    if options.escaped_slashes != EscapedSlashes::KeepUnchanged
        && let Some(unescaped) = unescape_slashes(&new)
    {
        new = Cow::Owned(unescaped);
        action = match options.escaped_slashes {
            EscapedSlashes::Reject => Action::Reject,
            EscapedSlashes::UnescapeAndRedirect => Action::Redirect,
            EscapedSlashes::UnescapeAndForward | EscapedSlashes::KeepUnchanged => Action::Continue,
        };
    }
    if options.normalize && action != Action::Reject && !is_canonical(&new) {
        if let Some(dropped) = drop_parameters_of_dot_segments(&new) {
            new = Cow::Owned(dropped);
        }
        match canonicalize(&new) {
            Some(canonical) => new = Cow::Owned(canonical),
            None => action = Action::Reject,
        }
    }
    if options.merge_slashes && action != Action::Reject && new.contains("//") {
        new = Cow::Owned(merge_slashes(&new));
    }
    match new {
        Cow::Borrowed(_) => (Cow::Borrowed(path), action),
        Cow::Owned(mut new) => {
            new.push_str(query);
            (Cow::Owned(new), action)
        }
    }
}

/// `None` when there are none.
fn unescape_slashes(path: &str) -> Option<String> {
    let mut out: Option<String> = None;
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        let slash = match from.get(1..3) {
            Some("2F" | "2f") => Some('/'),
            Some("5C" | "5c") => Some('\\'),
            _ => None,
        };
        let (text, after) = from.split_at(if slash.is_some() { 3 } else { 1 });
        if slash.is_some() && out.is_none() {
            out = Some(path.get(..path.len() - rest.len()).unwrap_or_default().to_owned());
        }
        if let Some(out) = &mut out {
            out.push_str(before);
            match slash {
                Some(slash) => out.push(slash),
                None => out.push_str(text),
            }
        }
        rest = after;
    }
    if let Some(out) = &mut out {
        out.push_str(rest);
    }
    out
}

/// `a/..;x/b` to `a/../b`: some servers take parameters off a segment before they resolve it. Only `/` ends a segment here,
/// and only plain dots count. `None` when there is nothing to drop.
fn drop_parameters_of_dot_segments(path: &str) -> Option<String> {
    let is_dots = |segment: &str| segment.starts_with(".;") || segment.starts_with("..;");
    if !path.split('/').any(is_dots) {
        return None;
    }
    let mut out = String::with_capacity(path.len());
    for (i, segment) in path.split('/').enumerate() {
        if i > 0 {
            out.push('/');
        }
        let dots = segment.split(';').next().unwrap_or_default();
        out.push_str(if is_dots(segment) { dots } else { segment });
    }
    Some(out)
}

/// What a byte of a path becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stays, and its escape is undone.
    Unreserved,
    /// Stays, and so does its escape.
    Pass,
    /// `.`, `/`, `\` and `%`.
    Special,
    /// Is escaped.
    Escape,
}

const fn class(byte: u8) -> Class {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => Class::Unreserved,
        b'.' | b'/' | b'\\' | b'%' => Class::Special,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b':' | b';' | b'=' | b'@' | b'[' | b']' => {
            Class::Pass
        }
        _ => Class::Escape,
    }
}

#[expect(clippy::indexing_slicing, reason = "computed when compiled")]
const CLASSES: [Class; 256] = {
    let (mut classes, mut i) = ([Class::Escape; 256], 0);
    while i < 256 {
        classes[i] = class(i as u8);
        i += 1;
    }
    classes
};

fn class_of(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Escape)
}

/// Whether [`canonicalize`] would certainly change nothing. Most paths are: this is what they cost.
fn is_canonical(path: &str) -> bool {
    let mut before = 0;
    for byte in path.bytes() {
        let plain = match byte {
            b'/' => true,
            b'.' => before != b'/',
            byte => matches!(class_of(byte), Class::Unreserved | Class::Pass),
        };
        if !plain {
            return false;
        }
        before = byte;
    }
    path.starts_with('/')
}

/// Chromium's canonical form of a URL's path; `None` for one with `%00`.
fn canonicalize(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len() + 8);
    let mut rest = path.as_bytes();
    // Where the last `%` is that begins no escape.
    let mut stray_percent = None;
    if !matches!(rest.first(), Some(b'/' | b'\\')) {
        out.push('/');
    }
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(dot) = dot_len(rest) {
            rest = rest.get(dot..).unwrap_or_default();
            if !out.ends_with('/') {
                out.push('.');
            } else if let Some(after) = after_separator(rest) {
                rest = after;
            } else if let Some(after) = dot_len(rest).and_then(|dot| after_separator(rest.get(dot..)?)) {
                rest = after;
                to_parent(&mut out);
            } else {
                out.push('.');
            }
            continue;
        }
        rest = after;
        match class_of(byte) {
            Class::Unreserved | Class::Pass => out.push(char::from(byte)),
            Class::Special if byte == b'%' => match escaped(after) {
                Some(0) => return None,
                Some(decoded) if class_of(decoded) == Class::Unreserved => {
                    out.push(char::from(decoded));
                    rest = after.get(2..).unwrap_or_default();
                    escape_stray_percent(&mut out, stray_percent, rest);
                }
                // The digits follow as they came.
                Some(_) => out.push('%'),
                None => {
                    stray_percent = Some(out.len());
                    out.push('%');
                }
            },
            Class::Special => out.push('/'),
            Class::Escape => push_escaped(&mut out, byte),
        }
    }
    Some(out)
}

/// Keeps a decoded character from completing an escape that was none: `%2%61` becomes `%252a`, not `%2a`.
fn escape_stray_percent(out: &mut String, stray_percent: Option<usize>, rest: &[u8]) {
    let Some(at) = stray_percent else { return };
    let completed = match out.as_bytes().get(at + 1..) {
        Some([first]) => rest.first().is_some_and(|second| escaped(&[*first, *second]).is_some()),
        Some([first, second]) => escaped(&[*first, *second]).is_some(),
        _ => false,
    };
    if completed {
        out.insert_str(at + 1, "25");
    }
}

/// The length of a dot, which may be written `%2e`.
fn dot_len(from: &[u8]) -> Option<usize> {
    match from {
        [b'.', ..] => Some(1),
        [b'%', b'2', b'e' | b'E', ..] => Some(3),
        _ => None,
    }
}

/// What comes after the slash of either kind that ends a segment here, or after the end.
fn after_separator(from: &[u8]) -> Option<&[u8]> {
    match from.split_first() {
        None => Some(&[]),
        Some((b'/' | b'\\', after)) => Some(after),
        Some(_) => None,
    }
}

/// Takes off the last segment of a path that ends with a slash, unless it is the root.
fn to_parent(out: &mut String) {
    out.pop();
    let slash = out.rfind('/').unwrap_or(0);
    out.truncate(slash);
    out.push('/');
}

/// The byte that two hexadecimal digits stand for.
fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |i: usize| char::from(*digits.get(i)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn push_escaped(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |n: u8| DIGITS.get(usize::from(n)).copied().map_or('0', char::from);
    out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
}

/// Drops empty segments. A path of slashes alone becomes `//`, as in Envoy.
fn merge_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    if path.starts_with('/') {
        out.push('/');
    }
    for (i, segment) in path.split('/').filter(|segment| !segment.is_empty()).enumerate() {
        if i > 0 {
            out.push('/');
        }
        out.push_str(segment);
    }
    if path.ends_with('/') {
        out.push('/');
    }
    out
}

/// Which port `strip_…_host_port` takes off the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StripPort {
    /// `strip_any_host_port`
    Any,
    /// `strip_matching_host_port`: the port that the listener's address has, the restored one included.
    Matching(u16),
}

/// Takes the port off the request's host and gives it back. A port is digits only.
pub fn strip_host_port(head: &mut RequestHead, which: StripPort) -> Option<u32> {
    let at = port_start(&head.authority)?;
    let port = head.authority.get(at + 1..)?.parse::<u32>().ok()?;
    if matches!(which, StripPort::Matching(only) if port != u32::from(only)) {
        return None;
    }
    head.authority = slice(&head.authority, ..at);
    Some(port)
}

/// `strip_trailing_host_dot`: takes the dot off `a.test.` and `a.test.:80`.
pub fn strip_trailing_host_dot(head: &mut RequestHead) {
    let Some(at) = head.authority.rfind('.') else { return };
    match head.authority.as_bytes().get(at + 1) {
        None => head.authority = slice(&head.authority, ..at),
        Some(b':') => {
            let (host, port) = (head.authority.get(..at), head.authority.get(at + 1..));
            head.authority = ByteStr::from([host.unwrap_or_default(), port.unwrap_or_default()].concat());
        }
        Some(_) => {}
    }
}

fn slice(text: &ByteStr, range: std::ops::RangeTo<usize>) -> ByteStr {
    // Ports and dots are ASCII, so that the cut is between characters.
    ByteStr::from_utf8(text.as_bytes().slice(range)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
