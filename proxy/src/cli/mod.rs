//! The command line: which personality the binary has, and what it is told.
//!
//! `outrigger FLAGS`, `outrigger run FLAGS` and the binary under the name `envoy` take Envoy's flags. Other subcommands:
//! `validate` (the same as `--mode validate`, or with `--config-dump` a look at what another proxy runs) and `demo`.

mod audit;
mod flags;
mod handles;
mod run;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;

pub use flags::{Mode, RunOptions};

use crate::demo;

/// What Envoy's version string would be. The second part is the Envoy release whose behaviour this follows.
pub fn version() -> String {
    format!("{}/{}-envoy-1.40.0/Clean/RELEASE/rustls-aws-lc", env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_NAME"))
}

/// Parses, runs, and says how the process is to end.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let matches = match command(is_envoy(args.first())).try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 1 } else { 0 });
        }
    };
    if matches.try_get_one::<bool>("version").ok().flatten() == Some(&true) {
        println!("\noutrigger  version: {}\n", version());
        return ExitCode::SUCCESS;
    }
    let (matches, mode) = match matches.subcommand() {
        Some(("demo", demo)) => return demo::main(demo.get_flag("once")),
        Some(("validate", run)) => match run.get_one::<PathBuf>("config-dump") {
            Some(dump) => return audit::run(dump),
            None => (run, Some(Mode::Validate)),
        },
        Some((_, run)) => (run, None),
        None => (&matches, None),
    };
    let mut options = match flags::read(matches) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("outrigger: {why}");
            return ExitCode::FAILURE;
        }
    };
    if options.print_hot_restart_version {
        println!("disabled");
        return ExitCode::SUCCESS;
    }
    if let Some(mode) = mode {
        options.mode = mode;
    }
    if options.config_path.is_none() && options.config_yaml.is_none() {
        eprintln!(
            "outrigger: expected a configuration: -c FILE or --config-yaml TEXT (see --help; `outrigger demo` needs none)"
        );
        return ExitCode::FAILURE;
    }
    if let Err(error) = crate::logging::init(&options.log) {
        eprintln!("outrigger: cannot open the log file: {error}");
        return ExitCode::FAILURE;
    }
    run::run(options)
}

fn is_envoy(program: Option<&OsString>) -> bool {
    program.is_some_and(|program| Path::new(program).file_stem().is_some_and(|name| name == "envoy"))
}

fn command(envoy: bool) -> Command {
    let version = clap::Arg::new("version")
        .long("version")
        .help("Print version information and exit")
        .action(clap::ArgAction::SetTrue);
    let run = flags::add_to(
        Command::new(if envoy { "envoy" } else { "outrigger" })
            .about("A data-plane proxy for Istio service meshes that takes Envoy's place")
            .disable_version_flag(true)
            .arg(version),
    );
    if envoy {
        return run;
    }
    run.args_conflicts_with_subcommands(true)
        .subcommand(flags::add_to(Command::new("run").about("Run with a configuration (the default)")))
        .subcommand(flags::add_to(
            Command::new("validate").about("Check a configuration and exit").arg(
                clap::Arg::new("config-dump")
                    .long("config-dump")
                    .value_name("FILE")
                    .value_parser(clap::value_parser!(PathBuf))
                    .help("Instead of a configuration: build everything in a dump of /config_dump, of Envoy's or this proxy's, and list what would be refused or ignored"),
            ),
        ))
        .subcommand(
            Command::new("demo").about("Bring up a small mesh on loopback and show requests passing through it").arg(
                clap::Arg::new("once")
                    .long("once")
                    .help("Drive the demo itself, print what was checked, and exit")
                    .action(clap::ArgAction::SetTrue),
            ),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        command(false).debug_assert();
        command(true).debug_assert();
    }
}
