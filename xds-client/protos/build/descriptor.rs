//! The parts of `google.protobuf.FileDescriptorSet` that the schema needs, extension options included.

use crate::wire::{Value, fields};

// Numbers of the extensions of google.protobuf.*Options.
const VALIDATE: u32 = 1071; // validate.rules of a field, validate.required of a oneof
const SENSITIVE: u32 = 76569463; // udpa.annotations.sensitive
const DISALLOWED: u32 = 189503207; // envoy.annotations.disallowed_by_default
const DISALLOWED_ENUM: u32 = 70100853; // envoy.annotations.disallowed_by_default_enum

pub struct Message {
    pub full_name: String,
    pub fields: Vec<Field>,
    pub oneofs: Vec<Oneof>,
    pub map_entry: bool,
}

#[derive(Default)]
pub struct Field {
    pub name: String,
    pub json_name: String,
    pub number: u32,
    pub repeated: bool,
    /// As in `FieldDescriptorProto.Type`.
    pub kind: u8,
    /// Full name of the message or enum, without the leading dot.
    pub type_name: String,
    pub oneof: Option<u8>,
    pub optional: bool,
    pub packed: Option<bool>,
    pub deprecated: bool,
    pub disallowed: bool,
    pub sensitive: bool,
    /// A serialized `validate.FieldRules`.
    pub rules: Vec<u8>,
}

pub struct Oneof {
    pub name: String,
    pub required: bool,
}

pub struct Enum {
    pub full_name: String,
    pub values: Vec<EnumValue>,
}

#[derive(Default)]
pub struct EnumValue {
    pub name: String,
    pub number: i32,
    pub deprecated: bool,
    pub disallowed: bool,
}

/// All messages and enums of the files that `wanted` accepts, each list sorted by name.
pub fn read(set: &[u8], wanted: impl Fn(&str) -> bool) -> (Vec<Message>, Vec<Enum>) {
    let (mut messages, mut enums) = (Vec::new(), Vec::new());
    for (_, file, _) in fields(set) {
        let file = fields(file.bytes());
        let text = |number| file.iter().find(|f| f.0 == number).map_or("", |f| f.1.text());
        if !wanted(text(1)) {
            continue;
        }
        assert_eq!(text(12), "proto3", "{}: the schema assumes proto3 presence", text(1));
        for (number, value, _) in &file {
            match number {
                4 => message(value.bytes(), text(2), &mut messages, &mut enums),
                5 => enums.push(enumeration(value.bytes(), text(2))),
                _ => {}
            }
        }
    }
    messages.sort_by(|a, b| a.full_name.cmp(&b.full_name));
    enums.sort_by(|a, b| a.full_name.cmp(&b.full_name));
    (messages, enums)
}

fn message(buf: &[u8], scope: &str, messages: &mut Vec<Message>, enums: &mut Vec<Enum>) {
    let all = fields(buf);
    let name = all.iter().find(|f| f.0 == 1).expect("a message has a name").1.text();
    let full_name = format!("{scope}.{name}");
    let mut out = Message { full_name, fields: Vec::new(), oneofs: Vec::new(), map_entry: false };
    for (number, value, _) in all {
        match number {
            2 => out.fields.push(field(value.bytes())),
            3 => message(value.bytes(), &out.full_name, messages, enums),
            4 => enums.push(enumeration(value.bytes(), &out.full_name)),
            7 => out.map_entry = fields(value.bytes()).iter().any(|f| f.0 == 7 && f.1.varint() == 1),
            8 => out.oneofs.push(oneof(value.bytes())),
            _ => {}
        }
    }
    // The oneof that protoc makes of each `optional` field is presence, not a choice.
    let mut real = vec![false; out.oneofs.len()];
    for f in &mut out.fields {
        match f.oneof {
            Some(_) if f.optional => f.oneof = None,
            Some(index) => real[usize::from(index)] = true,
            None => {}
        }
    }
    let count = real.iter().filter(|r| **r).count();
    assert!(real[..count].iter().all(|r| *r), "{}: synthetic oneofs come last", out.full_name);
    out.oneofs.truncate(count);
    out.fields.sort_by_key(|f| f.number);
    messages.push(out);
}

fn field(buf: &[u8]) -> Field {
    let mut out = Field::default();
    for (number, value, _) in fields(buf) {
        match number {
            1 => out.name = value.text().into(),
            3 => out.number = value.varint() as u32,
            4 => out.repeated = value.varint() == 3,
            5 => out.kind = value.varint() as u8,
            6 => out.type_name = value.text().trim_start_matches('.').into(),
            8 => field_options(value.bytes(), &mut out),
            9 => out.oneof = Some(value.varint() as u8),
            10 => out.json_name = value.text().into(),
            17 => out.optional = value.varint() == 1,
            _ => {}
        }
    }
    assert!(!out.json_name.is_empty(), "{}: protoc writes json_name", out.name);
    out
}

fn field_options(buf: &[u8], out: &mut Field) {
    for (number, value, _) in fields(buf) {
        match number {
            2 => out.packed = Some(value.varint() == 1),
            3 => out.deprecated = value.varint() == 1,
            VALIDATE => out.rules.extend_from_slice(value.bytes()),
            SENSITIVE => out.sensitive = value.varint() == 1,
            DISALLOWED => out.disallowed = value.varint() == 1,
            _ => {}
        }
    }
}

fn oneof(buf: &[u8]) -> Oneof {
    let mut out = Oneof { name: String::new(), required: false };
    for (number, value, _) in fields(buf) {
        match number {
            1 => out.name = value.text().into(),
            2 => out.required = fields(value.bytes()).iter().any(|f| f.0 == VALIDATE && f.1.varint() == 1),
            _ => {}
        }
    }
    out
}

fn enumeration(buf: &[u8], scope: &str) -> Enum {
    let mut out = Enum { full_name: String::new(), values: Vec::new() };
    for (number, value, _) in fields(buf) {
        match number {
            1 => out.full_name = format!("{scope}.{}", value.text()),
            2 => out.values.push(enum_value(value.bytes())),
            _ => {}
        }
    }
    out
}

fn enum_value(buf: &[u8]) -> EnumValue {
    let mut out = EnumValue::default();
    for (number, value, _) in fields(buf) {
        match (number, value) {
            (1, _) => out.name = value.text().into(),
            (2, _) => out.number = value.varint() as i32,
            (3, Value::Bytes(options)) => {
                for (number, value, _) in fields(options) {
                    match number {
                        1 => out.deprecated = value.varint() == 1,
                        DISALLOWED_ENUM => out.disallowed = value.varint() == 1,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    out
}
