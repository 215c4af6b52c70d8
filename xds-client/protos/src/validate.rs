//! Checks messages against the `validate.rules` of the API, as Envoy does before it looks at a configuration.
//!
//! Works on wire bytes, so that bootstrap and xDS resources take the same way, and looks into Anys of known types and into
//! TypedStructs. Parts of a message that cannot hold rules are not read. Rules of a field with presence, and of a member of a
//! oneof, count only when it is set; `required` and the rules of other fields count always.
//!
//! Fields that Envoy disallows by default (deprecated long ago) are refused here too.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use crate::encode::MAX_PROBLEMS;
use crate::path::Path;
use crate::problem::Problem;
use crate::rules::{self, Program, Rule};
use crate::schema::{Field, Kind, Message, WellKnown};
use crate::typed_struct;
use crate::wire::{self, MAX_DEPTH, Malformed, Scalar, Stack};

/// Checks the message with this full name. Problems come without a place in a text: `Problem::in_tree` finds it.
pub fn validate(message: &str, wire: &[u8]) -> Result<(), Vec<Problem>> {
    let Some(message) = Message::find(message) else {
        return Err(vec![Problem::new("", "a message of the API", format!("\"{message}\""))]);
    };
    let mut validator = Validator { problems: Vec::new(), depth: 0 };
    validator.checked(&mut Stack::default(), message, wire, &Path::ROOT);
    if validator.problems.is_empty() { Ok(()) } else { Err(validator.problems) }
}

struct Validator {
    problems: Vec<Problem>,
    depth: usize,
}

