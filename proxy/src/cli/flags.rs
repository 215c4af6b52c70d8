//! Envoy's command line as one table: what a flag is called, what it takes, and whether it means something here.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::logging::LogOptions;
use crate::server::{DrainStrategy, ServerOptions};

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Text,
    Number,
    /// May be given several times.
    Texts,
    OneOf(&'static [&'static str]),
}

struct Flag {
    long: &'static str,
    short: Option<char>,
    takes: Takes,
    help: &'static str,
    /// Why the flag is accepted without effect; `None` when it has one.
    without_effect: Option<&'static str>,
}

const fn flag(long: &'static str, takes: Takes, help: &'static str) -> Flag {
    Flag { long, short: None, takes, help, without_effect: None }
}

const fn ignored(long: &'static str, takes: Takes, why: &'static str) -> Flag {
    Flag { long, short: None, takes, help: why, without_effect: Some(why) }
}

const HOT_RESTART: &str = "no effect: there is no hot restart";
const LEVELS: &[&str] = &["trace", "debug", "info", "warning", "warn", "error", "critical", "off"];

/// Every flag that Envoy 1.40 takes.
static FLAGS: &[Flag] = &[
    Flag { short: Some('c'), ..flag("config-path", Takes::Text, "Bootstrap configuration: a YAML or JSON file") },
    flag("config-yaml", Takes::Text, "Bootstrap as inline YAML, merged over the file"),
    flag(
        "mode",
        Takes::OneOf(&["serve", "validate", "init_only"]),
        "serve (default), validate the configuration and exit, or initialise and exit",
    ),
    flag("concurrency", Takes::Number, "Number of worker threads; default: one for each CPU"),
    Flag { short: Some('l'), ..flag("log-level", Takes::OneOf(LEVELS), "Log level; default: info") },
    flag("component-log-level", Takes::Text, "Log levels of components, e.g. upstream:debug,config:trace"),
    flag("log-format", Takes::Text, "Log line pattern; default: [%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v"),
    flag("log-format-escaped", Takes::Nothing, "Escape control characters in log lines (always done)"),
    flag("log-path", Takes::Text, "Log to this file instead of standard error"),
    flag("drain-time-s", Takes::Number, "Longest time that draining may take, in seconds; default: 600"),
    flag(
        "drain-strategy",
        Takes::OneOf(&["gradual", "immediate"]),
        "How connections are told to drain; default: gradual",
    ),
    flag(
        "parent-shutdown-time-s",
        Takes::Number,
        "Accepted for the bootstrap's command_line_options; there is no hot restart",
    ),
    flag("service-cluster", Takes::Text, "Cluster name of this node"),
    flag("service-node", Takes::Text, "Id of this node"),
    flag("service-zone", Takes::Text, "Zone of this node"),
    flag(
        "local-address-ip-version",
        Takes::OneOf(&["v4", "v6"]),
        "Address family of this machine's own address; default: v4",
    ),
    flag("file-flush-interval-msec", Takes::Number, "How often access logs are written out; default: 10000"),
    flag(
        "file-flush-min-size-kb",
        Takes::Number,
        "Access logs are written out early when this much waits; default: 64",
    ),
    flag("allow-unknown-static-fields", Takes::Nothing, "Unknown fields of the bootstrap are warnings, not errors"),
    flag("allow-unknown-fields", Takes::Nothing, "The same, by its older name"),
    flag("admin-address-path", Takes::Text, "Write the admin listener's address to this file"),
    flag("stats-tag", Takes::Texts, "A tag for every stat, as name:value"),
    ignored(
        "reject-unknown-dynamic-fields",
        Takes::Nothing,
        "no effect: dynamic configuration is always checked strictly",
    ),
    ignored("ignore-unknown-dynamic-fields", Takes::Nothing, "no effect until there is dynamic configuration"),
    ignored("skip-deprecated-logs", Takes::Nothing, "no effect: deprecated fields are not logged"),
    ignored("base-id", Takes::Number, HOT_RESTART),
    ignored("use-dynamic-base-id", Takes::Nothing, HOT_RESTART),
    ignored("base-id-path", Takes::Text, HOT_RESTART),
    ignored("restart-epoch", Takes::Number, HOT_RESTART),
    ignored("disable-hot-restart", Takes::Nothing, HOT_RESTART),
    ignored("skip-hot-restart-on-no-parent", Takes::Nothing, HOT_RESTART),
    ignored("skip-hot-restart-parent-stats", Takes::Nothing, HOT_RESTART),
    ignored("socket-path", Takes::Text, HOT_RESTART),
    ignored("socket-mode", Takes::Text, HOT_RESTART),
    flag("hot-restart-version", Takes::Nothing, "Print the hot restart version (disabled) and exit"),
    ignored("cpuset-threads", Takes::Nothing, "no effect: the default concurrency always respects the CPU set"),
    ignored("enable-mutex-tracing", Takes::Nothing, "no effect: there is no mutex on the data path"),
    ignored("enable-core-dump", Takes::Nothing, "no effect: set the core limit of the process"),
    ignored("enable-fine-grain-logging", Takes::Nothing, "no effect: log components are fixed"),
    ignored("log-stacktrace-single-entry", Takes::Nothing, "no effect: stack traces are not logged"),
    flag("disable-extensions", Takes::Text, "Comma-separated names of extensions that may not be used"),
];

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Serve,
    Validate,
    InitOnly,
}

