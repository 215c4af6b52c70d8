//! YAML events to slots, with the scalars of Envoy's loader (yaml-cpp, then JSON).

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::Mistake;
use super::tree::{Builder, MAX_DEPTH, Slot, Tree};

/// Slots that anchors and aliases may copy: a text of some lines can otherwise describe a tree of any size.
const MAX_COPIES: usize = 1 << 20;

pub(super) fn parse(text: &str) -> Result<Tree<'_>, Mistake> {
    let lines = Lines::new(text);
    let mut loader = Loader {
        text,
        lines,
        events: Parser::new_from_str(text),
        out: Builder::new(text),
        anchors: HashMap::new(),
        copied: 0,
    };
    loader.document()?;
    Ok(loader.out.finish())
}

/// Finds bytes from the line and column of the parser, whose character index is not reliable after comments.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<u32>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        let bytes = text.as_bytes();
        let mut starts = vec![0];
        for (i, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' || (*byte == b'\r' && bytes.get(i + 1) != Some(&b'\n')) {
                starts.push(i as u32 + 1);
            }
        }
        Lines { text, starts }
    }

    fn offset(&self, line: usize, column: usize) -> usize {
        let Some(start) = self.starts.get(line.saturating_sub(1)) else { return self.text.len() };
        let start = *start as usize;
        let rest = self.text.get(start..).unwrap_or_default();
        match rest.as_bytes().get(..column) {
            Some(head) if head.is_ascii() => start + column,
            _ => start + rest.char_indices().nth(column).map_or(rest.len(), |(i, _)| i),
        }
    }
}

