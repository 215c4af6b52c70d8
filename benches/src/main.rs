//! `cargo run --release -p benches -- load`: the load harness, see [`benches::load`].
//!
//! Every other command line is the proxy's own: the harness starts itself as the proxy, so that what is measured is always
//! what was just built, with the allocator of the `outrigger` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: outrigger::sys::Allocator = outrigger::sys::Allocator;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    match arguments.nth(1) {
        Some(first) if first == "load" => benches::load::main(arguments),
        Some(_) => outrigger::cli::main(std::env::args_os()),
        None => {
            eprintln!("usage: cargo run --release -p benches -- load [--help]");
            ExitCode::from(2)
        }
    }
}
