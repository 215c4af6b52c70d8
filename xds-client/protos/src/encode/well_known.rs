//! The messages with a JSON form of their own.

use std::borrow::Cow;

use super::Encoder;
use super::scalar::Scalar;
use crate::path::Step;
use crate::schema::{Kind, Message, WellKnown};
use crate::text::{Node, Object, Shortened, Value};
use crate::time;

impl<'t> Encoder<'t> {
    pub(super) fn well_known(&mut self, message: Message, node: Node<'t>) {
        match (message.well_known(), node.value()) {
            (Some(WellKnown::Any), Value::Object(object)) => self.any(node, object),
            // Envoy's parser takes the plain form of these messages too.
            (Some(WellKnown::Duration | WellKnown::Timestamp | WellKnown::Wrapper), Value::Object(object)) => {
                self.fields(message, object, false);
            }
            (Some(WellKnown::Duration), _) => {
                self.seconds_and_nanos(node, time::parse_duration, "a duration such as \"1.5s\"")
            }
            (Some(WellKnown::Timestamp), _) => {
                self.seconds_and_nanos(node, time::parse_timestamp, "a time such as \"2024-05-01T12:00:00Z\"");
            }
            (Some(WellKnown::FieldMask), Value::String(text)) => self.field_mask(text),
            (Some(WellKnown::FieldMask), _) => self.problem(node, "field names separated by commas", node.to_string()),
            (Some(WellKnown::Struct), Value::Object(object)) => self.structure(object),
            (Some(WellKnown::Value), _) => self.value(node),
            (Some(WellKnown::ListValue), Value::Array(items)) => self.list(items.iter()),
            (Some(WellKnown::ListValue), _) => self.problem(node, "a list", node.to_string()),
            (Some(WellKnown::Wrapper), _) => {
                if let Some(field) = message.field_by_number(1) {
                    self.singular(field, node);
                }
            }
            _ => self.problem(node, format!("an object ({})", message.full_name()), node.to_string()),
        }
    }

    fn seconds_and_nanos(&mut self, node: Node<'t>, parse: fn(&str) -> Option<(i64, i32)>, expected: &str) {
        let Some((seconds, nanos)) = node.as_str().and_then(parse) else {
            return self.problem(node, expected, node.to_string());
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

    fn structure(&mut self, object: Object<'t>) {
        for (key, value) in object.iter() {
            if self.full() {
                return;
            }
            let name = key.as_str().unwrap_or_default();
            self.path.push(Step::Key(name));
            self.nested(1, value, |this| {
                if !name.is_empty() {
                    this.text(1, name);
                }
                this.nested(2, value, |this| this.value(value));
            });
            self.path.pop();
        }
    }

    fn list(&mut self, items: impl Iterator<Item = Node<'t>>) {
        for (i, item) in items.enumerate() {
            if self.full() {
                return;
            }
            self.path.push(Step::Index(i));
            self.nested(1, item, |this| this.value(item));
            self.path.pop();
        }
    }

    /// `google.protobuf.Value`: its kind is a oneof, so that defaults are written too.
    fn value(&mut self, node: Node<'t>) {
        match node.value() {
            Value::Null => self.out.extend_from_slice(&[1 << 3, 0]),
            Value::Bool(value) => self.out.extend_from_slice(&[4 << 3, u8::from(value)]),
            Value::String(text) => self.text(3, text),
            Value::Number(_) => {
                if let Some(number) = self.scalar(Kind::Double, node) {
                    self.tag(2, number.wire_type());
                    number.write(&mut self.out);
                }
            }
            Value::Object(object) => self.nested(5, node, |this| this.structure(object)),
            Value::Array(items) => self.nested(6, node, |this| this.list(items.iter())),
        }
    }

    fn any(&mut self, node: Node<'t>, object: Object<'t>) {
        let Some(type_node) = object.get("@type") else {
            if !object.is_empty() {
                self.problem(node, "\"@type\" with the type of the message", "an object without it");
            }
            return;
        };
        let url = type_node.as_str().unwrap_or_default();
        if url.find('/').unwrap_or(0) == 0 {
            return self.problem(type_node, "a type URL such as \"type.googleapis.com/NAME\"", type_node.to_string());
        }
        let Some(message) = Message::find_url(url) else {
            return self.unknown_type(node, type_node, object, url);
        };
        self.text(1, url);
        self.nested(2, node, |this| match message.has_special_json() {
            true => this.special_in_any(message, node, object),
            false => this.fields(message, object, true),
        });
    }

    /// `{"@type": …, "value": the message's own form}`
    fn special_in_any(&mut self, message: Message, node: Node<'t>, object: Object<'t>) {
        let mut value = None;
        for (key, node) in object.iter() {
            match key.as_str() {
                Some("@type") => {}
                Some("value") => value = Some(node),
                _ => {
                    let expected = format!("only \"@type\" and \"value\" ({})", message.full_name());
                    self.problem(key, expected, format!("\"{}\"", Shortened(key.as_str().unwrap_or_default())));
                }
            }
        }
        match value {
            Some(value) => {
                self.path.push(Step::Field("value"));
                self.message(message, value);
                self.path.pop();
            }
            None => self.problem(node, format!("\"value\" ({})", message.full_name()), "an object without it"),
        }
    }

    fn unknown_type(&mut self, node: Node<'t>, type_node: Node<'t>, object: Object<'t>, url: &str) {
        if !self.options.keep_unknown_any {
            let expected = "a known message type in \"@type\"";
            return self.problem(type_node, expected, format!("\"{}\"", Shortened(url)));
        }
        self.text(1, "type.googleapis.com/xds.type.v3.TypedStruct");
        self.nested(2, node, |this| {
            this.text(1, url);
            this.nested(2, node, |this| {
                for (key, value) in object.iter().filter(|(key, _)| key.as_str() != Some("@type")) {
                    this.nested(1, value, |this| {
                        this.text(1, key.as_str().unwrap_or_default());
                        this.nested(2, value, |this| this.value(value));
                    });
                }
            });
        });
    }
}
