//! Random sets of filter chains and random connections: which chain a real Envoy chooses, and which we do.
//!
//! A set that Envoy refuses must be refused here. What Envoy answered is in `recorded/filter_chains.txt`, one line for each set, and is recorded
//! anew like all else (see [`super`]). Addresses are told by a PROXY header, names by a ClientHello that nobody answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustls::ClientConnection;
use tests::config::{bootstrap, chain, cluster, indent, listener_with};
use tests::proxy::{Options, Proxy};
use tests::proxy_under_test;
use tests::tls::{Offer, client_config, server_name};

const SETS: u64 = 80;
const CONNECTIONS: usize = 40;

/// SplitMix64: the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// One or two of them.
    fn some<'a>(&mut self, of: &[&'a str]) -> Vec<&'a str> {
        let mut picked = vec![self.pick(of)];
        let more = self.pick(of);
        if self.one_in(3) && !picked.contains(&more) {
            picked.push(more);
        }
        picked
    }
}

/// None of length zero: beside a chain without prefixes Envoy takes the one or the other, whichever its hash map says.
const PREFIXES: [(&str, u8); 8] = [
    ("10.1.2.3", 32),
    ("10.1.2.0", 24),
    ("10.1.0.0", 16),
    ("10.0.0.0", 8),
    ("192.0.2.0", 30),
    ("127.0.0.0", 8),
    ("2001:db8::", 32),
    ("2001::", 16),
];
const ADDRESSES: [&str; 6] = ["10.1.2.3", "10.1.2.4", "10.1.9.9", "10.9.9.9", "192.0.2.1", "127.0.0.1"];
const ADDRESSES6: [&str; 3] = ["2001:db8::1", "2001:db9::1", "::1"];
const NAMES: [&str; 6] = ["a.test", "b.a.test", "*.a.test", "*.test", "x.test", "*.b.a.test"];
const ASKED: [&str; 7] = ["a.test", "b.a.test", "c.b.a.test", "x.test", "test", "other.example", "A.Test"];
const PROTOCOLS: [&str; 4] = ["h2", "http/1.1", "istio", "istio-peer-exchange"];
const PORTS: [u16; 3] = [80, 443, 8080];

fn prefixes(random: &mut Random) -> String {
    let one = |random: &mut Random| {
        let (address, length) = random.pick(&PREFIXES);
        format!("{{ address_prefix: \"{address}\", prefix_len: {length} }}")
    };
    let mut all = vec![one(random)];
    if random.one_in(3) {
        all.push(one(random));
    }
    format!("[ {} ]", all.join(", "))
}

fn matched(random: &mut Random) -> String {
    let mut fields = Vec::new();
    if random.one_in(3) {
        fields.push(format!("destination_port: {}", random.pick(&PORTS)));
    }
    if random.one_in(3) {
        fields.push(format!("prefix_ranges: {}", prefixes(random)));
    }
    if random.one_in(2) {
        fields.push(format!("server_names: [ \"{}\" ]", random.some(&NAMES).join("\", \"")));
    }
    if random.one_in(3) {
        fields.push(format!("transport_protocol: {}", random.pick(&["tls", "raw_buffer"])));
    }
    if random.one_in(4) {
        fields.push(format!("application_protocols: [ \"{}\" ]", random.some(&PROTOCOLS).join("\", \"")));
    }
    if random.one_in(6) {
        fields.push(format!("direct_source_prefix_ranges: {}", prefixes(random)));
    }
    if random.one_in(4) {
        fields.push(format!("source_type: {}", random.pick(&["ANY", "SAME_IP_OR_LOOPBACK", "EXTERNAL"])));
    }
    if random.one_in(4) {
        fields.push(format!("source_prefix_ranges: {}", prefixes(random)));
    }
    if random.one_in(6) {
        fields.push(format!("source_ports: [ {} ]", random.pick(&[1000, 2000])));
    }
    format!("{{ {} }}", fields.join(", "))
}

/// Ends in a chain that says its own name.
fn says(name: &str) -> String {
    format!(
        "- name: envoy.filters.network.direct_response\n  typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config, response: {{ inline_string: {name} }} }}\n"
    )
}

fn set(index: u64) -> String {
    let random = &mut Random(index);
    let chains: Vec<String> = (0..1 + random.below(6))
        .map(|n| chain(&says(&format!("c{n}")), &format!("name: c{n}\nfilter_chain_match: {}\n", matched(random))))
        .collect();
    let default = match random.one_in(3) {
        true => format!("default_filter_chain:\n  name: rest\n  filters:\n{}", indent(&says("rest"), 2)),
        false => String::new(),
    };
    let filter = |name: &str, kind: &str| {
        format!(
            "- name: {name}\n  typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.listener.{name}.v3.{kind} }}\n"
        )
    };
    let filters = [
        filter("proxy_protocol", "ProxyProtocol"),
        filter("tls_inspector", "TlsInspector"),
        filter("http_inspector", "HttpInspector"),
    ];
    listener_with(&format!("s{index}"), &chains.concat(), &format!("{default}listener_filters:\n{}", filters.concat()))
}

