//! `docs/dependencies.md` against the manifests of the workspace: it names the direct dependencies, all of them and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const MEMBERS: [&str; 6] = ["proxy", "xds-client", "xds-client/protos", "certs", "tests", "benches"];
/// Packages of the workspace itself.
const OWN: [&str; 4] = ["outrigger", "xds-client", "xds-protos", "certs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The keys of all tables of dependencies, those of a target and of builds and tests too.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() && !OWN.contains(&name) {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

#[test]
fn the_page_names_the_direct_dependencies() {
    let used: BTreeSet<String> =
        MEMBERS.iter().flat_map(|member| dependencies(&read(&format!("{member}/Cargo.toml")))).collect();
    let page = read("docs/dependencies.md");
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let named: BTreeSet<String> = rows.iter().map(|row| (*row).to_owned()).collect();
    assert_eq!(rows.len(), named.len(), "a dependency has one row");
    let missing: Vec<_> = used.difference(&named).collect();
    let gone: Vec<_> = named.difference(&used).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not on the page: {missing:?}; on it and not used: {gone:?}");
}

#[test]
fn the_members_are_those_of_the_workspace() {
    let manifest = read("Cargo.toml");
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).expect("members");
    let members: BTreeSet<&str> = members.split('"').skip(1).step_by(2).collect();
    assert_eq!(members, MEMBERS.into());
}

#[test]
fn tables_of_every_kind_are_read() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\n# not = this\ncerts = 1\n[lints]\nb = 1\n\
        [target.'cfg(any())'.dependencies]\nc = { x = 1 }\n[build-dependencies]\nd= 1\n[dev-dependencies]\ne.workspace = true\n";
    assert_eq!(dependencies(manifest), ["a", "c", "d", "e"].map(str::to_owned).into());
}
