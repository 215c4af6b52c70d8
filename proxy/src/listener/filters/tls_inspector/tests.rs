use proptest::prelude::*;

use super::client_hello::{Hello, parse};

/// Parts of a ClientHello, each as the well-formed default until a test changes it.
#[derive(Clone)]
struct Builder {
    version: u16,
    session_id: Vec<u8>,
    suites: Vec<u8>,
    compression: Vec<u8>,
    extensions: Option<Vec<u8>>,
    trailing: Vec<u8>,
    kind: u8,
}

fn u16_prefixed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn u8_prefixed(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8][..], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &u16_prefixed(data)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    extension(0, &u16_prefixed(&[&[0][..], &u16_prefixed(name)].concat()))
}

fn alpn(protocols: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = protocols.iter().flat_map(|p| u8_prefixed(p.as_bytes())).collect();
    extension(16, &u16_prefixed(&list))
}

/// supported_versions 1.3 and 1.2, a group and a signature algorithm: what real clients send beside the names.
fn usual() -> Vec<u8> {
    [extension(43, &[4, 3, 4, 3, 3]), extension(10, &[0, 2, 0, 29]), extension(13, &[0, 2, 4, 3])].concat()
}

impl Default for Builder {
    fn default() -> Self {
        Builder {
            version: 0x0303,
            session_id: Vec::new(),
            suites: vec![0x13, 1, 0xc0, 0x2f],
            compression: vec![0],
            extensions: Some([sni(b"x.test"), usual()].concat()),
            trailing: Vec::new(),
            kind: 1,
        }
    }
}

impl Builder {
    fn with(extensions: Vec<u8>) -> Self {
        Builder { extensions: Some([extensions, usual()].concat()), ..Builder::default() }
    }

    fn message(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.extend(u8_prefixed(&self.session_id));
        body.extend(u16_prefixed(&self.suites));
        body.extend(u8_prefixed(&self.compression));
        body.extend(self.extensions.iter().flat_map(|e| u16_prefixed(e)));
        body.extend(&self.trailing);
        let mut message = (body.len() as u32).to_be_bytes();
        message[0] = self.kind;
        [&message[..], &body].concat()
    }

    fn record(&self) -> Vec<u8> {
        record(22, 0x0301, &self.message())
    }
}

fn record(kind: u8, version: u16, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &version.to_be_bytes(), &u16_prefixed(payload)].concat()
}

fn records(payload: &[u8], size: usize) -> Vec<u8> {
    payload.chunks(size).flat_map(|chunk| record(22, 0x0301, chunk)).collect()
}

/// What the tests compare: the names, or what else it is.
fn verdict(bytes: &[u8]) -> String {
    match parse(bytes) {
        Hello::Found(hello) => {
            assert_eq!(hello.size, bytes.len());
            let protocols = hello.application_protocols.map(|p| p.join(","));
            format!("sni={} alpn={}", hello.server_name.as_deref().unwrap_or("-"), protocols.as_deref().unwrap_or("-"))
        }
        Hello::Need => "need".into(),
        Hello::UnsupportedVersion => "unsupported".into(),
        Hello::NotTls => "not tls".into(),
    }
}

