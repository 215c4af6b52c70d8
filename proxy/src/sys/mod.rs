//! The only unsafe code: socket options and system calls that no crate offers safely.
#![allow(unsafe_code)]
