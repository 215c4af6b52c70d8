//! `?mask=`: a `google.protobuf.FieldMask` over a dump.
//!
//! A path goes through single messages only, as protobuf has it: `bootstrap.node.id`, but not `static_clusters.cluster`. In a
//! list's elements (`?resource=static_clusters&mask=cluster.name`) it also goes into Anys.

use std::collections::BTreeMap;
use std::fmt;

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};
use prost_types::Any;
use xds_protos::Message as _;
use xds_protos::schema::{Message, WellKnown};

use super::sections::{Section, Value};

/// The paths as a tree; a node without children stands for everything below it.
#[derive(Debug, Default)]
pub struct Mask(BTreeMap<String, Mask>);

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, below)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match below.0.is_empty() {
                true => write!(f, "{comma}{name}")?,
                false => write!(f, "{comma}{name}.({below})")?,
            }
        }
        Ok(())
    }
}

impl Mask {
    pub fn parse(text: &str) -> Self {
        let mut root = Self::default();
        for path in text.split(',').filter(|path| !path.is_empty()) {
            let mut at = &mut root;
            let mut fresh = false;
            for (i, part) in path.split('.').enumerate() {
                // A whole message was asked for already; a part of it adds nothing.
                if i > 0 && !fresh && at.0.is_empty() {
                    break;
                }
                fresh = !at.0.contains_key(part);
                at = at.0.entry(part.to_owned()).or_default();
            }
            if !fresh {
                at.0.clear();
            }
        }
        root
    }

    /// The part of a section; none if it does not have all the fields.
    pub fn trim_section(&self, section: Section) -> Option<Section> {
        let message = section.message()?;
        if !self.fits(message) {
            return None;
        }
        let mut fields = Vec::new();
        for (name, value) in section.fields {
            let Some(below) = self.0.get(name) else { continue };
            let value = match value {
                Value::Message(message, wire) if !below.0.is_empty() => {
                    Value::Message(message, below.trim(Message::find(message)?, &wire)?)
                }
                whole => whole,
            };
            fields.push((name, value));
        }
        Some(Section { name: section.name, fields })
    }

    /// The part of an element of a list; none if it does not have all the fields.
    pub fn trim_resource(&self, message: &str, wire: &[u8]) -> Option<Vec<u8>> {
        self.trim(Message::find(message)?, wire)
    }

    /// Whether every path names a field. What is inside Anys shows only in the data.
    fn fits(&self, message: Message) -> bool {
        self.0.iter().all(|(name, below)| match message.field_by_name(name) {
            None => false,
            Some(_) if below.0.is_empty() => true,
            Some(field) if field.is_repeated() => false,
            Some(field) => field.message().is_some_and(|m| m.well_known() == Some(WellKnown::Any) || below.fits(m)),
        })
    }

    fn trim(&self, message: Message, wire: &[u8]) -> Option<Vec<u8>> {
        if !self.fits(message) {
            return None;
        }
        let mut out = Vec::new();
        let mut rest = wire;
        while !rest.is_empty() {
            let begin = rest;
            let (number, wire_type) = decode_key(&mut rest).ok()?;
            let mut after = rest;
            skip_field(wire_type, number, &mut after, DecodeContext::default()).ok()?;
            let field = message.field_by_number(number);
            let wanted = field.and_then(|field| self.0.get(field.name()).map(|below| (field, below)));
            match wanted {
                None => {}
                Some((_, below)) if below.0.is_empty() => {
                    out.extend_from_slice(begin.get(..begin.len() - after.len())?);
                }
                Some(_) if wire_type != WireType::LengthDelimited => return None,
                Some((field, below)) => {
                    let inner = field.message()?;
                    let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                    let value = rest.get(..len)?;
                    let value = match inner.well_known() {
                        Some(WellKnown::Any) => below.trim_any(value)?,
                        _ => below.trim(inner, value)?,
                    };
                    encode_key(number, WireType::LengthDelimited, &mut out);
                    encode_varint(value.len() as u64, &mut out);
                    out.extend_from_slice(&value);
                }
            }
            rest = after;
        }
        Some(out)
    }

    fn trim_any(&self, wire: &[u8]) -> Option<Vec<u8>> {
        let mut any = Any::decode(wire).ok()?;
        any.value = self.trim(Message::find_url(&any.type_url)?, &any.value)?;
        Some(any.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::Mask;

    #[test]
    fn a_wider_path_swallows_a_narrower_one() {
        assert_eq!(Mask::parse("a.b,a.c,d").to_string(), "a.(b,c),d");
        assert_eq!(Mask::parse("a.b,a").to_string(), "a");
        assert_eq!(Mask::parse("a,a.b").to_string(), "a");
        assert_eq!(Mask::parse("").to_string(), "");
    }
}
