//! The README against what is built in.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Level, all};

const OPEN: &str = "<!-- extensions -->\n";
const CLOSE: &str = "<!-- /extensions -->";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The README's table of extensions, as it has to be.
fn rendered() -> String {
    let mut table = String::from("| category | extension | level | what holds |\n|---|---|---|---|\n");
    for entry in all() {
        let level = match entry.level {
            Level::Full => "full",
            Level::Partial => "partial",
            Level::Ignored => "no effect",
        };
        writeln!(table, "| `{}` | `{}` | {level} | {} |", entry.category, entry.name, entry.note)
            .expect("strings take whatever is written");
    }
    table
}

/// With `OUTRIGGER_BLESS=1` the README is rewritten first.
#[test]
fn the_readme_lists_what_is_built_in() {
    let path = top().join("README.md");
    let mut text = fs::read_to_string(&path).expect("the README is there");
    let from = text.find(OPEN).expect("the README marks where the table begins") + OPEN.len();
    let to = text.find(CLOSE).expect("the README marks where the table ends");
    if std::env::var_os("OUTRIGGER_BLESS").is_some() {
        text.replace_range(from..to, &rendered());
        fs::write(&path, &text).expect("the README can be written");
        return;
    }
    assert_eq!(&text[from..to], rendered(), "run this test once with OUTRIGGER_BLESS=1");
}

/// A guide to files that moved leads nowhere.
#[test]
fn the_files_that_the_readme_names_exist() {
    let text = fs::read_to_string(top().join("README.md")).expect("the README is there");
    let named = text.split('`').skip(1).step_by(2).filter(|code| {
        ["proxy/", "xds-client/", "certs/", "docs/", "tests/", "benches/"].iter().any(|at| code.starts_with(at))
    });
    let missing: Vec<_> = named.clone().filter(|path| !top().join(path).exists()).collect();
    assert!(named.count() > 5, "the README names the files of the life of a request");
    assert_eq!(missing, [""; 0]);
}
