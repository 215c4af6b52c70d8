//! Formats of text: literal pieces and operators between percent signs.

use std::borrow::Cow;

use super::command::{Command, Extensions, Spelled};
use super::write::{Written, neutralise};
use crate::access_log::LogContext;

/// A format as read: `%REQ(:METHOD)% took %DURATION%`.
pub struct Formatter {
    pub(super) pieces: Box<[Piece]>,
}

pub(super) enum Piece {
    Text(Box<[u8]>),
    Command(Command),
}

impl Formatter {
    /// # Errors
    /// In Envoy's words, for unknown operators, wrong arguments and stray percent signs.
    pub fn parse(format: &str, extensions: Extensions) -> Result<Formatter, String> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        let mut at = 0;
        while let Some(rest) = format.get(at..).filter(|rest| !rest.is_empty()) {
            let percent = rest.find('%').unwrap_or(rest.len());
            text.extend_from_slice(rest.get(..percent).unwrap_or_default().as_bytes());
            at += percent;
            let Some(command) = rest.get(percent..).filter(|rest| !rest.is_empty()) else { break };
            if command.starts_with("%%") {
                text.push(b'%');
                at += 2;
                continue;
            }
            let (spelled, len) = spelled(command).ok_or_else(|| {
                format!("Incorrect configuration: {format}. Couldn't find valid command at position {at}")
            })?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text).into()));
            }
            pieces.push(Piece::Command(Command::build(&spelled, extensions)?));
            at += len;
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        Ok(Formatter { pieces: pieces.into() })
    }

    /// Appends the line; `empty` stands for what has no value. No allocation beyond the line's own growth, unless a value
    /// needs escaping or is computed from a certificate chain.
    pub fn write(&self, cx: &LogContext<'_>, empty: &str, out: &mut Vec<u8>) {
        self.write_as(cx, empty, true, out);
    }

    /// The same for a body, where a line break in a value is no forged line.
    pub fn write_body(&self, cx: &LogContext<'_>, empty: &str, out: &mut Vec<u8>) {
        self.write_as(cx, empty, false, out);
    }

    fn write_as(&self, cx: &LogContext<'_>, empty: &str, one_line: bool, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Command(command) => {
                    let start = out.len();
                    match command.write_text(cx, out) {
                        Written::Missing => out.extend_from_slice(empty.as_bytes()),
                        Written::Number => {}
                        Written::Text | Written::Json if one_line => neutralise(out, start),
                        Written::Text | Written::Json => {}
                    }
                }
            }
        }
    }

    /// The text, if there is no operator in it.
    pub fn as_literal(&self) -> Option<Cow<'_, [u8]>> {
        match &*self.pieces {
            [] => Some(Cow::Borrowed(b"")),
            [Piece::Text(text)] => Some(Cow::Borrowed(text)),
            _ => None,
        }
    }
}

/// The operator at the start of a text that begins with a percent sign, and its length: `%NAME%`, `%NAME(argument)%`,
/// `%NAME(argument):12%`. The argument ends at the first `)` that makes it an operator, and is on one line.
fn spelled(from: &str) -> Option<(Spelled<'_>, usize)> {
    let bytes = from.as_bytes();
    let is_name = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    let name_end = 1 + bytes.iter().skip(1).take_while(|b| is_name(b)).count();
    let name = from.get(1..name_end).filter(|name| !name.is_empty())?;
    if bytes.get(name_end) != Some(&b'(') {
        let (max_length, end) = tail(from, name_end)?;
        return Some((Spelled { name, argument: None, max_length }, end));
    }
    let from_argument = from.get(name_end + 1..)?;
    let line = from_argument.split('\n').next().unwrap_or_default();
    for (close, _) in line.match_indices(')') {
        if let Some((max_length, end)) = tail(from, name_end + 1 + close + 1) {
            return Some((Spelled { name, argument: line.get(..close), max_length }, end));
        }
    }
    None
}

/// `:12%` or `%` at this position: the length, and where the operator ends.
fn tail(from: &str, at: usize) -> Option<(Option<usize>, usize)> {
    let rest = from.get(at..)?;
    if rest.starts_with('%') {
        return Some((None, at + 1));
    }
    let digits = rest.strip_prefix(':')?.split('%').next()?;
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let max_length = digits.parse().ok().filter(|_| is_number)?;
    let end = at + 1 + digits.len();
    (from.as_bytes().get(end) == Some(&b'%')).then_some((Some(max_length), end + 1))
}
