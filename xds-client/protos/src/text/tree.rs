//! The tree and its builder. See the parent module.

use std::collections::HashSet;
use std::fmt;

use super::Mistake;

/// Lists and objects within each other, in text; messages are limited to 100 when they are encoded.
pub(crate) const MAX_DEPTH: usize = 200;
pub(super) const MAX_TEXT: usize = LENGTH as usize;

const LENGTH: u32 = (1 << 28) - 1;
/// The offset of a node that stands in no text.
const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Kind {
    Null,
    False,
    True,
    /// The text of a number, in the source.
    Number,
    OwnedNumber,
    /// A string that stands in the source as it is.
    String,
    OwnedString,
    Array,
    Object,
}

impl Kind {
    fn read(bits: u32) -> Kind {
        use Kind::*;
        [Null, False, True, Number, OwnedNumber, String, OwnedString, Array, Object]
            .get(bits as usize)
            .copied()
            .unwrap_or(Null)
    }
}

/// One node.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    /// Byte offset in the text.
    at: u32,
    /// Of a string or number: its offset. Of a list or object: how many slots it takes, itself included.
    data: u32,
    /// The kind in the upper 4 bits; below, the length of a string or the number of children.
    kind_and_len: u32,
}

impl Slot {
    fn new(kind: Kind, at: u32, data: u32, len: usize) -> Slot {
        Slot { at, data, kind_and_len: (kind as u32) << 28 | (len as u32 & LENGTH) }
    }

    fn kind(self) -> Kind {
        Kind::read(self.kind_and_len >> 28)
    }

    fn len(self) -> usize {
        (self.kind_and_len & LENGTH) as usize
    }

    fn span(self) -> u32 {
        match self.kind() {
            Kind::Array | Kind::Object => self.data,
            _ => 1,
        }
    }
}

/// A parsed text.
pub struct Tree<'a> {
    text: &'a str,
    slots: Vec<Slot>,
    /// Strings that do not stand in the text as they are.
    owned: String,
}

impl Tree<'_> {
    pub fn root(&self) -> Node<'_> {
        Node { tree: self, index: 0 }
    }

    pub fn text(&self) -> &str {
        self.text
    }

    /// Bytes that the tree holds besides the text.
    pub fn heap_size(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.owned.capacity()
    }

    /// The node of a field path such as `static_resources.clusters[3].name`, or the closest one above it that exists. Both
    /// spellings of a field name are tried; map keys stand in brackets: `metadata["a.b"]`.
    ///
    /// Whoever refuses a field of a message that came from this tree finds the line with it.
    pub fn locate(&self, path: &str) -> Node<'_> {
        let mut node = self.root();
        for step in Steps(path) {
            let next = match (step, node.value()) {
                (Step::Index(index), Value::Array(items)) => items.iter().nth(index),
                (Step::Name(name), Value::Object(object)) => object
                    .iter()
                    .find(|(key, _)| key.as_str() == Some(name) || key.as_str().is_some_and(|k| same_field(k, name)))
                    .map(|(_, value)| value),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node
    }
}

/// Whether `camel` is the JSON name of the proto name `snake`.
fn same_field(camel: &str, snake: &str) -> bool {
    let (mut camel, mut upper) = (camel.chars(), false);
    for c in snake.chars() {
        if c == '_' {
            upper = true;
            continue;
        }
        let c = if std::mem::take(&mut upper) { c.to_ascii_uppercase() } else { c };
        if camel.next() != Some(c) {
            return false;
        }
    }
    camel.next().is_none()
}

enum Step<'p> {
    Name(&'p str),
    Index(usize),
}

/// The steps of a path; ends at the first one that is malformed.
struct Steps<'p>(&'p str);

impl<'p> Iterator for Steps<'p> {
    type Item = Step<'p>;

    fn next(&mut self) -> Option<Step<'p>> {
        let rest = self.0.strip_prefix('.').unwrap_or(self.0);
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, rest) = quoted.split_once("\"]")?;
            self.0 = rest;
            return Some(Step::Name(key));
        }
        if let Some(index) = rest.strip_prefix('[') {
            let (index, rest) = index.split_once(']')?;
            self.0 = rest;
            return index.parse().ok().map(Step::Index);
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at_checked(end)?;
        self.0 = rest;
        (!name.is_empty()).then_some(Step::Name(name))
    }
}