struct Loader<'a> {
    text: &'a str,
    lines: Lines<'a>,
    events: Parser<'a, StrInput<'a>>,
    out: Builder<'a>,
    /// Finished nodes by the number of their anchor.
    anchors: HashMap<usize, Vec<Slot>>,
    copied: usize,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), Mistake> {
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, self.at(span))),
            Some(Err(error)) => Err(self.scan_error(&error)),
            None => Ok((Event::StreamEnd, self.text.len())),
        }
    }

    fn at(&self, span: Span) -> usize {
        self.lines.offset(span.start.line(), span.start.col())
    }

    fn scan_error(&self, error: &ScanError) -> Mistake {
        let at = self.lines.offset(error.marker().line(), error.marker().col());
        Mistake::new(at, "well-formed YAML", error.info())
    }

    fn document(&mut self) -> Result<(), Mistake> {
        let mut seen = false;
        loop {
            match self.next()? {
                (Event::StreamEnd, at) => {
                    if !seen {
                        self.out.null(Some(at));
                    }
                    return Ok(());
                }
                (Event::DocumentStart(_), at) if seen => {
                    return Err(Mistake::new(at, "one YAML document", "a second one"));
                }
                (Event::DocumentStart(_), _) => {
                    let (event, at) = self.next()?;
                    self.node(event, at, 0)?;
                    seen = true;
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Event<'a>, at: usize, depth: usize) -> Result<(), Mistake> {
        if depth > MAX_DEPTH {
            return Err(Mistake::new(at, format!("at most {MAX_DEPTH} levels"), "one more"));
        }
        let start = self.out.next();
        let anchor = match event {
            Event::Scalar(value, style, anchor, tag) => {
                self.scalar(&value, style, tag.as_deref(), at);
                anchor
            }
            Event::SequenceStart(anchor, _) => {
                self.sequence(at, depth)?;
                anchor
            }
            Event::MappingStart(anchor, _) => {
                self.mapping(at, depth)?;
                anchor
            }
            Event::Alias(anchor) => return self.alias(anchor, at),
            _ => return Err(Mistake::new(at, "a YAML value", "none")),
        };
        if anchor != 0 {
            let copy = self.out.copy_of(start);
            self.count(copy.len(), at)?;
            self.anchors.insert(anchor, copy);
        }
        Ok(())
    }

    fn count(&mut self, slots: usize, at: usize) -> Result<(), Mistake> {
        self.copied += slots;
        if self.copied > MAX_COPIES {
            return Err(Mistake::new(at, format!("at most {MAX_COPIES} values by anchors and aliases"), "more"));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: usize) -> Result<(), Mistake> {
        let Some(copy) = self.anchors.get(&anchor) else {
            return Err(Mistake::new(at, "an alias of a finished node", "one of a node that contains it"));
        };
        let len = copy.len();
        self.out.paste(copy);
        self.count(len, at)
    }

    fn sequence(&mut self, at: usize, depth: usize) -> Result<(), Mistake> {
        let open = self.out.open_array(Some(at));
        let mut len = 0;
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => {
                    self.out.close_array(open, len);
                    return Ok(());
                }
                (event, at) => self.node(event, at, depth + 1)?,
            }
            len += 1;
        }
    }

    fn mapping(&mut self, at: usize, depth: usize) -> Result<(), Mistake> {
        let open = self.out.open_object(Some(at));
        let (mut len, mut merges) = (0, Vec::new());
        loop {
            match self.next()? {
                (Event::MappingEnd, _) => break,
                (event, at) => {
                    if matches!(&event, Event::Scalar(key, ScalarStyle::Plain, _, None) if key == "<<") {
                        merges.push(len);
                    }
                    self.key(event, at)?;
                }
            }
            let (event, at) = self.next()?;
            self.node(event, at, depth + 1)?;
            len += 1;
        }
        // Several merge keys are one: the rule that a key occurs once is for the others.
        if !merges.is_empty() {
            len = self
                .out
                .apply_merges(open, len, &merges)
                .map_err(|at| Mistake::new(at, "an object, or a list of objects, after '<<'", "something else"))?;
        }
        self.out.close_checked_object(open, len)
    }

    /// Keys are strings whatever they look like.
    fn key(&mut self, event: Event<'a>, at: usize) -> Result<(), Mistake> {
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                let start = self.out.next();
                if style == ScalarStyle::Plain && tag.is_none() && is_null(&value) {
                    self.out.owned_string(Some(at), "null");
                } else {
                    self.text(&value, style, at);
                }
                if anchor != 0 {
                    let copy = self.out.copy_of(start);
                    self.anchors.insert(anchor, copy);
                }
                Ok(())
            }
            _ => Err(Mistake::new(at, "a key that is a plain or quoted text", "another kind of key")),
        }
    }

    fn scalar(&mut self, value: &str, style: ScalarStyle, tag: Option<&Tag>, at: usize) {
        let plain = style == ScalarStyle::Plain;
        // yaml-cpp gives quoted and block scalars the tag `!`, unless they have one: `!!int "7"` is a number.
        let text = match tag {
            Some(tag) => tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty(),
            None => !plain,
        };
        if text {
            return self.text(value, style, at);
        }
        if plain && tag.is_none() && is_null(value) {
            return self.out.null(Some(at));
        }
        match integer(value) {
            Some(number) if i32::try_from(number).is_ok() => {
                let text = number.to_string();
                if plain && text == value {
                    self.out.number(at, value.len());
                } else {
                    self.out.owned_number(Some(at), &text);
                }
            }
            Some(number) => self.out.owned_string(Some(at), &number.to_string()),
            None => match boolean(value) {
                Some(value) => self.out.bool(Some(at), value),
                None => self.text(value, style, at),
            },
        }
    }

    fn text(&mut self, value: &str, style: ScalarStyle, at: usize) {
        let start = match style {
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => at + 1,
            _ => at,
        };
        if self.text.get(start..).is_some_and(|rest| rest.starts_with(value)) {
            self.out.string(at, start, value.len());
        } else {
            self.out.owned_string(Some(at), value);
        }
    }
}

/// The parser gives a missing value as `~`.
fn is_null(value: &str) -> bool {
    matches!(value, "" | "~" | "null" | "Null" | "NULL")
}

/// What a C++ stream reads as an integer of any base: `-5`, `+5`, `0x1F`, `010` (octal).
fn integer(value: &str) -> Option<i64> {
    let (negative, digits) = match value.as_bytes().first()? {
        b'-' => (true, value.get(1..)?),
        b'+' => (false, value.get(1..)?),
        _ => (false, value),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, digits.get(2..)?),
        Some(_) if digits.starts_with('0') => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// YAML 1.1 booleans in lower case, capitals or with one capital first.
fn boolean(value: &str) -> Option<bool> {
    let uniform = value.chars().all(|c| c.is_ascii_lowercase()) || value.chars().all(|c| c.is_ascii_uppercase());
    let titled = value.chars().next()?.is_ascii_uppercase() && value.chars().skip(1).all(|c| c.is_ascii_lowercase());
    if !uniform && !titled {
        return None;
    }
    match value.to_ascii_lowercase().as_str() {
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}
