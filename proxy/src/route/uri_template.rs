//! `envoy.extensions.path.match.uri_template` and `envoy.extensions.path.rewrite.uri_template`: paths with variables, such
//! as `/shop/{item}/{rest=**}`.
//!
//! `*` is one path segment that is not empty, `**` any number of them, `{name}` a segment and `{name=…}` a pattern whose text
//! a rewrite may use. The limits (five variables, names of at most sixteen characters, nothing that matches freely after
//! `**`) are the extension's.

/// Bytes of a path segment: RFC 3986's `pchar` without `*` and `=`.
const SEGMENT_BYTES: &str = r"a-zA-Z0-9\-._~%!$&'()+,;:@";

const MAX_VARIABLES: usize = 5;
const MAX_VARIABLE_NAME: usize = 16;

/// A path template.
pub struct UriTemplate {
    pub(super) text: Box<str>,
    regex: regex::bytes::Regex,
    variables: Vec<Box<str>>,
}

/// `path_template_rewrite` for the template of the same route.
pub struct UriTemplateRewrite {
    regex: regex::bytes::Regex,
    parts: Box<[Part]>,
}

enum Part {
    Text(Box<str>),
    /// The number of a capture group.
    Variable(usize),
}

impl UriTemplate {
    /// # Errors
    /// What is wrong with the template.
    pub fn parse(template: &str) -> Result<Self, String> {
        let mut rest = template.strip_prefix('/').ok_or("expected a leading /")?;
        if !template.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("expected printable ASCII without spaces".into());
        }
        let mut parser = Parser { pattern: String::from("/"), variables: Vec::new(), seen_text_glob: false };
        while !rest.is_empty() {
            rest = match rest.as_bytes().first() {
                Some(b'*') => parser.glob(rest)?,
                Some(b'{') => parser.variable(rest)?,
                _ => parser.literal(rest)?,
            };
            let Some(next) = rest.strip_prefix('/') else {
                // What follows a glob or a variable directly is a literal that ends the template.
                if !rest.is_empty() && !parser.literal(rest)?.is_empty() {
                    return Err("a literal right after a glob or a variable must be the last segment".into());
                }
                break;
            };
            parser.pattern.push('/');
            rest = next;
        }
        let regex = regex::bytes::RegexBuilder::new(&format!(r"\A(?:{})\z", parser.pattern)).unicode(false).build();
        let regex = regex.map_err(|error| error.to_string())?;
        Ok(UriTemplate { text: template.into(), regex, variables: parser.variables })
    }

    /// Whether the whole path, without its query, is of this form.
    pub fn matches(&self, path: &str) -> bool {
        self.regex.is_match(path.as_bytes())
    }
}

struct Parser {
    /// The regular expression so far.
    pattern: String,
    variables: Vec<Box<str>>,
    seen_text_glob: bool,
}

impl Parser {
    fn glob<'a>(&mut self, from: &'a str) -> Result<&'a str, String> {
        if self.seen_text_glob {
            return Err("no glob may follow **".into());
        }
        if let Some(rest) = from.strip_prefix("**") {
            self.seen_text_glob = true;
            self.pattern.push_str(&format!("[{SEGMENT_BYTES}/]*"));
            return Ok(rest);
        }
        self.pattern.push_str(&format!("[{SEGMENT_BYTES}]+"));
        from.strip_prefix('*').ok_or_else(|| "expected *".into())
    }

    fn literal<'a>(&mut self, from: &'a str) -> Result<&'a str, String> {
        let at = from.find('/').unwrap_or(from.len());
        let (literal, rest) = from.split_at(at);
        if literal.is_empty() || !is_literal(literal, false) {
            return Err(format!("expected a literal, a glob or a variable, got {literal:?}"));
        }
        self.pattern.push_str(&regex::escape(literal));
        Ok(rest)
    }

    fn variable<'a>(&mut self, from: &'a str) -> Result<&'a str, String> {
        let inner = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let (inner, rest) = inner.ok_or("expected a } for the {")?;
        let (name, pattern) = match inner.split_once('=') {
            Some((name, pattern)) => (name, Some(pattern)),
            None => (inner, None),
        };
        if !is_variable_name(name) || name.len() > MAX_VARIABLE_NAME {
            return Err(format!(
                "expected the name of a variable of at most {MAX_VARIABLE_NAME} characters, got {name:?}"
            ));
        }
        if self.variables.iter().any(|have| **have == *name) {
            return Err(format!("the variable {name:?} occurs twice"));
        }
        if self.variables.len() == MAX_VARIABLES {
            return Err(format!("expected at most {MAX_VARIABLES} variables"));
        }
        self.variables.push(name.into());
        self.pattern.push('(');
        let mut pattern = pattern.unwrap_or("*");
        loop {
            pattern = if pattern.starts_with('*') { self.glob(pattern)? } else { self.literal(pattern)? };
            if pattern.is_empty() {
                break;
            }
            pattern = pattern.strip_prefix('/').ok_or("expected a / within the pattern of a variable")?;
            self.pattern.push('/');
        }
        self.pattern.push(')');
        Ok(rest)
    }
}

