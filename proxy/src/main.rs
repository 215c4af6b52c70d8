//! The binary: the allocator and nothing else.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: outrigger::sys::Allocator = outrigger::sys::Allocator;

fn main() -> ExitCode {
    outrigger::cli::main(std::env::args_os())
}
