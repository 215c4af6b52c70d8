//! What every builder of configuration uses: the path of the field being read ([`Path`]), the refusal that names it
//! ([`Reject`]) and the context in which things are built ([`BuildCx`]).
//!
//! Builders are pure: protobuf in, immutable value or [`Reject`] out. They run off the data path.

use std::fmt;

mod build_cx;
pub mod data_source;
mod dependency;
pub mod matcher;
pub mod metadata;
pub mod percent;
mod source;
#[cfg(test)]
pub mod testing;
pub mod values;

pub use build_cx::BuildCx;
pub use data_source::DataSource;
pub use dependency::{Dependencies, Dependency};
pub use percent::FractionalPercent;
pub use source::{ConfigSource, GrpcSource, Origin, PathSource};

/// Why a configuration was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Reject {
    /// Field path from the resource's root, e.g. `filter_chains[0].filters[1].typed_config.stat_prefix`.
    pub path: String,
    /// What was expected and what came.
    pub why: String,
}

/// The place of a field in a resource: a linked list on the stack, written out only when something is refused.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    segment: Segment<'a>,
}

#[derive(Clone, Copy)]
enum Segment<'a> {
    Root(&'a str),
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// The root of a resource. `name` stands before the fields (`""` for none, or e.g. `static_resources`).
    pub fn root(name: &'a str) -> Self {
        Path { parent: None, segment: Segment::Root(name) }
    }

    pub fn field(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Field(name) }
    }

    pub fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Index(index) }
    }

    /// An entry of a map field.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), segment: Segment::Key(key) }
    }

    /// A refusal of this field. `why` says what was expected and what came.
    pub fn reject(&self, why: impl fmt::Display) -> Reject {
        Reject { path: self.to_string(), why: why.to_string() }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_start = match self.parent {
            None => true,
            Some(parent) => {
                write!(f, "{parent}")?;
                matches!(parent, Path { parent: None, segment: Segment::Root("") })
            }
        };
        match self.segment {
            Segment::Root(name) => f.write_str(name),
            Segment::Field(name) if at_start => f.write_str(name),
            Segment::Field(name) => write!(f, ".{name}"),
            Segment::Index(index) => write!(f, "[{index}]"),
            Segment::Key(key) => write!(f, "[\"{key}\"]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn a_path_reads_like_the_field_it_names() {
        let root = Path::root("");
        let listeners = root.field("listeners");
        let first = listeners.index(2);
        let options = first.field("typed_extension_protocol_options");
        assert_eq!(options.key("envoy.x").to_string(), "listeners[2].typed_extension_protocol_options[\"envoy.x\"]");
        assert_eq!(Path::root("static_resources").field("a").to_string(), "static_resources.a");
    }
}