/// A node of a [`Tree`].
#[derive(Clone, Copy)]
pub struct Node<'t> {
    tree: &'t Tree<'t>,
    index: u32,
}

#[derive(Clone, Copy)]
pub enum Value<'t> {
    Null,
    Bool(bool),
    /// As written.
    Number(&'t str),
    String(&'t str),
    Array(Array<'t>),
    Object(Object<'t>),
}

/// A place in a text; both count from 1, columns count characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

impl<'t> Node<'t> {
    fn slot(self) -> Slot {
        self.tree.slots.get(self.index as usize).copied().unwrap_or(Slot::new(Kind::Null, NOWHERE, 0, 0))
    }

    fn text(self, source: &'t str) -> &'t str {
        let slot = self.slot();
        let start = slot.data as usize;
        source.get(start..start + slot.len()).unwrap_or_default()
    }

    pub fn value(self) -> Value<'t> {
        let tree = self.tree;
        match self.slot().kind() {
            Kind::Null => Value::Null,
            Kind::False => Value::Bool(false),
            Kind::True => Value::Bool(true),
            Kind::Number => Value::Number(self.text(tree.text)),
            Kind::OwnedNumber => Value::Number(self.text(&tree.owned)),
            Kind::String => Value::String(self.text(tree.text)),
            Kind::OwnedString => Value::String(self.text(&tree.owned)),
            Kind::Array => Value::Array(Array(self)),
            Kind::Object => Value::Object(Object(self)),
        }
    }

    pub fn as_str(self) -> Option<&'t str> {
        match self.value() {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn tree(self) -> &'t Tree<'t> {
        self.tree
    }

    /// Byte offset in the text, when the tree has one.
    pub fn offset(self) -> Option<usize> {
        let at = self.slot().at;
        (at != NOWHERE).then_some(at as usize)
    }

    pub fn position(self) -> Option<Position> {
        self.offset().map(|at| position(self.tree.text, at))
    }

    /// The letters that stand where the node begins.
    pub(crate) fn word(self) -> &'t str {
        let rest = self.offset().and_then(|at| self.tree.text.get(at..)).unwrap_or_default();
        rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default()
    }

    fn next(self) -> Node<'t> {
        Node { tree: self.tree, index: self.index + self.slot().span() }
    }

    fn first_child(self) -> Node<'t> {
        Node { tree: self.tree, index: self.index + 1 }
    }
}

/// What the node is, in the words of a message: `the string "abc"`, `a list`.
impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value() {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Number(text) => write!(f, "the number {}", Shortened(text)),
            Value::String(text) => write!(f, "the string \"{}\"", Shortened(text)),
            Value::Array(_) => f.write_str("a list"),
            Value::Object(_) => f.write_str("an object"),
        }
    }
}

/// At most 60 characters of a text, without control characters.
pub(crate) struct Shortened<'t>(pub &'t str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(60) {
            write!(f, "{}", if c.is_control() { ' ' } else { c })?;
        }
        if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

#[derive(Clone, Copy)]
pub struct Array<'t>(Node<'t>);

impl<'t> Array<'t> {
    pub fn len(self) -> usize {
        self.0.slot().len()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Node<'t>> {
        let mut next = self.0.first_child();
        (0..self.len()).map(move |_| {
            let node = next;
            next = node.next();
            node
        })
    }
}

#[derive(Clone, Copy)]
pub struct Object<'t>(Node<'t>);

impl<'t> Object<'t> {
    pub fn len(self) -> usize {
        self.0.slot().len()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Keys (string nodes) and values, in the order of the text.
    pub fn iter(self) -> impl Iterator<Item = (Node<'t>, Node<'t>)> {
        let mut next = self.0.first_child();
        (0..self.len()).map(move |_| {
            let key = next;
            let value = key.next();
            next = value.next();
            (key, value)
        })
    }

    pub fn get(self, key: &str) -> Option<Node<'t>> {
        self.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, value)| value)
    }
}

/// Line and column of a byte.
pub(crate) fn position(text: &str, at: usize) -> Position {
    let start = line_start(text, at);
    let breaks = line_breaks(text.get(..start).unwrap_or(text));
    let column = text.get(start..at).map_or(0, |part| part.chars().count());
    Position { line: breaks as u32 + 1, column: column as u32 + 1 }
}

