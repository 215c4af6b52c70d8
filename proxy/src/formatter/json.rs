//! `json_format`: a tree of formats that is written as one JSON object a line.
//!
//! A string that is a single operator keeps the operator's type (`%RESPONSE_CODE%` is a number, a missing value `null`); any
//! other string is text. Keys come in the order of their bytes, as in Envoy.

use prost_types::value::Kind;
use prost_types::{Struct, Value};

use super::command::Extensions;
use super::text::{Formatter, Piece};
use super::write::{Written, escape_json, push_double, push_json};
use crate::access_log::LogContext;

pub struct JsonFormatter {
    root: Box<[(Box<[u8]>, Node)]>,
}

enum Node {
    /// Each key is written with its quotes and colon.
    Struct(Box<[(Box<[u8]>, Node)]>),
    List(Box<[Node]>),
    Format(Formatter),
    /// JSON as it stands.
    Literal(Box<[u8]>),
    Null,
}

impl JsonFormatter {
    /// # Errors
    /// Those of [`Formatter::parse`].
    pub fn build(format: &Struct, extensions: Extensions) -> Result<JsonFormatter, String> {
        Ok(JsonFormatter { root: fields(format, extensions)? })
    }

    /// Appends the object, without a line break. With `omit_empty` keys and elements without a value are left out, and objects
    /// of which nothing is left.
    pub fn write(&self, cx: &LogContext<'_>, omit_empty: bool, out: &mut Vec<u8>) {
        let start = out.len();
        if !write_fields(&self.root, cx, omit_empty, out) {
            out.truncate(start);
            out.extend_from_slice(b"{}");
        }
    }
}

/// A key, quoted and with its colon, and what follows it.
type Entry = (Box<[u8]>, Node);

fn fields(format: &Struct, extensions: Extensions) -> Result<Box<[Entry]>, String> {
    let built = format.fields.iter().map(|(key, value)| {
        let mut quoted = vec![b'"'];
        push_json(&mut quoted, key.as_bytes());
        quoted.extend_from_slice(b"\":");
        Ok((quoted.into(), Node::build(value, extensions)?))
    });
    built.collect()
}

impl Node {
    fn build(value: &Value, extensions: Extensions) -> Result<Node, String> {
        Ok(match &value.kind {
            None | Some(Kind::NullValue(_)) => Node::Null,
            Some(Kind::BoolValue(value)) => Node::Literal(value.to_string().into_bytes().into()),
            Some(Kind::NumberValue(number)) => {
                let mut text = Vec::new();
                push_double(&mut text, *number);
                Node::Literal(text.into())
            }
            Some(Kind::StringValue(format)) => Node::Format(Formatter::parse(format, extensions)?),
            Some(Kind::StructValue(inner)) => Node::Struct(fields(inner, extensions)?),
            Some(Kind::ListValue(list)) => {
                Node::List(list.values.iter().map(|value| Node::build(value, extensions)).collect::<Result<_, _>>()?)
            }
        })
    }

    /// False when nothing was written because there is no value and it is to be omitted.
    fn write(&self, cx: &LogContext<'_>, omit_empty: bool, out: &mut Vec<u8>) -> bool {
        match self {
            Node::Struct(fields) => write_fields(fields, cx, omit_empty, out),
            Node::List(items) => {
                out.push(b'[');
                let start = out.len();
                for item in items {
                    let before = out.len();
                    if before > start {
                        out.push(b',');
                    }
                    if !item.write(cx, omit_empty, out) {
                        out.truncate(before);
                    }
                }
                out.push(b']');
                true
            }
            Node::Literal(json) => {
                out.extend_from_slice(json);
                true
            }
            Node::Null => write_null(omit_empty, out),
            Node::Format(format) => write_format(format, cx, omit_empty, out),
        }
    }
}

fn write_null(omit_empty: bool, out: &mut Vec<u8>) -> bool {
    if !omit_empty {
        out.extend_from_slice(b"null");
    }
    !omit_empty
}

/// False, and nothing is left in `out`, when all of the fields were omitted.
fn write_fields(fields: &[(Box<[u8]>, Node)], cx: &LogContext<'_>, omit_empty: bool, out: &mut Vec<u8>) -> bool {
    let object = out.len();
    out.push(b'{');
    let start = out.len();
    for (key, value) in fields {
        let before = out.len();
        if before > start {
            out.push(b',');
        }
        out.extend_from_slice(key);
        if !value.write(cx, omit_empty, out) {
            out.truncate(before);
        }
    }
    if omit_empty && out.len() == start {
        out.truncate(object);
        return false;
    }
    out.push(b'}');
    true
}

fn write_format(format: &Formatter, cx: &LogContext<'_>, omit_empty: bool, out: &mut Vec<u8>) -> bool {
    if let [Piece::Command(command)] = &*format.pieces {
        let quote = out.len();
        out.push(b'"');
        let start = out.len();
        match command.write_value(cx, out) {
            Written::Missing => {
                out.truncate(quote);
                return write_null(omit_empty, out);
            }
            Written::Number | Written::Json => {
                out.remove(quote);
            }
            Written::Text => {
                escape_json(out, start);
                out.push(b'"');
            }
        }
        return true;
    }
    out.push(b'"');
    for piece in &format.pieces {
        let start = out.len();
        match piece {
            Piece::Text(text) => out.extend_from_slice(text),
            Piece::Command(command) => {
                if command.write_text(cx, out) == Written::Missing && !omit_empty {
                    out.push(b'-');
                }
            }
        }
        escape_json(out, start);
    }
    out.push(b'"');
    true
}
