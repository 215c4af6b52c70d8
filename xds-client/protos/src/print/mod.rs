//! Wire bytes to protobuf JSON, as Envoy's admin interface prints it.
//!
//! Proto field names in the order of field numbers, 64-bit integers as strings, enums by name, one space of indentation.
//! Fields at their default are left out, unless [`Options::defaults`] asks for them (`/server_info`). The text goes to a
//! writer piece by piece; nothing is built up besides a stack of field entries. Map entries keep the order of the wire.
//!
//! An Any whose type is unknown, or whose bytes are not of its type, prints as `{"@type": …, "value": base64}`: Envoy gives
//! up on the whole document there.
//!
//! With [`Options::redact`], fields annotated `udpa.annotations.sensitive` and all below them lose their values, also
//! inside Anys and TypedStructs: strings and bytes become `[redacted]`, everything else is left out.

mod scalar;
mod well_known;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::schema::{Field, Kind, Message};
use crate::wire::{MAX_DEPTH, Malformed, Scalar, Stack};

/// How to print.
#[derive(Clone, Copy, Default, Debug)]
pub struct Options {
    /// A line for each field, indented by one space a level.
    pub pretty: bool,
    /// Hide what is sensitive.
    pub redact: bool,
    /// Print fields without presence at their default, too.
    pub defaults: bool,
}

/// Why a message could not be printed. What has been written up to then is incomplete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    UnknownMessage,
    /// The bytes do not decode as the message.
    Malformed,
    /// The writer failed.
    Write,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::UnknownMessage => "the message type is not known",
            Error::Malformed => "the bytes are not a message of this type",
            Error::Write => "the text could not be written",
        })
    }
}

impl std::error::Error for Error {}

impl From<Malformed> for Error {
    fn from(_: Malformed) -> Error {
        Error::Malformed
    }
}

impl From<fmt::Error> for Error {
    fn from(_: fmt::Error) -> Error {
        Error::Write
    }
}

/// The JSON of the message with this full name.
pub fn to_json(message: &str, wire: &[u8], options: &Options) -> Result<String, Error> {
    let mut out = String::new();
    write_json(&mut out, message, wire, options)?;
    Ok(out)
}

/// Writes the JSON of the message with this full name.
pub fn write_json(out: &mut dyn fmt::Write, message: &str, wire: &[u8], options: &Options) -> Result<(), Error> {
    let message = Message::find(message).ok_or(Error::UnknownMessage)?;
    let mut printer = Printer { out, options: *options, indent: 0, depth: 0 };
    printer.message(&mut Stack::default(), message, wire, false)
}

struct Printer<'w> {
    out: &'w mut dyn fmt::Write,
    options: Options,
    /// Levels of JSON.
    indent: usize,
    /// Messages within each other.
    depth: usize,
}

type Result<T, E = Error> = std::result::Result<T, E>;