fn config(sets: &[u64]) -> String {
    let listeners: String = sets.iter().map(|index| set(*index)).collect();
    bootstrap(&listeners, &cluster("unused", 1, ""))
}

/// What a client sends.
fn connection(random: &mut Random) -> Vec<u8> {
    let v6 = random.one_in(4);
    let mut address = || if v6 { random.pick(&ADDRESSES6) } else { random.pick(&ADDRESSES) };
    let (source, destination) = (address(), address());
    let family = if v6 { "TCP6" } else { "TCP4" };
    let source_port = random.pick(&[1000, 2000, 3000]);
    let port = random.pick(&PORTS);
    let mut bytes = format!("PROXY {family} {source} {destination} {source_port} {port}\r\n").into_bytes();
    match random.below(5) {
        0 => bytes.extend(b"\0 no protocol at all"),
        1 => bytes.extend(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        2 => bytes.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        _ => {
            let alpn = if random.one_in(2) { random.some(&PROTOCOLS) } else { Vec::new() };
            let sni = (!random.one_in(4)).then(|| random.pick(&ASKED));
            let offer = Offer { sni, alpn: &alpn, ..Offer::default() };
            let config = client_config(Path::new(""), &offer);
            let mut hello = ClientConnection::new(config, server_name(&offer)).expect("a client");
            hello.write_tls(&mut bytes).expect("written");
        }
    }
    bytes
}

/// What each connection of a set got, `-` for nothing.
fn answers(proxy: &Proxy, index: u64) -> String {
    let random = &mut Random(index ^ 0x5eed);
    let port = proxy.port(&format!("s{index}"));
    let ask = |bytes: Vec<u8>| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
        let _ = stream.write_all(&bytes);
        let mut got = [0; 16];
        match stream.read(&mut got) {
            Ok(n @ 1..) => String::from_utf8_lossy(&got[..n]).into_owned(),
            _ => "-".to_owned(),
        }
    };
    let all: Vec<String> = (0..CONNECTIONS).map(|_| ask(connection(random))).collect();
    all.join(" ")
}

/// Whether the proxy takes the set.
fn takes(binary: &Path, index: u64) -> bool {
    let text = config(&[index]);
    let status = Command::new(binary)
        .args(["--mode", "validate", "-l", "off", "--disable-hot-restart", "--config-yaml", &text])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.expect("started").success()
}

/// One line for each set.
fn observe(binary: &Path) -> Vec<String> {
    let taken: Vec<u64> = (0..SETS).filter(|index| takes(binary, *index)).collect();
    let proxy = Proxy::start_with(binary, &config(&taken), &Options::default());
    (0..SETS)
        .map(|index| match taken.contains(&index) {
            true => format!("s{index}: {}", answers(&proxy, index)),
            false => format!("s{index}: refused"),
        })
        .collect()
}

#[test]
fn filter_chains() {
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "envoy_diff/recorded/filter_chains.txt"].iter().collect();
    let record = std::env::var_os("ENVOY_DIFF_RECORD").is_some();
    let live = tests::envoy().map(|envoy| observe(&envoy));
    if record && let Some(live) = &live {
        std::fs::write(&file, live.join("\n") + "\n").expect("written");
    }
    let recorded = std::fs::read_to_string(&file).expect("the recording");
    let recorded: Vec<&str> = recorded.lines().collect();
    if let Some(live) = &live {
        assert_eq!(live, &recorded, "the recording is not what this Envoy does");
    }
    let ours = observe(&proxy_under_test(env!("CARGO_BIN_EXE_proxy-under-test")));
    let wrong: Vec<String> = recorded
        .iter()
        .zip(&ours)
        .filter(|(envoy, ours)| *envoy != ours)
        .map(|(envoy, ours)| {
            let (_, name) = (envoy, ours.split(':').next().unwrap_or_default());
            let index = name.trim_start_matches('s').parse().unwrap_or(0);
            format!("envoy {envoy}\nours  {ours}\n{}", set(index))
        })
        .collect();
    assert_eq!(recorded.len(), ours.len());
    assert!(wrong.is_empty(), "{} of {SETS} sets differ:\n{}", wrong.len(), wrong[..wrong.len().min(3)].join("\n"));
    let chosen = recorded.iter().flat_map(|line| line.split(' ')).filter(|word| word.starts_with('c')).count();
    assert!(chosen > 500, "only {chosen} connections found a chain: the sets test too little");
}
