//! A strict JSON reader (RFC 8259) that writes slots as it goes.

use super::Mistake;
use super::tree::{Builder, MAX_DEPTH, Tree};

pub(super) fn parse(text: &str) -> Result<Tree<'_>, Mistake> {
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, out: Builder::new(text) };
    if text.starts_with('\u{feff}') {
        reader.at = '\u{feff}'.len_utf8();
    }
    reader.space();
    reader.value(0)?;
    reader.space();
    if reader.at < text.len() {
        return Err(reader.mistake("the end of the text after the value"));
    }
    Ok(reader.out.finish())
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    out: Builder<'a>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn mistake(&self, expected: &str) -> Mistake {
        let got = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) if c.is_control() => format!("the control character U+{:04X}", u32::from(c)),
            Some(c) => format!("'{c}'"),
            None => "the end of the text".into(),
        };
        Mistake::new(self.at, expected, got)
    }

    fn value(&mut self, depth: usize) -> Result<(), Mistake> {
        if depth > MAX_DEPTH {
            return Err(Mistake::new(self.at, format!("at most {MAX_DEPTH} levels"), "one more"));
        }
        let at = self.at;
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true").map(|()| self.out.bool(Some(at), true)),
            Some(b'f') => self.word("false").map(|()| self.out.bool(Some(at), false)),
            Some(b'n') => self.word("null").map(|()| self.out.null(Some(at))),
            _ => Err(self.mistake("a JSON value")),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Mistake> {
        let end = self.at + word.len();
        let next = self.bytes.get(end).copied().unwrap_or(b' ');
        if self.text.get(self.at..end) != Some(word) || next.is_ascii_alphanumeric() || next == b'_' {
            return Err(self.mistake("a JSON value"));
        }
        self.at = end;
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), Mistake> {
        let open = self.out.open_object(Some(self.at));
        self.at += 1;
        self.space();
        let mut len = 0;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return self.out.close_checked_object(open, len);
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.mistake("a key in double quotes"));
            }
            self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.mistake("':' after the key"));
            }
            self.at += 1;
            self.space();
            self.value(depth + 1)?;
            len += 1;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return self.out.close_checked_object(open, len);
                }
                _ => return Err(self.mistake("',' or '}'")),
            }
            self.space();
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Mistake> {
        let open = self.out.open_array(Some(self.at));
        self.at += 1;
        self.space();
        let mut len = 0;
        if self.peek() == Some(b']') {
            self.at += 1;
            self.out.close_array(open, len);
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            len += 1;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    self.out.close_array(open, len);
                    return Ok(());
                }
                _ => return Err(self.mistake("',' or ']'")),
            }
            self.space();
        }
    }

    fn string(&mut self) -> Result<(), Mistake> {
        let quote = self.at;
        self.at += 1;
        self.plain();
        if self.peek() == Some(b'"') {
            self.out.string(quote, quote + 1, self.at - quote - 1);
            self.at += 1;
            return Ok(());
        }
        let (owned, start) = self.out.unescaped();
        owned.push_str(self.text.get(quote + 1..self.at).unwrap_or_default());
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.out.end_unescaped(quote, start);
                    return Ok(());
                }
                Some(b'\\') => {
                    let c = self.escape()?;
                    self.out.unescaped().0.push(c);
                }
                None => return Err(Mistake::new(quote, "'\"' at the end of the string", "the end of the text")),
                Some(_) => return Err(self.mistake("control characters in a string escaped")),
            }
            let from = self.at;
            self.plain();
            self.out.unescaped().0.push_str(self.text.get(from..self.at).unwrap_or_default());
        }
    }

    /// Steps over what needs no unescaping.
    fn plain(&mut self) {
        while let Some(byte) = self.peek() {
            if byte == b'"' || byte == b'\\' || byte < 0x20 {
                return;
            }
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Result<char, Mistake> {
        let start = self.at;
        self.at += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape(start);
            }
            _ => return Err(self.mistake("one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u after the backslash")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self, start: usize) -> Result<char, Mistake> {
        let first = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&first) && self.bytes.get(self.at..self.at + 2) == Some(b"\\u") {
            self.at += 2;
            match self.hex4()? {
                second @ 0xdc00..=0xdfff => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                _ => first,
            }
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| Mistake::new(start, "both halves of a surrogate pair", "one half"))
    }

    fn hex4(&mut self) -> Result<u32, Mistake> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|d| std::str::from_utf8(d).ok());
        let Some(code) = digits.and_then(|d| u32::from_str_radix(d, 16).ok()) else {
            return Err(self.mistake("four hexadecimal digits after \\u"));
        };
        self.at += 4;
        Ok(code)
    }

    fn number(&mut self) -> Result<(), Mistake> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        if self.peek().is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'+' | b'-')) {
            return Err(self.mistake("the end of the number"));
        }
        self.out.number(start, self.at - start);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Mistake> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.mistake("a digit")) } else { Ok(()) }
    }
}
