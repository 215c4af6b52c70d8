//! The process's own log: Envoy's logger names and levels, changeable while it runs, in Envoy's line format.
//!
//! Log statements go through `tracing`. Their module decides to which of Envoy's loggers they belong ([`COMPONENTS`]), so that
//! `--component-log-level` and `POST /logging` mean here what they mean there. A statement below its logger's level costs
//! one load.

mod format;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

pub use format::Pattern;

/// spdlog's levels, as Envoy names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warning,
    Error,
    Critical,
    Off,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
            Level::Critical => "critical",
            Level::Off => "off",
        }
    }

    fn from_u8(n: u8) -> Self {
        match n {
            0 => Level::Trace,
            1 => Level::Debug,
            2 => Level::Info,
            3 => Level::Warning,
            4 => Level::Error,
            5 => Level::Critical,
            _ => Level::Off,
        }
    }

    fn of(metadata: &Metadata<'_>) -> Self {
        match *metadata.level() {
            tracing::Level::TRACE => Level::Trace,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::INFO => Level::Info,
            tracing::Level::WARN => Level::Warning,
            tracing::Level::ERROR => Level::Error,
        }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "trace" => Ok(Level::Trace),
            "debug" => Ok(Level::Debug),
            "info" => Ok(Level::Info),
            "warning" | "warn" => Ok(Level::Warning),
            "error" => Ok(Level::Error),
            "critical" => Ok(Level::Critical),
            "off" => Ok(Level::Off),
            _ => Err(format!("expected a log level (trace, debug, info, warning, error, critical, off), got {text:?}")),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Envoy's loggers, and the modules of this crate that log to each. Loggers without a module are accepted and silent.
const COMPONENTS: &[(&str, &[&str])] = &[
    ("a2a", &[]),
    ("admin", &["outrigger::admin"]),
    ("ai_protocol_manager", &[]),
    ("alternate_protocols_cache", &[]),
    ("aws", &[]),
    ("assert", &[]),
    ("backtrace", &[]),
    ("basic_auth", &[]),
    ("cache_filter", &[]),
    ("client", &["outrigger::http::http1::client", "outrigger::http::http2::client"]),
    ("config", &["outrigger::bootstrap", "outrigger::config", "outrigger::discovery"]),
    ("connection", &["outrigger::transport_socket", "outrigger::net"]),
    ("conn_handler", &["outrigger::listener", "outrigger::filter_chain"]),
    ("compression", &[]),
    ("credential_injector", &[]),
    ("decompression", &[]),
    ("dns", &["outrigger::cluster::dns", "hickory_resolver", "hickory_proto"]),
    ("dubbo", &[]),
    ("envoy_bug", &[]),
    ("ext_authz", &[]),
    ("ext_proc", &[]),
    ("rocketmq", &[]),
    ("file", &["outrigger::access_log"]),
    ("filter", &["outrigger::http_filters", "outrigger::network"]),
    ("forward_proxy", &[]),
    ("geolocation", &[]),
    ("grpc", &[]),
    ("happy_eyeballs", &[]),
    ("hc", &[]),
    ("health_checker", &[]),
    ("http", &["outrigger::http", "outrigger::network::http_connection_manager"]),
    ("http2", &["outrigger::http::http2", "h2"]),
    ("hystrix", &[]),
    ("init", &["outrigger::server::init"]),
    ("io", &["outrigger::sys"]),
    ("jwt", &[]),
    ("json_rpc", &[]),
    ("kafka", &[]),
    ("key_value_store", &[]),
    ("lua", &[]),
    ("local_rate_limit", &[]),
    ("main", &["outrigger::server", "outrigger::cli"]),
    ("matcher", &[]),
    ("mcp", &[]),
    ("misc", &[]),
    ("mongo", &[]),
    ("multi_connection", &[]),
    ("notification", &[]),
    ("oauth2", &[]),
    ("quic", &[]),
    ("quic_stream", &[]),
    ("pool", &["outrigger::pool"]),
    ("rate_limit_quota", &[]),
    ("rbac", &[]),
    ("rds", &[]),
    ("redis", &[]),
    ("router", &["outrigger::http_filters::router", "outrigger::route"]),
    ("runtime", &["outrigger::runtime"]),
    ("stats", &["outrigger::stats"]),
    ("secret", &["certs"]),
    ("sse", &[]),
    ("tap", &[]),
    ("testing", &[]),
    ("thrift", &[]),
    ("tracing", &[]),
    ("upstream", &["outrigger::cluster", "outrigger::endpoint", "outrigger::lb"]),
    ("udp", &[]),
    ("wasm", &[]),
    ("websocket", &[]),
    ("golang", &[]),
    ("stats_sinks", &[]),
    ("dynamic_modules", &[]),
    ("ip_tagging", &[]),
];

static LEVELS: [AtomicU8; COMPONENTS.len()] = [const { AtomicU8::new(Level::Info as u8) }; COMPONENTS.len()];

/// Names and levels of all loggers, as `POST /logging` lists them.
pub fn loggers() -> impl Iterator<Item = (&'static str, Level)> {
    COMPONENTS.iter().zip(&LEVELS).map(|((name, _), level)| (*name, Level::from_u8(level.load(Ordering::Relaxed))))
}

/// Sets every logger.
pub fn set_level(level: Level) {
    LEVELS.iter().for_each(|cell| cell.store(level as u8, Ordering::Relaxed));
    tracing::callsite::rebuild_interest_cache();
}

/// Sets one logger. False when there is none of that name.
pub fn set_component_level(name: &str, level: Level) -> bool {
    let found = COMPONENTS.iter().zip(&LEVELS).find(|((known, _), _)| *known == name);
    if let Some((_, cell)) = found {
        cell.store(level as u8, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }
    found.is_some()
}

/// `upstream:debug,config:trace`.
///
/// # Errors
/// When a part is not `name:level` with a known name and level.
pub fn parse_components(text: &str) -> Result<Vec<(String, Level)>, String> {
    let mut out = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (name, level) = part.split_once(':').ok_or_else(|| format!("expected component:level, got {part:?}"))?;
        if !COMPONENTS.iter().any(|(known, _)| *known == name) {
            return Err(format!("expected the name of a log component, got {name:?}"));
        }
        out.push((name.to_owned(), level.parse()?));
    }
    Ok(out)
}

/// The logger of a module: the one that names the longest part of its path.
fn component_of(target: &str) -> usize {
    let under =
        |module: &str| target.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let misc = COMPONENTS.iter().position(|(name, _)| *name == "misc").unwrap_or(0);
    COMPONENTS
        .iter()
        .enumerate()
        .flat_map(|(i, (_, modules))| modules.iter().filter(|m| under(m)).map(move |m| (m.len(), i)))
        .max()
        .map_or(misc, |(_, i)| i)
}

/// What the command line says about logging.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    pub level: Level,
    pub components: Vec<(String, Level)>,
    /// spdlog pattern.
    pub format: Option<String>,
    pub path: Option<PathBuf>,
}

