use std::fmt::Write;
use std::fs;
use std::path::Path as FilePath;

use bytes::Bytes;
use prost::Message;
use xds_protos::encode::{Options, to_wire};
use xds_protos::envoy::config::bootstrap::v3 as pb;
use xds_protos::problem::Problem;
use xds_protos::text::{self, Format};

use crate::config::Reject;

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// Why there is no bootstrap: text for the operator, one paragraph a problem.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

/// A bootstrap as read, and the texts it came from, to point into.
pub struct Loaded {
    pub message: pb::Bootstrap,
    pub wire: Bytes,
    /// Unknown fields that were let pass, as text.
    pub warnings: Vec<String>,
    sources: Vec<Source>,
}

struct Source {
    name: String,
    text: String,
    format: Format,
}

/// Reads `-c` and merges `--config-yaml` over it, as protobuf merges: single values replace, lists grow.
///
/// # Errors
/// When a file cannot be read, is malformed, or is not a bootstrap; the text says where.
pub fn load(file: Option<&FilePath>, inline: Option<&str>, allow_unknown: bool) -> Result<Loaded, LoadError> {
    let mut sources = Vec::new();
    if let Some(file) = file {
        let name = file.display().to_string();
        let bytes = fs::read(file).map_err(|e| LoadError(format!("{name}: cannot read the configuration: {e}")))?;
        let text = String::from_utf8(bytes)
            .map_err(|e| LoadError(format!("{name}: expected UTF-8 text: {}", e.utf8_error())))?;
        let format = match file.extension().and_then(|e| e.to_str()) {
            Some("json") => Format::Json,
            Some("yaml" | "yml") => Format::Yaml,
            _ => Format::Auto,
        };
        sources.push(Source { name, text, format });
    }
    if let Some(inline) = inline {
        sources.push(Source { name: "--config-yaml".to_owned(), text: inline.to_owned(), format: Format::Yaml });
    }
    let mut wire = Vec::new();
    let mut warnings = Vec::new();
    for source in &sources {
        let (bytes, notes) = source.to_wire(allow_unknown)?;
        // Concatenated messages are merged messages (protobuf encoding, "Last One Wins").
        wire.extend_from_slice(&bytes);
        warnings.extend(notes);
    }
    let message = pb::Bootstrap::decode(wire.as_slice())
        .map_err(|e| LoadError(format!("the configuration does not decode as {BOOTSTRAP}: {e}")))?;
    // A merge leaves duplicates of single fields on the wire: write it out as one message.
    let wire = if sources.len() > 1 { Bytes::from(message.encode_to_vec()) } else { Bytes::from(wire) };
    let loaded = Loaded { message, wire, warnings, sources };
    xds_protos::validate::validate(BOOTSTRAP, &loaded.wire)
        .map_err(|problems| LoadError(loaded.describe_all(problems)))?;
    Ok(loaded)
}

impl Source {
    fn to_wire(&self, allow_unknown: bool) -> Result<(Vec<u8>, Vec<String>), LoadError> {
        let show = |problem: &Problem| problem.in_file(&self.name).to_string();
        let tree = text::parse(&self.text, self.format).map_err(|problem| LoadError(show(&problem)))?;
        let options = Options { allow_unknown, keep_unknown_any: true };
        match to_wire(tree.root(), BOOTSTRAP, &options) {
            Ok((wire, warnings)) => Ok((wire, warnings.iter().map(show).collect())),
            Err(problems) => Err(LoadError(problems.iter().map(show).collect::<Vec<_>>().join("\n"))),
        }
    }
}

impl Loaded {
    /// A refusal with the place in the file that it is about, where one can be found.
    pub fn describe(&self, reject: &Reject) -> String {
        self.point_at(&reject.path, &reject.why)
    }

    fn describe_all(&self, problems: Vec<Problem>) -> String {
        let mut out = String::new();
        for problem in problems {
            let mut why = format!("expected {}, got {}", problem.expected, problem.got);
            if let Some(hint) = &problem.hint {
                let _ = write!(why, " ({hint})");
            }
            let _ = writeln!(out, "{}", self.point_at(&problem.path, &why));
        }
        out.trim_end().to_owned()
    }

    fn point_at(&self, path: &str, why: &str) -> String {
        // With two sources a list index may count elements of both: then only the path is shown.
        let [source] = self.sources.as_slice() else { return format!("{path}: {why}") };
        let Ok(tree) = text::parse(&source.text, source.format) else { return format!("{path}: {why}") };
        let node = tree.locate(path);
        let Some(position) = node.position() else { return format!("{}: {path}: {why}", source.name) };
        let line = source.text.lines().nth(position.line as usize - 1).unwrap_or_default();
        let shown: String = line.chars().take(160).collect();
        let caret = " ".repeat((position.column as usize - 1).min(160));
        format!("{}:{}:{}: {path}: {why}\n    {shown}\n    {caret}^", source.name, position.line, position.column)
    }
}
