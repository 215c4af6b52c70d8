//! The messages with a JSON form of their own.

use std::borrow::Cow;

use super::Encoder;
use super::scalar::Scalar;
use crate::path::Path;
use crate::schema::{Kind, Message, WellKnown};
use crate::text::{Node, Object, Shortened, Value};
use crate::time;

impl Encoder {
    pub(super) fn well_known(&mut self, message: Message, node: Node<'_>, at: &Path<'_>) {
        match (message.well_known(), node.value()) {
            (Some(WellKnown::Any), Value::Object(object)) => self.any(node, object, at),
            // Envoy's parser takes the plain form of these messages too.
            (Some(WellKnown::Duration | WellKnown::Timestamp | WellKnown::Wrapper), Value::Object(object)) => {
                self.fields(message, object, false, at);
            }
            (Some(WellKnown::Duration), _) => {
                self.seconds_and_nanos(node, time::parse_duration, "a duration such as \"1.5s\"", at)
            }
            (Some(WellKnown::Timestamp), _) => {
                self.seconds_and_nanos(node, time::parse_timestamp, "a time such as \"2024-05-01T12:00:00Z\"", at);
            }
            (Some(WellKnown::FieldMask), Value::String(text)) => self.field_mask(text),
            (Some(WellKnown::FieldMask), _) => {
                self.problem(node, at, "field names separated by commas", node.to_string())
            }
            (Some(WellKnown::Struct), Value::Object(object)) => self.structure(object, at),
            (Some(WellKnown::Value), _) => self.value(node, at),
            (Some(WellKnown::ListValue), Value::Array(items)) => self.list(items.iter(), at),
            (Some(WellKnown::ListValue), _) => self.problem(node, at, "a list", node.to_string()),
            (Some(WellKnown::Wrapper), _) => {
                if let Some(field) = message.field_by_number(1) {
                    self.singular(field, node, at);
                }
            }
            _ => self.problem(node, at, format!("an object ({})", message.full_name()), node.to_string()),
        }
    }

    fn seconds_and_nanos(
        &mut self,
        node: Node<'_>,
        parse: fn(&str) -> Option<(i64, i32)>,
        expected: &str,
        at: &Path<'_>,
    ) {
        let Some((seconds, nanos)) = node.as_str().and_then(parse) else {
            return self.problem(node, at, expected, node.to_string());
        };
        for (number, value) in [(1, seconds), (2, i64::from(nanos))] {
            if value != 0 {
                self.tag(number, 0);
                Scalar::Varint(value as u64).write(&mut self.out);
            }
        }
    }

    fn field_mask(&mut self, text: &str) {
        for path in text.split(',').filter(|path| !path.is_empty()) {
            let mut snake = String::with_capacity(path.len());
            for c in path.chars() {
                if c.is_ascii_uppercase() {
                    snake.push('_');
                }
                snake.push(c.to_ascii_lowercase());
            }
            self.text(1, &snake);
        }
    }

    fn text(&mut self, number: u32, text: &str) {
        self.tag(number, 2);
        Scalar::Bytes(Cow::Borrowed(text.as_bytes())).write(&mut self.out);
    }

    fn structure(&mut self, object: Object<'_>, at: &Path<'_>) {
        for (key, value) in object.iter() {
            if self.full() {
                return;
            }
            let name = key.as_str().unwrap_or_default();
            let at = &at.key(name);
            self.nested(1, value, at, |this| {
                if !name.is_empty() {
                    this.text(1, name);
                }
                this.nested(2, value, at, |this| this.value(value, at));
            });
        }
    }

    fn list<'t>(&mut self, items: impl Iterator<Item = Node<'t>>, at: &Path<'_>) {
        for (i, item) in items.enumerate() {
            if self.full() {
                return;
            }
            let at = &at.index(i);
            self.nested(1, item, at, |this| this.value(item, at));
        }
    }

    /// `google.protobuf.Value`: its kind is a oneof, so that defaults are written too.
    fn value(&mut self, node: Node<'_>, at: &Path<'_>) {
        match node.value() {
            Value::Null => self.out.extend_from_slice(&[1 << 3, 0]),
            Value::Bool(value) => self.out.extend_from_slice(&[4 << 3, u8::from(value)]),
            Value::String(text) => self.text(3, text),
            Value::Number(_) => {
                if let Some(number) = self.scalar(Kind::Double, node, at) {
                    self.tag(2, number.wire_type());
                    number.write(&mut self.out);
                }
            }
            Value::Object(object) => self.nested(5, node, at, |this| this.structure(object, at)),
            Value::Array(items) => self.nested(6, node, at, |this| this.list(items.iter(), at)),
        }
    }

    fn any(&mut self, node: Node<'_>, object: Object<'_>, at: &Path<'_>) {
        let Some(type_node) = object.get("@type") else {
            if !object.is_empty() {
                self.problem(node, at, "\"@type\" with the type of the message", "an object without it");
            }
            return;
        };
        let url = type_node.as_str().unwrap_or_default();
        if url.find('/').unwrap_or(0) == 0 {
            return self.problem(
                type_node,
                at,
                "a type URL such as \"type.googleapis.com/NAME\"",
                type_node.to_string(),
            );
        }
        let Some(message) = Message::find_url(url) else {
            return self.unknown_type(node, type_node, object, url, at);
        };
        self.text(1, url);
        self.nested(2, node, at, |this| match message.has_special_json() {
            true => this.special_in_any(message, node, object, at),
            false => this.fields(message, object, true, at),
        });
    }

    /// `{"@type": …, "value": the message's own form}`
    fn special_in_any(&mut self, message: Message, node: Node<'_>, object: Object<'_>, at: &Path<'_>) {
        let mut value = None;
        for (key, node) in object.iter() {
            match key.as_str() {
                Some("@type") => {}
                Some("value") => value = Some(node),
                _ => {
                    let expected = format!("only \"@type\" and \"value\" ({})", message.full_name());
                    self.problem(key, at, expected, format!("\"{}\"", Shortened(key.as_str().unwrap_or_default())));
                }
            }
        }
        match value {
            Some(value) => self.message(message, value, &at.field("value")),
            None => self.problem(node, at, format!("\"value\" ({})", message.full_name()), "an object without it"),
        }
    }

    fn unknown_type(&mut self, node: Node<'_>, type_node: Node<'_>, object: Object<'_>, url: &str, at: &Path<'_>) {
        if !self.options.keep_unknown_any {
            let expected = "a known message type in \"@type\"";
            return self.problem(type_node, at, expected, format!("\"{url}\""));
        }
        self.text(1, "type.googleapis.com/xds.type.v3.TypedStruct");
        self.nested(2, node, at, |this| {
            this.text(1, url);
            this.nested(2, node, at, |this| {
                for (key, value) in object.iter().filter(|(key, _)| key.as_str() != Some("@type")) {
                    this.nested(1, value, at, |this| {
                        this.text(1, key.as_str().unwrap_or_default());
                        this.nested(2, value, at, |this| this.value(value, at));
                    });
                }
            });
        });
    }
}
