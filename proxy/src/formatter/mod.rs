//! Envoy's substitution formatter: `%COMMANDS%` in access logs, header mutations, local replies and rewrites
//! (`envoy.config.core.v3.SubstitutionFormatString`).
//!
//! A format is read once into pieces ([`Formatter`]) or a tree of them ([`JsonFormatter`]) and then only appends bytes to a
//! buffer. Operators without arguments are a table ([`operators`]), those with arguments a match ([`command`]). What is not
//! supported is refused when the format is read; an operator that has no value in this context prints `-`, or `null` in JSON.
//!
//! Values come from strangers. In text control bytes are written as `\x0a`, in JSON they are escaped: nobody forges a line.
//! Envoy writes some of them as they are.

mod coalesce;
mod command;
mod grpc;
mod header;
mod json;
mod metadata;
mod operators;
mod substitution;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod time;
mod uri;
mod write;

pub use command::Extensions;
pub use grpc::grpc_status;
pub use header::HeaderMutations;
pub use json::JsonFormatter;
pub use substitution::LineFormat;
pub use text::Formatter;
pub use time::TimeFormat;
