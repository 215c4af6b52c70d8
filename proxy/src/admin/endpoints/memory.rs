//! `/memory`: how much memory the process has, as the kernel tells it.
//!
//! The allocator keeps no cheap account of its own, so `allocated` and `heap_size` are both the anonymous memory in use and
//! the page-heap figures are 0.

use xds_protos::envoy::admin::v3 as pb;

use crate::admin::{Endpoint, Reply, Request};

pub const ENDPOINT: Endpoint =
    Endpoint { path: "/memory", mutates: false, help: "memory in use, in bytes", params: &[], respond };

fn respond(_: &Request<'_>) -> Reply {
    Reply::message(&read(), true)
}

/// Also the source of `server.memory_allocated`, `server.memory_heap_size` and `server.memory_physical_size`. All zero where
/// there is no procfs.
pub fn read() -> pb::Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let heap = kibibytes(&status, "RssAnon:") * 1024;
    pb::Memory {
        allocated: heap,
        heap_size: heap,
        total_physical_bytes: kibibytes(&status, "VmRSS:") * 1024,
        ..Default::default()
    }
}

fn kibibytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_their_lines() {
        let status = "Name:\tx\nVmRSS:\t    5120 kB\nRssAnon:\t 4096 kB\n";
        assert_eq!(kibibytes(status, "VmRSS:"), 5120);
        assert_eq!(kibibytes(status, "RssAnon:"), 4096);
        assert_eq!(kibibytes(status, "VmSwap:"), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory() {
        let memory = read();
        assert!(memory.allocated > 100_000 && memory.total_physical_bytes >= memory.allocated);
    }
}
