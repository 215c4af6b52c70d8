//! Regular expressions of `stats_tags`: ECMAScript's, as `std::regex` takes them, with look-ahead and back references.
//!
//! They run on the control thread over names of stats, so a backtracking engine with a step limit will do; expressions that
//! need neither look-around nor back references run on the linear one all the same.

use super::Found;

/// More backtracking than this on one name is a pattern gone wrong; the tag then does not match.
const BACKTRACK_LIMIT: usize = 100_000;

#[derive(Debug)]
pub(super) struct EcmaRegex {
    regex: fancy_regex::Regex,
    first_token: Option<Box<str>>,
}

impl EcmaRegex {
    /// # Errors
    /// What is wrong with the expression.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let regex = fancy_regex::RegexBuilder::new(&translate(pattern)?)
            .backtrack_limit(BACKTRACK_LIMIT)
            .build()
            .map_err(|error| format!("expected a regular expression, got {pattern:?}: {error}"))?;
        if regex.captures_len() < 2 {
            return Err(format!("expected a regular expression with a group to take out of the name, got {pattern:?}"));
        }
        Ok(Self { regex, first_token: first_token(pattern).map(Into::into) })
    }

    pub fn first_token(&self) -> Option<&str> {
        self.first_token.as_deref()
    }

    pub fn find(&self, name: &str) -> Option<Found> {
        let groups = self.regex.captures(name).ok().flatten()?;
        // A group that took no part in the match stands for empty text.
        let group = |i| groups.get(i).map_or(0..0, |group| group.range());
        let remove = group(1);
        let value = if groups.len() > 2 { group(2) } else { remove.clone() };
        Some(Found { value, remove })
    }
}

/// The token that `pattern` demands first, if it is anchored and goes on with a dot. Decides only about the order of tags.
fn first_token(pattern: &str) -> Option<&str> {
    let pattern = pattern.strip_prefix('^')?;
    let end = pattern.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let (token, rest) = pattern.split_at_checked(end)?;
    let ends_token = rest == "$" || (rest.len() > 1 && (rest.starts_with(r"\.") || rest.starts_with(r"(?=\.)")));
    (!token.is_empty() && ends_token).then_some(token)
}

/// Rewrites what means something else to our engine: `\d`, `\w` and `\s` are ASCII, and in a class `[`, `&`, `~` and `-` are
/// plain characters.
fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let escaped =
                    chars.next().ok_or_else(|| format!("expected a character after the last \\ of {pattern:?}"))?;
                escape(escaped, in_class, &mut out);
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if chars.peek() == Some(&']') {
                    return Err(format!("expected a character in the empty class of {pattern:?}"));
                }
            }
            '[' if chars.peek() == Some(&':') => {
                // A named class keeps its brackets: [:digit:].
                let name: String = std::iter::once('[').chain(chars.by_ref().take_while(|c| *c != ']')).collect();
                out.push_str(&name);
                out.push(']');
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '(' if !in_class => {
                out.push('(');
                if chars.peek() == Some(&'?') {
                    let mut ahead = chars.clone().skip(1);
                    if !matches!(ahead.next(), Some(':' | '=' | '!')) {
                        return Err(format!("expected (?:, (?= or (?! in {pattern:?}"));
                    }
                }
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

fn escape(c: char, in_class: bool, out: &mut String) {
    let class = match c {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => r" \t\n\x0B\x0C\r",
        'D' => "^0-9",
        'W' => "^0-9A-Za-z_",
        'S' => r"^ \t\n\x0B\x0C\r",
        _ => {
            out.push('\\');
            out.push(c);
            return;
        }
    };
    // Inside a class a negated one must keep its brackets; a plain one may either way.
    let brackets = !in_class || class.starts_with('^');
    out.push_str(if brackets { "[" } else { "" });
    out.push_str(class);
    out.push_str(if brackets { "]" } else { "" });
}
