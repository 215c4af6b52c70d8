//! Wire bytes as the fields of a message, the way protobuf's own decoder would see them.
//!
//! Validation, printing and the walk all read messages through [`Stack`]: fields come in the order of their numbers,
//! whatever their order on the wire; of a scalar that occurs twice the last one counts, a message that occurs twice is
//! merged, of a oneof the member set last remains, packed lists are unpacked. Bytes that prost would refuse are
//! [`Malformed`]. Nothing is allocated per message: entries lie on one stack that grows and shrinks with the recursion.

use std::borrow::Cow;
use std::ops::Range;

use crate::schema::{Field, Kind, Message, Oneof};

/// Messages within each other, as in protobuf's own decoders; here through Anys too.
pub(crate) const MAX_DEPTH: usize = 100;

/// The bytes are no message of the expected type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// The payload of one field on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The fields on the wire, one after the other.
#[derive(Clone)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Raw<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| (1..1 << 29).contains(n)).ok_or(Malformed)?;
        let raw = match tag & 7 {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(self.fixed64()?),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Raw::Bytes(self.take(len)?)
            }
            5 => Raw::Fixed32(self.fixed32()?),
            _ => return Err(Malformed),
        };
        Ok(Some((number, raw)))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (i, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f).checked_shl(7 * i as u32).unwrap_or(0);
            if byte & 0x80 == 0 {
                // The tenth byte has room for one bit.
                if i == 9 && *byte > 1 {
                    return Err(Malformed);
                }
                self.0 = self.0.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    fn fixed64(&mut self) -> Result<u64, Malformed> {
        self.take(8)?.try_into().map(u64::from_le_bytes).map_err(|_| Malformed)
    }

    fn fixed32(&mut self) -> Result<u32, Malformed> {
        self.take(4)?.try_into().map(u32::from_le_bytes).map_err(|_| Malformed)
    }
}

/// A scalar in the type of its field.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Scalar<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f32),
    Double(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Enum(i32),
}

impl<'a> Scalar<'a> {
    /// What `raw` means for a field of this kind, which is not a message.
    pub(crate) fn read(kind: Kind, raw: Raw<'a>) -> Result<Scalar<'a>, Malformed> {
        let zigzag = |v: u64| (v >> 1) as i64 ^ -((v & 1) as i64);
        Ok(match (kind, raw) {
            (Kind::Bool, Raw::Varint(v)) => Scalar::Bool(v != 0),
            (Kind::Int32, Raw::Varint(v)) => Scalar::Int(i64::from(v as i32)),
            (Kind::Int64, Raw::Varint(v)) => Scalar::Int(v as i64),
            (Kind::Sint32, Raw::Varint(v)) => Scalar::Int(i64::from(zigzag(u64::from(v as u32)) as i32)),
            (Kind::Sint64, Raw::Varint(v)) => Scalar::Int(zigzag(v)),
            (Kind::Uint32, Raw::Varint(v)) => Scalar::Uint(u64::from(v as u32)),
            (Kind::Uint64, Raw::Varint(v)) | (Kind::Fixed64, Raw::Fixed64(v)) => Scalar::Uint(v),
            (Kind::Fixed32, Raw::Fixed32(v)) => Scalar::Uint(u64::from(v)),
            (Kind::Sfixed32, Raw::Fixed32(v)) => Scalar::Int(i64::from(v as i32)),
            (Kind::Sfixed64, Raw::Fixed64(v)) => Scalar::Int(v as i64),
            (Kind::Enum(_), Raw::Varint(v)) => Scalar::Enum(v as i32),
            (Kind::Float, Raw::Fixed32(v)) => Scalar::Float(f32::from_bits(v)),
            (Kind::Double, Raw::Fixed64(v)) => Scalar::Double(f64::from_bits(v)),
            (Kind::String, Raw::Bytes(v)) => Scalar::Text(std::str::from_utf8(v).map_err(|_| Malformed)?),
            (Kind::Bytes, Raw::Bytes(v)) => Scalar::Bytes(v),
            _ => return Err(Malformed),
        })
    }

    /// What an absent field of this kind means.
    pub(crate) fn default_of(kind: Kind) -> Scalar<'static> {
        match kind {
            Kind::Bool => Scalar::Bool(false),
            Kind::Int32 | Kind::Int64 | Kind::Sint32 | Kind::Sint64 | Kind::Sfixed32 | Kind::Sfixed64 => Scalar::Int(0),
            Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => Scalar::Uint(0),
            Kind::Float => Scalar::Float(0.0),
            Kind::Double => Scalar::Double(0.0),
            Kind::String => Scalar::Text(""),
            Kind::Bytes | Kind::Message(_) => Scalar::Bytes(&[]),
            Kind::Enum(_) => Scalar::Enum(0),
        }
    }

