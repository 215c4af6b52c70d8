//! The messages with a JSON form of their own, and TypedStruct, which may hide secrets.

use std::ops::Range;

use super::scalar::REDACTED;
use super::{Error, Members, Printer, Result};
use crate::schema::{Message, WellKnown};
use crate::wire::{self, Raw, Reader, Scalar, Stack};
use crate::{time, typed_struct};

impl Printer<'_> {
    pub(super) fn well_known<'a>(
        &mut self,
        stack: &mut Stack<'a>,
        kind: WellKnown,
        message: Message,
        bytes: &'a [u8],
        sensitive: bool,
    ) -> Result<()> {
        match kind {
            WellKnown::Any => self.any(stack, bytes, sensitive),
            WellKnown::TypedStruct => {
                self.block(['{', '}'], |this, members| this.typed_struct(stack, message, bytes, members, sensitive))
            }
            WellKnown::Duration | WellKnown::Timestamp => self.time(kind, bytes, sensitive),
            WellKnown::FieldMask => self.field_mask(bytes, sensitive),
            WellKnown::Struct => self.structure(bytes, sensitive),
            WellKnown::Value => self.value(bytes, sensitive),
            WellKnown::ListValue => self.list_value(bytes, sensitive),
            WellKnown::Wrapper => self.wrapper(stack, message, bytes, sensitive),
        }
    }

    fn any<'a>(&mut self, stack: &mut Stack<'a>, bytes: &'a [u8], sensitive: bool) -> Result<()> {
        let (type_url, value) = wire::any_parts(bytes)?;
        self.block(['{', '}'], |this, members| {
            if type_url.is_empty() && value.is_empty() {
                return Ok(());
            }
            this.key(members, "@type")?;
            this.string(type_url)?;
            let message = Message::find_url(type_url).filter(|m| this.can_print(*m, value));
            match message {
                None => {
                    this.key(members, "value")?;
                    this.base64(if sensitive { REDACTED.as_bytes() } else { value })
                }
                Some(message) if message.has_special_json() => {
                    this.key(members, "value")?;
                    this.message(stack, message, value, sensitive)
                }
                Some(message) if message.well_known() == Some(WellKnown::TypedStruct) => {
                    this.typed_struct(stack, message, value, members, sensitive)
                }
                Some(message) => this.any_fields(stack, message, value, members, sensitive),
            }
        })
    }

    /// Once the first part of a message is written there is no way back.
    fn can_print(&self, message: Message, bytes: &[u8]) -> bool {
        let depth = wire::MAX_DEPTH.checked_sub(self.depth + 2);
        depth.is_some_and(|depth| wire::is_well_formed(message, bytes, depth))
    }

    /// Anys in Anys count as messages in messages.
    fn any_fields<'a>(
        &mut self,
        stack: &mut Stack<'a>,
        message: Message,
        bytes: &'a [u8],
        members: &mut Members,
        sensitive: bool,
    ) -> Result<()> {
        self.depth += 1;
        self.fields(stack, message, bytes, members, sensitive)?;
        self.depth -= 1;
        Ok(())
    }

    /// A TypedStruct prints as it is, unless something in it has to be hidden: only the message that it describes knows which
    /// of its fields are sensitive.
    fn typed_struct<'a>(
        &mut self,
        stack: &mut Stack<'a>,
        message: Message,
        bytes: &'a [u8],
        members: &mut Members,
        sensitive: bool,
    ) -> Result<()> {
        let (type_url, _) = wire::any_parts(bytes)?;
        let hides = |m: Message| sensitive || (self.options.redact && m.may_hold_secrets());
        if !Message::find_url(type_url).is_some_and(hides) {
            return self.fields(stack, message, bytes, members, sensitive);
        }
        self.key(members, "type_url")?;
        self.string(type_url)?;
        self.key(members, "value")?;
        // What cannot be read cannot be searched for secrets either: nothing of it is shown.
        let Some((inner_type, inner)) = typed_struct::unwrap(bytes)
            .ok()
            .and_then(|(url, inner)| Some((Message::find_url(&url)?, inner)))
            .filter(|(message, inner)| self.can_print(*message, inner))
        else {
            return self.block(['{', '}'], |_, _| Ok(()));
        };
        if !inner_type.has_special_json() {
            return self.message(&mut Stack::default(), inner_type, &inner, sensitive);
        }
        self.block(['{', '}'], |this, members| {
            this.key(members, "value")?;
            this.message(&mut Stack::default(), inner_type, &inner, sensitive)
        })
    }

    fn time(&mut self, kind: WellKnown, bytes: &[u8], sensitive: bool) -> Result<()> {
        let (seconds, nanos) = if sensitive { (0, 0) } else { wire::seconds_and_nanos(bytes)? };
        let mut text = String::new();
        if kind == WellKnown::Duration {
            time::format_duration(seconds, nanos, &mut text);
        } else if time::format_timestamp(seconds, nanos, &mut text).is_none() {
            // Out of the range that RFC 3339 can write.
            return self.block(['{', '}'], |this, members| {
                this.key(members, "seconds")?;
                write!(this.out, "\"{seconds}\"")?;
                this.key(members, "nanos")?;
                Ok(write!(this.out, "{nanos}")?)
            });
        }
        self.string(&text)
    }

    fn field_mask(&mut self, bytes: &[u8], sensitive: bool) -> Result<()> {
        let (mut text, mut reader) = (String::new(), Reader(bytes));
        while let Some((number, raw)) = reader.next()? {
            let (1, Raw::Bytes(path)) = (number, raw) else { continue };
            let path = std::str::from_utf8(path).map_err(|_| Error::Malformed)?;
            if !text.is_empty() {
                text.push(',');
            }
            let (path, mut upper) = (if sensitive { REDACTED } else { path }, false);
            for c in path.chars() {
                if c == '_' {
                    upper = true;
                } else {
                    text.push(if std::mem::take(&mut upper) { c.to_ascii_uppercase() } else { c });
                }
            }
        }
        self.string(&text)
    }

    fn wrapper<'a>(&mut self, stack: &mut Stack<'a>, message: Message, bytes: &'a [u8], sensitive: bool) -> Result<()> {
        let Some(field) = message.field_by_number(1) else { return Err(Error::Malformed) };
        let range: Range<usize> = stack.open(message, bytes, &mut |_| {})?;
        let value = match range.end.checked_sub(1).filter(|last| range.contains(last)).and_then(|last| stack.get(last))
        {
            Some(entry) => entry.scalar()?,
            None => Scalar::default_of(field.kind()),
        };
        stack.close(&range);
        // An unset string has nothing to hide.
        self.scalar(field.kind(), value, sensitive && !value.is_default())
    }

    fn structure(&mut self, bytes: &[u8], sensitive: bool) -> Result<()> {
        self.block(['{', '}'], |this, members| {
            let mut reader = Reader(bytes);
            while let Some((number, raw)) = reader.next()? {
                let (1, Raw::Bytes(entry)) = (number, raw) else { continue };
                let (key, value) = wire::any_parts(entry)?;
                this.key(members, key)?;
                this.nested_value(value, sensitive)?;
            }
            Ok(())
        })
    }

    fn list_value(&mut self, bytes: &[u8], sensitive: bool) -> Result<()> {
        self.block(['[', ']'], |this, members| {
            let mut reader = Reader(bytes);
            while let Some((number, raw)) = reader.next()? {
                let (1, Raw::Bytes(item)) = (number, raw) else { continue };
                this.member(members)?;
                this.nested_value(item, sensitive)?;
            }
            Ok(())
        })
    }

    fn nested_value(&mut self, bytes: &[u8], sensitive: bool) -> Result<()> {
        if self.depth > wire::MAX_DEPTH {
            return Err(Error::Malformed);
        }
        self.depth += 1;
        self.value(bytes, sensitive)?;
        self.depth -= 1;
        Ok(())
    }

    /// `google.protobuf.Value`; of several kinds the last one counts. None set prints as null.
    fn value(&mut self, bytes: &[u8], sensitive: bool) -> Result<()> {
        let (mut reader, mut kind) = (Reader(bytes), None);
        while let Some(field) = reader.next()? {
            kind = Some(field);
        }
        match kind {
            Some((2, Raw::Fixed64(bits))) if !sensitive => self.double(f64::from_bits(bits)),
            Some((3, Raw::Bytes(_))) if sensitive => self.string(REDACTED),
            Some((3, Raw::Bytes(text))) => self.string(std::str::from_utf8(text).map_err(|_| Error::Malformed)?),
            Some((4, Raw::Varint(value))) if !sensitive => {
                Ok(self.out.write_str(if value != 0 { "true" } else { "false" })?)
            }
            Some((5, Raw::Bytes(bytes))) => self.structure(bytes, sensitive),
            Some((6, Raw::Bytes(bytes))) => self.list_value(bytes, sensitive),
            _ => Ok(self.out.write_str("null")?),
        }
    }
}
