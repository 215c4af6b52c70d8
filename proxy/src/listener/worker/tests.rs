//! Listener filters and chains over a pipe inside the process, on a clock that only moves when everybody waits.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::*;
use crate::config::BuildCx;
use crate::server::testing;
use crate::stats::names::ListenerStats;
use crate::stream_info::TrafficDirection;

struct Alone;

impl Neighbours for Alone {
    fn hand_over(&self, worker: usize, _: ListenerId, _: Handed) {
        panic!("there is no worker {worker}");
    }

    fn fatal(&self, why: String) {
        panic!("{why}");
    }
}

struct Rig {
    cx: BuildCx,
    worker: Rc<WorkerListeners>,
    listener: Arc<Listener>,
}

const INSPECTORS: &str = "listener_filters:
- name: t
  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector }
- name: h
  typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector }
";

/// Chains that say what they are; the one without a match echoes.
const CHAINS: &str = "filter_chains:
- filter_chain_match: { application_protocols: [ h2c ] }
  filters: [ { name: d, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config, response: { inline_string: h2c } } } ]
- filter_chain_match: { application_protocols: [ http/1.1 ] }
  filters: [ { name: e, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo } } ]
";
const FALLBACK: &str = "default_filter_chain:
  filters: [ { name: e, typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo } } ]
";

impl Rig {
    fn new(parts: &[&str]) -> Self {
        let cx = BuildCx::new(testing::options(1));
        let address = "name: l\nstat_prefix: l\naddress: { socket_address: { address: 127.0.0.1, port_value: 80 } }\n";
        let yaml = format!("{address}{}", parts.concat());
        let listener = testing::listener(&cx, &yaml).unwrap_or_else(|e| panic!("{e}"));
        let worker = WorkerListeners::new(0, Box::new(Alone), cx.stats.block("server"));
        Rig { cx, worker, listener }
    }

    /// A connection that is being served; gives the client's end.
    fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let local = Address::Ip("127.0.0.1:80".parse().unwrap());
        let remote = Address::Ip("192.0.2.1:40000".parse().unwrap());
        let info = ConnectionInfo::new("l".into(), local, remote, TrafficDirection::Unspecified);
        let of_listener = self.listener.open.acquire(true).unwrap();
        let open = Open::new(self.listener.clone(), 0, of_listener, self.cx.connections.acquire(true));
        let active = Rc::new(Active {
            id: ListenerId(0),
            current: RefCell::new(self.listener.clone()),
            stopped: Cell::new(false),
            stop: Notify::new(),
            accepting: RefCell::default(),
        });
        let incoming = Incoming { raw: RawIo::new(Socket::Memory(server)), info, open };
        self.worker.spawn(active, incoming, true);
        client
    }

    fn stat(&self, counter: crate::stats::Counter<ListenerStats>) -> u64 {
        self.listener.stats.read(counter)
    }
}

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

