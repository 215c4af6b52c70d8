//! The machine: which cores are whose, how many files may be open, and what to call it in a report.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// One core for the proxies and another for the load and the upstreams; none where there is only one.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    pub proxy: Option<usize>,
    pub load: Option<usize>,
}

impl Cores {
    pub fn split() -> Cores {
        let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let mut ours = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
        match (ours.next(), ours.next_back()) {
            (proxy @ Some(_), load @ Some(_)) => Cores { proxy, load },
            _ => Cores { proxy: None, load: None },
        }
    }

    pub fn are_apart(self) -> bool {
        self.proxy.is_some()
    }
}

/// Keeps the calling thread, and what it starts from now on, on one core.
pub fn pin(core: Option<usize>) {
    let Some(core) = core else { return };
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = sched_setaffinity(None, &set) {
        eprintln!("cannot stay on core {core}: {error}");
    }
}

/// Lets this process and the proxies open as many files as the system allows.
pub fn raise_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // At worst fewer idle connections are opened, which the case then says.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// How many connections this process can hold beside what it has open anyway.
pub fn connections_allowed() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX) - 200)
}

/// Processor, number of cores and kernel.
pub fn description() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {cores} cores, Linux {}", model.trim_start_matches([' ', '\t', ':']).trim(), kernel.trim())
}
