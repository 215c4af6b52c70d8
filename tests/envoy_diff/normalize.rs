//! Puts names where two runs of the same thing differ: ports, dates, UUIDs, times, certificates, folders.

use std::collections::BTreeMap;

const SERVICE_TIME: &str = "x-envoy-upstream-service-time";

/// The shape of a date in a header.
const HTTP_DATE: &str = "Xxx, 00 Xxx 0000 00:00:00 GMT";

/// Knows what is particular to one run.
#[derive(Default)]
pub struct Normalizer {
    /// Names of ports.
    pub ports: BTreeMap<u16, String>,
    /// Text and what to call it; replaced first, in this order.
    pub literals: Vec<(String, String)>,
}

impl Normalizer {
    /// The value of a header.
    pub fn header(&self, name: &str, value: &str) -> String {
        let number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        if number && name.eq_ignore_ascii_case(SERVICE_TIME) { "<ms>".to_owned() } else { self.text(value) }
    }

    /// Any text.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (literal, name) in &self.literals {
            text = text.replace(literal, name);
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        let mut before = ' ';
        while let Some(first) = rest.chars().next() {
            let inside_word = before.is_ascii_alphanumeric();
            let taken = if inside_word { None } else { self.token(rest, out.ends_with(':')) };
            match taken {
                Some((name, length)) => {
                    out.push_str(&name);
                    before = 'x';
                    rest = &rest[length..];
                }
                None => {
                    out.push(first);
                    before = first;
                    rest = &rest[first.len_utf8()..];
                }
            }
        }
        out
    }

    /// What the text starts with, if it has a name, and its length.
    fn token(&self, text: &str, after_colon: bool) -> Option<(String, usize)> {
        if let Some(version) = uuid(text) {
            // A version 4 UUID is what Envoy makes; the variant digit of one that was marked says how it was traced.
            return Some((format!("<uuid {version}>"), 36));
        }
        if text.get(..HTTP_DATE.len()).is_some_and(is_http_date) {
            return Some(("<date>".to_owned(), HTTP_DATE.len()));
        }
        if let Some(rest) = text.strip_prefix(SERVICE_TIME).and_then(|rest| rest.strip_prefix(": ")) {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            return Some((format!("{SERVICE_TIME}: <ms>"), SERVICE_TIME.len() + 2 + digits));
        }
        if let Some(length) = timestamp(text) {
            return Some(("<time>".to_owned(), length));
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let goes_on = text.as_bytes().get(digits).is_some_and(u8::is_ascii_alphanumeric);
        if !(4..=5).contains(&digits) || goes_on {
            return None;
        }
        let port: u16 = text[..digits].parse().ok()?;
        match self.ports.get(&port) {
            Some(name) => Some((format!("<{name}>"), digits)),
            None if after_colon && port >= 10_000 => Some(("<port>".to_owned(), digits)),
            None => None,
        }
    }
}

/// The version digit of a UUID at the start.
fn uuid(text: &str) -> Option<char> {
    let bytes = text.as_bytes().get(..36)?;
    let hyphens = [8, 13, 18, 23];
    let good = bytes.iter().enumerate().all(|(at, b)| {
        if hyphens.contains(&at) { *b == b'-' } else { b.is_ascii_digit() || (b'a'..=b'f').contains(b) }
    });
    // A test's own UUIDs begin with eight zeros and stay.
    (good && !bytes.starts_with(b"00000000")).then(|| char::from(bytes[14]))
}

/// The length of an ISO 8601 time at the start.
fn timestamp(text: &str) -> Option<usize> {
    let shape = "0000-00-00T00:00:00";
    let bytes = text.as_bytes().get(..shape.len())?;
    let good = bytes.iter().zip(shape.bytes()).all(|(b, s)| if s == b'0' { b.is_ascii_digit() } else { *b == s });
    if !good {
        return None;
    }
    let fraction = text.as_bytes()[shape.len()..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
    let zulu = usize::from(text.as_bytes().get(shape.len() + fraction) == Some(&b'Z'));
    Some(shape.len() + fraction + zulu)
}

fn is_http_date(value: &str) -> bool {
    value.len() == HTTP_DATE.len()
        && value.bytes().zip(HTTP_DATE.bytes()).all(|(b, s)| match s {
            b'0' => b.is_ascii_digit(),
            b'X' => b.is_ascii_uppercase(),
            b'x' => b.is_ascii_lowercase(),
            _ => b == s,
        })
}

/// Bytes as text: what is not printable becomes an escape, and what is long is cut to its length, digest and start.
pub fn show(bytes: &[u8]) -> String {
    let text = |bytes: &[u8]| -> String {
        bytes
            .iter()
            .map(|b| match b {
                b'\n' => "\n".to_owned(),
                b'\r' => "\\r".to_owned(),
                0x20..=0x7e => char::from(*b).to_string(),
                _ => format!("\\x{b:02x}"),
            })
            .collect()
    };
    if bytes.len() <= 4000 {
        return text(bytes);
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let digest: String = digest.as_ref().iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!("{} bytes, {digest}, {}…", bytes.len(), text(&bytes[..40]))
}

#[test]
fn what_differs_between_runs_gets_a_name() {
    let normalizer = Normalizer {
        ports: [(40123, "up".to_owned())].into(),
        literals: vec![("/tmp/x".to_owned(), "{tmp}".to_owned())],
    };
    for (text, wanted) in [
        ("http://127.0.0.1:40123/a", "http://127.0.0.1:<up>/a"),
        ("127.0.0.1:51234", "127.0.0.1:<port>"),
        ("x40123 401234 51234", "x40123 401234 51234"),
        ("3fa85f64-5717-4562-b3fc-2c963f66afa6", "<uuid 4>"),
        ("00000000-5717-4562-b3fc-2c963f66afa6", "00000000-5717-4562-b3fc-2c963f66afa6"),
        ("[2026-11-21T05:20:49.123Z] x", "[<time>] x"),
        ("/tmp/x/log", "{tmp}/log"),
    ] {
        assert_eq!(normalizer.text(text), wanted);
    }
    assert_eq!(normalizer.header("Date", "Sat, 21 Nov 2026 05:20:49 GMT"), "<date>");
    assert_eq!(normalizer.header("date", "today"), "today");
}