/// Where the line that contains this byte begins.
pub(crate) fn line_start(text: &str, at: usize) -> usize {
    text.as_bytes()
        .get(..at)
        .and_then(|head| head.iter().rposition(|b| matches!(b, b'\n' | b'\r')))
        .map_or(0, |i| i + 1)
}

fn line_breaks(text: &str) -> usize {
    let bytes = text.as_bytes();
    let lone = bytes.iter().enumerate().filter(|(i, b)| **b == b'\r' && bytes.get(i + 1) != Some(&b'\n')).count();
    lone + bytes.iter().filter(|b| **b == b'\n').count()
}

/// Writes slots in the order of the text.
pub(crate) struct Builder<'a> {
    text: &'a str,
    slots: Vec<Slot>,
    owned: String,
}

/// The slot of a list or object that is being written.
#[derive(Clone, Copy)]
pub(crate) struct Open(usize);

impl<'a> Builder<'a> {
    pub(crate) fn new(text: &'a str) -> Builder<'a> {
        Builder { text, slots: Vec::new(), owned: String::new() }
    }

    pub(crate) fn finish(mut self) -> Tree<'a> {
        self.slots.shrink_to_fit();
        Tree { text: self.text, slots: self.slots, owned: self.owned }
    }

    fn push(&mut self, kind: Kind, at: Option<usize>, data: usize, len: usize) {
        self.slots.push(Slot::new(kind, at.map_or(NOWHERE, |at| at as u32), data as u32, len));
    }

    pub(crate) fn null(&mut self, at: Option<usize>) {
        self.push(Kind::Null, at, 0, 0);
    }

    pub(crate) fn bool(&mut self, at: Option<usize>, value: bool) {
        self.push(if value { Kind::True } else { Kind::False }, at, 0, 0);
    }

    /// A number that stands at this place of the text.
    pub(super) fn number(&mut self, at: usize, len: usize) {
        self.push(Kind::Number, Some(at), at, len);
    }

    pub(crate) fn owned_number(&mut self, at: Option<usize>, text: &str) {
        self.push(Kind::OwnedNumber, at, self.owned.len(), text.len());
        self.owned.push_str(text);
    }

    /// A string that stands in the text at `start`; the node begins at `at` (its quote).
    pub(super) fn string(&mut self, at: usize, start: usize, len: usize) {
        self.push(Kind::String, Some(at), start, len);
    }

    pub(crate) fn owned_string(&mut self, at: Option<usize>, text: &str) {
        self.push(Kind::OwnedString, at, self.owned.len(), text.len());
        self.owned.push_str(text);
    }

    /// Begins a string that is written piece by piece into `owned`.
    pub(super) fn unescaped(&mut self) -> (&mut String, usize) {
        let start = self.owned.len();
        (&mut self.owned, start)
    }

    /// Ends such a string.
    pub(super) fn end_unescaped(&mut self, at: usize, start: usize) {
        self.push(Kind::OwnedString, Some(at), start, self.owned.len() - start);
    }

    pub(crate) fn open_array(&mut self, at: Option<usize>) -> Open {
        self.push(Kind::Array, at, 1, 0);
        Open(self.slots.len() - 1)
    }

    pub(crate) fn open_object(&mut self, at: Option<usize>) -> Open {
        self.push(Kind::Object, at, 1, 0);
        Open(self.slots.len() - 1)
    }

    /// Ends a list with so many items.
    pub(crate) fn close_array(&mut self, open: Open, len: usize) {
        let span = self.slots.len() - open.0;
        if let Some(slot) = self.slots.get_mut(open.0) {
            *slot = Slot::new(Kind::Array, slot.at, span as u32, len);
        }
    }

    /// Ends an object with so many keys.
    pub(crate) fn close_object(&mut self, open: Open, len: usize) {
        let span = self.slots.len() - open.0;
        if let Some(slot) = self.slots.get_mut(open.0) {
            *slot = Slot::new(Kind::Object, slot.at, span as u32, len);
        }
    }

    /// Ends an object of a text, where no key may occur twice.
    pub(super) fn close_checked_object(&mut self, open: Open, len: usize) -> Result<(), Mistake> {
        self.close_object(open, len);
        match self.duplicate(open, len) {
            Some((at, key)) => {
                let got = format!("\"{}\" a second time", Shortened(&key));
                Err(Mistake::new(at, "each key of an object once", got))
            }
            None => Ok(()),
        }
    }

