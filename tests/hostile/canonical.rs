//! What every head that reaches an upstream must be, whatever the client sent: if it cannot be written that way, it is not
//! written.

use tests::upstream::Seen;

/// Why a head, without its empty line, is not canonical.
pub fn violation(head: &str) -> Option<String> {
    let mut lines = head.split("\r\n");
    let start = lines.next().unwrap_or_default();
    let words: Vec<&str> = start.split(' ').collect();
    let [method, target, version] = words[..] else { return Some(format!("request line {start:?}")) };
    if !is_token(method) || version != "HTTP/1.1" {
        return Some(format!("request line {start:?}"));
    }
    if target.is_empty() || !target.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b'#') {
        return Some(format!("target {target:?}"));
    }
    let mut fields = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Some(format!("no colon in {line:?}")) };
        let value = value.trim_matches(' ');
        if !is_token(name) || value.chars().any(|c| (c < ' ' && c != '\t') || c == '\x7f') {
            return Some(format!("field {line:?}"));
        }
        fields.push((name.to_ascii_lowercase(), value));
    }
    let all = |name: &str| fields.iter().filter(|(n, _)| n == name).map(|(_, v)| *v).collect::<Vec<_>>();
    let (hosts, lengths, encodings) = (all("host"), all("content-length"), all("transfer-encoding"));
    let host_ok = matches!(hosts[..], [host] if !host.is_empty() && !host.contains([',', '@', '/', ' ', '\t']) && host.is_ascii());
    if !host_ok {
        return Some(format!("Host {hosts:?}"));
    }
    let length_ok = match lengths[..] {
        [] => true,
        [length] => {
            length.bytes().all(|b| b.is_ascii_digit()) && length.parse::<u64>().is_ok_and(|n| n.to_string() == length)
        }
        _ => false,
    };
    if !length_ok || (!lengths.is_empty() && !encodings.is_empty()) || !matches!(encodings[..], [] | ["chunked"]) {
        return Some(format!("framing {lengths:?} {encodings:?}"));
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A request that an upstream got, as text for messages.
pub fn show(seen: &Seen) -> String {
    let fields: Vec<String> = seen.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
    format!("{} | {} | {}", seen.line, fields.join(" | "), seen.body.escape_ascii())
}

#[test]
fn the_check_finds_what_it_is_for() {
    assert_eq!(violation("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nx: \u{ff}"), None);
    for bad in [
        "GET /",
        "GET  / HTTP/1.1\r\nhost: a",
        "GET / HTTP/1.0\r\nhost: a",
        "GET /#x HTTP/1.1\r\nhost: a",
        "G(T / HTTP/1.1\r\nhost: a",
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: a",
        "GET / HTTP/1.1\r\nhost: a,b",
        "GET / HTTP/1.1\r\nhost: a\r\nx y: 1",
        "GET / HTTP/1.1\r\nhost: a\r\n folded",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\nb",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 05",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
        "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
    ] {
        assert!(violation(bad).is_some(), "{bad:?}");
    }
}
