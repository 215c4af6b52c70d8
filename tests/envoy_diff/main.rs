//! The same configuration and the same bytes in a real Envoy and here: what clients and upstreams can observe must be equal.
//!
//! A [`group::Group`] is a configuration with upstreams and cases; the cases run one after the other in one process of each
//! proxy. What was observed is a flat map from field to text, made comparable by [`normalize`]. Differences that are on
//! purpose are in [`differences`], with their reasons in `docs/differences.md`.
//!
//! Envoy's side is recorded in `recorded/GROUP.json`, so that these tests run without an Envoy too. With one (`ENVOY_BIN`),
//! it runs beside ours and the recording is checked as well; `ENVOY_DIFF_RECORD=1` writes it. `PROXY_BIN` tests another
//! binary, `ENVOY_DIFF_SHOW=1` prints what was observed.

mod cases;
mod certificates;
mod differences;
mod filter_chains;
mod group;
mod http1;
mod normalize;
mod observe;
mod run;

use group::Group;

/// One test for each group.
macro_rules! groups {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        $($(#[$doc])* #[test] fn $name() { run::compare(&cases::$name::group()); })*

        fn all() -> Vec<Group> {
            vec![$(cases::$name::group()),*]
        }
    };
}

include!("groups.rs");

#[test]
fn names_are_unique_and_every_difference_on_purpose_is_documented() {
    let mut seen = std::collections::BTreeSet::new();
    for group in all() {
        for case in &group.cases {
            assert!(seen.insert(format!("{}/{}", group.name, case.id)), "{}/{} twice", group.name, case.id);
        }
    }
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/differences.md")).expect("the page");
    for difference in differences::ON_PURPOSE {
        assert!(
            page.contains(&format!("| `{}` |", difference.id)),
            "docs/differences.md lacks a row `{}`",
            difference.id
        );
    }
}
