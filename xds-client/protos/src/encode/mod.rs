//! Protobuf JSON to wire bytes: what Envoy's `MessageUtil::loadFromYaml` and `loadFromJson` do.
//!
//! Both spellings of field names, enums by name in any case or by number, 64-bit integers as strings, the JSON forms of the
//! well-known types, Anys with `@type` wherever it stands in the object. Where Envoy's parser is in its lenient mode so are we:
//! `{seconds: 1}` for a Duration, `{value: 5}` for a wrapper, `"true"` for a bool. Different from it, `null` in a list is refused,
//! and so is a field set in both spellings.
//!
//! All mistakes are reported, up to a bound, with line and path. Fields at their default without presence are left out, so
//! that the bytes of a base and of an overlay in a row decode to what Envoy's `MergeFrom` makes of them.

mod scalar;
mod well_known;

use std::borrow::Cow;

use crate::path::Path;
use crate::problem::{Problem, did_you_mean};
use crate::schema::{Field, Kind, Message, WellKnown};
use crate::text::{Node, Object, Shortened, Value};
use crate::wire;
use scalar::Scalar;

/// More problems than this are not collected.
pub const MAX_PROBLEMS: usize = 20;

/// What to let pass.
#[derive(Clone, Copy, Default, Debug)]
pub struct Options {
    /// Unknown fields are left out with a warning (`--allow-unknown-static-fields`).
    pub allow_unknown: bool,
    /// An Any of an unknown type becomes an `xds.type.v3.TypedStruct` of that type, which whoever uses it can refuse or
    /// ignore (`is_optional`), instead of a problem.
    pub keep_unknown_any: bool,
}

/// The wire bytes of the message that `node` describes, and warnings.
///
/// Problems come in the order of the text. `message` is a full name; an unknown one is a problem too.
pub fn to_wire(node: Node<'_>, message: &str, options: &Options) -> Result<(Vec<u8>, Vec<Problem>), Vec<Problem>> {
    let Some(message) = Message::find(message) else {
        return Err(vec![Problem::new("", "a message of the API", format!("\"{message}\""))]);
    };
    let mut encoder =
        Encoder { out: Vec::new(), problems: Vec::new(), warnings: Vec::new(), options: *options, depth: 0 };
    encoder.message(message, node, &Path::ROOT);
    if encoder.problems.is_empty() { Ok((encoder.out, encoder.warnings)) } else { Err(encoder.problems) }
}

struct Encoder {
    out: Vec<u8>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    options: Options,
    depth: usize,
}

/// Which fields of a message have been set; no message has more than 256.
#[derive(Default)]
struct Seen([u64; 4]);

