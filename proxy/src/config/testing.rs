//! Configuration in tests, written as users write it.

use xds_protos::encode::{Options, to_wire};
use xds_protos::text::{Format, parse};

/// The message that this YAML describes.
pub fn from_yaml<M: prost::Message + prost::Name + Default>(yaml: &str) -> M {
    let tree = parse(yaml, Format::Yaml).unwrap_or_else(|problem| panic!("{}", problem.in_file("test")));
    let (wire, _) = to_wire(tree.root(), &M::full_name(), &Options::default()).unwrap_or_else(|problems| {
        panic!("{}", problems.iter().map(|p| p.in_file("test").to_string()).collect::<Vec<_>>().join("\n"))
    });
    M::decode(wire.as_slice()).unwrap()
}