/// Each verdict was observed with Envoy 1.40.
#[test]
fn verdicts_are_envoys() {
    let message = Builder::default().message();
    let x = "sni=x.test alpn=-";
    let none = "sni=- alpn=-";
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("usual", Builder::default().record(), x),
        ("upper case", Builder::with(sni(b"X.Test")).record(), x),
        ("no name", Builder::with(vec![]).record(), none),
        ("no extensions", Builder { extensions: None, ..Builder::default() }.record(), none),
        ("empty extensions", Builder { extensions: Some(vec![]), ..Builder::default() }.record(), none),
        ("alpn", Builder::with(alpn(&["istio", "h2"])).record(), "sni=- alpn=istio,h2"),
        ("alpn with an empty name", Builder::with(alpn(&["h2", ""])).record(), none),
        ("alpn cut", Builder::with(extension(16, &[0, 1, 5])).record(), none),
        ("empty alpn", Builder::with(alpn(&[])).record(), none),
        ("tls 1.0", Builder { version: 0x0301, ..Builder::default() }.record(), x),
        ("ssl 3.0", Builder { version: 0x0300, ..Builder::default() }.record(), "unsupported"),
        ("version 3.255", Builder { version: 0x03ff, ..Builder::default() }.record(), "unsupported"),
        ("version 4.0", Builder { version: 0x0400, ..Builder::default() }.record(), "unsupported"),
        ("version 3.4", Builder { version: 0x0304, ..Builder::default() }.record(), x),
        ("record version 3.0", record(22, 0x0300, &message), x),
        ("record version 3.255", record(22, 0x03ff, &message), x),
        ("record version 4.0", record(22, 0x0400, &message), "not tls"),
        ("one byte a record", records(&message, 1), x),
        ("ten bytes a record", records(&message, 10), x),
        ("32 empty records", [records_empty(32), Builder::default().record()].concat(), x),
        ("33 empty records", [records_empty(33), Builder::default().record()].concat(), "not tls"),
        ("empty name", Builder::with(sni(b"")).record(), "not tls"),
        ("NUL in name", Builder::with(sni(b"x\0y")).record(), "not tls"),
        ("name of 256", Builder::with(sni(&[b'a'; 256])).record(), "not tls"),
        ("name type 1", Builder::with(extension(0, b"\0\x04\x01\0\x01x")).record(), "not tls"),
        ("two names", Builder::with(extension(0, b"\0\x08\0\0\x01x\0\0\x01y")).record(), "not tls"),
        ("bytes after names", Builder::with(extension(0, b"\0\x04\0\0\x01xz")).record(), "not tls"),
        ("empty extension for names", Builder::with(extension(0, b"")).record(), "not tls"),
        ("trailing dot", Builder::with(sni(b"x.test.")).record(), "sni=x.test. alpn=-"),
        ("name twice", Builder::with([sni(b"x"), sni(b"x")].concat()).record(), "not tls"),
        ("unknown twice", Builder::with([extension(0x7777, b""), extension(0x7777, b"")].concat()).record(), "not tls"),
        ("session id of 32", Builder { session_id: vec![1; 32], ..Builder::default() }.record(), x),
        ("session id of 33", Builder { session_id: vec![1; 33], ..Builder::default() }.record(), "not tls"),
        ("no suites", Builder { suites: vec![], ..Builder::default() }.record(), "not tls"),
        ("odd suites", Builder { suites: vec![1, 2, 3], ..Builder::default() }.record(), "not tls"),
        ("no compression", Builder { compression: vec![], ..Builder::default() }.record(), "not tls"),
        ("compression without null", Builder { compression: vec![1], ..Builder::default() }.record(), x),
        ("bytes after extensions", Builder { trailing: vec![0], ..Builder::default() }.record(), "not tls"),
        ("ServerHello", Builder { kind: 2, ..Builder::default() }.record(), "not tls"),
        ("two messages", record(22, 0x0301, &message.repeat(2)), "not tls"),
        ("bytes after the message", record(22, 0x0301, &[&message[..], b"junk"].concat()), "not tls"),
        ("empty message", record(22, 0x0301, &[1, 0, 0, 0]), "not tls"),
        ("message of 16384", record(22, 0x0301, &[1, 0, 0x40, 0, 9]), "need"),
        ("message of 16385", record(22, 0x0301, &[1, 0, 0x40, 1, 9]), "not tls"),
        ("record of 16704", [22, 3, 1, 0x41, 0x40, 1].to_vec(), "need"),
        ("record of 16705", [22, 3, 1, 0x41, 0x41, 1].to_vec(), "not tls"),
        ("cut", Builder::default().record()[..60].to_vec(), "need"),
        ("alert", record(21, 0x0301, &[2, 40]), "not tls"),
        ("application data", record(23, 0x0301, b"hello"), "not tls"),
        ("type changes", [records(&message[..20], 20), record(23, 0x0301, &message[20..])].concat(), "not tls"),
        ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec(), "not tls"),
        ("first byte", b"G".to_vec(), "not tls"),
        ("nothing", vec![], "need"),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(verdict(&bytes), expected, "{name}");
    }
}

fn records_empty(n: usize) -> Vec<u8> {
    record(22, 0x0301, &[]).repeat(n)
}

/// The verdict over a prefix is `Need`, or already that of the whole and of anything after it.
fn assert_stable(bytes: &[u8]) {
    let whole = parse(bytes);
    for n in 0..bytes.len() {
        let so_far = parse(&bytes[..n]);
        assert!(so_far == Hello::Need || so_far == whole, "{so_far:?} after {n} bytes, then {whole:?}");
    }
    if whole != Hello::Need {
        assert_eq!(parse(&[bytes, b"GET / HTTP/1.1\r\n"].concat()), whole);
    }
}

proptest! {
    #[test]
    fn splits_do_not_matter(
        name in "[a-z.]{1,20}",
        protocols in proptest::collection::vec("[a-z0-9/.]{1,8}", 0..4),
        size in 1usize..300,
        damage in proptest::option::of((0usize..250, any::<u8>())),
    ) {
        let protocols: Vec<&str> = protocols.iter().map(String::as_str).collect();
        let hello = Builder::with([sni(name.as_bytes()), alpn(&protocols)].concat());
        let mut bytes = records(&hello.message(), size);
        if let Some((at, value)) = damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        assert_stable(&bytes);
    }

    #[test]
    fn noise_does_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200), as_record in any::<bool>()) {
        let bytes = if as_record { record(22, 0x0301, &[&[1, 0, 0, bytes.len() as u8], &bytes[..]].concat()) } else { bytes };
        assert_stable(&bytes);
    }
}
