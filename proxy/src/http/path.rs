//! Path normalisation: `normalize_path`, `merge_slashes`, `path_with_escaped_slashes_action`.

use super::ByteStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EscapedSlashes {
    #[default]
    KeepUnchanged,
    Reject,
    UnescapeAndRedirect,
    UnescapeAndForward,
}

/// What the connection manager does to paths before anything looks at them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathOptions {
    pub normalize: bool,
    pub merge_slashes: bool,
    pub escaped_slashes: EscapedSlashes,
}

/// What becomes of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathVerdict {
    Unchanged,
    Changed(ByteStr),
    /// 400, `path_normalization_failed`.
    Reject,
    /// 307 to this path, for `UNESCAPE_AND_REDIRECT`.
    Redirect(ByteStr),
}

/// Judges a path with its query. The result is what is routed, judged by policy and forwarded.
pub fn normalize(_path: &ByteStr, _options: &PathOptions) -> PathVerdict {
    PathVerdict::Unchanged
}
