//! A sidecar's listeners in front of an application, and a peer on the wire.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use tests::PATIENCE;
use tests::config::{bootstrap, chain, hcm, listener_with, tcp_proxy};
use tests::proxy::{Options, Proxy};
use tests::proxy_under_test;

use crate::namespace::Namespace;
use crate::{pod_and_peer, ready, rules};

const FILTERS: &str = "type.googleapis.com/envoy.extensions.filters.listener";

/// Says who connected to which address, then sends back what comes. Lives as long as its namespace.
fn says_who(listener: TcpListener, name: &'static str) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else { return };
                let _ = writeln!(stream, "{name} {local} {}", peer.ip());
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    let _ = stream.write_all(&buffer[..n]);
                }
            });
        }
    });
}

fn serve(namespace: &Namespace, address: &'static str, name: &'static str) {
    namespace.run(move || says_who(TcpListener::bind(address).expect("bound"), name));
}

/// Connects, sends a line and reads all that comes back up to it; or the first line of an HTTP answer's body.
fn ask(namespace: &Namespace, address: &str) -> String {
    let address: SocketAddr = address.parse().expect("an address");
    namespace.run(move || {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) else { return "no connection".to_owned() };
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut got = Vec::new();
        let mut buffer = [0; 1024];
        while !got.ends_with(b"\r\n\r\n") || got.starts_with(b"HTTP/") {
            match stream.read(&mut buffer) {
                Ok(n @ 1..) => got.extend_from_slice(&buffer[..n]),
                Ok(_) => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Closed before it read what we had sent.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => return format!("{error}"),
            }
        }
        let text = String::from_utf8_lossy(&got).into_owned();
        match text.split_once("\r\n\r\n").filter(|_| text.starts_with("HTTP/")) {
            Some((_, body)) => body.to_owned(),
            None => text.lines().next().unwrap_or("closed").to_owned(),
        }
    })
}

fn direct(body: &str) -> String {
    let route = format!(
        "- {{ match: {{ prefix: / }}, direct_response: {{ status: 200, body: {{ inline_string: {body} }} }} }}\n"
    );
    chain(&hcm(&route, ""), "")
}

fn at(name: &str, address: &str, port: u16, chains: &str, fields: &str) -> String {
    listener_with(name, chains, fields)
        .replace("address: 127.0.0.1, port_value: 0", &format!("address: \"{address}\", port_value: {port}"))
}

fn original_dst(name: &str, fields: &str) -> String {
    format!("- {{ name: {name}, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, connect_timeout: 2s{fields} }}\n")
}

/// `virtualOutbound` hands over to listeners that do not bind, and passes the rest through.
fn outbound(any: &str, known: &str) -> String {
    let passthrough = chain(&tcp_proxy("cluster: passthrough"), "");
    [
        at("virtualOutbound", any, 15001, &passthrough, "use_original_dst: true\n"),
        at("exact", known, 80, &direct("exact"), "bind_to_port: false\n"),
        at("wildcard", any, 81, &direct("wildcard"), "bind_to_port: false\n"),
    ]
    .concat()
}

/// `virtualInbound`: the application's port, and the rest through; what names its own port ends there.
fn inbound(any: &str, fields: &str) -> String {
    let chains = [
        chain(&tcp_proxy("cluster: nowhere"), "filter_chain_match: { destination_port: 15006 }\n"),
        chain(&tcp_proxy("cluster: app"), "filter_chain_match: { destination_port: 8080 }\n"),
        chain(&tcp_proxy("cluster: app"), "name: rest\n"),
    ];
    at("virtualInbound", any, 15006, &chains.concat(), fields)
}

/// Starts the proxy in the namespace, in the group that the rules leave alone.
fn start(pod: &Namespace, config: String) -> Proxy {
    pod.run(move || {
        let options = Options { group: Some(rules::GROUP), ..Options::default() };
        Proxy::start_with(proxy_under_test(env!("CARGO_BIN_EXE_proxy-under-test")), &config, &options)
    })
}

/// Ports on which something listens in the namespace.
fn listening(namespace: &Namespace) -> Vec<u16> {
    namespace.run(|| {
        let table = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("readable");
        let listens = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
            (state == "0A").then(|| u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()).flatten()
        };
        let mut ports: Vec<u16> = table.lines().filter_map(listens).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    })
}

