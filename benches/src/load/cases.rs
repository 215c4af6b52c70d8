//! The cases: for each a configuration, a load, and what it should cost.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::{self, Load};
use super::figure::{Figure, Series, Target};
use super::identities::Identities;
use super::process::{OUTRIGGER, Proxy, Side};
use super::upstream::{self, Sink};
use super::{Outcome, Run, config, discovery, machine};

/// Names for `--only`, in the order in which they run, and what each measures.
pub const NAMES: &[(&str, &str)] = &[
    ("h1", "HTTP/1.1 requests on 64 keep-alive connections"),
    ("h1-log", "the same with an access log in Envoy's default format"),
    ("h2", "HTTP/2 requests on both sides, 8 connections with 16 streams"),
    ("pair", "HTTP/1.1 requests through two proxies with mTLS between them, 32 connections"),
    ("tcp", "bytes through the TCP proxy, one connection"),
    ("handshake", "TLS 1.3 handshakes with a P-256 certificate, one request on each"),
    ("idle", "memory at start and for each idle HTTP/1.1 connection, two workers"),
    ("push", "CPU and memory of a mesh that a control plane pushes, and of one endpoint's change, two workers"),
    ("churn", "2,000 requests/s under 64 updates/s of every kind, two workers"),
    ("scale", "memory and start-up CPU with 1,000 and 5,000 services of five endpoints, two workers"),
];

/// What a case measured.
///
/// # Errors
/// When a proxy does not start.
pub fn run(case: &str, run: &Run) -> Outcome<Vec<Figure>> {
    match case {
        "h1" => http1(run, "h1", false),
        "h1-log" => http1(run, "h1-log", true),
        "h2" => http2(run),
        "pair" => pair(run),
        "tcp" => tcp(run),
        "handshake" => handshake(run),
        "idle" => idle(run),
        "scale" => scale(run),
        "push" => discovery::push(run),
        "churn" => discovery::churn(run),
        other => Err(format!("no case {other}").into()),
    }
}

/// The proxies of one side, all of which count; the load goes to the last.
struct Live(Vec<Proxy>);

impl Live {
    fn one(run: &Run, side: &Side, config: &Value) -> Outcome<Live> {
        Ok(Live(vec![Proxy::start(side, config, 1, run.cores)?]))
    }

    fn address(&self) -> Outcome<SocketAddr> {
        self.0.last().ok_or("no proxy")?.address(config::LISTENER)
    }

    fn cpu(&self) -> f64 {
        self.0.iter().map(Proxy::cpu).sum()
    }
}

/// Runs the load against both sides in turn, round by round, and tells the processor time of a unit of work in microseconds.
fn rounds(run: &Run, lives: &[Live], drive: impl Fn(SocketAddr, Duration) -> Load + Sync) -> Outcome<Vec<Series>> {
    let addresses = lives.iter().map(Live::address).collect::<Outcome<Vec<_>>>()?;
    // On a thread of its own, which the load pins to its core.
    let drive = |address, time| {
        std::thread::scope(|scope| scope.spawn(|| drive(address, time)).join()).map_err(|_| "the load broke down")
    };
    for address in &addresses {
        drive(*address, run.warm_up)?;
    }
    let mut series: Vec<Series> = lives.iter().map(|_| Series::default()).collect();
    for round in 0..run.rounds {
        let mut order: Vec<usize> = (0..lives.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let before = lives[at].cpu();
            let load = drive(addresses[at], run.time)?;
            let cpu = lives[at].cpu() - before;
            let series = &mut series[at];
            series.values.push(cpu * 1e6 / load.done.max(1.0));
            series.failed += load.failed;
            series.per_second.push(load.done / load.seconds);
            series.p50.extend(load.percentile(0.5));
            series.p99.extend(load.percentile(0.99));
        }
    }
    Ok(series)
}

/// A figure of two series in the order of the sides.
pub fn figure(
    run: &Run,
    case: &'static str,
    title: &str,
    unit: &'static str,
    of: Vec<Series>,
    target: Target,
) -> Figure {
    let mut ours = Series::default();
    let mut envoys = None;
    for (side, series) in run.sides.iter().zip(of) {
        match side.name {
            OUTRIGGER => ours = series,
            _ => envoys = Some(series),
        }
    }
    Figure { case, title: title.to_owned(), unit, ours, envoys, target }
}

fn http1(run: &Run, case: &'static str, access_log: bool) -> Outcome<Vec<Figure>> {
    let upstream = upstream::http1(run.cores)?;
    let config = config::bootstrap(config::http(access_log), None, vec![config::upstream(upstream)]);
    let lives = run.each(|side| Live::one(run, side, &config))?;
    let series = rounds(run, &lives, |address, time| client::http1::load(address, 64, time, run.cores))?;
    let (title, target) = if access_log { ("HTTP/1, access log", 0.50) } else { ("HTTP/1", 0.45) };
    Ok(vec![figure(run, case, title, "µs CPU/request", series, Target::Ratio(target))])
}