/// The command line, read.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    pub config_path: Option<PathBuf>,
    pub config_yaml: Option<String>,
    pub mode: Mode,
    pub server: ServerOptions,
    pub log: LogOptions,
    pub file_flush_min_size: usize,
    pub admin_address_path: Option<PathBuf>,
    pub stats_tags: Vec<(String, String)>,
    pub disabled_extensions: Vec<String>,
    pub print_hot_restart_version: bool,
    /// One line for each flag that was given and has no effect.
    pub notes: Vec<String>,
}

/// The flags as arguments of a command.
pub fn add_to(mut command: Command) -> Command {
    for flag in FLAGS {
        let mut arg = Arg::new(flag.long).long(flag.long).help(flag.help);
        if let Some(short) = flag.short {
            arg = arg.short(short);
        }
        arg = match flag.takes {
            Takes::Nothing => arg.action(ArgAction::SetTrue),
            Takes::Text => arg.value_name("TEXT").action(ArgAction::Set).allow_hyphen_values(true),
            Takes::Number => arg.value_name("N").value_parser(value_parser!(u32)).action(ArgAction::Set),
            Takes::Texts => arg.value_name("TEXT").action(ArgAction::Append),
            Takes::OneOf(words) => arg.value_parser(words.to_vec()).action(ArgAction::Set),
        };
        command = command.arg(arg);
    }
    command
}

