//! Peers that say nothing, or too little, while the configuration sets no deadline: each is ended in time. All wait at once.

use std::time::{Duration, Instant};

use tests::client::{Client, End};
use tests::config::{TO_UP, bootstrap, chain, cluster, hcm, listener, listener_with, tls};
use tests::frames::Frames;
use tests::upstream::Upstream;

const INSPECTED: &str = "listener_filters:\n- name: envoy.filters.listener.tls_inspector\n  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector }\n";
const PROXIED: &str = "listener_filters:\n- name: envoy.filters.listener.proxy_protocol\n  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol }\n";

struct Probe {
    id: &'static str,
    listener: &'static str,
    sends: &'static [u8],
    /// One more byte of this each second.
    drips: Option<u8>,
    /// The connection must have ended after so many seconds.
    within: u64,
}

const PROBES: &[Probe] = &[
    Probe { id: "nothing for a listener filter", listener: "inspected", sends: b"", drips: None, within: 17 },
    Probe {
        id: "half a ClientHello for a listener filter",
        listener: "inspected",
        sends: b"\x16\x03\x01",
        drips: None,
        within: 17,
    },
    Probe { id: "half a PROXY header", listener: "proxied", sends: b"PROXY TCP4 1.2", drips: None, within: 17 },
    Probe {
        id: "a PROXY header byte by byte",
        listener: "proxied",
        sends: b"PROXY TCP4 1.2",
        drips: Some(b'3'),
        within: 17,
    },
    Probe { id: "nothing for TLS", listener: "tls", sends: b"", drips: None, within: 17 },
    Probe {
        id: "half a ClientHello",
        listener: "tls",
        sends: b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        drips: None,
        within: 17,
    },
    Probe {
        id: "a ClientHello byte by byte",
        listener: "tls",
        sends: b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        drips: Some(0),
        within: 17,
    },
    Probe { id: "half a head", listener: "main", sends: b"GET / HTTP/1.1\r\nHost: a\r\n", drips: None, within: 17 },
    Probe {
        id: "a head byte by byte",
        listener: "main",
        sends: b"GET / HTTP/1.1\r\nHost: a\r\nx: ",
        drips: Some(b'v'),
        within: 17,
    },
    Probe {
        id: "half the preface of HTTP/2",
        listener: "main",
        sends: b"PRI * HTTP/2.0\r\n\r\nSM",
        drips: None,
        within: 17,
    },
    Probe { id: "nothing for HTTP/2", listener: "http2", sends: b"", drips: None, within: 17 },
];

#[test]
fn nobody_is_waited_for_without_end() {
    let folder = tempfile::tempdir().expect("a folder");
    tests::certificates::Authority::new(folder.path(), "ca").leaf(folder.path(), "server", &["a.test"]);
    let upstream = Upstream::echo_line();
    let context = "common_tls_context:\n  tls_certificates:\n  - certificate_chain: { filename: \"{certs}/server.pem\" }\n    private_key: { filename: \"{certs}/server.key\" }\n";
    let quick = "delayed_close_timeout: 0.2s\n";
    let http = |fields: &str| hcm(TO_UP, &format!("{quick}{fields}"));
    let listeners = [
        listener("main", &http("")),
        listener("http2", &http("codec_type: HTTP2")),
        listener_with("inspected", &chain(&http(""), ""), INSPECTED),
        listener_with("proxied", &chain(&http(""), ""), PROXIED),
        listener_with("tls", &chain(&http(""), &tls("DownstreamTlsContext", context)), ""),
    ];
    let text = bootstrap(&listeners.concat(), &cluster("up", upstream.port, ""));
    let mut proxy = crate::start(&text.replace("{certs}", &folder.path().display().to_string()));
    let probes: Vec<_> = PROBES
        .iter()
        .map(|probe| {
            let port = proxy.port(probe.listener);
            std::thread::spawn(move || wait(probe, port))
        })
        .collect();
    let failures: Vec<String> = probes.into_iter().filter_map(|probe| probe.join().expect("no panic").err()).collect();
    assert!(proxy.is_running(), "the proxy died:\n{}", proxy.log());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    // A connection on which a stream waits is not idle; it serves on.
    let mut peer = Frames::connect(proxy.port("http2"));
    peer.get(1, "/");
    assert_eq!(peer.find(|frame| frame.stream == 1).map(|frame| frame.status()), Some(200));
}

fn wait(probe: &Probe, port: u16) -> Result<(), String> {
    let started = Instant::now();
    let deadline = Duration::from_secs(probe.within);
    let mut client = Client::connect(port);
    client.send(probe.sends);
    while started.elapsed() < deadline {
        if let Some(byte) = probe.drips {
            client.send([byte]);
        }
        if client.end(Duration::from_secs(1)) != End::Open {
            return Ok(());
        }
    }
    Err(format!("{}: still open after {:?}", probe.id, started.elapsed()))
}
