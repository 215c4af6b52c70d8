//! Shows every field that is set in a message to a visitor, for checks over whole configurations.
//!
//! The proxy refuses fields that it does not support with this: a visitor knows which fields of each message are used or
//! may be ignored, and gets the path of each other one. Works on wire bytes; Anys and TypedStructs are looked into. Nothing
//! is decoded that the visitor does not want to see.

use std::borrow::Cow;
use std::ops::Range;

use crate::path::Path;
use crate::problem::Problem;
use crate::schema::{Field, Message, WellKnown};
use crate::typed_struct;
use crate::wire::{self, MAX_DEPTH, Malformed, Scalar, Stack};

/// What to do with the message (or messages) in a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Look {
    Into,
    Past,
}

/// Who is shown the fields. Paths are those of configuration text, see [`Path`].
pub trait Visitor {
    /// A field that is set: once for a list or a map, whatever its length. `Field::parent` is the message it belongs to.
    fn field(&mut self, field: Field, at: &Path<'_>) -> Look;

    /// The message in an Any, or described by a TypedStruct in it; `None` if the type is unknown. `at` is the path of the
    /// Any.
    fn any(&mut self, type_url: &str, message: Option<Message>, at: &Path<'_>) -> Look;

    /// A field on the wire that the schema does not have: `at` is the path of its message.
    fn unknown_field(&mut self, message: Message, number: u32, at: &Path<'_>);
}

/// Walks through the message with this full name, fields in the order of their numbers.
///
/// Ends with the first part that cannot be read: malformed bytes, a TypedStruct that does not fit its type.
pub fn walk(message: &str, wire: &[u8], visitor: &mut dyn Visitor) -> Result<(), Box<Problem>> {
    let Some(message) = Message::find(message) else {
        return Err(Box::new(Problem::new("", "a message of the API", format!("\"{message}\""))));
    };
    Walker { visitor, depth: 0 }.message(&mut Stack::default(), message, wire, &Path::ROOT)
}

struct Walker<'v> {
    visitor: &'v mut dyn Visitor,
    depth: usize,
}

type Walked = Result<(), Box<Problem>>;

impl Walker<'_> {
    fn message<'a>(&mut self, stack: &mut Stack<'a>, message: Message, bytes: &'a [u8], at: &Path<'_>) -> Walked {
        let malformed = |_| {
            let expected = format!("a well-formed {}", message.full_name());
            Box::new(Problem::new(at.to_string(), expected, "other bytes"))
        };
        if self.depth >= MAX_DEPTH {
            return Err(malformed(Malformed));
        }
        self.depth += 1;
        match message.well_known() {
            Some(WellKnown::Any) => {
                let (type_url, value) = wire::any_parts(bytes).map_err(malformed)?;
                self.any(stack, type_url, value, at)?;
            }
            Some(WellKnown::TypedStruct) => self.typed_struct(bytes, at)?,
            // Their form is not made of fields that somebody could support.
            Some(_) => {}
            None => {
                let visitor = &mut *self.visitor;
                let range = stack
                    .open(message, bytes, &mut |number| visitor.unknown_field(message, number, at))
                    .map_err(malformed)?;
                let mut next = range.start;
                while let Some(entry) = stack.get(next).filter(|_| next < range.end) {
                    let end = stack.group_end(&range, next);
                    self.field(stack, entry.field, next..end, &at.field(entry.field.name()))?;
                    next = end;
                }
                stack.close(&range);
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn field<'a>(&mut self, stack: &mut Stack<'a>, field: Field, group: Range<usize>, at: &Path<'_>) -> Walked {
        let is_default = |stack: &Stack<'a>| {
            let last = stack.singular(group.clone()).and_then(|(entry, _)| entry.scalar().ok());
            last.is_some_and(Scalar::is_default)
        };
        if !field.has_presence() && !field.is_repeated() && is_default(stack) {
            return Ok(());
        }
        if self.visitor.field(field, at) == Look::Past {
            return Ok(());
        }
        let Some(message) = field.message() else { return Ok(()) };
        if let Some((key, value)) = field.map_entry() {
            let Some(message) = value.message() else { return Ok(()) };
            return self.map(stack, key, message, group, at);
        }
        if !field.is_repeated() {
            return match stack.singular(group) {
                Some((_, Cow::Borrowed(bytes))) => self.message(stack, message, bytes, at),
                Some((_, Cow::Owned(merged))) => self.message(&mut Stack::default(), message, &merged, at),
                None => Ok(()),
            };
        }
        for (index, i) in group.enumerate() {
            let Some(entry) = stack.get(i) else { break };
            self.message(stack, message, entry.bytes(), &at.index(index))?;
        }
        Ok(())
    }

    fn map<'a>(
        &mut self,
        stack: &mut Stack<'a>,
        key: Field,
        message: Message,
        group: Range<usize>,
        at: &Path<'_>,
    ) -> Walked {
        for i in group {
            let Some(entry) = stack.get(i) else { break };
            let malformed = |_| Box::new(Problem::new(at.to_string(), "a well-formed map entry", "other bytes"));
            let range = stack.open(key.parent(), entry.bytes(), &mut |_| {}).map_err(malformed)?;
            let (mut name, mut content) = (Scalar::default_of(key.kind()), &[][..]);
            for part in range.clone().filter_map(|i| stack.get(i)) {
                if part.field == key {
                    name = part.scalar().map_err(malformed)?;
                } else {
                    content = part.bytes();
                }
            }
            let text = match name {
                Scalar::Text(text) => Cow::Borrowed(text),
                other => Cow::Owned(crate::rules::shown(key.kind(), other)),
            };
            self.message(stack, message, content, &at.key(&text))?;
            stack.close(&range);
        }
        Ok(())
    }