/// # Errors
/// A sentence for the user when values do not fit.
pub fn read(matches: &ArgMatches) -> Result<RunOptions, String> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let number = |name: &str| matches.get_one::<u32>(name).copied();
    let set = |name: &str| matches.get_flag(name);
    let default = ServerOptions::default();
    let seconds = |name: &str, otherwise: Duration| number(name).map_or(otherwise, |n| Duration::from_secs(n.into()));
    let server = ServerOptions {
        concurrency: match number("concurrency") {
            Some(0) | None => default.concurrency,
            Some(n) => n as usize,
        },
        drain_time: seconds("drain-time-s", default.drain_time),
        drain_strategy: match text("drain-strategy").as_deref() {
            Some("immediate") => DrainStrategy::Immediate,
            _ => DrainStrategy::Gradual,
        },
        parent_shutdown_time: seconds("parent-shutdown-time-s", default.parent_shutdown_time),
        service_cluster: text("service-cluster").unwrap_or_default(),
        service_node: text("service-node").unwrap_or_default(),
        service_zone: text("service-zone").unwrap_or_default(),
        file_flush_interval: number("file-flush-interval-msec")
            .map_or(default.file_flush_interval, |n| Duration::from_millis(n.into())),
        prefer_ipv6: text("local-address-ip-version").as_deref() == Some("v6"),
        allow_unknown_static_fields: set("allow-unknown-static-fields") || set("allow-unknown-fields"),
    };
    let mut log = LogOptions::default();
    if let Some(level) = text("log-level") {
        log.level = level.parse()?;
    }
    if let Some(components) = text("component-log-level") {
        log.components = crate::logging::parse_components(&components)?;
    }
    log.format = text("log-format");
    log.path = text("log-path").map(PathBuf::from);
    let stats_tags = matches
        .get_many::<String>("stats-tag")
        .into_iter()
        .flatten()
        .map(|tag| stats_tag(tag))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(RunOptions {
        config_path: text("config-path").map(PathBuf::from),
        config_yaml: text("config-yaml"),
        mode: match text("mode").as_deref() {
            Some("validate") => Mode::Validate,
            Some("init_only") => Mode::InitOnly,
            _ => Mode::Serve,
        },
        server,
        log,
        file_flush_min_size: number("file-flush-min-size-kb").unwrap_or(64) as usize * 1024,
        admin_address_path: text("admin-address-path").map(PathBuf::from),
        stats_tags,
        disabled_extensions: text("disable-extensions")
            .map(|names| names.split(',').map(|name| name.trim().to_owned()).collect())
            .unwrap_or_default(),
        print_hot_restart_version: set("hot-restart-version"),
        notes: notes(matches),
    })
}

fn stats_tag(tag: &str) -> Result<(String, String), String> {
    let (name, value) = tag.split_once(':').ok_or(format!("--stats-tag: expected name:value, got {tag:?}"))?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(format!("--stats-tag: expected an alphanumeric tag name, got {name:?}"));
    }
    if value.is_empty() || value.contains('.') {
        return Err(format!("--stats-tag: expected a value without a dot, got {value:?}"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn notes(matches: &ArgMatches) -> Vec<String> {
    let given = |flag: &Flag| matches.value_source(flag.long) == Some(clap::parser::ValueSource::CommandLine);
    FLAGS
        .iter()
        .filter_map(|flag| Some((flag, flag.without_effect?)))
        .filter(|(flag, _)| given(flag))
        .map(|(flag, why)| {
            let mut line = String::new();
            let _ = write!(line, "--{}: {why}", flag.long);
            line
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> RunOptions {
        let command = add_to(Command::new("outrigger").no_binary_name(true));
        read(&command.try_get_matches_from(args).expect("parses")).expect("is valid")
    }

    #[test]
    fn the_command_line_of_pilot_agent_is_understood() {
        let options = parse(&[
            "-c",
            "etc/istio/proxy/envoy-rev.json",
            "--drain-time-s",
            "45",
            "--drain-strategy",
            "immediate",
            "--local-address-ip-version",
            "v4",
            "--file-flush-interval-msec",
            "1000",
            "--disable-hot-restart",
            "--allow-unknown-static-fields",
            "-l",
            "warning",
            "--component-log-level",
            "misc:error",
            "--skip-deprecated-logs",
            "--concurrency",
            "2",
            "--config-yaml",
            "{\"node\":{}}",
        ]);
        assert_eq!(options.server.drain_time, Duration::from_secs(45));
        assert_eq!(options.server.drain_strategy, DrainStrategy::Immediate);
        assert_eq!(options.server.concurrency, 2);
        assert!(options.server.allow_unknown_static_fields);
        assert_eq!(options.notes.len(), 2, "{:?}", options.notes);
        assert_eq!(options.config_yaml.as_deref(), Some("{\"node\":{}}"));
    }

    #[test]
    fn wrong_values_are_refused_with_the_flag() {
        let command = add_to(Command::new("outrigger").no_binary_name(true));
        assert!(command.clone().try_get_matches_from(["--concurrency", "many"]).is_err());
        assert!(command.clone().try_get_matches_from(["--mode", "fly"]).is_err());
        let matches = command.try_get_matches_from(["--stats-tag", "a.b:c"]).expect("parses");
        assert!(read(&matches).is_err_and(|e| e.contains("--stats-tag")));
    }
}
