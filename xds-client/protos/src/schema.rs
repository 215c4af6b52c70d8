//! What the messages of the API look like: fields, types, enums, oneofs, and the annotations that matter at run time.
//!
//! This is the reflection that configuration text, validation, config dumps and the check for unsupported fields stand
//! on. A descriptor pool built at start would cost 13 MB and 30 ms; here the build script lays tables of fixed-size rows into
//! the executable, and an accessor reads a row in place. Nothing is built or allocated, and a page that is never asked for
//! is never loaded.
//!
//! A [`Message`], [`Field`], … is an index into its table: two bytes, free to copy. The tables come from our own build
//! script (`build/schema.rs`), so that offsets inside them are trusted.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

/// Where a table lies in `schema.bin`.
struct Table {
    at: usize,
    rows: usize,
    size: usize,
}

mod layout {
    use super::Table;
    include!(concat!(env!("OUT_DIR"), "/schema_layout.rs"));
}

use layout::*;

static ROWS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/schema.bin"));
static TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/schema.txt"));

impl Table {
    fn at(&self, row: u16, column: usize) -> usize {
        self.at + usize::from(row) * self.size + column
    }

    fn u8(&self, row: u16, column: usize) -> u8 {
        ROWS[self.at(row, column)]
    }

    fn u16(&self, row: u16, column: usize) -> u16 {
        let at = self.at(row, column);
        u16::from_le_bytes([ROWS[at], ROWS[at + 1]])
    }

    fn u32(&self, row: u16, column: usize) -> u32 {
        let at = self.at(row, column);
        u32::from_le_bytes([ROWS[at], ROWS[at + 1], ROWS[at + 2], ROWS[at + 3]])
    }

    /// Offset (4 bytes) and length (2 bytes) of a text.
    fn text(&self, row: u16, column: usize) -> &'static str {
        pooled_text(self.u32(row, column), self.u16(row, column + 4))
    }

    /// The first row of `rows` for which `order` says `Equal`, by binary search.
    fn search(&self, rows: Range<u16>, mut order: impl FnMut(u16) -> Ordering) -> Option<u16> {
        let (mut low, mut high) = (rows.start, rows.end);
        while low < high {
            let middle = low + (high - low) / 2;
            match order(middle) {
                Ordering::Less => low = middle + 1,
                _ => high = middle,
            }
        }
        (low < rows.end && order(low) == Ordering::Equal).then_some(low)
    }
}

pub(crate) fn pooled_text(at: u32, len: u16) -> &'static str {
    let at = at as usize;
    &TEXT[at..at + usize::from(len)]
}

/// Messages whose JSON form or meaning is not that of an ordinary message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WellKnown {
    Any,
    Duration,
    Timestamp,
    FieldMask,
    Struct,
    Value,
    ListValue,
    /// `google.protobuf.BoolValue`, `UInt32Value`, …: one field, `value`.
    Wrapper,
    /// `udpa.type.v1.TypedStruct` and `xds.type.v3.TypedStruct`.
    TypedStruct,
}

/// A message type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message(u16);

impl Message {
    /// The message with this full name, for example `envoy.config.cluster.v3.Cluster`.
    pub fn find(full_name: &str) -> Option<Message> {
        MESSAGES.search(0..MESSAGES.rows as u16, |row| MESSAGES.text(row, 0).cmp(full_name)).map(Message)
    }

    /// The message that a type URL names: what follows its last slash, or all of it.
    pub fn find_url(type_url: &str) -> Option<Message> {
        Message::find(type_url.rsplit_once('/').map_or(type_url, |(_, name)| name))
    }

    /// All messages, ordered by name. Entries of maps are messages too.
    pub fn all() -> impl ExactSizeIterator<Item = Message> {
        (0..MESSAGES.rows as u16).map(Message)
    }