    fn key(&self, index: usize) -> (usize, &str) {
        let Some(slot) = self.slots.get(index) else { return (0, "") };
        let source = if slot.kind() == Kind::OwnedString { &self.owned } else { self.text };
        let start = slot.data as usize;
        (slot.at as usize, source.get(start..start + slot.len()).unwrap_or_default())
    }

    fn duplicate(&self, open: Open, len: usize) -> Option<(usize, String)> {
        let (mut keys, mut index) = (Vec::with_capacity(len), open.0 + 1);
        for _ in 0..len {
            let (at, key) = self.key(index);
            if len <= 12 && keys.iter().any(|(k, _)| *k == key) {
                return Some((at, key.into()));
            }
            keys.push((key, at));
            index += 1;
            index += self.slots.get(index)?.span() as usize;
        }
        if len <= 12 {
            return None;
        }
        keys.sort_unstable();
        let twice =
            keys.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1]).min_by_key(|(_, at)| *at)?;
        Some((twice.1, twice.0.into()))
    }

    /// The slots of the node that begins at `index`.
    pub(super) fn copy_of(&self, index: usize) -> Vec<Slot> {
        let span = self.slots.get(index).map_or(0, |slot| slot.span() as usize);
        self.slots.get(index..index + span).unwrap_or_default().to_vec()
    }

    pub(super) fn paste(&mut self, slots: &[Slot]) {
        self.slots.extend_from_slice(slots);
    }

    /// Index of the next slot.
    pub(super) fn next(&self) -> usize {
        self.slots.len()
    }

    /// Replaces an object by one with the entries of its merge keys (at positions `merges` among its keys), where own keys
    /// win over merged ones and earlier ones over later ones. Returns the number of keys, or the offset of a merge value that
    /// is no object.
    pub(super) fn apply_merges(&mut self, open: Open, len: usize, merges: &[usize]) -> Result<usize, usize> {
        let old = self.slots.split_off(open.0 + 1);
        let (mut own, mut merged, mut index, mut kept) = (Vec::new(), Vec::new(), 0, 0);
        for n in 0..len {
            let value = index + 1;
            let span = old.get(value).map_or(1, |slot| slot.span() as usize);
            let Some(entry) = old.get(index..value + span) else { break };
            if merges.contains(&n) {
                merge_sources(entry.get(1..).unwrap_or_default(), &mut merged)?;
            } else {
                own.push(entry);
            }
            index = value + span;
        }
        let mut names = HashSet::new();
        for (entry, is_own) in own.into_iter().map(|e| (e, true)).chain(merged.into_iter().map(|e| (e, false))) {
            let before = self.slots.len();
            self.slots.extend_from_slice(entry);
            let name = self.key(before).1;
            // An own key that occurs twice is kept, for the check that refuses it.
            if is_own || !names.contains(name) {
                names.insert(name.to_owned());
                kept += 1;
            } else {
                self.slots.truncate(before);
            }
        }
        Ok(kept)
    }
}

/// The entries (key and value slots) of the object, or of each object of the list, in `value`.
fn merge_sources<'s>(value: &'s [Slot], out: &mut Vec<&'s [Slot]>) -> Result<(), usize> {
    let Some(slot) = value.first() else { return Ok(()) };
    let mut rest = value.get(1..).unwrap_or_default();
    match slot.kind() {
        Kind::Object => {
            for _ in 0..slot.len() {
                let span = 1 + rest.get(1).map_or(0, |slot| slot.span() as usize);
                let Some((entry, tail)) = rest.split_at_checked(span) else { break };
                out.push(entry);
                rest = tail;
            }
            Ok(())
        }
        Kind::Array => {
            for _ in 0..slot.len() {
                let span = rest.first().map_or(0, |slot| slot.span() as usize);
                let Some((item, tail)) = rest.split_at_checked(span) else { break };
                if item.first().is_some_and(|slot| slot.kind() != Kind::Object) {
                    return Err(slot.at as usize);
                }
                merge_sources(item, out)?;
                rest = tail;
            }
            Ok(())
        }
        _ => Err(slot.at as usize),
    }
}
