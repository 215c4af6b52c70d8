//! `/logging`: lists and sets log levels.

use std::fmt::Write;

use http::StatusCode;

use crate::admin::{Endpoint, Log, Param, ParamKind, Reply, Request};
use crate::logging::{self, Level};

pub const ENDPOINT: Endpoint = Endpoint {
    path: "/logging",
    mutates: true,
    help: "query or change log levels; also <logger>=<level>",
    params: &[
        Param { id: "paths", kind: ParamKind::Text, help: "several loggers: <logger>:<level>,<logger>:<level>" },
        Param {
            id: "level",
            kind: ParamKind::OneOf(&["", "trace", "debug", "info", "warning", "error", "critical", "off"]),
            help: "level of all loggers",
        },
    ],
    respond,
};

/// The log of this process.
pub struct ProcessLog;

impl Log for ProcessLog {
    fn loggers(&self) -> Vec<(String, String)> {
        logging::loggers().map(|(name, level)| (name.to_owned(), level.to_string())).collect()
    }

    fn levels(&self) -> Vec<&'static str> {
        use Level::{Critical, Debug, Error, Info, Off, Trace, Warning};
        [Trace, Debug, Info, Warning, Error, Critical, Off].map(Level::as_str).to_vec()
    }

    fn set_all(&self, level: &str) {
        if let Ok(level) = level.parse() {
            logging::set_level(level);
        }
    }

    fn set(&self, logger: &str, level: &str) {
        if let Ok(level) = level.parse() {
            logging::set_component_level(logger, level);
        }
    }
}

fn respond(request: &Request<'_>) -> Reply {
    let log = &*request.cx.log;
    match change(log, request.query.pairs()) {
        Ok(()) => Reply::text(StatusCode::OK, listing(log)),
        Err(why) => Reply::bad_request(format!("error: {why}\n\n{}{}", usage(log), listing(log))),
    }
}

/// Changes nothing unless everything asked for can be done.
fn change(log: &dyn Log, params: &[(String, String)]) -> Result<(), &'static str> {
    let (name, value) = match params {
        [] => return Ok(()),
        [(name, value)] => (&**name, &**value),
        _ => return Err("invalid number of parameters"),
    };
    match name {
        _ if value.is_empty() => Ok(()),
        "level" => {
            check_level(log, value)?;
            log.set_all(value);
            Ok(())
        }
        "group" => Err("group parameter requires fine-grain logging to be enabled"),
        "paths" => {
            let mut changes = Vec::new();
            for part in value.split(',') {
                let (logger, level) = part.split_once(':').unwrap_or((part, ""));
                if logger.is_empty() || level.is_empty() {
                    return Err("empty logger name or empty logger level");
                }
                check_logger(log, logger)?;
                check_level(log, level)?;
                changes.push((logger, level));
            }
            changes.iter().for_each(|(logger, level)| log.set(logger, level));
            Ok(())
        }
        logger => {
            check_level(log, value)?;
            check_logger(log, logger)?;
            log.set(logger, value);
            Ok(())
        }
    }
}

fn check_level(log: &dyn Log, level: &str) -> Result<(), &'static str> {
    if log.levels().contains(&level) { Ok(()) } else { Err("unknown logger level") }
}

fn check_logger(log: &dyn Log, logger: &str) -> Result<(), &'static str> {
    if log.loggers().iter().any(|(known, _)| known == logger) { Ok(()) } else { Err("unknown logger name") }
}

fn usage(log: &dyn Log) -> String {
    format!(
        "usage: /logging?<name>=<level> (change single level)\n\
         usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
         usage: /logging?level=<level> (change all levels)\n\
         levels: {} \n",
        log.levels().join(" ")
    )
}

fn listing(log: &dyn Log) -> String {
    let mut out = String::from("active loggers:\n");
    for (name, level) in log.loggers() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {name}: {level}");
    }
    out.push('\n');
    out
}
