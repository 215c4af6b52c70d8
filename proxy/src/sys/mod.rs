//! The only unsafe code: system calls that neither `std` nor `socket2` offers safely, the allocator, and a string that is
//! checked once.
//!
//! Each function is safe to call with any arguments; each unsafe block says why. Linux only, as the proxy is.
#![allow(unsafe_code)]

mod allocator;
mod byte_str;
mod interfaces;
mod limit;
mod pipe;
mod process;
mod socket;
mod time;

pub use allocator::{Allocator, give_back_memory, refuse_huge_pages};
pub use byte_str::ByteStr;
pub use interfaces::interface_addresses;
pub use limit::{FileLimit, file_limit, raise_file_limit};
pub use pipe::{Pipe, SpliceError};
pub use process::terminate;
pub use socket::{original_destination, set_option, set_tcp_fast_open};
pub use time::local_time;
