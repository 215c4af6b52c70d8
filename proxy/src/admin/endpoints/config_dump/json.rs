//! A dump as text, one resource at a time.

use bytes::Bytes;
use xds_protos::print::{self, Options};

use super::sections::{Item, Section, Value};

/// Small texts are gathered to pieces of this size.
const PIECE: usize = 32 << 10;

/// `{"configs": [section, …]}`
pub fn sections(sections: Vec<Section>) -> impl Iterator<Item = Bytes> {
    gather(list(sections.into_iter().map(section)))
}

/// `{"configs": [element, …]}`, each with its type.
pub fn elements(element: &'static str, items: Vec<Item>) -> impl Iterator<Item = Bytes> {
    let text = move |item: Item| -> Texts {
        let json = print(element, &item.encode());
        Box::new(std::iter::once(indent(&typed(element, &json), 2)))
    };
    gather(list(items.into_iter().map(text)))
}

type Texts = Box<dyn Iterator<Item = String>>;

/// The whole document around its entries.
fn list(entries: impl Iterator<Item = Texts> + 'static) -> Texts {
    let mut entries = entries.enumerate().peekable();
    if entries.peek().is_none() {
        return Box::new(std::iter::once("{}\n".to_owned()));
    }
    let entries = entries.flat_map(|(i, entry)| {
        let before = if i == 0 { "  " } else { ",\n  " };
        std::iter::once(before.to_owned()).chain(entry)
    });
    let begin = std::iter::once("{\n \"configs\": [\n".to_owned());
    Box::new(begin.chain(entries).chain(std::iter::once("\n ]\n}\n".to_owned())))
}

/// A section, indented by two.
fn section(section: Section) -> Texts {
    let begin = std::iter::once(format!("{{\n   \"@type\": \"type.googleapis.com/{}\"", section.name));
    let fields = section.fields.into_iter().flat_map(|(name, value)| field(name, value));
    Box::new(begin.chain(fields).chain(std::iter::once("\n  }".to_owned())))
}

fn field(name: &'static str, value: Value) -> Texts {
    let one = |json: String| -> Texts { Box::new(std::iter::once(format!(",\n   \"{name}\": {}", indent(&json, 3)))) };
    match value {
        Value::Text(text) if text.is_empty() => Box::new(std::iter::empty()),
        Value::Text(text) => one(serde_json::Value::from(text).to_string()),
        Value::Message(message, wire) => one(print(message, &wire)),
        Value::List { items, .. } if items.is_empty() => Box::new(std::iter::empty()),
        Value::List { element, items } => {
            let begin = std::iter::once(format!(",\n   \"{name}\": [\n"));
            let items = items.into_iter().enumerate().map(move |(i, item)| {
                let before = if i == 0 { "    " } else { ",\n    " };
                format!("{before}{}", indent(&print(element, &item.encode()), 4))
            });
            Box::new(begin.chain(items).chain(std::iter::once("\n   ]".to_owned())))
        }
    }
}

/// What cannot be printed is told in its place, so that the rest of the dump can still be read.
fn print(message: &str, wire: &[u8]) -> String {
    let options = Options { pretty: true, redact: true, defaults: false };
    print::to_json(message, wire, &options).unwrap_or_else(|error| {
        let why = serde_json::Value::from(format!("{message} cannot be printed: {error}"));
        format!("{{\n \"error\": {why}\n}}")
    })
}

/// An object with its type as the first member.
fn typed(message: &str, json: &str) -> String {
    let kind = format!("{{\n \"@type\": \"type.googleapis.com/{message}\"");
    match json.strip_prefix("{\n") {
        Some(members) => format!("{kind},\n{members}"),
        None => format!("{kind}\n}}"),
    }
}

/// JSON has no line breaks within strings, so each begins a line of the document.
fn indent(json: &str, by: usize) -> String {
    json.replace('\n', &format!("\n{:by$}", ""))
}

fn gather(mut texts: Texts) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let mut piece = String::new();
        while piece.len() < PIECE {
            let Some(text) = texts.next() else { break };
            piece.push_str(&text);
        }
        (!piece.is_empty()).then(|| piece.into())
    })
}
