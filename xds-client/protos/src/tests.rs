//! Properties over whole trips: text to wire and back, and any bytes into every decoder.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::encode::{self, to_wire};
use crate::path::Path;
use crate::print::{self, to_json};
use crate::schema::{Enum, Field, Kind, Message, WellKnown};
use crate::text::{Format, Node, Value, parse};
use crate::typed_struct::unwrap_typed_struct;
use crate::validate::validate;
use crate::walk::{Look, Visitor, walk};

struct Everything;

impl Visitor for Everything {
    fn field(&mut self, _: Field, at: &Path<'_>) -> Look {
        assert!(!at.to_string().is_empty());
        Look::Into
    }

    fn any(&mut self, _: &str, _: Option<Message>, _: &Path<'_>) -> Look {
        Look::Into
    }

    fn unknown_field(&mut self, _: Message, _: u32, _: &Path<'_>) {}
}

/// Gives the bytes to everything that reads wire bytes.
fn read_all(message: Message, bytes: &[u8]) {
    let name = message.full_name();
    for options in [
        print::Options { pretty: true, redact: true, defaults: true },
        print::Options { pretty: false, redact: true, defaults: false },
        print::Options::default(),
    ] {
        if let Ok(json) = to_json(name, bytes, &options) {
            parse(&json, Format::Json).unwrap_or_else(|problem| panic!("{problem}"));
        }
    }
    let _ = validate(name, bytes);
    let _ = walk(name, bytes, &mut Everything);
    for url in ["t/xds.type.v3.TypedStruct", "t/google.protobuf.Any"] {
        let _ = unwrap_typed_struct(&prost_types::Any { type_url: url.into(), value: bytes.to_vec() });
    }
}

fn any_message() -> impl Strategy<Value = Message> {
    (0..Message::all().len()).prop_map(|i| Message::all().nth(i).expect("in range"))
}

/// Source of choices for a message that is made up.
struct Dice(std::vec::IntoIter<u8>);

impl Dice {
    /// Zero when the dice are used up, so that every message ends.
    fn roll(&mut self, sides: usize) -> usize {
        self.0.next().map_or(0, |n| usize::from(n) % sides)
    }
}

/// The JSON of a made-up message, every field of which is legal; empty when the dice are used up.
fn made_up(message: Message, dice: &mut Dice, depth: usize) -> String {
    let special = |text: &str| text.to_owned();
    match message.well_known() {
        Some(WellKnown::Any) => {
            let types = ["envoy.config.core.v3.Node", "envoy.config.cluster.v3.Cluster", "google.protobuf.Duration"];
            let inner = Message::find(types[dice.roll(3)]).expect("in the schema");
            let text = made_up(inner, dice, depth + 1);
            let url = format!("\"@type\":\"type.googleapis.com/{}\"", inner.full_name());
            match text.strip_prefix('{') {
                Some("}") => format!("{{{url}}}"),
                Some(fields) => format!("{{{url},{fields}"),
                None => format!("{{{url},\"value\":{text}}}"),
            }
        }
        Some(WellKnown::Duration) => special(["\"0s\"", "\"1.500s\"", "\"-3.000001s\""][dice.roll(3)]),
        Some(WellKnown::Timestamp) => {
            special(["\"1970-01-01T00:00:00Z\"", "\"2024-02-29T23:59:59.250Z\""][dice.roll(2)])
        }
        Some(WellKnown::FieldMask) => special("\"aB,c\""),
        Some(WellKnown::Struct) => special(["{}", "{\"a\":null,\"b\":[1.5,{}]}"][dice.roll(2)]),
        Some(WellKnown::Value) => special(["null", "true", "\"x\"", "-7"][dice.roll(4)]),
        Some(WellKnown::ListValue) => special("[1,[]]"),
        Some(WellKnown::Wrapper) => scalar(message.field_by_number(1).expect("value").kind(), dice),
        Some(WellKnown::TypedStruct) | None => {
            let mut members = Vec::new();
            let mut oneofs = Vec::new();
            for field in message.fields() {
                if depth > 6 || dice.roll(3) != 1 || field.oneof().is_some_and(|o| oneofs.contains(&o)) {
                    continue;
                }
                oneofs.extend(field.oneof());
                members.push(format!("\"{}\":{}", field.name(), value(field, dice, depth)));
            }
            format!("{{{}}}", members.join(","))
        }
    }
}

fn value(field: Field, dice: &mut Dice, depth: usize) -> String {
    let one = |field: Field, dice: &mut Dice| match field.kind() {
        Kind::Message(message) => made_up(message, dice, depth + 1),
        kind => scalar(kind, dice),
    };
    if let Some((key, value)) = field.map_entry() {
        let key = match key.kind() {
            Kind::String => "\"k<é\"".to_owned(),
            kind => format!("\"{}\"", scalar(kind, dice).trim_matches('"')),
        };
        format!("{{{key}:{}}}", one(value, dice))
    } else if field.is_repeated() {
        let items: Vec<_> = (0..1 + dice.roll(3)).map(|_| one(field, dice)).collect();
        format!("[{}]", items.join(","))
    } else {
        one(field, dice)
    }
}

/// Never a default, which would not be printed again.
fn scalar(kind: Kind, dice: &mut Dice) -> String {
    match kind {
        Kind::Bool => "true".into(),
        Kind::String => ["\"a\"", "\"<é\\u2028\\n\\\"\"", "\"yes\""][dice.roll(3)].into(),
        Kind::Bytes => "\"AP8=\"".into(),
        Kind::Double | Kind::Float => ["1.5", "-1e+20", "\"Infinity\"", "0.25"][dice.roll(4)].into(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => format!("\"{}\"", i64::MIN),
        Kind::Uint64 | Kind::Fixed64 => format!("\"{}\"", u64::MAX),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => i32::MIN.to_string(),
        Kind::Uint32 | Kind::Fixed32 => u32::MAX.to_string(),
        Kind::Enum(kind) => enum_value(kind),
        Kind::Message(_) => "{}".into(),
    }
}

fn enum_value(kind: Enum) -> String {
    if kind.is_null_value() {
        return "null".into();
    }
    match kind.values().find(|v| v.number != 0) {
        Some(value) => format!("\"{}\"", value.name),
        None => "7".into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_cause_a_panic(message in any_message(), bytes in vec(any::<u8>(), 0..200)) {
        read_all(message, &bytes);
    }

    /// Random bytes seldom get past the first tag: well-formed fields of the message get further.
    #[test]
    fn no_fields_cause_a_panic(message in any_message(), seeds in vec((any::<u16>(), 0u8..6, vec(any::<u8>(), 0..12)), 0..20)) {
        let mut bytes = Vec::new();
        for (pick, wire_type, payload) in seeds {
            let number = match message.fields().len() {
                0 => 1,
                len => message.fields().nth(usize::from(pick) % len).expect("in range").number(),
            };
            prost::encoding::encode_varint(u64::from(number) << 3 | u64::from(wire_type), &mut bytes);
            if wire_type == 2 {
                bytes.push(payload.len() as u8);
            }
            bytes.extend(payload);
        }
        read_all(message, &bytes);
    }

    #[test]
    fn json_goes_to_wire_and_back(message in any_message(), dice in vec(any::<u8>(), 0..400)) {
        let json = made_up(message, &mut Dice(dice.into_iter()), 0);
        let tree = parse(&json, Format::Json).unwrap();
        let (wire, warnings) = to_wire(tree.root(), message.full_name(), &encode::Options::default())
            .unwrap_or_else(|problems| panic!("{}\n{json}", problems[0]));
        prop_assert!(warnings.is_empty());
        let printed = to_json(message.full_name(), &wire, &print::Options::default()).unwrap();
        prop_assert_eq!(canonical(&printed), canonical(&json));
        // Pretty, and once more: the same bytes.
        let pretty = print::Options { pretty: true, ..print::Options::default() };
        let pretty = to_json(message.full_name(), &wire, &pretty).unwrap();
        let tree = parse(&pretty, Format::Json).unwrap();
        let (again, _) = to_wire(tree.root(), message.full_name(), &encode::Options::default()).unwrap();
        prop_assert_eq!(again, wire.clone());
        read_all(message, &wire);
    }

    #[test]
    fn cut_and_changed_messages_cause_no_panic(message in any_message(), dice in vec(any::<u8>(), 0..300), cut in any::<u16>(), flip in any::<(u16, u8)>()) {
        let json = made_up(message, &mut Dice(dice.into_iter()), 0);
        let tree = parse(&json, Format::Json).unwrap();
        let (mut wire, _) = to_wire(tree.root(), message.full_name(), &encode::Options::default()).unwrap();
        if !wire.is_empty() {
            let at = usize::from(flip.0) % wire.len();
            wire[at] ^= flip.1;
            wire.truncate(wire.len() - usize::from(cut) % 3);
        }
        read_all(message, &wire);
    }

    #[test]
    fn any_text_as_any_message_causes_no_panic(message in any_message(), text in "[\\[\\]{}:,\"'a-z@0-9_.\n -]{0,80}") {
        for format in [Format::Json, Format::Yaml] {
            if let Ok(tree) = parse(&text, format) {
                match to_wire(tree.root(), message.full_name(), &encode::Options { allow_unknown: true, keep_unknown_any: true }) {
                    Ok((wire, _)) => read_all(message, &wire),
                    Err(problems) => {
                        for problem in problems {
                            problem.in_file("f").to_string();
                        }
                    }
                }
            }
        }
    }
}

/// The text with object keys sorted and escapes resolved.
fn canonical(json: &str) -> String {
    sorted(parse(json, Format::Json).expect("JSON").root())
}

fn sorted(node: Node<'_>) -> String {
    match node.value() {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(text) => text.parse::<f64>().expect("a number").to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().map(|(k, v)| format!("{:?}:{}", k.as_str(), sorted(v))).collect();
            members.sort();
            format!("{{{}}}", members.join(","))
        }
    }
}
