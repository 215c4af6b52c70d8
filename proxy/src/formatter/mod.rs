//! Envoy's substitution formatter (`%COMMANDS%`), and what is built on it: header mutations.

mod header;

pub use header::HeaderMutations;