async fn send_and_read(client: &mut DuplexStream, bytes: &[u8]) -> String {
    client.write_all(bytes).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn what_inspectors_read_is_not_lost() {
    run(async {
        let rig = Rig::new(&[INSPECTORS, CHAINS, FALLBACK]);
        let request = "POST / HTTP/1.1\r\n\r\nbody";
        for text in [request, "\x01binary"] {
            assert_eq!(send_and_read(&mut rig.connect(), text.as_bytes()).await, text);
        }
        let mut slow = rig.connect();
        for byte in request.bytes() {
            slow.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        slow.shutdown().await.unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, request);
        assert_eq!(send_and_read(&mut rig.connect(), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, "h2c");
        assert_eq!(rig.stat(ListenerStats::DOWNSTREAM_CX_TOTAL), 4);
    });
}

#[test]
fn the_timeout_closes_or_continues() {
    run(async {
        for (extra, text, answer, after) in [
            ("", "GE", "", 15_000),
            ("listener_filters_timeout: 3s\n", "", "", 3000),
            ("listener_filters_timeout: 2s\ncontinue_on_listener_filters_timeout: true\n", "GE", "GE", 2000),
            ("listener_filters_timeout: 0s\n", "GE", "", 3_600_000),
        ] {
            let rig = Rig::new(&[extra, INSPECTORS, CHAINS, FALLBACK]);
            let start = Instant::now();
            let mut client = rig.connect();
            client.write_all(text.as_bytes()).await.unwrap();
            let mut got = [0; 2];
            let n = client.read(&mut got).await.unwrap();
            assert_eq!(&got[..n], answer.as_bytes(), "{extra}");
            assert_eq!(start.elapsed().as_millis(), after, "{extra}");
            assert_eq!(rig.stat(ListenerStats::DOWNSTREAM_PRE_CX_TIMEOUT), 1);
            assert_eq!(rig.stat(ListenerStats::DOWNSTREAM_CX_TOTAL), u64::from(!answer.is_empty()));
        }
    });
}

/// One deadline for all filters: who satisfies the first slowly has less time for the second.
#[test]
fn all_filters_share_one_deadline() {
    run(async {
        let rig = Rig::new(&["listener_filters_timeout: 2s\n", INSPECTORS, CHAINS, FALLBACK]);
        let mut client = rig.connect();
        let start = Instant::now();
        tokio::time::sleep(Duration::from_millis(1900)).await;
        // Not TLS, but perhaps HTTP.
        client.write_all(b"G").await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(start.elapsed().as_millis(), 2000);
    });
}

#[test]
fn a_client_that_ends_early_is_closed_or_served_what_it_said() {
    run(async {
        let rig = Rig::new(&[INSPECTORS, CHAINS, FALLBACK]);
        assert_eq!(send_and_read(&mut rig.connect(), b"").await, "");
        assert_eq!(send_and_read(&mut rig.connect(), b"GE").await, "");
        assert_eq!(rig.stat(ListenerStats::DOWNSTREAM_LISTENER_FILTER_REMOTE_CLOSE), 2);
        let rig = Rig::new(&["continue_on_listener_filters_timeout: true\n", INSPECTORS, CHAINS, FALLBACK]);
        assert_eq!(send_and_read(&mut rig.connect(), b"GE").await, "GE");
        assert_eq!(send_and_read(&mut rig.connect(), b"").await, "");
        assert_eq!(rig.listener.stats.read_gauge(ListenerStats::DOWNSTREAM_PRE_CX_ACTIVE), 0);
        assert_eq!(rig.cx.connections.open(), 0);
    });
}

#[test]
fn a_connection_without_a_chain_is_counted_and_closed() {
    run(async {
        let rig = Rig::new(&[INSPECTORS, CHAINS]);
        assert_eq!(send_and_read(&mut rig.connect(), b"\x01binary").await, "");
        assert_eq!(rig.stat(ListenerStats::NO_FILTER_CHAIN_MATCH), 1);
        assert_eq!(rig.stat(ListenerStats::DOWNSTREAM_CX_TOTAL), 0);
        assert_eq!(rig.cx.connections.open(), 0);
    });
}

/// A server that speaks first waits for no byte of the client where the inspectors are off.
#[test]
fn filters_can_be_disabled_by_port() {
    run(async {
        let disabled = INSPECTORS.replace(
            "  typed_config",
            "  filter_disabled: { destination_port_range: { start: 80, end: 81 } }\n  typed_config",
        );
        let chains = CHAINS
            .replace("{ application_protocols: [ h2c ] }", "{ transport_protocol: raw_buffer }")
            .replace("h2c", "banner");
        let rig = Rig::new(&[&disabled, &chains]);
        let mut client = rig.connect();
        let mut banner = [0; 6];
        let start = Instant::now();
        client.read_exact(&mut banner).await.unwrap();
        assert_eq!(&banner, b"banner");
        assert_eq!(start.elapsed(), Duration::ZERO);
    });
}

#[test]
fn more_than_an_inspector_takes_closes_the_connection() {
    run(async {
        let rig = Rig::new(&[INSPECTORS, CHAINS, FALLBACK]);
        let mut client = rig.connect();
        let line = vec![b'a'; 64 * 1024];
        client.write_all(&line).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(rig.stat(ListenerStats::DOWNSTREAM_CX_TOTAL), 0);
    });
}

#[test]
fn the_future_of_a_connection_stays_small() {
    run(async {
        let rig = Rig::new(&[INSPECTORS, CHAINS, FALLBACK]);
        let active = Rc::new(Active {
            id: ListenerId(0),
            current: RefCell::new(rig.listener.clone()),
            stopped: Cell::new(false),
            stop: Notify::new(),
            accepting: RefCell::default(),
        });
        let (_client, server) = tokio::io::duplex(64);
        let address = Address::Pipe("p".into());
        let info = ConnectionInfo::new("l".into(), address.clone(), address, TrafficDirection::Unspecified);
        let open = Open::new(rig.listener.clone(), 0, rig.listener.open.acquire(true).unwrap(), None);
        let incoming = Incoming { raw: RawIo::new(Socket::Memory(server)), info, open };
        let size = size_of_val(&rig.worker.clone().serve(active, incoming, true));
        assert!(size <= 4096, "{size} bytes for every connection");
    });
}