    pub fn full_name(self) -> &'static str {
        MESSAGES.text(self.0, 0)
    }

    /// The full name without its package.
    pub fn name(self) -> &'static str {
        let full = self.full_name();
        full.rsplit_once('.').map_or(full, |(_, name)| name)
    }

    pub fn well_known(self) -> Option<WellKnown> {
        Some(match MESSAGES.u8(self.0, 6) {
            1 => WellKnown::Any,
            2 => WellKnown::Duration,
            3 => WellKnown::Timestamp,
            4 => WellKnown::FieldMask,
            5 => WellKnown::Struct,
            6 => WellKnown::Value,
            7 => WellKnown::ListValue,
            8 => WellKnown::Wrapper,
            9 => WellKnown::TypedStruct,
            _ => return None,
        })
    }

    /// Whether protobuf JSON has a form of its own for this message; inside an Any that form is its `value`.
    pub fn has_special_json(self) -> bool {
        !matches!(self.well_known(), None | Some(WellKnown::TypedStruct))
    }

    /// The synthetic message `{ key = 1; value = 2 }` of a map field.
    pub fn is_map_entry(self) -> bool {
        MESSAGES.u8(self.0, 7) & 1 != 0
    }

    /// Whether this message or one below it carries validation rules (or is an Any, which may).
    pub(crate) fn is_validated(self) -> bool {
        MESSAGES.u8(self.0, 7) & 2 != 0
    }

    /// Whether this message or one below it has sensitive fields (or is an Any, which may).
    pub(crate) fn may_hold_secrets(self) -> bool {
        MESSAGES.u8(self.0, 7) & 4 != 0
    }

    /// The fields, ordered by number.
    pub fn fields(self) -> impl ExactSizeIterator<Item = Field> + DoubleEndedIterator + Clone {
        self.field_range().map(Field)
    }

    /// The position of one of its fields in the order of numbers.
    pub(crate) fn index_of(self, field: Field) -> usize {
        usize::from(field.0.saturating_sub(self.field_range().start))
    }

    fn field_range(self) -> Range<u16> {
        let first = MESSAGES.u16(self.0, 8);
        first..first + MESSAGES.u16(self.0, 10)
    }

    pub fn field_by_number(self, number: u32) -> Option<Field> {
        let range = self.field_range();
        // Most messages number their fields 1, 2, 3, …
        let guess = number.checked_sub(1).and_then(|n| range.start.checked_add(u16::try_from(n).ok()?));
        if let Some(row) = guess.filter(|row| range.contains(row) && FIELDS.u32(*row, 12) == number) {
            return Some(Field(row));
        }
        FIELDS.search(range, |row| FIELDS.u32(row, 12).cmp(&number)).map(Field)
    }

    /// The field with this proto name (`connect_timeout`) or JSON name (`connectTimeout`).
    pub fn field_by_name(self, name: &str) -> Option<Field> {
        let first = MESSAGES.u16(self.0, 12);
        let names = first..first + MESSAGES.u16(self.0, 14);
        let row = NAMES.search(names, |row| NAMES.text(row, 0).cmp(name))?;
        Some(Field(NAMES.u16(row, 6)))
    }

    pub fn oneofs(self) -> impl ExactSizeIterator<Item = Oneof> {
        let first = MESSAGES.u16(self.0, 16);
        (first..first + MESSAGES.u16(self.0, 18)).map(Oneof)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.full_name())
    }
}

/// What a field (or an element of a repeated field) holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Double,
    Float,
    Int64,
    Uint64,
    Int32,
    Fixed64,
    Fixed32,
    Bool,
    String,
    Message(Message),
    Bytes,
    Uint32,
    Enum(Enum),
    Sfixed32,
    Sfixed64,
    Sint32,
    Sint64,
}

/// A field of a message type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field(u16);

