//! Translation of a pattern in RE2's syntax to one that means the same to Rust's `regex`.
//!
//! The two languages are close, and the differences are quiet: a pattern that both accept may match other values. So the
//! pattern is read as RE2 reads it (its Perl-like mode, UTF-8) and written anew with every literal escaped. What RE2
//! refuses is refused here too, so that a configuration does not depend on which of the two proxies runs it.
//!
//! | RE2 | Rust's `regex` | here |
//! |---|---|---|
//! | `\d \s \w \b` are ASCII, `\s` without `\v` | Unicode, `\s` with `\v` | classes written out |
//! | `\Q..\E`, `\C`, octal `\141` | refused | rewritten |
//! | `x{,3}` and `x{01}` are literal | refused, or a repetition | `\{` |
//! | `[a&&b]`, `[a--b]`, `[[a]` are plain sets | set operations | escaped |
//! | `\<` is a literal | a word boundary | escaped |
//! | `a**`, `a{1001}`, `(?x)` are refused | accepted | refused |

use std::iter::Peekable;
use std::str::Chars;

/// Groups within groups. RE2 allows a thousand; here compiling recurses, and nobody writes more than a few.
pub(super) const MAX_NESTING: u32 = 50;
const MAX_REPEAT: u32 = 1000;

const DIGIT: &str = "0-9";
const SPACE: &str = r"\t\n\x0C\r ";
const WORD: &str = "0-9A-Za-z_";
const POSIX: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Rewrites `pattern`, or says what RE2 has against it.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut translator = Translator { rest: pattern.chars().peekable(), out: String::with_capacity(pattern.len() + 8) };
    translator.run()?;
    Ok(translator.out)
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
}

/// What stands before the place where a repetition may come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// Something that was repeated at most this often in all, counting repetitions within it.
    Item(u32),
    Repeated(u32),
}

impl Before {
    /// How many times over a part of it may stand in the pattern once written out.
    fn factor(self) -> u32 {
        match self {
            Before::Nothing => 1,
            Before::Item(n) | Before::Repeated(n) => n,
        }
    }
}

/// A group that is open: the largest factor of anything in it so far.
struct Open {
    factor: u32,
}