    fn any<'a>(&mut self, stack: &mut Stack<'a>, type_url: &str, value: &'a [u8], at: &Path<'_>) -> Walked {
        let message = Message::find_url(type_url);
        if message.and_then(Message::well_known) == Some(WellKnown::TypedStruct) {
            return self.typed_struct(value, at);
        }
        match (self.visitor.any(type_url, message, at), message) {
            (Look::Into, Some(message)) if message.has_special_json() => {
                self.message(stack, message, value, &at.field("value"))
            }
            (Look::Into, Some(message)) => self.message(stack, message, value, at),
            _ => Ok(()),
        }
    }

    fn typed_struct(&mut self, bytes: &[u8], at: &Path<'_>) -> Walked {
        let type_url = wire::any_parts(bytes).map_or("", |(url, _)| url);
        if Message::find_url(type_url).is_none() {
            self.visitor.any(type_url, None, at);
            return Ok(());
        }
        let value = &at.field("value");
        let (type_url, inner) = typed_struct::unwrap(bytes).map_err(|problems| {
            let first = problems.into_iter().next();
            let mut problem = first.unwrap_or_else(|| Problem::new("", "a TypedStruct", "other bytes"));
            problem.path = value.field(&problem.path).to_string();
            Box::new(problem)
        })?;
        self.any(&mut Stack::default(), &type_url, &inner, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{Options, to_wire};
    use crate::text::{Format, parse};

    /// Writes down what it is shown.
    #[derive(Default)]
    struct Notes {
        lines: Vec<String>,
        past: Option<&'static str>,
    }

    impl Visitor for Notes {
        fn field(&mut self, field: Field, at: &Path<'_>) -> Look {
            self.lines.push(at.to_string());
            if self.past == Some(field.name()) { Look::Past } else { Look::Into }
        }

        fn any(&mut self, type_url: &str, message: Option<Message>, at: &Path<'_>) -> Look {
            self.lines.push(format!("{at} = {type_url} {}", message.map_or("?", Message::name)));
            Look::Into
        }

        fn unknown_field(&mut self, message: Message, number: u32, at: &Path<'_>) {
            self.lines.push(format!("{at} {} {number}", message.name()));
        }
    }

    fn wire(message: &str, text: &str) -> Vec<u8> {
        to_wire(parse(text, Format::Auto).unwrap().root(), message, &Options::default()).unwrap().0
    }

    fn walked(message: &str, bytes: &[u8]) -> Vec<String> {
        let mut notes = Notes::default();
        walk(message, bytes, &mut notes).unwrap();
        notes.lines
    }

    const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";

    #[test]
    fn shows_every_field_that_is_set() {
        let text = "name: x\ntype: STATIC\nlb_policy: ROUND_ROBIN\nconnect_timeout: 1s\n\
            load_assignment: {cluster_name: x, endpoints: [{}, {lb_endpoints: [{}], priority: 1}]}\n\
            typed_extension_protocol_options: {a.b: {'@type': t/envoy.config.core.v3.Node, id: i}, c: {'@type': t/google.protobuf.Duration, value: 1s}}\n\
            transport_socket: {name: t, typed_config: {'@type': t/no.Such}}\n";
        let options = Options { keep_unknown_any: true, ..Options::default() };
        let (bytes, _) = to_wire(parse(text, Format::Yaml).unwrap().root(), CLUSTER, &options).unwrap();
        assert_eq!(
            walked(CLUSTER, &bytes),
            [
                "name",
                "type",
                "connect_timeout",
                "transport_socket",
                "transport_socket.name",
                "transport_socket.typed_config",
                "transport_socket.typed_config = t/no.Such ?",
                "load_assignment",
                "load_assignment.cluster_name",
                "load_assignment.endpoints",
                "load_assignment.endpoints[1].lb_endpoints",
                "load_assignment.endpoints[1].priority",
                "typed_extension_protocol_options",
                "typed_extension_protocol_options[\"a.b\"] = t/envoy.config.core.v3.Node Node",
                "typed_extension_protocol_options[\"a.b\"].id",
                "typed_extension_protocol_options[\"c\"] = t/google.protobuf.Duration Duration",
            ]
        );
    }

    #[test]
    fn a_visitor_may_look_past() {
        let bytes = wire(CLUSTER, "name: x\nload_assignment: {cluster_name: x}\nlb_policy: MAGLEV");
        let mut notes = Notes { past: Some("load_assignment"), ..Notes::default() };
        walk(CLUSTER, &bytes, &mut notes).unwrap();
        assert_eq!(notes.lines, ["name", "lb_policy", "load_assignment"]);
    }

    #[test]
    fn typed_structs_are_walked_as_what_they_describe() {
        let any =
            "{'@type': t/xds.type.v3.TypedStruct, type_url: t/envoy.config.core.v3.Node, value: {locality: {zone: z}}}";
        let bytes = wire("google.protobuf.Any", any);
        assert_eq!(
            walked("google.protobuf.Any", &bytes),
            ["value = t/envoy.config.core.v3.Node Node", "value.locality", "value.locality.zone"]
        );
        let wrong = "{'@type': t/xds.type.v3.TypedStruct, type_url: t/envoy.config.core.v3.Node, value: {idd: z}}";
        let problem =
            walk("google.protobuf.Any", &wire("google.protobuf.Any", wrong), &mut Notes::default()).unwrap_err();
        assert!(
            problem.to_string().starts_with("value.idd: expected a field of envoy.config.core.v3.Node"),
            "{problem}"
        );
    }

    #[test]
    fn unknown_fields_and_malformed_bytes() {
        let bytes = [0x0a, 1, b'x', 0xf8, 0x07, 5];
        assert_eq!(walked("envoy.config.core.v3.Node", &bytes), [" Node 127", "id"]);
        let problem = walk("envoy.config.core.v3.Node", &[0x0a, 9], &mut Notes::default()).unwrap_err();
        assert_eq!(problem.to_string(), "expected a well-formed envoy.config.core.v3.Node, got other bytes");
        // locality { region: <cut> }
        let problem = walk("envoy.config.core.v3.Node", &[0x22, 2, 0x0a, 9], &mut Notes::default()).unwrap_err();
        assert_eq!(problem.path, "locality");
        assert!(walk("no.Such", &[], &mut Notes::default()).is_err());
    }

    #[test]
    fn every_message_can_be_walked_when_empty() {
        for message in Message::all() {
            let mut notes = Notes::default();
            walk(message.full_name(), &[], &mut notes).unwrap();
            assert!(notes.lines.len() <= 1, "{message:?}");
        }
    }
}