impl Seen {
    /// Whether the field was not set before.
    fn insert(&mut self, index: usize) -> bool {
        let Some(word) = self.0.get_mut(index / 64) else { return true };
        let bit = 1 << (index % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn contains(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

impl Encoder {
    /// Whether to go on collecting.
    fn full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    fn problem(&mut self, node: Node<'_>, at: &Path<'_>, expected: impl Into<String>, got: impl Into<String>) {
        self.report(node, Problem::new(at.to_string(), expected, got));
    }

    fn report(&mut self, node: Node<'_>, problem: Problem) {
        if !self.full() {
            self.problems.push(problem.at_node(node));
        }
    }

    /// The contents of a message, without tag and length.
    fn message(&mut self, message: Message, node: Node<'_>, at: &Path<'_>) {
        if message.has_special_json() {
            return self.well_known(message, node, at);
        }
        match node.value() {
            Value::Object(object) => self.fields(message, object, false, at),
            _ => self.problem(node, at, format!("an object ({})", message.full_name()), node.to_string()),
        }
    }

    /// The fields of an object; inside an Any without its `@type`.
    fn fields(&mut self, message: Message, object: Object<'_>, in_any: bool, at: &Path<'_>) {
        let mut seen = Seen::default();
        for (key, value) in object.iter() {
            if self.full() {
                return;
            }
            let name = key.as_str().unwrap_or_default();
            if in_any && name == "@type" {
                continue;
            }
            let Some(field) = message.field_by_name(name) else {
                self.unknown_field(message, key, name, at);
                continue;
            };
            if is_unset(field, value) {
                continue;
            }
            let at = at.field(field.name());
            if self.is_set_once(message, field, key, &mut seen, &at) {
                self.field(field, value, &at);
            }
        }
    }

    fn is_set_once(&mut self, message: Message, field: Field, key: Node<'_>, seen: &mut Seen, at: &Path<'_>) -> bool {
        let index = message.index_of(field);
        if let Some(oneof) = field.oneof() {
            let other = message
                .fields()
                .enumerate()
                .find(|(i, f)| *i != index && f.oneof() == Some(oneof) && seen.contains(*i));
            if let Some((_, other)) = other {
                let expected = format!("one field of the oneof {}", oneof.name());
                self.problem(key, at, expected, format!("\"{}\" after \"{}\"", field.name(), other.name()));
                return false;
            }
        }
        if !seen.insert(index) {
            self.problem(
                key,
                at,
                "the field once",
                format!("it as both \"{}\" and \"{}\"", field.name(), field.json_name()),
            );
            return false;
        }
        true
    }

    fn unknown_field(&mut self, message: Message, key: Node<'_>, name: &str, at: &Path<'_>) {
        let path = at.field(&Shortened(name).to_string()).to_string();
        let got = format!("the unknown field \"{}\"", Shortened(name));
        let mut problem = Problem::new(path, format!("a field of {}", message.full_name()), got);
        let names = message.fields().map(Field::name);
        if let Some(meant) = did_you_mean(name, names.clone()) {
            problem = problem.hint(format!("did you mean \"{meant}\"?"));
        } else if names.len() == 0 {
            problem = problem.hint("it has no fields");
        } else if names.len() <= 8 {
            problem = problem.hint(format!("it has {}", names.collect::<Vec<_>>().join(", ")));
        }
        if !self.options.allow_unknown {
            self.report(key, problem);
        } else if self.warnings.len() < MAX_PROBLEMS {
            self.warnings.push(problem.at_node(key));
        }
    }

    fn field(&mut self, field: Field, node: Node<'_>, at: &Path<'_>) {
        if let Some((key, value)) = field.map_entry() {
            return match node.value() {
                Value::Object(object) => self.map(field, key, value, object, at),
                _ => self.problem(node, at, "an object (a map)", node.to_string()),
            };
        }
        if !field.is_repeated() {
            return self.singular(field, node, at);
        }
        let Value::Array(items) = node.value() else {
            return self.problem(node, at, "a list", node.to_string());
        };
        if field.is_packed() {
            return self.nested(field.number(), node, at, |this| this.items(field, items.iter(), true, at));
        }
        self.items(field, items.iter(), false, at);
    }

    fn items<'t>(&mut self, field: Field, items: impl Iterator<Item = Node<'t>>, packed: bool, at: &Path<'_>) {
        for (i, item) in items.enumerate() {
            if self.full() {
                return;
            }
            let at = &at.index(i);
            match field.kind() {
                Kind::Message(message) if !matches!(item.value(), Value::Null) || takes_null(message) => {
                    self.nested(field.number(), item, at, |this| this.message(message, item, at));
                }
                Kind::Message(message) => {
                    self.problem(item, at, format!("an object ({})", message.full_name()), "null")
                }
                kind => {
                    if let Some(value) = self.scalar(kind, item, at) {
                        if !packed {
                            self.tag(field.number(), value.wire_type());
                        }
                        value.write(&mut self.out);
                    }
                }
            }
        }
    }

    fn map(&mut self, field: Field, key: Field, value: Field, object: Object<'_>, at: &Path<'_>) {
        for (key_node, node) in object.iter() {
            if self.full() {
                return;
            }
            let at = &at.key(key_node.as_str().unwrap_or_default());
            self.nested(field.number(), node, at, |this| {
                if let Some(text) = this.map_key(key.kind(), key_node, at) {
                    this.default_or(key, text);
                }
                match value.kind() {
                    Kind::Message(message) if matches!(node.value(), Value::Null) && !takes_null(message) => {
                        this.problem(node, at, format!("an object ({})", message.full_name()), "null");
                    }
                    _ => this.singular(value, node, at),
                }
            });
        }
    }

    fn singular(&mut self, field: Field, node: Node<'_>, at: &Path<'_>) {
        match field.kind() {
            Kind::Message(message) => self.nested(field.number(), node, at, |this| this.message(message, node, at)),
            kind => {
                if let Some(value) = self.scalar(kind, node, at) {
                    self.default_or(field, value);
                }
            }
        }
    }

    /// Writes a scalar unless it is what its absence means.
    fn default_or(&mut self, field: Field, value: Scalar<'_>) {
        if field.has_presence() || !value.is_default() {
            self.tag(field.number(), value.wire_type());
            value.write(&mut self.out);
        }
    }

    fn tag(&mut self, number: u32, wire_type: u8) {
        wire::write_tag(number, wire_type, &mut self.out);
    }

    /// A length-delimited field whose contents `write` appends.
    fn nested(&mut self, number: u32, node: Node<'_>, at: &Path<'_>, write: impl FnOnce(&mut Self)) {
        if self.depth >= wire::MAX_DEPTH {
            return self.problem(
                node,
                at,
                format!("at most {} messages within each other", wire::MAX_DEPTH),
                "one more",
            );
        }
        self.tag(number, 2);
        let start = self.out.len();
        self.out.push(0);
        self.depth += 1;
        write(self);
        self.depth -= 1;
        wire::close_nested(start, &mut self.out);
    }

    fn scalar<'t>(&mut self, kind: Kind, node: Node<'t>, at: &Path<'_>) -> Option<Scalar<'t>> {
        match scalar::read(kind, node) {
            Ok(value) => Some(value),
            Err(mistake) => {
                let mut problem = Problem::new(at.to_string(), mistake.expected, node.to_string());
                problem.hint = mistake.hint;
                self.report(node, problem);
                None
            }
        }
    }

    /// Keys are strings in JSON, whatever the key of the map is.
    fn map_key<'t>(&mut self, kind: Kind, node: Node<'t>, at: &Path<'_>) -> Option<Scalar<'t>> {
        let text = node.as_str().unwrap_or_default();
        match (kind, text) {
            (Kind::String, _) => Some(Scalar::Bytes(Cow::Borrowed(text.as_bytes()))),
            (Kind::Bool, "true") => Some(Scalar::Varint(1)),
            (Kind::Bool, "false") => Some(Scalar::Varint(0)),
            _ => self.scalar(kind, node, at),
        }
    }
}

/// `null` leaves a field unset, unless it is a value in itself.
fn is_unset(field: Field, node: Node<'_>) -> bool {
    if !matches!(node.value(), Value::Null) {
        return false;
    }
    match field.kind() {
        Kind::Message(message) => field.is_repeated() || !takes_null(message),
        Kind::Enum(kind) => !kind.is_null_value(),
        _ => true,
    }
}

fn takes_null(message: Message) -> bool {
    message.well_known() == Some(WellKnown::Value)
}

#[cfg(test)]
mod tests;