static SINK: Mutex<Option<Sink>> = Mutex::new(None);

struct Sink {
    path: Option<PathBuf>,
    file: Option<File>,
}

/// Installs the log for the whole process. Later calls change levels and sink only.
///
/// # Errors
/// When the log file cannot be opened.
pub fn init(options: &LogOptions) -> io::Result<()> {
    set_level(options.level);
    for (name, level) in &options.components {
        set_component_level(name, *level);
    }
    let file = options.path.as_ref().map(open).transpose()?;
    *SINK.lock() = Some(Sink { path: options.path.clone(), file });
    let pattern = Pattern::new(options.format.as_deref().unwrap_or(Pattern::DEFAULT));
    // A second call in one process (tests) keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(LogLayer { pattern }));
    Ok(())
}

/// Opens the log file anew, after it was moved away.
///
/// # Errors
/// When it cannot be opened; the old one stays in use.
pub fn reopen() -> io::Result<()> {
    let mut sink = SINK.lock();
    if let Some(sink) = sink.as_mut()
        && let Some(path) = &sink.path
    {
        sink.file = Some(open(path)?);
    }
    Ok(())
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

struct LogLayer {
    pattern: Pattern,
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for LogLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        let level = LEVELS.get(component_of(metadata.target())).map_or(0, |cell| cell.load(Ordering::Relaxed));
        if Level::of(metadata) as u8 >= level {
            tracing::subscriber::Interest::always()
        } else {
            tracing::subscriber::Interest::never()
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let component = COMPONENTS.get(component_of(metadata.target())).map_or("misc", |(name, _)| name);
        let line = self.pattern.line(event, component, Level::of(metadata));
        let mut sink = SINK.lock();
        // A log that cannot be written must not end what it tells about.
        let _ = match sink.as_mut().and_then(|sink| sink.file.as_mut()) {
            Some(file) => file.write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_logs_to_the_logger_of_its_longest_prefix() {
        let name = |target: &str| COMPONENTS[component_of(target)].0;
        assert_eq!(name("outrigger::http::http2::server"), "http2");
        assert_eq!(name("outrigger::http::http2::client"), "client");
        assert_eq!(name("outrigger::http_filters::router"), "router");
        assert_eq!(name("outrigger::cluster::dns::refresh"), "dns");
        assert_eq!(name("outrigger::httpish"), "misc");
    }

    #[test]
    fn component_levels_are_checked() {
        assert_eq!(
            parse_components("upstream:debug,config:warn").expect("valid"),
            [("upstream".to_owned(), Level::Debug), ("config".to_owned(), Level::Warning)]
        );
        assert!(parse_components("upstream=debug").is_err());
        assert!(parse_components("nobody:debug").is_err_and(|e| e.contains("nobody")));
        assert!(parse_components("upstream:loud").is_err_and(|e| e.contains("loud")));
    }
}
