//! The load harness: the same configuration in a real Envoy and in Outrigger, measured in turns.
//!
//! What is compared is the processor time that a proxy took for a unit of work (user and system, from `/proc`), which holds
//! on a machine that does other things too; throughput and latency are told beside it. Proxies have one core, the load and
//! the upstreams another, where there are two. Upstreams and load generators are ours, so nothing else need be installed.

pub mod cases;
pub mod chart;
pub mod client;
pub mod config;
pub mod discovery;
pub mod figure;
pub mod identities;
pub mod machine;
pub mod options;
pub mod process;
pub mod report;
pub mod upstream;

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use machine::Cores;
use options::Options;
use process::{ENVOY, OUTRIGGER, Side};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the cases need to know.
pub struct Run {
    /// Envoy, if there is one, and Outrigger.
    pub sides: Vec<Side>,
    pub cores: Cores,
    pub rounds: usize,
    pub time: Duration,
    pub warm_up: Duration,
    pub idle_connections: usize,
    /// Numbers of services.
    pub scales: Vec<usize>,
}

impl Run {
    fn new(options: &Options) -> Outcome<Run> {
        let ours = match &options.outrigger {
            Some(binary) => binary.clone(),
            None => std::env::current_exe()?,
        };
        let mut sides = Vec::new();
        match process::find_envoy().filter(|_| !options.alone) {
            Some(envoy) => sides.push(Side::new(ENVOY, envoy)?),
            None if options.alone => {}
            None => eprintln!("{}", process::HOW_TO_GET_ENVOY),
        }
        sides.push(Side::new(OUTRIGGER, ours)?);
        let cores = Cores::split();
        if !cores.are_apart() {
            eprintln!("one core only: the load and the proxies share it, so latencies say little");
        }
        machine::raise_open_files();
        Ok(Run {
            sides,
            cores,
            rounds: options.rounds,
            time: options.time,
            warm_up: (options.time / 4).min(Duration::from_secs(1)),
            idle_connections: if options.smoke { 50 } else { 4000 },
            scales: if options.smoke { vec![20] } else { vec![1000, 5000] },
        })
    }

    /// Something for each side.
    fn each<T>(&self, make: impl Fn(&Side) -> Outcome<T>) -> Outcome<Vec<T>> {
        self.sides.iter().map(make).collect()
    }
}

/// The command line behind `load`.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match Options::parse(arguments) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::usage());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", options::usage());
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} requests failed: these figures mean nothing");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the cases and writes the report. How many requests were not answered as they should be.
fn measure(options: &Options) -> Outcome<u64> {
    let run = Run::new(options)?;
    let mut figures = Vec::new();
    for (case, what) in cases::NAMES.iter().filter(|(name, _)| options.wants(name)) {
        eprintln!("{case}: {what}");
        figures.extend(cases::run(case, &run)?);
    }
    print!("{}", report::table(&run, &figures));
    if let Some(folder) = &options.out {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("load.json"), format!("{:#}\n", report::json(&run, &figures)))?;
        std::fs::write(folder.join("load.svg"), chart::svg(&run, &figures))?;
        eprintln!("written: {0}/load.json, {0}/load.svg", folder.display());
    }
    Ok(figures.iter().map(figure::Figure::failed).sum())
}
