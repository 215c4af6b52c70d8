//! Reads the protobuf wire format of a descriptor set, field by field.
//!
//! Decoding through `prost_types` would drop the extension options (`validate.rules`, `udpa.annotations.sensitive`).
//! The input is published by a pinned package, so that a malformed one is a panic of the build script.

/// The payload of one field.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            _ => panic!("a descriptor field is not length-delimited"),
        }
    }

    pub fn text(self) -> &'a str {
        std::str::from_utf8(self.bytes()).expect("text in a descriptor is UTF-8")
    }

    pub fn varint(self) -> u64 {
        match self {
            Value::Varint(value) => value,
            _ => panic!("a descriptor field is not a varint"),
        }
    }
}

/// `(number, payload, whole field with its tag)` of each field of a message.
pub fn fields(buf: &[u8]) -> Vec<(u32, Value<'_>, &[u8])> {
    let (mut rest, mut out) = (buf, Vec::new());
    while !rest.is_empty() {
        let start = rest;
        let tag = varint(&mut rest);
        let value = match tag & 7 {
            0 => Value::Varint(varint(&mut rest)),
            1 => Value::Fixed64(u64::from_le_bytes(take(&mut rest, 8).try_into().expect("8 bytes"))),
            2 => {
                let len = varint(&mut rest) as usize;
                Value::Bytes(take(&mut rest, len))
            }
            5 => Value::Fixed32(u32::from_le_bytes(take(&mut rest, 4).try_into().expect("4 bytes"))),
            other => panic!("wire type {other} in a descriptor set"),
        };
        out.push(((tag >> 3) as u32, value, &start[..start.len() - rest.len()]));
    }
    out
}

fn varint(buf: &mut &[u8]) -> u64 {
    prost::encoding::decode_varint(buf).expect("a valid descriptor set")
}

fn take<'a>(buf: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (head, tail) = buf.split_at(len);
    *buf = tail;
    head
}
