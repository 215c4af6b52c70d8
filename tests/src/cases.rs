//! The files of hostile cases, `tests/hostile/data/*.txt`: read by the tests that send them and by whatever mutates them.
//!
//! Part of no other module, so that other crates' tests can include this file by its path.

/// One case: its name and its lines in order.
pub struct Case {
    pub id: String,
    lines: Vec<(String, String)>,
}

impl Case {
    /// The value of a line that is there at most once.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.lines.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Every line in order.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The bytes of all `send` lines.
    pub fn bytes(&self) -> Vec<u8> {
        self.all("send").flat_map(unescape).collect()
    }
}

/// Reads a file of cases. Keys other than `keys` are mistakes.
pub fn parse(text: &str, keys: &[&str]) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        if let Some(id) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            assert!(cases.iter().all(|case| case.id != id), "line {}: {id} twice", at + 1);
            cases.push(Case { id: id.to_owned(), lines: Vec::new() });
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("line {}: no `=`", at + 1));
        let key = key.trim();
        assert!(keys.contains(&key), "line {}: unknown key {key}", at + 1);
        let value = value.strip_prefix(' ').unwrap_or(value);
        let case = cases.last_mut().unwrap_or_else(|| panic!("line {}: before the first case", at + 1));
        case.lines.push((key.to_owned(), value.to_owned()));
    }
    for case in &cases {
        for key in ["what", "source", "expect"] {
            assert_eq!(case.all(key).count(), 1, "{}: one `{key}` is wanted", case.id);
        }
    }
    cases
}

/// `\r \n \t \0 \xHH \\ \"` and `\{N*bytes}`; every other character stands for itself in Latin-1.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(u8::try_from(u32::from(c)).expect("Latin-1"));
            continue;
        }
        match rest.next().expect("something after a backslash") {
            'r' => out.push(b'\r'),
            'n' => out.push(b'\n'),
            't' => out.push(b'\t'),
            '0' => out.push(0),
            c @ ('\\' | '"') => out.push(c as u8),
            'x' => {
                let hex: String = rest.by_ref().take(2).collect();
                out.push(u8::from_str_radix(&hex, 16).expect("two digits"));
            }
            '{' => {
                let inner: String = rest.by_ref().take_while(|c| *c != '}').collect();
                let (count, what) = inner.split_once('*').expect("count*bytes");
                out.extend(unescape(what).repeat(count.parse().expect("a count")));
            }
            c => panic!("unknown escape \\{c}"),
        }
    }
    out
}

#[test]
fn escapes() {
    assert_eq!(unescape(r#"a\r\n\t\0\x7f\\\"é"#), b"a\r\n\t\0\x7f\\\"\xe9");
    assert_eq!(unescape(r"<\{3*a\n}>"), b"<a\na\na\n>");
}