    /// Minus zero is not a default.
    pub(crate) fn is_default(self) -> bool {
        match self {
            Scalar::Bool(v) => !v,
            Scalar::Int(v) => v == 0,
            Scalar::Uint(v) => v == 0,
            Scalar::Float(v) => v.to_bits() == 0,
            Scalar::Double(v) => v.to_bits() == 0,
            Scalar::Text(v) => v.is_empty(),
            Scalar::Bytes(v) => v.is_empty(),
            Scalar::Enum(v) => v == 0,
        }
    }
}

/// One value of a field.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) field: Field,
    /// Position on the wire.
    order: u32,
    raw: Raw<'a>,
}

impl<'a> Entry<'a> {
    pub(crate) fn scalar(&self) -> Result<Scalar<'a>, Malformed> {
        Scalar::read(self.field.kind(), self.raw)
    }

    /// The bytes of a message.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        match self.raw {
            Raw::Bytes(bytes) => bytes,
            _ => &[],
        }
    }
}

impl Entry<'_> {
    /// Appends the value without a tag.
    pub(crate) fn write_payload(&self, out: &mut Vec<u8>) {
        match self.raw {
            Raw::Varint(value) => prost::encoding::encode_varint(value, out),
            Raw::Fixed64(value) => out.extend_from_slice(&value.to_le_bytes()),
            Raw::Fixed32(value) => out.extend_from_slice(&value.to_le_bytes()),
            Raw::Bytes(bytes) => {
                prost::encoding::encode_varint(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
        }
    }

    /// Appends the value with its tag.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let wire_type = match self.raw {
            Raw::Varint(_) => 0,
            Raw::Fixed64(_) => 1,
            Raw::Bytes(_) => 2,
            Raw::Fixed32(_) => 5,
        };
        write_tag(self.field.number(), wire_type, out);
        self.write_payload(out);
    }
}

pub(crate) fn write_tag(number: u32, wire_type: u8, out: &mut Vec<u8>) {
    prost::encoding::encode_varint(u64::from(number) << 3 | u64::from(wire_type), out);
}

/// Appends a length-delimited field whose contents `write` appends.
pub(crate) fn write_nested<E>(
    number: u32,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    write_tag(number, 2, out);
    let start = out.len();
    out.push(0);
    write(out)?;
    close_nested(start, out);
    Ok(())
}

/// Puts the length of what follows the byte at `start` in its place. One byte is right for most messages; longer ones are
/// moved up.
pub(crate) fn close_nested(start: usize, out: &mut Vec<u8>) {
    let end = out.len();
    let len = end.saturating_sub(start + 1);
    let extra = prost::encoding::encoded_len_varint(len as u64) - 1;
    out.resize(end + extra, 0);
    out.copy_within(start + 1..end, start + 1 + extra);
    if let Some(mut place) = out.get_mut(start..start + 1 + extra) {
        prost::encoding::encode_varint(len as u64, &mut place);
    }
}

/// The entries of the messages that are being read, innermost last.
#[derive(Default)]
pub(crate) struct Stack<'a> {
    entries: Vec<Entry<'a>>,
}

impl<'a> Stack<'a> {
    /// Reads one message; its entries lie at the returned places until `close`. `unknown` gets the numbers that the schema
    /// does not have.
    pub(crate) fn open(
        &mut self,
        message: Message,
        bytes: &'a [u8],
        unknown: &mut dyn FnMut(u32),
    ) -> Result<Range<usize>, Malformed> {
        let start = self.entries.len();
        let result = self.read(message, bytes, start, unknown);
        if result.is_err() {
            self.entries.truncate(start);
        }
        result.map(|()| start..self.entries.len())
    }

    fn read(
        &mut self,
        message: Message,
        bytes: &'a [u8],
        start: usize,
        unknown: &mut dyn FnMut(u32),
    ) -> Result<(), Malformed> {
        let mut reader = Reader(bytes);
        let (mut sorted, mut oneofs, mut last) = (true, 0, 0);
        while let Some((number, raw)) = reader.next()? {
            let Some(field) = message.field_by_number(number) else {
                unknown(number);
                continue;
            };
            sorted &= number >= last;
            last = number;
            oneofs += usize::from(field.oneof().is_some());
            self.push(field, raw)?;
        }
        if oneofs > 1 {
            self.settle_oneofs(start);
        }
        if !sorted && let Some(entries) = self.entries.get_mut(start..) {
            entries.sort_unstable_by_key(|e| (e.field, e.order));
        }
        Ok(())
    }

