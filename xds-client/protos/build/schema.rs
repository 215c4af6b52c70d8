//! Writes the compact schema that `src/schema.rs` reads: fixed-size rows in `schema.bin`, names in `schema.txt`, and the
//! place of each table as constants in `schema_layout.rs`.
//!
//! Rows refer to each other by index and to names by offset, so that the data needs no relocation and no set-up: a page is
//! read from the executable when it is first touched. The accessors there say where each column lies.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::path::Path;
use std::{fs, mem};

use crate::descriptor::{self, Enum, Field, Message};
use crate::rules;

const NONE: u16 = u16::MAX;
const MESSAGE: u8 = 11;
const ENUM: u8 = 14;
// Of `well_known`.
const ANY: u8 = 1;
const TYPED_STRUCT: u8 = 9;

/// Each distinct text once.
#[derive(Default)]
pub struct Strings {
    pool: String,
    seen: HashMap<String, u32>,
}

impl Strings {
    /// Appends offset (4 bytes) and length (2 bytes) of `text` to a row.
    pub fn put(&mut self, text: &str, row: &mut Vec<u8>) {
        let at = *self.seen.entry(text.into()).or_insert_with(|| {
            self.pool.push_str(text);
            (self.pool.len() - text.len()) as u32
        });
        row.extend_from_slice(&at.to_le_bytes());
        row.extend_from_slice(&(text.len() as u16).to_le_bytes());
    }
}

/// Rows of one kind, all of the same size.
#[derive(Default)]
struct Table {
    bytes: Vec<u8>,
    rows: usize,
}

impl Table {
    fn push(&mut self, row: Vec<u8>) {
        assert_eq!(self.bytes.len(), self.rows * row.len(), "all rows have one size");
        self.bytes.extend(row);
        self.rows += 1;
    }

    /// The index that the next row gets.
    fn next(&self) -> [u8; 2] {
        u16::try_from(self.rows).expect("a table has less than 65536 rows").to_le_bytes()
    }
}

#[derive(Default)]
struct Schema {
    strings: Strings,
    messages: Table,
    fields: Table,
    /// Field names of each message, both spellings, sorted.
    names: Table,
    oneofs: Table,
    enums: Table,
    /// Values of each enum, sorted by number.
    values: Table,
    /// The same rows sorted by name.
    values_by_name: Table,
    rules: Vec<u8>,
}

pub fn write(set: &[u8], wanted: impl Fn(&str) -> bool, out: &Path) {
    let (messages, enums) = descriptor::read(set, wanted);
    let reach = Reach::new(&messages);
    // Offset 0 means "no rules".
    let mut schema = Schema { rules: vec![0], ..Schema::default() };
    for message in &messages {
        schema.message(message, &messages, &enums, &reach);
    }
    enums.iter().for_each(|e| schema.enumeration(e));
    schema.finish(out);
}

/// What there is in messages or below them.
struct Reach<'m> {
    /// Something to validate.
    rules: HashSet<&'m str>,
    /// A sensitive field, perhaps in an Any.
    secrets: HashSet<&'m str>,
}

