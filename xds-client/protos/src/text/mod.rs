//! Configuration text (YAML or JSON) as a tree that knows where each node stands.
//!
//! The tree is one vector of 12-byte slots in the order of the text: a list or an object is a slot followed by those of
//! its children, a key is a slot followed by its value. Strings stay in the text when they stand there as they are; only
//! unescaped ones are copied. A 15 MB bootstrap thus costs about as much again while it is loaded, and lines and columns are
//! counted only when a message needs them.
//!
//! Scalars follow what Envoy does: its YAML loader goes through JSON, so that in YAML a plain `yes` is a boolean, an integer
//! of more than 32 bits or a fraction is a string (which protobuf JSON takes for numeric fields), and a key is always
//! a string. Different from Envoy, a key that occurs twice is refused, and so is a second YAML document: Envoy takes the last
//! and the first one silently. Merge keys (`<<: *base`) work; Envoy knows them not.

mod json;
mod tree;
mod yaml;

pub use tree::{Array, Node, Object, Position, Tree, Value};
pub(crate) use tree::{Builder, Shortened, line_start, position};

use crate::problem::Problem;

/// How to read a configuration text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Yaml,
    Json,
    /// JSON when the text begins with `{` and reads as JSON, otherwise YAML.
    Auto,
}

/// Reads a text whole; the first mistake ends it.
pub fn parse(text: &str, format: Format) -> Result<Tree<'_>, Box<Problem>> {
    if text.len() > tree::MAX_TEXT {
        return Err(Box::new(Problem::new("", "at most 256 MiB of configuration", format!("{} bytes", text.len()))));
    }
    let strict = match format {
        Format::Json => return json::parse(text).map_err(|e| e.into_problem(text)),
        Format::Yaml => return yaml::parse(text).map_err(|e| e.into_problem(text)),
        Format::Auto if after_space(text).starts_with('{') => match json::parse(text) {
            Ok(tree) => return Ok(tree),
            Err(error) => Some(error),
        },
        Format::Auto => None,
    };
    // YAML's flow style looks much like JSON; who wrote `{"` first meant JSON.
    let json_meant = after_space(text).strip_prefix('{').is_some_and(|rest| after_space(rest).starts_with('"'));
    yaml::parse(text).map_err(|yaml| match strict {
        Some(json) if json_meant => json.into_problem(text),
        _ => yaml.into_problem(text),
    })
}

fn after_space(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim_start()
}

/// A mistake at a byte of the text.
struct Mistake {
    at: usize,
    expected: String,
    got: String,
}

impl Mistake {
    fn new(at: usize, expected: impl Into<String>, got: impl Into<String>) -> Mistake {
        Mistake { at, expected: expected.into(), got: got.into() }
    }

    fn into_problem(self, text: &str) -> Box<Problem> {
        Box::new(Problem::new("", self.expected, self.got).at(text, self.at))
    }
}

#[cfg(test)]
mod tests;