impl Printer<'_> {
    /// Writes an object or list: `members` says how, calling `member` before each.
    fn block(
        &mut self,
        brackets: [char; 2],
        members: impl FnOnce(&mut Self, &mut Members) -> Result<()>,
    ) -> Result<()> {
        self.out.write_char(brackets[0])?;
        self.indent += 1;
        let mut count = Members(0);
        members(self, &mut count)?;
        self.indent -= 1;
        if count.0 > 0 {
            self.line()?;
        }
        self.out.write_char(brackets[1])?;
        Ok(())
    }

    fn line(&mut self) -> Result<()> {
        if self.options.pretty {
            self.out.write_char('\n')?;
            for _ in 0..self.indent {
                self.out.write_char(' ')?;
            }
        }
        Ok(())
    }

    fn member(&mut self, members: &mut Members) -> Result<()> {
        if members.0 > 0 {
            self.out.write_char(',')?;
        }
        members.0 += 1;
        self.line()
    }

    /// The key of an object's member.
    fn key(&mut self, members: &mut Members, name: &str) -> Result<()> {
        self.member(members)?;
        self.string(name)?;
        self.out.write_str(if self.options.pretty { ": " } else { ":" })?;
        Ok(())
    }

    fn message<'a>(&mut self, stack: &mut Stack<'a>, message: Message, bytes: &'a [u8], sensitive: bool) -> Result<()> {
        if self.depth > MAX_DEPTH {
            return Err(Error::Malformed);
        }
        self.depth += 1;
        match message.well_known() {
            None => self.block(['{', '}'], |this, members| this.fields(stack, message, bytes, members, sensitive))?,
            Some(kind) => self.well_known(stack, kind, message, bytes, sensitive)?,
        }
        self.depth -= 1;
        Ok(())
    }

    /// The fields of a message as members of the current object.
    fn fields<'a>(
        &mut self,
        stack: &mut Stack<'a>,
        message: Message,
        bytes: &'a [u8],
        members: &mut Members,
        sensitive: bool,
    ) -> Result<()> {
        let range = stack.open(message, bytes, &mut |_| {})?;
        let mut at = range.start;
        if self.options.defaults {
            for field in message.fields() {
                match stack.get(at).filter(|entry| at < range.end && entry.field == field) {
                    Some(_) => {
                        let end = stack.group_end(&range, at);
                        self.field(stack, field, at..end, members, sensitive)?;
                        at = end;
                    }
                    None => self.default(field, members)?,
                }
            }
        } else {
            while let Some(entry) = stack.get(at).filter(|_| at < range.end) {
                let end = stack.group_end(&range, at);
                self.field(stack, entry.field, at..end, members, sensitive)?;
                at = end;
            }
        }
        stack.close(&range);
        Ok(())
    }

    /// A field with the entries `group`.
    fn field<'a>(
        &mut self,
        stack: &mut Stack<'a>,
        field: Field,
        group: Range<usize>,
        members: &mut Members,
        sensitive: bool,
    ) -> Result<()> {
        let sensitive = sensitive || (self.options.redact && field.is_sensitive());
        if sensitive && is_cleared(field) {
            return if self.options.defaults { self.default(field, members) } else { Ok(()) };
        }
        if let Some((key, value)) = field.map_entry() {
            self.key(members, field.name())?;
            return self.map(stack, group, key, value, sensitive);
        }
        if field.is_repeated() {
            self.key(members, field.name())?;
            return self.list(stack, field, group, sensitive);
        }
        let Some((entry, bytes)) = stack.singular(group) else { return Ok(()) };
        if let Some(message) = field.message() {
            self.key(members, field.name())?;
            return match bytes {
                Cow::Borrowed(bytes) => self.message(stack, message, bytes, sensitive),
                Cow::Owned(merged) => self.message(&mut Stack::default(), message, &merged, sensitive),
            };
        }
        let value = entry.scalar()?;
        if field.has_presence() || !value.is_default() || self.options.defaults {
            self.key(members, field.name())?;
            self.scalar(field.kind(), value, sensitive)?;
        }
        Ok(())
    }

    fn list<'a>(&mut self, stack: &mut Stack<'a>, field: Field, group: Range<usize>, sensitive: bool) -> Result<()> {
        self.block(['[', ']'], |this, members| {
            for at in group {
                let Some(entry) = stack.get(at) else { break };
                this.member(members)?;
                match field.kind() {
                    Kind::Message(message) => this.message(stack, message, entry.bytes(), sensitive)?,
                    kind => this.scalar(kind, entry.scalar()?, sensitive)?,
                }
            }
            Ok(())
        })
    }

    fn map<'a>(
        &mut self,
        stack: &mut Stack<'a>,
        group: Range<usize>,
        key: Field,
        value: Field,
        sensitive: bool,
    ) -> Result<()> {
        let entry_type = key.parent();
        self.block(['{', '}'], |this, members| {
            for at in group {
                let Some(entry) = stack.get(at) else { break };
                let range = stack.open(entry_type, entry.bytes(), &mut |_| {})?;
                let (mut name, mut content) = (Scalar::default_of(key.kind()), None);
                for part in range.clone().filter_map(|at| stack.get(at)) {
                    if part.field == key {
                        name = part.scalar()?;
                    } else {
                        content = Some(part);
                    }
                }
                this.map_key(members, name)?;
                match (value.kind(), content) {
                    (Kind::Message(message), _) => {
                        this.message(stack, message, content.map_or(&[], |c| c.bytes()), sensitive)?;
                    }
                    (kind, Some(content)) => this.scalar(kind, content.scalar()?, sensitive)?,
                    (kind, None) => this.scalar(kind, Scalar::default_of(kind), sensitive)?,
                }
                stack.close(&range);
            }
            Ok(())
        })
    }

    fn map_key(&mut self, members: &mut Members, key: Scalar<'_>) -> Result<()> {
        match key {
            Scalar::Text(text) => self.key(members, text),
            Scalar::Bool(value) => self.key(members, if value { "true" } else { "false" }),
            Scalar::Int(value) => self.key(members, &value.to_string()),
            Scalar::Uint(value) => self.key(members, &value.to_string()),
            _ => Err(Error::Malformed),
        }
    }

    /// A field that is not set, when defaults are wanted.
    fn default(&mut self, field: Field, members: &mut Members) -> Result<()> {
        if field.has_presence() {
            return Ok(());
        }
        self.key(members, field.name())?;
        if field.map_entry().is_some() {
            self.out.write_str("{}")?;
        } else if field.is_repeated() {
            self.out.write_str("[]")?;
        } else {
            self.scalar(field.kind(), Scalar::default_of(field.kind()), false)?;
        }
        Ok(())
    }
}

/// Whether redaction leaves out the field: what has no text to replace.
fn is_cleared(field: Field) -> bool {
    !matches!(field.kind(), Kind::String | Kind::Bytes | Kind::Message(_))
}

/// How many members an object or list has so far.
struct Members(usize);

#[cfg(test)]
mod tests;