/// One value of a field, as rules see it.
#[derive(Clone, Copy)]
enum Value<'a> {
    Scalar(Kind, Scalar<'a>),
    Duration(i64, i32),
    TypeUrl(&'a str),
    /// A message without value rules.
    Message,
    /// A message field that is not set.
    Absent,
}

type Checked = Result<(), Malformed>;

impl Validator {
    fn problem(&mut self, at: &Path<'_>, expected: impl Into<String>, got: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem::new(at.to_string(), expected, got));
        }
    }

    fn full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// A message below which malformed bytes are a problem of their own.
    fn checked<'a>(&mut self, stack: &mut Stack<'a>, message: Message, bytes: &'a [u8], at: &Path<'_>) {
        if self.message(stack, message, bytes, at).is_err() {
            self.problem(at, format!("a well-formed {}", message.full_name()), "other bytes");
        }
    }

    fn message<'a>(&mut self, stack: &mut Stack<'a>, message: Message, bytes: &'a [u8], at: &Path<'_>) -> Checked {
        if !message.is_validated() || self.full() {
            return Ok(());
        }
        if self.depth >= MAX_DEPTH {
            return Err(Malformed);
        }
        self.depth += 1;
        match message.well_known() {
            Some(WellKnown::Any) => self.any(stack, bytes, at)?,
            Some(WellKnown::TypedStruct) => self.typed_struct(bytes, at),
            _ => self.fields(stack, message, bytes, at)?,
        }
        self.depth -= 1;
        Ok(())
    }

    fn fields<'a>(&mut self, stack: &mut Stack<'a>, message: Message, bytes: &'a [u8], at: &Path<'_>) -> Checked {
        let range = stack.open(message, bytes, &mut |_| {})?;
        let mut next = range.start;
        for field in message.fields() {
            let is_set = next < range.end && stack.get(next).is_some_and(|entry| entry.field == field);
            let end = if is_set { stack.group_end(&range, next) } else { next };
            if field.rules().is_some() || (is_set && is_looked_into(field)) {
                self.field(stack, field, next..end, &at.field(field.name()))?;
            }
            next = end;
        }
        for oneof in message.oneofs().filter(|oneof| oneof.is_required()) {
            let members = range.clone().filter_map(|i| stack.get(i));
            if !members.into_iter().any(|entry| entry.field.oneof() == Some(oneof)) {
                let names: Vec<_> = message.fields().filter(|f| f.oneof() == Some(oneof)).map(Field::name).collect();
                self.problem(at, format!("one of {}", names.join(", ")), "none of them");
            }
        }
        stack.close(&range);
        Ok(())
    }

    /// A field with its values at `group`, which is empty when it is not set.
    fn field<'a>(&mut self, stack: &mut Stack<'a>, field: Field, group: Range<usize>, at: &Path<'_>) -> Checked {
        let program = Program::new(field.rules().unwrap_or_default());
        if field.is_disallowed_by_default() && !group.is_empty() {
            self.problem(at, "a field that is still allowed", "one that is deprecated and disallowed");
        }
        if let Some((key, value)) = field.map_entry() {
            return self.map(stack, key, value, program, group, at);
        }
        if field.is_repeated() {
            return self.list(stack, field, program, group, at);
        }
        if group.is_empty() {
            // A member of a oneof is required in that a set one must not be null, which the wire cannot say.
            if field.oneof().is_none() {
                let value = match (field.kind(), field.has_presence()) {
                    (Kind::Message(_), _) | (_, true) => Value::Absent,
                    (kind, false) => Value::Scalar(kind, Scalar::default_of(kind)),
                };
                self.value(program, value, at);
            }
            return Ok(());
        }
        let Some((entry, bytes)) = stack.singular(group) else { return Ok(()) };
        match (field.message(), bytes) {
            (None, _) => {
                self.value(program, Value::Scalar(field.kind(), entry.scalar()?), at);
                Ok(())
            }
            (Some(message), Cow::Borrowed(bytes)) => self.message_value(stack, program, message, bytes, at),
            (Some(message), Cow::Owned(merged)) => {
                self.message_value(&mut Stack::default(), program, message, &merged, at)
            }
        }
    }

    /// A message that is set: its own rules, then what is in it.
    fn message_value<'a>(
        &mut self,
        stack: &mut Stack<'a>,
        program: Program,
        message: Message,
        bytes: &'a [u8],
        at: &Path<'_>,
    ) -> Checked {
        let value = match message.well_known() {
            Some(WellKnown::Duration) => {
                let (seconds, nanos) = wire::seconds_and_nanos(bytes)?;
                Value::Duration(seconds, nanos)
            }
            Some(WellKnown::Wrapper) => {
                let Some(field) = message.field_by_number(1) else { return Ok(()) };
                let range = stack.open(message, bytes, &mut |_| {})?;
                let last = stack.singular(range.clone()).map(|(entry, _)| entry.scalar()).transpose()?;
                stack.close(&range);
                Value::Scalar(field.kind(), last.unwrap_or(Scalar::default_of(field.kind())))
            }
            Some(WellKnown::Any) => Value::TypeUrl(wire::any_parts(bytes)?.0),
            _ => Value::Message,
        };
        self.value(program, value, at);
        if program.into_iter().any(|rule| matches!(rule, Rule::Skip)) {
            return Ok(());
        }
        self.message(stack, message, bytes, at)
    }

    fn value(&mut self, program: Program, value: Value<'_>, at: &Path<'_>) {
        for rule in program {
            let broken = match (&rule, value) {
                (Rule::Required, Value::Absent) => return self.problem(at, "a value", "none"),
                (_, Value::Absent) => Ok(()),
                (Rule::IgnoreEmpty, Value::Scalar(_, scalar)) if scalar.is_default() => return,
                (_, Value::Scalar(kind, scalar)) => {
                    rules::check_scalar(&rule, kind, scalar).map_err(|expected| (expected, rules::shown(kind, scalar)))
                }
                (Rule::Duration(order, limit), Value::Duration(seconds, nanos)) => {
                    if order.holds((seconds, nanos), *limit) {
                        Ok(())
                    } else {
                        Err((format!("{order} {}", duration(limit.0, limit.1)), duration(seconds, nanos)))
                    }
                }
                (Rule::Texts { within, list }, Value::TypeUrl(url)) => {
                    rules::check_texts(*within, list, url).map_err(|expected| (expected, format!("\"{url}\"")))
                }
                _ => Ok(()),
            };
            if let Err((expected, got)) = broken {
                self.problem(at, expected, got);
            }
        }
    }

    fn list<'a>(
        &mut self,
        stack: &mut Stack<'a>,
        field: Field,
        program: Program,
        group: Range<usize>,
        at: &Path<'_>,
    ) -> Checked {
        let items = self.count(program, group.len(), "item", at);
        if program.into_iter().any(|rule| matches!(rule, Rule::Unique)) {
            let mut seen = HashSet::new();
            for (index, entry) in group.clone().filter_map(|i| stack.get(i)).enumerate() {
                let value = rules::shown(field.kind(), entry.scalar()?);
                if seen.contains(&value) {
                    self.problem(&at.index(index), "each value once", format!("{value} again"));
                }
                seen.insert(value);
            }
        }
        for (index, i) in group.enumerate() {
            let Some(entry) = stack.get(i) else { break };
            if self.full() {
                break;
            }
            let at = &at.index(index);
            let items = items.unwrap_or(Program::new(&[]));
            match field.kind() {
                Kind::Message(message) => self.message_value(stack, items, message, entry.bytes(), at)?,
                kind => self.value(items, Value::Scalar(kind, entry.scalar()?), at),
            }
        }
        Ok(())
    }

    fn map<'a>(
        &mut self,
        stack: &mut Stack<'a>,
        key: Field,
        value: Field,
        program: Program,
        group: Range<usize>,
        at: &Path<'_>,
    ) -> Checked {
        let items = self.count(program, group.len(), "entry", at);
        let keys = program.into_iter().find_map(|rule| match rule {
            Rule::ForKeys(keys) => Some(keys),
            _ => None,
        });
        for i in group {
            let Some(entry) = stack.get(i) else { break };
            let range = stack.open(key.parent(), entry.bytes(), &mut |_| {})?;
            let (mut name, mut content) = (Scalar::default_of(key.kind()), None);
            for part in range.clone().filter_map(|i| stack.get(i)) {
                if part.field == key {
                    name = part.scalar()?;
                } else {
                    content = Some(part);
                }
            }
            let text = match name {
                Scalar::Text(text) => Cow::Borrowed(text),
                other => Cow::Owned(rules::shown(key.kind(), other)),
            };
            let at = &at.key(&text);
            self.value(keys.unwrap_or(Program::new(&[])), Value::Scalar(key.kind(), name), at);
            let items = items.unwrap_or(Program::new(&[]));
            match value.kind() {
                Kind::Message(message) => {
                    self.message_value(stack, items, message, content.map_or(&[], |c| c.bytes()), at)?;
                }
                kind => {
                    let scalar = content.map_or(Ok(Scalar::default_of(kind)), |c| c.scalar())?;
                    self.value(items, Value::Scalar(kind, scalar), at);
                }
            }
            stack.close(&range);
        }
        Ok(())
    }

    /// Checks how many items there are; the rules for each of them.
    fn count(&mut self, program: Program, len: usize, unit: &str, at: &Path<'_>) -> Option<Program> {
        let mut items = None;
        for rule in program {
            match rule {
                Rule::IgnoreEmpty if len == 0 => return None,
                Rule::Items { order, limit } if !order.holds(len as u64, limit) => {
                    let units = |n: u64| if n == 1 { format!("1 {unit}") } else { format!("{n} {}", plural(unit)) };
                    self.problem(at, format!("{order} {}", units(limit)), units(len as u64));
                }
                Rule::ForItems(program) => items = Some(program),
                _ => {}
            }
        }
        items
    }

    fn any<'a>(&mut self, stack: &mut Stack<'a>, bytes: &'a [u8], at: &Path<'_>) -> Checked {
        let (type_url, value) = wire::any_parts(bytes)?;
        match Message::find_url(type_url) {
            Some(message) if message.has_special_json() => self.checked(stack, message, value, &at.field("value")),
            Some(message) => self.checked(stack, message, value, at),
            // Whoever uses it knows whether an unknown type is a mistake.
            None => {}
        }
        Ok(())
    }

    fn typed_struct(&mut self, bytes: &[u8], at: &Path<'_>) {
        // An unknown type is for whoever uses it to refuse, as in an Any.
        let known = wire::any_parts(bytes).is_ok_and(|(url, _)| Message::find_url(url).is_some());
        if !known {
            return;
        }
        let at = &at.field("value");
        match typed_struct::unwrap(bytes) {
            Ok((type_url, inner)) => {
                if let Some(message) = Message::find_url(&type_url) {
                    self.checked(&mut Stack::default(), message, &inner, at);
                }
            }
            Err(problems) => {
                for problem in problems {
                    let path = at.field(&problem.path).to_string();
                    self.problem(&Path::ROOT.field(&path), problem.expected, problem.got);
                }
            }
        }
    }
}

/// Whether a field without rules of its own matters.
fn is_looked_into(field: Field) -> bool {
    field.message().is_some_and(Message::is_validated) || field.is_disallowed_by_default()
}

fn plural(unit: &str) -> String {
    match unit.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{unit}s"),
    }
}

fn duration(seconds: i64, nanos: i32) -> String {
    let mut out = String::new();
    crate::time::format_duration(seconds, nanos, &mut out);
    out
}

#[cfg(test)]
mod tests;