    fn push(&mut self, field: Field, raw: Raw<'a>) -> Result<(), Malformed> {
        let order = self.entries.len() as u32;
        match (field.kind(), raw) {
            (Kind::Message(_) | Kind::String | Kind::Bytes, Raw::Bytes(_)) => {}
            (Kind::Message(_) | Kind::String | Kind::Bytes, _) => return Err(Malformed),
            (kind, Raw::Bytes(packed)) if field.is_repeated() => {
                let mut items = Reader(packed);
                while !items.0.is_empty() {
                    let raw = match kind {
                        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Raw::Fixed64(items.fixed64()?),
                        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Raw::Fixed32(items.fixed32()?),
                        _ => Raw::Varint(items.varint()?),
                    };
                    self.entries.push(Entry { field, order: self.entries.len() as u32, raw });
                }
                return Ok(());
            }
            // A mismatch of wire types.
            (kind, raw) => drop(Scalar::read(kind, raw)?),
        }
        self.entries.push(Entry { field, order, raw });
        Ok(())
    }

    /// Setting a member of a oneof clears the others.
    fn settle_oneofs(&mut self, start: usize) {
        // Backwards: the member met first wins, until another one of its oneof ends its run.
        let mut winners: Vec<(Oneof, Field, bool)> = Vec::new();
        let all = self.entries.get(start..).unwrap_or_default();
        let mut kept: Vec<_> = all
            .iter()
            .rev()
            .filter(|e| {
                let Some(oneof) = e.field.oneof() else { return true };
                match winners.iter_mut().find(|w| w.0 == oneof) {
                    None => {
                        winners.push((oneof, e.field, true));
                        true
                    }
                    Some((_, winner, open)) => {
                        *open &= *winner == e.field;
                        *open
                    }
                }
            })
            .copied()
            .collect();
        if kept.len() < all.len() {
            kept.reverse();
            self.entries.truncate(start);
            self.entries.extend(kept);
        }
    }

    /// Forgets a message and all that were opened after it.
    pub(crate) fn close(&mut self, range: &Range<usize>) {
        self.entries.truncate(range.start);
    }

    pub(crate) fn get(&self, at: usize) -> Option<Entry<'a>> {
        self.entries.get(at).copied()
    }

    /// Where the entries of the same field end.
    pub(crate) fn group_end(&self, range: &Range<usize>, at: usize) -> usize {
        let Some(first) = self.get(at) else { return range.end };
        let same = self.entries.get(at..range.end).unwrap_or_default();
        at + same.iter().position(|e| e.field != first.field).unwrap_or(same.len())
    }

    /// The value of a singular field that the entries `group` hold: the last one, or the messages merged.
    pub(crate) fn singular(&self, group: Range<usize>) -> Option<(Entry<'a>, Cow<'a, [u8]>)> {
        let last = self.entries.get(group.clone())?.last().copied()?;
        if group.len() == 1 || last.field.message().is_none() {
            return Some((last, Cow::Borrowed(last.bytes())));
        }
        let merged = self.entries.get(group)?.iter().flat_map(|e| e.bytes()).copied().collect();
        Some((last, Cow::Owned(merged)))
    }
}

/// Calls `each` with the fields of a small message, last value first when the caller keeps only one.
pub(crate) fn for_each<'a>(bytes: &'a [u8], mut each: impl FnMut(u32, Raw<'a>)) -> Result<(), Malformed> {
    let mut reader = Reader(bytes);
    while let Some((number, raw)) = reader.next()? {
        each(number, raw);
    }
    Ok(())
}

/// Seconds and nanoseconds of a Duration or Timestamp.
pub(crate) fn seconds_and_nanos(bytes: &[u8]) -> Result<(i64, i32), Malformed> {
    let (mut seconds, mut nanos) = (0, 0);
    for_each(bytes, |number, raw| match (number, raw) {
        (1, Raw::Varint(v)) => seconds = v as i64,
        (2, Raw::Varint(v)) => nanos = v as i32,
        _ => {}
    })?;
    Ok((seconds, nanos))
}

/// Type URL and value of an Any.
pub(crate) fn any_parts(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let (mut url, mut value): (&[u8], &[u8]) = (&[], &[]);
    for_each(bytes, |number, raw| match (number, raw) {
        (1, Raw::Bytes(v)) => url = v,
        (2, Raw::Bytes(v)) => value = v,
        _ => {}
    })?;
    Ok((std::str::from_utf8(url).map_err(|_| Malformed)?, value))
}

/// Whether the bytes decode as this message, with at most `depth` messages within each other; what is in Anys is not
/// looked at.
pub(crate) fn is_well_formed(message: Message, bytes: &[u8], depth: usize) -> bool {
    fn check<'a>(stack: &mut Stack<'a>, message: Message, bytes: &'a [u8], depth: usize) -> Result<(), Malformed> {
        let range = stack.open(message, bytes, &mut |_| {})?;
        for at in range.clone() {
            let Some(entry) = stack.get(at) else { break };
            match entry.field.kind() {
                Kind::Message(inner) => check(stack, inner, entry.bytes(), depth.checked_sub(1).ok_or(Malformed)?)?,
                Kind::String => drop(entry.scalar()?),
                _ => {}
            }
        }
        stack.close(&range);
        Ok(())
    }
    check(&mut Stack::default(), message, bytes, depth).is_ok()
}