impl Field {
    pub fn name(self) -> &'static str {
        FIELDS.text(self.0, 0)
    }

    pub fn json_name(self) -> &'static str {
        FIELDS.text(self.0, 6)
    }

    pub fn number(self) -> u32 {
        FIELDS.u32(self.0, 12)
    }

    /// The message that the field belongs to.
    pub fn parent(self) -> Message {
        Message(FIELDS.u16(self.0, 22))
    }

    pub fn kind(self) -> Kind {
        let target = FIELDS.u16(self.0, 20);
        match FIELDS.u8(self.0, 25) {
            1 => Kind::Double,
            2 => Kind::Float,
            3 => Kind::Int64,
            4 => Kind::Uint64,
            5 => Kind::Int32,
            6 => Kind::Fixed64,
            7 => Kind::Fixed32,
            8 => Kind::Bool,
            9 => Kind::String,
            11 => Kind::Message(Message(target)),
            12 => Kind::Bytes,
            13 => Kind::Uint32,
            14 => Kind::Enum(Enum(target)),
            15 => Kind::Sfixed32,
            16 => Kind::Sfixed64,
            17 => Kind::Sint32,
            _ => Kind::Sint64,
        }
    }

    /// The message type of a message field.
    pub fn message(self) -> Option<Message> {
        match self.kind() {
            Kind::Message(message) => Some(message),
            _ => None,
        }
    }

    fn flag(self, bit: u8) -> bool {
        FIELDS.u8(self.0, 24) & (1 << bit) != 0
    }

    /// Also true of maps.
    pub fn is_repeated(self) -> bool {
        self.flag(0)
    }

    /// Whether writers put all elements into one length-delimited field.
    pub fn is_packed(self) -> bool {
        self.flag(1)
    }

    /// The key and value fields, when this is a map.
    pub fn map_entry(self) -> Option<(Field, Field)> {
        if !self.flag(2) {
            return None;
        }
        let entry = self.message()?;
        Some((entry.field_by_number(1)?, entry.field_by_number(2)?))
    }

    /// Whether "set to its default" differs from "not set": messages, `optional` scalars, members of a oneof.
    pub fn has_presence(self) -> bool {
        self.flag(3)
    }

    /// `udpa.annotations.sensitive`: never shown by the admin interface.
    pub fn is_sensitive(self) -> bool {
        self.flag(4)
    }

    pub fn is_deprecated(self) -> bool {
        self.flag(5)
    }

    /// `envoy.annotations.disallowed_by_default`: Envoy refuses the field unless a runtime key allows it.
    pub fn is_disallowed_by_default(self) -> bool {
        self.flag(6)
    }

    pub fn oneof(self) -> Option<Oneof> {
        match FIELDS.u8(self.0, 26) {
            u8::MAX => None,
            index => Some(Oneof(MESSAGES.u16(self.parent().0, 16) + u16::from(index))),
        }
    }

    /// The program that `crate::rules` runs over values of this field.
    pub(crate) fn rules(self) -> Option<&'static [u8]> {
        match FIELDS.u32(self.0, 16) {
            0 => None,
            at => Some(&ROWS[RULES + at as usize..]),
        }
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.parent().full_name(), self.name())
    }
}

/// A oneof of a message type; the presence of an `optional` field is not one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oneof(u16);

impl Oneof {
    pub fn name(self) -> &'static str {
        ONEOFS.text(self.0, 0)
    }

    /// `validate.required`.
    pub fn is_required(self) -> bool {
        ONEOFS.u8(self.0, 6) != 0
    }
}

impl fmt::Debug for Oneof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An enum type.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Enum(u16);

impl Enum {
    pub fn find(full_name: &str) -> Option<Enum> {
        ENUMS.search(0..ENUMS.rows as u16, |row| ENUMS.text(row, 0).cmp(full_name)).map(Enum)
    }

    pub fn full_name(self) -> &'static str {
        ENUMS.text(self.0, 0)
    }

    fn value_range(self) -> Range<u16> {
        let first = ENUMS.u16(self.0, 6);
        first..first + ENUMS.u16(self.0, 8)
    }

    /// The values, ordered by number.
    pub fn values(self) -> impl ExactSizeIterator<Item = EnumValue> {
        self.value_range().map(|row| EnumValue::read(&VALUES, row))
    }

    /// Of several names for one number, the one declared first.
    pub fn by_number(self, number: i32) -> Option<EnumValue> {
        let row = VALUES.search(self.value_range(), |row| (VALUES.u32(row, 8) as i32).cmp(&number))?;
        Some(EnumValue::read(&VALUES, row))
    }

    pub fn by_name(self, name: &str) -> Option<EnumValue> {
        let row = VALUES_BY_NAME.search(self.value_range(), |row| VALUES_BY_NAME.text(row, 0).cmp(name))?;
        Some(EnumValue::read(&VALUES_BY_NAME, row))
    }

    /// `google.protobuf.NullValue`, whose JSON form is `null`.
    pub(crate) fn is_null_value(self) -> bool {
        self.full_name() == "google.protobuf.NullValue"
    }
}

impl fmt::Debug for Enum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.full_name())
    }
}

/// A value of an enum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EnumValue {
    pub name: &'static str,
    pub number: i32,
    pub deprecated: bool,
    /// `envoy.annotations.disallowed_by_default_enum`.
    pub disallowed_by_default: bool,
}

impl EnumValue {
    fn read(table: &Table, row: u16) -> EnumValue {
        let flags = table.u8(row, 6);
        EnumValue {
            name: table.text(row, 0),
            number: table.u32(row, 8) as i32,
            deprecated: flags & 1 != 0,
            disallowed_by_default: flags & 2 != 0,
        }
    }
}

#[cfg(test)]
mod tests;