impl UriTemplateRewrite {
    /// # Errors
    /// What is wrong with the rewrite, or which variable the template has not.
    pub fn parse(rewrite: &str, template: &UriTemplate) -> Result<Self, String> {
        if !rewrite.starts_with('/') || rewrite.contains("//") {
            return Err(format!("expected a path that starts with / and has no //, got {rewrite:?}"));
        }
        let mut parts = Vec::new();
        let mut rest = rewrite;
        while !rest.is_empty() {
            let (text, variable) = rest.split_once('{').map_or((rest, None), |(text, from)| (text, Some(from)));
            if !text.is_empty() {
                if !is_literal(text, true) {
                    return Err(format!("expected text of a path, got {text:?}"));
                }
                parts.push(Part::Text(text.into()));
            }
            let Some(variable) = variable else { break };
            let (name, after) = variable.split_once('}').ok_or("expected a } for the {")?;
            let index = template.variables.iter().position(|have| **have == *name);
            let index = index.ok_or_else(|| format!("the path template has no variable {name:?}"))?;
            parts.push(Part::Variable(index + 1));
            rest = after;
        }
        Ok(UriTemplateRewrite { regex: template.regex.clone(), parts: parts.into() })
    }

    /// The new path, or `None` when the path is not of the template's form any more.
    pub fn apply(&self, path: &str) -> Option<String> {
        let captures = self.regex.captures(path.as_bytes())?;
        let mut new = String::new();
        for part in &self.parts {
            new.push_str(match part {
                Part::Text(text) => text,
                Part::Variable(group) => path.get(captures.get(*group)?.range())?,
            });
        }
        Some(new)
    }
}

fn is_literal(text: &str, slash: bool) -> bool {
    let is_segment = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@".contains(&b);
    text.bytes().all(|b| is_segment(b) || (slash && b == b'/'))
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_whole_paths() {
        for (template, yes, no) in [
            ("/a/*", &["/a/b", "/a/%20"][..], &["/a", "/a/", "/a/b/c", "/b/a", "/a/="][..]),
            ("/a/**", &["/a/", "/a/b", "/a/b/c", "/a//"], &["/a", "/ab"]),
            ("/a/{x}/c", &["/a/b/c"], &["/a//c", "/a/b/d"]),
            ("/a/{x=b/*}/c", &["/a/b/x/c"], &["/a/b/c", "/a/x/c"]),
            ("/{x}.json", &["/a.json", "/a.b.json"], &["/.json", "/ajson"]),
            ("/**.m3u8", &["/a/b.m3u8", "/.m3u8"], &["/a/b"]),
            ("/a/", &["/a/"], &["/a"]),
            ("/", &["/"], &["", "/a"]),
            ("/a$(b)+", &["/a$(b)+"], &["/ab"]),
        ] {
            let parsed = UriTemplate::parse(template).unwrap();
            yes.iter().for_each(|path| assert!(parsed.matches(path), "{template} {path}"));
            no.iter().for_each(|path| assert!(!parsed.matches(path), "{template} {path}"));
        }
    }

    #[test]
    fn bad_templates_are_refused() {
        let bad = [
            "",
            "a",
            "/a b",
            "//",
            "/a//b",
            "/**/*",
            "/{a=**}/{b}",
            "/{a}/{a}",
            "/{a",
            "/{}",
            "/{a=}",
            "/{a=b/}",
            "/{1}",
            "/{abcdefghijklmnopq}",
            "/{a}/{b}/{c}/{d}/{e}/{f}",
            "/*a/b",
            "/a*",
            "/a=b",
            "/***",
            "/{a=*b}",
        ];
        for template in bad {
            assert!(UriTemplate::parse(template).is_err(), "{template}");
        }
    }

    #[test]
    fn a_rewrite_puts_variables_into_a_path() {
        let template = UriTemplate::parse("/shop/{item}/{rest=**}").unwrap();
        let rewrite = UriTemplateRewrite::parse("/v2/{rest}/of/{item}", &template).unwrap();
        assert_eq!(rewrite.apply("/shop/shoes/a/b"), Some("/v2/a/b/of/shoes".into()));
        assert_eq!(rewrite.apply("/other"), None);
        for bad in ["", "x", "//", "/{none}", "/{item", "/a b", "/{1}"] {
            assert!(UriTemplateRewrite::parse(bad, &template).is_err(), "{bad}");
        }
    }
}