impl Translator<'_> {
    fn run(&mut self) -> Result<(), String> {
        let mut open: Vec<Open> = Vec::new();
        let mut factor = 1;
        let mut before = Before::Nothing;
        while let Some(c) = self.rest.next() {
            match c {
                '(' => match self.group()? {
                    Group::Flags => continue,
                    Group::Opened => {
                        open.push(Open { factor: factor.max(before.factor()) });
                        if open.len() > MAX_NESTING as usize {
                            return Err("nested too deeply".into());
                        }
                        (factor, before) = (1, Before::Nothing);
                    }
                },
                ')' => {
                    let inner = factor.max(before.factor());
                    factor = open.pop().ok_or("a ) without its (")?.factor;
                    self.out.push(')');
                    before = Before::Item(inner);
                }
                '|' => {
                    self.out.push('|');
                    factor = factor.max(before.factor());
                    before = Before::Nothing;
                }
                '*' | '+' | '?' => before = self.repeat(before, &c.to_string(), 1)?,
                '{' => match self.bounds() {
                    Some((text, min, max)) => {
                        if min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || max < min) {
                            return Err(format!("bad repetition size {text}"));
                        }
                        before = self.repeat(before, &text, max.unwrap_or(min).max(1))?;
                    }
                    None => {
                        factor = factor.max(before.factor());
                        self.literal('{');
                        before = Before::Item(1);
                    }
                },
                c => {
                    factor = factor.max(before.factor());
                    if self.atom(c)? {
                        before = Before::Item(1);
                    }
                }
            }
        }
        if open.is_empty() { Ok(()) } else { Err("a ( without its )".into()) }
    }

    /// Writes a repetition operator and the `?` that makes it lazy.
    fn repeat(&mut self, before: Before, operator: &str, times: u32) -> Result<Before, String> {
        let Before::Item(inner) = before else {
            return Err(match before {
                Before::Nothing => format!("nothing to repeat before {operator}"),
                _ => format!("{operator} after another repetition"),
            });
        };
        let factor = inner.saturating_mul(times);
        if factor > MAX_REPEAT {
            return Err(format!("repetitions within repetitions come to {factor}, more than {MAX_REPEAT}"));
        }
        self.out.push_str(operator);
        if self.rest.next_if_eq(&'?').is_some() {
            self.out.push('?');
        }
        Ok(Before::Repeated(factor))
    }

    /// `{n}`, `{n,}` or `{n,m}` after the brace; anything else leaves the brace a literal.
    fn bounds(&mut self) -> Option<(String, u32, Option<u32>)> {
        let mut ahead = self.rest.clone();
        let min = number(&mut ahead)?;
        let (text, max) = if ahead.next_if_eq(&',').is_none() {
            (format!("{{{min}}}"), Some(min))
        } else if ahead.peek() == Some(&'}') {
            (format!("{{{min},}}"), None)
        } else {
            let max = number(&mut ahead)?;
            (format!("{{{min},{max}}}"), Some(max))
        };
        ahead.next_if_eq(&'}')?;
        self.rest = ahead;
        Some((text, min, max))
    }

    fn group(&mut self) -> Result<Group, String> {
        if self.rest.next_if_eq(&'?').is_none() {
            self.out.push('(');
            return Ok(Group::Opened);
        }
        let mut ahead = self.rest.clone();
        let named = match (ahead.next(), ahead.next()) {
            (Some('P'), Some('<')) => true,
            (Some('<'), Some(c)) if c != '=' && c != '!' => {
                ahead = self.rest.clone();
                ahead.next();
                true
            }
            _ => false,
        };
        if named {
            let name: String = ahead.by_ref().take_while(|c| *c != '>').collect();
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                return Err(format!("bad name of a group {name:?}"));
            }
            self.rest = ahead;
            self.out.push('(');
            return Ok(Group::Opened);
        }
        self.flags()
    }

    /// `(?i)`, `(?s-m:` and the like after the `?`.
    fn flags(&mut self) -> Result<Group, String> {
        let mut flags = String::new();
        loop {
            match self.rest.next() {
                Some(c @ ('i' | 'm' | 's' | 'U')) => flags.push(c),
                Some('-') if !flags.contains('-') => flags.push('-'),
                Some(c @ (':' | ')')) if !flags.ends_with('-') => {
                    let opened = c == ':';
                    if opened || !flags.is_empty() {
                        self.out.push_str("(?");
                        self.out.push_str(&flags);
                        self.out.push(c);
                    }
                    return Ok(if opened { Group::Opened } else { Group::Flags });
                }
                other => return Err(format!("(?{flags}{} is not known", other.map_or(String::new(), String::from))),
            }
        }
    }

    /// One character, class or assertion. False when nothing was written that could be repeated.
    fn atom(&mut self, c: char) -> Result<bool, String> {
        match c {
            '.' | '^' | '$' => self.out.push(c),
            '[' => self.class()?,
            '\\' => return self.escape(),
            c => self.literal(c),
        }
        Ok(true)
    }

    fn escape(&mut self) -> Result<bool, String> {
        match self.rest.peek().copied() {
            Some('Q') => {
                self.rest.next();
                return Ok(self.quoted());
            }
            Some(c @ ('A' | 'z')) => {
                self.out.push('\\');
                self.out.push(c);
            }
            Some('b') => self.out.push_str(r"(?-u:\b)"),
            Some('B') => self.out.push_str(r"(?-u:\B)"),
            Some('C') => self.out.push_str("(?s-u:.)"),
            _ => {
                if !self.class_escape()? {
                    let c = self.char_escape()?;
                    self.literal(c);
                }
                return Ok(true);
            }
        }
        self.rest.next();
        Ok(true)
    }

    /// `\Q…` to `\E` or the end. False when empty.
    fn quoted(&mut self) -> bool {
        let mut any = false;
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                break;
            }
            self.literal(c);
            any = true;
        }
        any
    }

    /// `\d`, `\pL` and the like after the backslash, as a class of its own; false when it is something else.
    fn class_escape(&mut self) -> Result<bool, String> {
        let (negated, set) = match self.rest.peek() {
            Some('d') => (false, DIGIT),
            Some('D') => (true, DIGIT),
            Some('s') => (false, SPACE),
            Some('S') => (true, SPACE),
            Some('w') => (false, WORD),
            Some('W') => (true, WORD),
            Some('p' | 'P') => return self.unicode_class().map(|()| true),
            _ => return Ok(false),
        };
        self.rest.next();
        self.out.push_str(if negated { "[^" } else { "[" });
        self.out.push_str(set);
        self.out.push(']');
        Ok(true)
    }

    fn unicode_class(&mut self) -> Result<(), String> {
        let mut negated = self.rest.next() == Some('P');
        let mut name = String::new();
        match self.rest.next() {
            Some('{') => {
                negated ^= self.rest.next_if_eq(&'^').is_some();
                loop {
                    match self.rest.next() {
                        Some('}') => break,
                        Some(c) => name.push(c),
                        None => return Err(r"a \p{ without its }".into()),
                    }
                }
            }
            Some(c) => name.push(c),
            None => return Err(r"nothing after \p".into()),
        }
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic() || c == '_') {
            return Err(format!(r"\p{{{name}}} is not known"));
        }
        self.out.push_str(if negated { r"\P{" } else { r"\p{" });
        self.out.push_str(&name);
        self.out.push('}');
        Ok(())
    }

    /// The character that an escape stands for, after the backslash.
    fn char_escape(&mut self) -> Result<char, String> {
        let code = match self.rest.next() {
            Some(first @ '0'..='7') => {
                let second = self.rest.peek().and_then(|c| c.to_digit(8));
                if first != '0' && second.is_none() {
                    return Err(format!("back reference \\{first}"));
                }
                let mut code = first.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(8)) else { break };
                    self.rest.next();
                    code = code * 8 + digit;
                }
                code
            }
            Some('x') => self.hex()?,
            Some('a') => 0x07,
            Some('f') => 0x0c,
            Some('n') => 0x0a,
            Some('r') => 0x0d,
            Some('t') => 0x09,
            Some('v') => 0x0b,
            Some(c) if c.is_ascii() && !c.is_ascii_alphanumeric() => u32::from(c),
            Some(c) => return Err(format!("escape \\{c} is not known")),
            None => return Err("a \\ at the end".into()),
        };
        char::from_u32(code).ok_or_else(|| format!("\\x{{{code:X}}} is not a character"))
    }

    /// Two hexadecimal digits, or any number of them in braces.
    fn hex(&mut self) -> Result<u32, String> {
        let bad = || r"expected two hexadecimal digits or {…} after \x".to_owned();
        if self.rest.next_if_eq(&'{').is_none() {
            let mut digit = || self.rest.next().and_then(|c| c.to_digit(16)).ok_or_else(bad);
            return Ok(digit()? * 16 + digit()?);
        }
        let mut code: Option<u32> = None;
        loop {
            match self.rest.next().ok_or_else(bad)? {
                '}' => return code.ok_or_else(bad),
                c => {
                    let digit = c.to_digit(16).ok_or_else(bad)?;
                    code = Some(code.unwrap_or(0).saturating_mul(16).saturating_add(digit));
                    if code > Some(0x10FFFF) {
                        return Err(r"expected a code point of at most 10FFFF after \x".into());
                    }
                }
            }
        }
    }

    /// `[…]` after the bracket.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.rest.next().ok_or("a [ without its ]")?;
            match c {
                ']' if !first => {
                    self.out.push(']');
                    return Ok(());
                }
                '[' if self.posix_class()? => {}
                '\\' if self.class_escape()? => {}
                c => self.range(c)?,
            }
            first = false;
        }
    }

    /// `[:alpha:]` after its first bracket; false when there is none, and the bracket is a literal.
    fn posix_class(&mut self) -> Result<bool, String> {
        let mut ahead = self.rest.clone();
        if ahead.next_if_eq(&':').is_none() {
            return Ok(false);
        }
        let mut name = String::new();
        while let Some(c) = ahead.next() {
            if c == ':' && ahead.next_if_eq(&']').is_some() {
                if !POSIX.contains(&name.strip_prefix('^').unwrap_or(&name)) {
                    return Err(format!("[:{name}:] is not known"));
                }
                self.rest = ahead;
                self.out.push_str(&format!("[:{name}:]"));
                return Ok(true);
            }
            name.push(c);
        }
        Ok(false)
    }

    /// A character of a class, or two with a `-` between them.
    fn range(&mut self, c: char) -> Result<(), String> {
        let low = if c == '\\' { self.char_escape()? } else { c };
        self.literal(low);
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('-') && ahead.peek().is_some_and(|c| *c != ']') {
            self.rest = ahead;
            let high = match self.rest.next() {
                Some('\\') => self.char_escape()?,
                Some(c) => c,
                None => return Err("a [ without its ]".into()),
            };
            if high < low {
                return Err(format!("bad range {low}-{high}"));
            }
            self.out.push('-');
            self.literal(high);
        }
        Ok(())
    }

    /// Numeric where it is punctuation, because which punctuation has a meaning is exactly what differs.
    fn literal(&mut self, c: char) {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' {
            self.out.push_str(&format!("\\x{:02X}", u32::from(c)));
        } else {
            self.out.push(c);
        }
    }
}

enum Group {
    Opened,
    Flags,
}

/// A number without leading zeros; larger ones than a billion are none, as in RE2.
fn number(chars: &mut Peekable<Chars<'_>>) -> Option<u32> {
    let first = chars.next_if(char::is_ascii_digit)?;
    let mut number = first.to_digit(10)?;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        if first == '0' || number >= 100_000_000 {
            return None;
        }
        chars.next();
        number = number * 10 + digit;
    }
    Some(number)
}
