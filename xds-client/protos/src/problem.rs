//! What is wrong with a configuration, said so that the author can find and mend it.

use std::fmt;

use crate::text;

/// A mistake, or in a list of warnings something that was let pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The field: `static_resources.listeners[0].filter_chains[0].filters[0].typed_config.stat_prefix`. Empty when the text
    /// itself is malformed.
    pub path: String,
    pub expected: String,
    pub got: String,
    pub hint: Option<String>,
    /// Where in a text, when there is one.
    pub place: Option<Place>,
}

/// A place in a text, with the line to show.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// The line, or a part of a long one.
    pub source: String,
    /// Where in `source` the caret goes, in characters from 0.
    pub caret: usize,
}

/// More of a line than this is not shown.
const SHOWN: usize = 120;

impl Problem {
    pub fn new(path: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> Problem {
        Problem { path: path.into(), expected: expected.into(), got: got.into(), hint: None, place: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// Points at a byte of the text.
    pub(crate) fn at(mut self, text: &str, at: usize) -> Problem {
        let position = text::position(text, at);
        let start = text::line_start(text, at);
        let line = text.get(start..).unwrap_or_default();
        let line = line.split(['\n', '\r']).next().unwrap_or_default();
        let column = position.column as usize - 1;
        let skip = if column < SHOWN - 20 { 0 } else { column - SHOWN / 2 };
        let source = line.chars().skip(skip).take(SHOWN).collect();
        self.place = Some(Place { line: position.line, column: position.column, source, caret: column - skip });
        self
    }

    /// Points at the node, when it stands in a text.
    pub fn at_node(self, node: text::Node<'_>) -> Problem {
        match node.offset() {
            Some(at) => self.at(node.tree().text(), at),
            None => self,
        }
    }

    /// Points at the field of its path, or the closest one above, in the text that the message came from.
    pub fn in_tree(self, tree: &text::Tree<'_>) -> Problem {
        let node = tree.locate(&self.path);
        self.at_node(node)
    }

    /// The message with a file name: `envoy.yaml:3:5: path: expected …, got …`, the line and a caret.
    pub fn in_file<'p>(&'p self, file: &'p str) -> impl fmt::Display + 'p {
        InFile { problem: self, file }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        InFile { problem: self, file: "" }.fmt(f)
    }
}

impl std::error::Error for Problem {}

struct InFile<'p> {
    problem: &'p Problem,
    file: &'p str,
}

impl fmt::Display for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { path, expected, got, hint, place } = self.problem;
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
        }
        if let Some(place) = place {
            write!(f, "{}:{}:", place.line, place.column)?;
        }
        if !self.file.is_empty() || place.is_some() {
            f.write_str(" ")?;
        }
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        write!(f, "expected {expected}, got {got}")?;
        if let Some(hint) = hint {
            write!(f, "; {hint}")?;
        }
        if let Some(place) = place {
            write!(f, "\n    {}\n    ", place.source)?;
            // Tabs before the caret keep it under its character.
            for c in place.source.chars().take(place.caret) {
                f.write_str(if c == '\t' { "\t" } else { " " })?;
            }
            f.write_str("^")?;
        }
        Ok(())
    }
}

/// The known name closest to a misspelt one, if one is close enough to be meant.
pub(crate) fn did_you_mean<'n>(wrong: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let limit = (wrong.chars().count() / 3).clamp(1, 4);
    known
        .map(|name| (distance(wrong, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Insertions, deletions, substitutions and swaps of neighbours that turn one into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(100).collect(), b.chars().collect());
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<_>>(), vec![0; b.len() + 1]];
    for i in 1..=a.len() {
        let [before, above, row] = &mut rows;
        row[0] = i;
        for j in 1..=b.len() {
            let same = a[i - 1] == b[j - 1];
            let mut best = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + usize::from(!same));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row[j] = best;
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}