impl<'m> Reach<'m> {
    fn new(messages: &'m [Message]) -> Reach<'m> {
        let has_rules =
            |m: &Message| m.fields.iter().any(|f| !f.rules.is_empty()) || m.oneofs.iter().any(|o| o.required);
        Reach {
            rules: closure(messages, has_rules),
            secrets: closure(messages, |m| m.fields.iter().any(|f| f.sensitive)),
        }
    }
}

/// The messages that are `marked`, that may hold a message of any type, or that hold such a message.
fn closure(messages: &[Message], marked: impl Fn(&Message) -> bool) -> HashSet<&str> {
    let mut found: HashSet<&str> = messages
        .iter()
        .filter(|m| matches!(well_known(&m.full_name), ANY | TYPED_STRUCT) || marked(m))
        .map(|m| m.full_name.as_str())
        .collect();
    loop {
        let before = found.len();
        for m in messages {
            if m.fields.iter().any(|f| f.kind == MESSAGE && found.contains(f.type_name.as_str())) {
                found.insert(&m.full_name);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

impl Schema {
    fn message(&mut self, m: &Message, messages: &[Message], enums: &[Enum], reach: &Reach<'_>) {
        let mut row = Vec::new();
        self.strings.put(&m.full_name, &mut row);
        row.push(well_known(&m.full_name));
        let holds = |set: &HashSet<&str>| u8::from(set.contains(m.full_name.as_str()));
        row.push(u8::from(m.map_entry) | holds(&reach.rules) << 1 | holds(&reach.secrets) << 2);
        row.extend(self.fields.next());
        row.extend((m.fields.len() as u16).to_le_bytes());
        row.extend(self.names.next());
        let names = self.names(m);
        row.extend((names as u16).to_le_bytes());
        row.extend(self.oneofs.next());
        row.extend((m.oneofs.len() as u16).to_le_bytes());
        let owner = self.messages.rows as u16;
        self.messages.push(row);

        for f in &m.fields {
            let target = match f.kind {
                MESSAGE => index_of(messages, &f.type_name, |m| &m.full_name),
                ENUM => index_of(enums, &f.type_name, |e| &e.full_name),
                10 => panic!("{}.{}: groups are not supported", m.full_name, f.name),
                _ => NONE,
            };
            let map = f.kind == MESSAGE && messages[usize::from(target)].map_entry;
            self.field(f, owner, target, map);
        }
        for o in &m.oneofs {
            let mut row = Vec::new();
            self.strings.put(&o.name, &mut row);
            row.extend([u8::from(o.required), 0]);
            self.oneofs.push(row);
        }
    }

    fn names(&mut self, m: &Message) -> usize {
        let mut names = Vec::new();
        for (i, f) in m.fields.iter().enumerate() {
            let index = (self.fields.rows + i) as u16;
            names.push((&f.name, index));
            if f.json_name != f.name {
                names.push((&f.json_name, index));
            }
        }
        names.sort();
        for (name, index) in &names {
            let mut row = Vec::new();
            self.strings.put(name, &mut row);
            row.extend(index.to_le_bytes());
            self.names.push(row);
        }
        names.len()
    }

    fn field(&mut self, f: &Field, owner: u16, target: u16, map: bool) {
        let rules = if f.rules.is_empty() { 0 } else { self.rules.len() as u32 };
        if rules != 0 {
            self.rules.extend(rules::compile(&f.rules, &mut self.strings));
        }
        let packable = f.repeated && !matches!(f.kind, 9 | 11 | 12);
        let presence = !f.repeated && (f.kind == MESSAGE || f.optional || f.oneof.is_some());
        let flags =
            [f.repeated, packable && f.packed != Some(false), map, presence, f.sensitive, f.deprecated, f.disallowed];
        let mut row = Vec::new();
        self.strings.put(&f.name, &mut row);
        self.strings.put(&f.json_name, &mut row);
        row.extend(f.number.to_le_bytes());
        row.extend(rules.to_le_bytes());
        row.extend(target.to_le_bytes());
        row.extend(owner.to_le_bytes());
        row.push(flags.iter().rev().fold(0, |all, flag| all << 1 | u8::from(*flag)));
        row.push(f.kind);
        row.push(f.oneof.unwrap_or(u8::MAX));
        row.push(0);
        self.fields.push(row);
    }

    fn enumeration(&mut self, e: &Enum) {
        let mut row = Vec::new();
        self.strings.put(&e.full_name, &mut row);
        row.extend(self.values.next());
        row.extend((e.values.len() as u16).to_le_bytes());
        self.enums.push(row);
        let mut order: Vec<_> = e.values.iter().collect();
        // Stable: of two names for one number the one declared first is printed.
        order.sort_by_key(|v| v.number);
        for (table, by_name) in [(&mut self.values, false), (&mut self.values_by_name, true)] {
            if by_name {
                order.sort_by_key(|v| &v.name);
            }
            for v in &order {
                let mut row = Vec::new();
                self.strings.put(&v.name, &mut row);
                row.extend([u8::from(v.deprecated) | u8::from(v.disallowed) << 1, 0]);
                row.extend(v.number.to_le_bytes());
                table.push(row);
            }
        }
    }

    fn finish(mut self, out: &Path) {
        let mut layout = String::from("// @generated by build/schema.rs\n");
        let mut bytes = Vec::new();
        let tables = [
            ("MESSAGES", &mut self.messages),
            ("FIELDS", &mut self.fields),
            ("NAMES", &mut self.names),
            ("ONEOFS", &mut self.oneofs),
            ("ENUMS", &mut self.enums),
            ("VALUES", &mut self.values),
            ("VALUES_BY_NAME", &mut self.values_by_name),
        ];
        for (name, table) in tables {
            let (at, rows, size) = (bytes.len(), table.rows, table.bytes.len() / table.rows);
            writeln!(layout, "pub(super) const {name}: Table = Table {{ at: {at}, rows: {rows}, size: {size} }};")
                .expect("a String takes all");
            bytes.extend(mem::take(&mut table.bytes));
        }
        writeln!(layout, "pub(super) const RULES: usize = {};", bytes.len()).expect("a String takes all");
        bytes.extend(self.rules);
        fs::write(out.join("schema.bin"), bytes).expect("OUT_DIR is writable");
        fs::write(out.join("schema.txt"), self.strings.pool).expect("OUT_DIR is writable");
        fs::write(out.join("schema_layout.rs"), layout).expect("OUT_DIR is writable");
    }
}

fn index_of<T>(sorted: &[T], name: &str, key: impl Fn(&T) -> &String) -> u16 {
    let found = sorted.binary_search_by(|t| key(t).as_str().cmp(name));
    u16::try_from(found.unwrap_or_else(|_| panic!("{name} is not in the set"))).expect("less than 65536 types")
}

/// Messages whose JSON form or meaning is special: numbered as `schema::WellKnown`.
fn well_known(name: &str) -> u8 {
    match name {
        "google.protobuf.Any" => ANY,
        "google.protobuf.Duration" => 2,
        "google.protobuf.Timestamp" => 3,
        "google.protobuf.FieldMask" => 4,
        "google.protobuf.Struct" => 5,
        "google.protobuf.Value" => 6,
        "google.protobuf.ListValue" => 7,
        "udpa.type.v1.TypedStruct" | "xds.type.v3.TypedStruct" => TYPED_STRUCT,
        _ if name.starts_with("google.protobuf.") && name.ends_with("Value") => 8,
        _ => 0,
    }
}