fn http2(run: &Run) -> Outcome<Vec<Figure>> {
    let upstream = upstream::http2(run.cores)?;
    let cluster = config::over_http2(config::upstream(upstream));
    let config = config::bootstrap(config::http(false), None, vec![cluster]);
    let lives = run.each(|side| Live::one(run, side, &config))?;
    let series = rounds(run, &lives, |address, time| client::http2::load(address, 8, 16, time, run.cores))?;
    Ok(vec![figure(run, "h2", "HTTP/2", "µs CPU/request", series, Target::Ratio(0.65))])
}

fn pair(run: &Run) -> Outcome<Vec<Figure>> {
    let identities = Identities::new()?;
    let upstream = upstream::http1(run.cores)?;
    let server = config::tls_server(&identities, true);
    let inner = config::bootstrap(config::http(false), Some(server), vec![config::upstream(upstream)]);
    let lives = run.each(|side| {
        let inner = Proxy::start(side, &inner, 1, run.cores)?;
        let peer = config::upstream(inner.address(config::LISTENER)?);
        let peer = config::over_mtls(peer, &identities, &["http/1.1"]);
        let outer = config::bootstrap(config::http(false), None, vec![peer]);
        let outer = Proxy::start(side, &outer, 1, run.cores)?;
        Ok(Live(vec![inner, outer]))
    })?;
    let series = rounds(run, &lives, |address, time| client::http1::load(address, 32, time, run.cores))?;
    Ok(vec![figure(run, "pair", "HTTP/1, mTLS pair", "µs CPU/request", series, Target::Ratio(0.50))])
}

fn tcp(run: &Run) -> Outcome<Vec<Figure>> {
    let sink = Sink::start(run.cores)?;
    let config = config::bootstrap(config::tcp_proxy(), None, vec![config::upstream(sink.address)]);
    let lives = run.each(|side| Live::one(run, side, &config))?;
    let series = rounds(run, &lives, |address, time| client::bulk::load(address, &sink, time, run.cores))?;
    Ok(vec![figure(run, "tcp", "TCP throughput", "µs CPU/MiB", series, Target::Ratio(0.70))])
}

fn handshake(run: &Run) -> Outcome<Vec<Figure>> {
    let identities = Identities::new()?;
    let upstream = upstream::http1(run.cores)?;
    let server = config::tls_server(&identities, false);
    let config = config::bootstrap(config::http(false), Some(server), vec![config::upstream(upstream)]);
    let tls = identities.client()?;
    let lives = run.each(|side| Live::one(run, side, &config))?;
    let series = rounds(run, &lives, |address, time| client::handshake::load(address, &tls, 16, time, run.cores))?;
    Ok(vec![figure(run, "handshake", "TLS handshake", "µs CPU/connection", series, Target::Ratio(1.0))])
}

fn idle(run: &Run) -> Outcome<Vec<Figure>> {
    let connections = run.idle_connections.min(machine::connections_allowed() / 2);
    let upstream = upstream::http1(run.cores)?;
    let config = config::bootstrap(config::http(false), None, vec![config::upstream(upstream)]);
    let mut at_start = Vec::new();
    let mut each = Vec::new();
    for side in &run.sides {
        let proxy = Proxy::start(side, &config, 2, run.cores)?;
        let before = settled(&proxy);
        let open = client::http1::idle(proxy.address(config::LISTENER)?, connections)?;
        let after = settled(&proxy);
        at_start.push(Series::one(before / 1024.0));
        each.push(Series::one((after - before) / open.len().max(1) as f64));
    }
    Ok(vec![
        figure(run, "idle", "memory at start", "MiB", at_start, Target::Absolute(15.0)),
        figure(run, "idle", "idle connection", "KiB", each, Target::Absolute(10.0)),
    ])
}

/// Resident memory in KiB once it has stopped to change.
pub fn settled(proxy: &Proxy) -> f64 {
    let patience = Instant::now() + Duration::from_secs(5);
    let mut last = proxy.resident();
    loop {
        std::thread::park_timeout(Duration::from_millis(400));
        let now = proxy.resident();
        if (now - last).abs() < 32.0 || Instant::now() > patience {
            return now;
        }
        last = now;
    }
}

fn scale(run: &Run) -> Outcome<Vec<Figure>> {
    let identities = Identities::new()?;
    let mut figures = Vec::new();
    for (services, most) in run.scales.iter().copied().zip([40.0, 120.0]) {
        let config = config::mesh(services, &identities);
        let mut memory = Vec::new();
        let mut cpu = Vec::new();
        for side in &run.sides {
            let proxy = Proxy::start(side, &config, 2, run.cores)?;
            memory.push(Series::one(settled(&proxy) / 1024.0));
            cpu.push(Series::one(proxy.cpu() * 1000.0));
        }
        let title = format!("{} services", thousands(services));
        figures.push(figure(run, "scale", &format!("{title}, memory"), "MiB", memory, Target::Absolute(most)));
        figures.push(figure(run, "scale", &format!("{title}, start-up"), "ms CPU", cpu, Target::Ratio(0.5)));
    }
    Ok(figures)
}

pub fn thousands(n: usize) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", n / 1000, n % 1000) }
}
