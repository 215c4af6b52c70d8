//! The proxy, as a binary of this package, so that its tests have one to start. `outrigger` itself is the same.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: outrigger::sys::Allocator = outrigger::sys::Allocator;

fn main() -> ExitCode {
    outrigger::cli::main(std::env::args_os())
}