#[test]
fn redirected_connections_go_where_they_were_meant_to() {
    let Some((pod, peer)) = pod_and_peer() else { return };
    if !ready(pod.commands(&rules::redirect("iptables", "127.0.0.1/32"))) {
        return;
    }
    serve(&peer, "0.0.0.0:82", "peer");
    serve(&pod, "0.0.0.0:8080", "app");
    let original = format!(
        "listener_filters:\n- name: original_dst\n  typed_config: {{ \"@type\": {FILTERS}.original_dst.v3.OriginalDst }}\n"
    );
    let clusters = [
        original_dst("passthrough", ""),
        original_dst("app", ", upstream_bind_config: { source_address: { address: 127.0.0.6, port_value: 0 } }"),
        "- { name: nowhere, type: STATIC, connect_timeout: 1s }\n".to_owned(),
    ];
    let listeners = [outbound("0.0.0.0", "10.77.0.2"), inbound("0.0.0.0", &original)];
    let proxy = start(&pod, bootstrap(&listeners.concat(), &clusters.concat()));

    assert_eq!(ask(&pod, "10.77.0.2:80"), "exact", "the listener of the address, though nobody listens there");
    assert_eq!(ask(&pod, "10.77.0.3:81"), "wildcard");
    assert_eq!(ask(&pod, "10.77.0.2:82"), "peer 10.77.0.2:82 10.77.0.1", "through to where it was going");
    assert_eq!(ask(&pod, "10.77.0.2:83"), "closed", "nobody is there");
    assert_eq!(ask(&peer, "10.77.0.1:8080"), "app 10.77.0.1:8080 127.0.0.6", "the application sees Istio's address");
    assert_eq!(ask(&peer, "10.77.0.1:8099"), "closed", "no application on that port");

    // To the proxy's own port: it must not connect to itself for ever.
    let cpu = proxy.cpu();
    assert_eq!(ask(&peer, "10.77.0.1:15006"), "closed");
    assert!(proxy.cpu() - cpu < Duration::from_millis(500));

    let admin = proxy.admin;
    let mut bound = vec![8080, 15001, 15006, admin];
    bound.sort_unstable();
    assert_eq!(listening(&pod), bound, "listeners with bind_to_port false open no port");
    pod.run(move || {
        // A connection that is handed over counts where it goes.
        for (name, owed) in [("0.0.0.0_15001", 2), ("10.77.0.2_80", 1), ("0.0.0.0_81", 1), ("0.0.0.0_15006", 3)] {
            let stat = format!("listener.{name}.downstream_cx_total");
            assert_eq!(proxy.stat(&stat), owed, "{stat}: {:?}", proxy.stats("downstream_cx_total"));
        }
    });
}

#[test]
fn ipv6_is_redirected_too() {
    let Some((pod, peer)) = pod_and_peer() else { return };
    if !ready(pod.commands(&rules::redirect("ip6tables", "::1/128"))) {
        return;
    }
    serve(&peer, "[::]:82", "peer");
    serve(&pod, "[::]:8080", "app");
    let original = format!(
        "listener_filters:\n- name: original_dst\n  typed_config: {{ \"@type\": {FILTERS}.original_dst.v3.OriginalDst }}\n"
    );
    let clusters = [
        original_dst("passthrough", ""),
        original_dst("app", ""),
        "- { name: nowhere, type: STATIC, connect_timeout: 1s }\n".to_owned(),
    ];
    let listeners =
        [outbound("::", "fd77::2"), at("in", "::", 15006, &chain(&tcp_proxy("cluster: app"), ""), &original)];
    let _proxy = start(&pod, bootstrap(&listeners.concat(), &clusters.concat()));
    assert_eq!(ask(&pod, "[fd77::2]:80"), "exact");
    assert_eq!(ask(&pod, "[fd77::3]:81"), "wildcard");
    assert_eq!(ask(&pod, "[fd77::2]:82"), "peer [fd77::2]:82 fd77::1");
}

#[test]
fn tproxy_keeps_both_addresses() {
    let Some((pod, peer)) = pod_and_peer() else { return };
    if !ready(pod.commands(rules::TPROXY)) {
        return;
    }
    serve(&pod, "0.0.0.0:8080", "app");
    let filters = format!(
        "transparent: true\nlistener_filters:\n- name: original_dst\n  typed_config: {{ \"@type\": {FILTERS}.original_dst.v3.OriginalDst }}\n- name: original_src\n  typed_config: {{ \"@type\": {FILTERS}.original_src.v3.OriginalSrc, mark: 1337 }}\n"
    );
    let clusters = [original_dst("app", ""), "- { name: nowhere, type: STATIC, connect_timeout: 1s }\n".to_owned()];
    let proxy = start(&pod, bootstrap(&inbound("0.0.0.0", &filters), &clusters.concat()));
    assert_eq!(
        ask(&peer, "10.77.0.1:8080"),
        "app 10.77.0.1:8080 10.77.0.2",
        "the application sees the client\n{}",
        proxy.log()
    );
    assert_eq!(ask(&peer, "10.77.0.1:8099"), "closed");
    pod.run(move || assert_eq!(proxy.stat("listener.0.0.0.0_15006.downstream_cx_total"), 2));
}

#[test]
fn an_address_that_comes_later_can_be_bound_with_freebind() {
    let Some((pod, peer)) = pod_and_peer() else { return };
    let listeners = at("later", "10.77.0.99", 9000, &direct("later"), "freebind: true\n");
    let clusters = original_dst("unused", "");
    let _proxy = start(&pod, bootstrap(&listeners, &clusters));
    pod.command("ip addr add 10.77.0.99/24 dev eth0").expect("added");
    let deadline = Instant::now() + PATIENCE;
    let mut answer = ask(&peer, "10.77.0.99:9000");
    while answer != "later" && Instant::now() < deadline {
        answer = ask(&peer, "10.77.0.99:9000");
    }
    assert_eq!(answer, "later");

    let refused = pod.run(move || {
        let config = bootstrap(&at("never", "10.77.0.98", 9000, &direct("never"), ""), &original_dst("unused", ""));
        let binary = proxy_under_test(env!("CARGO_BIN_EXE_proxy-under-test"));
        Proxy::try_start(&binary, &config, &Options::default()).err().unwrap_or_default()
    });
    assert!(refused.contains("10.77.0.98:9000"), "without it the address is refused: {refused}");
}
